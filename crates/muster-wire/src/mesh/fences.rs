//! The endpoints that are fenced here, by their ids: they need not be known for that.

use std::collections::{BTreeSet, VecDeque};

use crate::EndpointId;

/// The endpoints that are fenced at one time. An id stands for one life, and most lives that are fenced never come
/// back: the oldest fences are given up.
const MOST: usize = 1024;

/// A bounded set of endpoints, which forgets those that were put in first.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    all: BTreeSet<EndpointId>,
    by_age: VecDeque<EndpointId>,
}

impl Fences {
    /// Puts an endpoint in, as the newest. Returns the one that it takes the place of, if there is no more room.
    pub(crate) fn add(&mut self, id: EndpointId) -> Option<EndpointId> {
        self.remove(id);
        let oldest = if self.all.len() >= MOST {
            self.by_age.pop_front()
        } else {
            None
        };
        if let Some(oldest) = oldest {
            self.all.remove(&oldest);
        }
        self.all.insert(id);
        self.by_age.push_back(id);
        oldest
    }

    /// Takes an endpoint out. Returns `true` if it was in.
    pub(crate) fn remove(&mut self, id: EndpointId) -> bool {
        let was_in = self.all.remove(&id);
        if was_in {
            self.by_age.retain(|other| *other != id);
        }
        was_in
    }

    pub(crate) fn contains(&self, id: EndpointId) -> bool {
        self.all.contains(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> EndpointId {
        let [high, low] = number.to_be_bytes();
        let mut bytes = [0; 16];
        (bytes[0], bytes[1]) = (high, low);
        EndpointId::from_random(bytes)
    }

    #[test]
    fn the_oldest_fences_make_room() {
        let mut fences = Fences::default();
        for number in 0..1024 {
            assert_eq!(fences.add(id(number)), None);
        }
        // Once more: it is the newest, and takes no more room.
        assert_eq!(fences.add(id(0)), None);
        assert_eq!(fences.add(id(2000)), Some(id(1)));
        assert!(fences.contains(id(0)) && !fences.contains(id(1)));
        assert!(fences.remove(id(2)) && !fences.remove(id(2)));
        assert_eq!(fences.add(id(2001)), None);
        assert_eq!(fences.add(id(2002)), Some(id(3)));
        assert_eq!(fences.len(), 1024);
    }
}
