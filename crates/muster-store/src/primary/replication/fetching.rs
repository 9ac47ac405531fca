//! A snapshot on its way to a new copy: the entries of the store and its writers, each as of another time, and what was decided meanwhile.

use std::collections::BTreeMap;

use crate::clone::Attaching;
use crate::op::{Answer, NumberedEdit, Writer};
use crate::protocol::{Chunk, LogEntry, WriterRow, WritersPart};
use crate::{Encoded, Entries, StoreBudget};

/// Parts are made while the store changes. What is decided behind the first of them comes as well, and where the two meet the later one
/// stays: an entry says which change made it, and a writer has the number of its last command.
#[derive(Debug)]
pub(super) struct Fetching {
    entries: Attaching,
    writers: BTreeMap<Writer, Row>,
    last_writer: Option<Writer>,
    has_all_writers: bool,
    /// All committed entries up to here were looked at.
    pub(super) fed: u64,
    /// The number of the last change before the next entry.
    changes: u64,
}

#[derive(Debug, Default)]
struct Row {
    number: u64,
    first: u64,
    answers: Vec<Answer>,
}

/// What has come, complete.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) entries: Entries,
    pub(super) changes: u64,
    pub(super) writers: Vec<WriterRow>,
}

impl Fetching {
    /// Nothing so far. It begins behind an index and the change before it, and counts in a budget.
    pub(super) fn behind(index: u64, changes: u64, budget: &StoreBudget) -> Self {
        Self {
            entries: Attaching::within(budget),
            writers: BTreeMap::new(),
            last_writer: None,
            has_all_writers: false,
            fed: index,
            changes,
        }
    }

    /// What is asked for next of the entries; `None` if all are there.
    #[allow(
        clippy::option_option,
        reason = "there may be nothing to ask for, and no key to begin behind"
    )]
    pub(super) fn next_entries(&self) -> Option<Option<Encoded>> {
        let asks = !self.entries.has_all_entries();
        asks.then(|| self.entries.last_key().cloned())
    }

    /// What is asked for next of the writers.
    #[allow(
        clippy::option_option,
        reason = "there may be nothing to ask for, and no writer to begin behind"
    )]
    pub(super) fn next_writers(&self) -> Option<Option<Writer>> {
        let asks = !self.has_all_writers;
        asks.then_some(self.last_writer)
    }

    /// Takes a part of the entries. Returns `true` if it was the next.
    pub(super) fn chunk(&mut self, chunk: Chunk) -> bool {
        self.entries.chunk(chunk)
    }

    /// Takes a part of the writers. Returns `true` if it was the next.
    pub(super) fn writers(&mut self, part: WritersPart) -> bool {
        if self.has_all_writers || part.after != self.last_writer {
            return false;
        }
        let last = part.rows.last().map(|row| row.writer);
        if !part.is_last && last.is_none_or(|last| Some(last) <= self.last_writer) {
            return false;
        }
        self.last_writer = last.or(self.last_writer);
        self.has_all_writers = part.is_last;
        for row in part.rows {
            let known = self.writers.entry(row.writer).or_default();
            let mut answers = row.answers;
            let next = row.first + answers.len() as u64;
            // What was decided since is here already.
            if known.number > row.number {
                let since = known.answers.iter().zip(known.first..);
                let since = since.filter(|(_, number)| *number >= next);
                answers.extend(since.map(|(answer, _)| answer.clone()));
                (known.first, known.answers) = (row.first, answers);
            } else {
                *known = Row {
                    number: row.number,
                    first: row.first,
                    answers,
                };
            }
        }
        true
    }

    /// Returns `true` if committed entries may be looked at: those before the first part are in it.
    pub(super) fn takes_entries(&self) -> bool {
        self.entries.has_begun()
    }

    /// Looks at the next committed entry, with the number of the last change with it.
    pub(super) fn feed(&mut self, entry: LogEntry, changes: u64) {
        self.fed += 1;
        self.changes = changes;
        if let Some((writer, number)) = entry.by {
            let known = self.writers.entry(writer).or_default();
            if number > known.number {
                if known.first + known.answers.len() as u64 != number {
                    known.answers.clear();
                    known.first = number;
                }
                known.answers.push(entry.answer);
                known.number = number;
            }
        }
        if let Some(edit) = entry.edit
            && changes == self.entries.next()
        {
            self.entries.change(NumberedEdit {
                number: changes,
                writer: None,
                edit,
            });
        }
    }

    /// Returns `true` if what has come does not fit together.
    pub(super) fn is_false(&self) -> bool {
        self.entries.is_false()
    }

    /// Returns `true` if everything is there.
    pub(super) fn is_whole(&self) -> bool {
        // A part may be ahead of what is committed here.
        let has_reached = self.changes + 1 >= self.entries.next();
        self.has_all_writers && self.entries.is_whole() && has_reached
    }

    /// What has come.
    pub(super) fn into_fetched(self) -> Fetched {
        let (entries, changes) = self.entries.into_entries();
        let writers = self.writers.into_iter();
        let writers = writers.map(|(writer, row)| WriterRow {
            writer,
            number: row.number,
            first: row.first,
            answers: row.answers,
        });
        Fetched {
            entries,
            changes,
            writers: writers.collect(),
        }
    }
}
