//! Where messages go from one endpoint, as of one moment: what readers and publishers look at while
//! the mesh goes on.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::EndpointId;
use crate::mesh::bits::BitSet;
use crate::mesh::database::Database;
use crate::mesh::graph::Graph;
use crate::mesh::record::NodeRecord;
use crate::mesh::tree::{Branches, Tree};

/// One endpoint's place in the trees of all origins over one graph, each computed when it is first
/// asked for.
pub(super) struct Trees {
    graph: Arc<Graph>,
    me: u32,
    /// Made when the first is asked for: while links change many graphs are never asked.
    by_origin: OnceLock<Box<[OnceLock<Branches>]>>,
}

impl Trees {
    fn new(graph: Arc<Graph>, me: u32) -> Self {
        Self {
            graph,
            me,
            by_origin: OnceLock::new(),
        }
    }

    fn of(&self, origin: u32) -> Option<&Branches> {
        let slots = self.graph.slots();
        let make = || (0..slots).map(|_| OnceLock::new()).collect();
        let tree = self.by_origin.get_or_init(make).get(origin as usize)?;
        Some(tree.get_or_init(|| Tree::new(&self.graph, origin).branches(&self.graph, self.me)))
    }
}

/// Where messages go from one endpoint (protocol version 2, sections 7.3 and 7.4). Immutable.
pub struct Routes {
    me: u32,
    relays: bool,
    slots: Arc<HashMap<EndpointId, u32>>,
    nodes_version: u64,
    nodes: Arc<[Option<Arc<NodeRecord>>]>,
    current: Arc<Trees>,
    /// The trees that stood before the last changes, while not everybody may know of these.
    settled: Option<Arc<Trees>>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = self.slots.len();
        f.debug_struct("Routes")
            .field("endpoints", &slots)
            .finish_non_exhaustive()
    }
}

impl Routes {
    /// The routes over a database. What `former` has computed and still holds is taken over.
    pub(super) fn new(
        database: &Database,
        settled: Option<&Arc<Graph>>,
        relays: bool,
        former: Option<&Self>,
    ) -> Self {
        let me = database.me();
        let trees = |graph: &Arc<Graph>| {
            let known = former.into_iter().flat_map(|former| {
                let settled = former.settled.iter();
                [&former.current].into_iter().chain(settled)
            });
            let mut known = known.filter(|trees| Arc::ptr_eq(&trees.graph, graph));
            let known = known.next().cloned();
            known.unwrap_or_else(|| Arc::new(Trees::new(Arc::clone(graph), me)))
        };
        let graph = database.graph();
        let nodes_version = database.nodes_version();
        let known = former.filter(|former| former.nodes_version == nodes_version);
        let nodes = known.map(|former| Arc::clone(&former.nodes));
        let all = 0..u32::try_from(graph.slots()).unwrap_or(u32::MAX);
        let all = all.map(|slot| database.node(slot).cloned());
        Self {
            me,
            relays,
            slots: Arc::clone(database.all_slots()),
            current: trees(graph),
            settled: settled.map(trees),
            nodes_version,
            nodes: nodes.unwrap_or_else(|| all.collect()),
        }
    }

    /// The slot of this endpoint itself.
    pub fn me(&self) -> u32 {
        self.me
    }

    /// Whether this endpoint relays.
    pub fn relays(&self) -> bool {
        self.relays
    }

    /// The slot of an endpoint; the same endpoint may have another in other routes.
    pub fn slot(&self, id: EndpointId) -> Option<u32> {
        self.slots.get(&id).copied()
    }

    /// What is known of an endpoint.
    pub fn node(&self, slot: u32) -> Option<&Arc<NodeRecord>> {
        self.nodes.get(slot as usize)?.as_ref()
    }

    /// All endpoints of the database.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeRecord>> {
        self.nodes.iter().flatten()
    }

    /// Whether an endpoint can be reached.
    pub fn reaches(&self, slot: u32) -> bool {
        slot == self.me
            || self.current.of(self.me).is_some_and(|tree| {
                let mut children = tree.children.iter();
                children.any(|(_, below)| below.contains(slot))
            })
    }

    /// The endpoints that a topic leads to; a topic of [`topic_of`] leads to one.
    pub fn matching(&self, topic: &[u8]) -> BitSet {
        if let Some(id) = addressed(topic) {
            return self.slot(id).into_iter().collect();
        }
        let nodes = (0u32..).zip(&*self.nodes);
        nodes
            .filter(|(_, node)| node.as_ref().is_some_and(|node| node.filter.matches(topic)))
            .map(|(slot, _)| slot)
            .collect()
    }

    /// The neighbours that a message of `origin` goes to from here, if it is for `wanted`.
    pub fn next_hops(&self, origin: u32, wanted: &BitSet) -> Vec<EndpointId> {
        let graph = &self.current.graph;
        let mut hops: Vec<u32> = Vec::new();
        if let Some(tree) = self.current.of(origin) {
            let children = tree.children.iter();
            let children = children.filter(|(_, below)| wanted.meets(below));
            hops.extend(children.map(|(child, _)| *child));
        }
        if let Some(settled) = &self.settled
            && let Some(tree) = settled.of(origin)
        {
            for (child, below) in &tree.children {
                // The link may be gone, and the slot another's.
                let stands = graph.announces(self.me, *child)
                    && settled.graph.id(*child) == graph.id(*child);
                if stands && wanted.meets(below) && !hops.contains(child) {
                    hops.push(*child);
                }
            }
        }
        hops.into_iter().filter_map(|hop| graph.id(hop)).collect()
    }
}

/// The topics that lead to one endpoint, whatever it subscribes to.
const ADDRESSED: &str = "<$>/endpoint/";

/// The topic that leads to the endpoint `id` alone. It is for the mesh's own use.
pub fn topic_of(id: EndpointId) -> String {
    format!("{ADDRESSED}{id}")
}

/// The endpoint that a topic is addressed to, if it is of that kind.
pub fn addressed(topic: &[u8]) -> Option<EndpointId> {
    let id = topic.strip_prefix(ADDRESSED.as_bytes())?;
    std::str::from_utf8(id).ok()?.parse().ok()
}
