//! An endpoint: peers with other endpoints, publishes and subscribes.

mod config;
mod connection;
mod counters;
mod counts;
mod dial;
mod echo;
mod end_reason;
mod in_order;
mod join_buffer;
mod outgoing;
mod owner;
mod peer_options;
mod peer_session;
mod publisher;
mod reader;
mod send_queue;
mod shared;
mod socket;
mod spare;
mod status;
mod subscriber;
mod tls;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_wire::mesh::NodeRecord;
use muster_wire::peering::{Offer, Protocol};
use muster_wire::{EndpointId, Filter, Mono, Overflow, QueueLimits, Topic};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub use config::{
    Credit, EndpointConfig, Exposure, Forwarding, Heartbeat, NodeIdentity, TopicClasses,
};
pub(crate) use counters::connections_refused;
pub use counts::{Compressed, EndpointCounts, PeerReport, QueueDepth};
pub use end_reason::{LossReason, RemovalReason, UnavailableReason};
pub use peer_options::{LinkSpeed, PeerMatch, PeerOptions, PeerRule, QueueOptions};
pub use publisher::{Outcome, Publisher};
pub use status::{PeerInfo, PeerOrigin, Status};
pub use subscriber::{Batch, Delivery, Received, Subscriber, TryReceiveError};
pub use tls::{Certificates, ConnectionError, Tls, TlsError, TlsFailure};

use dial::{DialState, DialTask};
use owner::{Command, DialStart, Owner, OwnerHandle, Unpeer};
use shared::Shared;
pub(crate) use shared::Table;
use subscriber::{Hearing, SubscriberQueue};
use tls::TlsContext;

use crate::store::Stores;

/// How long the accept loop rests after a failure such as a full descriptor table.
const ACCEPT_REST: Duration = Duration::from_millis(100);

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

/// Why an endpoint does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// An address that others can reach, without authentication, and nobody asked for that by name.
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
    /// No peering with the address; not tried again.
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
    /// There are no random numbers for an endpoint id.
    #[error("the system has no random numbers for an endpoint id: {0}")]
    Random(String),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Endpoint {
    /// Starts an endpoint on the current tokio runtime, which needs its I/O and time drivers. It neither listens nor
    /// dials by itself.
    ///
    /// # Errors
    /// [`StartError::Tls`] if certificates or keys cannot be used, [`StartError::Random`] if the system has no random
    /// numbers for an id.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: EndpointConfig) -> Result<Self, StartError> {
        let id = match config.id {
            Some(id) => id,
            None => random_id()?,
        };
        let tls = TlsContext::load(&config.tls)?;
        let shared = Arc::new(Shared::new(id, config, tls));
        let (owner, inbox) = OwnerHandle::channel();
        tokio::spawn(Owner::new(Arc::clone(&shared), &inbox).run(inbox));
        let stop = Arc::new(StopOnDrop(Arc::clone(&shared), owner.clone()));
        Ok(Self {
            shared,
            owner,
            _stop: stop,
        })
    }

    /// This endpoint's id.
    pub fn id(&self) -> EndpointId {
        self.shared.me
    }

    /// This endpoint's settings.
    pub fn config(&self) -> &EndpointConfig {
        &self.shared.config
    }

    /// The number of messages in the fullest queue towards a peer, 0 without peers: for callers that pace
    /// themselves. Looks at every peer's queue.
    pub fn backlog(&self) -> usize {
        let table = self.shared.table.load();
        table
            .peers()
            .iter()
            .map(|peer| peer.handle.queue.len())
            .max()
            .unwrap_or(0)
    }

    /// Listens for peers; port 0 takes a free one. Returns the address in use. It may be called for several
    /// addresses; they are listened on until the endpoint ends.
    ///
    /// # Errors
    /// [`ListenError::Exposed`] for an address that others can reach where `exposure` does not allow it,
    /// [`ListenError::System`] if the address is taken or cannot be bound.
    pub async fn listen(
        &self,
        address: SocketAddr,
        exposure: Exposure,
    ) -> Result<SocketAddr, ListenError> {
        let tls = &self.shared.config.tls;
        if !address.ip().is_loopback() && !exposure.allows(tls) {
            return Err(ListenError::Exposed {
                address,
                tls: tls.name(),
            });
        }
        let system = |source| ListenError::System { address, source };
        let listener = TcpListener::bind(address).await.map_err(system)?;
        let local = listener.local_addr().map_err(system)?;
        let (shared, owner) = (Arc::clone(&self.shared), self.owner.clone());
        tokio::spawn(async move {
            let mut stopping = shared.stopping.subscribe();
            tokio::select! {
                () = accept_loop(&listener, &shared, &owner) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        });
        Ok(local)
    }

    /// Takes a connected byte stream as if it had been accepted from `address`. Nothing is encrypted here. Returns at
    /// once; a handshake that fails closes the stream and is counted as a refused connection.
    pub fn accept_stream<R, W>(&self, reader: R, writer: W, address: &str)
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (shared, owner) = (Arc::clone(&self.shared), self.owner.clone());
        let address = address.to_owned();
        tokio::spawn(connection::run(
            reader,
            writer,
            shared,
            owner,
            address,
            PeerOrigin::Accepted,
        ));
    }

    /// Takes a connected byte stream as if `address`, which names it, had been dialled: for links that are
    /// no TCP connections, as those within a process, whose other end is given to
    /// [`Endpoint::accept_stream`]. It is not dialled again when it ends. A stream with the address of
    /// another dial that is under way is dropped.
    pub fn connect_stream<R, W>(&self, reader: R, writer: W, address: &str)
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (shared, owner) = (Arc::clone(&self.shared), self.owner.clone());
        let address = address.to_owned();
        tokio::spawn(async move {
            let (stop, _stopped) = watch::channel(false);
            let (_state, states) = watch::channel(DialState::Connecting);
            let start = owner.call(|done| Command::StartDial {
                address: address.clone(),
                offer: shared.config.forwarding.offer(),
                options: PeerOptions::default(),
                stop,
                state: states.clone(),
                done,
            });
            if !matches!(start.await, Some(DialStart::New)) {
                return;
            }
            let (mine, named) = (owner.clone(), address.clone());
            let run = connection::run(reader, writer, shared, mine, named, PeerOrigin::Dialled);
            if let connection::ConnectionEnd::Failed(reason) = run.await {
                let unavailable = Command::Unavailable(address.clone(), reason);
                owner.send(unavailable).await;
            }
            owner.send(Command::EndDial(address, states)).await;
        });
    }

    /// Dials `address` ("host:port") in the background and keeps the peering: a lost one is dialled
    /// again at once, a failed dial after `retry`, for ever. Without `retry` it dials once. An address
    /// that is being dialled already is left to that dial. Failures are told as [`Status::PeerUnavailable`];
    /// [`Endpoint::unpeer_address`] ends it.
    pub fn dial(&self, address: &str, retry: Option<Duration>) {
        self.dial_with(address, retry, PeerOptions::default());
    }

    /// Dials as [`Endpoint::dial`]; towards the peer there `options` hold, whatever the rules of
    /// [`EndpointConfig::peers`] say. They are those of the connection: if the endpoint there is a peer by a
    /// connection that it made itself, they do not hold.
    pub fn dial_with(&self, address: &str, retry: Option<Duration>, options: PeerOptions) {
        let offer = self.shared.config.forwarding.offer();
        self.dial_offering(address, retry, offer, options);
    }

    /// Dials as [`Endpoint::dial`], for a peering outside the mesh: the two exchange their own messages, and
    /// nothing is relayed over it. Between endpoints that are in one mesh anyway nothing goes over it.
    pub fn dial_direct(&self, address: &str, retry: Option<Duration>) {
        self.dial_direct_with(address, retry, PeerOptions::default());
    }

    /// Dials as [`Endpoint::dial_direct`], with options as [`Endpoint::dial_with`].
    pub fn dial_direct_with(&self, address: &str, retry: Option<Duration>, options: PeerOptions) {
        let offer = self.shared.config.forwarding.offer_apart();
        self.dial_offering(address, retry, offer, options);
    }

    fn dial_offering(
        &self,
        address: &str,
        retry: Option<Duration>,
        offer: Offer,
        options: PeerOptions,
    ) {
        let endpoint = self.clone();
        let address = address.to_owned();
        tokio::spawn(async move {
            let _ = endpoint.start_dial(&address, retry, offer, options).await;
        });
    }

    /// Dials as [`Endpoint::dial`] and waits for the peering; without `retry` the first failure is
    /// the answer. If the endpoint there is a peer by another connection, that peering is the answer. When this
    /// returns, messages pass both ways.
    ///
    /// With `retry` it waits for ever: put a limit of your own around it. A future that is dropped leaves the dial
    /// going on.
    ///
    /// # Errors
    /// [`PeerError::Unavailable`] if it is not there, refuses, or does not fit, and there is no `retry`;
    /// [`PeerError::Ended`] if the endpoint shuts down meanwhile.
    pub async fn peer(
        &self,
        address: &str,
        retry: Option<Duration>,
    ) -> Result<PeerInfo, PeerError> {
        let mut version = self.shared.table_version.subscribe();
        let offer = self.shared.config.forwarding.offer();
        let options = PeerOptions::default();
        let mut state = self.start_dial(address, retry, offer, options).await?;
        loop {
            version.borrow_and_update();
            if let Some(peer) = self.dialled_peer(address, &state) {
                return Ok(peer);
            }
            tokio::select! {
                changed = version.changed() => changed.map_err(|_| PeerError::Ended)?,
                changed = state.changed() => {
                    let failed = match &*state.borrow_and_update() {
                        DialState::Failed(reason) => Some(reason.clone()),
                        DialState::Connecting | DialState::Redundant(_) => None,
                    };
                    match failed {
                        Some(reason) if retry.is_none() => {
                            return Err(PeerError::Unavailable { address: address.to_owned(), reason });
                        }
                        _ if changed.is_err() => {
                            return self.dialled_peer(address, &state).ok_or(PeerError::Ended);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// The peering that a dial led to, or that made it redundant.
    fn dialled_peer(&self, address: &str, state: &watch::Receiver<DialState>) -> Option<PeerInfo> {
        let redundant = match &*state.borrow() {
            DialState::Redundant(peer) => Some(*peer),
            DialState::Connecting | DialState::Failed(_) => None,
        };
        self.peers()
            .into_iter()
            .find(|peer| peer.address == address || redundant == Some(peer.id))
    }

    async fn start_dial(
        &self,
        address: &str,
        retry: Option<Duration>,
        offer: Offer,
        options: PeerOptions,
    ) -> Result<watch::Receiver<DialState>, PeerError> {
        let (stop, stopped) = watch::channel(false);
        let (state, states) = watch::channel(DialState::Connecting);
        let start = self.owner.call(|done| Command::StartDial {
            address: address.to_owned(),
            offer,
            options,
            stop,
            state: states.clone(),
            done,
        });
        match start.await.ok_or(PeerError::Ended)? {
            DialStart::New => {
                let task = DialTask {
                    shared: Arc::clone(&self.shared),
                    owner: self.owner.clone(),
                    address: address.to_owned(),
                    retry,
                    stop: stopped,
                    state,
                };
                tokio::spawn(task.run());
                Ok(states)
            }
            DialStart::UnderWay(mut states) => {
                // Earlier failures are not an answer.
                states.mark_unchanged();
                Ok(states)
            }
            DialStart::Refused => Err(PeerError::Ended),
        }
    }

    /// Ends the peering with an endpoint, after what is queued for it is written, and its dial. Returns `true` if
    /// there was a peering. Waits at most [`EndpointConfig::bye_timeout`] for the peer; a future that is dropped
    /// does not take it back.
    pub async fn unpeer(&self, peer: EndpointId) -> bool {
        self.owner
            .call(|done| Command::Unpeer(Unpeer::Id(peer), done))
            .await
            .unwrap_or(false)
    }

    /// Ends the peering with, and the dial of, an address, as it was dialled. Returns `true` if there was one.
    /// Otherwise as [`Endpoint::unpeer`].
    pub async fn unpeer_address(&self, address: &str) -> bool {
        let which = Unpeer::Address(address.to_owned());
        self.owner
            .call(|done| Command::Unpeer(which, done))
            .await
            .unwrap_or(false)
    }

    /// Sends a ping to a direct peer, or through the mesh to any of its endpoints, and waits for the
    /// answer. Returns the time that it took, or `None` if there is no such endpoint, a direct peer ends meanwhile,
    /// or 64 pings wait already. The answer of an endpoint that is no direct peer may never come: put a limit around
    /// it. A future that is dropped gives the ping up.
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

    /// The endpoints that the mesh knows of, this one included: those that are in reach, and those that
    /// were until a minute ago.
    pub fn mesh(&self) -> Vec<Arc<NodeRecord>> {
        let table = self.shared.table.load();
        let nodes = table.mesh().into_iter().flat_map(|routes| routes.nodes());
        nodes.cloned().collect()
    }

    /// The endpoints of the mesh that are in reach.
    pub(crate) fn mesh_in_reach(&self) -> Vec<Arc<NodeRecord>> {
        let table = self.shared.table.load();
        let Some(routes) = table.mesh() else {
            return Vec::new();
        };
        let is_in_reach = |id| routes.slot(id).is_some_and(|slot| routes.reaches(slot));
        let nodes = routes.nodes().filter(|record| is_in_reach(record.id));
        nodes.cloned().collect()
    }

    /// The direct peers that were told of by [`Status::PeerAdded`].
    pub fn peers(&self) -> Vec<PeerInfo> {
        let table = self.shared.table.load();
        let announced = table.peers().iter();
        announced
            .filter(|peer| peer.handle.is_announced())
            .map(|peer| peer.handle.info.clone())
            .collect()
    }

    /// The topic prefixes that a direct peer, or an endpoint of the mesh, subscribes to. Returns `None` if there is no
    /// such endpoint.
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

    /// Whether another endpoint subscribes to a topic, as far as this one knows.
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

    /// A new publisher. Making one costs little: each task or thread has its own.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(Arc::clone(&self.shared), None)
    }

    /// A new publisher that this endpoint's own subscribers hear like a peer: for those who take part
    /// through this endpoint without one of their own, as clients of a gateway do.
    ///
    /// # Errors
    /// [`StartError::Random`] if the system has no random numbers for its id.
    pub fn local_publisher(&self) -> Result<Publisher, StartError> {
        Ok(Publisher::new(Arc::clone(&self.shared), Some(random_id()?)))
    }

    /// Subscribes to topic prefixes; in force, and announced to the peers, when this returns. The empty prefix
    /// matches every topic. Its queue has the bounds of [`EndpointConfig::subscriber_queue`]; a full one drops the
    /// oldest messages, counted, after credit has slowed down their publishers.
    ///
    /// After the endpoint's end the subscriber receives nothing and says so. If the future is dropped, the
    /// subscription ends.
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

    /// Subscribes to topic prefixes and receives, of each origin's messages of a class, none that comes behind a
    /// later one, as may happen while paths through the mesh change: those are dropped, and counted as
    /// [`DropCause::Reordered`](muster_wire::counters::DropCause::Reordered). The last of 4,096 origins are
    /// remembered; messages of peers of version 1 have no numbers, and come as their connection brings them.
    pub async fn subscribe_ordered<I>(&self, prefixes: I) -> Subscriber
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let limits = self.shared.config.subscriber_queue;
        self.new_subscriber(prefixes, limits, Hearing::PeersInOrder)
            .await
    }

    /// Subscribes to topic prefixes and receives, besides the peers' messages, what this endpoint's own
    /// publishers publish. `queue` bounds what waits for it. Otherwise as [`Endpoint::subscribe`].
    pub async fn subscribe_with_local<I>(&self, prefixes: I, queue: QueueLimits) -> Subscriber
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.new_subscriber(prefixes, queue, Hearing::PeersAndLocal)
            .await
    }

    /// Subscribes to topic prefixes and to the changes of peerings, in one order. `queue` bounds the messages; a
    /// subscriber that falls 65,536 changes behind is closed. Otherwise as [`Endpoint::subscribe`].
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

    /// Ends the endpoint: writes what is queued, says goodbye to every peer and waits, at most
    /// [`EndpointConfig::bye_timeout`] and a second, for their answers. A future that is dropped does not stop it; what
    /// is published from now on goes nowhere.
    pub async fn shut_down(&self) {
        self.shared.stopping.send_replace(true);
        self.owner.call(Command::ShutDown).await;
    }
}

/// A fresh endpoint id.
///
/// # Errors
/// [`StartError::Random`] if the system has no random numbers.
pub fn random_id() -> Result<EndpointId, StartError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(EndpointId::from_random(bytes))
}

async fn accept_loop(listener: &TcpListener, shared: &Arc<Shared>, owner: &OwnerHandle) {
    let mut warned = false;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                warned = false;
                accepted(stream, address, shared, owner);
            }
            Err(error) => {
                if !warned {
                    tracing::error!("cannot accept connections: {error}");
                }
                warned = true;
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

fn accepted(stream: TcpStream, address: SocketAddr, shared: &Arc<Shared>, owner: &OwnerHandle) {
    if socket::prepare(&stream).is_err() {
        return; // already closed by the other side
    }
    let (shared, owner) = (Arc::clone(shared), owner.clone());
    tokio::spawn(async move {
        let address = address.to_string();
        if let Err(reason) = accept(stream, &address, &shared, owner).await {
            shared.refused(&address, &reason.to_string());
        }
    });
}

/// Runs an accepted connection to its end; the error is why no peering came about.
async fn accept(
    stream: TcpStream,
    address: &str,
    shared: &Arc<Shared>,
    owner: OwnerHandle,
) -> Result<(), UnavailableReason> {
    let limit = shared.config.handshake_timeout;
    let (number, evicted) = shared.tls_handshake_begins();
    let secured = tokio::select! {
        secured = tokio::time::timeout(limit, shared.tls.accept(stream)) => secured
            .map_or(Err(UnavailableReason::TlsTimeout(limit)), |secured| Ok(secured?)),
        _ = evicted => Err(UnavailableReason::TooManyTlsHandshakes),
    };
    shared.tls_handshake_ends(number);
    let secured = secured?;
    let end = connection::run_secured(
        secured,
        Arc::clone(shared),
        owner,
        address.to_owned(),
        PeerOrigin::Accepted,
    );
    match end.await {
        connection::ConnectionEnd::Failed(reason) => Err(reason),
        _ => Ok(()),
    }
}
