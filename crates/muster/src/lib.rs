//! Muster's endpoints and nodes on tokio: the shell around the pure cores, and the public API.

mod endpoint;
mod node;
pub mod store;

pub use endpoint::{
    Batch, Certificates, Compressed, Credit, Delivery, Endpoint, EndpointConfig, EndpointCounts,
    Exposure, Forwarding, Heartbeat, LinkSpeed, ListenError, NodeIdentity, Outcome, PeerError,
    PeerInfo, PeerMatch, PeerOptions, PeerOrigin, PeerReport, PeerRule, Publisher, QueueOptions,
    Received, StartError, Status, Subscriber, Tls, TlsError, TopicClasses, TryReceiveError,
    random_id,
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
