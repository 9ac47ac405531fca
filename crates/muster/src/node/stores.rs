//! A node's stores: opened where the layout puts them, read by its frameworks, and asked for by other nodes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use muster_cluster::node::{OpenStore, StoreReads};
use muster_cluster::{Layout, Node as LayoutNode, StoreBackend, StoreFile, StorePlan};
use muster_data::{Encode, Record};
use muster_store::op::{Answer, Event, Op};
use muster_store::{
    CloneConfig, Encoded, Entry, Failure, FailureMode, JournalMode, Level, MasterConfig, Sqlite,
    SqliteOptions, StoreName, StoreNameError, Synchronous,
};
use muster_wire::{Class, zeek};

use crate::endpoint::Endpoint;
use crate::store::{CloneOptions, Done, MasterOptions, OpenError, Scope, Store};

/// The stores of one node.
const MOST_STORES: usize = 4096;

/// How often a node asks another to open a store's master, until it has answered: soon at first, as that node
/// mostly starts at the same time.
const ASK_SOON: Duration = Duration::from_millis(50);
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The changes of watched stores that wait for the node's loop.
const CHANGES: usize = 65_536;

/// Why a node has no such store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeStoreError {
    /// The text is no name of a store.
    #[error("`{0}`: {1}")]
    Name(String, StoreNameError),
    /// The layout has no node for its master.
    #[error("store {0}: the layout has no node for its master")]
    NoMasterNode(StoreName),
    /// The node has too many stores.
    #[error("store {0}: this node has {MOST_STORES} stores already")]
    TooMany(StoreName),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// What happens in a node's stores that its loop should hear of.
#[derive(Debug)]
pub(crate) enum Happening {
    Answer(u64, Result<Answer, Failure>),
    Changed(StoreName, Event),
}

/// The way to the loop.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    happenings: Mutex<Vec<Happening>>,
    waker: Mutex<Option<Waker>>,
}

impl Inbox {
    pub(crate) fn set_waker(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    pub(crate) fn take(&self) -> Vec<Happening> {
        let mut happenings = self.happenings.lock();
        std::mem::take(happenings.as_mut().unwrap_or_else(|error| error.get_mut()))
    }

    fn push(&self, happening: Happening) {
        let mut happenings = self
            .happenings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        happenings.push(happening);
        drop(happenings);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = &*waker {
            waker.wake_by_ref();
        }
    }

    fn is_full(&self) -> bool {
        let happenings = self.happenings.lock();
        happenings.map_or(0, |happenings| happenings.len()) >= CHANGES
    }
}

/// A store of a node.
#[derive(Debug)]
enum Slot {
    /// It is being opened; what a framework writes meanwhile waits, in order.
    Opening(Vec<Early>),
    Open(Store),
}

/// A write before its store is open. The node's loop bounds how many there are.
#[derive(Debug)]
struct Early {
    op: Op,
    level: Level,
    within: Option<Duration>,
    token: u64,
}

/// The stores that are open on a node.
#[derive(Debug, Clone)]
pub(crate) struct NodeStores(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    layout: Arc<Layout>,
    node: LayoutNode,
    /// What relative paths of files start from.
    base: PathBuf,
    opening: tokio::sync::Mutex<()>,
    slots: Mutex<HashMap<StoreName, Slot>>,
    inbox: Arc<Inbox>,
    runtime: tokio::runtime::Handle,
}

impl NodeStores {
    pub(crate) fn new(
        endpoint: Endpoint,
        layout: Arc<Layout>,
        node: LayoutNode,
        base: PathBuf,
    ) -> Self {
        Self(Arc::new(Inner {
            endpoint,
            layout,
            node,
            base,
            opening: tokio::sync::Mutex::default(),
            slots: Mutex::default(),
            inbox: Arc::default(),
            runtime: tokio::runtime::Handle::current(),
        }))
    }

    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.0.inbox
    }

    fn find(&self, name: &StoreName) -> Option<Store> {
        match self.0.slots().get(name) {
            Some(Slot::Open(store)) => Some(store.clone()),
            _ => None,
        }
    }

    fn plan(&self, name: &StoreName, persistent: bool) -> Result<StorePlan, NodeStoreError> {
        let plan = self.0.layout.store(name, persistent);
        plan.ok_or_else(|| NodeStoreError::NoMasterNode(name.clone()))
    }

    /// The store of a name, opened if it is not.
    pub(crate) async fn open(
        &self,
        name: &StoreName,
        persistent: bool,
    ) -> Result<Store, NodeStoreError> {
        // One at a time: whoever comes second finds what the first has opened.
        let _opening = self.0.opening.lock().await;
        if let Some(store) = self.find(name) {
            return Ok(store);
        }
        self.0.opening_begins(name);
        let opened = self.open_new(name, persistent).await;
        let mut slots = self.0.slots();
        let early = match slots.remove(name) {
            Some(Slot::Opening(early)) => early,
            _ => Vec::new(),
        };
        match &opened {
            Ok(store) => {
                for early in early {
                    self.0.write(store, early);
                }
                slots.insert(name.clone(), Slot::Open(store.clone()));
            }
            Err(_) => {
                for Early { token, .. } in early {
                    let failed = Happening::Answer(token, Err(Failure::NoMaster));
                    self.0.inbox.push(failed);
                }
            }
        }
        opened
    }

    async fn open_new(&self, name: &StoreName, persistent: bool) -> Result<Store, NodeStoreError> {
        if self.0.slots().len() > MOST_STORES {
            return Err(NodeStoreError::TooMany(name.clone()));
        }
        let plan = self.plan(name, persistent)?;
        let is_master = plan.master == self.0.node.name;
        let store = if is_master {
            let options = self.master_options(&plan);
            let store = self.0.endpoint.open_master(name, options).await?;
            let kept = match plan.backend {
                StoreBackend::Memory => "in memory".to_owned(),
                StoreBackend::Sqlite => format!("in {}", self.path(&plan).display()),
            };
            tracing::debug!("store {name}: its master is here, {kept}");
            store
        } else {
            let settings = &self.0.node.settings;
            let config = CloneConfig {
                resync_interval: settings.duration("stores.resync_interval"),
                stale_interval: settings.duration("stores.stale_interval"),
                mutation_buffer_interval: settings.duration("stores.mutation_buffer_interval"),
                limit: settings.size("stores.memory_limit"),
                ..CloneConfig::default()
            };
            let options = CloneOptions { config };
            self.0.endpoint.open_clone(name, options).await?
        };
        // What is written to a persistent store waits for its disk, unless the author says otherwise.
        let store = match plan.backend {
            StoreBackend::Sqlite => store.durable(),
            StoreBackend::Memory => store,
        };
        if !is_master {
            self.0.runtime.spawn(ask_for_master(
                Arc::downgrade(&self.0),
                name.clone(),
                plan,
                persistent,
            ));
        }
        Ok(store)
    }

    /// Opens the masters that the layout names and puts here.
    pub(crate) async fn open_named(&self) -> Result<(), NodeStoreError> {
        for spec in self.0.layout.stores() {
            if self.plan(&spec.name, false)?.master == self.0.node.name {
                self.open(&spec.name, false).await?;
            }
        }
        Ok(())
    }

    /// Another node asks for the master of a store.
    pub(crate) fn asked(&self, name: StoreName, persistent: bool) {
        let is_here = self
            .plan(&name, persistent)
            .is_ok_and(|plan| plan.master == self.0.node.name);
        if !is_here {
            tracing::warn!(
                "asked for the master of store {name}, which the layout does not put here"
            );
            return;
        }
        if self.find(&name).is_none() {
            self.begin(name, persistent, false);
        }
    }

    /// Opens a store, and watches it, if that is wanted, for the loop.
    pub(crate) fn begin(&self, name: StoreName, persistent: bool, watch: bool) {
        self.0.opening_begins(&name);
        let this = self.clone();
        self.0.runtime.spawn(async move {
            match this.open(&name, persistent).await {
                Ok(store) if watch => this.watch(&store),
                Ok(_) => {}
                Err(error) => tracing::error!("{error}"),
            }
        });
    }

    fn watch(&self, store: &Store) {
        let (name, inbox) = (store.name().clone(), Arc::clone(&self.0.inbox));
        let mut watch = store.watch_raw(Scope::All);
        let inner = Arc::downgrade(&self.0);
        self.0.runtime.spawn(async move {
            while let Some(event) = watch.next().await {
                while inbox.is_full() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if inner.strong_count() == 0 {
                    return;
                }
                inbox.push(Happening::Changed(name.clone(), event));
            }
        });
    }

    /// Writes for a framework, whose loop has opened the store before.
    pub(crate) fn write(
        &self,
        name: &StoreName,
        op: Op,
        level: Level,
        within: Option<Duration>,
        token: u64,
    ) {
        let early = Early {
            op,
            level,
            within,
            token,
        };
        match self.0.slots().get_mut(name) {
            Some(Slot::Open(store)) => self.0.write(store, early),
            Some(Slot::Opening(waiting)) => waiting.push(early),
            None => {
                let failed = Happening::Answer(token, Err(Failure::NoMaster));
                self.0.inbox.push(failed);
            }
        }
    }

    /// Closes all stores in order: what is to be kept is kept.
    pub(crate) async fn close(&self, limit: Duration) {
        let stores: Vec<Store> = {
            let slots = std::mem::take(&mut *self.0.slots());
            let stores = slots.into_values().filter_map(|slot| match slot {
                Slot::Open(store) => Some(store),
                Slot::Opening(_) => None,
            });
            stores.collect()
        };
        let closing = stores.into_iter().map(|store| {
            tokio::spawn(async move {
                let name = store.name().clone();
                if !store.within(limit).close().await {
                    tracing::error!("store {name}: not everything was kept before the end");
                }
            })
        });
        for closing in closing.collect::<Vec<_>>() {
            let _ = closing.await;
        }
    }

    fn path(&self, plan: &StorePlan) -> PathBuf {
        self.0.base.join(Path::new(&plan.path))
    }

    fn master_options(&self, plan: &StorePlan) -> MasterOptions {
        let config = MasterConfig {
            limit: self.0.node.settings.size("stores.memory_limit"),
            ..MasterConfig::default()
        };
        let backend: Option<Box<dyn muster_store::Backend>> = match plan.backend {
            StoreBackend::Memory => None,
            StoreBackend::Sqlite => Some(Box::new(Sqlite::new(
                self.path(plan),
                sqlite_options(&plan.file),
            ))),
        };
        MasterOptions { backend, config }
    }
}

impl Inner {
    fn slots(&self) -> MutexGuard<'_, HashMap<StoreName, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opening_begins(&self, name: &StoreName) {
        self.slots()
            .entry(name.clone())
            .or_insert_with(|| Slot::Opening(Vec::new()));
    }

    fn write(&self, store: &Store, early: Early) {
        let Early {
            op,
            level,
            within,
            token,
        } = early;
        let inbox = Arc::clone(&self.inbox);
        let settings = &self.node.settings;
        let longest = || settings.duration("stores.mutation_buffer_interval");
        let within = within.unwrap_or_else(longest);
        let done = Done::Call(Box::new(move |outcome| {
            inbox.push(Happening::Answer(token, outcome));
        }));
        store.write_raw(op, level, within, done);
    }
}

/// Asks the node that has a store's master to open it, until it has.
async fn ask_for_master(stores: Weak<Inner>, name: StoreName, plan: StorePlan, persistent: bool) {
    let mut pause = ASK_SOON;
    loop {
        let Some(inner) = stores.upgrade() else {
            return;
        };
        let is_attached = match inner.slots().get(&name) {
            Some(Slot::Open(store)) => store.hears_master(),
            Some(Slot::Opening(_)) => false,
            None => return,
        };
        if !is_attached {
            let asked = OpenStore {
                store: name.to_string(),
                persistent,
            };
            let mut payload = Vec::new();
            let metadata = zeek::Metadata::default();
            zeek::put_event(&mut payload, OpenStore::NAME, metadata, |out| {
                asked.encode(out);
            });
            let topic = inner.layout.topics().node(&plan.master);
            let mut publisher = inner.endpoint.publisher();
            // Until the node is there nobody hears it; it is asked again.
            let _ = publisher.publish_encoded(&topic, Bytes::from(payload), Class::Interactive);
        }
        drop(inner);
        tokio::time::sleep(pause).await;
        // A master that is known may be lost again: its node begins anew and knows of no store.
        pause = (pause * 2).min(ASK_EVERY);
    }
}

fn sqlite_options(file: &StoreFile) -> SqliteOptions {
    SqliteOptions {
        synchronous: match file.synchronous.as_deref() {
            Some("OFF") => Some(Synchronous::Off),
            Some("NORMAL") => Some(Synchronous::Normal),
            Some("EXTRA") => Some(Synchronous::Extra),
            Some(_) => Some(Synchronous::Full),
            None => None,
        },
        journal_mode: match file.journal_mode.as_deref() {
            Some("DELETE") => Some(JournalMode::Delete),
            Some(_) => Some(JournalMode::Wal),
            None => None,
        },
        failure_mode: match file.failure_mode.as_deref() {
            Some("DELETE") => FailureMode::Delete,
            _ => FailureMode::Fail,
        },
        integrity_check: file.integrity_check,
    }
}

impl StoreReads for NodeStores {
    fn get(&self, store: &StoreName, key: &Encoded) -> Option<Entry> {
        self.find(store)?.look_up(key)
    }

    fn is_attached(&self, store: &StoreName) -> bool {
        self.find(store).is_some_and(|store| store.has_something())
    }

    fn size(&self, store: &StoreName) -> usize {
        self.find(store).map_or(0, |store| store.here())
    }
}

/// A store of a node, about to be opened: [`Node::store`](super::Node::store).
#[derive(Debug)]
#[must_use = "a store is opened by `open`"]
pub struct StoreRequest {
    pub(super) stores: NodeStores,
    pub(super) name: String,
    pub(super) persistent: bool,
}

impl StoreRequest {
    /// Asks that what the store holds outlives the cluster, unless the layout says otherwise.
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Opens the store: its master, if the layout puts it on this node, otherwise a clone, whose master need not
    /// be there yet. A store that is open on this node already is the same one.
    ///
    /// # Errors
    /// [`NodeStoreError`]: the name is none, or the backend that the layout names does not open.
    pub async fn open(self) -> Result<Store, NodeStoreError> {
        let name = StoreName::new(&self.name);
        let name = name.map_err(|error| NodeStoreError::Name(self.name, error))?;
        self.stores.open(&name, self.persistent).await
    }
}
