//! Distances in links, breadth first.

use super::{NONE, relays};
use crate::mesh::bits::BitSet;
use crate::mesh::graph::Graph;

/// A list this many times longer than its row has words is walked by the row: bits that were seen
/// already cost nothing there.
const DENSE: usize = 2;

/// A breadth first search. Kept for the next one, it allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Search {
    depths: Vec<u16>,
    queue: Vec<u32>,
    unseen: BitSet,
}

impl Search {
    /// Finds the distances of all that are reached from `origin` through transit endpoints. With
    /// `until`, the distances of all that are no farther than this endpoint, and not of all others.
    /// Farther than 65,534 links nothing is reached.
    pub(super) fn run(&mut self, graph: &Graph, origin: u32, until: Option<u32>) {
        self.depths.clear();
        self.depths.resize(graph.slots(), NONE);
        self.queue.clear();
        self.unseen.fill(graph.slots());
        if graph.id(origin).is_none() {
            return;
        }
        self.depths[origin as usize] = 0;
        self.unseen.remove(origin);
        self.queue.push(origin);
        let mut next = 0;
        let mut enough = if until == Some(origin) { 0 } else { NONE };
        while let Some(&nearer) = self.queue.get(next) {
            next += 1;
            let depth = self.depths[nearer as usize] + 1;
            if depth > enough || depth == NONE {
                break;
            }
            if !relays(graph, origin, nearer) {
                continue;
            }
            let (list, row) = (graph.neighbours(nearer), graph.row(nearer));
            if list.len() > DENSE * row.len() {
                let first = self.queue.len();
                self.queue.extend(self.unseen.common(row));
                for &slot in &self.queue[first..] {
                    self.unseen.remove(slot);
                    self.depths[slot as usize] = depth;
                }
            } else {
                for &slot in list {
                    if self.depths[slot as usize] == NONE {
                        self.unseen.remove(slot);
                        self.depths[slot as usize] = depth;
                        self.queue.push(slot);
                    }
                }
            }
            if until.is_some_and(|until| self.depths[until as usize] == depth) {
                enough = depth;
            }
        }
    }

    pub(super) fn depths(&self) -> &[u16] {
        &self.depths
    }

    pub(super) fn into_depths(self) -> Vec<u16> {
        self.depths
    }
}
