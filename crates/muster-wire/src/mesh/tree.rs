//! The tree down which an origin's messages travel (protocol version 2, section 7.1).

use crate::mesh::bits::BitSet;
use crate::mesh::graph::Graph;
use crate::mesh::score::{half_score, mix};

/// No parent, or not reached.
const NONE: u32 = u32::MAX;

/// The tree of one origin over a whole graph. Equal graphs give equal trees on every endpoint.
#[derive(Debug, Clone)]
pub struct Tree {
    origin: u32,
    parents: Vec<u32>,
    /// The slots that were reached, nearer ones first.
    order: Vec<u32>,
    depth: u32,
}

impl Tree {
    /// Breadth first from `origin`; every other endpoint takes, of those one step nearer, the one with
    /// the highest score.
    pub fn new(graph: &Graph, origin: u32) -> Self {
        let slots = graph.slots();
        let mut depths = vec![NONE; slots];
        let mut tree = Self {
            origin,
            parents: vec![NONE; slots],
            order: Vec::with_capacity(slots),
            depth: 0,
        };
        if graph.id(origin).is_none() {
            return tree;
        }
        // The half of the score that a child's candidates share, and the best score so far.
        let mut scores = vec![(0u64, 0u64); slots];
        let mut neighbours = Vec::new();
        depths[origin as usize] = 0;
        tree.order.push(origin);
        let mut next = 0;
        while let Some(&parent) = tree.order.get(next) {
            next += 1;
            if parent != origin && !graph.is_transit(parent) {
                continue;
            }
            let depth = depths[parent as usize] + 1;
            graph.neighbours(parent, &mut neighbours);
            for &child in &neighbours {
                let at = child as usize;
                if depths[at] == NONE {
                    depths[at] = depth;
                    tree.depth = depth;
                    tree.order.push(child);
                    let half = half_score(graph.key(origin), graph.key(child));
                    scores[at] = (half, mix(half ^ graph.key(parent)));
                    tree.parents[at] = parent;
                } else if depths[at] == depth {
                    let (half, best) = scores[at];
                    let score = mix(half ^ graph.key(parent));
                    let chosen = tree.parents[at];
                    if score > best || (score == best && graph.id(parent) > graph.id(chosen)) {
                        scores[at].1 = score;
                        tree.parents[at] = parent;
                    }
                }
            }
        }
        tree
    }

    /// The slots that were reached, the origin first and nearer ones before farther ones.
    pub fn reached(&self) -> &[u32] {
        &self.order
    }

    /// The parent of an endpoint; `None` for the origin and for what was not reached.
    pub fn parent(&self, slot: u32) -> Option<u32> {
        self.parents
            .get(slot as usize)
            .copied()
            .filter(|parent| *parent != NONE)
    }

    /// The number of links from the origin to the farthest endpoint.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// What one endpoint needs to know of the tree: its parent, and who is below each of its children.
    pub fn branches(&self, me: u32) -> Branches {
        let mut branches = Branches {
            reached: me == self.origin || self.parent(me).is_some(),
            parent: self.parent(me),
            children: Vec::new(),
        };
        let mut owners = vec![NONE; self.parents.len()];
        for &slot in &self.order {
            let Some(parent) = self.parent(slot) else {
                continue;
            };
            let owner = if parent == me {
                branches.children.push((slot, BitSet::default()));
                u32::try_from(branches.children.len() - 1).unwrap_or(NONE)
            } else {
                owners[parent as usize]
            };
            owners[slot as usize] = owner;
            if let Some((_, below)) = branches.children.get_mut(owner as usize) {
                below.insert(slot);
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
    /// The neighbour that the origin's messages come from.
    pub parent: Option<u32>,
    /// The children, each with all that are reached through it, itself included.
    pub children: Vec<(u32, BitSet)>,
}
