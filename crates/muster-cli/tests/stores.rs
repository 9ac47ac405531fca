//! What an operator hears of stores that cannot be as the layout has them: each by name, once.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use support::{Running, free_ports, run, stderr};

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
