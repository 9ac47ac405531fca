//! Where the layout puts a store, as one of its nodes sees it.

use bytes::Bytes;
use muster_data::Record;
use muster_store::{CloneConfig, Placement, PrimaryConfig, StoreBudget, StoreName};
use muster_wire::Topic;

use crate::coordination::{StoreGroup, StoreWanted, event};
use crate::layout::{Layout, Node, StoreBackend, StorePlan};

/// The event by which a node asks the node that should have a store's primary to open it.
#[derive(Record, Debug, Clone, PartialEq)]
#[record(name = "Muster::open_store")]
pub struct OpenStore {
    /// The store.
    pub store: String,
    /// Whether its author asks for persistence.
    pub persistent: bool,
}

impl OpenStore {
    /// Returns the event, encoded.
    pub fn event(store: &StoreName, persistent: bool) -> Bytes {
        let asked = Self {
            store: store.to_string(),
            persistent,
        };
        Bytes::from(event(&asked))
    }
}

impl StorePlan {
    /// Returns `true` if the layout puts the primary on this node.
    pub fn is_at(&self, node: &Node) -> bool {
        self.master == node.name
    }

    /// Returns what a store becomes on a node by the layout: the primary, if the layout puts it there, otherwise a clone that asks
    /// the primary's node to open it. Its entries count in the node's budget.
    pub fn placement(&self, node: &Node, budget: &StoreBudget) -> Placement {
        if self.is_at(node) {
            return Placement::Primary {
                config: primary_config(node, budget),
                backend: match self.backend {
                    StoreBackend::Memory => None,
                    StoreBackend::Sqlite => Some("sqlite"),
                },
            };
        }
        Placement::Clone(CloneConfig {
            ask_to_open: true,
            ..clone_config(node, budget)
        })
    }

    /// Returns what a node says to coordinators that opens this store.
    pub fn wanted(&self, store: &StoreName) -> StoreWanted {
        StoreWanted {
            store: store.to_string(),
            persistent: self.backend == StoreBackend::Sqlite,
            copies: self.copies,
            min_copies: self.min_copies,
            candidates: self.candidates.clone(),
        }
    }

    /// Returns the topic on which the node of the primary is asked to open it.
    pub fn asks_at(&self, layout: &Layout) -> Topic {
        layout.topics().node(&self.master)
    }
}

/// Returns what a store begins as on a node where coordinators decide who keeps it: a clone, which becomes a copy when they say so.
pub fn placement_by_coordinators(node: &Node, budget: &StoreBudget) -> Placement {
    Placement::Clone(clone_config(node, budget))
}

/// Returns how a node keeps the primary or a copy of a store. Its entries count in the node's budget.
pub fn primary_config(node: &Node, budget: &StoreBudget) -> PrimaryConfig {
    PrimaryConfig {
        limit: node.settings.size("stores.memory_limit"),
        budget: budget.clone(),
        ..PrimaryConfig::default()
    }
}

/// Returns how a node keeps a copy of a store by a decision of the coordinators.
pub fn copy_config(node: &Node, budget: &StoreBudget, group: &StoreGroup) -> PrimaryConfig {
    PrimaryConfig {
        // Who wants one copy only has what one copy has.
        alone_durable: group.copies > 1,
        ..primary_config(node, budget)
    }
}

fn clone_config(node: &Node, budget: &StoreBudget) -> CloneConfig {
    let settings = &node.settings;
    CloneConfig {
        resync_interval: settings.duration("stores.resync_interval"),
        stale_interval: settings.duration("stores.stale_interval"),
        mutation_buffer_interval: settings.duration("stores.mutation_buffer_interval"),
        limit: settings.size("stores.memory_limit"),
        budget: budget.clone(),
        ..CloneConfig::default()
    }
}
