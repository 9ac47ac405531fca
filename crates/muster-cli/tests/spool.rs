//! Log records that wait on disk, with real processes: `logging.spool`, and `muster spool`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use muster_frameworks::log_files::read_rows;
use serde_json::Value;
use support::cluster::{kill, pid_of, status};
use support::{Running, free_ports, run, stderr, stdout, until};

/// A worker that writes numbered records and keeps all of them on disk, and the loggers that take them.
fn layout(directory: &Path) {
    let mut text =
        "directory = \"state\"\n[logging]\nspool = \"always\"\nbatch_interval = \"100ms\"\n"
            .to_owned();
    let nodes = [
        ("manager", "manager"),
        ("logger", "logger"),
        ("worker-1", "worker"),
    ];
    for ((name, role), port) in nodes.iter().zip(free_ports(nodes.len())) {
        let _ = write!(
            text,
            "[[node]]\nname = \"{name}\"\nrole = \"{role}\"\nport = {port}\n"
        );
        if *role == "worker" {
            text.push_str("options = { \"probe.rate\" = 200 }\n");
        }
    }
    std::fs::write(directory.join("muster.toml"), text).unwrap();
}

/// What is in the spools: the records of each life.
fn spooled(directory: &Path) -> BTreeMap<String, u64> {
    let shown = run(directory, &["spool", "--format", "json"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    let lines: Vec<Value> = serde_json::from_str(&stdout(&shown)).unwrap();
    let records = |line: &Value| {
        let life = line["life"].as_str().unwrap().to_owned();
        (life, line["records"].as_u64().unwrap())
    };
    lines.iter().map(records).collect()
}

/// The numbers of the records that are in files, by life. None is in two.
fn numbers(directory: &Path) -> BTreeMap<String, BTreeSet<u64>> {
    let mut found: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for row in read_rows(&directory.join("state"), "probe").unwrap() {
        let number = row["number"].parse().unwrap();
        let is_new = found.entry(row["life"].clone()).or_default().insert(number);
        assert!(is_new, "{row:?} is there twice");
    }
    found
}

#[test]
fn what_a_killed_node_has_left_arrives_once() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let before = status(directory).unwrap();
    let stopped = run(directory, &["stop", "logger"]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    until("records on disk", || {
        spooled(directory)
            .values()
            .any(|records| *records > 300)
            .then_some(())
    });
    kill(pid_of(&before, "worker-1"), "-9");
    until("another life", || {
        let now = status(directory)?;
        let nodes = now["nodes"].as_array()?.clone();
        let worker = nodes.into_iter().find(|node| node["node"] == "worker-1")?;
        let pid = worker["pid"].as_u64()?;
        (pid != pid_of(&before, "worker-1")).then_some(())
    });
    let left = until("what two lives have", || {
        Some(spooled(directory)).filter(|lives| lives.len() == 2)
    });
    let started = run(directory, &["start", "logger"]);
    assert!(started.status.success(), "{}", stderr(&started));
    until("nothing of former lives", || {
        let now = spooled(directory);
        (now.len() <= 1 && now.values().all(|records| *records < 100)).then_some(())
    });

    // What is left when nobody takes it, a node of another cluster's directory sends.
    let stopped = run(directory, &["stop", "logger"]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    until("records on disk", || {
        spooled(directory)
            .values()
            .any(|records| *records > 100)
            .then_some(())
    });
    assert!(run(directory, &["stop"]).status.success());
    cluster.finish();
    let dead = directory.join("dead");
    std::fs::rename(directory.join("state/spool/worker-1"), &dead).unwrap();
    let empty = run(directory, &["spool"]);
    assert_eq!(stdout(&empty), "no log records are kept on disk\n");
    let nobody = run(directory, &["spool", "ship", "dead"]);
    assert_eq!(nobody.status.code(), Some(3), "{}", stderr(&nobody));

    let mut cluster = Running::start(directory, &["run"]);
    // A node that was stopped stays so.
    cluster.wait_for("worker-1: started");
    let started = run(directory, &["start", "logger"]);
    assert!(started.status.success(), "{}", stderr(&started));
    let shipped = run(directory, &["spool", "ship", "dead", "--node", "manager"]);
    assert!(shipped.status.success(), "{}", stderr(&shipped));
    assert!(
        stderr(&shipped).contains("the loggers have it"),
        "{}",
        stderr(&shipped)
    );
    let again = run(directory, &["spool", "ship", "dead"]);
    assert_eq!(again.status.code(), Some(1), "{}", stderr(&again));
    assert!(run(directory, &["stop"]).status.success());
    cluster.finish();

    let found = numbers(directory);
    for (life, numbers) in &found {
        let last = numbers.last().unwrap();
        assert_eq!(numbers.len() as u64, last + 1, "of {life} some are missing");
    }
    assert!(left.keys().all(|life| found.contains_key(life)), "{left:?}");
    assert_eq!(found.len(), 3, "{:?}", found.keys());
}
