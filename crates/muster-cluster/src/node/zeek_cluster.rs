//! What a Zeek manager wants to know about the nodes of its cluster.

use muster_data::Record;
use muster_wire::Class;
use muster_wire::zeek::Metadata;

use super::NodeLoop;
use crate::layout::{NodeName, Role};

/// A node has peered with all that it dials. A Zeek manager counts these, if it has loaded
/// `frameworks/cluster/experimental`, and tells the cluster that it has started when it has heard of
/// every node; without the word of one it never would.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Cluster::Experimental::node_fully_connected")]
struct FullyConnected {
    name: String,
    id: String,
    /// Whether the sender has heard that the cluster has started; ours do not listen for it.
    resending: bool,
}

impl NodeLoop {
    /// A node is up: perhaps the last one that a Zeek manager waits for us to peer with, or the manager
    /// in a new life.
    pub(super) fn tell_zeek_manager(&mut self, up: &NodeName) {
        let managers = self.core.layout.with_role(Role::Manager);
        let mut managers = managers.map(|manager| manager.name.clone());
        let Some(manager) = managers.find(|manager| self.core.is_zeek(manager)) else {
            return;
        };
        drop(managers);
        let dials = self.core.layout.neighbours(&self.core.node.name).dials;
        let concerns_us = *up == manager || dials.contains(up);
        if !concerns_us || !dials.iter().all(|name| self.core.is_alive(name)) {
            return;
        }
        let event = FullyConnected {
            name: self.core.node.name.to_string(),
            id: self.core.id.to_string(),
            resending: false,
        };
        let topic = self.core.layout.topics().manager();
        let metadata = Metadata::default();
        self.core.send(
            &topic,
            Class::Control,
            FullyConnected::NAME,
            metadata,
            |out| muster_data::Encode::encode(&event, out),
        );
    }
}
