//! The records that every endpoint holds of every other (protocol version 2, section 5).

use std::sync::Arc;

use crate::filter::Filter;
use crate::mesh::newness::{Order, order, order_of_versions};
use crate::mesh::seal::{NodeSeal, Signature};
use crate::{EndpointId, Incarnation};

/// What an endpoint announces about itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRecord {
    /// The endpoint.
    pub id: EndpointId,
    /// The incarnation of the endpoint.
    pub incarnation: Incarnation,
    /// The number of changes of this record, from 1.
    pub version: u64,
    /// Whether it relays messages of others.
    pub transit: bool,
    /// Whether all others know its records (section 8).
    pub ready: bool,
    /// Whether it may be the home of its guests, and relay between them and the mesh (section 12).
    pub homes: bool,
    /// Its name among nodes, at most 255 bytes; empty for an endpoint that is no node.
    pub name: String,
    /// Its role, at most 255 bytes.
    pub role: String,
    /// The machine it runs on, at most 255 bytes.
    pub machine: String,
    /// What it subscribes to.
    pub filter: Filter,
    /// Its peers of version 1 that are in no mesh, in ascending order of their ids.
    pub guests: Vec<Guest>,
}

/// A peer of version 1 that is in no mesh, such as a Zeek node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guest {
    /// The peer.
    pub id: EndpointId,
    /// What it subscribes to, if the endpoint that announces it is its home.
    pub filter: Option<Filter>,
    /// Whether it was seen to forward, that is, to pass what one of its peers sends on to the
    /// others.
    pub forwards: bool,
}

impl NodeRecord {
    /// Returns `true` if the endpoint announces a peer of version 1.
    pub fn has_guest(&self, id: EndpointId) -> bool {
        let found = self.guests.binary_search_by_key(&id, |guest| guest.id);
        found.is_ok()
    }
}

/// The neighbours of an endpoint that relays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkRecord {
    /// The endpoint.
    pub id: EndpointId,
    /// The incarnation of the endpoint.
    pub incarnation: Incarnation,
    /// The number of changes of this record, from 1.
    pub version: u64,
    /// The endpoints that it has a connection to, in ascending order.
    pub neighbours: Vec<EndpointId>,
}

/// The difference between two versions of a link record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkChanges {
    /// The endpoint.
    pub id: EndpointId,
    /// The incarnation of the endpoint.
    pub incarnation: Incarnation,
    /// The version that the change applies to.
    pub before: u64,
    /// The version that results.
    pub after: u64,
    /// New neighbours.
    pub added: Vec<EndpointId>,
    /// Lost neighbours.
    pub removed: Vec<EndpointId>,
}

/// A record as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A node record, with its seal if it has one.
    Node(Arc<NodeRecord>, Option<Arc<NodeSeal>>),
    /// A whole link record, with its seal if it has one.
    Links(LinkRecord, Option<Signature>),
    /// A change of a link record, with the seal of what it results in.
    Changes(LinkChanges, Option<Signature>),
}

impl Record {
    /// Returns the endpoint that the record is about.
    pub fn id(&self) -> EndpointId {
        match self {
            Self::Node(node, _) => node.id,
            Self::Links(links, _) => links.id,
            Self::Changes(changes, _) => changes.id,
        }
    }
}

/// How new somebody's records of an endpoint are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The endpoint.
    pub id: EndpointId,
    /// The incarnation of the endpoint.
    pub incarnation: Incarnation,
    /// The version of the node record.
    pub node: u64,
    /// The version of the link record; 0 if there is none.
    pub links: u64,
}

impl Versions {
    /// Returns `true` if either record is newer than that of `other`.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        match order(self.incarnation.0, other.incarnation.0) {
            Order::Newer => true,
            Order::Same => {
                let is_newer = |there, here| order_of_versions(there, here) == Order::Newer;
                is_newer(self.node, other.node) || is_newer(self.links, other.links)
            }
            Order::Older | Order::Absurd => false,
        }
    }
}

/// Returns the filter to announce for `filter`: the filter itself, or, if it has more than
/// `entries` entries or more than `bytes` bytes in them, shorter prefixes that cover it. All
/// entries are then cut to the greatest length that leaves few enough; at length 0 one entry covers
/// everything.
pub fn shortened(filter: &Filter, entries: usize, bytes: usize) -> Filter {
    let is_short = |filter: &Filter| {
        let total: usize = filter.entries().map(<[u8]>::len).sum();
        filter.entries().len() <= entries && total <= bytes
    };
    if is_short(filter) {
        return filter.clone();
    }
    let cut = |length: usize| {
        Filter::from_prefixes(
            filter
                .entries()
                .map(|entry| &entry[..entry.len().min(length)]),
        )
    };
    let longest = filter.entries().map(<[u8]>::len).max().unwrap_or_default();
    // Entries and bytes grow with the length: shorter prefixes cover more.
    let (mut fits, mut too_long) = (0, longest);
    while fits + 1 < too_long {
        let middle = usize::midpoint(fits, too_long);
        if is_short(&cut(middle)) {
            fits = middle;
        } else {
            too_long = middle;
        }
    }
    cut(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_filter_is_announced_by_shorter_prefixes() {
        let filter = Filter::from_prefixes((0..10_000).map(|n| format!("zeek/hosts/{n:05}/")));
        let short = shortened(&filter, 4096, 1 << 20);
        assert_eq!(short.entries().len(), 1000);
        assert!(short.matches(b"zeek/hosts/01234/") && !short.matches(b"zeek/hosts/1"));
        assert_eq!(shortened(&short, 4096, 1 << 20), short);
        assert_eq!(shortened(&filter, 1, 1 << 20).entries().len(), 1);
        let few_bytes = shortened(&filter, 4096, 1000);
        assert_eq!(few_bytes.entries().len(), 10);
        assert!(few_bytes.matches(b"zeek/hosts/09999/"));
        assert!(shortened(&filter, 0, 0).matches(b"anything"));
    }
}
