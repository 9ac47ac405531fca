//! Endpoints that form a mesh over real sockets: graphs with and without cycles, links that come and
//! go, and who is told of whom.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use muster::wire::peering::Protocol;
use muster::wire::{Class, EndpointId, Topic};
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, Heartbeat, NodeIdentity, Status,
    Subscriber,
};
use muster_data::{Data, DataRef};
use muster_test_support::within;

const RETRY: Option<Duration> = Some(Duration::from_millis(50));

fn start(id: u8, forwarding: Forwarding) -> Endpoint {
    let config = EndpointConfig {
        id: Some(EndpointId::from_random([id; 16])),
        identity: NodeIdentity {
            name: format!("node-{id}"),
            ..NodeIdentity::default()
        },
        forwarding,
        ..EndpointConfig::default()
    };
    Endpoint::start(config).unwrap()
}

async fn listening(endpoint: &Endpoint) -> String {
    let address = "127.0.0.1:0".parse().unwrap();
    let address = endpoint.listen(address, Exposure::Guarded).await.unwrap();
    address.to_string()
}

/// A relay takes on whatever an author's queue takes, however large the buffer is that it came in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_nearly_fills_a_queue_is_relayed() {
    let [author, hearer] = [1, 3].map(|id| start(id, Forwarding::Leaf));
    let mut config = EndpointConfig::default();
    config.data_queue.bytes = 700 << 10;
    config.interactive.limits.bytes = 700 << 10;
    let relay = Endpoint::start(config).unwrap();
    let address = listening(&relay).await;
    let mut subscriber = hearer.subscribe(["/t"]).await;
    for leaf in [&author, &hearer] {
        within(leaf.peer(&address, RETRY)).await.unwrap();
    }
    within(async {
        while !author.mesh().iter().any(|node| node.id == hearer.id()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut publisher = author.publisher();
    let topic = Topic::new("/t").unwrap();
    let large = Data::from("x".repeat(600 << 10));
    for class in [Class::Event, Class::Interactive] {
        let outcome = publisher.publish_as(class, &topic, &large);
        assert_eq!(outcome.queued_to, 1);
        let delivery = within(subscriber.receive()).await;
        assert!(matches!(delivery, Some(Delivery::Batch(_))), "{delivery:?}");
    }
}

/// Endpoints, each with a subscriber to everything of `/t/` and the statuses.
struct Net {
    endpoints: Vec<Endpoint>,
    addresses: Vec<String>,
    subscribers: Vec<Subscriber>,
    /// What each has heard: how often each value came.
    heard: Vec<BTreeMap<String, usize>>,
    up: Vec<BTreeMap<EndpointId, String>>,
}

impl Net {
    async fn new(forwarding: &[Forwarding]) -> Self {
        let mut net = Self {
            endpoints: Vec::new(),
            addresses: Vec::new(),
            subscribers: Vec::new(),
            heard: vec![BTreeMap::new(); forwarding.len()],
            up: vec![BTreeMap::new(); forwarding.len()],
        };
        for (number, forwarding) in (1u8..).zip(forwarding) {
            let endpoint = start(number, *forwarding);
            net.addresses.push(listening(&endpoint).await);
            let queue = endpoint.config().subscriber_queue;
            let subscriber = endpoint.subscribe_with_statuses(["/t/"], queue).await;
            net.subscribers.push(subscriber);
            net.endpoints.push(endpoint);
        }
        net
    }

    fn link(&self, a: usize, b: usize) {
        self.endpoints[a].dial(&self.addresses[b], RETRY);
    }

    async fn unlink(&self, a: usize, b: usize) {
        let there = self.endpoints[a].unpeer(self.endpoints[b].id()).await;
        assert!(there, "{a} and {b} were no peers");
    }

    fn drain(&mut self) {
        for (at, subscriber) in self.subscribers.iter_mut().enumerate() {
            while let Ok(delivery) = subscriber.try_receive() {
                match delivery {
                    Delivery::Batch(batch) => {
                        for message in batch.iter() {
                            let value = DataRef::from_validated(message.payload).to_data();
                            let text = format!("{} {value}", message.from);
                            *self.heard[at].entry(text).or_default() += 1;
                        }
                    }
                    Delivery::Status(Status::EndpointDiscovered(node)) => {
                        let before = self.up[at].insert(node.id, node.name.clone());
                        assert_eq!(before, None, "told twice");
                    }
                    Delivery::Status(Status::EndpointUnreachable(id)) => {
                        assert!(self.up[at].remove(&id).is_some(), "never told of {id}");
                    }
                    Delivery::Status(_) => {}
                }
            }
        }
    }

    async fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        for _ in 0..2000 {
            self.drain();
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not in time: up {:?}, heard {:?}", self.up, self.heard);
    }

    async fn until_all_know_all(&mut self) {
        let all = self.endpoints.len();
        self.until(|net| net.up.iter().all(|up| up.len() == all - 1))
            .await;
    }

    /// Every endpoint publishes `count` values, and everybody else gets each once.
    async fn everybody_hears_everybody(&mut self, count: usize) {
        self.drain();
        self.heard.iter_mut().for_each(BTreeMap::clear);
        let all = self.endpoints.len();
        for endpoint in &self.endpoints {
            let mut publisher = endpoint.publisher();
            for number in 0..count {
                let topic = Topic::new(format!("/t/{number}")).unwrap();
                let outcome = publisher.publish(&topic, &Data::from(number as u64));
                assert!(outcome.queued_to > 0 && outcome.dropped == 0, "{outcome:?}");
            }
        }
        let expected = (all - 1) * count;
        self.until(|net| {
            net.heard
                .iter()
                .all(|heard| heard.values().sum::<usize>() >= expected)
        })
        .await;
        for heard in &self.heard {
            assert_eq!(heard.len(), expected);
            assert!(heard.values().all(|times| *times == 1));
        }
    }

    fn counter(&self, name: &str) -> u64 {
        let counts = self.endpoints.iter().map(|endpoint| endpoint.counts().mesh);
        let all = counts.flatten();
        all.filter(|counter| counter.key() == name)
            .map(|counter| counter.value)
            .sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_a_ring_and_a_full_mesh_deliver_once() {
    use Forwarding::Relay;
    let mut net = Net::new(&[Relay; 5]).await;
    for at in 1..5 {
        net.link(at, at - 1);
    }
    net.until_all_know_all().await;
    net.everybody_hears_everybody(50).await;
    // A ring.
    net.link(4, 0);
    net.until(|net| net.endpoints[0].peers().len() == 2).await;
    net.everybody_hears_everybody(50).await;
    // Everybody with everybody.
    for a in 0..5 {
        for b in 0..a {
            net.link(a, b);
        }
    }
    net.until(|net| net.endpoints.iter().all(|end| end.peers().len() == 4))
        .await;
    net.everybody_hears_everybody(200).await;
    let protocols = net.endpoints.iter().flat_map(Endpoint::peers);
    assert!(
        protocols
            .into_iter()
            .all(|peer| peer.protocol == Protocol::V2)
    );
    for never in ["mesh_returned", "mesh_too_old", "mesh_hops_exhausted"] {
        assert_eq!(net.counter(never), 0, "{never}");
    }
}

/// Two leaves that have no link but to the same relay hear one another, and go on when it dies and
/// there is another.
#[tokio::test(flavor = "multi_thread")]
async fn leaves_hear_one_another_through_either_of_two_relays() {
    use Forwarding::{Leaf, Relay};
    let mut net = Net::new(&[Leaf, Leaf, Relay, Relay]).await;
    for leaf in 0..2 {
        net.link(leaf, 2);
        net.link(leaf, 3);
    }
    net.link(3, 2);
    net.until_all_know_all().await;
    net.everybody_hears_everybody(20).await;
    assert!(
        within(net.endpoints[0].ping(net.endpoints[1].id()))
            .await
            .is_some()
    );
    assert_eq!(net.endpoints[0].peers().len(), 2);
    // The first relay goes.
    within(net.endpoints[2].shut_down()).await;
    let gone = net.endpoints[2].id();
    net.until(|net| {
        let others = [0, 1, 3].into_iter();
        others.clone().all(|at| !net.up[at].contains_key(&gone))
            && others.clone().all(|at| net.up[at].len() == 2)
    })
    .await;
    let (relay, names) = (net.endpoints.remove(2), net.up.remove(2));
    net.subscribers.remove(2);
    net.heard.remove(2);
    net.addresses.remove(2);
    drop((relay, names));
    net.everybody_hears_everybody(20).await;
}

/// Without a link there is nothing to deliver by, and when it is back everybody is discovered again.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_noticed_and_heals() {
    let mut net = Net::new(&[Forwarding::Relay; 4]).await;
    for at in 1..4 {
        net.link(at, at - 1);
    }
    net.until_all_know_all().await;
    net.unlink(2, 1).await;
    net.until(|net| net.up.iter().all(|up| up.len() == 1)).await;
    net.link(2, 1);
    net.until_all_know_all().await;
    net.everybody_hears_everybody(20).await;
}

/// What is published before the endpoint is known to its mesh arrives all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_while_joining_is_held_and_arrives() {
    use Forwarding::Relay;
    let mut net = Net::new(&[Relay; 3]).await;
    net.link(1, 0);
    net.until(|net| net.up[0].len() == 1 && net.up[1].len() == 1)
        .await;
    let mut publisher = net.endpoints[2].publisher();
    net.link(2, 1);
    let topic = Topic::new("/t/early").unwrap();
    let mut held = 0;
    let mut number = 0u64;
    within(async {
        loop {
            let outcome = publisher.publish(&topic, &Data::from(number));
            held += usize::from(outcome.held);
            if outcome.no_subscriber() && held == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            number += 1;
            if outcome.queued_to > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(held > 0, "joining took no time at all");
    let all = usize::try_from(number).unwrap();
    net.until(|net| net.heard[0].len() == all && net.heard[1].len() == all)
        .await;
}

/// A dial that asks for it makes a peering outside the mesh: nothing is relayed over it, and between two
/// that are in one mesh anyway nothing comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_direct_peering_relays_nothing() {
    let mut net = Net::new(&[Forwarding::Relay; 3]).await;
    net.link(1, 0);
    net.endpoints[2].dial_direct(&net.addresses[1], RETRY);
    net.until(|net| net.endpoints[1].peers().len() == 2).await;
    net.until(|net| net.endpoints[2].peers().len() == 1).await;
    let topic = Topic::new("/t/x").unwrap();
    for at in [0, 1] {
        let mut publisher = net.endpoints[at].publisher();
        let _ = publisher.publish(&topic, &Data::from(1u64));
    }
    net.until(|net| !net.heard[2].is_empty() && !net.heard[0].is_empty())
        .await;
    assert_eq!(net.heard[2].len(), 1);
    net.endpoints[2].dial(&net.addresses[0], RETRY);
    net.until_all_know_all().await;
    net.everybody_hears_everybody(20).await;
}

/// Endpoints that are in no mesh, or do not relay, speak version 1 with one another.
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_in_no_mesh_exchange_their_own_messages_alone() {
    use Forwarding::{Direct, Leaf, Relay};
    for outer in [Direct, Leaf] {
        let middle = if outer == Leaf { Leaf } else { Relay };
        let mut net = Net::new(&[outer, middle, outer]).await;
        net.link(0, 1);
        net.link(2, 1);
        net.until(|net| net.endpoints[1].peers().len() == 2).await;
        let peers = net.endpoints[1].peers();
        assert!(peers.iter().all(|peer| peer.protocol == Protocol::V1));
        let topic = Topic::new("/t/x").unwrap();
        let mut publisher = net.endpoints[0].publisher();
        net.until(|net| !net.endpoints[0].peers().is_empty()).await;
        let _ = publisher.publish(&topic, &Data::from(1u64));
        net.until(|net| net.heard[1].len() == 1).await;
        let mut publisher = net.endpoints[1].publisher();
        let _ = publisher.publish(&topic, &Data::from(2u64));
        net.until(|net| !net.heard[2].is_empty()).await;
        assert_eq!(net.heard[2].len(), 1);
        assert!(net.up.iter().all(BTreeMap::is_empty));
    }
}

/// A subscription reaches those that are no neighbours, and its end as well.
#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_cross_the_mesh() {
    let mut net = Net::new(&[Forwarding::Relay; 3]).await;
    net.link(1, 0);
    net.link(2, 1);
    net.until_all_know_all().await;
    let topic = Topic::new("/elsewhere").unwrap();
    let mut publisher = net.endpoints[0].publisher();
    assert!(publisher.publish(&topic, &Data::None).no_subscriber());
    let far = net.endpoints[2].subscribe(["/else"]).await;
    within(async {
        while publisher.publish(&topic, &Data::None).no_subscriber() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(far);
    within(async {
        while !publisher.publish(&topic, &Data::None).no_subscriber() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Messages of one publisher arrive in their order over a chain, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept_over_relays() {
    let mut net = Net::new(&[Forwarding::Relay; 4]).await;
    for at in 1..4 {
        net.link(at, at - 1);
    }
    net.until_all_know_all().await;
    let mut end = net.endpoints[3].subscribe(["/order"]).await;
    let mut publisher = net.endpoints[0].publisher();
    let topic = Topic::new("/order").unwrap();
    within(async {
        while publisher.publish(&topic, &Data::from(0u64)).no_subscriber() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let writer = tokio::spawn(async move {
        let limit = Duration::from_secs(10);
        for number in 1..=100_000u64 {
            let outcome = publisher
                .publish_waiting(&topic, &Data::from(number), limit)
                .await;
            assert_eq!(outcome.dropped, 0);
        }
    });
    let mut last = 0;
    let mut count = 0;
    let all = async {
        while last < 100_000 {
            let Some(Delivery::Batch(batch)) = end.receive().await else {
                continue;
            };
            for message in batch.iter() {
                assert_eq!(message.from, EndpointId::from_random([1; 16]));
                let Data::Count(number) = DataRef::from_validated(message.payload).to_data() else {
                    panic!("a count");
                };
                assert!(number >= last, "{number} behind {last}");
                last = number;
                count += 1;
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), all).await;
    assert!(
        in_time.is_ok(),
        "{last} was the last of {count}: {:?}",
        net.endpoints
            .iter()
            .map(Endpoint::counts)
            .collect::<Vec<_>>()
    );
    within(writer).await.unwrap();
}

/// A link that carries nothing for many time-outs is not given up.
#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_stand_for_an_idle_link() {
    let quick = |id: u8| {
        Endpoint::start(EndpointConfig {
            id: Some(EndpointId::from_random([id; 16])),
            heartbeat: Heartbeat {
                interval: Duration::from_millis(50),
                timeout: Duration::from_millis(400),
            },
            ..EndpointConfig::default()
        })
        .unwrap()
    };
    let (left, right) = (quick(1), quick(2));
    let address = listening(&right).await;
    within(left.peer(&address, None)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(left.peers().len(), 1);
    assert_eq!(right.peers().len(), 1);
}
