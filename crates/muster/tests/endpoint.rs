//! Endpoints over real sockets on loopback: peering, publishing, and what hostile peers can do.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/raw.rs"]
mod raw;

use std::time::{Duration, Instant};

use muster::wire::counters::{DropCause, DropLedger};
use muster::wire::envelope::EnvelopeError;
use muster::wire::peering::HandshakeError;
use muster::wire::{EndpointId, FilterError, Overflow, QueueLimits, Topic};
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, ListenError, LocalTransport,
    LossReason, PeerError, Status, Subscriber, UnavailableReason,
};
use muster_data::{Data, DataRef};
use muster_test_support::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use raw::{RAW_ID, raw_message, raw_peer};

const RETRY: Option<Duration> = Some(Duration::from_millis(50));
const LIMITS: QueueLimits = QueueLimits {
    messages: 1000,
    bytes: 1 << 20,
};

/// Tests of what depends on how connections come about and end.
macro_rules! over_both {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use super::LocalTransport;

            #[tokio::test(flavor = "multi_thread")]
            async fn over_unix_sockets() {
                super::$name(LocalTransport::Auto).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn over_tcp() {
                super::$name(LocalTransport::Off).await;
            }
        }
    )+};
}

over_both! {
    both_id_orders_peer_and_deliver_in_both_directions,
    a_removed_peer_gets_what_was_published_before_and_is_told_apart_from_a_lost_one,
    a_lost_peer_is_dialled_again_and_is_a_new_life,
    endpoints_that_dial_each_other_have_one_peering,
    peering_with_an_endpoint_that_has_dialled_already_finds_that_peering,
    two_goodbyes_at_once_take_no_time_out,
    dialling_nobody_or_oneself_says_why,
}

fn endpoint(id: u8) -> Endpoint {
    endpoint_over(LocalTransport::Auto, id)
}

fn endpoint_over(local: LocalTransport, id: u8) -> Endpoint {
    let config = EndpointConfig {
        id: Some(EndpointId::from_random([id; 16])),
        local,
        ..EndpointConfig::default()
    };
    Endpoint::start(config).unwrap()
}

async fn listening(endpoint: &Endpoint) -> String {
    let address = "127.0.0.1:0".parse().unwrap();
    endpoint
        .listen(address, Exposure::Guarded)
        .await
        .unwrap()
        .to_string()
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

/// Waits for the next message, as (topic, value).
async fn next_message(subscriber: &mut Subscriber) -> (String, Data) {
    loop {
        if let Delivery::Batch(batch) = within(subscriber.receive()).await.unwrap() {
            assert_eq!(batch.len(), 1, "one message at a time here");
            let message = batch.iter().next().unwrap();
            let value = DataRef::from_validated(message.payload).to_data();
            return (message.topic.to_string(), value);
        }
    }
}

/// Waits for the next change of a peering.
async fn next_status(subscriber: &mut Subscriber) -> Status {
    loop {
        match within(subscriber.receive()).await.unwrap() {
            Delivery::Status(Status::EndpointDiscovered(_) | Status::EndpointUnreachable(_))
            | Delivery::Batch(_) => {}
            Delivery::Status(status) => return status,
        }
    }
}

/// Publishes until a peer's filter has arrived and the message is queued.
async fn publish_when_subscribed(endpoint: &Endpoint, to: &str, value: &Data) {
    let mut publisher = endpoint.publisher();
    within(async {
        loop {
            if !publisher.publish(&topic(to), value).no_subscriber() {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn both_id_orders_peer_and_deliver_in_both_directions(local: LocalTransport) {
    for (dialler_id, acceptor_id) in [(1, 2), (2, 1)] {
        let (dialler, acceptor) = (
            endpoint_over(local, dialler_id),
            endpoint_over(local, acceptor_id),
        );
        let mut at_dialler = dialler.subscribe(["/to-dialler"]).await;
        let mut at_acceptor = acceptor.subscribe(["/to-acceptor"]).await;
        let address = listening(&acceptor).await;
        let peer = within(dialler.peer(&address, None)).await.unwrap();
        assert_eq!(peer.id, acceptor.id());

        publish_when_subscribed(&dialler, "/to-acceptor/x", &Data::from(7u64)).await;
        let received = next_message(&mut at_acceptor).await;
        assert_eq!(received, ("/to-acceptor/x".to_owned(), Data::from(7u64)));
        publish_when_subscribed(&acceptor, "/to-dialler", &Data::from("hi")).await;
        assert_eq!(next_message(&mut at_dialler).await.1, Data::from("hi"));

        let nobody = dialler
            .publisher()
            .publish(&topic("/elsewhere"), &Data::None);
        assert!(nobody.no_subscriber());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_made_and_ended_while_peered_reach_the_peer() {
    let (left, right) = (endpoint(1), endpoint(2));
    let address = listening(&right).await;
    within(left.peer(&address, None)).await.unwrap();
    let mut subscriber = right.subscribe::<[&str; 0]>([]).await;
    subscriber.subscribe("/late").await;
    publish_when_subscribed(&left, "/late", &Data::None).await;
    next_message(&mut subscriber).await;
    drop(subscriber);
    within(async {
        while !left
            .publisher()
            .publish(&topic("/late"), &Data::None)
            .no_subscriber()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// One of two overlapping subscriptions ends: the peer goes on sending what the other one covers.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_subscriptions_can_end() {
    let (left, right) = (endpoint(1), endpoint(2));
    let address = listening(&right).await;
    within(left.peer(&address, None)).await.unwrap();
    let mut subscriber = right.subscribe(["/a", "/a/b", "/c"]).await;
    publish_when_subscribed(&left, "/a/x", &Data::None).await;
    next_message(&mut subscriber).await;
    subscriber.unsubscribe("/a").await;
    within(async {
        while !left
            .publisher()
            .publish(&topic("/a/x"), &Data::None)
            .no_subscriber()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for covered in ["/a/b/x", "/c"] {
        assert_eq!(
            left.publisher()
                .publish(&topic(covered), &Data::None)
                .queued_to,
            1
        );
    }
}

/// A peering runs over any byte stream: here through a relay that knows nothing of it, into memory
/// that holds fewer bytes than a frame.
#[tokio::test(flavor = "multi_thread")]
async fn a_peering_runs_over_a_stream_that_is_no_socket() {
    let (dialler, acceptor) = (endpoint(1), endpoint(2));
    let mut subscriber = acceptor.subscribe(["/t"]).await;
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = relay.local_addr().unwrap().to_string();
    let (mut outside, inside) = tokio::io::duplex(16);
    let (reader, writer) = tokio::io::split(inside);
    acceptor.accept_stream(reader, writer, "memory");
    tokio::spawn(async move {
        let (mut stream, _) = relay.accept().await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut outside).await;
    });
    within(dialler.peer(&address, None)).await.unwrap();
    publish_when_subscribed(&dialler, "/t", &Data::from("through memory")).await;
    assert_eq!(
        next_message(&mut subscriber).await.1,
        Data::from("through memory")
    );
    assert_eq!(acceptor.peers()[0].address, "memory");
}

/// A stream whose other end is no peer counts like a connection that was refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_handshake_is_counted() {
    let endpoint = endpoint(1);
    let (mut outside, inside) = tokio::io::duplex(1024);
    let (reader, writer) = tokio::io::split(inside);
    endpoint.accept_stream(reader, writer, "memory");
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    outside.write_all(request).await.unwrap();
    within(async {
        while endpoint.counts().connections_refused < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn a_removed_peer_gets_what_was_published_before_and_is_told_apart_from_a_lost_one(
    local: LocalTransport,
) {
    let (left, right) = (endpoint_over(local, 1), endpoint_over(local, 2));
    let address = listening(&right).await;
    let mut at_right = right.subscribe_with_statuses(["/t"], LIMITS).await;
    let mut at_left = left.subscribe_with_statuses::<[&str; 0]>([], LIMITS).await;
    within(left.peer(&address, RETRY)).await.unwrap();
    assert!(
        matches!(next_status(&mut at_left).await, Status::PeerAdded(peer) if peer.id == right.id())
    );
    for number in 0..500u64 {
        let _ = left.publisher().publish(&topic("/t"), &number);
    }
    assert!(within(left.unpeer(right.id())).await);
    assert!(matches!(
        next_status(&mut at_left).await,
        Status::PeerRemoved { .. }
    ));
    let mut received = 0;
    loop {
        match within(at_right.receive()).await.unwrap() {
            Delivery::Batch(batch) => received += batch.len(),
            Delivery::Status(Status::PeerLost { .. }) => break,
            Delivery::Status(status) => {
                assert!(!matches!(status, Status::PeerRemoved { .. }), "{status}");
            }
        }
    }
    assert_eq!(received, 500);
    assert!(left.peers().is_empty());
}

async fn a_lost_peer_is_dialled_again_and_is_a_new_life(local: LocalTransport) {
    let dialler = endpoint_over(local, 1);
    let mut statuses = dialler
        .subscribe_with_statuses::<[&str; 0]>([], LIMITS)
        .await;
    let first = endpoint_over(local, 2);
    let address = listening(&first).await;
    dialler.dial(&address, RETRY);
    assert!(matches!(next_status(&mut statuses).await, Status::PeerAdded(p) if p.id == first.id()));
    first.shut_down().await;
    assert!(
        matches!(next_status(&mut statuses).await, Status::PeerLost { peer, .. } if peer.id == first.id())
    );
    let second = endpoint_over(local, 3);
    let free = address.parse().unwrap();
    within(async {
        // The first one's listener ends in a task of its own.
        while second.listen(free, Exposure::Guarded).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    loop {
        match next_status(&mut statuses).await {
            Status::PeerUnavailable { .. } => {}
            Status::PeerAdded(peer) => break assert_eq!(peer.id, second.id()),
            other => panic!("unexpected {other}"),
        }
    }
}

async fn endpoints_that_dial_each_other_have_one_peering(local: LocalTransport) {
    let (left, right) = (endpoint_over(local, 1), endpoint_over(local, 2));
    let (left_address, right_address) = (listening(&left).await, listening(&right).await);
    let mut statuses = left.subscribe_with_statuses(["/t"], LIMITS).await;
    left.dial(&right_address, RETRY);
    right.dial(&left_address, RETRY);
    assert!(matches!(
        next_status(&mut statuses).await,
        Status::PeerAdded(_)
    ));
    for _ in 0..20 {
        publish_when_subscribed(&right, "/t", &Data::None).await;
        next_message(&mut statuses).await;
    }
    assert_eq!((left.peers().len(), right.peers().len()), (1, 1));
}

/// `peer` waited for ever, or said that the endpoint had ended, when the other side had dialled first.
async fn peering_with_an_endpoint_that_has_dialled_already_finds_that_peering(
    local: LocalTransport,
) {
    for (own_id, other_id) in [(1, 2), (2, 1)] {
        for retry in [None, RETRY] {
            let (own, other) = (endpoint_over(local, own_id), endpoint_over(local, other_id));
            let (own_address, other_address) = (listening(&own).await, listening(&other).await);
            within(other.peer(&own_address, None)).await.unwrap();
            let found = within(own.peer(&other_address, retry)).await.unwrap();
            assert_eq!(found.id, other.id());
            assert_eq!(own.peers(), [found]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peering_with_an_address_that_is_being_dialled_waits_for_that_dial() {
    let (own, other) = (endpoint(1), endpoint(2));
    let mut statuses = own.subscribe_with_statuses::<[&str; 0]>([], LIMITS).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    own.dial(&address, RETRY);
    assert!(matches!(
        next_status(&mut statuses).await,
        Status::PeerUnavailable { .. }
    ));
    let second = own.peer(&address, RETRY);
    let listen = async {
        tokio::task::yield_now().await;
        let address = address.parse().unwrap();
        other.listen(address, Exposure::Guarded).await.unwrap();
    };
    let (peer, ()) = within(async { tokio::join!(second, listen) }).await;
    assert_eq!(peer.unwrap().id, other.id());
}

async fn dialling_nobody_or_oneself_says_why(local: LocalTransport) {
    let lonely = endpoint_over(local, 1);
    let address = listening(&lonely).await;
    let own = within(lonely.peer(&address, None)).await.unwrap_err();
    let reason = UnavailableReason::Handshake(HandshakeError::OwnId);
    assert_eq!(own, PeerError::Unavailable { address, reason });
    let nobody = within(lonely.peer("127.0.0.1:1", None)).await.unwrap_err();
    assert!(matches!(nobody, PeerError::Unavailable { .. }));
    let outside = lonely
        .listen("0.0.0.0:0".parse().unwrap(), Exposure::Guarded)
        .await;
    assert!(matches!(outside, Err(ListenError::Exposed { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_cost_themselves_and_malformed_framing_costs_the_peering() {
    let victim = endpoint(1);
    let address = listening(&victim).await;
    let mut subscriber = victim.subscribe_with_statuses(["/t"], LIMITS).await;
    let mut raw = raw_peer(&address, &[0]).await;
    assert!(matches!(
        next_status(&mut subscriber).await,
        Status::PeerAdded(_)
    ));
    let good = [2, 0, 0, 0, 0, 0, 0, 0, 5];
    let nested = [0x0e, 0x01].repeat(200_000);
    for bad in [
        raw_message(1, RAW_ID, "/t", &[15]),
        raw_message(1, RAW_ID, "/t", &[2, 0]),
        raw_message(1, RAW_ID, "/t", &nested),
        raw_message(1, [7; 16], "/t", &good),
        raw_message(1, RAW_ID, "<$>/local/data/statuses", &good),
        raw_message(9, RAW_ID, "/t", &good),
        vec![0, 0, 0, 0],
        vec![0, 0, 0, 3, 1, 2, 3],
    ] {
        raw.write_all(&bad).await.unwrap();
    }
    // Byte by byte, so that every cut inside a frame is seen.
    for byte in raw_message(1, RAW_ID, "/t", &good) {
        raw.write_all(&[byte]).await.unwrap();
        raw.flush().await.unwrap();
    }
    assert_eq!(
        next_message(&mut subscriber).await,
        ("/t".to_owned(), Data::from(5u64))
    );
    let report = victim.counts().peers.remove(0);
    assert_eq!(report.refused.total(), 7);

    raw.write_all(&[0xff, 0xff, 0xff, 0xff, 0]).await.unwrap();
    match next_status(&mut subscriber).await {
        Status::PeerLost {
            reason: LossReason::Frame(_),
            ..
        } => {}
        other => panic!("unexpected {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_is_answered_and_a_broken_routing_update_ends_the_peering() {
    let victim = endpoint(1);
    let address = listening(&victim).await;
    let mut statuses = victim
        .subscribe_with_statuses::<[&str; 0]>([], LIMITS)
        .await;
    let mut raw = raw_peer(&address, &[0]).await;
    raw.write_all(&raw_message(4, RAW_ID, "<$>", b"echo"))
        .await
        .unwrap();
    let mut pong = [0; 4 + 37 + 3 + 4];
    within(raw.read_exact(&mut pong)).await.unwrap();
    assert_eq!((pong[36], &pong[44..]), (5, &b"echo"[..]));
    assert!(matches!(
        next_status(&mut statuses).await,
        Status::PeerAdded(_)
    ));
    raw.write_all(&raw_message(3, RAW_ID, "<$>", &[1, 200]))
        .await
        .unwrap();
    match next_status(&mut statuses).await {
        Status::PeerLost { reason, .. } => {
            let malformed = EnvelopeError::Filter(FilterError::Malformed);
            assert_eq!(reason, LossReason::Envelope(malformed));
        }
        other => panic!("unexpected {other}"),
    }
}

/// What one read brought before the last frame of a peering was lost.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_arrive_together_with_the_end_of_a_peering_are_delivered() {
    let victim = endpoint(1);
    let address = listening(&victim).await;
    let mut subscriber = victim.subscribe_with_statuses(["/t"], LIMITS).await;
    let last_message = raw_message(1, RAW_ID, "/t", &[0]);

    let mut raw = raw_peer(&address, &[0]).await;
    assert!(matches!(
        next_status(&mut subscriber).await,
        Status::PeerAdded(_)
    ));
    let oversized = [0xff; 4];
    let together = [&last_message[..], &oversized].concat();
    raw.write_all(&together).await.unwrap();
    assert_eq!(next_message(&mut subscriber).await.1, Data::None);
    assert!(matches!(
        next_status(&mut subscriber).await,
        Status::PeerLost { .. }
    ));

    let mut raw = raw_peer(&address, &[0]).await;
    assert!(matches!(
        next_status(&mut subscriber).await,
        Status::PeerAdded(_)
    ));
    let answer = async {
        let mut bye = [0; 4 + 37 + 3 + 11];
        raw.read_exact(&mut bye).await.unwrap();
        let pong = raw_message(5, RAW_ID, "<$>", &bye[44..]);
        let together = [last_message, pong].concat();
        raw.write_all(&together).await.unwrap();
    };
    let (removed, ()) =
        within(async { tokio::join!(victim.unpeer(EndpointId::from_bytes(RAW_ID)), answer) }).await;
    assert!(removed);
    assert_eq!(next_message(&mut subscriber).await.1, Data::None);
    assert!(matches!(
        next_status(&mut subscriber).await,
        Status::PeerRemoved { .. }
    ));
}

/// A pong that nobody asked for is nothing, even one that confirms a goodbye that nobody said.
#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered_and_unasked_pongs_ignored() {
    let (left, right) = (endpoint(1), endpoint(2));
    let address = listening(&right).await;
    let peer = within(left.peer(&address, None)).await.unwrap();
    assert!(within(left.ping(peer.id)).await.is_some());
    assert!(left.ping(left.id()).await.is_none());
    let mut raw = raw_peer(&address, &[0]).await;
    for content in [&b"BYE12345678"[..], &[0; 8], b"x"] {
        raw.write_all(&raw_message(5, RAW_ID, "<$>", content))
            .await
            .unwrap();
    }
    raw.write_all(&raw_message(4, RAW_ID, "<$>", b"echo"))
        .await
        .unwrap();
    let mut pong = [0; 4 + 37 + 3 + 4];
    within(raw.read_exact(&mut pong)).await.unwrap();
    assert_eq!(right.peers().len(), 2);
}

/// A peer that subscribes to everything and never reads costs its own bounded queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_costs_only_itself() {
    let config = EndpointConfig {
        id: Some(EndpointId::from_random([1; 16])),
        data_queue: QueueLimits {
            messages: 100,
            bytes: 1 << 20,
        },
        overflow: Overflow::DropOldest,
        ..EndpointConfig::default()
    };
    let hub = Endpoint::start(config).unwrap();
    let address = listening(&hub).await;
    let frozen = raw_peer(&address, &[1, 0]).await;
    let reader = endpoint(3);
    let mut subscriber = reader.subscribe(["/t"]).await;
    within(reader.peer(&address, None)).await.unwrap();
    within(async {
        while hub.peers().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let payload = vec![7u8; 60_000];
    let mut publisher = hub.publisher();
    let mut received = 0;
    for round in 0..400 {
        let _ = publisher.publish(&topic("/t"), &Data::String(payload.clone().into()));
        while received <= round {
            if let Delivery::Batch(batch) = within(subscriber.receive()).await.unwrap() {
                received += batch.len();
            }
        }
    }
    let counts = hub.counts();
    let of = |id: EndpointId| {
        counts
            .peers
            .iter()
            .find(|p| p.peer.id == id)
            .unwrap()
            .clone()
    };
    assert_eq!(of(reader.id()).dropped.total(), 0);
    let frozen_report = of(EndpointId::from_bytes(RAW_ID));
    assert!(frozen_report.dropped.total() > 0);
    assert!(frozen_report.queued_bytes <= 1 << 20);
    drop(frozen);
}

/// One slow subscriber to a hundredth of the traffic must not keep the read buffers alive.
#[tokio::test(flavor = "multi_thread")]
async fn few_queued_messages_do_not_pin_large_read_buffers() {
    let (left, right) = (endpoint(1), endpoint(2));
    let slow = right.subscribe(["/rare"]).await;
    let mut fast = right.subscribe(["/often"]).await;
    let address = listening(&right).await;
    within(left.peer(&address, None)).await.unwrap();
    let mut publisher = left.publisher();
    let (often, rare) = (topic("/often"), topic("/rare"));
    for number in 0..20_000u64 {
        let to = if number % 100 == 0 { &rare } else { &often };
        let limit = Duration::from_secs(10);
        let _ = publisher.publish_blocking(to, &[number; 8][..], limit);
    }
    let mut received = 0;
    while received < 19_800 {
        if let Delivery::Batch(batch) = within(fast.receive()).await.unwrap() {
            received += batch.len();
        }
    }
    // The last read's batch for this subscriber may come a moment after the other's.
    within(async {
        while slow.depth().messages < 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let muster::QueueDepth {
        messages,
        bytes,
        dropped,
    } = slow.depth();
    assert_eq!((messages, dropped.total()), (200, 0));
    assert!(
        bytes < 200 * 1024,
        "{bytes} bytes for 200 messages of 80 bytes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_keep_others_out() {
    let config = EndpointConfig {
        max_handshakes: 16,
        ..EndpointConfig::default()
    };
    let hub = Endpoint::start(config).unwrap();
    let address = listening(&hub).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let guest = endpoint(9);
    // On a busy machine some of the silent ones are accepted after the guest: it dials again.
    within(guest.peer(&address, RETRY)).await.unwrap();
    // The oldest ones were closed: their end of file comes behind the probe.
    let mut rest = Vec::new();
    within(silent[0].read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_handshake_is_refused_at_once() {
    let hub = endpoint(1);
    let address = listening(&hub).await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 40],
        &[0, 0, 0, 1, 200],
        &[0; 64],
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut rest = Vec::new();
        // A reset is as good an end as an orderly close.
        let _ = within(stream.read_to_end(&mut rest)).await;
    }
    assert!(hub.peers().is_empty());
}

/// A publisher that waits loses nothing, however small the queue; one that does not is told.
#[tokio::test(flavor = "multi_thread")]
async fn publishers_that_wait_are_slowed_down_and_others_are_told_of_drops() {
    let config = EndpointConfig {
        data_queue: QueueLimits {
            messages: 4,
            bytes: 1 << 20,
        },
        overflow: Overflow::DropNewest,
        ..EndpointConfig::default()
    };
    let left = Endpoint::start(config).unwrap();
    let right = endpoint(2);
    let mut subscriber = right.subscribe(["/t"]).await;
    let address = listening(&right).await;
    within(left.peer(&address, None)).await.unwrap();
    let mut publisher = left.publisher();
    let limit = Duration::from_secs(10);
    for number in 0..1000u64 {
        let outcome = within(publisher.publish_waiting(&topic("/t"), &number, limit)).await;
        assert_eq!((outcome.queued_to, outcome.dropped), (1, 0));
    }
    let blocking = tokio::task::spawn_blocking(move || {
        let publish = |number: u64| {
            publisher
                .publish_blocking(&topic("/t"), &number, limit)
                .dropped
        };
        (1000..2000).map(publish).sum::<usize>()
    });
    assert_eq!(blocking.await.unwrap(), 0);
    let mut received = 0;
    while received < 2000 {
        if let Delivery::Batch(batch) = within(subscriber.receive()).await.unwrap() {
            received += batch.len();
        }
    }
    let mut publisher = left.publisher();
    let dropped: usize = (0..10_000u64)
        .map(|n| publisher.publish(&topic("/t"), &n).dropped)
        .sum();
    assert_eq!(left.counts().peers[0].dropped.total(), dropped as u64);
}

/// A connection that ends right behind its handshake leaves no peer behind.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_end_with_their_handshake_leave_no_peer() {
    // Without a mesh, to which three hundred guests in a row would be announced with some rest.
    let direct = || EndpointConfig {
        forwarding: Forwarding::Direct,
        ..EndpointConfig::default()
    };
    let hub = Endpoint::start(direct()).unwrap();
    let address = listening(&hub).await;
    for _ in 0..300 {
        let guest = Endpoint::start(direct()).unwrap();
        within(guest.peer(&address, None)).await.unwrap();
        within(guest.shut_down()).await;
    }
    within(async {
        while !hub.peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Two endpoints that say goodbye at the same time answer each other.
async fn two_goodbyes_at_once_take_no_time_out(local: LocalTransport) {
    for _ in 0..30 {
        let left = Endpoint::start(EndpointConfig {
            local,
            ..EndpointConfig::default()
        })
        .unwrap();
        let right = Endpoint::start(EndpointConfig {
            local,
            ..EndpointConfig::default()
        })
        .unwrap();
        let address = listening(&right).await;
        within(left.peer(&address, None)).await.unwrap();
        within(async {
            while right.peers().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let start = Instant::now();
        tokio::join!(left.shut_down(), right.shut_down());
        let took = start.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

/// An address that is unpeered during its handshake does not become a peer.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_unpeered_in_its_handshake_is_no_peer() {
    for round in 0..200 {
        let left = Endpoint::start(EndpointConfig::default()).unwrap();
        let right = Endpoint::start(EndpointConfig::default()).unwrap();
        let address = listening(&right).await;
        left.dial(&address, RETRY);
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(round * 4) {
            tokio::task::yield_now().await;
        }
        if left.unpeer_address(&address).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(left.peers().is_empty(), "round {round}");
            // The address can be dialled again at once.
            within(left.peer(&address, None)).await.unwrap();
        }
    }
}

/// Many tasks that wait for the same little room do not displace each other's messages.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_wait_for_the_same_room_lose_nothing() {
    let config = EndpointConfig {
        data_queue: QueueLimits {
            messages: 4,
            bytes: 1 << 20,
        },
        ..EndpointConfig::default()
    };
    let left = Endpoint::start(config).unwrap();
    let right = endpoint(2);
    let mut subscriber = right.subscribe(["/t"]).await;
    let address = listening(&right).await;
    within(left.peer(&address, None)).await.unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let mut publisher = left.publisher();
            tokio::spawn(async move {
                let limit = Duration::from_secs(30);
                let mut lost = 0;
                for number in 0..200u64 {
                    let outcome = publisher
                        .publish_waiting(&topic("/t"), &number, limit)
                        .await;
                    lost += outcome.displaced + outcome.dropped;
                }
                lost
            })
        })
        .collect();
    let mut lost = 0;
    for task in tasks {
        lost += task.await.unwrap();
    }
    assert_eq!(lost, 0);
    let mut received = 0;
    while received < 64 * 200 {
        if let Delivery::Batch(batch) = within(subscriber.receive()).await.unwrap() {
            received += batch.len();
        }
    }
}

/// No count is lost with its peer: neither while it is leaving, nor when the endpoint ends first.
#[tokio::test(flavor = "multi_thread")]
async fn counts_stay_when_peers_leave_and_when_the_endpoint_ends() {
    let config = EndpointConfig {
        // Longer than a busy machine takes to look at the counts of the peer that is leaving.
        bye_timeout: Duration::from_secs(1),
        ..EndpointConfig::default()
    };
    let hub = Endpoint::start(config).unwrap();
    let address = listening(&hub).await;
    for _ in 0..100 {
        let guest = endpoint(7);
        within(guest.peer(&address, RETRY)).await.unwrap();
        within(guest.shut_down()).await;
    }
    let frozen = raw_peer(&address, &[1, 0]).await;
    let sum = |endpoint: &Endpoint| {
        let peers = endpoint.counts().peers;
        let messages: u64 = peers
            .iter()
            .map(|p| p.messages_out + p.queued as u64 + p.dropped.total())
            .sum();
        (peers.len(), messages)
    };
    within(async {
        while !hub
            .peers()
            .iter()
            .map(|p| p.id)
            .eq([EndpointId::from_bytes(RAW_ID)])
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let payload = Data::String(vec![7u8; 60_000].into());
    for _ in 0..200 {
        publish_when_subscribed(&hub, "/t", &payload).await;
    }
    // What the writer holds is in none of the numbers, until it is written or lost.
    let unpeered = hub.unpeer(EndpointId::from_bytes(RAW_ID)).await;
    assert!(unpeered && hub.peers().is_empty());
    let counts = hub.counts().peers;
    assert!(counts[0].connected && counts[0].queued > 0, "still leaving");
    within(hub.shut_down()).await;
    within(async {
        while sum(&hub) != (2, 200) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(frozen);
}

/// What a subscriber leaves behind is counted as dropped.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_a_dropped_subscriber_leaves_are_counted() {
    let (left, right) = (endpoint(1), endpoint(2));
    let mut subscriber = right.subscribe(["/t"]).await;
    let watcher = right.subscribe(["/t"]).await;
    let address = listening(&right).await;
    within(left.peer(&address, None)).await.unwrap();
    let mut publisher = left.publisher();
    for number in 0..100u64 {
        let _ = publisher.publish(&topic("/t"), &number);
    }
    within(async {
        while watcher.depth().messages < 100 || subscriber.depth().messages < 100 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let first = match within(subscriber.receive()).await.unwrap() {
        Delivery::Batch(batch) => batch.len() as u64,
        Delivery::Status(status) => panic!("{status}"),
    };
    drop(subscriber);
    let closed = |dropped: DropLedger| {
        let by_cause = dropped.by_cause();
        by_cause.get(&DropCause::Closed).copied().unwrap_or(0)
    };
    let expected = 100 - first;
    for _ in 0..20 {
        assert_eq!(closed(right.counts().subscribers_dropped), expected);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The other one still holds its messages at the endpoint's end, and can take them.
    within(right.shut_down()).await;
    assert_eq!(closed(watcher.depth().dropped), 0);
    drop(watcher);
    let dropped = right.counts().subscribers_dropped;
    assert_eq!(closed(dropped), expected + 100);
}
