//! The agent of a box: its nodes outlive it, it replaces its program, and it knows who may do what.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use muster_agent::{Client, ClientError, RefusalKind};
use serde_json::Value;
use support::agent_box::{AgentBox, NODES, get};
use support::cluster::{kill, layout, pid_of};
use support::{Running, free_ports, is_alive, stderr, stdout, until};

#[test]
fn a_killed_agent_costs_no_node_its_life_and_the_next_takes_them_over() {
    let here = AgentBox::new();
    let mut agent = here.start();
    let before = here.pids();
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();

    let shown = here.run(&["status"]);
    assert_eq!(shown.status.code(), Some(3));
    let text = stderr(&shown);
    assert!(
        text.contains("its nodes go on: data-1, logger, manager, worker-1")
            && text.contains("hint: `muster agent` takes them over"),
        "{text}"
    );
    assert!(before.iter().all(|pid| is_alive(*pid)));

    let mut next = Running::spawn(&mut here.command(&["agent"]));
    next.wait_for("worker-1: found running");
    next.wait_for("all nodes are ready");
    assert_eq!(here.pids(), before);
    // It keeps them as one that has started them.
    kill(before[2], "-9");
    until("a new data-1", || {
        let node = here.node("data-1");
        let is_new = node["pid"].as_u64().is_some_and(|pid| pid != before[2]);
        (is_new && node["report"]["state"] == "ready" && node["restarts"] == 1).then_some(())
    });
    let events = stdout(&here.done(&["events"]));
    assert!(
        events.contains("node_adopted   found running as process")
            && events.contains("agent_started"),
        "{events}"
    );
    here.done(&["agent", "stop"]);
    assert_eq!(next.finish().0, Some(0));
    assert!(!before.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn a_hanging_node_is_found_by_the_next_agent_as_well() {
    let here = AgentBox::new();
    let mut agent = here.start();
    let pid = here.node("data-1")["pid"].as_u64().unwrap();
    kill(pid, "-STOP");
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    let mut next = Running::spawn(&mut here.command(&["agent"]));
    next.wait_for("data-1: found running");
    assert_eq!(here.node("data-1")["pid"].as_u64(), Some(pid));
    kill(pid, "-CONT");
    next.wait_for("all nodes are ready");
    assert_eq!(here.node("data-1")["pid"].as_u64(), Some(pid));
}

#[test]
fn nodes_without_an_agent_are_stopped_in_order() {
    let here = AgentBox::new();
    let mut agent = here.start();
    let pids = here.pids();
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    let stopped = here.done(&["agent", "stop"]);
    let text = stderr(&stopped);
    assert!(text.contains("worker-1, without an agent"), "{text}");
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
    let again = here.run(&["agent", "stop"]);
    assert_eq!(again.status.code(), Some(3), "{}", stderr(&again));
}

#[test]
fn an_upgrade_costs_no_node_its_life_until_it_is_restarted() {
    let here = AgentBox::new();
    let agent = here.start();
    let before = here.status();
    let new = here.root().join("new");
    std::fs::copy(env!("CARGO_BIN_EXE_muster"), &new).unwrap();
    std::fs::rename(&new, &here.program).unwrap();

    let text = stdout(&here.run(&["status"]));
    assert!(
        text.contains("than these run: manager, logger, data-1, worker-1")
            && text.contains("than the agent runs (`muster agent reload`"),
        "{text}"
    );
    let reloaded = here.done(&["agent", "reload"]);
    let goes_on = format!("goes on as process {}", agent.child.id());
    assert!(
        stderr(&reloaded).contains(&goes_on),
        "{}",
        stderr(&reloaded)
    );
    let ready = here.done(&["status", "--wait", "ready"]);
    assert!(!stdout(&ready).contains("than the agent runs"));
    let after = here.status();
    for name in NODES {
        assert_eq!(pid_of(&before, name), pid_of(&after, name));
    }
    here.done(&["restart", "data-1"]);
    let pid = here.node("data-1")["pid"].as_u64().unwrap();
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert_eq!(program, here.program);
    let text = stdout(&here.run(&["status"]));
    assert!(
        text.contains("than these run: manager, logger, worker-1"),
        "{text}"
    );
    // The kernel tells who has started a node how it ended, and that is still the agent.
    kill(pid_of(&after, "worker-1"), "-KILL");
    until("the reason", || {
        let events = stdout(&here.run(&["events"]));
        events.contains("signal: 9 (SIGKILL)").then_some(())
    });
    here.done(&["agent", "stop"]);
    assert_eq!(agent.finish().0, Some(0));
}

#[test]
fn a_stopped_node_stays_down_whoever_the_agent_is() {
    let here = AgentBox::new();
    let mut agent = here.start();
    let unknown = here.run(&["stop", "data-7"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        stderr(&unknown).contains("no node `data-7`"),
        "{}",
        stderr(&unknown)
    );
    here.done(&["stop", "worker-1"]);
    assert_eq!(here.node("worker-1")["process"], "held");
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    let mut next = Running::spawn(&mut here.command(&["agent"]));
    next.wait_for("manager: found running");
    assert_eq!(here.node("worker-1")["process"], "held");
    let started = here.done(&["start", "worker-1"]);
    assert!(stderr(&started).contains("worker-1 is running"));
    let again = here.done(&["start", "worker-1"]);
    assert!(stderr(&again).contains("worker-1 is running already"));
}

/// Ports are given in the layout's order: a node that is not in it any more may be in the way of another.
#[test]
fn what_runs_and_is_not_in_the_layout_any_more_is_stopped() {
    let here = AgentBox::new();
    let mut agent = here.start();
    let pid = here.node("worker-1")["pid"].as_u64().unwrap();
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    let file = here.root().join("etc/muster/muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let worker = text.rfind("[[node]]").unwrap();
    std::fs::write(&file, &text[..worker]).unwrap();
    let mut next = Running::spawn(&mut here.command(&["agent"]));
    next.wait_for(&format!(
        "worker-1 runs as process {pid} and is not in the layout of this box any more"
    ));
    until("its end", || (!is_alive(pid)).then_some(()));
}

#[tokio::test]
async fn viewers_look_and_everything_that_is_asked_for_is_written_down() {
    let here = AgentBox::new();
    let _agent = here.start();
    let run = here.root().join("run/muster");
    let mode = |name: &str| {
        let file = std::fs::metadata(run.join(name)).unwrap();
        file.permissions().mode() & 0o777
    };
    assert_eq!((mode("agent.sock"), mode("view.sock")), (0o660, 0o666));
    assert_eq!(mode("nodes/manager.sock"), 0o600);

    let viewer = Client::new(run.join("view.sock"));
    assert!(viewer.status().await.unwrap().all_ready());
    for change in [
        "stop",
        "reload",
        "reopen",
        "nodes/data-1/restart",
        "nodes/data-1/stop",
    ] {
        let refused = viewer.change(change).await.unwrap_err();
        let ClientError::Refused(refusal) = refused else {
            panic!("{change}: {refused}");
        };
        assert_eq!(refusal.kind, RefusalKind::Forbidden, "{change}");
    }
    let logs = viewer.lines("logs").await.unwrap_err();
    assert!(matches!(logs, ClientError::Refused(_)), "{logs}");
    let admin = Client::new(run.join("agent.sock"));
    for (path, kind) in [
        ("nodes/data-1/explode", RefusalKind::Unknown),
        ("nodes/data-9/restart", RefusalKind::Unknown),
        ("explode", RefusalKind::Unknown),
    ] {
        let ClientError::Refused(refusal) = admin.change(path).await.unwrap_err() else {
            panic!("{path} was not refused");
        };
        assert_eq!(refusal.kind, kind, "{path}");
    }
    let ClientError::Refused(refusal) = admin.lines("logs?since=yesterday").await.unwrap_err()
    else {
        panic!("not refused");
    };
    assert_eq!(refusal.kind, RefusalKind::Malformed);

    here.done(&["restart", "data-1"]);
    let audit = std::fs::read_to_string(here.root().join("var/log/muster/audit.log")).unwrap();
    let entries: Vec<Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let viewers = entries.iter().filter(|entry| entry["role"] == "viewer");
    assert_eq!(viewers.count(), 5);
    let last = entries.last().unwrap();
    assert_eq!(
        (&last["verb"], &last["object"]),
        (&"restart".into(), &"data-1".into())
    );
    assert_eq!(
        (&last["role"], &last["outcome"]),
        (&"admin".into(), &"done".into())
    );
    assert!(last["who"].as_str().unwrap().starts_with("user "), "{last}");
}

#[test]
fn logs_and_events_are_shown_and_followed() {
    let here = AgentBox::new();
    let _agent = here.start();
    let logs = stdout(&here.done(&["logs", "--grep", "listens on"]));
    let lines: Vec<&str> = logs.lines().collect();
    assert_eq!(lines.len(), NODES.len(), "{logs}");
    assert!(
        NODES
            .iter()
            .all(|node| logs.contains(&format!("node {node} ("))),
        "{logs}"
    );
    let mut sorted = lines.clone();
    sorted.sort_by_key(|line| &line[..24]);
    assert_eq!(sorted, lines);
    let errors = stdout(&here.done(&["logs", "data-1", "--level", "error"]));
    assert_eq!(errors, "");

    let records = || stdout(&here.done(&["records", "known_hosts", "--format", "json"]));
    let records = until("a record", || {
        Some(records()).filter(|text| !text.is_empty())
    });
    let record: Value = serde_json::from_str(records.lines().next().unwrap()).unwrap();
    assert_eq!(record["host"], "127.0.0.1", "{record}");
    let table = stdout(&here.done(&["records", "known_hosts", "--last", "1"]));
    assert_eq!(table.lines().count(), 2, "{table}");
    assert_eq!(table.lines().next(), Some("ts\thost"));
    let none = here.run(&["records", "../etc"]);
    assert!(
        !none.status.success() && stderr(&none).contains("no stream is called"),
        "{}",
        stderr(&none)
    );

    let mut follower = here.command(&["events", "--follow", "--since", "0s", "--format", "json"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(follower.stdout.take().unwrap());
    until("the follower", || {
        // It may not follow yet: something happens until it does.
        here.done(&["restart", "data-1"]);
        let mut line = String::new();
        BufRead::read_line(&mut events, &mut line).unwrap();
        serde_json::from_str::<Value>(&line).ok()
    });
    follower.kill().unwrap();
    follower.wait().unwrap();
    let missing = here.run(&["events", "--since", "yesterday"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn an_agent_that_ends_before_it_answers_has_stopped() {
    let here = AgentBox::new();
    let socket = here.root().join("run/muster/agent.sock");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let agent = UnixListener::bind(&socket).unwrap();
    let asked = std::thread::spawn(move || {
        let (mut client, _) = agent.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&mut client).read_line(&mut line).unwrap();
        line
    });
    let stopped = here.run(&["agent", "stop"]);
    assert_eq!(asked.join().unwrap(), "POST /v1/stop HTTP/1.1\r\n");
    assert_eq!(stopped.status.code(), Some(0), "{}", stderr(&stopped));
    assert_eq!(stdout(&stopped), "");
    assert!(stderr(&stopped).contains("stopped"));
}

#[test]
fn an_agent_without_a_layout_or_beside_another_says_so() {
    let here = AgentBox::new();
    let agent = here.start();
    let twice = here.run(&["agent"]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(
        stderr(&twice).contains("an agent runs in"),
        "{}",
        stderr(&twice)
    );
    let file = here.root().join("etc/muster/muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n[scan]\ntreshold = 3\n")).unwrap();
    // The agent goes on, which the next one could not.
    let reloaded = here.run(&["agent", "reload"]);
    assert_eq!(reloaded.status.code(), Some(4));
    let said = stderr(&reloaded);
    assert!(said.contains("could not use the layout"), "{said}");
    here.done(&["stop"]);
    assert_eq!(agent.finish().0, Some(0));
    let wrong = here.run(&["agent"]);
    assert_eq!(wrong.status.code(), Some(78));
    assert!(
        stderr(&wrong).contains("did you mean `scan.threshold`?"),
        "{}",
        stderr(&wrong)
    );
    std::fs::remove_file(&file).unwrap();
    let none = here.run(&["agent"]);
    assert_eq!(none.status.code(), Some(78));
    assert!(stderr(&none).contains("cannot read"), "{}", stderr(&none));
}

/// What a layout's own directory has works like a box: `muster run` is the same agent.
#[test]
fn nodes_of_a_layout_outlive_their_supervisor_unless_they_are_tied_to_it() {
    let directory = tempfile::tempdir().unwrap();
    // The path of a socket is short by nature.
    let long = directory.path().join("d".repeat(120));
    std::fs::create_dir(&long).unwrap();
    layout(&long);
    let file = long.join("muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let ports = free_ports(1);
    std::fs::write(
        &file,
        format!(
            "{text}[[node]]\nname = \"data-2\"\nrole = \"data\"\nport = {}\n",
            ports[0]
        ),
    )
    .unwrap();
    let mut run = Running::start(&long, &["run"]);
    run.wait_for("all nodes are ready");
    let reload = support::run(&long, &["status", "--format", "json"]);
    let status: Value = serde_json::from_str(&stdout(&reload)).unwrap();
    let pid = pid_of(&status, "data-2");
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    until("the end of a tied node", || (!is_alive(pid)).then_some(()));

    let mut free = Running::spawn(&mut support::muster(&long, &["run"]));
    free.wait_for("all nodes are ready");
    free.child.kill().unwrap();
    free.child.wait().unwrap();
    let stopped = support::run(&long, &["stop"]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    assert!(
        stderr(&stopped).contains("without an agent"),
        "{}",
        stderr(&stopped)
    );
}

#[test]
fn the_metrics_of_a_box_are_those_of_its_agent_and_of_all_its_nodes() {
    let here = AgentBox::new();
    let _agent = here.start();
    let socket = here.root().join("run/muster/view.sock");
    let text = get(&socket, "/metrics", "*/*");
    for name in NODES {
        for metric in [
            "muster_node_up",
            "muster_node_metrics_told",
            "muster_node_restarts_total",
            "muster_events_total",
            "muster_inbox_messages",
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_start_time_seconds",
        ] {
            let has = |line: &str| {
                line.starts_with(&format!("{metric}{{"))
                    && line.contains(&format!("node=\"{name}\""))
            };
            assert!(text.lines().any(has), "{metric} of {name} in\n{text}");
        }
    }
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let own = samples
        .iter()
        .filter(|line| line.contains("role=\"agent\""));
    assert!(own.count() >= 8, "{text}");
    // A box of ten nodes has 3,000 at most.
    assert!(samples.len() <= 300 * NODES.len(), "{}", samples.len());
    // Each family is described once, and no series is there twice.
    let mut series: Vec<&str> = samples
        .iter()
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .chain(text.lines().filter(|line| line.starts_with("# TYPE")))
        .collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all);
    let open = get(&socket, "/metrics", "application/openmetrics-text");
    assert!(open.ends_with("# EOF\n"), "{open}");
    // An agent that is alone listens nowhere that Prometheus reaches.
    assert_eq!(get(&socket, "/v1/prometheus/targets", "*/*"), "[]");

    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!(
            "SKIPPED: the program promtool is not there (Debian's package prometheus has it)"
        );
        return;
    };
    let mut input = promtool.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, text.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let said = stdout(&output) + &stderr(&output);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
