//! Where a message goes next (protocol version 2, sections 7.3 and 7.4), from bounded caches.

use std::collections::HashMap;
use std::sync::Arc;

use crate::mesh::bits::BitSet;
use crate::mesh::database::Database;
use crate::mesh::graph::Graph;
use crate::mesh::tree::{Branches, Tree};
use crate::{EndpointId, Topic};

/// The trees kept; one more would be computed anew each time.
const MAX_TREES: usize = 1024;
/// The bytes of the topics kept, with an estimate of what each costs besides.
const MAX_TOPIC_BYTES: usize = 1 << 20;
const TOPIC_OVERHEAD: usize = 256;
/// The next hops kept.
const MAX_HOPS: usize = 16_384;

/// What routes are computed from: the database, and the graph that stood before the last changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) database: &'a Database,
    pub(crate) settled: Option<&'a Graph>,
    /// Counts the times that `settled` was set or dropped.
    pub(crate) settlements: u64,
}

/// The caches. Everything in them follows from a [`View`] and is dropped with it.
#[derive(Debug, Default)]
pub(crate) struct Forwarding {
    graph_version: u64,
    settlements: u64,
    nodes_version: u64,
    trees: HashMap<u32, Arc<Branches>>,
    settled_trees: HashMap<u32, Arc<Branches>>,
    topics: HashMap<Topic, (u32, Arc<BitSet>)>,
    topic_bytes: usize,
    hops: HashMap<(u32, u32), Arc<[EndpointId]>>,
}

impl Forwarding {
    /// The neighbours that a message of `origin` on `topic` goes to from here.
    pub(crate) fn next_hops(
        &mut self,
        view: View<'_>,
        origin: u32,
        topic: &Topic,
    ) -> Arc<[EndpointId]> {
        self.refresh(view);
        let (topic, matching) = self.matching(view, topic);
        if let Some(hops) = self.hops.get(&(origin, topic)) {
            return hops.clone();
        }
        let hops: Arc<[EndpointId]> = self.wanted(view, origin, Some(&matching)).into();
        if self.hops.len() >= MAX_HOPS {
            self.hops.clear();
        }
        self.hops.insert((origin, topic), hops.clone());
        hops
    }

    /// All children in the tree of `root`, wanted or not: for the records themselves.
    pub(crate) fn children(&mut self, view: View<'_>, root: u32) -> Vec<EndpointId> {
        self.refresh(view);
        self.wanted(view, root, None)
    }

    /// Whether this endpoint is in the tree of `root`.
    pub(crate) fn reaches(&mut self, view: View<'_>, root: u32) -> bool {
        self.refresh(view);
        let graph = view.database.graph();
        branches(&mut self.trees, graph, root, view.database.me()).reached
    }

    fn wanted(
        &mut self,
        view: View<'_>,
        origin: u32,
        matching: Option<&BitSet>,
    ) -> Vec<EndpointId> {
        let (graph, me) = (view.database.graph(), view.database.me());
        let is_wanted = |below: &BitSet| matching.is_none_or(|matching| matching.meets(below));
        let now = branches(&mut self.trees, graph, origin, me);
        let children = now.children.iter().filter(|(_, below)| is_wanted(below));
        let mut hops: Vec<u32> = children.map(|(child, _)| *child).collect();
        if let Some(settled) = view.settled {
            let before = branches(&mut self.settled_trees, settled, origin, me);
            for (child, below) in &before.children {
                // The link may be gone, and the slot another's.
                let stands = graph.announces(me, *child) && settled.id(*child) == graph.id(*child);
                if stands && is_wanted(below) && !hops.contains(child) {
                    hops.push(*child);
                }
            }
        }
        hops.into_iter().filter_map(|hop| graph.id(hop)).collect()
    }

    fn matching(&mut self, view: View<'_>, topic: &Topic) -> (u32, Arc<BitSet>) {
        if let Some((number, matching)) = self.topics.get(topic) {
            return (*number, matching.clone());
        }
        if self.topic_bytes >= MAX_TOPIC_BYTES {
            self.forget_topics();
        }
        let number = u32::try_from(self.topics.len()).expect("bounded by their bytes");
        let matching = Arc::new(view.database.matching(topic.as_bytes()));
        self.topic_bytes += topic.as_bytes().len() + TOPIC_OVERHEAD;
        self.topics
            .insert(topic.clone(), (number, matching.clone()));
        (number, matching)
    }

    fn refresh(&mut self, view: View<'_>) {
        if self.nodes_version != view.database.nodes_version() {
            self.nodes_version = view.database.nodes_version();
            self.forget_topics();
        }
        if self.settlements != view.settlements {
            self.settlements = view.settlements;
            self.settled_trees.clear();
            self.hops.clear();
        }
        if self.graph_version != view.database.graph_version() {
            self.graph_version = view.database.graph_version();
            self.trees.clear();
            self.hops.clear();
        }
    }

    fn forget_topics(&mut self) {
        self.topics.clear();
        self.topic_bytes = 0;
        self.hops.clear();
    }

    /// The entries of all caches.
    pub(crate) fn len(&self) -> usize {
        self.trees.len() + self.settled_trees.len() + self.topics.len() + self.hops.len()
    }
}

fn branches(
    trees: &mut HashMap<u32, Arc<Branches>>,
    graph: &Graph,
    origin: u32,
    me: u32,
) -> Arc<Branches> {
    if let Some(known) = trees.get(&origin) {
        return known.clone();
    }
    if trees.len() >= MAX_TREES {
        trees.clear();
    }
    let computed = Arc::new(Tree::new(graph, origin).branches(me));
    trees.insert(origin, computed.clone());
    computed
}
