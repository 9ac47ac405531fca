//! The records of a stream as they are written.
//!
//! A file is known by its inode and stays open until it is read to its end: whatever it is called by then, and if it has been
//! archived and removed meanwhile. Whoever looks too seldom, because nobody takes what was read, finds in the archive what came and
//! went in between.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use muster_frameworks::log_files::{self, RotatedName};
use muster_frameworks::zeek_log::LogReader;

use super::{Asked, Drained, Found, Newest, RecordLine, TIME, archived, drain, size_of};
use crate::archive;

/// The most records that are read at once, and their bytes.
const MOST_AT_ONCE: usize = 1_000;
const MOST_BYTES: usize = 4 << 20;

/// How long nobody may have written to a rotated file before it is at its end.
const SETTLED: Duration = Duration::from_secs(10);

/// After so long a pause a file may have come and gone: it takes longer to rotate and archive one.
const LONG_PAUSE: Duration = Duration::from_secs(2);

/// How much earlier than the last look a file that it has not seen may have been written, as clocks are set.
const MARGIN: Duration = Duration::from_secs(60);

/// Files that were read to their end and are remembered.
const MOST_ENDED: usize = 1024;

type Inode = (u64, u64);

/// A stream that is followed.
#[derive(Debug)]
pub(crate) struct Followed {
    directory: PathBuf,
    archive: PathBuf,
    asked: Asked,
    files: HashMap<Inode, Known>,
    /// Files of the archive that are to be read, and the one that is.
    late: VecDeque<PathBuf>,
    reading_late: Option<(LogReader, String)>,
    /// The originals of those that were read to their end.
    ended: VecDeque<String>,
    looked: (Instant, SystemTime),
    /// How often it was looked.
    turn: usize,
    has_more: bool,
}

#[derive(Debug)]
enum Known {
    Reading(Box<Reading>),
    /// Read to its end under this name. An inode may be used again.
    Ended(String),
}

#[derive(Debug)]
struct Reading {
    file: Arc<File>,
    name: String,
    reader: LogReader,
    /// The bytes that were read.
    read: Arc<AtomicU64>,
    is_at_end: bool,
}

/// A file that may grow: at its end there is nothing at the moment.
struct Growing {
    file: Arc<File>,
    read: Arc<AtomicU64>,
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.as_ref().read(buffer)? {
            0 if !buffer.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            read => {
                self.read.fetch_add(read as u64, Ordering::Relaxed);
                Ok(read)
            }
        }
    }
}

impl Reading {
    fn open(path: &Path) -> io::Result<(Inode, Self)> {
        let file = Arc::new(File::open(path)?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let name = name_of(path);
        let read = Arc::new(AtomicU64::new(0));
        let reader = reader(&name, &file, &read)?;
        let reading = Self {
            file,
            name,
            reader,
            read,
            is_at_end: false,
        };
        Ok((inode(&metadata), reading))
    }

    /// Begins anew if somebody has emptied the file.
    fn look_at_length(&mut self, metadata: &Metadata) -> io::Result<()> {
        if metadata.len() < self.read.load(Ordering::Relaxed) {
            io::Seek::rewind(&mut self.file.as_ref())?;
            self.read.store(0, Ordering::Relaxed);
            self.reader = reader(&self.name, &self.file, &self.read)?;
        }
        Ok(())
    }
}

fn reader(name: &str, file: &Arc<File>, read: &Arc<AtomicU64>) -> io::Result<LogReader> {
    let source = Growing {
        file: Arc::clone(file),
        read: Arc::clone(read),
    };
    LogReader::new(name, source, &[TIME]).map_err(io::Error::other)
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn inode(metadata: &Metadata) -> Inode {
    (metadata.dev(), metadata.ino())
}

/// Whether a file of a directory of logs may grow, or has.
fn is_plain(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "log")
}

impl Followed {
    /// Reads what there is, and is ready for what comes. Blocks for the disk.
    pub(crate) fn start(
        directory: &Path,
        archive: &Path,
        asked: Asked,
    ) -> io::Result<(Found, Self)> {
        let mut followed = Self {
            directory: directory.to_owned(),
            archive: archive.to_owned(),
            files: HashMap::new(),
            late: VecDeque::new(),
            reading_late: None,
            ended: VecDeque::new(),
            looked: (Instant::now(), SystemTime::now()),
            turn: 0,
            has_more: false,
            asked: asked.clone(),
        };
        let looked = followed.looked.1;
        let mut newest = Newest::new(asked);
        followed.open_new(&mut newest.found.problems)?;
        for known in followed.files.values_mut() {
            if let Known::Reading(reading) = known {
                let name = reading.name.clone();
                let drained = drain(&mut reading.reader, &name, |record| {
                    newest.take(record);
                    ControlFlow::Continue(())
                });
                newest.found.problems.extend(drained.problem(&name));
                reading.is_at_end = true;
            }
        }
        if newest.asked.most > 0 {
            followed.start_archive(&mut newest, looked)?;
        }
        Ok((newest.found(), followed))
    }

    fn start_archive(&mut self, newest: &mut Newest, looked: SystemTime) -> io::Result<()> {
        let mut archived = archived(&self.archive, &newest.asked)?;
        while let Some((last, path)) = archived.pop() {
            if newest.has_none_before(last) {
                newest.found.unread = archived.len() + 1;
                break;
            }
            if self.has_read(&path) {
                continue;
            }
            newest.take_all(&path);
            let written = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
            if written.is_ok_and(|written| written + 2 * MARGIN > looked) {
                self.remember(archive::original_in(&path));
            }
        }
        Ok(())
    }

    /// Whether there is more than the last look has brought.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Reads what is new, so much at most as is kept of it at once. Blocks for the disk.
    pub(crate) fn look(&mut self) -> Vec<RecordLine> {
        let (before, written) =
            std::mem::replace(&mut self.looked, (Instant::now(), SystemTime::now()));
        let mut batch = Batch::new(self.asked.clone());
        let mut problems = Vec::new();
        let seen = self.open_new(&mut problems);
        if before.elapsed() > LONG_PAUSE {
            self.find_late(written);
        }
        self.read_files(&mut batch, &mut problems);
        self.read_late(&mut batch, &mut problems);
        if let Ok(seen) = seen {
            self.forget(&seen);
        }
        self.has_more = batch.is_full();
        let remarks = problems.into_iter().map(RecordLine::of_remark);
        remarks.chain(batch.records).collect()
    }

    /// Opens the files that are new. Returns all that there are, by their names.
    fn open_new(&mut self, problems: &mut Vec<String>) -> io::Result<HashMap<Inode, String>> {
        let mut seen = HashMap::new();
        for path in log_files::files_of(&self.directory, &self.asked.stream)? {
            if !is_plain(&path) {
                continue;
            }
            let name = name_of(&path);
            // One that has been renamed or removed since it was listed is open already, or found by the next look.
            let Ok(metadata) = std::fs::symlink_metadata(&path) else {
                continue;
            };
            let is_known = match self.files.get(&inode(&metadata)) {
                Some(Known::Reading(_)) => true,
                Some(Known::Ended(known)) => *known == name,
                None => false,
            };
            if !is_known && metadata.is_file() {
                match Reading::open(&path) {
                    Ok((inode, reading)) => {
                        // By the descriptor: another file may have the name by now.
                        let is_reading = matches!(self.files.get(&inode), Some(Known::Reading(_)));
                        if !is_reading {
                            self.files.insert(inode, Known::Reading(Box::new(reading)));
                        }
                        seen.insert(inode, name);
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => problems.push(format!("{}: {error}", path.display())),
                }
                continue;
            }
            seen.insert(inode(&metadata), name);
        }
        Ok(seen)
    }

    fn read_files(&mut self, batch: &mut Batch, problems: &mut Vec<String>) {
        let mut order: Vec<Inode> = self.files.keys().copied().collect();
        order.sort_unstable();
        if !order.is_empty() {
            // Another one comes first each time: one that grows fast holds up no other.
            let first = self.turn % order.len();
            order.rotate_left(first);
        }
        self.turn = self.turn.wrapping_add(1);
        for inode in order {
            let Some(Known::Reading(reading)) = self.files.get_mut(&inode) else {
                continue;
            };
            if batch.is_full() {
                reading.is_at_end = false;
                continue;
            }
            let length = reading.file.metadata();
            if let Err(error) = length.and_then(|metadata| reading.look_at_length(&metadata)) {
                problems.push(format!("{}: {error}", reading.name));
                continue;
            }
            let drained = drain(&mut reading.reader, &reading.name, |record| {
                batch.take(record)
            });
            problems.extend(drained.problem(&reading.name));
            reading.is_at_end = !matches!(drained, Drained::Broken { .. });
        }
    }

    /// Finds files of the archive that came and went since the last look.
    fn find_late(&mut self, looked: SystemTime) {
        let Ok(files) = archive::files_of(&self.archive, &self.asked.stream) else {
            return;
        };
        for (written, path) in files {
            let is_known = written + MARGIN < looked || self.late.contains(&path);
            if !is_known && !self.has_read(&path) {
                self.remember(archive::original_in(&path));
                self.late.push_back(path);
            }
        }
    }

    fn read_late(&mut self, batch: &mut Batch, problems: &mut Vec<String>) {
        while !batch.is_full() {
            let (mut reader, name) = match (self.reading_late.take(), self.late.pop_front()) {
                (Some(reading), path) => {
                    self.late.extend(path);
                    reading
                }
                (None, Some(path)) => match LogReader::open(&path, &[TIME]) {
                    Ok(reader) => (reader, name_of(&path)),
                    Err(error) => {
                        problems.push(error.to_string());
                        continue;
                    }
                },
                (None, None) => return,
            };
            let drained = drain(&mut reader, &name, |record| batch.take(record));
            problems.extend(drained.problem(&name));
            if matches!(drained, Drained::Broken { .. }) {
                self.reading_late = Some((reader, name));
            }
        }
    }

    /// Whether a file of the archive is one that was read, or is being read.
    fn has_read(&self, path: &Path) -> bool {
        let open = self.files.values().filter_map(|known| match known {
            Known::Reading(reading) => reading.file.metadata().ok(),
            Known::Ended(_) => None,
        });
        let open: Vec<String> = open.map(|metadata| archive::original(&metadata)).collect();
        let all = open.iter().chain(&self.ended);
        archive::is_of_any(path, all.map(String::as_str))
    }

    fn remember(&mut self, original: Option<String>) {
        self.ended.extend(original);
        let more = self.ended.len().saturating_sub(MOST_ENDED);
        self.ended.drain(..more);
    }

    /// Lets go of files that have come to their end.
    fn forget(&mut self, seen: &HashMap<Inode, String>) {
        let mut ended = Vec::new();
        let mut done = HashSet::new();
        for (inode, known) in &mut self.files {
            let name = seen.get(inode);
            let Known::Reading(reading) = known else {
                if name.is_none() {
                    done.insert(*inode);
                }
                continue;
            };
            let Some(metadata) = reading.file.metadata().ok().filter(|_| reading.is_at_end) else {
                continue;
            };
            let age = metadata.modified().ok().and_then(|at| at.elapsed().ok());
            let is_settled = age.is_some_and(|age| age > SETTLED);
            let is_current = name.is_some_and(|name| RotatedName::parse(name).is_none());
            let is_whole = metadata.len() <= reading.read.load(Ordering::Relaxed);
            if !is_whole || is_current || !(metadata.nlink() == 0 || is_settled) {
                continue;
            }
            ended.push(archive::original(&metadata));
            match name {
                Some(name) => *known = Known::Ended(name.clone()),
                None => {
                    done.insert(*inode);
                }
            }
        }
        self.files.retain(|inode, _| !done.contains(inode));
        for original in ended {
            self.remember(Some(original));
        }
    }
}

/// What a look brings.
struct Batch {
    asked: Asked,
    records: Vec<RecordLine>,
    bytes: usize,
}

impl Batch {
    fn new(asked: Asked) -> Self {
        Self {
            asked,
            records: Vec::new(),
            bytes: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.records.len() >= MOST_AT_ONCE || self.bytes >= MOST_BYTES
    }

    fn take(&mut self, record: RecordLine) -> ControlFlow<()> {
        if self.asked.wants(&record) {
            self.bytes += size_of(&record);
            self.records.push(record);
        }
        if self.is_full() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

#[cfg(test)]
mod tests;
