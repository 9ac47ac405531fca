//! Settings of a gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use muster_wire::QueueLimits;

use crate::access::Tokens;

/// Settings of a [`Gateway`](crate::Gateway).
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Who may do what. Without tokens everybody may do everything, and the address must be loopback.
    pub tokens: Option<Tokens>,
    /// Certificate and key, if connections are to be encrypted.
    pub tls: Option<GatewayTls>,
    /// Whether tokens may travel unencrypted to an address that others reach.
    pub plaintext: Plaintext,
    /// The bounds of each client's queue.
    pub client_queue: QueueLimits,
    /// What happens to a client whose queue is full.
    pub overflow: ClientOverflow,
    /// The most bytes that wait for all clients together. Beyond it the client for which most waits is disconnected, with
    /// WebSocket code 1013.
    pub memory: usize,
    /// The most clients at once; more are answered with HTTP status 503.
    pub max_clients: usize,
    /// The time between two pings. A client that has not answered one when the next is due is
    /// disconnected. Zero: no pings.
    pub ping_interval: Duration,
    /// The largest message of a client, in bytes.
    pub message_limit: usize,
}

/// Files for TLS, in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayTls {
    /// The certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub keyfile: PathBuf,
    /// The authorities of clients' certificates. If set, clients must show one.
    pub cafile: Option<PathBuf>,
}

/// Where unencrypted connections are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plaintext {
    /// On loopback.
    #[default]
    Loopback,
    /// Everywhere: tokens can be read on the way.
    Anywhere,
}

/// What happens to a client that does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientOverflow {
    /// It is disconnected, with WebSocket code 1013 (try again later), so that it knows of the gap.
    #[default]
    Disconnect,
    /// It loses the oldest messages of its queue; they are counted.
    DropOldest,
}

muster::cluster::choice!(ClientOverflow {
    "disconnect" => ClientOverflow::Disconnect,
    "drop_oldest" => ClientOverflow::DropOldest,
});

impl GatewayConfig {
    /// The port of Zeek's own WebSocket server.
    pub const PORT: u16 = 27759;
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], Self::PORT)),
            tokens: None,
            tls: None,
            plaintext: Plaintext::Loopback,
            client_queue: QueueLimits {
                messages: 8192,
                bytes: 16 << 20,
            },
            overflow: ClientOverflow::Disconnect,
            memory: 256 << 20,
            max_clients: 1024,
            // As Zeek's `Cluster::default_websocket_ping_interval`.
            ping_interval: Duration::from_secs(5),
            message_limit: 4 << 20,
        }
    }
}
