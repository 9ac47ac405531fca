//! The node loop: frameworks, membership, pools, logs and timers of one node, without I/O.
//!
//! Inputs go in by [`NodeLoop::step`], effects come out by [`NodeLoop::take_effects`]; time is an
//! argument. A thread drives it in a process, a simulator in tests, so that a whole cluster with its
//! frameworks runs from one seed.

mod barrier;
mod by_name;
mod contests;
mod context;
mod counts;
mod event;
mod facts;
mod framework;
mod indirect_neighbours;
mod inputs;
mod logs;
mod members;
mod node_core;
mod reach;
mod stores;
#[cfg(test)]
mod tests;
mod timers;
mod unhandled;
mod waits;
mod zeek_cluster;
mod zeek_logger;
mod zeek_logs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use muster_data::{DataRef, Record, Timestamp};
use muster_store::op::{Answer, StoreEvent};
use muster_store::{StoreName, WriteFailure};
use muster_wire::zeek::{EventRef, Message};
use muster_wire::{EndpointId, Incarnation, Mono, Topic};

pub use by_name::ByName;
pub use context::{Context, PublishError};
pub use counts::{CounterSpec, FrameworkCount, NodeCounts};
pub use event::Event;
pub use facts::{Effect, Input, LogSink, NodeError, Report, Severity, Written};
pub use framework::{Declarations, Framework, NodeLife, Registry, Site};
pub use logs::{Column, LogBatch, StreamError};
pub use muster_store::Now;
pub use reach::{NodeState, Reach};
pub use stores::{
    OpenStore, PendingWrite, SharedStore, StoreChange, StoreContext, StoreReads, WriteError,
};

use self::contests::{Contest, Leave};
use self::indirect_neighbours::IndirectNeighbours;
use self::members::Hello;
use self::node_core::NodeCore;
use self::reach::Ways;
use crate::layout::{Layout, NodeName};
use crate::membership::Membership;
use crate::pools::{PoolChange, Pools};
use crate::watermark::Watermarks;
use framework::{Created, Declared, DeclaredStream, Hook, Hosted};
use inputs::{LowWatermark, Ready};

/// Somebody asks a node for its peers.
pub const PEERS_REQUEST: &str = "Muster::peers_request";

/// A handler of an event: framework and position in it.
type HandlerRef = (usize, usize);

/// Events of a node to itself that are handled before it looks at the world again.
const LOCAL_PER_STEP: usize = 16_384;

/// One node.
#[allow(
    clippy::struct_excessive_bools,
    reason = "five steps that a node takes once, in any order"
)]
pub struct NodeLoop {
    core: NodeCore,
    frameworks: Vec<Box<dyn Hosted>>,
    handlers: HashMap<String, Vec<HandlerRef>>,
    neighbours: Vec<NodeName>,
    /// Until when the node waits for its neighbours, and for inputs that have never been seen.
    start_deadline: Mono,
    inputs_started: bool,
    said_ready: bool,
    /// The living nodes that have said that they are ready.
    ready: HashSet<NodeName>,
    released: bool,
    announced: BTreeMap<String, Timestamp>,
    /// When a lost input's hold on the watermark ends.
    grace: Vec<(Mono, NodeName)>,
    stopping: bool,
    /// All neighbours were up at some time.
    was_ready: bool,
    ways: Ways,
    /// The nodes that are up, and former ones.
    names: BTreeMap<EndpointId, String>,
    /// Peers that have not said who they are: when to say hello again, and how often.
    strangers: BTreeMap<EndpointId, (Mono, u32)>,
    /// When a repeated hello of a peer was answered last.
    answered: BTreeMap<EndpointId, Mono>,
    /// The newcomers under names of living nodes.
    contests: Vec<Contest>,
    indirect_neighbours: IndirectNeighbours,
    /// Another process of this node's name is alive, and this one has been told to leave.
    is_leaving: bool,
}

impl NodeLoop {
    /// A node of a layout, in the life `id` that begins now. Its frameworks' `init` has run.
    pub fn new(
        layout: &Arc<Layout>,
        name: &str,
        registry: &Registry,
        id: EndpointId,
        incarnation: Incarnation,
        now: Now,
    ) -> Result<Self, NodeError> {
        let node = layout
            .find(name)
            .ok_or_else(|| NodeError::UnknownNode(name.to_owned()))?
            .clone();
        let neighbours = layout.neighbours(&node.name);
        let start_deadline = now
            .mono
            .after(node.settings.duration("runtime.start_deadline"));
        let created = registry.create(&Site {
            layout,
            node: &node,
        });
        let mut this = Self {
            core: NodeCore::new(Arc::clone(layout), node, id, incarnation, now),
            frameworks: Vec::new(),
            handlers: HashMap::new(),
            neighbours: neighbours
                .dials
                .into_iter()
                .chain(neighbours.accepts)
                .collect(),
            start_deadline,
            inputs_started: false,
            said_ready: false,
            ready: HashSet::new(),
            released: false,
            announced: BTreeMap::new(),
            grace: Vec::new(),
            stopping: false,
            was_ready: false,
            ways: Ways::default(),
            names: BTreeMap::new(),
            strangers: BTreeMap::new(),
            answered: BTreeMap::new(),
            contests: Vec::new(),
            indirect_neighbours: IndirectNeighbours::default(),
            is_leaving: false,
        };
        let mut priorities: HashMap<String, Vec<(i32, HandlerRef)>> = HashMap::new();
        for (position, Created { hosted, declared }) in created.into_iter().enumerate() {
            for (handler, (event, priority)) in declared.handlers.iter().enumerate() {
                priorities
                    .entry(event.to_string())
                    .or_default()
                    .push((*priority, (position, handler)));
            }
            for store in declared.stores.iter().filter(|store| store.is_watched) {
                this.core.watch_store(store.name, position);
            }
            this.declare(declared)?;
            this.core.declare_counters(hosted.name(), hosted.counters());
            this.frameworks.push(hosted);
        }
        for (event, mut handlers) in priorities {
            handlers.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
            this.handlers.insert(
                event,
                handlers.into_iter().map(|(_, handler)| handler).collect(),
            );
        }
        this.core.seal_subscriptions();
        this.hook_all(Hook::Init);
        this.run_local();
        Ok(this)
    }

    fn declare(&mut self, declared: Declared) -> Result<(), NodeError> {
        for (name, ty) in declared.events {
            if self
                .core
                .events
                .get(&name)
                .is_some_and(|known| *known != ty)
            {
                return Err(NodeError::EventConflict(name.into_owned()));
            }
            self.core.events.insert(name, ty);
        }
        for store in declared.stores {
            self.core.declare_store(&store)?;
        }
        for DeclaredStream {
            name,
            ty,
            columns,
            zeek_stream,
        } in declared.streams
        {
            self.core
                .logging
                .logs
                .declare(name, ty, columns?, zeek_stream)?;
        }
        self.core.outbox.subscriptions.extend(declared.topics);
        Ok(())
    }

    /// The topic prefixes that the node's endpoint subscribes to, before it listens or dials.
    pub fn subscriptions(&self) -> &[Topic] {
        &self.core.outbox.subscriptions
    }

    /// The node's name.
    pub fn name(&self) -> &NodeName {
        &self.core.node.name
    }

    /// Who is alive.
    pub fn membership(&self) -> &Membership {
        &self.core.members.membership
    }

    /// Who is in which pool, and alive.
    pub fn pools(&self) -> &Pools {
        &self.core.members.pools
    }

    /// What the node counts.
    pub fn counts(&self) -> &NodeCounts {
        &self.core.counts
    }

    /// Log records that wait for their batch.
    pub fn waiting_records(&self) -> usize {
        self.core.logging.logs.waiting()
    }

    /// Whether every node that this one is linked with by the layout is up, be it that some can be
    /// reached only through others at present: see [`indirect_neighbours`](Self::indirect_neighbours).
    pub fn has_all_neighbours(&self) -> bool {
        self.neighbours.iter().all(|name| self.core.is_alive(name))
    }

    /// Takes what the node wants done, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.core.outbox.effects)
    }

    /// When [`Input::Tick`] is due if nothing else happens.
    pub fn next_deadline(&self) -> Option<Mono> {
        let waiting = !self.released || (!self.inputs_started && !self.stopping);
        let event_time_due = self
            .core
            .windows
            .closed
            .is_some_and(|closed| self.core.timers.is_event_time_due(closed));
        let due = event_time_due || !self.core.outbox.local.is_empty();
        [
            due.then_some(self.core.clock.now.mono),
            self.core.timers.next_deadline(),
            self.core.logging.logs.next_deadline(),
            waiting.then_some(self.start_deadline),
            self.grace.iter().map(|(at, _)| *at).min(),
            self.strangers.values().map(|(at, _)| *at).min(),
            self.next_contest(),
            self.indirect_neighbours.next_deadline(),
            self.core.waits.next_deadline(self.core.clock.now.mono),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Deals with one input, and with every timer that is due.
    pub fn step(&mut self, input: Input<'_>, now: Now) {
        self.core.clock.now = now;
        match input {
            Input::Message { from, payload } => {
                self.core.counts.events_in += 1;
                self.message(from, payload);
            }
            Input::Raise(payload) => {
                self.core.counts.events_local += 1;
                self.message(self.core.id, payload);
            }
            Input::Reach(id, reach) => self.reach_changed(id, reach),
            Input::Pong(id) => self.pong(id),
            Input::InputLow { input, low } => self.input_low(input, low),
            Input::InputEnd { input } => self.input_low(input, Watermarks::END),
            Input::Written {
                stream,
                records,
                failed,
            } => {
                self.core.counts.records_written += records;
                self.core.counts.records_failed.add_many(stream, failed);
            }
            Input::AwaitReady {
                token,
                quorum,
                limit,
            } => self.await_ready(token, quorum, limit),
            Input::GiveUpReady { token } => self.give_up_ready(token),
            Input::StoreAnswer { token, outcome } => self.store_answer(token, outcome),
            Input::StoreChanged { store, event } => self.store_changed(store, event),
            Input::Tick => {}
            Input::Stop if self.stopping => {}
            Input::Stop => {
                self.stopping = true;
                self.end_waits();
                self.hook_all(Hook::Done);
                self.run_local();
                self.flush_logs(None);
                // No logger is alive to take these.
                for (stream, records) in self.core.logging.logs.give_up() {
                    let dropped = &mut self.core.counts.records_dropped;
                    dropped.add_many(&stream, records as u64);
                }
            }
        }
        self.run_local();
        self.look_at_waits();
        self.timers();
        self.tell_readiness();
        self.start_inputs();
    }

    fn message(&mut self, from: EndpointId, payload: &[u8]) {
        match Message::read(DataRef::from_validated(payload)) {
            Ok(Message::Event(event)) => self.event(from, &event),
            Ok(message) => self.zeek_message(from, message),
            Err(error) => {
                self.core.counts.events_refused += 1;
                let kind = error.kind().to_string();
                self.core.report(Severity::Warning, &kind, || {
                    format!("refused a message: {error}")
                });
            }
        }
    }

    fn event(&mut self, from: EndpointId, event: &EventRef<'_>) {
        match event.name() {
            Hello::NAME => self.hello(from, event),
            Leave::NAME => self.told_to_leave(from, event),
            barrier::Question::NAME => self.asked_whom_it_sees(from, event),
            barrier::NotSeen::NAME => self.told_whom_it_does_not_see(from, event),
            LowWatermark::NAME => self.low_watermark(from, event),
            Ready::NAME => self.is_ready(from),
            logs::BATCH => self.log_batch(event),
            OpenStore::NAME => self.open_store(event),
            PEERS_REQUEST => self.core.outbox.effects.push(Effect::DescribePeers(from)),
            _ => self.dispatch(from, event),
        }
    }

    fn dispatch(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let Some(handlers) = self.handlers.get(event.name()) else {
            return self.unhandled(from, event.name());
        };
        self.core.clock.event_time = event.timestamp();
        for (framework, handler) in handlers {
            let hosted = &mut *self.frameworks[*framework];
            let name = hosted.name();
            let handled = call(
                &mut self.core,
                *framework,
                hosted,
                event.name(),
                |hosted, cx| hosted.handle(*handler, event, cx),
            );
            if let Some(Err(error)) = handled {
                self.core.counts.events_refused += 1;
                let kind = format!("refused {}", event.name());
                let text = || format!("framework {name} refused event {}: {error}", event.name());
                self.core.report(Severity::Warning, &kind, text);
            }
        }
        self.core.clock.event_time = None;
    }

    fn hook_all(&mut self, hook: Hook<'_>) {
        for framework in 0..self.frameworks.len() {
            self.hook(framework, hook);
        }
    }

    fn hook(&mut self, framework: usize, hook: Hook<'_>) {
        let Some(hosted) = self.frameworks.get_mut(framework) else {
            return;
        };
        call(
            &mut self.core,
            framework,
            &mut **hosted,
            hook.name(),
            |hosted, cx| hosted.hook(hook, cx),
        );
    }

    /// The stores that this node's frameworks read from now on.
    pub fn set_stores(&mut self, reads: Box<dyn StoreReads>) {
        self.core.stores.reads = Some(reads);
    }

    /// A node asks for a store's primary, which the layout has put here.
    fn open_store(&mut self, event: &EventRef<'_>) {
        let Ok(asked) = event.arguments().to::<OpenStore>() else {
            self.core.counts.events_refused += 1;
            return;
        };
        if let Ok(name) = StoreName::new(&asked.store) {
            self.core.outbox.effects.push(Effect::OpenStore {
                store: name,
                persistent: asked.persistent,
                use_here: false,
                watch: false,
            });
        }
    }

    fn store_answer(&mut self, token: u64, outcome: &Result<Answer, WriteFailure>) {
        let Some((framework, then)) = self.core.stores.writes.take(token) else {
            return;
        };
        let Some(hosted) = self.frameworks.get_mut(framework) else {
            return;
        };
        let outcome = outcome.clone();
        let place = "a store's answer";
        call(
            &mut self.core,
            framework,
            &mut **hosted,
            place,
            |hosted, cx| hosted.resume(then, outcome, cx),
        );
    }

    fn store_changed(&mut self, store: &StoreName, event: &StoreEvent) {
        for change in StoreChange::of(store, event) {
            for framework in self.core.watchers_of(store.as_str()) {
                self.hook(framework, Hook::StoreChanged(&change));
            }
        }
    }

    fn pools_changed(&mut self, changes: &[PoolChange]) {
        for change in changes {
            self.hook_all(Hook::PoolChanged(change));
        }
    }

    fn log_batch(&mut self, event: &EventRef<'_>) {
        let batch = LogBatch::read(event.arguments());
        let Some(batch) = batch.filter(|_| self.core.layout.takes_logs(&self.core.node)) else {
            self.core.counts.events_refused += 1;
            let text = || {
                "refused a batch of log records: malformed, or this node is no logger".to_owned()
            };
            self.core.report(Severity::Warning, "log batch", text);
            return;
        };
        self.core.counts.records_received += batch.len() as u64;
        self.core.outbox.effects.push(Effect::WriteLog(batch));
    }

    fn flush_logs(&mut self, now: Option<Mono>) {
        for stream in self.core.logging.logs.due(now) {
            self.core.flush_log(stream);
        }
    }

    /// Handles what the node addressed to itself, what that leads to included; no more than fits
    /// between two looks at the world, for a handler may answer itself for ever.
    fn run_local(&mut self) {
        for _ in 0..LOCAL_PER_STEP {
            let Some(payload) = self.core.outbox.local.pop_front() else {
                return;
            };
            self.core.counts.events_local += 1;
            self.message(self.core.id, &payload);
        }
    }

    fn timers(&mut self) {
        let now = self.core.clock.now.mono;
        self.hello_to_strangers();
        self.end_contests();
        self.tell_of_indirect_neighbours();
        for owner in self.core.timers.take_mono(now) {
            self.hook(owner.framework, Hook::Timer(owner.token));
        }
        self.event_timers();
        if self
            .core
            .logging
            .logs
            .next_deadline()
            .is_some_and(|at| at <= now)
        {
            self.flush_logs(Some(now));
        }
        self.end_of_grace();
        self.run_local();
    }
}

impl fmt::Debug for NodeLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeLoop")
            .field("core", &self.core)
            .finish_non_exhaustive()
    }
}

/// Lets a framework do something. A panic costs this one call: it is counted and told of, and nothing comes
/// back.
fn call<R>(
    core: &mut NodeCore,
    framework: usize,
    hosted: &mut dyn Hosted,
    place: &str,
    act: impl FnOnce(&mut dyn Hosted, &mut Context<'_>) -> R,
) -> Option<R> {
    let framework_name = hosted.name();
    let mut cx = Context {
        core,
        framework,
        framework_name,
    };
    match catch_unwind(AssertUnwindSafe(|| act(hosted, &mut cx))) {
        Ok(result) => Some(result),
        Err(panic) => {
            panicked(core, framework_name, place, panic.as_ref());
            None
        }
    }
}

fn panicked(core: &mut NodeCore, framework: &str, place: &str, panic: &(dyn std::any::Any + Send)) {
    core.counts.panics += 1;
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let kind = format!("panic in {framework} {place}");
    let text = || format!("framework {framework} panicked in {place}: {message}");
    core.report(Severity::Error, &kind, text);
}
