//! Commands that speak to one endpoint, Muster's or Broker's.

pub(crate) mod peers;
pub(crate) mod publish;
pub(crate) mod subscribe;

use std::time::Duration;

use anyhow::Result;
use muster::{Endpoint, EndpointConfig, PeerInfo};

use crate::output::Failure;

/// Peers with an endpoint, dialling again every second if `retry`.
async fn connect(address: &str, retry: bool) -> Result<(Endpoint, PeerInfo)> {
    let endpoint = Endpoint::start(EndpointConfig::default())?;
    let peer = dial(&endpoint, address, retry).await?;
    Ok((endpoint, peer))
}

async fn dial(endpoint: &Endpoint, address: &str, retry: bool) -> Result<PeerInfo> {
    let retry = retry.then_some(Duration::from_secs(1));
    let peer = endpoint.peer(address, retry).await.map_err(|error| {
        Failure::new(error.to_string())
            .hint("an address is HOST:PORT, and the endpoint there must listen without TLS")
    })?;
    Ok(peer)
}
