//! Sessions that were captured from Zeek 9.1, replayed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::Value;

use super::*;

fn session(path: &str, application: Option<&[u8]>) -> Result<Session, Refusal> {
    let grant = Arc::new(Grant::everything("test"));
    Session::new(path, application, grant, "id-websocket-0".to_owned())
}

/// Direction, opcode and content of a frame.
type Frame = (String, u64, String);

/// The sessions by name.
fn sessions() -> Vec<(String, Vec<Frame>)> {
    let capture = include_str!("../tests/vectors/zeek_websocket.json");
    let capture: Value = serde_json::from_str(capture).unwrap();
    let sessions = capture["sessions"].as_object().unwrap().iter();
    sessions
        .map(|(name, frames)| {
            let frames = frames.as_array().unwrap().iter().map(|frame| {
                let text = |at: usize| frame[at].as_str().unwrap_or_default().to_owned();
                (text(0), frame[1].as_u64().unwrap(), text(2))
            });
            (name.clone(), frames.collect())
        })
        .collect()
}

/// A reply without what is ours alone.
fn comparable(text: &str) -> Value {
    let mut value: Value = serde_json::from_str(text).unwrap();
    let object = value.as_object_mut().unwrap();
    object.remove("detail");
    if object["type"] == "ack" {
        object.remove("version");
        object.remove("endpoint");
    }
    value
}

#[test]
fn captured_sessions() {
    let mut seen = Vec::new();
    for (name, frames) in sessions() {
        let path = match name.as_str() {
            "bad uri" => "/other",
            "query" => "/v1/messages/json?x=1",
            _ => PATH,
        };
        let application: Option<&[u8]> = match name.as_str() {
            "bad app name" => Some(b"my app"),
            "main" => Some(b"my/app_1.0"),
            _ => None,
        };
        let mut expected = Vec::new();
        let mut answers = Vec::new();
        // The last capture is of two clients, one behind the other: an array begins a new one.
        let mut current = session(path, application);
        if let Err(refusal) = current {
            answers.push(comparable(&refusal.text()));
            let close = frames
                .iter()
                .find(|frame| frame.0 == "server->client" && frame.1 == 8);
            assert_eq!(close.unwrap().2, format!("close 1008 {}", refusal.reason()));
        }
        for (direction, opcode, content) in &frames {
            match (direction.as_str(), opcode) {
                ("server->client", 1) => {
                    // Events are the cluster's.
                    let reply = comparable(content);
                    if reply["type"] != "data-message" {
                        expected.push(reply);
                    }
                }
                ("client->server", 1 | 2) => {
                    if name == "two clients" && content.starts_with('[') {
                        current = session(path, application);
                    }
                    let Ok(session) = &mut current else {
                        continue; // said before the refusal was heard
                    };
                    let text = match opcode {
                        2 => vec![0, 1],
                        _ => content.clone().into_bytes(),
                    };
                    match session.message(&text) {
                        Action::Subscribe(_) => {
                            answers.push(comparable(&session.acknowledgement()));
                        }
                        Action::Reply(reply) => answers.push(comparable(&reply)),
                        Action::Publish { topic, .. } => {
                            // Zeek refuses events that this one process does not know, or knows
                            // with other arguments. Another node of a cluster may know them.
                            seen.push(topic.to_string());
                            let is_unknown = content.contains(r#""nope""#)
                                || content.contains(r#"[{"@data-type": "integer", "data": 1}]}]}"#)
                                || content.contains(r#"[{"@data-type": "count", "data": 1}, {"@data-type": "string", "data": "x"}]"#);
                            if is_unknown {
                                answers.push(serde_json::json!({
                                    "type": "error",
                                    "code": "deserialization_failed",
                                    "context": "failed to create Zeek event",
                                }));
                            }
                        }
                        Action::Refuse(refusal) => panic!("{name}: {refusal:?}"),
                    }
                }
                _ => {}
            }
        }
        assert_eq!(answers, expected, "{name}");
    }
    assert_eq!(seen.len(), 8);
}

#[test]
fn what_a_token_does_not_permit() {
    let grant = Arc::new(Grant {
        name: "siem".to_owned(),
        publish: vec!["/siem/".to_owned()],
        subscribe: vec!["/alerts/".to_owned()],
    });
    let new = || Session::new(PATH, None, Arc::clone(&grant), String::new()).unwrap();
    assert_eq!(
        new().message(br#"["/alerts/x", ""]"#),
        Action::Refuse(Refusal::Subscription)
    );
    let mut session = new();
    assert_eq!(
        session.message(br#"["/alerts/"]"#),
        Action::Subscribe(vec!["/alerts/".to_owned()])
    );
    let event = |topic: &str| {
        format!(
            r#"{{"topic":"{topic}","@data-type":"vector","data":[{{"@data-type":"count","data":1}},{{"@data-type":"count","data":1}},{{"@data-type":"vector","data":[{{"@data-type":"string","data":"e"}},{{"@data-type":"vector","data":[]}}]}}]}}"#
        )
    };
    assert!(matches!(
        session.message(event("/siem/a").as_bytes()),
        Action::Publish { topic, .. } if topic.to_string() == "/siem/a"
    ));
    let Action::Reply(reply) = session.message(event("/alerts/a").as_bytes()) else {
        panic!("an answer");
    };
    assert!(reply.contains("permission_denied"), "{reply}");
    let Action::Reply(reply) = session.message(event("<$>/local/x").as_bytes()) else {
        panic!("an answer");
    };
    assert!(reply.contains("permission_denied"), "{reply}");
}

#[test]
fn subscriptions_may_be_said_again() {
    let mut session = session(PATH, None).unwrap();
    assert!(matches!(session.message(b"{}"), Action::Reply(_)));
    let many: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    let many = serde_json::to_string(&many).unwrap();
    let Action::Reply(reply) = session.message(many.as_bytes()) else {
        panic!("an answer");
    };
    assert!(reply.contains("too many subscriptions"), "{reply}");
    let long = serde_json::to_string(&["x".repeat(40_000), "y".repeat(40_000)]).unwrap();
    assert!(matches!(session.message(long.as_bytes()), Action::Reply(_)));
    assert_eq!(session.message(b"[]"), Action::Subscribe(Vec::new()));
}

/// To other nodes what a client publishes comes from the gateway's node, which they obey.
#[test]
fn control_events_are_for_nodes_to_say() {
    let mut session = session(PATH, None).unwrap();
    assert!(matches!(session.message(b"[]"), Action::Subscribe(_)));
    let event = |name: &str| {
        let text = r#"{"type":"data-message","topic":"zeek/cluster/","@data-type":"vector","data":[
            {"@data-type":"count","data":1},{"@data-type":"count","data":1},
            {"@data-type":"vector","data":[{"@data-type":"string","data":"NAME"},
            {"@data-type":"vector","data":[]}]}]}"#;
        text.replace("NAME", name)
    };
    for name in [
        "Muster::leave",
        "Muster::open_store",
        "Muster::need_store",
        "Muster::store_state",
        "Cluster::hello",
    ] {
        match session.message(event(name).as_bytes()) {
            Action::Reply(text) => assert!(
                text.contains("permission_denied") && text.contains(name),
                "{text}"
            ),
            other => panic!("{name}: {other:?}"),
        }
    }
    for name in ["Mustering::leave", "Muster::peers_request"] {
        let own = session.message(event(name).as_bytes());
        assert!(matches!(own, Action::Publish { .. }), "{own:?}");
    }
}
