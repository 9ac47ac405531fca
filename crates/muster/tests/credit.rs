//! Credit: a receiver bounds what it can be sent, and a slow one slows the publisher down instead of
//! losing messages.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use muster::wire::{Class, QueueLimits, Topic};
use muster::{Credit, Delivery, Endpoint, EndpointConfig, Exposure, Subscriber};
use muster_data::{Data, DataRef};
use muster_test_support::within;

const WAIT: Duration = Duration::from_secs(20);

/// Queues of a thousand messages, and credit for some two hundred of a kilobyte.
fn config() -> EndpointConfig {
    let limits = QueueLimits {
        messages: 1000,
        bytes: 64 << 20,
    };
    EndpointConfig {
        data_queue: limits,
        subscriber_queue: limits,
        credit: Credit {
            link: 256 << 10,
            all: 256 << 10,
        },
        ..EndpointConfig::default()
    }
}

/// A publishing endpoint and a receiving one, which subscribes to each of some prefixes.
async fn pair<const N: usize>(
    config: &EndpointConfig,
    prefixes: [&str; N],
) -> (Endpoint, Endpoint, [Subscriber; N]) {
    let from = Endpoint::start(config.clone()).unwrap();
    let to = Endpoint::start(config.clone()).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let address = to.listen(address, Exposure::Guarded).await.unwrap();
    let mut subscribers = Vec::new();
    for prefix in prefixes {
        subscribers.push(to.subscribe([prefix]).await);
    }
    within(from.peer(&address.to_string(), None)).await.unwrap();
    within(async {
        while !from.mesh().iter().any(|node| node.id == to.id()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    (from, to, subscribers.try_into().unwrap())
}

/// The next messages: how many, and the last one's number.
async fn next(subscriber: &mut Subscriber) -> (usize, u64) {
    loop {
        if let Some(Delivery::Batch(batch)) = within(subscriber.receive()).await {
            let last = batch.iter().last().unwrap();
            let text = DataRef::from_validated(last.payload).to_data().to_string();
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            return (batch.len(), digits.parse().unwrap());
        }
    }
}

fn value(number: u64) -> Data {
    Data::from(format!("{number:01000}"))
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn waits(endpoint: &Endpoint) -> u64 {
    endpoint
        .counts()
        .peers
        .iter()
        .map(|peer| peer.credit_waits)
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_slows_the_publisher_down_and_loses_nothing() {
    let (from, to, [mut slow]) = pair(&config(), ["/t"]).await;
    let publishing = tokio::spawn(async move {
        let mut publisher = from.publisher();
        for number in 1..=6000 {
            let outcome = publisher
                .publish_waiting(&topic("/t"), &value(number), WAIT)
                .await;
            assert_eq!((outcome.queued_to, outcome.dropped), (1, 0));
        }
        from
    });
    let (mut heard, mut last) = (0, 0);
    while last < 6000 {
        let (messages, number) = next(&mut slow).await;
        heard += messages;
        last = number;
        // Some 20 milliseconds for a whole queue of these, two and more for what is sent in one.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(heard, 6000);
    assert_eq!(slow.depth().dropped.total(), 0);
    let from = publishing.await.unwrap();
    assert!(waits(&from) > 0);
    assert_eq!(from.counts().peers[0].dropped.total(), 0);
    drop(to);
}

/// Publishes until queue and credit are full. Returns `false` if they never are.
async fn fills(from: &Endpoint) -> bool {
    let mut publisher = from.publisher();
    let limit = Duration::from_millis(10);
    for number in 0..10_000 {
        let (topic, message) = (topic("/t/1"), value(number));
        let sent = publisher.publish_waiting(&topic, &message, limit).await;
        if sent.dropped > 0 {
            // Nothing was lost before.
            assert!(number >= 1500, "{number}");
            return true;
        }
    }
    false
}

/// Whoever takes nothing is waited for, for a second, and then loses messages; the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_takes_nothing_stops_its_class_for_a_second_and_no_other() {
    // A machine that is busy for the second in which the class waits lets the publisher see nothing of it.
    let mut attempts = 0;
    let (from, _to, [stuck, mut asked, mut fast]) = loop {
        let pair = pair(&config(), ["/t", "/ask", "/t/2"]).await;
        if fills(&pair.0).await {
            break pair;
        }
        attempts += 1;
        assert!(attempts < 10, "the stuck subscriber holds nobody up");
    };
    let mut publisher = from.publisher();
    assert_eq!(stuck.depth().dropped.total(), 0);
    let _ = publisher.publish_as(Class::Interactive, &topic("/ask"), &value(7));
    assert_eq!(next(&mut asked).await, (1, 7));
    // The others of the class wait for it once, not for each message.
    for number in 1..=3000 {
        let sent = publisher
            .publish_waiting(&topic("/t/2"), &value(number), WAIT)
            .await;
        assert_eq!(sent.dropped, 0);
    }
    let (mut heard, mut last) = (0, 0);
    while last < 3000 {
        let (messages, number) = next(&mut fast).await;
        heard += messages;
        last = number;
    }
    assert!(heard >= 100, "{heard}");
    assert!(stuck.depth().dropped.total() > 0);
    assert!(waits(&from) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_larger_than_all_credit_passes() {
    let mut small = config();
    small.credit = Credit { link: 1, all: 1 };
    let (from, _to, [mut subscriber]) = pair(&small, ["/t"]).await;
    let mut publisher = from.publisher();
    let large = Data::from("0".repeat(3 << 20));
    for class in [Class::Event, Class::Bulk, Class::Interactive] {
        for _ in 0..5 {
            let _ = publisher.publish_as(class, &topic("/t"), &large);
        }
    }
    let mut heard = 0;
    while heard < 15 {
        match within(subscriber.receive()).await {
            Some(Delivery::Batch(batch)) => heard += batch.len(),
            other => panic!("{other:?}"),
        }
    }
    // What is queued when an endpoint ends is sent as well, as the credit comes.
    for number in 1..=100 {
        let _ = publisher.publish(&topic("/t"), &value(number));
    }
    let end = tokio::spawn(async move { from.shut_down().await });
    let mut heard = 0;
    while heard < 100 {
        heard += next(&mut subscriber).await.0;
    }
    within(end).await.unwrap();
}

/// An endpoint that publishes, a relay, and one that subscribes behind it.
async fn chain(config: &EndpointConfig, topic: &str) -> (Endpoint, Endpoint, Endpoint, Subscriber) {
    let (relay, last, [subscriber]) = pair(config, [topic]).await;
    let first = Endpoint::start(config.clone()).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let address = relay.listen(address, Exposure::Guarded).await.unwrap();
    within(first.peer(&address.to_string(), None))
        .await
        .unwrap();
    let mut publisher = first.publisher();
    within(async {
        while publisher
            .publish(&Topic::new(topic).unwrap(), &value(0))
            .no_subscriber()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    (first, relay, last, subscriber)
}

fn dropped(endpoint: &Endpoint) -> u64 {
    let peers = endpoint.counts().peers;
    peers.iter().map(|peer| peer.dropped.total()).sum()
}

/// A relay that is faster than what is behind it lets its own sources wait, instead of losing what they send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_behind_a_relay_slows_the_publisher_down_and_loses_nothing() {
    let (first, relay, last, mut slow) = chain(&config(), "/t").await;
    let publishing = tokio::spawn(async move {
        let mut publisher = first.publisher();
        for number in 1..=6000 {
            let outcome = publisher
                .publish_waiting(&topic("/t"), &value(number), WAIT)
                .await;
            assert_eq!((outcome.queued_to, outcome.dropped), (1, 0));
        }
        first
    });
    let (mut heard, mut number) = (0, 0);
    while number < 6000 {
        let messages;
        (messages, number) = next(&mut slow).await;
        heard += messages;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(heard, 6001);
    let first = publishing.await.unwrap();
    assert_eq!(
        (dropped(&first), dropped(&relay), dropped(&last)),
        (0, 0, 0)
    );
    assert!(waits(&first) > 0);
}

/// Whoever takes nothing behind a relay costs the others a moment, and then what is sent to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_nothing_behind_a_relay_holds_nobody_up() {
    let (first, relay, _last, stuck) = chain(&config(), "/t").await;
    let other = Endpoint::start(config()).unwrap();
    let mut heard = other.subscribe(["/t"]).await;
    let address = "127.0.0.1:0".parse().unwrap();
    let address = relay.listen(address, Exposure::Guarded).await.unwrap();
    within(other.peer(&address.to_string(), None))
        .await
        .unwrap();
    let mut publisher = first.publisher();
    let mut number = 0;
    let mut came = 0;
    // Nobody reads from the stuck one: it fills, then the queue to it, and then that one drops.
    within(async {
        while dropped(&relay) < 1000 {
            for _ in 0..100 {
                number += 1;
                let sent = publisher
                    .publish_waiting(&topic("/t"), &value(number), WAIT)
                    .await;
                assert_eq!(sent.dropped, 0);
            }
            while came < number {
                came = next(&mut heard).await.1;
            }
        }
    })
    .await;
    assert_eq!(dropped(&first), 0);
    let counts = relay.counts();
    let to_other = counts.peers.iter().find(|peer| peer.peer.id == other.id());
    assert_eq!(to_other.unwrap().dropped.total(), 0);
    drop(stuck);
}
