//! A store whose copies coordinators decide about: what they have decided, and what they are asked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use muster_cluster::coordination::StoreGroup;
use muster_store::{Backend, CopyRequest, PrimaryConfig, StoreName};
use muster_wire::{Class, Mono, Topic};

use crate::endpoint::Publisher;

/// Opens a store's file.
pub(crate) type OpenBackend = Arc<dyn Fn() -> Box<dyn Backend> + Send + Sync>;

/// Until when a node may act by what coordinators have said last, by its endpoint's clock. A process that was stopped finds it over.
#[derive(Debug, Default)]
pub(crate) struct LeaseEnd(AtomicU64);

impl LeaseEnd {
    pub(crate) fn set(&self, until: Option<Mono>) {
        self.0
            .store(until.map_or(0, |until| until.0), Ordering::Relaxed);
    }

    fn is_over(&self, now: Mono) -> bool {
        now.0 >= self.0.load(Ordering::Relaxed)
    }
}

/// What coordinators have decided about a store, and how this endpoint follows it.
pub(crate) struct Copies {
    pub(crate) group: StoreGroup,
    /// How a copy is kept here.
    pub(crate) config: PrimaryConfig,
    /// The kind of its backend.
    pub(crate) kind: &'static str,
    /// What keeps it, or `None` for a store in memory.
    pub(crate) backend: Option<OpenBackend>,
    /// Where the coordinators listen.
    pub(crate) coordinators: Arc<[Topic]>,
    pub(crate) lease: Arc<LeaseEnd>,
}

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copies")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Copies {
    /// Whether this endpoint may not decide alone at present.
    pub(super) fn is_suspended(&self, now: Mono) -> bool {
        self.lease.is_over(now)
    }

    /// Asks the coordinators for a decision. The primary repeats it until they have made one.
    pub(super) fn request(
        &self,
        store: &StoreName,
        epoch: u64,
        request: CopyRequest,
        publisher: &mut Publisher,
    ) {
        let Some(payload) = self.group.asks(store, epoch, request).map(Bytes::from) else {
            return;
        };
        for topic in self.coordinators.iter() {
            let _ = publisher.publish_encoded(topic, payload.clone(), Class::Control);
        }
    }
}
