//! Clusters of Muster's nodes and real Zeeks, and the commands against a real Zeek.
//!
//! See `../muster/tests/support/zeek.rs` for how Zeek is found.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;
#[path = "../../muster/tests/support/zeek.rs"]
mod zeek;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use muster_cluster::{Key, Layout, NodeName, PoolName, Pools};
use muster_data::{Address, Port, Subnet};
use support::{Running, free_ports, muster, run, stderr, stdout, until};

/// A node of a test's cluster: name, role, and what else its section of a layout has.
type Member = (&'static str, &'static str, &'static str);

/// Writes the same cluster for Muster and for Zeek: the directories of a Muster node and of each Zeek.
fn cluster(directory: &Path, tls: &str, members: &[Member], zeeks: &[&str]) {
    let mut muster = format!("directory = \"state\"\ntls.mode = \"{tls}\"\n");
    let mut zeek = "redef Cluster::manager_is_logger = F;\nredef Cluster::nodes = {\n".to_owned();
    for ((name, role, more), port) in members.iter().zip(free_ports(members.len())) {
        writeln!(
            muster,
            "[[node]]\nname = \"{name}\"\nrole = \"{role}\"\nport = {port}\n{more}"
        )
        .unwrap();
        let node_type = match *role {
            "data" => "PROXY".to_owned(),
            role => role.to_uppercase(),
        };
        let manager = match *role {
            "manager" => "",
            _ => ", $manager=\"manager\"",
        };
        writeln!(
            zeek,
            "[\"{name}\"] = [$node_type=Cluster::{node_type}, $ip=127.0.0.1, $p={port}/tcp{manager}],"
        )
        .unwrap();
    }
    zeek.push_str("};\n");
    if tls == "off" {
        zeek.push_str("redef Broker::disable_ssl = T;\n");
    }
    std::fs::write(directory.join("muster.toml"), muster).unwrap();
    for name in zeeks {
        let own = directory.join(name);
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("cluster-layout.zeek"), &zeek).unwrap();
    }
}

/// Waits until a node of ours has said that so many others are up, and returns who.
fn nodes_up(node: &mut Running, count: usize) -> BTreeSet<String> {
    (0..count)
        .map(|_| {
            let line = node.wait_for("node up: ");
            line.rsplit(' ').next().unwrap().trim().to_owned()
        })
        .collect()
}

/// Stops a node of ours as an operator does.
fn stop(node: Running) {
    let pid = node.child.id().to_string();
    let kill = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(kill.unwrap().success());
    assert_eq!(node.finish().0, Some(0));
}

/// The lines of a log, whatever the times in its file's name.
fn lines(directory: &Path, log: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with(&format!("{log}.")) {
            let text = std::fs::read(entry.path()).unwrap();
            lines.extend(text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// The rows of a log, sorted, and the lines about it but for those with the time of writing.
fn rows_and_head(directory: &Path, log: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut head, mut rows): (Vec<_>, Vec<_>) = lines(directory, log)
        .into_iter()
        .partition(|line| line.starts_with(b"#"));
    head.retain(|line| !line.starts_with(b"#open") && !line.starts_with(b"#close"));
    rows.sort();
    (rows, head)
}

fn count_rows(directory: &Path, log: &str) -> usize {
    let lines = lines(directory, log);
    lines.iter().filter(|line| !line.starts_with(b"#")).count()
}

/// The numbers of a line of JSON in the one form that Rust gives them. Zeek's writer uses a digit more
/// than needed for one number in a thousand.
fn with_plain_numbers(line: &[u8]) -> String {
    let line = std::str::from_utf8(line).unwrap();
    let (mut out, mut number) = (String::new(), String::new());
    let (mut in_text, mut is_escaped) = (false, false);
    for character in line.chars() {
        if !in_text && matches!(character, '0'..='9' | '+' | '-' | '.' | 'e') {
            number.push(character);
            continue;
        }
        if number.contains(['.', 'e'])
            && number.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        {
            write!(out, "{:?}", number.parse::<f64>().unwrap()).unwrap();
        } else {
            out.push_str(&number);
        }
        number.clear();
        out.push(character);
        in_text ^= character == '"' && !is_escaped;
        is_escaped = in_text && character == '\\' && !is_escaped;
    }
    out
}

#[test]
fn our_logger_writes_what_zeek_itself_would_write() {
    let Some(zeek) = zeek::zeek() else {
        return;
    };
    let everything = include_str!("zeek/everything.zeek");
    let script = format!("{everything}\n{}", include_str!("zeek/log.zeek"));
    let alone = format!(
        "{everything}\nevent zeek_init() &priority=-10 {{ Everything::write_all(); terminate(); }}\n"
    );
    for (format, tls, json) in [("tsv", "anonymous", "F"), ("json", "off", "T")] {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let members = [
            ("manager", "manager", ""),
            ("logger-1", "logger", ""),
            ("worker-1", "worker", ""),
        ];
        cluster(directory, tls, &members, &["manager", "worker-1"]);
        let set = format!("logging.format={format}");
        let mut logger = Running::start(directory, &["node", "logger-1", "--set", &set]);
        logger.wait_for("listens on");
        // Only with its hash seeds fixed has a set the same order in two Zeeks.
        let start = |name: &str| zeek.start_node(name, &directory.join(name), &script, &["-D"]);
        let (mut manager, mut worker) = (start("manager"), start("worker-1"));
        let expected = ["manager", "worker-1"].map(str::to_owned).into();
        assert_eq!(nodes_up(&mut logger, 2), expected);
        for node in [&mut manager, &mut worker] {
            node.says("node_up logger-1");
        }
        let state = directory.join("state");
        until("10,000 records", || {
            (count_rows(&state, "everything") >= 10_000).then_some(())
        });
        worker.terminate();
        logger.wait_for("node down: worker-1");
        manager.terminate();
        logger.wait_for("node down: manager");
        stop(logger);

        let json = format!("LogAscii::use_json={json}");
        let own = directory.join("alone");
        zeek.start(&own, &alone, &["-b", "-D", &json]).ended();
        let (ours, our_head) = rows_and_head(&state, "everything");
        let (theirs, their_head) = rows_and_head(&own, "everything");
        assert_eq!((ours.len(), theirs.len()), (10_000, 10_000));
        assert_eq!(our_head, their_head);
        let mut different = 0;
        for (ours, theirs) in ours.iter().zip(&theirs) {
            if ours != theirs {
                different += 1;
                assert_eq!(format, "json", "{}", theirs.escape_ascii());
                assert_eq!(with_plain_numbers(ours), with_plain_numbers(theirs));
            }
        }
        assert!(different < 100, "{different}");
    }
}

/// Zeek takes a node for down when its peering is lost, not when it is taken down in order.
#[test]
fn zeek_hears_when_our_node_stops_dies_and_returns() {
    let Some(zeek) = zeek::zeek() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let members = [
        ("manager", "manager", ""),
        ("logger-1", "logger", ""),
        ("worker-1", "worker", ""),
    ];
    cluster(directory, "anonymous", &members, &["manager", "worker-1"]);
    let script = format!(
        "{}\n{}",
        include_str!("zeek/everything.zeek"),
        include_str!("zeek/log.zeek")
    );
    let few = ["-D", "Everything::records=10"];
    let start = |name: &str| zeek.start_node(name, &directory.join(name), &script, &few);
    let (mut manager, mut worker) = (start("manager"), start("worker-1"));
    for (life, is_killed) in [false, true, false].into_iter().enumerate() {
        let mut logger = Running::start(directory, &["node", "logger-1"]);
        assert_eq!(nodes_up(&mut logger, 2).len(), 2);
        for node in [&mut manager, &mut worker] {
            node.says("node_up logger-1");
        }
        // What a logger got reaches its files, whatever became of those before it.
        let rows = 10 * (life + 1);
        until("records", || {
            (count_rows(&directory.join("state"), "everything") >= rows).then_some(())
        });
        if is_killed {
            drop(logger);
        } else {
            stop(logger);
        }
        for node in [&mut manager, &mut worker] {
            node.says("node_down logger-1");
        }
    }
    // The other way round: a Zeek that is killed and comes back.
    let mut logger = Running::start(directory, &["node", "logger-1"]);
    assert_eq!(nodes_up(&mut logger, 2).len(), 2);
    drop(worker);
    logger.wait_for("node down: worker-1");
    worker = start("worker-1");
    logger.wait_for("node up: worker-1");
    worker.says("node_up logger-1");
    worker.terminate();
    manager.terminate();
    stop(logger);
}

#[test]
fn our_nodes_log_to_a_zeek_logger() {
    let Some(zeek) = zeek::zeek() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let members = [
        ("manager", "manager", ""),
        ("logger-1", "logger", ""),
        ("data-1", "data", ""),
        ("worker-1", "worker", "input = [\"*.conn.log\"]"),
    ];
    cluster(directory, "anonymous", &members, &["logger-1"]);
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../muster-frameworks/tests/data");
    for name in ["echo-connections", "nmap-vsn"] {
        let name = format!("{name}.conn.log");
        std::fs::copy(sample.join(&name), directory.join(&name)).unwrap();
    }
    let own = directory.join("logger-1");
    let script = include_str!("zeek/logger.zeek");
    let mut logger = zeek.start_node("logger-1", &own, script, &[]);
    let nodes: Vec<Running> = ["manager", "data-1", "worker-1"]
        .into_iter()
        .map(|name| {
            let settings = [
                "known_hosts.local_nets=127.0.0.0/8",
                "known_services.local_nets=127.0.0.0/8",
                "scan.threshold=2",
                "input.speed=0",
            ];
            let mut arguments = vec!["node", name];
            for setting in settings {
                arguments.extend(["--set", setting]);
            }
            Running::start(directory, &arguments)
        })
        .collect();
    let mut up: Vec<String> = (0..3).map(|_| logger.says("node_up ")).collect();
    up.sort();
    assert_eq!(up, ["data-1", "manager", "worker-1"]);
    for log in [
        "known_hosts",
        "known_services",
        "muster_scans",
        "muster_notice",
    ] {
        until(log, || (count_rows(&own, log) > 0).then_some(()));
    }
    for node in nodes {
        stop(node);
    }
    logger.terminate();
    for (log, types, start) in [
        ("known_hosts", "#types\ttime\taddr", "1627225020"),
        (
            "known_services",
            "#types\ttime\taddr\tport\tenum\tset[string]",
            "1627225020",
        ),
    ] {
        let (rows, head) = rows_and_head(&own, log);
        assert!(head.iter().any(|line| line == types.as_bytes()), "{head:?}");
        assert!(rows[0].starts_with(start.as_bytes()));
        let hosts = rows
            .iter()
            .filter(|row| row.split(|byte| *byte == b'\t').nth(1) == Some(b"127.0.0.1".as_slice()));
        assert_eq!(hosts.count(), rows.len());
    }
}

#[test]
fn our_proxy_and_zeeks_share_the_keys_of_zeeks_scripts() {
    let Some(zeek) = zeek::zeek() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let members = [
        ("manager", "manager", ""),
        ("logger-1", "logger", ""),
        ("proxy-1", "data", ""),
        ("proxy-2", "data", ""),
        ("worker-1", "worker", ""),
    ];
    let zeeks = ["manager", "proxy-1", "worker-1"];
    cluster(directory, "anonymous", &members, &zeeks);
    let mut ours = ["logger-1", "proxy-2"].map(|name| {
        let mut node = Running::start(directory, &["node", name]);
        node.wait_for("listens on");
        node
    });
    let script = include_str!("zeek/known.zeek");
    let [mut manager, mut proxy, mut worker] =
        zeeks.map(|name| zeek.start_node(name, &directory.join(name), script, &[]));

    let text = std::fs::read_to_string(directory.join("muster.toml")).unwrap();
    let text = text.replace("tls.mode = \"anonymous\"\n", "");
    let text = text.replace("directory = \"state\"\n", "");
    let layout = Layout::parse(&text, "test", &[]).unwrap();
    let mut pools = Pools::new(&layout, None);
    for name in ["proxy-1", "proxy-2"] {
        pools.node_up(&NodeName::new(name).unwrap());
    }
    let mut by_owner: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..240 {
        let line = worker.says("owner ");
        let [kind, text, topic] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let key = match kind {
            "string" => Key::from(text),
            "count" => Key::from(text.parse::<u64>().unwrap()),
            "int" => Key::from(text.parse::<i64>().unwrap()),
            "double" => Key::from(text.parse::<f64>().unwrap()),
            "addr" => Key::from(text.parse::<Address>().unwrap()),
            "subnet" => Key::from(text.parse::<Subnet>().unwrap()),
            "port" => Key::from(text.parse::<Port>().unwrap()),
            _ => panic!("{line}"),
        };
        let owner = pools.owner(&PoolName::proxy(), &key).unwrap();
        assert_eq!(topic, format!("zeek/cluster/node/{owner}/"), "{line}");
        *by_owner.entry(owner.to_string()).or_default() += 1;
    }
    assert!(by_owner.values().all(|count| *count > 50), "{by_owner:?}");
    worker.says("all told");

    // Whoever owns a host logs it, once.
    let state = directory.join("state");
    let logs = ["known_hosts", "known_services", "software"];
    for log in logs {
        until(log, || (count_rows(&state, log) >= 100).then_some(()));
    }
    for zeek in [&mut worker, &mut proxy, &mut manager] {
        zeek.terminate();
    }
    ours[1].wait_for("node down: worker-1");
    for node in ours {
        stop(node);
    }
    for (log, types) in [
        ("known_hosts", "#types\ttime\taddr"),
        (
            "known_services",
            "#types\ttime\taddr\tport\tenum\tset[string]",
        ),
        (
            "software",
            "#types\ttime\taddr\tport\tenum\tstring\tcount\tcount\tcount\tcount\tstring\tstring",
        ),
    ] {
        let (rows, head) = rows_and_head(&state, log);
        assert_eq!(rows.len(), 100, "{log}");
        let hosts: BTreeSet<_> = rows
            .iter()
            .map(|row| row.split(|byte| *byte == b'\t').nth(1).unwrap())
            .collect();
        assert_eq!(hosts.len(), 100);
        let heads = head.iter().filter(|line| line.starts_with(b"#types"));
        assert!(
            heads.clone().all(|line| line == types.as_bytes()) && heads.count() == 1,
            "{log}: {head:?}"
        );
    }
}

/// Answers an event with another, and publishes a third all the time.
const COMMANDS: &str = r#"
@load base/frameworks/broker
module Test;
export {
	global hello: event(number: count, host: addr, text: string);
	global tick: event(number: count, text: string);
}
event tick(number: count, text: string)
	{
	Broker::publish("/muster/out", tick, number, text);
	schedule 20msec { tick(number + 1, text) };
	}
event hello(number: count, host: addr, text: string)
	{
	print fmt("hello %d %s %s", number, host, text);
	flush_all();
	}
event zeek_init()
	{
	Broker::subscribe("/muster/in");
	print fmt("listening %s", port_to_count(Broker::listen("127.0.0.1", 0/tcp)));
	flush_all();
	event tick(1, "a \"text\"\n");
	}
"#;

#[test]
fn the_commands_speak_to_zeek_in_all_modes_of_tls() {
    let Some(zeek) = zeek::zeek() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::write(
        directory.join("muster.toml"),
        "[[node]]\nname = \"us\"\nrole = \"manager\"\n[[node]]\nname = \"zeek\"\nrole = \"worker\"\n",
    )
    .unwrap();
    let made = run(directory, &["tls", "init"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let file = |name: &str| directory.join("tls").join(name).display().to_string();
    let mutual = [
        format!("Broker::ssl_cafile={}", file("ca.pem")),
        format!("Broker::ssl_certificate={}", file("zeek.pem")),
        format!("Broker::ssl_keyfile={}", file("zeek.key")),
    ];
    let modes = [
        (vec!["Broker::disable_ssl=T"], ""),
        (vec![], "--tls anonymous"),
        (
            mutual.iter().map(String::as_str).collect(),
            "--tls mutual --ssl-cafile tls/ca.pem --ssl-certificate tls/us.pem --ssl-keyfile tls/us.key",
        ),
    ];
    for (theirs, ours) in modes {
        let arguments = [vec!["-b"], theirs].concat();
        let mut zeek = zeek.start(&directory.join("zeek"), COMMANDS, &arguments);
        let address = format!("127.0.0.1:{}", zeek.says("listening "));
        let command = |words: &[&str]| {
            let words = words.iter().copied().chain(ours.split_whitespace());
            let output = muster(directory, &words.collect::<Vec<_>>())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            stdout(&output)
        };
        let peers = command(&["peers", &address]);
        assert!(peers.contains("/muster/in"), "{peers}");
        let ping = command(&["ping", &address]);
        assert!(ping.ends_with(" ms\n"), "{ping}");
        let words = ["publish", &address, "/muster/in", "Test::hello"];
        let values = ["count:18446744073709551615", "2001:db8::1", "\"caf\u{e9}\""];
        command(&[&words[..], &values[..]].concat());
        assert_eq!(
            zeek.says("hello "),
            r"18446744073709551615 2001:db8::1 caf\xc3\xa9"
        );
        let text = command(&["subscribe", &address, "/muster", "--count", "2"]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(
                line.contains("/muster/out") && line.contains(r#", "a \"text\"\n")"#),
                "{line}"
            );
        }
    }
}
