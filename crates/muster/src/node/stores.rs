//! A node's stores: opened where the layout puts them, read by its frameworks, and asked for by other nodes.

mod copies;
mod needs;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use muster_cluster::coordination::StoreGroup;
use muster_cluster::node::{OpenStore, StoreAuthority, StoreReads, placement_by_coordinators};
use muster_cluster::{Layout, Node as LayoutNode, StoreBackend, StoreFile, StorePlan};
use muster_store::op::{Op, StoreEvent};
use muster_store::{
    Backend, Encoded, Entry, FailureMode, JournalMode, Level, Revision, Sqlite, SqliteOptions,
    StoreBudget, StoreBudgetReport, StoreName, StoreNameError, Synchronous, WriteFailure,
    WriteOutcome,
};
use muster_wire::Topic;
use tokio::sync::{Semaphore, watch};

use crate::endpoint::Endpoint;
use crate::store::{AskToOpen, Completion, LeaseEnd, OpenError, Scope, Store};

/// The stores of one node.
const MOST_STORES: usize = 4096;

/// The changes of watched stores that wait for the node's loop.
const CHANGES: usize = 65_536;

/// Why a node has no such store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeStoreError {
    /// The text is not a valid store name.
    #[error("`{0}`: {1}")]
    Name(String, StoreNameError),
    /// The layout has no node for its primary.
    #[error("store {0}: the layout has no node for its primary")]
    NoPrimaryNode(StoreName),
    /// The node has too many stores.
    #[error("store {0}: this node has {MOST_STORES} stores already")]
    TooMany(StoreName),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// What happens in a node's stores that its loop should hear of.
#[derive(Debug)]
pub(crate) enum StoreHappening {
    Answer(u64, WriteOutcome),
    /// A store whose primary belongs here was opened, or could not be: why.
    Opened(StoreName, Option<String>),
    Changed(StoreName, StoreEvent),
}

/// The way to the loop.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    happenings: Mutex<Vec<StoreHappening>>,
    waker: Mutex<Option<Waker>>,
}

impl Inbox {
    pub(crate) fn set_waker(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    pub(crate) fn take(&self) -> Vec<StoreHappening> {
        let mut happenings = self.happenings.lock();
        std::mem::take(happenings.as_mut().unwrap_or_else(|error| error.get_mut()))
    }

    fn push(&self, happening: StoreHappening) {
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

    /// Says how a store opened, without the store's name before it.
    fn opened(&self, store: StoreName, error: Option<&NodeStoreError>) {
        let problem = error.map(|error| without_name(&store, error));
        self.push(StoreHappening::Opened(store, problem));
    }

    fn is_full(&self) -> bool {
        let happenings = self.happenings.lock();
        happenings.map_or(0, |happenings| happenings.len()) >= CHANGES
    }
}

/// What went wrong with a store, without its name before it.
fn without_name(store: &StoreName, error: &NodeStoreError) -> String {
    let text = error.to_string();
    let prefix = format!("store {store}: ");
    text.strip_prefix(&prefix).unwrap_or(&text).to_owned()
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
    /// By name: open, being opened, or about to be.
    stores: Mutex<HashMap<StoreName, Store>>,
    /// Those whose authors ask for persistence.
    persistent: Mutex<HashSet<StoreName>>,
    /// Those that the loop wants watched, whoever opens them and when, and whether they are.
    watched: Mutex<HashMap<StoreName, bool>>,
    /// Where the coordinators listen; empty if the layout has none.
    coordinators: Arc<[Topic]>,
    /// Who says which nodes keep a store, once that is clear.
    authority: watch::Sender<Option<StoreAuthority>>,
    /// Until when this node may act by their word.
    lease: Arc<LeaseEnd>,
    /// What coordinators have decided.
    groups: Mutex<HashMap<StoreName, StoreGroup>>,
    /// Those that were opened for endpoints that are no nodes.
    for_others: Mutex<HashSet<StoreName>>,
    /// Has room for those that such endpoints wait for.
    needed: Semaphore,
    inbox: Arc<Inbox>,
    /// What all of them may hold together.
    budget: StoreBudget,
    runtime: tokio::runtime::Handle,
}

impl NodeStores {
    pub(crate) fn new(
        endpoint: Endpoint,
        layout: Arc<Layout>,
        node: LayoutNode,
        base: PathBuf,
    ) -> Self {
        let limit = node.settings.size("stores.node_memory_limit");
        let coordinators = copies::coordinators(&layout);
        // Without coordinators everything is clear from the beginning.
        let is_clear = coordinators.is_empty();
        let this = Self(Arc::new(Inner {
            persistent: Mutex::default(),
            watched: Mutex::default(),
            authority: watch::Sender::new(is_clear.then_some(StoreAuthority::Layout)),
            coordinators,
            lease: Arc::default(),
            groups: Mutex::default(),
            budget: StoreBudget::new(limit),
            endpoint,
            layout,
            node,
            base,
            opening: tokio::sync::Mutex::default(),
            stores: Mutex::default(),
            for_others: Mutex::default(),
            needed: Semaphore::new(needs::WAITING),
            inbox: Arc::default(),
            runtime: tokio::runtime::Handle::current(),
        }));
        if !is_clear {
            this.ask_for_groups();
        }
        this
    }

    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.0.inbox
    }

    /// What all of them hold together.
    pub(crate) fn budget(&self) -> StoreBudgetReport {
        self.0.budget.report()
    }

    fn find(&self, name: &StoreName) -> Option<Store> {
        self.0.stores().get(name).cloned()
    }

    fn plan(&self, name: &StoreName, persistent: bool) -> Result<StorePlan, NodeStoreError> {
        let plan = self.0.layout.store(name, persistent);
        plan.ok_or_else(|| NodeStoreError::NoPrimaryNode(name.clone()))
    }

    /// The store of a name, open or not: it takes writes from now on.
    fn place(&self, name: &StoreName, persistent: bool) -> Result<Store, NodeStoreError> {
        let mut stores = self.0.stores();
        if let Some(store) = stores.get(name) {
            return Ok(store.clone());
        }
        if stores.len() >= MOST_STORES {
            return Err(NodeStoreError::TooMany(name.clone()));
        }
        let plan = self.plan(name, persistent)?;
        let placement = plan.placement(&self.0.node, &self.0.budget);
        let ask_to_open = AskToOpen {
            topic: plan.asks_at(&self.0.layout),
            payload: OpenStore::event(name, persistent),
        };
        let store = Store::unopened(&self.0.endpoint, name, &placement, Some(ask_to_open))?;
        if persistent {
            self.0.are_persistent().insert(name.clone());
        }
        // What is written to a persistent store waits for its disk, unless the author says otherwise.
        let store = match plan.backend {
            StoreBackend::Sqlite => store.durable(),
            StoreBackend::Memory => store,
        };
        stores.insert(name.clone(), store.clone());
        Ok(store)
    }

    /// The store of a name, opened if it is not.
    pub(crate) async fn open(
        &self,
        name: &StoreName,
        persistent: bool,
    ) -> Result<Store, NodeStoreError> {
        // One at a time: whoever comes second finds what the first has opened.
        let _opening = self.0.opening.lock().await;
        let store = self.place(name, persistent)?;
        if store.is_open() {
            self.watch_if_wanted(&store);
            return Ok(store);
        }
        let authority = self.authority().await;
        let plan = self.plan(name, persistent)?;
        let opened = match authority {
            StoreAuthority::Layout => {
                let placement = plan.placement(&self.0.node, &self.0.budget);
                store.open(placement, self.backend(&plan)).await
            }
            StoreAuthority::Coordinators => {
                let placement = placement_by_coordinators(&self.0.node, &self.0.budget);
                store.open(placement, None).await
            }
        };
        if let Err(error) = opened {
            // Whoever wants it next tries anew.
            self.0.stores().remove(name);
            return Err(error.into());
        }
        self.want(name, false);
        self.follow(&store);
        self.watch_if_wanted(&store);
        if authority == StoreAuthority::Layout && store.is_primary() {
            let kept = match plan.backend {
                StoreBackend::Memory => "in memory".to_owned(),
                StoreBackend::Sqlite => format!("in {}", self.path(&plan).display()),
            };
            tracing::debug!("store {name}: its primary is here, {kept}");
        }
        Ok(store)
    }

    /// Opens the primaries that the layout names and puts here.
    ///
    /// Where it is not clear yet who decides that, they are opened when it is.
    pub(crate) async fn open_named(&self) -> Result<(), NodeStoreError> {
        for spec in self.0.layout.stores() {
            if !self.plan(&spec.name, false)?.is_at(&self.0.node) {
                continue;
            }
            if self.0.authority.borrow().is_some() {
                self.open(&spec.name, false).await?;
            } else {
                self.begin(spec.name.clone(), false, false);
            }
        }
        Ok(())
    }

    /// Another node asks for the primary of a store.
    pub(crate) fn asked(&self, name: StoreName, persistent: bool) {
        let is_here = self
            .plan(&name, persistent)
            .is_ok_and(|plan| plan.is_at(&self.0.node));
        if !is_here {
            tracing::warn!(
                "asked for the primary of store {name}, which the layout does not put here"
            );
            return;
        }
        if self.find(&name).is_none() {
            self.begin(name, persistent, false);
        }
    }

    /// Opens a store, and watches it, if that is wanted, for the loop.
    pub(crate) fn begin(&self, name: StoreName, persistent: bool, watch: bool) {
        if let Err(error) = self.place(&name, persistent) {
            return self.0.inbox.opened(name, Some(&error));
        }
        if watch {
            self.0.watched().entry(name.clone()).or_default();
        }
        let this = self.clone();
        self.0.runtime.spawn(async move {
            let opened = this.open(&name, persistent).await;
            this.0.inbox.opened(name, opened.err().as_ref());
        });
    }

    /// Watches a store that is open, if the loop wants that and it is not.
    fn watch_if_wanted(&self, store: &Store) {
        let mut watched = self.0.watched();
        if let Some(is_watched) = watched.get_mut(store.name())
            && !std::mem::replace(is_watched, true)
        {
            self.watch(store);
        }
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
                inbox.push(StoreHappening::Changed(name.clone(), event));
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
        let Some(store) = self.find(name) else {
            let failed = StoreHappening::Answer(token, Err(WriteFailure::NoPrimary));
            self.0.inbox.push(failed);
            return;
        };
        let inbox = Arc::clone(&self.0.inbox);
        let settings = &self.0.node.settings;
        let longest = || settings.duration("stores.mutation_buffer_interval");
        let within = within.unwrap_or_else(longest);
        let completion = Completion::Call(Box::new(move |outcome| {
            inbox.push(StoreHappening::Answer(token, outcome));
        }));
        store.write_raw(op, level, within, completion);
    }

    /// Closes all stores in order: what is to be on disk is put there.
    pub(crate) async fn close(&self, limit: Duration) {
        let stores = std::mem::take(&mut *self.0.stores());
        let closing = stores.into_values().map(|store| {
            tokio::spawn(async move {
                let name = store.name().clone();
                if !store.within(limit).close().await {
                    tracing::error!("store {name}: closed before everything was on disk");
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

    fn backend(&self, plan: &StorePlan) -> Option<Box<dyn Backend>> {
        if !plan.is_at(&self.0.node) {
            return None;
        }
        match plan.backend {
            StoreBackend::Memory => None,
            StoreBackend::Sqlite => Some(Box::new(Sqlite::new(
                self.path(plan),
                sqlite_options(&plan.file),
            ))),
        }
    }
}

impl Inner {
    fn stores(&self) -> MutexGuard<'_, HashMap<StoreName, Store>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<StoreName, bool>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<StoreName, StoreGroup>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn are_persistent(&self) -> MutexGuard<'_, HashSet<StoreName>> {
        let persistent = self.persistent.lock();
        persistent.unwrap_or_else(PoisonError::into_inner)
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

    fn versioned(&self, store: &StoreName, key: &Encoded) -> Option<(Encoded, Revision)> {
        self.find(store)?.versioned(key)
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

    /// Opens the store: its primary, if the layout puts it on this node, otherwise a clone, whose primary need not be
    /// there yet. Where coordinators decide which nodes keep it, it opens as a clone and becomes what they say. If the store is open on
    /// this node already, this is another handle of it.
    ///
    /// A node of a layout with several boxes waits for the word of a coordinator first, for at most three seconds if there is none.
    ///
    /// # Errors
    /// [`NodeStoreError`]: the name is not valid, the layout has no node for the primary, the node has too many stores,
    /// or the backend that the layout names does not open.
    pub async fn open(self) -> Result<Store, NodeStoreError> {
        let name = StoreName::new(&self.name);
        let name = name.map_err(|error| NodeStoreError::Name(self.name, error))?;
        self.stores.open(&name, self.persistent).await
    }
}
