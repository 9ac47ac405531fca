//! Other primaries of one store's name that are in reach.

use std::time::Duration;

use muster_store::StoreName;
use muster_wire::{EndpointId, Filter, Topic};

use crate::endpoint::Endpoint;

/// How much longer than a peer may be silent another primary is waited for: one that has crashed is lost by then.
pub(super) const MORE: Duration = Duration::from_secs(1);

/// Another endpoint in reach that listens to what is for the primary: of Muster or of Broker, by the topic that both
/// listen to.
pub(super) fn other_primary(endpoint: &Endpoint, topic: &Topic) -> Option<EndpointId> {
    let peers = endpoint.peers();
    let members = endpoint.mesh_in_reach();
    let direct = peers.iter().map(|peer| peer.id);
    let direct = direct.filter(|id| {
        let filter = endpoint.filter_of(*id).unwrap_or_default();
        filter.iter().any(|entry| entry == topic.as_bytes())
    });
    let has_topic = |filter: &Filter| {
        let mut entries = filter.entries();
        entries.any(|entry| entry == topic.as_bytes())
    };
    let in_mesh = members.iter().flat_map(|record| {
        let guests = record.guests.iter();
        let guests = guests.filter_map(|guest| Some((guest.id, guest.filter.as_ref()?)));
        guests.chain([(record.id, &record.filter)])
    });
    let in_mesh = in_mesh.filter(|(_, filter)| has_topic(filter));
    let mut all = direct.chain(in_mesh.map(|(id, _)| id));
    all.find(|id| *id != endpoint.id())
}

/// Whether another endpoint in reach has a primary of a store.
pub(crate) fn is_elsewhere(endpoint: &Endpoint, store: &StoreName) -> bool {
    other_primary(endpoint, &store.broker_master_topic()).is_some()
}

/// What the operator is told about another primary: which two nodes have one, and what to do.
pub(super) fn told(endpoint: &Endpoint, store: &StoreName, rival: EndpointId) -> String {
    let me = endpoint.id();
    let this = if endpoint.config().identity.name.is_empty() {
        format!("this endpoint ({me})")
    } else {
        format!("this node ({me})")
    };
    let other = named(endpoint, rival);
    format!(
        "two primaries of store {store}: {this} and {other}; both go on, and their entries are not merged. Keep one: \
         stop the other, or place the store on one node (`master` in the layout, the same on every node) and restart \
         the nodes whose layout has changed"
    )
}

/// What the operator is told of an endpoint with a primary that a clone does not follow, as it follows another.
pub(super) fn told_by_clone(
    endpoint: &Endpoint,
    store: &StoreName,
    (followed, other): (EndpointId, EndpointId),
) -> String {
    let (followed, other) = (named(endpoint, followed), named(endpoint, other));
    format!(
        "store {store}: two primaries, at {followed} and at {other}; the first is followed here"
    )
}

/// An endpoint by the name of its node, if that is known.
pub(super) fn named(endpoint: &Endpoint, id: EndpointId) -> String {
    let members = endpoint.mesh();
    let record = members.iter().find(|record| record.id == id);
    record.filter(|record| !record.name.is_empty()).map_or_else(
        || format!("endpoint {id}"),
        |record| format!("node {} ({id})", record.name),
    )
}
