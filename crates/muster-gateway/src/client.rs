//! The client's side of Zeek's WebSocket API.

mod bridge;
mod connection;
mod texts;

pub use bridge::{Bridge, BridgeConfig, BridgeCounter, BridgeCounts, BridgeError};
pub use connection::{ClientConfig, ClientError, Connection, Incoming, ServerUrl, UrlError};
