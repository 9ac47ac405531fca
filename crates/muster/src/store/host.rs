//! A store on this endpoint: the shell around an [`Instance`], with its lock, its timer, its disk and its messages.
//!
//! What is decided is decided by the instance; here facts are handed to it, and what it wants is done.

mod copies;
mod opening;
mod outputs;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use muster_data::Timestamp;
use muster_store::broker::BrokerCommand;
use muster_store::op::Op;
use muster_store::protocol::{Query, Reply, StoreMessage};
use muster_store::{
    Backend, Commit, Encoded, Entries, Entry, Freshness, Instance, Level, Now, Revision,
    SteadyClock, StoreName, StoreReport, WriteFailure, WriteOutcome,
};
use muster_wire::{EndpointId, Mono, Topic};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};

use super::disk::{Disk, Job};
use super::error::{OpenError, StoreError, StoreErrorKind};
use super::topics::StoreTopics;
use super::watch::{Queue, Scope, Watchers};
use crate::endpoint::{Endpoint, Publisher, Subscriber};
pub(crate) use copies::{Copies, LeaseEnd, OpenBackend};

/// The shortest that the timer sleeps.
const TICK: Duration = Duration::from_millis(1);

/// How often a store that is closing looks whether everything is settled.
const SETTLING: Duration = Duration::from_millis(2);

/// How often a store that may not decide alone looks whether it may again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Who hears of a write's outcome.
pub(crate) enum Completion {
    Task(oneshot::Sender<WriteOutcome>),
    Call(Box<dyn FnOnce(WriteOutcome) + Send>),
}

impl Completion {
    pub(crate) fn tell(self, outcome: WriteOutcome) {
        match self {
            Self::Task(sender) => drop(sender.send(outcome)),
            Self::Call(call) => call(outcome),
        }
    }
}

/// What asks the node that should have a store's primary to open it.
#[derive(Debug)]
pub(crate) struct AskToOpen {
    /// Where that node listens.
    pub(crate) topic: Topic,
    /// An encoded event.
    pub(crate) payload: Bytes,
}

/// How far a store has come.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Whether it is open; `Some(false)` if it could not be opened.
    is_open: Option<bool>,
    /// Whether there is something to read.
    is_attached: bool,
    /// Whether its copy was given up, because there is no room for it.
    is_given_up: bool,
}

/// One store of an endpoint. Its handles own it.
pub(crate) struct Host {
    /// Itself, for its tasks, which do not keep it open.
    me: Weak<Host>,
    name: StoreName,
    endpoint: Endpoint,
    topics: StoreTopics,
    /// Whether messages for a primary are for it at present, and whether those for clones are.
    hears_writers: AtomicBool,
    hears_primary: AtomicBool,
    has_copy: bool,
    inner: Mutex<Inner>,
    /// Where backends are read, from when it is opened.
    runtime: OnceLock<Handle>,
    /// What it listens to.
    subscription: tokio::sync::Mutex<Option<(Listens, Subscriber)>>,
    /// Wakes the timer when something is due earlier than it knew.
    earlier: Arc<Notify>,
    progress: watch::Sender<Progress>,
}

struct Inner {
    instance: Instance,
    publisher: Publisher,
    /// Until it is read, and its thread takes it.
    backend: Option<Box<dyn Backend>>,
    disk: Option<Disk>,
    /// What coordinators have decided about it, if they have.
    copies: Option<Copies>,
    /// How the node that should have the primary is asked to open it.
    ask_to_open: Option<AskToOpen>,
    /// Why it could not be opened, for whoever opens it.
    failure: Option<OpenError>,
    next_token: u64,
    /// Whoever waits for writes, by their tokens.
    waiting: HashMap<u64, Completion>,
    /// Whoever waits for an answer of the primary.
    questions: HashMap<u64, oneshot::Sender<(Revision, Reply)>>,
    watchers: Watchers,
    /// What TTLs are measured by.
    clock: SteadyClock,
    /// When the timer wakes.
    armed: Mono,
    /// What is to be listened to.
    listens: Listens,
    /// Whether the topic of Broker's clones is to be listened to.
    listens_to_broker: bool,
}

/// The topics that a store listens to, besides that of its endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Listens {
    /// What is said to whoever has the primary.
    to_writers: bool,
    /// What the primary says to all clones.
    to_primary: bool,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.name)
            .field("is_primary", &self.is_primary())
            .finish_non_exhaustive()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.endpoint.stores().remove(&self.name, self);
        self.earlier.notify_one();
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let now = inner.now(&self.endpoint);
        inner.instance.close(now);
        let mut ended = Vec::new();
        while let Some(output) = inner.instance.poll() {
            if let muster_store::Output::Settled(settled) = output {
                ended.extend(
                    inner
                        .waiting
                        .remove(&settled.token)
                        .zip(Some(settled.outcome)),
                );
            }
        }
        for (completion, outcome) in ended {
            completion.tell(outcome);
        }
        for completion in std::mem::take(&mut inner.waiting).into_values() {
            completion.tell(Err(WriteFailure::Unknown));
        }
    }
}

impl Host {
    pub(super) fn name(&self) -> &StoreName {
        &self.name
    }

    pub(super) fn is_primary(&self) -> bool {
        self.lock().instance.is_primary()
    }

    /// Whether all that was decided about the store can be read here at once.
    pub(super) fn decides_alone(&self) -> bool {
        let inner = self.lock();
        inner.instance.is_primary() && inner.copies.is_none()
    }

    /// Whether a message for a primary, or else one for clones, is for this store.
    pub(super) fn hears(&self, for_primary: bool) -> bool {
        let hears = if for_primary {
            &self.hears_writers
        } else {
            &self.hears_primary
        };
        hears.load(Ordering::Relaxed)
    }

    /// Whether it has a copy, or will have one without being asked.
    pub(super) fn has_copy(&self) -> bool {
        self.has_copy && !self.progress.borrow().is_given_up
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a fact to the instance, then does what it wants done.
    fn drive<R>(&self, act: impl FnOnce(&mut Inner, Now) -> R) -> R {
        let mut ended = Vec::new();
        let mut inner = self.lock();
        let now = inner.now(&self.endpoint);
        // A process that was stopped finds that out before it does anything.
        if let Some(copies) = &inner.copies {
            let is_suspended = copies.is_suspended(now.mono);
            inner.instance.suspend(is_suspended, now);
        }
        let result = act(&mut inner, now);
        self.carry_out(&mut inner, &mut ended);
        self.look_at_part(&mut inner);
        let next = inner.instance.next_tick(now);
        if next < inner.armed {
            inner.armed = next;
            self.earlier.notify_one();
        }
        drop(inner);
        // Whoever hears of it may use the store.
        for (completion, outcome) in ended {
            completion.tell(outcome);
        }
        result
    }

    /// What it is has perhaps changed.
    fn look_at_part(&self, inner: &mut Inner) {
        let hears = inner.instance.hears();
        self.hears_writers
            .store(hears.for_primary, Ordering::Relaxed);
        self.hears_primary
            .store(hears.for_clones, Ordering::Relaxed);
        if inner.copies.is_none() {
            return;
        }
        let keeps_copy = inner.instance.keeps_copy();
        let listens = Listens {
            to_writers: inner.instance.is_primary(),
            to_primary: !keeps_copy && self.has_copy,
        };
        if listens != std::mem::replace(&mut inner.listens, listens) {
            self.earlier.notify_one();
        }
        if !keeps_copy {
            // Its file is let go: if it is a copy again, the file is read again.
            inner.disk = None;
        }
    }

    /// Follows a decision of coordinators about which nodes keep the store.
    pub(crate) fn assign(&self, copies: Copies) {
        self.drive(|inner, now| {
            let known = inner.copies.as_ref();
            if known.is_some_and(|known| known.group.changed >= copies.group.changed) {
                return;
            }
            let assignment = copies.group.assignment();
            let kind = copies.backend.as_ref().map(|_| copies.kind);
            let config = copies.config.clone();
            inner.copies = Some(copies);
            inner.instance.assign(assignment, &config, kind, now);
        });
    }

    pub(super) fn receive(&self, from: EndpointId, message: StoreMessage) {
        self.drive(|inner, now| inner.instance.receive(from, message, now));
    }

    /// Takes a command of Broker's protocol.
    pub(super) fn receive_broker(&self, command: BrokerCommand) {
        self.drive(|inner, now| inner.instance.receive_broker(command, now));
    }

    pub(super) fn lost(&self, endpoint: EndpointId) {
        self.drive(|inner, now| inner.instance.lost(endpoint, now));
    }

    pub(super) fn discovered(&self) {
        self.drive(|inner, now| inner.instance.discovered(now));
    }

    pub(super) fn committed(&self, failed: Option<Commit>) {
        self.drive(|inner, now| inner.instance.committed(failed, now));
    }

    /// Writes; `within` is how long it may take.
    pub(crate) fn write(
        &self,
        op: Op,
        level: Level,
        within: Option<Duration>,
        completion: Completion,
    ) {
        let at_once = self.drive(|inner, now| {
            let token = inner.next_token;
            inner.next_token += 1;
            let deadline = within.map(|within| now.mono.after(within));
            let outcome = inner.instance.write(op, level, token, deadline, now);
            if let Some(outcome) = outcome {
                return Some((completion, outcome));
            }
            inner.waiting.insert(token, completion);
            None
        });
        if let Some((completion, outcome)) = at_once {
            completion.tell(outcome);
        }
    }

    /// Looks at what is here, if anything is.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Entries) -> R) -> Option<R> {
        self.lock().instance.entries().map(look)
    }

    /// The entry of a key here, with the timeline of its revision, and how old it may be: all at one moment.
    pub(super) fn find(&self, key: &Encoded) -> (Freshness, Option<(Entry, u64)>) {
        let now = self.endpoint.now();
        let inner = self.lock();
        let entry = inner
            .instance
            .entries()
            .and_then(|entries| entries.get(key));
        let timeline = inner.instance.applied().timeline;
        let found = entry.map(|entry| (entry.clone(), timeline));
        (inner.instance.freshness(now), found)
    }

    /// The last change here.
    pub(crate) fn applied(&self) -> Revision {
        self.lock().instance.applied()
    }

    pub(crate) fn freshness(&self) -> Freshness {
        let now = self.endpoint.now();
        self.lock().instance.freshness(now)
    }

    pub(super) fn report(&self) -> Option<StoreReport> {
        let now = self.endpoint.now();
        self.lock().instance.report(now)
    }

    pub(super) fn is_persistent(&self) -> Option<bool> {
        self.lock().instance.is_persistent()
    }

    /// The endpoint of the primary, if it is known.
    pub(super) fn primary_endpoint(&self) -> Option<EndpointId> {
        self.lock().instance.primary()
    }

    /// Whether it is open.
    pub(super) fn is_open(&self) -> bool {
        self.progress.borrow().is_open == Some(true)
    }

    /// Waits until there is something to read, or it is clear that there will be nothing.
    pub(super) async fn attached(&self, limit: Duration) -> Result<(), StoreError> {
        let mut progress = self.progress.subscribe();
        let is_clear = |progress: &Progress| progress.is_attached || progress.is_given_up;
        let waited = progress.wait_for(is_clear);
        match tokio::time::timeout(limit, waited).await {
            Ok(Ok(progress)) if progress.is_attached => Ok(()),
            Ok(Ok(_)) => Err(StoreError::new(&self.name, StoreErrorKind::NoCopy)),
            _ => Err(StoreError::new(&self.name, StoreErrorKind::NoPrimary)),
        }
    }

    /// Asks the primary.
    pub(super) async fn ask(
        &self,
        query: Query,
        limit: Duration,
    ) -> Result<(Revision, Reply), StoreError> {
        let (sender, answer) = oneshot::channel();
        self.drive(|inner, now| {
            let request = inner.next_token;
            inner.next_token += 1;
            inner.questions.insert(request, sender);
            let deadline = now.mono.after(limit);
            inner.instance.query(request, query, deadline, now);
        });
        let answer = answer.await;
        answer.map_err(|_| StoreError::new(&self.name, StoreErrorKind::NoPrimary))
    }

    /// A watcher of what changes in a scope, which begins with what is there.
    pub(super) fn watch(&self, scope: Scope) -> Arc<Queue> {
        let mut inner = self.lock();
        inner.instance.set_watched(true);
        let Inner {
            instance, watchers, ..
        } = &mut *inner;
        let is_here = self.progress.borrow().is_attached;
        watchers.add(scope, instance.entries().filter(|_| is_here))
    }

    /// Begins a watcher anew that fell behind.
    pub(super) fn watch_anew(&self, queue: &Arc<Queue>) {
        let inner = self.lock();
        if let Some(entries) = inner.instance.entries() {
            queue.begin(entries);
        }
    }

    /// Closes the backend once everything is on disk. Returns `false` if that was not done in time.
    pub(super) async fn close(&self, limit: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + limit;
        while !self.lock().instance.is_settled() {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(SETTLING).await;
        }
        let disk = self.lock().disk.take();
        if let Some(disk) = disk {
            let (done, closed) = oneshot::channel();
            disk.ask(Job::Close(done));
            return tokio::time::timeout_at(deadline, closed).await.is_ok();
        }
        true
    }

    /// Does what is due. Returns how long until something is again, and what is to be listened to: its topics, and that of
    /// Broker's clones.
    fn tick(&self) -> (Duration, Listens, bool) {
        self.drive(|inner, now| {
            let is_watched = inner.watchers.is_watched();
            inner.instance.set_watched(is_watched);
            inner.instance.tick(now);
            // The timer itself needs no waking.
            inner.armed = Mono::default();
        });
        let mut inner = self.lock();
        let now = inner.now(&self.endpoint);
        inner.armed = inner.instance.next_tick(now);
        if let Some(copies) = &inner.copies
            && copies.is_suspended(now.mono)
        {
            inner.armed = inner.armed.min(now.mono.after(LOOK_AGAIN));
        }
        let wait = inner.armed.since(now.mono);
        (wait, inner.listens, inner.listens_to_broker)
    }
}

impl Inner {
    fn now(&mut self, endpoint: &Endpoint) -> Now {
        let mono = endpoint.now();
        Now {
            mono,
            wall: self.clock.read(mono, wall()),
        }
    }
}

fn wall() -> Timestamp {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_nanos(i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX))
}

/// Calls a store when something is due, until its handles are gone.
async fn timer(host: Weak<Host>) {
    let mut broker: Option<Subscriber> = None;
    loop {
        let Some(strong) = host.upgrade() else {
            return;
        };
        let (wait, listens, listens_to_broker) = strong.tick();
        strong.listen(listens).await;
        match listens_to_broker {
            true if broker.is_none() => {
                let topic = strong.name.broker_clone_topic();
                broker = Some(strong.endpoint.subscribe([topic.as_bytes()]).await);
                strong.drive(|inner, now| inner.instance.listening(now));
            }
            true => {}
            false => broker = None,
        }
        let earlier = Arc::clone(&strong.earlier);
        drop(strong);
        // The last handle wakes this, too.
        let _ = tokio::time::timeout(wait.max(TICK), earlier.notified()).await;
    }
}
