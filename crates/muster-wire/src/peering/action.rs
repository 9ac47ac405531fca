//! What comes out of a handshake: what the shell has to do, and why there is no peering.

use std::time::Duration;

use super::{ConnectionId, Protocol};
use crate::{EndpointId, ErrorCode, Filter};

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this frame.
    Send(ConnectionId, Vec<u8>),
    /// The connection is a peering now. Frames behind the handshake's last are envelopes, or frames of
    /// protocol version 2.
    Established {
        /// The connection.
        connection: ConnectionId,
        /// The peer.
        peer: EndpointId,
        /// What is spoken from now on.
        protocol: Protocol,
        /// Whether the peer is of version 1 and in no mesh, while this endpoint is in one: it may have a
        /// home here. A peering that either side wants apart from the mesh is none of that kind.
        is_guest: bool,
        /// Whether the peer has said that it reads compressed frames; with version 2 alone.
        reads_zstd: bool,
        /// What the peer subscribes to; empty with version 2, which has other means.
        filter: Filter,
        /// Our filter has changed since it was sent in the handshake: announce it, with version 1.
        announce: bool,
    },
    /// The handshake is over without a peering: write what was sent, then close.
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
    /// We have, or are about to have, a peering with this endpoint by another connection.
    #[error("already peered with {peer}")]
    Redundant {
        /// The endpoint.
        peer: EndpointId,
    },
    /// The other side refused, with Broker's code and its words.
    #[error("peer refused: {code}: {text}")]
    Refused {
        /// Broker's error code.
        code: ErrorCode,
        /// The peer's words.
        text: String,
    },
    /// We refused what the other side sent.
    #[error("refused the peer: {code}: {text}")]
    Refusing {
        /// Broker's error code, as sent.
        code: ErrorCode,
        /// Our words, as sent.
        text: String,
    },
    /// A message that has no place in the present state.
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
    /// The other side has our own id: we are connected to ourselves, or two ids collided.
    #[error("peer has our own endpoint id")]
    OwnId,
    /// The time for the handshake is over.
    #[error("handshake took longer than {0:?}")]
    Timeout(Duration),
    /// Too many handshakes are under way, and this one was the oldest.
    #[error("too many handshakes under way")]
    TooMany,
    /// The endpoint is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}
