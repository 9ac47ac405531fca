//! Why a peering ended, or did not come about.

use std::io;
use std::time::Duration;

use muster_wire::EndpointId;
use muster_wire::envelope::EnvelopeError;
use muster_wire::frame::FrameTooLong;
use muster_wire::mesh::codec;
use muster_wire::peering::HandshakeError;

use super::intake::TooMuchUnfinished;
use super::stranger::ForeignProtocol;
use super::tls::{ConnectionError, TlsFailure};

/// Why this endpoint ended a peering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemovalReason {
    /// One of the two sides ended it in order: by [`Endpoint::unpeer`](crate::Endpoint::unpeer), or as it shut down.
    #[error("removed connection to remote peer")]
    Goodbye,
    /// The endpoint has ended.
    #[error("endpoint ended")]
    EndpointEnded,
}

/// Why a peering was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// The peer closed the connection without a goodbye.
    #[error("connection closed by the peer")]
    Closed,
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The peer has made another connection, which replaces this one.
    #[error("replaced by a newer connection of the peer")]
    ConnectedAnew,
    /// Nothing has come from the peer for this long, not even answers to pings.
    #[error("no sign of life for {0:?}")]
    Silent(Duration),
    /// Nothing has come over this link for this long, while another endpoint has heard the peer.
    #[error("nothing has come over this link for {0:?}, and others hear the peer")]
    CutOff(Duration),
    /// This endpoint has fenced the peer, by [`Endpoint::fence`](crate::Endpoint::fence).
    #[error("the peer is fenced")]
    Fenced,
    /// The peer has fenced this endpoint. It takes a new connection.
    #[error("fenced by the peer")]
    FencedByPeer,
    /// The queue towards the peer is full, and its policy is to disconnect.
    #[error("send queue is full")]
    SendQueueFull,
    /// Too many control frames wait for the peer, and none of them may be dropped.
    #[error("control queue is full")]
    ControlQueueFull,
    /// What the peer sent cannot be cut into frames.
    #[error(transparent)]
    Frame(#[from] FrameTooLong),
    /// The unfinished frames of all peers held too much, and this one was the oldest.
    #[error(transparent)]
    TooMuchUnfinished(#[from] TooMuchUnfinished),
    /// What the peer subscribes to does not fit into what the filters of all peers may take together.
    #[error(
        "the filters of all peers together would be over their limit of {limit} bytes with the {bytes} bytes of this one's"
    )]
    FiltersTooLarge {
        /// The limit in bytes ([`EndpointConfig::peer_filters`](crate::EndpointConfig::peer_filters)).
        limit: usize,
        /// The bytes of this peer's filter.
        bytes: usize,
    },
    /// A frame of version 1 that cannot be read.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A frame of version 2 that cannot be read.
    #[error(transparent)]
    MeshFrame(#[from] codec::FrameError),
    /// The peering was ended while its last data was written.
    #[error("ended while writing")]
    Unwritten,
}

/// Why no peering with an address came about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnavailableReason {
    /// The system could not connect.
    #[error("{text}")]
    Unreachable {
        /// The kind of the system's error.
        kind: io::ErrorKind,
        /// The system's words.
        text: String,
    },
    /// The connection took longer than [`EndpointConfig::connect_timeout`](crate::EndpointConfig::connect_timeout).
    #[error("connection timed out")]
    ConnectTimeout,
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The connection could not be secured.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// The TLS handshake took longer than this.
    #[error("TLS handshake took longer than {0:?}")]
    TlsTimeout(Duration),
    /// Too many TLS handshakes are under way, and this one was the oldest.
    #[error("too many TLS handshakes under way")]
    TooManyTlsHandshakes,
    /// The other side closed before it had sent anything: most often the two sides differ in TLS.
    #[error(
        "the peer closed the connection without sending anything; is TLS in the same mode on both sides?"
    )]
    ClosedInSilence,
    /// The other side closed during the handshake.
    #[error("connection closed during the handshake")]
    ClosedInHandshake,
    /// The other side does not read, or does not answer.
    #[error("handshake timed out")]
    HandshakeTimeout,
    /// The other side speaks TLS, and this one has it switched off.
    #[error("the peer speaks TLS, and this side has it switched off: both need the same mode")]
    PeerSpeaksTls,
    /// The other side is no peer at all.
    #[error("{0}")]
    Foreign(ForeignProtocol),
    /// What the other side sent cannot be cut into frames.
    #[error(transparent)]
    Frame(#[from] FrameTooLong),
    /// The unfinished frames of all handshakes held too much, and this one was the oldest.
    #[error(transparent)]
    TooMuchUnfinished(#[from] TooMuchUnfinished),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The dial was stopped, or the endpoint is shutting down.
    #[error("the dial was stopped, or this endpoint is shutting down")]
    NotWanted,
    /// The connection's task failed.
    #[error("the connection's task ended: {0}")]
    Task(String),
    /// There was a peering with the endpoint by another connection, and it was lost before it was announced.
    #[error("the other connection to {0} was lost")]
    OtherLost(EndpointId),
    /// The peering came about and was lost.
    #[error(transparent)]
    Lost(#[from] LossReason),
}

/// Why a peering ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// By this endpoint, gracefully or not.
    Removed(RemovalReason),
    /// By the peer or the network.
    Lost(LossReason),
}

impl EndReason {
    /// The end of a graceful removal.
    pub(crate) fn removed() -> Self {
        Self::Removed(RemovalReason::Goodbye)
    }
}

impl<R: Into<LossReason>> From<R> for EndReason {
    fn from(reason: R) -> Self {
        Self::Lost(reason.into())
    }
}
