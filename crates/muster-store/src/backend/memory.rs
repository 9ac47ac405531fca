//! A backend in memory, for tests. It outlives primaries, and can be made to fail.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::arithmetic::amend;
use crate::op::Writer;
use crate::{
    Backend, BackendError, BackendErrorKind, BackendWrite, Commit, Encoded, Entry, Persisted,
    PersistedWriter,
};

/// Keeps a store's state in memory, for as long as one of its copies is alive. All copies have the
/// same content, so that what one primary was given is found by the next. It is meant for tests of
/// stores and of code that uses them: what was committed survives the crash of a primary, but not
/// the end of the process.
///
/// It can be made to fail like a disk; see [`MemoryBackend::fail_after`]. It passes the checks of
/// [`conformance`](crate::conformance).
///
/// ```
/// use muster_store::{Backend, Commit, MemoryBackend};
///
/// let disk = MemoryBackend::default();
/// disk.fail_after(1);
/// assert!(disk.clone().load().is_ok());
/// assert!(disk.clone().commit(&Commit::default()).is_err());
/// disk.mend();
/// assert!(disk.clone().commit(&Commit::default()).is_ok());
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryBackend(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    timeline: u64,
    changes: u64,
    index: u64,
    entries: BTreeMap<Encoded, Entry>,
    /// In the order in which they wrote last.
    writers: BTreeMap<u64, PersistedWriter>,
    turns: HashMap<Writer, u64>,
    turn: u64,
    /// The operations that still work; `None` for all.
    working: Option<u64>,
}

impl MemoryBackend {
    /// Lets this many more operations (loads and commits) succeed. Those after them fail and change
    /// nothing, until [`mend`](Self::mend). With 0, the next one fails.
    pub fn fail_after(&self, operations: u64) {
        self.content().working = Some(operations);
    }

    /// Makes it work again after [`fail_after`](Self::fail_after).
    pub fn mend(&self) {
        self.content().working = None;
    }

    /// What it keeps, whether or not it fails.
    #[cfg(test)]
    pub(crate) fn persisted(&self) -> Persisted {
        self.content().persisted()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn persisted(&self) -> Persisted {
        let entries = self.entries.iter();
        Persisted {
            timeline: self.timeline,
            changes: self.changes,
            index: self.index,
            entries: entries.map(|(k, e)| (k.clone(), e.clone())).collect(),
            writers: self.writers.values().cloned().collect(),
        }
    }

    /// One operation, if it works.
    fn operate(&mut self) -> Result<(), BackendError> {
        match &mut self.working {
            None => Ok(()),
            Some(0) => Err(BackendError::new(
                BackendErrorKind::Internal,
                "the backend in memory was told to fail",
            )),
            Some(working) => {
                *working -= 1;
                Ok(())
            }
        }
    }
}

impl Backend for MemoryBackend {
    fn load(&mut self) -> Result<Persisted, BackendError> {
        let mut content = self.content();
        content.operate()?;
        Ok(content.persisted())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), BackendError> {
        let mut content = self.content();
        content.operate()?;
        let content = &mut *content;
        (content.timeline, content.changes) = (commit.timeline, commit.changes);
        content.index = commit.index;
        for write in &commit.writes {
            match write {
                BackendWrite::Put(key, entry) => {
                    content.entries.insert(key.clone(), entry.clone());
                }
                BackendWrite::Amend(key, entry, amendment) => {
                    // As a file does: if something else is there, so is something else from now on.
                    let kept = content.entries.get(key);
                    let amended = kept.and_then(|kept| amend(&kept.value, amendment).ok());
                    if let Some(amended) = amended {
                        let mut entry = entry.clone();
                        entry.value = amended.value;
                        content.entries.insert(key.clone(), entry);
                    }
                }
                BackendWrite::Erase(key) => {
                    content.entries.remove(key);
                }
                BackendWrite::Clear => content.entries.clear(),
            }
        }
        for kept in &commit.writers {
            content.turn += 1;
            if let Some(before) = content.turns.insert(kept.writer, content.turn) {
                content.writers.remove(&before);
            }
            content.writers.insert(content.turn, kept.clone());
        }
        Ok(())
    }

    fn kind(&self) -> &'static str {
        "test"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[test]
    fn it_does_what_a_backend_must() {
        conformance::check(|| {
            let place = MemoryBackend::default();
            move || Box::new(place.clone())
        });
    }

    #[test]
    fn a_commit_that_fails_changes_nothing() {
        let mut disk = MemoryBackend::default();
        let commit = |changes, number: u64| Commit {
            timeline: 1,
            changes,
            index: 0,
            writes: vec![BackendWrite::Put(
                Encoded::key(&number),
                Entry {
                    value: Encoded::of(&number),
                    expires: None,
                    changed: changes,
                },
            )],
            writers: Vec::new(),
        };
        disk.fail_after(1);
        disk.commit(&commit(1, 1)).unwrap();
        disk.commit(&commit(2, 2)).unwrap_err();
        disk.load().unwrap_err();
        disk.mend();
        let kept = disk.load().unwrap();
        assert_eq!((kept.changes, kept.entries.len()), (1, 1));
    }
}
