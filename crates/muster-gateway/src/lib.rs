//! The gateway: clients of any language take part in an endpoint's messages over Zeek's WebSocket API.
//!
//! A [`Gateway`] listens on `/v1/messages/json` and speaks as the WebSocket server of Zeek 7.2 and later
//! does: the first message is an array of topic prefixes, the answer an acknowledgement, and from then
//! on events travel both ways as JSON objects. What a client may publish and see is in its [`Tokens`];
//! without any the gateway listens on loopback alone.
//!
//! Each client has a bounded queue of its own. One that does not keep up loses its connection (or its
//! oldest messages, if so configured), and nobody else notices. A message is encoded once, however many
//! clients get it.
//!
//! A [`Bridge`] is the other side: it connects an endpoint with a WebSocket server, Zeek's or another
//! gateway's, and carries the events of chosen topics in and out.
//!
//! A [`Monitor`] serves a node's metrics and status over HTTP. [`NodeMetrics`] has the metrics, [`mod@status`] is the schema of
//! the status. [`http`] is the listener of all of them, for others to use.
//!
//! # Example
//!
//! A gateway, and a client that subscribes; `examples/websocket_client.rs` goes on from here.
//!
//! ```
//! use muster::{Endpoint, EndpointConfig};
//! use muster_gateway::{ClientConfig, Connection, Gateway, GatewayConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = Endpoint::start(EndpointConfig::default())?;
//! let config = GatewayConfig {
//!     address: "127.0.0.1:0".parse()?,
//!     ..GatewayConfig::default()
//! };
//! let gateway = Gateway::start(&endpoint, config).await?;
//!
//! let url = format!("ws://{}", gateway.address()).parse()?;
//! let prefixes = ["/alerts/".to_owned()];
//! let client = Connection::open(&url, &ClientConfig::default(), &prefixes).await?;
//! assert!(client.version().starts_with("muster"));
//! endpoint.shut_down().await;
//! # Ok(())
//! # }
//! ```

mod access;
mod budget;
mod client;
mod clients;
mod config;
mod connection;
mod counters;
mod event_text;
mod exposure;
pub mod http;
mod intake;
mod metrics;
mod monitor;
mod queue;
mod room;
mod server;
mod session;
mod settings;
pub mod status;
mod tls;

pub use access::{Grant, TokenProblem, Tokens, bearer, shows_token};
pub use client::{
    Bridge, BridgeConfig, BridgeCounter, BridgeCounts, BridgeError, ClientConfig, ClientError,
    Connection, DisconnectReason, Incoming, RefusalReason, ServerUrl, TlsReason, UrlError,
};
pub use clients::{ClientReport, GatewayCounts};
pub use config::{ClientOverflow, GatewayConfig, GatewayTls, Plaintext};
pub use metrics::{Metrics, MetricsFormat, NodeMetrics};
pub use monitor::{
    Monitor, MonitorAddress, MonitorAddressError, MonitorError, MonitorProtection, Monitored,
};
pub use server::{Gateway, GatewayCounter, GatewayError};
pub use session::PATH;
pub use settings::{SETTINGS, SettingsProblem, check_bridges};
