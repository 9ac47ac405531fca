//! What a subscriber that asks for order has heard last of each origin.

use std::collections::{HashMap, VecDeque};

use muster_wire::{Class, EndpointId, MessageId};

/// The most origins that are remembered; of others the oldest is forgotten. As many as a mesh may have.
const ORIGINS: usize = 4096;

/// The place of a message among those of its origin and class.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) id: MessageId,
    pub(crate) class: Class,
}

/// The last sequence of each origin, by class.
#[derive(Debug, Default)]
pub(crate) struct InOrder {
    last: HashMap<EndpointId, [u64; 4]>,
    /// In the order in which they were first heard.
    origins: VecDeque<EndpointId>,
}

impl InOrder {
    /// Whether a message comes behind none that is later; then it is the last.
    pub(crate) fn follows(&mut self, place: Place) -> bool {
        let MessageId { origin, sequence } = place.id;
        if !self.last.contains_key(&origin) {
            if self.origins.len() >= ORIGINS
                && let Some(oldest) = self.origins.pop_front()
            {
                self.last.remove(&oldest);
            }
            self.origins.push_back(origin);
        }
        let last = &mut self.last.entry(origin).or_default()[place.class as usize];
        let follows = sequence > *last;
        *last = sequence.max(*last);
        follows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_a_later_one_of_its_origin_and_class_does_not_follow() {
        let mut order = InOrder::default();
        let mut follows = |origin: u16, class, sequence| {
            let mut bytes = [7; 16];
            bytes[..2].copy_from_slice(&origin.to_be_bytes());
            let origin = EndpointId::from_random(bytes);
            let id = MessageId { origin, sequence };
            order.follows(Place { id, class })
        };
        assert!(follows(1, Class::Event, 1) && follows(1, Class::Event, 5));
        assert!(!follows(1, Class::Event, 4) && !follows(1, Class::Event, 5));
        assert!(follows(1, Class::Bulk, 2) && follows(2, Class::Event, 4));
        for origin in 3..5000 {
            assert!(follows(origin, Class::Event, 9));
        }
        // Forgotten, and remembered.
        assert!(follows(1, Class::Event, 4) && !follows(4999, Class::Event, 9));
        assert_eq!((order.last.len(), order.origins.len()), (ORIGINS, ORIGINS));
    }
}
