//! The routing table: which peers and which local subscribers a topic leads to.
//!
//! One owner builds a new immutable [`Table`] for every change; publishers and readers look topics
//! up without a lock and keep a bounded [`RouteCache`] that is valid for one table.

mod cache;
mod evicting;
mod subscribers;

use std::collections::HashMap;
use std::sync::Arc;

pub use cache::{HopCache, RouteCache};
pub use subscribers::Subscribers;

use crate::EndpointId;
use crate::filter::Filter;
use crate::mesh::{Routes, Wanted, addressed};
use crate::peering::Protocol;

/// An immutable routing table. `P` and `S` are the shell's handles of a peer and a subscriber.
#[derive(Debug)]
pub struct Table<P, S> {
    version: u64,
    peers: Vec<PeerEntry<P>>,
    positions: HashMap<EndpointId, u32>,
    mesh: Option<Arc<Routes>>,
    subscribers: Subscribers<S>,
}

/// A peer of the table.
#[derive(Debug, Clone)]
pub struct PeerEntry<P> {
    /// The peer's id.
    pub id: EndpointId,
    /// The protocol spoken with it. What goes to a peer of version 2 is decided by the mesh.
    pub protocol: Protocol,
    /// What the peer subscribes to.
    pub filter: Arc<Filter>,
    /// The shell's handle.
    pub handle: P,
}

/// Where a topic leads, as positions in the table's peers and subscribers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// The peers that this endpoint's own messages go to: positions for [`Table::peer`].
    pub peers: Vec<u32>,
    /// The local subscribers: positions for [`Table::subscriber`].
    pub subscribers: Vec<u32>,
    /// The endpoints of the mesh that want it.
    pub wanted: Wanted,
    /// The peers of version 1 that want it and have their home at this endpoint, which passes
    /// messages of others on to them: positions for [`Table::peer`].
    pub guests: Vec<u32>,
    /// The endpoint that the topic is addressed to, if it is such a topic.
    pub addressee: Option<EndpointId>,
}

impl<P, S> Table<P, S> {
    /// Creates a table that leads nowhere.
    pub fn empty() -> Self {
        Self::new(0, Vec::new(), Vec::new())
    }

    /// Builds a table. Each subscriber comes with its topic prefixes, and its position is its place among them. A new
    /// table of an endpoint needs a higher `version` than the one before.
    pub fn new(version: u64, peers: Vec<PeerEntry<P>>, subscribers: Vec<(Filter, S)>) -> Self {
        let (filters, handles): (Vec<Filter>, Vec<S>) = subscribers.into_iter().unzip();
        let subscribers = filters.iter().map(Filter::entries).zip(handles);
        Self::with_subscribers(version, peers, subscribers.collect())
    }

    /// Builds a table with subscribers that are kept from one table to the next.
    pub fn with_subscribers(
        version: u64,
        peers: Vec<PeerEntry<P>>,
        subscribers: Subscribers<S>,
    ) -> Self {
        let positions = peers.iter().enumerate();
        let positions = positions.map(|(position, peer)| (peer.id, position_of(position)));
        Self {
            version,
            positions: positions.collect(),
            peers,
            mesh: None,
            subscribers,
        }
    }

    /// Adds the mesh behind the peers of version 2.
    #[must_use]
    pub fn with_mesh(mut self, routes: Arc<Routes>) -> Self {
        self.mesh = Some(routes);
        self
    }

    /// Returns the routes of the mesh, if there is one.
    pub fn mesh(&self) -> Option<&Arc<Routes>> {
        self.mesh.as_ref()
    }

    /// Returns the entry of a peer.
    pub fn entry(&self, id: EndpointId) -> Option<&PeerEntry<P>> {
        self.peer(*self.positions.get(&id)?)
    }

    /// Returns the positions of the peers that a message goes to from here, if it is for `wanted`.
    /// Its origin is a slot of the mesh; it is the origin's own message, or one that the origin
    /// published for `guest`.
    pub fn next_hops(&self, origin: u32, wanted: &Wanted, guest: Option<EndpointId>) -> Vec<u32> {
        let hops = self.mesh.iter();
        let hops = hops.flat_map(|routes| routes.next_hops(origin, wanted, guest));
        hops.filter_map(|hop| self.positions.get(&hop).copied())
            .collect()
    }

    /// Returns the version that the table was built with.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the peers in the order of their positions.
    pub fn peers(&self) -> &[PeerEntry<P>] {
        &self.peers
    }

    /// Returns the peer at a position of a [`Route`], which must be of this very table.
    pub fn peer(&self, position: u32) -> Option<&PeerEntry<P>> {
        self.peers.get(position as usize)
    }

    /// Returns the subscriber at a position of a [`Route`], which must be of this very table.
    pub fn subscriber(&self, position: u32) -> Option<&S> {
        self.subscribers.get(position)
    }

    /// Returns `true` if messages from and to a peer of version 1 are left to its home, another
    /// endpoint, because the peer forwards.
    pub fn leaves_to_others(&self, id: EndpointId) -> bool {
        let routes = self.mesh.as_ref();
        routes.is_some_and(|routes| routes.leaves_to_others(id))
    }

    /// Computes where a topic leads.
    pub fn route(&self, topic: &[u8]) -> Route {
        let is_in_mesh = |id| {
            let routes = self.mesh.as_ref()?;
            Some(routes.reaches(routes.slot(id)?))
        };
        let addressee = addressed(topic);
        let peers = (0u32..).zip(&self.peers).filter(|(_, peer)| {
            // Whoever is in the mesh as well hears by the mesh alone, or it would hear twice.
            peer.protocol == Protocol::V1
                && addressee.map_or_else(|| peer.filter.matches(topic), |id| id == peer.id)
                && is_in_mesh(peer.id) != Some(true)
                && !self.leaves_to_others(peer.id)
        });
        let mut peers: Vec<u32> = peers.map(|(position, _)| position).collect();
        let (mut wanted, mut guests) = (Wanted::default(), Vec::new());
        if let Some(routes) = &self.mesh {
            wanted = routes.wanted(topic);
            if addressee.is_none() {
                let id = |position: &u32| self.peers[*position as usize].id;
                let here = peers.iter().filter(|peer| routes.is_home_of(id(peer)));
                guests = here.copied().collect();
            }
            peers.extend(self.next_hops(routes.me(), &wanted, None));
        }
        Route {
            peers,
            subscribers: self.subscribers.matching(topic),
            wanted,
            guests,
            addressee,
        }
    }
}

fn position_of(position: usize) -> u32 {
    u32::try_from(position)
        .expect("a table has fewer than 2^32 entries: each costs a socket or a queue")
}
