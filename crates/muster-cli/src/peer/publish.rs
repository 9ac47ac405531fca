//! `muster publish`: publishes one event.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use muster::Endpoint;
use muster_data::{Data, Encode, Limits};
use muster_wire::zeek::{self, Metadata};
use muster_wire::{Class, EndpointId, Filter, Topic};
use tokio::time::Instant;

use crate::arguments::Publish;
use crate::output::Failure;

pub(crate) async fn run(arguments: &Publish) -> Result<ExitCode> {
    let topic = Topic::new(&arguments.topic)?;
    let values = arguments
        .arguments
        .iter()
        .enumerate()
        .map(|(at, text)| {
            Data::parse_text(text, &Limits::default()).map_err(|error| {
                Failure::new(format!("argument {} `{text}`: {error}", at + 1)).hint(
                    "arguments are typed: count:5, int:-5, addr:10.0.0.1, port:80/tcp, string:text, T, [count:1, \"a\"]",
                )
            })
        })
        .collect::<Result<Vec<Data>, _>>()?;
    let mut event = Vec::new();
    zeek::put_event(&mut event, &arguments.event, Metadata::default(), |out| {
        values[..].encode(out);
    });
    let endpoint = super::start(&arguments.address, &arguments.tls)?;
    let peer = super::dial(&endpoint, &arguments.address, false).await?;
    wait_for_subscription(&endpoint, peer.id, &topic, arguments.timeout).await?;
    let outcome = endpoint
        .publisher()
        .publish_encoded(&topic, Bytes::from(event), Class::Event);
    // Waits until the peer has confirmed that it has read everything.
    endpoint.shut_down().await;
    if outcome.queued_to == 0 {
        return Err(Failure::new(format!("{} went away", arguments.address)).into());
    }
    Ok(ExitCode::SUCCESS)
}

async fn wait_for_subscription(
    endpoint: &Endpoint,
    peer: EndpointId,
    topic: &Topic,
    timeout: Duration,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let entries = endpoint.filter_of(peer).unwrap_or_default();
        if Filter::from_prefixes(&entries).matches(topic.as_bytes()) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let entries: Vec<String> = entries
                .iter()
                .map(|entry| String::from_utf8_lossy(entry).into_owned())
                .collect();
            return Err(
                Failure::new(format!("the endpoint does not subscribe to {topic}"))
                    .hint(format!("it subscribes to: {}", entries.join(", ")))
                    .into(),
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
