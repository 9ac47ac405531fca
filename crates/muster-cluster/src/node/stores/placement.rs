//! Where the layout puts a store, as one of its nodes sees it.

use bytes::Bytes;
use muster_data::Record;
use muster_store::{CloneConfig, Placement, PrimaryConfig, StoreBudget, StoreName};
use muster_wire::Topic;

use crate::coordination::event;
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

    /// Returns what a store becomes on a node: the primary, if the layout puts it there, otherwise a clone that asks
    /// the primary's node to open it. Its entries count in the node's budget.
    pub fn placement(&self, node: &Node, budget: &StoreBudget) -> Placement {
        let settings = &node.settings;
        let limit = settings.size("stores.memory_limit");
        if self.is_at(node) {
            return Placement::Primary {
                config: PrimaryConfig {
                    limit,
                    budget: budget.clone(),
                    ..PrimaryConfig::default()
                },
                backend: match self.backend {
                    StoreBackend::Memory => None,
                    StoreBackend::Sqlite => Some("sqlite"),
                },
            };
        }
        Placement::Clone(CloneConfig {
            resync_interval: settings.duration("stores.resync_interval"),
            stale_interval: settings.duration("stores.stale_interval"),
            mutation_buffer_interval: settings.duration("stores.mutation_buffer_interval"),
            limit,
            budget: budget.clone(),
            ask_to_open: true,
            ..CloneConfig::default()
        })
    }

    /// Returns the topic on which the node of the primary is asked to open it.
    pub fn asks_at(&self, layout: &Layout) -> Topic {
        layout.topics().node(&self.master)
    }
}
