//! `muster run`, `status`, `restart` and `stop` with real processes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use support::cluster::{kill, layout, pid_of, status};
use support::{Running, free_ports, is_alive, run, stderr, stdout, until};

#[test]
fn a_cluster_starts_shows_its_state_restarts_a_node_and_stops() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let before = run(directory, &["status"]);
    assert_eq!(before.status.code(), Some(3), "{}", stderr(&before));
    assert!(stderr(&before).contains("hint: start it with `muster run muster.toml`"));

    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let ready = status(directory).unwrap();
    assert_eq!(ready["version"], 1);
    let text = run(directory, &["status", "muster.toml"]);
    assert!(
        text.status.success() && stdout(&text).contains("worker-1"),
        "{}",
        stdout(&text)
    );

    let twice = run(directory, &["run"]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(stderr(&twice).contains("runs in"), "{}", stderr(&twice));

    let unknown = run(directory, &["restart", "worker-9"]);
    assert!(
        stderr(&unknown).contains("its nodes are manager, logger, data-1, worker-1"),
        "{}",
        stderr(&unknown)
    );
    let restarted = run(directory, &["restart", "data-1"]);
    assert!(restarted.status.success(), "{}", stderr(&restarted));
    let after = status(directory).unwrap();
    assert_ne!(pid_of(&ready, "data-1"), pid_of(&after, "data-1"));
    assert_eq!(pid_of(&ready, "manager"), pid_of(&after, "manager"));

    // A node that dies is started again by itself.
    let old = pid_of(&after, "logger");
    assert!(
        std::process::Command::new("kill")
            .args(["-9", &old.to_string()])
            .status()
            .unwrap()
            .success()
    );
    until("a new logger", || {
        status(directory).filter(|now| {
            now["nodes"].as_array().unwrap().iter().any(|node| {
                node["node"] == "logger"
                    && node["pid"].as_u64().is_some_and(|pid| pid != old)
                    && node["report"]["state"] == "ready"
            })
        })
    });

    let pids: Vec<u64> = ["manager", "data-1", "worker-1"]
        .map(|name| pid_of(&after, name))
        .to_vec();
    let stopped = run(directory, &["stop"]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    let (code, _) = cluster.finish();
    assert_eq!(code, Some(0));
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
    let logs: Vec<String> = std::fs::read_dir(directory.join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        logs.iter().any(|file| file.starts_with("known_hosts")),
        "{logs:?}"
    );
}

/// What runs can be shown, restarted and stopped although somebody has broken the layout since.
#[test]
fn a_layout_that_has_errors_by_now_keeps_nobody_from_the_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let file = directory.join("muster.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}\n[[node]]\nname = \"x\nrole = 3\n")).unwrap();

    let shown = run(directory, &["status"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    assert!(
        stderr(&shown).contains("warning: the layout has errors"),
        "{}",
        stderr(&shown)
    );
    let before = status(directory).unwrap();
    // The copy may hold a passphrase.
    let copy = std::fs::metadata(directory.join("state/nodes/layout.toml")).unwrap();
    assert_eq!(copy.permissions().mode() & 0o777, 0o600);
    let restarted = run(directory, &["restart", "data-1"]);
    assert!(restarted.status.success(), "{}", stderr(&restarted));
    assert!(
        stderr(&restarted).contains("the layout as it was before"),
        "{}",
        stderr(&restarted)
    );
    let after = status(directory).unwrap();
    assert_ne!(pid_of(&before, "data-1"), pid_of(&after, "data-1"));
    let stopped = run(directory, &["stop"]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    assert_eq!(cluster.finish().0, Some(0));
}

/// `muster run` starts what is on this machine, and says what it leaves to others.
#[test]
fn nodes_of_other_machines_are_left_to_them() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let file = directory.join("muster.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    // An address for documentation (RFC 5737) is nobody's.
    text.push_str("[[node]]\nname = \"worker-9\"\nrole = \"worker\"\naddress = \"192.0.2.1\"\n");
    std::fs::write(&file, text).unwrap();
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("left to other machines: worker-9 (192.0.2.1)");
    let shown = until("a status", || status(directory));
    let nodes = shown["nodes"].as_array().unwrap();
    let process =
        |name: &str| nodes.iter().find(|node| node["node"] == name).unwrap()["process"].clone();
    assert_eq!(process("worker-9"), "elsewhere");
    assert_eq!(process("manager"), "running");
    assert!(run(directory, &["stop"]).status.success());
    assert_eq!(cluster.finish().0, Some(0));

    let elsewhere = "[[node]]\nname = \"manager\"\nrole = \"manager\"\naddress = \"192.0.2.1\"\n";
    std::fs::write(&file, elsewhere).unwrap();
    let none = run(directory, &["run"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(
        stderr(&none).contains("no node of muster.toml is on this machine"),
        "{}",
        stderr(&none)
    );
}

/// SIGHUP has nodes open their log files anew, as after a rotation by logrotate, and ends nothing.
#[test]
fn a_hang_up_reopens_log_files() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let before = status(directory).unwrap();
    let (old, new) = (
        directory.join("state/nodes/manager.log.1"),
        directory.join("state/nodes/manager.log"),
    );
    std::fs::rename(&new, &old).unwrap();
    kill(u64::from(cluster.child.id()), "-HUP");
    until("a new process log", || {
        std::fs::read_to_string(&new)
            .ok()
            .filter(|text| text.contains("opened the log files anew"))
    });
    let after = status(directory).unwrap();
    for name in ["manager", "logger", "data-1", "worker-1"] {
        assert_eq!(pid_of(&before, name), pid_of(&after, name));
    }
    assert!(run(directory, &["stop"]).status.success());
    assert_eq!(cluster.finish().0, Some(0));
}

/// A node is restarted with the program that is on disk by then.
#[test]
fn a_restart_takes_the_program_that_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let program = directory.join("muster");
    std::fs::copy(env!("CARGO_BIN_EXE_muster"), &program).unwrap();
    let mut command = support::muster_at(&program, directory, &["run", "--tied"]);
    let mut cluster = Running::spawn(&mut command);
    cluster.wait_for("all nodes are ready");
    // An upgrade: another file takes the place of the old one.
    let upgrade = directory.join("upgrade");
    std::fs::copy(env!("CARGO_BIN_EXE_muster"), &upgrade).unwrap();
    std::fs::rename(&upgrade, &program).unwrap();
    let restarted = run(directory, &["restart", "data-1"]);
    assert!(restarted.status.success(), "{}", stderr(&restarted));
    let image = |name: &str| {
        let pid = pid_of(&status(directory).unwrap(), name);
        std::fs::read_link(format!("/proc/{pid}/exe")).unwrap()
    };
    assert_eq!(image("data-1"), std::fs::canonicalize(&program).unwrap());
    assert!(image("manager").to_string_lossy().ends_with(" (deleted)"));
    // Without one, it says what it does instead.
    std::fs::remove_file(&program).unwrap();
    let restarted = run(directory, &["restart", "data-1"]);
    assert!(restarted.status.success(), "{}", stderr(&restarted));
    assert!(
        stderr(&restarted).contains("is gone"),
        "{}",
        stderr(&restarted)
    );
    assert!(run(directory, &["stop"]).status.success());
    assert_eq!(cluster.finish().0, Some(0));
}

/// What a node's monitor answers.
fn get(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_node_serves_websocket_clients_and_its_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let port = free_ports(1)[0];
    let file = directory.join("muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, manager) = text.split_at(text.find("role = \"manager\"").unwrap());
    let options = format!(
        "options = {{ \"gateway.listen\" = \"127.0.0.1:{port}\", \"monitor.listen\" = \"127.0.0.1:0\" }}\n"
    );
    std::fs::write(&file, format!("{before}{options}{manager}")).unwrap();
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");

    let url = format!("ws://127.0.0.1:{port}");
    let arguments = ["subscribe", "--format", "json", "--count", "2", &url, "/t/"];
    let subscriber = support::muster(directory, &arguments)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("a client", || {
        let now = status(directory)?;
        let clients = now["nodes"][0]["report"]["gateway"]["clients"]
            .as_array()?
            .len();
        (clients == 1).then_some(())
    });
    let published = run(
        directory,
        &[
            "publish",
            &url,
            "/t/a",
            "Test::event",
            "count:5",
            "{\"a\": true}",
        ],
    );
    assert!(published.status.success(), "{}", stderr(&published));
    // What one client hears, another can say again.
    let line = "{\"topic\":\"/t/b\",\"@data-type\":\"vector\",\"data\":[{\"@data-type\":\"count\",\"data\":1},\
                {\"@data-type\":\"count\",\"data\":1},{\"@data-type\":\"vector\",\"data\":[\
                {\"@data-type\":\"string\",\"data\":\"e\"},{\"@data-type\":\"vector\",\"data\":[]}]}]}\n";
    let mut publisher = support::muster(directory, &["publish", &url, "--lines"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    publisher
        .stdin
        .take()
        .unwrap()
        .write_all(line.as_bytes())
        .unwrap();
    assert!(publisher.wait().unwrap().success());
    let heard = subscriber.wait_with_output().unwrap();
    let heard = stdout(&heard);
    let lines: Vec<Value> = heard
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["topic"], &lines[1]["topic"]),
        (&"/t/a".into(), &"/t/b".into())
    );

    let now = status(directory).unwrap();
    let monitor = now["nodes"][0]["report"]["monitor"].as_str().unwrap();
    let monitor = monitor.strip_prefix("http://").unwrap();
    let metrics = get(monitor, "/metrics");
    assert!(
        metrics.contains("\nmuster_gateway_events_total{direction=\"in\"} 2\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("muster_node_state{state=\"ready\"} 1"),
        "{metrics}"
    );
    let page = get(monitor, "/status");
    let page: Value = serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        (&page["version"], &page["node"]),
        (&1.into(), &"manager".into())
    );
    assert_eq!(page["gateway"]["events_in"], 2);
    assert_eq!(page["monitor"], format!("http://{monitor}"));
    // Of the stores that the frameworks share, the masters are here.
    let stores = page["stores"].as_array().unwrap();
    let tracked = stores
        .iter()
        .find(|store| store["store"] == "software/tracked")
        .unwrap();
    assert_eq!(tracked["master"]["backend"], "sqlite");
    assert_eq!(tracked["master"]["failing"], false);
    let info =
        "muster_store_info{store=\"software/tracked\",part=\"primary\",backend=\"sqlite\"} 1";
    assert!(metrics.contains(info), "{metrics}");
    let text = stdout(&run(directory, &["status"]));
    let line = "manager: store software/tracked, sqlite: 0 entries, 0 KiB, 0 writers";
    assert!(text.lines().any(|found| found == line), "{text}");
}

/// Workers are not linked to one another, and relay nothing: what crosses goes by the manager.
#[test]
fn clients_at_two_workers_hear_one_another() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let ports = free_ports(5);
    let mut text = format!(
        "[[node]]\nname = \"manager\"\nrole = \"manager\"\nport = {}\n",
        ports[0]
    );
    for number in [1, 2] {
        let (port, gateway) = (ports[number], ports[number + 2]);
        write!(
            text,
            "[[node]]\nname = \"worker-{number}\"\nrole = \"worker\"\nport = {port}\n\
             options = {{ \"gateway.listen\" = \"127.0.0.1:{gateway}\" }}\n"
        )
        .unwrap();
    }
    std::fs::write(directory.join("muster.toml"), text).unwrap();
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let gateways = [ports[3], ports[4]].map(|port| format!("ws://127.0.0.1:{port}"));
    for (from, to) in [(0, 1), (1, 0)] {
        let arguments = ["subscribe", "--count", "1", &gateways[to], "/alerts/"];
        let mut subscriber = support::muster(directory, &arguments)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // The subscription has to be known at the other worker first.
        until("the event at the other worker", || {
            let publish = ["publish", &gateways[from], "/alerts/a", "Test::event"];
            assert!(run(directory, &publish).status.success());
            subscriber.try_wait().unwrap()
        });
        let heard = stdout(&subscriber.wait_with_output().unwrap());
        assert_eq!(heard.trim(), "/alerts/a Test::event()");
    }
}

#[test]
fn a_second_process_of_a_node_leaves_and_the_first_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    // The same cluster, seen from another box: the worker has another port there.
    let text = std::fs::read_to_string(directory.join("muster.toml")).unwrap();
    let (others, worker) = text.split_at(text.find("name = \"worker-1\"").unwrap());
    let port = free_ports(1)[0];
    let worker: Vec<String> = worker
        .lines()
        .map(|line| {
            if line.starts_with("port") {
                format!("port = {port}")
            } else {
                line.to_owned()
            }
        })
        .collect();
    let other = format!("{others}{}\n", worker.join("\n"));
    std::fs::write(directory.join("other.toml"), other).unwrap();
    let before = status(directory).unwrap();
    let second = run(directory, &["node", "worker-1", "--layout", "other.toml"]);
    assert_eq!(second.status.code(), Some(1));
    let text = stderr(&second);
    assert!(
        text.contains("says that another process of the node worker-1 is alive"),
        "{text}"
    );
    let after = status(directory).unwrap();
    assert_eq!(pid_of(&before, "worker-1"), pid_of(&after, "worker-1"));
    assert!(run(directory, &["status"]).status.success());
}

#[test]
fn ctrl_c_stops_in_order_and_a_port_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let again = run(directory, &["node", "manager"]);
    assert_eq!(again.status.code(), Some(1));
    let text = stderr(&again);
    assert!(
        text.contains("node manager cannot start: cannot listen on 127.0.0.1:"),
        "{text}"
    );
    assert!(
        text.contains("hint: another process may be using the port"),
        "{text}"
    );
    let pid = cluster.child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let (code, _) = cluster.finish();
    assert_eq!(code, Some(0));
}

#[test]
fn of_supervisors_that_start_at_once_one_runs() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let mut supervisors: Vec<Running> = (0..6)
        .map(|_| Running::start(directory, &["run"]))
        .collect();
    until("the others to end", || {
        let running = |supervisor: &mut Running| supervisor.child.try_wait().unwrap().is_none();
        let running = supervisors
            .iter_mut()
            .filter_map(|s| running(s).then_some(()));
        (running.count() == 1).then_some(())
    });
    let at = supervisors
        .iter_mut()
        .position(|supervisor| supervisor.child.try_wait().unwrap().is_none())
        .unwrap();
    let mut one = supervisors.swap_remove(at);
    for other in supervisors {
        assert_eq!(other.finish().0, Some(1));
    }
    one.wait_for("all nodes are ready");
    let stopped = run(directory, &["stop", "muster.toml"]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    assert_eq!(one.finish().0, Some(0));
}

#[test]
fn certificates_are_made_checked_and_used() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let made = run(directory, &["tls", "init"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let file = directory.join("muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace(
            "[[node]]\nname = \"manager\"",
            &format!("{}[[node]]\nname = \"manager\"", stdout(&made)),
        ),
    )
    .unwrap();
    let again = run(directory, &["tls", "init"]);
    assert!(
        stderr(&again).contains("created 0 certificates"),
        "{}",
        stderr(&again)
    );
    let checked = run(directory, &["tls", "check"]);
    assert!(
        checked.status.success(),
        "{}{}",
        stdout(&checked),
        stderr(&checked)
    );
    assert!(
        stdout(&checked).contains("worker-1         valid for 36"),
        "{}",
        stdout(&checked)
    );
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let stopped = run(directory, &["stop"]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));

    std::fs::remove_file(directory.join("tls/worker-1.key")).unwrap();
    std::fs::remove_file(directory.join("tls/data-1.pem")).unwrap();
    std::fs::remove_file(directory.join("tls/data-1.key")).unwrap();
    let renewed = run(directory, &["tls", "init", "--days", "5"]);
    assert!(renewed.status.success(), "{}", stderr(&renewed));
    let checked = run(directory, &["tls", "check"]);
    assert_eq!(checked.status.code(), Some(1));
    let text = stdout(&checked);
    assert!(
        text.contains("data-1           PROBLEM: expires in "),
        "{text}"
    );
    assert!(
        text.contains("worker-1         PROBLEM: TLS: cannot use key"),
        "{text}"
    );
}
