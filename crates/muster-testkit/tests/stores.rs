//! Stores in the hands of frameworks: who wins, who hears, and what a crash leaves.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "a handler is a method that takes its event by value"
)]

use std::time::Duration;

use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, Registry, SharedStore, Site, StoreChange,
    WriteError,
};
use muster_data::{Data, Record, Timestamp};
use muster_store::Encoded;
use muster_store::op::OpKind;
use muster_testkit::Cluster;

const LAYOUT: &str = r#"
    node = [
        { name = "manager", role = "manager" },
        { name = "logger", role = "logger" },
        { name = "data", role = "data", count = 2 },
        { name = "worker", role = "worker", count = 3, input = ["feed"] },
    ]
"#;

/// A host that a worker has seen.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Test::seen")]
struct Seen {
    ts: Timestamp,
    host: String,
}

const HOSTS: SharedStore<String, String> = SharedStore::new("test/hosts").persistent().watched();
const COUNTS: SharedStore<String, u64> = SharedStore::new("test/counts");

/// Every worker claims the hosts that it sees; one of them wins.
struct Claims;

impl Framework for Claims {
    const NAME: &'static str = "claims";

    const COUNTERS: &'static [CounterSpec] = &[
        CounterSpec::new("heard", "Changes that were told."),
        CounterSpec::new("known", "Hosts that were claimed before."),
        CounterSpec::new("won", "Claims that were won."),
        CounterSpec::new("sum", "Counts that came back."),
    ];

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::seen);
        declarations.store(&HOSTS);
        declarations.store(&COUNTS);
    }

    fn store_changed(&mut self, change: &StoreChange<'_>, cx: &mut Context<'_>) {
        if change.new.is_some() {
            cx.count("heard", 1);
        }
    }
}

impl Claims {
    fn seen(&mut self, event: Seen, cx: &mut Context<'_>) {
        let name = cx.name().to_string();
        if cx.store(&HOSTS).get(&event.host).unwrap().is_some() {
            cx.count("known", 1);
        }
        let host = event.host.clone();
        cx.store(&HOSTS)
            .durable()
            .put_unique(&event.host, &name)
            .then(move |_: &mut Self, cx, won| {
                if won.unwrap() {
                    cx.count("won", 1);
                    let name = cx.name().to_string();
                    // Whoever has been answered reads it.
                    assert_eq!(cx.store(&HOSTS).get(&host).unwrap(), Some(name));
                }
            });
        cx.store(&COUNTS).increment(&event.host, &1u64).then(
            |_: &mut Self, cx: &mut Context<'_>, count| {
                cx.count("sum", u64::from(count.unwrap() > 0));
            },
        );
    }
}

fn cluster(seed: u64) -> Cluster {
    let seen = |host: u64| Seen {
        ts: Timestamp::from_secs(1_767_225_600 + i64::try_from(host).unwrap()),
        host: format!("host {host}"),
    };
    let mut cluster = Cluster::of(LAYOUT, Registry::new().with::<Claims>()).seed(seed);
    for worker in ["worker-1", "worker-2", "worker-3"] {
        cluster = cluster.feed(worker, (0..100).map(seen));
    }
    cluster
}

fn sum(cluster: &Cluster, name: &str) -> u64 {
    let workers = ["worker-1", "worker-2", "worker-3"];
    let counts = workers.map(|worker| cluster.node(worker).counts().of_frameworks(name));
    counts.iter().sum()
}

#[test]
fn one_node_wins_each_key_and_all_hear() {
    for seed in 1..20 {
        let mut cluster = cluster(seed);
        cluster.start();
        cluster.run_until_idle();
        assert_eq!(sum(&cluster, "won"), 100, "seed {seed}");
        assert_eq!(sum(&cluster, "sum"), 300);
        for node in ["manager", "logger", "data-1", "worker-3"] {
            let heard = cluster.node(node).counts().of_frameworks("heard");
            assert_eq!(heard, 100, "{node}");
            let count = cluster.stored(node, "test/counts", "host 7");
            assert_eq!(count, Some(Data::Count(3)), "{node}");
        }
        assert_eq!(cluster.node("manager").counts().panics, 0);
    }
}

#[test]
fn a_killed_manager_keeps_what_was_durable_and_its_clones_catch_up() {
    for seed in 1..20 {
        let mut cluster = cluster(seed).pace(4, Duration::from_millis(10));
        cluster.start();
        cluster.run_until(|cluster| sum(cluster, "won") > 40);
        let won = sum(&cluster, "won");
        cluster.kill("manager");
        cluster.run_for(Duration::from_secs(3));
        cluster.restart("manager");
        cluster.run_until_idle();
        assert!(sum(&cluster, "won") >= won);
        assert_eq!(sum(&cluster, "won"), 100, "seed {seed}");
        for worker in ["worker-1", "worker-2", "worker-3"] {
            assert_eq!(cluster.node(worker).counts().panics, 0);
            assert!(cluster.stored(worker, "test/hosts", "host 99").is_some());
        }
    }
}

/// Does everything that a framework can do with a store.
struct Everything;

impl Framework for Everything {
    const NAME: &'static str = "everything";

    const COUNTERS: &'static [CounterSpec] =
        &[CounterSpec::new("done", "Operations that succeeded.")];

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::seen);
        declarations.store(&COUNTS);
    }
}

impl Everything {
    /// A new kind of operation does not compile here: it is given a method, or is said to be for
    /// [`StoreContext::operate`](muster_cluster::node::StoreContext::operate).
    fn seen(&mut self, event: Seen, cx: &mut Context<'_>) {
        for kind in OpKind::ALL {
            let store = cx.store(&COUNTS);
            match kind {
                OpKind::Put => store.put(&event.host, &1u64).then(done),
                OpKind::PutUnique => store.put_unique(&event.host, &1u64).then(done),
                OpKind::Erase => store.erase(&event.host).then(done),
                OpKind::Add => store.increment(&event.host, &1u64).then(done),
                OpKind::Subtract | OpKind::Clear | OpKind::Swap => {
                    let (key, value) = (Encoded::key(&event.host), Encoded::of(&1u64));
                    store.operate(kind.example(key, value, None)).then(done);
                }
                // Only a primary issues it.
                OpKind::Expire => {}
            }
        }
    }
}

fn done<T>(_: &mut Everything, cx: &mut Context<'_>, outcome: Result<T, WriteError>) {
    cx.count("done", u64::from(outcome.is_ok()));
}

#[test]
fn a_framework_can_use_every_operation() {
    let seen = Seen {
        ts: Timestamp::from_secs(1_767_225_600),
        host: "host".to_owned(),
    };
    let mut cluster = Cluster::of(LAYOUT, Registry::new().with::<Everything>());
    cluster = cluster.feed("worker-1", [seen]);
    cluster.start();
    cluster.run_until_idle();
    assert_eq!(cluster.count("done"), OpKind::ALL.len() as u64 - 1);
}

#[test]
fn a_store_whose_disk_cannot_be_read_is_opened_when_it_can() {
    for seed in 1..10 {
        let mut cluster = cluster(seed).pace(4, Duration::from_millis(10));
        cluster.set_disk_readable("manager", false);
        cluster.start();
        cluster.run_for(Duration::from_secs(5));
        assert_eq!(
            sum(&cluster, "won"),
            0,
            "seed {seed}: nobody has the primary"
        );
        cluster.set_disk_readable("manager", true);
        cluster.run_until(|cluster| sum(cluster, "won") > 40);
        cluster.run_until_idle();
        assert_eq!(sum(&cluster, "won"), 100, "seed {seed}");
    }
}

#[test]
fn a_store_whose_primarys_node_comes_late_is_opened_then() {
    for seed in 1..10 {
        let mut cluster = cluster(seed).late("manager");
        cluster.start();
        cluster.run_for(Duration::from_secs(20));
        assert_eq!(sum(&cluster, "won"), 0, "seed {seed}");
        cluster.restart("manager");
        cluster.run_until_idle();
        assert_eq!(sum(&cluster, "won"), 100, "seed {seed}");
        assert!(
            cluster
                .stored("worker-1", "test/hosts", "host 99")
                .is_some()
        );
    }
}
