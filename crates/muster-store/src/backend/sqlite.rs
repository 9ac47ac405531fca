//! Stores in SQLite files, with the tables that Broker uses, so that Zeek's files open here and
//! ours in Zeek. Whatever else is needed is kept in tables that Broker ignores.

mod amendments;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use muster_data::Timestamp;
use muster_wire::EndpointId;
use rusqlite::{Connection, OpenFlags, Transaction, params};

use self::amendments::Amended;
use crate::op::Writer;
use crate::{
    Backend, BackendError, BackendErrorKind, BackendWrite, Commit, Encoded, Entry, MAX_WRITERS,
    Persisted, PersistedWriter,
};

/// How a file is kept, in SQLite's terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SqliteOptions {
    /// What a commit waits for; [`Synchronous::Full`] if not set.
    pub synchronous: Option<Synchronous>,
    /// How a commit is made atomic. If not set, new files get [`JournalMode::Wal`], and others keep
    /// what they have.
    pub journal_mode: Option<JournalMode>,
    /// What is done with a file that is damaged.
    pub failure_mode: FailureMode,
    /// Whether the whole file is checked when it is opened. This takes time for large files.
    pub integrity_check: bool,
}

/// SQLite's `synchronous`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// The system writes whenever it likes. A crash of the machine may damage the file.
    Off,
    /// With a write-ahead log, a crash of the machine may lose the last commits, but damages
    /// nothing.
    Normal,
    /// Nothing that was acknowledged is lost.
    Full,
    /// Like [`Synchronous::Full`], and the directory entry of a rollback journal is written to disk
    /// too.
    Extra,
}

/// SQLite's `journal_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalMode {
    /// A rollback journal, deleted after each commit.
    Delete,
    /// A write-ahead log.
    Wal,
}

/// What is done with a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailureMode {
    /// The store is not opened.
    #[default]
    Fail,
    /// The file is removed, and the store starts empty.
    Delete,
}

/// The version that Broker notes in a file. It never looks at it.
const BROKER_VERSION: &str = "2.8.0";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS meta(key text primary key, value text);
    CREATE TABLE IF NOT EXISTS store(key blob primary key, value blob, expiry integer);
    CREATE TABLE IF NOT EXISTS muster_state(key text primary key, value integer);
    CREATE TABLE IF NOT EXISTS muster_writer(
        endpoint blob, instance integer, number integer, turn integer, answers blob,
        primary key(endpoint, instance));
    CREATE TABLE IF NOT EXISTS muster_amendment(
        number integer primary key, key blob, subtracts integer, part blob, expiry integer);
    CREATE INDEX IF NOT EXISTS muster_amendment_key ON muster_amendment(key);
";

/// A backend that keeps a store in one SQLite file. Nobody else may have the file open at the same
/// time.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    options: SqliteOptions,
    connection: Option<Connection>,
    /// The number of the last writer that was noted.
    turn: i64,
    /// Device and number of the file that is open.
    file: Option<(u64, u64)>,
    /// What is in the file in parts.
    amended: Amended,
    /// Something to tell the operator.
    notice: Option<String>,
}

impl Sqlite {
    /// Creates a backend for a file. [`Backend::load`] opens the file, and creates it and its
    /// directories if need be.
    pub fn new(path: impl Into<PathBuf>, options: SqliteOptions) -> Self {
        Self {
            path: path.into(),
            options,
            connection: None,
            turn: 0,
            file: None,
            amended: Amended::none(),
            notice: None,
        }
    }

    /// Reads the entries of a file without changing or creating anything.
    ///
    /// # Errors
    ///
    /// Fails if there is no file, or if it cannot be read.
    pub fn read(path: &Path) -> Result<Vec<(Encoded, Entry)>, BackendError> {
        let at = |what: &str| format!("{what} {}", path.display());
        if !path.is_file() {
            return Err(BackendError::new(
                BackendErrorKind::Missing,
                at("there is no file"),
            ));
        }
        let failed = |error| BackendError::new(kind_of(&error), at("cannot read")).because(error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        // A write-ahead log that a crash has left can only be read where it may be worked in.
        let connection = Connection::open_with_flags(path, flags)
            .or_else(|_| Connection::open_with_flags(path, read_only))
            .map_err(failed)?;
        entries(&connection, path, 0, &mut Amended::none())
    }

    fn failed(&self, what: &str, error: rusqlite::Error) -> BackendError {
        BackendError::new(kind_of(&error), format!("{what} {}", self.path.display())).because(error)
    }

    fn open(&mut self) -> Result<Persisted, BackendError> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory).map_err(|error| {
                let what = format!("cannot make the directory {}", directory.display());
                BackendError::new(BackendErrorKind::Io, what).because(error)
            })?;
        }
        let is_new = std::fs::metadata(&self.path).map_or(true, |metadata| metadata.len() == 0);
        let cannot_open = |error| self.failed("cannot open", error);
        let mut connection = Connection::open(&self.path).map_err(cannot_open)?;
        self.prepare(&connection, is_new)
            .map_err(|error| self.failed("cannot use", error))?;
        if self.options.integrity_check {
            let verdict: String = connection
                .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                .map_err(|error| self.failed("cannot check", error))?;
            if verdict != "ok" {
                let what = format!("{} is damaged: {verdict}", self.path.display());
                return Err(BackendError::new(BackendErrorKind::Damaged, what));
            }
        }
        let state = |key: &str| -> Result<u64, BackendError> {
            let found = connection.query_row(
                "SELECT value FROM muster_state WHERE key = ?",
                [key],
                |row| row.get::<_, i64>(0),
            );
            match found {
                Ok(value) => Ok(u64::try_from(value).unwrap_or(0)),
                Err(rusqlite::Error::QueryReturnedNoRows) => Ok(0),
                Err(error) => Err(self.failed("cannot read", error)),
            }
        };
        let (timeline, changes) = (state("life")?, state("changes")?);
        let index = state("index")?;
        let entries = entries(&connection, &self.path, changes, &mut self.amended)?;
        let (writers, turn) = writers(&connection)
            .map_err(|error| self.failed("cannot read the writers of", error))?;
        self.turn = turn;
        // Others read the file, too, and what comes next is written in parts again. Where this fails, so does the next commit.
        if self.amended.write_whole(&mut connection).is_err() {
            self.amended.is_unknown();
        }
        self.connection = Some(connection);
        self.file = identity(&self.path);
        Ok(Persisted {
            timeline,
            changes,
            index,
            entries,
            writers,
        })
    }

    /// Makes the file again if somebody has removed it: the open one still has everything. A file that stands in its place is
    /// somebody else's.
    fn keep_in_place(&mut self) -> Result<(), BackendError> {
        let there = identity(&self.path);
        if self.file.is_none() || (there == self.file && self.connection.is_some()) {
            return Ok(());
        }
        if there == self.file {
            return self.reopen();
        }
        if there.is_some() {
            let what = format!(
                "another file has taken the place of {}",
                self.path.display()
            );
            return Err(BackendError::new(BackendErrorKind::Io, what));
        }
        let io = |what: String, error: std::io::Error| {
            BackendError::new(BackendErrorKind::Io, what).because(error)
        };
        if let Some(directory) = self.path.parent() {
            let what = format!("cannot make the directory {}", directory.display());
            std::fs::create_dir_all(directory).map_err(|error| io(what, error))?;
        }
        let copy = with_suffix(&self.path, "-copy");
        if let Some(removed) = &self.connection {
            // One that a crash has left is of no use.
            let _ = std::fs::remove_file(&copy);
            removed
                .execute("VACUUM INTO ?", [copy.to_string_lossy()])
                .map_err(|error| self.failed("cannot make again", error))?;
        }
        // It takes its write-ahead log with it, by name: so it is closed before the new file has one.
        drop(self.connection.take());
        let what = format!("cannot make {} again", self.path.display());
        std::fs::rename(&copy, &self.path).map_err(|error| io(what, error))?;
        self.file = identity(&self.path);
        let path = self.path.display();
        self.notice = Some(format!(
            "{path} was removed, and is made again with all that was in it"
        ));
        self.reopen()
    }

    /// Opens the file that is in place, whose content is known.
    fn reopen(&mut self) -> Result<(), BackendError> {
        let opened = Connection::open(&self.path)
            .and_then(|opened| self.prepare(&opened, true).map(|()| opened));
        let opened = opened.map_err(|error| self.failed("cannot open", error))?;
        self.connection = Some(opened);
        Ok(())
    }

    fn prepare(&self, connection: &Connection, is_new: bool) -> rusqlite::Result<()> {
        // The lock is taken with the first access, and kept: a second process is told at once.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let journal = match (self.options.journal_mode, is_new) {
            (Some(JournalMode::Delete), _) => Some("DELETE"),
            (Some(JournalMode::Wal), _) | (None, true) => Some("WAL"),
            (None, false) => None,
        };
        if let Some(journal) = journal {
            connection.pragma_update_and_check(None, "journal_mode", journal, |_| Ok(()))?;
        }
        let synchronous = match self.options.synchronous {
            Some(Synchronous::Off) => "OFF",
            Some(Synchronous::Normal) => "NORMAL",
            Some(Synchronous::Full) | None => "FULL",
            Some(Synchronous::Extra) => "EXTRA",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.execute_batch("BEGIN EXCLUSIVE")?;
        connection.execute_batch(SCHEMA)?;
        connection.execute(
            "INSERT OR REPLACE INTO meta(key, value) VALUES('broker_version', ?)",
            [BROKER_VERSION],
        )?;
        connection.execute(
            "DELETE FROM muster_writer WHERE turn <= (SELECT max(turn) FROM muster_writer) - ?",
            [MAX_WRITERS],
        )?;
        connection.execute_batch("COMMIT")
    }

    fn write(
        transaction: &Transaction<'_>,
        commit: &Commit,
        turn: &mut i64,
        amended: &mut Amended,
    ) -> rusqlite::Result<()> {
        let mut erase = transaction.prepare_cached("DELETE FROM store WHERE key = ?")?;
        for write in &commit.writes {
            match write {
                BackendWrite::Put(key, entry) => amended.put(transaction, key, entry)?,
                BackendWrite::Amend(key, entry, amendment) => {
                    amended.amend(transaction, key, entry, amendment)?;
                }
                BackendWrite::Erase(key) => {
                    amended.forget(transaction, key)?;
                    erase.execute([key.as_bytes()])?;
                }
                BackendWrite::Clear => {
                    transaction.execute("DELETE FROM store", [])?;
                    amended.clear(transaction)?;
                }
            }
        }
        let mut note = transaction.prepare_cached(
            "INSERT OR REPLACE INTO muster_writer(endpoint, instance, number, turn, answers)
             VALUES(?, ?, ?, ?, ?)",
        )?;
        for kept in &commit.writers {
            *turn = turn.saturating_add(1);
            let endpoint = kept.writer.endpoint.as_bytes();
            note.execute(params![
                &endpoint[..],
                signed(kept.writer.instance),
                signed(kept.number),
                *turn,
                kept.answers
            ])?;
        }
        let mut state = transaction
            .prepare_cached("INSERT OR REPLACE INTO muster_state(key, value) VALUES(?, ?)")?;
        state.execute(params!["life", signed(commit.timeline)])?;
        state.execute(params!["changes", signed(commit.changes)])?;
        state.execute(params!["index", signed(commit.index)])?;
        Ok(())
    }
}

impl Backend for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn load(&mut self) -> Result<Persisted, BackendError> {
        match self.open() {
            Err(error)
                if self.options.failure_mode == FailureMode::Delete
                    && error.kind() == BackendErrorKind::Damaged =>
            {
                self.connection = None;
                for suffix in ["", "-wal", "-shm", "-journal"] {
                    let _ = std::fs::remove_file(with_suffix(&self.path, suffix));
                }
                self.open()
            }
            other => other,
        }
    }

    fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), BackendError> {
        self.keep_in_place()?;
        let Some(connection) = &mut self.connection else {
            return Err(BackendError::new(
                BackendErrorKind::Closed,
                format!("{} is not open", self.path.display()),
            ));
        };
        let mut turn = self.turn;
        let done = connection.transaction().and_then(|transaction| {
            Self::write(&transaction, commit, &mut turn, &mut self.amended)?;
            transaction.commit()
        });
        if done.is_err() {
            self.amended.is_unknown();
        }
        done.map_err(|error| self.failed("cannot write to", error))?;
        self.turn = turn;
        Ok(())
    }

    fn close(&mut self) -> Result<(), BackendError> {
        let Some(mut connection) = self.connection.take() else {
            return Ok(());
        };
        // What is not written whole now is when the file is opened again.
        let _ = self.amended.write_whole(&mut connection);
        connection.flush_prepared_statement_cache();
        // The last of a write-ahead log goes into the file itself. Without such a log this does nothing.
        let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        connection
            .close()
            .map_err(|(_, error)| self.failed("cannot close", error))
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut file = path.to_owned().into_os_string();
    file.push(suffix);
    PathBuf::from(file)
}

/// Device and number of a file, if it is there.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn kind_of(error: &rusqlite::Error) -> BackendErrorKind {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => BackendErrorKind::Damaged,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => BackendErrorKind::Locked,
        Some(ErrorCode::DiskFull) => BackendErrorKind::Full,
        _ => BackendErrorKind::Io,
    }
}

fn entries(
    connection: &Connection,
    path: &Path,
    changes: u64,
    amended: &mut Amended,
) -> Result<Vec<(Encoded, Entry)>, BackendError> {
    let at = |what: &str| format!("{what} {}", path.display());
    let failed = |error| BackendError::new(kind_of(&error), at("cannot read")).because(error);
    let mut statement = connection
        .prepare("SELECT rowid, key, value, expiry FROM store")
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let number: i64 = row.get(0).map_err(failed)?;
        let value = |column: usize| -> Result<Encoded, BackendError> {
            let bytes = row
                .get_ref(column)
                .ok()
                .and_then(|cell| cell.as_blob().ok());
            let parsed = bytes.map(Encoded::parse);
            let Some(Ok(value)) = parsed else {
                let what = format!("{} is damaged: row {number} is no entry", path.display());
                return Err(BackendError::new(BackendErrorKind::Damaged, what));
            };
            Ok(value)
        };
        let expires: Option<i64> = row.get(3).map_err(failed)?;
        let entry = Entry {
            value: value(2)?,
            expires: expires.map(Timestamp::from_nanos),
            // Revisions of former lives are never compared: one number does for all.
            changed: changes,
        };
        entries.push((value(1)?.into_key(), entry));
    }
    if let Some(damaged) = amended.read(connection, &mut entries).map_err(failed)? {
        let what = format!("{} is damaged: {damaged}", path.display());
        return Err(BackendError::new(BackendErrorKind::Damaged, what));
    }
    Ok(entries)
}

fn writers(connection: &Connection) -> rusqlite::Result<(Vec<PersistedWriter>, i64)> {
    let mut statement = connection.prepare(
        "SELECT endpoint, instance, number, turn, answers FROM muster_writer ORDER BY turn",
    )?;
    let mut rows = statement.query([])?;
    let (mut writers, mut last) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let endpoint = row.get_ref(0)?.as_blob().ok().map(<[u8; 16]>::try_from);
        let Some(Ok(endpoint)) = endpoint else {
            continue;
        };
        let writer = Writer {
            endpoint: EndpointId::from_bytes(endpoint),
            instance: unsigned(row.get(1)?),
        };
        let answers = row.get_ref(4)?.as_blob().unwrap_or_default();
        writers.push(PersistedWriter {
            writer,
            number: unsigned(row.get(2)?),
            answers: answers.to_vec(),
        });
        last = row.get(3)?;
    }
    Ok((writers, last))
}

/// SQLite's numbers have a sign: the same bits.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}

fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}

#[cfg(test)]
mod tests;
