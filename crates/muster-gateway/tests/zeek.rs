//! A real Zeek's WebSocket server, with Zeek's two backends behind it.
//!
//! See `../muster/tests/support/zeek.rs` for how Zeek is found.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../muster/tests/support/zeek.rs"]
mod zeek;

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use muster::{Delivery, Endpoint, EndpointConfig};
use muster_data::{Data, DataRef, Timestamp, encode_to_vec};
use muster_gateway::{Bridge, BridgeConfig, ClientConfig, Connection, Incoming, ServerUrl};
use muster_test_support::within;
use muster_wire::{Class, QueueLimits, Topic};
use zeek::{RunningZeek, Zeek};

/// A kind of values, the values, how the script shows them, and what comes back if that is something
/// else.
type Case = (&'static str, Vec<Data>, &'static str, Option<Vec<Data>>);

const BACKENDS: [&str; 2] = ["broker", "zeromq"];

fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Zeek's server with one of its backends, if this Zeek has it.
fn server(program: &Zeek, backend: &str, directory: &Path) -> Option<(RunningZeek, ServerUrl)> {
    let [port, xpub, xsub] = free_ports();
    let mut arguments = vec![
        "-b".to_owned(),
        format!("frameworks/cluster/backend/{backend}"),
        format!("Test::websocket_port={port}/tcp"),
    ];
    if backend == "zeromq" {
        if !program.has("Zeek::Cluster_Backend_ZeroMQ") {
            return None;
        }
        // Zeek publishes to where the proxy takes in, and the other way round.
        let end = |name: &str, port| {
            format!("Cluster::Backend::ZeroMQ::{name}_endpoint=tcp://127.0.0.1:{port}")
        };
        arguments.extend([
            "Cluster::Backend::ZeroMQ::run_proxy_thread=T".to_owned(),
            end("listen_xsub", xsub),
            end("connect_xpub", xsub),
            end("listen_xpub", xpub),
            end("connect_xsub", xpub),
        ]);
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let script = include_str!("zeek/websocket.zeek");
    let mut zeek = program.start(directory, script, &arguments);
    zeek.says("listening");
    let url = format!("ws://127.0.0.1:{port}").parse().unwrap();
    Some((zeek, url))
}

/// An event as Zeek has it.
fn event(name: &str, arguments: Vec<Data>) -> Data {
    let content = Data::vector([Data::from(name), Data::vector(arguments)]);
    Data::vector([Data::Count(1), Data::Count(1), content])
}

async fn publish(connection: &mut Connection, event: &Data) {
    let payload = encode_to_vec(event);
    let value = DataRef::from_validated(&payload);
    within(connection.publish("/in", value)).await.unwrap();
}

/// The next event: its name and arguments.
async fn next(connection: &mut Connection) -> (String, Vec<Data>) {
    match within(connection.receive()).await.unwrap() {
        Incoming::Message { topic, data } => {
            assert_eq!(topic, "/out");
            taken_apart(&data)
        }
        other => panic!("{other:?}"),
    }
}

fn taken_apart(event: &Data) -> (String, Vec<Data>) {
    let [_, _, content] = event.as_vector().unwrap() else {
        panic!("{event}");
    };
    let [name, arguments, ..] = content.as_vector().unwrap() else {
        panic!("{event}");
    };
    let arguments = arguments.as_vector().unwrap().to_vec();
    (name.as_str().unwrap().to_owned(), arguments)
}

/// A connection that Zeek's answers reach: with ZeroMQ a subscription takes a while to be known.
async fn connected(url: &ServerUrl) -> Connection {
    let config = ClientConfig {
        application: "muster/test".to_owned(),
        ..ClientConfig::default()
    };
    let prefixes = ["/out".to_owned()];
    let mut connection = within(Connection::open(url, &config, &prefixes))
        .await
        .unwrap();
    assert!(connection.endpoint().contains("-websocket-"));
    for attempt in 1.. {
        publish(
            &mut connection,
            &event("Test::reals", vec![Data::vector([Data::Real(0.5)])]),
        )
        .await;
        let answer = tokio::time::timeout(Duration::from_millis(200), next(&mut connection)).await;
        if answer.is_ok() {
            // Each attempt may have its two answers by now, or get them later; this one comes last.
            publish(
                &mut connection,
                &event("Test::own", vec![Data::from("nan")]),
            )
            .await;
            while next(&mut connection).await.1 != [Data::vector([Data::Real(f64::NAN)])] {}
            break;
        }
        assert!(attempt < 100, "Zeek never answers");
    }
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn zeek_reads_our_json_and_we_read_zeeks() {
    let Some(program) = zeek::zeek() else {
        return;
    };
    for backend in BACKENDS {
        let directory = tempfile::tempdir().unwrap();
        let Some((mut zeek, url)) = server(&program, backend, directory.path()) else {
            continue;
        };
        let mut connection = connected(&url).await;
        assert_eq!(zeek.says("client "), "muster/test [/out]");
        let (least, most) = (f64::NEG_INFINITY, f64::INFINITY);
        let reals =
            |numbers: &[f64]| Data::vector(numbers.iter().map(|number| Data::Real(*number)));
        let texts = |texts: &[&[u8]]| Data::vector(texts.iter().map(|text| Data::string(*text)));
        let times = |nanos: &[i64]| {
            let times = nanos.iter().map(|nanos| Timestamp::from_nanos(*nanos));
            Data::vector(times.map(Data::from))
        };
        // Zeek writes six digits behind the point, and milliseconds.
        let second = 1_000_000_000;
        let now = 1_700_000_000 * second;
        let cases: [Case; 5] = [
            (
                "reals",
                vec![reals(&[5.0, 1e20, -0.5, most, least, 1e300])],
                "5 1e+20 -0.5 inf -inf 1.0000000000000001e+300",
                None,
            ),
            (
                "reals",
                vec![reals(&[0.1, 1e-9])],
                "0.10000000000000001 1.0000000000000001e-09",
                Some(vec![reals(&[0.1, 0.0])]),
            ),
            (
                "times",
                vec![times(&[
                    now + 123_000_000,
                    now + 123_456_000,
                    now + 123_456_789,
                    -second / 2,
                ])],
                "1700000000.123000145 1700000000.123456001 1700000000.123456717 -0.500000000",
                Some(vec![times(&[
                    now + 123_000_000,
                    now + 123_000_000,
                    now + 123_000_000,
                    0,
                ])]),
            ),
            (
                "texts",
                vec![texts(&[
                    b"\0\x01\x1f\x7f\x0b",
                    b"\xff\xfe",
                    "\u{e9}\u{1f600}".as_bytes(),
                    b"\"\\\n\t",
                    b"",
                ])],
                // What is no UTF-8 is the text `\xff`.
                "00011f7f0b 5c7866665c786665 c3a9f09f9880 225c0a09 ",
                Some(vec![texts(&[
                    b"\0\x01\x1f\x7f\x0b",
                    b"\\xff\\xfe",
                    "\u{e9}\u{1f600}".as_bytes(),
                    b"\"\\\n\t",
                    b"",
                ])]),
            ),
            (
                "ints",
                vec![
                    Data::vector([Data::Integer(i64::MIN), Data::Integer(i64::MAX)]),
                    Data::vector([Data::Count(0), Data::Count(u64::MAX)]),
                ],
                "[-9223372036854775808, 9223372036854775807] [0, 18446744073709551615]",
                None,
            ),
        ];
        for (kind, arguments, shown, back) in cases {
            let name = format!("Test::{kind}");
            publish(&mut connection, &event(&name, arguments.clone())).await;
            let echo = vec![Data::from(kind), Data::from(shown)];
            assert_eq!(next(&mut connection).await, ("Test::echo".to_owned(), echo));
            assert_eq!(
                next(&mut connection).await,
                (name, back.unwrap_or(arguments))
            );
        }

        // JSON has no number that is none: `none` is what Zeek reads, and it does not take it for one.
        publish(
            &mut connection,
            &event("Test::reals", vec![reals(&[f64::NAN])]),
        )
        .await;
        let refused = within(connection.receive()).await.unwrap();
        let expected = Incoming::Error {
            code: "deserialization_failed".to_owned(),
            context: "failed to create Zeek event".to_owned(),
        };
        assert_eq!(refused, expected);

        // Zeek writes them though it makes its text no JSON, and bytes that make it no text.
        for (kind, expected) in [
            ("nan", reals(&[f64::NAN])),
            ("inf", reals(&[most, least, 1e20, 0.1, 0.0])),
            (
                "texts",
                texts(&[
                    b"\x0b",
                    b"\x01\x1f\x7f",
                    b"\\xff\\xfe",
                    "caf\u{e9}".as_bytes(),
                    b"\"\\\n",
                ]),
            ),
            ("times", times(&[now + 123_000_000, 0, 0])),
        ] {
            publish(&mut connection, &event("Test::own", vec![Data::from(kind)])).await;
            assert_eq!(next(&mut connection).await.1, [expected], "{kind}");
        }
        assert!(within(connection.ping()).await.unwrap() < Duration::from_secs(5));
        within(connection.close(Duration::from_secs(1))).await;
        zeek.terminate();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_carries_events_to_zeek_and_back() {
    let Some(program) = zeek::zeek() else {
        return;
    };
    for backend in BACKENDS {
        let directory = tempfile::tempdir().unwrap();
        let Some((mut zeek, url)) = server(&program, backend, directory.path()) else {
            continue;
        };
        // Only for its wait until Zeek answers.
        let first = connected(&url).await;
        let endpoint = Endpoint::start(EndpointConfig::default()).unwrap();
        let queue = QueueLimits {
            messages: 1000,
            bytes: 1 << 20,
        };
        let mut inbox = endpoint.subscribe_with_local(["/out"], queue).await;
        let bridge = Bridge::start(
            &endpoint,
            BridgeConfig {
                url: url.clone(),
                client: ClientConfig::default(),
                inward: vec!["/out".to_owned()],
                outward: vec!["/in".to_owned()],
                queue,
            },
        )
        .await
        .unwrap();
        zeek.says("client muster/test");
        zeek.says("client muster ");
        let parsed = |text: &str| text.parse::<Data>().unwrap();
        let arguments: Vec<Data> = [
            "T",
            "0.5",
            "2023-11-14T22:13:20.5Z",
            "-1500ms",
            "\"text\"",
            "2001:db8::1",
            "10.0.0.0/8",
            "53/udp",
            "{\"a\", \"b\"}",
            "{\"one\" -> 1}",
        ]
        .into_iter()
        .map(parsed)
        .collect();
        let mut publisher = endpoint.local_publisher().unwrap();
        let topic = Topic::new("/in").unwrap();
        let payload = encode_to_vec(&event("Test::many", arguments.clone()));
        // With ZeroMQ, the subscription of this client takes its while as well.
        let mut received = None;
        for _ in 0..100 {
            let _ = publisher.publish_encoded(&topic, payload.clone().into(), Class::Event);
            let delivery = tokio::time::timeout(Duration::from_millis(200), inbox.receive()).await;
            if let Ok(Some(Delivery::Batch(batch))) = delivery {
                let message = batch.iter().next().unwrap();
                received = Some(DataRef::from_validated(message.payload).to_data());
                break;
            }
        }
        let (name, back) = taken_apart(&received.expect("an answer"));
        assert_eq!((name.as_str(), back), ("Test::many", arguments));
        let counts = bridge.counts();
        assert!(counts.connected && counts.events_out > 0 && counts.events_in > 0);
        assert_eq!(
            (counts.connections, counts.errors, counts.not_events),
            (1, 0, 0)
        );
        within(first.close(Duration::from_secs(1))).await;
        zeek.terminate();
    }
}
