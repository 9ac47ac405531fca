//! What an operator hears of stores that cannot be as the layout has them, each by name, once; and stores that the
//! command line opens.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::process::Output;

use support::cluster::{pid_of, status};
use support::{Running, free_ports, is_alive, run, stderr, stdout, until};

/// A layout of a manager and a data node with `rest`.
fn write(directory: &Path, file: &str, ports: &[u16], rest: &str) {
    let [manager, data] = ports else {
        panic!("two ports");
    };
    let text = format!(
        "[peering]\nheartbeat = \"100ms\"\nheartbeat_timeout = \"1s\"\n\
         [[node]]\nname = \"manager\"\nrole = \"manager\"\nport = {manager}\n\
         [[node]]\nname = \"data-1\"\nrole = \"data\"\nport = {data}\n{rest}"
    );
    std::fs::write(directory.join(file), text).unwrap();
}

#[test]
fn a_master_on_no_node_is_told_by_check() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let store = "[store.\"a/b\"]\nmaster = \"data-2\"\n";
    write(directory, "muster.toml", &[1, 2], store);
    let checked = run(directory, &["check"]);
    let text = stderr(&checked);
    assert_eq!(checked.status.code(), Some(1), "{text}");
    assert!(
        text.contains("a store's master is on `data-2`, which is no node"),
        "{text}"
    );
    assert!(text.contains("did you mean `data-1`?"), "{text}");
}

#[test]
fn a_store_named_twice_is_told_by_check() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let store = "[store.\"a/b\"]\nmaster = \"data-1\"\n[store.\"a/b\"]\nmaster = \"manager\"\n";
    write(directory, "muster.toml", &[1, 2], store);
    let checked = run(directory, &["check"]);
    let text = stderr(&checked);
    assert_eq!(checked.status.code(), Some(1), "{text}");
    assert!(
        text.contains("muster.toml:14") && text.contains("duplicate"),
        "{text}"
    );
}

#[test]
fn files_that_cannot_be_used_are_told_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let ports = free_ports(2);
    std::fs::write(directory.join("file"), "no directory").unwrap();
    std::fs::write(directory.join("broken.sqlite"), "no database ".repeat(1000)).unwrap();
    for (path, reason) in [
        ("file/a.sqlite", "file"),
        ("broken.sqlite", "broken.sqlite"),
    ] {
        let store = format!("[store.\"a/b\"]\nbackend = \"sqlite\"\npath = \"{path}\"\n");
        write(directory, "muster.toml", &ports, &store);
        let started = run(directory, &["node", "manager"]);
        let text = stderr(&started);
        assert_eq!(started.status.code(), Some(1), "{text}");
        let line = text.lines().find(|line| line.contains("store a/b"));
        assert!(line.is_some_and(|line| line.contains(reason)), "{text}");
        assert_eq!(text.matches("store a/b").count(), 1, "{text}");
    }
}

/// Two boxes whose layouts differ: each node opens the master, and neither layout is wrong.
#[test]
fn two_primaries_of_one_name_are_told_by_both() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let ports = free_ports(2);
    let on = |node: &str| format!("[store.\"a/b\"]\nmaster = \"{node}\"\n");
    write(directory, "muster.toml", &ports, &on("manager"));
    write(directory, "other.toml", &ports, &on("data-1"));
    let mut manager = Running::start(directory, &["node", "manager"]);
    let mut data = Running::start(directory, &["node", "data-1", "--layout", "other.toml"]);
    manager.wait_for(" and node data-1 (");
    data.wait_for(" and node manager (");
}

/// A cluster of a manager, a logger, a proxy and a worker, with `stores` in its layout: the addresses of its nodes.
fn small_cluster(directory: &Path, stores: &str) -> (Running, Vec<String>) {
    let ports = free_ports(4);
    let mut text = "directory = \"state\"\n".to_owned();
    for (name, port) in ["manager", "logger", "proxy", "worker"].iter().zip(&ports) {
        let node = format!("[[node]]\nname = \"{name}\"\nrole = \"{name}\"\nport = {port}\n");
        text.push_str(&node);
    }
    std::fs::write(directory.join("muster.toml"), text + stores).unwrap();
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let addresses = ports.iter().map(|port| format!("127.0.0.1:{port}"));
    (cluster, addresses.collect())
}

fn store(directory: &Path, address: &str, words: &[&str]) -> Output {
    run(
        directory,
        &[&["store", address, "--timeout", "20"], words].concat(),
    )
}

/// The command once said after five seconds that there is no primary, unless a node happened to use the store.
#[test]
fn a_store_that_nobody_uses_is_opened_through_any_node() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (_cluster, addresses) = small_cluster(directory, "");
    for (number, address) in addresses.iter().enumerate() {
        let name = format!("test/by-{number}");
        let put = store(directory, address, &[&name, "put", "\"k\"", "count:5"]);
        assert!(put.status.success(), "{address}: {}", stderr(&put));
        // Everybody else finds the same one.
        for address in &addresses {
            let got = store(directory, address, &[&name, "get", "\"k\""]);
            assert_eq!(stdout(&got), "5\n", "{address}: {}", stderr(&got));
            let keys = store(directory, address, &[&name, "keys"]);
            assert_eq!(stdout(&keys), "\"k\"\n", "{address}: {}", stderr(&keys));
        }
        let sum = store(
            directory,
            address,
            &[&format!("{name}/sum"), "increment", "1"],
        );
        assert_eq!(stdout(&sum), "1\n", "{address}: {}", stderr(&sum));
    }
    let entries = stdout(&store(directory, &addresses[0], &["test/by-0", "dump"]));
    std::fs::write(directory.join("entries"), entries).unwrap();
    let loaded = store(directory, &addresses[3], &["test/l", "load", "entries"]);
    assert!(loaded.status.success(), "{}", stderr(&loaded));
    // None of it is on a disk: nobody has asked for that.
    let kept = std::fs::read_dir(directory.join("state/stores")).unwrap();
    let mut kept = kept.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert!(kept.all(|file| !file.starts_with("test_")));
}

/// Whoever only reads makes nothing, and is not kept waiting: who waits for its time limit hears that there is no primary.
#[test]
fn a_store_that_nobody_has_opened_is_not_made_by_reading() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let named = "[store.\"test/named\"]\nmaster = \"logger\"\n";
    let (_cluster, addresses) = small_cluster(directory, named);
    let reads: [&[&str]; 7] = [
        &["get", "1"],
        &["keys"],
        &["size"],
        &["dump"],
        &["watch"],
        &["erase", "1"],
        &["clear"],
    ];
    for address in [&addresses[0], &addresses[1], &addresses[3]] {
        for words in reads {
            let read = store(directory, address, &[&["test/none"], words].concat());
            let said = stderr(&read);
            assert_eq!(read.status.code(), Some(1), "{words:?}: {said}");
            assert!(
                said.contains("nobody has opened store test/none") && said.contains("hint:"),
                "{address}: {words:?}: {said}"
            );
            assert_eq!(stdout(&read), "");
        }
        let size = store(directory, address, &["test/named", "size"]);
        assert_eq!(stdout(&size), "0\n", "{address}: {}", stderr(&size));
    }
    let stopped = run(directory, &["stop", "manager"]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    for address in [&addresses[1], &addresses[3]] {
        let words = [
            "store",
            address,
            "test/none",
            "put",
            "1",
            "2",
            "--timeout",
            "1",
        ];
        let put = run(directory, &words);
        let said = stderr(&put);
        assert!(
            said.contains("store test/none: node manager, where it belongs, is not up"),
            "{address}: {said}"
        );
    }
}

/// What was kept is there in the next life of the cluster, for whoever reads and for whoever writes.
#[test]
fn a_store_that_is_kept_is_opened_by_reading() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (cluster, addresses) = small_cluster(directory, "");
    for name in ["test/kept", "test/grows", "test/durable"] {
        let option = if name == "test/durable" {
            "--durable"
        } else {
            "--persistent"
        };
        let put = store(directory, &addresses[3], &[name, "put", "1", "2", option]);
        assert!(put.status.success(), "{}", stderr(&put));
    }
    assert!(directory.join("state/stores/test_kept.sqlite").exists());
    let ended = status(directory).unwrap();
    drop(cluster);
    // Its nodes end with it, in their time: the next one would take them over as long as they live.
    for node in ["manager", "logger", "proxy", "worker"] {
        let pid = pid_of(&ended, node);
        until("the end of the nodes", || (!is_alive(pid)).then_some(()));
    }
    let (_cluster, addresses) = small_cluster(directory, "");
    for name in ["test/kept", "test/durable"] {
        let got = store(directory, &addresses[3], &[name, "get", "1"]);
        assert_eq!(stdout(&got), "2\n", "{}", stderr(&got));
    }
    let sum = store(
        directory,
        &addresses[1],
        &["test/grows", "increment", "1", "5"],
    );
    assert_eq!(stdout(&sum), "7\n", "{}", stderr(&sum));
}
