//! One endpoint's places in the trees of many origins, kept and repaired.

use std::collections::HashMap;
use std::sync::Arc;

use super::search::Search;
use super::{Branches, NONE, Tree, best, relays, repair};
use crate::mesh::graph::Graph;

/// The trees kept; for one more another is given up.
const MAX_TREES: usize = 1024;

/// A tree as it was at a version of the graph.
#[derive(Debug, Clone)]
struct Kept {
    version: u64,
    tree: Arc<Tree>,
    branches: Arc<Branches>,
}

/// The trees of one graph as one endpoint needs them. They follow the graph when they are asked for.
#[derive(Debug, Default)]
pub(in crate::mesh) struct Trees {
    kept: HashMap<u32, Kept>,
    /// The children alone, of origins that flood records and may never publish, at a version.
    children: HashMap<u32, (u64, Arc<[u32]>)>,
    search: Search,
}

impl Trees {
    /// The place of `me` in the tree of `origin`.
    pub(in crate::mesh) fn branches(
        &mut self,
        graph: &Graph,
        origin: u32,
        me: u32,
    ) -> Arc<Branches> {
        let version = graph.version();
        if let Some(kept) = self.kept.get_mut(&origin) {
            if kept.version == version {
                return kept.branches.clone();
            }
            if let Some(changes) = graph.changes_since(kept.version)
                && repair::repair(graph, changes, &mut kept.tree, &mut kept.branches, me)
            {
                kept.version = version;
                return kept.branches.clone();
            }
        }
        let tree = Tree::new(graph, origin);
        let branches = Arc::new(tree.branches(graph, me));
        let kept = Kept {
            version,
            tree: Arc::new(tree),
            branches: branches.clone(),
        };
        make_room(&mut self.kept, origin);
        self.kept.insert(origin, kept);
        branches
    }

    /// The children of `me` in the tree of `origin`.
    pub(in crate::mesh) fn children(&mut self, graph: &Graph, origin: u32, me: u32) -> Arc<[u32]> {
        let version = graph.version();
        if let Some((known, children)) = self.children.get(&origin)
            && *known == version
        {
            return children.clone();
        }
        let children: Arc<[u32]> = match self.kept.get(&origin) {
            Some(kept) if kept.version == version => {
                let children = kept.branches.children.iter();
                children.map(|(child, _)| *child).collect()
            }
            _ => self.search_children(graph, origin, me).into(),
        };
        make_room(&mut self.children, origin);
        self.children.insert(origin, (version, children.clone()));
        children
    }

    /// Records are flooded while links change, and then each tree is used once. Children need the
    /// distances up to ours only.
    fn search_children(&mut self, graph: &Graph, origin: u32, me: u32) -> Vec<u32> {
        let neighbours = graph.neighbours(me);
        // The only neighbour is the parent.
        let is_end = me != origin && neighbours.len() < 2;
        if is_end || !relays(graph, origin, me) || graph.id(origin).is_none() {
            return Vec::new();
        }
        self.search.run(graph, origin, Some(me));
        let depths = self.search.depths();
        let depth = depths[me as usize];
        if depth == NONE {
            return Vec::new();
        }
        let farther = neighbours.iter().copied();
        let farther = farther.filter(|slot| depths[*slot as usize] == NONE);
        farther
            .filter(|child| best(graph, origin, depths, *child, depth) == Some(me))
            .collect()
    }

    /// The same for a snapshot of the graph, which may be older.
    pub(in crate::mesh) fn snapshot(&self) -> Self {
        Self {
            kept: self.kept.clone(),
            children: self.children.clone(),
            search: Search::default(),
        }
    }

    pub(in crate::mesh) fn len(&self) -> usize {
        self.kept.len() + self.children.len()
    }
}

fn make_room<V>(kept: &mut HashMap<u32, V>, origin: u32) {
    if kept.len() >= MAX_TREES
        && !kept.contains_key(&origin)
        && let Some(other) = kept.keys().next().copied()
    {
        kept.remove(&other);
    }
}
