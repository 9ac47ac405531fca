//! Captured conversations of real Brokers, played against a running endpoint that takes Broker's place:
//! what the other side sent is sent, and what comes back has to be what Broker sent, byte for byte.
//!
//! Where we differ on purpose, the test says so: nothing is relayed, forged senders are refused, and
//! no store is open (muster-store plays those captures). Broker's frames that we do not send ourselves have to be understood at least.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use muster::wire::counters::DropCause;
use muster::wire::envelope::{self, Envelope};
use muster::wire::{Class, EndpointId, Kind, Topic};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, Subscriber};
use muster_data::{Data, DataRef, Limits};
use muster_test_support::within;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HEADER: usize = 4;

/// One frame of a capture.
struct Frame {
    from_broker: bool,
    bytes: Vec<u8>,
    decoded: Json,
}

impl Frame {
    fn kind(&self) -> &str {
        let kind = &self.decoded["type"];
        kind.as_str().unwrap_or("handshake")
    }

    fn id(&self, key: &str) -> Option<EndpointId> {
        self.decoded[key].as_str()?.parse().ok()
    }

    /// The envelope as the endpoint `to` reads it from the peer `from`.
    fn read(&self, from: EndpointId, to: EndpointId) -> Envelope<'_> {
        envelope::read(&self.bytes[HEADER..], from, to).unwrap()
    }

    fn payload(&self) -> &[u8] {
        let start = HEADER + envelope::FIXED;
        let topic = u16::from_be_bytes([self.bytes[start - 2], self.bytes[start - 1]]);
        &self.bytes[start + usize::from(topic)..]
    }
}

struct Capture {
    frames: Vec<Frame>,
    /// The endpoint whose place we take.
    broker: EndpointId,
    peer: EndpointId,
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../muster-wire/tests/vectors")
}

/// Loads a capture; frames in the direction `broker` are those of the endpoint whose place we take.
fn load(path: &Path, broker: &str) -> Capture {
    let text = std::fs::read_to_string(path).unwrap();
    let json: Json = serde_json::from_str(&text).unwrap();
    let messages = json["messages"].as_array().unwrap();
    let frames: Vec<Frame> = messages
        .iter()
        .map(|message| Frame {
            from_broker: message["direction"] == broker,
            bytes: unhex(message["hex"].as_str().unwrap()),
            decoded: message["decoded"].clone(),
        })
        .filter(|frame| !frame.bytes.is_empty())
        .collect();
    let said = |broker: bool| {
        let mut frames = frames.iter().filter(|frame| frame.from_broker == broker);
        frames.find_map(|frame| frame.id("sender_id")).unwrap()
    };
    let (broker, peer) = (said(true), said(false));
    Capture {
        frames,
        broker,
        peer,
    }
}

fn capture(name: &str) -> Capture {
    load(&vectors().join(format!("{name}.json")), "broker->py")
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn prefixes(filter: &Json) -> Vec<String> {
    let entries = filter.as_array().unwrap().iter();
    entries
        .map(|entry| entry.as_str().unwrap().to_owned())
        .collect()
}

/// An endpoint in Broker's place, and the other side's socket.
struct Stage {
    endpoint: Endpoint,
    subscriber: Subscriber,
    address: String,
}

impl Stage {
    /// An endpoint with the captured id and the captured filter.
    async fn new(capture: &Capture) -> Self {
        let config = EndpointConfig {
            id: Some(capture.broker),
            // In a mesh it would offer version 2 behind the bytes of Broker.
            forwarding: Forwarding::Direct,
            ..EndpointConfig::default()
        };
        let endpoint = Endpoint::start(config).unwrap();
        let mut own = capture.frames.iter().filter(|frame| frame.from_broker);
        let filter = own.find_map(|frame| frame.decoded.get("filter")).unwrap();
        let subscriber = endpoint.subscribe(prefixes(filter)).await;
        let address = "127.0.0.1:0".parse().unwrap();
        let address = endpoint.listen(address, Exposure::Guarded).await.unwrap();
        Self {
            endpoint,
            subscriber,
            address: address.to_string(),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// The other side's socket of a connection that we dialled.
    async fn dial(&self) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        self.endpoint.dial(&address, None);
        within(listener.accept()).await.unwrap().0
    }

    /// Plays frames: sends the peer's, and expects Broker's after whatever makes us send them.
    async fn play(&mut self, stream: &mut TcpStream, frames: &[Frame]) {
        for frame in frames {
            if !frame.from_broker {
                stream.write_all(&frame.bytes).await.unwrap();
                continue;
            }
            match frame.kind() {
                "data" => self.publish(frame).await,
                "routing_update" => {
                    for prefix in prefixes(&frame.decoded["filter"]) {
                        self.subscriber.subscribe(prefix).await;
                    }
                }
                _ => {}
            }
            let sent = next_frame(stream).await;
            assert_eq!(sent, frame.bytes, "{}", frame.decoded);
        }
    }

    /// Removes the peer, which answers the goodbye. A goodbye is a ping whose last eight bytes are the
    /// sender's own affair: Broker's are a number in its machine's byte order. The rest is the same.
    async fn unpeer(&self, stream: &mut TcpStream, capture: &Capture, goodbye: &[Frame]) {
        let [ping, pong] = goodbye else {
            panic!("a ping and its answer");
        };
        let answer = async {
            let bye = next_frame(stream).await;
            let token = bye.len() - 8;
            assert_eq!(bye[..token], ping.bytes[..token]);
            let mut pong = pong.bytes.clone();
            pong[token..].copy_from_slice(&bye[token..]);
            stream.write_all(&pong).await.unwrap();
            let mut rest = Vec::new();
            within(stream.read_to_end(&mut rest)).await.unwrap();
            assert!(rest.is_empty());
        };
        let unpeer = self.endpoint.unpeer(capture.peer);
        let (removed, ()) = within(async { tokio::join!(unpeer, answer) }).await;
        assert!(removed && self.endpoint.peers().is_empty());
    }

    async fn publish(&self, frame: &Frame) {
        let topic = Topic::new(frame.decoded["topic"].as_str().unwrap()).unwrap();
        let payload = Bytes::copy_from_slice(frame.payload());
        let mut publisher = self.endpoint.publisher();
        within(async {
            // The peer's filter arrives behind the handshake's last frame.
            while publisher
                .publish_encoded(&topic, payload.clone(), Class::Event)
                .no_subscriber()
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn received(&mut self, messages: usize) -> Vec<(String, Data)> {
        let mut received = Vec::new();
        while received.len() < messages {
            if let Delivery::Batch(batch) = within(self.subscriber.receive()).await.unwrap() {
                received.extend(batch.iter().map(|message| {
                    let value = DataRef::from_validated(message.payload).to_data();
                    (message.topic.to_string(), value)
                }));
            }
        }
        received
    }

    /// What was refused of a peer, by cause.
    fn refused(&self, peer: EndpointId) -> BTreeMap<DropCause, u64> {
        let mut reports = self.endpoint.counts().peers.into_iter();
        let report = reports.find(|report| report.peer.id == peer).unwrap();
        report.refused.by_cause()
    }
}

async fn next_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    within(stream.read_exact(&mut frame)).await.unwrap();
    let length = u32::from_be_bytes(frame[..].try_into().unwrap()) as usize;
    frame.resize(HEADER + length, 0);
    within(stream.read_exact(&mut frame[HEADER..]))
        .await
        .unwrap();
    frame
}

/// Everything sent before was dealt with, and nothing but the answer came back.
async fn nothing_more_comes(stream: &mut TcpStream, capture: &Capture) {
    let ping = envelope::Control::Ping(b"still there?".to_vec());
    let ping = ping.frame(capture.peer, capture.broker);
    stream.write_all(&ping).await.unwrap();
    let pong = envelope::Control::Pong(b"still there?".to_vec());
    assert_eq!(
        next_frame(stream).await,
        pong.frame(capture.broker, capture.peer)
    );
}

/// Checks frames of Broker's that we do not send ourselves: a peer of ours would read them as the
/// capture says, and one of its own would have the same bytes.
fn are_understood<'a>(capture: &Capture, frames: impl IntoIterator<Item = &'a Frame>) -> usize {
    let mut seen = 0;
    for frame in frames {
        let (from, to) = if frame.from_broker {
            (capture.broker, capture.peer)
        } else {
            (capture.peer, capture.broker)
        };
        let Envelope::Message {
            kind,
            topic,
            payload,
        } = frame.read(from, to)
        else {
            panic!("{} is no message", frame.decoded);
        };
        let expected = match frame.kind() {
            "data" => Kind::Data,
            _ => Kind::Command,
        };
        assert_eq!(kind, expected);
        assert_eq!(topic, frame.decoded["topic"].as_str().unwrap().as_bytes());
        if kind == Kind::Data {
            muster_data::validate(payload, &Limits::default()).unwrap();
        }
        if frame.id("receiver").is_some_and(|id| id.is_nil()) {
            let mut out = Vec::new();
            envelope::put_message_header(&mut out, from, kind, topic, payload.len());
            out.extend_from_slice(payload);
            assert_eq!(out, frame.bytes, "{}", frame.decoded);
        }
        seen += 1;
    }
    seen
}

fn from_broker(frames: &[Frame]) -> impl Iterator<Item = &Frame> {
    frames.iter().filter(|frame| frame.from_broker)
}

fn strings(values: &[&str]) -> Vec<Data> {
    values.iter().map(|value| Data::from(*value)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routing_update_replaces_the_peers_filter() {
    let capture = capture("routing_update");
    let mut stage = Stage::new(&capture).await;
    let mut stream = stage.connect().await;
    stage.play(&mut stream, &capture.frames).await;
    let (topic, value) = stage.received(1).await.remove(0);
    assert_eq!((topic.as_str(), value.is_none()), ("/a", false));
    within(async {
        let filter = [b"/a".to_vec(), b"/z".to_vec()];
        while stage.endpoint.filter_of(capture.peer) != Some(filter.to_vec()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    nothing_more_comes(&mut stream, &capture).await;
}

/// The updates are Broker's as long as nothing is unsubscribed: there, Broker's filter stays as it is,
/// and ours would shrink.
#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_announced_as_broker_does() {
    let capture = capture("routing_update_from_broker");
    let mut stage = Stage::new(&capture).await;
    let mut stream = stage.connect().await;
    // The subscription to /b/c, which /b covers, announces nothing.
    let first = capture.frames.len() - 3;
    stage.play(&mut stream, &capture.frames[..first]).await;
    stage.subscriber.subscribe("/b/c").await;
    stage.play(&mut stream, &capture.frames[first..]).await;
    nothing_more_comes(&mut stream, &capture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_removed_as_broker_does() {
    let capture = capture("unpeer_bye");
    let mut stage = Stage::new(&capture).await;
    let mut stream = stage.connect().await;
    let (before, goodbye) = capture.frames.split_at(capture.frames.len() - 2);
    stage.play(&mut stream, before).await;
    stage.unpeer(&mut stream, &capture, goodbye).await;
}

/// What follows the captured handshakes, of which muster-wire replays the first part: messages, a ping,
/// and the end.
#[tokio::test(flavor = "multi_thread")]
async fn messages_behind_a_handshake_are_received() {
    for (name, we_dial) in [
        ("handshake_client_originator", false),
        ("handshake_client_responder", false),
        ("handshake_server_lo", true),
        ("handshake_server_hi", true),
    ] {
        let capture = capture(name);
        let mut stage = Stage::new(&capture).await;
        let mut stream = if we_dial {
            stage.dial().await
        } else {
            stage.connect().await
        };
        let is_bye = |frame: &Frame| frame.from_broker && frame.kind() == "ping";
        let goodbye = capture.frames.iter().position(is_bye);
        let end = goodbye.unwrap_or(capture.frames.len());
        stage.play(&mut stream, &capture.frames[..end]).await;
        let messages = capture.frames.iter().filter(|frame| frame.kind() == "data");
        let received = stage.received(messages.count()).await;
        assert!(received.iter().all(|(topic, _)| topic == "/test"), "{name}");
        nothing_more_comes(&mut stream, &capture).await;
        if goodbye.is_some() {
            let goodbye = &capture.frames[end..];
            stage.unpeer(&mut stream, &capture, goodbye).await;
        }
    }
}

/// Broker delivers what claims an unknown sender, or none and is addressed to it; we take a message only
/// under its peer's own name. Its answers to pings are the same.
#[tokio::test(flavor = "multi_thread")]
async fn unusual_senders_and_receivers_are_told_apart() {
    let capture = capture("sender_receiver_variants");
    let mut stage = Stage::new(&capture).await;
    let mut stream = stage.connect().await;
    stage.play(&mut stream, &capture.frames).await;
    nothing_more_comes(&mut stream, &capture).await;
    let values: Vec<Data> = stage.received(2).await.into_iter().map(|m| m.1).collect();
    assert_eq!(values, strings(&["own sender", "rcv=node"]));
    let refused = stage.refused(capture.peer);
    // Nobody, the endpoint itself, a stranger, nobody to the endpoint, and a ping of nobody's.
    let expected = [(DropCause::Forged, 5), (DropCause::NotForUs, 2)];
    assert_eq!(refused, expected.into());
}

/// Broker relays to other peers, within what the two captures of each case show, and sends what claims
/// to be its own to all. We relay nothing and refuse forged senders, in either case.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_relayed() {
    for (at_a, at_b, relayed) in [
        ("forwarding_disable_0_A", "forwarding_disable_0_B", [3, 5]),
        ("forwarding_disable_1_A", "forwarding_disable_1_B", [2, 2]),
    ] {
        let captures = [capture(at_a), capture(at_b)];
        let mut stage = Stage::new(&captures[0]).await;
        let mut streams = [stage.connect().await, stage.connect().await];
        let played = captures.each_ref().map(|capture| {
            let messages = |frame: &&Frame| frame.from_broker && frame.kind() == "data";
            capture.frames.len() - capture.frames.iter().filter(messages).count()
        });
        for at in [1, 0] {
            let (frames, relays) = captures[at].frames.split_at(played[at]);
            stage.play(&mut streams[at], frames).await;
            assert_eq!(are_understood(&captures[at], relays), relayed[at]);
        }
        for at in [0, 1] {
            nothing_more_comes(&mut streams[at], &captures[at]).await;
        }
        // The time to live has no say, as with Broker.
        let values: Vec<Data> = stage.received(2).await.into_iter().map(|m| m.1).collect();
        assert_eq!(values, strings(&["x-ttl3", "x-ttl0"]));
        let expected = [(DropCause::Forged, 3), (DropCause::NotForUs, 1)];
        assert_eq!(stage.refused(captures[0].peer), expected.into());
        assert!(stage.refused(captures[1].peer).is_empty());
    }
}

/// Three forwarding Brokers sent one message around for ever, and back to its publisher. It reaches us
/// once, and nothing comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_does_not_return_to_its_publisher() {
    let capture = capture("triangle_loop_first20");
    let mut stage = Stage::new(&capture).await;
    let mut stream = stage.connect().await;
    let copies = from_broker(&capture.frames).filter(|frame| frame.kind() == "data");
    let copies = are_understood(&capture, copies);
    assert_eq!(copies, 18);
    let played = capture.frames.len() - copies;
    stage.play(&mut stream, &capture.frames[..played]).await;
    assert_eq!(stage.received(1).await[0].0, "/test");
    nothing_more_comes(&mut stream, &capture).await;
    assert!(stage.subscriber.try_receive().is_err());
}

/// The values of muster-data's own replay, as whole frames.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_published_in_the_frames_of_broker() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../muster-data/tests/vectors");
    let capture = load(&path.join("data_from_cpp.json"), "broker->py");
    let mut stage = Stage::new(&capture).await;
    let mut stream = stage.connect().await;
    stage.play(&mut stream, &capture.frames).await;
    nothing_more_comes(&mut stream, &capture).await;
}

/// No store is open: handshakes, filters and goodbyes of such a conversation are as ever, commands are
/// understood as such and counted as `no_store`, and we send none. The peering stays.
#[tokio::test(flavor = "multi_thread")]
async fn commands_of_stores_are_refused_by_name() {
    for (name, broker, of_broker, of_peer) in [
        ("store_clone_session", "broker->py", 49, 15),
        ("store_python_master", "broker->py", 32, 6),
        ("store_second_clone_snapshot", "broker->py", 3, 1),
        ("cpp_store_session", "server->client", 28, 26),
    ] {
        let path = vectors().join(format!("{name}.json"));
        let capture = load(&path, broker);
        let is_command = |frame: &&Frame| frame.kind() == "command";
        let commands = capture.frames.iter().filter(is_command);
        let counts = commands.clone().fold([0, 0], |[own, other], frame| {
            let own_too = u64::from(frame.from_broker);
            [own + own_too, other + 1 - own_too]
        });
        assert_eq!(counts, [of_broker, of_peer], "{name}");
        are_understood(&capture, commands);

        let mut stage = Stage::new(&capture).await;
        let mut stream = stage.connect().await;
        for frame in &capture.frames {
            if !(frame.from_broker && is_command(&frame)) {
                stage.play(&mut stream, std::slice::from_ref(frame)).await;
            }
        }
        nothing_more_comes(&mut stream, &capture).await;
        assert_eq!(
            stage.refused(capture.peer),
            [(DropCause::NoStore, of_peer)].into(),
            "{name}"
        );
    }
}

/// The same conversation of two Brokers from the other end, which dialled.
#[tokio::test(flavor = "multi_thread")]
async fn the_dialling_end_of_a_store_session() {
    let capture = load(&vectors().join("cpp_store_session.json"), "client->server");
    let mut stage = Stage::new(&capture).await;
    let mut stream = stage.dial().await;
    let end = capture.frames.len() - 2;
    for frame in &capture.frames[..end] {
        if !(frame.from_broker && frame.kind() == "command") {
            stage.play(&mut stream, std::slice::from_ref(frame)).await;
        }
    }
    nothing_more_comes(&mut stream, &capture).await;
    assert_eq!(
        stage.refused(capture.peer),
        [(DropCause::NoStore, 28)].into()
    );
    let goodbye = &capture.frames[end..];
    stage.unpeer(&mut stream, &capture, goodbye).await;
}

/// Every capture in the workspace is named by some test: a file that nothing replays is forgotten.
#[test]
fn every_capture_is_replayed_by_some_test() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut captures, mut sources) = (Vec::new(), String::new());
    for entry in std::fs::read_dir(&crates).unwrap() {
        let path = entry.unwrap().path();
        for directory in ["src", "tests"] {
            collect(&path.join(directory), &mut captures, &mut sources);
        }
    }
    assert!(captures.len() > 40, "{captures:?}");
    let forgotten: Vec<_> = captures
        .iter()
        .filter(|name| {
            let quoted = [
                format!("\"{name}\""),
                format!("\"{name}.json\""),
                format!("/{name}.json\""),
            ];
            !quoted.iter().any(|quoted| sources.contains(quoted))
        })
        .collect();
    assert!(forgotten.is_empty(), "replayed by no test: {forgotten:?}");
}

/// Collects the names of captures and the text of sources below a directory.
fn collect(directory: &Path, captures: &mut Vec<String>, sources: &mut String) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let is_capture = directory.ends_with("vectors");
        match path.extension().and_then(|extension| extension.to_str()) {
            None => collect(&path, captures, sources),
            Some("rs") => sources.push_str(&std::fs::read_to_string(path).unwrap()),
            Some("json") if is_capture => {
                captures.push(path.file_stem().unwrap().to_string_lossy().into_owned());
            }
            Some(_) => {}
        }
    }
}
