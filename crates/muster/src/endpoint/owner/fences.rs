//! Endpoints that are fenced.

use muster_wire::EndpointId;

use super::Owner;
use crate::endpoint::end_reason::LossReason;
use crate::endpoint::shared::count;

impl Owner {
    /// Ends the peering with an endpoint without waiting for anything, and leads nothing through it from now on.
    pub(super) fn fence(&mut self, id: EndpointId) {
        let now = self.shared.now();
        if id == self.shared.me {
            return;
        }
        let mesh = &mut self.mesh.mesh;
        if let Some(peer) = self.peers.get_mut(&id) {
            if peer.session.queue.ended().is_none() {
                count(&self.shared.mesh.fenced);
                let address = &peer.session.info.address;
                tracing::warn!("peer {id} at {address} is fenced: its link ends");
            }
            peer.session.queue.end(LossReason::Fenced.into());
            if !peer.leaving {
                peer.leaving = true;
                self.shared.former().leave(&peer.session);
                peer.leave(mesh, now);
            }
            // It may dial again before the connection's task is gone.
            self.peering.closed(peer.connection);
        }
        mesh.fence(id, now);
        self.publish_table();
    }
}
