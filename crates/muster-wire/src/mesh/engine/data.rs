//! Messages: published, delivered, relayed, dropped.

use bytes::Bytes;

use super::{Counts, Decision, Mesh, Sizes};
use crate::mesh::codec::Frame;
use crate::mesh::parcel::Parcel;
#[cfg(test)]
use crate::mesh::simulation::Sabotage;
use crate::mesh::window::Verdict;
use crate::message::{Class, Kind, MessageId};
use crate::{EndpointId, Topic};

impl Mesh {
    /// Publishes a message of data; says its identity and to how many neighbours it goes.
    pub fn publish(&mut self, class: Class, topic: Topic, payload: Bytes) -> (MessageId, usize) {
        let id = self.next_id(class);
        let parcel = Parcel {
            id,
            class,
            hops: self.config.hops,
            kind: Kind::Data,
            topic,
            payload,
            guest: None,
        };
        self.tell_guests(&parcel);
        (id, self.send_out(&parcel))
    }

    /// The identity of the next message that we publish.
    pub(super) fn next_id(&mut self, class: Class) -> MessageId {
        let sequence = &mut self.sequences[class as usize];
        *sequence += 1;
        MessageId {
            origin: self.identity.id,
            sequence: *sequence,
        }
    }

    /// Sends a message with an identity of ours into the mesh; to how many neighbours.
    pub(super) fn send_out(&mut self, parcel: &Parcel) -> usize {
        let next = self.next_hops(self.database.me(), &parcel.topic, parcel.guest);
        for to in &*next {
            self.pass_on(*to, parcel.clone());
        }
        next.len()
    }

    /// Whether the routes of this moment lead a message of any origin where the mesh itself sends it.
    #[cfg(test)]
    pub(in crate::mesh) fn routes_agree(&mut self, topic: &Topic) -> bool {
        let routes = self.routes();
        let wanted = routes.wanted(topic.as_bytes());
        let ids: Vec<EndpointId> = self.database.ids().collect();
        ids.into_iter().all(|id| {
            let Some(slot) = self.database.slot(id) else {
                return false;
            };
            let mut ours = self.next_hops(slot, topic, None).to_vec();
            let mut theirs = routes.next_hops(slot, &wanted, None);
            ours.sort_unstable();
            theirs.sort_unstable();
            let is_same_place = routes.slot(id) == Some(slot);
            is_same_place
                && ours == theirs
                && routes.reaches(slot) == self.database.reach().contains(slot)
        })
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        Counts {
            join_laggards: self.barrier.laggards,
            ..self.counts.clone()
        }
    }

    /// How much is remembered.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            endpoints: self.database.len(),
            slots: self.database.graph().slots(),
            windows: self.windows.len(),
            cached: self.forwarding.len(),
            floods: self.barrier.len(),
            pending: self.pending.len()
                + self.aside.len()
                + self.joiners.len()
                + self.offers.len()
                + self.unreachable.len(),
        }
    }

    /// A message came from a neighbour.
    pub(super) fn relay(&mut self, from: EndpointId, mut parcel: Parcel) {
        let origin = parcel.id.origin;
        if origin == self.identity.id {
            self.counts.returned += 1;
            return;
        }
        let Some(slot) = self.database.slot(origin) else {
            self.counts.unknown_origin += 1;
            return;
        };
        if !self.is_new(slot, &parcel) {
            return;
        }
        // What a guest of ours has published has come from itself, and nobody speaks for an endpoint.
        let is_heard = parcel.guest.is_some_and(|guest| {
            let is_direct = self.guests.contains_key(&guest);
            (is_direct && !self.routes().leaves_to_others(guest))
                || self.database.slot(guest).is_some()
        });
        #[cfg(test)]
        let is_heard = is_heard && !self.sabotage.forgets_peers();
        if self.filter.matches(parcel.topic.as_bytes()) && !is_heard {
            self.counts.delivered += 1;
            self.decisions.push_back(Decision::Deliver(parcel.clone()));
        }
        if !self.identity.transit {
            return;
        }
        self.pass_to_guests(slot, &parcel);
        let next = self.next_hops(slot, &parcel.topic, parcel.guest);
        #[cfg(test)]
        let next = if matches!(self.sabotage, Sabotage::Storm | Sabotage::Flooding) {
            self.neighbours.keys().copied().collect()
        } else {
            next
        };
        parcel.hops = parcel.hops.saturating_sub(1);
        for to in &*next {
            if *to == from || *to == origin {
                continue;
            }
            if parcel.hops == 0 {
                self.counts.hops_exhausted += 1;
                return;
            }
            self.pass_on(*to, parcel.clone());
        }
    }

    fn is_new(&mut self, slot: u32, parcel: &Parcel) -> bool {
        #[cfg(test)]
        if self.sabotage == Sabotage::Storm {
            return true;
        }
        match self.windows.check(slot, parcel.class, parcel.id.sequence) {
            Verdict::New => true,
            Verdict::Late => {
                self.counts.reordered += 1;
                true
            }
            Verdict::Duplicate => {
                self.counts.duplicate += 1;
                false
            }
            Verdict::TooOld => {
                self.counts.too_old += 1;
                false
            }
        }
    }

    fn pass_on(&mut self, to: EndpointId, parcel: Parcel) {
        self.counts.sent += 1;
        let frame = Frame::Batch {
            class: parcel.class,
            parcels: vec![parcel],
        };
        self.send(to, frame);
    }
}
