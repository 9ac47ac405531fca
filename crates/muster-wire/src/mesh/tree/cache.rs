//! One endpoint's children in the trees of many origins, kept while the graph stands.

use std::collections::HashMap;
use std::sync::Arc;

use super::search::Search;
use super::{NONE, best, relays};
use crate::mesh::graph::Graph;

/// The origins whose children are kept; for one more another is given up.
const MAX_TREES: usize = 1024;

/// One endpoint's children in the trees of a graph: where records are flooded.
#[derive(Debug, Default)]
pub(in crate::mesh) struct Trees {
    /// With the version of the graph that they are of.
    children: HashMap<u32, (u64, Arc<[u32]>)>,
    search: Search,
}

impl Trees {
    /// The children of `me` in the tree of `origin`.
    pub(in crate::mesh) fn children(&mut self, graph: &Graph, origin: u32, me: u32) -> Arc<[u32]> {
        let version = graph.version();
        if let Some((known, children)) = self.children.get(&origin)
            && *known == version
        {
            return children.clone();
        }
        let children: Arc<[u32]> = self.search_children(graph, origin, me).into();
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

    /// Returns the children for a snapshot of the graph, which may be older.
    pub(in crate::mesh) fn snapshot(&self) -> Self {
        Self {
            children: self.children.clone(),
            search: Search::default(),
        }
    }

    pub(in crate::mesh) fn len(&self) -> usize {
        self.children.len()
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
