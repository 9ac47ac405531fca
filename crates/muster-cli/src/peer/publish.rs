//! `muster publish`: publishes an event, or the messages that stdin brings.

use std::io::{BufRead, BufReader, Read};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use muster::Endpoint;
use muster_wire::{EndpointId, Topic};
use tokio::time::Instant;

use super::{message, websocket};
use crate::arguments::{ConnectionArguments, seconds};
use crate::commands::{Execute, on_runtime};
use crate::output::Failure;

/// Publish an event, or messages from stdin
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address of an endpoint (`127.0.0.1:9999`) or of a WebSocket server (`ws://127.0.0.1:27759`)
    pub(crate) address: String,
    /// The topic
    #[arg(required_unless_present = "lines")]
    pub(crate) topic: Option<String>,
    /// The event's name
    #[arg(required_unless_present = "lines")]
    pub(crate) event: Option<String>,
    /// The event's arguments: `count:5`, `addr:10.0.0.1`, `"text"`, `[1, 2]`, or JSON
    #[arg(allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    /// Publish messages from stdin instead, one per line, as `subscribe --format json` prints them
    #[arg(long, conflicts_with_all = ["topic", "event", "arguments"])]
    pub(crate) lines: bool,
    /// How long to wait for the endpoint to subscribe to the topic, in seconds
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

/// The longest line of JSON, in bytes.
const LONGEST_LINE: u64 = 64 << 20;

/// How long a message waits at most until the endpoint has room for it.
const ROOM: Duration = Duration::from_secs(60);

/// What is to be published: topics, and values encoded.
pub(super) type Messages = Box<dyn Iterator<Item = Result<(Topic, Vec<u8>)>> + Send>;

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let messages = messages(arguments)?;
    if let Some(url) = websocket::url(&arguments.address)? {
        return websocket::publish(&url, &arguments.connection, messages).await;
    }
    let endpoint = super::start(&arguments.address, &arguments.connection)?;
    let peer = super::dial(&endpoint, &arguments.address, false).await?;
    let mut publisher = endpoint.publisher();
    let mut is_gone = false;
    for message in messages {
        let (topic, payload) = message?;
        wait_for_subscription(&endpoint, peer.id, &topic, arguments.timeout).await?;
        let outcome = publisher
            .publish_encoded_waiting(&topic, Bytes::from(payload), ROOM)
            .await;
        is_gone = outcome.queued_to == 0;
        if is_gone {
            break;
        }
    }
    // Waits until the peer has confirmed that it has read everything.
    endpoint.shut_down().await;
    if is_gone {
        return Err(Failure::new(format!("{} went away", arguments.address)).into());
    }
    Ok(ExitCode::SUCCESS)
}

fn messages(arguments: &Arguments) -> Result<Messages> {
    if arguments.lines {
        return Ok(Box::new(lines(std::io::stdin())));
    }
    let (Some(topic), Some(event)) = (&arguments.topic, &arguments.event) else {
        return Err(Failure::new("the topic and the event are missing")
            .hint("use muster publish ADDRESS TOPIC EVENT [ARGUMENT]..., or --lines")
            .code(2)
            .into());
    };
    let topic = Topic::new(topic)?;
    let payload = message::event(event, &arguments.arguments)?;
    Ok(Box::new(std::iter::once(Ok((topic, payload)))))
}

/// The messages of lines of JSON; empty lines are passed over.
fn lines(
    source: impl Read + Send + 'static,
) -> impl Iterator<Item = Result<(Topic, Vec<u8>)>> + Send + 'static {
    let mut source = BufReader::new(source);
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            number += 1;
            let mut line = String::new();
            match source.by_ref().take(LONGEST_LINE).read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) if line.trim().is_empty() => {}
                Ok(_) => return Some(message::of_line(number, &line)),
                Err(error) => {
                    let failure = Failure::new(format!("line {number}: {error}"));
                    return Some(Err(failure.into()));
                }
            }
        }
    })
}

async fn wait_for_subscription(
    endpoint: &Endpoint,
    peer: EndpointId,
    topic: &Topic,
    timeout: Duration,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        if endpoint.has_subscriber(topic) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let entries = endpoint.filter_of(peer).unwrap_or_default();
            let entries: Vec<String> = entries
                .iter()
                .map(|entry| String::from_utf8_lossy(entry).into_owned())
                .collect();
            return Err(Failure::new(format!("nothing there subscribes to {topic}"))
                .hint(format!(
                    "the endpoint subscribes to: {}",
                    entries.join(", ")
                ))
                .into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
