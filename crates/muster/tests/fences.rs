//! Endpoints that hang and are fenced: what others say to one another goes around them at once, and they find their way
//! back. No heartbeat plays a part: their time-out is later than the tests.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use muster::wire::mesh::{key, score};
use muster::wire::{EndpointId, QueueLimits, Topic};
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, Heartbeat, LossReason, Status,
    Subscriber,
};
use muster_data::DataRef;
use muster_test_support::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const RETRY: Option<Duration> = Some(Duration::from_millis(50));

const LIMITS: QueueLimits = QueueLimits {
    messages: 100_000,
    bytes: 64 << 20,
};

fn id(number: u8) -> EndpointId {
    EndpointId::from_random([number; 16])
}

fn start(number: u8, forwarding: Forwarding) -> Endpoint {
    let config = EndpointConfig {
        id: Some(id(number)),
        forwarding,
        heartbeat: Heartbeat {
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(3600),
        },
        handshake_timeout: Duration::from_secs(2),
        ..EndpointConfig::default()
    };
    Endpoint::start(config).unwrap()
}

async fn listening(endpoint: &Endpoint) -> String {
    let address = "127.0.0.1:0".parse().unwrap();
    let address = endpoint.listen(address, Exposure::Guarded).await.unwrap();
    address.to_string()
}

/// Carries bytes from one side to the other while the gate is open. While it is shut nobody reads them.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) {
    let mut buffer = [0; 4096];
    loop {
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            // What comes from now on stays where it is.
            _ = open.wait_for(|open| !*open) => continue,
        };
        let Ok(read @ 1..) = read else {
            return;
        };
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// An address at which an endpoint is met through a gate: when that is shut it hangs, and its connections stand.
async fn gate(to: &Endpoint, open: &watch::Receiver<bool>) -> String {
    let (far, open) = (listening(to).await, open.clone());
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = relay.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((near, _)) = relay.accept().await {
            let far = TcpStream::connect(&far).await.unwrap();
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            tokio::spawn(carry(near_read, far_write, open.clone()));
            tokio::spawn(carry(far_read, near_write, open.clone()));
        }
    });
    address
}

/// Two leaves, and two hubs that are linked with both and with each other. What the one leaf says to the other goes over
/// the first hub, which hangs when its gate is shut.
struct Scene {
    author: Endpoint,
    hearer: Endpoint,
    hub: Endpoint,
    other_hub: Endpoint,
    gate: watch::Sender<bool>,
}

impl Scene {
    async fn new() -> Self {
        let [author, hearer] = [1, 2].map(|number| start(number, Forwarding::Leaf));
        let suits = |hub: u8| score(key(id(1)), key(id(2)), key(id(hub)));
        let (best, other) = if suits(3) > suits(4) { (3, 4) } else { (4, 3) };
        let [hub, other_hub] = [best, other].map(|number| start(number, Forwarding::Relay));
        let (gate_of_hub, open) = watch::channel(true);
        let address = gate(&hub, &open).await;
        let other_address = listening(&other_hub).await;
        for dialler in [&author, &hearer] {
            dialler.dial(&other_address, RETRY);
        }
        let scene = Self {
            author,
            hearer,
            hub,
            other_hub,
            gate: gate_of_hub,
        };
        // Its links are announced now. Were there others, they might wait for a while, and nobody could go that way.
        let [author, hearer] = [&scene.author, &scene.hearer];
        within(scene.until(|| {
            [author, hearer]
                .iter()
                .all(|it| it.mesh_in_reach().len() == 3)
        }))
        .await;
        for dialler in [author, hearer, &scene.other_hub] {
            dialler.dial(&address, RETRY);
        }
        within(scene.until(|| {
            let sees = |endpoint: &Endpoint| endpoint.mesh_in_reach().len() == 4;
            let links = |endpoint: &Endpoint| endpoint.peers().len();
            scene.all().into_iter().all(sees)
                && [&scene.author, &scene.hearer].map(links) == [2, 2]
                && [&scene.hub, &scene.other_hub].map(links) == [3, 3]
        }))
        .await;
        scene
    }

    fn all(&self) -> [&Endpoint; 4] {
        [&self.author, &self.hearer, &self.hub, &self.other_hub]
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Publishes until it is the hub alone that relays.
    async fn lead_over_hub(&self, subscriber: &mut Subscriber) {
        let leads = async {
            loop {
                let before = relayed(&self.hub);
                let other_before = relayed(&self.other_hub);
                publish(&self.author, "/t", 0);
                // What comes by another way as well has come by then, or goes another way the next time.
                tokio::time::sleep(Duration::from_millis(50)).await;
                while subscriber.try_receive().is_ok() {}
                if relayed(&self.hub) > before && relayed(&self.other_hub) == other_before {
                    return;
                }
            }
        };
        within(leads).await;
    }

    async fn fence(&self) {
        for endpoint in [&self.author, &self.hearer, &self.other_hub] {
            within(endpoint.fence(self.hub.id())).await;
        }
    }

    async fn unfence(&self) {
        for endpoint in [&self.author, &self.hearer, &self.other_hub] {
            within(endpoint.unfence(self.hub.id())).await;
        }
    }
}

fn count(endpoint: &Endpoint, name: &str) -> u64 {
    let counts = endpoint.counts().mesh;
    let found = counts.iter().find(|counter| counter.key() == name);
    found.map_or_else(|| panic!("no {name}"), |counter| counter.value)
}

fn relayed(endpoint: &Endpoint) -> u64 {
    count(endpoint, "mesh_relayed")
}

fn publish(from: &Endpoint, topic: &str, number: u64) {
    let topic = Topic::new(topic).unwrap();
    let _ = from.publisher().publish(&topic, &number);
}

/// The number that the next message brings.
async fn next(subscriber: &mut Subscriber) -> u64 {
    loop {
        if let Some(Delivery::Batch(batch)) = within(subscriber.receive()).await {
            let numbers = batch.iter().map(|message| {
                let text = DataRef::from_validated(message.payload).to_data();
                text.to_string().parse().unwrap()
            });
            return numbers.max().unwrap();
        }
    }
}

/// Why the peering with an endpoint was lost.
async fn loss(statuses: &mut Subscriber, of: EndpointId) -> LossReason {
    let lost = async {
        loop {
            match statuses.receive().await {
                Some(Delivery::Status(Status::PeerLost { peer, reason })) if peer.id == of => {
                    return reason;
                }
                Some(_) => {}
                None => panic!("the endpoint has ended"),
            }
        }
    };
    within(lost).await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_around_a_hub_that_hangs_and_is_fenced() {
    let scene = Scene::new().await;
    let hub = scene.hub.id();
    let mut subscriber = scene.hearer.subscribe(["/t"]).await;
    let mut statuses = scene.author.subscribe_with_statuses(["/no"], LIMITS).await;
    let mut of_hub = scene.hub.subscribe_with_statuses(["/no"], LIMITS).await;
    scene.lead_over_hub(&mut subscriber).await;

    scene.gate.send_replace(false);
    // This one goes over the hub, and is lost with its link.
    publish(&scene.author, "/t", 1);
    scene.fence().await;
    publish(&scene.author, "/t", 2);
    assert_eq!(next(&mut subscriber).await, 2);
    for number in 3..50 {
        publish(&scene.author, "/t", number);
    }
    while next(&mut subscriber).await != 49 {}
    assert_eq!(loss(&mut statuses, hub).await, LossReason::Fenced);
    for endpoint in [&scene.author, &scene.hearer, &scene.other_hub] {
        assert_eq!(count(endpoint, "peers_fenced"), 1);
        let is_in_reach = endpoint.mesh_in_reach().iter().any(|node| node.id == hub);
        assert!(!is_in_reach, "{}", endpoint.id());
    }

    // It goes on, hears that it is out, and is met again: it may ask, and is answered, but relays nothing.
    scene.gate.send_replace(true);
    let reason = loss(&mut of_hub, scene.author.id()).await;
    assert_eq!(reason, LossReason::FencedByPeer);
    within(scene.until(|| count(&scene.hub, "fenced_by_peers") == 3)).await;
    let mut questions = scene.author.subscribe(["/question"]).await;
    let mut answers = scene.hub.subscribe(["/answer"]).await;
    let spoken = async {
        loop {
            publish(&scene.hub, "/question", 7);
            let asked = tokio::time::timeout(Duration::from_millis(100), next(&mut questions));
            if asked.await.is_ok() {
                publish(&scene.author, "/answer", 8);
                let heard = tokio::time::timeout(Duration::from_millis(100), next(&mut answers));
                if heard.await.is_ok() {
                    return;
                }
            }
        }
    };
    within(spoken).await;
    within(scene.until(|| scene.hub.peers().len() == 3 && scene.author.peers().len() == 2)).await;
    let before = relayed(&scene.hub);
    for number in 50..150 {
        publish(&scene.author, "/t", number);
    }
    while next(&mut subscriber).await != 149 {}
    assert_eq!(relayed(&scene.hub), before);

    scene.unfence().await;
    scene.lead_over_hub(&mut subscriber).await;
}

/// Nobody reads at the other end, and the buffers of the system are full: the peering ends all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_stuck_does_not_keep_a_fenced_peer() {
    let scene = Scene::new().await;
    let mut subscriber = scene.hearer.subscribe(["/t"]).await;
    scene.lead_over_hub(&mut subscriber).await;
    let mut statuses = scene.author.subscribe_with_statuses(["/no"], LIMITS).await;
    scene.gate.send_replace(false);
    let topic = Topic::new("/t").unwrap();
    let mut publisher = scene.author.publisher();
    let large = muster_data::Data::from("x".repeat(100 << 10));
    let depth = || scene.author.backlog();
    // The system may take a few more of them before its buffers are full.
    while depth() < 100 {
        let _ = publisher.publish(&topic, &large);
        tokio::task::yield_now().await;
    }
    scene.fence().await;
    assert_eq!(
        loss(&mut statuses, scene.hub.id()).await,
        LossReason::Fenced
    );
    publish(&scene.author, "/t", 9);
    assert_eq!(next(&mut subscriber).await, 9);
    let reports = scene.author.counts().peers.into_iter();
    let of_hub = reports.filter(|report| report.peer.id == scene.hub.id());
    let dropped: u64 = of_hub.map(|report| report.dropped.total()).sum();
    assert!(dropped >= 50, "{dropped}");
}

/// A fence is of an id, known or not, and ends a peering of version 1 as well.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_peers_of_version_1_are_fenced_too() {
    let [here, there] = [1, 2].map(|number| start(number, Forwarding::Direct));
    within(here.fence(here.id())).await;
    within(here.fence(there.id())).await;
    let mut statuses = here.subscribe_with_statuses(["/no"], LIMITS).await;
    let mut subscriber = there.subscribe(["/t"]).await;
    within(here.peer(&listening(&there).await, RETRY))
        .await
        .unwrap();
    publish(&here, "/t", 1);
    assert_eq!(next(&mut subscriber).await, 1);
    within(here.fence(there.id())).await;
    let reason = loss(&mut statuses, there.id()).await;
    assert_eq!(reason, LossReason::Fenced);
    // The dial goes on.
    within(async {
        while here.peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    within(here.unfence(there.id())).await;
    publish(&here, "/t", 2);
    assert_eq!(next(&mut subscriber).await, 2);
}
