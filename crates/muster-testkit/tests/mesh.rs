//! The simulated mesh: nodes without a link are members, hear one another once, and wait for one another.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler takes its event by value"
)]

use std::collections::HashSet;
use std::time::Duration;

use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, NodeLife, Registry, Severity, Site,
};
use muster_cluster::{NodeName, Quorum, ReadyError, Role};
use muster_data::Record;
use muster_testkit::Cluster;

const LAYOUT: &str = r#"
    node = [
        { name = "manager", role = "manager" },
        { name = "data", role = "data", count = 2 },
        { name = "worker", role = "worker", count = 3 },
    ]
"#;

const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];

/// A worker's words to all workers, every 10 ms.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Record)]
#[record(name = "Test::word")]
struct Word {
    from: String,
    number: u64,
}

/// Every node waits for all; workers talk to one another, and watch that nothing comes twice.
struct Talk<const WORDS: u64 = 100> {
    is_worker: bool,
    number: u64,
    heard: HashSet<Word>,
}

impl<const WORDS: u64> Framework for Talk<WORDS> {
    const NAME: &'static str = "talk";

    const COUNTERS: &'static [CounterSpec] = &[
        CounterSpec::new("ready", "Waits that ended well."),
        CounterSpec::new("said", "Messages that were published."),
        CounterSpec::new("heard", "Messages that arrived."),
    ];

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self {
            is_worker: site.is(Role::Worker),
            number: 0,
            heard: HashSet::new(),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::word);
    }

    fn init(&mut self, cx: &mut Context<'_>) {
        cx.await_ready(&Quorum::All, Duration::from_secs(20), 1)
            .unwrap();
    }

    fn ready(&mut self, _: u64, outcome: &Result<(), ReadyError>, cx: &mut Context<'_>) {
        match outcome {
            Ok(()) => cx.count("ready", 1),
            Err(error) => {
                cx.report(Severity::Warning, &error.to_string());
                let more = Duration::from_secs(60);
                cx.await_ready(&Quorum::All, more, 1).unwrap();
            }
        }
        if self.is_worker && outcome.is_ok() {
            cx.schedule_mono(Duration::from_millis(10), 1);
        }
    }

    fn timer(&mut self, _: u64, cx: &mut Context<'_>) {
        self.number += 1;
        let word = Word {
            from: cx.name().to_string(),
            number: self.number,
        };
        cx.publish(&cx.topic_for_role(Role::Worker), &word).unwrap();
        cx.count("said", 1);
        if self.number < WORDS {
            cx.schedule_mono(Duration::from_millis(10), 1);
        }
    }

    fn node_down(&mut self, node: &NodeLife, _: &mut Context<'_>) {
        self.heard.retain(|word| *word.from != *node.name.as_str());
    }
}

impl<const WORDS: u64> Talk<WORDS> {
    fn word(&mut self, word: Word, cx: &mut Context<'_>) {
        cx.count("heard", 1);
        if !self.heard.insert(word) {
            cx.report(Severity::Error, "twice");
        }
    }
}

fn cluster(seed: u64) -> Cluster {
    Cluster::of(LAYOUT, Registry::new().with::<Talk>()).seed(seed)
}

fn sees(cluster: &Cluster, node: &str, other: &str) -> Option<bool> {
    let other = NodeName::new(other).unwrap();
    let record = cluster.node(node).membership().get(&other).unwrap();
    record.life.as_ref().map(|life| life.direct)
}

#[test]
fn workers_hear_one_another_once_and_are_members_without_a_link() {
    for seed in 1..=10 {
        let mut cluster = cluster(seed);
        cluster.start();
        cluster.run_until_idle();
        assert_eq!(cluster.count("ready"), 6);
        assert_eq!(sees(&cluster, "worker-1", "worker-2"), Some(false));
        assert_eq!(sees(&cluster, "worker-1", "data-1"), Some(true));
        // Its own words are a worker's as well.
        assert_eq!(cluster.count("said"), 300);
        assert_eq!(cluster.count("heard"), 900, "seed {seed}");
        assert_eq!(cluster.lost(), 0);
        assert!(!cluster.transcript().contains("error"));
    }
}

/// Relays announce the links that only make paths better when their view has stood for a second, and one of them is the
/// first: the others, whose view has stood a little less long, lost what was published before its word had come everywhere.
#[test]
fn no_word_is_lost_while_paths_become_better() {
    for seed in [33, 42, 48, 55, 109, 159, 163, 192] {
        let registry = Registry::new().with::<Talk<200>>();
        let mut cluster = Cluster::of(LAYOUT, registry).seed(seed);
        cluster.start();
        cluster.run_until_idle();
        assert_eq!(cluster.count("said"), 600);
        assert_eq!(cluster.count("heard"), 1800, "seed {seed}");
        assert!(!cluster.transcript().contains("error"));
    }
}

/// A node that is thirty seconds late is named by those whose time is over, and awaited by all.
#[test]
fn a_node_that_is_late_is_named_and_waited_for() {
    let mut cluster = cluster(1).late("worker-3");
    cluster.start();
    cluster.run_for(Duration::from_secs(30));
    assert_eq!(cluster.count("ready") + cluster.count("said"), 0);
    let told = "not ready in time: 5 of 6 nodes are mutually up; not up: worker-3";
    assert_eq!(cluster.transcript().matches(told).count(), 5);
    cluster.restart("worker-3");
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(cluster.count("ready"), 6);
    cluster.run_until_idle();
    assert_eq!(cluster.count("heard"), 900);
}

/// Without a relay workers part, and meet again; with another one they do not notice.
#[test]
fn workers_part_when_the_last_relay_is_gone_and_meet_again() {
    for seed in 1..=10 {
        let mut cluster = cluster(seed);
        cluster.start();
        cluster.run_until_idle();
        let downs = |cluster: &Cluster| {
            let transcript = cluster.transcript();
            transcript.matches("node down: worker").count()
        };
        cluster.kill("manager");
        cluster.stop("data-1");
        cluster.run_until_idle();
        assert_eq!(downs(&cluster), 0, "data-2 relays");
        cluster.kill("data-2");
        cluster.run_until_idle();
        assert_eq!(sees(&cluster, "worker-1", "worker-2"), None);
        assert_eq!(downs(&cluster), 6, "each of the others");
        for hub in ["data-2", "manager", "data-1"] {
            cluster.restart(hub);
        }
        cluster.run_until_idle();
        for worker in WORKERS {
            for other in WORKERS.into_iter().filter(|other| *other != worker) {
                assert_eq!(sees(&cluster, worker, other), Some(false), "seed {seed}");
            }
        }
        assert_eq!(cluster.count("ready"), 9, "the new lives as well");
    }
}

/// A restart is a down and an up for nodes without a link as well, and what runs as a Zeek process is no
/// member of the mesh.
#[test]
fn a_restart_is_seen_by_all_and_zeek_by_its_peers() {
    let mut cluster = cluster(3).zeek("worker-3");
    cluster.start();
    cluster.run_for(Duration::from_secs(5));
    assert_eq!(sees(&cluster, "worker-1", "worker-3"), None);
    assert_eq!(sees(&cluster, "data-1", "worker-3"), Some(true));
    let before = cluster.transcript().len();
    cluster.kill("worker-2");
    cluster.run_for(Duration::from_millis(1));
    cluster.restart("worker-2");
    cluster.run_for(Duration::from_secs(5));
    let after = cluster.transcript().split_off(before);
    for node in ["manager", "data-1", "data-2", "worker-1"] {
        let lines = after.lines().filter(|line| line.contains(node));
        let changes: Vec<_> = lines
            .filter_map(|line| line.split_once("node "))
            .map(|(_, change)| change)
            .filter(|change| change.ends_with(": worker-2"))
            .collect();
        assert_eq!(changes, ["down: worker-2", "up: worker-2"], "{node}");
    }
}
