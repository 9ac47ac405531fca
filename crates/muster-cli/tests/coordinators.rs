//! The coordinators of three boxes: who they are, what is shown of them, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::Value;
use support::agent_box::AgentBox;
use support::boxes::Boxes;
use support::cluster::kill;
use support::{Running, stderr, stdout, until};

/// The coordinators as a box shows them, when it is so.
fn shown(boxes: &Boxes, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, || {
        let output = boxes.run(name, &["coordinators", "--format", "json"]);
        let shown = serde_json::from_slice::<Value>(&output.stdout).ok()?;
        is_so(&shown).then_some(shown)
    })
}

fn leads(shown: &Value) -> bool {
    shown["part"] == "leader"
}

fn are_there(shown: &Value) -> bool {
    let mut voters = shown["voters"].as_array().unwrap().iter();
    voters.all(|voter| voter["present"] == true && voter["votes"] == true)
}

/// Kills the agent of box b or c; its nodes go on.
fn end(boxes: &Boxes, agents: &mut [Running], name: &str) {
    let pid = boxes.status(name)["agent"]["pid"].as_u64().unwrap();
    kill(pid, "-9");
    let at = if name == "b" { 1 } else { 2 };
    agents[at].child.wait().unwrap();
}

#[test]
fn coordinators_are_shown_and_who_is_away_is_named() {
    let mut boxes = Boxes::new();
    let mut agents = boxes.three();
    let all = |shown: &Value| leads(shown) && are_there(shown);
    let known = shown(&boxes, "c", "three coordinators", all);
    assert_eq!(known["voters"].as_array().unwrap().len(), 3);
    assert_eq!(known["leader"], known["box"]);
    // Each says what it does.
    let mut voters = known["voters"].as_array().unwrap().iter();
    assert!(voters.all(|voter| voter["part"].is_string()), "{known}");
    let all_in = |shown: &Value| {
        let members = shown["members"].as_array();
        members.is_some_and(|them| them.len() == 5 && them.iter().all(|it| it["state"] == "in"))
    };
    shown(&boxes, "b", "five nodes", all_in);

    // A store that was just opened has too few copies for a moment.
    let text = until("coordinators that are well", || {
        let output = boxes.run("a", &["coordinators"]);
        output.status.success().then(|| stdout(&output))
    });
    assert!(text.starts_with("coordinators: box "), "{text}");
    assert!(text.contains("\ndata-1 "), "{text}");
    assert!(text.contains("\nredundant: yes\n"), "{text}");
    let status = stdout(&boxes.run("a", &["status"]));
    assert!(status.contains("leads; all 3 are there\n"), "{status}");
    until("standings", || {
        let status = boxes.status("a");
        let mut nodes = status["nodes"].as_array().unwrap().iter();
        nodes
            .all(|node| node["report"]["coordination"]["standing"] == "in")
            .then_some(())
    });

    // Refused: they decide, and the box answers.
    let name_twice = boxes.run("a", &["coordinators", "recover", "--lost", "b"]);
    assert_eq!(name_twice.status.code(), Some(2));
    assert!(stderr(&name_twice).contains("--confirm b"));
    let recover = |of: &str, lost: &str| {
        let arguments = ["coordinators", "recover", "--lost", lost, "--confirm", lost];
        boxes.refused(of, &arguments)
    };
    let decide = recover("a", "b");
    assert!(decide.contains("there is nothing to recover"), "{decide}");
    let nobody = recover("a", "x");
    assert!(nobody.contains("box x is no coordinator"), "{nobody}");
    let audit = std::fs::read_to_string(boxes.root("a").join("var/log/muster/audit.log")).unwrap();
    assert!(audit.contains("coordinators recover"), "{audit}");

    // One that does not lead is gone.
    let (gone, other) = if known["leader"] == "c" {
        ("b", "c")
    } else {
        ("c", "b")
    };
    end(&boxes, &mut agents, gone);
    let away = |shown: &Value| {
        let mut voters = shown["voters"].as_array().unwrap().iter();
        leads(shown) && voters.any(|voter| voter["box"] == gone && voter["present"] == false)
    };
    shown(&boxes, "a", "one that is away", away);
    let output = boxes.run("a", &["coordinators"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains(&format!("\nbox {gone} is away\n")), "{text}");
    let redundant = text.lines().find(|line| line.starts_with("redundant"));
    let redundant = redundant.unwrap();
    assert!(redundant.starts_with("redundant: no, since "), "{text}");
    assert!(redundant.contains(&format!("box {gone} is away")), "{text}");
    let doctor = stdout(&boxes.run("a", &["doctor"]));
    let warning = format!("WARN coordinators  that of box {gone} is away");
    assert!(doctor.contains(&warning), "{doctor}");
    let decide = recover("a", gone);
    assert!(decide.contains("there is nothing to recover"), "{decide}");

    // The other one is gone, too: nothing is decided, and every node that is left says so.
    end(&boxes, &mut agents, other);
    shown(&boxes, "a", "nobody who leads", |it| it["leader"].is_null());
    let text = stdout(&boxes.run("a", &["coordinators"]));
    assert!(text.starts_with("coordinators: nobody leads"), "{text}");
    let doctor = boxes.run("a", &["doctor"]);
    assert_eq!(doctor.status.code(), Some(2));
    let degraded = until("a node without a lease", || {
        let status = boxes.status("a");
        let nodes = status["nodes"].as_array().unwrap().clone();
        nodes.into_iter().find(|node| {
            let troubles = node["report"]["troubles"].as_array();
            let mut troubles = troubles.into_iter().flatten();
            troubles.any(|trouble| trouble["kind"] == "lease")
        })
    });
    assert_eq!(degraded["report"]["state"], "degraded");

    // Now it may go on alone.
    let arguments = ["coordinators", "recover", "--lost", gone, "--confirm", gone];
    let recovered = until("recovery", || {
        let output = boxes.run("a", &arguments);
        output.status.success().then(|| stderr(&output))
    });
    assert!(recovered.contains("decides alone"), "{recovered}");
    let alone = |shown: &Value| leads(shown) && shown["generation"] == 1;
    shown(&boxes, "a", "one that decides alone", alone);
    // Whoever comes back follows.
    let _back = [boxes.agent(gone), boxes.agent(other)];
    let again = |shown: &Value| alone(shown) && are_there(shown);
    shown(&boxes, gone, "three that decide again", again);
    boxes.done("a", &["status", "--wait", "ready"]);
}

#[test]
fn a_cluster_of_one_box_has_none() {
    let here = AgentBox::new();
    let _agent = here.start();
    let output = here.done(&["coordinators"]);
    assert_eq!(stdout(&output), "coordinators: none: one box\n");
    let arguments = ["coordinators", "recover", "--lost", "b", "--confirm", "b"];
    let refused = here.run(&arguments);
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    assert!(!stdout(&here.run(&["status"])).contains("coordinators"));
}
