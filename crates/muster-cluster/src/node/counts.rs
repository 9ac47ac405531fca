//! What a node counts.

use std::collections::BTreeMap;

use muster_wire::counters::Counter;

/// The counts of one life of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Events received from peers.
    pub events_in: u64,
    /// Events raised on the node itself: rows of its inputs, and what it addressed to itself.
    pub events_local: u64,
    /// Events published to others.
    pub events_out: u64,
    /// Events that were no events, or whose arguments were not as declared.
    pub events_refused: u64,
    /// Events addressed to the node itself that were dropped, as too many waited.
    pub local_dropped: u64,
    /// Handlers and hooks that panicked.
    pub panics: u64,
    /// Log records written on this node.
    pub records_logged: u64,
    /// Log records of this node that were dropped, as no logger was alive for too long.
    pub records_dropped: u64,
    /// Log records handed on to a logger, perhaps this node.
    pub records_sent: u64,
    /// Log records that arrived at this node, a logger.
    pub records_received: u64,
    /// Log records that this node, a logger, wrote.
    pub records_written: u64,
    /// What frameworks count, by framework and name.
    pub frameworks: BTreeMap<(&'static str, &'static str), u64>,
}

impl NodeCounts {
    /// All counts as named counters.
    pub fn counters(&self) -> Vec<Counter> {
        let own = [
            ("events_in", self.events_in),
            ("events_local", self.events_local),
            ("events_out", self.events_out),
            ("events_refused", self.events_refused),
            ("local_dropped", self.local_dropped),
            ("panics", self.panics),
            ("records_logged", self.records_logged),
            ("records_dropped", self.records_dropped),
            ("records_sent", self.records_sent),
            ("records_received", self.records_received),
            ("records_written", self.records_written),
        ];
        let own = own.into_iter().map(|(name, value)| Counter {
            name,
            labels: Vec::new(),
            value,
        });
        let frameworks = self
            .frameworks
            .iter()
            .map(|((framework, name), value)| Counter {
                name,
                labels: vec![("framework", (*framework).to_owned())],
                value: *value,
            });
        own.chain(frameworks).collect()
    }

    /// A framework's count, summed over frameworks.
    pub fn of_frameworks(&self, name: &str) -> u64 {
        self.frameworks
            .iter()
            .filter(|((_, known), _)| *known == name)
            .map(|(_, value)| value)
            .sum()
    }
}
