//! Commands that speak to one endpoint, Muster's or Broker's.

pub(crate) mod config;
mod message;
pub(crate) mod peers;
pub(crate) mod ping;
pub(crate) mod publish;
mod questions;
pub(crate) mod store;
pub(crate) mod subscribe;
mod websocket;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use muster::{Certificates, Endpoint, EndpointConfig, Forwarding, PeerInfo, Tls};

use crate::arguments::{ConnectionArguments, TlsMode};
use crate::output::Failure;

/// An endpoint that dials `address` with what was said of TLS.
pub(crate) fn start(address: &str, arguments: &ConnectionArguments) -> Result<Endpoint> {
    start_with(tls(address, arguments)?)
}

/// An endpoint whose connections are protected in one way.
fn start_with(tls: Tls) -> Result<Endpoint> {
    Ok(Endpoint::start(EndpointConfig {
        tls,
        // A guest: it hears and is heard, and joins nothing together.
        forwarding: Forwarding::Leaf,
        ..EndpointConfig::default()
    })?)
}

fn tls(address: &str, arguments: &ConnectionArguments) -> Result<Tls, Failure> {
    let ConnectionArguments {
        mode,
        ssl_cafile,
        ssl_capath,
        ssl_certificate,
        ssl_keyfile,
        ssl_passphrase,
        token_file: _,
    } = arguments;
    let has_files = [ssl_cafile, ssl_capath, ssl_certificate, ssl_keyfile]
        .iter()
        .any(|file| file.is_some());
    let mode = match mode {
        Some(mode) => *mode,
        None if has_files => TlsMode::Mutual,
        None if is_loopback(address) => TlsMode::Off,
        None => {
            return Err(Failure::new(format!("{address} is not a loopback address: --tls must say how it is protected"))
                .hint("use --tls anonymous (Zeek's default), --tls mutual with certificates, or --tls off"));
        }
    };
    match mode {
        TlsMode::Off => Ok(Tls::Off),
        TlsMode::Anonymous => Ok(Tls::Anonymous),
        TlsMode::Mutual => {
            let needed = |file: &Option<PathBuf>, name: &str| {
                file.clone().ok_or_else(|| {
                    Failure::new(format!("--tls mutual needs {name}"))
                        .hint("mutual TLS takes --ssl-cafile or --ssl-capath, --ssl-certificate and --ssl-keyfile")
                })
            };
            Ok(Tls::Mutual(Certificates {
                cafile: ssl_cafile.clone(),
                capath: ssl_capath.clone(),
                certificate: needed(ssl_certificate, "--ssl-certificate")?,
                keyfile: needed(ssl_keyfile, "--ssl-keyfile")?,
                passphrase: ssl_passphrase.clone(),
            }))
        }
    }
}

fn is_loopback(address: &str) -> bool {
    let Some((host, _)) = address.rsplit_once(':') else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

async fn dial(endpoint: &Endpoint, address: &str, retry: bool) -> Result<PeerInfo> {
    let retry = retry.then_some(Duration::from_secs(1));
    let peer = endpoint.peer(address, retry).await.map_err(|error| {
        Failure::new(error.to_string()).hint(
            "an address is HOST:PORT, and --tls must match the TLS mode of the endpoint there",
        )
    })?;
    Ok(peer)
}
