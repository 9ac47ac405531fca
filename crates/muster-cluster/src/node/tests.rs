//! Tests of the node loop: one node, its inputs by hand, its effects looked at.

#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "a handler is a method that takes its event by value"
)]

mod barrier;
mod control_events;
mod coordination;
mod feeds;
mod indirect_neighbours;
mod keyed;
mod layouts;
mod lease_trouble;
mod log_flushes;
mod log_spool;
mod logging;
mod needs;
mod reach;
mod registers;
mod renewals;
mod requests;
mod stores;
mod time;
mod unhandled;
mod zeek_logger;
mod zeek_logs;

use std::sync::Arc;
use std::time::Duration;

use muster_data::{Data, DataRef, Encode, Record, encode_to_vec};
use muster_wire::Incarnation;
use muster_wire::peering::Protocol as Version;
use muster_wire::zeek::{self, Message, Metadata};

use bytes::Bytes;

use super::contests::Leave;
use super::inputs::{LowWatermark, Ready};
use super::members::Hello;
use super::*;
use crate::delivery::messages::{
    LogAck, LogRefused, LogSettle, LogSettled, LogVerdict, LoggerState,
};
use crate::hrw::Key;
use crate::layout::{Layout, PoolName, Role};
use crate::readiness::{Quorum, ReadyError};

const LAYOUT: &str = r#"
    [logging]
    batch_size = 3
    batch_interval = "1s"
    [watermark]
    allowance = "10s"
    [[node]]
    name = "manager"
    role = "manager"
    [[node]]
    name = "logger"
    role = "logger"
    count = 2
    [[node]]
    name = "data"
    role = "data"
    count = 2
    [[node]]
    name = "worker"
    role = "worker"
    count = 2
    input = ["conn.log"]
"#;

/// What a test tells the [`Actor`] to do.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Test::act")]
struct Act {
    what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Test::row")]
struct Row {
    number: u64,
    text: Option<String>,
}

/// Says what it sees, and does what it is told.
struct Actor;

impl Framework for Actor {
    const NAME: &'static str = "actor";

    fn create(_site: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::act);
        declarations.on(Self::row);
        declarations.stream::<Row>("rows");
        declarations.subscribe(Topic::new("test/").unwrap());
    }

    fn init(&mut self, cx: &mut Context<'_>) {
        say(cx, "init");
    }

    fn done(&mut self, cx: &mut Context<'_>) {
        say(cx, "done");
        cx.log("rows", &row(99)).unwrap();
    }

    fn node_up(&mut self, node: &NodeLife, cx: &mut Context<'_>) {
        say(cx, &format!("up {}", node.name));
    }

    fn node_down(&mut self, node: &NodeLife, cx: &mut Context<'_>) {
        say(cx, &format!("down {}", node.name));
    }

    fn pool_changed(&mut self, change: &PoolChange, cx: &mut Context<'_>) {
        let sign = if change.up { '+' } else { '-' };
        say(cx, &format!("pool {} {sign}{}", change.pool, change.node));
    }

    fn ready(&mut self, token: u64, outcome: &Result<(), ReadyError>, cx: &mut Context<'_>) {
        say(cx, &format!("ready {token} {outcome:?}"));
    }

    fn timer(&mut self, token: u64, cx: &mut Context<'_>) {
        say(cx, &format!("timer {token}"));
        if token == 7 {
            cx.schedule_mono(Duration::ZERO, 7);
        }
    }

    fn watermark(&mut self, closed: Timestamp, cx: &mut Context<'_>) {
        let closed = (closed < Watermarks::END).then(|| closed.as_nanos() / 1_000_000_000);
        say(cx, &format!("closed {closed:?}"));
    }
}

impl Actor {
    fn act(&mut self, act: Act, cx: &mut Context<'_>) {
        let (verb, rest) = act.what.split_once(' ').unwrap_or((&act.what, ""));
        let number = || rest.parse().unwrap();
        match verb {
            "count" => cx.count("misspelt", 1),
            "panic" => panic!("as told"),
            "say" => say(cx, rest),
            "publish" => cx.publish(&Topic::new(rest).unwrap(), &row(1)).unwrap(),
            "log" => (0..number()).for_each(|n| cx.log("rows", &row(n)).unwrap()),
            "in" => cx.schedule_mono(Duration::from_secs(number()), number()),
            "at" => {
                let at = i64::try_from(number()).unwrap();
                cx.schedule_event_time(Timestamp::from_secs(at), number());
            }
            "await_loggers" => {
                let quorum = Quorum::OfRole(Role::Logger, 1);
                let limit = Duration::from_secs(5);
                cx.await_ready(&quorum, limit, number()).unwrap();
            }
            "cancel" => cx.cancel(number()),
            "dynamic" => {
                let topic = cx.topic_for_manager();
                let arguments = match rest {
                    "right" => vec![Data::from(1u64), Data::from("x")],
                    "short" => vec![Data::from(1u64)],
                    "long" => vec![Data::from(1u64), Data::None, Data::None],
                    _ => vec![Data::from("x")],
                };
                let name = if rest == "undeclared" {
                    "No::such"
                } else {
                    Row::NAME
                };
                match cx.publish_dynamic(&topic, name, &arguments) {
                    Ok(()) => say(cx, "published"),
                    Err(error) => say(cx, &error.to_string()),
                }
            }
            "log_dynamic" => {
                let error = cx.log_dynamic("rows", &Data::vector([Data::from("x")]));
                say(cx, &error.unwrap_err().to_string());
                let error = cx.log("nowhere", &row(1));
                say(cx, &error.unwrap_err().to_string());
                let error = cx.log("rows", &act);
                say(cx, &error.unwrap_err().to_string());
            }
            _ => panic!("unknown: {verb}"),
        }
    }

    fn row(&mut self, row: Row, cx: &mut Context<'_>) {
        let at = cx.event_time().map(|at| at.as_nanos() / 1_000_000_000);
        say(cx, &format!("row {} at {at:?}", row.number));
    }
}

fn row(number: u64) -> Row {
    Row { number, text: None }
}

fn say(cx: &mut Context<'_>, text: &str) {
    cx.report(Severity::Info, text);
}

/// A node loop, the time, and what came out of it so far.
struct Rig {
    node: NodeLoop,
    now: Now,
    said: Vec<String>,
    published: Vec<(String, Bytes)>,
    batches: Vec<LogBatch>,
    /// The last that the files were handed.
    handed: u64,
    /// Its files write and sync by themselves.
    has_files: bool,
    input_starts: usize,
    /// What its spool was asked for.
    orders: Vec<(EndpointId, SpoolOrder)>,
}

impl Rig {
    fn new(name: &str) -> Self {
        Self::with(name, &Registry::new().with::<Actor>()).unwrap()
    }

    fn with(name: &str, registry: &Registry) -> Result<Self, NodeError> {
        Self::of(LAYOUT, name, registry)
    }

    fn of(layout: &str, name: &str, registry: &Registry) -> Result<Self, NodeError> {
        Self::in_life(0, layout, name, registry)
    }

    fn in_life(
        number: u8,
        layout: &str,
        name: &str,
        registry: &Registry,
    ) -> Result<Self, NodeError> {
        let layout = Layout::parse(layout, "test", &registry.settings()).unwrap();
        let now = Now {
            mono: Mono(0),
            wall: Timestamp::from_secs(1_000),
        };
        let node = NodeLoop::new(
            &Arc::new(layout),
            name,
            registry,
            id(number),
            Incarnation(1),
            now,
        )?;
        let mut this = Self {
            node,
            now,
            said: Vec::new(),
            published: Vec::new(),
            batches: Vec::new(),
            handed: 0,
            has_files: true,
            input_starts: 0,
            orders: Vec::new(),
        };
        this.collect();
        Ok(this)
    }

    fn step(&mut self, input: Input<'_>) {
        self.node.step(input, self.now);
        self.collect();
    }

    fn collect(&mut self) {
        let (mut written, mut synced) = (Vec::new(), None);
        for effect in self.node.take_effects() {
            match effect {
                Effect::Publish { topic, payload, .. } => {
                    self.published.push((topic.to_string(), payload));
                }
                Effect::WriteLog {
                    batch, sequence, ..
                } => {
                    written.push((sequence, batch.stream.clone(), batch.len() as u64));
                    self.batches.push(batch);
                    self.handed = sequence;
                    synced = Some(sequence);
                }
                Effect::NoteLogs { notes, sequence } => {
                    self.handed = sequence;
                    synced = Some(sequence);
                    if notes.is_none() {
                        self.said.push("try to write".to_owned());
                    }
                }
                Effect::Spool { life, order } => self.orders.push((life, order)),
                Effect::StartInputs => self.input_starts += 1,
                Effect::Report(report) => self.said.push(report.text.replace("actor: ", "")),
                Effect::Ping(id) => self.said.push(format!("ping {id}")),
                Effect::Fence(life) => self.said.push(format!("fence {life}")),
                Effect::Unfence(life) => self.said.push(format!("unfence {life}")),
                Effect::StoresGoBy(by) => self.said.push(format!("stores go by {by:?}")),
                Effect::StoreGroups(groups) => {
                    let groups = groups.iter();
                    let groups = groups.map(|(store, it)| format!("{store}@{}", it.changed));
                    let groups: Vec<_> = groups.collect();
                    self.said.push(format!("stores {}", groups.join(" ")));
                }
                Effect::Leave => self.said.push("leave".to_owned()),
                Effect::Ready { token, outcome } => self.said.push(match outcome {
                    Ok(()) => format!("wait {token}: ready"),
                    Err(error) => format!("wait {token}: {error}"),
                }),
                Effect::OpenStore { store, .. } => self.said.push(format!("open {store}")),
                Effect::NeedStore { store, need, asker } => {
                    self.said.push(format!("{asker} needs {store}: {need:?}"));
                }
                Effect::WriteStore { store, .. } => self.said.push(format!("write to {store}")),
                Effect::DescribePeers(_) => {}
            }
        }
        if !self.has_files {
            return;
        }
        for (sequence, stream, records) in written {
            self.step(Input::Written {
                sequence,
                refusal: None,
                stream: &stream,
                records,
                failed: 0,
                gone: 0,
                problem: None,
            });
        }
        if let Some(through) = synced {
            self.step(Input::LogsSynced { through });
        }
    }

    /// Lets time pass as a driver would, from deadline to deadline.
    fn pass(&mut self, span: Duration) {
        let end = self.now.mono.after(span);
        while let Some(at) = self.node.next_deadline().filter(|at| *at <= end) {
            self.now.mono = at.max(Mono(self.now.mono.0 + 1));
            self.step(Input::Tick);
        }
        self.now.mono = end;
        self.step(Input::Tick);
    }

    fn act(&mut self, what: &str) {
        self.act_as(0, what);
    }

    /// As [`act`](Self::act), in the life of this number.
    fn act_as(&mut self, number: u8, what: &str) {
        let what = what.to_owned();
        self.receive(number, &Act { what });
    }

    /// A typed event of the peer `from`, at 5 s of event time.
    fn receive<E: Event>(&mut self, from: u8, event: &E) {
        let at = Some(Timestamp::from_secs(5));
        let payload = encoded(E::NAME, at, None, event);
        self.step(Input::Message {
            from: id(from),
            payload: &payload,
        });
    }

    /// A peer comes up as a node, in the life of its number.
    fn up(&mut self, name: &str, number: u8) {
        self.step(Input::Reach(id(number), Reach::PeerUp(Version::V1)));
        self.hello(name, number);
    }

    /// A logger comes up, and says that it takes records.
    fn logger_up(&mut self, name: &str, number: u8) {
        self.up(name, number);
        self.receive(number, &LoggerState { problem: None });
    }

    fn hello(&mut self, name: &str, number: u8) {
        let hello = Hello {
            name: name.to_owned(),
            id: id(number).to_string(),
        };
        let payload = encoded(Hello::NAME, None, Some(number.into()), &hello);
        self.step(Input::Message {
            from: id(number),
            payload: &payload,
        });
    }

    fn watermark(&mut self, from: u8, input: &str, seconds: i64) {
        let low = LowWatermark {
            input: input.to_owned(),
            low: Timestamp::from_secs(seconds),
            incarnation: from.into(),
        };
        self.receive(from, &low);
    }

    /// What was said since the last time.
    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// Topic and event name of what was published since the last time.
    fn published(&mut self) -> Vec<String> {
        std::mem::take(&mut self.published)
            .iter()
            .map(|(topic, payload)| {
                let event = EventRef::read(DataRef::from_validated(payload)).unwrap();
                format!("{} to {topic}", event.name())
            })
            .collect()
    }
}

fn id(number: u8) -> EndpointId {
    EndpointId::from_random([number + 1; 16])
}

fn encoded(
    name: &str,
    at: Option<Timestamp>,
    life: Option<u64>,
    arguments: &impl Encode,
) -> Vec<u8> {
    let mut out = Vec::new();
    let metadata = Metadata {
        features: None,
        fingerprint: None,
        timestamp: at,
        incarnation: life,
    };
    zeek::put_event(&mut out, name, metadata, |out| arguments.encode(out));
    out
}

const NOTHING: [&str; 0] = [];

#[test]
fn nodes_come_up_by_hello_and_pools_follow() {
    let mut rig = Rig::new("worker-1");
    assert_eq!(rig.said(), ["init"]);
    rig.step(Input::Reach(id(1), Reach::PeerUp(Version::V1)));
    let topic = format!("zeek/cluster/nodeid/{}/", id(1));
    assert_eq!(rig.published(), [format!("Cluster::hello to {topic}")]);
    assert_eq!(rig.said(), NOTHING, "a peer is no node before its hello");
    rig.hello("data-1", 1);
    assert_eq!(
        rig.said(),
        ["node up: data-1", "up data-1", "pool proxy +data-1"]
    );
    // A hello may come before the peering, and repeats change nothing.
    rig.hello("data-2", 2);
    assert_eq!(rig.said(), NOTHING);
    rig.step(Input::Reach(id(2), Reach::PeerUp(Version::V1)));
    rig.hello("data-2", 2);
    assert_eq!(rig.said()[..2], ["node up: data-2", "up data-2"]);

    let owner = |rig: &Rig, key: u64| {
        let owner = rig.node.pools().owner(&PoolName::proxy(), &Key::from(key));
        owner.unwrap().to_string()
    };
    let key = (0..100).find(|key| owner(&rig, *key) == "data-1").unwrap();
    rig.step(Input::Reach(id(1), Reach::PeerDown(Version::V1)));
    assert_eq!(
        rig.said(),
        ["node down: data-1", "down data-1", "pool proxy -data-1"]
    );
    assert_eq!(owner(&rig, key), "data-2");
}

/// A hello may be lost where a queue was full: it is said again to who stays a stranger, and who hears
/// it twice answers with its own.
#[test]
fn a_lost_hello_is_made_up_for() {
    let mut rig = Rig::new("data-1");
    let hello = |number| format!("Cluster::hello to zeek/cluster/nodeid/{}/", id(number));
    rig.step(Input::Reach(id(1), Reach::PeerUp(Version::V1)));
    assert_eq!(rig.published(), [hello(1)]);
    rig.pass(Duration::from_millis(2_999));
    assert_eq!(rig.published(), NOTHING);
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.published(), [hello(1)]);
    // A peer that is no node is left alone in the end.
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.published().len(), 9);

    rig.up("worker-1", 2);
    rig.published();
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.published(), NOTHING);
    rig.hello("worker-1", 2);
    assert_eq!(rig.published(), [hello(2)]);
    // Two nodes that answer one another do not go on for ever.
    rig.hello("worker-1", 2);
    assert_eq!(rig.published(), NOTHING);
}

#[test]
fn a_new_life_ends_the_old_one_first() {
    let mut rig = Rig::new("worker-1");
    rig.up("manager", 3);
    rig.said();
    rig.up("manager", 4);
    // The old life may still live: it is asked first.
    assert_eq!(rig.said(), [format!("ping {}", id(3))]);
    rig.pass(Duration::from_millis(999));
    assert_eq!(rig.said(), NOTHING);
    rig.pass(Duration::from_millis(1));
    let told = ["down manager", "up manager"];
    let said = rig.said();
    assert!(
        said.iter()
            .filter(|text| told.contains(&text.as_str()))
            .eq(told.iter()),
        "{said:?}"
    );
    rig.step(Input::Reach(id(3), Reach::PeerDown(Version::V1)));
    assert_eq!(rig.said(), NOTHING, "the old life was down already");
    rig.up("worker-9", 5);
    rig.up("worker-1", 6);
    let refused = rig.said();
    assert_eq!(refused.len(), 2);
    assert!(
        refused
            .iter()
            .all(|text| text.starts_with("refused the hello"))
    );
}

fn leaves(rig: &mut Rig) -> Vec<(String, Leave)> {
    let published = std::mem::take(&mut rig.published).into_iter();
    let leaves = published.filter_map(|(topic, payload)| {
        let event = EventRef::read(DataRef::from_validated(&payload)).ok()?;
        let leave = event.arguments().to::<Leave>().ok()?;
        (event.name() == Leave::NAME).then_some((topic, leave))
    });
    leaves.collect()
}

#[test]
fn of_two_processes_with_one_name_the_second_is_told_to_leave() {
    let mut rig = Rig::new("worker-1");
    rig.up("manager", 3);
    rig.up("manager", 4);
    rig.said();
    rig.published.clear();
    rig.step(Input::Pong(id(3)));
    let said = rig.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("the node is alive at another endpoint"),
        "{said:?}"
    );
    let leave = Leave {
        name: "manager".to_owned(),
        id: id(4).to_string(),
        other: id(3).to_string(),
    };
    let topic = format!("zeek/cluster/nodeid/{}/", id(4));
    assert_eq!(leaves(&mut rig), [(topic, leave)]);
    // The one that is there has never been down.
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.said(), NOTHING);
    assert_eq!(
        rig.node.membership().name_of(id(3)).unwrap().as_str(),
        "manager"
    );
}

/// A contest that ended by itself once ended the next one of the same name before its time.
#[test]
fn each_contest_has_its_own_second() {
    let mut rig = Rig::new("worker-1");
    rig.up("manager", 3);
    rig.up("manager", 4);
    rig.pass(Duration::from_millis(900));
    // The old life is gone: the newcomer is up, and another one comes.
    rig.step(Input::Reach(id(3), Reach::PeerDown(Version::V1)));
    rig.up("manager", 5);
    rig.said();
    rig.published.clear();
    rig.pass(Duration::from_millis(500));
    assert_eq!(rig.said(), NOTHING);
    assert_eq!(leaves(&mut rig), []);
    rig.step(Input::Pong(id(4)));
    let leaves = leaves(&mut rig);
    assert_eq!(leaves.len(), 1);
    assert_eq!(leaves[0].1.id, id(5).to_string());
}

#[test]
fn one_that_was_only_frozen_is_told_to_leave_when_another_has_its_place() {
    let mut rig = Rig::new("worker-1");
    rig.up("manager", 3);
    rig.up("manager", 4);
    rig.published.clear();
    rig.pass(Duration::from_secs(1));
    let leaves = leaves(&mut rig);
    assert_eq!(leaves.len(), 1);
    assert_eq!(leaves[0].1.id, id(3).to_string());
}

#[test]
fn a_node_leaves_when_a_member_says_so() {
    let mut rig = Rig::new("worker-1");
    rig.up("manager", 3);
    rig.said();
    let leave = |name: &str, number: u8| Leave {
        name: name.to_owned(),
        id: id(number).to_string(),
        other: id(9).to_string(),
    };
    // Not from strangers, and not for others.
    rig.step(Input::Reach(id(5), Reach::PeerUp(Version::V1)));
    rig.pass(Duration::from_secs(6));
    rig.said();
    rig.receive(5, &leave("worker-1", 0));
    assert!(rig.said()[0].starts_with("refused Muster::leave"));
    rig.receive(3, &leave("worker-2", 0));
    rig.receive(3, &leave("worker-1", 7));
    assert_eq!(rig.said(), NOTHING);
    rig.receive(3, &leave("worker-1", 0));
    rig.receive(3, &leave("worker-1", 0));
    let said = rig.said();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("manager says that another process of the node worker-1"),
        "{said:?}"
    );
    assert_eq!(said[1], "leave");
}

#[test]
fn a_node_hears_what_is_addressed_to_it() {
    let mut rig = Rig::new("manager");
    rig.said();
    rig.act("publish zeek/cluster/node/manager/");
    assert_eq!(rig.said(), ["row 1 at Some(5)"]);
    assert_eq!(rig.published(), NOTHING, "nobody else subscribes to it");
    rig.act("publish zeek/cluster/manager");
    rig.act("publish test/x");
    let said = rig.said();
    assert!(said.iter().all(|text| text.starts_with("row 1 at Some(5)")) && said.len() == 2);
    let published = rig.published();
    assert_eq!(
        published,
        ["Test::row to zeek/cluster/manager", "Test::row to test/x"]
    );
    rig.act("publish zeek/cluster/worker");
    assert_eq!(rig.said(), NOTHING);
    assert_eq!(rig.node.counts().events_local, 3);
}

#[test]
fn wrong_arguments_are_refused_where_they_are_published() {
    let mut rig = Rig::new("worker-1");
    rig.said();
    for (what, said) in [
        ("right", "published"),
        ("short", "published"),
        ("long", "event `Test::row`: takes 2 arguments, 3 given"),
        (
            "wrong",
            "event `Test::row`: Test::row.number: expected count, found string \"x\"",
        ),
        ("undeclared", "event `No::such` is not declared"),
    ] {
        rig.act(&format!("dynamic {what}"));
        assert_eq!(rig.said(), [said], "{what}");
    }
    assert_eq!(rig.published().len(), 2);
    rig.act("log_dynamic");
    let said = rig.said();
    assert!(
        said[0].contains("Test::row.number: expected count"),
        "{said:?}"
    );
    assert_eq!(said[1], "stream `nowhere` is not declared");
    assert!(said[2].contains("declared as record Test::row, written as record Test::act"));
}

#[test]
fn a_panic_costs_one_event_of_one_framework() {
    let registry = Registry::new().with::<Actor>().with::<Witness>();
    let mut rig = Rig::with("worker-1", &registry).unwrap();
    rig.said();
    for _ in 0..5 {
        rig.act("panic");
    }
    let said = rig.said();
    assert_eq!(said[0], "witness: first");
    assert_eq!(said[1], "framework actor panicked in Test::act: as told");
    assert_eq!(said[2], "witness: last");
    assert!(said.iter().filter(|text| text.contains("panicked")).count() == 3);
    assert_eq!(rig.node.counts().panics, 5);
    assert_eq!(rig.node.counts().of_frameworks("seen"), 10);
    rig.act("say still here");
    assert!(rig.said().contains(&"still here".to_owned()));
}

#[test]
fn a_counter_without_a_declaration_is_an_error_with_its_name() {
    let registry = Registry::new().with::<Actor>();
    let mut rig = Rig::with("worker-1", &registry).unwrap();
    rig.said();
    rig.act("count misspelt");
    assert_eq!(
        rig.said(),
        ["counts `misspelt`, which is not in its COUNTERS"]
    );
    let counts = rig.node.counts();
    assert_eq!(counts.undeclared(), Some(("actor", "misspelt")));
    assert_eq!(counts.of_frameworks("misspelt"), 1);
}

#[test]
fn counters_begin_at_zero_with_their_meaning() {
    let registry = Registry::new().with::<Actor>().with::<Witness>();
    let [seen] = &registry.counters()[..] else {
        panic!("one counter");
    };
    assert_eq!(seen.name, "muster_witness_seen_total");
    let rig = Rig::with("worker-1", &registry).unwrap();
    let counters = rig.node.counts().counters();
    let counter = counters.iter().find(|counter| counter.descriptor == *seen);
    assert_eq!(counter.unwrap().value, 0);
    assert_eq!(rig.node.counts().undeclared(), None);
}

/// Sees every [`Act`] twice, before and after the [`Actor`].
struct Witness;

impl Framework for Witness {
    const NAME: &'static str = "witness";

    const COUNTERS: &'static [CounterSpec] = &[CounterSpec::new("seen", "Acts, twice each.")];

    fn create(_site: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on_with_priority(-5, Self::last);
        declarations.on_with_priority(5, Self::first);
    }
}

impl Witness {
    fn first(&mut self, _: Act, cx: &mut Context<'_>) {
        say(cx, "first");
        cx.count("seen", 1);
    }

    fn last(&mut self, _: Act, cx: &mut Context<'_>) {
        say(cx, "last");
        cx.count("seen", 1);
    }
}

/// Declares what [`Actor`] declares, otherwise.
struct Rival<const STREAM: bool>;

#[derive(Record)]
#[record(name = "Test::row")]
struct OtherRow {
    number: String,
}

impl<const STREAM: bool> Framework for Rival<STREAM> {
    const NAME: &'static str = "rival";

    fn create(_site: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        if STREAM {
            declarations.stream::<OtherRow>("rows");
        } else {
            declarations.on(|_: &mut Self, _: OtherRow, _: &mut Context<'_>| {});
        }
    }
}

#[test]
fn conflicts_are_refused_at_the_start() {
    let refused = |registry: Registry| Rig::with("worker-1", &registry).err().unwrap();
    assert_eq!(
        refused(Registry::new().with::<Actor>().with::<Rival<false>>()),
        NodeError::EventConflict("Test::row".to_owned())
    );
    assert_eq!(
        refused(Registry::new().with::<Actor>().with::<Rival<true>>()),
        NodeError::Stream(StreamError::Conflict("rows".to_owned()))
    );
    let unknown = Rig::with("worker-3", &Registry::new()).err().unwrap();
    assert_eq!(unknown, NodeError::UnknownNode("worker-3".to_owned()));
    // The same declarations twice are no conflict.
    assert!(Rig::with("worker-1", &Registry::new().with::<Actor>().with::<Actor>()).is_ok());
}

#[test]
fn malformed_messages_cost_themselves_alone() {
    let mut rig = Rig::new("logger-1");
    rig.said();
    let wrong: Vec<Vec<u8>> = vec![
        encode_to_vec(&Data::from(1u64)),
        encode_to_vec(&Data::vector([
            Data::from(1u64),
            Data::from(3u64),
            Data::None,
        ])),
        encoded(Hello::NAME, None, None, &(1u64,)),
        encoded(Hello::NAME, None, None, &("data-1", "no id")),
        encoded(LowWatermark::NAME, None, None, &("conn", 1u64)),
        encoded(
            logs::BATCH,
            None,
            None,
            &("../rows", Vec::<Column>::new(), vec![(1u64,)]),
        ),
        encoded(
            logs::BATCH,
            None,
            None,
            &("rows", Vec::<Column>::new(), vec![(1u64,)]),
        ),
        encoded(Row::NAME, None, None, &("x",)),
    ];
    for (count, payload) in (1..).zip(&wrong) {
        rig.step(Input::Message {
            from: id(1),
            payload,
        });
        assert_eq!(rig.node.counts().events_refused, count);
    }
    // Nobody handles it: no mistake.
    rig.step(Input::Message {
        from: id(1),
        payload: &encoded("Software::new", None, None, &(1u64,)),
    });
    assert_eq!(rig.node.counts().events_refused, wrong.len() as u64);
    assert!(rig.batches.is_empty());
    let said = rig.said();
    for refusal in [
        "Test::row.number: expected count, found string \"x\"; \
         declared (number: count, text: string &optional), found (string)",
        "declared (name: string, id: string), found (count)",
        "record 0 of stream rows does not fit its 0 columns",
    ] {
        assert!(said.iter().any(|text| text.contains(refusal)), "{said:?}");
    }
    rig.act("say still here");
    assert_eq!(rig.said(), ["still here"]);
}
