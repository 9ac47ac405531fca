//! `muster gateway`: serves WebSocket clients of any endpoint, Muster's or Broker's.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use muster_gateway::{Gateway, GatewayConfig, GatewayTls, Plaintext, Tokens};

use crate::arguments;
use crate::cluster::run::Signals;
use crate::output::{Failure, say};
use crate::peer;

/// How long clients may take to be told that the gateway ends.
const STOP_LIMIT: Duration = Duration::from_secs(2);

pub(crate) async fn run(arguments: &arguments::Gateway) -> Result<ExitCode> {
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
