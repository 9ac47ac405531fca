//! `muster gateway`: serves WebSocket clients of any endpoint, Muster's or Broker's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use muster_gateway::{Gateway, GatewayConfig, GatewayTls, Plaintext, Tokens};

use crate::arguments::ConnectionArguments;
use crate::cluster::run::Signals;
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, say};
use crate::peer;

/// Serve WebSocket clients of an endpoint
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The endpoint to peer with, as `127.0.0.1:9999`
    pub(crate) address: String,
    /// Where WebSocket clients are served
    #[arg(long, default_value_t = muster_gateway::GatewayConfig::default().address)]
    pub(crate) listen: SocketAddr,
    /// File of the tokens that clients must show; without it only loopback is listened on
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// Certificate for wss://
    #[arg(long, value_name = "FILE", requires = "keyfile")]
    pub(crate) certificate: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) keyfile: Option<PathBuf>,
    /// Authorities of clients' certificates, which they must then show
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) client_cafile: Option<PathBuf>,
    /// Serve unencrypted on addresses that others can reach; tokens can be read on the way
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
            "--listen names another address; --tokens, --certificate and --keyfile protect it",
        )
    })?;
    say(&format!(
        "WebSocket clients of {} are served on {}{}",
        arguments.address,
        gateway.address(),
        muster_gateway::PATH
    ));
    signals.next().await;
    gateway.stop(STOP_LIMIT).await;
    endpoint.shut_down().await;
    Ok(ExitCode::SUCCESS)
}
