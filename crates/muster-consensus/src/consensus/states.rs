//! States in place of entries.

use bytes::Bytes;
use raft::{SnapshotStatus, Storage};

use super::{COMPACT_BYTES, COMPACT_ENTRIES, Consensus};
use crate::entry::{MAX_STATE, Snapshot};
use crate::kept::Batch;
use crate::outcome::Refused;

impl Consensus {
    /// Puts a state in the place of all entries up to an applied one.
    ///
    /// # Errors
    ///
    /// Fails if that entry is not applied, if the group has changed since, or if the state is too large.
    pub fn compact(&mut self, index: u64, state: Bytes) -> Result<(), Refused> {
        if self.fault.is_some() {
            return Err(Refused::Stopped);
        }
        if state.len() > MAX_STATE {
            return Err(Refused::Size);
        }
        let before = self.node.store().snapshot_index();
        if index <= before || index > self.applied || index < self.members_since {
            return Err(Refused::NotApplied);
        }
        let term = self.node.store().term(index);
        let (Ok(term), Some(members)) = (term, self.members.clone()) else {
            return Err(Refused::NotApplied);
        };
        let snapshot = Snapshot {
            index,
            term,
            members,
            state,
        };
        self.node.mut_store().compact(snapshot.clone());
        let batch = Batch {
            promise: None,
            snapshot: Some(snapshot),
            clears: false,
            entries: Vec::new(),
            // The entries are there until the state is.
            sync: false,
        };
        self.hand_out(batch, 0, Vec::new(), None);
        Ok(())
    }

    /// Returns `true` if the log is long enough to be compacted, or somebody needs a state that knows it.
    pub fn wants_compaction(&self) -> bool {
        let log = self.node.store();
        let applied = self.applied.saturating_sub(log.snapshot_index());
        self.members.is_some()
            && applied > 0
            && (applied >= COMPACT_ENTRIES || log.bytes() >= COMPACT_BYTES || log.wanted.get())
    }

    /// Sends a state again that has not arrived for a second. The engine itself would wait for ever: an answer to something older
    /// does not say that it has arrived, so its own word counts.
    pub(super) fn repeat_snapshots(&mut self) {
        let patience = self.config.tick * 20;
        let now = self.now;
        let sent = self.snapshots.iter();
        let late = sent.filter(|(_, sent)| now.since(**sent) >= patience);
        let late: Vec<u64> = late.map(|(number, _)| *number).collect();
        for number in late {
            self.snapshots.remove(&number);
            // Nothing happens if the engine does not wait any more.
            self.engine(|node| node.report_snapshot(number, SnapshotStatus::Failure));
        }
    }
}
