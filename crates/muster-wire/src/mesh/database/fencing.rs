//! Endpoints that are fenced: the graph leads nothing through them.

use super::Database;
use crate::EndpointId;

impl Database {
    /// Fences an endpoint, known or not: from now on nothing is led through it, and it is out of reach until it gives a
    /// sign of life. That is a record of its own that is newer than the one held, or a link with it that was not
    /// announced before. Returns the endpoint whose fence has been given up for it, if there were too many.
    pub fn fence(&mut self, id: EndpointId) -> Option<EndpointId> {
        let oldest = self.fences.add(id);
        if let Some(oldest) = oldest {
            self.lift(oldest);
        }
        if let Some(slot) = self.slot(id) {
            self.graph_mut().fence(slot);
        }
        oldest
    }

    /// Ends the fence of an endpoint. Returns `true` if there was one.
    pub fn unfence(&mut self, id: EndpointId) -> bool {
        let was_fenced = self.fences.remove(id);
        if was_fenced {
            self.lift(id);
        }
        was_fenced
    }

    /// Returns `true` if an endpoint is fenced.
    pub fn is_fenced(&self, id: EndpointId) -> bool {
        self.fences.contains(id)
    }

    /// Returns the number of endpoints that are fenced, known or not.
    pub fn fenced(&self) -> usize {
        self.fences.len()
    }

    /// Takes a fenced endpoint for alive: it is in reach if it is linked with anybody.
    pub(crate) fn hear_out(&mut self, id: EndpointId) {
        if let Some(slot) = self.slot(id) {
            self.gives_sign_of_life(slot);
        }
    }

    fn lift(&mut self, id: EndpointId) {
        if let Some(slot) = self.slot(id) {
            let graph = self.graph_mut();
            graph.set_alive(slot);
            graph.set_leaf(slot, false);
        }
    }

    /// A record has come that an endpoint has made since the last one that was held.
    pub(super) fn gives_sign_of_life(&mut self, slot: u32) {
        if self.graph.is_mute(slot) {
            self.graph_mut().set_alive(slot);
        }
    }
}
