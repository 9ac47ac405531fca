//! What became of an input's rows, and what there is to say about its files.

use std::time::Duration;

use muster_wire::Mono;

use crate::zeek_log::LogError;

/// The most problems, and the most warnings, that a summary lists, and that are told within an hour.
pub const MOST_PROBLEMS: usize = 20;

/// The time after which as many are told again.
const TOLD_ANEW: Duration = Duration::from_secs(3600);

/// The problems of one file's rows that are told; one bad file shall not hide the others.
const PROBLEMS_PER_FILE: u32 = 5;

/// What became of the rows of an input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct InputSummary {
    /// All rows that were read: the sum of the four below.
    pub rows: u64,
    /// Rows that were handed over as events.
    pub events: u64,
    /// Rows that describe no connection.
    pub skipped: u64,
    /// Rows of connections that belong to other shares.
    pub other_share: u64,
    /// Rows that could not be read.
    pub bad_rows: u64,
    /// Rows whose time is far from that of their neighbours. They are among the events and the rows of other shares.
    pub out_of_line: u64,
    /// Files that cannot be read, are damaged or are not logs; what came before the damage was handed over.
    pub failed_files: u64,
    /// Logs that began anew under their name while they were followed: what had been written since the last look is
    /// lost, unless a copy of it was read.
    pub begun_anew: u64,
    /// The first problems, at most 20, each with file and line.
    pub problems: Vec<String>,
    /// The first warnings, at most 20: files without a connection, patterns that match nothing.
    pub warnings: Vec<String>,
}

/// Something to say about an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputNote {
    /// Something was lost, or cannot be read.
    Problem(String),
    /// Something may not be meant.
    Warning(String),
}

/// Counts, and collects what there is to say.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) summary: InputSummary,
    /// What was not told yet.
    notes: Vec<InputNote>,
    /// How many were told since when.
    told: usize,
    since: Mono,
}

impl Tally {
    /// Takes what there is to say.
    pub(super) fn take_notes(&mut self, now: Mono) -> Vec<InputNote> {
        if now.since(self.since) >= TOLD_ANEW {
            (self.since, self.told) = (now, 0);
        }
        std::mem::take(&mut self.notes)
    }

    pub(super) fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    pub(super) fn problem(&mut self, text: String) {
        if self.summary.problems.len() < MOST_PROBLEMS {
            self.summary.problems.push(text.clone());
        }
        self.note(InputNote::Problem(text));
    }

    pub(super) fn warning(&mut self, text: String) {
        if self.summary.warnings.len() < MOST_PROBLEMS {
            self.summary.warnings.push(text.clone());
        }
        self.note(InputNote::Warning(text));
    }

    fn note(&mut self, note: InputNote) {
        if self.told < 2 * MOST_PROBLEMS {
            self.told += 1;
            self.notes.push(note);
        }
    }

    /// Counts an error of a file's, and tells it unless many were told of the same.
    pub(super) fn error(&mut self, error: &LogError, of_file: &mut u32) {
        if error.is_row() {
            self.summary.bad_rows += 1;
        } else {
            self.summary.failed_files += 1;
        }
        if !error.is_row() || *of_file < PROBLEMS_PER_FILE {
            self.problem(error.to_string());
        }
        *of_file = of_file.saturating_add(1);
    }

    /// The summary, as it is now.
    pub(super) fn summary(&self) -> InputSummary {
        let mut summary = self.summary.clone();
        summary.rows = summary.events + summary.skipped + summary.other_share + summary.bad_rows;
        summary
    }

    /// Adds what another counted and has to say.
    pub(super) fn add(&mut self, other: Self) {
        let summary = &mut self.summary;
        summary.skipped += other.summary.skipped;
        summary.bad_rows += other.summary.bad_rows;
        summary.out_of_line += other.summary.out_of_line;
        summary.failed_files += other.summary.failed_files;
        summary.begun_anew += other.summary.begun_anew;
        for note in other.notes {
            match note {
                InputNote::Problem(text) => self.problem(text),
                InputNote::Warning(text) => self.warning(text),
            }
        }
    }
}
