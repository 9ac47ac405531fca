//! Stores of a simulated cluster. Instances work as in a process; their messages, disks and timers
//! are simulated.

mod copies;
mod handles;
mod outputs;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_cluster::StorePlan;
use muster_cluster::coordination::StoreGroup;
use muster_cluster::node::{Now, StoreAuthority, StoreReads};
use muster_data::{Data, Encode};
use muster_store::broker::BrokerCommand;
use muster_store::op::{Op, StoreEvent};
use muster_store::protocol::StoreMessage;
use muster_store::{
    Backend, Encoded, Entries, Entry, Freshness, Instance, InstanceConfig, Level, MemoryBackend,
    Output, Restored, Revision, SteadyClock, StoreBudget, StoreName, WriteFailure, WriteOutcome,
};
use muster_wire::{EndpointId, Mono, Topic};

pub use copies::Neglect;
pub use handles::Write;

use super::Cluster;
use crate::agenda::StoreItem;

/// How long another primary is waited for until it is a rival: longer than a killed node's peers take to notice.
const RIVAL_PATIENCE: Duration = Duration::from_secs(10);

/// The largest frame of a simulated peer.
const FRAME_LIMIT: usize = 64 << 20;

/// The stores of one life of a node.
#[derive(Debug, Clone)]
pub(super) struct NodeStores {
    open: Arc<Mutex<BTreeMap<StoreName, Open>>>,
    budget: StoreBudget,
    /// Who says which nodes keep a store, once that is clear.
    authority: Option<StoreAuthority>,
    /// What coordinators have decided.
    groups: BTreeMap<StoreName, StoreGroup>,
}

struct Open {
    instance: Instance,
    plan: StorePlan,
    /// Whether its author asks for persistence.
    is_persistent: bool,
    is_watched: bool,
    /// Whether it waits until it is clear who says which nodes keep it.
    is_waiting: bool,
    /// The last decision of the coordinators that it follows.
    follows: Option<u64>,
    listens: Listens,
    wake: Option<u64>,
    /// How often in a row it had something to do at once.
    due_at_once: u32,
    /// What TTLs are measured by.
    clock: SteadyClock,
}

/// The topics that a store listens to, besides that of its endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Listens {
    /// What is said to whoever has the primary.
    to_writers: bool,
    /// What the primary says to all clones.
    to_primary: bool,
    /// What is said to Broker's clones.
    to_broker: bool,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

impl NodeStores {
    /// No stores yet. All that are opened may take so many bytes together.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            open: Arc::default(),
            budget: StoreBudget::new(limit),
            authority: None,
            groups: BTreeMap::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StoreName, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreReads for NodeStores {
    fn get(&self, store: &StoreName, key: &Encoded) -> Option<Entry> {
        let open = self.lock();
        open.get(store)?.instance.entries()?.get(key).cloned()
    }

    fn versioned(&self, store: &StoreName, key: &Encoded) -> Option<(Encoded, Revision)> {
        let open = self.lock();
        let instance = &open.get(store)?.instance;
        let entry = instance.entries()?.get(key)?;
        let timeline = instance.applied().timeline;
        let change = entry.changed;
        Some((entry.value.clone(), Revision { timeline, change }))
    }

    fn is_attached(&self, store: &StoreName) -> bool {
        let open = self.lock();
        let instance = open.get(store).map(|open| &open.instance);
        instance
            .is_some_and(|instance| instance.freshness(Mono::default()) != Freshness::Unattached)
    }

    fn size(&self, store: &StoreName) -> usize {
        let open = self.lock();
        let entries = open.get(store).and_then(|open| open.instance.entries());
        entries.map_or(0, Entries::len)
    }
}

/// What the disks of a cluster hold, by node and store: it outlives the nodes' lives.
#[derive(Debug, Default)]
pub(super) struct Disks {
    kept: BTreeMap<(usize, StoreName), MemoryBackend>,
    /// When each has done what it was asked for last.
    until: BTreeMap<(usize, StoreName), u64>,
    /// The nodes whose disks cannot be read.
    unreadable: Vec<usize>,
}

/// What a store does that its node must hear of.
enum Heard {
    Changed(StoreEvent),
    Answer(u64, WriteOutcome),
}

impl Cluster {
    /// Returns the value of a key in a node's copy of a store.
    pub fn stored<Q: Encode + ?Sized>(&self, node: &str, store: &str, key: &Q) -> Option<Data> {
        let position = self.position(node);
        let life = self.nodes[position].life.as_ref()?;
        let name = StoreName::new(store).unwrap_or_else(|error| panic!("{error}"));
        let entry = life.stores.get(&name, &Encoded::key(key))?;
        Some(entry.value.to_data())
    }

    /// Sets the range of times that a disk takes to be read or written to.
    #[must_use]
    pub fn disk_latency(mut self, latency: RangeInclusive<Duration>) -> Self {
        self.disk_latency = latency;
        self
    }

    /// Sets whether the stores on a node's disk can be read from now on. A store that is opened
    /// while they cannot fails.
    pub fn set_disk_readable(&mut self, node: &str, is_readable: bool) {
        let position = self.position(node);
        self.disks.unreadable.retain(|known| *known != position);
        if !is_readable {
            self.disks.unreadable.push(position);
        }
    }

    /// Sets whether commits to the stores on a node's disk succeed from now on. Stores that are
    /// opened for the first time later have a disk that works.
    pub fn set_disk_writable(&mut self, node: &str, is_writable: bool) {
        let position = self.position(node);
        for ((at, _), disk) in &self.disks.kept {
            if *at == position {
                if is_writable {
                    disk.mend();
                } else {
                    disk.fail_after(0);
                }
            }
        }
    }

    /// Opens a store of a node where the layout puts it, or where coordinators do. What is open already stays open.
    pub(super) fn open_store(
        &mut self,
        position: usize,
        store: &StoreName,
        persistent: bool,
        use_here: bool,
        watch: bool,
    ) {
        let plan = self.layout.store(store, persistent);
        let plan = plan.expect("a checked layout has a node for every primary");
        let known = &self.layout.nodes()[position];
        // A Zeek process has no stores of ours.
        if (!plan.is_at(known) && !use_here) || self.nodes[position].is_zeek {
            return;
        }
        self.place_store(position, store, plan, persistent);
        self.open_placed(position, store);
        if watch {
            self.watch_store(position, store);
        }
    }

    /// A store takes writes from now on, whether it is open or not.
    fn place_store(
        &mut self,
        position: usize,
        store: &StoreName,
        plan: StorePlan,
        is_persistent: bool,
    ) {
        let now = self.clock(position);
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let mut stores = life.stores.lock();
        let number = stores.len() as u64 + 1;
        stores.entry(store.clone()).or_insert_with(|| {
            let config = InstanceConfig {
                endpoint: life.id,
                number,
                frame_limit: FRAME_LIMIT,
                rival_patience: RIVAL_PATIENCE,
            };
            let mut instance = Instance::new(store.clone(), config, now);
            instance.sabotage_copies(self.boxes.of_copies);
            Open {
                instance,
                plan,
                is_persistent,
                is_watched: false,
                is_waiting: true,
                follows: None,
                listens: Listens::default(),
                wake: None,
                due_at_once: 0,
                clock: SteadyClock::new(now.mono, now.wall),
            }
        });
    }

    fn watch_store(&mut self, position: usize, store: &StoreName) {
        let begins = |open: &mut Open, _| {
            if std::mem::replace(&mut open.is_watched, true) {
                return Vec::new();
            }
            open.instance.set_watched(true);
            // What is there comes first.
            let entries = open.instance.entries().into_iter();
            let entries = entries.flat_map(Entries::in_order);
            let there = entries.map(|(key, entry)| {
                Heard::Changed(StoreEvent::Put {
                    key: key.clone(),
                    value: entry.value.clone(),
                    expires: entry.expires,
                    old: None,
                    amendment: None,
                })
            });
            there.collect()
        };
        let heard = self.with_open(position, store, begins).unwrap_or_default();
        self.hear(position, store, heard);
        self.store_did(position, store);
    }

    pub(super) fn write_store(
        &mut self,
        position: usize,
        store: &StoreName,
        op: Op,
        level: Level,
        within: Option<Duration>,
        token: u64,
    ) {
        let settings = &self.layout.nodes()[position].settings;
        let within = within.unwrap_or_else(|| settings.duration("stores.mutation_buffer_interval"));
        let outcome = self.with_store(position, store, |instance, now| {
            let deadline = now.mono.after(within);
            instance.write(op, level, token, Some(deadline), now)
        });
        let outcome = outcome.unwrap_or(Some(Err(WriteFailure::NoPrimary)));
        let heard = outcome.map(|outcome| Heard::Answer(token, outcome));
        self.hear(position, store, heard.into_iter().collect());
        self.store_did(position, store);
    }

    /// Something happens to a node's store.
    pub(super) fn store_happens(&mut self, at: u64, position: usize, item: StoreItem) {
        let store = match item {
            StoreItem::Wake { store } => {
                let is_due = |open: &mut Open, _| {
                    let is_due = open.wake == Some(at);
                    open.wake = open.wake.filter(|_| !is_due);
                    is_due
                };
                if self.with_open(position, &store, is_due) == Some(true) {
                    self.with_store(position, &store, Instance::tick);
                }
                store
            }
            StoreItem::Listening { store } => {
                self.with_store(position, &store, Instance::listening);
                store
            }
            StoreItem::Loaded { store, limit } => {
                let is_readable = !self.disks.unreadable.contains(&position);
                let disk = self.disks.kept.get_mut(&(position, store.clone()));
                let disk = disk.filter(|_| is_readable);
                let restored = disk.and_then(|disk| Restored::load(disk, limit).ok());
                self.with_store(position, &store, |instance, now| {
                    instance.loaded(restored, now);
                });
                store
            }
            StoreItem::Committed { store, commit } => {
                let is_full = self.is_disk_full(position);
                let disk = self.disks.kept.get_mut(&(position, store.clone()));
                let disk = disk.filter(|_| !is_full);
                let kept = disk.is_some_and(|disk| disk.commit(&commit).is_ok());
                let failed = (!kept).then_some(commit);
                self.with_store(position, &store, |instance, now| {
                    instance.committed(failed, now);
                });
                store
            }
        };
        self.store_did(position, &store);
    }

    /// A command has come for a node's store.
    pub(super) fn store_command(
        &mut self,
        position: usize,
        from: EndpointId,
        topic: &Topic,
        payload: &[u8],
    ) {
        let name = if let Some((name, for_master)) = StoreName::of_broker_topic(topic.as_bytes()) {
            let name = StoreName::new(name).expect("a store's topic has its name");
            let command = BrokerCommand::decode(payload).expect("it was encoded by a store");
            self.with_store(position, &name, |instance, now| {
                if hears(instance, for_master) && command.sender.endpoint == from {
                    instance.receive_broker(command, now);
                }
            });
            name
        } else {
            let addressee = StoreMessage::addressee(payload);
            let (name, for_primary) = addressee.expect("it was encoded by a store");
            let name = StoreName::new(name).expect("a store's message has its name");
            let message = StoreMessage::decode(payload).expect("it was encoded by a store");
            self.with_store(position, &name, |instance, now| {
                if hears(instance, for_primary) {
                    instance.receive(from, message, now);
                }
            });
            name
        };
        self.store_did(position, &name);
    }

    /// Something was to happen to a store whose process is gone: what it gave to its disk may be there all the same.
    pub(super) fn disk_ends_alone(&mut self, position: usize, item: StoreItem) {
        if let StoreItem::Committed { store, commit } = item
            && self.nodes[position].life.is_none()
            && self
                .random
                .nanos(&(Duration::ZERO..=Duration::from_nanos(1)))
                == 0
            && let Some(disk) = self.disks.kept.get_mut(&(position, store))
        {
            let _ = disk.commit(&commit);
        }
    }

    pub(super) fn store_lost(&mut self, position: usize, endpoint: EndpointId) {
        for store in self.stores_of(position) {
            self.with_store(position, &store, |instance, now| {
                instance.lost(endpoint, now);
            });
            self.store_did(position, &store);
        }
    }

    pub(super) fn store_discovered(&mut self, position: usize) {
        for store in self.stores_of(position) {
            self.with_store(position, &store, Instance::discovered);
            self.store_did(position, &store);
        }
    }

    pub(super) fn stores_of(&self, position: usize) -> Vec<StoreName> {
        let life = self.nodes[position].life.as_ref();
        life.map(|life| life.stores.lock().keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Hands a fact to a store. A process that was stopped finds that out before it does anything.
    fn with_store<R>(
        &self,
        position: usize,
        store: &StoreName,
        act: impl FnOnce(&mut Instance, Now) -> R,
    ) -> Option<R> {
        let lease_end = self.nodes[position].life.as_ref()?.lease_end;
        let looks = self.boxes.neglect != Neglect::Suspension;
        self.with_open(position, store, |open, now| {
            if open.follows.is_some() && looks {
                open.instance.suspend(now.mono >= lease_end, now);
            }
            act(&mut open.instance, now)
        })
    }

    /// Looks at a store, with the time that it goes by.
    fn with_open<R>(
        &self,
        position: usize,
        store: &StoreName,
        act: impl FnOnce(&mut Open, Now) -> R,
    ) -> Option<R> {
        let Now { mono, wall } = self.clock(position);
        let life = self.nodes[position].life.as_ref()?;
        let mut stores = life.stores.lock();
        let open = stores.get_mut(store)?;
        let wall = open.clock.read(mono, wall);
        Some(act(open, Now { mono, wall }))
    }
}

/// Whether a message for a primary, or one for clones, is for this store.
fn hears(instance: &Instance, for_primary: bool) -> bool {
    let hears = instance.hears();
    if for_primary {
        hears.for_primary
    } else {
        hears.for_clones
    }
}

/// What a node hears of an output that settles a write.
fn answer(output: Output) -> Option<Heard> {
    match output {
        Output::Settled(settled) => Some(Heard::Answer(settled.token, settled.outcome)),
        _ => None,
    }
}
