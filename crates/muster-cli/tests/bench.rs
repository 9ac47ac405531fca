//! `muster bench`: what it prints, and that it leaves nothing behind. How fast things are is no test.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::process::{Child, Stdio};

use serde_json::Value;
use support::{is_alive, muster, run, stderr, stdout, until};

/// The processes that one has started.
fn children(parent: &Child) -> Vec<u64> {
    let id = parent.id();
    let path = format!("/proc/{id}/task/{id}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

/// A measurement that takes long, once its subscriber and its publisher run.
fn long() -> (Child, Vec<u64>) {
    let directory = std::env::temp_dir();
    let bench = muster(&directory, &["bench", "throughput", "--seconds", "60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let workers = until("two processes at work", || {
        let children = children(&bench);
        (children.len() == 2).then_some(children)
    });
    (bench, workers)
}

#[test]
fn everything_is_measured_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(
        directory.path(),
        &["bench", "--seconds", "0.05", "--format", "json"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "progress is for terminals");
    let results: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(results["version"], 2);
    let rows = |part: &str| results[part].as_array().unwrap().clone();
    assert_eq!(rows("throughput").len(), 26);
    assert_eq!(rows("tls").len(), 6);
    let traffic = rows("throughput").into_iter().chain(rows("tls"));
    for row in traffic.chain(results["stream"].as_object().unwrap().values().cloned()) {
        for key in ["per_second", "megabytes", "cpu_us", "publisher_cpu_us"] {
            assert!(row[key].is_number(), "{key} in {row}");
        }
        for key in ["payload", "reading", "engine"] {
            assert!(row[key].is_string(), "{key} in {row}");
        }
        assert_eq!(row["lost"], 0, "{row}");
    }
    let engines = [
        "tcp",
        "muster",
        "muster_over_tcp",
        "muster_busy_poll",
        "muster_over_tcp_busy_poll",
        "muster_on_one_thread",
    ];
    for engine in engines {
        let measured = &results["latency"][engine];
        for key in ["p50", "p99", "p999", "max", "late_p99", "cpu_us"] {
            assert!(
                measured[key].as_f64().unwrap() >= 0.0,
                "{key} in {measured}"
            );
        }
        assert_eq!(measured["unanswered"], 0, "{measured}");
    }
    let peers: Vec<_> = rows("idle")
        .iter()
        .map(|row| row["peers"].clone())
        .collect();
    assert_eq!(peers, [0, 100]);
    for row in rows("idle").iter().chain([&results["idle_node"]]) {
        assert!(row["cpu_percent"].is_number(), "{row}");
        assert!(row["memory"].as_u64().unwrap() > 1 << 20, "{row}");
    }
}

#[test]
fn only_what_is_asked_for_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["bench", "stream", "--seconds", "0.05"]);
    let text = stdout(&output);
    assert!(
        text.contains("plain TCP stream"),
        "{text}{}",
        stderr(&output)
    );
    assert!(
        !text.contains("round trip") && !text.contains("idle"),
        "{text}"
    );

    let wrong = run(directory.path(), &["bench", "--seconds", "0"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("--seconds"), "{}", stderr(&wrong));
}

#[test]
fn its_processes_end_with_it() {
    let (mut bench, workers) = long();
    bench.kill().unwrap();
    bench.wait().unwrap();
    until("the end of both processes", || {
        (!workers.iter().any(|id| is_alive(*id))).then_some(())
    });
}

#[test]
fn the_end_of_one_process_is_the_end_of_all() {
    let (bench, workers) = long();
    let publisher = i32::try_from(workers[1]).unwrap();
    let publisher = rustix::process::Pid::from_raw(publisher).unwrap();
    rustix::process::kill_process(publisher, rustix::process::Signal::KILL).unwrap();
    let output = bench.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("the publisher has ended too early"), "{text}");
    assert!(!workers.iter().any(|id| is_alive(*id)));
}
