//! What arrives although the node has no use for it, and what it sends to a Zeek process that has none. It is counted
//! by name and reported to the operator once, so that nothing is lost silently.

use muster_wire::{EndpointId, Topic};

use super::node_core::NodeCore;
use super::{NodeLife, NodeLoop, Severity};
use crate::layout::Role;

/// Housekeeping of Zeek's cluster framework that asks nothing of a node.
const HOUSEKEEPING: [&str; 3] = [
    // Which tables have a data store on the manager: Muster's nodes have no tables.
    "Broker::announce_masters",
    // A node has peered with all others, told to the manager, which counts them.
    "Cluster::Experimental::node_fully_connected",
    // All nodes have.
    "Cluster::Experimental::cluster_started",
];

/// How the names of our own events begin, which no script of Zeek's handles.
const OURS: &str = "Muster::";

impl NodeCore {
    /// A node is up or down: what is published to it may go to a Zeek process from now on, or not.
    pub(super) fn is_now_zeek(&mut self, node: &NodeLife, is_zeek: bool) {
        let topics = self.layout.topics();
        let known = self.layout.node(&node.name);
        let is_manager = known.is_some_and(|known| known.role == Role::Manager);
        let manager = is_manager.then(|| topics.manager());
        for topic in [topics.node(&node.name)].into_iter().chain(manager) {
            if is_zeek {
                self.members.zeek_topics.insert(topic, node.name.clone());
            } else {
                self.members.zeek_topics.remove(&topic);
            }
        }
    }

    /// An event is published to a topic: if it is one of ours and the topic reaches a Zeek process,
    /// nothing will come of it.
    pub(super) fn notice_lost_on_zeek(&mut self, topic: &Topic, event: &str) {
        if self.members.zeek_topics.is_empty() || !event.starts_with(OURS) {
            return;
        }
        let Some(node) = self.members.zeek_topics.get(topic).cloned() else {
            return;
        };
        if self.counts.events_lost_on_zeek.add(event).is_some() {
            let kind = format!("lost on Zeek {event}");
            self.report(Severity::Warning, &kind, || {
                format!(
                    "event {event} goes to {node}, a Zeek process, which does not know it; from now \
                     on it is only counted"
                )
            });
        }
    }
}

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
                "ignored a new value for variable {name} of {sender}: nodes have no variables; from \
                 now on it is only counted"
            )
        });
    }
}
