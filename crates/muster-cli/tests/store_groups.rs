//! Who keeps the stores of three boxes, as an operator sees and changes it. The nodes that keep them are played: they say what nodes say.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use muster::{Certificates, Endpoint, EndpointConfig, NodeIdentity, Tls};
use muster_cluster::coordination::{CopyJoined, Renew, StoreCandidate, StoreWanted, event};
use muster_cluster::{Layout, Topics};
use muster_data::{Encode, Record};
use muster_wire::{Class, Incarnation};
use serde_json::Value;
use support::agent_box::AgentBox;
use support::boxes::Boxes;
use support::{stderr, stdout, until};
use tokio::runtime::Runtime;

const STORE: &str = "played/x";

/// A node that is played. It renews its lease until it dies.
struct Played {
    name: &'static str,
    voice: Voice,
    runtime: Runtime,
}

/// What it says goes to all coordinators.
#[derive(Clone)]
struct Voice {
    endpoint: Endpoint,
    topics: Topics,
}

impl Voice {
    fn says<R: Record + Encode>(&self, record: &R) {
        let event = Bytes::from(event(record));
        let mut publisher = self.endpoint.publisher();
        for of_box in ["a", "b", "c"] {
            let topic = self.topics.agent(&muster_agent::agent_name(of_box));
            let _ = publisher.publish_encoded(&topic.unwrap(), event.clone(), Class::Control);
        }
    }
}

impl Played {
    fn start(boxes: &Boxes, name: &'static str, of_box: &'static str) -> Self {
        let runtime = Runtime::new().unwrap();
        let identity = boxes.root(of_box).join("var/lib/muster/identity");
        let since = std::time::UNIX_EPOCH.elapsed().unwrap();
        let incarnation = u64::try_from(since.as_nanos()).unwrap();
        let file = |end: &str| identity.join("nodes").join(format!("{name}.{end}"));
        let config = EndpointConfig {
            identity: NodeIdentity {
                name: name.to_owned(),
                role: "data".to_owned(),
                machine: of_box.to_owned(),
                incarnation: Incarnation(incarnation),
            },
            tls: Tls::Mutual(Certificates {
                cafile: Some(identity.join("ca.pem")),
                capath: None,
                certificate: file("pem"),
                keyfile: file("key"),
                passphrase: None,
            }),
            ..EndpointConfig::default()
        };
        let inside = runtime.enter();
        let endpoint = Endpoint::start(config).unwrap();
        for other in ["a", "b", "c"] {
            let address = format!("{}:17701", boxes.address(other));
            endpoint.dial(&address, Some(Duration::from_millis(100)));
        }
        let layout = Layout::parse(&boxes.layout(), "three.toml", &[]).unwrap();
        let topics = layout.topics().clone();
        let voice = Voice { endpoint, topics };
        let (renews, mut number) = (voice.clone(), 0);
        runtime.spawn(async move {
            loop {
                number += 1;
                renews.says(&Renew {
                    node: name.to_owned(),
                    box_name: of_box.to_owned(),
                    incarnation,
                    session: 0,
                    number,
                    alone: None,
                });
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        drop(inside);
        Self {
            name,
            voice,
            runtime,
        }
    }

    fn wants(&self) {
        let candidates = [("data-1", "a"), ("data-2", "b")];
        self.voice.says(&StoreWanted {
            store: STORE.to_owned(),
            persistent: true,
            copies: 2,
            min_copies: 1,
            candidates: candidates
                .map(|(node, of_box)| StoreCandidate {
                    node: node.to_owned(),
                    box_name: of_box.to_owned(),
                })
                .into(),
        });
    }

    fn counts(&self, other: &Self, epoch: u64) {
        self.voice.says(&CopyJoined {
            store: STORE.to_owned(),
            epoch,
            node: other.name.to_owned(),
            life: other.voice.endpoint.id().to_string(),
        });
    }

    fn dies(self) {
        self.runtime.block_on(self.voice.endpoint.shut_down());
        self.runtime.shutdown_background();
    }
}

/// The store as a box shows it, when it is so.
fn shown(boxes: &Boxes, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, || {
        let output = boxes.run(name, &["stores", "--format", "json"]);
        let shown: Value = serde_json::from_slice(&output.stdout).ok()?;
        let stores = shown["stores"].as_array()?;
        let store = stores.iter().find(|store| store["store"] == STORE)?;
        is_so(store).then(|| store.clone())
    })
}

#[test]
fn a_box_that_is_alone_decides_nothing_about_stores() {
    let here = AgentBox::new();
    let _agent = here.start();
    let nothing = "stores: nothing is decided about them: one box\n";
    assert_eq!(stdout(&here.done(&["stores"])), nothing);
    let adopt = [
        "stores",
        "adopt",
        STORE,
        "data-1",
        "--lose-what-others-have",
    ];
    for arguments in [&["stores", "move", STORE, "data-1"][..], &adopt] {
        let refused = here.run(arguments);
        assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    }
    let malformed = here.run(&["stores", "move", "x/", "data-1"]);
    assert_eq!(malformed.status.code(), Some(1));
    assert!(stderr(&malformed).contains("a store's name has"));
}

#[test]
fn an_operator_sees_who_keeps_a_store_and_changes_it() {
    let mut boxes = Boxes::new();
    let _agents = boxes.three();
    let nothing = stdout(&boxes.run("b", &["stores"]));
    assert!(nothing.starts_with("stores: "), "{nothing}");
    for node in ["data-1", "data-2"] {
        boxes.done("c", &["stop", node]);
    }
    let one = Played::start(&boxes, "data-1", "a");
    let two = Played::start(&boxes, "data-2", "b");
    let is = |state: &'static str, primary: &'static str| {
        move |store: &Value| store["state"] == state && store["primary"]["node"] == primary
    };
    let store = until("a store that is open", || {
        one.wants();
        let output = boxes.run("c", &["stores", "--format", "json"]);
        let shown: Value = serde_json::from_slice(&output.stdout).ok()?;
        let stores = shown["stores"].as_array()?;
        let mut stores = stores.iter().filter(|it| it["joining"].is_object());
        stores.find(|store| store["store"] == STORE).cloned()
    });
    assert_eq!(store["joining"]["box"], "b");
    let text = stdout(&boxes.run("a", &["stores"]));
    assert!(
        text.contains("\nstore played/x: 1 of 2 copies in sync since ")
            && text.contains("; data-2 gets one\n"),
        "{text}"
    );
    one.counts(&two, store["changed"].as_u64().unwrap());
    shown(&boxes, "a", "two copies", is("complete", "data-1"));
    let text = stdout(&boxes.run("b", &["stores"]));
    let row = text.lines().find(|line| line.starts_with(STORE)).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    let expected = "played/x disk 2/2 data-1 (box a) data-1, data-2 - yes";
    assert_eq!(words.join(" "), expected);

    // Whichever box is asked, the one that leads decides it.
    for (of_box, to) in [("a", "data-2"), ("b", "data-1"), ("c", "data-2")] {
        let moved = boxes.done(of_box, &["stores", "move", STORE, to]);
        let said = format!("store played/x: its primary is on {to}\n");
        assert!(stderr(&moved).ends_with(&said), "{}", stderr(&moved));
    }
    let unknown = boxes.run("c", &["stores", "move", "played/y", "data-1"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("no node has opened it"));
    let no_candidate = boxes.refused("a", &["stores", "move", STORE, "manager"]);
    assert!(
        no_candidate.contains("node manager may have no copy of store played/x"),
        "{no_candidate}"
    );
    let adopt = ["stores", "adopt", STORE, "data-1"];
    let confirmed = [&adopt[..], &["--lose-what-others-have"]].concat();
    for arguments in [&adopt[..], &confirmed] {
        let has_primary = boxes.refused("b", arguments);
        assert!(has_primary.contains("nothing to adopt"), "{has_primary}");
    }
    let audit = std::fs::read_to_string(boxes.root("c").join("var/log/muster/audit.log")).unwrap();
    assert!(
        audit.contains("\"verb\":\"stores move played/x\",\"object\":\"data-2\""),
        "{audit}"
    );

    // The node with the primary dies, and then the other one.
    two.dies();
    let short = shown(&boxes, "c", "one copy", is("short", "data-1"));
    let status = stdout(&boxes.run("b", &["status"]));
    assert!(status.contains("\nredundant: no"), "{status}");
    let coordinators = boxes.run("c", &["coordinators"]);
    assert_eq!(coordinators.status.code(), Some(1));
    let text = stdout(&coordinators);
    assert!(text.contains("store played/x: 1 of 2 copies"), "{text}");
    one.dies();
    let waits = shown(&boxes, "c", "a store that waits", |store| {
        store["state"] == "waiting" && store["in_sync"][0]["state"] == "out"
    });
    assert!(waits["waits_since"].as_u64() >= short["since"].as_u64());
    let output = boxes.run("a", &["stores"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(
        text.contains("it waits for what is on data-1 (box a)\n"),
        "{text}"
    );
    assert!(text.contains("`muster stores adopt STORE NODE`"), "{text}");

    // One is there again, but not that with the last copy.
    let two = Played::start(&boxes, "data-2", "b");
    shown(&boxes, "b", "data-2", |store| {
        store["candidates"][1]["state"] == "in"
    });
    let moves = boxes.refused("b", &["stores", "move", STORE, "data-2"]);
    assert!(
        moves.contains("waits for its last copies, on data-1"),
        "{moves}"
    );
    let out = boxes.refused("b", &confirmed);
    assert!(out.contains("node data-1 is out"), "{out}");
    let adopt = ["stores", "adopt", STORE, "data-2"];
    let output = boxes.run("c", &adopt);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(
        text.contains("It would begin with what node data-2 has on disk")
            && text.contains("hint: if that is to be lost: --lose-what-others-have"),
        "{text}"
    );
    let adopted = boxes.done("c", &[&adopt[..], &["--lose-what-others-have"]].concat());
    assert!(
        stderr(&adopted).contains("begins with what data-2 has"),
        "{}",
        stderr(&adopted)
    );
    let begun = shown(&boxes, "a", "a new beginning", is("short", "data-2"));
    assert!(begun["began"].as_u64() > short["began"].as_u64());

    // What became of it is among the events, once.
    let events = stdout(&boxes.done("b", &["events"]));
    for (text, count) in [
        ("store played/x: its primary moved from data-1 to data-2", 2),
        ("store played/x: its primary moved from data-2 to data-1", 2),
        (
            "store played/x waits: its last copy is on data-1, which is out",
            1,
        ),
        ("store played/x begins with what node data-2 has on disk", 1),
    ] {
        assert_eq!(events.matches(text).count(), count, "{text}\n{events}");
    }
    two.dies();
}
