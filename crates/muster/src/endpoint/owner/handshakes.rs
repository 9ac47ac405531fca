//! The handshakes of an endpoint: connections on their way to being peers.

use muster_wire::EndpointId;
use muster_wire::peering::{Action, ConnectionId, HandshakeError};
use tokio::sync::{mpsc, oneshot};

use super::peers::Spoken;
use super::{ConnectionCommand, Owner};
use crate::endpoint::shared::count;
use crate::endpoint::status::{PeerOrigin, Transport};

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) commands: mpsc::Sender<ConnectionCommand>,
    pub(super) address: String,
    pub(super) origin: PeerOrigin,
    pub(super) transport: Transport,
    pub(super) peer: Option<EndpointId>,
}

impl Owner {
    pub(super) fn connected(
        &mut self,
        commands: mpsc::Sender<ConnectionCommand>,
        address: String,
        (origin, transport): (PeerOrigin, Transport),
        done: oneshot::Sender<ConnectionId>,
    ) {
        let offer = self.dials.get(&address).map(|dial| dial.offer);
        if origin == PeerOrigin::Dialled && offer.is_none() {
            return; // stopped meanwhile; the channel's end tells the connection
        }
        let connection = ConnectionId(self.number());
        let now = self.shared.now();
        while self.peering.pending() >= self.shared.config.max_handshakes {
            let Some(oldest) = self.peering.oldest() else {
                break;
            };
            self.peering.abandon(oldest);
            self.carry_out();
        }
        self.connections.insert(
            connection,
            Connection {
                commands,
                address,
                origin,
                transport,
                peer: None,
            },
        );
        match origin {
            PeerOrigin::Accepted => self.peering.accepted(connection, now),
            PeerOrigin::Dialled => {
                let offer = offer.unwrap_or_default();
                self.peering.dialled_with(connection, offer, now);
            }
        }
        let _ = done.send(connection);
    }

    pub(super) fn carry_out(&mut self) {
        while let Some(action) = self.peering.poll() {
            match action {
                Action::Send(connection, frame) => {
                    self.tell(connection, ConnectionCommand::Write(frame));
                }
                Action::Close { connection, reason } => {
                    if matches!(reason, HandshakeError::OtherCluster { .. }) {
                        count(&self.shared.mesh.other_cluster);
                    }
                    self.tell(connection, ConnectionCommand::Close(reason));
                    self.connections.remove(&connection);
                }
                Action::Established {
                    connection,
                    peer,
                    protocol,
                    is_guest,
                    reads_zstd,
                    reads_runs,
                    largest_frame,
                    filter,
                    announce,
                } => {
                    let spoken = Spoken {
                        protocol,
                        is_guest,
                        reads_zstd,
                        reads_runs,
                        largest_frame,
                    };
                    self.established(connection, peer, spoken, filter, announce);
                }
            }
        }
    }

    /// Tells a connection's task. One that does not keep up with a handshake's few frames is closed
    /// by the channel's end. A peer's entry stays: its end is told by [`Command::Closed`].
    pub(super) fn tell(&mut self, connection: ConnectionId, command: ConnectionCommand) {
        let Some(entry) = self.connections.get(&connection) else {
            return;
        };
        if entry.commands.try_send(command).is_err() && entry.peer.is_none() {
            self.connections.remove(&connection);
        }
    }
}
