//! A gateway in front of an endpoint, and a client of it: what is published on either side arrives on the other.
//!
//! `cargo run -p muster-gateway --example websocket_client`
//!
//! Any WebSocket client can take the part of the client here: it sends and receives JSON on `/v1/messages/json`.

#![allow(clippy::print_stdout, reason = "this is what the example is run for")]

use std::error::Error;
use std::time::Duration;

use muster::{Delivery, Endpoint, EndpointConfig};
use muster_data::{Data, DataRef, Encode};
use muster_gateway::{ClientConfig, Connection, Gateway, GatewayConfig, Incoming};
use muster_wire::zeek::{EventRef, Metadata, put_event};
use muster_wire::{Class, Topic};

/// Nothing here takes longer, so that the example ends in any case.
const LIMIT: Duration = Duration::from_secs(20);

/// An event with one argument, as Zeek writes it.
fn event(name: &str, number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_event(&mut out, name, Metadata::default(), |out| {
        [Data::Count(number)][..].encode(out);
    });
    out
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::time::timeout(LIMIT, run()).await?
}

async fn run() -> Result<(), Box<dyn Error>> {
    // The side of the cluster: an endpoint, and a gateway on a free port of loopback.
    let endpoint = Endpoint::start(EndpointConfig::default())?;
    let queue = endpoint.config().subscriber_queue;
    let mut answers = endpoint.subscribe_with_local(["/answers/"], queue).await;
    let config = GatewayConfig {
        address: "127.0.0.1:0".parse()?,
        ..GatewayConfig::default()
    };
    let gateway = Gateway::start(&endpoint, config).await?;

    // The client subscribes with its first message; when `open` returns, that is acknowledged.
    let url = format!("ws://{}", gateway.address()).parse()?;
    let prefixes = ["/alerts/".to_owned()];
    let mut client = Connection::open(&url, &ClientConfig::default(), &prefixes).await?;
    println!("connected to {}", client.version());

    // From the cluster to the client. An ordinary publisher does: a gateway hears its endpoint's own.
    let topic = Topic::new("/alerts/scan")?;
    let alert = event("Scan::found", 20);
    let outcome = endpoint
        .publisher()
        .publish_encoded(&topic, alert.into(), Class::Event);
    assert_eq!(outcome.local, 1);
    let Incoming::Message { topic, data } = client.receive().await? else {
        return Err("the server has sent something else".into());
    };
    println!("the client received on {topic}: {data}");
    assert_eq!(topic, "/alerts/scan");

    // From the client into the cluster.
    let answer = event("Answer::seen", 1);
    let answer = DataRef::parse(&answer, &muster_data::Limits::default())?;
    client.publish("/answers/seen", answer).await?;
    let Some(Delivery::Batch(batch)) = answers.receive().await else {
        return Err("the endpoint has ended".into());
    };
    for message in batch.iter() {
        let event = EventRef::read(DataRef::from_validated(message.payload))?;
        println!(
            "the cluster received on {}: {}",
            message.topic,
            event.name()
        );
        assert_eq!(event.name(), "Answer::seen");
    }

    assert!(client.close(Duration::from_secs(5)).await);
    gateway.stop(Duration::from_secs(5)).await;
    endpoint.shut_down().await;
    Ok(())
}
