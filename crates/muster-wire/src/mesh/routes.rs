//! Where messages go from one endpoint at one moment. Readers and publishers use it while the mesh
//! goes on.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::EndpointId;
use crate::filter::Filter;
use crate::mesh::bits::BitSet;
use crate::mesh::codec::MAX_FILTER_BYTES;
use crate::mesh::database::Database;
use crate::mesh::graph::Graph;
use crate::mesh::guests::Guests;
use crate::mesh::id_hash::IdHash;
use crate::mesh::record::{NodeRecord, shortened};
use crate::mesh::tree::{Branches, Tree};

/// The most entries of the filter that a peer of version 1 is told: it may compare each of its messages
/// with all of them.
const MAX_TOLD_ENTRIES: usize = 1024;

/// The entries of many filters that are put together at once.
const MAX_ENTRIES_AT_ONCE: usize = 65_536;

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

/// The endpoints and peers that want a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The slots of the endpoints that subscribe to it.
    pub endpoints: BitSet,
    /// The peers of version 1 that do, each with the slot of its home.
    guests: Vec<(u32, EndpointId)>,
}

/// Where messages go from one endpoint (protocol version 2, sections 7.3 and 7.4). It never
/// changes.
pub struct Routes {
    me: u32,
    relays: bool,
    slots: Arc<HashMap<EndpointId, u32, IdHash>>,
    nodes_version: u64,
    nodes: Arc<[Option<Arc<NodeRecord>>]>,
    current: Arc<Trees>,
    /// The trees that stood before the last changes, while not everybody may know of these.
    settled: Option<Arc<Trees>>,
    reach: BitSet,
    guests: Arc<Guests>,
    #[cfg(feature = "simulation")]
    sabotage: crate::mesh::Sabotage,
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
            reach: database.reach().clone(),
            guests: Guests::new(database, former.map(|former| &former.guests)),
            nodes_version,
            nodes: nodes.unwrap_or_else(|| all.collect()),
            #[cfg(feature = "simulation")]
            sabotage: crate::mesh::Sabotage::default(),
        }
    }

    /// The routes with a rule broken on purpose.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub(super) fn with_sabotage(mut self, sabotage: crate::mesh::Sabotage) -> Self {
        self.sabotage = sabotage;
        self
    }

    /// Returns the rule that is broken on purpose.
    #[cfg(feature = "simulation")]
    pub fn sabotage(&self) -> crate::mesh::Sabotage {
        self.sabotage
    }

    /// Returns the slot of this endpoint.
    pub fn me(&self) -> u32 {
        self.me
    }

    /// Returns `true` if this endpoint relays.
    pub fn relays(&self) -> bool {
        self.relays
    }

    /// Returns the slot of an endpoint. It may be another one in other routes.
    pub fn slot(&self, id: EndpointId) -> Option<u32> {
        self.slots.get(&id).copied()
    }

    /// Returns the node record in a slot, or `None` if the slot is not in use.
    pub fn node(&self, slot: u32) -> Option<&Arc<NodeRecord>> {
        self.nodes.get(slot as usize)?.as_ref()
    }

    /// Returns the node records of all endpoints of the database.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeRecord>> {
        self.nodes.iter().flatten()
    }

    /// Returns `true` if an endpoint can be reached.
    pub fn reaches(&self, slot: u32) -> bool {
        slot == self.me
            || self.current.of(self.me).is_some_and(|tree| {
                let mut children = tree.children.iter();
                children.any(|(_, below)| below.contains(slot))
            })
    }

    /// Returns the endpoints that a topic leads to. A topic made by [`topic_of`] leads to one.
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

    /// Returns who wants a topic: the endpoints of [`Routes::matching`], and those peers of version
    /// 1 that have a home.
    pub fn wanted(&self, topic: &[u8]) -> Wanted {
        let guests = match addressed(topic) {
            None => self.guests.wanting(topic),
            Some(_) => Vec::new(),
        };
        Wanted {
            endpoints: self.matching(topic),
            guests,
        }
    }

    /// Returns `true` if this endpoint is the home of a peer of version 1, and relays between it
    /// and the mesh.
    pub fn is_home_of(&self, guest: EndpointId) -> bool {
        #[cfg(feature = "simulation")]
        if self.sabotage.has_many_homes() {
            return true;
        }
        self.guests.is_at_home(guest)
    }

    /// Returns `true` if two endpoints are linked with one another.
    pub fn are_linked(&self, a: EndpointId, b: EndpointId) -> bool {
        let slots = self.slot(a).zip(self.slot(b));
        slots.is_some_and(|(a, b)| self.current.graph.linked(a, b))
    }

    /// Returns `true` if an endpoint in reach is the home of a peer of version 1, this one or another.
    pub fn has_home(&self, guest: EndpointId) -> bool {
        let slots = self.guests.hosts_of(guest);
        let mut nodes = slots.into_iter().flat_map(BitSet::iter);
        nodes.any(|slot| {
            let node = self.node(slot);
            node.is_some_and(|node| node.transit && node.ready && node.homes)
        })
    }

    /// Returns `true` if a peer of version 1 forwards and has its home elsewhere. Then the home
    /// alone exchanges messages with it: what other endpoints sent to it would come back to their
    /// neighbours through it.
    pub fn leaves_to_others(&self, guest: EndpointId) -> bool {
        self.guests.is_left_to_others(guest)
    }

    /// Returns the endpoints in reach that announce a peer of version 1.
    pub fn hosts_of(&self, guest: EndpointId) -> impl Iterator<Item = EndpointId> {
        let slots = self
            .guests
            .hosts_of(guest)
            .into_iter()
            .flat_map(BitSet::iter);
        slots.filter_map(|slot| Some(self.node(slot)?.id))
    }

    /// Returns `true` if a peer of version 1 is a peer of the endpoint in a slot, and so hears that
    /// endpoint's messages directly.
    pub fn has_guest(&self, slot: u32, guest: EndpointId) -> bool {
        let peers = self.guests.peers(guest);
        peers.is_some_and(|peers| peers.contains(slot))
    }

    /// Returns the slots of the endpoints that a peer of version 1 is connected to.
    pub fn peers_of(&self, guest: EndpointId) -> BitSet {
        self.guests.peers(guest).cloned().unwrap_or_default()
    }

    /// Returns the filter to tell a peer of version 1 whose home is this endpoint. It covers `own`
    /// and what the endpoints in reach subscribe to, except for those in `peers`; if that is too
    /// much, by shorter prefixes.
    pub fn filter_for(&self, peers: &BitSet, own: &Filter) -> Filter {
        let slots = self.reach.iter();
        let others = slots.filter(|slot| *slot != self.me && !peers.contains(*slot));
        let short = |entries: &[&[u8]]| {
            let all = Filter::from_prefixes(entries);
            shortened(&all, MAX_TOLD_ENTRIES, MAX_FILTER_BYTES)
        };
        let mut all = Filter::default();
        let mut entries: Vec<&[u8]> = own.entries().collect();
        for node in others.filter_map(|slot| self.node(slot)) {
            entries.extend(node.filter.entries());
            if entries.len() > MAX_ENTRIES_AT_ONCE {
                let some = short(&entries);
                all = Filter::from_prefixes(all.entries().chain(some.entries()));
                entries.clear();
            }
        }
        entries.extend(all.entries());
        short(&entries)
    }

    /// The endpoints that a message of `origin` is for: those that subscribe to it, and the homes of
    /// those guests that do and do not hear it directly. What is a guest's is for no other guest, and its
    /// peers have heard it.
    fn receivers<'w>(
        &self,
        origin: u32,
        wanted: &'w Wanted,
        guest: Option<EndpointId>,
    ) -> Cow<'w, BitSet> {
        if let Some(guest) = guest {
            return match self.guests.peers(guest) {
                Some(peers) => Cow::Owned(wanted.endpoints.without(peers).collect()),
                None => Cow::Borrowed(&wanted.endpoints),
            };
        }
        let mut receivers = Cow::Borrowed(&wanted.endpoints);
        for (home, guest) in &wanted.guests {
            if !self.has_guest(origin, *guest) && !receivers.contains(*home) {
                receivers.to_mut().insert(*home);
            }
        }
        receivers
    }

    /// Returns `true` if a message of an origin is for endpoints, and neither for this one nor for just those in `known`,
    /// who have it.
    pub(super) fn is_for_others(
        &self,
        origin: u32,
        wanted: &Wanted,
        guest: Option<EndpointId>,
        known: [Option<u32>; 2],
    ) -> bool {
        let receivers = self.receivers(origin, wanted, guest);
        !receivers.contains(self.me) && receivers.iter().any(|slot| !known.contains(&Some(slot)))
    }

    /// Returns the neighbours that a message goes to from here, if it is for `wanted`. Its origin
    /// is given by slot; it is the origin's own message, or one that the origin published for
    /// `guest`.
    pub fn next_hops(
        &self,
        origin: u32,
        wanted: &Wanted,
        guest: Option<EndpointId>,
    ) -> Vec<EndpointId> {
        let wanted = &*self.receivers(origin, wanted, guest);
        let graph = &self.current.graph;
        #[cfg(feature = "simulation")]
        if self.sabotage.floods() {
            let slots = 0..u32::try_from(graph.slots()).unwrap_or(u32::MAX);
            let neighbours = slots.filter(|slot| graph.announces(self.me, *slot));
            return neighbours.filter_map(|slot| graph.id(slot)).collect();
        }
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

/// Returns the topic that leads to the endpoint `id` alone. It is for the mesh's own use.
pub fn topic_of(id: EndpointId) -> String {
    format!("{ADDRESSED}{id}")
}

/// Returns the endpoint that a topic of [`topic_of`] is addressed to, or `None` for other topics.
pub fn addressed(topic: &[u8]) -> Option<EndpointId> {
    let id = topic.strip_prefix(ADDRESSED.as_bytes())?;
    std::str::from_utf8(id).ok()?.parse().ok()
}
