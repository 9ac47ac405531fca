//! Two primaries of one store: a mistake that only the operator can mend, and that the primaries themselves notice.

use std::time::Duration;

use muster_store::StoreName;
use muster_wire::{EndpointId, Mono};

use crate::endpoint::Endpoint;

/// How much longer than a peer may be silent another primary is waited for: one that has crashed is lost by then.
const MORE: Duration = Duration::from_secs(1);

/// What a primary knows of others of its name.
#[derive(Debug, Default)]
pub(super) struct Rival {
    known: Option<EndpointId>,
    /// When it looks for one; while it knows one it looks at every turn.
    look_at: Option<Mono>,
}

impl Rival {
    /// The other endpoint that has the primary, too.
    pub(super) fn known(&self) -> Option<EndpointId> {
        self.known
    }

    /// Somebody is in reach who may have the primary, too.
    pub(super) fn look_soon(&mut self, endpoint: &Endpoint) {
        let wait = endpoint.config().heartbeat.timeout + MORE;
        self.look_at.get_or_insert(endpoint.now().after(wait));
    }

    /// Looks, if it is time, and tells of what is new.
    pub(super) fn tick(&mut self, endpoint: &Endpoint, name: &StoreName) {
        let is_due = self.look_at.is_some_and(|at| at <= endpoint.now());
        if is_due || self.known.is_some() {
            self.look_at = None;
            self.look(endpoint, name);
        }
    }

    /// Looks at once.
    pub(super) fn look(&mut self, endpoint: &Endpoint, name: &StoreName) {
        let other = other_primary(endpoint, name);
        if other == self.known {
            return;
        }
        if let Some(id) = other {
            let who = name_of(endpoint, id);
            tracing::error!(
                "store {name}: two primaries: {who} has one as well as this endpoint; every node must \
                 have the same layout, which puts it in one place"
            );
        } else {
            tracing::info!("store {name}: its only primary is here again");
        }
        self.known = other;
    }
}

/// Another endpoint in reach that listens to what is for the primary: of Muster or of Broker.
fn other_primary(endpoint: &Endpoint, name: &StoreName) -> Option<EndpointId> {
    let topic = name.broker_master_topic();
    let peers = endpoint.peers();
    let members = endpoint.mesh_in_reach();
    let direct = peers.iter().map(|peer| peer.id);
    let direct = direct.filter(|id| {
        let filter = endpoint.filter_of(*id).unwrap_or_default();
        filter.iter().any(|entry| entry == topic.as_bytes())
    });
    let has_topic = |filter: &muster_wire::Filter| {
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

/// A node's name and id, or the id of what is no node.
fn name_of(endpoint: &Endpoint, id: EndpointId) -> String {
    let members = endpoint.mesh();
    let record = members.iter().find(|record| record.id == id);
    match record.filter(|record| !record.name.is_empty()) {
        Some(record) => format!("{} ({id})", record.name),
        None => id.to_string(),
    }
}
