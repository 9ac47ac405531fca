//! What arrives for which a node has no use: it is counted by name, and the operator is told once, so
//! that nothing is eaten in silence.

use muster_wire::EndpointId;

use super::{NodeLoop, Severity};

/// Housekeeping of Zeek's cluster framework that asks nothing of a node.
const HOUSEKEEPING: [&str; 3] = [
    // Which tables have a data store on the manager: Muster's nodes have no tables.
    "Broker::announce_masters",
    // A node has peered with all others, told to the manager, which counts them.
    "Cluster::Experimental::node_fully_connected",
    // All nodes have.
    "Cluster::Experimental::cluster_started",
];

impl NodeLoop {
    /// An event came that no framework handles. Rows of the node's own inputs that nobody looks at are
    /// no loss.
    pub(super) fn unhandled(&mut self, from: EndpointId, event: &str) {
        if from == self.core.id || HOUSEKEEPING.contains(&event) {
            return;
        }
        let Some(name) = self.core.counts.events_unhandled.add(event) else {
            return;
        };
        let name = name.to_owned();
        let sender = self.sender(from);
        let kind = format!("unhandled {name}");
        self.core.report(Severity::Warning, &kind, || {
            format!("no framework handles event {name} of {sender}; from now on it is only counted")
        });
    }

    /// Zeek's `Broker::publish_id` and its control framework give a variable of a script a new value.
    /// Nodes have no scripts: that is no fault of the message, and nothing that they could do.
    pub(super) fn identifier_update(&mut self, from: EndpointId, identifier: &str) {
        let Some(name) = self.core.counts.identifier_updates.add(identifier) else {
            return;
        };
        let name = name.to_owned();
        let sender = self.sender(from);
        let kind = format!("identifier_update {name}");
        self.core.report(Severity::Warning, &kind, || {
            format!(
                "left out a new value for variable {name} of {sender}: nodes have no variables; from \
                 now on it is only counted"
            )
        });
    }
}
