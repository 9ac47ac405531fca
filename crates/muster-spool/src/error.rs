//! What goes wrong with a journal.

use std::io;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JournalErrorKind {
    /// The name of a journal is empty, too long, or has characters that it may not have.
    Name,
    /// Somebody else appends in this directory.
    InUse,
    /// The record is longer than [`longest_record`](crate::JournalConfig::longest_record).
    TooLong,
    /// A segment is to be begun first: there is none, it is full, or it was given up.
    NeedsSegment,
    /// The journal would become larger than [`limit`](crate::JournalConfig::limit).
    Full,
    /// There is no room left on the disk, or the quota is used up.
    NoSpace,
    /// Segments have no numbers left: a file has the last one.
    NoNumbers,
    /// There is no whole record at a place.
    Damaged,
    /// Files cannot be read or written, for another reason.
    Io,
}

/// Why an operation on a journal has failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}{}", told(source.as_ref()))]
pub struct JournalError {
    kind: JournalErrorKind,
    what: String,
    source: Option<io::Error>,
}

/// The cause is part of the message: most of those who read it see one line.
fn told(source: Option<&io::Error>) -> String {
    source.map_or_else(String::new, |source| format!(": {source}"))
}

impl JournalError {
    pub(crate) fn new(kind: JournalErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            source: None,
        }
    }

    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => JournalErrorKind::NoSpace,
            _ => JournalErrorKind::Io,
        };
        Self {
            kind,
            what: what.into(),
            source: Some(source),
        }
    }

    /// Returns the kind of failure.
    pub fn kind(&self) -> JournalErrorKind {
        self.kind
    }
}
