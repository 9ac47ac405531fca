//! Stories of nodes that come, go, come again, or are not who they say.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use muster_cluster::{Layout, Membership, MembershipEvent, NodeName};
use muster_data::Timestamp;
use muster_wire::{EndpointId, Incarnation};
use proptest::prelude::*;

const LAYOUT: &str = r#"
[[node]]
name = "manager"
role = "manager"
[[node]]
name = "proxy"
role = "proxy"
[[node]]
name = "worker"
role = "worker"
"#;

/// The id number `n`, written as `#n` in the stories.
fn id(n: u8) -> EndpointId {
    EndpointId::from_random([n; 16])
}

fn table() -> Membership {
    let layout = Layout::parse(LAYOUT, "x", &[]).unwrap();
    let me = NodeName::new("manager").unwrap();
    Membership::new(&layout, &me, id(0), Incarnation(1), Timestamp::from_secs(0))
}

/// Plays a story, one step a line, and writes what follows from each step.
///
/// Steps: `+1` (peering with #1), `-1` (peering lost), `1 worker` (hello, no incarnation),
/// `1 worker @5` (hello with incarnation 5), `1 worker as 2` (hello with another's id), `?yes` or `?no`
/// (the worker that is there has answered its ping or not), `=1 worker` (#1 is announced in the mesh under that name).
fn play(story: &str) -> String {
    let mut table = table();
    let mut text = String::new();
    for step in story.lines().map(str::trim).filter(|step| !step.is_empty()) {
        let worker = NodeName::new("worker").unwrap();
        let events = if let Some(answer) = step.strip_prefix('?') {
            table.contest_ended(&worker, answer == "yes")
        } else if let Some(n) = step.strip_prefix('+') {
            table.peer_added(id(n.parse().unwrap()), true, Timestamp::from_secs(1))
        } else if let Some(announced) = step.strip_prefix('=') {
            let (n, name) = announced.split_once(' ').unwrap();
            table.announced(id(n.parse().unwrap()), name)
        } else if let Some(n) = step.strip_prefix('-') {
            table.peer_lost(id(n.parse().unwrap()))
        } else {
            let words: Vec<_> = step.split(' ').collect();
            let from = id(words[0].parse().unwrap());
            let own = words
                .iter()
                .position(|word| *word == "as")
                .map(|at| id(words[at + 1].parse().unwrap()));
            let incarnation = words
                .iter()
                .find_map(|word| word.strip_prefix('@'))
                .map(|n| Incarnation(n.parse().unwrap()));
            table.hello(from, words[1], own.unwrap_or(from), incarnation)
        };
        text.push_str(step);
        for event in events {
            text.push_str("\n        ");
            text.push_str(&told(&event));
        }
        text.push('\n');
    }
    let alive: Vec<_> = table.alive().map(|record| record.name.as_str()).collect();
    text + "alive: " + &alive.join(" ")
}

fn told(event: &MembershipEvent) -> String {
    let number = |known: &EndpointId| (0..=255).find(|&n| id(n) == *known).unwrap();
    let life = |id, incarnation: &Option<Incarnation>| match incarnation {
        Some(incarnation) => format!("#{} @{}", number(id), incarnation.0),
        None => format!("#{}", number(id)),
    };
    match event {
        MembershipEvent::NodeUp {
            name,
            id,
            incarnation,
        } => format!("up {name} {}", life(id, incarnation)),
        MembershipEvent::NodeDown {
            name,
            id,
            incarnation,
        } => format!("down {name} {}", life(id, incarnation)),
        MembershipEvent::Refused { name, id, reason } => {
            format!("refused {name} #{}: {reason}", number(id))
        }
        MembershipEvent::Contested { name, old, new } => {
            format!("contested {name} #{} by #{}", number(old), number(new))
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_node_comes_and_goes() {
    insta::assert_snapshot!(play(
        "+1\n 1 worker @5\n 1 worker @5\n -1\n -1\n +2\n 2 worker @6"
    ));
}

#[test]
fn a_hello_may_come_before_its_peering() {
    insta::assert_snapshot!(play("1 worker @5\n +1\n 2 proxy\n -2\n +2"));
}

#[test]
fn a_restart_before_the_loss_was_seen() {
    insta::assert_snapshot!(play("+1\n 1 worker @5\n +2\n 2 worker @6\n -1\n -2"));
}

#[test]
fn a_restart_whose_old_life_hangs() {
    insta::assert_snapshot!(play(
        "+1\n 1 worker @5\n +2\n 2 worker @6\n 2 worker @6\n ?no\n ?no\n 1 worker @5\n -1\n -2"
    ));
}

#[test]
fn a_restart_whose_clock_went_back() {
    insta::assert_snapshot!(play("+1\n 1 worker @5\n +2\n 2 worker @4\n -1\n -2"));
}

#[test]
fn two_processes_under_one_name() {
    insta::assert_snapshot!(play(
        "+1\n 1 worker @5\n +2\n 2 worker @6\n +3\n 3 worker @7\n ?yes\n 2 worker @6\n 3 worker @7\n -3\n ?no\n -1\n 2 worker @6\n -2"
    ));
}

#[test]
fn a_stale_hello_does_not_bring_an_old_life_back() {
    insta::assert_snapshot!(play(
        "+1\n 1 worker\n +2\n 2 worker\n ?no\n 1 worker\n -1\n 1 worker\n -2"
    ));
}

#[test]
fn a_peer_that_is_no_node_leaves_no_trace() {
    insta::assert_snapshot!(play(
        "+1\n -1\n +2\n 2 nobody\n 2 manager\n 2 worker as 3\n -2\n +4\n 4 worker\n 4 proxy\n -4"
    ));
}

#[test]
fn names_and_ids_find_each_other() {
    let mut table = table();
    let worker = NodeName::new("worker").unwrap();
    assert_eq!(table.id_of(&worker), None);
    table.peer_added(id(1), true, Timestamp::from_secs(7));
    assert_eq!(table.name_of(id(1)), None);
    table.hello(id(1), "worker", id(1), None);
    assert_eq!(table.id_of(&worker), Some(id(1)));
    assert_eq!(table.name_of(id(1)), Some(&worker));
    assert_eq!(table.name_of(id(0)), Some(table.me()));
    assert_eq!(table.name_of(id(9)), None);
    let life = table.get(&worker).unwrap().life.clone().unwrap();
    assert!(life.direct && life.since == Timestamp::from_secs(7));
    // The link is lost, but there is a way through others.
    table.link_changed(id(1), false);
    let life = table
        .get(&NodeName::new("worker").unwrap())
        .and_then(|record| record.life.clone())
        .unwrap();
    assert!(!life.direct && life.since == Timestamp::from_secs(7));
    assert!(!table.get(table.me()).unwrap().life.as_ref().unwrap().direct);
}

#[test]
fn hellos_without_peering_are_bounded() {
    let mut table = table();
    let refused = (1..=100_u8)
        .filter(|&n| !table.hello(id(n), "worker", id(n), None).is_empty())
        .count();
    assert_eq!(refused, 100 - 22);
    assert!(table.hello(id(1), "worker", id(1), None).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Added(u8),
    Lost(u8),
    Hello {
        from: u8,
        name: &'static str,
        incarnation: Option<u64>,
    },
    ContestEnded(&'static str, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let names = prop::sample::select(vec!["worker", "proxy", "manager", "nobody"]);
    let contested = prop::sample::select(vec!["worker", "proxy"]);
    prop_oneof![
        (contested, any::<bool>()).prop_map(|(name, answered)| Step::ContestEnded(name, answered)),
        (1..6_u8).prop_map(Step::Added),
        (1..6_u8).prop_map(Step::Lost),
        (1..6_u8, names, prop::option::of(0..4_u64)).prop_map(|(from, name, incarnation)| {
            Step::Hello {
                from,
                name,
                incarnation,
            }
        }),
    ]
}

proptest! {
    #[test]
    fn ups_and_downs_of_a_node_alternate(steps in prop::collection::vec(step(), 0..60)) {
        let mut table = table();
        let mut peers = std::collections::HashSet::new();
        let mut alive: HashMap<NodeName, EndpointId> = HashMap::new();
        for step in steps {
            let events = match step {
                Step::Added(n) => {
                    peers.insert(id(n));
                    table.peer_added(id(n), true, Timestamp::from_secs(1))
                }
                Step::Lost(n) => {
                    peers.remove(&id(n));
                    table.peer_lost(id(n))
                }
                Step::ContestEnded(name, answered) => {
                    table.contest_ended(&NodeName::new(name).unwrap(), answered)
                }
                Step::Hello { from, name, incarnation } => {
                    table.hello(id(from), name, id(from), incarnation.map(Incarnation))
                }
            };
            for event in events {
                match event {
                    MembershipEvent::NodeUp { name, id, .. } => {
                        prop_assert!(peers.contains(&id));
                        prop_assert_eq!(alive.insert(name, id), None);
                    }
                    MembershipEvent::NodeDown { name, id, .. } => prop_assert_eq!(alive.remove(&name), Some(id)),
                    _ => {}
                }
            }
            for record in table.records().filter(|record| record.name != *table.me()) {
                prop_assert_eq!(table.id_of(&record.name), alive.get(&record.name).copied());
                if let Some(id) = table.id_of(&record.name) {
                    prop_assert_eq!(table.name_of(id), Some(&record.name));
                }
            }
        }
    }
}

/// A certificate binds an endpoint to the name that it announces, so its hello may say no other.
#[test]
fn a_node_says_the_name_that_its_endpoint_has_announced() {
    insta::assert_snapshot!(play(
        "=1 worker\n +1\n 1 proxy\n 1 worker\n =1 worker\n -1\n +1\n 1 proxy"
    ));
}

/// A node whose hello comes before that was up for a moment.
#[test]
fn a_name_that_was_not_announced_is_taken_back() {
    insta::assert_snapshot!(play("+1\n 1 proxy\n =1 worker\n 1 proxy\n 1 worker"));
}
