//! Rows of many files in the order of their timestamps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_cluster::Watermarks;
use muster_data::{Encode, Record, Timestamp};
use muster_wire::zeek::{Metadata, put_event};

use super::run::{InputSummary, MOST_PROBLEMS};
use super::share::Share;
use crate::zeek_log::{Connection, ConnectionReader, LogError};

/// The problems of one file's rows that are told; one bad file shall not hide the others.
const PROBLEMS_PER_FILE: u32 = 5;

/// The files of an input, each at a row that is next.
///
/// The order inside a file stays as it is, even where its times run backwards.
#[derive(Debug)]
pub(super) struct Merge {
    files: Vec<OpenFile>,
    /// Time and file of each next row; equal times in the order of the files.
    next: BinaryHeap<Reverse<(Timestamp, usize)>>,
    share: Share,
    pub(super) summary: InputSummary,
}

#[derive(Debug)]
struct OpenFile {
    /// `None` when it has ended.
    reader: Option<ConnectionReader>,
    /// The latest time of the rows up to the next.
    reached: Timestamp,
    /// The next row's event, if it belongs to the share.
    event: Option<Vec<u8>>,
    /// The last event's memory.
    spare: Vec<u8>,
    problems: u32,
}

impl Merge {
    /// Reads the first row of each file; a break means that the input is to stop.
    pub(super) fn start(
        readers: Vec<ConnectionReader>,
        share: Share,
        stop: &AtomicBool,
    ) -> (Self, ControlFlow<()>) {
        let files = readers.into_iter().map(|reader| OpenFile {
            reader: Some(reader),
            reached: Timestamp::from_nanos(i64::MIN),
            event: None,
            spare: Vec::new(),
            problems: 0,
        });
        let mut merge = Self {
            files: files.collect(),
            next: BinaryHeap::new(),
            share,
            summary: InputSummary::default(),
        };
        for file in 0..merge.files.len() {
            if merge.advance(file, stop).is_break() {
                return (merge, ControlFlow::Break(()));
            }
        }
        (merge, ControlFlow::Continue(()))
    }

    /// The time of the next row.
    pub(super) fn next_time(&self) -> Option<Timestamp> {
        self.next.peek().map(|Reverse((ts, _))| *ts)
    }

    /// Passes the next row: its event goes to `keep` if it belongs to the share.
    pub(super) fn pass(&mut self, stop: &AtomicBool, keep: impl FnOnce(&[u8])) -> ControlFlow<()> {
        let Some(Reverse((_, index))) = self.next.pop() else {
            return ControlFlow::Continue(());
        };
        let file = &mut self.files[index];
        match file.event.take() {
            Some(event) => {
                self.summary.events += 1;
                keep(&event);
                file.spare = event;
            }
            None => self.summary.other_share += 1,
        }
        self.advance(index, stop)
    }

    /// The low watermark: what each open file has reached, the least of it.
    pub(super) fn low(&self) -> Timestamp {
        let open = self.files.iter().filter(|file| file.reader.is_some());
        open.map(|file| file.reached)
            .min()
            .unwrap_or(Watermarks::END)
    }

    /// Finds a file's next row that tells of a connection.
    fn advance(&mut self, index: usize, stop: &AtomicBool) -> ControlFlow<()> {
        let file = &mut self.files[index];
        while let Some(reader) = &mut file.reader {
            match reader.next_connection() {
                Ok(None) => file.reader = None,
                Ok(Some(None)) => self.summary.skipped += 1,
                Ok(Some(Some(connection))) => {
                    let ts = connection.ts;
                    if self.share.has(&connection) {
                        let metadata = Metadata {
                            timestamp: Some(ts),
                            ..Metadata::default()
                        };
                        let mut event = std::mem::take(&mut file.spare);
                        event.clear();
                        put_event(&mut event, Connection::NAME, metadata, |out| {
                            connection.encode(out);
                        });
                        file.event = Some(event);
                    }
                    file.reached = file.reached.max(ts);
                    self.next.push(Reverse((ts, index)));
                    return ControlFlow::Continue(());
                }
                Err(error) => {
                    if error.is_row() {
                        self.summary.bad_rows += 1;
                    } else {
                        self.summary.failed_files += 1;
                        file.reader = None;
                    }
                    report(&mut self.summary, &mut file.problems, &error);
                }
            }
            if stop.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

fn report(summary: &mut InputSummary, of_file: &mut u32, error: &LogError) {
    let is_few = !error.is_row() || *of_file < PROBLEMS_PER_FILE;
    *of_file += 1;
    if is_few && summary.problems.len() < MOST_PROBLEMS {
        summary.problems.push(error.to_string());
    }
}
