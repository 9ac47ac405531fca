//! Muster's endpoints and nodes on tokio: the shell around the pure cores, and the public API.

mod endpoint;
mod node;
pub mod store;

pub use endpoint::{
    Batch, Certificates, Compressed, ConnectionError, Credit, Delivery, Endpoint, EndpointConfig,
    EndpointCounts, Exposure, Forwarding, Heartbeat, LinkSpeed, ListenError, LossReason,
    NodeIdentity, Outcome, PeerError, PeerInfo, PeerMatch, PeerOptions, PeerOrigin, PeerReport,
    PeerRule, Publisher, QueueOptions, Received, RemovalReason, StartError, Status, Subscriber,
    Tls, TlsError, TlsFailure, TopicClasses, TryReceiveError, UnavailableReason, random_id,
};
pub use muster_cluster as cluster;
pub use muster_cluster::{NotReady, Quorum, ReadyError};
pub use muster_data as data;
pub use muster_wire as wire;
pub use node::{
    Input, InputBatch, InputSender, Node, NodeConfig, NodeReport, NodeReporter, NodeStartError,
    NodeState, NodeStoreError, Pacer, PeerDescription, PeerLine, PeersReply, PeersRequest,
    Stopping, StoreRequest,
};
pub use store::Store;
