//! The tree down which an origin's messages travel (protocol version 2, section 7.1).

mod cache;
#[cfg(test)]
mod large_layout;
mod search;
#[cfg(test)]
mod tests;

use crate::mesh::bits::BitSet;
use crate::mesh::graph::Graph;
use crate::mesh::score::{half_score, mix};

pub(super) use cache::Trees;

use search::Search;

/// Not reached.
const NONE: u16 = u16::MAX;

/// No slot.
const NOBODY: u32 = u32::MAX;

/// The tree of one origin over a whole graph. Equal graphs give equal trees on every endpoint.
///
/// The tree holds the distances from the origin. They say which endpoint may be whose parent, and
/// most changes of a graph leave them alone. The parents themselves are found by their scores when
/// they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    origin: u32,
    /// By slot; slots behind the end are not reached.
    depths: Vec<u16>,
}

impl Tree {
    /// Computes the tree of `origin`, breadth first. The parent of every other endpoint is, of its
    /// neighbours one step nearer, the one with the highest score.
    pub fn new(graph: &Graph, origin: u32) -> Self {
        let mut search = Search::default();
        search.run(graph, origin, None);
        Self {
            origin,
            depths: search.into_depths(),
        }
    }

    /// Returns `true` if an endpoint is in the tree.
    pub fn reaches(&self, slot: u32) -> bool {
        self.depth_of(slot).is_some()
    }

    /// Returns the number of links between the origin and an endpoint, or `None` if the endpoint is
    /// not in the tree.
    pub fn depth_of(&self, slot: u32) -> Option<u32> {
        Some(u32::from(depth(&self.depths, slot))).filter(|depth| *depth != u32::from(NONE))
    }

    /// Returns the number of links from the origin to the farthest endpoint.
    pub fn depth(&self) -> u32 {
        let reached = self.depths.iter().filter(|depth| **depth != NONE);
        reached.max().copied().map_or(0, u32::from)
    }

    /// Returns the parent of an endpoint, or `None` for the origin and for endpoints that are not
    /// in the tree. The graph must be the one that the tree was made from.
    pub fn parent(&self, graph: &Graph, slot: u32) -> Option<u32> {
        parent(graph, self.origin, &self.depths, slot)
    }

    /// Returns what one endpoint needs to know of the tree: which endpoints are below each of its
    /// children.
    pub fn branches(&self, graph: &Graph, me: u32) -> Branches {
        let mut branches = Branches {
            reached: self.reaches(me),
            children: Vec::new(),
        };
        if !branches.reached || !relays(graph, self.origin, me) {
            return branches;
        }
        // Nearer ones before farther ones: who is not below us when its parent's children are looked at
        // never will be.
        let mut owners = vec![NOBODY; graph.slots()];
        let mut judged = BitSet::default();
        let mut queue = vec![me];
        let mut next = 0;
        while let Some(&above) = queue.get(next) {
            next += 1;
            if !relays(graph, self.origin, above) {
                continue;
            }
            let farther = depth(&self.depths, above).saturating_add(1);
            for &child in graph.neighbours(above) {
                if depth(&self.depths, child) != farther || !judged.insert(child) {
                    continue;
                }
                let Some(parent) = self.parent(graph, child) else {
                    continue;
                };
                if parent == me {
                    owners[child as usize] =
                        u32::try_from(branches.children.len()).unwrap_or(NOBODY);
                    branches.children.push((child, BitSet::default()));
                } else {
                    owners[child as usize] = owners[parent as usize];
                }
                let owner = owners[child as usize];
                if let Some((_, below)) = branches.children.get_mut(owner as usize) {
                    below.insert(child);
                    queue.push(child);
                }
            }
        }
        branches
    }
}

/// One endpoint's place in a tree.
#[derive(Debug, Clone, Default)]
pub struct Branches {
    /// Whether the endpoint is in the tree at all.
    pub reached: bool,
    /// The children, each with all endpoints that are reached through it, including itself.
    pub children: Vec<(u32, BitSet)>,
}

fn depth(depths: &[u16], slot: u32) -> u16 {
    depths.get(slot as usize).copied().unwrap_or(NONE)
}

/// Returns `true` if others are reached through an endpoint.
fn relays(graph: &Graph, origin: u32, slot: u32) -> bool {
    slot == origin || graph.leads_on(slot)
}

/// Of those one step nearer to the origin the one with the highest score, on a tie the higher id.
fn parent(graph: &Graph, origin: u32, depths: &[u16], child: u32) -> Option<u32> {
    match depth(depths, child) {
        NONE => None,
        depth => best(graph, origin, depths, child, depth.checked_sub(1)?),
    }
}

/// The best parent for an endpoint among its neighbours at a depth.
fn best(graph: &Graph, origin: u32, depths: &[u16], child: u32, nearer: u16) -> Option<u32> {
    let half = half_score(graph.key(origin), graph.key(child));
    let mut best: Option<(u64, u32)> = None;
    for &candidate in graph.neighbours(child) {
        if depth(depths, candidate) != nearer || !relays(graph, origin, candidate) {
            continue;
        }
        let score = mix(half ^ graph.key(candidate));
        let is_better = best.is_none_or(|(highest, chosen)| {
            score > highest || (score == highest && graph.id(candidate) > graph.id(chosen))
        });
        if is_better {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, chosen)| chosen)
}
