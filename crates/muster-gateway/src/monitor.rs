//! A node's metrics and status over HTTP.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use crate::http::{self, Site};
use crate::metrics::{MetricsFormat, NodeMetrics};
use crate::status::NodePage;

/// Connections at once; whoever scrapes needs one.
const CONNECTIONS: usize = 16;

/// How far the port for monitoring is above the node's, unless it is set.
const PORT_DISTANCE: u16 = 1000;

/// Where a node can be monitored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitorAddress {
    /// On loopback, 1,000 above the node's port; not at all if that is in use.
    Automatic,
    /// Nowhere.
    Off,
    /// There, or the node does not start.
    At(SocketAddr),
}

/// A text that names no address for monitoring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("monitor.listen = \"{0}\": `auto`, `off`, or an address and a port as 127.0.0.1:28760")]
pub struct MonitorAddressError(String);

impl FromStr for MonitorAddress {
    type Err = MonitorAddressError;

    fn from_str(text: &str) -> Result<Self, MonitorAddressError> {
        match text {
            "auto" => Ok(Self::Automatic),
            "off" => Ok(Self::Off),
            address => address
                .parse()
                .map(Self::At)
                .map_err(|_| MonitorAddressError(text.to_owned())),
        }
    }
}

impl MonitorAddress {
    /// The address for a node that listens on a port, if there is one.
    pub fn for_port(self, port: u16) -> Option<SocketAddr> {
        match self {
            Self::Automatic => {
                let port = port.checked_add(PORT_DISTANCE)?;
                Some((Ipv4Addr::LOCALHOST, port).into())
            }
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

/// What a monitor shows, asked for each request.
pub trait Monitored: Send + Sync + 'static {
    /// For `/metrics`.
    fn metrics(&self) -> NodeMetrics;

    /// For `/status`.
    fn status(&self) -> NodePage;
}

/// Why a monitor does not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for monitoring: {source}")]
pub struct MonitorError {
    address: SocketAddr,
    source: io::Error,
}

/// A node's metrics and status, served over HTTP until it is dropped.
pub struct Monitor {
    address: SocketAddr,
    _stop: watch::Sender<()>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Monitor {
    /// Serves `/metrics`, for Prometheus, as OpenMetrics if the header `Accept` asks for it and otherwise in the text
    /// format, and `/status`, as JSON. Whoever reaches the address can read
    /// both.
    pub async fn start(
        address: SocketAddr,
        monitored: Arc<dyn Monitored>,
    ) -> Result<Self, MonitorError> {
        let bound = http::bind(address).await;
        let (listener, address) = bound.map_err(|source| MonitorError { address, source })?;
        let router = Router::new()
            .route("/", get(index))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .with_state(monitored);
        let site = Site {
            router,
            acceptor: None,
            connections: CONNECTIONS,
            turned_away: Arc::new(|| {}),
        };
        let (stop, mut stopped) = watch::channel(());
        tokio::spawn(async move {
            tokio::select! {
                () = http::serve(listener, site) => {}
                _ = stopped.changed() => {}
            }
        });
        Ok(Self {
            address,
            _stop: stop,
        })
    }

    /// The address in use.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn index() -> &'static str {
    "A Muster node: /metrics for Prometheus, /status as JSON.\n"
}

async fn metrics(
    State(monitored): State<Arc<dyn Monitored>>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let accept = headers.get_all(header::ACCEPT).iter();
    let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
    let format = MetricsFormat::accepted(&accept.join(","));
    let text = monitored.metrics().text(format);
    let headers = [
        (header::CONTENT_TYPE, format.content_type()),
        (header::VARY, "Accept"),
    ];
    (headers, text)
}

async fn status(State(monitored): State<Arc<dyn Monitored>>) -> impl IntoResponse {
    // Plain structs with text for keys become JSON in any case.
    let text = serde_json::to_string_pretty(&monitored.status()).unwrap_or_default() + "\n";
    ([(header::CONTENT_TYPE, "application/json")], text)
}
