//! `muster gateway`: serves WebSocket clients of any endpoint, Muster's or Broker's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use muster_gateway::{Gateway, GatewayConfig, GatewayTls, Plaintext, Tokens};

use crate::arguments::ConnectionArguments;
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, say};
use crate::peer;
use crate::signals::Signals;

/// Serve WebSocket clients on behalf of an endpoint
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address of the endpoint to peer with, such as `127.0.0.1:9999`
    pub(crate) address: String,
    /// Address to listen on for WebSocket clients
    #[arg(long, default_value_t = muster_gateway::GatewayConfig::default().address)]
    pub(crate) listen: SocketAddr,
    /// File of the tokens that clients must present; required to listen beyond loopback
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// Certificate for wss://
    #[arg(long, value_name = "FILE", requires = "keyfile")]
    pub(crate) certificate: Option<PathBuf>,
    /// Private key of the certificate
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) keyfile: Option<PathBuf>,
    /// Certificate authorities for client certificates, which are then required
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) client_cafile: Option<PathBuf>,
    /// Allow serving without encryption on addresses other than loopback, where tokens can be intercepted
    #[arg(long)]
    pub(crate) plaintext_anywhere: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

/// How long clients may take to be told that the gateway ends.
const STOP_LIMIT: Duration = Duration::from_secs(2);

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let tls = match (&arguments.certificate, &arguments.keyfile) {
        (Some(certificate), Some(keyfile)) => Some(GatewayTls {
            certificate: certificate.clone(),
            keyfile: keyfile.clone(),
            cafile: arguments.client_cafile.clone(),
        }),
        _ => None,
    };
    let tokens = arguments.tokens.as_deref().map(Tokens::load).transpose();
    let config = GatewayConfig {
        address: arguments.listen,
        tokens: tokens.map_err(|error| Failure::new(error.to_string()))?,
        tls,
        plaintext: if arguments.plaintext_anywhere {
            Plaintext::Anywhere
        } else {
            Plaintext::Loopback
        },
        ..GatewayConfig::default()
    };
    let mut signals = Signals::new()?;
    let endpoint = peer::start(&arguments.address, &arguments.connection)?;
    endpoint.dial(&arguments.address, Some(Duration::from_secs(1)));
    let gateway = Gateway::start(&endpoint, config).await.map_err(|error| {
        Failure::new(error.to_string()).hint(
            "use --listen for another address; --tokens, --certificate and --keyfile protect it",
        )
    })?;
    say(&format!(
        "serving WebSocket clients of {} on {}{}",
        arguments.address,
        gateway.address(),
        muster_gateway::PATH
    ));
    signals.next().await;
    gateway.stop(STOP_LIMIT).await;
    endpoint.shut_down().await;
    Ok(ExitCode::SUCCESS)
}
