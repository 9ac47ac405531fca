//! What the tasks and handles of one endpoint share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use muster_wire::counters::{Counter, DropCause, DropLedger};
use muster_wire::mesh::data::{Dropped, Here, SharedWindows};
use muster_wire::routing;
use muster_wire::{Class, EndpointId, Kind, Message, MessageId, Mono, Topic};
use tokio::sync::{oneshot, watch};

use super::config::EndpointConfig;
use super::counters::mesh as counters;
use super::counts::Former;
use super::echo::Echoes;
use super::intake::IntakeBudget;
use super::join_buffer::JoinBuffer;
use super::peer_session::PeerSession;
use super::post::Post;
use super::recycling::Recycling;
use super::refused_connections::RefusedConnections;
use super::subscriber::SubscriberQueue;
use super::tls::TlsContext;
use crate::store::Stores;

pub(crate) type Table = routing::Table<Arc<PeerSession>, Arc<SubscriberQueue>>;

/// What became of the mesh's messages here, each under its own name.
#[derive(Debug, Default)]
pub(crate) struct MeshCounts {
    /// Handed on to other peers.
    pub(crate) relayed: AtomicU64,
    /// Of peers of version 1 that have their home here, published for them in the mesh.
    pub(crate) from_version_1: AtomicU64,
    /// Of others in the mesh, for peers of version 1 that have their home here.
    pub(crate) to_version_1: AtomicU64,
    /// Of peers of version 1 that forward: their home alone takes anything from them.
    pub(crate) left_to_home: AtomicU64,
    /// Had been here before.
    pub(crate) duplicate: AtomicU64,
    /// Below the window.
    pub(crate) too_old: AtomicU64,
    /// Own ones that came back.
    pub(crate) returned: AtomicU64,
    /// Of an origin that is not in the database.
    pub(crate) unknown_origin: AtomicU64,
    /// Not relayed, as their hops were used up.
    pub(crate) hops_exhausted: AtomicU64,
    /// Arrived behind later ones of their origin and class.
    pub(crate) reordered: AtomicU64,
    /// Came in parts of which one was missing or too much.
    pub(crate) fragments_lost: AtomicU64,
    /// Of peers of version 1 of which no home was known: nobody relayed them.
    pub(crate) without_home: AtomicU64,
    /// Questions of neighbours whether a peer is heard here.
    pub(crate) witnessed: AtomicU64,
    /// Links that were silent while others heard the peer.
    pub(crate) cut_off: AtomicU64,
    /// Links that were ended as their other end was fenced here.
    pub(crate) fenced: AtomicU64,
    /// Links whose other end has fenced this endpoint.
    pub(crate) fenced_by_peers: AtomicU64,
    /// Connections to endpoints of other clusters.
    pub(crate) other_cluster: AtomicU64,
    /// Peers whose filters did not fit.
    pub(crate) filters_refused: AtomicU64,
    /// Came to be passed on, and no way led on.
    pub(crate) stranded: Mutex<DropLedger>,
    /// What the owner's [`Mesh`](muster_wire::mesh::Mesh) counted of its records.
    pub(crate) records: Mutex<Vec<Counter>>,
}

impl MeshCounts {
    /// Counts messages that are handed on to a peer.
    pub(crate) fn count_relayed(&self, messages: usize) {
        self.relayed.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// Counts a message that came to be passed on, and for which no way led on.
    pub(crate) fn count_stranded(&self, topic: &[u8]) {
        let mut stranded = self.stranded.lock().unwrap_or_else(PoisonError::into_inner);
        stranded.count_topic(DropCause::NoNextHop, topic);
    }

    /// What [`MeshCounts::count_stranded`] has counted.
    pub(crate) fn stranded(&self) -> DropLedger {
        let stranded = self.stranded.lock();
        stranded.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counter of a message that went no further; one whose topic may not be is refused instead.
    pub(crate) fn dropped(&self, dropped: Dropped) -> Option<&AtomicU64> {
        match dropped {
            Dropped::Returned => Some(&self.returned),
            Dropped::UnknownOrigin => Some(&self.unknown_origin),
            Dropped::Duplicate => Some(&self.duplicate),
            Dropped::TooOld => Some(&self.too_old),
            Dropped::LeftToHome => Some(&self.left_to_home),
            Dropped::NoTopic => None,
        }
    }
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: EndpointId,
    pub(crate) config: EndpointConfig,
    /// May be another one for the next connection: certificates are renewed.
    pub(crate) tls: ArcSwap<TlsContext>,
    /// What the id is made of besides the names in the certificate, if records are sealed.
    pub(crate) salt: Option<[u8; 16]>,
    tls_handshakes: Mutex<TlsHandshakes>,
    /// What peers have sent of unfinished frames, and those that are not peers yet.
    pub(crate) intake: Arc<IntakeBudget>,
    pub(crate) handshake_intake: Arc<IntakeBudget>,
    pub(crate) recycling: Recycling,
    pub(crate) table: ArcSwap<Table>,
    pub(crate) table_version: watch::Sender<u64>,
    /// Turns true when the endpoint ends: listeners stop.
    pub(crate) stopping: watch::Sender<bool>,
    sequences: [AtomicU64; 4],
    pub(crate) windows: SharedWindows,
    pub(crate) join_buffer: JoinBuffer,
    pub(crate) echoes: Echoes,
    pub(crate) stores: Stores,
    pub(crate) mesh: MeshCounts,
    former: Mutex<Former>,
    /// What the subscribers that are not in the routing table any more dropped.
    pub(crate) former_subscribers: Arc<Mutex<DropLedger>>,
    refused: Mutex<RefusedConnections>,
    start: Instant,
}

/// The accepted connections that are in their TLS handshake, oldest first. Each ends when its sender
/// is dropped.
#[derive(Debug, Default)]
struct TlsHandshakes {
    next: u64,
    pending: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// The most bytes of unfinished frames of all handshakes together: those who are not known yet must not make an endpoint
/// hold more than handshakes need.
const HANDSHAKES_UNFINISHED: usize = 16 << 20;

impl Shared {
    pub(crate) fn new(
        me: EndpointId,
        config: EndpointConfig,
        tls: TlsContext,
        salt: Option<[u8; 16]>,
    ) -> Self {
        let two_frames = config.frame_limit.saturating_mul(2);
        let unfinished = config.unfinished_frames.max(two_frames);
        Self {
            me,
            tls: ArcSwap::from_pointee(tls),
            salt,
            tls_handshakes: Mutex::default(),
            intake: IntakeBudget::new(unfinished),
            handshake_intake: IntakeBudget::new(HANDSHAKES_UNFINISHED),
            recycling: Recycling::default(),
            table: ArcSwap::from_pointee(Table::empty()),
            table_version: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            sequences: [const { AtomicU64::new(0) }; 4],
            windows: SharedWindows::default(),
            join_buffer: JoinBuffer::new(config.data_queue, config.overflow)
                .with_largest(config.largest_message()),
            echoes: Echoes::default(),
            stores: Stores::default(),
            mesh: MeshCounts::default(),
            config,
            former: Mutex::default(),
            former_subscribers: Arc::default(),
            refused: Mutex::default(),
            start: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Mono {
        Mono::default().after(self.start.elapsed())
    }

    /// A new message, with the next identity of its class: the author's, or its topic's.
    pub(crate) fn message(&self, topic: &Topic, payload: Bytes, class: Class) -> Message {
        self.message_of(Kind::Data, topic, payload, class)
    }

    /// The same of a kind of payload.
    pub(crate) fn message_of(
        &self,
        kind: Kind,
        topic: &Topic,
        payload: Bytes,
        class: Class,
    ) -> Message {
        let class = self.config.classes.class_of(topic.as_bytes(), class);
        Message {
            topic: topic.clone(),
            payload,
            kind,
            class,
            id: Some(self.next_id(class)),
        }
    }

    /// A new message to be offered to queues. Its payload is the first of two if there is one, or lies in the
    /// second.
    #[inline]
    pub(crate) fn post<'p>(
        &self,
        topic: &'p Topic,
        payload: (Option<&'p Bytes>, &'p [u8]),
        kind: Kind,
        class: Class,
    ) -> Post<'p> {
        let class = self.config.classes.class_of(topic.as_bytes(), class);
        let id = self.next_id(class);
        Post::new(topic, payload, kind, class, id)
    }

    /// The next identity of a class.
    #[inline]
    pub(crate) fn next_id(&self, class: Class) -> MessageId {
        let counter = &self.sequences[class as usize];
        MessageId {
            origin: self.me,
            sequence: counter.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    /// This endpoint as its readers' data plane sees it.
    pub(crate) fn here<'t>(
        &'t self,
        table: &'t Table,
    ) -> Here<'t, Arc<PeerSession>, Arc<SubscriberQueue>> {
        Here {
            me: self.me,
            table,
            windows: &self.windows,
        }
    }

    /// What became of the mesh's messages and records.
    pub(crate) fn mesh_counters(&self) -> Vec<Counter> {
        let mesh = &self.mesh;
        let values = [
            (counters::RELAYED, &mesh.relayed),
            (counters::FROM_VERSION_1, &mesh.from_version_1),
            (counters::TO_VERSION_1, &mesh.to_version_1),
            (counters::LEFT_TO_HOME, &mesh.left_to_home),
            (counters::DUPLICATE, &mesh.duplicate),
            (counters::TOO_OLD, &mesh.too_old),
            (counters::RETURNED, &mesh.returned),
            (counters::UNKNOWN_ORIGIN, &mesh.unknown_origin),
            (counters::HOPS_EXHAUSTED, &mesh.hops_exhausted),
            (counters::REORDERED, &mesh.reordered),
            (counters::FRAGMENTS_LOST, &mesh.fragments_lost),
            (counters::WITNESSED, &mesh.witnessed),
            (counters::CUT_OFF, &mesh.cut_off),
            (counters::FENCED, &mesh.fenced),
            (counters::FENCED_BY_PEERS, &mesh.fenced_by_peers),
            (counters::WITHOUT_HOME, &mesh.without_home),
            (counters::OTHER_CLUSTER, &mesh.other_cluster),
            (counters::FILTERS_REFUSED, &mesh.filters_refused),
        ];
        let values = values.into_iter();
        let messages = values.map(|(what, value)| what.of(value.load(Ordering::Relaxed)));
        let given_up = self.intake.ended() + self.handshake_intake.ended();
        let messages = messages.chain([counters::UNFINISHED_GIVEN_UP.of(given_up)]);
        let records = mesh.records.lock().unwrap_or_else(PoisonError::into_inner);
        messages.chain(records.iter().cloned()).collect()
    }

    /// Notes a TLS handshake; too many of them end the oldest. What is returned ends with this one.
    pub(crate) fn tls_handshake_begins(&self) -> (u64, oneshot::Receiver<()>) {
        let (sender, evicted) = oneshot::channel();
        let mut handshakes = self
            .tls_handshakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        handshakes.next += 1;
        let number = handshakes.next;
        handshakes.pending.push_back((number, sender));
        if handshakes.pending.len() > self.config.max_handshakes {
            handshakes.pending.pop_front();
        }
        (number, evicted)
    }

    /// Forgets a TLS handshake that is over.
    pub(crate) fn tls_handshake_ends(&self, number: u64) {
        let mut handshakes = self
            .tls_handshakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        handshakes.pending.retain(|(pending, _)| *pending != number);
    }

    /// Counts a refused connection, and tells of it unless it is nothing new.
    pub(crate) fn refused(&self, address: &str, reason: &str) {
        let now = self.now();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = refused.take(address, reason, now);
        drop(refused);
        for line in lines {
            tracing::warn!("{line}");
        }
    }

    /// The connections that were refused so far.
    pub(crate) fn connections_refused(&self) -> u64 {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.total()
    }

    /// The queues that are not in the routing table. Whoever takes a queue out of the table puts it
    /// here first, whoever counts looks here last: so nothing is missed.
    pub(crate) fn former(&self) -> MutexGuard<'_, Former> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
