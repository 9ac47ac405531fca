//! The owner's side of the mesh: one [`Mesh`], and what is done when it decides something.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use muster_wire::EndpointId;
use muster_wire::mesh::codec::MeshFrame;
use muster_wire::mesh::{Config, Decision, Identity, Mesh, Reason, Routes};
use muster_wire::peering::Protocol;

use super::Owner;
use crate::endpoint::config::{EndpointConfig, Forwarding};
use crate::endpoint::peer_queue::{EndReason, encoded};
use crate::endpoint::status::Status;

/// A neighbour that hangs is found by its connection's pings, whatever its own settings are: the mesh
/// itself gives nobody up.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) struct MeshPart {
    pub(super) mesh: Mesh,
    /// What the routing table was made from.
    routes: Option<Arc<Routes>>,
}

impl MeshPart {
    pub(super) fn new(me: EndpointId, config: &EndpointConfig) -> Self {
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
            ..Config::default()
        };
        if !config.heartbeat.interval.is_zero() {
            mesh.heartbeat = config.heartbeat.interval;
        }
        Self {
            mesh: Mesh::new(identity, mesh),
            routes: None,
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
            self.shared.early.open();
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
        while let Some(decision) = self.mesh.mesh.poll() {
            match decision {
                Decision::Send { to, frame } => {
                    let Some(peer) = self.peers.get(&to) else {
                        continue;
                    };
                    let same = last.take_if(|(known, _)| Arc::ptr_eq(known, &frame));
                    let (_, bytes) = last.insert(same.unwrap_or_else(|| {
                        let bytes = encoded(|out| frame.write(out));
                        (frame, bytes)
                    }));
                    peer.queue.push_mesh_encoded(bytes.clone());
                }
                Decision::Disconnect { peer, reason } => {
                    let silent = self.shared.config.heartbeat.timeout;
                    let reason = match reason {
                        Reason::TimeOut => format!("no sign of life for {silent:?}"),
                    };
                    if let Some(peer) = self.peers.get(&peer) {
                        peer.queue.end(EndReason::Lost(reason));
                    }
                }
                Decision::NodeUp(node) => {
                    let id = node.id;
                    self.push_status(&Status::EndpointDiscovered(node));
                    if let Some(peer) = self.peers.get(&id).filter(|peer| peer.queue.announce()) {
                        self.push_status(&Status::PeerAdded(peer.queue.info.clone()));
                        announced = true;
                    }
                }
                Decision::NodeDown(id) => self.push_status(&Status::EndpointUnreachable(id)),
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

    /// Sends what was published while the endpoint joined.
    fn send_early(&self) {
        let table = self.shared.table.load();
        self.shared.early.close(|message| {
            let route = table.route(message.topic.as_bytes());
            let peers = route.peers.iter().filter_map(|peer| table.peer(*peer));
            for peer in peers.filter(|peer| peer.protocol == Protocol::V2) {
                // What is dropped is counted with its peer.
                let _ = peer.handle.push(message.clone());
            }
        });
    }
}
