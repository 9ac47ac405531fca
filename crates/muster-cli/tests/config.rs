//! Live settings of a running cluster, set on the command line.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use support::boxes::Boxes;
use support::cluster::{kill, pid_of, status};
use support::{Running, free_ports, run, stderr, stdout, until};

const NODES: [&str; 4] = ["manager", "logger", "data-1", "worker-1"];

/// A cluster whose worker reads a log as it grows, and whose layout has a threshold of 12; the addresses of its nodes.
fn layout(directory: &Path) -> Vec<String> {
    let ports = free_ports(NODES.len()).into_iter();
    let mut text = "directory = \"state\"\n[scan]\nthreshold = 12\n[input]\nfollow = true\n\
                    [logging]\nbatch_interval = \"50ms\"\n"
        .to_owned();
    let mut addresses = Vec::new();
    for (name, port) in NODES.into_iter().zip(ports) {
        let role = name.trim_end_matches("-1");
        let _ = writeln!(
            text,
            "[[node]]\nname = \"{name}\"\nrole = \"{role}\"\nport = {port}"
        );
        if role == "worker" {
            text.push_str("input = [\"conn.log\"]\n");
        }
        addresses.push(format!("127.0.0.1:{port}"));
    }
    std::fs::write(directory.join("muster.toml"), text).unwrap();
    std::fs::write(directory.join("conn.log"), scan(5)).unwrap();
    addresses
}

/// A log in which somebody tries a port of so many local hosts.
fn scan(victims: u64) -> String {
    let mut log = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n\
                   #fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\n\
                   #types\ttime\tstring\taddr\tport\taddr\tport\tenum\tstring\n"
        .to_owned();
    for victim in 0..victims {
        let _ = writeln!(
            log,
            "162722502{victim}.5\tC{victim}\t192.0.2.7\t4000{victim}\t10.0.0.{victim}\t22\ttcp\tS0"
        );
    }
    log
}

fn config(directory: &Path, words: &[&str]) -> Output {
    run(directory, &[&["config", "--timeout", "20"], words].concat())
}

/// What a command prints, and how it ends.
fn told(output: &Output) -> String {
    let code = output.status.code().unwrap();
    format!(
        "exit code {code}\n--- stdout\n{}--- stderr\n{}",
        stdout(output),
        stderr(output)
    )
}

/// What a command is to print, which succeeds.
fn printed(directory: &Path, words: &[&str]) -> String {
    let output = config(directory, words);
    assert!(output.status.success(), "{words:?}: {}", told(&output));
    stdout(&output).trim().to_owned()
}

/// The notices that the logger has written.
fn notices(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("notice.log")).unwrap_or_default()
        + &std::fs::read_to_string(directory.join("state/notice.log")).unwrap_or_default()
}

/// How many new values a node has gone by.
fn changes(status: &Value, name: &str) -> u64 {
    let nodes = status["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["node"] == name).unwrap();
    let changes = &node["report"]["counts"]["register_changes"];
    changes.as_u64().unwrap_or(0)
}

/// A threshold that is lowered finds what has been seen already, in the same processes; and it is there when all are new.
#[test]
fn a_setting_changes_without_a_restart_and_outlives_all_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let addresses = layout(directory);
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    assert_eq!(printed(directory, &["get", "scan.threshold"]), "12");
    let before = until("the attempts", || {
        let status = status(directory)?;
        let nodes = status["nodes"].as_array()?;
        let worker = nodes.iter().find(|node| node["node"] == "worker-1")?;
        let sent = worker["report"]["frameworks"]["scan.attempts_sent"].as_u64()?;
        (sent == 5).then_some(status)
    });
    assert!(!notices(directory).contains("Address_Scan"));

    let set = config(directory, &["set", "scan.threshold", "4"]);
    assert_eq!(stderr(&set), "scan.threshold is 4, and was 12\n", "{set:?}");
    until("the scan", || {
        let notices = notices(directory);
        notices.contains("scanned at least 4 hosts").then_some(())
    });
    let after = until("the setting on all nodes", || {
        let status = status(directory)?;
        let nodes = ["manager", "data-1", "worker-1"].iter();
        let have = nodes.map(|node| changes(&status, node));
        have.into_iter()
            .all(|changes| changes == 1)
            .then_some(status)
    });
    for node in NODES {
        assert_eq!(pid_of(&before, node), pid_of(&after, node), "{node}");
    }

    // Whichever node is asked, the answer is one.
    for address in &addresses {
        let get = ["get", "scan.threshold", "--address", address];
        assert_eq!(printed(directory, &get), "4", "{address}");
    }
    let set = ["set", "notice.suppress", "30m", "--address", &addresses[3]];
    printed(directory, &set);

    // All processes are killed and started anew: by a new agent, of the same files.
    for node in NODES {
        kill(pid_of(&after, node), "-9");
    }
    drop(cluster);
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    until("the setting on all new nodes", || {
        let status = status(directory)?;
        let nodes = ["manager", "data-1", "worker-1"].iter();
        let have = nodes.map(|node| changes(&status, node));
        have.into_iter().all(|changes| changes == 2).then_some(())
    });
    assert_eq!(printed(directory, &["get", "scan.threshold"]), "4");
    assert_eq!(printed(directory, &["get", "notice.suppress"]), "30m");

    let unset = config(directory, &["unset", "scan.threshold"]);
    assert_eq!(
        stderr(&unset),
        "scan.threshold is 12 again, as the layout says\n"
    );
    // It begins with what is set when it begins.
    let watch = ["config", "watch", "scan.threshold", "--count", "2"];
    let mut watching = Running::start(directory, &watch);
    let mut threshold = 20;
    until("two values", || {
        threshold += 1;
        printed(
            directory,
            &["set", "scan.threshold", &threshold.to_string()],
        );
        watching.child.try_wait().unwrap()
    });
    let (code, lines) = watching.finish();
    assert_eq!(code, Some(0));
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let told = |line: &str| line.starts_with("scan.threshold = 2");
    assert!(lines.lines().all(told), "{lines}");
}

#[test]
fn what_cannot_be_set_is_told_with_what_can() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let stopped = config(directory, &["get", "scan.threshold"]);
    assert_eq!(stopped.status.code(), Some(3), "{}", told(&stopped));
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let mut all = String::new();
    for words in [
        &["set", "scan.threshold", "many"][..],
        &["set", "scan.threshold", "-1"],
        &["set", "scan.threshold", "0"],
        &["set", "notice.suppress", "soon"],
        &["set", "scan.local_nets", "10.0.0.0/8,nonsense"],
        &["set", "scan.window", "1h"],
        &["set", "peering.heartbeat", "1s"],
        &["set", "scan.treshold", "5"],
        &["get", "nothing.like.it"],
        &["unset", "scan.threshold"],
        &["get", "scan.threshold", "--format", "json"],
        &["set", "scan.ignored_ports", "53, 80"],
        &["get", "scan.ignored_ports"],
        &["list"],
    ] {
        let output = config(directory, words);
        let _ = writeln!(
            all,
            "$ muster config {}\n{}",
            words.join(" "),
            told(&output)
        );
    }
    insta::assert_snapshot!(all);
}

/// The box of the manager, who had the primary, is gone: what was set is there, and more can be set.
#[test]
fn a_setting_of_boxes_outlives_the_box_that_kept_it() {
    let mut boxes = Boxes::new();
    let mut agents = boxes.three();
    let set = ["config", "set", "scan.threshold", "25", "--timeout", "20"];
    let set = boxes.done("b", &set);
    assert_eq!(stderr(&set), "scan.threshold is 25, and was 10\n");
    until("two copies", || {
        let output = boxes.run("b", &["stores", "--format", "json"]);
        let told: Value = serde_json::from_slice(&output.stdout).ok()?;
        let mut stores = told["stores"].as_array()?.iter();
        let register = stores.find(|store| store["store"] == "muster/config")?;
        (register["in_sync"].as_array()?.len() == 2).then_some(())
    });
    let status = boxes.status("a");
    let of_box = status["nodes"].as_array().unwrap().iter();
    let of_box = of_box.filter(|node| node["box"] == "a");
    let nodes: Vec<u64> = of_box.map(|node| node["pid"].as_u64().unwrap()).collect();
    kill(status["agent"]["pid"].as_u64().unwrap(), "-9");
    for node in nodes {
        kill(node, "-9");
    }
    agents[0].child.wait().unwrap();

    let get = boxes.done("c", &["config", "get", "scan.threshold", "--timeout", "20"]);
    assert_eq!(stdout(&get), "25\n");
    let set = ["config", "set", "scan.threshold", "26", "--timeout", "20"];
    boxes.done("c", &set);
    until("the setting on the other boxes", || {
        let logs = boxes.run("b", &["logs", "data-2"]);
        stdout(&logs)
            .contains("setting scan.threshold is 26 now, and was 25")
            .then_some(())
    });
}
