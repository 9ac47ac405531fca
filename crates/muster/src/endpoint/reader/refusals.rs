//! What a reader does not take.

use std::sync::Arc;

use muster_wire::Topic;
use muster_wire::counters::DropCause;
use muster_wire::mesh::data::Dropped;

use crate::endpoint::peer_session::PeerSession;
use crate::endpoint::shared::{MeshCounts, count};

/// Counts the messages of a peer that are not taken, and tells of the first.
#[derive(Debug)]
pub(super) struct Refusals {
    session: Arc<PeerSession>,
    has_warned: bool,
}

impl Refusals {
    pub(super) fn new(session: Arc<PeerSession>) -> Self {
        Self {
            session,
            has_warned: false,
        }
    }

    /// Counts a message that goes no further.
    pub(super) fn dropped(&mut self, counts: &MeshCounts, dropped: Dropped, topic: &[u8]) {
        match counts.dropped(dropped) {
            Some(counter) => count(counter),
            None => self.refuse(DropCause::Malformed, "a topic that is not allowed", topic),
        }
    }

    /// Counts a message on some topic, which need not be one.
    pub(super) fn refuse(&mut self, cause: DropCause, what: &str, topic: &[u8]) {
        let label = Topic::new(topic).map(|topic| topic.normalized());
        self.session
            .count_refused(cause, &label.unwrap_or_default());
        if !self.has_warned {
            self.has_warned = true;
            let peer = &self.session.info;
            tracing::warn!(peer = %peer.id, address = %peer.address, "refused a message: {what}; further ones are only counted");
        }
    }
}
