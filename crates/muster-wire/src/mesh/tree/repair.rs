//! Trees that follow the changes of a graph.
//!
//! Distances are right as long as no link spans more than one step, and everybody but the origin has a
//! neighbour one step nearer. A changed link breaks that for few origins. And an endpoint that does not
//! relay, as most do not, is nowhere but at the end of a path: whatever happens to its links concerns
//! itself alone.

use std::sync::Arc;

use super::{Branches, NONE, Tree, depth, parent, relays};
use crate::mesh::bits::BitSet;
use crate::mesh::graph::{Graph, LinkChange};

/// Brings a tree, and one endpoint's place in it, up to the graph as it is after some changes. Says
/// whether it could; otherwise both are to be computed anew.
pub(super) fn repair(
    graph: &Graph,
    changes: impl Iterator<Item = LinkChange>,
    tree: &mut Arc<Tree>,
    branches: &mut Arc<Branches>,
    me: u32,
) -> bool {
    if graph.id(tree.origin).is_none() {
        return false;
    }
    let Some((relaying, leaves)) = concerned(graph, changes, tree) else {
        return false;
    };
    let has_parent = |slot: &u32| parent(graph, tree.origin, &tree.depths, *slot).is_some();
    if !relaying.iter().all(has_parent) {
        return false;
    }
    for leaf in &leaves {
        let depth = nearest(graph, tree, *leaf);
        if depth != self::depth(&tree.depths, *leaf) {
            let depths = &mut Arc::make_mut(tree).depths;
            if *leaf as usize >= depths.len() {
                depths.resize(graph.slots(), NONE);
            }
            depths[*leaf as usize] = depth;
        }
    }
    move_over(graph, tree, branches, me, &relaying, &leaves);
    true
}

/// The endpoints whose parent may be another one now, those that relay and those that do not; `None` if
/// distances of endpoints that relay have changed.
fn concerned(
    graph: &Graph,
    changes: impl Iterator<Item = LinkChange>,
    tree: &Tree,
) -> Option<(Vec<u32>, Vec<u32>)> {
    let (mut relaying, mut leaves) = (Vec::new(), Vec::new());
    for change in changes {
        let [a, b] = change.ends;
        for (near, far) in [(a, b), (b, a)] {
            if !relays(graph, tree.origin, far) {
                leaves.push(far);
                continue;
            }
            let (from, to) = (depth(&tree.depths, near), depth(&tree.depths, far));
            if from == NONE {
                continue;
            }
            let step = from.saturating_add(1);
            let counts = graph.linked(near, far) && relays(graph, tree.origin, near);
            if counts && to > step {
                return None;
            }
            if to == step {
                relaying.push(far);
            }
        }
    }
    for list in [&mut relaying, &mut leaves] {
        list.sort_unstable();
        list.dedup();
    }
    Some((relaying, leaves))
}

/// One step more than the nearest neighbour that relays.
fn nearest(graph: &Graph, tree: &Tree, leaf: u32) -> u16 {
    let neighbours = graph.neighbours(leaf).iter().copied();
    let relaying = neighbours.filter(|slot| relays(graph, tree.origin, *slot));
    let depths = relaying.map(|slot| depth(&tree.depths, slot));
    depths.min().map_or(NONE, |depth| depth.saturating_add(1))
}

/// Puts endpoints below the child of `me` through which they are reached now.
fn move_over(
    graph: &Graph,
    tree: &Tree,
    branches: &mut Arc<Branches>,
    me: u32,
    relaying: &[u32],
    leaves: &[u32],
) {
    let reached = tree.reaches(me);
    if reached != branches.reached {
        // We do not relay, or distances would have changed.
        Arc::make_mut(branches).reached = reached;
    }
    if !reached || !relays(graph, tree.origin, me) {
        return;
    }
    let is_moved = |slot: &u32| {
        *slot != me && now(graph, tree, branches, me, *slot) != before(branches, *slot)
    };
    if relaying.iter().any(is_moved) {
        *branches = Arc::new(tree.branches(graph, me));
        return;
    }
    for leaf in leaves {
        let (old, new) = (
            before(branches, *leaf),
            now(graph, tree, branches, me, *leaf),
        );
        if old == new {
            continue;
        }
        let children = &mut Arc::make_mut(branches).children;
        if old == Some(*leaf) {
            children.retain(|(child, _)| child != leaf);
        } else if let Some((_, below)) = children.iter_mut().find(|(c, _)| Some(*c) == old) {
            below.remove(*leaf);
        }
        if new == Some(*leaf) {
            children.push((*leaf, BitSet::from_iter([*leaf])));
        } else if let Some((_, below)) = children.iter_mut().find(|(c, _)| Some(*c) == new) {
            below.insert(*leaf);
        }
    }
}

/// The child of ours that an endpoint was below.
fn before(branches: &Branches, slot: u32) -> Option<u32> {
    let mut children = branches.children.iter();
    let owner = children.find(|(_, below)| below.contains(slot));
    owner.map(|(child, _)| *child)
}

/// The child of ours that an endpoint is below, by its parent.
fn now(graph: &Graph, tree: &Tree, branches: &Branches, me: u32, slot: u32) -> Option<u32> {
    match tree.parent(graph, slot)? {
        parent if parent == me => Some(slot),
        parent => before(branches, parent),
    }
}
