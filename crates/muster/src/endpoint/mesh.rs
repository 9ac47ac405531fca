//! The owner's side of the mesh: one [`Mesh`], the clock that it sees, and what of its state the
//! routing table was made from.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use muster_wire::mesh::{Config, Decision, Identity, Mesh, Routes};
use muster_wire::{EndpointId, Filter, Mono};

use super::config::{EndpointConfig, Forwarding};

/// The most that the mesh's clock goes on at once, besides a rest that was meant. A process that was stopped itself has much to read when
/// it goes on: what it missed is nobody's silence.
const STEP: Duration = Duration::from_millis(500);

/// The time-out of an endpoint without heartbeats: none that anybody would notice.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

pub(crate) struct MeshPart {
    pub(crate) mesh: Mesh,
    real: Mono,
    now: Mono,
    /// How long the owner means to rest.
    rest: Duration,
    /// The reads of each neighbour when it was heard last.
    reads: HashMap<EndpointId, u64>,
    /// What the routing table was made from.
    routes: Option<Arc<Routes>>,
}

impl MeshPart {
    pub(crate) fn new(me: EndpointId, config: &EndpointConfig) -> Self {
        let node = &config.identity;
        let identity = Identity {
            id: me,
            incarnation: node.incarnation,
            name: node.name.clone(),
            role: node.role.clone(),
            machine: node.machine.clone(),
            transit: config.forwarding == Forwarding::Relay,
        };
        let mut mesh = Config::default();
        if config.heartbeat.interval.is_zero() {
            mesh.time_out = NEVER;
        } else {
            mesh.heartbeat = config.heartbeat.interval;
            mesh.time_out = config.heartbeat.timeout.max(config.heartbeat.interval * 2);
        }
        Self {
            mesh: Mesh::new(identity, mesh),
            real: Mono::default(),
            now: Mono::default(),
            rest: Duration::ZERO,
            reads: HashMap::new(),
            routes: None,
        }
    }

    /// The mesh's time, when it is `real` to everybody else.
    pub(crate) fn now(&mut self, real: Mono) -> Mono {
        let passed = real.since(self.real).min(self.rest.max(STEP));
        self.real = real;
        self.now = self.now.after(passed);
        self.now
    }

    /// How long the mesh has nothing to do.
    pub(crate) fn rest(&mut self, real: Mono) -> Option<Duration> {
        let now = self.now(real);
        let rest = self.mesh.next_due().map(|due| due.since(now));
        self.rest = rest.unwrap_or_default();
        rest
    }

    /// Whether [`MeshPart::tick`] has something to do.
    pub(crate) fn is_due(&mut self, real: Mono) -> bool {
        let now = self.now(real);
        self.mesh.next_due().is_some_and(|due| due <= now)
    }

    /// A connection to an endpoint of the mesh stands.
    pub(crate) fn peer_up(&mut self, peer: EndpointId, real: Mono) {
        let now = self.now(real);
        self.mesh.peer_up(peer, now);
    }

    /// It has ended.
    pub(crate) fn peer_down(&mut self, peer: EndpointId, real: Mono) {
        let now = self.now(real);
        self.reads.remove(&peer);
        self.mesh.peer_down(peer, now);
    }

    /// The subscriptions here have changed.
    pub(crate) fn subscribe(&mut self, filter: Filter, real: Mono) {
        let now = self.now(real);
        self.mesh.subscribe(filter, now);
    }

    /// Something is due. `reads` says how often each neighbour's connection has brought something.
    pub(crate) fn tick(&mut self, reads: impl Iterator<Item = (EndpointId, u64)>, real: Mono) {
        let now = self.now(real);
        for (peer, reads) in reads {
            if self.reads.insert(peer, reads) != Some(reads) {
                self.mesh.heard(peer, now);
            }
        }
        self.mesh.tick(now);
    }

    /// Where messages go now, if that is not what the routing table was made from.
    pub(crate) fn changed_routes(&mut self) -> Option<Arc<Routes>> {
        let routes = self.mesh.routes();
        let is_known = self.routes.as_ref();
        if is_known.is_some_and(|known| Arc::ptr_eq(known, &routes)) {
            return None;
        }
        self.routes = Some(Arc::clone(&routes));
        Some(routes)
    }

    /// Where the routing table's messages go.
    pub(crate) fn routes(&mut self) -> Arc<Routes> {
        self.changed_routes();
        let routes = self.routes.clone();
        routes.unwrap_or_else(|| self.mesh.routes())
    }

    pub(crate) fn poll(&mut self) -> Option<Decision> {
        self.mesh.poll()
    }
}
