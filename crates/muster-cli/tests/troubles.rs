//! What becomes of a cluster of real processes when something is wrong, and what `muster status` says of it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::cluster::{kill, layout, pid_of, status};
use support::{Running, free_ports, is_alive, run, stderr, stdout, until};

/// A node that cannot be configured says why, ends with 78, and is left alone until somebody restarts it.
#[test]
fn a_node_that_cannot_be_configured_is_not_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let file = directory.join("muster.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let tls = "options = { \"tls.mode\" = \"mutual\", \"tls.ssl_cafile\" = \"none.pem\" }\n";
    let bad = good.replace("role = \"data\"\n", &format!("role = \"data\"\n{tls}"));
    std::fs::write(&file, bad).unwrap();
    let alone = run(directory, &["node", "data-1"]);
    assert_eq!(alone.status.code(), Some(78), "{}", stderr(&alone));

    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("data-1: ended, exit status: 78");
    let failed = until("a failed node", || {
        status(directory).filter(|now| {
            let mut nodes = now["nodes"].as_array().unwrap().iter();
            nodes.any(|node| node["node"] == "data-1" && node["process"] == "failed")
        })
    });
    assert!(failed.to_string().contains("none.pem"), "{failed}");
    let shown = run(directory, &["status"]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(stdout(&shown).contains("none.pem"), "{}", stdout(&shown));
    let again = run(directory, &["restart", "data-1"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        stderr(&again).contains("cannot be configured"),
        "{}",
        stderr(&again)
    );

    std::fs::write(&file, good).unwrap();
    let restarted = run(directory, &["restart", "data-1"]);
    assert!(restarted.status.success(), "{}", stderr(&restarted));
    assert!(run(directory, &["stop"]).status.success());
    assert_eq!(cluster.finish().0, Some(0));
}

/// Records were lost, and `status` said `ready` with exit code 0.
#[test]
fn a_cluster_that_cannot_write_records_is_not_ready_and_keeps_them() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    // Where the log's file should be is a directory.
    let in_the_way = directory.join("state/known_hosts.log");
    std::fs::create_dir_all(in_the_way.join("x")).unwrap();
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("logs are in");
    until("a loss", || {
        let shown = run(directory, &["status"]);
        let text = stdout(&shown);
        let is_told =
            text.contains("logger: log known_hosts: ") && text.contains("known_hosts.log");
        is_told.then(|| {
            assert_eq!(shown.status.code(), Some(1), "{text}");
            assert!(
                text.contains("degraded") && text.contains("logger: log files: "),
                "{text}"
            );
        })
    });
    std::fs::remove_dir_all(&in_the_way).unwrap();
    let text = until("order", || {
        let shown = run(directory, &["status"]);
        shown.status.success().then(|| stdout(&shown))
    });
    // The nodes have kept the records: nothing is lost.
    assert!(
        !text.contains("lost so far") && !text.contains("degraded"),
        "{text}"
    );
    until("the records", || {
        let text = std::fs::read_to_string(directory.join("state/known_hosts.log")).ok()?;
        text.contains("127.0.0.1").then_some(())
    });
    assert!(run(directory, &["stop"]).status.success());
    assert_eq!(cluster.finish().0, Some(0));
}

/// A store that cannot be opened was missing in the table, and its error stood in the log twice a second.
#[test]
fn a_store_that_cannot_be_opened_is_told_once_and_shown() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let file = directory.join("muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let sqlite = "[stores]\ndefault_backend = \"sqlite\"\n";
    std::fs::write(&file, format!("{text}{sqlite}")).unwrap();
    // Where the directory of stores should be is a file.
    std::fs::create_dir_all(directory.join("state")).unwrap();
    std::fs::write(directory.join("state/stores"), "in the way").unwrap();
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("logs are in");
    until("a store that fails", || {
        let shown = run(directory, &["status"]);
        let text = stdout(&shown);
        // A node that is starting says so before it says what is wrong with it.
        let is_told = text.contains("manager: store zeek/known/hosts: cannot");
        (is_told && text.contains("degraded")).then_some(text)
    });
    assert!(
        !text.contains("manager      manager  running   ready"),
        "{text}"
    );
    // It is asked for again and again, and the log says it once.
    until("several attempts", || {
        let now = status(directory)?;
        let nodes = now["nodes"].as_array()?;
        let manager = nodes.iter().find(|node| node["node"] == "manager")?;
        let mut troubles = manager["report"]["troubles"].as_array()?.iter();
        troubles
            .any(|trouble| trouble["count"].as_u64() >= Some(3))
            .then_some(())
    });
    let log = std::fs::read_to_string(directory.join("state/nodes/manager.log")).unwrap();
    assert_eq!(log.matches("store zeek/known/hosts").count(), 1, "{log}");
    assert!(run(directory, &["stop"]).status.success());
    assert_eq!(cluster.finish().0, Some(0));
}

/// Nodes with different layouts do not agree on who owns what, and everybody said `ready`.
#[test]
fn nodes_with_different_layouts_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let file = directory.join("muster.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let port = free_ports(1)[0];
    std::fs::write(
        &file,
        format!("{before}[[node]]\nname = \"data-2\"\nrole = \"data\"\nport = {port}\n"),
    )
    .unwrap();
    // It comes back with a layout that has one more owner of keys.
    let restarting = std::thread::spawn({
        let directory = directory.to_owned();
        move || run(&directory, &["restart", "data-1"])
    });
    let text = until("a difference", || {
        let text = stdout(&run(directory, &["status"]));
        text.contains("manager: layout of data-1: ").then_some(text)
    });
    assert!(text.contains("degraded"), "{text}");
    std::fs::write(&file, before).unwrap();
    let _ = restarting.join().unwrap();
    let restarted = run(directory, &["restart", "data-1"]);
    assert!(restarted.status.success(), "{}", stderr(&restarted));
    until("agreement", || {
        run(directory, &["status"]).status.success().then_some(())
    });
    assert!(run(directory, &["stop"]).status.success());
    assert_eq!(cluster.finish().0, Some(0));
}

/// Two clusters that meet on one port do not become one.
#[test]
fn nodes_of_another_cluster_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let ports = free_ports(2);
    let node = |name: &str, role: &str, port: u16| {
        format!("[[node]]\nname = \"{name}\"\nrole = \"{role}\"\nport = {port}\n")
    };
    let manager = node("manager", "manager", ports[0]);
    let worker = node("worker-1", "worker", ports[1]);
    let file = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
    file("a.toml", format!("[cluster]\nname = \"alpha\"\n{manager}"));
    file(
        "b.toml",
        format!("[cluster]\nname = \"beta\"\n{manager}{worker}"),
    );
    let mut alpha = Running::start(directory, &["node", "manager", "--layout", "a.toml"]);
    alpha.wait_for("listens on");
    let mut beta = Running::start(directory, &["node", "worker-1", "--layout", "b.toml"]);
    let refused = beta.wait_for("belongs to the cluster");
    assert!(
        refused.contains("alpha") && refused.contains("beta"),
        "{refused}"
    );
    alpha.wait_for("it belongs to the cluster \"beta\"");
}

/// A socket that may not be opened is not taken for a cluster that does not run.
#[test]
fn a_socket_of_somebody_else_is_told_as_that() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let mut command = support::muster(directory, &["status"]);
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory, open).unwrap();
    // Whoever is not root cannot become somebody else, and need not be tried.
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    match command.output() {
        Ok(status) if status.status.code() != Some(101) => {
            assert!(
                stderr(&status).contains("permission denied"),
                "{}",
                stderr(&status)
            );
            assert_eq!(status.status.code(), Some(4));
        }
        _ => eprintln!("SKIPPED: only root can become somebody else"),
    }
    assert!(run(directory, &["stop"]).status.success());
    assert_eq!(cluster.finish().0, Some(0));
}

#[test]
fn no_node_outlives_a_supervisor_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    let status = status(directory).unwrap();
    let pids: Vec<u64> = status["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["pid"].as_u64().unwrap())
        .collect();
    assert_eq!(pids.len(), 4);
    cluster.child.kill().unwrap();
    cluster.child.wait().unwrap();
    until("the end of every node", || {
        (!pids.iter().any(|pid| is_alive(*pid))).then_some(())
    });
    // What is left over does not keep the next supervisor from starting.
    let mut next = Running::start(directory, &["run"]);
    next.wait_for("all nodes are ready");
}

#[test]
fn a_node_that_cannot_be_started_is_tried_again_and_ends_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    // The program is one that is replaced while it runs.
    let program = directory.join("muster");
    std::fs::copy(env!("CARGO_BIN_EXE_muster"), &program).unwrap();
    let in_the_way = directory.join("state/nodes/data-1.log");
    std::fs::create_dir_all(&in_the_way).unwrap();
    let mut cluster = Running::spawn(
        Command::new(&program)
            .args(["run", "--tied"])
            .current_dir(directory)
            .stdin(Stdio::null()),
    );
    cluster.wait_for("data-1: ended, cannot write");
    cluster.wait_for("data-1: ended, cannot write");
    std::fs::remove_dir(&in_the_way).unwrap();
    cluster.wait_for("all nodes are ready");

    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, "another one").unwrap();
    kill(pid_of(&status(directory).unwrap(), "logger"), "-9");
    cluster.wait_for("logger: ended");
    cluster.wait_for("logger: started");
    cluster.wait_for("all nodes are ready");
    assert!(run(directory, &["stop"]).status.success());
    assert_eq!(cluster.finish().0, Some(0));
}

#[test]
fn a_frozen_node_is_silent_then_down_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let arguments = [
        "run",
        "--set",
        "peering.heartbeat=200ms",
        "--set",
        "peering.heartbeat_timeout=1s",
    ];
    let mut cluster = Running::start(directory, &arguments);
    cluster.wait_for("all nodes are ready");
    let ready = status(directory).unwrap();
    assert!(ready["nodes"][2]["report_age_seconds"].as_f64().unwrap() < 2.0);
    let frozen = pid_of(&ready, "data-1");
    kill(frozen, "-STOP");
    let text = until("a silent node", || {
        let output = run(directory, &["status"]);
        (output.status.code() == Some(1) && stdout(&output).contains("silent"))
            .then(|| stdout(&output))
    });
    let line = text.lines().find(|line| line.contains("silent")).unwrap();
    assert!(line.starts_with("data-1"), "{text}");
    let now = status(directory).unwrap();
    assert_eq!(now["nodes"][2]["report"]["state"], "silent");
    assert!(now["nodes"][2]["report_age_seconds"].as_f64().unwrap() > 2.0);
    // Those who work with it have noticed by its heartbeat: it is down to them.
    until("a degraded manager", || {
        status(directory).filter(|now| now["nodes"][0]["report"]["state"] == "degraded")
    });
    kill(frozen, "-CONT");
    until("all nodes to be ready", || {
        run(directory, &["status"]).status.success().then_some(())
    });
}

#[test]
fn nodes_that_had_to_be_killed_are_named_and_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let mut cluster = Running::start(directory, &["run"]);
    cluster.wait_for("all nodes are ready");
    kill(pid_of(&status(directory).unwrap(), "worker-1"), "-STOP");
    let supervisor = u64::from(cluster.child.id());
    kill(supervisor, "-INT");
    cluster.wait_for("press Ctrl-C again to kill the remaining nodes");
    kill(supervisor, "-INT");
    cluster.wait_for("killing the remaining nodes");
    cluster.wait_for("error: killed data-1, logger, manager, worker-1");
    assert_eq!(cluster.finish().0, Some(1));
}

/// A cluster whose directory is a small disk of its own. The disk is there for its processes alone, and gone with the last
/// of them, however they or the test end.
struct OnSmallDisk<'a> {
    directory: &'a Path,
    cluster: Running,
}

impl<'a> OnSmallDisk<'a> {
    /// Starts it; `None` if this process may not mount anything.
    fn start(directory: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(directory.join("state")).unwrap();
        let may_mount = Command::new("unshare")
            .args(["--mount", "mount", "-t", "tmpfs", "muster"])
            .arg(directory.join("state"))
            .output();
        if !may_mount.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount -t tmpfs -o size=4m muster state && exec \"$0\" run --tied")
            .arg(env!("CARGO_BIN_EXE_muster"))
            .current_dir(directory)
            .stdin(Stdio::null());
        let cluster = Running::spawn(&mut command);
        Some(Self { directory, cluster })
    }

    /// Runs the program where it sees the disk.
    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("nsenter")
            .arg("--mount")
            .args(["--target", &self.cluster.child.id().to_string()])
            .arg(format!("--wd={}", self.directory.display()))
            .arg(env!("CARGO_BIN_EXE_muster"))
            .args(arguments)
            .output()
            .unwrap()
    }

    /// A file on the disk, as it is seen from here.
    fn path(&self, name: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.cluster.child.id());
        let state = self.directory.join("state");
        Path::new(&root)
            .join(state.strip_prefix("/").unwrap())
            .join(name)
    }

    /// Takes all the room that there is.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.path("fill")).unwrap();
        for size in [4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }
}

/// The disk is really full: the cluster says what it loses while it does, and is ready again when there is room.
#[test]
fn a_full_disk_is_told_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    layout(directory);
    let file = directory.join("muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}[input]\nfollow = true\n")).unwrap();
    let log = directory.join("conn.log");
    let header = "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\n";
    std::fs::write(&log, header).unwrap();
    let mut net = 0;
    let mut more_hosts = || {
        net += 1;
        let mut rows = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
        let text: String = (1..=250).fold(String::new(), |mut text, host| {
            let _ = writeln!(
                text,
                "1.000000\t127.0.{net}.{host}\t1\t192.0.2.1\t80\ttcp\tSF"
            );
            text
        });
        rows.write_all(text.as_bytes()).unwrap();
    };
    let Some(mut disk) = OnSmallDisk::start(directory) else {
        eprintln!("SKIPPED a_full_disk_is_told_until_there_is_room: only root can mount a disk");
        return;
    };
    disk.cluster.wait_for("all nodes are ready");
    more_hosts();
    until("the first hosts", || {
        let text = std::fs::read_to_string(disk.path("known_hosts.log")).ok()?;
        text.contains("127.0.1.250").then_some(())
    });
    assert!(disk.run(&["status"]).status.success());

    disk.fill();
    let text = until("a full disk", || {
        more_hosts();
        let shown = disk.run(&["status"]);
        let text = stdout(&shown);
        let is_told = text.contains("logger: log known_hosts: ");
        is_told.then(|| {
            assert_eq!(shown.status.code(), Some(1), "{text}");
            text
        })
    });
    assert!(
        text.contains("degraded") && text.contains("No space left on device"),
        "{text}"
    );
    std::fs::remove_file(disk.path("fill")).unwrap();
    let text = until("room", || {
        more_hosts();
        let shown = disk.run(&["status"]);
        shown.status.success().then(|| stdout(&shown))
    });
    assert!(
        !text.contains("lost so far") && !text.contains("degraded"),
        "{text}"
    );
    // What came meanwhile arrives, each host once.
    // A file that could not be synced was ended, and another one begun.
    let hosts = || {
        let mut hosts: Vec<String> = Vec::new();
        for directory in ["", "unsettled"] {
            for entry in std::fs::read_dir(disk.path(directory)).ok()? {
                let path = entry.ok()?.path();
                let name = path.file_name()?.to_str()?;
                let is_log = path.extension() == Some("log".as_ref());
                if name.starts_with("known_hosts") && is_log {
                    let text = std::fs::read_to_string(&path).ok()?;
                    let found = text.lines().filter_map(|line| line.split('\t').nth(1));
                    hosts.extend(
                        found
                            .filter(|it| it.starts_with("127.0."))
                            .map(str::to_owned),
                    );
                }
            }
        }
        hosts.retain(|host| !host.starts_with("127.0.0."));
        hosts.sort();
        Some(hosts)
    };
    let mut seen = (0, 0);
    let all = 250 * net;
    let started = std::time::Instant::now();
    while seen != (all, all) && started.elapsed() < std::time::Duration::from_secs(60) {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let Some(hosts) = hosts() else { continue };
        let mut once = hosts.clone();
        once.dedup();
        seen = (once.len(), hosts.len());
    }
    let text = stdout(&disk.run(&["status"]));
    assert_eq!(seen, (all, all), "different hosts, and all; {text}");
    assert!(disk.run(&["stop"]).status.success());
    assert_eq!(disk.cluster.finish().0, Some(0));
}
