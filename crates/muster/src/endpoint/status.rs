//! What an endpoint tells of its peerings.

use std::fmt;

use muster_wire::EndpointId;

/// A direct peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// The peer's id.
    pub id: EndpointId,
    /// Its address: as dialled, or the remote address of an accepted connection.
    pub address: String,
    /// Who made the connection.
    pub origin: PeerOrigin,
}

/// Who made the connection of a peering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerOrigin {
    /// This endpoint.
    Dialled,
    /// The peer.
    Accepted,
}

/// A change of an endpoint's peerings, or a failure to make one. The status of a peer stands before
/// its first message and behind its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// A peering was established; the routing table leads to the peer.
    PeerAdded(PeerInfo),
    /// A peering was ended by this endpoint.
    PeerRemoved {
        /// The former peer.
        peer: PeerInfo,
        /// Why.
        reason: String,
    },
    /// A peering ended by other means.
    PeerLost {
        /// The former peer.
        peer: PeerInfo,
        /// Why.
        reason: String,
    },
    /// A dialled address did not lead to a peering; it is tried again if the dial has a retry.
    PeerUnavailable {
        /// The address, as dialled.
        address: String,
        /// Why.
        reason: String,
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
            Self::PeerUnavailable { address, reason } => {
                write!(f, "cannot peer with {address}: {reason}")
            }
        }
    }
}
