//! The simulated cluster itself: what it promises to tests of frameworks.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler takes its event by value"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, NodeLife, Registry, Severity, Site,
};
use muster_cluster::{PoolName, Role};
use muster_data::{Record, Timestamp};
use muster_test_support::Random;
use muster_testkit::{Cluster, Sabotage};

const LAYOUT: &str = r#"
    node = [
        { name = "manager", role = "manager" },
        { name = "logger", role = "logger", count = 2 },
        { name = "data", role = "data", count = 3 },
        { name = "worker", role = "worker", count = 3, input = ["feed"] },
    ]
"#;

/// A number of a worker's row.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Test::number")]
struct Number {
    ts: Timestamp,
    number: u64,
    from: String,
}

/// Workers send their numbers to their owners, who log them and watch that none comes twice, and in which order; and
/// every node watches over the order of its neighbours' lives.
struct Numbers {
    role: Role,
    /// By worker, the last number of its life, and all that were heard.
    heard: BTreeMap<String, (u64, BTreeSet<u64>)>,
    alive: BTreeMap<String, u64>,
}

impl Framework for Numbers {
    const NAME: &'static str = "numbers";

    const COUNTERS: &'static [CounterSpec] = &[CounterSpec::new(
        "out_of_order",
        "Numbers that came behind a larger one.",
    )];

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self {
            role: site.node.role,
            heard: BTreeMap::new(),
            alive: BTreeMap::new(),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::number);
        declarations.stream::<Number>("numbers");
    }

    fn node_up(&mut self, node: &NodeLife, cx: &mut Context<'_>) {
        let incarnation = node.incarnation.unwrap().0;
        let last = self.alive.insert(node.name.to_string(), incarnation);
        if last.is_some() {
            cx.report(Severity::Error, "up twice");
        }
    }

    fn node_down(&mut self, node: &NodeLife, cx: &mut Context<'_>) {
        let known = self.alive.remove(node.name.as_str());
        if known != node.incarnation.map(|incarnation| incarnation.0) {
            cx.report(Severity::Error, "down of another life");
        }
        self.heard.remove(node.name.as_str());
    }
}

impl Numbers {
    fn number(&mut self, event: Number, cx: &mut Context<'_>) {
        if self.role == Role::Worker {
            let from = cx.name().to_string();
            let Some(owner) = cx.topic_for_key(&PoolName::proxy(), event.number % 7) else {
                return;
            };
            cx.publish(&owner, &Number { from, ..event }).unwrap();
            return;
        }
        let (last, heard) = self.heard.entry(event.from.clone()).or_default();
        if !heard.insert(event.number) {
            cx.report(Severity::Error, "heard twice");
        }
        // Where the way to a node changes, what is behind may come first.
        cx.count("out_of_order", u64::from(event.number < *last));
        *last = event.number.max(*last);
        cx.log("numbers", &event).unwrap();
    }
}

fn number(number: u64) -> Number {
    Number {
        ts: Timestamp::from_secs(i64::try_from(number).unwrap()),
        number,
        from: String::new(),
    }
}

fn cluster(numbers: u64) -> Cluster {
    Cluster::of(LAYOUT, Registry::new().with::<Numbers>()).feed_shared(
        ["worker-1", "worker-2", "worker-3"],
        (1..=numbers).map(number),
        |number| number.number,
    )
}

#[test]
fn a_run_without_deaths_loses_nothing() {
    for seed in 1..=20 {
        let mut cluster = cluster(1_000).seed(seed);
        cluster.start();
        cluster.run_until_idle();
        let mut numbers: Vec<u64> = cluster
            .log_of::<Number>("numbers")
            .iter()
            .map(|number| number.number)
            .collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(1..=1_000), "seed {seed}");
        assert_eq!((cluster.lost(), cluster.count("out_of_order")), (0, 0));
        let written = cluster.total(|counts| counts.records_written);
        assert_eq!(written, 1_000);
        let halves = ["logger-1", "logger-2"].map(|logger| cluster.log_on(logger, "numbers").len());
        assert!(halves.iter().all(|half| *half > 0), "{halves:?}");
        assert!(!cluster.transcript().contains("error"));
    }
}

#[test]
fn the_same_seed_brings_the_same_run() {
    let run = |seed| {
        let mut cluster = cluster(500).seed(seed);
        cluster.start();
        cluster.run_for(Duration::from_millis(70));
        cluster.kill("data-2");
        cluster.run_for(Duration::from_millis(50));
        cluster.restart("data-2");
        cluster.run_until_idle();
        (cluster.transcript(), cluster.log("numbers"), cluster.lost())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
}

const NAMES: [&str; 9] = [
    "manager", "logger-1", "logger-2", "data-1", "data-2", "data-3", "worker-1", "worker-2",
    "worker-3",
];

/// A cluster in which nodes have died and come back at any time, and all live in the end.
fn troubled(seed: u64, sabotage: Sabotage) -> Cluster {
    let mut cluster = cluster(3_000)
        .seed(seed)
        .sabotage(sabotage)
        .pace(2, Duration::from_millis(1 + seed % 5));
    cluster.start();
    let mut random = Random::new(seed);
    for _ in 0..30 {
        cluster.run_for(Duration::from_micros(random.next() % 40_000));
        let name = NAMES[random.below(NAMES.len())];
        if !cluster.is_alive(name) {
            cluster.restart(name);
        } else if random.one_in(4) {
            cluster.stop(name);
        } else {
            cluster.kill(name);
        }
    }
    for name in NAMES {
        if !cluster.is_alive(name) {
            cluster.restart(name);
        }
    }
    cluster.run_until_idle();
    cluster
}

/// Whatever dies and comes back: neighbours see lives in order and messages once, and in the end
/// agree on who is alive and on who owns what.
#[test]
fn nodes_may_die_and_come_back_at_any_time() {
    for seed in 1..=20 {
        let cluster = troubled(seed, Sabotage::Nothing);
        assert!(
            !cluster.transcript().contains("error"),
            "{}",
            cluster.transcript()
        );
        let owners = |name| {
            let pools = cluster.node(name).pools();
            let owner = |key: u64| pools.owner(&PoolName::proxy(), &key.into()).cloned();
            (0..7).map(owner).collect::<Vec<_>>()
        };
        for name in NAMES {
            assert!(
                cluster.node(name).has_all_neighbours(),
                "{name}, seed {seed}"
            );
            assert_eq!(owners(name), owners("manager"), "{name}, seed {seed}");
        }
        assert_eq!(
            cluster.total(|counts| counts.panics + counts.events_refused),
            0
        );
    }
}

#[test]
fn what_a_node_sends_before_it_stops_arrives() {
    for seed in 1..=20 {
        let mut cluster = cluster(200).seed(seed);
        cluster.start();
        cluster.run_until(|cluster| cluster.transcript().matches("input ended").count() == 3);
        cluster.stop_all();
        assert_eq!(cluster.log("numbers").len(), 200, "seed {seed}");
        assert_eq!(cluster.lost(), 0, "seed {seed}");
    }
}

#[test]
fn logs_survive_the_death_of_a_logger() {
    let mut cluster = cluster(1_000);
    cluster.start();
    cluster.run_for(Duration::from_millis(1));
    cluster.kill("logger-1");
    cluster.run_until_idle();
    assert_eq!(cluster.log_on("logger-2", "numbers").len(), 1_000);
}

#[test]
fn a_transcript_tells_what_happened() {
    let layout = r#"
        node = [
            { name = "manager", role = "manager" },
            { name = "data", role = "data" },
            { name = "worker", role = "worker", input = ["feed"] },
        ]
    "#;
    let mut cluster =
        Cluster::of(layout, Registry::new().with::<Numbers>()).feed("worker", (1..=3).map(number));
    cluster.start();
    cluster.run_until_idle();
    cluster.kill("data");
    cluster.run_for(Duration::from_secs(1));
    cluster.restart("data");
    cluster.run_until_idle();
    cluster.stop("worker");
    cluster.run_until_idle();
    insta::assert_snapshot!(cluster.transcript());
}

#[test]
#[should_panic(expected = "node `data-1` is fed, but has no `input` in the layout")]
fn a_feed_needs_an_input() {
    let _ = Cluster::of(LAYOUT, Registry::new()).feed("data-1", [number(1)]);
}

#[test]
#[should_panic(expected = "the layout has no node `data-9`")]
fn names_are_checked() {
    cluster(1).kill("data-9");
}

/// The rules of the mesh hold for whole nodes, too: where one is broken on purpose, they notice.
#[test]
fn without_windows_nodes_hear_messages_twice() {
    let twice = (1..=20).filter(|seed| {
        let cluster = troubled(*seed, Sabotage::NoWindow);
        cluster.transcript().contains("heard twice")
    });
    assert!(twice.count() > 0);
}
