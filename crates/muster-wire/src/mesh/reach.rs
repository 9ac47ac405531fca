//! Who can be reached from one endpoint.

use crate::mesh::bits::BitSet;
use crate::mesh::graph::{Graph, LinkChange};

/// No slot.
const NOBODY: u32 = u32::MAX;

/// The endpoints that can be reached from one, each with the neighbour that it was reached from: any
/// will do, and while that link stands the endpoint is in reach. So a link that comes costs what it
/// brings in reach, and one that goes costs nothing unless it was one of those.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    me: u32,
    version: u64,
    reached: BitSet,
    from: Vec<u32>,
}

impl Reach {
    /// Only the endpoint itself.
    pub(crate) fn new(graph: &Graph, me: u32) -> Self {
        Self {
            me,
            version: graph.version(),
            reached: BitSet::from_iter([me]),
            from: vec![NOBODY; graph.slots()],
        }
    }

    /// Those that can be reached, as of the last refresh.
    pub(crate) fn reached(&self) -> &BitSet {
        &self.reached
    }

    /// Follows the graph; returns those that are in reach now and were not, and those that were and
    /// are not.
    pub(crate) fn refresh(&mut self, graph: &Graph) -> (Vec<u32>, Vec<u32>) {
        if self.version == graph.version() {
            return (Vec::new(), Vec::new());
        }
        self.from.resize(graph.slots(), NOBODY);
        let mut gained = Vec::new();
        let mut lost = Vec::new();
        let changes = graph.changes_since(self.version);
        let is_repaired = changes.is_some_and(|changes| {
            let mut changes = changes.collect::<Vec<_>>();
            // Losses first: what they take may come back by what was added.
            changes.sort_unstable_by_key(|change| change.is_added);
            changes
                .iter()
                .all(|change| self.follow(graph, *change, &mut gained, &mut lost))
        });
        if !is_repaired {
            // What was followed until it could not be is undone.
            let mut before = std::mem::take(&mut self.reached);
            for slot in &gained {
                before.remove(*slot);
            }
            for slot in &lost {
                before.insert(*slot);
            }
            self.reached.insert(self.me);
            let mut all = Vec::new();
            self.explore(graph, self.me, &mut all);
            gained = self.reached.without(&before).collect();
            lost = before.without(&self.reached).collect();
        }
        self.version = graph.version();
        let is_back: BitSet = gained.iter().copied().collect();
        let is_gone: BitSet = lost.iter().copied().collect();
        gained.retain(|slot| !is_gone.contains(*slot));
        lost.retain(|slot| !is_back.contains(*slot));
        (gained, lost)
    }

    /// Follows one change; `false` if all is to be looked at.
    fn follow(
        &mut self,
        graph: &Graph,
        change: LinkChange,
        gained: &mut Vec<u32>,
        lost: &mut Vec<u32>,
    ) -> bool {
        let [a, b] = change.ends;
        for (near, far) in [(a, b), (b, a)] {
            if graph.linked(near, far) {
                if self.is_way(graph, near) && !self.reached.contains(far) {
                    self.attach(far, near, gained);
                    self.explore(graph, far, gained);
                }
            } else if self.reached.contains(far) && self.from[far as usize] == near {
                if self.relays(graph, far) {
                    return false;
                }
                // Nobody is reached through one that does not relay.
                let mut others = graph.neighbours(far).iter().copied();
                if let Some(other) = others.find(|other| self.is_way(graph, *other)) {
                    self.from[far as usize] = other;
                } else {
                    self.reached.remove(far);
                    self.from[far as usize] = NOBODY;
                    lost.push(far);
                }
            }
        }
        true
    }

    fn relays(&self, graph: &Graph, slot: u32) -> bool {
        slot == self.me || graph.leads_on(slot)
    }

    /// Returns `true` if others are reached through an endpoint.
    fn is_way(&self, graph: &Graph, slot: u32) -> bool {
        self.relays(graph, slot) && self.reached.contains(slot)
    }

    fn attach(&mut self, slot: u32, from: u32, gained: &mut Vec<u32>) {
        self.reached.insert(slot);
        self.from[slot as usize] = from;
        gained.push(slot);
    }

    /// Adds all that can be reached through an endpoint in reach.
    fn explore(&mut self, graph: &Graph, start: u32, gained: &mut Vec<u32>) {
        let mut open = vec![start];
        while let Some(near) = open.pop() {
            if !self.relays(graph, near) {
                continue;
            }
            for &far in graph.neighbours(near) {
                if !self.reached.contains(far) {
                    self.attach(far, near, gained);
                    open.push(far);
                }
            }
        }
    }
}
