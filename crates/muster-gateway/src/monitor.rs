//! A node's metrics and status over HTTP.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::access::shows_token;
use crate::budget::Budget;
use crate::config::{GatewayTls, Plaintext};
use crate::exposure::{Missing, Protection};
use crate::http::{self, Site};
use crate::metrics::NodeMetrics;
use crate::status::NodePage;
use crate::tls::{ServedTls, TlsProblem};

/// Connections at once; whoever scrapes needs one.
const CONNECTIONS: usize = 16;

/// The bytes of unfinished requests of all connections together.
const UNFINISHED: usize = 4 << 20;

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

/// How a monitor is protected. On addresses that others can reach it needs both.
#[derive(Debug, Clone, Default)]
pub struct MonitorProtection {
    /// The token that whoever asks must show, as `Authorization: Bearer TOKEN`.
    pub token: Option<String>,
    /// Certificate and key, if connections are to be encrypted.
    pub tls: Option<GatewayTls>,
    /// Whether the token may travel unencrypted to an address that others reach.
    pub plaintext: Plaintext,
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
#[non_exhaustive]
pub enum MonitorError {
    /// Everyone could read it.
    #[error(
        "refusing to serve metrics and status on {0} without a token: everyone who reaches it could read them"
    )]
    NoToken(SocketAddr),
    /// The token could be read on the way.
    #[error(
        "refusing to serve metrics and status on {0} without TLS: the token could be read on the way"
    )]
    NoTls(SocketAddr),
    /// A file of TLS cannot be used.
    #[error("monitor: cannot use {what} {path}: {reason}")]
    Tls {
        /// Which file.
        what: &'static str,
        /// Its path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The system refused.
    #[error("cannot listen on {address} for monitoring: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

impl From<TlsProblem> for MonitorError {
    fn from(problem: TlsProblem) -> Self {
        let TlsProblem { what, path, reason } = problem;
        Self::Tls { what, path, reason }
    }
}

impl From<(Missing, SocketAddr)> for MonitorError {
    fn from((missing, address): (Missing, SocketAddr)) -> Self {
        match missing {
            Missing::Token => Self::NoToken(address),
            Missing::Tls => Self::NoTls(address),
        }
    }
}

/// A node's metrics and status, served over HTTP until it is dropped.
pub struct Monitor {
    address: SocketAddr,
    tls: Option<ServedTls>,
    _stop: watch::Sender<()>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl MonitorProtection {
    /// Checks that it is enough for an address, and that its files can be used.
    ///
    /// # Errors
    ///
    /// Fails if others can reach the address and there is no token, or no TLS and nobody allowed that by name, and if a
    /// file of TLS cannot be used.
    pub fn check(&self, address: SocketAddr) -> Result<(), MonitorError> {
        self.served_tls(address).map(drop)
    }

    fn served_tls(&self, address: SocketAddr) -> Result<Option<ServedTls>, MonitorError> {
        let protection = Protection {
            has_token: self.token.is_some(),
            tls: self.tls.as_ref(),
            plaintext: self.plaintext,
        };
        protection.served(address)
    }
}

impl Monitor {
    /// Serves `/metrics`, for Prometheus, as OpenMetrics if the header `Accept` asks for it and otherwise in the text
    /// format, and `/status`, as JSON. Whoever reaches the address, and shows the token if there is one, can read both.
    ///
    /// # Errors
    ///
    /// Fails if others can reach the address and there is no token, or no TLS and nobody allowed that by name; if a file of
    /// TLS cannot be used; and if the system refuses the address.
    pub async fn start(
        address: SocketAddr,
        protection: MonitorProtection,
        monitored: Arc<dyn Monitored>,
    ) -> Result<Self, MonitorError> {
        let tls = protection.served_tls(address)?;
        let bound = http::bind(address).await;
        let (listener, address) =
            bound.map_err(|source| MonitorError::Listen { address, source })?;
        let mut router = Router::new()
            .route("/", get(index))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .with_state(monitored);
        if let Some(token) = protection.token {
            let token: Arc<str> = token.into();
            router = router.layer(from_fn(move |request: Request, next: Next| {
                let token = Arc::clone(&token);
                async move {
                    if shows_token(&token, request.headers()) {
                        next.run(request).await
                    } else {
                        unauthorized()
                    }
                }
            }));
        }
        let site = Site {
            router,
            acceptor: tls.as_ref().map(ServedTls::present),
            connections: CONNECTIONS,
            turned_away: Arc::new(|| {}),
            unfinished: Budget::new(UNFINISHED),
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
            tls,
            _stop: stop,
        })
    }

    /// Serves those who connect from now on with the certificate that is in the files by now.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be used: then the former certificate stays.
    pub fn reload_tls(&self) -> Result<(), MonitorError> {
        self.tls.as_ref().map_or(Ok(()), |tls| Ok(tls.reload()?))
    }

    /// The address in use.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn unauthorized() -> Response {
    let text = "A token is needed: Authorization: Bearer <token>.\n";
    let headers = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, headers, text).into_response()
}

async fn index() -> &'static str {
    "A Muster node: /metrics for Prometheus, /status as JSON.\n"
}

async fn metrics(
    State(monitored): State<Arc<dyn Monitored>>,
    headers: HeaderMap,
) -> impl IntoResponse {
    monitored.metrics().metrics().answer(&headers)
}

async fn status(State(monitored): State<Arc<dyn Monitored>>) -> impl IntoResponse {
    // Plain structs with text for keys become JSON in any case.
    let text = serde_json::to_string_pretty(&monitored.status()).unwrap_or_default() + "\n";
    ([(header::CONTENT_TYPE, "application/json")], text)
}
