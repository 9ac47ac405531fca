//! Clusters of boxes with their coordinators: who is in, who is out, and who keeps which store.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use muster_cluster::coordination::{OutReason, Standing};
use muster_cluster::node::Registry;
use muster_data::Kind;
use muster_store::op::{Answer, Op};
use muster_store::{CopyRole, Encoded, Level, StorePart};
use muster_testkit::{Cluster, Write};

const LAYOUT: &str = r#"
    node = [
        { name = "manager", role = "manager", box = "a" },
        { name = "logger-1", role = "logger", box = "a" },
        { name = "data-1", role = "data", box = "a" },
        { name = "logger-2", role = "logger", box = "b" },
        { name = "data-2", role = "data", box = "b" },
        { name = "worker", role = "worker", box = "c" },
    ]
    [box.a]
    address = "10.0.0.1"
    [box.b]
    address = "10.0.0.2"
    [box.c]
    address = "10.0.0.3"
"#;

const NODES: [&str; 6] = [
    "manager", "logger-1", "data-1", "logger-2", "data-2", "worker",
];

fn cluster(seed: u64) -> Cluster {
    Cluster::of(LAYOUT, Registry::new()).seed(seed)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn standing(cluster: &Cluster, node: &str) -> Standing {
    cluster.node(node).coordination().unwrap().standing
}

fn all_are_in(cluster: &Cluster) -> bool {
    let mut nodes = NODES.iter().filter(|node| cluster.is_alive(node));
    nodes.all(|node| standing(cluster, node) == Standing::In)
}

/// Why a node is out, as another one knows it.
fn out(cluster: &Cluster, by: &str, node: &str) -> Option<OutReason> {
    let view = cluster.node(by).view().unwrap();
    view.get(node).and_then(|member| member.out)
}

#[test]
fn a_cluster_of_boxes_founds_its_coordinators_and_all_are_in() {
    for seed in 1..4 {
        let mut cluster = cluster(seed);
        cluster.start();
        cluster.run_for(seconds(5));
        assert!(
            all_are_in(&cluster),
            "seed {seed}\n{}",
            cluster.transcript()
        );
        assert_eq!(cluster.leader().as_deref(), Some("a"), "seed {seed}");
        let epochs = NODES.map(|node| cluster.node(node).view().unwrap().epoch());
        assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    }
}

#[test]
fn the_nodes_of_a_killed_box_are_out_and_the_others_go_on() {
    for seed in 1..4 {
        for of_box in ["a", "b", "c"] {
            let mut cluster = cluster(seed);
            cluster.start();
            cluster.run_for(seconds(5));
            cluster.kill_box(of_box);
            cluster.run_for(seconds(2));
            let (dead, alive): (Vec<&str>, Vec<&str>) =
                NODES.iter().partition(|node| !cluster.is_alive(node));
            assert!(!dead.is_empty() && all_are_in(&cluster), "seed {seed}");
            for node in dead {
                let reason = out(&cluster, alive[0], node);
                assert_eq!(reason, Some(OutReason::Reset), "seed {seed}: {node}");
            }
            cluster.start_box(of_box);
            cluster.run_for(seconds(5));
            assert!(
                all_are_in(&cluster),
                "seed {seed}\n{}",
                cluster.transcript()
            );
        }
    }
}

#[test]
fn a_box_that_stands_still_is_out_for_its_silence_and_comes_back() {
    for seed in 1..4 {
        let mut cluster = cluster(seed);
        cluster.start();
        cluster.run_for(seconds(5));
        cluster.freeze_box("a");
        cluster.run_for(seconds(6));
        assert_eq!(
            out(&cluster, "data-2", "manager"),
            Some(OutReason::Silent),
            "seed {seed}\n{}",
            cluster.transcript()
        );
        assert_ne!(cluster.leader().as_deref(), Some("a"));
        assert!(!cluster.has_lease("manager"));
        cluster.thaw_box("a");
        cluster.run_for(seconds(15));
        assert!(
            all_are_in(&cluster),
            "seed {seed}\n{}",
            cluster.transcript()
        );
    }
}

#[test]
fn a_box_that_is_cut_off_is_out_and_comes_back() {
    for seed in 1..4 {
        for lasts in [5, 20] {
            let mut cluster = cluster(seed);
            cluster.start();
            cluster.run_for(seconds(5));
            cluster.cut_off("b");
            cluster.run_for(seconds(lasts));
            assert!(out(&cluster, "manager", "data-2").is_some());
            assert_ne!(standing(&cluster, "data-2"), Standing::In);
            cluster.mend_network();
            cluster.run_for(seconds(15));
            assert!(
                all_are_in(&cluster),
                "seed {seed}\n{}",
                cluster.transcript()
            );
        }
    }
}

fn append(cluster: &mut Cluster, node: &str, store: &str, number: u64) -> Write {
    let op = Op::Add {
        key: Encoded::key("list"),
        value: Encoded::of(&number),
        initial: Kind::Vector,
        ttl: None,
    };
    cluster.write_to_store(node, store, op, Level::Applied, seconds(30))
}

fn list(cluster: &Cluster, node: &str, store: &str) -> Vec<u64> {
    let list = cluster.look_at_store(node, store, |entries| {
        let entry = entries.get(&Encoded::key("list"))?;
        entry.value.view().to().ok()
    });
    list.flatten().unwrap_or_default()
}

/// What a node is to a store.
fn role(cluster: &Cluster, node: &str, store: &str) -> &'static str {
    match cluster.store_report(node, store).map(|report| report.part) {
        Some(StorePart::Primary(_)) => "primary",
        Some(StorePart::Copy(copy)) if copy.copies.role == CopyRole::Standby => "standby",
        Some(StorePart::Copy(_)) => "joining",
        Some(StorePart::Clone(_)) => "clone",
        _ => "nothing",
    }
}

#[test]
fn a_store_has_copies_on_two_boxes_and_survives_the_loss_of_its_primarys() {
    for seed in 1..4 {
        for persistent in [false, true] {
            let mut cluster = cluster(seed);
            cluster.start();
            for node in NODES {
                cluster.use_store(node, "s", persistent);
            }
            cluster.run_for(seconds(8));
            let told = || format!("seed {seed}, persistent {persistent}");
            assert_eq!(
                role(&cluster, "manager", "s"),
                "primary",
                "{}\n{}",
                told(),
                cluster.transcript()
            );
            assert_eq!(
                role(&cluster, "data-2", "s"),
                "standby",
                "{}\n{}",
                told(),
                cluster.transcript()
            );
            let first: Vec<Write> = (0..10)
                .map(|number| append(&mut cluster, "worker", "s", number))
                .collect();
            cluster.run_for(seconds(1));
            cluster.kill_box("a");
            let second: Vec<Write> = (10..20)
                .map(|number| append(&mut cluster, "worker", "s", number))
                .collect();
            cluster.run_for(seconds(3));
            assert_eq!(
                role(&cluster, "data-2", "s"),
                "primary",
                "{}\n{}",
                told(),
                cluster.transcript()
            );
            for write in first.iter().chain(&second) {
                let outcome = cluster.outcome(*write);
                assert!(
                    matches!(outcome, Some(Ok(Answer::Done { .. }))),
                    "{}: {outcome:?}",
                    told()
                );
            }
            cluster.start_box("a");
            cluster.use_store("manager", "s", persistent);
            cluster.run_for(seconds(10));
            let expected: Vec<u64> = (0..20).collect();
            for node in ["manager", "data-2", "worker"] {
                assert_eq!(list(&cluster, node, "s"), expected, "{}: {node}", told());
            }
            let on_a = ["manager", "logger-1", "data-1"];
            let standbys = on_a
                .iter()
                .filter(|node| role(&cluster, node, "s") == "standby");
            assert_eq!(standbys.count(), 1, "{}\n{}", told(), cluster.transcript());
        }
    }
}

#[test]
fn the_same_seed_brings_the_same_run_with_boxes() {
    let run = |seed| {
        let mut cluster = cluster(seed).clock_of_box("b", seconds(3), 1_020_000);
        cluster.start();
        cluster.use_store("worker", "s", true);
        cluster.run_for(seconds(5));
        cluster.freeze_box("a");
        append(&mut cluster, "worker", "s", 1);
        cluster.run_for(seconds(5));
        cluster.thaw_box("a");
        cluster.run_for(seconds(5));
        cluster.transcript()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
