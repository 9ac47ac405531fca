//! Why an endpoint does not start, does not listen, or does not peer.

use std::io;
use std::net::SocketAddr;

use muster_wire::peering::ClusterNameError;

use super::end_reason::UnavailableReason;
use super::tls::TlsError;

/// Why an endpoint does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Others can reach the address, connections would not be authenticated, and the [`Exposure`](crate::Exposure)
    /// does not allow that.
    #[error(
        "refusing to listen on {address} with TLS {tls}: everyone who reaches it could take part"
    )]
    Exposed {
        /// The address.
        address: SocketAddr,
        /// The mode of TLS in one word.
        tls: &'static str,
    },
    /// The system refused.
    #[error("cannot listen on {address}")]
    System {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

/// Why a peering did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// There is no peering with the address, and it is not tried again.
    #[error("cannot peer with {address}: {reason}")]
    Unavailable {
        /// The address, as dialled.
        address: String,
        /// Why.
        reason: UnavailableReason,
    },
    /// The endpoint is shutting down.
    #[error("the endpoint has ended")]
    Ended,
}

/// Why an endpoint does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The system has no random numbers for an endpoint id.
    #[error("the system has no random numbers for an endpoint id: {0}")]
    Random(String),
    /// [`EndpointConfig::cluster`](crate::EndpointConfig::cluster) is not the name of a cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterNameError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// [`EndpointConfig::id`](crate::EndpointConfig::id) was given with mutual TLS, where the id of an endpoint of a mesh is
    /// made of the names in its certificate.
    #[error("with mutual TLS an endpoint's id is made of its certificate, and cannot be given")]
    IdGiven,
}
