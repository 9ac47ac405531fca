//! What can be wrong with a voter's file.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

/// The kinds of [`VoterFileError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VoterFileErrorKind {
    /// The disk is full, or has no room for this user.
    Full,
    /// The system does not allow it.
    Denied,
    /// The system fails otherwise.
    Io,
    /// The file is not a voter's.
    Foreign,
    /// A newer version has made the file.
    Newer,
    /// What the file says cannot be trusted.
    Damaged,
    /// Another process, or another part of this one, has the file.
    InUse,
    /// The caller asks for what cannot be. The file is as it was.
    Misuse,
}

/// Why a voter's file cannot be used. One line, which names the file.
///
/// It can be cloned, as a file that has failed once says the same for ever. So it has the words of its cause, not the cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct VoterFileError {
    kind: VoterFileErrorKind,
    text: String,
}

use VoterFileErrorKind as Kind;

impl VoterFileError {
    /// Returns the kind of the error.
    pub(crate) fn kind(&self) -> VoterFileErrorKind {
        self.kind
    }

    fn new(kind: Kind, text: String) -> Self {
        Self { kind, text }
    }

    pub(super) fn misuse(path: &Path, reason: &str) -> Self {
        let text = format!("cannot write {}: {reason}", path.display());
        Self::new(Kind::Misuse, text)
    }

    pub(super) fn in_use(path: &Path) -> Self {
        let text = format!("{} is in use by another process", path.display());
        Self::new(Kind::InUse, text)
    }

    /// An error of the system. `what` is a verb.
    pub(super) fn system(what: &str, path: &Path, error: &io::Error) -> Self {
        use io::ErrorKind;
        let kind = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::Full,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Kind::Denied,
            _ => Kind::Io,
        };
        Self::new(kind, format!("cannot {what} {}: {error}", path.display()))
    }

    pub(super) fn of(what: &str, path: &Path, trouble: &Trouble) -> Self {
        let file = path.display();
        match trouble {
            Trouble::Sqlite(error) => Self::sqlite(what, path, error),
            Trouble::Foreign(reason) => {
                let text = format!("{file} is not a voter's file: {reason}");
                Self::new(Kind::Foreign, text)
            }
            Trouble::Newer { found, known } => {
                let text = format!(
                    "{file} is of format {found}, and this program knows {known}: a newer one has made it"
                );
                Self::new(Kind::Newer, text)
            }
            Trouble::Damaged(reason) => {
                Self::new(Kind::Damaged, format!("{file} is damaged: {reason}"))
            }
        }
    }

    /// An error of SQLite. `what` is a verb.
    fn sqlite(what: &str, path: &Path, error: &rusqlite::Error) -> Self {
        let file = path.display();
        let Some(code) = error.sqlite_error_code() else {
            // Not from SQLite itself: a value is not what its column has to hold.
            return Self::new(Kind::Damaged, format!("{file} is damaged: {error}"));
        };
        let (kind, text) = match code {
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed => return Self::in_use(path),
            ErrorCode::NotADatabase => (
                Kind::Foreign,
                format!("{file} is not a voter's file: it is no database"),
            ),
            ErrorCode::DatabaseCorrupt
            | ErrorCode::ConstraintViolation
            | ErrorCode::TooBig
            | ErrorCode::TypeMismatch => (Kind::Damaged, format!("{file} is damaged: {error}")),
            ErrorCode::DiskFull => (
                Kind::Full,
                format!("cannot {what} {file}: the disk is full"),
            ),
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
                (Kind::Denied, format!("cannot {what} {file}: {error}"))
            }
            _ => (Kind::Io, format!("cannot {what} {file}: {error}")),
        };
        Self::new(kind, text)
    }
}

/// What went wrong, before it is known with which file.
#[derive(Debug)]
pub(super) enum Trouble {
    /// SQLite's own word.
    Sqlite(rusqlite::Error),
    /// Another kind of file.
    Foreign(&'static str),
    /// A later format.
    Newer {
        /// That of the file.
        found: i64,
        /// The latest that is known here.
        known: i64,
    },
    /// Something is missing, or not what was written.
    Damaged(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
