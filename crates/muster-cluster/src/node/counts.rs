//! What a node counts.

use std::collections::BTreeMap;

use muster_wire::counters::Counter;

use super::by_name::ByName;

/// The counts of one life of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Messages received from peers: events, and what Zeek's nodes send of their logs.
    pub events_in: u64,
    /// Events raised on the node itself: rows of its inputs, and what it addressed to itself.
    pub events_local: u64,
    /// Events published to others.
    pub events_out: u64,
    /// Messages that were none, and events whose arguments were not as declared.
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
    /// Log records that this node, a logger, could not write.
    pub records_failed: u64,
    /// Log records of Zeek's nodes that were refused: nothing had told of their columns, they did not
    /// fit them, their log has no name that a file can have, or this node is no logger.
    pub records_refused: u64,
    /// Descriptions of logs (`log_create`) of Zeek's nodes that were refused: no name that a file can
    /// have, columns that no log can have, or this node is no logger.
    pub logs_refused: u64,
    /// Descriptions of logs that were forgotten, as too many came after them.
    pub logs_forgotten: u64,
    /// Events of other nodes that no framework of this one handles, by the event's name. Housekeeping
    /// of Zeek's cluster framework that needs no answer is not among them.
    pub events_unhandled: ByName,
    /// Events of ours that went to a node which is a Zeek process and does not know them, by the event's
    /// name.
    pub events_lost_on_zeek: ByName,
    /// New values for variables of Zeek's scripts (`identifier_update`), by the variable's name; nodes
    /// have no such variables.
    pub identifier_updates: ByName,
    /// Writes to stores that failed, or were not asked for as too many waited.
    pub store_writes_failed: u64,
    /// What frameworks count, by framework and name.
    pub frameworks: BTreeMap<(&'static str, &'static str), u64>,
}

impl NodeCounts {
    /// All counts as named counters: those of the node without a label, those of frameworks with the
    /// label `framework`, and what was counted by names with the labels `event` and `identifier`.
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
            ("records_failed", self.records_failed),
            ("records_refused", self.records_refused),
            ("logs_refused", self.logs_refused),
            ("logs_forgotten", self.logs_forgotten),
            ("events_unhandled", self.events_unhandled.total()),
            ("events_lost_on_zeek", self.events_lost_on_zeek.total()),
            ("store_writes_failed", self.store_writes_failed),
            ("identifier_updates", self.identifier_updates.total()),
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
        let unhandled = by_name("events_unhandled", "event", &self.events_unhandled);
        let lost = by_name("events_lost_on_zeek", "event", &self.events_lost_on_zeek);
        let updates = by_name("identifier_updates", "identifier", &self.identifier_updates);
        own.chain(frameworks)
            .chain(unhandled)
            .chain(lost)
            .chain(updates)
            .collect()
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

fn by_name(
    name: &'static str,
    label: &'static str,
    counts: &ByName,
) -> impl Iterator<Item = Counter> {
    counts.iter().map(move |(what, value)| Counter {
        name,
        labels: vec![(label, what.to_owned())],
        value,
    })
}
