//! Connections to WebSocket servers, for addresses that begin with `ws://` or `wss://`.

use std::time::Duration;

use anyhow::Result;
use muster_gateway::{ClientConfig, ClientError, Connection, RefusalReason, ServerUrl, TlsReason};

use crate::arguments::ConnectionArguments;
use crate::output::Failure;

/// How long a goodbye may take behind which nothing depends on it.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);

/// A WebSocket server, if that is what an address names.
pub(super) fn url(address: &str) -> Result<Option<ServerUrl>> {
    if !address.starts_with("ws://") && !address.starts_with("wss://") {
        return Ok(None);
    }
    let url = address.parse::<ServerUrl>();
    Ok(Some(url.map_err(|error| Failure::new(error.to_string()))?))
}

/// How to present oneself, as the arguments have it.
pub(super) fn config(url: &ServerUrl, arguments: &ConnectionArguments) -> Result<ClientConfig> {
    if arguments.mode.is_some() {
        return Err(Failure::new(format!("--tls does not apply to {url}"))
            .hint("use wss:// for encryption; --ssl-cafile names the trusted authorities")
            .into());
    }
    Ok(ClientConfig {
        application: "muster".to_owned(),
        token: arguments.token()?,
        cafile: arguments.ssl_cafile.clone(),
        ..ClientConfig::default()
    })
}

/// Connects, as the arguments have it.
pub(super) async fn open(
    url: &ServerUrl,
    arguments: &ConnectionArguments,
    prefixes: &[String],
) -> Result<Connection> {
    connect(url, &config(url, arguments)?, prefixes).await
}

/// Connects; an error says what would help.
pub(super) async fn connect(
    url: &ServerUrl,
    config: &ClientConfig,
    prefixes: &[String],
) -> Result<Connection> {
    let opened = Connection::open(url, config, prefixes).await;
    Ok(opened.map_err(|error| {
        let hint = match &error {
            ClientError::Refused {
                reason: RefusalReason::Status { status: 401, .. },
                ..
            } => "use --token-file to give the file with the token",
            ClientError::Tls {
                reason: TlsReason::OtherHost,
                ..
            } => {
                "the certificate must name the host of the address, as those of `muster tls init` do"
            }
            ClientError::Tls { .. } => "--ssl-cafile names the authorities to trust",
            _ => "a WebSocket address is ws://HOST:PORT or wss://HOST:PORT",
        };
        Failure::new(error.to_string()).hint(hint)
    })?)
}
