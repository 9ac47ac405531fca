//! Stores in the hands of a test, as a program has them that a node is part of.

use std::time::Duration;

use muster_store::op::Op;
use muster_store::{Entries, Level, StoreName, StoreReport, WriteOutcome};

use super::Open;
use crate::cluster::Cluster;

/// The first token of a test's own writes: frameworks count from 1.
pub(super) const OF_TEST: u64 = 1 << 62;

/// A write that a test has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Write(u64);

fn named(store: &str) -> StoreName {
    StoreName::new(store).unwrap_or_else(|error| panic!("{error}"))
}

impl Cluster {
    /// Opens a store on a node that is alive, if it is not open there. What is written to it at once is applied when it is open.
    pub fn use_store(&mut self, node: &str, store: &str, persistent: bool) {
        let position = self.position(node);
        self.open_store(position, &named(store), persistent, true, false);
    }

    /// Writes to a store that is open on a node. What becomes of it is [`outcome`](Self::outcome), within `within` by the node's clock.
    pub fn write_to_store(
        &mut self,
        node: &str,
        store: &str,
        op: Op,
        level: Level,
        within: Duration,
    ) -> Write {
        let position = self.position(node);
        let token = OF_TEST + self.outcomes.len() as u64;
        self.outcomes.insert(token, None);
        self.write_store(position, &named(store), op, level, Some(within), token);
        Write(token)
    }

    /// Returns what became of a write, once its node knows. A node that is killed never does.
    pub fn outcome(&self, write: Write) -> Option<&WriteOutcome> {
        self.outcomes.get(&write.0)?.as_ref()
    }

    /// Looks at what can be read of a store on a node, if anything can.
    pub fn look_at_store<R>(
        &self,
        node: &str,
        store: &str,
        look: impl FnOnce(&Entries) -> R,
    ) -> Option<R> {
        let look = |open: &mut Open, _| open.instance.entries().map(look);
        self.with_open(self.position(node), &named(store), look)
            .flatten()
    }

    /// Returns what a store on a node reports of itself, if it is open there.
    pub fn store_report(&self, node: &str, store: &str) -> Option<StoreReport> {
        let report = |open: &mut Open, now: muster_store::Now| open.instance.report(now.mono);
        self.with_open(self.position(node), &named(store), report)
            .flatten()
    }
}
