//! What a bridge counts, and how others ask for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use muster::Subscriber;
use muster_wire::counters::DropLedger;
use tokio::sync::watch;

/// What a bridge counts.
#[derive(Debug, Clone, Default)]
pub struct BridgeCounts {
    /// The server's address.
    pub server: String,
    /// Whether the server is connected.
    pub connected: bool,
    /// Connections that came about.
    pub connections: u64,
    /// Events that came in.
    pub events_in: u64,
    /// Events that went out.
    pub events_out: u64,
    /// Errors that the server answered with.
    pub errors: u64,
    /// What came in and is no event, and what would have gone out and is none.
    pub not_events: u64,
    /// Messages that were dropped because the server was away or did not keep up.
    pub dropped: DropLedger,
    /// Why the last connection failed or ended.
    pub last_error: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) events_in: AtomicU64,
    pub(super) events_out: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) not_events: AtomicU64,
    pub(super) dropped: Mutex<DropLedger>,
    pub(super) last_error: Mutex<Option<String>>,
}

impl Counters {
    /// Notes what had no room in the queue of a subscriber.
    pub(super) fn note_dropped(&self, subscriber: &Subscriber) {
        let dropped = subscriber.depth().dropped;
        *self.dropped.lock().unwrap_or_else(PoisonError::into_inner) = dropped;
    }
}

/// Tells what a bridge counts.
#[derive(Debug, Clone)]
pub struct BridgeCounter {
    pub(super) server: Arc<str>,
    pub(super) counters: Arc<Counters>,
    pub(super) connected: watch::Receiver<bool>,
}

impl BridgeCounter {
    /// What the bridge counts.
    pub fn counts(&self) -> BridgeCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let dropped = counters.dropped.lock();
        let last_error = counters.last_error.lock();
        BridgeCounts {
            server: self.server.to_string(),
            connected: *self.connected.borrow(),
            connections: get(&counters.connections),
            events_in: get(&counters.events_in),
            events_out: get(&counters.events_out),
            errors: get(&counters.errors),
            not_events: get(&counters.not_events),
            dropped: dropped.unwrap_or_else(PoisonError::into_inner).clone(),
            last_error: last_error.unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
