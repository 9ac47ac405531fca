//! An endpoint: peers with other endpoints, publishes and subscribes.

mod config;
mod connection;
mod counters;
mod counts;
mod dial;
mod echo;
mod end_reason;
mod error;
mod fences;
mod in_order;
mod intake;
mod join_buffer;
mod last_words;
mod listening;
mod outgoing;
mod owner;
mod peer_options;
mod peer_session;
mod peerings;
mod post;
mod publisher;
mod reader;
mod recycling;
mod refused_connections;
mod send_queue;
mod shared;
mod silence;
mod socket;
mod spare;
mod status;
mod stranger;
mod subscriber;
mod tls;
mod too_large;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_wire::mesh::NodeRecord;
use muster_wire::peering::{ClusterName, Protocol};
use muster_wire::{EndpointId, Filter, Mono, Overflow, QueueLimits, Topic};

pub use config::{
    Credit, EndpointConfig, Exposure, Forwarding, Heartbeat, LocalTransport, NodeIdentity,
    TopicClasses,
};
pub(crate) use counters::connections_refused;
pub use counts::{Compressed, EndpointCounts, PeerReport, QueueDepth};
pub use end_reason::{LossReason, RemovalReason, UnavailableReason};
pub use error::{ListenError, PeerError, StartError};
pub use intake::TooMuchUnfinished;
pub use peer_options::{LinkSpeed, PeerMatch, PeerOptions, PeerRule, QueueOptions};
pub use publisher::{Outcome, Publisher};
pub use status::{PeerInfo, PeerOrigin, Status, Transport};
pub use stranger::ForeignProtocol;
pub use subscriber::{Batch, Delivery, Received, Subscriber, TryReceiveError};
pub use tls::{
    CertificateRefusal, Certificates, ConnectionError, Tls, TlsError, TlsFailure, TrustedAuthority,
};

use owner::{Command, Owner, OwnerHandle};
use shared::Shared;
pub(crate) use shared::Table;
use subscriber::{Hearing, SubscriberQueue};
use tls::TlsContext;

use crate::store::Stores;

/// A messaging endpoint. Cheap to clone; its tasks end with [`Endpoint::shut_down`] or with the last
/// clone.
#[derive(Debug, Clone)]
pub struct Endpoint {
    shared: Arc<Shared>,
    owner: OwnerHandle,
    _stop: Arc<StopOnDrop>,
}

#[derive(Debug)]
struct StopOnDrop(Arc<Shared>, OwnerHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stopping.send_replace(true);
        self.1
            .tell(Command::ShutDown(tokio::sync::oneshot::channel().0));
    }
}

impl Endpoint {
    /// Starts an endpoint on the current tokio runtime, which needs its I/O and time drivers. It neither listens nor
    /// dials by itself.
    ///
    /// # Errors
    /// [`StartError::Cluster`] for a cluster's name that is none, [`StartError::Tls`] if certificates or keys cannot be used,
    /// [`StartError::IdGiven`] for an id where there are certificates, [`StartError::Random`] if the system has no random
    /// numbers for one.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: EndpointConfig) -> Result<Self, StartError> {
        let tls = TlsContext::load(&config.tls)?;
        let sealing = tls.sealing();
        let sealing = sealing.filter(|_| config.forwarding != Forwarding::Direct);
        let salt = sealing.map(|_| random_bytes()).transpose()?;
        let seals = sealing
            .zip(salt)
            .map(|(sealing, salt)| sealing.for_life(salt));
        let id = match (config.id, &seals) {
            (Some(_), Some(_)) => return Err(StartError::IdGiven),
            (None, Some(seals)) => seals.id(),
            (Some(id), None) => id,
            (None, None) => random_id()?,
        };
        let cluster = config.cluster.as_deref().map(ClusterName::new);
        let cluster = cluster.transpose()?;
        let shared = Arc::new(Shared::new(id, config, tls, salt));
        let (owner, inbox) = OwnerHandle::channel();
        let task = Owner::new(Arc::clone(&shared), &inbox, cluster, seals);
        tokio::spawn(task.run(inbox));
        let stop = Arc::new(StopOnDrop(Arc::clone(&shared), owner.clone()));
        Ok(Self {
            shared,
            owner,
            _stop: stop,
        })
    }

    /// Reads the files of TLS anew, as after a certificate was renewed. Connections that stand go on as they are; those to
    /// come are made with what was read.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if one of them cannot be used, or if the certificate has other names than the one before: an endpoint's
    /// id is made of them. Then nothing has changed.
    pub fn reload_tls(&self) -> Result<(), TlsError> {
        let tls = TlsContext::load(&self.shared.config.tls)?;
        let seals = tls.sealing().zip(self.shared.salt);
        let seals = seals.map(|(sealing, salt)| sealing.for_life(salt));
        if let Some(seals) = &seals
            && seals.id() != self.shared.me
        {
            return Err(TlsError::OtherNames);
        }
        self.shared.tls.store(Arc::new(tls));
        if let Some(seals) = seals {
            self.owner.tell(Command::RenewSeals(seals));
        }
        Ok(())
    }

    /// This endpoint's id.
    pub fn id(&self) -> EndpointId {
        self.shared.me
    }

    /// This endpoint's settings.
    pub fn config(&self) -> &EndpointConfig {
        &self.shared.config
    }

    /// Returns the number of messages in the longest queue towards any peer, or 0 without peers. It looks at every
    /// peer's queue. For callers that pace themselves.
    pub fn backlog(&self) -> usize {
        let table = self.shared.table.load();
        table
            .peers()
            .iter()
            .map(|peer| peer.handle.queue.len())
            .max()
            .unwrap_or(0)
    }

    /// Sends a ping to a direct peer, or through the mesh to any of its endpoints, and waits for the answer. Returns
    /// the round-trip time, or `None` if there is no such endpoint, if the peering ends meanwhile, or if 64 pings wait
    /// already. An endpoint that is not a direct peer may never answer: put a timeout around the call. Dropping the
    /// future gives the ping up.
    pub async fn ping(&self, peer: EndpointId) -> Option<Duration> {
        let start = Instant::now();
        let pong = {
            let table = self.shared.table.load();
            match table.entry(peer) {
                Some(entry) => entry.handle.ping()?,
                None if peer == self.id() => return None,
                None => {
                    table.mesh()?.slot(peer)?;
                    self.shared.ask(peer)?
                }
            }
        };
        pong.await.ok()?;
        Some(start.elapsed())
    }

    /// Returns the endpoints that the mesh knows of, this one included: those in reach, and those that were in reach
    /// within the last minute.
    pub fn mesh(&self) -> Vec<Arc<NodeRecord>> {
        let table = self.shared.table.load();
        let nodes = table.mesh().into_iter().flat_map(|routes| routes.nodes());
        nodes.cloned().collect()
    }

    /// Returns the endpoints of the mesh that are in reach, this one included.
    pub fn mesh_in_reach(&self) -> Vec<Arc<NodeRecord>> {
        let table = self.shared.table.load();
        let Some(routes) = table.mesh() else {
            return Vec::new();
        };
        let is_in_reach = |id| routes.slot(id).is_some_and(|slot| routes.reaches(slot));
        let nodes = routes.nodes().filter(|record| is_in_reach(record.id));
        nodes.cloned().collect()
    }

    /// Returns `true` if an endpoint of the mesh is in reach. Whoever was out of reach is in reach again as soon as a way leads there;
    /// [`Status::EndpointDiscovered`] follows when messages surely pass both ways.
    pub fn mesh_reaches(&self, id: EndpointId) -> bool {
        let table = self.shared.table.load();
        let Some(routes) = table.mesh() else {
            return false;
        };
        routes.slot(id).is_some_and(|slot| routes.reaches(slot))
    }

    /// Returns the direct peers that [`Status::PeerAdded`] has announced.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let table = self.shared.table.load();
        let announced = table.peers().iter();
        announced
            .filter(|peer| peer.handle.is_announced())
            .map(|peer| peer.handle.info.clone())
            .collect()
    }

    /// Returns the topic prefixes that a direct peer, or an endpoint of the mesh, subscribes to, or `None` if there is
    /// no such endpoint.
    pub fn filter_of(&self, peer: EndpointId) -> Option<Vec<Vec<u8>>> {
        let table = self.shared.table.load();
        let entries = |filter: &Filter| filter.entries().map(<[u8]>::to_vec).collect();
        let direct = table.entry(peer);
        if let Some(entry) = direct.filter(|entry| entry.protocol == Protocol::V1) {
            return Some(entries(&entry.filter));
        }
        let routes = table.mesh()?;
        Some(entries(&routes.node(routes.slot(peer)?)?.filter))
    }

    /// Returns `true` if another endpoint subscribes to the topic, as far as this one knows.
    pub fn has_subscriber(&self, topic: &Topic) -> bool {
        let table = self.shared.table.load();
        !table.route(topic.as_bytes()).peers.is_empty()
    }

    /// The stores that are open here, for this crate's own use.
    pub(crate) fn stores(&self) -> &Stores {
        &self.shared.stores
    }

    /// The time since the endpoint started.
    pub(crate) fn now(&self) -> Mono {
        self.shared.now()
    }

    /// Creates a publisher. That costs little: give each task or thread its own.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(Arc::clone(&self.shared), None)
    }

    /// Creates a publisher whose messages this endpoint's own subscribers receive as if they came from a peer. For
    /// participants that have no endpoint of their own, such as the clients of a gateway.
    ///
    /// # Errors
    /// [`StartError::Random`] if the system has no random numbers for its id.
    pub fn local_publisher(&self) -> Result<Publisher, StartError> {
        Ok(Publisher::new(Arc::clone(&self.shared), Some(random_id()?)))
    }

    /// Subscribes to topic prefixes. The subscription is in force, and announced to the peers, when this returns. The
    /// empty prefix matches every topic. The subscriber's queue has the bounds of
    /// [`EndpointConfig::subscriber_queue`]. When it is full, the oldest messages are dropped and counted; before
    /// that, credit slows down their publishers.
    ///
    /// If the endpoint has ended, the subscriber is closed from the start. If the future is dropped, the subscription
    /// ends.
    pub async fn subscribe<I>(&self, prefixes: I) -> Subscriber
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.new_subscriber(
            prefixes,
            self.shared.config.subscriber_queue,
            Hearing::Peers,
        )
        .await
    }

    /// Subscribes to topic prefixes and receives each origin's messages of a class in order. A message that arrives
    /// after a later one, as can happen while paths through the mesh change, is dropped and counted as
    /// [`DropCause::Reordered`](muster_wire::counters::DropCause::Reordered). This holds for 4,096 origins; if there
    /// are more, the one that was heard first is forgotten. Messages of peers of version 1 carry no numbers and are
    /// received in the order of their connection. Otherwise like [`Endpoint::subscribe`].
    pub async fn subscribe_ordered<I>(&self, prefixes: I) -> Subscriber
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let limits = self.shared.config.subscriber_queue;
        self.new_subscriber(prefixes, limits, Hearing::PeersInOrder)
            .await
    }

    /// Subscribes to topic prefixes and receives, besides the peers' messages, what this endpoint's own publishers
    /// publish. `queue` bounds the subscriber's queue. Otherwise like [`Endpoint::subscribe`].
    pub async fn subscribe_with_local<I>(&self, prefixes: I, queue: QueueLimits) -> Subscriber
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.new_subscriber(prefixes, queue, Hearing::PeersAndLocal)
            .await
    }

    /// Subscribes to topic prefixes and to the changes of peerings, in one order. `queue` bounds the messages. A
    /// subscriber that falls 65,536 changes behind is closed. Otherwise like [`Endpoint::subscribe`].
    pub async fn subscribe_with_statuses<I>(&self, prefixes: I, queue: QueueLimits) -> Subscriber
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.new_subscriber(prefixes, queue, Hearing::PeersAndStatuses)
            .await
    }

    async fn new_subscriber<I>(
        &self,
        prefixes: I,
        limits: QueueLimits,
        hearing: Hearing,
    ) -> Subscriber
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let prefixes = prefixes
            .into_iter()
            .map(|prefix| prefix.as_ref().into())
            .collect();
        let former = Arc::clone(&self.shared.former_subscribers);
        let queue = SubscriberQueue::new(limits, Overflow::DropOldest, hearing, former);
        let queue = Arc::new(queue);
        let subscriber = Subscriber::new(Arc::clone(&queue), self.owner.clone());
        let new = |done| Command::NewSubscriber(prefixes, subscriber, done);
        if let Some(subscriber) = self.owner.call(new).await {
            return subscriber;
        }
        queue.close();
        queue.retire();
        Subscriber::new(queue, self.owner.clone())
    }

    /// Ends the endpoint: writes what is queued, says goodbye to every peer and waits for their answers, at most
    /// [`EndpointConfig::bye_timeout`] plus one second. What is published from now on reaches nobody. Dropping the
    /// future does not stop the shutdown.
    pub async fn shut_down(&self) {
        self.shared.stopping.send_replace(true);
        self.owner.call(Command::ShutDown).await;
    }
}

/// Returns a random endpoint id.
///
/// # Errors
/// [`StartError::Random`] if the system has no random numbers.
pub fn random_id() -> Result<EndpointId, StartError> {
    random_bytes().map(EndpointId::from_random)
}

fn random_bytes() -> Result<[u8; 16], StartError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(bytes)
}
