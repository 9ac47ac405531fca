//! Stores of three boxes: what was answered is there when a box is gone, and again when it is back.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::process::Output;

use serde_json::Value;
use support::boxes::Boxes;
use support::cluster::kill;
use support::{Running, stdout, until};

/// Does something with a store at a node of a box, with the certificate of that box.
fn store(boxes: &Boxes, name: &str, arguments: &[&str]) -> Output {
    let identity = boxes.root(name).join("var/lib/muster/identity");
    let file = |file: &str| identity.join(file).display().to_string();
    let address = format!("{}:17760", boxes.address(name));
    let (ca, certificate, key) = (file("ca.pem"), file("box.pem"), file("box.key"));
    let mut all = vec!["store", "--tls", "mutual", "--ssl-cafile", &ca];
    all.extend(["--ssl-certificate", &certificate, "--ssl-keyfile", &key]);
    all.extend(["--timeout", "20", &address]);
    all.extend(arguments);
    boxes.run(name, &all)
}

fn said(boxes: &Boxes, name: &str, arguments: &[&str]) -> String {
    let output = store(boxes, name, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    stdout(&output).trim().to_owned()
}

/// Kills all of a box at once: its agent and its nodes.
fn kill_box(boxes: &Boxes, name: &str, agent: &mut Running) {
    let status = boxes.status(name);
    let nodes = status["nodes"].as_array().unwrap().iter();
    let nodes = nodes.filter(|node| node["box"] == name);
    let nodes: Vec<u64> = nodes.map(|node| node["pid"].as_u64().unwrap()).collect();
    kill(status["agent"]["pid"].as_u64().unwrap(), "-9");
    for node in nodes {
        kill(node, "-9");
    }
    agent.child.wait().unwrap();
}

/// Waits until coordinators say of every store that all of its copies are in sync, one of them on this box.
fn await_copies(boxes: &Boxes, asked: &str, on: &str) {
    until(&format!("copies on box {on}"), || {
        let output = boxes.run(asked, &["stores", "--format", "json"]);
        let told: Value = serde_json::from_slice(&output.stdout).ok()?;
        let stores = told["stores"].as_array()?;
        let is_complete = |store: &Value| {
            let copies = store["in_sync"].as_array();
            copies.is_some_and(|them| them.len() == 2 && them.iter().any(|it| it["box"] == on))
        };
        (!stores.is_empty() && stores.iter().all(is_complete)).then_some(())
    });
}

#[test]
fn a_box_may_be_killed_and_every_store_goes_on() {
    let mut boxes = Boxes::new();
    let mut agents = boxes.three();
    assert_eq!(said(&boxes, "b", &["counts", "increment", "\"n\""]), "1");
    said(
        &boxes,
        "c",
        &["kept", "put", "\"x\"", "count:7", "--durable"],
    );
    await_copies(&boxes, "b", "a");
    await_copies(&boxes, "b", "b");

    // The primaries, the manager and perhaps the leader are gone.
    kill_box(&boxes, "a", &mut agents[0]);
    assert_eq!(said(&boxes, "b", &["counts", "increment", "\"n\""]), "2");
    assert_eq!(said(&boxes, "c", &["kept", "get", "\"x\""]), "7");
    said(
        &boxes,
        "b",
        &["kept", "put", "\"y\"", "count:8", "--durable"],
    );
    let short = boxes.run("b", &["stores"]);
    assert_eq!(short.status.code(), Some(1), "{short:?}");
    assert!(
        stdout(&short).contains("1 of 2 copies in sync"),
        "{short:?}"
    );

    // It is back, gets what it has missed, and is enough when the other one is gone.
    agents[0] = boxes.agent("a");
    await_copies(&boxes, "c", "a");
    kill_box(&boxes, "b", &mut agents[1]);
    assert_eq!(said(&boxes, "a", &["counts", "increment", "\"n\""]), "3");
    assert_eq!(said(&boxes, "c", &["kept", "get", "\"y\""]), "8");
    assert_eq!(said(&boxes, "a", &["kept", "size"]), "2");

    // So is the other.
    agents[1] = boxes.agent("b");
    await_copies(&boxes, "a", "b");
    assert_eq!(said(&boxes, "b", &["counts", "get", "\"n\""]), "3");
}
