//! `muster records --verify`, with real processes: whether what loggers have acknowledged is in their files.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::cluster::{kill, pid_of, status};
use support::{Running, free_ports, run, stderr, stdout, until};

/// A worker that writes numbered records, and two loggers that take them and rotate often.
fn layout(directory: &Path) {
    let mut text =
        "directory = \"state\"\n[logging]\nbatch_interval = \"100ms\"\nrotation = \"3s\"\n"
            .to_owned();
    let nodes = [
        ("manager", "manager"),
        ("logger-1", "logger"),
        ("logger-2", "logger"),
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

/// The exit code, and what is said as JSON.
fn verify(directory: &Path) -> (Option<i32>, Value) {
    let shown = run(directory, &["records", "--verify", "--format", "json"]);
    let said = serde_json::from_str(&stdout(&shown));
    let said = said.unwrap_or_else(|error| panic!("{error}: {}", stderr(&shown)));
    (shown.status.code(), said)
}

fn logger<'a>(verified: &'a Value, name: &str) -> &'a Value {
    let loggers = verified["loggers"].as_array().unwrap();
    loggers.iter().find(|it| it["node"] == name).unwrap()
}

/// The rotated files of a logger with more than a header, the oldest first.
fn rotated(directory: &Path, logger: &str) -> Vec<PathBuf> {
    let start = format!("probe.{logger}.2");
    let entries = std::fs::read_dir(directory.join("state")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&start) && std::fs::metadata(path).is_ok_and(|it| it.len() > 1_000)
    };
    let mut paths: Vec<PathBuf> = paths.filter(is_one).collect();
    paths.sort();
    paths
}

#[test]
fn records_that_are_gone_from_the_files_of_a_logger_are_missed() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let all = until("rotated files", || {
        let (code, all) = verify(directory);
        assert_eq!(code, Some(0), "{all:#}");
        let rotated = all["streams"]["probe"]["rotated"].as_u64().unwrap_or(0);
        (rotated > 300).then_some(all)
    });
    assert_eq!(all["version"], 1);
    assert_eq!(all["verdict"], "complete");
    // It is not known if the worker was started long before a logger.
    let missing = all["acknowledged_missing"].as_u64().unwrap_or(0);
    assert_eq!(missing, 0, "{all:#}");
    let nodes = all["nodes"].as_array().unwrap();
    let worker = nodes.iter().find(|it| it["node"] == "worker-1").unwrap();
    assert!(worker["acknowledged"].as_u64() > Some(300), "{worker}");

    // One that dies begins anew: what it had written is not taken for missing, nor for what the next life has written.
    kill(pid_of(&status(directory).unwrap(), "logger-1"), "-9");
    let first = logger(&all, "logger-1")["life"].clone();
    let again = until("another life", || {
        let (_, again) = verify(directory);
        let it = logger(&again, "logger-1");
        let has_written = it["written"].as_u64() > Some(50) && it["life"] != first;
        (has_written && it["unknown"].is_null()).then_some(again)
    });
    assert_eq!(again["verdict"], "complete", "{again:#}");
    assert_eq!(again["acknowledged_missing"], Value::Null, "{again:#}");
    assert!(logger(&again, "logger-1")["earlier_files"].as_u64() > Some(0));

    // A file is damaged, another one removed.
    let rows = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let rows = text.lines().filter(|line| !line.starts_with('#'));
        rows.count() as u64
    };
    // Older ones may be of the former life.
    let damaged = until("a rotated file", || rotated(directory, "logger-2").pop());
    let text = std::fs::read_to_string(&damaged).unwrap();
    let (head, tail) = text.split_at(text.len() / 2);
    std::fs::write(&damaged, format!("{head}\nnothing\t\n{tail}")).unwrap();
    let (code, missed) = verify(directory);
    assert_eq!(code, Some(1), "{missed:#}");
    let it = logger(&missed, "logger-2");
    assert!(it["unreadable"].as_u64() > Some(0), "{missed:#}");
    let problem = it["problems"][0].as_str().unwrap();
    assert!(problem.contains("cannot be read"), "{problem}");
    std::fs::write(&damaged, text).unwrap();
    let (code, whole) = verify(directory);
    assert_eq!(code, Some(0), "{whole:#}");

    let gone = rows(&damaged);
    std::fs::remove_file(&damaged).unwrap();
    let shown = run(directory, &["records", "--verify"]);
    assert_eq!(shown.status.code(), Some(1), "{}", stdout(&shown));
    let text = stdout(&shown);
    let last = text.lines().last().unwrap();
    let missing =
        last.strip_suffix(" records are missing that loggers have written since they began");
    let missing: u64 = missing.unwrap_or_else(|| panic!("{text}")).parse().unwrap();
    // What was written since the logger had reported hides as many.
    assert!(missing <= gone, "{missing} of {gone}");

    // A logger that does not run cannot be asked.
    let stopped = run(directory, &["stop", "logger-1"]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    let (code, unknown) = verify(directory);
    assert_eq!(code, Some(5), "{unknown:#}");
    assert_eq!(unknown["verdict"], "unknown");
    assert!(run(directory, &["stop"]).status.success());
    cluster.finish();
    let nobody = run(directory, &["records", "--verify"]);
    assert_eq!(nobody.status.code(), Some(3), "{}", stderr(&nobody));
    let both = run(directory, &["records", "probe", "--verify"]);
    assert_eq!(both.status.code(), Some(2), "{}", stderr(&both));
}
