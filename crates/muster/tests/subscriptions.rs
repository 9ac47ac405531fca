//! Subscriptions that change faster than a peer reads.
//!
//! Every change announces the whole filter. The announcements of a gateway's client with a thousand
//! prefixes filled the queue of a peer that was only slow, and ended its peering.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/raw.rs"]
#[allow(dead_code, reason = "this test sends no messages")]
mod raw;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use muster::{Endpoint, EndpointConfig, Exposure, Heartbeat};
use muster_test_support::within;
use tokio::io::AsyncReadExt;

use raw::raw_peer;

#[tokio::test]
async fn a_peer_that_does_not_read_for_a_while_gets_the_last_filter() {
    let endpoint = Endpoint::start(EndpointConfig {
        heartbeat: Heartbeat::OFF,
        ..EndpointConfig::default()
    })
    .unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let address = endpoint.listen(address, Exposure::Guarded).await.unwrap();
    let mut peer = raw_peer(&address.to_string(), &[0]).await;
    let subscriber = endpoint.subscribe(["/0/"]).await;
    // More than the buffers of both sides hold, and more than the frames that a queue may have.
    let prefix = |number: u32| format!("/{number:05}/{}", "x".repeat(50));
    for number in 0..700 {
        subscriber.subscribe(prefix(number)).await;
    }
    subscriber.subscribe("/last/").await;
    for number in 0..700 {
        subscriber.unsubscribe(prefix(number)).await;
    }
    let reports = endpoint.counts().peers;
    assert!(reports[0].connected, "{reports:?}");
    // sender, receiver, type, TTL, topic length; then the filter
    let expected = b"\x02\x03/0/\x06/last/";
    let reading = async {
        loop {
            let length = peer.read_u32().await.unwrap() as usize;
            let mut frame = vec![0; length];
            peer.read_exact(&mut frame).await.unwrap();
            if frame.ends_with(expected) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reading)
        .await
        .expect("the last filter comes");
}

/// Whoever gives up while it subscribes has no subscriber to drop, so the subscription ends by itself: both before the
/// endpoint has answered, and when the answer is on its way.
#[tokio::test]
async fn a_subscription_that_is_given_up_while_it_is_made_ends() {
    let [here, there] = [(); 2].map(|()| Endpoint::start(EndpointConfig::default()).unwrap());
    let address = "127.0.0.1:0".parse().unwrap();
    let address = there.listen(address, Exposure::Guarded).await.unwrap();
    within(here.peer(&address.to_string(), None)).await.unwrap();
    for is_answered in [false, true] {
        let mut subscribing = pin!(here.subscribe([format!("/given-up/{is_answered}/")]));
        let polled = poll_fn(|cx| Poll::Ready(subscribing.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        if is_answered {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
    }
    let _kept = here.subscribe(["/kept/"]).await;
    within(async {
        while there.filter_of(here.id()).unwrap_or_default() != [b"/kept/".to_vec()] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
