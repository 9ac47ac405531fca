//! The thread that runs a node's loop.

mod checkpoints;
mod effects;
mod log_input;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use muster_cluster::node::{Input as LoopInput, LogSink, NodeLoop, Now, Reach};
use muster_data::Timestamp;
use muster_wire::counters::DropLedger;
use muster_wire::{EndpointId, Mono, Topic};

use self::checkpoints::Checkpoints;
use super::Input;
use super::input::InputItem;
use super::log_spool::{SpoolNews, SpoolWriter};
use super::log_writer::{LogWriter, Outcome};
use super::pacer::Pacer;
use super::ready::Waiting;
use super::report::LoopReport;
use super::stores::{NodeStores, StoreHappening};
use super::throttle::Throttle;
use crate::clock::since_boot;
use crate::endpoint::{Delivery, Endpoint, Publisher, Status, Subscriber, TryReceiveError};

/// How long the loop rests when nothing happens.
const REST: Duration = Duration::from_millis(100);

/// How long a stopping node takes what its input still sends.
const DRAIN_INPUT: Duration = Duration::from_secs(2);

/// How long a stopping node handles what arrives.
const DRAIN_INBOX: Duration = Duration::from_secs(1);

/// How long a stopping node waits until its records are acknowledged, and a logger until it knows which of them count.
const DRAIN_LOGS: Duration = Duration::from_secs(5);
const DRAIN_VERDICTS: Duration = Duration::from_secs(2);

/// How long a stopping node waits until what is left is in its spool.
const DRAIN_SPOOL: Duration = Duration::from_secs(5);

/// How long a stopping logger waits for its disk.
const DRAIN_FILES: Duration = Duration::from_secs(5);

/// How often a report is made.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Deliveries that are dealt with before the inputs have their turn.
const DELIVERIES: usize = 64;

/// How many answers to pings may wait for the loop.
const PONGS: usize = 64;

/// How long what has arrived waits for stores that answer nothing, or for log files that are not written.
const PATIENCE: Duration = Duration::from_millis(500);

/// An input has to wait while a peer's queue is fuller than one in this many parts.
const BACKLOG_PART: usize = 2;

/// The real clock, from when it was started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Mono);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(since_boot())
    }

    pub(crate) fn now(self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            mono: Mono::default().after(since_boot().since(self.0)),
            wall: Timestamp::from_nanos(i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX)),
        }
    }
}

/// What the driver and the node's handle share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    stop: AtomicBool,
    report: Mutex<Option<LoopReport>>,
}

impl Shared {
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The last report of the loop; `None` before the first.
    pub(crate) fn report(&self) -> Option<LoopReport> {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The state of the loop as it was reported last.
    pub(crate) fn state(&self) -> Option<muster_cluster::node::NodeState> {
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.as_ref().map(|report| report.state)
    }

    fn set_report(&self, report: LoopReport) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What a node reads, and where its records go.
pub(crate) struct Ends {
    pub(crate) input: Option<Input>,
    pub(crate) sink: Box<dyn LogSink>,
    /// The directory of its spool.
    pub(crate) spool: Option<SpoolPlan>,
    pub(crate) stores: NodeStores,
}

/// Where a node's spool is, and how many bytes it may have.
pub(crate) struct SpoolPlan {
    pub(crate) directory: PathBuf,
    pub(crate) limit: u64,
}

pub(crate) struct Driver {
    node: NodeLoop,
    /// What arrives there is for one of several managers.
    manager_topic: Option<Topic>,
    endpoint: Endpoint,
    subscriber: Subscriber,
    publisher: Publisher,
    clock: Clock,
    /// Where records go until the thread that writes them runs, and that thread.
    sink: Option<Box<dyn LogSink>>,
    log_writer: Option<LogWriter>,
    spool: Option<SpoolPlan>,
    spool_writer: Option<SpoolWriter>,
    input: Option<Input>,
    items: Option<Receiver<InputItem>>,
    checkpoints: Checkpoints,
    input_stop: Arc<AtomicBool>,
    shared: Arc<Shared>,
    backlog_limit: usize,
    reported: Option<Instant>,
    input_ended: Option<bool>,
    input_low: Option<i64>,
    /// Messages that no peer subscribed to.
    unrouted: DropLedger,
    pacer: Pacer,
    throttle: Throttle,
    /// The queue of what arrives was closed: nothing is heard any more.
    is_deaf: bool,
    /// Another process of the node's name is alive, and stays.
    must_leave: bool,
    /// Where pings are waited for.
    runtime: tokio::runtime::Handle,
    pongs: (SyncSender<EndpointId>, Receiver<EndpointId>),
    waiting: Waiting,
    stores: NodeStores,
    /// The writes refused for want of memory that the loop has heard of.
    told_refused: u64,
    /// Since when what has arrived waits for the stores or log files, or when they last answered.
    held_since: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(
        node: NodeLoop,
        endpoint: Endpoint,
        subscriber: Subscriber,
        clock: Clock,
        Ends {
            input,
            sink,
            spool,
            stores,
        }: Ends,
        shared: Arc<Shared>,
        waiting: Waiting,
    ) -> Self {
        Self {
            manager_topic: node.manager_topic(),
            node,
            publisher: endpoint.publisher(),
            backlog_limit: endpoint.config().data_queue.messages / BACKLOG_PART,
            endpoint,
            subscriber,
            clock,
            sink: Some(sink),
            log_writer: None,
            spool,
            spool_writer: None,
            input_ended: input.as_ref().map(|_| false),
            input,
            items: None,
            checkpoints: Checkpoints::default(),
            input_stop: Arc::default(),
            shared,
            reported: None,
            input_low: None,
            unrouted: DropLedger::default(),
            pacer: Pacer::default(),
            throttle: Throttle::default(),
            is_deaf: false,
            must_leave: false,
            runtime: tokio::runtime::Handle::current(),
            pongs: sync_channel(PONGS),
            waiting,
            stores,
            told_refused: 0,
            held_since: None,
        }
    }

    /// Runs until the node is stopped, can no longer hear its peers, or has to leave.
    pub(crate) fn run(mut self) {
        self.subscriber
            .set_waker(Waker::from(Arc::new(Unpark(std::thread::current()))));
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        self.stores.inbox().set_waker(waker);
        if let Some(sink) = self.sink.take() {
            let name = self.node.name().to_string();
            match LogWriter::start(&name, sink, std::thread::current()) {
                Ok(writer) => self.log_writer = Some(writer),
                Err(error) => {
                    tracing::error!("cannot start the thread that writes log files: {error}");
                    self.must_leave = true;
                }
            }
        }
        self.start_spool();
        while !self.shared.stop.load(Ordering::Relaxed) {
            let received = !self.is_held_back() && self.receive();
            if self.is_deaf {
                tracing::error!(
                    "the node fell too far behind the changes of its peerings and has to stop"
                );
                break;
            }
            let read = self.read_input();
            while let Ok(peer) = self.pongs.1.try_recv() {
                self.step(LoopInput::Pong(peer));
            }
            self.take_waits();
            let heard = self.hear_stores() | self.hear_log_writer() | self.hear_spool();
            self.step(LoopInput::Tick);
            self.checkpoints.look(&self.node, Instant::now());
            self.tell_lease();
            if self.must_leave {
                break;
            }
            if self.log_writer.as_ref().is_some_and(|it| !it.is_running()) {
                tracing::error!("the thread that writes log files has ended: the node stops");
                break;
            }
            self.report(false);
            if !received && !read && !heard {
                std::thread::park_timeout(self.rest());
            }
        }
        self.drain();
    }

    /// Starts the thread of the spool. Without it the node keeps nothing on disk.
    fn start_spool(&mut self) {
        let Some(SpoolPlan { directory, limit }) = self.spool.take() else {
            return;
        };
        let (name, life) = (self.node.name().to_string(), self.node.id());
        match SpoolWriter::start(directory, &name, life, limit, std::thread::current()) {
            Ok(writer) => {
                self.node.use_spool();
                self.spool_writer = Some(writer);
            }
            Err(error) => tracing::error!("cannot start the thread of the spool: {error}"),
        }
    }

    /// Whether what has arrived waits for the stores or the log files: it would make more writes. Whoever sends it is held back by
    /// its credit meanwhile. A store that answers nothing, or a disk that hangs, holds nobody: then writes end with an error.
    fn is_held_back(&mut self) -> bool {
        let are_logs_behind = self.log_writer.as_ref().is_some_and(LogWriter::is_behind);
        if !self.node.is_behind() && !are_logs_behind {
            self.held_since = None;
            return false;
        }
        let since = *self.held_since.get_or_insert_with(Instant::now);
        since.elapsed() < PATIENCE
    }

    /// Takes up new waits for a quorum, and gives up those that nobody waits for any longer.
    fn take_waits(&mut self) {
        while let Some(token) = self.waiting.given_up() {
            self.step(LoopInput::GiveUpReady { token });
        }
        while let Some((token, quorum, limit)) = self.waiting.take() {
            self.step(LoopInput::AwaitReady {
                token,
                quorum: &quorum,
                limit,
            });
        }
    }

    /// Hands on what has happened in the stores; says whether anything had.
    fn hear_stores(&mut self) -> bool {
        let happenings = self.stores.inbox().take();
        let heard = !happenings.is_empty();
        for happening in &happenings {
            match happening {
                StoreHappening::Answer(token, outcome) => {
                    // It gets on.
                    self.held_since = self.held_since.map(|_| Instant::now());
                    self.step(LoopInput::StoreAnswer {
                        token: *token,
                        outcome,
                    });
                }
                StoreHappening::Opened(store, problem) => self.step(LoopInput::StoreOpened {
                    store,
                    problem: problem.as_deref(),
                }),
                StoreHappening::Changed(store, event) => {
                    self.step(LoopInput::StoreChanged { store, event });
                }
            }
        }
        heard
    }

    /// The loop hears of it as long as the node's stores have no room.
    fn look_at_store_memory(&mut self) {
        let budget = self.stores.budget();
        let refused = budget.refused - self.told_refused;
        if refused > 0 || budget.missing_copies > 0 {
            self.told_refused = budget.refused;
            self.step(LoopInput::StoresFull {
                refused,
                missing_copies: budget.missing_copies,
                limit: budget.limit,
            });
        }
    }

    /// Ends in order: input, inbox, frameworks, log records, files.
    fn drain(&mut self) {
        self.input_stop.store(true, Ordering::Relaxed);
        let started = Instant::now();
        while self.items.is_some() && started.elapsed() < DRAIN_INPUT {
            if !self.read_input() {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        // What has arrived is handled, but whoever goes on sending does not keep the node alive.
        let started = Instant::now();
        self.hear_stores();
        while self.receive() && started.elapsed() < DRAIN_INBOX {}
        self.step(LoopInput::Stop);
        self.wait_for_loggers();
        self.step(LoopInput::End);
        self.close_spool();
        std::mem::take(&mut self.checkpoints).close(&self.node);
        self.close_logs();
        self.report(true);
    }

    /// Waits until the node's records are acknowledged, and a logger until it knows what counts here.
    fn wait_for_loggers(&mut self) {
        let started = Instant::now();
        let is_done = |node: &NodeLoop| {
            let is_decided = node.undecided_batches() == 0 || started.elapsed() >= DRAIN_VERDICTS;
            node.has_shipped() && is_decided
        };
        while !is_done(&self.node) && started.elapsed() < DRAIN_LOGS && !self.is_deaf {
            let received = self.receive();
            let heard = self.hear_log_writer() | self.hear_spool();
            self.hear_stores();
            self.step(LoopInput::Tick);
            if !received && !heard {
                std::thread::park_timeout(self.rest().min(Duration::from_millis(5)));
            }
        }
    }

    /// Waits until what is left is in the spool.
    fn close_spool(&mut self) {
        let started = Instant::now();
        while self.spool_writer.is_some()
            && !self.node.has_spooled()
            && started.elapsed() < DRAIN_SPOOL
        {
            if !self.hear_spool() {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        if let Some(writer) = self.spool_writer.take() {
            let limit = DRAIN_SPOOL.saturating_sub(started.elapsed());
            let mut heard = Vec::new();
            writer.close(limit.max(DRAIN_SPOOL / 5), |news| heard.push(news));
            for news in heard {
                self.spool_news(news);
            }
        }
    }

    fn close_logs(&mut self) {
        let Some(writer) = self.log_writer.take() else {
            return;
        };
        let mut outcomes = Vec::new();
        writer.close(DRAIN_FILES, |outcome| outcomes.push(outcome));
        for outcome in outcomes {
            self.log_written(outcome);
        }
    }

    /// Hands on what has happened in the spool; says whether anything had.
    fn hear_spool(&mut self) -> bool {
        let mut heard = false;
        while let Some(news) = self.spool_writer.as_mut().and_then(SpoolWriter::hear) {
            heard = true;
            self.spool_news(news);
        }
        heard
    }

    fn spool_news(&mut self, news: SpoolNews) {
        match news {
            SpoolNews::Found(left) => self.step(LoopInput::SpoolFound(&left)),
            SpoolNews::Outcome(life, outcome) => self.step(LoopInput::Spool {
                life,
                outcome: &outcome,
            }),
            SpoolNews::Problem(problem) => tracing::error!("{problem}"),
            SpoolNews::Closed => {}
        }
    }

    /// Hands on what has become of records that were to be written; says whether anything had.
    fn hear_log_writer(&mut self) -> bool {
        let mut heard = false;
        while let Some(outcome) = self.log_writer.as_ref().and_then(LogWriter::hear) {
            heard = true;
            self.log_written(outcome);
        }
        heard
    }

    fn log_written(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Written {
                sequence,
                stream,
                records,
                failed,
                gone,
                refusal,
                problem,
            } => {
                // They get on.
                self.held_since = self.held_since.map(|_| Instant::now());
                self.step(LoopInput::Written {
                    sequence,
                    refusal,
                    stream: &stream,
                    records,
                    failed,
                    gone,
                    problem: problem.as_deref(),
                });
                // Of records that cannot be written the loop tells once, and counts.
                if let Some(problem) = problem.filter(|_| failed == 0) {
                    self.throttle
                        .tell(Instant::now(), || tracing::error!("{problem}"));
                }
            }
            Outcome::Struck(records) => self.step(LoopInput::LogsStruck { records }),
            Outcome::Synced(through) => self.step(LoopInput::LogsSynced { through }),
            Outcome::NotSynced(problem) => {
                self.step(LoopInput::LogsNotSynced { problem: &problem });
            }
            Outcome::Problem(problem) => {
                self.throttle
                    .tell(Instant::now(), || tracing::error!("{problem}"));
            }
            Outcome::Closed => {}
        }
    }

    fn rest(&self) -> Duration {
        let now = self.clock.now().mono;
        self.node
            .next_deadline()
            .map_or(REST, |at| at.since(now).min(REST))
    }

    /// The stores know for how long this node may decide alone.
    fn tell_lease(&self) {
        let now = self.clock.now().mono;
        let left = self.node.lease_until().map(|until| until.since(now));
        self.stores.may_decide_for(left);
    }

    fn step(&mut self, input: LoopInput<'_>) {
        let now = self.clock.now();
        self.node.step(input, now);
        self.carry_out();
    }

    /// Deals with what has arrived; says whether anything had.
    fn receive(&mut self) -> bool {
        for received in 0..DELIVERIES {
            match self.subscriber.try_receive() {
                Ok(Delivery::Batch(batch)) => {
                    let now = self.clock.now();
                    for message in batch.iter() {
                        let (from, payload) = (message.from, message.payload);
                        let input = if self.manager_topic.as_ref() == Some(message.topic) {
                            LoopInput::ForManager { from, payload }
                        } else {
                            LoopInput::Message { from, payload }
                        };
                        self.node.step(input, now);
                    }
                    self.carry_out();
                }
                Ok(Delivery::Status(status)) => self.status(&status),
                Err(TryReceiveError::Empty) => return received > 0,
                Err(TryReceiveError::Closed) => {
                    self.is_deaf = true;
                    return received > 0;
                }
            }
        }
        true
    }

    fn status(&mut self, status: &Status) {
        let (id, reach) = match status {
            Status::PeerAdded(peer) => (peer.id, Reach::PeerUp(peer.protocol)),
            Status::PeerLost { peer, .. } | Status::PeerRemoved { peer, .. } => {
                (peer.id, Reach::PeerDown(peer.protocol))
            }
            // Those without a name are no nodes, and need no hello.
            Status::EndpointDiscovered(node) if node.name.is_empty() => return,
            Status::EndpointDiscovered(node) => {
                self.step(LoopInput::Announced(node.id, &node.name));
                (node.id, Reach::Discovered)
            }
            Status::EndpointUnreachable(id) => (*id, Reach::Unreachable),
            Status::PeerUnavailable { .. } => return tracing::debug!("{status}"),
        };
        if let Reach::PeerDown(_) = reach {
            let now = Instant::now();
            self.throttle.tell(now, || tracing::info!("{status}"));
        } else {
            tracing::debug!("{status}");
        }
        self.step(LoopInput::Reach(id, reach));
    }

    fn report(&mut self, last: bool) {
        let due = self.reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY);
        if !due && !last {
            return;
        }
        self.reported = Some(Instant::now());
        self.look_at_store_memory();
        if let Some(writer) = &self.log_writer {
            writer.tick();
        }
        let inbox = self.subscriber.depth();
        let report = LoopReport {
            state: self.node.state(),
            counts: self.node.counts().clone(),
            waiting_records: self.node.waiting_records(),
            inbox: inbox.messages,
            inbox_dropped: inbox.dropped,
            unrouted: self.unrouted.clone(),
            input_ended: self.input_ended,
            input_low: self.input_low,
            troubles: self.node.troubles().cloned().collect(),
            names: self.node.names().clone(),
            detours: self
                .node
                .indirect_neighbours()
                .map(ToString::to_string)
                .collect(),
            coordination: self.node.coordination(),
            active_manager: self.node.active_manager(),
            store_memory: self.stores.budget(),
            made: Instant::now(),
        };
        self.shared.set_report(report);
    }
}
