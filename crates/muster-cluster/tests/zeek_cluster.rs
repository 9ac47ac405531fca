//! Transcripts of real Zeek processes at a node of ours: what the node makes of every message, and that
//! it says what the scripted peer said to be taken for a node.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;

use muster_cluster::node::{Effect, Input, NodeLoop, Now, Reach, Registry, Severity};
use muster_cluster::{Layout, NodeName};
use muster_data::{DataRef, Limits, Timestamp};
use muster_wire::peering::Protocol;
use muster_wire::zeek::{EventRef, INCARNATION};
use muster_wire::{EndpointId, Incarnation, Mono};
use serde_json::Value as Json;

/// A message of a transcript.
struct Said {
    is_zeeks: bool,
    topic: String,
    payload: Vec<u8>,
}

fn load(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../muster-wire/tests/vectors");
    let text = std::fs::read_to_string(path.join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn said(transcript: &Json) -> Vec<Said> {
    let messages = transcript["messages"].as_array().unwrap().iter();
    let data = messages.filter(|message| message["decoded"]["type"] == "data");
    data.map(|message| {
        let frame = unhex(message["hex"].as_str().unwrap());
        let topic = message["decoded"]["topic"].as_str().unwrap().to_owned();
        Said {
            is_zeeks: message["direction"] == "broker->py",
            // Behind the frame's length, the two ids, type, TTL and topic.
            payload: frame[4 + 37 + topic.len()..].to_vec(),
            topic,
        }
    })
    .collect()
}

/// The filter in a handshake message of one side.
fn filter(transcript: &Json, message: &str) -> Vec<String> {
    let messages = transcript["messages"].as_array().unwrap().iter();
    let mut found = messages.filter(|known| known["decoded"]["msg"] == message);
    let filter = found.next().unwrap()["decoded"]["filter"].clone();
    serde_json::from_value(filter).unwrap()
}

fn now() -> Now {
    Now {
        mono: Mono(0),
        wall: Timestamp::from_secs(1_700_000_000),
    }
}

const LAYOUT: &str = "node = [
    { name = \"manager\", role = \"manager\" },
    { name = \"worker\", role = \"worker\", count = 2 },
]";

fn node(layout: &str, name: &str, id: EndpointId) -> NodeLoop {
    let layout = Arc::new(Layout::parse(layout, "test", &[]).unwrap());
    NodeLoop::new(&layout, name, &Registry::new(), id, Incarnation(7), now()).unwrap()
}

/// Topic, name and arguments of the events that the node publishes.
fn published(node: &mut NodeLoop) -> Vec<(String, String, String)> {
    let effects = node.take_effects();
    let payloads = effects.iter().filter_map(|effect| match effect {
        Effect::Publish { topic, payload, .. } => Some((topic, payload)),
        _ => None,
    });
    payloads
        .map(|(topic, payload)| {
            let event = event(payload);
            (topic.to_string(), event.0, event.1)
        })
        .collect()
}

fn event(payload: &[u8]) -> (String, String) {
    let event = EventRef::read(DataRef::parse(payload, &Limits::default()).unwrap()).unwrap();
    (event.name().to_owned(), event.arguments().to_string())
}

/// The scripted peer was taken for worker-1 by a real Zeek manager. Our worker-1 listens to the same
/// topics, says the same in answer to the same, and takes the manager for one.
#[test]
fn a_zeek_manager_meets_our_worker() {
    let transcript = load("zeek_cluster_worker.json");
    let peers: EndpointId = "11111111-2222-4333-8444-555555555555".parse().unwrap();
    let managers: EndpointId = "c2519b55-ca7a-54cc-b7d9-e6274d1492c6".parse().unwrap();
    let mut worker = node(LAYOUT, "worker-1", peers);
    let topics: Vec<_> = worker
        .subscriptions()
        .iter()
        .map(ToString::to_string)
        .collect();
    for topic in filter(&transcript, "originator_syn") {
        assert!(topics.contains(&topic), "{topic}");
    }
    let said = said(&transcript);
    let by_peer = |name: &str| {
        let mut said = said.iter().filter(|said| !said.is_zeeks);
        let first = said.find(|said| event(&said.payload).0 == name).unwrap();
        let (name, arguments) = event(&first.payload);
        (first.topic.clone(), name, arguments)
    };
    // Ours says the same hello, and its incarnation besides, which Zeek does not look at.
    worker.step(Input::Reach(managers, Reach::PeerUp(Protocol::V1)), now());
    let effects = worker.take_effects();
    let Some(Effect::Publish { topic, payload, .. }) = effects.first() else {
        panic!("no hello: {effects:?}");
    };
    let (name, arguments) = event(payload);
    assert_eq!(
        (topic.to_string(), name, arguments),
        by_peer("Cluster::hello")
    );
    let hello = EventRef::read(DataRef::from_validated(payload)).unwrap();
    let incarnation = hello
        .metadata(INCARNATION)
        .and_then(|value| value.as_count());
    assert_eq!((incarnation, hello.timestamp()), (Some(7), None));

    let manager: NodeName = "manager".parse().unwrap();
    let mut heard = said.iter().filter(|said| said.is_zeeks);
    let mut hear = |worker: &mut NodeLoop| {
        let said = heard.next().unwrap();
        assert!(
            topics.contains(&said.topic),
            "the endpoint lets in nothing else"
        );
        let input = Input::Message {
            from: managers,
            payload: &said.payload,
        };
        worker.step(input, now());
        event(&said.payload).0
    };
    // Which tables have stores is none of our business, and no reason to complain.
    assert_eq!(hear(&mut worker), "Broker::announce_masters");
    assert!(worker.take_effects().is_empty());
    // The manager is up, and hears at once that we are connected with all that we dial.
    assert_eq!(hear(&mut worker), "Cluster::hello");
    let life = worker
        .membership()
        .get(&manager)
        .unwrap()
        .life
        .clone()
        .unwrap();
    assert_eq!((life.id, life.incarnation), (managers, None));
    assert!(worker.has_all_neighbours());
    let answer = published(&mut worker);
    let connected = by_peer("Cluster::Experimental::node_fully_connected");
    assert!(answer.contains(&connected), "{answer:?}");
    // A hello of nobody, which Zeek sent because the script told it to, changes nothing.
    assert_eq!(hear(&mut worker), "Cluster::hello");
    assert_eq!(worker.counts().events_refused, 1);
    assert_eq!(worker.membership().id_of(&manager), Some(managers));
    assert!(heard.next().is_none());
    assert_eq!(worker.counts().events_unhandled.total(), 0);
}

/// As a logger of a Zeek cluster ours listens to what the manager of the transcript, which takes the
/// logs, listens to. Three topics are left out: they belong to Zeek's scripts alone.
#[test]
fn our_manager_listens_to_what_zeeks_does() {
    let transcript = load("zeek_cluster_worker.json");
    let managers: EndpointId = "c2519b55-ca7a-54cc-b7d9-e6274d1492c6".parse().unwrap();
    let manager = node(LAYOUT, "manager", managers);
    let topics: Vec<_> = manager
        .subscriptions()
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut missing = filter(&transcript, "responder_syn_ack");
    missing.retain(|topic| !topics.contains(topic));
    assert_eq!(
        missing,
        [
            "zeek/cluster/experimental/started",
            "zeek/supervisor",
            "zeek/table/"
        ]
    );
}

/// All that was said in a session of a real Zeek, in both directions: a node refuses what Zeek itself
/// refused, and counts the rest by name.
#[test]
fn a_node_refuses_what_zeek_refuses() {
    let layout = "node = [
        { name = \"manager\", role = \"manager\" },
        { name = \"logger\", role = \"logger\" },
    ]";
    for (name, batches) in [("zeek_session.json", 0), ("zeek_session_md.json", 3)] {
        let mut logger = node(layout, "logger", EndpointId::from_random([1; 16]));
        let from = EndpointId::from_random([2; 16]);
        let (mut written, mut reports) = (0, Vec::new());
        for said in said(&load(name)) {
            let payload = &said.payload;
            logger.step(Input::Message { from, payload }, now());
            for effect in logger.take_effects() {
                match effect {
                    Effect::WriteLog { .. } => written += 1,
                    Effect::Report(report) => {
                        assert_eq!(report.severity, Severity::Warning);
                        reports.push(report.text);
                    }
                    _ => {}
                }
            }
        }
        assert_eq!(written, batches, "{name}");
        let counts = logger.counts();
        // Another version, no message at all, wrong metadata.
        assert_eq!(counts.events_refused, 3, "{reports:?}");
        assert_eq!(
            (counts.logs_refused, counts.records_refused.total()),
            (0, 0)
        );
        let names = |counts: &muster_cluster::node::ByName| -> Vec<String> {
            counts.iter().map(|(name, _)| name.to_owned()).collect()
        };
        assert_eq!(
            names(&counts.events_unhandled),
            ["TT::ev", "TT::from_py", "TT::nope"]
        );
        assert_eq!(
            names(&counts.identifier_updates),
            ["TT::myconst", "TT::myid"]
        );
        // One line for each of these.
        assert_eq!(reports.len(), 3 + 3 + 2, "{reports:?}");
    }
}
