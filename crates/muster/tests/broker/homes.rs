//! C++ Broker beside a mesh: it hears and is heard by all through its home.

use std::collections::BTreeSet;
use std::time::Duration;

use muster::{Endpoint, EndpointConfig, Forwarding, PeerOrigin};
use muster_data::Data;
use muster_test_support::within;

use super::support::{Inbox, RETRY, endpoint, listening, named, publish, started};

/// Two linked relays with a leaf at the second one.
struct Mesh {
    relays: [(Endpoint, Inbox); 2],
    leaf: (Endpoint, Inbox),
}

impl Mesh {
    async fn new(prefixes: &[&str]) -> Self {
        let relays = [
            endpoint([0x40; 16], prefixes).await,
            endpoint([0x41; 16], prefixes).await,
        ];
        let config = EndpointConfig {
            forwarding: Forwarding::Leaf,
            ..EndpointConfig::default()
        };
        let leaf = started(config, prefixes).await;
        let [(first, _), (second, _)] = &relays;
        let address = listening(second).await;
        first.dial(&address, RETRY);
        leaf.0.dial(&address, RETRY);
        let all = [first, second, &leaf.0];
        within(async {
            let is_whole = |endpoint: &&Endpoint| {
                let nodes = endpoint.mesh();
                nodes.len() == 3 && nodes.iter().all(|node| node.ready)
            };
            while !all.iter().all(is_whole) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        Self { relays, leaf }
    }
}

/// Two pipes at the first of two relays: what one publishes is heard once at a leaf of the second, the
/// other prints what that leaf publishes, and neither hears the other.
#[tokio::test(flavor = "multi_thread")]
async fn broker_at_one_relay_hears_and_is_heard_in_the_whole_mesh() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    let mut mesh = Mesh::new(&["/up"]).await;
    let [(first, _), (second, _)] = &mesh.relays;
    let accepted = PeerOrigin::Accepted;
    let up = ["--mode=publish", "--topic=/up"];
    let mut up = pipe.start(first, accepted, &up).await;
    let down = ["--mode=subscribe", "--topic=/"];
    let mut down = pipe.start(first, accepted, &down).await;
    up.tells("peer_added", first).await;
    down.tells("peer_added", first).await;

    let mut attempt = 1;
    up.write("attempt 1");
    while !mesh.leaf.1.has_data().await {
        attempt += 1;
        up.write(&format!("attempt {attempt}"));
    }
    let last = Data::from(format!("attempt {attempt}"));
    while mesh.leaf.1.data().await != ("/up".to_owned(), last.clone()) {}
    for number in 0..200u64 {
        up.write(&number.to_string());
    }
    for number in 0..200u64 {
        assert_eq!(mesh.leaf.1.data().await.1, Data::from(number.to_string()));
    }

    // By way of the second relay: the first is told that the pipe wants it.
    publish(&mesh.leaf.0, "/down", &Data::from(1u64)).await;
    for number in 2..200u64 {
        publish(&mesh.leaf.0, "/down", &Data::from(number)).await;
    }
    publish(second, "/down", &Data::from(200u64)).await;
    let mut printed = Vec::new();
    while printed.len() < 200 {
        printed.push(down.prints().await);
    }
    // Two authors have no order between them.
    let at = printed.iter().position(|it| *it == "data(/down, 200)");
    printed.remove(at.unwrap());
    for (number, printed) in (1..200u64).zip(printed) {
        assert_eq!(printed, format!("data(/down, {number})"));
    }
    // Nothing came twice: what is published now comes next.
    publish(second, "/down", &Data::from(201u64)).await;
    assert_eq!(down.prints().await, "data(/down, 201)");
}

/// A Broker that forwards, between two relays: what one of them sends to it would come to the other, and
/// be relayed from there. That is found out; then its home alone has to do with it, and all is heard once.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_forwards_between_two_relays_makes_no_loop() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    let mut mesh = Mesh::new(&["/t"]).await;
    let mut addresses = Vec::new();
    for (relay, _) in &mesh.relays {
        addresses.push(format!("\"{}\"", listening(relay).await));
    }
    let arguments = [
        format!("--peers=[{}]", addresses.join(",")),
        "--mode=subscribe".to_owned(),
        "--topic=/t".to_owned(),
    ];
    let mut broker = pipe.run(&arguments);
    for (relay, _) in &mesh.relays {
        broker.tells("peer_added", relay).await;
    }
    // Both relays have announced it, one of them as its home, the other that it forwards, and all know.
    within(async {
        let is_known = |endpoint: &Endpoint| {
            let nodes = endpoint.mesh();
            let guests = nodes.iter().flat_map(|node| &node.guests);
            let homes = guests.clone().filter(|guest| guest.filter.is_some());
            let forwarding = guests.clone().filter(|guest| guest.forwards);
            (guests.count(), homes.count(), forwarding.count()) == (2, 1, 1)
        };
        let [(first, _), (second, _)] = &mesh.relays;
        while ![first, second, &mesh.leaf.0].into_iter().all(is_known) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let [first, second] = &mut mesh.relays;
    let mut all = [&mut mesh.leaf, first, second];
    for number in 0..50u64 {
        for (at, (endpoint, _)) in (0u64..).zip(&all) {
            publish(endpoint, "/t", &Data::from(at * 100 + number)).await;
        }
    }
    let mut printed = BTreeSet::new();
    while printed.len() < 150 {
        let line = broker.prints().await;
        assert!(printed.insert(line.clone()), "{line} came twice");
    }
    // What would go around would do so many thousand times a second.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(broker.output.try_recv().is_err());
    for (_, inbox) in &mut all {
        let mut heard = BTreeSet::new();
        while inbox.has_data().await {
            let (_, value) = inbox.data().await;
            assert!(heard.insert(value.to_string()), "{value} came twice");
        }
        assert_eq!(heard.len(), 100);
    }
}
