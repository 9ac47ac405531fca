//! How a store opens on an endpoint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use muster_store::broker::{BrokerClones, Entity};
use muster_store::{CopyMode, Follower, Primary, StoreName};
use muster_wire::{Mono, Topic};
use tokio::sync::watch;

use super::{Backing, Core, Host, Inner, time, timer};
use crate::endpoint::Endpoint;
use crate::store::broker::BrokerPart;
use crate::store::disk::Disk;
use crate::store::error::OpenError;
use crate::store::options::{CloneOptions, PrimaryOptions};
use crate::store::rival::Rival;
use crate::store::watch::Watchers;

impl Host {
    pub(in crate::store) async fn primary(
        endpoint: &Endpoint,
        name: &StoreName,
        options: PrimaryOptions,
    ) -> Result<Arc<Self>, OpenError> {
        let PrimaryOptions { backend, config } = options;
        let now = time(endpoint);
        let timeline = u64::try_from(now.wall.as_nanos()).unwrap_or(0);
        let (me, owned) = (endpoint.id(), name.clone());
        let (primary, backend) = match backend {
            None => (Primary::in_memory(owned, me, timeline, config, now), None),
            Some(mut backend) => {
                // Reading it may take a while.
                let loaded = tokio::task::spawn_blocking(move || {
                    let kept = backend.load();
                    kept.map(|kept| {
                        (
                            Primary::persistent(owned, me, timeline, config, kept, now),
                            backend,
                        )
                    })
                });
                let loaded = loaded.await.unwrap_or_else(|_| {
                    Err(muster_store::BackendError::new("the backend has panicked"))
                });
                let (primary, backend) = loaded.map_err(|reason| OpenError::Backend {
                    name: name.clone(),
                    reason,
                })?;
                (primary, Some(backend))
            }
        };
        let topics = [name.primary_topic(), name.broker_master_topic()];
        let entity = Entity {
            endpoint: me,
            instance: endpoint.stores().next_instance(),
        };
        let limit = endpoint.config().frame_limit;
        let clones = BrokerClones::new(entity, limit, now.mono);
        let core = Core::Master(Box::new(primary));
        let host = Self::new(endpoint, name, core, Some(clones), &topics, true).await?;
        if let Some(backend) = backend {
            let kind = backend.kind();
            let disk = Disk::start(name, backend, Arc::downgrade(&host));
            let disk = disk.map_err(|source| OpenError::Thread {
                name: name.clone(),
                source,
            })?;
            let mut inner = host.lock();
            inner.disk = Some(disk);
            inner.backend.kind = kind;
        }
        {
            let rival = &mut host.lock().rival;
            rival.look(endpoint, name);
            rival.look_soon(endpoint);
        }
        host.drive(|_, _| ());
        Ok(host)
    }

    pub(in crate::store) async fn clone(
        endpoint: &Endpoint,
        name: &StoreName,
        options: CloneOptions,
    ) -> Result<Arc<Self>, OpenError> {
        let instance = endpoint.stores().next_instance();
        let has_copy = options.config.copy == CopyMode::Full;
        let (me, now) = (endpoint.id(), endpoint.now());
        let clone = Follower::new(name.clone(), me, instance, options.config, now);
        let topics = has_copy.then(|| name.clone_topic());
        let core = Core::Clone(Box::new(clone));
        let host = Self::new(endpoint, name, core, None, topics.as_slice(), has_copy).await?;
        host.drive(|_, _| ());
        Ok(host)
    }

    async fn new(
        endpoint: &Endpoint,
        name: &StoreName,
        core: Core,
        clones: Option<BrokerClones>,
        topics: &[Topic],
        has_copy: bool,
    ) -> Result<Arc<Self>, OpenError> {
        let topics = topics.iter().map(Topic::as_bytes);
        let is_primary = matches!(core, Core::Master(_));
        let host = Arc::new(Self {
            name: name.clone(),
            endpoint: endpoint.clone(),
            _subscription: endpoint.subscribe(topics).await,
            is_primary,
            has_copy,
            inner: Mutex::new(Inner {
                core,
                publisher: endpoint.publisher(),
                clone_topic: name.clone_topic(),
                primary_topic: name.primary_topic(),
                broker: BrokerPart::new(name, clones),
                disk: None,
                backend: Backing::default(),
                rival: Rival::default(),
                next_token: 1,
                waiting: HashMap::new(),
                keeping: Vec::new(),
                questions: HashMap::new(),
                watchers: Watchers::default(),
                armed: Mono::default(),
                was_stale: false,
            }),
            earlier: Arc::default(),
            is_attached: watch::Sender::new(is_primary || !has_copy),
        });
        if !endpoint.stores().add(name, &host) {
            return Err(OpenError::Open(name.clone()));
        }
        tokio::spawn(timer(Arc::downgrade(&host)));
        Ok(host)
    }
}
