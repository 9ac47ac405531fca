//! The owner's side of the mesh: one [`Mesh`], and what is done when it decides something.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use muster_wire::mesh::codec::MeshFrame;
use muster_wire::mesh::seal::Seals;
use muster_wire::mesh::{Config, Decision, Identity, Mesh, Reason, Refusal, Routes};
use muster_wire::peering::Protocol;
use muster_wire::{EndpointId, Mono, Wall};

use super::Owner;
use crate::endpoint::config::{EndpointConfig, Forwarding};
use crate::endpoint::end_reason::LossReason;
use crate::endpoint::send_queue::control::ControlKind;
use crate::endpoint::status::Status;
use crate::endpoint::tls::CertificateSeals;

/// A neighbour that hangs is found by its connection's pings, whatever its own settings are: the mesh
/// itself gives nobody up.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The time between two lines of the log about records that contradict this endpoint.
const CONTRADICTIONS_APART: Duration = Duration::from_secs(10);

/// The time between two lines of the log about records whose seals are not good for the same cause.
const FORGERIES_APART: Duration = Duration::from_secs(10);

/// What a refusal because of a seal means for whoever reads the log.
fn why(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unsealed => {
            "it has no seal, as those of endpoints without mutual TLS, and of earlier versions of Muster"
        }
        Refusal::Seal => "its endpoint has not signed it: somebody forges it",
        Refusal::Identity => {
            "the certificate that it comes with is not that of its endpoint: somebody forges it"
        }
        Refusal::Untrusted => {
            "the certificate that it comes with is of no authority that is trusted here; all nodes of a mesh must trust \
             the authorities of all"
        }
        Refusal::OutOfDate => {
            "the certificate that it comes with has expired, or is not valid yet: renew it, or set the clocks"
        }
        Refusal::Full | Refusal::Orphan | Refusal::Neighbours | Refusal::Absurd => "",
    }
}

pub(super) struct MeshPart {
    pub(super) mesh: Mesh,
    /// What the routing table was made from.
    routes: Option<Arc<Routes>>,
    /// When it was told last that somebody contradicts this endpoint.
    contradicted_at: Option<Mono>,
    /// Whether records have seals.
    is_sealed: bool,
    /// When it was told last, for each cause, that a record is not its origin's.
    forged_at: BTreeMap<Refusal, Mono>,
}

impl MeshPart {
    pub(super) fn new(
        me: EndpointId,
        config: &EndpointConfig,
        seals: Option<CertificateSeals>,
    ) -> Self {
        let is_sealed = seals.is_some();
        let node = &config.identity;
        let identity = Identity {
            id: me,
            incarnation: node.incarnation,
            name: node.name.clone(),
            role: node.role.clone(),
            machine: node.machine.clone(),
            transit: config.forwarding == Forwarding::Relay,
            homes: config.forwarding == Forwarding::Relay && config.relay_version_1,
        };
        let mut mesh = Config {
            time_out: NEVER,
            seals: seals.map(|seals| Arc::new(seals) as Arc<dyn Seals>),
            ..Config::default()
        };
        if !config.heartbeat.interval.is_zero() {
            mesh.heartbeat = config.heartbeat.interval;
        }
        Self {
            mesh: Mesh::new(identity, mesh),
            routes: None,
            is_sealed,
            contradicted_at: None,
            forged_at: BTreeMap::new(),
        }
    }

    /// Seals with another key from now on.
    pub(super) fn renew_seals(&mut self, seals: CertificateSeals, now: Mono) {
        self.mesh.renew_seals(Arc::new(seals), now);
    }

    /// Tells the mesh what time it is, for the certificates of records that have come now.
    pub(super) fn look_at_wall(&mut self) {
        if self.is_sealed {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            self.mesh
                .set_wall(Wall(since.unwrap_or_default().as_secs()));
        }
    }

    /// Whether messages go elsewhere now than the routing table says.
    fn has_other_routes(&mut self) -> bool {
        let routes = self.mesh.routes();
        let known = self.routes.as_ref();
        !known.is_some_and(|known| Arc::ptr_eq(known, &routes))
    }

    /// Where the messages of the routing table that is made now go.
    pub(super) fn routes(&mut self) -> Arc<Routes> {
        let routes = self.mesh.routes();
        self.routes = Some(Arc::clone(&routes));
        routes
    }
}

impl Owner {
    pub(super) fn tick_mesh(&mut self) {
        let now = self.shared.now();
        let mesh = &mut self.mesh.mesh;
        if mesh.next_due().is_some_and(|due| due <= now) {
            mesh.tick(now);
        }
    }

    /// Puts what the mesh has learnt into the routing table, then does what the mesh decides.
    pub(super) fn carry_out_mesh(&mut self) {
        // Somebody may be up before the reader goes on that has just told of it.
        self.tick_mesh();
        if self.mesh.mesh.is_joining() {
            self.shared.join_buffer.open();
        }
        if self.mesh.has_other_routes() {
            self.choose_policies();
            self.publish_table();
            self.guests_may_hear_other_things();
        }
        self.tell_guests();
        self.ask_guests();
        if self.mesh.mesh.is_ready() {
            self.send_early();
        }
        let mut announced = false;
        // What is flooded is encoded once for all neighbours, whose queues share it.
        let mut last: Option<(Arc<MeshFrame>, Bytes)> = None;
        let mut scratch = Vec::new();
        while let Some(decision) = self.mesh.mesh.poll() {
            match decision {
                Decision::Send { to, frame } => {
                    let Some(peer) = self.peers.get(&to) else {
                        continue;
                    };
                    let same = last.take_if(|(known, _)| Arc::ptr_eq(known, &frame));
                    let (_, bytes) = last.insert(same.unwrap_or_else(|| {
                        scratch.clear();
                        frame.write(&mut scratch);
                        let bytes = Bytes::copy_from_slice(&scratch);
                        (frame, bytes)
                    }));
                    let queue = &peer.session.queue;
                    queue.push_control(bytes.clone(), ControlKind::Other);
                }
                Decision::Disconnect { peer, reason } => {
                    let silent = self.shared.config.heartbeat.timeout;
                    let reason = match reason {
                        Reason::TimeOut => LossReason::Silent(silent),
                    };
                    if let Some(peer) = self.peers.get(&peer) {
                        peer.session.queue.end(reason.into());
                    }
                }
                Decision::NodeUp(node) => {
                    let id = node.id;
                    self.push_status(&Status::EndpointDiscovered(node));
                    if let Some(peer) = self.peers.get(&id).filter(|peer| peer.session.announce()) {
                        self.push_status(&Status::PeerAdded(peer.session.info.clone()));
                        announced = true;
                    }
                }
                Decision::NodeDown(id) => self.push_status(&Status::EndpointUnreachable(id)),
                Decision::Contradicted { by } => self.contradicted(by),
                Decision::Forged { by, of, refusal } => self.forged(by, of, refusal),
            }
        }
        if announced {
            // Those that wait for a peer look at every new table.
            self.publish_table();
        }
        for answer in self.mesh_answers.drain(..) {
            let _ = answer.send(());
        }
        let records = &self.shared.mesh.records;
        *records.lock().unwrap_or_else(PoisonError::into_inner) =
            self.mesh.mesh.counts().of_records();
    }

    /// A neighbour has brought records of this endpoint that it did not announce.
    fn contradicted(&mut self, by: EndpointId) {
        let now = self.shared.now();
        let known = &mut self.mesh.contradicted_at;
        if known.is_some_and(|last| now.since(last) < CONTRADICTIONS_APART) {
            return;
        }
        *known = Some(now);
        let name = self.name_of(by);
        let address = self.peers.get(&by).map(|peer| &*peer.session.info.address);
        tracing::warn!(
            "records of this endpoint that it has not announced came from {by} {name} at {}: somebody forges them, or has \
             its endpoint id; they are answered, and more of them within {CONTRADICTIONS_APART:?} are only counted",
            address.unwrap_or("?")
        );
    }

    /// A neighbour has brought a record that is not its origin's, as far as its seal says.
    fn forged(&mut self, by: EndpointId, of: EndpointId, refusal: Refusal) {
        let now = self.shared.now();
        let known = &mut self.mesh.forged_at;
        let last = known.get(&refusal);
        if last.is_some_and(|last| now.since(*last) < FORGERIES_APART) {
            return;
        }
        known.insert(refusal, now);
        let [bringer, origin] = [by, of].map(|id| self.name_of(id));
        let address = self.peers.get(&by).map(|peer| &*peer.session.info.address);
        tracing::warn!(
            "a record of {of} {origin} that came from {by} {bringer} at {} is refused ({}): {}; more for that cause within \
             {FORGERIES_APART:?} are only counted",
            address.unwrap_or("?"),
            refusal.name(),
            why(refusal)
        );
    }

    /// The name of an endpoint of the mesh, empty if it has none.
    fn name_of(&mut self, id: EndpointId) -> String {
        let routes = self.mesh.mesh.routes();
        let node = routes.slot(id).and_then(|slot| routes.node(slot));
        node.map_or_else(String::new, |node| node.name.clone())
    }

    /// Sends what was published while the endpoint joined.
    fn send_early(&self) {
        let table = self.shared.table.load();
        self.shared.join_buffer.close(|message| {
            let route = table.route(message.topic.as_bytes());
            let peers = route.peers.iter().filter_map(|peer| table.peer(*peer));
            for peer in peers.filter(|peer| peer.protocol == Protocol::V2) {
                // What is dropped is counted with its peer.
                let _ = peer.handle.queue.push(message.clone());
            }
        });
    }
}
