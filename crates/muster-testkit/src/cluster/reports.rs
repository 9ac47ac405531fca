//! What came of it: what tests look at.

use std::time::Duration;

use bytes::Bytes;
use muster_cluster::node::{NodeCounts, NodeLoop};
use muster_cluster::{Key, Layout, PoolName};
use muster_data::{Data, DecodeOwned, from_data};

use super::Cluster;

impl Cluster {
    /// Returns the records of a stream that loggers have written, in order.
    pub fn log(&self, stream: &str) -> Vec<Data> {
        let records = self.logged.get(stream).into_iter().flatten();
        records.map(|(_, record)| record.clone()).collect()
    }

    /// Returns the records of a stream that loggers have written, in order, as values of a Rust
    /// type.
    pub fn log_of<R: DecodeOwned>(&self, stream: &str) -> Vec<R> {
        let records = self.logged.get(stream).into_iter().flatten();
        records
            .map(|(_, record)| {
                from_data(record).unwrap_or_else(|error| panic!("stream {stream}: {error}"))
            })
            .collect()
    }

    /// Returns the records of a stream that one logger has written, in order.
    pub fn log_on(&self, node: &str, stream: &str) -> Vec<Data> {
        let position = self.position(node);
        let records = self.logged.get(stream).into_iter().flatten();
        records
            .filter(|(writer, _)| *writer == position)
            .map(|(_, record)| record.clone())
            .collect()
    }

    /// Returns a node that is alive and not a Zeek process.
    pub fn node(&self, node: &str) -> &NodeLoop {
        let position = self.position(node);
        let life = self.nodes[position].life.as_ref();
        let life = life.unwrap_or_else(|| panic!("node `{node}` is dead"));
        let muster = life.process.muster();
        muster.unwrap_or_else(|| panic!("node `{node}` is a Zeek process"))
    }

    /// Takes what a node that is a Zeek process has heard in its present life, as encoded values.
    pub fn heard(&mut self, node: &str) -> Vec<Bytes> {
        let position = self.position(node);
        let life = self.nodes[position].life.as_mut();
        let zeek = life.and_then(|life| life.process.zeek());
        let zeek =
            zeek.unwrap_or_else(|| panic!("node `{node}` is dead, or is not a Zeek process"));
        zeek.heard().to_vec()
    }

    /// Returns `true` if a node is alive.
    pub fn is_alive(&self, node: &str) -> bool {
        self.nodes[self.position(node)].life.is_some()
    }

    /// Returns the node that owns a key of a pool, as the manager sees it.
    pub fn owner(&self, pool: &PoolName, key: impl Into<Key>) -> String {
        let manager = self.layout.manager().expect("every layout has a manager");
        let pools = self.node(manager.name.as_str()).pools();
        let owner = pools.owner(pool, &key.into());
        owner
            .unwrap_or_else(|| panic!("nobody is alive in pool `{pool}`"))
            .to_string()
    }

    /// Returns a count of frameworks, summed over all nodes and all their lives.
    pub fn count(&self, name: &str) -> u64 {
        self.total(|counts| counts.of_frameworks(name))
    }

    /// Returns a count of nodes, summed over all nodes and all their lives.
    pub fn total(&self, count: impl Fn(&NodeCounts) -> u64) -> u64 {
        let living = self
            .nodes
            .iter()
            .filter_map(|node| node.life.as_ref())
            .filter_map(|life| life.process.muster())
            .map(NodeLoop::counts);
        let former = self.nodes.iter().flat_map(|node| &node.former);
        living.chain(former).map(count).sum()
    }

    /// Returns the number of messages that were lost because a node was killed, on links to it or
    /// from it. A message counts once for each link.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns the simulated time since the beginning.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// Returns the cluster's layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns what has happened, for snapshots. Each line has the time in seconds, the node, and
    /// the event.
    pub fn transcript(&self) -> String {
        self.transcript.join("\n")
    }
}
