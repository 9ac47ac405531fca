//! The demo, the main job, in small: a whole cluster as processes, two nodes killed halfway.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;

use serde_json::Value;
use support::{run, stderr, stdout};

fn number(value: &Value, pointer: &str) -> u64 {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

/// The nodes that the demo kills.
const KILLED: [&str; 2] = ["data-1", "logger-1"];

/// What the receivers say they received is what the senders' messages are said to have become.
fn assert_received(account: &Value) {
    let nodes = account["nodes"].as_array().unwrap();
    let sum = |key: &str| nodes.iter().map(|node| number(node, key)).sum::<u64>();
    assert!(sum("/events_in") > 500, "{account}");
    assert_eq!(sum("/events_in"), sum("/delivered"), "{account}");
}

#[test]
fn the_demo_finds_the_scan_loses_two_nodes_and_accounts_for_everything() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(
        directory.path(),
        &[
            "demo", "--speed", "300", "--format", "json", "--dir", "here",
        ],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let account: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(number(&account, "/version"), 1);

    // The two killed nodes had two lives, all others one.
    for node in account["nodes"].as_array().unwrap() {
        let killed = KILLED.contains(&node["node"].as_str().unwrap());
        assert_eq!(
            node["lives"].as_u64(),
            Some(if killed { 2 } else { 1 }),
            "{node}"
        );
        assert_eq!(number(node, "/panics"), 0, "{node}");
        assert_eq!(number(node, "/refused"), 0, "{node}");
        // Between two nodes that lived to the end, nothing is lost.
        if !killed {
            let lost = node["unknown_with"].as_object().unwrap();
            assert!(
                lost.keys().all(|with| KILLED.contains(&with.as_str())),
                "{node}"
            );
        }
    }
    assert_received(&account);
    assert_eq!(number(&account, "/total/inbox_dropped"), 0);

    let records = &account["records"];
    assert_eq!(
        number(records, "/logged"),
        number(records, "/acknowledged") + number(records, "/open") + number(records, "/dropped")
    );
    // Two nodes were killed, and what was acknowledged is there.
    assert_eq!(number(records, "/missing"), 0, "{records}");
    assert!(number(records, "/acknowledged") > 200, "{records}");
    assert!(number(records, "/by_stream/known_hosts") > 100);
    assert!(number(records, "/by_stream/known_services") > 50);
    // Of 15 some may have been in the hands of the data node that died.
    assert!(number(records, "/by_stream/software") >= 5, "{records}");
    let notices = account["notices"].as_array().unwrap();
    let about = |text: &str| {
        notices
            .iter()
            .filter(|n| n.as_str().unwrap().contains(text))
            .count()
    };
    assert!(
        about("10.164.94.120") >= 1 && about("3389/tcp") >= 1,
        "{notices:?}"
    );
    assert_eq!(about(" 53/udp"), 0, "{notices:?}");

    // The files are where the summary says, with the loggers' names, and complete.
    let logs = directory.path().join("here/logs");
    let files: Vec<String> = std::fs::read_dir(&logs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for logger in ["logger-1", "logger-2"] {
        assert!(files.iter().any(|file| file.contains(logger)), "{files:?}");
    }
    assert!(!files.iter().any(|file| file.contains("sock")), "{files:?}");
    // Whoever owns a host logs it once: a copy that a killed node has left is at most in a file without a final name, in `unsettled`.
    for stream in ["known_hosts", "software"] {
        let mut seen = BTreeSet::new();
        let of_stream = files
            .iter()
            .filter(|file| file.split('.').next() == Some(stream));
        for file in of_stream {
            let text = std::fs::read_to_string(logs.join(file)).unwrap();
            for row in text.lines().filter(|line| !line.starts_with('#')) {
                assert!(seen.insert(row.to_owned()), "{file}: {row} is there again");
            }
        }
        assert!(!seen.is_empty(), "{stream}");
    }
}

/// Two lives that lost their connection peer again: what they exchanged is the sum.
#[test]
fn connections_that_were_lost_are_accounted_for() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "demo",
        "--speed",
        "0",
        "--no-kill",
        "--format",
        "json",
        "--dir",
        "here",
        "--set",
        "peering.overflow=disconnect",
        "--set",
        "peering.data_queue=40",
    ];
    let output = run(directory.path(), &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let account: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(
        number(&account, "/total/dropped/disconnect") > 0,
        "{account}"
    );
    assert_received(&account);
}

/// The JSON form is public: its keys change only with its version.
#[test]
fn the_summary_has_the_keys_of_version_1() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(
        directory.path(),
        &["demo", "--speed", "0", "--no-kill", "--format", "json"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let account: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let mut keys = Vec::new();
    collect_keys(&account, String::new(), &mut keys);
    keys.sort();
    keys.dedup();
    insta::assert_snapshot!(keys.join("\n"));
    // Without deaths nothing is unknown and nothing dropped.
    assert_received(&account);
    assert_eq!(number(&account, "/total/unknown"), 0);
    assert_eq!(
        account["total"]["dropped"],
        Value::Object(serde_json::Map::new())
    );
    assert_eq!(number(&account, "/records/open"), 0);
    for what in ["acknowledged", "in_files"] {
        assert_eq!(
            number(&account, "/records/logged"),
            number(&account, &format!("/records/{what}"))
        );
    }
    std::fs::remove_dir_all(account["directory"].as_str().unwrap()).unwrap();
}

/// The paths of all keys; what is keyed by names of streams or causes stands as `*`.
fn collect_keys(value: &Value, path: String, keys: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let open = ["by_stream", "dropped", "unknown_with"]
                    .iter()
                    .any(|parent| path.ends_with(parent));
                let key = if open { "*" } else { key };
                collect_keys(value, format!("{path}/{key}"), keys);
            }
            if fields.is_empty() {
                keys.push(path);
            }
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect_keys(value, format!("{path}[]"), keys)),
        _ => keys.push(path),
    }
}
