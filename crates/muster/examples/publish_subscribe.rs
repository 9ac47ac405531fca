//! Publish and subscribe: typed values, their outcome, and the changes of a peering in the stream.
//!
//! `cargo run -p muster --example publish_subscribe`

#![allow(clippy::print_stdout, reason = "this is what the example is run for")]

use std::error::Error;
use std::time::Duration;

use muster::data::{Address, DataRef, Record};
use muster::wire::{Class, Topic};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Status, Subscriber};

/// A typed message: a struct that borrows from the read buffer when it is received.
#[derive(Debug, Clone, Copy, PartialEq, Record)]
struct Login<'a> {
    client: Address,
    user: &'a str,
    failures: u64,
}

/// Nothing here takes longer, so that the example ends in any case.
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::time::timeout(LIMIT, run()).await?
}

async fn run() -> Result<(), Box<dyn Error>> {
    // One endpoint listens, on a free port of loopback, and subscribes to a prefix of topics.
    let hub = Endpoint::start(EndpointConfig::default())?;
    let address = hub
        .listen("127.0.0.1:0".parse()?, Exposure::Guarded)
        .await?;
    let queue = hub.config().subscriber_queue;
    let mut logins = hub.subscribe_with_statuses(["/logins/"], queue).await;

    // The other dials it. When `peer` returns, messages pass both ways.
    let sensor = Endpoint::start(EndpointConfig::default())?;
    sensor.peer(&address.to_string(), None).await?;

    let mut publisher = sensor.publisher();
    let topic = Topic::new("/logins/ssh")?;
    let sent: Vec<Login<'_>> = ["root", "admin", "guest"]
        .into_iter()
        .zip(1..)
        .map(|(user, failures)| Login {
            client: Address::from(std::net::Ipv4Addr::new(192, 0, 2, 1)),
            user,
            failures,
        })
        .collect();
    for login in &sent {
        let outcome = publisher.publish(&topic, login);
        assert_eq!((outcome.queued_to, outcome.dropped), (1, 0));
    }
    // Nobody subscribes to this one: it leaves nothing, and says so.
    assert!(
        publisher
            .publish(&Topic::new("/unheard")?, "hello")
            .no_subscriber()
    );
    // A class of traffic of its own: bulk does not delay ordinary events.
    let outcome = publisher.publish_as(Class::Bulk, &Topic::new("/logins/archive")?, &sent[0]);
    assert_eq!(outcome.queued_to, 1);

    let received = receive(&mut logins, sent.len() + 1).await?;
    // What one publisher sends in a class arrives in that order.
    let events = received.iter().filter(|(topic, _)| topic == "/logins/ssh");
    let users: Vec<&str> = events.map(|(_, user)| user.as_str()).collect();
    assert_eq!(users, ["root", "admin", "guest"]);

    sensor.shut_down().await;
    hub.shut_down().await;
    Ok(())
}

/// Receives `count` messages. Returns the topic and the user of each.
async fn receive(
    logins: &mut Subscriber,
    count: usize,
) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut received = Vec::new();
    while received.len() < count {
        match logins.receive().await.ok_or("the endpoint has ended")? {
            // A peering's changes stand in the same queue as the messages.
            Delivery::Status(Status::PeerAdded(peer)) => println!("a peer: {}", peer.address),
            Delivery::Status(_) => {}
            // All messages of one read share its buffer; `login` borrows from it.
            Delivery::Batch(batch) => {
                for message in batch.iter() {
                    let login = DataRef::from_validated(message.payload).to::<Login<'_>>()?;
                    println!("{}: {login:?}", message.topic);
                    received.push((message.topic.to_string(), login.user.to_owned()));
                }
            }
        }
    }
    Ok(received)
}
