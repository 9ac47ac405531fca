//! What the tasks and handles of one endpoint share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use muster_wire::counters::DropLedger;
use muster_wire::routing;
use muster_wire::{Class, EndpointId, Kind, Message, MessageId, Mono, Topic};
use tokio::sync::{oneshot, watch};

use super::config::EndpointConfig;
use super::counts::Former;
use super::peer_queue::PeerQueue;
use super::subscriber::SubscriberQueue;
use super::tls::TlsContext;

pub(crate) type Table = routing::Table<Arc<PeerQueue>, Arc<SubscriberQueue>>;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: EndpointId,
    pub(crate) config: EndpointConfig,
    pub(crate) tls: TlsContext,
    tls_handshakes: Mutex<TlsHandshakes>,
    pub(crate) table: ArcSwap<Table>,
    pub(crate) table_version: watch::Sender<u64>,
    /// Turns true when the endpoint ends: listeners stop.
    pub(crate) stopping: watch::Sender<bool>,
    sequences: [AtomicU64; 4],
    former: Mutex<Former>,
    /// What the subscribers that are not in the routing table any more dropped.
    pub(crate) former_subscribers: Arc<Mutex<DropLedger>>,
    refusals: Mutex<Refusals>,
    start: Instant,
}

/// How many refused connections are told of, so that whoever makes them cannot fill a disk.
#[derive(Debug, Default)]
struct Refusals {
    since: Mono,
    told: u32,
    untold: u64,
    /// All of them, told or not.
    total: u64,
}

/// The accepted connections that are in their TLS handshake, oldest first. Each ends when its sender
/// is dropped.
#[derive(Debug, Default)]
struct TlsHandshakes {
    next: u64,
    pending: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// Refused connections that are told of in one [`REFUSALS_SPAN`]; the rest are counted.
const REFUSALS_TOLD: u32 = 10;
const REFUSALS_SPAN: Duration = Duration::from_secs(10);

impl Shared {
    pub(crate) fn new(me: EndpointId, config: EndpointConfig, tls: TlsContext) -> Self {
        Self {
            me,
            tls,
            tls_handshakes: Mutex::default(),
            config,
            table: ArcSwap::from_pointee(Table::empty()),
            table_version: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            sequences: [const { AtomicU64::new(0) }; 4],
            former: Mutex::default(),
            former_subscribers: Arc::default(),
            refusals: Mutex::default(),
            start: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Mono {
        Mono::default().after(self.start.elapsed())
    }

    /// A new message, with the next identity of its class.
    pub(crate) fn message(&self, topic: &Topic, payload: Bytes, class: Class) -> Message {
        let counter = &self.sequences[class as usize];
        let id = MessageId {
            origin: self.me,
            sequence: counter.fetch_add(1, Ordering::Relaxed) + 1,
        };
        Message {
            topic: topic.clone(),
            payload,
            kind: Kind::Data,
            class,
            id: Some(id),
        }
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

    /// Tells of a refused connection, unless there are too many of them.
    pub(crate) fn refused(&self, address: &str, reason: &str) {
        let now = self.now();
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.total += 1;
        if now.since(refusals.since) >= REFUSALS_SPAN {
            let untold = refusals.untold;
            *refusals = Refusals {
                since: now,
                total: refusals.total,
                ..Refusals::default()
            };
            if untold > 0 {
                tracing::warn!("refused {untold} more connections");
            }
        }
        if refusals.told >= REFUSALS_TOLD {
            refusals.untold += 1;
            return;
        }
        refusals.told += 1;
        let last = if refusals.told == REFUSALS_TOLD {
            "; more of them are only counted"
        } else {
            ""
        };
        tracing::warn!("refused a connection from {address}: {reason}{last}");
    }

    /// The connections that were refused so far.
    pub(crate) fn connections_refused(&self) -> u64 {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.total
    }

    /// The queues that are not in the routing table. Whoever takes a queue out of the table puts it
    /// here first, whoever counts looks here last: so nothing is missed.
    pub(crate) fn former(&self) -> MutexGuard<'_, Former> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
