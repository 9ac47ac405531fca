//! `muster subscribe`: prints what is published.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use muster::{Delivery, Status};
use muster_data::{DataRef, encode_to_vec};
use muster_gateway::{Incoming, ServerUrl};

use super::{message, websocket};
use crate::arguments::{ConnectionArguments, Format};
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, say};

/// Print messages whose topics begin with given prefixes
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address of an endpoint (`127.0.0.1:9999`) or of a WebSocket server (`ws://127.0.0.1:27759`)
    pub(crate) address: String,
    /// Topic prefixes; the empty prefix matches every topic
    #[arg(required = true)]
    pub(crate) prefixes: Vec<String>,
    /// Exit after this many messages
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// Output format of the messages, one per line
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Reconnect when the endpoint is unavailable or the connection is lost
    #[arg(long)]
    pub(crate) follow_reconnect: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

/// The pause between two attempts to connect to a WebSocket server.
const PAUSE: Duration = Duration::from_secs(1);

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(url) = websocket::url(&arguments.address)? {
        return over_websocket(&url, arguments).await;
    }
    let endpoint = super::start(&arguments.address, &arguments.connection)?;
    let queue = endpoint.config().subscriber_queue;
    // Subscribed before the peering: nothing is missed between the two.
    let mut subscriber = endpoint
        .subscribe_with_statuses(&arguments.prefixes, queue)
        .await;
    super::dial(&endpoint, &arguments.address, arguments.follow_reconnect).await?;
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(delivery) = subscriber.receive().await else {
            break;
        };
        match delivery {
            Delivery::Batch(batch) => {
                let mut out = io::BufWriter::new(io::stdout().lock());
                for message in batch
                    .iter()
                    .take(usize::try_from(left).unwrap_or(usize::MAX))
                {
                    let value = DataRef::from_validated(message.payload);
                    out.write_all(&message::line(
                        message.topic.as_bytes(),
                        value,
                        arguments.format,
                    ))?;
                    left -= 1;
                }
                out.flush()?;
            }
            Delivery::Status(Status::PeerLost { reason, .. }) => {
                if !arguments.follow_reconnect {
                    return Err(
                        Failure::new(format!("lost {}: {reason}", arguments.address))
                            .hint("use --follow-reconnect to reconnect")
                            .into(),
                    );
                }
                say(&format!(
                    "lost {}: {reason}; reconnecting",
                    arguments.address
                ));
            }
            Delivery::Status(_) => {}
        }
    }
    let dropped = subscriber.depth().dropped;
    if dropped.total() > 0 {
        say(&format!(
            "{} messages were dropped: the output was too slow",
            dropped.total()
        ));
    }
    endpoint.shut_down().await;
    Ok(ExitCode::SUCCESS)
}

/// Prints what a WebSocket server says.
async fn over_websocket(url: &ServerUrl, arguments: &Arguments) -> Result<ExitCode> {
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut told = false;
    // What is wrong with the arguments does not become right by trying again.
    let config = websocket::config(url, &arguments.connection)?;
    while left > 0 {
        let opened = websocket::connect(url, &config, &arguments.prefixes).await;
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(error) if arguments.follow_reconnect => {
                if !told {
                    say(&format!("{error}; retrying"));
                    told = true;
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        told = false;
        while left > 0 {
            match connection.receive().await {
                Ok(Incoming::Message { topic, data }) => {
                    let value = encode_to_vec(&data);
                    let value = DataRef::from_validated(&value);
                    let line = message::line(topic.as_bytes(), value, arguments.format);
                    let mut out = io::stdout().lock();
                    out.write_all(&line)?;
                    out.flush()?;
                    left -= 1;
                }
                Ok(Incoming::Error { code, context }) => say(&format!("{code}: {context}")),
                Ok(Incoming::Other(problem)) => say(&format!("not understood: {problem}")),
                Err(error) if arguments.follow_reconnect => {
                    say(&format!("lost {url}: {error}; reconnecting"));
                    break;
                }
                Err(error) => {
                    return Err(Failure::new(format!("lost {url}: {error}"))
                        .hint("use --follow-reconnect to reconnect")
                        .into());
                }
            }
        }
        if left == 0 {
            connection.close(websocket::GOODBYE).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}
