//! What a backend has persisted, made ready to be served.

use crate::backend::{Backend, BackendError, Persisted, PersistedWriter};
use crate::protocol::NUMBERS;
use crate::state::State;

/// The state of a primary as its backend has kept it. Building it takes time in proportion to the
/// size of the store, so it is built where the backend is read, and a [`Primary`](super::Primary)
/// can start with it at once.
#[derive(Debug)]
pub struct Restored {
    pub(super) state: State,
    /// The last timeline that the backend was used in.
    pub(super) timeline: u64,
    /// The index of the last entry whose change it has; 0 if no coordinators decided who its primary was.
    pub(super) index: u64,
    /// The writers, the one that wrote least lately first.
    pub(super) writers: Vec<PersistedWriter>,
}

impl Restored {
    /// Builds the state from what was read, for a primary whose entries may take about `limit`
    /// bytes of memory.
    pub fn new(persisted: Persisted, limit: usize) -> Self {
        let Persisted {
            timeline,
            changes,
            index,
            entries,
            writers,
        } = persisted;
        let numbers = writers.iter().map(|known| (known.writer, known.number));
        Self {
            state: State::restore(limit, changes, entries, numbers),
            timeline,
            index: index.min(NUMBERS),
            writers,
        }
    }

    /// Returns `true` if it was kept by one of several copies.
    pub(crate) fn is_of_copies(&self) -> bool {
        self.index > 0
    }

    /// Returns `true` if it has something that was kept by a primary without copies.
    pub(crate) fn is_of_one(&self) -> bool {
        self.index == 0 && !self.state.entries().is_empty()
    }

    /// The timeline and the index.
    #[cfg(test)]
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.timeline, self.index)
    }

    #[cfg(test)]
    pub(crate) fn without_writers(mut self) -> Self {
        self.writers = Vec::new();
        self.state.forget_writers();
        self
    }

    /// Reads the state from a backend. Blocks until it is read.
    ///
    /// # Errors
    /// Fails if the backend cannot be read.
    pub fn load(backend: &mut dyn Backend, limit: usize) -> Result<Self, BackendError> {
        backend.load().map(|persisted| Self::new(persisted, limit))
    }
}
