//! `muster ping`: how long an endpoint takes to answer.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use muster_gateway::ServerUrl;

use super::websocket;
use crate::arguments::ConnectionArguments;
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, print};

/// Measure the round-trip time to an endpoint
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address of an endpoint (`127.0.0.1:9999`) or of a WebSocket server (`ws://127.0.0.1:27759`)
    pub(crate) address: String,
    /// Number of pings, one per second
    #[arg(long, default_value_t = 1)]
    pub(crate) count: u32,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// The pause between two pings.
const PAUSE: Duration = Duration::from_secs(1);

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(url) = websocket::url(&arguments.address)? {
        return over_websocket(&url, arguments).await;
    }
    let endpoint = super::start(&arguments.address, &arguments.connection)?;
    let peer = super::dial(&endpoint, &arguments.address, false).await?;
    for number in 1..=arguments.count {
        if number > 1 {
            tokio::time::sleep(PAUSE).await;
        }
        let answer = tokio::time::timeout(ANSWER, endpoint.ping(peer.id)).await;
        let Some(span) = answer.ok().flatten() else {
            return Err(Failure::new(format!("{} does not answer", arguments.address)).into());
        };
        print(&format!(
            "{} at {}: {:.3} ms\n",
            peer.id,
            peer.address,
            span.as_secs_f64() * 1000.0
        ))?;
    }
    endpoint.shut_down().await;
    Ok(ExitCode::SUCCESS)
}

async fn over_websocket(url: &ServerUrl, arguments: &Arguments) -> Result<ExitCode> {
    let mut connection = websocket::open(url, &arguments.connection, &[]).await?;
    for number in 1..=arguments.count {
        if number > 1 {
            tokio::time::sleep(PAUSE).await;
        }
        let answer = tokio::time::timeout(ANSWER, connection.ping()).await;
        let span = answer.map_err(|_| Failure::new(format!("{url} does not answer")))??;
        print(&format!(
            "{} at {url} ({}): {:.3} ms\n",
            connection.endpoint(),
            connection.version(),
            span.as_secs_f64() * 1000.0
        ))?;
    }
    connection.close(websocket::GOODBYE).await;
    Ok(ExitCode::SUCCESS)
}
