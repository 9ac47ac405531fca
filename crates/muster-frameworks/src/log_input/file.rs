//! One file of an input: its rows in order, a few of them read ahead.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_data::{Encode, Record, Timestamp};
use muster_wire::zeek::{Metadata, put_event};

use super::judge::{AHEAD, Judge};
use super::open::{Growing, Growth, Stream, is_stream};
use super::share::Share;
use super::summary::Tally;
use crate::zeek_log::{
    Connection, ConnectionReader, LogError, LogErrorKind, Place, ReadOnly, Windows,
};

/// The columns of a file that are named where none of its rows is a connection.
const COLUMNS_NAMED: usize = 12;

/// A file of an input.
#[derive(Debug)]
pub(super) struct InputFile {
    path: PathBuf,
    /// `None` before it is opened, while it is closed, and when it has ended.
    reader: Option<ConnectionReader>,
    /// What grows may have nothing at the moment.
    growth: Option<Arc<Growth>>,
    is_live: bool,
    /// Where to begin.
    from: Option<Place>,
    judge: Judge,
    /// Rows that were read and not passed; all but the first wait to be judged.
    rows: VecDeque<Row>,
    /// The last event's memory.
    spare: Vec<u8>,
    /// Everything up to here was passed.
    passed: Place,
    /// Everything up to here was taken.
    taken: Place,
    /// Closed until it grows.
    is_paused: bool,
    connections: u64,
    others: u64,
    problems: u32,
    is_reported: bool,
}

#[derive(Debug)]
struct Row {
    ts: Timestamp,
    /// The time by which it is ordered, once it is judged.
    at: Option<Timestamp>,
    /// Its event, if it belongs to the share.
    event: Option<Vec<u8>>,
    /// Where the file goes on behind it.
    behind: Place,
}

/// What a file has next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A row, to be ordered by this time.
    Row(Timestamp),
    /// Nothing at the moment.
    NotNow,
    End,
    /// The input is to stop.
    Stop,
}

impl InputFile {
    /// A file, not opened yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            reader: None,
            growth: None,
            is_live: false,
            from: None,
            judge: Judge::default(),
            rows: VecDeque::new(),
            spare: Vec::new(),
            passed: Place::default(),
            taken: Place::default(),
            is_paused: false,
            connections: 0,
            others: 0,
            problems: 0,
            is_reported: false,
        }
    }

    /// The file has another name by now.
    pub(super) fn rename(&mut self, path: PathBuf) {
        self.path = path;
    }

    /// Begins behind what was passed before.
    pub(super) fn begin_at(&mut self, place: Place) {
        self.passed = place.clone();
        self.taken = place.clone();
        self.from = Some(place);
    }

    /// It begins when others have come so far.
    pub(super) fn begin_beside(&mut self, others: Timestamp) {
        self.judge.begin_beside(others);
    }

    /// What was passed has been taken.
    pub(super) fn commit(&mut self) {
        if self.taken != self.passed {
            self.taken = self.passed.clone();
        }
    }

    /// Everything up to here was passed.
    pub(super) fn passed(&self) -> &Place {
        &self.passed
    }

    /// Everything up to here was taken.
    pub(super) fn taken(&self) -> &Place {
        &self.taken
    }

    /// Whether it is closed until it grows.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    /// Whether there may be more although there is nothing at the moment.
    pub(super) fn is_live(&self) -> bool {
        self.is_live
    }

    /// Opens it for reading to its end, or, if it is a pipe, as it is written.
    pub(super) fn open(&mut self, follows: bool, windows: &Windows) -> io::Result<()> {
        let metadata = std::fs::metadata(&self.path)?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let name = self.path.display().to_string();
        let place = self.from.clone().unwrap_or_default();
        if is_stream(&metadata) {
            let stream = Stream::open(&self.path, follows)?;
            self.is_live = true;
            self.reader = Some(ConnectionReader::resumed(
                &name,
                ReadOnly(stream),
                &Place::default(),
                windows,
            ));
        } else {
            let file = ReadOnly(File::open(&self.path)?);
            self.reader = Some(ConnectionReader::resumed(&name, file, &place, windows));
        }
        Ok(())
    }

    /// Reads it from this file as it grows, on from what was passed.
    pub(super) fn open_growing(&mut self, file: File, windows: &Windows) {
        let (growing, growth) = Growing::new(file);
        let name = self.path.display().to_string();
        let place = self.passed.clone();
        self.reader = Some(ConnectionReader::resumed(&name, growing, &place, windows));
        (self.growth, self.is_live, self.is_paused) = (Some(growth), true, false);
    }

    /// What is known of its growth, if it grows.
    pub(super) fn growth(&self) -> Option<&Growth> {
        self.growth.as_deref()
    }

    /// Closes it; it may be opened again, and begins where it did.
    pub(super) fn close(&mut self) {
        self.reader = None;
        self.growth = None;
        self.rows.clear();
        self.judge = Judge::default();
        (self.connections, self.others, self.problems) = (0, 0, 0);
    }

    /// Closes it; it may be opened again, and goes on behind what was passed.
    pub(super) fn pause(&mut self) {
        self.reader = None;
        self.growth = None;
        self.is_paused = true;
    }

    /// Up to where it has come.
    pub(super) fn reached(&self) -> Timestamp {
        self.judge.reached()
    }

    /// Whether a row waits to be passed.
    pub(super) fn has_row(&self) -> bool {
        self.rows.front().is_some_and(|row| row.at.is_some())
    }

    /// Passes the next row. `Some(true)` if it was of the share: its event went to `keep`.
    pub(super) fn pass(&mut self, keep: impl FnOnce(&[u8])) -> Option<bool> {
        let row = self.rows.pop_front()?;
        self.passed = row.behind;
        let Some(event) = row.event else {
            return Some(false);
        };
        keep(&event);
        self.spare = event;
        Some(true)
    }

    /// Finds the next row that tells of a connection.
    pub(super) fn advance(&mut self, share: Share, stop: &AtomicBool, tally: &mut Tally) -> Next {
        if let Some(at) = self.rows.front().and_then(|row| row.at) {
            return Next::Row(at);
        }
        let mut end = None;
        while end.is_none() && self.needs_row() {
            end = match self.read(share, stop, tally) {
                Next::Row(_) => None,
                Next::Stop => return Next::Stop,
                none => Some(none),
            };
        }
        let Some(row) = self.rows.front() else {
            if end == Some(Next::NotNow)
                && let Some(reader) = &self.reader
            {
                self.passed = reader.place();
            }
            self.report(tally);
            return end.unwrap_or(Next::End);
        };
        let ts = row.ts;
        let ahead: Vec<Timestamp> = self.rows.iter().skip(1).map(|row| row.ts).collect();
        let ahead = &ahead[..ahead.len().min(AHEAD)];
        let is_all = end == Some(Next::End) || self.reader.is_none();
        let verdict = self.judge.judge(ts, ahead, is_all);
        tally.summary.out_of_line += u64::from(!verdict.is_in_line);
        if let Some(row) = self.rows.front_mut() {
            row.at = Some(verdict.at);
        }
        Next::Row(verdict.at)
    }

    fn needs_row(&self) -> bool {
        match self.rows.front() {
            None => true,
            Some(row) => self.rows.len() <= AHEAD && self.judge.needs_ahead(row.ts),
        }
    }

    /// Reads another row that tells of a connection.
    fn read(&mut self, share: Share, stop: &AtomicBool, tally: &mut Tally) -> Next {
        while let Some(reader) = &mut self.reader {
            match reader.next_connection() {
                Ok(None) => {
                    self.report(tally);
                    self.reader = None;
                }
                Ok(Some(None)) => {
                    tally.summary.skipped += 1;
                    self.others += 1;
                }
                Ok(Some(Some(connection))) => {
                    let ts = connection.ts;
                    let event = share.has(&connection).then(|| {
                        let metadata = Metadata {
                            timestamp: Some(ts),
                            ..Metadata::default()
                        };
                        let mut event = std::mem::take(&mut self.spare);
                        event.clear();
                        put_event(&mut event, Connection::NAME, metadata, |out| {
                            connection.encode(out);
                        });
                        event
                    });
                    self.connections += 1;
                    self.rows.push_back(Row {
                        ts,
                        at: None,
                        event,
                        behind: reader.place(),
                    });
                    return Next::Row(ts);
                }
                Err(error) if error.kind() == LogErrorKind::NotReady => return Next::NotNow,
                Err(error) => {
                    tally.error(&error, &mut self.problems);
                    if !error.is_row() {
                        self.reader = None;
                    }
                }
            }
            if stop.load(Ordering::Relaxed) {
                return Next::Stop;
            }
        }
        Next::End
    }

    /// Tells once that none of its rows was a connection, with the columns that it has instead.
    fn report(&mut self, tally: &mut Tally) {
        let Some(reader) = &self.reader else {
            return;
        };
        if self.is_reported || self.connections > 0 || self.others == 0 {
            return;
        }
        self.is_reported = true;
        let columns = reader.columns();
        let more = match columns.len().saturating_sub(COLUMNS_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        tally.warning(format!(
            "{}: none of {} rows is about a connection (`id.orig_h`, `id.orig_p`, `id.resp_h`, `id.resp_p`); it has {}{more}",
            self.path.display(),
            self.others,
            columns[..columns.len().min(COLUMNS_NAMED)].join(", "),
        ));
    }

    /// Tells that it cannot be opened.
    pub(super) fn unreadable(&mut self, error: io::Error, tally: &mut Tally) {
        let error = LogError::io(&self.path.display().to_string().into(), 0, error);
        tally.error(&error, &mut self.problems);
    }
}
