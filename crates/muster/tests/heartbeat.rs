//! Peers that hang are found; those that are only busy, or slow to send, are not.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use muster::wire::{EndpointId, QueueLimits, Topic};
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, Heartbeat, LossReason, Status, Subscriber,
};
use muster_test_support::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

const LIMITS: QueueLimits = QueueLimits {
    messages: 1000,
    bytes: 1 << 20,
};

fn endpoint(id: u8, interval: u64, timeout: u64) -> Endpoint {
    Endpoint::start(EndpointConfig {
        id: Some(EndpointId::from_random([id; 16])),
        heartbeat: Heartbeat {
            interval: Duration::from_millis(interval),
            timeout: Duration::from_millis(timeout),
        },
        ..EndpointConfig::default()
    })
    .unwrap()
}

async fn next_status(subscriber: &mut Subscriber) -> Status {
    let next = async {
        loop {
            if let Some(Delivery::Status(status)) = subscriber.receive().await
                && !matches!(
                    status,
                    Status::EndpointDiscovered(_) | Status::EndpointUnreachable(_)
                )
            {
                return status;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), next)
        .await
        .expect("within twenty seconds")
}

/// Carries bytes from one side to the other while the gate is open.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut open: tokio::sync::watch::Receiver<bool>,
) {
    let mut buffer = [0; 4096];
    while let Ok(read) = from.read(&mut buffer).await {
        if open.wait_for(|open| *open).await.is_err() || read == 0 {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Dials an endpoint through a relay of bytes; what is returned opens and closes it.
async fn peer_through_a_gate(near: &Endpoint, far: &Endpoint) -> tokio::sync::watch::Sender<bool> {
    let address = "127.0.0.1:0".parse().unwrap();
    let address = far.listen(address, Exposure::Guarded).await.unwrap();
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relayed = relay.local_addr().unwrap().to_string();
    let (gate, open) = tokio::sync::watch::channel(true);
    tokio::spawn(async move {
        let (near, _) = relay.accept().await.unwrap();
        let far = TcpStream::connect(address).await.unwrap();
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        tokio::spawn(carry(near_read, far_write, open.clone()));
        tokio::spawn(carry(far_read, near_write, open));
    });
    near.peer(&relayed, None).await.unwrap();
    gate
}

async fn peer(near: &Endpoint, far: &Endpoint) {
    let address = "127.0.0.1:0".parse().unwrap();
    let address = far.listen(address, Exposure::Guarded).await.unwrap();
    near.peer(&address.to_string(), None).await.unwrap();
}

/// One link of three is cut without a word: long before the time-out it is given up, and its flow goes by the third
/// endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_is_given_up_when_others_hear_the_peer() {
    // The time-out is later than the test.
    let ends = [1, 2, 3].map(|id| endpoint(id, 300, 3_600_000));
    let [left, right, witness] = &ends;
    let topic = Topic::new("/t").unwrap();
    let mut subscriber = right.subscribe(["/t"]).await;
    let mut statuses = left.subscribe_with_statuses(["/none"], LIMITS).await;
    let gate = peer_through_a_gate(left, right).await;
    peer(left, witness).await;
    peer(right, witness).await;
    let mut publisher = left.publisher();
    let all_linked = async {
        while ends.iter().any(|end| end.peers().len() < 2) || !left.has_subscriber(&topic) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(all_linked).await;
    // Nothing is given up while everything passes.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(left.peers().len(), 2);
    gate.send_replace(false);
    let lost = async {
        loop {
            if let Some(Delivery::Status(Status::PeerLost { peer, reason })) =
                statuses.receive().await
            {
                return (peer.id, reason);
            }
        }
    };
    let (id, reason) = within(lost).await;
    assert_eq!(id, right.id());
    assert!(matches!(reason, LossReason::CutOff(_)), "{reason}");
    // What is published now is relayed.
    let heard = async {
        loop {
            let _ = publisher.publish(&topic, &7u64);
            let delivery = tokio::time::timeout(Duration::from_millis(50), subscriber.receive());
            if let Ok(Some(Delivery::Batch(_))) = delivery.await {
                return;
            }
        }
    };
    within(heard).await;
    assert_eq!(left.peers().len(), 1);
    assert_eq!(witness.peers().len(), 2);
}

#[tokio::test]
async fn a_peer_that_hangs_is_lost_and_an_idle_one_is_not() {
    let (watcher, watched) = (endpoint(1, 50, 400), endpoint(2, 0, 0));
    let mut statuses = watcher.subscribe_with_statuses([""], LIMITS).await;
    // The watched endpoint behind a relay that can be stopped.
    let address = "127.0.0.1:0".parse().unwrap();
    let address = watched.listen(address, Exposure::Guarded).await.unwrap();
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relayed = relay.local_addr().unwrap().to_string();
    let (gate, open) = tokio::sync::watch::channel(true);
    tokio::spawn(async move {
        let (near, _) = relay.accept().await.unwrap();
        let far = TcpStream::connect(address).await.unwrap();
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        tokio::spawn(carry(near_read, far_write, open.clone()));
        tokio::spawn(carry(far_read, near_write, open));
    });
    watcher.peer(&relayed, None).await.unwrap();
    assert!(matches!(
        next_status(&mut statuses).await,
        Status::PeerAdded(_)
    ));

    // Nothing is published, but pings are answered.
    let idle = tokio::time::timeout(Duration::from_millis(1500), next_status(&mut statuses));
    assert!(idle.await.is_err(), "an idle peer was given up");

    gate.send_replace(false);
    let hung = Instant::now();
    let Status::PeerLost { reason, .. } = next_status(&mut statuses).await else {
        panic!("lost");
    };
    assert_eq!(reason, LossReason::Silent(Duration::from_millis(400)));
    assert!(hung.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn without_heartbeats_nobody_is_given_up() {
    let silent = endpoint(3, 0, 0);
    assert_eq!(silent.config().heartbeat, Heartbeat::OFF);
    let other = endpoint(4, 20, 100);
    let address = "127.0.0.1:0".parse().unwrap();
    let address = silent.listen(address, Exposure::Guarded).await.unwrap();
    let mut statuses = other.subscribe_with_statuses([""], LIMITS).await;
    other.peer(&address.to_string(), None).await.unwrap();
    assert!(matches!(
        next_status(&mut statuses).await,
        Status::PeerAdded(_)
    ));
    let idle = tokio::time::timeout(Duration::from_millis(500), next_status(&mut statuses));
    assert!(idle.await.is_err(), "it answers pings all the same");
}
