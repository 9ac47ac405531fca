//! How a store opens on an endpoint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use muster_store::{
    Backend, BackendError, BackendErrorKind, CopyMode, Instance, InstanceConfig, Now, Placement,
    Restored, SteadyClock, StoreName,
};
use muster_wire::{Mono, Topic};
use tokio::sync::watch;

use super::{AskToOpen, Host, Inner, Progress, timer, wall};
use crate::endpoint::Endpoint;
use crate::store::disk::Disk;
use crate::store::error::OpenError;
use crate::store::rival;
use crate::store::topics::StoreTopics;
use crate::store::watch::Watchers;

impl Host {
    /// A store that is not open yet, and takes writes all the same. It is known to the endpoint from now on.
    pub(in crate::store) fn new(
        endpoint: &Endpoint,
        name: &StoreName,
        placement: &Placement,
        ask_to_open: Option<AskToOpen>,
    ) -> Result<Arc<Self>, OpenError> {
        let config = InstanceConfig {
            endpoint: endpoint.id(),
            number: endpoint.stores().next_instance(),
            frame_limit: endpoint.config().frame_limit,
            rival_patience: endpoint.config().heartbeat.timeout + rival::MORE,
        };
        let (is_primary, has_copy) = match placement {
            Placement::Primary { .. } => (true, true),
            Placement::Clone(config) => (false, config.copy == CopyMode::Full),
        };
        let now = Now {
            mono: endpoint.now(),
            wall: wall(),
        };
        let host = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            name: name.clone(),
            endpoint: endpoint.clone(),
            topics: StoreTopics::new(name),
            is_primary,
            has_copy,
            subscription: OnceLock::new(),
            inner: Mutex::new(Inner {
                instance: Instance::new(name.clone(), config, now),
                publisher: endpoint.publisher(),
                backend: None,
                disk: None,
                ask_to_open,
                failure: None,
                next_token: 1,
                waiting: HashMap::new(),
                questions: HashMap::new(),
                watchers: Watchers::default(),
                clock: SteadyClock::new(now.mono, now.wall),
                armed: Mono::default(),
                listens_to_broker: false,
            }),
            earlier: Arc::default(),
            progress: watch::Sender::new(Progress::default()),
        });
        if endpoint.stores().add(name, &host) {
            Ok(host)
        } else {
            Err(OpenError::Open(name.clone()))
        }
    }

    /// Opens it, once. Everybody else hears of it before anything of it is said.
    pub(in crate::store) async fn open(
        self: &Arc<Self>,
        placement: Placement,
        backend: Option<Box<dyn Backend>>,
    ) -> Result<(), OpenError> {
        tokio::spawn(timer(self.me.clone()));
        let mut progress = self.progress.subscribe();
        if backend.is_none() {
            self.announce().await;
        }
        self.drive(|inner, now| {
            inner.backend = backend;
            inner.instance.open(placement, now);
        });
        // The sender is `self`'s, which outlives this.
        let opened = progress.wait_for(|progress| progress.is_open.is_some());
        let is_open = opened
            .await
            .is_ok_and(|progress| progress.is_open == Some(true));
        if is_open {
            return Ok(());
        }
        let failure = self.lock().failure.take();
        Err(failure.unwrap_or_else(|| OpenError::Open(self.name.clone())))
    }

    /// Subscribes to what its part listens to.
    async fn announce(&self) {
        let topics: &[Topic] = match (self.is_primary, self.has_copy) {
            (true, _) => &[
                self.topics.primary.clone(),
                self.topics.broker_master.clone(),
            ],
            (false, true) => std::slice::from_ref(&self.topics.clone),
            (false, false) => &[],
        };
        let topics = topics.iter().map(Topic::as_bytes);
        let subscription = self.endpoint.subscribe(topics).await;
        // It opens once.
        let _ = self.subscription.set(subscription);
    }

    /// Reads the backend, which may take a while, and gives it to its thread.
    pub(super) fn load(&self, inner: &mut Inner, limit: usize) {
        let Some(backend) = inner.backend.take() else {
            return;
        };
        let me = self.me.clone();
        tokio::spawn(async move {
            let read = read(backend, limit).await;
            let Some(host) = me.upgrade() else {
                return;
            };
            let restored = match host.start_disk(read) {
                Ok(restored) => {
                    host.announce().await;
                    Some(restored)
                }
                Err(error) => {
                    host.lock().failure = Some(error);
                    None
                }
            };
            host.drive(|inner, now| inner.instance.loaded(restored, now));
        });
    }

    fn start_disk(&self, read: Result<Loaded, BackendError>) -> Result<Restored, OpenError> {
        let Loaded { restored, backend } = read.map_err(|reason| OpenError::Backend {
            name: self.name.clone(),
            reason,
        })?;
        let disk = Disk::start(&self.name, backend, self.me.clone());
        let disk = disk.map_err(|source| OpenError::Thread {
            name: self.name.clone(),
            source,
        })?;
        self.lock().disk = Some(disk);
        Ok(restored)
    }
}

/// A backend that has been read.
struct Loaded {
    restored: Restored,
    backend: Box<dyn Backend>,
}

async fn read(mut backend: Box<dyn Backend>, limit: usize) -> Result<Loaded, BackendError> {
    let reading = tokio::task::spawn_blocking(move || {
        let restored = Restored::load(&mut *backend, limit)?;
        Ok(Loaded { restored, backend })
    });
    let read = reading.await;
    read.unwrap_or_else(|_| {
        Err(BackendError::new(
            BackendErrorKind::Internal,
            "the backend has panicked",
        ))
    })
}
