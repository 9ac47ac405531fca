//! A gateway over real sockets, with clients as there are in the wild.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Subscriber};
use muster_data::{Data, DataRef, Encode};
use muster_gateway::{
    ClientOverflow, Gateway, GatewayConfig, GatewayError, GatewayTls, PATH, Tokens,
};
use muster_test_support::within;
use muster_wire::zeek::{EventRef, Metadata, put_event};
use muster_wire::{Class, QueueLimits, Topic};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

const TOKENS: &str = r#"
    [[token]]
    name = "siem"
    token = "0123456789abcdef"
    subscribe = ["/t/"]
    publish = ["/siem/"]
"#;

fn endpoint() -> Endpoint {
    Endpoint::start(EndpointConfig::default()).unwrap()
}

fn config() -> GatewayConfig {
    GatewayConfig {
        address: ([127, 0, 0, 1], 0).into(),
        ..GatewayConfig::default()
    }
}

async fn gateway(endpoint: &Endpoint) -> Gateway {
    Gateway::start(endpoint, config()).await.unwrap()
}

async fn connect(gateway: &Gateway) -> Client {
    let url = format!("ws://{}{PATH}", gateway.address());
    within(tokio_tungstenite::connect_async(url))
        .await
        .unwrap()
        .0
}

/// Connects and subscribes.
async fn subscribed(gateway: &Gateway, prefixes: &[&str]) -> Client {
    let mut client = connect(gateway).await;
    say(&mut client, &json!(prefixes)).await;
    assert_eq!(hear(&mut client).await["type"], "ack");
    client
}

async fn say(client: &mut Client, value: &Value) {
    client
        .send(Message::Text(value.to_string().into()))
        .await
        .unwrap();
}

/// The next message that is no ping.
async fn hear(client: &mut Client) -> Value {
    loop {
        match within(client.next()).await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// The code and reason with which the connection ends.
async fn end(client: &mut Client) -> (u16, String) {
    loop {
        match within(client.next()).await {
            Some(Ok(Message::Close(Some(frame)))) => {
                return (frame.code.into(), frame.reason.to_string());
            }
            Some(Ok(_)) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn event_json(topic: &str, name: &str, arguments: &Value) -> Value {
    json!({"type": "data-message", "topic": topic, "@data-type": "vector", "data": [
        {"@data-type": "count", "data": 1},
        {"@data-type": "count", "data": 1},
        {"@data-type": "vector", "data": [
            {"@data-type": "string", "data": name},
            {"@data-type": "vector", "data": arguments},
        ]},
    ]})
}

fn event(name: &str, arguments: &[Data]) -> Vec<u8> {
    let mut out = Vec::new();
    put_event(&mut out, name, Metadata::default(), |out| {
        arguments.encode(out);
    });
    out
}

async fn next_event(subscriber: &mut Subscriber) -> (String, String, Data) {
    loop {
        if let Delivery::Batch(batch) = within(subscriber.receive()).await.unwrap() {
            let message = batch.iter().next().unwrap();
            let event = EventRef::read(DataRef::from_validated(message.payload)).unwrap();
            let arguments = event.arguments().to_data();
            return (
                message.topic.to_string(),
                event.name().to_owned(),
                arguments,
            );
        }
    }
}

/// Publishes until somebody subscribes.
async fn publish(endpoint: &Endpoint, topic: &str, event: Vec<u8>) {
    let mut publisher = endpoint.publisher();
    let topic = Topic::new(topic).unwrap();
    within(async {
        while publisher
            .publish_encoded(&topic, event.clone().into(), Class::Event)
            .no_subscriber()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn events_travel_both_ways() {
    let here = endpoint();
    let gateway = gateway(&here).await;
    let there = endpoint();
    let address = there
        .listen("127.0.0.1:0".parse().unwrap(), Exposure::Guarded)
        .await
        .unwrap();
    let mut remote = there.subscribe(["/t/"]).await;
    let mut local = here.subscribe(["/t/"]).await;
    here.peer(&address.to_string(), None).await.unwrap();

    let mut first = subscribed(&gateway, &["/t/", "/u/"]).await;
    let mut second = subscribed(&gateway, &["/t/a"]).await;
    publish(&there, "/t/a/b", event("ping", &[Data::Count(1)])).await;
    assert_eq!(next_event(&mut local).await.0, "/t/a/b");
    let expected = event_json(
        "/t/a/b",
        "ping",
        &json!([{"@data-type": "count", "data": 1}]),
    );
    assert_eq!(hear(&mut first).await, expected);
    assert_eq!(hear(&mut second).await, expected);
    // What the gateway's own process publishes is heard, too.
    publish(&here, "/u/own", event("own", &[])).await;
    assert_eq!(hear(&mut first).await["topic"], "/u/own");

    // A client's event reaches peers, the own process and other clients, and does not come back.
    let arguments =
        json!([{"@data-type": "string", "data": "é"}, {"@data-type": "port", "data": "80/tcp"}]);
    let own = event_json("/t/a/c", "pong", &arguments);
    say(&mut first, &own).await;
    let event = next_event(&mut remote).await;
    assert_eq!(event.0, "/t/a/c");
    assert_eq!(event.1, "pong");
    assert_eq!(event.2.to_string(), "[\"é\", 80/tcp]");
    assert_eq!(next_event(&mut local).await, event);
    assert_eq!(hear(&mut second).await, own);
    say(&mut second, &event_json("/t/z", "last", &json!([]))).await;
    assert_eq!(hear(&mut first).await["topic"], "/t/z");

    let counts = gateway.counts();
    assert_eq!((counts.events_in, counts.clients.len()), (2, 2));
    assert!(counts.events_out >= 4);
    drop(first);
    // Its subscriptions end with it, its peer's filter shrinks.
    within(async {
        while there
            .filter_of(here.id())
            .unwrap()
            .contains(&b"/u/".to_vec())
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(gateway.counts().events_in, 2);
}

#[tokio::test]
async fn what_is_wrong_is_answered() {
    let endpoint = endpoint();
    let gateway = gateway(&endpoint).await;
    for path in ["/other", "/v1/messages/json?a=b", "/v1/messages/json/"] {
        let url = format!("ws://{}{path}", gateway.address());
        let mut client = tokio_tungstenite::connect_async(url).await.unwrap().0;
        assert_eq!(hear(&mut client).await["code"], "invalid_uri");
        let expected = (1008, "Invalid URI - use /v1/messages/json".to_owned());
        assert_eq!(end(&mut client).await, expected);
    }
    let url = format!("ws://{}{PATH}", gateway.address());
    for (name, is_good) in [("my app", false), ("a/b_1.0:*@=-", true)] {
        let mut request = url.as_str().into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("X-Application-Name", name.parse().unwrap());
        let mut client = tokio_tungstenite::connect_async(request).await.unwrap().0;
        if is_good {
            say(&mut client, &json!([])).await;
            assert_eq!(hear(&mut client).await["type"], "ack");
        } else {
            assert_eq!(hear(&mut client).await["code"], "invalid_application_name");
            assert_eq!(end(&mut client).await.0, 1008);
        }
    }
    let mut client = subscribed(&gateway, &[]).await;
    client
        .send(Message::Binary(vec![0xff, 0xfe].into()))
        .await
        .unwrap();
    assert_eq!(
        hear(&mut client).await["context"],
        "failed to decode JSON object"
    );
    say(&mut client, &json!({"@data-type": "count", "data": 1})).await;
    assert_eq!(
        hear(&mut client).await["context"],
        "no topic in top-level JSON object"
    );
    say(
        &mut client,
        &json!({"topic": "/t", "@data-type": "count", "data": 1}),
    )
    .await;
    assert_eq!(
        hear(&mut client).await["context"],
        "failed to create Zeek event"
    );
    // The connection is as good as before.
    say(&mut client, &event_json("/t", "e", &json!([]))).await;
    within(async {
        while gateway.counts().events_in == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // What is larger than the limit ends it.
    let large = json!(vec![0; 5 << 20]).to_string();
    let _ = client.send(Message::Text(large.into())).await;
    within(async { while let Some(Ok(_)) = client.next().await {} }).await;
    let counts = gateway.counts();
    assert_eq!(counts.refused, 4);
    assert_eq!(counts.turned_away, 4);
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_only_itself() {
    let endpoint = endpoint();
    let config = GatewayConfig {
        client_queue: QueueLimits {
            messages: 100,
            bytes: 4 << 20,
        },
        ..config()
    };
    let gateway = Gateway::start(&endpoint, config).await.unwrap();
    let mut stuck = subscribed(&gateway, &["/t/"]).await;
    let mut good = subscribed(&gateway, &["/t/"]).await;
    let text = "x".repeat(100_000);
    let mut sent = 0_u64;
    // Until the socket's buffers are full, and then the queue.
    while gateway.counts().dropped.total() == 0 {
        let arguments = [Data::Count(sent), Data::from(text.as_str())];
        publish(&endpoint, "/t/x", event("e", &arguments)).await;
        let heard = hear(&mut good).await;
        assert_eq!(heard["data"][2]["data"][1]["data"][0]["data"], sent);
        sent += 1;
        assert!(sent < 5000, "a queue without bound");
    }
    let (code, reason) = end(&mut stuck).await;
    assert_eq!((code, reason.contains("slow")), (1013, true));
    // Each event was written to its connection or is counted as dropped.
    let counts = gateway.counts();
    assert_eq!(counts.events_out + counts.dropped.total(), 2 * sent);
    publish(&endpoint, "/t/x", event("last", &[])).await;
    assert_eq!(hear(&mut good).await["data"][2]["data"][0]["data"], "last");
    assert!(gateway.counts().dropped.total() > 0);
}

/// What each client may have waiting, a thousand could: together they have a bound, and the fullest goes.
#[tokio::test]
async fn all_clients_together_have_a_bound() {
    const MEMORY: usize = 8 << 20;
    let endpoint = endpoint();
    let config = GatewayConfig {
        client_queue: QueueLimits {
            messages: 1000,
            bytes: 4 << 20,
        },
        memory: MEMORY,
        ..config()
    };
    let gateway = Gateway::start(&endpoint, config).await.unwrap();
    let mut stuck = Vec::new();
    for _ in 0..8 {
        stuck.push(subscribed(&gateway, &["/t/"]).await);
    }
    let mut good = subscribed(&gateway, &["/t/"]).await;
    let text = "x".repeat(100_000);
    for sent in 0.. {
        assert!(sent < 300, "each is ended for its own queue, or none");
        let arguments = [Data::Count(sent), Data::from(text.as_str())];
        publish(&endpoint, "/t/x", event("e", &arguments)).await;
        hear(&mut good).await;
        let counts = gateway.counts();
        let waiting: usize = counts.clients.iter().map(|client| client.queued.1).sum();
        assert!(waiting < MEMORY + (1 << 20), "{waiting} bytes");
        if counts.dropped.total() > 0 {
            break;
        }
    }
    // Whoever it was reads why: the gateway waits a while for that.
    let ends = stuck.iter_mut().map(|client| Box::pin(end(client)));
    let ((code, reason), ..) = futures_util::future::select_all(ends).await;
    assert_eq!(code, 1013);
    assert!(reason.contains("fullest"), "{reason}");
    publish(&endpoint, "/t/x", event("last", &[])).await;
    assert_eq!(hear(&mut good).await["data"][2]["data"][0]["data"], "last");
}

/// An event that no queue of a client can take costs itself: the client is told, and stays.
#[tokio::test]
async fn an_event_larger_than_the_queue_is_told_of() {
    let endpoint = endpoint();
    let config = GatewayConfig {
        client_queue: QueueLimits {
            messages: 100,
            bytes: 1 << 20,
        },
        ..config()
    };
    let gateway = Gateway::start(&endpoint, config).await.unwrap();
    let mut client = subscribed(&gateway, &["/t/"]).await;
    let text = "x".repeat(2 << 20);
    publish(
        &endpoint,
        "/t/large",
        event("e", &[Data::from(text.as_str())]),
    )
    .await;
    let error = hear(&mut client).await;
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("event_too_large"))
    );
    assert!(error.to_string().contains("/t/large"), "{error}");
    publish(&endpoint, "/t/x", event("next", &[])).await;
    assert_eq!(
        hear(&mut client).await["data"][2]["data"][0]["data"],
        "next"
    );
    assert_eq!(gateway.counts().dropped.total(), 1);
}

/// A message over the limit ends the connection with the code that says so.
#[tokio::test]
async fn a_message_over_the_limit_is_code_1009() {
    let endpoint = endpoint();
    let config = GatewayConfig {
        message_limit: 1000,
        ..config()
    };
    let gateway = Gateway::start(&endpoint, config).await.unwrap();
    let mut client = subscribed(&gateway, &[]).await;
    say(&mut client, &json!("x".repeat(2000))).await;
    assert_eq!(end(&mut client).await.0, 1009);
    assert_eq!(gateway.counts().refused, 1);
}

/// Answers to pings went into a buffer without bound: 2 GiB in eight seconds.
#[tokio::test]
async fn a_client_that_pings_and_reads_nothing_is_held_back() {
    const MOST: usize = 64 << 20;
    let endpoint = endpoint();
    let gateway = gateway(&endpoint).await;
    let mut client = TcpStream::connect(gateway.address()).await.unwrap();
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within(client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    // A ping of 125 bytes, masked with zeros.
    let mut ping = vec![0x89, 0x80 | 0x7d, 0, 0, 0, 0];
    ping.resize(6 + 125, b'x');
    let pings = ping.repeat(1000);
    let mut sent = 0;
    // The gateway reads no more when its answers are not read.
    while let Ok(written) =
        tokio::time::timeout(Duration::from_secs(2), client.write_all(&pings)).await
    {
        if written.is_err() {
            break;
        }
        sent += pings.len();
        assert!(sent < MOST, "the gateway takes whatever comes");
    }
}

#[tokio::test]
async fn a_slow_client_may_lose_the_oldest_instead() {
    let endpoint = endpoint();
    let config = GatewayConfig {
        client_queue: QueueLimits {
            messages: 10,
            bytes: 4 << 20,
        },
        overflow: ClientOverflow::DropOldest,
        ..config()
    };
    let gateway = Gateway::start(&endpoint, config).await.unwrap();
    let mut client = subscribed(&gateway, &["/t/"]).await;
    let text = "x".repeat(100_000);
    let mut sent = 0_u64;
    while gateway.counts().dropped.total() == 0 {
        publish(
            &endpoint,
            "/t/x",
            event("e", &[Data::Count(sent), Data::from(text.as_str())]),
        )
        .await;
        sent += 1;
        tokio::task::yield_now().await;
        assert!(sent < 5000, "a queue without bound");
    }
    publish(&endpoint, "/t/x", event("last", &[])).await;
    let mut heard = 0;
    while hear(&mut client).await["data"][2]["data"][0]["data"] != "last" {
        heard += 1;
    }
    assert_eq!(heard + gateway.counts().dropped.total(), sent);
}

#[tokio::test]
async fn a_client_that_does_not_answer_pings_is_disconnected() {
    let endpoint = endpoint();
    let config = GatewayConfig {
        ping_interval: Duration::from_millis(100),
        ..config()
    };
    let gateway = Gateway::start(&endpoint, config).await.unwrap();
    let mut alive = subscribed(&gateway, &[]).await;
    let mut silent = connect(&gateway).await;
    // The one that is read from answers; the library does that.
    let alive = tokio::spawn(async move {
        let mut pings = 0;
        while pings < 5 {
            match within(alive.next()).await.unwrap().unwrap() {
                Message::Ping(content) => {
                    assert_eq!(content, format!("muster::heartbeat::{}", pings + 1));
                    pings += 1;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    });
    alive.await.unwrap();
    assert_eq!(end(&mut silent).await, (1011, "Ping timeout".to_owned()));
}

#[tokio::test]
async fn tokens_decide() {
    let endpoint = endpoint();
    let config = GatewayConfig {
        tokens: Some(Tokens::parse(TOKENS).unwrap()),
        ..config()
    };
    let gateway = Gateway::start(&endpoint, config).await.unwrap();
    let url = format!("ws://{}{PATH}", gateway.address());
    for shown in [None, Some("Bearer wrong"), Some("Basic 0123456789abcdef")] {
        let mut request = url.as_str().into_client_request().unwrap();
        if let Some(shown) = shown {
            let headers = request.headers_mut();
            headers.insert("Authorization", shown.parse().unwrap());
        }
        let error = tokio_tungstenite::connect_async(request).await.unwrap_err();
        let tungstenite::Error::Http(response) = error else {
            panic!("{error}");
        };
        assert_eq!(response.status(), 401);
    }
    let connect = || async {
        let mut request = url.as_str().into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("Authorization", "bearer 0123456789abcdef".parse().unwrap());
        tokio_tungstenite::connect_async(request).await.unwrap().0
    };
    let mut client = connect().await;
    say(&mut client, &json!(["/t/x"])).await;
    assert_eq!(hear(&mut client).await["type"], "ack");
    assert_eq!(gateway.counts().clients[0].grant, "siem");
    let mut greedy = connect().await;
    say(&mut greedy, &json!(["/"])).await;
    assert_eq!(hear(&mut greedy).await["code"], "permission_denied");
    assert_eq!(end(&mut greedy).await.0, 1008);
}

#[tokio::test]
async fn nobody_listens_to_everybody_by_accident() {
    let endpoint = endpoint();
    let everywhere = GatewayConfig {
        address: ([0, 0, 0, 0], 0).into(),
        ..config()
    };
    let error = Gateway::start(&endpoint, everywhere.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, GatewayError::NoTokens(_)), "{error}");
    let with_tokens = GatewayConfig {
        tokens: Some(Tokens::parse(TOKENS).unwrap()),
        ..everywhere
    };
    let error = Gateway::start(&endpoint, with_tokens).await.unwrap_err();
    assert!(matches!(error, GatewayError::NoTls(_)), "{error}");
}

#[tokio::test]
async fn more_clients_than_allowed() {
    let endpoint = endpoint();
    let config = GatewayConfig {
        max_clients: 2,
        ..config()
    };
    let gateway = Gateway::start(&endpoint, config).await.unwrap();
    let first = subscribed(&gateway, &[]).await;
    let _second = subscribed(&gateway, &[]).await;
    let url = format!("ws://{}{PATH}", gateway.address());
    let error = tokio_tungstenite::connect_async(&url).await.unwrap_err();
    let tungstenite::Error::Http(response) = error else {
        panic!("{error}");
    };
    assert_eq!(response.status(), 503);
    drop(first);
    within(async {
        while tokio_tungstenite::connect_async(&url).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn subscriptions_have_a_bound_that_peers_can_bear() {
    let endpoint = endpoint();
    let gateway = gateway(&endpoint).await;
    let mut clients = Vec::new();
    let refused = loop {
        let mut client = connect(&gateway).await;
        let prefix = format!("{:03}{}", clients.len(), "x".repeat(60_000));
        // The same again costs nothing.
        say(&mut client, &json!([prefix.as_str(), "/t/"])).await;
        let answer = hear(&mut client).await;
        if answer["type"] == "error" {
            assert_eq!(answer["code"], "too_many_subscriptions");
            break end(&mut client).await;
        }
        clients.push(client);
        assert!(clients.len() < 20, "a filter without bound");
    };
    assert_eq!(refused.0, 1008);
    // When one goes there is room again.
    clients.pop();
    within(async {
        loop {
            let mut client = connect(&gateway).await;
            say(&mut client, &json!(["x".repeat(60_000)])).await;
            if hear(&mut client).await["type"] == "ack" {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn two_hundred_clients() {
    let endpoint = endpoint();
    let gateway = gateway(&endpoint).await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(subscribed(&gateway, &["/t/"]).await);
    }
    for number in 0..10 {
        publish(&endpoint, "/t/x", event("e", &[Data::Count(number)])).await;
    }
    for client in &mut clients {
        for number in 0..10 {
            let heard = hear(client).await;
            assert_eq!(heard["data"][2]["data"][1]["data"][0]["data"], number);
        }
    }
    assert_eq!(gateway.counts().events_out, 2000);
    let stopping = tokio::spawn(gateway.stop(Duration::from_secs(10)));
    for client in &mut clients {
        assert_eq!(end(client).await, (1001, "Terminating".to_owned()));
    }
    stopping.await.unwrap();
}

#[tokio::test]
async fn what_is_no_websocket_is_told_so() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let endpoint = endpoint();
    let gateway = gateway(&endpoint).await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    assert!(answer.contains(PATH), "{answer}");
    // A request that never ends is cut off.
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(b"GET / HT").await.unwrap();
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let endpoint = endpoint();
    let config = GatewayConfig {
        max_clients: 100,
        ..config()
    };
    let gateway = Gateway::start(&endpoint, config).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(gateway.address()).await.unwrap());
    }
    let mut client = subscribed(&gateway, &["/t/"]).await;
    publish(&endpoint, "/t/x", event("e", &[])).await;
    assert_eq!(hear(&mut client).await["topic"], "/t/x");
    assert!(gateway.counts().turned_away >= 100);
}

#[tokio::test]
async fn over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, keyfile) = certificate(directory.path());
    let endpoint = endpoint();
    let tls = GatewayTls {
        certificate: certificate.clone(),
        keyfile,
        cafile: None,
    };
    let config = GatewayConfig {
        tls: Some(tls.clone()),
        ..config()
    };
    let gateway = Gateway::start(&endpoint, config.clone()).await.unwrap();
    let stream = shake_hands(&gateway, &certificate).await.unwrap();
    let (mut client, _) = tokio_tungstenite::client_async(format!("ws://localhost{PATH}"), stream)
        .await
        .unwrap();
    client.send(Message::Text("[]".into())).await.unwrap();
    let heard = within(async {
        loop {
            if let Some(Ok(Message::Text(text))) = client.next().await {
                return text;
            }
        }
    })
    .await;
    assert!(heard.contains("\"ack\""));
    // Files that cannot be used are named.
    for tls in [
        GatewayTls {
            certificate: "/nowhere/cert.pem".into(),
            ..tls.clone()
        },
        GatewayTls {
            keyfile: certificate.clone(),
            ..tls.clone()
        },
        GatewayTls {
            cafile: Some("/nowhere/ca.pem".into()),
            ..tls
        },
    ] {
        let config = GatewayConfig {
            tls: Some(tls),
            ..config.clone()
        };
        let error = Gateway::start(&endpoint, config)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("cannot use") && error.contains(".pem"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_served_to_those_who_come_then() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate_file, keyfile) = certificate(directory.path());
    let endpoint = endpoint();
    let config = GatewayConfig {
        tls: Some(GatewayTls {
            certificate: certificate_file.clone(),
            keyfile: keyfile.clone(),
            cafile: None,
        }),
        ..config()
    };
    let gateway = Gateway::start(&endpoint, config).await.unwrap();
    // Each of these signs itself: whoever trusts the present file is served it, or nothing.
    shake_hands(&gateway, &certificate_file).await.unwrap();
    let before = std::fs::read(&keyfile).unwrap();
    certificate(directory.path());
    assert!(shake_hands(&gateway, &certificate_file).await.is_err());
    gateway.reload_tls().unwrap();
    shake_hands(&gateway, &certificate_file).await.unwrap();
    // With the key of another certificate the present one stays.
    std::fs::write(&keyfile, before).unwrap();
    let error = gateway.reload_tls().unwrap_err().to_string();
    assert!(error.contains("key.pem"), "{error}");
    shake_hands(&gateway, &certificate_file).await.unwrap();
}

/// Makes a connection with TLS for whoever trusts a certificate.
async fn shake_hands(
    gateway: &Gateway,
    trusted: &std::path::Path,
) -> Result<tokio_openssl::SslStream<TcpStream>, openssl::ssl::Error> {
    let mut connector =
        openssl::ssl::SslConnector::builder(openssl::ssl::SslMethod::tls()).unwrap();
    connector.set_ca_file(trusted).unwrap();
    let configured = connector.build().configure().unwrap();
    let ssl = configured.into_ssl("localhost").unwrap();
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let mut stream = tokio_openssl::SslStream::new(ssl, stream).unwrap();
    within(std::pin::Pin::new(&mut stream).connect()).await?;
    Ok(stream)
}

/// A certificate for `localhost` that signs itself, and its key.
fn certificate(directory: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf) {
    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::x509::extension::SubjectAlternativeName;
    use openssl::x509::{X509, X509NameBuilder};
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "localhost").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(1).unwrap())
        .unwrap();
    let context = builder.x509v3_context(None, None);
    let alternative = SubjectAlternativeName::new()
        .dns("localhost")
        .build(&context)
        .unwrap();
    builder.append_extension(alternative).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let (certificate, keyfile) = (directory.join("cert.pem"), directory.join("key.pem"));
    std::fs::write(&certificate, builder.build().to_pem().unwrap()).unwrap();
    std::fs::write(&keyfile, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    (certificate, keyfile)
}

#[tokio::test]
async fn pages_of_other_sites_may_not_connect() {
    let endpoint = endpoint();
    let gateway = gateway(&endpoint).await;
    let port = gateway.address().port();
    let connect = async |host: &str, origin: Option<&str>| {
        let mut request = format!("ws://{}{PATH}", gateway.address())
            .into_client_request()
            .unwrap();
        let headers = request.headers_mut();
        headers.insert("Host", host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert("Origin", origin.parse().unwrap());
        }
        let stream = TcpStream::connect(gateway.address()).await.unwrap();
        within(tokio_tungstenite::client_async(request, stream)).await
    };
    let here = format!("127.0.0.1:{port}");
    for origin in [
        None,
        Some("http://localhost:8000"),
        Some("http://[::1]"),
        Some("https://127.0.0.1"),
    ] {
        connect(&here, origin).await.unwrap();
    }
    // The last is a page whose site's name was made to mean this machine after it was loaded: its
    // browser takes gateway and page for one site.
    let rebound = format!("evil.example:{port}");
    for (host, origin) in [
        (&here, "https://evil.example".to_owned()),
        (&here, "null".to_owned()),
        (&here, "https://localhost.evil.example".to_owned()),
        (&rebound, format!("http://{rebound}")),
    ] {
        let error = connect(host, Some(&origin)).await.unwrap_err();
        assert!(
            matches!(&error, tungstenite::Error::Http(response) if response.status() == 403),
            "{origin}: {error}"
        );
    }
}

/// Of a thousand clients that came at once, all but 256 were closed before they had sent their requests.
#[tokio::test]
async fn all_clients_may_come_at_once() {
    let endpoint = endpoint();
    let gateway = gateway(&endpoint).await;
    let mut streams = Vec::new();
    for _ in 0..300 {
        streams.push(TcpStream::connect(gateway.address()).await.unwrap());
    }
    // When the gateway has taken one that came behind the others, it has taken all.
    let _last = connect(&gateway).await;
    let url = format!("ws://{}{PATH}", gateway.address());
    for stream in &mut streams {
        let shaken = within(tokio_tungstenite::client_async(url.as_str(), stream)).await;
        shaken.unwrap();
    }
    assert_eq!(gateway.counts().turned_away, 0);
}
