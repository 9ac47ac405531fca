//! What comes out of a handshake: what the shell has to do, and why there is no peering.

use std::time::Duration;

use super::{ClusterName, ConnectionId, Protocol};
use crate::{EndpointId, ErrorCode, Filter};

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this frame.
    Send(ConnectionId, Vec<u8>),
    /// The connection is a peering now. Frames after the last of the handshake are envelopes, or
    /// frames of protocol version 2.
    Established {
        /// The connection.
        connection: ConnectionId,
        /// The peer.
        peer: EndpointId,
        /// The protocol that is spoken from now on.
        protocol: Protocol,
        /// Whether the peer is of version 1 and in no mesh, while this endpoint is in one, so that
        /// it may have its home here. `false` for a peering that either side wants apart from the
        /// mesh.
        is_guest: bool,
        /// Whether the peer reads compressed frames, as it has said in the handshake. Only with
        /// version 2.
        reads_zstd: bool,
        /// Whether the peer reads runs of messages, likewise.
        reads_runs: bool,
        /// The largest payload of a frame that the peer reads, if it has said so.
        largest_frame: Option<usize>,
        /// What the peer subscribes to. Empty with version 2, where records announce it.
        filter: Filter,
        /// Whether our filter has changed since the handshake announced it, so that it must be
        /// announced again. Only with version 1.
        announce: bool,
    },
    /// The handshake is over without a peering. What was to be sent is to be written before the
    /// connection is closed.
    Close {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        reason: HandshakeError,
    },
}

/// Why a handshake did not lead to a peering.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// We have, or are about to have, a peering with this endpoint over another connection.
    #[error("already peered with {peer}")]
    Redundant {
        /// The endpoint.
        peer: EndpointId,
    },
    /// The other side refused, with one of Broker's error codes and a text.
    #[error("peer refused: {code}: {text}")]
    Refused {
        /// Broker's error code.
        code: ErrorCode,
        /// The peer's text.
        text: String,
    },
    /// We refused what the other side sent.
    #[error("refused the peer: {code}: {text}")]
    Refusing {
        /// Broker's error code, as sent.
        code: ErrorCode,
        /// Our text, as sent.
        text: String,
    },
    /// The other side belongs to another cluster.
    #[error("it belongs to the cluster {theirs}, and this side to {ours}")]
    OtherCluster {
        /// The cluster of this side.
        ours: ClusterName,
        /// That of the other side.
        theirs: ClusterName,
    },
    /// The other side sent a message that does not belong here.
    #[error("unexpected {message} while waiting for {expected}")]
    Unexpected {
        /// What came.
        message: &'static str,
        /// What should have come.
        expected: &'static str,
    },
    /// The other side has the nil id.
    #[error("peer has the nil endpoint id")]
    NilId,
    /// The other side has our own id: we are connected to ourselves, or two ids have collided.
    #[error("peer has our own endpoint id")]
    OwnId,
    /// The handshake was not complete within its time limit.
    #[error("handshake took longer than {0:?}")]
    Timeout(Duration),
    /// Too many handshakes were under way, and this one was given up for another.
    #[error("too many handshakes under way")]
    TooMany,
    /// The endpoint is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}
