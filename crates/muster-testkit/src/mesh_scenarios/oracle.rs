//! What should happen, computed from the true graph in the plainest way.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use muster_wire::EndpointId;
use muster_wire::mesh::{key, score};

/// The true graph: who is alive, who relays, which connections stand.
#[derive(Debug, Clone, Default)]
pub(super) struct Truth {
    numbers: HashMap<EndpointId, usize>,
    nodes: Vec<(EndpointId, bool)>,
    links: Vec<BTreeSet<usize>>,
    /// Those through whom nothing leads, although they relay.
    fenced: BTreeSet<usize>,
    /// What was asked before, by the endpoint asked of.
    reach: RefCell<BTreeMap<Vec<usize>, Rc<BTreeSet<EndpointId>>>>,
    parts: RefCell<Vec<usize>>,
}

impl Truth {
    /// Endpoints, each with whether it relays, and no links yet.
    pub(super) fn new(nodes: impl IntoIterator<Item = (EndpointId, bool)>) -> Self {
        let nodes: Vec<(EndpointId, bool)> = nodes.into_iter().collect();
        let numbers = nodes.iter().enumerate();
        Self {
            numbers: numbers.map(|(number, (id, _))| (*id, number)).collect(),
            links: vec![BTreeSet::new(); nodes.len()],
            nodes,
            ..Self::default()
        }
    }

    pub(super) fn link(&mut self, a: EndpointId, b: EndpointId) {
        let (a, b) = (self.numbers[&a], self.numbers[&b]);
        // Two that do not relay exchange nothing.
        if self.nodes[a].1 || self.nodes[b].1 {
            self.links[a].insert(b);
            self.links[b].insert(a);
        }
    }

    /// All others have fenced an endpoint.
    pub(super) fn fence(&mut self, id: EndpointId) {
        self.fenced.insert(self.numbers[&id]);
    }

    pub(super) fn contains(&self, id: EndpointId) -> bool {
        self.numbers.contains_key(&id)
    }

    /// The distances of all from an endpoint, in links; `None` for those that cannot be reached.
    fn distances(&self, from: usize) -> Vec<Option<u32>> {
        let mut distances = vec![None; self.nodes.len()];
        distances[from] = Some(0);
        let mut queue = VecDeque::from([(from, 0)]);
        while let Some((node, distance)) = queue.pop_front() {
            if node != from && (!self.nodes[node].1 || self.fenced.contains(&node)) {
                continue;
            }
            for neighbour in &self.links[node] {
                if distances[*neighbour].is_none() {
                    distances[*neighbour] = Some(distance + 1);
                    queue.push_back((*neighbour, distance + 1));
                }
            }
        }
        distances
    }

    /// All that can be reached from an endpoint, itself included. Those that relay are in parts, of which
    /// all see the same; one that does not sees what the parts see that it is linked with.
    pub(super) fn reach(&self, from: EndpointId) -> Rc<BTreeSet<EndpointId>> {
        let from = self.numbers[&from];
        if !self.fenced.is_empty() {
            return self.reach_around_fences(from);
        }
        if self.parts.borrow().is_empty() {
            *self.parts.borrow_mut() = self.find_parts();
        }
        let parts = self.parts.borrow();
        let seen = if self.nodes[from].1 {
            vec![parts[from]]
        } else {
            let parts: BTreeSet<usize> = self.links[from].iter().map(|hub| parts[*hub]).collect();
            // One that sees nobody is a part of its own.
            let alone = parts.is_empty().then_some(self.nodes.len() + from);
            parts.into_iter().chain(alone).collect()
        };
        let mut known = self.reach.borrow_mut();
        let reach = known.entry(seen).or_insert_with(|| {
            let distances = self.distances(from).into_iter().zip(&self.nodes);
            let reached = distances.filter(|(distance, _)| distance.is_some());
            Rc::new(reached.map(|(_, (id, _))| *id).collect())
        });
        reach.clone()
    }

    /// All that can be reached from an endpoint where some are fenced, which see others than those around them do.
    fn reach_around_fences(&self, from: usize) -> Rc<BTreeSet<EndpointId>> {
        let distances = self.distances(from).into_iter().zip(&self.nodes);
        let reached = distances.filter(|(distance, _)| distance.is_some());
        let reached: BTreeSet<EndpointId> = reached.map(|(_, (id, _))| *id).collect();
        let mut known = self.reach.borrow_mut();
        let same = known.values().find(|known| ***known == reached).cloned();
        let reach = same.unwrap_or_else(|| Rc::new(reached));
        known.insert(vec![from], Rc::clone(&reach));
        reach
    }

    /// Returns `true` if an endpoint sees one part. In the trees of one that does not relay and
    /// sees two, the parts do not agree on who passes its messages to others like it: some come
    /// twice.
    pub(super) fn sees_one_part(&self, id: EndpointId) -> bool {
        let parts = self.find_parts();
        let from = self.numbers[&id];
        let seen: BTreeSet<usize> = self.links[from].iter().map(|hub| parts[*hub]).collect();
        self.nodes[from].1 || seen.len() < 2
    }

    /// The part of each endpoint that relays, by the first one in it.
    fn find_parts(&self) -> Vec<usize> {
        let mut parts = vec![usize::MAX; self.nodes.len()];
        for first in 0..self.nodes.len() {
            if !self.nodes[first].1 || parts[first] != usize::MAX {
                continue;
            }
            for (node, distance) in self.distances(first).into_iter().enumerate() {
                if distance.is_some() && self.nodes[node].1 {
                    parts[node] = first;
                }
            }
        }
        parts
    }

    /// The transmissions that a message needs: the edges of the origin's tree on the way to a receiver.
    pub(super) fn needed(&self, origin: EndpointId, receivers: &BTreeSet<EndpointId>) -> usize {
        let from = self.numbers[&origin];
        let distances = self.distances(from);
        let parent = |child: usize| {
            let nearer = self.links[child].iter().filter(|parent| {
                let distance = distances[**parent].map(|distance| distance + 1);
                distance.is_some() && distance == distances[child]
            });
            let may_relay = nearer.filter(|parent| **parent == from || self.nodes[**parent].1);
            let id = |node: usize| self.nodes[node].0;
            may_relay.copied().max_by_key(|parent| {
                let score = score(key(origin), key(id(child)), key(id(*parent)));
                (score, id(*parent))
            })
        };
        let mut edges = BTreeSet::new();
        for receiver in receivers {
            let mut at = self.numbers[receiver];
            while at != from && edges.insert(at) {
                at = parent(at).expect("reached over a nearer one");
            }
        }
        edges.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::graphs::{Plan, Shape};
    use super::*;
    use muster_test_support::Random;

    #[test]
    fn reach_is_what_has_a_distance() {
        let mut random = Random::new(3);
        for shape in Shape::ALL.into_iter().cycle().take(50) {
            let plan = Plan::new(shape, 14, &mut random);
            let ids: Vec<EndpointId> = plan
                .transit
                .iter()
                .map(|_| EndpointId::from_random(random.bytes()))
                .collect();
            let nodes = ids.iter().copied().zip(plan.transit.iter().copied());
            let mut truth = Truth::new(nodes);
            for (a, b) in &plan.links {
                if random.one_in(2) {
                    truth.link(ids[*a], ids[*b]);
                }
            }
            for (number, id) in ids.iter().enumerate() {
                let distances = truth.distances(number).into_iter().zip(&ids);
                let reached = distances.filter(|(distance, _)| distance.is_some());
                assert!(
                    truth
                        .reach(*id)
                        .iter()
                        .eq(reached.map(|(_, id)| id).collect::<BTreeSet<_>>())
                );
            }
        }
    }
}
