//! A node in a process: its endpoint, its loop on a thread of its own, its inputs and its log files.

mod counters;
mod driver;
mod endpoint_settings;
mod input;
mod links;
mod log_spool;
mod log_writer;
mod pacer;
mod peers;
mod ready;
mod report;
mod stores;
mod throttle;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use muster_cluster::node::{LogSink, NodeError, NodeLoop, Registry};
use muster_cluster::{ForwardingMode, Layout, Node as LayoutNode, Quorum, ReadyError};
use muster_wire::{EndpointId, Incarnation, QueueLimits};

use crate::endpoint::{
    Endpoint, EndpointConfig, Exposure, Forwarding, ListenError, NodeIdentity, StartError, Tls,
};
use driver::{Clock, Driver, Ends, Shared, SpoolPlan};
use ready::Waits;
use stores::NodeStores;

pub use input::{Checkpoint, InputBatch, InputSender, Stopping};
pub use muster_cluster::node::NodeState;
pub use pacer::Pacer;
pub use peers::{PeerDescription, PeersReply, PeersRequest};
pub use report::{NodeReport, PeerLine};
pub use stores::{NodeStoreError, StoreRequest};

/// What an input does on its thread: it sends batches until it ends, or until the sender says that
/// the node has stopped.
pub type Input = Box<dyn FnOnce(InputSender) + Send>;

/// What a node is made of.
pub struct NodeConfig {
    /// The cluster.
    pub layout: Arc<Layout>,
    /// The node's name in the layout.
    pub name: String,
    /// The frameworks that nodes may run.
    pub registry: Registry,
    /// Where a logger puts the log records that it is sent; other nodes do not use it.
    pub log_sink: Box<dyn LogSink>,
    /// What a worker reads, if anything. It is started when the nodes that the worker is linked with are up.
    pub input: Option<Input>,
    /// How the node's connections are protected.
    pub tls: Tls,
    /// On which addresses the node may listen.
    pub exposure: Exposure,
    /// The directory of the node's spool, in which it keeps log records until a logger has them, as `logging.spool` says. It is the
    /// node's alone, and made when it is needed. Without one nothing is kept.
    pub spool: Option<PathBuf>,
    /// What relative paths of the layout, such as those of stores, start from: the directory of its file.
    pub base: PathBuf,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeStartError {
    /// The layout and the frameworks do not make a node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The endpoint did not start.
    #[error(transparent)]
    Endpoint(#[from] StartError),
    /// The node's address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A store that the layout puts on this node does not open.
    #[error(transparent)]
    Store(#[from] NodeStoreError),
    /// The log files of a logger, or the diary beside them, cannot be used.
    #[error("the log files cannot be used: {0}")]
    LogFiles(String),
    /// The system refused a thread.
    #[error("cannot start the node's thread")]
    Thread(#[source] std::io::Error),
}

/// Makes reports of a node. It keeps the node's endpoint alive.
#[derive(Debug, Clone)]
pub struct NodeReporter {
    endpoint: Endpoint,
    shared: Arc<Shared>,
}

impl NodeReporter {
    /// What the node counts and sees, at most a quarter of a second old.
    pub fn report(&self) -> NodeReport {
        NodeReport::new(
            self.endpoint.id(),
            self.shared.report(),
            self.endpoint.counts(),
            self.endpoint.store_reports(),
        )
    }
}

/// A running node. It is ended by [`Node::stop`], or by dropping it: then it stops in order as well, within ten seconds, and
/// nobody hears when it has, nor its last report.
#[derive(Debug)]
pub struct Node {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    waits: Waits,
    stores: NodeStores,
    thread: Thread,
    driver: Option<JoinHandle<()>>,
    /// Where it stops if it is dropped.
    runtime: tokio::runtime::Handle,
}

impl Node {
    /// Starts a node on the current tokio runtime: it listens, dials, and runs its frameworks on a thread of its own.
    /// It returns before the other nodes are there: [`Node::ready`] waits for them. If the future is dropped, the
    /// node does not start.
    ///
    /// # Errors
    /// [`NodeStartError`]: the layout has no such node or does not fit the frameworks, certificates cannot be used, the
    /// address is taken or must not be exposed, or a store that the layout puts on this node does not open.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeStartError> {
        let NodeConfig {
            layout,
            name,
            registry,
            mut log_sink,
            input,
            tls,
            exposure,
            spool,
            base,
        } = config;
        let unknown = || NodeError::UnknownNode(name.clone());
        let node = layout.find(&name).ok_or_else(unknown)?.clone();
        let clock = Clock::start();
        let incarnation = Incarnation(u64::try_from(clock.now().wall.as_nanos()).unwrap_or(0));
        let endpoint = Endpoint::start(endpoint_config(&layout, &node, incarnation, tls))?;
        let id: EndpointId = endpoint.id();
        let stores = NodeStores::new(endpoint.clone(), Arc::clone(&layout), node.clone(), base);
        let mut node_loop = NodeLoop::new(&layout, &name, &registry, id, incarnation, clock.now())?;
        node_loop.set_stores(Box::new(stores.clone()));
        if layout.takes_logs(&node) {
            let records = log_writer::recover(&mut *log_sink).map_err(NodeStartError::LogFiles)?;
            node_loop.recover_logs(records);
        }
        // All subscriptions stand before the first peer: its first message may be for any of them.
        let prefixes: Vec<_> = node_loop
            .subscriptions()
            .iter()
            .map(|topic| topic.as_bytes().to_vec())
            .collect();
        let inbox = QueueLimits {
            messages: node.settings.size("runtime.inbox"),
            bytes: node.settings.size("runtime.inbox_bytes"),
        };
        let subscriber = endpoint.subscribe_with_statuses(prefixes, inbox).await;
        // Those that the layout names are opened at once: what is wrong with their files is told now.
        stores.open_named().await?;
        listen(&endpoint, node.socket_address(), exposure).await?;
        links::dial(&endpoint, &layout, &node);
        let shared = Arc::new(Shared::default());
        let (waits, waiting) = Waits::channel();
        let driver = Driver::new(
            node_loop,
            endpoint.clone(),
            subscriber,
            clock,
            Ends {
                input,
                sink: log_sink,
                spool: spool.map(|directory| SpoolPlan {
                    directory,
                    limit: node.settings.count("logging.spool_limit"),
                }),
                stores: stores.clone(),
            },
            Arc::clone(&shared),
            waiting,
        );
        let driver = std::thread::Builder::new()
            .name(format!("node {name}"))
            .spawn(move || driver.run())
            .map_err(NodeStartError::Thread)?;
        Ok(Self {
            endpoint,
            shared,
            waits,
            stores,
            thread: driver.thread().clone(),
            driver: Some(driver),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// The node's endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Waits until the nodes of `quorum` are mutually up, `limit` at most: this node sees them, they
    /// see this node and one another. What is published from then on reaches them; what was published
    /// before was delivered, held within the bounds of the queues while the node joined, or reported:
    /// in what the publisher returns, and in the counts.
    ///
    /// To see a node is to have its hello, of its present life. The nodes ask one another only while somebody waits.
    /// Zeek's nodes cannot be asked; they count from their hello. If the wait ends without its quorum, the error names
    /// the nodes that are not up, those that have not answered, and who does not see whom. At most 64 waits run at a
    /// time; a wait ends when its future is dropped.
    ///
    /// # Errors
    /// [`ReadyError`]: the layout can never have such a quorum, too many wait already, `limit` is over, or the node has
    /// stopped.
    pub async fn ready(&self, quorum: Quorum, limit: Duration) -> Result<(), ReadyError> {
        let outcome = self.waits.begin(quorum, limit)?;
        self.thread.unpark();
        outcome.await.unwrap_or(Err(ReadyError::Stopped))
    }

    /// Prepares to open a store of this name. The author need not know whether a cluster runs, where the primary is or
    /// what keeps it: the layout does. `node.store("software/tracked").persistent().open().await?`
    pub fn store(&self, name: impl Into<String>) -> StoreRequest {
        StoreRequest {
            stores: self.stores.clone(),
            name: name.into(),
            persistent: false,
        }
    }

    /// What the node counts and sees, at most a quarter of a second old.
    pub fn report(&self) -> NodeReport {
        self.reporter().report()
    }

    /// The node's state, at most a quarter of a second old. Costs less than a report.
    pub fn state(&self) -> NodeState {
        self.shared.state().unwrap_or(NodeState::Starting)
    }

    /// Returns a handle that makes reports, also while the node stops.
    pub fn reporter(&self) -> NodeReporter {
        NodeReporter {
            endpoint: self.endpoint.clone(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Whether the node's loop runs. It ends by itself only if it can no longer hear its peers, or if
    /// another process of the same node is alive.
    pub fn is_running(&self) -> bool {
        self.driver
            .as_ref()
            .is_some_and(|driver| !driver.is_finished())
    }

    /// Stops the node in order: its inputs end, its frameworks publish what they have, its log records are sent or
    /// written, its queues are drained, and it says goodbye to its peers. Takes at most `limit`; what is not done by
    /// then is lost, and counted. Returns the last report. If the future is dropped, the node stops all the same, but
    /// nothing waits for its stores and queues.
    pub async fn stop(mut self, limit: Duration) -> NodeReport {
        self.shared.stop();
        self.thread.unpark();
        let driver = self.driver.take();
        end(driver, &self.stores, &self.endpoint, limit).await;
        self.report()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Some(driver) = self.driver.take() else {
            return;
        };
        self.shared.stop();
        self.thread.unpark();
        let (stores, endpoint) = (self.stores.clone(), self.endpoint.clone());
        self.runtime.spawn(async move {
            end(Some(driver), &stores, &endpoint, DROPPED).await;
        });
    }
}

/// How long a node that is dropped may take to stop.
const DROPPED: Duration = Duration::from_secs(10);

/// Ends what a node is made of, once its loop was told to.
async fn end(
    driver: Option<JoinHandle<()>>,
    stores: &NodeStores,
    endpoint: &Endpoint,
    limit: Duration,
) {
    let deadline = tokio::time::Instant::now() + limit;
    if let Some(driver) = driver {
        let ended = tokio::task::spawn_blocking(move || driver.join());
        // A handler that hangs keeps its thread; the process ends all the same, and the queues have
        // their part of the time.
        let _ = tokio::time::timeout_at(deadline - limit / 3, ended).await;
    }
    stores.close(limit / 6).await;
    let _ = tokio::time::timeout_at(deadline, endpoint.shut_down()).await;
}

/// The endpoint of a node.
fn endpoint_config(
    layout: &Layout,
    node: &LayoutNode,
    incarnation: Incarnation,
    tls: Tls,
) -> EndpointConfig {
    EndpointConfig {
        tls,
        identity: NodeIdentity {
            name: node.name.to_string(),
            role: node.role.to_string(),
            machine: node.box_name.clone(),
            incarnation,
        },
        forwarding: match node.forwarding() {
            ForwardingMode::Relay => Forwarding::Relay,
            ForwardingMode::Direct => Forwarding::Direct,
            ForwardingMode::Leaf | ForwardingMode::Auto => Forwarding::Leaf,
        },
        peers: links::rules(layout, node),
        ..EndpointConfig::from_settings(&node.settings)
    }
}

/// How long a port may stay taken: by a life before this one, or by somebody's connection.
const PORT_PATIENCE: Duration = Duration::from_secs(2);

/// Listens, as soon as the port is free.
async fn listen(
    endpoint: &Endpoint,
    address: SocketAddr,
    exposure: Exposure,
) -> Result<(), ListenError> {
    let end = tokio::time::Instant::now() + PORT_PATIENCE;
    loop {
        let is_taken = |source: &std::io::Error| source.kind() == std::io::ErrorKind::AddrInUse;
        match endpoint.listen(address, exposure).await {
            Err(ListenError::System { source, .. })
                if is_taken(&source) && tokio::time::Instant::now() < end =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            listened => return listened.map(drop),
        }
    }
}
