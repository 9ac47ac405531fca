//! What an endpoint reports about its peerings.

use std::fmt;
use std::sync::Arc;

use muster_wire::EndpointId;
use muster_wire::mesh::NodeRecord;
use muster_wire::peering::Protocol;

use super::end_reason::{LossReason, RemovalReason, UnavailableReason};

/// A direct peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// The peer's id.
    pub id: EndpointId,
    /// Its address: as dialled, or the remote address of an accepted connection, which has no port if it came over a
    /// Unix socket.
    pub address: String,
    /// Which side made the connection.
    pub origin: PeerOrigin,
    /// What the connection runs over.
    pub transport: Transport,
    /// What is spoken with it: version 1 with Zeek, version 2 within a mesh.
    pub protocol: Protocol,
}

/// Which side made the connection of a peering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerOrigin {
    /// This endpoint.
    Dialled,
    /// The peer.
    Accepted,
}

/// What a peering's connection runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// A Unix socket: the peer is a process of the same user on the same machine.
    Unix,
    /// A byte stream that the endpoint was given.
    Stream,
}

impl Transport {
    /// Returns it in one word: "tcp", "unix" or "stream".
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Stream => "stream",
        }
    }
}

/// A change of an endpoint's peerings or of its mesh, or a failure to make a peering.
///
/// The status of a peer of version 1 comes before its first message, or after its last. In a mesh, an endpoint is
/// discovered when messages pass in both directions; what it published before that may arrive before its status. A
/// peer of version 2 is added when it is discovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// A peering was established, and messages are routed to the peer.
    PeerAdded(PeerInfo),
    /// A peering was ended by this endpoint.
    PeerRemoved {
        /// The former peer.
        peer: PeerInfo,
        /// Why.
        reason: RemovalReason,
    },
    /// A peering was lost: the peer or the network ended it.
    PeerLost {
        /// The former peer.
        peer: PeerInfo,
        /// Why.
        reason: LossReason,
    },
    /// An endpoint of the mesh has come into reach, whether it is a direct peer or not.
    EndpointDiscovered(Arc<NodeRecord>),
    /// An endpoint of the mesh can no longer be reached.
    EndpointUnreachable(EndpointId),
    /// A dialled address did not lead to a peering; it is tried again if the dial has a retry.
    PeerUnavailable {
        /// The address, as dialled.
        address: String,
        /// Why.
        reason: UnavailableReason,
    },
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerAdded(peer) => write!(f, "peer added: {} at {}", peer.id, peer.address),
            Self::PeerRemoved { peer, reason } => {
                write!(f, "peer removed: {} at {}: {reason}", peer.id, peer.address)
            }
            Self::PeerLost { peer, reason } => {
                write!(f, "peer lost: {} at {}: {reason}", peer.id, peer.address)
            }
            Self::EndpointDiscovered(node) if node.name.is_empty() => {
                write!(f, "endpoint discovered: {}", node.id)
            }
            Self::EndpointDiscovered(node) => {
                write!(f, "endpoint discovered: {}, {}", node.id, node.name)
            }
            Self::EndpointUnreachable(id) => write!(f, "endpoint unreachable: {id}"),
            Self::PeerUnavailable { address, reason } => {
                write!(f, "cannot peer with {address}: {reason}")
            }
        }
    }
}
