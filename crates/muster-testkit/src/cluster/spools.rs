//! The spools of nodes, on simulated disks that outlive their processes.

use std::time::Duration;

use muster_cluster::node::{Input, Leftover, ModelHome, NodeLoop, Spool, SpoolOrder, SpoolOutcome};
use muster_wire::EndpointId;

use super::Cluster;
use crate::agenda::{Item, SpoolWork};
use crate::nanos;

/// How long a spool takes to do something.
const WORKING: Duration = Duration::from_micros(100);

/// How long what was kept waits to be synced with more.
const SYNC_AFTER: Duration = Duration::from_millis(100);

/// The bytes of a node's spool at most.
const LIMIT: u64 = 64 << 20;

/// The spool of a node's life.
#[derive(Default)]
pub(super) struct SpoolDisk {
    spool: Option<Spool<ModelHome>>,
    busy_until: u64,
    is_syncing: bool,
}

impl Cluster {
    /// Gives nodes spools on disks: what a life leaves there the next one finds. Without them nothing is kept.
    #[must_use]
    pub fn spools(mut self) -> Self {
        self.has_spools = true;
        self
    }

    /// The disk of a dead node loses what was not synced, or a part of it.
    pub fn power_fails(&mut self, node: &str) {
        let position = self.position(node);
        let random = &mut self.random;
        let home = &mut self.nodes[position].spool_home;
        *home = home.crash(&mut |bound| random.number(bound));
    }

    /// A life begins: it uses what is on its disk.
    pub(super) fn begin_spool(&mut self, position: usize, node_loop: &mut NodeLoop) -> SpoolDisk {
        let mut disk = SpoolDisk::default();
        if self.has_spools {
            node_loop.use_spool();
            let node = &mut self.nodes[position];
            // Nothing that the process before has open reaches the disk any more.
            node.spool_home = node.spool_home.restart();
            let home = node.spool_home.clone();
            disk.spool = Some(Spool::new(home, &node.name, node_loop.id(), LIMIT));
        }
        disk
    }

    /// Hands something to a node's spool, which does one thing after the other.
    pub(super) fn spool_work(&mut self, position: usize, work: SpoolWork) {
        let takes = match &work {
            SpoolWork::Sync => nanos(SYNC_AFTER) + self.disk_takes(position),
            SpoolWork::Adopt | SpoolWork::Order { .. } => nanos(WORKING),
        };
        let Some(present) = &mut self.nodes[position].life else {
            return;
        };
        let life = present.number;
        let at = present.spool.busy_until.max(self.now) + takes;
        if !matches!(work, SpoolWork::Sync) {
            present.spool.busy_until = at;
        }
        let node = position;
        self.agenda.add(at, Item::SpoolWork { node, life, work });
    }

    /// A node's spool does something.
    pub(super) fn do_spool_work(&mut self, position: usize, work: SpoolWork) {
        match work {
            SpoolWork::Order { of, order } => {
                let outcome = self.carry_out_order(position, of, order);
                if let Some(outcome) = outcome {
                    self.tell_of_spool(position, of, &outcome);
                }
                self.sync_spool_later(position);
            }
            SpoolWork::Adopt => self.adopt(position),
            SpoolWork::Sync => {
                let outcomes = self.sync_spool(position);
                for (of, outcome) in outcomes {
                    self.tell_of_spool(position, of, &outcome);
                }
                self.sync_spool_later(position);
            }
        }
    }

    fn carry_out_order(
        &mut self,
        position: usize,
        of: EndpointId,
        order: SpoolOrder,
    ) -> Option<SpoolOutcome> {
        let is_full = self.is_disk_full(position);
        let life = self.nodes[position].life.as_mut()?;
        let spool = life.spool.spool.as_mut()?;
        let is_end = order == SpoolOrder::End;
        let outcome = match order {
            SpoolOrder::Keep { number, .. } if is_full => Some(SpoolOutcome::NotKept {
                number,
                may_be_there: false,
                problem: "no space left on device".to_owned(),
            }),
            order => spool.carry_out(of, order),
        };
        if is_end {
            self.spool_work(position, SpoolWork::Adopt);
        }
        outcome
    }

    fn adopt(&mut self, position: usize) {
        let life = self.nodes[position].life.as_mut();
        let spool = life.and_then(|life| life.spool.spool.as_mut());
        let Some((left, problems)) = spool.map(Spool::adopt) else {
            return;
        };
        for problem in problems {
            self.note(position, &format!("error: {problem}"));
        }
        if let Some(Leftover { batches, .. }) = &left {
            self.note(position, &format!("found {} batches", batches.len()));
        }
        if let Some(left) = left {
            self.step(position, Input::SpoolFound(&left));
        }
    }

    fn tell_of_spool(&mut self, position: usize, life: EndpointId, outcome: &SpoolOutcome) {
        self.step(position, Input::Spool { life, outcome });
    }

    fn sync_spool_later(&mut self, position: usize) {
        let life = self.nodes[position].life.as_mut();
        let Some(disk) = life.map(|life| &mut life.spool) else {
            return;
        };
        let needs_sync = disk.spool.as_ref().is_some_and(Spool::needs_sync);
        if needs_sync && !std::mem::replace(&mut disk.is_syncing, true) {
            self.spool_work(position, SpoolWork::Sync);
        }
    }

    fn sync_spool(&mut self, position: usize) -> Vec<(EndpointId, SpoolOutcome)> {
        let Some(life) = self.nodes[position].life.as_mut() else {
            return Vec::new();
        };
        life.spool.is_syncing = false;
        let spool = life.spool.spool.as_mut();
        spool.map(Spool::sync).unwrap_or_default()
    }

    /// A node that has stopped leaves in its spool what is open.
    pub(super) fn close_spool(&mut self, position: usize) {
        if !self.has_spools {
            return;
        }
        self.drain(position, NodeLoop::has_spooled);
        let life = self.nodes[position].life.as_mut();
        let spool = life.and_then(|life| life.spool.spool.take());
        if let Some(problem) = spool.and_then(Spool::close) {
            self.note(position, &format!("error: {problem}"));
        }
    }
}
