//! Peers: how they come and go.

use std::sync::Arc;

use muster_wire::envelope::Control;
use muster_wire::mesh::Mesh;
use muster_wire::peering::{ConnectionId, Protocol};
use muster_wire::{EndpointId, Filter, Mono};

use super::guests::Asked;
use super::{ConnectionCommand, Owner, Unpeer};
use crate::endpoint::end_reason::{EndReason, LossReason};
use crate::endpoint::peer_options::{Known, PeerOptions, Policies};
use crate::endpoint::peer_session::PeerSession;
use crate::endpoint::send_queue::SendQueue;
use crate::endpoint::shared::count;
use crate::endpoint::status::{PeerInfo, PeerOrigin, Status};

/// What was found out in the handshake.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spoken {
    pub(super) protocol: Protocol,
    pub(super) is_guest: bool,
    /// Whether the peer reads compressed frames.
    pub(super) reads_zstd: bool,
    /// Whether the peer reads runs of messages.
    pub(super) reads_runs: bool,
    /// The largest payload of a frame that the peer reads, if it has said so.
    pub(super) largest_frame: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) connection: ConnectionId,
    pub(super) filter: Arc<Filter>,
    /// The memory that it takes.
    pub(super) filter_memory: usize,
    pub(super) session: Arc<PeerSession>,
    /// What it was dialled with, if it was.
    pub(super) options: PeerOptions,
    /// Whether the rules for its queues were chosen by all that can be known of it.
    pub(super) is_known: bool,
    /// Whether it may have its home here: it is of version 1, and in no mesh.
    pub(super) is_guest: bool,
    /// What it was told last that is subscribed to here, if it is of version 1.
    pub(super) told: Filter,
    /// What is being done to find out whether it forwards.
    pub(super) asked: Asked,
    /// Being removed: nothing new is routed to it.
    pub(super) leaving: bool,
}

impl Peer {
    pub(super) fn is_in_mesh(&self) -> bool {
        self.session.info.protocol == Protocol::V2
    }

    /// It is no neighbour of the mesh any more, and no guest.
    pub(super) fn leave(&self, mesh: &mut Mesh, now: Mono) {
        let id = self.session.info.id;
        if self.is_in_mesh() {
            mesh.peer_down(id, now);
        } else if self.is_guest {
            mesh.guest_down(id, now);
        }
    }
}

/// What the filter of any peer may take, however much the others do.
const FREE_FILTER: usize = 16 << 10;

impl Owner {
    /// Takes what a peer subscribes to, unless it does not fit beside what all others do: then its peering ends.
    pub(super) fn take_filter(&mut self, id: EndpointId, filter: Filter) {
        let memory = filter.memory();
        let of_others = self.peers.iter().filter(|(other, _)| **other != id);
        let of_others: usize = of_others.map(|(_, peer)| peer.filter_memory).sum();
        let limit = self.shared.config.peer_filters;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if memory > FREE_FILTER && memory.saturating_add(of_others) > limit {
            count(&self.shared.mesh.filters_refused);
            let reason = LossReason::FiltersTooLarge {
                limit,
                bytes: memory,
            };
            tracing::warn!("peer {id} at {}: {reason}", peer.session.info.address);
            (peer.filter, peer.filter_memory) = (Arc::default(), 0);
            peer.session.queue.end(reason.into());
        } else {
            (peer.filter, peer.filter_memory) = (Arc::new(filter), memory);
        }
        if peer.is_guest && !peer.leaving {
            let (filter, now) = (Arc::clone(&peer.filter), self.shared.now());
            self.mesh.mesh.guest_up(id, filter, now);
        }
    }

    pub(super) fn established(
        &mut self,
        connection: ConnectionId,
        id: EndpointId,
        spoken: Spoken,
        filter: Filter,
        announce: bool,
    ) {
        let Spoken {
            protocol,
            is_guest,
            reads_zstd,
            reads_runs,
            largest_frame,
        } = spoken;
        let full = self.peers.len() >= self.shared.config.max_peers;
        let Some(entry) = self.connections.get_mut(&connection).filter(|_| !full) else {
            self.peering.closed(connection);
            self.connections.remove(&connection);
            return;
        };
        entry.peer = Some(id);
        let dial = self.dials.get(&entry.address);
        let dial = dial.filter(|_| entry.origin == PeerOrigin::Dialled);
        let options = dial.map(|dial| dial.options.clone()).unwrap_or_default();
        let info = PeerInfo {
            id,
            address: entry.address.clone(),
            origin: entry.origin,
            transport: entry.transport,
            protocol,
        };
        let config = &self.shared.config;
        let queue = SendQueue::new(protocol, config)
            .towards(format!("{id} at {}", info.address))
            .with_largest_frame(largest_frame)
            .with_zstd(reads_zstd)
            .with_runs(reads_runs);
        let session = PeerSession::new(self.shared.me, info.clone(), queue);
        let session = Arc::new(session.of_guest(is_guest));
        if protocol == Protocol::V2 {
            session.grant_first(config.credit.window(self.peers.len() + 1));
        }
        if announce && protocol == Protocol::V1 {
            session.push_control(&Control::RoutingUpdate(self.filter.clone()));
        }
        let peer = Peer {
            connection,
            filter: Arc::default(),
            filter_memory: 0,
            session: Arc::clone(&session),
            options,
            is_known: false,
            is_guest,
            told: self.filter.clone(),
            asked: Asked::default(),
            leaving: false,
        };
        if let Some(former) = self.peers.insert(id, peer) {
            former.session.queue.end(LossReason::ConnectedAnew.into());
            self.retire(&former.session);
            former.leave(&mut self.mesh.mesh, self.shared.now());
            // Its own connection's end, which would be told, comes too late for that.
            let fenced = EndReason::Lost(LossReason::Fenced);
            if former.session.queue.ended() == Some(fenced) && former.session.is_announced() {
                self.push_status(&Status::PeerLost {
                    peer: former.session.info.clone(),
                    reason: LossReason::Fenced,
                });
            }
        }
        self.take_filter(id, filter);
        if is_guest {
            self.guests_may_hear_other_things();
        }
        self.choose_policies();
        // First the table, then whoever is told of it, then the first message can arrive.
        self.publish_table();
        match protocol {
            Protocol::V1 => self.push_status(&Status::PeerAdded(info)),
            Protocol::V2 => {
                if !self.mesh.mesh.is_ready() {
                    self.shared.join_buffer.open();
                }
                self.mesh.mesh.peer_up(id, self.shared.now());
                // Otherwise it is told when the mesh has made it known.
                if self.mesh.mesh.up().contains(&id) && session.announce() {
                    self.push_status(&Status::PeerAdded(info));
                }
            }
        }
        let become_peer = ConnectionCommand::Become(session);
        let told = self
            .connections
            .get(&connection)
            .is_some_and(|entry| entry.commands.try_send(become_peer).is_ok());
        if !told {
            // It has ended meanwhile, or does not listen: the channel's end closes it.
            self.connection_closed(connection);
        }
    }

    /// Chooses the rules for the queues of peers that more is known of now. What a peer of version 2 is called
    /// is known when its record has come; nothing is routed to it before.
    pub(super) fn choose_policies(&mut self) {
        let mut routes = None;
        for (id, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.is_known) {
            let record = if peer.is_in_mesh() {
                let routes = routes.get_or_insert_with(|| self.mesh.mesh.routes());
                routes.slot(*id).and_then(|slot| routes.node(slot))
            } else {
                None
            };
            peer.is_known = record.is_some() || !peer.is_in_mesh();
            let known = Known {
                address: &peer.session.info.address,
                node: record.map(|node| (node.name.as_str(), node.role.as_str())),
            };
            let config = &self.shared.config;
            let policies = Policies::of(config, known, &peer.options);
            peer.session.queue.set_policies(&policies);
        }
    }

    pub(super) fn connection_closed(&mut self, connection: ConnectionId) {
        self.peering.closed(connection);
        let Some(entry) = self.connections.remove(&connection) else {
            return;
        };
        let Some(id) = entry.peer.filter(|id| {
            self.peers
                .get(id)
                .is_some_and(|peer| peer.connection == connection)
        }) else {
            return;
        };
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        self.retire(&peer.session);
        peer.leave(&mut self.mesh.mesh, self.shared.now());
        self.publish_table();
        if !peer.session.is_announced() {
            return;
        }
        let info = peer.session.info.clone();
        let status = match peer.session.queue.ended() {
            Some(EndReason::Removed(reason)) => Status::PeerRemoved { peer: info, reason },
            Some(EndReason::Lost(reason)) => Status::PeerLost { peer: info, reason },
            None => Status::PeerLost {
                peer: info,
                reason: LossReason::Closed,
            },
        };
        self.push_status(&status);
    }

    pub(super) fn unpeer(&mut self, which: &Unpeer) -> bool {
        let id = self.peers.iter().find(|(id, peer)| match which {
            Unpeer::Id(wanted) => *id == wanted,
            Unpeer::Address(address) => {
                peer.session.info.address == *address
                    || self
                        .dials
                        .get(address)
                        .is_some_and(|dial| dial.redundant == Some(**id))
            }
        });
        let id = id.map(|(id, _)| *id);
        let mut stopped = Vec::new();
        self.dials.retain(|address, dial| {
            let of_peer = id.is_some_and(|id| {
                dial.redundant == Some(id)
                    || self
                        .peers
                        .get(&id)
                        .is_some_and(|peer| peer.session.info.address == *address)
            });
            let named = matches!(which, Unpeer::Address(wanted) if wanted == address);
            if of_peer || named {
                dial.stop.send_replace(true);
                stopped.push(address.clone());
            }
            !(of_peer || named)
        });
        for address in &stopped {
            self.abandon_dialled(address);
        }
        let mut found = !stopped.is_empty();
        if let Some(peer) = id.and_then(|id| self.peers.get_mut(&id)) {
            peer.leaving = true;
            peer.session.queue.close();
            self.shared.former().leave(&peer.session);
            let now = self.shared.now();
            peer.leave(&mut self.mesh.mesh, now);
            self.publish_table();
            found = true;
        }
        found
    }

    /// Gives up the handshakes with a dialled address: a connection's task outlives its dial.
    fn abandon_dialled(&mut self, address: &str) {
        let abandoned: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, entry)| {
                entry.peer.is_none()
                    && entry.origin == PeerOrigin::Dialled
                    && entry.address == address
            })
            .map(|(connection, _)| *connection)
            .collect();
        for connection in abandoned {
            self.peering.closed(connection);
            self.connections.remove(&connection);
        }
    }
}
