//! The topics of a store's messages.

use muster_store::StoreName;
use muster_wire::Topic;

/// A store's topics, made once.
#[derive(Debug)]
pub(super) struct StoreTopics {
    /// What clones listen to.
    pub(super) clone: Topic,
    /// What the primary listens to.
    pub(super) primary: Topic,
    /// What clones of Broker's protocol listen to.
    pub(super) broker_clone: Topic,
    /// What a master of Broker's protocol listens to.
    pub(super) broker_master: Topic,
}

impl StoreTopics {
    pub(super) fn new(name: &StoreName) -> Self {
        Self {
            clone: name.clone_topic(),
            primary: name.primary_topic(),
            broker_clone: name.broker_clone_topic(),
            broker_master: name.broker_master_topic(),
        }
    }
}
