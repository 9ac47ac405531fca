//! What the tasks and handles of one endpoint share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use muster_wire::routing;
use muster_wire::{Class, EndpointId, MessageId, Mono};
use tokio::sync::watch;

use super::config::EndpointConfig;
use super::peer_queue::PeerQueue;
use super::subscriber::SubscriberQueue;

pub(crate) type Table = routing::Table<Arc<PeerQueue>, Arc<SubscriberQueue>>;

/// The former peers whose counts are kept.
const RETIRED: usize = 64;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: EndpointId,
    pub(crate) config: EndpointConfig,
    pub(crate) table: ArcSwap<Table>,
    pub(crate) table_version: watch::Sender<u64>,
    /// Turns true when the endpoint ends: listeners stop.
    pub(crate) stopping: watch::Sender<bool>,
    sequences: [AtomicU64; 4],
    retired: Mutex<VecDeque<Arc<PeerQueue>>>,
    start: Instant,
}

impl Shared {
    pub(crate) fn new(me: EndpointId, config: EndpointConfig) -> Self {
        Self {
            me,
            config,
            table: ArcSwap::from_pointee(Table::empty()),
            table_version: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            sequences: [const { AtomicU64::new(0) }; 4],
            retired: Mutex::new(VecDeque::new()),
            start: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Mono {
        Mono::default().after(self.start.elapsed())
    }

    /// The identity of the next message of a class.
    pub(crate) fn stamp(&self, class: Class) -> MessageId {
        let counter = &self.sequences[class as usize];
        MessageId {
            origin: self.me,
            sequence: counter.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    /// Keeps a former peer's counts.
    pub(crate) fn retire(&self, queue: &Arc<PeerQueue>) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.push_back(Arc::clone(queue));
        if retired.len() > RETIRED {
            retired.pop_front();
        }
    }

    /// Former peers, oldest first.
    pub(crate) fn retired(&self) -> Vec<Arc<PeerQueue>> {
        self.retired
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}
