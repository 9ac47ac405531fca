//! A real Zeek that is a peer of two endpoints of a mesh: it hears each message of all of them once, and all
//! hear each of its messages once. See `support/zeek.rs` for how Zeek is found.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/zeek.rs"]
mod zeek;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use muster::data::{DataRef, Encode};
use muster::wire::zeek::{EventRef, Metadata, put_event};
use muster::wire::{Class, EndpointId, Topic};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, Subscriber};

/// What each endpoint publishes.
const COUNT: u64 = 50;

struct Place {
    endpoint: Endpoint,
    subscriber: Subscriber,
    /// How often each event came, by its name, number and sender.
    heard: BTreeMap<(String, u64, EndpointId), usize>,
}

impl Place {
    async fn new(forwarding: Forwarding) -> (Self, String) {
        let config = EndpointConfig {
            forwarding,
            ..EndpointConfig::default()
        };
        let endpoint = Endpoint::start(config).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let address = endpoint.listen(any, Exposure::Guarded).await.unwrap();
        let subscriber = endpoint.subscribe(["/muster/"]).await;
        let place = Self {
            endpoint,
            subscriber,
            heard: BTreeMap::new(),
        };
        (place, address.to_string())
    }

    fn publish(&self, name: &str, arguments: &(impl Encode + ?Sized)) {
        let mut payload = Vec::new();
        put_event(&mut payload, name, Metadata::default(), |out| {
            arguments.encode(out);
        });
        let topic = Topic::new("/muster/zeek").unwrap();
        let mut publisher = self.endpoint.publisher();
        let outcome = publisher.publish_encoded(&topic, Bytes::from(payload), Class::Event);
        assert!(outcome.queued_to > 0 && outcome.dropped == 0, "{outcome:?}");
    }

    fn drain(&mut self) {
        while let Ok(delivery) = self.subscriber.try_receive() {
            let Delivery::Batch(batch) = delivery else {
                continue;
            };
            for message in batch.iter() {
                let event = EventRef::read(DataRef::from_validated(message.payload)).unwrap();
                let (number,): (u64,) = event.arguments().to().unwrap();
                let key = (event.name().to_owned(), number, message.from);
                *self.heard.entry(key).or_default() += 1;
            }
        }
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn zeek_hears_and_is_heard_once() {
    everything_is_heard_once(&[]).await;
}

/// Zeek's scripts seldom ask for it.
#[tokio::test(flavor = "multi_thread")]
async fn zeek_that_forwards_hears_and_is_heard_once() {
    everything_is_heard_once(&["Broker::forward_messages=T"]).await;
}

async fn everything_is_heard_once(more: &[&str]) {
    let Some(program) = zeek::zeek() else {
        return;
    };
    let (first, first_address) = Place::new(Forwarding::Relay).await;
    let (second, second_address) = Place::new(Forwarding::Relay).await;
    let (leaf, _) = Place::new(Forwarding::Leaf).await;
    first.endpoint.dial(&second_address, None);
    leaf.endpoint.dial(&second_address, None);
    let mut places = [first, second, leaf];
    until("a mesh", || {
        places.iter().all(|place| {
            let nodes = place.endpoint.mesh();
            nodes.len() == 3 && nodes.iter().all(|node| node.ready)
        })
    })
    .await;

    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    let ports = [first_address, second_address].map(|address| port(&address));
    let dial = format!("Test::dial={}", ports.join(","));
    let arguments = [&["-b", "Broker::disable_ssl=T", &dial], more].concat();
    let directory = tempfile::tempdir().unwrap();
    let script = include_str!("zeek/homes.zeek");
    let mut zeek = program.start(directory.path(), script, &arguments);
    let forwarding = more.len();
    until("a home", || {
        places.iter().all(|place| {
            let nodes = place.endpoint.mesh();
            let guests = nodes.iter().flat_map(|node| &node.guests);
            let homes = guests.clone().filter(|guest| guest.filter.is_some());
            let those = guests.clone().filter(|guest| guest.forwards);
            (guests.count(), homes.count(), those.count()) == (2, 1, forwarding)
        })
    })
    .await;
    for number in 0..COUNT {
        for (at, place) in (0u64..).zip(&places) {
            place.publish("Test::number", &[at * 1000 + number]);
        }
    }
    let mut numbers: Vec<u64> = Vec::new();
    for _ in 0..3 * COUNT {
        numbers.push(zeek.says("heard ").parse().unwrap());
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len() as u64, 3 * COUNT);
    let expected = usize::try_from(5 * COUNT).unwrap();
    until("all numbers and answers", || {
        places.iter_mut().for_each(Place::drain);
        places.iter().all(|place| place.heard.len() >= expected)
    })
    .await;
    // Time for what must not come.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for place in &mut places {
        place.drain();
        assert!(
            place.heard.values().all(|times| *times == 1),
            "{:?}",
            place.heard
        );
        assert_eq!(place.heard.len(), expected);
    }
    places[2].publish("Test::stop", &[(); 0]);
    let said = zeek.ended().to_vec();
    let heard = said.iter().filter(|line| line.starts_with("heard "));
    assert_eq!(heard.count() as u64, 3 * COUNT, "{said:?}");
}
