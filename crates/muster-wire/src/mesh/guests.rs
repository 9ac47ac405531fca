//! Peers of version 1 that are in no mesh, and where their homes are (protocol version 2, section 12).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::EndpointId;
use crate::filter::Filter;
use crate::mesh::bits::BitSet;
use crate::mesh::codec::{MAX_FILTER_BYTES, MAX_FILTER_ENTRIES};
use crate::mesh::database::Database;
use crate::mesh::record::{NodeRecord, shortened};
use crate::mesh::score::{key, score};

/// How well an endpoint suits a guest as its home; the best is chosen.
type Suitability = (u64, EndpointId);

fn suitability(guest: EndpointId, host: EndpointId) -> Suitability {
    let guest = key(guest);
    (score(guest, guest, key(host)), host)
}

/// Returns `true` if an endpoint takes guests in: it relays, all know it, and it is willing to.
fn is_open(node: &NodeRecord) -> bool {
    node.transit && node.ready && node.homes
}

/// The endpoints in reach that announce guests, without what is over the bound.
fn hosts(database: &Database) -> impl Iterator<Item = (u32, &Arc<NodeRecord>)> {
    let reach = database.reach();
    let hosts = database.hosts().iter().filter(|slot| reach.contains(*slot));
    let hosts = hosts.filter_map(|slot| Some((slot, database.node(slot)?)));
    let mut peerings = 0;
    hosts.take_while(move |(_, node)| {
        peerings += node.guests.len();
        peerings <= MAX_PEERINGS
    })
}

/// How well the best of the other endpoints suits each of our guests as its home.
#[derive(Debug)]
pub(crate) struct Others(HashMap<EndpointId, Suitability>);

impl Others {
    /// Looks at all guests that are ours as well.
    pub(crate) fn new(database: &Database, is_ours: impl Fn(EndpointId) -> bool) -> Self {
        let mut best = HashMap::new();
        let others = hosts(database).filter(|(slot, node)| *slot != database.me() && is_open(node));
        for (_, node) in others {
            let guests = node.guests.iter().map(|guest| guest.id);
            for guest in guests.filter(|id| is_ours(*id)) {
                let suits = suitability(guest, node.id);
                let known = best.entry(guest).or_insert(suits);
                *known = suits.max(*known);
            }
        }
        Self(best)
    }

    /// Returns `true` if `me`, once it announces a guest, is its home: none of the others is
    /// better.
    pub(crate) fn are_worse(&self, guest: EndpointId, me: &NodeRecord) -> bool {
        let best = self.0.get(&guest);
        is_open(me) && best.is_none_or(|best| suitability(guest, me.id) > *best)
    }
}

/// The filters of guests as their home announces them: shortened where they are more together than a node
/// record may hold, each to an equal part.
pub(crate) fn announceable(filters: &[&Filter]) -> Vec<Filter> {
    let entries: usize = filters.iter().map(|filter| filter.entries().len()).sum();
    let all = filters.iter().flat_map(|filter| filter.entries());
    let bytes: usize = all.map(<[u8]>::len).sum();
    let (most_entries, most_bytes) = if entries <= MAX_FILTER_ENTRIES && bytes <= MAX_FILTER_BYTES {
        (MAX_FILTER_ENTRIES, MAX_FILTER_BYTES)
    } else {
        let count = filters.len().max(1);
        (MAX_FILTER_ENTRIES / count, MAX_FILTER_BYTES / count)
    };
    let filters = filters.iter();
    filters
        .map(|filter| shortened(filter, most_entries, most_bytes))
        .collect()
}

/// An endpoint with guests.
#[derive(Debug)]
struct Host {
    slot: u32,
    node: Arc<NodeRecord>,
}

/// The peerings of guests that are looked at, of all endpoints together: what endpoints claim beyond
/// that is as if nobody had said it.
const MAX_PEERINGS: usize = 1 << 17;

/// The guests of all endpoints in reach, as of one moment.
#[derive(Debug, Default)]
pub(super) struct Guests {
    hosts: Vec<Host>,
    /// The slots of the endpoints that each guest peers with.
    peers: HashMap<EndpointId, BitSet>,
    /// Of each guest that forwards and has a home the slot of that alone.
    forwarding: HashMap<EndpointId, BitSet>,
    me: u32,
    /// The guests whose home this endpoint is.
    at_home: BTreeSet<EndpointId>,
}

impl Guests {
    /// The guests in a database; `former` ones if nothing has changed.
    pub(super) fn new(database: &Database, former: Option<&Arc<Self>>) -> Arc<Self> {
        let hosts = hosts(database).map(|(slot, node)| Host {
            slot,
            node: Arc::clone(node),
        });
        let hosts: Vec<Host> = hosts.collect();
        let is_same = |former: &&Arc<Self>| {
            let mut pairs = former.hosts.iter().zip(&hosts);
            former.hosts.len() == hosts.len()
                && pairs.all(|(a, b)| a.slot == b.slot && Arc::ptr_eq(&a.node, &b.node))
        };
        if let Some(former) = former.filter(is_same) {
            return Arc::clone(former);
        }
        let mut peers: HashMap<EndpointId, BitSet> = HashMap::new();
        let mut forwarding = BTreeSet::new();
        for host in &hosts {
            for guest in &host.node.guests {
                peers.entry(guest.id).or_default().insert(host.slot);
                if guest.forwards {
                    forwarding.insert(guest.id);
                }
            }
        }
        let home_of = |guest: EndpointId| {
            let slots = peers.get(&guest)?.iter();
            let nodes = slots.filter_map(|slot| Some((slot, database.node(slot)?)));
            let open = nodes.filter(|(_, node)| is_open(node));
            let home = open.max_by_key(|(_, node)| suitability(guest, node.id));
            home.map(|(slot, _)| BitSet::from_iter([slot]))
        };
        let forwarding = forwarding.into_iter();
        let forwarding = forwarding.filter_map(|guest| Some((guest, home_of(guest)?)));
        let forwarding = forwarding.collect();
        let mut at_home = BTreeSet::new();
        if let Some(me) = database.node(database.me()) {
            let others = Others::new(database, |guest| me.has_guest(guest));
            let ids = me.guests.iter().map(|guest| guest.id);
            at_home.extend(ids.filter(|id| others.are_worse(*id, me)));
        }
        Arc::new(Self {
            hosts,
            peers,
            forwarding,
            me: database.me(),
            at_home,
        })
    }

    /// Returns `true` if this endpoint is the home of a guest.
    pub(super) fn is_at_home(&self, guest: EndpointId) -> bool {
        self.at_home.contains(&guest)
    }

    /// Returns `true` if a guest forwards, and has its home elsewhere.
    pub(super) fn is_left_to_others(&self, guest: EndpointId) -> bool {
        let home = self.forwarding.get(&guest);
        home.is_some_and(|home| !home.contains(self.me))
    }

    /// The slots of the endpoints that announce a guest, whether it forwards or not.
    pub(super) fn hosts_of(&self, guest: EndpointId) -> Option<&BitSet> {
        self.peers.get(&guest)
    }

    /// The slots of the endpoints that exchange messages with a guest themselves.
    pub(super) fn peers(&self, guest: EndpointId) -> Option<&BitSet> {
        self.forwarding
            .get(&guest)
            .or_else(|| self.peers.get(&guest))
    }

    /// The guests that want a topic, each with the slot of its home.
    pub(super) fn wanting(&self, topic: &[u8]) -> Vec<(u32, EndpointId)> {
        let mut wanting = Vec::new();
        for host in &self.hosts {
            for guest in &host.node.guests {
                let filter = guest.filter.as_ref();
                if filter.is_some_and(|filter| filter.matches(topic)) {
                    wanting.push((host.slot, guest.id));
                }
            }
        }
        wanting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_are_too_many_together_are_cut_to_equal_parts() {
        let many = |name: &str| Filter::from_prefixes((0..3000).map(|n| format!("{name}/{n:04}")));
        let (a, b, c) = (many("a"), many("b"), Filter::from_prefixes(["c/"]));
        let filters = announceable(&[&a, &b, &c]);
        let entries: usize = filters.iter().map(|filter| filter.entries().len()).sum();
        assert!(entries <= MAX_FILTER_ENTRIES && filters[2].entries().len() == 1);
        assert!(filters[0].matches(b"a/2999") && filters[1].matches(b"b/0000"));
        let few = announceable(&[&a, &c]);
        assert_eq!(few, [a, c]);
    }
}
