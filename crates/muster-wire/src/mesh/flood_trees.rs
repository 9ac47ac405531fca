//! The children in the tree of a root, for the records themselves: they go to all, wanted or not.

use crate::EndpointId;
use crate::mesh::database::Database;
use crate::mesh::graph::Graph;
use crate::mesh::tree::Trees;

/// What trees are computed from: the database, and the graph that stood before the last changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) database: &'a Database,
    pub(crate) settled: Option<&'a Graph>,
    /// Counts the times that `settled` was set or dropped.
    pub(crate) settlements: u64,
}

/// The trees down which records are flooded. Everything in them follows from a [`View`]; they are repaired when
/// it changes.
#[derive(Debug, Default)]
pub(crate) struct FloodTrees {
    settlements: u64,
    trees: Trees,
    settled_trees: Trees,
}

impl FloodTrees {
    /// All children in the tree of `root`.
    pub(crate) fn children(&mut self, view: View<'_>, root: u32) -> Vec<EndpointId> {
        self.refresh(view);
        let (graph, me) = (view.database.graph(), view.database.me());
        let mut children = self.trees.children(graph, root, me).to_vec();
        if let Some(settled) = view.settled {
            for child in &*self.settled_trees.children(settled, root, me) {
                if stands(view, settled, *child) && !children.contains(child) {
                    children.push(*child);
                }
            }
        }
        let children = children.into_iter();
        children.filter_map(|child| graph.id(child)).collect()
    }

    fn refresh(&mut self, view: View<'_>) {
        if self.settlements != view.settlements {
            self.settlements = view.settlements;
            // The view that has settled is the one that these trees were of.
            self.settled_trees = match view.settled {
                Some(_) => self.trees.snapshot(),
                None => Trees::default(),
            };
        }
    }

    /// The entries of all caches.
    pub(crate) fn len(&self) -> usize {
        self.trees.len() + self.settled_trees.len()
    }
}

/// Returns `true` if a child in the tree that stood before is one still: its link may be gone, and
/// its slot another's.
fn stands(view: View<'_>, settled: &Graph, child: u32) -> bool {
    let graph = view.database.graph();
    graph.announces(view.database.me(), child) && settled.id(child) == graph.id(child)
}
