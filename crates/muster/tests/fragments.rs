//! Large messages of the bulk class: they go in parts, and nobody waits for the whole.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use muster::wire::{Class, Topic};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, Subscriber};
use muster_data::{Data, DataRef, Encode};
use muster_test_support::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn start(forwarding: Forwarding) -> Endpoint {
    let mut config = EndpointConfig {
        forwarding,
        ..EndpointConfig::default()
    };
    config.bulk.limits.bytes = 256 << 20;
    config.subscriber_queue.bytes = 256 << 20;
    Endpoint::start(config).unwrap()
}

async fn listening(endpoint: &Endpoint) -> String {
    let address = "127.0.0.1:0".parse().unwrap();
    let address = endpoint.listen(address, Exposure::Guarded).await.unwrap();
    address.to_string()
}

async fn sees(from: &Endpoint, to: &Endpoint) {
    within(async {
        while !from.mesh().iter().any(|node| node.id == to.id()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

/// The payloads of the next messages, until there are so many.
async fn payloads(subscriber: &mut Subscriber, count: usize) -> Vec<Data> {
    let mut all = Vec::new();
    while all.len() < count {
        if let Some(Delivery::Batch(batch)) = within(subscriber.receive()).await {
            let values = batch.iter();
            all.extend(values.map(|message| DataRef::from_validated(message.payload).to_data()));
        }
    }
    all
}

/// A connection that carries so many KiB in a millisecond, to an address.
async fn slow_link(to: String, rate: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (from, _) = listener.accept().await.unwrap();
        let to = TcpStream::connect(to).await.unwrap();
        for stream in [&from, &to] {
            stream.set_nodelay(true).unwrap();
            let _ = socket2::SockRef::from(stream).set_recv_buffer_size(64 << 10);
        }
        let (from, to) = (from.into_split(), to.into_split());
        for (mut read, mut write) in [(from.0, to.1), (to.0, from.1)] {
            tokio::spawn(async move {
                let mut buffer = vec![0; rate << 10];
                while let Ok(length @ 1..) = read.read(&mut buffer).await {
                    if write.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                    if length > 16 << 10 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            });
        }
    });
    address
}

/// Large and small messages of one class keep their order, through a relay and with others between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_in_parts_arrive_whole_in_their_order_over_a_relay() {
    let [author, hearer] = [(); 2].map(|()| start(Forwarding::Leaf));
    let relay = start(Forwarding::Relay);
    let address = listening(&relay).await;
    let mut bulk = hearer.subscribe(["/bulk"]).await;
    let mut events = hearer.subscribe(["/event"]).await;
    for leaf in [&author, &hearer] {
        within(leaf.peer(&address, None)).await.unwrap();
    }
    sees(&author, &hearer).await;
    let mut publisher = author.publisher();
    let sizes = [
        1 << 20,
        10,
        65_500,
        65_536,
        70_000,
        131_072,
        3,
        9 << 20,
        200_000,
        5,
    ];
    let value = |size: usize| Data::from("x".repeat(size));
    for size in sizes {
        let _ = publisher.publish_as(Class::Bulk, &topic("/bulk"), &value(size));
        for number in 0..50u64 {
            let _ = publisher.publish(&topic("/event"), &Data::from(number));
        }
    }
    let heard = payloads(&mut bulk, sizes.len()).await;
    assert!(heard == sizes.map(value), "in order and whole");
    assert_eq!(payloads(&mut events, 500).await.len(), 500);
    for endpoint in [&author, &relay, &hearer] {
        for counter in endpoint.counts().mesh {
            let is_loss = ["mesh_fragments_lost", "mesh_too_old"].contains(&counter.key());
            assert!(!is_loss || counter.value == 0, "{counter:?}");
        }
    }
    // What is queued when the author ends arrives as well.
    for _ in 0..3 {
        let _ = publisher.publish_as(Class::Bulk, &topic("/bulk"), &value(5 << 20));
    }
    let end = tokio::spawn(async move { author.shut_down().await });
    assert!(payloads(&mut bulk, 3).await == [(); 3].map(|()| value(5 << 20)));
    within(end).await.unwrap();
}

/// How long events take beside a flow of large messages, over a link of a rate: median and 99 of 100.
async fn delays(rate: Option<usize>, count: u64) -> [Duration; 2] {
    let (from, to) = (start(Forwarding::Relay), start(Forwarding::Relay));
    let mut address = listening(&to).await;
    if let Some(rate) = rate {
        address = slow_link(address, rate).await;
    }
    let mut bulk = to.subscribe(["/bulk"]).await;
    let mut events = to.subscribe(["/event"]).await;
    within(from.peer(&address, None)).await.unwrap();
    sees(&from, &to).await;
    let begin = Instant::now();
    let mut publisher = from.publisher();
    let (large, small) = (vec![b'x'; 8 << 20], "y".repeat(100));
    let mut encoded = Vec::new();
    Data::from(String::from_utf8(large).unwrap()).encode(&mut encoded);
    let encoded = Bytes::from(encoded);
    let flow = tokio::spawn(async move { while bulk.receive().await.is_some() {} });
    let flowing = from.publisher();
    let sending = tokio::spawn(async move {
        let mut publisher = flowing;
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        loop {
            ticks.tick().await;
            // Enough is always queued, and the oldest make room.
            let _ = publisher.publish_encoded(&topic("/bulk"), encoded.clone(), Class::Bulk);
        }
    });
    let telling = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        for _ in 0..count {
            ticks.tick().await;
            let sent = u64::try_from(begin.elapsed().as_nanos()).unwrap();
            let event = Data::Vector([Data::from(sent), Data::from(small.as_str())].into());
            let _ = publisher.publish(&topic("/event"), &event);
        }
    });
    let mut all = Vec::new();
    while (all.len() as u64) < count {
        if let Some(Delivery::Batch(batch)) = within(events.receive()).await {
            let now = begin.elapsed();
            for message in batch.iter() {
                let Data::Vector(fields) = DataRef::from_validated(message.payload).to_data()
                else {
                    panic!("an event is a vector");
                };
                let Data::Count(sent) = fields[0] else {
                    panic!("its first field is the time");
                };
                all.push(now.saturating_sub(Duration::from_nanos(sent)));
            }
        }
    }
    within(telling).await.unwrap();
    sending.abort();
    flow.abort();
    all.sort_unstable();
    [all[all.len() / 2], all[all.len() * 99 / 100]]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_does_not_wait_for_a_large_message() {
    // 32 MB/s: a large message takes a quarter of a second.
    let [median, most] = delays(Some(32), 500).await;
    assert!(
        median < Duration::from_millis(120),
        "{median:?}, 99 of 100 in {most:?}"
    );
}

#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delays_beside_large_messages() {
    for (name, rate) in [
        ("loopback", None),
        ("64 MB/s", Some(64)),
        ("32 MB/s", Some(32)),
    ] {
        let [median, most] = delays(rate, 5000).await;
        println!("{name}: median {median:?}, 99 of 100 in {most:?}");
    }
}
