//! What a voter keeps in its file.

use crate::entry::{Entry, MAX_NUMBER, Promise, Snapshot};
use crate::id::{ClusterId, DiskId, Members, VoterId};

/// What a voter's file holds. This is the model of a file; whoever has one writes each [`Batch`] as [`write`](Self::write) does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The group.
    pub cluster: ClusterId,
    /// The file's identity, drawn when it was made.
    pub disk: DiskId,
    /// What the voter has promised.
    pub promise: Promise,
    /// The state that the entries begin behind; none in the file of a stranger.
    pub snapshot: Option<Snapshot>,
    /// The entries behind the snapshot, one behind the other.
    pub entries: Vec<Entry>,
}

/// What is to be written, as a whole or not at all.
///
/// # What has to be on disk before what
///
/// 1. Batches are written in the order of their numbers: after a crash a file holds all up to one, and none behind it.
/// 2. A batch with `sync` is on disk, and with it all before it, before `Consensus::persisted` hears its number. What
///    presupposes it (a vote, the answer to entries, the leader's own count, an entry to apply) waits for that call.
/// 3. A batch without `sync` may be said to be persisted at once, and may be written with the next one: losing it loses no promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What the voter has promised, if that is new.
    pub promise: Option<Promise>,
    /// A state in place of entries: its own and those before it go.
    pub snapshot: Option<Snapshot>,
    /// Whether the snapshot came from a leader: then all entries that were there go with it.
    pub clears: bool,
    /// New entries. What the file has from the first one on goes.
    pub entries: Vec<Entry>,
    /// Whether it has to be on disk before it counts as persisted.
    pub sync: bool,
}

/// Why a file is not used. Its voter must not take part with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// The file of another voter.
    #[error("the file has another identity than the voter")]
    Foreign,
    /// Entries without a state that they begin behind.
    #[error("entries or promises without a beginning")]
    Headless,
    /// An entry is missing, or terms go back.
    #[error("entries that do not follow one another, at {0}")]
    Gap(u64),
    /// An entry is of a later term than the voter has ever promised to take part in.
    #[error("entry {0} is of a later term than the last promise")]
    Ahead(u64),
    /// The last entry is before the one that the voter knew to be agreed on.
    #[error("the entries end at {last}, before {commit}, which was agreed on")]
    Cut {
        /// The last entry.
        last: u64,
        /// What was agreed on.
        commit: u64,
    },
    /// The promise is older than the snapshot.
    #[error("what was promised is older than the snapshot at {0}")]
    Stale(u64),
    /// A term or index out of bounds.
    #[error("a term or index out of bounds")]
    Number,
    /// The settings are not possible.
    #[error("impossible settings of time")]
    Settings,
    /// The engine refused it, or failed.
    #[error("the engine refuses what was kept")]
    Engine,
}

impl Kept {
    /// The file of a voter that takes part in founding a group. All founders begin with the same, and it is written and synced
    /// before any of them steps.
    pub fn founding(
        cluster: ClusterId,
        disk: DiskId,
        members: Members,
        state: bytes::Bytes,
    ) -> Self {
        Self {
            cluster,
            disk,
            promise: Promise {
                term: 1,
                vote: 0,
                commit: 1,
            },
            snapshot: Some(Snapshot {
                index: 1,
                term: 1,
                members,
                state,
            }),
            entries: Vec::new(),
        }
    }

    /// A new file of a stranger to the group. It gives no vote before a leader has made it a learner and told it everything.
    pub fn stranger(cluster: ClusterId, disk: DiskId) -> Self {
        Self {
            cluster,
            disk,
            promise: Promise::default(),
            snapshot: None,
            entries: Vec::new(),
        }
    }

    /// The index of the last entry.
    pub fn last(&self) -> u64 {
        let base = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        self.entries.last().map_or(base, |entry| entry.index)
    }

    /// Writes a batch.
    pub fn write(&mut self, batch: &Batch) {
        if let Some(promise) = batch.promise {
            self.promise = promise;
        }
        if let Some(snapshot) = &batch.snapshot {
            if batch.clears {
                self.entries.clear();
            }
            self.entries.retain(|entry| entry.index > snapshot.index);
            self.snapshot = Some(snapshot.clone());
        }
        if let Some(first) = batch.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend_from_slice(&batch.entries);
        }
    }

    /// Checks that the file does not contradict itself, and is its voter's.
    pub(crate) fn check(&self, me: &VoterId) -> Result<(), KeptError> {
        if self.disk != me.disk {
            return Err(KeptError::Foreign);
        }
        let Some(snapshot) = &self.snapshot else {
            // It may have heard of terms. It has voted for nobody, and has nothing.
            if self.entries.is_empty() && self.promise.commit == 0 && self.promise.vote == 0 {
                return Ok(());
            }
            return Err(KeptError::Headless);
        };
        let promise = &self.promise;
        if promise.term > MAX_NUMBER || self.last() > MAX_NUMBER || snapshot.index == 0 {
            return Err(KeptError::Number);
        }
        if promise.term < snapshot.term || promise.commit < snapshot.index {
            return Err(KeptError::Stale(snapshot.index));
        }
        let mut before = (snapshot.index, snapshot.term);
        for entry in &self.entries {
            if entry.index != before.0 + 1 || entry.term < before.1 {
                return Err(KeptError::Gap(entry.index));
            }
            if entry.term > promise.term {
                return Err(KeptError::Ahead(entry.index));
            }
            before = (entry.index, entry.term);
        }
        if before.0 < promise.commit {
            return Err(KeptError::Cut {
                last: before.0,
                commit: promise.commit,
            });
        }
        Ok(())
    }
}
