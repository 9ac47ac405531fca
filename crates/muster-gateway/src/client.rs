//! The client's side of Zeek's WebSocket API.

mod bridge;
mod connection;
mod error;
mod texts;
mod url;

pub use bridge::{Bridge, BridgeConfig, BridgeCounter, BridgeCounts, BridgeError};
pub use connection::{ClientConfig, Connection, Incoming};
pub use error::{ClientError, DisconnectReason, RefusalReason, TlsReason};
pub use url::{ServerUrl, UrlError};
