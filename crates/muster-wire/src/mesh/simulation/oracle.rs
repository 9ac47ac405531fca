//! What should happen, computed from the true graph in the plainest way.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::EndpointId;
use crate::mesh::score::{key, score};

/// The true graph: who is alive, who relays, which connections stand.
#[derive(Debug, Clone, Default)]
pub(super) struct Truth {
    pub(super) transit: BTreeMap<EndpointId, bool>,
    pub(super) links: BTreeMap<EndpointId, BTreeSet<EndpointId>>,
}

impl Truth {
    fn neighbours(&self, id: EndpointId) -> impl Iterator<Item = EndpointId> {
        let is_transit = self.transit[&id];
        self.links
            .get(&id)
            .into_iter()
            .flatten()
            .copied()
            .filter(move |other| is_transit || self.transit[other])
    }

    /// The distances of all that can be reached from an endpoint, in links.
    pub(super) fn distances(&self, from: EndpointId) -> BTreeMap<EndpointId, u32> {
        let mut distances = BTreeMap::from([(from, 0)]);
        let mut queue = VecDeque::from([from]);
        while let Some(id) = queue.pop_front() {
            if id != from && !self.transit[&id] {
                continue;
            }
            let distance = distances[&id] + 1;
            for neighbour in self.neighbours(id) {
                if let Entry::Vacant(entry) = distances.entry(neighbour) {
                    entry.insert(distance);
                    queue.push_back(neighbour);
                }
            }
        }
        distances
    }

    /// The transmissions that a message needs: the edges of the origin's tree on the way to a receiver.
    pub(super) fn needed(&self, origin: EndpointId, receivers: &BTreeSet<EndpointId>) -> usize {
        let distances = self.distances(origin);
        let parent = |child: EndpointId| {
            let nearer = self.neighbours(child).filter(|parent| {
                distances
                    .get(parent)
                    .is_some_and(|d| d + 1 == distances[&child])
            });
            let may_relay = nearer.filter(|parent| *parent == origin || self.transit[parent]);
            may_relay.max_by_key(|parent| (score(key(origin), key(child), key(*parent)), *parent))
        };
        let mut edges = BTreeSet::new();
        for receiver in receivers {
            let mut at = *receiver;
            while at != origin && edges.insert(at) {
                at = parent(at).expect("reached over a nearer one");
            }
        }
        edges.len()
    }
}
