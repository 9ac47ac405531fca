//! The node loop: frameworks, membership, pools, logs and timers of one node, without I/O.
//!
//! Inputs go in through [`NodeLoop::step`], effects come out through [`NodeLoop::take_effects`]; time is an argument.
//! In a process a thread drives the loop. In tests a simulator does, so that a whole cluster with its frameworks runs
//! from one seed.

mod barrier;
mod building;
mod by_name;
mod contests;
mod context;
mod coordination;
mod counts;
mod dispatch;
mod duties;
mod event;
mod facts;
mod feeds;
mod framework;
mod health;
mod indirect_neighbours;
mod inputs;
mod keyed;
mod log_flushes;
mod log_intake;
mod log_shipping;
mod log_spool;
mod logs;
mod manager_topic;
mod members;
mod node_core;
mod question;
mod reach;
mod registers;
mod requests;
mod shape;
mod stores;
#[cfg(test)]
mod tests;
mod timers;
mod unhandled;
mod waits;
mod zeek_cluster;
mod zeek_logger;
mod zeek_logs;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;

use muster_data::Timestamp;
use muster_store::op::{Answer, StoreEvent};
use muster_store::{StoreName, WriteFailure, WriteOutcome};
use muster_wire::zeek::EventRef;
use muster_wire::{EndpointId, Mono, Topic};

#[cfg(any(test, feature = "simulation"))]
pub use crate::delivery::ModelHome;
pub use crate::delivery::{
    Batch, BatchId, BatchRefusal, FlushEnd, Flushed, LeftBatch, Leftover, LogDelivery, LogNotes,
    LostRecords, Numbers, ProducerRecord, Spool, SpoolHome, SpoolOrder, SpoolOutcome, SpoolPlace,
    StreamHead,
};
#[cfg(any(test, feature = "simulation"))]
pub use crate::keyed::KeyedSabotage;
#[cfg(any(test, feature = "simulation"))]
pub use crate::requests::RequestSabotage;
pub use crate::requests::{RequestError, RequestErrorKind};
pub use by_name::ByName;
pub use context::{Context, PublishError};
pub use coordination::{CoordinationReport, StoreAuthority};
pub use counts::{CounterSpec, FrameworkCount, NodeCounts};
pub use event::Event;
pub use facts::{Effect, Input, LogSink, NodeError, Report, Severity, Written};
pub use feeds::FeedContext;
pub use framework::{Declarations, Framework, NodeLife, Registry, Site};
pub use health::{Trouble, TroubleCause};
pub use keyed::{KeyedContext, KeyedError, KeyedTable, Published};
pub use log_flushes::{LogFlush, LogMark};
pub use logs::{Column, LogBatch, StreamError};
pub use muster_store::Now;
pub use question::Question;
pub use reach::{NodeState, Reach};
pub use registers::{RegisterChange, RegisterContext, SettingChange};
pub use requests::{Among, Gathered, Request, Scatter, To};
pub use stores::{
    NeedStore, OpenStore, PendingWrite, SharedStore, StoreChange, StoreContext, StoreFacts,
    StoreNeed, StoreReads, StoreState, StoreVerdict, WriteError, copy_config,
    placement_by_coordinators, primary_config,
};

use self::contests::Contest;
use self::coordination::Coordination;
use self::dispatch::{HandlerRef, call};
use self::feeds::Followers;
use self::indirect_neighbours::IndirectNeighbours;
use self::inputs::WaitingLow;
use self::log_intake::LogIntake;
use self::node_core::NodeCore;
use self::reach::{Missing, Ways};
use self::stores::Continuation;
use crate::layout::NodeName;
use crate::membership::Membership;
use crate::pools::{PoolChange, Pools};
use crate::watermark::Watermarks;
use framework::{Hook, Hosted};

/// The name of the event that asks a node for its peers.
pub const PEERS_REQUEST: &str = "Muster::peers_request";

/// The loop of one node.
#[allow(
    clippy::struct_excessive_bools,
    reason = "five steps that a node takes once, in any order"
)]
pub struct NodeLoop {
    core: NodeCore,
    frameworks: Vec<Box<dyn Hosted>>,
    handlers: HashMap<String, Vec<HandlerRef>>,
    /// Who answers a question, by its name.
    answerers: HashMap<&'static str, HandlerRef>,
    neighbours: Vec<NodeName>,
    /// Until when the node waits for its neighbours, and for inputs that have never been seen.
    start_deadline: Mono,
    inputs_started: bool,
    said_ready: bool,
    /// The living nodes that have said that they are ready.
    ready: HashSet<NodeName>,
    released: bool,
    announced: BTreeMap<String, Timestamp>,
    /// What inputs have reached, and is not announced yet.
    waiting_lows: VecDeque<WaitingLow>,
    /// When a lost input's hold on the watermark ends.
    grace: Vec<(Mono, NodeName)>,
    stopping: bool,
    /// All neighbours were up at some time.
    was_ready: bool,
    ways: Ways,
    /// New endpoints that are out of reach for a moment.
    missing: Missing,
    /// The nodes that are up, and former ones.
    names: BTreeMap<EndpointId, String>,
    /// Peers that have not said who they are: when to say hello again, and how often.
    strangers: BTreeMap<EndpointId, (Mono, u32)>,
    /// When a repeated hello of a peer was answered last.
    answered: BTreeMap<EndpointId, Mono>,
    /// The newcomers under names of living nodes.
    contests: Vec<Contest>,
    indirect_neighbours: IndirectNeighbours,
    /// What this node, a logger, has of the records of others.
    log_intake: LogIntake,
    /// Whether it acknowledges what is safe on its disk, and not what is written.
    waits_for_sync: bool,
    /// Another process of this node's name is alive, and this one has been told to leave.
    is_leaving: bool,
    /// What it has of the coordinators, if the layout has any.
    coordination: Option<Coordination>,
    /// The feeds that its frameworks follow.
    followers: Followers,
}

impl NodeLoop {
    /// The topic prefixes that the node's endpoint subscribes to, before it listens or dials.
    pub fn subscriptions(&self) -> &[Topic] {
        &self.core.outbox.subscriptions
    }

    /// The node's name.
    pub fn name(&self) -> &NodeName {
        &self.core.node.name
    }

    /// The endpoint id of its life.
    pub fn id(&self) -> EndpointId {
        self.core.id
    }

    /// The table of who is alive.
    pub fn membership(&self) -> &Membership {
        &self.core.members.membership
    }

    /// The pools, with their living members.
    pub fn pools(&self) -> &Pools {
        &self.core.members.pools
    }

    /// What the node counts.
    pub fn counts(&self) -> &NodeCounts {
        &self.core.counts
    }

    /// Returns what the node fails at, at present.
    pub fn troubles(&self) -> impl Iterator<Item = &Trouble> {
        self.core.health.troubles()
    }

    /// Returns the number of log records that are open: they wait for their batch or for a logger, or no logger has
    /// acknowledged them yet.
    pub fn waiting_records(&self) -> usize {
        let logging = &self.core.logging;
        logging.logs.waiting() + logging.shipping.records() + self.core.keyed.records()
    }

    /// Returns `true` if no log record is open, or no logger is there to take it, and no event for the owner of a key is. A node that
    /// stops waits for it for a while.
    pub fn has_shipped(&self) -> bool {
        self.core.logging.shipping.is_done() && self.core.keyed.is_done()
    }

    /// Returns `true` if its spool has done all that the node has asked for. A node that ends waits for it for a while.
    pub fn has_spooled(&self) -> bool {
        self.core.logging.shipping.shipper.is_spool_done()
    }

    /// Returns `true` if so many log records are open that whoever makes more should wait: 32 MiB.
    pub fn has_many_records(&self) -> bool {
        self.core.logging.shipping.is_behind()
    }

    /// Returns `true` if every node that this one is linked with by the layout is up, even if some can only be reached
    /// through others at present: see [`indirect_neighbours`](Self::indirect_neighbours).
    pub fn has_all_neighbours(&self) -> bool {
        self.neighbours.iter().all(|name| self.core.is_alive(name))
    }

    /// Takes the effects that the node wants done, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.core.outbox.effects)
    }

    /// Returns when [`Input::Tick`] is due if nothing else happens, or `None` if it is not.
    pub fn next_deadline(&self) -> Option<Mono> {
        let waiting = !self.released || (!self.inputs_started && !self.stopping);
        let event_time_due = self
            .core
            .windows
            .closed
            .is_some_and(|closed| self.core.timers.is_event_time_due(closed));
        let due = event_time_due
            || !self.core.outbox.local.is_empty()
            || self.core.stores.writes.has_refused()
            || self.core.logging.shipping.shipper.flushes.has_ended();
        [
            due.then_some(self.core.clock.now.mono),
            self.core.timers.next_deadline(),
            self.core.logging.logs.next_deadline(),
            waiting.then_some(self.start_deadline),
            self.grace.iter().map(|(at, _)| *at).min(),
            self.strangers.values().map(|(at, _)| *at).min(),
            self.next_contest(),
            self.indirect_neighbours.next_deadline(),
            self.core.logging.shipping.next_deadline(),
            self.next_look_at_batches(),
            self.core.health.next_deadline(),
            self.missing.next_deadline(),
            self.next_renewal(),
            self.core.registers.next_deadline(),
            self.core.waits.next_deadline(self.core.clock.now.mono),
            self.core.requests.next_deadline(self.core.clock.now.mono),
            self.core.keyed.next_deadline(self.core.clock.now.mono),
            self.core.manager_topic.next_deadline(),
            self.core.sources.next_deadline(self.core.clock.now.mono),
            self.followers.next_deadline(self.core.clock.now.mono),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Handles one input, and every timer that is due.
    pub fn step(&mut self, input: Input<'_>, now: Now) {
        self.core.clock.now = now;
        self.turn();
        self.look_at_lease_of_keys();
        match input {
            Input::Message { from, payload } => {
                self.core.counts.events_in += 1;
                self.message(from, payload);
            }
            Input::ForManager { from, payload } => {
                self.core.counts.events_in += 1;
                self.for_manager(from, payload);
            }
            Input::Raise(payload) => {
                self.core.counts.events_local += 1;
                self.message(self.core.id, payload);
            }
            Input::Reach(id, reach) => self.reach_changed(id, reach),
            Input::Announced(id, name) => {
                let events = self.core.members.membership.announced(id, name);
                self.membership_events(events);
            }
            Input::Pong(id) => self.pong(id),
            Input::InputLow { input, low } => self.input_low(input, low),
            Input::InputEnd { input } => self.input_low(input, Watermarks::END),
            Input::Written {
                sequence,
                refusal,
                stream,
                records,
                failed,
                gone,
                problem,
            } => {
                let counts = &mut self.core.counts;
                counts.records_written += records;
                // What somebody waits for goes to another logger.
                if !self.log_intake.is_waited_for(sequence) {
                    counts.records_failed.add_many(stream, failed);
                }
                counts.records_removed.add_many(stream, gone);
                let cause = TroubleCause::Log(stream.to_owned());
                if failed > 0 {
                    let problem = problem.unwrap_or("its records cannot be written");
                    self.core.fails(cause, failed, problem.to_owned());
                } else {
                    self.core.mends(&cause);
                }
                self.batch_written(sequence, refusal, problem);
            }
            Input::NotTaken { sequence } => self.batch_not_taken(sequence),
            Input::LogsSynced { through } => self.logs_synced(through),
            Input::LogsStruck { records } => self.core.counts.records_struck += records,
            Input::LogsNotSynced { problem } => self.logs_not_synced(problem),
            Input::SpoolFound(left) => self.core.spool_found(left),
            Input::Spool { life, outcome } => self.core.spool_says(life, outcome),
            Input::StoreOpened { store, problem } => {
                let cause = TroubleCause::Store(store.clone());
                match problem {
                    Some(problem) => self.core.fails(cause, 1, problem.to_owned()),
                    None => self.core.mends(&cause),
                }
            }
            Input::StoresFull {
                refused,
                missing_copies,
                limit,
            } => {
                let what = match (refused, missing_copies) {
                    (_, 0) => "writes are refused".to_owned(),
                    (0, missing) => format!("{missing} stores have no copy here"),
                    (_, missing) => {
                        format!("writes are refused, and {missing} stores have no copy here")
                    }
                };
                let text = format!(
                    "`stores.node_memory_limit`, {limit} bytes for all stores of this node, is reached: {what}"
                );
                self.core.fails(TroubleCause::StoreMemory, refused, text);
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
                self.leave_coordinators();
                self.end_waits();
                self.core.end_requests();
                self.tell_ended();
                self.hook_all(Hook::Done);
                self.run_local();
                self.core.ship_gathered();
                self.core.hurry_verdicts();
            }
            // No logger has taken what is left.
            Input::End => {
                self.core.ship_gathered();
                self.core.end_batches();
            }
        }
        self.run_local();
        self.look_at_waits();
        self.look_at_register();
        self.timers();
        self.tell_readiness();
        self.start_inputs();
    }

    /// Returns `true` if so many writes to stores wait for their outcome that whoever feeds the node should wait: 32,768.
    pub fn is_behind(&self) -> bool {
        self.core.stores.writes.are_many()
    }

    /// Returns `true` if so many events for the owners of keys are open that whoever makes more should wait: 32,768, or 32 MiB. What
    /// arrives must not wait: the word of the owners is among it.
    pub fn has_many_keyed_events(&self) -> bool {
        self.core.keyed.is_behind()
    }

    /// Sets the stores that this node's frameworks read from now on.
    pub fn set_stores(&mut self, reads: Box<dyn StoreReads>) {
        self.core.stores.reads = Some(reads);
    }

    /// A node asks for a store's primary, which the layout has put here.
    fn open_store(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let asked = event.arguments().to::<OpenStore>().ok();
        let asked = asked.and_then(|asked| Some((StoreName::new(&asked.store).ok()?, asked)));
        let Some((name, asked)) = asked else {
            self.core.counts.events_refused += 1;
            return;
        };
        self.core.outbox.effects.push(Effect::OpenStore {
            store: name,
            persistent: asked.persistent,
            use_here: false,
            watch: false,
        });
    }

    fn store_answer(&mut self, token: u64, outcome: &Result<Answer, WriteFailure>) {
        self.register_answered(token);
        if let Some((framework, then)) = self.core.stores.writes.take(token) {
            self.resume(framework, then, outcome.clone());
        }
    }

    /// Tells a framework what became of its write.
    fn resume(&mut self, framework: usize, then: Continuation, outcome: WriteOutcome) {
        let Some(hosted) = self.frameworks.get_mut(framework) else {
            return;
        };
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
        self.register_store_changed(store);
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

    fn ship_due(&mut self, now: Mono) {
        for stream in self.core.logging.logs.due(Some(now)) {
            self.core.ship(stream);
        }
    }

    fn timers(&mut self) {
        let now = self.core.clock.now.mono;
        self.hello_to_strangers();
        self.end_contests();
        self.tell_of_indirect_neighbours();
        self.core.ship_on();
        self.core.look_at_requests();
        self.look_at_feeds();
        self.look_at_batches();
        self.core.end_troubles();
        self.give_up_missing();
        self.renew();
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
            self.ship_due(now);
        }
        self.end_of_grace();
        self.run_local();
        // What comes of it may be an event for a key of this node.
        self.look_at_keyed();
        self.look_at_manager_topic();
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
