//! An HTTP listener: bounded connections, bounded time for what comes before a request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use openssl::ssl::SslAcceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::tls;

/// How long a client may take for its TLS handshake and its request, each; Zeek's library has the same.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);

/// How long the accept loop rests after a failure such as a full descriptor table.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What answers the requests of a listener. A request's client is in [`Extension<SocketAddr>`].
pub(crate) struct Site {
    pub(crate) router: Router,
    pub(crate) acceptor: Option<SslAcceptor>,
    /// The most connections that have not become WebSockets.
    pub(crate) connections: usize,
    /// Told of connections that were turned away before their request.
    pub(crate) turned_away: Arc<dyn Fn() + Send + Sync>,
}

/// Listens; the address in use is with the listener.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves for ever.
pub(crate) async fn serve(listener: TcpListener, site: Site) {
    let places = Arc::new(Semaphore::new(site.connections));
    let mut warned = false;
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !warned {
                    tracing::error!("cannot accept HTTP connections: {error}");
                }
                warned = true;
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        warned = false;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            (site.turned_away)();
            continue;
        };
        let router = site.router.clone().layer(Extension(address));
        let acceptor = site.acceptor.clone();
        let turned_away = Arc::clone(&site.turned_away);
        tokio::spawn(async move {
            if let Err(reason) = serve_one(stream, router, acceptor).await {
                turned_away();
                tracing::debug!(%address, "no request: {reason}");
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
