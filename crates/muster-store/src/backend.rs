//! Where a persistent store's state outlives its process.

pub(crate) mod memory;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::fmt;

use crate::op::{Change, Event, Writer};
use crate::{Encoded, Entry};

/// Keeps a store's state. A master has its whole state in memory; a backend is read once, when the store
/// opens, and then told of changes, many at once.
pub trait Backend: Send + fmt::Debug {
    /// What was kept. Called once, first.
    fn load(&mut self) -> Result<Kept, BackendError>;

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
pub struct Kept {
    /// The last life of a master that used it; 0 for none.
    pub life: u64,
    /// The number of the last change.
    pub changes: u64,
    /// The entries, in any order.
    pub entries: Vec<(Encoded, Entry)>,
    /// The writers, the one that wrote least lately first.
    pub writers: Vec<KeptWriter>,
}

/// Changes to be kept together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// The life of the master.
    pub life: u64,
    /// The number of the last change, once these are kept.
    pub changes: u64,
    /// In this order.
    pub writes: Vec<Write>,
    /// The writers that wrote, in the order in which they did: of one that stands here twice, the last
    /// counts.
    pub writers: Vec<KeptWriter>,
}

/// What is kept of a writer with its changes: so a master that begins anew applies none of its commands
/// twice, and knows what came of those whose answers may have been lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptWriter {
    /// The writer.
    pub writer: Writer,
    /// The number of its last command.
    pub number: u64,
    /// The answers to its last commands, encoded; empty if it has them all.
    pub answers: Vec<u8>,
}

/// One change for a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The entry of a key.
    Put(Encoded, Entry),
    /// There is no such key any more.
    Erase(Encoded),
    /// There are no keys any more.
    Clear,
}

/// Why a backend does not work.
#[derive(Debug, thiserror::Error)]
#[error("{what}{}", told(cause.as_deref()))]
pub struct BackendError {
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
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            cause: None,
        }
    }

    /// The same with its cause.
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
            Event::Put {
                key,
                value,
                expires,
                ..
            } => Write::Put(
                key.clone(),
                Entry {
                    value: value.clone(),
                    expires: *expires,
                    changed: change.number,
                },
            ),
            Event::Erase { key, .. } | Event::Expire { key, .. } => Write::Erase(key.clone()),
            Event::Clear { .. } => {
                // What was before it is gone with it.
                self.writes.clear();
                Write::Clear
            }
        };
        self.writes.push(write);
    }

    /// Notes the last number of a writer.
    pub(crate) fn note(&mut self, writer: Writer, number: u64) {
        match self.writers.last_mut() {
            Some(last) if last.writer == writer => last.number = number,
            _ => self.writers.push(KeptWriter {
                writer,
                number,
                answers: Vec::new(),
            }),
        }
    }

    /// Adds what comes after.
    pub(crate) fn append(&mut self, later: Self) {
        self.changes = self.changes.max(later.changes);
        if later.writes.first() == Some(&Write::Clear) {
            self.writes.clear();
        }
        self.writes.extend(later.writes);
        self.writers.extend(later.writers);
    }
}
