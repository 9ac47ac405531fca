//! Peers of version 1 beside a mesh: each is a peer of some of its endpoints, and hears and is heard by all
//! through one of them, its home.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/raw.rs"]
mod raw;

use std::collections::BTreeMap;
use std::time::Duration;

use muster::wire::{EndpointId, Topic};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, Subscriber};
use muster_data::{Data, DataRef};
use muster_test_support::within;
use raw::{RAW_ID, raw_message, raw_peer};
use tokio::io::AsyncWriteExt;

const RETRY: Option<Duration> = Some(Duration::from_millis(50));

/// An endpoint with a subscriber, and how often it heard each value from whom.
struct Place {
    endpoint: Endpoint,
    address: String,
    subscriber: Subscriber,
    heard: BTreeMap<(EndpointId, String), usize>,
}

impl Place {
    async fn new(config: EndpointConfig, prefix: &str) -> Self {
        let endpoint = Endpoint::start(config).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let address = endpoint.listen(any, Exposure::Guarded).await.unwrap();
        let subscriber = endpoint.subscribe([prefix]).await;
        Self {
            endpoint,
            address: address.to_string(),
            subscriber,
            heard: BTreeMap::new(),
        }
    }

    async fn with(forwarding: Forwarding, prefix: &str) -> Self {
        let config = EndpointConfig {
            forwarding,
            ..EndpointConfig::default()
        };
        Self::new(config, prefix).await
    }

    /// One that behaves as Broker does.
    async fn of_version_1(prefix: &str) -> Self {
        Self::with(Forwarding::Direct, prefix).await
    }

    fn id(&self) -> EndpointId {
        self.endpoint.id()
    }

    fn dial(&self, other: &Self) {
        self.endpoint.dial(&other.address, RETRY);
    }

    fn publish(&self, topic: &str, value: u64) {
        let topic = Topic::new(topic).unwrap();
        let _ = self
            .endpoint
            .publisher()
            .publish(&topic, &Data::from(value));
    }

    fn drain(&mut self) {
        while let Ok(delivery) = self.subscriber.try_receive() {
            let Delivery::Batch(batch) = delivery else {
                continue;
            };
            for message in batch.iter() {
                let value = DataRef::from_validated(message.payload).to_data();
                let heard = self.heard.entry((message.from, value.to_string()));
                *heard.or_default() += 1;
            }
        }
    }

    fn times(&self, from: EndpointId, value: u64) -> usize {
        let heard = self.heard.get(&(from, Data::from(value).to_string()));
        heard.copied().unwrap_or_default()
    }

    fn total(&self) -> usize {
        self.heard.values().sum()
    }

    fn counter(&self, name: &str) -> u64 {
        let mesh = self.endpoint.counts().mesh;
        let counter = mesh.iter().find(|counter| counter.key() == name);
        counter.unwrap().value
    }

    /// Whether a peer is told that a topic is subscribed to here.
    fn knows(&self, peer: EndpointId, prefix: &str) -> bool {
        let filter = self.endpoint.filter_of(peer).unwrap_or_default();
        filter.iter().any(|entry| entry == prefix.as_bytes())
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

/// All see one another in the mesh.
async fn joined(places: &[&Place]) {
    until("a mesh", || {
        let mut all = places.iter();
        all.all(|place| {
            let nodes = place.endpoint.mesh();
            nodes.len() == places.len() && nodes.iter().all(|node| node.ready)
        })
    })
    .await;
}

/// A peer of version 1 has one home among `hubs`: it is told of the `far` subscription, and the others
/// know that `/guest/` is subscribed to.
async fn at_home(guest: &Place, hubs: &[&Place], others: &[&Place], far: &str) {
    let topic = Topic::new("/guest/").unwrap();
    until("a home", || {
        let told = hubs.iter().filter(|hub| guest.knows(hub.id(), far));
        let mut others = others.iter();
        told.count() == 1 && others.all(|other| other.endpoint.has_subscriber(&topic))
    })
    .await;
}

/// A line of two relays, a leaf at the second one, and a peer of version 1 at the first: each hears the
/// other's messages once, and as its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_one_relay_hears_and_is_heard_by_all() {
    let first = Place::with(Forwarding::Relay, "/first/").await;
    let second = Place::with(Forwarding::Relay, "/second/").await;
    let mut leaf = Place::with(Forwarding::Leaf, "/leaf/").await;
    let mut guest = Place::of_version_1("/guest/").await;
    second.dial(&first);
    leaf.dial(&second);
    joined(&[&first, &second, &leaf]).await;
    guest.dial(&first);
    at_home(&guest, &[&first], &[&leaf, &second], "/leaf/").await;
    for number in 0..200 {
        guest.publish("/leaf/x", number);
        leaf.publish("/guest/x", number);
    }
    until("two hundred", || {
        guest.drain();
        leaf.drain();
        guest.total() >= 200 && leaf.total() >= 200
    })
    .await;
    for number in 0..200 {
        assert_eq!(leaf.times(guest.id(), number), 1);
        // With version 1 the last hop is the sender.
        assert_eq!(guest.times(first.id(), number), 1);
    }
    assert_eq!((guest.total(), leaf.total()), (200, 200));
    assert_eq!(first.counter("mesh_from_version_1"), 200);
    assert_eq!(first.counter("mesh_to_version_1"), 200);
    // It is nobody in the mesh, to itself or others.
    assert!(
        leaf.endpoint
            .mesh()
            .iter()
            .all(|node| node.id != guest.id())
    );
}

/// A peer of version 1 that is back before anybody was told that it had gone is told of the mesh again.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_back_at_once_hears_all_again() {
    let first = Place::with(Forwarding::Relay, "/first/").await;
    let mut second = Place::with(Forwarding::Relay, "/second/").await;
    let guest = Place::of_version_1("/guest/").await;
    second.dial(&first);
    joined(&[&first, &second]).await;
    for number in 0..10 {
        guest.dial(&first);
        at_home(&guest, &[&first], &[&second], "/second/").await;
        until("its message", || {
            guest.publish("/second/x", number);
            second.drain();
            second.times(guest.id(), number) > 0
        })
        .await;
        assert!(guest.endpoint.unpeer(first.id()).await);
        until("no peering", || guest.endpoint.peers().is_empty()).await;
    }
}

/// A peer of version 1 of two relays and a leaf out of four endpoints: everybody hears it once, and it
/// hears everybody once. When its home dies the other relay takes over.
#[tokio::test(flavor = "multi_thread")]
async fn of_several_hubs_one_is_the_home_and_another_takes_over() {
    let [mut left, mut right, mut far] = [
        Place::with(Forwarding::Relay, "/t/").await,
        Place::with(Forwarding::Relay, "/t/").await,
        Place::with(Forwarding::Relay, "/t/").await,
    ];
    let mut leaf = Place::with(Forwarding::Leaf, "/t/").await;
    let mut apart = Place::with(Forwarding::Leaf, "/apart/").await;
    let mut guest = Place::of_version_1("/t/").await;
    let _own = guest.endpoint.subscribe(["/guest/"]).await;
    left.dial(&far);
    right.dial(&far);
    right.dial(&left);
    leaf.dial(&far);
    apart.dial(&far);
    joined(&[&left, &right, &far, &leaf, &apart]).await;
    for hub in [&left, &right, &leaf] {
        guest.dial(hub);
    }
    let hubs = [&left, &right, &leaf];
    at_home(&guest, &hubs, &[&far, &apart], "/apart/").await;
    let mut all = [&mut left, &mut right, &mut far, &mut leaf, &mut apart];
    everybody_hears_it_once(&mut guest, &mut all).await;

    // One of the two is its home.
    let is_left = guest.knows(left.id(), "/apart/");
    let (home, mut other) = if is_left {
        (left, right)
    } else {
        (right, left)
    };
    assert_eq!(other.counter("mesh_from_version_1"), 0);
    home.endpoint.shut_down().await;
    at_home(&guest, &[&other, &leaf], &[&far, &apart], "/apart/").await;
    let mut all = [&mut other, &mut far, &mut leaf, &mut apart];
    everybody_hears_it_once(&mut guest, &mut all).await;
}

/// A guest and all others publish; all that subscribe to `/t/` hear each other once.
async fn everybody_hears_it_once(guest: &mut Place, others: &mut [&mut Place]) {
    guest.drain();
    guest.heard.clear();
    for other in others.iter_mut() {
        other.drain();
        other.heard.clear();
    }
    guest.publish("/apart/x", 1);
    for number in 10..60 {
        guest.publish("/t/x", number);
        for (at, other) in (1u64..).zip(others.iter()) {
            other.publish("/t/x", at * 100 + number);
        }
    }
    let count = others.len();
    until("fifty of each", || {
        guest.drain();
        for other in others.iter_mut() {
            other.drain();
        }
        let expected = |other: &Place| {
            if other.total() < 3 { 1 } else { 50 * count }
        };
        let mut all = others.iter();
        guest.total() >= 50 * count && all.all(|other| other.total() >= expected(other))
    })
    .await;
    // Time for what must not come.
    tokio::time::sleep(Duration::from_millis(200)).await;
    guest.drain();
    assert_eq!(guest.total(), 50 * count, "{:?}", guest.heard);
    assert!(guest.heard.values().all(|times| *times == 1));
    for other in others.iter_mut() {
        other.drain();
        assert!(
            other.heard.values().all(|times| *times == 1),
            "{:?}",
            other.heard
        );
        let from_guest = other.heard.keys().filter(|(from, _)| *from == guest.id());
        assert!([1, 50].contains(&from_guest.count()), "{:?}", other.heard);
    }
}

/// Nothing goes from one peer of version 1 to another, whether they are peers of the same relay or not.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_from_version_1_to_version_1() {
    let first = Place::with(Forwarding::Relay, "/t/").await;
    let mut second = Place::with(Forwarding::Relay, "/t/").await;
    second.dial(&first);
    joined(&[&first, &second]).await;
    let mut guests = [
        Place::of_version_1("/t/").await,
        Place::of_version_1("/t/").await,
        Place::of_version_1("/t/").await,
    ];
    guests[0].dial(&first);
    guests[1].dial(&first);
    guests[2].dial(&second);
    for guest in &guests {
        until("a home", || {
            guest.knows(first.id(), "/t/") || guest.knows(second.id(), "/t/")
        })
        .await;
    }
    until("it is heard over there", || {
        guests[0].publish("/t/x", 1);
        second.drain();
        second.times(guests[0].id(), 1) > 0
    })
    .await;
    // What is heard behind it would come later.
    until("what both relays publish", || {
        first.publish("/t/x", 2);
        second.publish("/t/x", 3);
        guests.iter_mut().all(|guest| {
            guest.drain();
            let values: Vec<&str> = guest.heard.keys().map(|(_, it)| it.as_str()).collect();
            values.iter().any(|it| it.contains('2')) && values.iter().any(|it| it.contains('3'))
        })
    })
    .await;
    for guest in &guests {
        let relays = [first.id(), second.id()];
        for (from, value) in guest.heard.keys() {
            assert!(
                relays.contains(from) && !value.contains('1'),
                "{value} from {from}"
            );
        }
    }
}

/// A relay that is told not to relays nothing between version 1 and the mesh, and neither does one of
/// whose peerings is apart from the mesh.
#[tokio::test(flavor = "multi_thread")]
async fn relaying_can_be_turned_off() {
    let off = EndpointConfig {
        relay_version_1: false,
        ..EndpointConfig::default()
    };
    let mut first = Place::new(off, "/t/").await;
    let mut second = Place::with(Forwarding::Relay, "/t/").await;
    let mut guest = Place::of_version_1("/t/").await;
    let mut apart = Place::with(Forwarding::Relay, "/t/").await;
    second.dial(&first);
    joined(&[&first, &second]).await;
    guest.dial(&first);
    apart.endpoint.dial_direct(&second.address, RETRY);
    until("peers", || {
        first.endpoint.peers().len() == 2 && second.endpoint.peers().len() == 2
    })
    .await;
    // Longer than anything that is announced waits.
    tokio::time::sleep(Duration::from_millis(500)).await;
    guest.publish("/t/x", 1);
    apart.publish("/t/x", 2);
    first.publish("/t/x", 3);
    second.publish("/t/x", 4);
    until("all that is heard", || {
        for place in [&mut first, &mut second, &mut guest, &mut apart] {
            place.drain();
        }
        first.total() >= 2 && second.total() >= 2 && guest.total() >= 1 && apart.total() >= 1
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for place in [&mut first, &mut second, &mut guest, &mut apart] {
        place.drain();
    }
    assert_eq!(guest.times(first.id(), 3), 1);
    assert_eq!(apart.times(second.id(), 4), 1);
    let totals = [&first, &second, &guest, &apart].map(Place::total);
    assert_eq!(totals, [2, 2, 1, 1]);
}

/// What a peer of version 1 publishes right behind its handshake is heard in the whole mesh.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_messages_of_version_1_are_not_lost() {
    let hub = Place::with(Forwarding::Relay, "/hub").await;
    let mut far = Place::with(Forwarding::Relay, "/t").await;
    far.dial(&hub);
    joined(&[&hub, &far]).await;
    let topic = Topic::new("/t").unwrap();
    until("a subscription", || hub.endpoint.has_subscriber(&topic)).await;
    for round in 0..5u64 {
        let mut stream = within(raw_peer(&hub.address, &[0])).await;
        let mut messages = Vec::new();
        for number in 0..20 {
            let value = muster_data::encode_to_vec(&Data::from(round * 100 + number));
            messages.extend(raw_message(1, RAW_ID, "/t", &value));
        }
        stream.write_all(&messages).await.unwrap();
        let guest = EndpointId::from_bytes(RAW_ID);
        until("what the guest said first", || {
            far.drain();
            (0..20).all(|number| far.times(guest, round * 100 + number) == 1)
        })
        .await;
        drop(stream);
        until("the guest's end", || {
            hub.endpoint.peers().iter().all(|peer| peer.id != guest)
        })
        .await;
    }
    assert_eq!(hub.counter("mesh_without_home"), 0);
}

/// What nobody relays is counted.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_version_1_that_nobody_relays_are_counted() {
    let hub = Place::with(Forwarding::Relay, "/hub").await;
    let leaf = Place::with(Forwarding::Leaf, "/leaf").await;
    leaf.dial(&hub);
    joined(&[&hub, &leaf]).await;
    let mut stream = within(raw_peer(&leaf.address, &[0])).await;
    let value = muster_data::encode_to_vec(&Data::from(1u64));
    let message = raw_message(1, RAW_ID, "/hub", &value);
    stream.write_all(&message.repeat(3)).await.unwrap();
    until("a count", || leaf.counter("mesh_without_home") == 3).await;
}
