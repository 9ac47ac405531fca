//! A store on this endpoint, primary or clone: the shell around the core.

mod opening;
mod outputs;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_data::Timestamp;
use muster_store::broker::{BrokerClones, BrokerCommand};
use muster_store::op::{Answer, Op};
use muster_store::protocol::{Query, Reply, StoreMessage};
use muster_store::{
    Commit, Entries, Follower, Freshness, Level, Now, Primary, Revision, StoreName, WriteFailure,
};
use muster_wire::{EndpointId, Mono, Topic};
use tokio::sync::{Notify, oneshot, watch};

use super::broker::BrokerPart;
use super::disk::{Disk, Job};
use super::error::{StoreError, StoreErrorKind};
use super::report::{CloneReport, PrimaryReport, StorePart, StoreReport};
use super::rival::Rival;
use super::watch::{Scope, Watchers};
use crate::endpoint::{Endpoint, Publisher, Subscriber};

/// How soon a question to the primary is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The shortest that the timer sleeps.
const TICK: Duration = Duration::from_millis(1);

/// What becomes of a write.
pub(crate) type Outcome = Result<Answer, WriteFailure>;

/// Who hears of a write's outcome.
pub(crate) enum Done {
    Task(oneshot::Sender<Outcome>),
    Call(Box<dyn FnOnce(Outcome) + Send>),
}

impl Done {
    pub(crate) fn tell(self, outcome: Outcome) {
        match self {
            Self::Task(sender) => drop(sender.send(outcome)),
            Self::Call(call) => call(outcome),
        }
    }
}

/// One store of an endpoint. Its handles own it.
pub(crate) struct Host {
    name: StoreName,
    endpoint: Endpoint,
    /// Announces what this store listens to.
    _subscription: Subscriber,
    is_primary: bool,
    has_copy: bool,
    inner: Mutex<Inner>,
    /// Wakes the timer when something is due earlier than it knew.
    earlier: Arc<Notify>,
    /// Turns true when there is something to read.
    is_attached: watch::Sender<bool>,
}

enum Core {
    Master(Box<Primary>),
    Clone(Box<Follower>),
}

struct Inner {
    core: Core,
    publisher: Publisher,
    clone_topic: Topic,
    primary_topic: Topic,
    broker: BrokerPart,
    disk: Option<Disk>,
    backend: Backing,
    rival: Rival,
    next_token: u64,
    /// Of a clone's writes, by their tokens.
    waiting: HashMap<u64, Done>,
    /// Of a primary's own durable writes, by generation.
    keeping: Vec<(u64, Answer, Done)>,
    questions: HashMap<u64, oneshot::Sender<(Revision, Reply)>>,
    watchers: Watchers,
    /// When the timer wakes.
    armed: Mono,
    was_stale: bool,
}

/// What keeps a primary's state, and how that goes.
struct Backing {
    kind: &'static str,
    failures: u64,
    is_failing: bool,
}

impl Default for Backing {
    fn default() -> Self {
        Self {
            kind: "memory",
            failures: 0,
            is_failing: false,
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.name)
            .field("is_primary", &self.is_primary)
            .finish_non_exhaustive()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.endpoint.stores().remove(&self.name, self);
        self.earlier.notify_one();
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Core::Clone(clone) = &mut inner.core {
            clone.close(self.endpoint.now());
        }
        for done in std::mem::take(&mut inner.waiting).into_values() {
            done.tell(Err(WriteFailure::Unknown));
        }
    }
}

impl Host {
    pub(super) fn name(&self) -> &StoreName {
        &self.name
    }

    pub(super) fn is_primary(&self) -> bool {
        self.is_primary
    }

    pub(super) fn has_copy(&self) -> bool {
        self.has_copy
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the core, then what it wants done.
    fn drive<R>(&self, act: impl FnOnce(&mut Inner, Now) -> R) -> R {
        let mut ended = Vec::new();
        let mut inner = self.lock();
        let now = time(&self.endpoint);
        let result = act(&mut inner, now);
        inner.carry_out(self, now, &mut ended);
        let next = inner.next_tick(now);
        if next < inner.armed {
            inner.armed = next;
            self.earlier.notify_one();
        }
        drop(inner);
        // Whoever hears of it may use the store.
        for (done, outcome) in ended {
            done.tell(outcome);
        }
        result
    }

    pub(super) fn receive(&self, from: EndpointId, message: StoreMessage) {
        self.drive(|inner, now| match &mut inner.core {
            Core::Master(primary) => primary.receive(from, message, now),
            Core::Clone(clone) => clone.receive(from, message, now.mono),
        });
    }

    /// Takes a command of Broker's protocol.
    pub(super) fn receive_broker(&self, command: BrokerCommand) {
        self.drive(
            |inner, now| match (&mut inner.core, &mut inner.broker.clones) {
                (Core::Master(primary), Some(clones)) => {
                    clones.receive(command, primary, now);
                    if clones.attached() > 0 {
                        primary.set_watched(true);
                    }
                }
                (Core::Clone(clone), _) => clone.receive_broker(command, now),
                (Core::Master(_), None) => {}
            },
        );
    }

    /// Whether Broker's topic for clones is to be listened to.
    fn wants_broker(&self) -> bool {
        match &self.lock().core {
            Core::Master(_) => false,
            Core::Clone(clone) => clone.wants_broker(),
        }
    }

    /// Broker's topic for clones is listened to.
    fn listens_to_broker(&self) {
        self.drive(|inner, now| {
            if let Core::Clone(clone) = &mut inner.core {
                clone.listening(now.mono);
            }
        });
    }

    pub(super) fn lost(&self, endpoint: EndpointId) {
        self.drive(|inner, now| {
            if let Core::Clone(clone) = &mut inner.core {
                clone.lost(endpoint, now.mono);
            }
        });
    }

    pub(super) fn discovered(&self) {
        if self.is_primary {
            self.lock().rival.look_soon(&self.endpoint);
            return;
        }
        self.drive(|inner, now| {
            if let Core::Clone(clone) = &mut inner.core {
                clone.discovered(now.mono);
            }
        });
    }

    pub(super) fn committed(&self, failed: Option<Commit>) {
        self.drive(|inner, now| {
            inner.backend.is_failing = failed.is_some();
            inner.backend.failures += u64::from(failed.is_some());
            if let Core::Master(primary) = &mut inner.core {
                primary.committed(failed, now);
            }
        });
    }

    /// Writes; `within` is how long it may take.
    pub(crate) fn write(&self, op: Op, level: Level, within: Option<Duration>, done: Done) {
        let at_once = self.drive(|inner, now| match &mut inner.core {
            Core::Master(primary) => {
                let (answer, generation) = primary.write(op, level, now);
                let waits = level == Level::Durable && matches!(answer, Answer::Done { .. });
                match generation.filter(|_| waits) {
                    Some(generation) => {
                        inner.keeping.push((generation, answer, done));
                        None
                    }
                    None => Some((done, answer)),
                }
            }
            Core::Clone(clone) => {
                let token = inner.next_token;
                inner.next_token += 1;
                inner.waiting.insert(token, done);
                let deadline = within.map(|within| now.mono.after(within));
                clone.write(op, level, token, deadline, now.mono);
                None
            }
        });
        if let Some((done, answer)) = at_once {
            done.tell(Ok(answer));
        }
    }

    /// Looks at what is here.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Entries) -> R) -> R {
        look(self.lock().entries())
    }

    /// The revisions' timeline at present, and the number of the last change here.
    pub(crate) fn applied(&self) -> Revision {
        match &self.lock().core {
            Core::Master(primary) => Revision {
                timeline: primary.timeline(),
                change: primary.state().changes(),
            },
            Core::Clone(clone) => {
                let (timeline, change) = clone.applied().unwrap_or((0, 0));
                Revision { timeline, change }
            }
        }
    }

    pub(crate) fn freshness(&self) -> Freshness {
        let now = self.endpoint.now();
        match &self.lock().core {
            Core::Master(_) => Freshness::Fresh,
            Core::Clone(clone) => clone.freshness(now),
        }
    }

    pub(super) fn report(&self) -> StoreReport {
        let now = self.endpoint.now();
        let inner = self.lock();
        let entries = inner.entries();
        let part = match &inner.core {
            Core::Master(primary) => {
                let clones = inner.broker.clones.as_ref();
                StorePart::Primary(PrimaryReport {
                    backend: inner.backend.kind,
                    writers: primary.writers(),
                    broker_clones: clones.map_or(0, BrokerClones::attached),
                    pending_commits: primary.pending_commits(),
                    failures: inner.backend.failures,
                    is_failing: inner.backend.is_failing,
                    rival: inner.rival.known(),
                })
            }
            Core::Clone(clone) => StorePart::Clone(CloneReport {
                primary: clone.primary(),
                freshness: clone.freshness(now),
                missing: clone.missing(),
                unsettled: clone.unsettled(),
            }),
        };
        StoreReport {
            name: self.name.clone(),
            entries: entries.len(),
            bytes: entries.bytes(),
            part,
        }
    }

    pub(super) fn is_persistent(&self) -> Option<bool> {
        match &self.lock().core {
            Core::Master(primary) => Some(primary.is_persistent()),
            Core::Clone(_) => None,
        }
    }

    /// The endpoint of the primary, if it is known.
    pub(super) fn primary_endpoint(&self) -> Option<EndpointId> {
        match &self.lock().core {
            Core::Master(_) => Some(self.endpoint.id()),
            Core::Clone(clone) => clone.primary(),
        }
    }

    /// Whether the primary is here, or has been heard lately.
    pub(super) fn hears_primary(&self) -> bool {
        let now = self.endpoint.now();
        match &self.lock().core {
            Core::Master(_) => true,
            Core::Clone(clone) => clone.hears_primary(now),
        }
    }

    /// Waits until there is something to read.
    pub(super) async fn attached(&self, limit: Duration) -> Result<(), StoreError> {
        let mut attached = self.is_attached.subscribe();
        let waited = tokio::time::timeout(limit, attached.wait_for(|is_attached| *is_attached));
        match waited.await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(StoreError::new(&self.name, StoreErrorKind::NoPrimary)),
        }
    }

    /// Asks the primary, again while no answer comes.
    pub(super) async fn ask(
        &self,
        query: Query,
        limit: Duration,
    ) -> Result<(Revision, Reply), StoreError> {
        let (sender, mut answer) = oneshot::channel();
        let request = self.drive(|inner, _| {
            let request = inner.next_token;
            inner.next_token += 1;
            inner.questions.retain(|_, asker| !asker.is_closed());
            inner.questions.insert(request, sender);
            request
        });
        let asking = async {
            loop {
                let query = query.clone();
                self.drive(|inner, now| {
                    if let Core::Clone(clone) = &mut inner.core {
                        clone.query(request, query, now.mono);
                    }
                });
                tokio::select! {
                    answer = &mut answer => return answer.ok(),
                    () = tokio::time::sleep(ASK_AGAIN) => {}
                }
            }
        };
        let answer = tokio::time::timeout(limit, asking).await.ok().flatten();
        answer.ok_or_else(|| StoreError::new(&self.name, StoreErrorKind::NoPrimary))
    }

    /// A watcher of what changes in a scope, which begins with what is there.
    pub(super) fn watch(&self, scope: Scope) -> Arc<super::watch::Queue> {
        let mut inner = self.lock();
        inner.set_watched(true);
        let Inner { core, watchers, .. } = &mut *inner;
        let is_here = *self.is_attached.borrow();
        watchers.add(scope, is_here.then(|| entries_of(core)))
    }

    /// Begins a watcher anew that fell behind.
    pub(super) fn watch_anew(&self, queue: &Arc<super::watch::Queue>) {
        let inner = self.lock();
        queue.begin(entries_of(&inner.core));
    }

    /// Closes the backend once everything is kept.
    pub(super) async fn close(&self, limit: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let is_settled = match &self.lock().core {
                Core::Master(primary) => primary.is_settled(),
                Core::Clone(clone) => clone.is_settled(),
            };
            if is_settled {
                break;
            }
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let disk = self.lock().disk.take();
        if let Some(disk) = disk {
            let (done, closed) = oneshot::channel();
            disk.ask(Job::Close(done));
            return tokio::time::timeout_at(deadline, closed).await.is_ok();
        }
        true
    }

    /// Does what is due; how long until something is again.
    fn tick(&self) -> Duration {
        let is_stale = self.freshness() == Freshness::Stale;
        self.drive(|inner, now| {
            match &mut inner.core {
                Core::Master(primary) => {
                    primary.tick(now);
                    inner.rival.tick(&self.endpoint, &self.name);
                }
                Core::Clone(clone) => clone.tick(now.mono),
            }
            if let Some(clones) = &mut inner.broker.clones {
                clones.tick(now);
            }
            if is_stale != std::mem::replace(&mut inner.was_stale, is_stale) {
                let name = &self.name;
                if is_stale {
                    tracing::warn!("store {name}: stale, as its primary is not heard of");
                } else {
                    tracing::info!("store {name}: its primary is back");
                }
            }
            // The timer itself needs no waking.
            inner.armed = Mono::default();
            let is_watched = inner.watchers.is_watched();
            inner.set_watched(is_watched);
        });
        let mut inner = self.lock();
        let now = time(&self.endpoint);
        inner.armed = inner.next_tick(now);
        inner.armed.since(now.mono)
    }
}

fn entries_of(core: &Core) -> &Entries {
    match core {
        Core::Master(primary) => primary.state().entries(),
        Core::Clone(clone) => clone.entries(),
    }
}

impl Inner {
    fn entries(&self) -> &Entries {
        entries_of(&self.core)
    }

    fn set_watched(&mut self, is_watched: bool) {
        match &mut self.core {
            Core::Master(primary) => {
                // Broker's clones are told of every change, too.
                let clones = self.broker.clones.as_ref();
                let has_clones = clones.is_some_and(|clones| clones.attached() > 0);
                primary.set_watched(is_watched || has_clones);
            }
            Core::Clone(clone) => clone.set_watched(is_watched),
        }
    }

    fn next_tick(&self, now: Now) -> Mono {
        let core = match &self.core {
            Core::Master(primary) => primary.next_tick(now),
            Core::Clone(clone) => clone.next_tick(),
        };
        let clones = self.broker.clones.as_ref();
        let clones = clones.and_then(BrokerClones::next_tick);
        clones.map_or(core, |clones| clones.min(core))
    }
}

fn time(endpoint: &Endpoint) -> Now {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        mono: endpoint.now(),
        wall: Timestamp::from_nanos(i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX)),
    }
}

/// Calls a store when something is due, until its handles are gone.
async fn timer(host: Weak<Host>) {
    let mut broker: Option<Subscriber> = None;
    loop {
        let Some(strong) = host.upgrade() else {
            return;
        };
        let wait = strong.tick().max(TICK);
        match strong.wants_broker() {
            true if broker.is_none() => {
                let topic = strong.name.broker_clone_topic();
                broker = Some(strong.endpoint.subscribe([topic.as_bytes()]).await);
                strong.listens_to_broker();
            }
            true => {}
            false => broker = None,
        }
        let earlier = Arc::clone(&strong.earlier);
        drop(strong);
        // The last handle wakes this, too.
        let _ = tokio::time::timeout(wait, earlier.notified()).await;
    }
}
