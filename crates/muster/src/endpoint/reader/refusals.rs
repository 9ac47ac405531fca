//! What a reader does not take.

use std::sync::Arc;

use muster_wire::Topic;
use muster_wire::counters::DropCause;

use crate::endpoint::peer_queue::PeerQueue;

/// Counts the messages of a peer that are not taken, and tells of the first.
#[derive(Debug)]
pub(super) struct Refusals {
    queue: Arc<PeerQueue>,
    has_warned: bool,
}

impl Refusals {
    pub(super) fn new(queue: Arc<PeerQueue>) -> Self {
        Self {
            queue,
            has_warned: false,
        }
    }

    /// Counts a message on some topic, which need not be one.
    pub(super) fn refuse(&mut self, cause: DropCause, what: &str, topic: &[u8]) {
        let label = Topic::new(topic).map(|topic| topic.normalized());
        self.queue.count_refused(cause, &label.unwrap_or_default());
        if !self.has_warned {
            self.has_warned = true;
            let peer = &self.queue.info;
            tracing::warn!(peer = %peer.id, address = %peer.address, "refused a message: {what}; further ones are only counted");
        }
    }
}
