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

/// Whether an endpoint takes guests in: it relays, all know it, and it is willing to.
fn is_open(node: &NodeRecord) -> bool {
    node.transit && node.ready && node.homes
}

/// Whether this endpoint, once it announces `guest`, is its home as far as the others announce.
pub(crate) fn is_home(database: &Database, me: &NodeRecord, guest: EndpointId) -> bool {
    let mine = suitability(guest, me.id);
    let is_better = |slot: u32| {
        let node = database.node(slot).filter(|_| slot != database.me());
        node.is_some_and(|node| {
            is_open(node) && node.has_guest(guest) && suitability(guest, node.id) > mine
        })
    };
    let mut others = database.hosts().iter();
    is_open(me) && !others.any(|slot| database.reach().contains(slot) && is_better(slot))
}

/// The filters of the guests that an endpoint announces as their home, shortened where they are more
/// together than a node record may hold: then each has an equal part.
pub(crate) fn announceable(filters: &mut [Filter]) {
    let entries: usize = filters.iter().map(|filter| filter.entries().len()).sum();
    let all = filters.iter().flat_map(Filter::entries);
    let bytes: usize = all.map(<[u8]>::len).sum();
    if entries <= MAX_FILTER_ENTRIES && bytes <= MAX_FILTER_BYTES {
        return;
    }
    let all = filters.len().max(1);
    for filter in filters {
        *filter = shortened(filter, MAX_FILTER_ENTRIES / all, MAX_FILTER_BYTES / all);
    }
}

/// An endpoint with guests.
#[derive(Debug)]
struct Host {
    slot: u32,
    node: Arc<NodeRecord>,
}

/// The peerings of guests that are looked at, of all endpoints together: what endpoints claim beyond
/// that is as if nobody had said it.
const MAX_PEERINGS: usize = 1 << 18;

/// The guests of all endpoints in reach, as of one moment.
#[derive(Debug, Default)]
pub(super) struct Guests {
    hosts: Vec<Host>,
    /// The slots of the endpoints that each guest peers with; of one that forwards only its home's, if it
    /// has one.
    peers: HashMap<EndpointId, BitSet>,
    /// The guests that forward and have their home elsewhere: with them the home alone exchanges messages.
    left_to_others: BTreeSet<EndpointId>,
    /// The guests whose home this endpoint is.
    at_home: BTreeSet<EndpointId>,
}

impl Guests {
    /// The guests in a database; `former` ones if nothing has changed.
    pub(super) fn new(database: &Database, former: Option<&Arc<Self>>) -> Arc<Self> {
        let reach = database.reach();
        let hosts = database.hosts().iter().filter(|slot| reach.contains(*slot));
        let hosts = hosts.filter_map(|slot| {
            let node = Arc::clone(database.node(slot)?);
            Some(Host { slot, node })
        });
        let mut peerings = 0;
        let hosts = hosts.take_while(|host| {
            peerings += host.node.guests.len();
            peerings <= MAX_PEERINGS
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
        let mut left_to_others = BTreeSet::new();
        for guest in forwarding {
            let open = hosts.iter().filter(|host| is_open(&host.node));
            let open = open.filter(|host| host.node.has_guest(guest));
            let home = open.max_by_key(|host| suitability(guest, host.node.id));
            if let Some(home) = home {
                peers.insert(guest, BitSet::from_iter([home.slot]));
                if home.slot != database.me() {
                    left_to_others.insert(guest);
                }
            }
        }
        let me = database.node(database.me());
        let mine = me.into_iter().flat_map(|me| {
            let ids = me.guests.iter().map(|guest| guest.id);
            ids.filter(|id| is_home(database, me, *id))
        });
        Arc::new(Self {
            at_home: mine.collect(),
            peers,
            left_to_others,
            hosts,
        })
    }

    /// Whether this endpoint is the home of a guest.
    pub(super) fn is_at_home(&self, guest: EndpointId) -> bool {
        self.at_home.contains(&guest)
    }

    /// Whether a guest forwards, and has its home elsewhere.
    pub(super) fn is_left_to_others(&self, guest: EndpointId) -> bool {
        self.left_to_others.contains(&guest)
    }

    /// The endpoints that announce a guest, whether it forwards or not.
    pub(super) fn hosts_of(&self, guest: EndpointId) -> impl Iterator<Item = EndpointId> {
        let hosts = self.hosts.iter();
        let hosts = hosts.filter(move |host| host.node.has_guest(guest));
        hosts.map(|host| host.node.id)
    }

    /// The slots of the endpoints that exchange messages with a guest themselves.
    pub(super) fn peers(&self, guest: EndpointId) -> Option<&BitSet> {
        self.peers.get(&guest)
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
        let mut filters = vec![many("a"), many("b"), Filter::from_prefixes(["c/"])];
        announceable(&mut filters);
        let entries: usize = filters.iter().map(|filter| filter.entries().len()).sum();
        assert!(entries <= MAX_FILTER_ENTRIES && filters[2].entries().len() == 1);
        assert!(filters[0].matches(b"a/2999") && filters[1].matches(b"b/0000"));
        let mut few = vec![many("a"), Filter::default()];
        announceable(&mut few);
        assert_eq!(few[0].entries().len(), 3000);
    }
}
