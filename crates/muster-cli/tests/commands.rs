//! Commands that need no cluster, or one node.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use support::{Running, free_ports, muster, run, stderr, stdout, until};

fn write(directory: &Path, text: &str) {
    std::fs::write(directory.join("muster.toml"), text).unwrap();
}

fn manager_alone(directory: &Path) -> String {
    let port = free_ports(1)[0];
    write(
        directory,
        &format!("[[node]]\nname = \"manager\"\nrole = \"manager\"\nport = {port}\n"),
    );
    format!("127.0.0.1:{port}")
}

#[test]
fn an_event_goes_from_one_command_through_a_node_s_endpoint() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let address = manager_alone(directory);
    let mut node = Running::start(directory, &["node", "manager"]);
    node.wait_for("listens on");

    let peers = run(directory, &["peers", &address]);
    let text = stdout(&peers);
    assert!(
        text.contains("zeek/cluster/manager") && text.contains("node manager"),
        "{text}{}",
        stderr(&peers)
    );
    // The command is a peer as well, of the same machine and user.
    let (over, local) = (
        "transport",
        if cfg!(target_os = "linux") {
            "unix"
        } else {
            "tcp"
        },
    );
    assert!(text.contains(over) && text.contains(local), "{text}");

    let ping = run(directory, &["ping", &address, "--count", "2"]);
    assert_eq!(
        stdout(&ping)
            .lines()
            .filter(|line| line.ends_with(" ms"))
            .count(),
        2,
        "{}",
        stderr(&ping)
    );

    let published = run(
        directory,
        &[
            "publish",
            &address,
            "zeek/cluster/manager",
            "My::event",
            "count:5",
            "addr:10.0.0.1",
            "\"text\"",
        ],
    );
    assert!(published.status.success(), "{}", stderr(&published));

    let elsewhere = run(
        directory,
        &[
            "publish",
            &address,
            "nowhere",
            "My::event",
            "--timeout",
            "0.1",
        ],
    );
    assert_eq!(elsewhere.status.code(), Some(1));
    assert!(
        stderr(&elsewhere).contains("hint: the endpoint subscribes to: "),
        "{}",
        stderr(&elsewhere)
    );

    let wrong = run(
        directory,
        &[
            "publish",
            &address,
            "zeek/cluster/manager",
            "My::event",
            "count:x",
        ],
    );
    assert!(
        stderr(&wrong).contains("argument 1 `count:x`"),
        "{}",
        stderr(&wrong)
    );
}

/// The manager's notices reach a subscriber; here its hello does, on the subscriber's own id.
#[test]
fn a_subscriber_prints_what_it_is_sent_and_ends_after_its_count() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let address = manager_alone(directory);
    let mut node = Running::start(directory, &["node", "manager"]);
    node.wait_for("listens on");
    let mut subscriber = muster(directory, &["subscribe", &address, "my/", "--count", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The node relays between its guests.
    let published = run(
        directory,
        &["publish", &address, "my/topic", "My::event", "count:5"],
    );
    assert!(published.status.success(), "{}", stderr(&published));
    let mut line = String::new();
    BufReader::new(subscriber.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(
        line.contains("my/topic") && line.contains("My::event(5)"),
        "{line}"
    );
    assert!(subscriber.wait().unwrap().success());
}

#[test]
fn nobody_at_the_address_is_said_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["subscribe", "127.0.0.1:1", "x"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("cannot peer with 127.0.0.1:1: Connection refused")
            && text.contains("hint: "),
        "{text}"
    );
}

#[test]
fn check_names_everything_that_is_wrong_with_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    write(
        directory.path(),
        "[[node]]\nname = \"worker-1\"\nrole = \"worker\"\nadress = \"127.0.0.1\"\n[[node]]\nname = \"worker-1\"\nrole = \"boss\"\n",
    );
    let output = run(directory.path(), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stderr(&output));
}

#[test]
fn check_prints_what_a_layout_resolves_to() {
    let directory = tempfile::tempdir().unwrap();
    write(
        directory.path(),
        "[scan]\nthreshold = 20\n[pool.spam]\ntype = \"data\"\n[[node]]\nname = \"manager\"\nrole = \"manager\"\n[[node]]\nname = \"logger\"\nrole = \"logger\"\n[[node]]\nname = \"data\"\nrole = \"data\"\ncount = 2\n[[node]]\nname = \"worker\"\nrole = \"worker\"\ncount = 2\noptions = { \"scan.threshold\" = 5 }\n[[link]]\nfrom = \"worker\"\nto = \"logger\"\nbulk_overflow = \"block\"\nbulk_queue = 1000\n[[link]]\nbetween = [\"data-1\", \"127.0.0.1\"]\noverflow = \"drop_newest\"\n",
    );
    let output = run(directory.path(), &["check", "--set", "input.speed=10"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output).replace(&*directory.path().to_string_lossy(), "DIR");
    insta::assert_snapshot!(text);
}

/// Which boxes decide, and which may be away.
#[test]
fn check_says_which_box_may_be_away() {
    let directory = tempfile::tempdir().unwrap();
    let coordinators = |boxes: &[&str], settings: &[&str]| {
        let boxes = boxes.iter().zip(1..);
        let boxes: Vec<String> = boxes
            .map(|(name, at)| format!("[box.{name}]\naddress = \"127.0.0.{at}\"\n"))
            .collect();
        let node = "[[node]]\nname = \"m\"\nrole = \"manager\"\nbox = \"a\"\n";
        write(directory.path(), &format!("{}{node}", boxes.concat()));
        let output = run(directory.path(), &[&["check"], settings].concat());
        let text = stdout(&output);
        let section = text
            .split("\n\n")
            .find(|section| section.starts_with("coordinators"));
        section
            .unwrap_or_else(|| panic!("{text}{}", stderr(&output)))
            .to_owned()
    };
    insta::assert_snapshot!(
        [
            coordinators(&["a"], &[]),
            coordinators(&["a", "b"], &[]),
            coordinators(&["a", "b", "c"], &[]),
            coordinators(&["a", "b", "c"], &["--set", "coordination.count=1"]),
            coordinators(
                &["a", "b", "c", "d", "e"],
                &["--set", "coordination.count=5"]
            ),
        ]
        .join("\n\n")
    );
}

/// Who keeps the stores, and which of them are away with a box.
#[test]
fn check_says_who_keeps_the_stores() {
    let directory = tempfile::tempdir().unwrap();
    let boxes = "[box.a]\naddress = \"127.0.0.1\"\n[box.b]\naddress = \"127.0.0.2\"\n[box.c]\naddress = \"127.0.0.3\"\n\
        [[node]]\nname = \"m\"\nrole = \"manager\"\nbox = \"a\"\n\
        [[node]]\nname = \"data\"\nrole = \"data\"\nbox = \"a\"\n\
        [[node]]\nname = \"w\"\nrole = \"worker\"\nbox = \"b\"\n";
    let second = "[[node]]\nname = \"data-b\"\nrole = \"data\"\nbox = \"b\"\n";
    let sections = |layout: &str| {
        write(directory.path(), layout);
        let output = run(directory.path(), &["check"]);
        let text = stdout(&output);
        let sections: Vec<&str> = text
            .split("\n\n")
            .filter(|it| it.starts_with("coordinators") || it.starts_with("stores"))
            .collect();
        assert_eq!(sections.len(), 2, "{text}{}", stderr(&output));
        sections.join("\n\n")
    };
    let named = "[store.x]\nbackend = \"sqlite\"\nmaster = \"data-b\"\ncopies = 1\n\
        [store.\"y/z\"]\ncopies = 3\nmin_copies = 2\n";
    let three = "[store.y]\ncopies = 2\nmaster = \"data-b\"\n";
    insta::assert_snapshot!(
        [
            sections(boxes),
            sections(&format!("{boxes}{second}")),
            sections(&format!("{boxes}{second}{named}")),
            sections(&format!("[stores]\ncopies = 1\n{boxes}{second}{three}")),
            sections(&format!("[stores]\nmin_copies = 2\n{boxes}{second}")),
        ]
        .join("\n\n---\n\n")
    );
}

#[test]
fn a_missing_layout_and_an_unknown_node_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let missing = run(directory.path(), &["check"]);
    assert!(
        stderr(&missing).contains("cannot read muster.toml") && stderr(&missing).contains("hint: ")
    );
    manager_alone(directory.path());
    let unknown = run(directory.path(), &["node", "boss"]);
    assert!(
        stderr(&unknown).contains("has no node `boss`"),
        "{}",
        stderr(&unknown)
    );
    assert!(
        stderr(&unknown).contains("hint: its nodes are manager"),
        "{}",
        stderr(&unknown)
    );
}

#[test]
fn a_directory_that_cannot_be_made_says_how_to_choose_another() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write(
        directory,
        "directory = \"muster.toml/state\"\n[[node]]\nname = \"manager\"\nrole = \"manager\"\n",
    );
    for arguments in [&["run"][..], &["node", "manager"]] {
        let output = run(directory, arguments);
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(text.contains("cannot make "), "{text}");
        assert!(text.contains("hint: set `directory = "), "{text}");
    }
}

#[test]
fn status_and_stop_take_the_layout_with_and_without_the_options_name() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    manager_alone(directory);
    std::fs::rename(directory.join("muster.toml"), directory.join("my.toml")).unwrap();
    for command in ["status", "stop"] {
        let not_running = |arguments: &[&str]| {
            let output = run(directory, &[&[command], arguments].concat());
            assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
            assert!(stderr(&output).contains("no cluster of my.toml is running"));
        };
        not_running(&["my.toml"]);
        not_running(&["--layout", "my.toml"]);
        let both = run(directory, &[command, "my.toml", "--layout", "my.toml"]);
        assert_eq!(both.status.code(), Some(2), "{}", stderr(&both));
        let neither = run(directory, &[command]);
        assert_eq!(neither.status.code(), Some(3));
        assert!(stderr(&neither).contains("there is no muster.toml here"));
    }
}

#[test]
fn a_closed_pipe_is_success() {
    let directory = tempfile::tempdir().unwrap();
    manager_alone(directory.path());
    let mut check = muster(directory.path(), &["check", "--all"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(check.stdout.take());
    assert!(check.wait().unwrap().success());
}

#[test]
fn tls_of_the_node_and_of_the_command_must_agree() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let port = free_ports(1)[0];
    write(
        directory,
        &format!(
            "[tls]\nmode = \"anonymous\"\n[[node]]\nname = \"manager\"\nrole = \"manager\"\nport = {port}\n"
        ),
    );
    let address = format!("127.0.0.1:{port}");
    let mut node = Running::start(directory, &["node", "manager"]);
    node.wait_for("listens on");
    let agreed = run(
        directory,
        &[
            "publish",
            &address,
            "zeek/cluster/manager",
            "My::event",
            "-5",
            "--tls",
            "anonymous",
        ],
    );
    assert!(agreed.status.success(), "{}", stderr(&agreed));
    let plain = run(directory, &["peers", &address]);
    assert_eq!(plain.status.code(), Some(1));
    assert!(
        stderr(&plain).contains("both need the same mode"),
        "{}",
        stderr(&plain)
    );
    node.wait_for("the peer does not speak TLS");
    let elsewhere = run(directory, &["peers", "192.0.2.1:9999"]);
    assert!(
        stderr(&elsewhere).contains("--tls must say how it is protected"),
        "{}",
        stderr(&elsewhere)
    );
    let incomplete = run(directory, &["peers", &address, "--tls", "mutual"]);
    assert!(
        stderr(&incomplete).contains("--tls mutual needs --ssl-certificate"),
        "{}",
        stderr(&incomplete)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_whose_log_cannot_be_written_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let port = free_ports(1)[0];
    write(
        directory,
        &format!("[[node]]\nname = \"manager\"\nrole = \"manager\"\nport = {port}\n"),
    );
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut node = muster(directory, &["node", "manager"])
        .env("MUSTER_LOG", "debug")
        .stderr(full)
        .spawn()
        .unwrap();
    let address = format!("127.0.0.1:{port}");
    until("an answer", || {
        assert_eq!(node.try_wait().unwrap(), None, "the node has ended");
        run(directory, &["peers", &address])
            .status
            .success()
            .then_some(())
    });
    node.kill().unwrap();
    node.wait().unwrap();
}

/// The layout goes to stdout, what was left out of it to stderr with file and line.
#[test]
fn import_prints_a_layout_of_either_file_or_of_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let file = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    file("node.cfg", "[zeek]\ntype=standalone\nhost=localhost\n");
    let plain = "interface = eth0\nworkers = 2\nmanager = 1\ncolor = green\n";
    file("zeek.conf", plain);
    let node_cfg = run(directory, &["import", "node.cfg"]);
    assert!(stdout(&node_cfg).contains("name = \"zeek\""));
    let zeek_conf = run(directory, &["import", "zeek.conf"]);
    assert!(stdout(&zeek_conf).contains("name = \"worker\""));
    assert_eq!(
        stderr(&zeek_conf),
        "zeek.conf:1: left out `interface`: it is about capturing packets\n\
         zeek.conf:4: left out `color`: no such option is known\n"
    );
    write(directory, &stdout(&zeek_conf));
    let check = run(directory, &["check"]);
    assert!(stdout(&check).contains("worker-2"), "{}", stderr(&check));

    let wrong = run(directory, &["import", "--from", "node.cfg", "zeek.conf"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        stderr(&wrong).contains("zeek.conf:1: "),
        "{}",
        stderr(&wrong)
    );

    std::fs::create_dir(directory.join("cluster")).unwrap();
    let empty = run(directory, &["import", "cluster"]);
    assert!(stderr(&empty).contains("HOST.zeek.conf in cluster"));
    let manager = "manager = 1\naddress = 127.0.0.2\n";
    let worker = "interface = eth0\nworkers = 1\naddress = 127.0.0.3\n";
    file("cluster/w.zeek.conf", worker);
    let alone = run(directory, &["import", "cluster"]);
    assert_eq!(alone.status.code(), Some(1));
    assert!(stderr(&alone).contains("no manager"), "{}", stderr(&alone));
    file("cluster/m.zeek.conf", manager);
    let both = run(directory, &["import", "cluster"]);
    let text = stdout(&both);
    assert!(
        text.contains("name = \"manager\"") && text.contains("name = \"w-worker\""),
        "{text}{}",
        stderr(&both)
    );
}

/// `networks.cfg` beside a `node.cfg` is read with it; what is wrong in either is told at its own line.
#[test]
fn import_reads_networks_beside_a_node_cfg() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::create_dir(directory.join("etc")).unwrap();
    let file = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    let nodes = "[manager] # the head\ntype=manager\nhost=10.0.0.1\n\n\
                 [DEFAULT]\nnet=10.0.0\n[sensor]\nType: worker\nHost=%(net)s.2\nlb_procs=2\n\
                 lb_method=af_packet\npin_cpus=0,\n    1\n";
    file("etc/node.cfg", nodes);
    file("etc/networks.cfg", "# ours\n198.51.100.0/24  DMZ\n");
    let imported = run(directory, &["import", "etc/node.cfg"]);
    assert!(imported.status.success(), "{}", stderr(&imported));
    write(directory, &stdout(&imported));
    let check = run(directory, &["check"]);
    let said = stdout(&check);
    assert!(
        said.contains("sensor-2") && said.contains("10.0.0.2:"),
        "{said}"
    );
    assert!(
        said.contains("known_hosts.local_nets") && said.contains("198.51.100.0/24"),
        "{said}"
    );

    file("etc/networks.cfg", "\nours\n");
    let wrong = run(directory, &["import", "etc/node.cfg"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        stderr(&wrong).contains("etc/networks.cfg:2: `ours`"),
        "{}",
        stderr(&wrong)
    );
}

/// What keeps nodes from starting is found before they are started.
#[test]
fn check_finds_what_can_be_found() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let check = |layout: &str, arguments: &[&str]| {
        write(directory, layout);
        let output = run(directory, &[&["check"], arguments].concat());
        (output.status.code(), stderr(&output))
    };
    let node = "[[node]]\nname = \"m\"\nrole = \"manager\"\nport = 17999\n";
    assert_eq!(check(node, &[]), (Some(0), String::new()));
    let (code, said) = check(&format!("{node}[scan]\nlocal_nets = [\"nonsense\"]\n"), &[]);
    assert!(
        code == Some(1) && said.contains("muster.toml:6") && said.contains("\"nonsense\" is none"),
        "{said}"
    );
    let tls = "[tls]\nmode = \"mutual\"\nssl_cafile = \"none.pem\"\nssl_certificate = \"c\"\nssl_keyfile = \"k\"\n";
    let (code, said) = check(&format!("{node}{tls}"), &[]);
    assert!(
        code == Some(1) && said.contains("error: node m: ") && said.contains("none.pem"),
        "{said}"
    );
    // An address for documentation (RFC 5737).
    let open = node.replace("port", "address = \"192.0.2.1\"\nport");
    let (code, said) = check(&open, &[]);
    assert!(
        code == Some(1) && said.contains("without authentication"),
        "{said}"
    );
    assert_eq!(check(&open, &["--plaintext-anywhere"]).0, Some(0));
    let (code, said) = check(
        &format!("{node}[monitor]\nlisten = \"0.0.0.0:17998\"\n"),
        &[],
    );
    assert!(
        code == Some(1) && said.contains("without a token"),
        "{said}"
    );
    let (code, said) = check(
        &format!("{node}[gateway]\nlisten = \"127.0.0.1:1\"\ntokens = \"none\"\n"),
        &[],
    );
    assert!(
        code == Some(1) && said.contains("cannot read tokens"),
        "{said}"
    );
    let (code, said) = check(&node.replace("17999", "47760"), &[]);
    assert!(
        code == Some(0) && said.contains("warning: ports from "),
        "{said}"
    );
    let sizes = "[peering]\nlargest_message = 134217728\nunfinished_frames = 2097152\n";
    let (code, said) = check(&format!("{node}{sizes}"), &[]);
    assert!(
        code == Some(0)
            && said.contains("queues of events take 67108864")
            && said.contains("less than two of the largest"),
        "{said}"
    );
    let stores = "[stores]\nmemory_limit = 2000\nnode_memory_limit = 1000\n";
    let (code, said) = check(&format!("{node}{stores}"), &[]);
    assert!(
        code == Some(0) && said.contains("all stores of a node take 1000 bytes"),
        "{said}"
    );
    let (code, said) = check(&format!("{node}[stores]\nnode_memory_limit = 0\n"), &[]);
    assert!(
        code == Some(1) && said.contains("muster.toml:6") && said.contains("node_memory_limit"),
        "{said}"
    );
    let (code, said) = check(&format!("{node}[peering]\nlargest_message = 10\n"), &[]);
    assert!(
        code == Some(1) && said.contains("muster.toml:6") && said.contains("between 65536 and"),
        "{said}"
    );
    std::fs::write(directory.join("file"), "").unwrap();
    let (code, said) = check(&format!("directory = \"file/x\"\n{node}"), &[]);
    assert!(
        code == Some(1) && said.contains("file is no directory"),
        "{said}"
    );
}

/// A publisher that loses its endpoint says how far it came.
#[test]
fn publishing_lines_says_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (address, url) = manager_with_gateway(directory);
    for target in [&address, &url] {
        let mut node = Running::start(directory, &["node", "manager"]);
        node.wait_for("serving WebSocket clients");
        let mut subscriber = Running::start(directory, &["subscribe", &address, "/t"]);
        let mut heard = BufReader::new(subscriber.child.stdout.take().unwrap());
        let (sender, received) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut first = String::new();
            let _ = heard.read_line(&mut first);
            let _ = sender.send(first);
        });
        let mut publisher = muster(directory, &["publish", target, "--lines"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = publisher.stdin.take().unwrap();
        // The subscriber may come after the first.
        let first = until("an event", || {
            writeln!(lines, "{EVENT}").unwrap();
            received.try_recv().ok()
        });
        assert!(first.contains("/t/x"), "{first}");
        node.child.kill().unwrap();
        node.child.wait().unwrap();
        // Until it notices: what a connection has taken is not lost yet as far as it knows.
        until("the publisher's end", || {
            let _ = writeln!(lines, "{EVENT}");
            publisher.try_wait().unwrap()
        });
        let output = publisher.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(
            said.contains("messages were handed over before, and line "),
            "{said}"
        );
    }
}

/// What is wrong with an operation on a store is said with the value that is stored.
#[test]
fn an_increment_that_does_not_suit_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (address, _) = manager_with_gateway(directory);
    let layout = std::fs::read_to_string(directory.join("muster.toml")).unwrap();
    std::fs::write(
        directory.join("muster.toml"),
        format!("{layout}[store.\"x\"]\n"),
    )
    .unwrap();
    let mut node = Running::start(directory, &["node", "manager"]);
    node.wait_for("serving WebSocket clients");
    let store = |words: &[&str]| run(directory, &[&["store", &address, "x"], words].concat());
    assert!(store(&["put", "\"k\"", "count:1"]).status.success());
    let refused = store(&["increment", "\"k\"", "-10"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(
        said.contains("cannot add -10 to 1") && said.contains("no negative values"),
        "{said}"
    );
    assert_eq!(stdout(&store(&["get", "\"k\""])).trim(), "1");
}

const EVENT: &str = r#"{"topic":"/t/x","@data-type":"vector","data":[{"@data-type":"count","data":1},{"@data-type":"count","data":1},{"@data-type":"vector","data":[{"@data-type":"string","data":"e"},{"@data-type":"vector","data":[]}]}]}"#;

/// A manager with a gateway that pings often: their addresses.
fn manager_with_gateway(directory: &Path) -> (String, String) {
    let ports = free_ports(2);
    let layout = format!(
        "[[node]]\nname = \"manager\"\nrole = \"manager\"\nport = {}\n\
         [gateway]\nlisten = \"127.0.0.1:{}\"\nping_interval = \"400ms\"\n",
        ports[0], ports[1]
    );
    write(directory, &layout);
    let address = |scheme: &str, port| format!("{scheme}127.0.0.1:{port}");
    (address("", ports[0]), address("ws://", ports[1]))
}

/// While its stdin said nothing, the command answered no pings: the gateway took it for dead, what was
/// published then went nowhere, and the command said that all was well.
#[test]
fn publishing_over_websocket_goes_on_after_a_pause() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (address, url) = manager_with_gateway(directory);
    let mut node = Running::start(directory, &["node", "manager"]);
    node.wait_for("serving WebSocket clients");
    let mut subscriber = Running::start(directory, &["subscribe", &address, "/t"]);
    let printed = BufReader::new(subscriber.child.stdout.take().unwrap());
    let (sender, received) = std::sync::mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for line in printed.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    until("the subscription", || {
        let published = run(directory, &["publish", &url, "/t", "hello"]);
        assert!(published.status.success(), "{}", stderr(&published));
        received.recv_timeout(Duration::from_millis(50)).ok()
    });
    let mut publisher = muster(directory, &["publish", &url, "--lines"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Pings pass, and the three seconds in which a client may still say something after it was cut off:
    // that it is not cannot be waited for.
    std::thread::sleep(Duration::from_secs(5));
    let mut lines = publisher.stdin.take().unwrap();
    writeln!(lines, "{EVENT}").unwrap();
    drop(lines);
    let published = publisher.wait_with_output().unwrap();
    assert!(published.status.success(), "{}", stderr(&published));
    until("the event", || {
        let line = received.recv_timeout(Duration::from_millis(50)).ok()?;
        (line == "/t/x e()").then_some(())
    });
}

#[test]
fn names_from_the_network_forge_no_lines() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let address = manager_alone(directory);
    let mut node = Running::start(directory, &["node", "manager"]);
    node.wait_for("listens on");
    let topic = "zeek/cluster/manager";
    let published = run(
        directory,
        &["publish", &address, topic, "evil\n2026 ERROR forged"],
    );
    assert!(published.status.success(), "{}", stderr(&published));
    let line = node.wait_for("no framework handles");
    assert!(line.contains("evil\\n2026 ERROR forged"), "{line}");
}

#[test]
fn arguments_that_are_wrong_are_not_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "subscribe",
        "ws://127.0.0.1:1",
        "/t",
        "--follow-reconnect",
        "--token-file",
        "none",
    ];
    let mut subscriber = Running::start(directory.path(), &arguments);
    subscriber.wait_for("cannot read none");
    let status = until("the end", || subscriber.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
}

/// A store is opened by the first who asks for it, lives on the node that the layout says, outlives it if it
/// is to, and its file is readable without a cluster.
#[test]
fn a_store_from_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let port = free_ports(1)[0];
    write(
        directory,
        &format!(
            "[[node]]\nname = \"manager\"\nrole = \"manager\"\nport = {port}\n\
             [store.\"a/b\"]\nbackend = \"sqlite\"\n[store.short]\n"
        ),
    );
    let address = format!("127.0.0.1:{port}");
    let store = |words: &[&str]| {
        let words: Vec<&str> = ["store", &address, "a/b"]
            .iter()
            .chain(words)
            .copied()
            .collect();
        run(directory, &words)
    };
    let mut node = Running::start(directory, &["node", "manager"]);
    node.wait_for("listens on");

    let put = store(&["put", "addr:10.0.0.1", "count:5", "--durable"]);
    assert!(put.status.success(), "{}", stderr(&put));
    let got = store(&["get", "addr:10.0.0.1"]);
    assert_eq!(stdout(&got), "5\n", "{}", stderr(&got));
    assert_eq!(
        stdout(&store(&["increment", "addr:10.0.0.1", "count:2"])),
        "7\n"
    );
    assert_eq!(store(&["get", "nothing"]).status.code(), Some(1));
    assert_eq!(
        store(&["put", "addr:10.0.0.1", "1", "--unique"])
            .status
            .code(),
        Some(1)
    );
    assert!(
        store(&["put", "[1, \"x\"]", "T", "--lifetime", "3600"])
            .status
            .success()
    );
    assert_eq!(stdout(&store(&["keys"])), "10.0.0.1\n[1, \"x\"]\n");
    let dumped = store(&["dump"]);
    let lines = stdout(&dumped);
    assert_eq!(lines.lines().count(), 2, "{lines}{}", stderr(&dumped));
    std::fs::write(directory.join("dumped.json"), &lines).unwrap();
    assert!(store(&["clear"]).status.success());
    assert_eq!(stdout(&store(&["size"])), "0\n");
    let loaded = store(&["load", "dumped.json"]);
    assert_eq!(stderr(&loaded), "loaded 2 entries\n");
    let again = stdout(&store(&["dump"]));
    assert_eq!(again.lines().count(), 2);
    let watched = store(&["watch", "--count", "2"]);
    assert!(
        stdout(&watched).contains("insert 10.0.0.1 = 7\n"),
        "{}",
        stdout(&watched)
    );
    let wrong = store(&["put", "x"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("`put` takes 2 to 2 arguments"));
    let used = run(directory, &["store", "muster/stores/a_b.sqlite", "dump"]);
    assert!(
        stderr(&used).contains("a running node has it open"),
        "{}",
        stderr(&used)
    );

    // What was acknowledged as durable is there after a crash, too.
    node.child.kill().unwrap();
    node.child.wait().unwrap();
    let offline = run(
        directory,
        &["store", "muster/stores/a_b.sqlite", "get", "addr:10.0.0.1"],
    );
    assert_eq!(stdout(&offline), "7\n", "{}", stderr(&offline));
    let mut node = Running::start(directory, &["node", "manager"]);
    node.wait_for("listens on");
    assert_eq!(stdout(&store(&["get", "addr:10.0.0.1"])), "7\n");
}
