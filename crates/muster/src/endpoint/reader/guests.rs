//! Peers of version 1 that have their home here: what they publish goes into the mesh, and what
//! others in the mesh publish goes to them.

use muster_wire::mesh::codec::MessageRef;
use muster_wire::mesh::{HOPS, addressed};
use muster_wire::{Class, Kind};
use tokio::io::AsyncRead;

use super::mesh::count;
use super::pending::{Lying, Relay, Way};
use super::{Reader, Table};

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Publishes a valid message of this reader's peer for it, if this endpoint is its home. It goes to no
    /// peer of version 1: who of them are peers of one another nobody can know.
    pub(super) fn relay_for_guest(
        &mut self,
        table: &Table,
        position: usize,
        start: usize,
        length: usize,
    ) {
        let guest = self.queue.info.id;
        let Some(routes) = table.mesh().filter(|routes| routes.is_home_of(guest)) else {
            return;
        };
        let hops = &mut self.mesh.hops;
        let hops = hops.find(table, &self.routes, routes.me(), position, Some(guest));
        let Some((topic, _)) = self.routes.get(position).filter(|_| !hops.is_empty()) else {
            return;
        };
        // Endpoints of the mesh speak to one another by such topics.
        if addressed(topic.as_bytes()).is_some() {
            return;
        }
        let config = &self.shared.config;
        let class = config.classes.class_of(topic.as_bytes(), Class::Event);
        let lying = Lying {
            topic,
            start,
            length,
            id: self.shared.next_id(class),
            hops: HOPS,
            kind: Kind::Data,
        };
        count(&self.shared.mesh.from_version_1);
        for hop in hops.iter() {
            let Some(peer) = table.peer(*hop) else {
                continue;
            };
            let limits = peer.handle.limits(class);
            let way = Way {
                peer: *hop,
                class,
                guest: Some(guest),
            };
            Relay::note(&mut self.relays, way, lying, limits);
        }
    }

    /// Hands a valid message of an origin, a slot of the mesh, to the peers of version 1 that have their
    /// home here and want it, unless they hear it from the origin itself.
    pub(super) fn pass_to_guests(
        &mut self,
        table: &Table,
        origin: u32,
        position: usize,
        message: &MessageRef<'_>,
        start: usize,
    ) {
        let (Some((topic, route)), Some(routes)) = (self.routes.get(position), table.mesh()) else {
            return;
        };
        // They have one queue for all classes.
        let class = Class::Event;
        let lying = Lying {
            topic,
            start,
            length: message.payload.len(),
            id: message.id,
            hops: message.hops,
            kind: message.kind,
        };
        for position in &route.guests {
            let Some(peer) = table.peer(*position) else {
                continue;
            };
            if routes.has_guest(origin, peer.id) {
                continue;
            }
            let limits = peer.handle.limits(class);
            count(&self.shared.mesh.to_version_1);
            let way = Way {
                peer: *position,
                class,
                guest: None,
            };
            Relay::note(&mut self.relays, way, lying, limits);
        }
    }
}
