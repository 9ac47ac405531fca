//! A mesh of three: two leaves that have no link hear each other through a relay, and then without it.
//!
//! `cargo run -p muster --example mesh`

#![allow(clippy::print_stdout, reason = "this is what the example is run for")]

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use muster::data::DataRef;
use muster::wire::{EndpointId, Topic};
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, NodeIdentity, Status, Subscriber,
};

/// Nothing here takes longer, so that the example ends in any case.
const LIMIT: Duration = Duration::from_secs(20);

/// How long a failed dial waits before it is tried again.
const RETRY: Option<Duration> = Some(Duration::from_millis(100));

/// Starts an endpoint on a free port of loopback.
async fn start(
    name: &str,
    forwarding: Forwarding,
) -> Result<(Endpoint, SocketAddr), Box<dyn Error>> {
    let config = EndpointConfig {
        identity: NodeIdentity {
            name: name.to_owned(),
            ..NodeIdentity::default()
        },
        forwarding,
        ..EndpointConfig::default()
    };
    let endpoint = Endpoint::start(config)?;
    let address = endpoint
        .listen("127.0.0.1:0".parse()?, Exposure::Guarded)
        .await?;
    Ok((endpoint, address))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::time::timeout(LIMIT, run()).await?
}

async fn run() -> Result<(), Box<dyn Error>> {
    // A chain: left - relay - right.
    let (relay, hub) = start("relay", Forwarding::Relay).await?;
    let (left, _) = start("left", Forwarding::Leaf).await?;
    let (right, right_address) = start("right", Forwarding::Leaf).await?;
    let queue = left.config().subscriber_queue;
    let mut statuses = left.subscribe_with_statuses::<[&str; 0]>([], queue).await;
    let mut heard = right.subscribe(["/news/"]).await;
    for leaf in [&left, &right] {
        leaf.dial(&hub.to_string(), RETRY);
    }
    discovered(&mut statuses, right.id()).await?;
    assert!(left.peers().iter().all(|peer| peer.id == relay.id()));

    let topic = Topic::new("/news/today")?;
    let mut publisher = left.publisher();
    let outcome = publisher.publish(&topic, "over the relay");
    assert_eq!(outcome.queued_to, 1, "one copy, to the next hop");
    assert_eq!(next_text(&mut heard).await?, "over the relay");
    let ping = left.ping(right.id()).await.ok_or("right is in the mesh")?;
    println!("left to right and back, over the relay: {ping:?}");

    // A link of their own: the graph has a cycle now, and a message still comes once.
    left.peer(&right_address.to_string(), RETRY).await?;
    let _ = publisher.publish(&topic, "over a cycle");
    assert_eq!(next_text(&mut heard).await?, "over a cycle");
    let _ = publisher.publish(&topic, "and nothing twice");
    assert_eq!(next_text(&mut heard).await?, "and nothing twice");

    // Without the relay the rest goes on. Whoever is out of reach meanwhile is no subscriber, and `publish` says so.
    relay.shut_down().await;
    unreachable(&mut statuses, relay.id()).await?;
    while publisher
        .publish(&topic, "without the relay")
        .no_subscriber()
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(next_text(&mut heard).await?, "without the relay");

    left.shut_down().await;
    right.shut_down().await;
    Ok(())
}

/// Waits until messages pass both ways between this endpoint and another one of its mesh.
async fn discovered(statuses: &mut Subscriber, id: EndpointId) -> Result<(), Box<dyn Error>> {
    loop {
        let delivery = statuses.receive().await.ok_or("the endpoint has ended")?;
        if let Delivery::Status(Status::EndpointDiscovered(node)) = delivery {
            println!("discovered: {}", node.name);
            if node.id == id {
                return Ok(());
            }
        }
    }
}

/// Waits until an endpoint is out of the mesh.
async fn unreachable(statuses: &mut Subscriber, id: EndpointId) -> Result<(), Box<dyn Error>> {
    loop {
        let delivery = statuses.receive().await.ok_or("the endpoint has ended")?;
        if matches!(delivery, Delivery::Status(Status::EndpointUnreachable(gone)) if gone == id) {
            println!("gone: the relay");
            return Ok(());
        }
    }
}

/// Receives one message that is a text.
async fn next_text(subscriber: &mut Subscriber) -> Result<String, Box<dyn Error>> {
    loop {
        let delivery = subscriber.receive().await.ok_or("the endpoint has ended")?;
        if let Delivery::Batch(batch) = delivery {
            let mut texts = batch
                .iter()
                .map(|message| DataRef::from_validated(message.payload).to::<String>());
            let text = texts.next().ok_or("a batch has a message")??;
            assert!(texts.next().is_none(), "one message at a time is sent");
            println!("received: {text}");
            return Ok(text);
        }
    }
}
