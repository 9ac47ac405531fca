//! Where a message goes next (protocol version 2, sections 7.3 and 7.4), from bounded caches.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::mesh::bits::BitSet;
use crate::mesh::database::Database;
use crate::mesh::graph::Graph;
use crate::mesh::tree::Trees;
use crate::{EndpointId, Topic};

/// The bytes of the topics kept, with an estimate of what each costs besides.
const MAX_TOPIC_BYTES: usize = 1 << 20;
const TOPIC_OVERHEAD: usize = 256;
/// The next hops kept.
const MAX_HOPS: usize = 16_384;

/// The changed filters that the topics kept are matched with again; after more they are dropped.
const MAX_MATCHED_AGAIN: usize = 8;

/// What routes are computed from: the database, and the graph that stood before the last changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) database: &'a Database,
    pub(crate) settled: Option<&'a Graph>,
    /// Counts the times that `settled` was set or dropped.
    pub(crate) settlements: u64,
}

/// The caches. Everything in them follows from a [`View`]; trees are repaired when it changes, the rest is
/// dropped with it.
#[derive(Debug, Default)]
pub(crate) struct Forwarding {
    graph_version: u64,
    settlements: u64,
    nodes_version: u64,
    trees: Trees,
    settled_trees: Trees,
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
        let hops: Arc<[EndpointId]> = self.wanted(view, origin, &matching).into();
        if self.hops.len() >= MAX_HOPS {
            self.hops.clear();
        }
        self.hops.insert((origin, topic), hops.clone());
        hops
    }

    /// All children in the tree of `root`, wanted or not: for the records themselves.
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

    fn wanted(&mut self, view: View<'_>, origin: u32, matching: &BitSet) -> Vec<EndpointId> {
        let (graph, me) = (view.database.graph(), view.database.me());
        let now = self.trees.branches(graph, origin, me);
        let children = now.children.iter();
        let wanted = children.filter(|(_, below)| matching.meets(below));
        let mut hops: Vec<u32> = wanted.map(|(child, _)| *child).collect();
        if let Some(settled) = view.settled {
            let before = self.settled_trees.branches(settled, origin, me);
            for (child, below) in &before.children {
                let is_wanted = matching.meets(below) && !hops.contains(child);
                if is_wanted && stands(view, settled, *child) {
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
            let changed = view.database.nodes_since(self.nodes_version);
            match changed.map(Iterator::collect::<BTreeSet<u32>>) {
                Some(slots) if slots.len() <= MAX_MATCHED_AGAIN => self.match_again(view, &slots),
                _ => self.forget_topics(),
            }
            self.nodes_version = view.database.nodes_version();
        }
        if self.settlements != view.settlements {
            self.settlements = view.settlements;
            // The view that has settled is the one that these trees were of.
            self.settled_trees = match view.settled {
                Some(_) => self.trees.snapshot(),
                None => Trees::default(),
            };
            self.hops.clear();
        }
        if self.graph_version != view.database.graph_version() {
            self.graph_version = view.database.graph_version();
            self.hops.clear();
        }
    }

    /// The filters of these have changed, those of the others have not.
    fn match_again(&mut self, view: View<'_>, slots: &BTreeSet<u32>) {
        let mut is_other = false;
        for (topic, (_, matching)) in &mut self.topics {
            for slot in slots {
                let is_matching = view.database.matches(*slot, topic.as_bytes());
                if is_matching != matching.contains(*slot) {
                    is_other = true;
                    let matching = Arc::make_mut(matching);
                    if is_matching {
                        matching.insert(*slot);
                    } else {
                        matching.remove(*slot);
                    }
                }
            }
        }
        if is_other {
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

/// Whether a child in the tree that stood before is one still: its link may be gone, and its slot
/// another's.
fn stands(view: View<'_>, settled: &Graph, child: u32) -> bool {
    let graph = view.database.graph();
    graph.announces(view.database.me(), child) && settled.id(child) == graph.id(child)
}
