//! The gateway's listener and its HTTP side.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use muster::Endpoint;
use tokio::sync::watch;

use crate::access::{Grant, bearer};
use crate::budget::Budget;
use crate::clients::{FanOut, FanOutHandle, GatewayCounts, INBOX, Registry};
use crate::config::GatewayConfig;
use crate::connection::{self, Place, Request};
use crate::exposure::{Missing, Protection};
use crate::http::{self, Caller, Site};
use crate::intake::Intake;
use crate::queue::Closing;
use crate::session::PATH;
use crate::tls::{ServedTls, TlsProblem};

/// The connections that may be in their handshake at least: there are as many as clients, all of which may
/// come at once, as when the gateway starts again.
const HANDSHAKES: usize = 256;

/// The bytes of unfinished messages of all clients together.
const UNFINISHED: usize = 128 << 20;

/// What may wait to be written to a client besides one message: a buffer, and answers to pings.
const WRITE_SLACK: usize = 1 << 20;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// Everyone could take part.
    #[error(
        "refusing to serve WebSocket clients on {0} without tokens: everyone who reaches it could take part"
    )]
    NoTokens(SocketAddr),
    /// Tokens could be read on the way.
    #[error(
        "refusing to serve WebSocket clients on {0} without TLS: tokens could be read on the way"
    )]
    NoTls(SocketAddr),
    /// A file of TLS cannot be used.
    #[error("WebSocket TLS: cannot use {what} {path}: {reason}")]
    Tls {
        /// Which file.
        what: &'static str,
        /// Its path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The system refused.
    #[error("cannot listen on {address} for WebSocket clients: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

impl From<TlsProblem> for GatewayError {
    fn from(problem: TlsProblem) -> Self {
        let TlsProblem { what, path, reason } = problem;
        Self::Tls { what, path, reason }
    }
}

/// What the parts of a gateway share.
pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    pub(crate) config: GatewayConfig,
    pub(crate) registry: Arc<Registry>,
    pub(crate) fan_out: FanOutHandle,
    /// What waits for all clients together.
    pub(crate) waiting: Arc<Budget>,
    everything: Arc<Grant>,
}

impl Shared {
    pub(crate) fn turned_away(&self) {
        self.registry.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// What a request may do; nothing without a token where tokens are asked for.
    fn grant(&self, headers: &HeaderMap) -> Option<Arc<Grant>> {
        let Some(tokens) = &self.config.tokens else {
            return Some(Arc::clone(&self.everything));
        };
        tokens.grant(bearer(headers)?)
    }
}

/// Tells what a gateway counts.
#[derive(Debug, Clone)]
pub struct GatewayCounter(Arc<Registry>);

impl GatewayCounter {
    /// What the gateway counts.
    pub fn counts(&self) -> GatewayCounts {
        self.0.counts()
    }
}

/// A gateway that listens. Ends with [`Gateway::stop`], with its endpoint, or when it is dropped.
pub struct Gateway {
    address: SocketAddr,
    tls: Option<ServedTls>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl From<(Missing, SocketAddr)> for GatewayError {
    fn from((missing, address): (Missing, SocketAddr)) -> Self {
        match missing {
            Missing::Token => Self::NoTokens(address),
            Missing::Tls => Self::NoTls(address),
        }
    }
}

impl GatewayConfig {
    /// Checks everything but whether the address can be listened on.
    ///
    /// # Errors
    ///
    /// Fails if others can reach the address and there are no tokens, or no TLS and nobody allowed that by name, and if a
    /// file of TLS cannot be used.
    pub fn check(&self) -> Result<(), GatewayError> {
        self.served_tls().map(drop)
    }

    fn served_tls(&self) -> Result<Option<ServedTls>, GatewayError> {
        let protection = Protection {
            has_token: self.tokens.is_some(),
            tls: self.tls.as_ref(),
            plaintext: self.plaintext,
        };
        protection.served(self.address)
    }
}

impl Gateway {
    /// Listens for clients of an endpoint, on the current tokio runtime.
    pub async fn start(endpoint: &Endpoint, config: GatewayConfig) -> Result<Self, GatewayError> {
        let address = config.address;
        let tls = config.served_tls()?;
        let listen = |source| GatewayError::Listen { address, source };
        let (listener, address) = http::bind(address).await.map_err(listen)?;
        let no_prefixes: [&str; 0] = [];
        let subscriber = endpoint.subscribe_with_local(no_prefixes, INBOX).await;
        let registry = Arc::new(Registry::default());
        let waiting = Budget::new(config.memory);
        let shared = Arc::new(Shared {
            endpoint: endpoint.clone(),
            fan_out: FanOut::start(subscriber, Arc::clone(&registry), Arc::clone(&waiting)),
            waiting,
            registry,
            everything: Arc::new(Grant::everything("anyone")),
            config,
        });
        let (stop, mut stopped) = watch::channel(false);
        let counting = Arc::clone(&shared);
        let site = Site {
            router: Router::new()
                .fallback(upgrade)
                .with_state(Arc::clone(&shared)),
            acceptor: tls.as_ref().map(ServedTls::present),
            connections: shared.config.max_clients.max(HANDSHAKES),
            turned_away: Arc::new(move || counting.turned_away()),
            unfinished: Budget::new(UNFINISHED),
        };
        let serving = http::serve(listener, site);
        tokio::spawn(async move {
            tokio::select! {
                () = serving => {}
                // Also when the gateway is dropped.
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
        Ok(Self {
            address,
            tls,
            shared,
            stop,
        })
    }

    /// Serves those who connect from now on with the certificate that is in the files by now.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be used: then the former certificate stays.
    pub fn reload_tls(&self) -> Result<(), GatewayError> {
        self.tls.as_ref().map_or(Ok(()), |tls| Ok(tls.reload()?))
    }

    /// The address in use.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the gateway counts.
    pub fn counts(&self) -> GatewayCounts {
        self.shared.registry.counts()
    }

    /// A handle for those who ask for counts.
    pub fn counter(&self) -> GatewayCounter {
        GatewayCounter(Arc::clone(&self.shared.registry))
    }

    /// Takes no more clients, and ends the present ones with code 1001 after what is queued for them;
    /// takes at most `limit`.
    pub async fn stop(self, limit: Duration) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + limit;
        while self.shared.registry.close_all(Closing::TERMINATING) > 0
            && tokio::time::Instant::now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.registry.close_all(Closing::TERMINATING);
    }
}

/// Any path is upgraded, as Zeek does: what is wrong with it is told to the client as a message.
async fn upgrade(
    State(shared): State<Arc<Shared>>,
    Extension(address): Extension<Caller>,
    Extension(intake): Extension<Arc<Intake>>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        shared.turned_away();
        let text = format!("This is a WebSocket server: use ws and {PATH}.\n");
        return (
            StatusCode::UPGRADE_REQUIRED,
            [(header::UPGRADE, "websocket")],
            text,
        )
            .into_response();
    };
    if shared.config.tokens.is_none() && !is_from_here(&headers) {
        shared.turned_away();
        let text = "Without tokens, pages of other sites may not connect.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let Some(grant) = shared.grant(&headers) else {
        shared.turned_away();
        let text = "A token is needed: Authorization: Bearer <token>.\n";
        return (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            text,
        )
            .into_response();
    };
    let Some(place) = Place::take(&shared) else {
        shared.turned_away();
        return (StatusCode::SERVICE_UNAVAILABLE, "Too many clients.\n").into_response();
    };
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let request = Request {
        path: path.to_owned(),
        application: headers
            .get("x-application-name")
            .map(|name| name.as_bytes().to_vec()),
        grant,
        address,
        intake,
    };
    let limit = shared.config.message_limit;
    upgrade
        .max_message_size(limit)
        .max_frame_size(limit)
        .max_write_buffer_size(shared.config.client_queue.bytes.saturating_add(WRITE_SLACK))
        .on_upgrade(move |socket| connection::run(socket, request, place))
}

/// Whether a request may come from a program or from a page of this machine: a browser says where a
/// page is from, and connects to loopback for any of them. That the page is from the host which the
/// request names says nothing: its site's name may have been made to mean this machine meanwhile.
fn is_from_here(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str().unwrap_or_default().parse::<Uri>() else {
        return false;
    };
    let name = origin.host().unwrap_or_default();
    name == "localhost"
        || name
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
