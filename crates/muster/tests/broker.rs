//! Peering with C++ Broker: its own programs stand at the other end.
//!
//! `MUSTER_BROKER_PIPE` and `MUSTER_BROKER_NODE` name Broker's programs `broker-pipe` and `broker-node`.
//! A test whose program is not named says so on stderr and passes. While a test runs, its programs
//! listen without encryption on every address of the machine: they can be told a port only.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "broker/homes.rs"]
mod homes;
#[path = "support/broker.rs"]
mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use muster::{PeerOrigin, Status};
use muster_data::{Data, Timespan, Timestamp, encode_to_vec};
use muster_test_support::within;
use tokio::net::TcpListener;

use support::{RETRY, endpoint, free_port, listening, named, publish};

/// Smaller and larger than what Broker draws: who is originator does not depend on who dials.
const IDS: [[u8; 16]; 2] = [[0; 16], [0xff; 16]];

const DIALLERS: [PeerOrigin; 2] = [PeerOrigin::Dialled, PeerOrigin::Accepted];

#[tokio::test(flavor = "multi_thread")]
async fn broker_prints_what_muster_publishes_and_confirms_the_end() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    for (id, dialler) in combinations() {
        let (endpoint, mut inbox) = endpoint(id, &[]).await;
        let mut broker = pipe
            .start(&endpoint, dialler, &["--mode=subscribe", "--topic=/t"])
            .await;
        let peer = inbox.added().await;
        assert_eq!(peer.origin, dialler);
        broker.tells("peer_added", &endpoint).await;
        publish(&endpoint, "/tt/prefixes-match", &Data::None).await;
        assert_eq!(broker.prints().await, "data(/tt/prefixes-match, nil)");
        for (value, printed) in printed_values() {
            publish(&endpoint, "/t", &value).await;
            assert_eq!(broker.prints().await, format!("data(/t, {printed})"));
        }
        for number in 0..500u64 {
            publish(&endpoint, "/t", &Data::from(number)).await;
        }
        assert!(within(endpoint.unpeer(peer.id)).await);
        // Without Broker's answer this would take as long as `bye_timeout`.
        match inbox.status().await {
            Status::PeerRemoved { peer: removed, .. } => assert_eq!(removed, peer),
            other => panic!("unexpected {other}"),
        }
        for number in 0..500 {
            assert_eq!(broker.prints().await, format!("data(/t, {number})"));
        }
        broker.tells("peer_lost", &endpoint).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn muster_receives_what_broker_publishes_up_to_its_end() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    for (id, dialler) in combinations() {
        let (endpoint, mut inbox) = endpoint(id, &["/early"]).await;
        let arguments = ["--mode=publish", "--topic=/late/topic"];
        let mut broker = pipe.start(&endpoint, dialler, &arguments).await;
        let peer = inbox.added().await;
        broker.tells("peer_added", &endpoint).await;
        // Broker is told of a subscription made while peered, and does not confirm it.
        inbox.subscriber.subscribe("/late").await;
        let mut attempt = 1;
        broker.write("attempt 1");
        while !inbox.has_message().await {
            attempt += 1;
            broker.write(&format!("attempt {attempt}"));
        }
        let last = Data::from(format!("attempt {attempt}"));
        while inbox.message().await != ("/late/topic".to_owned(), last.clone()) {}
        for number in 0..200u64 {
            broker.write(&number.to_string());
        }
        // It ends with its input, and says goodbye.
        drop(broker.input.take());
        for number in 0..200u64 {
            assert_eq!(inbox.message().await.1, Data::from(number.to_string()));
        }
        assert_eq!(inbox.lost().await, peer.id);
        broker.tells("peer_removed", &endpoint).await;
        assert!(broker.ended().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_is_dialled_again() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    let (endpoint, mut inbox) = endpoint(IDS[0], &["/t"]).await;
    let port = free_port();
    endpoint.dial(&format!("127.0.0.1:{port}"), RETRY);
    let mut former = None;
    for _ in 0..2 {
        let arguments = [
            format!("--local-port={port}"),
            "--mode=publish".into(),
            "--topic=/t".into(),
        ];
        let mut broker = pipe.run(&arguments);
        let peer = inbox.added().await;
        assert_ne!(former, Some(peer.id));
        broker.tells("peer_added", &endpoint).await;
        broker.write("hello");
        assert_eq!(inbox.message().await.1, Data::from("hello"));
        former = Some(peer.id);
        drop(broker);
        assert_eq!(inbox.lost().await, peer.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_dials_a_restarted_muster_again() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let arguments = [
        format!("--peers=[\"{address}\"]"),
        "--mode=publish".into(),
        "--topic=/t".into(),
    ];
    let mut broker = pipe.run(&arguments);
    for id in IDS {
        let (endpoint, mut inbox) = endpoint(id, &["/t"]).await;
        let (stream, from) = within(listener.accept()).await.unwrap();
        let (reader, writer) = stream.into_split();
        endpoint.accept_stream(reader, writer, &from.to_string());
        inbox.added().await;
        broker.tells("peer_added", &endpoint).await;
        broker.write("hello");
        assert_eq!(inbox.message().await.1, Data::from("hello"));
        within(endpoint.shut_down()).await;
        broker.tells("peer_lost", &endpoint).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dialling_each_other_leads_to_one_peering() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    for id in IDS {
        let (endpoint, mut inbox) = endpoint(id, &["/t"]).await;
        let (own, port) = (listening(&endpoint).await, free_port());
        endpoint.dial(&format!("127.0.0.1:{port}"), Some(Duration::from_millis(1)));
        let mut broker = pipe.run(&[
            format!("--local-port={port}"),
            format!("--peers=[\"{own}\"]"),
            "--mode=publish".into(),
            "--topic=/t".into(),
        ]);
        let peer = inbox.added().await;
        broker.tells("peer_added", &endpoint).await;
        for number in 0..200u64 {
            broker.write(&number.to_string());
        }
        for number in 0..200u64 {
            assert_eq!(inbox.message().await.1, Data::from(number.to_string()));
        }
        assert_eq!(endpoint.peers(), [peer]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_node_relays_every_kind_of_value_unchanged() {
    let Some(node) = named("MUSTER_BROKER_NODE") else {
        return;
    };
    for (node_id, dialler) in [("11", PeerOrigin::Dialled), ("ee", PeerOrigin::Accepted)] {
        let (sender, mut at_sender) = endpoint([0x77; 16], &[]).await;
        let (receiver, mut at_receiver) = endpoint([0x78; 16], &["/t"]).await;
        let port = free_port();
        let node_id = format!("{node_id}000000-0000-4000-8000-000000000000");
        let mut arguments = vec![
            format!("--port={port}"),
            format!("--endpoint-id={node_id}"),
            "--topics=[\"/t\"]".to_owned(),
        ];
        if dialler == PeerOrigin::Accepted {
            arguments.push(format!("--peers=[<tcp://{}>]", listening(&sender).await));
        }
        let mut broker = node.run(&arguments);
        let address = format!("127.0.0.1:{port}");
        if dialler == PeerOrigin::Dialled {
            sender.dial(&address, RETRY);
        }
        receiver.dial(&address, RETRY);
        for inbox in [&mut at_sender, &mut at_receiver] {
            assert_eq!(inbox.added().await.id.to_string(), node_id);
        }

        // The node does not say when it knows both peerings.
        let ready = Data::from("ready");
        loop {
            publish(&sender, "/t/x", &ready).await;
            if at_receiver.has_message().await {
                break;
            }
        }
        let values = relayed_values();
        for value in &values {
            publish(&sender, "/t/x", value).await;
        }
        for value in &values {
            let mut received = at_receiver.message().await;
            while received.1 == ready {
                received = at_receiver.message().await;
            }
            assert_eq!(received.0, "/t/x");
            // Unlike values, their bytes tell zeros apart.
            assert_eq!(encode_to_vec(&received.1), encode_to_vec(value), "{value}");
        }
        publish(&sender, "/t", &Data::from("stop")).await;
        assert_eq!(at_receiver.message().await.1, Data::from("stop"));
        assert_eq!(at_receiver.lost().await.to_string(), node_id);
        assert_eq!(at_sender.lost().await.to_string(), node_id);
        assert!(broker.ended().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn muster_answers_the_pings_of_a_broker_node() {
    let Some(node) = named("MUSTER_BROKER_NODE") else {
        return;
    };
    let (endpoint, mut inbox) = endpoint(IDS[1], &["/ping"]).await;
    let mut broker = node.run(&[
        format!("--peers=[<tcp://{}>]", listening(&endpoint).await),
        "--topics=[\"/ping\"]".to_owned(),
        "--mode=ping".to_owned(),
        "--num-messages=20".to_owned(),
        "--payload-size=100".to_owned(),
    ]);
    inbox.added().await;
    let mut number = 0;
    while number < 20 {
        let (_, ping) = inbox.message().await;
        let [kind, count, payload] = ping.as_vector().unwrap() else {
            panic!("{ping}")
        };
        number = count.as_count().unwrap();
        assert_eq!(kind.as_str(), Some("ping"));
        // The node's first ping, which it repeats until it is answered, is empty.
        let size = if number == 0 { 0 } else { 100 };
        assert_eq!(payload.as_str(), Some("x".repeat(size).as_str()));
        publish(
            &endpoint,
            "/ping",
            &Data::vector([Data::from("pong"), count.clone()]),
        )
        .await;
    }
    for _ in 0..20 {
        broker.prints().await.parse::<u64>().unwrap();
    }
    inbox.lost().await;
    assert!(broker.ended().await.success());
}

fn printed_values() -> Vec<(Data, &'static str)> {
    vec![
        (Data::None, "nil"),
        (Data::from(true), "T"),
        (Data::from(u64::MAX), "18446744073709551615"),
        (Data::from(-5i64), "-5"),
        (Data::from(0.5), "0.500000"),
        (Data::Real(f64::NEG_INFINITY), "-inf"),
        (Data::from("text"), "text"),
        (parsed("10.1.2.3"), "10.1.2.3"),
        (parsed("2001:db8::1"), "2001:db8::1"),
        (parsed("10.0.0.0/8"), "10.0.0.0/8"),
        (parsed("2001:db8::/32"), "2001:db8::/32"),
        (parsed("80/tcp"), "80/tcp"),
        (parsed("8/icmp"), "8/icmp"),
        (
            Data::from(Timestamp::from_secs(1_767_323_045)),
            "1767323045000000000ns",
        ),
        (Data::from(Timespan::from_millis(-1_500)), "-1500000000ns"),
        (Data::enum_value("Foo::BAR"), "Foo::BAR"),
        (Data::set([Data::from(1i64), Data::from("x")]), "{1, x}"),
        (Data::table([(Data::from("k"), Data::None)]), "{k -> nil}"),
        (parsed("[[], {}, {->}]"), "((), {}, {})"),
    ]
}

/// Values that the printed form does not tell apart, or not exactly.
fn relayed_values() -> Vec<Data> {
    let mut values: Vec<Data> = printed_values()
        .into_iter()
        .map(|(value, _)| value)
        .collect();
    values.extend([
        Data::from(u64::MIN),
        Data::from(i64::MIN),
        Data::from(f64::MAX),
        Data::from(f64::MIN_POSITIVE),
        Data::from(-0.0),
        Data::from(0.1),
        Data::from(f64::INFINITY),
        Data::from(f64::NAN),
        Data::string([0, 0xff, b'"']),
        Data::string(vec![7; 1 << 20]),
        Data::set([Data::from(1u64), Data::from(1i64), Data::from(1.0)]),
    ]);
    values
}

fn parsed(text: &str) -> Data {
    text.parse().unwrap()
}

fn combinations() -> impl Iterator<Item = ([u8; 16], PeerOrigin)> {
    IDS.into_iter()
        .flat_map(|id| DIALLERS.map(|dialler| (id, dialler)))
}
