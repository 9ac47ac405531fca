//! Large messages: what is as large as may be arrives, by every way, and what is larger is refused by name.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use bytes::Bytes;
use muster::wire::counters::DropCause;
use muster::wire::{Class, EndpointId, QueueLimits, Topic};
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, Outcome, Publisher, Subscriber,
};
use muster_data::Data;
use muster_test_support::within;

/// How long a publisher waits for room.
const ROOM: Duration = Duration::from_secs(60);

/// The size of messages that only show who hears them.
const PROBE: usize = 50;

fn config(id: u8) -> EndpointConfig {
    EndpointConfig {
        id: Some(EndpointId::from_random([id; 16])),
        ..EndpointConfig::default()
    }
}

async fn listening(endpoint: &Endpoint) -> String {
    let address = "127.0.0.1:0".parse().unwrap();
    let address = endpoint.listen(address, Exposure::Guarded).await.unwrap();
    address.to_string()
}

/// A string as an encoded value of so many bytes.
fn value(size: usize) -> Bytes {
    for text in (0..=size).rev().take(16) {
        let encoded = muster_data::encode_to_vec(&Data::from("x".repeat(text)));
        if encoded.len() == size {
            return encoded.into();
        }
    }
    panic!("no string takes {size} bytes");
}

/// Publishes once somebody subscribes to the topic.
async fn publish(publisher: &mut Publisher, topic: &Topic, payload: &Bytes) -> Outcome {
    within(async {
        loop {
            let outcome = publisher
                .publish_encoded_waiting(topic, payload.clone(), ROOM)
                .await;
            if !outcome.no_subscriber() {
                return outcome;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// The size of the next message's payload, probes left out.
async fn next_size(subscriber: &mut Subscriber) -> usize {
    loop {
        if let Delivery::Batch(batch) = within(subscriber.receive()).await.unwrap() {
            let mut sizes = batch.iter().map(|message| message.payload.len());
            if let Some(size) = sizes.find(|size| *size != PROBE) {
                assert_eq!(sizes.next(), None);
                return size;
            }
        }
    }
}

/// In one step, over a relay, and to peers of version 1: the same sizes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_as_large_as_may_be_arrives_by_every_way() {
    let relay = Endpoint::start(config(1)).unwrap();
    let address = listening(&relay).await;
    let mut ends = Vec::new();
    for (id, forwarding) in [
        (2, Forwarding::Leaf),
        (3, Forwarding::Leaf),
        (4, Forwarding::Direct),
    ] {
        let end = EndpointConfig {
            forwarding,
            ..config(id)
        };
        let end = Endpoint::start(end).unwrap();
        within(end.peer(&address, None)).await.unwrap();
        ends.push(end);
    }
    let topic = Topic::new("/large").unwrap();
    let largest = config(1).largest_message() - topic.as_bytes().len();
    let mut at_relay = relay.subscribe(["/large"]).await;
    let mut at_leaf = ends[1].subscribe(["/large"]).await;
    let mut at_direct = ends[2].subscribe(["/large"]).await;
    let mut publisher = ends[0].publisher();
    // All three are known to the publisher, and to those on the way, when they have heard it.
    for subscriber in [&mut at_relay, &mut at_leaf, &mut at_direct] {
        within(async {
            loop {
                let _ = publish(&mut publisher, &topic, &value(PROBE)).await;
                let heard = tokio::time::timeout(Duration::from_millis(20), subscriber.receive());
                if heard.await.is_ok() {
                    return;
                }
            }
        })
        .await;
    }
    for size in [100, largest, 40 << 20, 100, largest] {
        let payload = value(size);
        let outcome = publish(&mut publisher, &topic, &payload).await;
        assert_eq!((outcome.queued_to, outcome.too_large), (1, 0), "{size}");
        for subscriber in [&mut at_relay, &mut at_leaf, &mut at_direct] {
            assert_eq!(next_size(subscriber).await, size);
        }
    }
    let too_large = value(largest + 1);
    let outcome = publish(&mut publisher, &topic, &too_large).await;
    let expected = Outcome {
        dropped: 1,
        too_large: 1,
        ..Outcome::default()
    };
    assert_eq!(outcome, expected);
    let report = &ends[0].counts().peers[0];
    assert_eq!(report.dropped.by_cause()[&DropCause::TooLarge], 1);
    // Nothing ended for it.
    let _ = publish(&mut publisher, &topic, &value(100)).await;
    assert_eq!(next_size(&mut at_leaf).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_too_small_for_a_message_refuses_it_alone() {
    let (left, right) = (
        Endpoint::start(config(1)).unwrap(),
        Endpoint::start(config(2)).unwrap(),
    );
    let small = QueueLimits {
        messages: 100,
        bytes: 1 << 20,
    };
    let mut at_right = right.subscribe_with_statuses(["/t"], small).await;
    let address = listening(&right).await;
    within(left.peer(&address, None)).await.unwrap();
    let (topic, mut publisher) = (Topic::new("/t").unwrap(), left.publisher());
    // Under and over what the subscriber's queue can take: together in one read or not, the large one alone is lost.
    for round in 0..20 {
        for size in [1000, 2 << 20, 1000, 900 << 10] {
            let outcome = publish(&mut publisher, &topic, &value(size)).await;
            assert_eq!(outcome.too_large, 0);
        }
        let mut sizes = Vec::new();
        while sizes.len() < 3 {
            if let Delivery::Batch(batch) = within(at_right.receive()).await.unwrap() {
                sizes.extend(batch.iter().map(|message| message.payload.len()));
            }
        }
        assert_eq!(sizes, [1000, 1000, 900 << 10]);
        let dropped = at_right.depth().dropped.by_cause();
        assert_eq!(dropped[&DropCause::TooLarge], round + 1);
    }
    // What a publisher's own queue cannot take it hears of at once, whatever it waits for.
    let interactive = publisher.publish_as(Class::Interactive, &topic, &vec![0u8; 17 << 20][..]);
    assert_eq!((interactive.dropped, interactive.too_large), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_subscriber_that_cannot_take_a_message_is_told_of() {
    let endpoint = Endpoint::start(config(1)).unwrap();
    let small = QueueLimits {
        messages: 100,
        bytes: 1 << 20,
    };
    let _small = endpoint.subscribe_with_local(["/t"], small).await;
    let topic = Topic::new("/t").unwrap();
    let outcome =
        endpoint
            .local_publisher()
            .unwrap()
            .publish_encoded(&topic, value(2 << 20), Class::Event);
    let expected = Outcome {
        too_large: 1,
        ..Outcome::default()
    };
    assert_eq!(outcome, expected);
    assert!(!outcome.no_subscriber());
}

/// A peer says how large frames it reads; what is larger is dropped before the link, which stands.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_does_not_read_is_not_sent_to_it() {
    let left = Endpoint::start(config(1)).unwrap();
    let right = EndpointConfig {
        frame_limit: 1 << 20,
        ..config(2)
    };
    let most = right.largest_message();
    let right = Endpoint::start(right).unwrap();
    let mut at_right = right.subscribe(["/t"]).await;
    let address = listening(&right).await;
    within(left.peer(&address, None)).await.unwrap();
    let (topic, mut publisher) = (Topic::new("/t").unwrap(), left.publisher());
    let most = most - topic.as_bytes().len();
    for (size, too_large) in [(most, 0), (most + 1, 1), (2 << 20, 1), (most, 0)] {
        let outcome = publish(&mut publisher, &topic, &value(size)).await;
        assert_eq!((outcome.too_large, outcome.dropped), (too_large, too_large));
        if too_large == 0 {
            assert_eq!(next_size(&mut at_right).await, size);
        }
    }
    assert_eq!(left.peers().len(), 1);
}
