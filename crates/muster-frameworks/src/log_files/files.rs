//! The writer of all streams of one logger.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use muster_cluster::node::{Column, LogBatch};
use muster_data::{DataRef, Timespan, Timestamp};

use super::error::{LogFilesError, LogFilesErrorKind};
use super::names::{base_name, move_aside};
use super::open_file::{Leftover, OpenFile, Whereabouts};
use super::{json, tsv};

/// The most streams that are open at a time; each is an open file.
pub const MOST_STREAMS: usize = 256;

/// How often a stream's columns may change in an hour; each change begins a new file.
pub const MOST_CHANGES: u32 = 16;

/// The time in which [`MOST_CHANGES`] count.
const CHANGES_SPAN: Duration = Duration::from_secs(3600);

/// The shortest time between rotations, as the names of rotated files have a precision of one second.
pub const SHORTEST_ROTATION: Duration = Duration::from_secs(1);

/// The form of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Zeek's TSV.
    #[default]
    Tsv,
    /// One JSON object per line.
    Json,
}

muster_cluster::choice!(LogFormat {
    "tsv" => LogFormat::Tsv,
    "json" => LogFormat::Json,
});

/// Where and how log files are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilesConfig {
    /// The directory; it is created if it does not exist.
    pub directory: PathBuf,
    /// The form of the files.
    pub format: LogFormat,
    /// How often files are rotated, aligned to multiples of it since the epoch; at least [`SHORTEST_ROTATION`]. `None`
    /// for never.
    pub rotation: Option<Duration>,
    /// The writer's name in the names of the files, for several loggers in one directory.
    pub writer_name: Option<String>,
}

/// The log files of one logger. All times are arguments, of the wall clock.
///
/// If it is dropped without [`close`](Self::close), it leaves the files as a killed process does.
#[derive(Debug)]
pub struct LogFiles {
    config: LogFilesConfig,
    streams: BTreeMap<String, Stream>,
    /// How often the columns of a stream have changed since when.
    changes: BTreeMap<String, (Timestamp, u32)>,
    /// Lines on their way to a file, and where they end.
    lines: Vec<u8>,
    ends: Vec<usize>,
    /// Where files wait for their final names, if they do.
    unsettled: Option<PathBuf>,
    /// The number of the next file.
    next_number: u64,
    /// What has happened to files, where they wait for their final names.
    happened: Vec<FileEvent>,
    /// A file was closed that could not be made safe.
    not_synced: Option<String>,
}

/// What has happened to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileEvent {
    /// It was begun.
    Opened {
        number: u64,
        stream: String,
        path: PathBuf,
        /// The bytes of its header, and their checksum.
        header: u64,
        checksum: u32,
        opened: Timestamp,
    },
    /// Nothing more is written to it.
    Closed {
        number: u64,
        path: PathBuf,
        /// The time of its end, as its final name has it.
        end: Timestamp,
        /// Where its footer begins and ends.
        footer: (u64, u64),
    },
    /// Somebody has moved it away, or removed it.
    LetGo { number: u64 },
    /// Something was at its path of which nobody knows whether it counts. It was moved aside.
    Strange { path: PathBuf },
}

/// Where a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// The number of the file.
    pub(super) number: u64,
    /// Where it begins and ends.
    pub(super) offset: u64,
    pub(super) end: u64,
    /// The checksum of its bytes.
    pub(super) checksum: u32,
    pub(super) rows: u64,
}

/// What may be written of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it or nothing.
    Whole,
    /// As many of its rows as go.
    Rows,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    file: OpenFile,
    columns: Vec<Column>,
    opened: Timestamp,
    /// When the file is to be rotated.
    due: Option<Timestamp>,
    /// The rows in it.
    rows: u64,
}

impl LogFiles {
    /// Creates a writer for a directory. Nothing is written before the first batch.
    ///
    /// # Errors
    /// [`LogFilesErrorKind::Directory`] if the directory cannot be created, [`LogFilesErrorKind::WriterName`] if the
    /// writer's name is not 1 to 128 letters, digits, `_`, `.` and `-`.
    pub fn new(config: LogFilesConfig) -> Result<Self, LogFilesError> {
        let writer = config.writer_name.as_deref();
        if let Some(name) = writer.filter(|name| !is_name(name, 128, b"_-.")) {
            let kind = LogFilesErrorKind::WriterName;
            return Err(LogFilesError::new(kind, name, None));
        }
        std::fs::create_dir_all(&config.directory).map_err(|error| {
            LogFilesError::new(LogFilesErrorKind::Directory, &config.directory, error)
        })?;
        Ok(Self {
            config,
            streams: BTreeMap::new(),
            changes: BTreeMap::new(),
            lines: Vec::new(),
            ends: Vec::new(),
            unsettled: None,
            next_number: 0,
            happened: Vec::new(),
            not_synced: None,
        })
    }

    /// Appends a batch to the file of its stream, in one write. Returns the number of its records.
    ///
    /// The stream's file is created when it is needed; a file that an earlier life has left is rotated first. So is a
    /// file that is due, or has other columns.
    ///
    /// # Errors
    /// [`LogFilesError`], whose [`kind`](LogFilesError::kind) says what went wrong.
    /// [`written`](LogFilesError::written) says how many rows are written nevertheless: all of them if only the
    /// rotation failed.
    pub fn write(&mut self, batch: &LogBatch, now: Timestamp) -> Result<u64, LogFilesError> {
        self.write_rows(&batch.stream, &batch.columns, batch.rows(), now)
    }

    /// Writes records, each a vector with an element per column.
    pub(super) fn write_rows<'a>(
        &mut self,
        stream: &str,
        columns: &[Column],
        rows: impl Iterator<Item = DataRef<'a>>,
        now: Timestamp,
    ) -> Result<u64, LogFilesError> {
        let (placed, problem) = self.place(stream, columns, rows, Extent::Rows, now);
        problem.map_or(Ok(placed.map_or(0, |placed| placed.rows)), Err)
    }

    /// Has rotated files wait for their final names in a directory. Files have numbers from `next_number` on.
    pub(super) fn settle_in(&mut self, unsettled: PathBuf, next_number: u64) {
        self.unsettled = Some(unsettled);
        self.next_number = next_number;
    }

    /// Returns what has happened to files since it was asked last.
    pub(super) fn take_events(&mut self) -> Vec<FileEvent> {
        std::mem::take(&mut self.happened)
    }

    /// Returns the open files.
    pub(super) fn open_files(&self) -> impl Iterator<Item = (u64, &OpenFile)> {
        self.streams
            .values()
            .map(|stream| (stream.number, &stream.file))
    }

    /// Cuts off what was written last to a file. If that is not possible, it stays.
    pub(super) fn take_back(&mut self, placed: &Placed) {
        let mut streams = self.streams.values_mut();
        if let Some(stream) = streams.find(|stream| stream.number == placed.number)
            && stream.file.cut(placed.offset)
        {
            stream.rows -= placed.rows;
        }
    }

    /// Lets go of a file that cannot be made safe: nothing more is written to it.
    pub(super) fn give_up(&mut self, number: u64, now: Timestamp) {
        let stream = self
            .streams
            .iter()
            .find(|(_, stream)| stream.number == number);
        if let Some(name) = stream.map(|(name, _)| name.clone())
            && self.rotate(&name, now, now).is_err()
        {
            self.streams.remove(&name);
        }
    }

    /// Writes a batch. Returns where it is, if anything of it is written, and what went wrong.
    pub(super) fn place_batch(
        &mut self,
        batch: &LogBatch,
        extent: Extent,
        now: Timestamp,
    ) -> (Option<Placed>, Option<LogFilesError>) {
        self.place(&batch.stream, &batch.columns, batch.rows(), extent, now)
    }

    fn place<'a>(
        &mut self,
        stream: &str,
        columns: &[Column],
        rows: impl Iterator<Item = DataRef<'a>>,
        extent: Extent,
        now: Timestamp,
    ) -> (Option<Placed>, Option<LogFilesError>) {
        self.lines.clear();
        self.ends.clear();
        for row in rows {
            match self.config.format {
                LogFormat::Tsv => tsv::line(&mut self.lines, columns, row),
                LogFormat::Json => json::line(&mut self.lines, columns, row),
            }
            self.ends.push(self.lines.len());
        }
        let count = self.ends.len();
        if count == 0 {
            return (None, None);
        }
        let late = self
            .let_go_if_moved(stream, now)
            .and_then(|()| self.rotate_if_due(stream, now))
            .map_err(|error| error.with_rows(count, 0));
        if let Err(error) = self.open(stream, columns, now) {
            return (None, Some(error.with_rows(0, count)));
        }
        let Some(open) = self.streams.get_mut(stream) else {
            return (None, late.err());
        };
        let offset = open.file.length();
        let (mut written, mut problem) = (count, None);
        if let Err((whole, error)) = open.file.append(&self.lines, &self.ends) {
            written = whole;
            if extent == Extent::Whole && whole > 0 && open.file.cut(offset) {
                written = 0;
            }
            let error = LogFilesError::new(LogFilesErrorKind::Write, open.file.path(), error);
            problem = Some(error.with_rows(written, count - written));
        }
        open.rows += written as u64;
        let bytes = written.checked_sub(1).map_or(0, |last| self.ends[last]);
        let end = open.file.length();
        let placed = Placed {
            number: open.number,
            // A line that was torn before is ended first.
            offset: end.saturating_sub(bytes as u64),
            end,
            checksum: if self.unsettled.is_some() {
                crc32fast::hash(&self.lines[..bytes])
            } else {
                0
            },
            rows: written as u64,
        };
        (
            Some(placed).filter(|placed| placed.rows > 0),
            problem.or(late.err()),
        )
    }

    /// Gives what former releases have left rotated names.
    pub(super) fn rotate_leftovers(&mut self, now: Timestamp) -> Result<(), LogFilesError> {
        let directory = &self.config.directory;
        let failed = |error| LogFilesError::new(LogFilesErrorKind::Directory, directory, error);
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let base = name.strip_suffix(".log").unwrap_or_default();
            let (stream, writer) = match base.split_once('.') {
                Some((stream, writer)) => (stream, Some(writer)),
                None => (base, None),
            };
            let is_ours = !stream.is_empty() && writer == self.config.writer_name.as_deref();
            if !is_ours || path.is_dir() {
                continue;
            }
            let leftover = Leftover::find(&path).and_then(|leftover| match leftover {
                Some(Leftover { opened, changed }) => {
                    move_aside(&path, &path, base, opened, changed.min(now)).map(drop)
                }
                None => Ok(()),
            });
            leftover
                .map_err(|error| LogFilesError::new(LogFilesErrorKind::Rotate, &path, error))?;
        }
        Ok(())
    }

    /// Rotates all files that are due. A file that could not be rotated is still written to, and tried again at the
    /// next rotation.
    ///
    /// # Errors
    /// The first [`LogFilesError`] of a file that could not be rotated.
    pub fn tick(&mut self, now: Timestamp) -> Result<(), LogFilesError> {
        let streams: Vec<String> = self.streams.keys().cloned().collect();
        let results: Vec<_> = streams
            .iter()
            .map(|stream| {
                self.let_go_if_moved(stream, now)
                    .and_then(|()| self.rotate_if_due(stream, now))
            })
            .collect();
        results.into_iter().collect()
    }

    /// Lets go of files that somebody else has moved away: they are ended in good order, and the next batch begins new ones.
    /// Without this call the next batch or tick notices it.
    ///
    /// # Errors
    ///
    /// Fails with [`LogFilesErrorKind::Removed`] if a file was removed with the rows in it, and with
    /// [`LogFilesErrorKind::Write`] if its last line cannot be written. Of several errors the first is returned.
    pub fn reopen(&mut self, now: Timestamp) -> Result<(), LogFilesError> {
        let streams: Vec<String> = self.streams.keys().cloned().collect();
        let results: Vec<_> = streams
            .iter()
            .map(|stream| self.let_go_if_moved(stream, now))
            .collect();
        results.into_iter().collect()
    }

    fn let_go_if_moved(&mut self, name: &str, now: Timestamp) -> Result<(), LogFilesError> {
        let Some(stream) = self.streams.get(name) else {
            return Ok(());
        };
        match stream.file.whereabouts() {
            Whereabouts::InPlace => Ok(()),
            Whereabouts::Moved => {
                let number = stream.number;
                let finished = self.finish(name, now);
                self.streams.remove(name);
                self.happens(FileEvent::LetGo { number });
                finished
            }
            Whereabouts::Removed => {
                let error = LogFilesError::removed(stream.file.path(), stream.rows);
                let number = stream.number;
                self.streams.remove(name);
                self.happens(FileEvent::LetGo { number });
                Err(error)
            }
        }
    }

    /// Returns when [`tick`](Self::tick) will have something to do, or `None` if no rotation is due.
    pub fn next_rotation(&self) -> Option<Timestamp> {
        self.streams.values().filter_map(|stream| stream.due).min()
    }

    /// Ends all files properly, and rotates them if files are rotated. Every file is closed, even if there are errors.
    ///
    /// # Errors
    /// The first [`LogFilesError`] of a file that could not be ended or rotated.
    pub fn close(&mut self, now: Timestamp) -> Result<(), LogFilesError> {
        let streams: Vec<String> = self.streams.keys().cloned().collect();
        let results: Vec<_> = streams
            .iter()
            .map(|stream| match self.config.rotation {
                Some(_) => self.rotate(stream, now, now),
                None => self.end_in_place(stream, now),
            })
            .collect();
        self.streams.clear();
        results.into_iter().collect()
    }

    fn rotate_if_due(&mut self, name: &str, now: Timestamp) -> Result<(), LogFilesError> {
        let Some(due) = self.streams.get(name).and_then(|stream| stream.due) else {
            return Ok(());
        };
        if now < due {
            return Ok(());
        }
        let result = self.rotate(name, due, now);
        let next = self.rotation_after(now);
        if let Some(stream) = self.streams.get_mut(name) {
            stream.due = next;
        }
        result
    }

    /// Moves a stream's file to its rotated name and closes it. If it cannot be moved, it stays open.
    fn rotate(&mut self, name: &str, end: Timestamp, now: Timestamp) -> Result<(), LogFilesError> {
        let Some(stream) = self.streams.get(name) else {
            return Ok(());
        };
        let path = stream.file.path();
        let (number, begins) = (stream.number, stream.file.length());
        let base = base_name(name, self.config.writer_name.as_deref());
        let moved = match &self.unsettled {
            None => move_aside(path, path, &base, stream.opened, end),
            Some(unsettled) => {
                let waits = unsettled.join(format!("{base}.{number}.log"));
                std::fs::rename(path, &waits).map(|()| waits)
            }
        };
        let path =
            moved.map_err(|error| LogFilesError::new(LogFilesErrorKind::Rotate, path, error))?;
        // The open file goes by its new name now.
        let mut finished = self.finish(name, now);
        let stream = self.streams.remove(name);
        let ends = stream
            .as_ref()
            .map_or(begins, |stream| stream.file.length());
        if let Some(stream) = stream.filter(|_| self.unsettled.is_some())
            && let Err(error) = stream.file.sync()
        {
            let error = LogFilesError::new(LogFilesErrorKind::Write, &path, error);
            self.not_synced = Some(error.to_string());
            finished = finished.and(Err(error));
        }
        self.happens(FileEvent::Closed {
            number,
            path,
            end,
            footer: (begins, ends),
        });
        finished
    }

    fn happens(&mut self, event: FileEvent) {
        if self.unsettled.is_some() {
            self.happened.push(event);
        }
    }

    /// Ends a file that keeps its name until the next life.
    fn end_in_place(&mut self, name: &str, now: Timestamp) -> Result<(), LogFilesError> {
        let begins = self
            .streams
            .get(name)
            .map_or(0, |stream| stream.file.length());
        let finished = self.finish(name, now);
        if let Some(stream) = self.streams.get(name) {
            let event = FileEvent::Closed {
                number: stream.number,
                path: stream.file.path().to_owned(),
                end: now,
                footer: (begins, stream.file.length()),
            };
            self.happens(event);
        }
        finished
    }

    /// Returns why a file that was closed could not be made safe, if one could not.
    pub(super) fn take_not_synced(&mut self) -> Option<String> {
        self.not_synced.take()
    }

    /// Writes the last line of a file.
    fn finish(&mut self, name: &str, now: Timestamp) -> Result<(), LogFilesError> {
        if self.config.format == LogFormat::Json {
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(name) else {
            return Ok(());
        };
        let footer = tsv::footer(now);
        stream
            .file
            .append(&footer, &[footer.len()])
            .map_err(|(_, error)| {
                LogFilesError::new(LogFilesErrorKind::Write, stream.file.path(), error)
            })
    }

    /// Sees to it that a stream has a file with these columns.
    fn open(
        &mut self,
        name: &str,
        columns: &[Column],
        now: Timestamp,
    ) -> Result<(), LogFilesError> {
        match self.streams.get(name) {
            Some(stream) if stream.columns == columns => return Ok(()),
            Some(_) => {
                check_columns(name, columns)?;
                self.count_change(name, now)?;
                self.rotate(name, now, now)?;
            }
            None => {
                if !is_name(name, 64, b"_-") {
                    return Err(LogFilesError::new(
                        LogFilesErrorKind::StreamName,
                        name,
                        None,
                    ));
                }
                check_columns(name, columns)?;
                if self.streams.len() >= MOST_STREAMS {
                    let kind = LogFilesErrorKind::TooManyStreams;
                    return Err(LogFilesError::new(kind, name, None));
                }
            }
        }
        let base = base_name(name, self.config.writer_name.as_deref());
        let path = self.config.directory.join(format!("{base}.log"));
        // It may have been removed since the start.
        std::fs::create_dir_all(&self.config.directory).map_err(|error| {
            LogFilesError::new(LogFilesErrorKind::Directory, &self.config.directory, error)
        })?;
        let leftover =
            Leftover::find(&path).and_then(|leftover| match (leftover, &self.unsettled) {
                (Some(Leftover { opened, changed }), None) => {
                    move_aside(&path, &path, &base, opened, changed).map(drop)
                }
                (Some(_), Some(unsettled)) => {
                    let aside = unsettled.join(format!("{base}.{}.strange", self.next_number));
                    std::fs::rename(&path, &aside)?;
                    self.happened.push(FileEvent::Strange { path: aside });
                    Ok(())
                }
                (None, _) => Ok(()),
            });
        leftover.map_err(|error| LogFilesError::new(LogFilesErrorKind::Rotate, &path, error))?;
        let header = match self.config.format {
            LogFormat::Tsv => tsv::header(name, columns, now),
            LogFormat::Json => Vec::new(),
        };
        let file = OpenFile::create(path.clone(), &header)
            .map_err(|error| LogFilesError::new(LogFilesErrorKind::Create, &path, error))?;
        let number = self.next_number;
        self.next_number += 1;
        self.happens(FileEvent::Opened {
            number,
            stream: name.to_owned(),
            path,
            header: file.length(),
            checksum: crc32fast::hash(&header),
            opened: now,
        });
        let stream = Stream {
            number,
            file,
            columns: columns.to_vec(),
            opened: now,
            due: self.rotation_after(now),
            rows: 0,
        };
        self.streams.insert(name.to_owned(), stream);
        Ok(())
    }

    /// Two nodes that describe a stream in two ways would make a file for every batch.
    fn count_change(&mut self, name: &str, now: Timestamp) -> Result<(), LogFilesError> {
        let (since, changes) = self.changes.entry(name.to_owned()).or_insert((now, 0));
        if now - *since >= Timespan::from(CHANGES_SPAN) || now < *since {
            (*since, *changes) = (now, 0);
        }
        if *changes >= MOST_CHANGES {
            let kind = LogFilesErrorKind::TooManyChanges;
            return Err(LogFilesError::new(kind, name, None));
        }
        *changes += 1;
        Ok(())
    }

    /// The first multiple of the interval behind a time.
    fn rotation_after(&self, time: Timestamp) -> Option<Timestamp> {
        let interval = Timespan::from(self.config.rotation?.max(SHORTEST_ROTATION));
        let since = Timespan::from_nanos(time.as_nanos().rem_euclid(interval.as_nanos()));
        Some(time - since + interval)
    }
}

fn is_name(name: &str, longest: usize, others: &[u8]) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
    !name.is_empty() && name.len() <= longest && name.bytes().all(fits)
}

fn check_columns(stream: &str, columns: &[Column]) -> Result<(), LogFilesError> {
    let mut names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    names.sort_unstable();
    let is_doubled = names.windows(2).any(|pair| pair[0] == pair[1]);
    let is_bare = |column: &Column| column.name.is_empty() || column.zeek_type.is_empty();
    if columns.is_empty() || is_doubled || columns.iter().any(is_bare) {
        return Err(LogFilesError::new(LogFilesErrorKind::Columns, stream, None));
    }
    Ok(())
}
