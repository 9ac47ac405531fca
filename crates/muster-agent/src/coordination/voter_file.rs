//! A voter's file: what it has promised and heard, on disk before anybody counts on it.
//!
//! It is an SQLite database with a rollback journal. Each row has a checksum, and with each change one of all that is there (the
//! *seal*) is written, so a file that is not as it was written is refused: a voter that forgets its promises would be worse than
//! one that stops. What SQLite does here blocks: the caller has a thread for it.
//!
//! The file is made under another name, synced, and gets its own when it is whole. From then on whoever has it open has it alone.

mod contents;
mod error;
mod tables;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use muster_consensus::{Batch, DiskId, Kept, MAX_STATE};
use rusqlite::Connection;
use rustix::fs::{Access, access};

use contents::{Contents, Rows, Unfit};
pub(crate) use error::{VoterFileError, VoterFileErrorKind};

/// The most batches that wait to be written with the next one that is synced.
const MAX_WAITING: usize = 64;

type Outcome<T> = Result<T, VoterFileError>;

/// A voter's file that is open. No other process can have it meanwhile.
#[derive(Debug)]
pub(crate) struct VoterFile {
    path: PathBuf,
    state: State,
    /// What the file holds when all that waits is written.
    contents: Contents,
    /// What is not written yet, in its order.
    waiting: Vec<Rows>,
}

#[derive(Debug)]
enum State {
    Open(Connection),
    /// It could not be written. The system may have dropped what it could not write, and say so once only: so the file is not
    /// tried again.
    Failed(VoterFileError),
}

impl VoterFile {
    /// Opens a voter's file. If there is none it makes one, which only its owner may read, with an identity of its own; the
    /// directory has to be there.
    ///
    /// Returns the file, its identity, and what it holds, or `None` before [`begin`](Self::begin). The latter is whole and as it
    /// was written; whether a voter can go on with it, `Consensus::new` says.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, written or made, is in use, is not a voter's or of a newer version, or is damaged.
    pub(crate) fn open(path: &Path) -> Outcome<(Self, DiskId, Option<Kept>)> {
        look_at(path)?;
        let opened = tables::open(path).and_then(|connection| {
            let (contents, kept) = tables::read(&connection)?;
            Ok((connection, contents, kept))
        });
        let (connection, contents, kept) =
            opened.map_err(|trouble| VoterFileError::of("open", path, &trouble))?;
        let disk = contents.disk;
        let file = Self {
            path: path.to_owned(),
            state: State::Open(connection),
            contents,
            waiting: Vec::new(),
        };
        Ok((file, disk, kept))
    }

    /// Writes what a voter begins with. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// Fails if the file has begun already, if `kept` has the identity of another file, or if the file cannot be written.
    pub(crate) fn begin(&mut self, kept: &Kept) -> Outcome<()> {
        self.usable()?;
        if self.contents.cluster.is_some() {
            return Err(self.misuse("it has content already"));
        }
        if kept.disk != self.contents.disk {
            return Err(self.misuse("the content is another file's"));
        }
        let rows = Rows::beginning(kept).map_err(|unfit| self.misuse(unfit))?;
        self.take(rows)?;
        self.flush()
    }

    /// Writes a batch. If it asks for `sync` it is on disk when this returns, and so is all before it. Otherwise it waits for
    /// the next one that does, or for [`flush`](Self::flush): up to 64 batches and 8 MiB do.
    ///
    /// # Errors
    ///
    /// Fails if the batch does not follow what the file has: then it has what it had. Fails if the file cannot be written: then
    /// it is not used any more, and all calls fail with that error.
    pub(crate) fn write(&mut self, batch: &Batch) -> Outcome<()> {
        self.usable()?;
        if self.contents.cluster.is_none() {
            return Err(self.misuse("it has no content yet"));
        }
        let rows = Rows::of(batch).map_err(|unfit| self.misuse(unfit))?;
        self.take(rows)?;
        let weight = || self.waiting.iter().map(Rows::weight).sum::<usize>();
        if batch.sync || self.waiting.len() > MAX_WAITING || weight() > MAX_STATE {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what waits. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written, as [`write`](Self::write) does.
    pub(crate) fn flush(&mut self) -> Outcome<()> {
        let connection = match &mut self.state {
            State::Open(connection) => connection,
            State::Failed(error) => return Err(error.clone()),
        };
        if self.waiting.is_empty() {
            return Ok(());
        }
        if let Err(error) = tables::write(connection, &self.waiting, &self.contents) {
            let error = VoterFileError::of("write", &self.path, &error.into());
            self.state = State::Failed(error.clone());
            self.waiting = Vec::new();
            return Err(error);
        }
        self.waiting.clear();
        Ok(())
    }

    fn usable(&self) -> Outcome<()> {
        match &self.state {
            State::Open(_) => Ok(()),
            State::Failed(error) => Err(error.clone()),
        }
    }

    fn take(&mut self, rows: Rows) -> Outcome<()> {
        let taken = self.contents.take(&rows);
        taken.map_err(|unfit| self.misuse(unfit))?;
        // What was promised last counts, so promises alone do not pile up.
        match self.waiting.last_mut() {
            Some(last) if rows.only_promise() => last.promise = rows.promise.or(last.promise),
            _ => self.waiting.push(rows),
        }
        Ok(())
    }

    fn misuse(&self, reason: Unfit) -> VoterFileError {
        VoterFileError::misuse(&self.path, reason)
    }
}

/// Looks whether there can be a voter's file in a place, and makes one if there is none.
///
/// The file itself is not opened here: closing it would take from this process the lock that another part of it may have.
fn look_at(path: &Path) -> Outcome<()> {
    let damaged = |reason: &str| {
        let trouble = error::Trouble::Damaged(reason.to_owned());
        Err(VoterFileError::of("open", path, &trouble))
    };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
        Err(error) => return Err(VoterFileError::system("open", path, &error)),
        Ok(there) if !there.is_file() => {
            let trouble = error::Trouble::Foreign("it is no file");
            return Err(VoterFileError::of("open", path, &trouble));
        }
        Ok(there) if there.len() == 0 => return damaged("it is empty"),
        Ok(_) => {}
    }
    // SQLite would open it for reading, or fail when it first needs its journal.
    let denied = |path: &Path, error: rustix::io::Errno| {
        VoterFileError::system("write", path, &io::Error::from(error))
    };
    access(path, Access::READ_OK | Access::WRITE_OK).map_err(|error| denied(path, error))?;
    let directory = directory_of(path);
    access(directory, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| denied(directory, error))
}

/// Makes a file with an identity and nothing else.
fn make(path: &Path) -> Outcome<()> {
    let failed = |error: io::Error| VoterFileError::system("make", path, &error);
    let new = with_suffix(path, ".new");
    // What a crash has left of an earlier try. A journal without its file would be taken for that of the new one.
    let leftovers = ["-journal", "-wal", "-shm"].map(|suffix| with_suffix(path, suffix));
    for leftover in leftovers.iter().chain([&new]) {
        match std::fs::remove_file(leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    let mut disk = [0; 16];
    openssl::rand::rand_bytes(&mut disk).map_err(|error| failed(io::Error::other(error)))?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let file = options.open(&new).map_err(failed)?;
    let made = tables::make(&new, DiskId(disk));
    made.map_err(|error| VoterFileError::of("make", path, &error.into()))?;
    file.sync_all().map_err(failed)?;
    // Unlike a rename it takes the place of nothing, should another process have been faster.
    std::fs::hard_link(&new, path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => VoterFileError::in_use(path),
        _ => failed(error),
    })?;
    std::fs::remove_file(&new).map_err(failed)?;
    let directory = File::open(directory_of(path)).map_err(failed)?;
    directory.sync_all().map_err(failed)
}

fn directory_of(path: &Path) -> &Path {
    let directory = path.parent();
    let directory = directory.filter(|directory| !directory.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut file = path.as_os_str().to_owned();
    file.push(suffix);
    PathBuf::from(file)
}

#[cfg(test)]
mod tests;
