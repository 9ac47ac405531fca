//! How a store opens on an endpoint.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use muster_store::{
    Backend, BackendError, BackendErrorKind, CopyMode, Instance, InstanceConfig, Now, Placement,
    Restored, SteadyClock, StoreName,
};
use muster_wire::Mono;
use tokio::sync::watch;

use super::{AskToOpen, Host, Inner, Listens, Progress, timer, wall};
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
        let has_copy = match placement {
            Placement::Primary { .. } => true,
            Placement::Clone(config) => config.copy == CopyMode::Full,
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
            hears_writers: AtomicBool::new(false),
            hears_primary: AtomicBool::new(false),
            has_copy,
            runtime: OnceLock::new(),
            subscription: tokio::sync::Mutex::default(),
            inner: Mutex::new(Inner {
                instance: Instance::new(name.clone(), config, now),
                publisher: endpoint.publisher(),
                backend: None,
                disk: None,
                copies: None,
                ask_to_open,
                failure: None,
                next_token: 1,
                waiting: HashMap::new(),
                questions: HashMap::new(),
                watchers: Watchers::default(),
                clock: SteadyClock::new(now.mono, now.wall),
                armed: Mono::default(),
                listens: Listens::default(),
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
        let runtime = self.runtime.get_or_init(tokio::runtime::Handle::current);
        let mut progress = self.progress.subscribe();
        let is_primary = matches!(placement, Placement::Primary { .. });
        let listens = Listens {
            to_writers: is_primary,
            to_primary: !is_primary && self.has_copy,
        };
        // What has a backend says nothing before that is read.
        if backend.is_none() {
            self.lock().listens = listens;
            self.listen(listens).await;
        }
        runtime.spawn(timer(self.me.clone()));
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
    pub(super) async fn listen(&self, listens: Listens) {
        let mut subscription = self.subscription.lock().await;
        let known = subscription.as_ref().map(|(to, _)| *to);
        if known.unwrap_or_default() == listens {
            return;
        }
        let mut topics: Vec<&[u8]> = Vec::new();
        if listens.to_writers {
            topics.push(self.topics.primary.as_bytes());
            topics.push(self.topics.broker_master.as_bytes());
        }
        if listens.to_primary {
            topics.push(self.topics.clone.as_bytes());
        }
        let new = self.endpoint.subscribe(topics).await;
        // What was listened to before is given up only then.
        *subscription = Some((listens, new));
    }

    /// Reads the backend, which may take a while, and gives it to its thread.
    pub(super) fn load(&self, inner: &mut Inner, limit: usize) {
        let copies = inner.copies.as_ref();
        let of_copy = || copies?.backend.as_ref().map(|open| open());
        let Some(backend) = inner.backend.take().or_else(of_copy) else {
            return;
        };
        // It may be open still, from before.
        inner.disk = None;
        let (me, is_of_copy) = (self.me.clone(), copies.is_some());
        let Some(runtime) = self.runtime.get() else {
            return;
        };
        runtime.spawn(async move {
            let read = read(backend, limit).await;
            let Some(host) = me.upgrade() else {
                return;
            };
            let read = host.start_disk(read);
            if !is_of_copy && read.is_ok() {
                let listens = Listens {
                    to_writers: true,
                    to_primary: false,
                };
                host.lock().listens = listens;
                host.listen(listens).await;
            }
            host.drive(|inner, now| {
                let restored = match read {
                    Ok((restored, disk)) => {
                        inner.disk = Some(disk);
                        Some(restored)
                    }
                    Err(error) => {
                        if is_of_copy {
                            tracing::error!("{error}");
                        }
                        inner.failure = Some(error);
                        None
                    }
                };
                inner.instance.loaded(restored, now);
            });
        });
    }

    fn start_disk(
        &self,
        read: Result<Loaded, BackendError>,
    ) -> Result<(Restored, Disk), OpenError> {
        let Loaded { restored, backend } = read.map_err(|reason| OpenError::Backend {
            name: self.name.clone(),
            reason,
        })?;
        let disk = Disk::start(&self.name, backend, self.me.clone());
        let disk = disk.map_err(|source| OpenError::Thread {
            name: self.name.clone(),
            source,
        })?;
        Ok((restored, disk))
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
