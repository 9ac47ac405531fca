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
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use muster::Endpoint;
use openssl::ssl::SslAcceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::access::Grant;
use crate::clients::{FanOut, FanOutHandle, GatewayCounts, INBOX, Registry};
use crate::config::{GatewayConfig, Plaintext};
use crate::connection::{self, Place, Request};
use crate::queue::Closing;
use crate::session::PATH;
use crate::tls;

/// How long a client may take for its TLS handshake and its request, each; Zeek's library has the same.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);

/// The connections that may be in their handshake besides those of clients.
const HANDSHAKES: usize = 256;

/// How long the accept loop rests after a failure such as a full descriptor table.
const ACCEPT_REST: Duration = Duration::from_millis(100);

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

/// What the parts of a gateway share.
pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    pub(crate) config: GatewayConfig,
    pub(crate) registry: Arc<Registry>,
    pub(crate) fan_out: FanOutHandle,
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
        let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = shown.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        tokens.grant(token.trim())
    }
}

/// A gateway that listens. Ends with [`Gateway::stop`], with its endpoint, or when it is dropped.
pub struct Gateway {
    address: SocketAddr,
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

impl Gateway {
    /// Listens for clients of an endpoint, on the current tokio runtime.
    pub async fn start(endpoint: &Endpoint, config: GatewayConfig) -> Result<Self, GatewayError> {
        let address = config.address;
        if !address.ip().is_loopback() {
            if config.tokens.is_none() {
                return Err(GatewayError::NoTokens(address));
            }
            if config.tls.is_none() && config.plaintext != Plaintext::Anywhere {
                return Err(GatewayError::NoTls(address));
            }
        }
        let acceptor = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let listen = |source| GatewayError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let no_prefixes: [&str; 0] = [];
        let subscriber = endpoint.subscribe_with_local(no_prefixes, INBOX).await;
        let registry = Arc::new(Registry::default());
        let shared = Arc::new(Shared {
            endpoint: endpoint.clone(),
            fan_out: FanOut::start(subscriber, Arc::clone(&registry)),
            registry,
            everything: Arc::new(Grant::everything("anyone")),
            config,
        });
        let (stop, mut stopped) = watch::channel(false);
        let serving = serve(listener, Arc::clone(&shared), acceptor);
        tokio::spawn(async move {
            tokio::select! {
                () = serving => {}
                // Also when the gateway is dropped.
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
        Ok(Self {
            address,
            shared,
            stop,
        })
    }

    /// The address in use.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the gateway counts.
    pub fn counts(&self) -> GatewayCounts {
        self.shared.registry.counts()
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

async fn serve(listener: TcpListener, shared: Arc<Shared>, acceptor: Option<SslAcceptor>) {
    let router = Router::new()
        .fallback(upgrade)
        .with_state(Arc::clone(&shared));
    let places = Arc::new(Semaphore::new(shared.config.max_clients + HANDSHAKES));
    let mut warned = false;
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !warned {
                    tracing::error!("cannot accept WebSocket clients: {error}");
                }
                warned = true;
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        warned = false;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            shared.turned_away();
            continue;
        };
        let router = router.clone().layer(Extension(address));
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        tokio::spawn(async move {
            if let Err(reason) = serve_one(stream, router, acceptor).await {
                shared.turned_away();
                tracing::debug!(%address, "no WebSocket client: {reason}");
            }
            drop(place);
        });
    }
}

async fn serve_one(
    stream: TcpStream,
    router: Router,
    acceptor: Option<SslAcceptor>,
) -> Result<(), String> {
    // Without this an answer may wait for the acknowledgement of the one before.
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    match acceptor {
        None => serve_http(stream, router).await,
        Some(acceptor) => {
            let secured = tokio::time::timeout(HANDSHAKE_LIMIT, tls::accept(&acceptor, stream));
            let secured = secured
                .await
                .map_err(|_| format!("TLS handshake took longer than {HANDSHAKE_LIMIT:?}"))??;
            serve_http(secured, router).await
        }
    }
}

async fn serve_http<S>(stream: S, router: Router) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_LIMIT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades()
        .await
        .map_err(|error| error.to_string())
}

/// Any path is upgraded, as Zeek does: what is wrong with it is told to the client as a message.
async fn upgrade(
    State(shared): State<Arc<Shared>>,
    Extension(address): Extension<SocketAddr>,
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
    };
    let limit = shared.config.message_limit;
    upgrade
        .max_message_size(limit)
        .max_frame_size(limit)
        .on_upgrade(move |socket| connection::run(socket, request, place))
}
