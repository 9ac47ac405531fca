//! Fences: endpoints that others have decided to be out (protocol version 2, section 10.1).

use std::sync::Arc;
use std::time::Duration;

use super::Mesh;
use crate::EndpointId;
use crate::mesh::flood_trees::FloodTrees;
use crate::time::Mono;

/// How long an endpoint that was fenced is out of reach without a sign of life: until all who are linked with it have
/// surely been told, and have given up their links. It may have made new ones before it was fenced here, and says
/// nothing new then.
const MUTE: Duration = Duration::from_secs(3);

impl Mesh {
    /// Fences an endpoint: gives up the link with it, announces that at once, and leads nothing through it from now on,
    /// whoever else is still linked with it. It is down until it gives a sign of life; then it is a leaf, which is
    /// reached and heard, and may be linked with this endpoint again. Without one it is a leaf after three seconds, for those
    /// who say that they are linked with it. The shell ends the connection. Of 1,024 fences
    /// the oldest is given up for another one. This endpoint itself is never fenced.
    pub fn fence(&mut self, id: EndpointId, now: Mono) {
        if id == self.identity.id {
            return;
        }
        self.peer_down(id, now);
        #[cfg(feature = "simulation")]
        let is_obeyed = self.sabotage != crate::mesh::Sabotage::FencedRelays;
        #[cfg(not(feature = "simulation"))]
        let is_obeyed = true;
        if is_obeyed {
            if let Some(oldest) = self.watch(now, |mesh| mesh.database.fence(id)) {
                self.mute.end(oldest);
            }
            self.fence_before(id);
            self.mute.restart(id, now);
        }
        if self.identity.transit && self.announced.contains(&id) {
            // Not after the hold-down: should it be linked again in the meantime, others must know that it was not.
            self.flush(now);
        }
        self.look_around(now);
    }

    /// Ends the fence of an endpoint. Paths may lead through it again.
    pub fn unfence(&mut self, id: EndpointId, now: Mono) {
        self.mute.end(id);
        // Not everybody ends it now: the trees that stood before are used for a while, as when links are added.
        self.watch(now, |mesh| mesh.database.unfence(id));
    }

    /// Returns `true` if an endpoint is fenced.
    pub fn is_fenced(&self, id: EndpointId) -> bool {
        self.database.is_fenced(id)
    }

    pub(super) fn mute_until(&self) -> Option<Mono> {
        self.mute.due(MUTE)
    }

    /// Those that were fenced long enough ago are where others announce them.
    pub(super) fn hear_out_mute(&mut self, now: Mono) {
        let over = self.mute.for_so_long(MUTE, now);
        self.watch(now, |mesh| {
            for id in over {
                mesh.mute.end(id);
                mesh.database.hear_out(id);
            }
        });
    }

    /// The trees that stood before the last changes do not lead through a fenced endpoint either.
    fn fence_before(&mut self, id: EndpointId) {
        let Some(settled) = &mut self.settled else {
            return;
        };
        let slot = self.database.slot(id);
        let Some(slot) = slot.filter(|slot| settled.graph.id(*slot) == Some(id)) else {
            return;
        };
        Arc::make_mut(&mut settled.graph).fence(slot);
        self.settlements += 1;
        // By its version it may be taken for one that it is not.
        self.flood_trees = FloodTrees::default();
    }
}
