//! What is set for one peer holds towards that peer alone: bounds, what a full queue does, and whether
//! publishers wait.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use muster::data::Data;
use muster::wire::counters::DropCause;
use muster::wire::peering::Protocol;
use muster::wire::{Overflow, Topic};
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, NodeIdentity, PeerMatch, PeerOptions,
    PeerRule, QueueOptions, Subscriber,
};
use muster_test_support::within;
use tokio::io::{AsyncRead, ReadBuf};

/// The end of a link that can be kept from reading.
struct Gated<R> {
    inner: R,
    gate: Gate,
}

/// Whether it is closed, and who waits for it.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<(bool, Option<Waker>)>>);

impl Gate {
    fn close(&self) {
        self.0.lock().unwrap().0 = true;
    }

    fn open(&self) {
        let mut gate = self.0.lock().unwrap();
        gate.0 = false;
        if let Some(waker) = gate.1.take() {
            waker.wake();
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Gated<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        {
            let mut gate = self.gate.0.lock().unwrap();
            if gate.0 {
                gate.1 = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

fn text(size: usize) -> Data {
    Data::String(vec![7; size].into())
}

fn topic() -> Topic {
    Topic::new("/t").unwrap()
}

fn data(overflow: Overflow) -> PeerOptions {
    PeerOptions {
        data: QueueOptions {
            messages: Some(8),
            bytes: None,
            overflow: Some(overflow),
        },
        ..PeerOptions::default()
    }
}

fn named(name: &str, forwarding: Forwarding) -> EndpointConfig {
    EndpointConfig {
        identity: NodeIdentity {
            name: name.to_owned(),
            role: "archive".to_owned(),
            ..NodeIdentity::default()
        },
        forwarding,
        ..EndpointConfig::default()
    }
}

/// A peer of `hub` that hears everything below `/t`, and the gate of what it reads. It makes the connection
/// itself: all that `hub` knows of it is what it says.
async fn peer(hub: &Endpoint, config: EndpointConfig) -> (Endpoint, Subscriber, Gate) {
    let name = config.identity.name.clone();
    let peer = Endpoint::start(config).unwrap();
    let subscriber = peer.subscribe(["/t"]).await;
    let (here, there) = tokio::io::duplex(16 << 10);
    let (reader, writer) = tokio::io::split(here);
    hub.accept_stream(reader, writer, "in memory");
    let gate = Gate::default();
    let (inner, writer) = tokio::io::split(there);
    let gated = Gated {
        inner,
        gate: gate.clone(),
    };
    peer.connect_stream(gated, writer, &format!("hub of {name}"));
    within(async {
        while !hub.peers().iter().any(|known| known.id == peer.id())
            || hub
                .filter_of(peer.id())
                .is_none_or(|filter| filter.is_empty())
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    (peer, subscriber, gate)
}

fn dropped(hub: &Endpoint, peer: &Endpoint) -> BTreeMap<DropCause, u64> {
    let counts = hub.counts();
    let mut reports = counts.peers.iter();
    let report = reports.find(|report| report.peer.id == peer.id()).unwrap();
    assert!(report.queued <= 8 || report.dropped.total() == 0);
    report.dropped.by_cause()
}

/// Of four peers three stop reading. A publisher that waits does so for the one whose rule is `block`, and
/// goes on when that one reads again; the others cost themselves, each by its own rule; the fourth, for which
/// nothing was set, hears everything.
#[tokio::test(flavor = "multi_thread")]
async fn each_peer_has_its_own_policy_and_only_block_is_waited_for() {
    let rule = |name: &str, overflow| PeerRule {
        peer: PeerMatch::Name(name.to_owned()),
        options: data(overflow),
    };
    let hub = Endpoint::start(EndpointConfig {
        peers: vec![
            rule("patient", Overflow::Block),
            rule("lossy", Overflow::DropNewest),
            rule("strict", Overflow::Disconnect),
        ],
        ..named("hub", Forwarding::Relay)
    })
    .unwrap();
    let leaf = |name| peer(&hub, named(name, Forwarding::Leaf));
    let (patient, mut patient_hears, patient_gate) = leaf("patient").await;
    let (lossy, _lossy_hears, lossy_gate) = leaf("lossy").await;
    let (strict, _strict_hears, strict_gate) = leaf("strict").await;
    let (free, mut free_hears, _) = leaf("free").await;
    let peers = hub.peers();
    assert!(peers.iter().all(|peer| peer.protocol == Protocol::V2));
    for gate in [&patient_gate, &lossy_gate, &strict_gate] {
        gate.close();
    }
    let payload = text(32 << 10);
    let mut publisher = hub.publisher();
    let mut published = 0;
    let brief = Duration::from_millis(1);
    // Nobody waits for the lossy or the strict one: the first deadline that passes is the patient one's, when
    // all that was on the way to it stands.
    let longer = Duration::from_millis(200);
    loop {
        let outcome = within(publisher.publish_waiting(&topic(), &payload, longer)).await;
        published += 1;
        if dropped(&hub, &patient).contains_key(&DropCause::Deadline) {
            assert!(outcome.dropped >= 1);
            break;
        }
    }
    within(async {
        while hub.peers().iter().any(|peer| peer.id == strict.id())
            || !dropped(&hub, &lossy).contains_key(&DropCause::Newest)
        {
            let _ = publisher.publish_waiting(&topic(), &payload, brief).await;
            published += 1;
        }
    })
    .await;
    assert!(dropped(&hub, &strict).contains_key(&DropCause::Disconnect));
    for peer in [&lossy, &strict] {
        assert!(!dropped(&hub, peer).contains_key(&DropCause::Deadline));
    }
    assert!(!dropped(&hub, &patient).contains_key(&DropCause::Newest));
    assert_eq!(dropped(&hub, &free), BTreeMap::new());
    // One that waits longer gets the room that there is when the peer reads again.
    let long = Duration::from_secs(20);
    let (topic, last) = (topic(), text(40_000));
    let waiting = publisher.publish_waiting(&topic, &last, long);
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures_ready(waiting.as_mut()).await.is_none());
    patient_gate.open();
    let outcome = within(waiting).await;
    published += 1;
    // Besides it, the free one; the lossy one is still frozen, and may have a last place.
    assert_eq!(outcome.queued_to + outcome.dropped, 3);
    assert!(outcome.queued_to >= 2);
    heard_until_last(&mut patient_hears).await;
    assert_eq!(heard_until_last(&mut free_hears).await, published);
}

/// The messages until the last one, which is larger.
async fn heard_until_last(subscriber: &mut Subscriber) -> usize {
    let mut heard = 0;
    loop {
        if let Delivery::Batch(batch) = within(subscriber.receive()).await.unwrap() {
            heard += batch.len();
            if batch.iter().any(|message| message.payload.len() > 40_000) {
                return heard;
            }
        }
    }
}

/// The future's outcome, if it has one at once.
async fn futures_ready<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut future).poll(cx) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

/// What a peer was dialled with holds for the connection, whatever the rules say; a rule for its role does not
/// reach a peer of version 1, which says none.
#[tokio::test(flavor = "multi_thread")]
async fn options_of_a_dial_come_before_rules() {
    for forwarding in [Forwarding::Relay, Forwarding::Direct] {
        let there = Endpoint::start(named("there", forwarding)).unwrap();
        let local = "127.0.0.1:0".parse().unwrap();
        let address = there.listen(local, Exposure::default()).await.unwrap();
        let _subscriber = there.subscribe(["/t"]).await;
        let hub = Endpoint::start(EndpointConfig {
            peers: vec![PeerRule {
                peer: PeerMatch::Role("archive".to_owned()),
                options: PeerOptions {
                    data: QueueOptions {
                        bytes: Some(1000),
                        ..QueueOptions::default()
                    },
                    ..PeerOptions::default()
                },
            }],
            ..named("hub", forwarding)
        })
        .unwrap();
        let options = PeerOptions {
            data: QueueOptions {
                bytes: Some(3000),
                ..QueueOptions::default()
            },
            ..PeerOptions::default()
        };
        for (options, mesh, apart) in [
            (PeerOptions::default(), 1000, usize::MAX),
            (options, 3000, 3000),
        ] {
            // Again, if the other end has not noticed yet that the last peering is over.
            let retry = Some(Duration::from_millis(20));
            hub.dial_with(&address.to_string(), retry, options);
            let mut publisher = hub.publisher();
            // What is known of the other end is known from before: only what reaches it says that there is a way again.
            within(async {
                while publisher.publish(&topic(), &text(1)).queued_to == 0 {
                    tokio::task::yield_now().await;
                }
                while hub.counts().peers[0].queued > 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            let bound = match forwarding {
                Forwarding::Direct => apart,
                _ => mesh,
            };
            // Each with the bookkeeping of a message besides.
            for size in [500, 2000, 5000] {
                let outcome = publisher.publish(&topic(), &text(size));
                let (taken, dropped) = if size < bound { (1, 0) } else { (0, 1) };
                let told = (outcome.queued_to, outcome.dropped);
                assert_eq!(told, (taken, dropped), "{size} {bound}");
                within(async {
                    while hub.counts().peers[0].queued > 0 {
                        tokio::task::yield_now().await;
                    }
                })
                .await;
            }
            assert!(within(hub.unpeer(there.id())).await);
            within(async {
                while hub.counts().peers.iter().any(|peer| peer.connected)
                    || !there.peers().is_empty()
                {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    }
}

/// A relay puts together no more than the peer's own bound: what does not fit is dropped by the policy, and
/// nothing for being too large.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_keeps_to_the_bounds_of_its_next_hop() {
    let relay = Endpoint::start(EndpointConfig {
        peers: vec![PeerRule {
            peer: PeerMatch::Name("small".to_owned()),
            options: data(Overflow::DropOldest),
        }],
        ..named("relay", Forwarding::Relay)
    })
    .unwrap();
    let (small, mut hears, _) = peer(&relay, named("small", Forwarding::Leaf)).await;
    let (author, _, _) = peer(&relay, named("author", Forwarding::Leaf)).await;
    within(async {
        while author.filter_of(small.id()).is_none_or(|f| f.is_empty()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut publisher = author.publisher();
    for _ in 0..2000 {
        let _ = publisher.publish(&topic(), &text(100));
    }
    let _ = publisher.publish(&topic(), &text(50_000));
    let heard = heard_until_last(&mut hears).await;
    let dropped = dropped(&relay, &small);
    assert!(dropped.keys().all(|cause| *cause == DropCause::Oldest));
    let dropped = dropped.get(&DropCause::Oldest).copied().unwrap_or(0);
    assert_eq!(heard as u64 + dropped, 2001);
}
