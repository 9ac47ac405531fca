//! A small cluster.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::{free_ports, run, stdout};

/// A cluster of four nodes with a small conn.log that the worker reads.
pub(crate) fn layout(directory: &Path) {
    let ports = free_ports(4);
    let mut text =
        "directory = \"state\"\n[known_hosts]\nlocal_nets = [\"127.0.0.0/8\"]\n".to_owned();
    for ((name, role), port) in [
        ("manager", "manager"),
        ("logger", "logger"),
        ("data-1", "data"),
        ("worker-1", "worker"),
    ]
    .iter()
    .zip(ports)
    {
        writeln!(
            text,
            "[[node]]\nname = \"{name}\"\nrole = \"{role}\"\nport = {port}"
        )
        .unwrap();
        if *role == "worker" {
            text.push_str("input = [\"conn.log\"]\n");
        }
    }
    std::fs::write(directory.join("muster.toml"), text).unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../muster-frameworks/tests/data");
    std::fs::copy(
        sample.join("echo-connections.conn.log"),
        directory.join("conn.log"),
    )
    .unwrap();
}

pub(crate) fn status(directory: &Path) -> Option<Value> {
    serde_json::from_str(&stdout(&run(directory, &["status", "--format", "json"]))).ok()
}

pub(crate) fn pid_of(status: &Value, name: &str) -> u64 {
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["node"] == name).unwrap()["pid"]
        .as_u64()
        .unwrap()
}

pub(crate) fn kill(pid: u64, signal: &str) {
    let status = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}
