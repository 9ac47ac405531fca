//! A bridge between two endpoints, with a gateway as the server.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use muster::{Delivery, Endpoint, EndpointConfig, Subscriber};
use muster_data::{Data, DataRef, Encode};
use muster_gateway::{
    Bridge, BridgeConfig, BridgeCounts, BridgeError, ClientConfig, ClientError, Connection,
    Gateway, GatewayConfig, Incoming, RefusalReason, TlsReason, Tokens,
};
use muster_test_support::within;
use muster_wire::zeek::{EventRef, Metadata, put_event};
use muster_wire::{Class, QueueLimits, Topic};

const LIMITS: QueueLimits = QueueLimits {
    messages: 1000,
    bytes: 1 << 20,
};

fn endpoint() -> Endpoint {
    Endpoint::start(EndpointConfig::default()).unwrap()
}

fn config() -> GatewayConfig {
    GatewayConfig {
        address: ([127, 0, 0, 1], 0).into(),
        ..GatewayConfig::default()
    }
}

fn bridge_config(url: &str, inward: &[&str], outward: &[&str]) -> BridgeConfig {
    let owned = |prefixes: &[&str]| prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
    BridgeConfig {
        url: url.parse().unwrap(),
        client: ClientConfig::default(),
        inward: owned(inward),
        outward: owned(outward),
        queue: LIMITS,
    }
}

/// Waits until the bridge's counts are as they should be.
async fn until(bridge: &Bridge, fits: impl Fn(&BridgeCounts) -> bool) {
    within(async {
        while !fits(&bridge.counts()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn event(name: &str, number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_event(&mut out, name, Metadata::default(), |out| {
        [Data::Count(number)][..].encode(out);
    });
    out
}

fn publish(endpoint: &Endpoint, topic: &str, event: Vec<u8>) {
    let topic = Topic::new(topic).unwrap();
    let _ = endpoint
        .publisher()
        .publish_encoded(&topic, event.into(), Class::Event);
}

async fn next_event(subscriber: &mut Subscriber) -> (String, String) {
    loop {
        if let Delivery::Batch(batch) = within(subscriber.receive()).await.unwrap() {
            let message = batch.iter().next().unwrap();
            let event = EventRef::read(DataRef::from_validated(message.payload)).unwrap();
            return (message.topic.to_string(), event.name().to_owned());
        }
    }
}

#[tokio::test]
async fn topics_cross_in_one_direction_and_the_bridge_comes_back() {
    let (there, here) = (endpoint(), endpoint());
    let gateway = Gateway::start(&there, config()).await.unwrap();
    let address = gateway.address();
    let mut there_hears = there.subscribe(["/"]).await;
    let mut here_hears = here.subscribe(["/"]).await;
    let config = bridge_config(&format!("ws://{address}"), &["/in/"], &["/out/"]);
    let bridge = Bridge::start(&here, config).await.unwrap();
    until(&bridge, |counts| counts.connected).await;

    publish(&there, "/in/a", event("one", 1));
    assert_eq!(
        next_event(&mut here_hears).await,
        ("/in/a".into(), "one".into())
    );
    publish(&here, "/out/b", event("two", 2));
    publish(&here, "/elsewhere", event("lost", 3));
    publish(&here, "/out/c", event("three", 3));
    for expected in [("/out/b", "two"), ("/out/c", "three")] {
        let (topic, name) = next_event(&mut there_hears).await;
        assert_eq!((topic.as_str(), name.as_str()), expected);
    }

    // The server goes, and comes back: what is published meanwhile arrives then.
    gateway.stop(Duration::from_secs(5)).await;
    until(&bridge, |counts| !counts.connected).await;
    assert!(bridge.counts().last_error.unwrap().contains("Terminating"));
    publish(&here, "/out/d", event("meanwhile", 4));
    let again = GatewayConfig {
        address,
        ..GatewayConfig::default()
    };
    let _gateway = Gateway::start(&there, again).await.unwrap();
    assert_eq!(
        next_event(&mut there_hears).await,
        ("/out/d".into(), "meanwhile".into())
    );
    until(&bridge, |counts| counts.events_out == 3).await;
    let counts = bridge.counts();
    assert_eq!((counts.connections, counts.events_in), (2, 1));
}

#[tokio::test]
async fn nothing_can_go_round() {
    let config =
        |inward: &[&str], outward: &[&str]| bridge_config("ws://127.0.0.1:1", inward, outward);
    let crossing = config(&["/a/"], &["/a/b/"]);
    assert!(matches!(
        BridgeConfig::check(&[&crossing]),
        Err(BridgeError::Loop { inward, outward }) if inward == "/a/" && outward == "/a/b/"
    ));
    // Nor through two bridges.
    let (first, second) = (config(&["/a/"], &["/b/"]), config(&["/b/x"], &[]));
    assert!(BridgeConfig::check(&[&first]).is_ok() && BridgeConfig::check(&[&second]).is_ok());
    assert!(BridgeConfig::check(&[&first, &second]).is_err());
    let same = config(&["/a/"], &["/b/"]);
    assert!(BridgeConfig::check(&[&first, &same]).is_ok());
    let error = Bridge::start(&endpoint(), crossing).await.unwrap_err();
    assert!(matches!(error, BridgeError::Loop { .. }));
    let reserved = config(&["<$>/local/x"], &[]);
    assert!(matches!(
        BridgeConfig::check(&[&reserved]),
        Err(BridgeError::Prefix(_))
    ));
}

#[tokio::test]
async fn a_client_says_what_is_wrong() {
    let endpoint = endpoint();
    let tokens = "[[token]]\nname = \"x\"\ntoken = \"0123456789abcdef\"\nsubscribe = [\"/t/\"]\npublish = [\"/t/\"]";
    let config = GatewayConfig {
        tokens: Some(Tokens::parse(tokens).unwrap()),
        ..config()
    };
    let gateway = Gateway::start(&endpoint, config).await.unwrap();
    let url = |scheme: &str, path: &str| {
        format!("{scheme}://{}{path}", gateway.address())
            .parse()
            .unwrap()
    };
    let open = async |url, token: Option<&str>, prefix: &str| {
        let config = ClientConfig {
            token: token.map(str::to_owned),
            ..ClientConfig::default()
        };
        Connection::open(&url, &config, &[prefix.to_owned()]).await
    };
    let good = Some("0123456789abcdef");
    let refusal = |error| match error {
        ClientError::Refused { reason, .. } => reason,
        other => panic!("{other}"),
    };
    let error = open(url("ws", ""), None, "/t/").await.unwrap_err();
    let reason = refusal(error);
    assert!(
        matches!(reason, RefusalReason::Status { status: 401, .. }),
        "{reason}"
    );
    for (path, prefix, expected) in [
        ("", "/u/", "permission_denied"),
        ("/x", "/t/", "invalid_uri"),
    ] {
        let error = open(url("ws", path), good, prefix).await.unwrap_err();
        let reason = refusal(error);
        assert!(
            matches!(&reason, RefusalReason::Error { code, .. } if code == expected),
            "{reason}"
        );
    }
    let error = open(url("wss", ""), good, "/t/").await.unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Tls {
                reason: TlsReason::Other(_),
                ..
            }
        ),
        "{error}"
    );
    let error = open("ws://127.0.0.1:1".parse().unwrap(), None, "/t/")
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");

    let mut connection = open(url("ws", ""), good, "/t/").await.unwrap();
    assert!(
        connection.endpoint().ends_with("-websocket-2"),
        "{}",
        connection.endpoint()
    );
    within(connection.ping()).await.unwrap();
    let mut subscriber = endpoint.subscribe(["/t/"]).await;
    let event = event("e", 1);
    let value = DataRef::from_validated(&event);
    connection.publish("/t/x", value).await.unwrap();
    assert_eq!(next_event(&mut subscriber).await.0, "/t/x");
    connection.publish("/u/x", value).await.unwrap();
    let heard = within(connection.receive()).await.unwrap();
    assert!(matches!(heard, Incoming::Error { code, .. } if code == "permission_denied"));
    assert!(connection.close(Duration::from_secs(20)).await);
}

#[tokio::test]
async fn what_has_no_room_while_the_server_is_away_is_counted_at_once() {
    let here = endpoint();
    let config = bridge_config("ws://127.0.0.1:1", &[], &["/out/"]);
    let bridge = Bridge::start(&here, config).await.unwrap();
    for number in 0..1500 {
        publish(&here, "/out/a", event("e", number));
    }
    until(&bridge, |counts| counts.dropped.total() == 500).await;
    let counts = bridge.counts();
    assert_eq!((counts.connected, counts.events_out), (false, 0));
}

#[tokio::test]
async fn what_waits_when_a_bridge_stops_still_crosses() {
    let (there, here) = (endpoint(), endpoint());
    let gateway = Gateway::start(&there, config()).await.unwrap();
    let mut there_hears = there.subscribe(["/"]).await;
    let config = bridge_config(&format!("ws://{}", gateway.address()), &[], &["/out/"]);
    let bridge = Bridge::start(&here, config).await.unwrap();
    until(&bridge, |counts| counts.connected).await;
    for number in 0..500 {
        publish(&here, "/out/a", event("e", number));
    }
    within(bridge.stop(Duration::from_secs(20))).await;
    for _ in 0..500 {
        assert_eq!(next_event(&mut there_hears).await.0, "/out/a");
    }
    // One without a server stops at once.
    let config = bridge_config("ws://127.0.0.1:1", &[], &["/out/"]);
    let bridge = Bridge::start(&here, config).await.unwrap();
    within(bridge.stop(Duration::from_secs(60))).await;
}
