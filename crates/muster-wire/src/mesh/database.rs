//! What one endpoint knows of all others (protocol version 2, section 5).

mod applying;
mod fencing;
mod sealing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::mesh::bits::BitSet;
use crate::mesh::digest;
use crate::mesh::fences::Fences;
use crate::mesh::graph::Graph;
use crate::mesh::id_hash::IdHash;
use crate::mesh::reach::Reach;
use crate::mesh::record::{LinkRecord, NodeRecord, Versions};
use crate::mesh::seal::{NodeSeal, Owner, Seals, Signature};
use crate::mesh::unresolved::Unresolved;
use crate::time::Wall;
use crate::{EndpointId, Incarnation};

pub use applying::{Applied, Refusal};

/// The bounds of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most endpoints, this one included.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nodes: 4096 }
    }
}

#[derive(Debug)]
struct Entry {
    node: Arc<NodeRecord>,
    /// How new the node record is, again: most records that come are known, and then the record itself
    /// need not be looked at.
    age: (Incarnation, u64),
    links: u64,
    /// The seals of both, and whose they are, where endpoints have certificates.
    seal: Option<Arc<NodeSeal>>,
    links_seal: Option<Signature>,
    owner: Option<Arc<dyn Owner>>,
    /// What it adds to the hash: nothing while it is out of reach.
    share: u64,
}

/// The records of all endpoints. Each endpoint has a slot, a small number that stands for its id in
/// sets and trees.
#[derive(Debug)]
pub struct Database {
    limits: Limits,
    me: u32,
    entries: Vec<Option<Entry>>,
    /// Shared with snapshots of the routes.
    slots: Arc<HashMap<EndpointId, u32, IdHash>>,
    graph: Arc<Graph>,
    graph_version: u64,
    /// The slots whose node records changed.
    nodes_version: u64,
    ready: BitSet,
    /// The slots of those that announce guests.
    hosts: BitSet,
    free: Vec<u32>,
    /// Slots that were given up, but may still be named by a snapshot of the graph.
    resting: Vec<u32>,
    unresolved: Unresolved,
    reach: Reach,
    fences: Fences,
    /// The sum of all shares.
    hash: u64,
    /// What decides whose a record is; without it nobody asks.
    seals: Option<Arc<dyn Seals>>,
    wall: Wall,
    #[cfg(feature = "simulation")]
    believes_numbers: bool,
    #[cfg(feature = "simulation")]
    believes_seals: bool,
    /// Those of whom something has changed since they were taken last; `None` if they are too many.
    changed: Option<BTreeSet<EndpointId>>,
}

impl Database {
    /// Creates the database of an endpoint that knows only itself. It takes records with and without seals.
    pub fn new(me: NodeRecord, limits: Limits) -> Self {
        let graph = Arc::new(Graph::default());
        let mut database = Self {
            reach: Reach::new(&graph, 0),
            hash: 0,
            fences: Fences::default(),
            changed: Some(BTreeSet::new()),
            limits,
            me: 0,
            entries: Vec::new(),
            slots: Arc::default(),
            graph,
            graph_version: 0,
            nodes_version: 0,
            ready: BitSet::default(),
            hosts: BitSet::default(),
            free: Vec::new(),
            resting: Vec::new(),
            unresolved: Unresolved::default(),
            seals: None,
            wall: Wall::default(),
            #[cfg(feature = "simulation")]
            believes_numbers: false,
            #[cfg(feature = "simulation")]
            believes_seals: false,
        };
        database.place(Arc::new(me), None, None);
        Arc::make_mut(&mut database.graph).set_me(0);
        database.recount(0);
        database.refresh();
        database
    }

    /// Returns the slot of this endpoint.
    pub fn me(&self) -> u32 {
        self.me
    }

    /// Returns the slot of an endpoint, or `None` if no node record of it is known.
    pub fn slot(&self, id: EndpointId) -> Option<u32> {
        self.slots.get(&id).copied()
    }

    /// The slots of all, as of now.
    pub(super) fn all_slots(&self) -> &Arc<HashMap<EndpointId, u32, IdHash>> {
        &self.slots
    }

    /// Returns the node record in a slot, or `None` if the slot is not in use.
    pub fn node(&self, slot: u32) -> Option<&Arc<NodeRecord>> {
        Some(&self.entry(slot)?.node)
    }

    /// Returns the number of endpoints, this one included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns `true` if the database is empty, which never happens: it holds its own endpoint.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns the links of all endpoints.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Returns the number of changes of the graph so far.
    pub fn graph_version(&self) -> u64 {
        self.graph_version
    }

    /// Returns the number of changes of node records so far.
    pub fn nodes_version(&self) -> u64 {
        self.nodes_version
    }

    /// Returns `true` if the endpoint in a slot is ready, that is, known to all others.
    pub fn is_ready(&self, slot: u32) -> bool {
        self.ready.contains(slot)
    }

    /// The slots of the endpoints that announce peers of version 1.
    pub(crate) fn hosts(&self) -> &BitSet {
        &self.hosts
    }

    /// Returns `true` if the announced filter in a slot matches a topic.
    pub fn matches(&self, slot: u32, topic: &[u8]) -> bool {
        let node = self.node(slot);
        node.is_some_and(|node| node.filter.matches(topic))
    }

    /// Returns the endpoints that can be reached from here, as of the last [`Database::refresh`].
    pub fn reach(&self) -> &BitSet {
        self.reach.reached()
    }

    /// Returns the hash over the versions of all that can be reached (section 6.3), as of the last
    /// [`Database::refresh`].
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Finds out anew which endpoints are in reach, after changes of the graph.
    pub fn refresh(&mut self) {
        loop {
            let (gained, lost) = self.reach.refresh(&self.graph);
            if gained.is_empty() && lost.is_empty() {
                return;
            }
            let gained = gained.into_iter().map(|slot| (slot, false));
            let changed = gained.chain(lost.into_iter().map(|slot| (slot, true)));
            for (slot, is_cut_off) in changed {
                // A relay in reach brings its leaves.
                self.graph_mut().set_cut_off(slot, is_cut_off);
                self.recount(slot);
                if let Some(id) = self.graph.id(slot) {
                    self.note_change(id);
                }
            }
        }
    }

    /// Keeps the hash in step with the versions in a slot.
    fn recount(&mut self, slot: u32) {
        let is_in_reach = self.reach.reached().contains(slot);
        let versions = self.versions(slot).filter(|_| is_in_reach);
        let share = versions.map_or(0, digest::share);
        if let Some(entry) = self.entry_mut(slot) {
            let before = std::mem::replace(&mut entry.share, share);
            self.hash = self.hash.wrapping_sub(before).wrapping_add(share);
        }
    }

    fn node_changed(&mut self, slot: u32, node: &NodeRecord) {
        self.nodes_version += 1;
        if node.ready {
            self.ready.insert(slot);
        } else {
            self.ready.remove(slot);
        }
        if node.guests.is_empty() {
            self.hosts.remove(slot);
        } else {
            self.hosts.insert(slot);
        }
        self.note_change(node.id);
    }

    fn note_change(&mut self, id: EndpointId) {
        let most = 2 * self.limits.nodes;
        if let Some(changed) = &mut self.changed {
            changed.insert(id);
            if changed.len() > most {
                self.changed = None;
            }
        }
    }

    /// The endpoints whose node record, or whether they are in reach, has changed since this was asked
    /// last, those that are no longer known included; `None` if they are too many to be remembered.
    pub(crate) fn take_changed(&mut self) -> Option<BTreeSet<EndpointId>> {
        self.changed.replace(BTreeSet::new())
    }

    /// All endpoints, in no order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = EndpointId> + '_ {
        self.slots.keys().copied()
    }

    /// Returns the endpoints whose announced filter matches a topic.
    pub fn matching(&self, topic: &[u8]) -> BitSet {
        let slots = (0u32..).zip(&self.entries).map(|(slot, _)| slot);
        slots.filter(|slot| self.matches(*slot, topic)).collect()
    }

    /// Returns how new the records in a slot are, or `None` if the slot is not in use.
    pub fn versions(&self, slot: u32) -> Option<Versions> {
        let entry = self.entry(slot)?;
        Some(Versions {
            id: self.graph.id(slot)?,
            incarnation: entry.age.0,
            node: entry.age.1,
            links: entry.links,
        })
    }

    /// Returns the whole link record in a slot, if there is one.
    pub fn links(&self, slot: u32) -> Option<LinkRecord> {
        let entry = self.entry(slot)?;
        if entry.links == 0 {
            return None;
        }
        let known = self.graph.announced(slot).iter();
        let mut neighbours: Vec<EndpointId> = known
            .filter_map(|neighbour| self.graph.id(*neighbour))
            .chain(self.unresolved.of(slot).iter().copied())
            .collect();
        neighbours.sort_unstable();
        Some(LinkRecord {
            id: entry.node.id,
            incarnation: entry.node.incarnation,
            version: entry.links,
            neighbours,
        })
    }

    /// Adds a link of this endpoint: one that it announces, or, at a leaf, which announces none,
    /// one that is up.
    pub fn link_up(&mut self, neighbour: EndpointId) {
        self.add_neighbour(self.me, neighbour);
    }

    /// Removes a link of this endpoint whose connection has ended. Its own view changes at once.
    pub fn link_down(&mut self, neighbour: EndpointId) {
        self.drop_neighbour(self.me, neighbour);
    }

    /// Sets the version of this endpoint's link record that was announced last.
    pub fn set_own_links(&mut self, version: u64) {
        if let Some(entry) = self.entry_mut(self.me) {
            entry.links = version;
        }
        self.recount(self.me);
    }

    /// Sets the node record of this endpoint, which may have any version, and its seal.
    pub fn set_own_node(&mut self, node: &Arc<NodeRecord>, seal: Option<Arc<NodeSeal>>) {
        if let Some(entry) = self.entry_mut(self.me) {
            entry.age = (node.incarnation, node.version);
            entry.node = Arc::clone(node);
            entry.seal = seal;
            self.node_changed(self.me, node);
            self.recount(self.me);
        }
    }

    /// Sets the incarnation of this endpoint, which keeps its links. Its record has no seal until it is set anew.
    pub fn set_own_incarnation(&mut self, incarnation: Incarnation) {
        if let Some(entry) = self.entry_mut(self.me) {
            entry.age.0 = incarnation;
            Arc::make_mut(&mut entry.node).incarnation = incarnation;
            entry.seal = None;
        }
        self.recount(self.me);
    }

    /// Forgets an endpoint. Other endpoints that announce it as a neighbour keep doing so.
    pub fn remove(&mut self, id: EndpointId) {
        let Some(slot) = self.slot(id) else {
            return;
        };
        Arc::make_mut(&mut self.slots).remove(&id);
        if let Some(entry) = self.entries[slot as usize].take() {
            self.hash = self.hash.wrapping_sub(entry.share);
        }
        self.unresolved.clear(slot);
        for (other, entry) in (0u32..).zip(&self.entries) {
            if entry.is_some() && self.graph.announces(other, slot) {
                self.unresolved.add(other, id);
            }
        }
        self.graph_mut().remove(slot);
        self.nodes_version += 1;
        self.ready.remove(slot);
        self.hosts.remove(slot);
        self.note_change(id);
        // The slot must not be in reach any more when another endpoint gets it.
        self.refresh();
        self.resting.push(slot);
    }

    /// Returns the number of slots that were given up and are not free yet.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    /// Frees the first `count` of the slots that were given up, and returns them. No snapshot of the graph in which they
    /// were in use may be in use any more.
    pub fn recycle(&mut self, count: usize) -> Vec<u32> {
        let slots: Vec<u32> = self
            .resting
            .drain(..count.min(self.resting.len()))
            .collect();
        self.free.extend_from_slice(&slots);
        slots
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize)?.as_ref()
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }

    fn graph_mut(&mut self) -> &mut Graph {
        self.graph_version += 1;
        Arc::make_mut(&mut self.graph)
    }

    /// Takes the larger of two numbers for the newer one, however much larger it is.
    #[cfg(feature = "simulation")]
    pub(super) fn believe_numbers(&mut self) {
        self.believes_numbers = true;
    }

    /// Takes every record for its origin's.
    #[cfg(feature = "simulation")]
    pub(super) fn believe_seals(&mut self) {
        self.believes_seals = true;
    }

    #[cfg(feature = "simulation")]
    pub(super) fn ignore_two_way_check(&mut self) {
        self.graph_mut().ignore_two_way_check();
    }
}
