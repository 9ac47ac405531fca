//! Peers of version 1: who they are, whose home we are, what goes to and comes from them.

use std::sync::Arc;

use super::Mesh;
use crate::EndpointId;
use crate::filter::Filter;
use crate::mesh::codec::MAX_GUESTS;
use crate::mesh::guests::{Others, announceable};
use crate::mesh::hold_down::Change;
use crate::mesh::record::{Guest, NodeRecord};
use crate::time::Mono;

impl Mesh {
    /// Notes a peer of version 1, or a change of its filter. Not for peers that may be in the mesh,
    /// or that want nothing relayed.
    pub fn guest_up(&mut self, guest: EndpointId, filter: Arc<Filter>, now: Mono) {
        self.guests.insert(guest, filter);
        self.hold_down.changed(Change::News, now);
    }

    /// Notes that a peer of version 1 is gone.
    pub fn guest_down(&mut self, guest: EndpointId, now: Mono) {
        if self.guests.remove(&guest).is_some() {
            self.hold_down.changed(Change::News, now);
        }
    }

    /// Notes that a peer of version 1 was seen to forward. It is remembered for that peer's life,
    /// even if it goes and comes back.
    pub fn guest_forwards(&mut self, guest: EndpointId, now: Mono) {
        if self.forwarders.len() >= MAX_GUESTS {
            let guests = &self.guests;
            self.forwarders.retain(|known| guests.contains_key(known));
        }
        if self.guests.contains_key(&guest) && self.forwarders.insert(guest) {
            self.hold_down.changed(Change::Loss, now);
        }
    }

    /// The peers of version 1 that our node record names, with the filters of those that we are the home
    /// of. One that is in the mesh as well needs none.
    pub(super) fn announced_guests(&self, me: &NodeRecord) -> Vec<Guest> {
        let is_outside = |id: &EndpointId| {
            let slot = self.database.slot(*id);
            slot.is_none_or(|slot| !self.database.reach().contains(slot))
        };
        let outside = self.guests.iter().filter(|(id, _)| is_outside(id));
        let named: Vec<_> = outside.take(MAX_GUESTS).collect();
        if named.is_empty() {
            return Vec::new();
        }
        let others = Others::new(&self.database, |id| self.guests.contains_key(&id));
        let here = named.iter().map(|(id, _)| others.are_worse(**id, me));
        let here: Vec<bool> = here.collect();
        let filters = named.iter().zip(&here).filter(|(_, is_home)| **is_home);
        let filters: Vec<&Filter> = filters.map(|((_, filter), _)| &***filter).collect();
        let filters = announceable(&filters);
        let mut filters = filters.into_iter();
        let guests = named.into_iter().zip(here).map(|((id, _), is_home)| Guest {
            id: *id,
            filter: if is_home { filters.next() } else { None },
            forwards: self.forwarders.contains(id),
        });
        guests.collect()
    }

    /// Whether we have become the home of one of our guests, or are none any more, since that was announced.
    pub(super) fn look_at_guests(&mut self, now: Mono) {
        let announced = self.database.node(self.database.me());
        let Some(me) = announced.filter(|me| !(self.guests.is_empty() && me.guests.is_empty()))
        else {
            return;
        };
        let me = Arc::clone(me);
        if self.announced_guests(&me) != me.guests {
            self.hold_down.changed(Change::Loss, now);
        }
    }
}
