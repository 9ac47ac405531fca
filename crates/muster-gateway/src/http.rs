//! An HTTP listener: bounded connections, bounded time for what comes before a request.
//!
//! The gateway, the monitor and a box's agent listen with it: over TCP, with TLS or without, and over Unix sockets.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::middleware::map_request;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use openssl::ssl::SslAcceptor;
use openssl::x509::X509;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};

use crate::budget::Budget;
use crate::intake::{Intake, Metered};
use crate::tls;

/// How long a client may take for its TLS handshake and its request, each; Zeek's library has the same.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);

/// How long the accept loop rests after a failure such as a full descriptor table.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Connections at once, unless a site says otherwise.
const CONNECTIONS: usize = 64;

/// The bytes of unfinished requests of all connections together, unless a site says otherwise.
const UNFINISHED: usize = 4 << 20;

/// What answers the requests of a listener. A request's [`Caller`] is in its extensions, and its [`ClientCertificate`] if
/// there is one.
pub struct Site {
    pub(crate) router: Router,
    /// TLS as it is at present; it may change while the site serves.
    pub(crate) acceptor: Option<watch::Receiver<SslAcceptor>>,
    /// The most connections that have not become WebSockets; beyond it the oldest is closed, so that
    /// silent ones keep nobody out.
    pub(crate) connections: usize,
    /// What is read of unfinished messages of all connections together.
    pub(crate) unfinished: Arc<Budget>,
    /// Told of connections that ended before their request.
    pub(crate) turned_away: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Site {
    /// Returns a site without TLS that answers with a router, over 64 connections at most.
    pub fn new(router: Router) -> Self {
        Self {
            router,
            acceptor: None,
            connections: CONNECTIONS,
            unfinished: Budget::new(UNFINISHED),
            turned_away: Arc::new(|| {}),
        }
    }

    /// Has connections over TCP encrypted, each with what the acceptor is when it comes.
    #[must_use]
    pub fn with_tls(mut self, acceptor: watch::Receiver<SslAcceptor>) -> Self {
        self.acceptor = Some(acceptor);
        self
    }
}

/// The certificate that a client has shown; it is of an authority that the site trusts.
#[derive(Debug, Clone)]
pub struct ClientCertificate(pub X509);

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket. There is no TLS over it.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Who has made a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Whoever is at this address.
    Address(SocketAddr),
    /// A process on this machine.
    Process {
        /// Its user, as the kernel says.
        uid: u32,
        /// Its number, if the kernel says it.
        pid: Option<i32>,
    },
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Process { uid, pid: None } => write!(f, "user {uid}"),
            Self::Process {
                uid,
                pid: Some(pid),
            } => write!(f, "user {uid}, process {pid}"),
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<(Stream, Caller)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::Tcp(stream), Caller::Address(address)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let (uid, pid) = (credentials.uid(), credentials.pid());
                Ok((Stream::Unix(stream), Caller::Process { uid, pid }))
            }
        }
    }
}

/// How long a port may stay taken: by a life before this one, or by somebody's connection.
const PORT_PATIENCE: Duration = Duration::from_secs(2);

/// Listens, as soon as the port is free; the address in use is with the listener.
///
/// # Errors
///
/// Fails if the port is taken for 2 seconds, or the system refuses.
pub async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let end = tokio::time::Instant::now() + PORT_PATIENCE;
    let listener = loop {
        match TcpListener::bind(address).await {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && tokio::time::Instant::now() < end =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            bound => break bound?,
        }
    };
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The connections that have not become WebSockets, oldest first. Each ends when its sender is dropped.
#[derive(Default)]
struct Places(Mutex<VecDeque<(u64, oneshot::Sender<()>)>>);

impl Places {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, oneshot::Sender<()>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, from the oldest if there is no other. What is returned ends with the place.
    fn take(&self, number: u64, most: usize) -> oneshot::Receiver<()> {
        let (sender, ended) = oneshot::channel();
        let mut places = self.lock();
        places.push_back((number, sender));
        if places.len() > most {
            places.pop_front();
        }
        ended
    }

    fn leave(&self, number: u64) {
        self.lock().retain(|(taken, _)| *taken != number);
    }
}

/// Serves for ever.
pub async fn serve(listener: impl Into<Listener>, site: Site) {
    let listener = listener.into();
    let places = Arc::new(Places::default());
    let mut warned = false;
    for number in 0.. {
        let (stream, caller) = match listener.accept().await {
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
        let ended = places.take(number, site.connections);
        let intake = Intake::new(Arc::clone(&site.unfinished));
        let whole = Arc::clone(&intake);
        let router = site.router.clone();
        let router = router
            .layer(Extension(caller))
            .layer(Extension(Arc::clone(&intake)))
            .layer(map_request(move |request: axum::extract::Request| {
                whole.whole();
                std::future::ready(request)
            }));
        let acceptor = site.acceptor.as_ref();
        let acceptor = acceptor.map(|acceptor| acceptor.borrow().clone());
        let turned_away = Arc::clone(&site.turned_away);
        // When nobody serves any more, the places end, and the connections with them.
        let places = Arc::downgrade(&places);
        tokio::spawn(async move {
            let served = tokio::select! {
                served = serve_one(stream, router, acceptor, intake) => served,
                _ = ended => Err("too many connections, or the server ends".to_owned()),
            };
            if let Some(places) = places.upgrade() {
                places.leave(number);
            }
            if let Err(reason) = served {
                turned_away();
                tracing::debug!(%caller, "no request: {reason}");
            }
        });
    }
}

async fn serve_one(
    stream: Stream,
    router: Router,
    acceptor: Option<SslAcceptor>,
    intake: Arc<Intake>,
) -> Result<(), String> {
    let stream = match stream {
        Stream::Tcp(stream) => stream,
        Stream::Unix(stream) => return serve_http(Metered { stream, intake }, router).await,
    };
    // Without this an answer may wait for the acknowledgement of the one before.
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    match acceptor {
        None => serve_http(Metered { stream, intake }, router).await,
        Some(acceptor) => {
            let secured = tokio::time::timeout(HANDSHAKE_LIMIT, tls::accept(&acceptor, stream));
            let secured = secured
                .await
                .map_err(|_| format!("TLS handshake took longer than {HANDSHAKE_LIMIT:?}"))??;
            let stream = secured;
            let router = match stream.ssl().peer_certificate() {
                Some(certificate) => router.layer(Extension(ClientCertificate(certificate))),
                None => router,
            };
            serve_http(Metered { stream, intake }, router).await
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
