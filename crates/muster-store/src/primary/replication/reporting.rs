//! What a copy reports of itself and the others, for operators.

use super::{Primary, Role};
use crate::{CopiesReport, CopyRole, OtherCopyReport};

impl Primary {
    /// Returns what it knows of the copies, if it is one of several.
    pub(crate) fn copies(&self) -> Option<CopiesReport> {
        let replication = self.replication.as_ref()?;
        let assignment = &replication.assignment;
        let last = replication.log.last();
        let mut others = Vec::new();
        let role = match &replication.role {
            Role::Primary(leading) => {
                let is_persistent = self.commit_queue.is_some();
                others.extend(leading.peers.iter().map(|peer| OtherCopyReport {
                    endpoint: peer.id,
                    is_in_sync: peer.in_sync,
                    is_attached: peer.is_attached,
                    lag: last.saturating_sub(peer.index),
                    disk_lag: is_persistent.then(|| last.saturating_sub(peer.durable)),
                }));
                CopyRole::Primary
            }
            Role::Copy(_) if assignment.in_sync.contains(&self.me.endpoint) => CopyRole::Standby,
            Role::Copy(_) => CopyRole::Joining,
        };
        Some(CopiesReport {
            role,
            epoch: assignment.epoch,
            in_sync: assignment.in_sync.len(),
            min_copies: assignment.min_copies,
            index: replication.log.committed(),
            waiting: last - replication.log.committed(),
            others,
        })
    }
}
