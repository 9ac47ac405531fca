//! Endpoints, stores and nodes of Muster on tokio: the public API.
//!
//! - [`Endpoint`] listens, dials and keeps peerings; endpoints that are linked form a mesh, in which each message
//!   reaches every subscriber at most once. A [`Publisher`] sends, a [`Subscriber`] receives.
//! - [`Store`] is shared state with typed keys and values; [`store`] says how it is opened.
//! - [`Node`] runs the frameworks of one node of a cluster, as the layout describes it.
//!
//! The crate owns the sockets, the clocks and the tasks. All decisions are made by plain structs in the crates below
//! it: [`wire`] (the peer protocol), [`cluster`] (layouts, pools, the node's loop), [`data`] (values) and
//! `muster_store`.
//!
//! # Example
//!
//! Two endpoints in one process. `#[derive(Record)]` needs `muster-data` among the dependencies.
//!
//! ```
//! use muster::data::{DataRef, Record};
//! use muster::wire::Topic;
//! use muster::{Delivery, Endpoint, EndpointConfig, Exposure};
//!
//! #[derive(Debug, PartialEq, Record)]
//! struct Login<'a> {
//!     user: &'a str,
//!     failures: u64,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Endpoint::start(EndpointConfig::default())?;
//! let address = hub.listen("127.0.0.1:0".parse()?, Exposure::Guarded).await?;
//! let mut logins = hub.subscribe(["/logins/"]).await;
//!
//! let sensor = Endpoint::start(EndpointConfig::default())?;
//! sensor.peer(&address.to_string(), None).await?;
//! let login = Login { user: "root", failures: 3 };
//! let outcome = sensor.publisher().publish(&Topic::new("/logins/ssh")?, &login);
//! assert!(!outcome.no_subscriber());
//!
//! let Some(Delivery::Batch(batch)) = logins.receive().await else {
//!     return Err("the endpoint has ended".into());
//! };
//! for message in batch.iter() {
//!     assert_eq!(DataRef::from_validated(message.payload).to::<Login>()?, login);
//! }
//! sensor.shut_down().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Time, bounds and cancellation
//!
//! Everything runs on the tokio runtime that [`Endpoint::start`] or [`Node::start`] was called on, which needs its
//! I/O and time drivers. Every queue has a bound in messages and in bytes and counts what it drops. Where a
//! function waits, dropping its future gives up the wait; what it has already asked for is still done,
//! unless its documentation says otherwise.
//!
//! Whole programs are in the crate's `examples` directory: `cargo run -p muster --example mesh`.

mod clock;
mod endpoint;
mod node;
pub mod store;

pub use clock::since_boot;

pub use endpoint::{
    Batch, CertificateRefusal, Certificates, Compressed, ConnectionError, Credit, Delivery,
    Endpoint, EndpointConfig, EndpointCounts, Exposure, ForeignProtocol, Forwarding, Heartbeat,
    LinkSpeed, ListenError, LocalTransport, LossReason, NodeIdentity, Outcome, PeerError, PeerInfo,
    PeerMatch, PeerOptions, PeerOrigin, PeerReport, PeerRule, Publisher, QueueDepth, QueueOptions,
    Received, RemovalReason, StartError, Status, Subscriber, Tls, TlsError, TlsFailure,
    TooMuchUnfinished, TopicClasses, Transport, TrustedAuthority, TryReceiveError,
    UnavailableReason, random_id,
};
pub use muster_cluster as cluster;
pub use muster_cluster::{NotReady, Quorum, ReadyError};
pub use muster_data as data;
pub use muster_wire as wire;
pub use node::{
    Checkpoint, Input, InputBatch, InputSender, Node, NodeConfig, NodeReport, NodeReporter,
    NodeStartError, NodeState, NodeStoreError, Pacer, PeerDescription, PeerLine, PeersReply,
    PeersRequest, Stopping, StoreRequest,
};
pub use store::Store;

/// The program of the README, compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The lines of the guide to stores, compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/stores.md")]
struct StoresGuide;
