//! Where a persistent store's state outlives its process.

pub(crate) mod memory;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::fmt;

use crate::op::{Change, StoreEvent, Writer};
use crate::{Encoded, Entry};

/// Keeps a store's state. A primary has its whole state in memory; a backend is read once, when the store
/// opens, and then told of changes, many at once.
pub trait Backend: Send + fmt::Debug {
    /// What was kept. Called once, first.
    fn load(&mut self) -> Result<Persisted, BackendError>;

    /// Keeps changes: all of them or none, and so that a crash of the machine does not lose them once this
    /// has returned.
    fn commit(&mut self, commit: &Commit) -> Result<(), BackendError>;

    /// What keeps the state, in one word: for whoever looks at the store.
    fn kind(&self) -> &'static str {
        "other"
    }

    /// Called last, on an orderly end.
    fn close(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}

/// What a backend has kept.
#[derive(Debug, Default)]
pub struct Persisted {
    /// The last timeline of a primary that used it; 0 for none.
    pub timeline: u64,
    /// The number of the last change.
    pub changes: u64,
    /// The entries, in any order.
    pub entries: Vec<(Encoded, Entry)>,
    /// The writers, the one that wrote least lately first.
    pub writers: Vec<PersistedWriter>,
}

/// Changes to be kept together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// The timeline of the primary.
    pub timeline: u64,
    /// The number of the last change, once these are kept.
    pub changes: u64,
    /// In this order.
    pub writes: Vec<BackendWrite>,
    /// The writers that wrote, in the order in which they did: of one that stands here twice, the last
    /// counts.
    pub writers: Vec<PersistedWriter>,
}

/// What is kept of a writer with its changes: so a primary that begins anew applies none of its commands
/// twice, and knows what came of those whose answers may have been lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistedWriter {
    /// The writer.
    pub writer: Writer,
    /// The number of its last command.
    pub number: u64,
    /// The answers to its last commands, encoded; empty if it has them all.
    pub answers: Vec<u8>,
}

/// One change for a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendWrite {
    /// The entry of a key.
    Put(Encoded, Entry),
    /// There is no such key any more.
    Erase(Encoded),
    /// There are no keys any more.
    Clear,
}

/// What kind of failure a backend has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendErrorKind {
    /// There is nothing of this name.
    Missing,
    /// Another process has it.
    Locked,
    /// What it persisted is not what it should be.
    Damaged,
    /// There is no room left.
    Full,
    /// It cannot be read or written for another reason.
    Io,
    /// It was closed, or never opened.
    Closed,
    /// What serves it has failed: a fault of ours, or a failure made for a test.
    Internal,
}

/// Why a backend does not work.
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
    /// An error that says what failed, with the place.
    pub fn new(kind: BackendErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            cause: None,
        }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> BackendErrorKind {
        self.kind
    }

    /// Adds its cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The cause, if it is known. It is part of the message.
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
                ..
            } => BackendWrite::Put(
                key.clone(),
                Entry {
                    value: value.clone(),
                    expires: *expires,
                    changed: change.number,
                },
            ),
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
        if later.writes.first() == Some(&BackendWrite::Clear) {
            self.writes.clear();
        }
        self.writes.extend(later.writes);
        self.writers.extend(later.writers);
    }
}
