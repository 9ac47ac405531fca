//! The log in memory, as the engine reads it.

use std::cell::Cell;

use raft::eraftpb::{Entry, HardState, Snapshot as EngineSnapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use crate::engine;
use crate::entry::Snapshot;
use crate::kept::Kept;

/// What the engine reads: all that was handed out to be written, whether it is on disk or not.
pub(crate) struct Log {
    hard: HardState,
    snapshot: Option<(Snapshot, EngineSnapshot)>,
    /// Behind the snapshot.
    entries: Vec<Entry>,
    /// Of the entries.
    bytes: usize,
    /// Whether a voter needs a snapshot that is not there.
    pub(crate) wanted: Cell<bool>,
}

/// What an entry counts for.
pub(crate) fn weight(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 32
}

impl Log {
    pub(crate) fn new(kept: Kept) -> Self {
        let hard = HardState {
            term: kept.promise.term,
            vote: kept.promise.vote,
            commit: kept.promise.commit,
            ..HardState::default()
        };
        let entries: Vec<_> = kept.entries.iter().map(engine::entry_in).collect();
        Self {
            hard,
            bytes: entries.iter().map(weight).sum(),
            entries,
            snapshot: kept.snapshot.map(|snapshot| {
                let engines = engine::snapshot_in(&snapshot);
                (snapshot, engines)
            }),
            wanted: Cell::new(false),
        }
    }

    pub(crate) fn snapshot_index(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |(ours, _)| ours.index)
    }

    fn last(&self) -> u64 {
        self.snapshot_index() + self.entries.len() as u64
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The place of an index among the entries, if it is behind the snapshot.
    fn place(&self, index: u64) -> Option<usize> {
        let distance = index.checked_sub(self.snapshot_index() + 1)?;
        usize::try_from(distance).ok()
    }

    /// Appends entries; what there was from the first one on goes.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        // The engine appends behind what is agreed on, hence behind the snapshot, and leaves no gap.
        let Some(place) = self.place(first.index) else {
            return;
        };
        let gone = self.entries.drain(place.min(self.entries.len())..);
        self.bytes -= gone.map(|entry| weight(&entry)).sum::<usize>();
        self.bytes += entries.iter().map(weight).sum::<usize>();
        self.entries.extend_from_slice(entries);
    }

    /// Puts a leader's state in the place of everything.
    pub(crate) fn install(&mut self, snapshot: Snapshot) {
        self.entries.clear();
        self.bytes = 0;
        let engines = engine::snapshot_in(&snapshot);
        self.snapshot = Some((snapshot, engines));
    }

    /// Puts a state in the place of the entries that are in it.
    pub(crate) fn compact(&mut self, snapshot: Snapshot) {
        if let Some(place) = self.place(snapshot.index) {
            let gone = self.entries.drain(..(place + 1).min(self.entries.len()));
            self.bytes -= gone.map(|entry| weight(&entry)).sum::<usize>();
        }
        let engines = engine::snapshot_in(&snapshot);
        self.snapshot = Some((snapshot, engines));
        self.wanted.set(false);
    }
}

impl Storage for Log {
    fn initial_state(&self) -> Result<RaftState> {
        let conf = self
            .snapshot
            .as_ref()
            .map_or_else(Default::default, |(_, engines)| {
                engines.get_metadata().get_conf_state().clone()
            });
        Ok(RaftState::new(self.hard.clone(), conf))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        let Some(from) = self.place(low) else {
            return Err(Error::Store(StorageError::Compacted));
        };
        let to = self.place(high).unwrap_or(from);
        let Some(entries) = self.entries.get(from..to) else {
            return Err(Error::Store(StorageError::Unavailable));
        };
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0;
        let fits = |entry: &&Entry| {
            let first = size == 0;
            size += weight(entry) as u64;
            first || size <= limit
        };
        Ok(entries.iter().take_while(fits).cloned().collect())
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.snapshot_index() {
            return Ok(self.snapshot.as_ref().map_or(0, |(ours, _)| ours.term));
        }
        let Some(place) = self.place(index) else {
            return Err(Error::Store(StorageError::Compacted));
        };
        let entry = self.entries.get(place);
        entry
            .map(|entry| entry.term)
            .ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.snapshot_index() + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<EngineSnapshot> {
        // A newcomer takes no state that does not know it, so a new one has to be made first.
        if let Some((ours, engines)) = &self.snapshot
            && ours.index >= request_index
            && ours.members.all().any(|member| member.disk.number() == to)
        {
            return Ok(engines.clone());
        }
        self.wanted.set(true);
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
