//! Layouts that are right: what they say about nodes, links, subscriptions and settings.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::time::Duration;

use muster_cluster::{
    Layout, Link, NodeName, Origin, Role, Setting, SettingError, SettingSpec, links,
};
use muster_store::StoreName;
use muster_wire::EndpointId;
use proptest::prelude::*;

const DEMO: &str = include_str!("layouts/demo.toml");

const SCAN: &[SettingSpec] = &[
    SettingSpec::count("scan.threshold", 25, "distinct targets that make a scan"),
    SettingSpec::duration(
        "scan.window",
        Duration::from_secs(300),
        "time in which they count",
    ),
];

fn demo() -> Layout {
    Layout::parse(DEMO, "demo.toml", SCAN).unwrap_or_else(|error| panic!("{error}"))
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

#[test]
fn nodes_of_the_demo() {
    let layout = demo();
    let mut text = String::new();
    for node in layout.nodes() {
        let (name, role, box_name) = (&node.name, node.role, &node.box_name);
        let transit = if node.transit { "transit" } else { "leaf" };
        let address = node.socket_address();
        writeln!(
            text,
            "{name:9} {role:8} {box_name:5} {address:16} {transit:8} {:?}",
            node.input
        )
        .unwrap();
    }
    assert_eq!(layout.directory(), "demo");
    insta::assert_snapshot!(text);
}

#[test]
fn links_of_the_demo() {
    let text: Vec<_> = links(&demo())
        .iter()
        .map(|link| format!("{} dials {}", link.dialer, link.listener))
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn subscriptions_of_the_demo() {
    let layout = demo();
    let id = EndpointId::from_random([7; 16]);
    let mut text = String::new();
    for name in ["manager", "logger", "proxy-2", "worker-3"] {
        let node = layout.find(name).unwrap();
        writeln!(text, "{name}").unwrap();
        for topic in layout.topics().subscriptions(node, id, &layout) {
            writeln!(text, "    {topic}").unwrap();
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_manager_without_loggers_takes_the_logs() {
    let text = "[[node]]\nname = \"m\"\nrole = \"manager\"\n";
    let layout = Layout::parse(text, "x", &[]).unwrap();
    assert!(layout.manager_is_logger());
    let id = EndpointId::from_random([7; 16]);
    let topics = layout
        .topics()
        .subscriptions(layout.find("m").unwrap(), id, &layout);
    let topics: Vec<_> = topics.iter().map(ToString::to_string).collect();
    assert!(topics.contains(&"zeek/logs/".to_owned()), "{topics:?}");
    assert!(
        topics.contains(&"zeek/cluster/pool/logger".to_owned()),
        "{topics:?}"
    );
}

#[test]
fn settings_of_one_node_with_their_origins() {
    let layout = demo().with_override("logging.batch_size", "10").unwrap();
    let worker = layout.find("worker-1").unwrap();
    let text: Vec<_> = worker
        .settings
        .iter()
        .map(|Setting { key, value, origin }| format!("{key} = {value}  # {origin}"))
        .collect();
    insta::assert_snapshot!(text.join("\n"));

    let manager = &layout.find("manager").unwrap().settings;
    assert_eq!(manager.count("scan.threshold"), 50);
    assert_eq!(manager.origin("scan.threshold"), Origin::Layout { line: 5 });
    assert_eq!(manager.duration("peering.retry"), Duration::from_secs(1));
}

#[test]
fn links_set_what_holds_for_single_peers() {
    let text = r#"
peering.bulk_queue = 7
[[node]]
name = "manager"
role = "manager"
[[node]]
name = "logger"
role = "logger"
address = "192.0.2.9"
[[node]]
name = "worker"
role = "worker"
count = 2
options = { "peering.bulk_queue" = 8 }
[[link]]
from = "worker"
to = "logger"
bulk_queue = 5
bulk_overflow = "drop_newest"
[[link]]
between = ["worker-1", "192.0.2.9"]
bulk_queue = 6
"#;
    let layout = Layout::parse(text, "links.toml", &[]).unwrap_or_else(|e| panic!("{e}"));
    let describe = |layout: &Layout| {
        let mut text = String::new();
        for from in layout.nodes() {
            for to in layout.nodes() {
                let Some(settings) = layout.link_settings(from, to) else {
                    continue;
                };
                let set = settings
                    .iter()
                    .filter(|setting| matches!(setting.origin, Origin::Link { .. }))
                    .map(|Setting { key, value, origin }| format!("{key} = {value} ({origin})"));
                let set: Vec<_> = set.collect();
                writeln!(text, "{} -> {}: {}", from.name, to.name, set.join(", ")).unwrap();
            }
        }
        text
    };
    insta::assert_snapshot!(describe(&layout), @r#"
    logger -> worker-1: peering.bulk_queue = 6 (link, line 22)
    worker-1 -> logger: peering.bulk_overflow = "drop_newest" (link, line 19), peering.bulk_queue = 6 (link, line 22)
    worker-2 -> logger: peering.bulk_overflow = "drop_newest" (link, line 19), peering.bulk_queue = 5 (link, line 18)
    "#);
    // The command line is for all links.
    let overridden = layout.with_override("peering.bulk_queue", "9").unwrap();
    insta::assert_snapshot!(describe(&overridden), @r#"
    worker-1 -> logger: peering.bulk_overflow = "drop_newest" (link, line 19)
    worker-2 -> logger: peering.bulk_overflow = "drop_newest" (link, line 19)
    "#);
}

#[test]
fn overrides_are_checked() {
    let unknown = demo().with_override("scan.treshold", "1").unwrap_err();
    assert!(matches!(unknown, SettingError::UnknownKey { .. }));
    assert_eq!(
        unknown.to_string(),
        "unknown setting `scan.treshold`; did you mean `scan.threshold`?"
    );
    let bad = demo().with_override("scan.threshold", "many").unwrap_err();
    assert_eq!(
        bad.to_string(),
        "`scan.threshold` takes a whole number, 0 or more"
    );
    let layout = demo().with_override("scan.threshold", "7").unwrap();
    assert_eq!(
        layout
            .find("worker-1")
            .unwrap()
            .settings
            .count("scan.threshold"),
        7
    );
    assert_eq!(layout.settings().origin("scan.threshold"), Origin::Override);
}

#[test]
fn ports_are_handed_out_by_address_and_skip_those_taken() {
    let text = r#"
[[node]]
name = "manager"
role = "manager"
[[node]]
name = "worker"
role = "worker"
count = 2
[[node]]
name = "proxy"
role = "proxy"
port = 17761
[[node]]
name = "far"
role = "proxy"
address = "2001:db8::1"
"#;
    let layout = Layout::parse(text, "x", &[]).unwrap();
    let text: Vec<_> = layout
        .nodes()
        .iter()
        .map(|node| format!("{} {}", node.name, node.socket_address()))
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

/// A layout with so many nodes of each role.
fn sized(loggers: usize, proxies: usize, workers: usize) -> Layout {
    let mut text = "[[node]]\nname = \"manager\"\nrole = \"manager\"\n".to_owned();
    for (role, count) in [("logger", loggers), ("proxy", proxies), ("worker", workers)] {
        if count > 0 {
            write!(
                text,
                "[[node]]\nname = \"{role}\"\nrole = \"{role}\"\ncount = {count}\n"
            )
            .unwrap();
        }
    }
    Layout::parse(&text, "x", &[]).unwrap_or_else(|error| panic!("{error}"))
}

proptest! {
    #[test]
    fn every_hub_is_linked_to_every_node(loggers in 0..12_usize, proxies in 0..12_usize, workers in 0..12_usize) {
        let layout = sized(loggers, proxies, workers);
        let links = links(&layout);
        for one in layout.nodes() {
            for other in layout.nodes().iter().filter(|other| other.name != one.name) {
                let between = |link: &&Link| {
                    (link.dialer == one.name && link.listener == other.name)
                        || (link.dialer == other.name && link.listener == one.name)
                };
                let expected = usize::from(one.role != Role::Worker || other.role != Role::Worker);
                prop_assert_eq!(links.iter().filter(between).count(), expected, "{} {}", one.name, other.name);
            }
            let neighbours = layout.neighbours(&one.name);
            let mut around: Vec<_> =
                neighbours.dials.iter().map(|other| (&one.name, other)).collect();
            around.extend(neighbours.accepts.iter().map(|other| (other, &one.name)));
            around.sort();
            let all: Vec<_> = links
                .iter()
                .filter(|link| link.dialer == one.name || link.listener == one.name)
                .map(|link| (&link.dialer, &link.listener))
                .collect();
            prop_assert_eq!(around, all);
        }
        prop_assert!(links.iter().all(|link| link.dialer != link.listener));
    }

    #[test]
    fn garbage_never_panics(text in ".{0,400}") {
        let _ = Layout::parse(&text, "x", SCAN);
    }

    /// Lines of valid layouts in any order, repeated, cut and with values exchanged.
    #[test]
    fn shuffled_layouts_never_panic(lines in prop::collection::vec((0..FRAGMENTS.len(), 0..80_usize), 0..40)) {
        let mut text = String::new();
        for (fragment, cut) in lines {
            let line: String = FRAGMENTS[fragment].chars().take(cut.max(10)).collect();
            writeln!(text, "{line}").unwrap();
        }
        match Layout::parse(&text, "x", SCAN) {
            Ok(layout) => prop_assert!(layout.manager().is_some()),
            Err(error) => {
                let lines = text.lines().count().max(1);
                prop_assert!(!error.problems().is_empty());
                for problem in error.problems() {
                    prop_assert!((1..=lines + 1).contains(&problem.line), "{}", problem);
                    prop_assert!(!problem.message.contains('\n'));
                }
            }
        }
    }
}

const FRAGMENTS: &[&str] = &[
    "layout = 1",
    "layout = 2",
    "prefix = \"zeek/cluster\"",
    "prefix = \"zeek/logs/x\"",
    "[[node]]",
    "[[node]]\nname = \"manager\"\nrole = \"manager\"",
    "[[node]]\nname = \"proxy\"\nrole = \"proxy\"",
    "[node]",
    "node = 3",
    "name = \"worker\"",
    "name = \"a/b\"",
    "role = \"worker\"",
    "role = \"proxy\"",
    "role = 7",
    "count = 3",
    "count = 1024",
    "port = 65535",
    "port = 0",
    "address = \"::1\"",
    "address = \"nowhere\"",
    "box = \"east\"",
    "[box.east]",
    "[box]",
    "pools = [\"scan\", \"proxy2\"]",
    "transit = true",
    "input = [\"a.log\"]",
    "options = { scan.threshold = 1, scan = 2 }",
    "options.scan.window = \"5m\"",
    "[pool.scan]",
    "[pool.proxy2]",
    "[pool.proxy]",
    "type = \"worker\"",
    "max_nodes = 2",
    "exclusive = true",
    "[scan]",
    "threshold = 9223372036854775807",
    "threshold = -1",
    "window = inf",
    "[[scan]]",
    "\"\" = 1",
    "ä = \"ö",
];

#[test]
fn names_find_nodes() {
    let layout = demo();
    assert_eq!(layout.node(&name("proxy-2")).unwrap().role, Role::Proxy);
    assert!(layout.find("proxy-3").is_none());
    assert_eq!(
        layout.neighbours(&name("proxy-3")),
        muster_cluster::Neighbours::default()
    );
}

/// The operator's word for a store wins over its author's, and everything has a default.
#[test]
fn where_a_store_lives() {
    let text = "directory = \"state\"\n\
                [[node]]\nname = \"manager\"\nrole = \"manager\"\n\
                [[node]]\nname = \"data-1\"\nrole = \"proxy\"\n\
                [store.\"known/hosts\"]\nmaster = \"data-1\"\nbackend = \"sqlite\"\nsynchronous = \"normal\"\n\
                [store.fixed]\npath = \"/var/lib/x.sqlite\"\nbackend = \"memory\"\n";
    let layout = Layout::parse(text, "muster.toml", &[]).unwrap();
    let plan = |name: &str, persistent| {
        let plan = layout.store(&name.parse().unwrap(), persistent).unwrap();
        format!(
            "{} {:?} {} {:?}",
            plan.master, plan.backend, plan.path, plan.file.synchronous
        )
    };
    assert_eq!(
        [
            plan("a/b", false),
            plan("a/b", true),
            plan("known/hosts", false),
            plan("fixed", true)
        ],
        [
            "manager Memory state/stores/a_b.sqlite None",
            "manager Sqlite state/stores/a_b.sqlite None",
            "data-1 Sqlite state/stores/known_hosts.sqlite Some(\"NORMAL\")",
            "manager Memory /var/lib/x.sqlite None",
        ]
    );
    let moved = layout
        .with_override("stores.default_master_node", "data-1")
        .unwrap();
    assert_eq!(
        moved
            .store(&"a".parse().unwrap(), false)
            .unwrap()
            .master
            .as_str(),
        "data-1"
    );
}

const TWO_BOXES: &str = r#"
[box.a]
address = "10.0.0.1"
[box.b]
address = "10.0.0.2"
[[node]]
name = "manager"
role = "manager"
box = "a"
[[node]]
name = "logger-a"
role = "logger"
box = "a"
[[node]]
name = "data-a"
role = "data"
box = "a"
[[node]]
name = "logger-b"
role = "logger"
box = "b"
[[node]]
name = "data-b"
role = "data"
box = "b"
[[node]]
name = "worker"
role = "worker"
box = "b"
"#;

/// Who may have a copy of a store, and how many of how many are needed.
fn plan(text: &str, store: &str) -> String {
    let layout = Layout::parse(text, "muster.toml", &[]).unwrap();
    let name = StoreName::new(store).unwrap();
    let plan = layout.store(&name, false).unwrap();
    assert_eq!(layout.store_candidates(&name, true), plan.candidates);
    let candidates = plan.candidates.iter();
    let candidates = candidates.map(|it| format!("{}/{}", it.box_name, it.node));
    let candidates: Vec<_> = candidates.collect();
    let (copies, needed) = (plan.copies, plan.min_copies);
    format!("{needed} of {copies}: {}", candidates.join(" "))
}

#[test]
fn a_store_has_its_second_copy_on_another_box() {
    let with = |rest: &str| format!("{TWO_BOXES}{rest}");
    assert_eq!(
        plan(TWO_BOXES, "a"),
        "1 of 2: a/manager b/data-b b/logger-b a/data-a a/logger-a"
    );
    let master = with("[store.a]\nmaster = \"data-b\"\ncopies = 3\nmin_copies = 2\n");
    assert_eq!(
        plan(&master, "a"),
        "2 of 3: b/data-b a/data-a a/logger-a a/manager b/logger-b"
    );
    // A worker has one only if it is named.
    let worker = with("[store.a]\nmaster = \"worker\"\n");
    assert!(plan(&worker, "a").starts_with("1 of 2: b/worker a/data-a"));
    assert!(!plan(&worker, "b").contains("worker"));
    let settings = format!("[stores]\ncopies = 4\nmin_copies = 3\n{TWO_BOXES}");
    assert!(plan(&settings, "a").starts_with("3 of 4: "));
    let own = format!("{settings}[store.a]\ncopies = 3\n");
    assert!(plan(&own, "a").starts_with("3 of 3: "));
    let alone = format!("{settings}[store.a]\ncopies = 0\nmin_copies = 1\n");
    assert!(plan(&alone, "a").starts_with("1 of 2: "));
}

#[test]
fn a_store_of_one_box_has_one_copy_unless_more_are_wanted() {
    let text = r#"
[[node]]
name = "manager"
role = "manager"
[[node]]
name = "data"
role = "data"
count = 30
"#;
    let one = plan(text, "a");
    assert!(
        one.starts_with("1 of 1: 127.0.0.1/manager 127.0.0.1/data-1"),
        "{one}"
    );
    // No more than coordinators take.
    assert_eq!(one.split(' ').count(), 3 + 16);
    let two = format!("[stores]\ncopies = 2\n{text}");
    assert!(plan(&two, "a").starts_with("1 of 2: "));
}
