//! Backends: what keeps the state of a persistent store beyond the end of its process.

pub(crate) mod memory;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::fmt;

use crate::op::{Amendment, Change, StoreEvent, Writer};
use crate::{Encoded, Entry};

/// Keeps a store's state. A primary has its whole state in memory. A backend is read once, when the
/// store opens, and is then given changes, many at once.
pub trait Backend: Send + fmt::Debug {
    /// Reads what was kept. It is called once, before anything else.
    ///
    /// # Errors
    ///
    /// Fails if the state cannot be read.
    fn load(&mut self) -> Result<Persisted, BackendError>;

    /// Keeps changes: either all of them or none. Once this has returned, not even a crash of the
    /// machine may lose them.
    ///
    /// # Errors
    ///
    /// Fails if the changes were not kept. They will be given again later, perhaps with more.
    fn commit(&mut self, commit: &Commit) -> Result<(), BackendError>;

    /// Returns what keeps the state, in one word, for reports about the store.
    fn kind(&self) -> &'static str {
        "other"
    }

    /// Returns something that the operator should know of the last commit, although it succeeded.
    fn take_notice(&mut self) -> Option<String> {
        None
    }

    /// Closes the backend. It is called last, when the store ends in order.
    ///
    /// # Errors
    ///
    /// Fails if the backend could not be closed properly. What was committed is kept all the same.
    fn close(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}

/// What a backend has kept of a store.
#[derive(Debug, Default)]
pub struct Persisted {
    /// The timeline of the last primary that used it; 0 if there was none.
    pub timeline: u64,
    /// The number of the last change.
    pub changes: u64,
    /// What [`Commit::index`] was last; 0 if there was none.
    pub index: u64,
    /// The entries, in any order.
    pub entries: Vec<(Encoded, Entry)>,
    /// The writers. The one that has not written for longest comes first.
    pub writers: Vec<PersistedWriter>,
}

/// Changes that are to be kept together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// The timeline of the primary.
    pub timeline: u64,
    /// The number of the last change, once these changes are kept.
    pub changes: u64,
    /// How far the store is, counted in what was decided about it in this timeline; 0 where coordinators do not
    /// decide who is its primary. A copy that comes back is sent what is behind it.
    pub index: u64,
    /// The changes, in order.
    pub writes: Vec<BackendWrite>,
    /// The writers that wrote, in the order in which they did. Of a writer that appears twice, the
    /// last entry counts.
    pub writers: Vec<PersistedWriter>,
}

/// What is kept of a writer together with its changes. From it a new primary knows which commands
/// it must not apply again, and the outcomes of those whose answers may have been lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistedWriter {
    /// The writer.
    pub writer: Writer,
    /// The number of its last command.
    pub number: u64,
    /// The encoded answers to its last commands; empty if the writer has received them all.
    pub answers: Vec<u8>,
}

/// One change for a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendWrite {
    /// A key has this entry now.
    Put(Encoded, Entry),
    /// The same, and a short amendment leads to it from what the key had before. Whoever does not keep amendments keeps the entry.
    Amend(Encoded, Entry, Amendment),
    /// A key is removed.
    Erase(Encoded),
    /// All keys are removed.
    Clear,
}

/// The kind of a backend's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendErrorKind {
    /// There is nothing at this place.
    Missing,
    /// Another process is using it.
    Locked,
    /// What it holds is damaged.
    Damaged,
    /// There is no room left.
    Full,
    /// It cannot be read or written, for another reason.
    Io,
    /// It was closed, or never opened.
    Closed,
    /// The code that runs it has failed: by a fault of ours, or on purpose in a test.
    Internal,
}

/// Why a backend has failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}{}", told(cause.as_deref()))]
pub struct BackendError {
    kind: BackendErrorKind,
    what: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

type Cause<'a> = Option<&'a (dyn std::error::Error + Send + Sync + 'static)>;

/// The cause is part of the message: most of those who read it see one line.
fn told(cause: Cause<'_>) -> String {
    cause.map_or_else(String::new, |cause| format!(": {cause}"))
}

impl BackendError {
    /// Creates an error. `what` says what failed, and where.
    pub fn new(kind: BackendErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            cause: None,
        }
    }

    /// Returns the kind of failure.
    pub fn kind(&self) -> BackendErrorKind {
        self.kind
    }

    /// Adds the cause of the error.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Returns the cause, if it is known. The error's message includes it.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.cause.as_deref()
    }
}

impl Commit {
    /// Adds a change.
    pub(crate) fn add(&mut self, change: &Change) {
        self.changes = change.number;
        let write = match &change.event {
            StoreEvent::Put {
                key,
                value,
                expires,
                amendment,
                old: _,
            } => {
                let entry = Entry {
                    value: value.clone(),
                    expires: *expires,
                    changed: change.number,
                };
                match amendment {
                    None => BackendWrite::Put(key.clone(), entry),
                    Some(amendment) => BackendWrite::Amend(key.clone(), entry, amendment.clone()),
                }
            }
            StoreEvent::Erase { key, .. } | StoreEvent::Expire { key, .. } => {
                BackendWrite::Erase(key.clone())
            }
            StoreEvent::Clear { .. } => {
                // What was before it is gone with it.
                self.writes.clear();
                BackendWrite::Clear
            }
        };
        self.writes.push(write);
    }

    /// Notes the last number of a writer.
    pub(crate) fn note(&mut self, writer: Writer, number: u64) {
        match self.writers.last_mut() {
            Some(last) if last.writer == writer => last.number = number,
            _ => self.writers.push(PersistedWriter {
                writer,
                number,
                answers: Vec::new(),
            }),
        }
    }

    /// Adds what comes after.
    pub(crate) fn append(&mut self, later: Self) {
        self.changes = self.changes.max(later.changes);
        self.index = self.index.max(later.index);
        if later.writes.first() == Some(&BackendWrite::Clear) {
            self.writes.clear();
        }
        self.writes.extend(later.writes);
        self.writers.extend(later.writers);
    }
}
