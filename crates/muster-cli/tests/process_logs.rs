//! What the processes of a cluster say of themselves, in each form.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::process::Command;

use serde_json::Value;
use support::agent_box::AgentBox;
use support::{Running, stderr, stdout};

#[test]
fn logs_in_json_are_shown_as_others_are() {
    let here = AgentBox::with("[log]\nformat = \"json\"\n");
    let mut agent = Running::spawn(&mut here.command(&["agent"]));
    let line = agent.wait_for("all nodes are ready");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["message"], "all nodes are ready");
    assert_eq!(line["level"], "INFO");

    let file = here.root().join("var/log/muster/nodes/data-1.log");
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    let listens = |line: &&Value| line["message"].as_str().unwrap().contains("listens on");
    let line = lines.iter().find(listens).unwrap();
    assert_eq!(
        (&line["node"], &line["level"]),
        (&"data-1".into(), &"INFO".into())
    );

    let shown = stdout(&here.done(&["logs", "data-1", "--level", "info"]));
    let line = shown.lines().find(|line| line.contains("listens on"));
    let line = line.unwrap_or_else(|| panic!("{shown}"));
    assert!(line.contains("data-1       INFO  node data-1 ("), "{line}");
    assert!(!shown.contains('{'), "{shown}");
    let none = stdout(&here.done(&["logs", "data-1", "--level", "error"]));
    assert_eq!(none, "");
}

#[test]
fn why_a_node_ends_is_said_in_its_form() {
    let directory = tempfile::tempdir().unwrap();
    let layout = "[[node]]\nname = \"m\"\nrole = \"manager\"\naddress = \"192.0.2.1\"\n[log]\nformat = \"json\"\n";
    std::fs::write(directory.path().join("muster.toml"), layout).unwrap();
    let output = support::run(directory.path(), &["node", "m"]);
    assert!(!output.status.success());
    let said = stderr(&output);
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["level"], &last["node"]),
        (&"ERROR".into(), &"m".into())
    );
    assert!(
        last["message"].as_str().unwrap().contains("cannot start"),
        "{said}"
    );
    assert!(last["fields"]["hint"].is_string(), "{said}");
}

/// A service's stderr is the journal only if it is the very file that the service manager means.
#[test]
fn a_process_whose_stderr_is_not_the_journal_says_everything_there() {
    let directory = tempfile::tempdir().unwrap();
    let layout = "[[node]]\nname = \"m\"\nrole = \"manager\"\naddress = \"192.0.2.1\"\n";
    std::fs::write(directory.path().join("muster.toml"), layout).unwrap();
    let mut command: Command = support::muster(directory.path(), &["node", "m"]);
    let output = command.env("JOURNAL_STREAM", "8:12345").output().unwrap();
    let said = stderr(&output);
    assert!(said.contains("error: node m cannot start"), "{said}");
}
