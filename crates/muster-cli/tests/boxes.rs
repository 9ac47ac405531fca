//! Several boxes, each with an agent: how they become one cluster, and what each of them knows of the others.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use serde_json::Value;
use support::boxes::{Boxes, NODES};
use support::cluster::{kill, pid_of};
use support::{Running, is_alive, stderr, stdout, until};

fn of(status: &Value, name: &str) -> Value {
    let mut nodes = status["nodes"].as_array().unwrap().iter();
    nodes.find(|node| node["node"] == name).unwrap().clone()
}

#[test]
fn three_boxes_become_one_cluster_and_each_knows_it_all() {
    let mut boxes = Boxes::new();
    let mut agents = boxes.three();
    let whole = |name: &str| {
        let status = boxes.status(name);
        let nodes = NODES.map(|(node, _, on)| {
            let found = of(&status, node);
            assert_eq!(found["box"], on);
            (
                found["pid"].as_u64().unwrap(),
                found["report"]["state"].clone(),
            )
        });
        let known = status["boxes"].as_array().unwrap().len();
        (known, nodes)
    };
    let from_a = whole("a");
    assert_eq!(from_a.0, 3);
    assert!(from_a.1.iter().all(|(_, state)| state == "ready"));
    assert_eq!(from_a, whole("b"));
    assert_eq!(from_a, whole("c"));

    // Asked anywhere, done where the node is; who asked is written down there.
    boxes.done("c", &["restart", "data-2"]);
    let audit = std::fs::read_to_string(boxes.root("b").join("var/log/muster/audit.log")).unwrap();
    assert!(
        audit.contains("by muster://east/box/c") && audit.contains("\"object\":\"data-2\""),
        "{audit}"
    );
    boxes.done("b", &["stop", "worker-1"]);
    assert_eq!(of(&boxes.status("a"), "worker-1")["process"], "held");
    boxes.done("a", &["start", "worker-1"]);

    let logs = stdout(&boxes.done("b", &["logs", "--grep", "listens on"]));
    assert!(
        NODES
            .iter()
            .all(|(node, ..)| logs.contains(&format!("node {node} ("))),
        "{logs}"
    );
    let events = stdout(&boxes.done("a", &["events", "--format", "json"]));
    let of_boxes: std::collections::BTreeSet<String> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["box"].to_string())
        .collect();
    assert_eq!(of_boxes.len(), 3, "{of_boxes:?}");

    let bundle = boxes.directory.path().join("bundle.tar.zst");
    let doctor = |arguments: &[&str]| {
        let output = boxes.run("b", &[&["doctor", "--format", "json"], arguments].concat());
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let checks = report["checks"].as_array().unwrap().clone();
        (output.status.code().unwrap(), checks)
    };
    let (_, checks) = doctor(&["--bundle", bundle.to_str().unwrap()]);
    let verdict = |checks: &[Value], what: &str| {
        let mut of_it = checks.iter().filter(|check| check["what"] == what);
        of_it.next().unwrap()["verdict"].clone()
    };
    for what in [
        "agents",
        "nodes",
        "links",
        "stores",
        "clocks",
        "certificates",
    ] {
        assert_eq!(verdict(&checks, what), "ok", "{checks:?}");
    }
    assert!(std::fs::metadata(&bundle).unwrap().len() > 500);

    let directory = boxes.directory.path().to_owned();
    let write = |name: &str, number: u32| {
        let file = directory
            .join(name)
            .join("var/log/muster/current/sightings.log");
        let text = match number {
            0 => "#separator \\x09\n#fields\tts\tnumber\n#types\ttime\tcount\n".to_owned(),
            // The later ones have an earlier time.
            number => format!("{}.5\t{name}{number}\n", 1000 - number),
        };
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(file);
        std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
    };
    for (name, number) in [("a", 0), ("b", 0), ("a", 1), ("b", 1)] {
        write(name, number);
    }
    let mut follower = Running::spawn(&mut boxes.command("a", &["records", "sightings", "-f"]));
    let mut rows = std::io::BufReader::new(follower.child.stdout.take().unwrap());
    let mut row = || {
        let mut row = String::new();
        std::io::BufRead::read_line(&mut rows, &mut row).unwrap();
        row.trim_end().rsplit_once('\t').unwrap().1.to_owned()
    };
    assert_eq!(row(), "number");
    let mut both = [row(), row()];
    both.sort();
    assert_eq!(both, ["a1", "b1"]);
    for number in 2..5 {
        write("b", number);
        assert_eq!(row(), format!("b{number}"));
    }

    // Whoever is asked counts on all boxes. What the test has written beside the logger is more than that has.
    let verify = |name: &str| {
        let shown = boxes.run(name, &["records", "--verify", "--format", "json"]);
        let verified: Value = serde_json::from_str(&stdout(&shown)).unwrap();
        (shown.status.code(), verified)
    };
    let (code, verified) = verify("c");
    assert_eq!(code, Some(0), "{verified:#}");
    let logger = &verified["loggers"][0];
    assert_eq!(
        (&logger["node"], &logger["box"]),
        (&"logger-1".into(), &"a".into())
    );
    assert_eq!(
        verified["streams"]["sightings"]["current"], 1,
        "{verified:#}"
    );
    assert_eq!(logger["too_many"], 1, "{verified:#}");

    // An agent that is gone costs no node its life, and is told.
    let before = boxes.status("b")["agent"]["pid"].as_u64().unwrap();
    kill(before, "-9");
    agents[1].child.wait().unwrap();
    let shown = boxes.run("a", &["status"]);
    assert_eq!(shown.status.code(), Some(5), "{}", stdout(&shown));
    assert!(
        stdout(&shown).contains("): agent gone, "),
        "{}",
        stdout(&shown)
    );
    let pid = of(&boxes.status("c"), "worker-1")["pid"].as_u64().unwrap();
    assert!(is_alive(pid));
    let data = of(&boxes.status("a"), "data-2");
    assert_eq!(
        (&data["process"], &data["report"]["state"]),
        (&"unknown".into(), &"connected".into())
    );
    let output = boxes.run("a", &["doctor"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stdout(&output).contains("FAIL agents        box b"),
        "{}",
        stdout(&output)
    );
    let (code, verified) = verify("a");
    assert_eq!(code, Some(5), "{verified:#}");
    assert_eq!(verified["verdict"], "unknown");
    let unknown = verified["unknown"].to_string();
    assert!(unknown.contains("box b: "), "{unknown}");
    let lost = boxes.run("a", &["restart", "data-2"]);
    assert_eq!(lost.status.code(), Some(5), "{}", stderr(&lost));
    assert!(stderr(&lost).contains("box b does not answer"));
    follower.wait_for("box b does not answer");
    write("b", 5);
    write("a", 2);
    assert_eq!(row(), "a2");
    let _back = boxes.agent("b");
    boxes.done("a", &["status", "--wait", "ready"]);
    follower.wait_for("box b answers again: what was written there meanwhile is not shown");
    write("b", 6);
    assert_eq!(row(), "b6");
}

#[test]
fn a_token_lets_one_box_in_once_and_what_does_not_fit_is_said() {
    let mut boxes = Boxes::new();
    let at = boxes.address("a");
    let nobody = boxes.run(
        "b",
        &[
            "join",
            "--box",
            "b",
            &format!(
                "muster1.{}.{}.{}",
                "0".repeat(64),
                "0".repeat(16),
                "0".repeat(64)
            ),
            &at,
        ],
    );
    assert_eq!(nobody.status.code(), Some(3), "{}", stderr(&nobody));
    boxes.done("a", &["init", "--box", "a", "three.toml"]);
    let twice = boxes.refused("a", &["init", "--box", "a", "three.toml"]);
    assert!(twice.contains("box a of cluster east already"), "{twice}");
    let _agent = boxes.agent("a");
    let token = boxes.token();
    let (own, other) = (boxes.address("b"), boxes.address("c"));

    let forged = token.replacen(
        &token[8..10],
        if &token[8..10] == "00" { "11" } else { "00" },
        1,
    );
    let text = boxes.refused(
        "b",
        &["join", "--box", "b", "--address", &own, &forged, &at],
    );
    assert!(
        text.contains("another authority") && text.contains("nothing was sent"),
        "{text}"
    );
    let text = boxes.refused(
        "b",
        &["join", "--box", "b", "--address", &own, "secret", &at],
    );
    assert!(text.contains("no token"), "{text}");
    let text = boxes.refused("b", &["join", "--box", "z", "--address", &own, &token, &at]);
    assert!(text.contains("no box z"), "{text}");
    let text = boxes.refused(
        "b",
        &["join", "--box", "b", "--address", &other, &token, &at],
    );
    assert!(text.contains(&own), "{text}");
    // None of them has used it up, and none has left anything behind.
    assert!(!boxes.root("b").exists());
    boxes.done("b", &["join", "--box", "b", "--address", &own, &token, &at]);
    let text = boxes.refused(
        "c",
        &["join", "--box", "c", "--address", &other, &token, &at],
    );
    assert!(text.contains("has been used"), "{text}");
    let text = boxes.refused("b", &["join", "--box", "b", "--address", &own, &token, &at]);
    assert!(text.contains("box b of cluster east already"), "{text}");

    // A box whose disk is new is let in when somebody says so.
    let new = boxes.root("b");
    std::fs::rename(&new, boxes.root("old")).unwrap();
    let token = boxes.token();
    let text = boxes.refused("b", &["join", "--box", "b", "--address", &own, &token, &at]);
    assert!(text.contains("muster box forget b"), "{text}");
    boxes.done("a", &["box", "forget", "b"]);
    boxes.done("b", &["join", "--box", "b", "--address", &own, &token, &at]);

    // Root sets a box up for the user of the service.
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(boxes.directory.path()).unwrap()) == 0
    {
        let state = boxes.root("service").join("var/lib/muster");
        std::fs::create_dir_all(&state).unwrap();
        std::os::unix::fs::chown(&state, Some(65534), Some(65534)).unwrap();
        boxes.done("a", &["box", "forget", "b"]);
        let token = boxes.token();
        boxes.done(
            "service",
            &["join", "--box", "b", "--address", &own, &token, &at],
        );
        for file in [
            "etc/muster/agent.toml",
            "etc/muster/muster.toml",
            "var/lib/muster/identity/box.key",
        ] {
            let metadata = std::fs::metadata(boxes.root("service").join(file)).unwrap();
            assert_eq!(
                std::os::unix::fs::MetadataExt::uid(&metadata),
                65534,
                "{file}"
            );
        }
    }

    let only = boxes.run("b", &["token", "create"]);
    assert_eq!(only.status.code(), Some(3), "{}", stderr(&only));
    let key = boxes
        .root("a")
        .join("var/lib/muster/identity/authority/ca.key");
    assert!(key.exists());
    assert!(!contains_file(&boxes.root("b"), "ca.key"));
}

fn contains_file(directory: &Path, name: &str) -> bool {
    std::fs::read_dir(directory)
        .unwrap()
        .flatten()
        .any(|entry| {
            entry.file_name() == name || entry.path().is_dir() && contains_file(&entry.path(), name)
        })
}

/// The key of a node is in the hands of whoever has that process: it may do what a node does, and nothing else.
#[test]
fn the_certificate_of_a_node_may_ask_an_agent_nothing() {
    let mut boxes = Boxes::new();
    let _agents = boxes.three();
    let ask = |files: Option<&str>, request: &str| boxes.ask(files, request, "");
    let Some(of_box) = ask(Some("box"), "GET /v1/status") else {
        eprintln!("SKIPPED: the program openssl is not there");
        return;
    };
    assert!(of_box.starts_with("HTTP/1.1 200"), "{of_box}");
    for request in [
        "GET /v1/status",
        "GET /v1/logs",
        "POST /v1/nodes/data-1/stop",
        "POST /v1/stop",
    ] {
        for files in [Some("nodes/data-2"), None] {
            let answer = ask(files, request).unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 403"),
                "{request} {files:?}: {answer}"
            );
        }
    }
    let too_much = ask(Some("box"), "POST /v1/stop").unwrap();
    assert!(too_much.starts_with("HTTP/1.1 403"), "{too_much}");
}

#[test]
fn metrics_are_for_boxes_and_for_who_shows_the_token() {
    let mut boxes = Boxes::new();
    let _agents = boxes.three();
    let token = "0123456789abcdef";
    let header = format!("authorization: Bearer {token}\r\n");
    let paths = ["GET /metrics", "GET /v1/prometheus/targets"];
    if boxes.ask(None, paths[0], "").is_none() {
        eprintln!("SKIPPED: the program openssl is not there");
        return;
    }
    let code = |files: Option<&str>, request: &str, header: &str| {
        let answer = boxes.ask(files, request, header).unwrap();
        answer.get(..12).unwrap_or(&answer).to_owned()
    };
    for path in paths {
        assert_eq!(code(Some("box"), path, ""), "HTTP/1.1 200", "{path}");
        for files in [Some("nodes/data-2"), None] {
            assert_eq!(code(files, path, &header), "HTTP/1.1 401", "{path}");
        }
    }
    let file = boxes.root("a").join("etc/muster/metrics.token");
    std::fs::write(&file, token).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, permissions).unwrap();
    for path in paths {
        assert_eq!(code(None, path, &header), "HTTP/1.1 200", "{path}");
        assert_eq!(code(None, path, ""), "HTTP/1.1 401", "{path}");
        let wrong = header.replace("abc", "abd");
        assert_eq!(code(None, path, &wrong), "HTTP/1.1 401", "{path}");
    }
    // It opens nothing else.
    assert_eq!(code(None, "GET /v1/status", &header), "HTTP/1.1 403");
    let metrics = boxes.ask(None, paths[0], &header).unwrap();
    let here = NODES.iter().filter(|(_, _, on)| *on == "a").count();
    assert_eq!(metrics.matches("\nmuster_node_up{").count(), here);
    assert!(metrics.contains("cluster=\"east\",box=\"a\",node=\"data-1\""));
    // The box's own and those of its nodes.
    let certificates = metrics.matches("\nmuster_certificate_expiry_timestamp_seconds{");
    assert_eq!(certificates.count(), here + 1);
    let targets = boxes.ask(None, paths[1], &header).unwrap();
    let (_, targets) = targets.split_once("\r\n\r\n").unwrap();
    let targets: Value = serde_json::from_str(targets).unwrap();
    let expected: Vec<Value> = ["a", "b", "c"]
        .iter()
        .map(|name| {
            let target = format!("{}:17700", boxes.address(name));
            serde_json::json!({"targets": [target], "labels": {"cluster": "east", "box": name}})
        })
        .collect();
    assert_eq!(targets, Value::from(expected));
}

#[test]
fn certificates_are_renewed_while_everything_runs() {
    let mut boxes = Boxes::new();
    boxes.done(
        "a",
        &[
            "init",
            "--box",
            "a",
            "--certificate-seconds",
            "12",
            "three.toml",
        ],
    );
    let mut agents = vec![boxes.agent("a")];
    for name in ["b", "c"] {
        boxes.join(name);
        agents.push(boxes.agent(name));
    }
    boxes.done("b", &["status", "--wait", "ready"]);
    let before = boxes.status("a");
    let serial = |node: &str, on: &str| {
        let file = boxes
            .root(on)
            .join(format!("var/lib/muster/identity/{node}.pem"));
        std::fs::read(file).unwrap()
    };
    let first = (
        serial("box", "b"),
        serial("nodes/worker-1", "c"),
        serial("nodes/manager", "a"),
    );
    until("new certificates, twice", || {
        let events = stdout(&boxes.run("c", &["events"]));
        let renewed = |node: &str| {
            events
                .lines()
                .filter(|line| line.contains(node) && line.contains("has a new certificate"))
                .count()
        };
        (renewed("worker-1") >= 3 && renewed("manager") >= 3 && renewed("data-2") >= 3)
            .then_some(())
    });
    let now = (
        serial("box", "b"),
        serial("nodes/worker-1", "c"),
        serial("nodes/manager", "a"),
    );
    assert!(first.0 != now.0 && first.1 != now.1 && first.2 != now.2);
    // The first ones have ended by now: a node that comes back is known by a later one, and to later ones.
    boxes.done("a", &["restart", "data-2"]);
    let after = boxes.status("c");
    for (node, ..) in NODES {
        let is_same = pid_of(&before, node) == pid_of(&after, node);
        assert_eq!(is_same, node != "data-2", "{node}");
        assert!(is_alive(pid_of(&after, node)));
    }
    boxes.done("c", &["status", "--wait", "ready"]);
}

/// A layout need not name its cluster. What the box belongs to and what the layout is of are the same all the same.
#[test]
fn a_layout_of_another_cluster_is_refused_and_one_without_a_name_is_not() {
    let mut boxes = Boxes::new();
    let named = boxes.layout();
    let nameless = named.replacen("[cluster]\nname = \"east\"\n", "", 1);
    assert_ne!(named, nameless);
    std::fs::write(boxes.layout_file(), nameless).unwrap();
    boxes.done("a", &["init", "--box", "a", "three.toml"]);
    let agent = boxes.agent("a");
    let layout = boxes.root("a").join("etc/muster/muster.toml");
    std::fs::write(&layout, named).unwrap();
    let said = boxes.refused("a", &["agent", "reload"]);
    assert!(said.contains("it is of cluster `east`"), "{said}");
    boxes.done("a", &["agent", "stop"]);
    agent.finish();
    let another = boxes.run("a", &["agent"]);
    assert_eq!(another.status.code(), Some(78), "{}", stderr(&another));
}
