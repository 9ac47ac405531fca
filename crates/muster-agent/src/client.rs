//! Whoever asks an agent: over its Unix socket, or over TLS from another box.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use muster_gateway::status::{ClusterStatus, CoordinatorsStatus, StoresStatus};
use openssl::ssl::SslConnector;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use crate::api::{AdoptStoreRequest, Done, FOR, MoveStoreRequest, RecoverRequest, Refusal};
use crate::coordination::{StoreAction, StoreOrder};
use crate::desk::{KnownOperator, TokenAnswer, TokenRequest};
use crate::pki::{self, Kind, Principal};
use crate::roster::Keeper;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(8);

/// How long an answer of many lines may take to begin: what there is is read first.
const BEGINNING: Duration = Duration::from_secs(120);

/// How long another box may take to be reached.
const CONNECT: Duration = Duration::from_secs(2);

/// The largest answer in bytes.
const LARGEST_ANSWER: usize = 256 << 20;

/// The longest line of a stream in bytes.
const LONGEST_LINE: usize = 1 << 20;

/// Why an agent has not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No agent listens.
    #[error("no agent listens on {0}")]
    NotRunning(String),
    /// No way leads there.
    #[error("cannot reach {at}: {reason}")]
    Unreachable {
        /// Where.
        at: String,
        /// Why.
        reason: String,
    },
    /// The socket may not be opened.
    #[error("cannot open {}: permission denied", .0.display())]
    PermissionDenied(PathBuf),
    /// Somebody listens who is not the agent.
    #[error("{at} is not trusted: {reason}")]
    NotTrusted {
        /// Where.
        at: String,
        /// Why.
        reason: String,
    },
    /// The connection failed or broke.
    #[error("lost the agent: {0}")]
    Lost(String),
    /// The agent took too long.
    #[error("the agent does not answer")]
    TimedOut,
    /// What it answered is not understood.
    #[error("the agent is of another version: {0}")]
    Version(String),
    /// It refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Who has to be at the other end of a TLS connection.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    /// The agent of a box of the cluster that was not forgotten.
    BoxOf(String, Arc<Keeper>),
    /// The agent of a box, of whatever cluster the trusted authority is of.
    AnyBox,
    /// Anybody that TLS lets through.
    Anybody,
}

#[derive(Clone)]
enum Way {
    Unix(PathBuf),
    Tls {
        address: SocketAddr,
        connector: watch::Receiver<SslConnector>,
        expected: Expected,
        /// What is shown besides a certificate, or instead of one.
        token: Option<Arc<str>>,
    },
}

/// Asks an agent. Each request has a connection of its own.
#[derive(Clone)]
pub struct Client(Way);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.at()).finish()
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Client {
    /// Returns a client of the agent that listens on a Unix socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self(Way::Unix(socket.into()))
    }

    /// Returns a client of another box's agent.
    pub(crate) fn over_tls(
        address: SocketAddr,
        connector: watch::Receiver<SslConnector>,
        expected: Expected,
    ) -> Self {
        Self(Way::Tls {
            address,
            connector,
            expected,
            token: None,
        })
    }

    /// Has it show a token to whoever is at the other end, once that is whom it expects.
    pub(crate) fn with_token(mut self, shown: Arc<str>) -> Self {
        if let Way::Tls { token, .. } = &mut self.0 {
            *token = Some(shown);
        }
        self
    }

    fn at(&self) -> String {
        match &self.0 {
            Way::Unix(path) => path.display().to_string(),
            Way::Tls { address, .. } => address.to_string(),
        }
    }

    /// Returns the state of the cluster, as far as the agent knows it.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses.
    pub async fn status(&self) -> Result<ClusterStatus, ClientError> {
        self.get("status").await
    }

    /// Asks for a change, such as `nodes/data-1/restart`, `stop` or `reload`. Returns what is worth knowing of it.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses.
    pub async fn change(&self, what: &str) -> Result<Option<String>, ClientError> {
        let done: Done = self.whole(Method::POST, what, Bytes::new(), None).await?;
        Ok(done.note)
    }

    /// Asks for a change for somebody who has asked this box.
    pub(crate) async fn change_for(&self, what: &str, who: &str) -> Result<Done, ClientError> {
        self.whole(Method::POST, what, Bytes::new(), Some(who))
            .await
    }

    /// Makes a token with which a box may join, once.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses.
    pub async fn create_token(
        &self,
        ttl: Duration,
        for_box: Option<String>,
    ) -> Result<String, ClientError> {
        let request = TokenRequest {
            ttl_seconds: ttl.as_secs(),
            for_box,
        };
        let answer: TokenAnswer = self.post("tokens", &request).await?;
        Ok(answer.token)
    }

    /// Returns the operators of the cluster.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses.
    pub async fn operators(&self) -> Result<Vec<KnownOperator>, ClientError> {
        self.get("operators").await
    }

    /// Returns what is known of the coordinators.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses.
    pub async fn coordinators(&self) -> Result<CoordinatorsStatus, ClientError> {
        self.get("coordinators").await
    }

    /// Has the coordinator of the box that is asked go on alone, as most others are lost for good; `lost` is one of those. Returns what
    /// is worth knowing of it.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses: the coordinators decide, or the box is not lost.
    pub async fn recover(&self, lost: &str) -> Result<Option<String>, ClientError> {
        let lost = lost.to_owned();
        let done: Done = self
            .post("coordinators/recover", &RecoverRequest { lost })
            .await?;
        Ok(done.note)
    }

    /// Returns who keeps the stores, as coordinators have decided it.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses.
    pub async fn stores(&self) -> Result<StoresStatus, ClientError> {
        self.get("stores").await
    }

    /// Has a store's primary move to a node. It is ordered when this returns; [`stores`](Self::stores) says when it is done.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses: the store is not known or waits, or the node is out or may have no copy of it.
    pub async fn move_store(&self, store: &str, node: &str) -> Result<(), ClientError> {
        self.order_store(StoreAction::Move, store, node).await
    }

    /// Has a store that waits for its last copies begin with what a node has. What only other nodes have is lost.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses: the store is not known or has a primary, or the node is out or may have no copy of it.
    pub async fn adopt_store_and_lose_what_others_have(
        &self,
        store: &str,
        node: &str,
    ) -> Result<(), ClientError> {
        self.order_store(StoreAction::Adopt, store, node).await
    }

    async fn order_store(
        &self,
        action: StoreAction,
        store: &str,
        node: &str,
    ) -> Result<(), ClientError> {
        let order = StoreOrder {
            action,
            store: store.to_owned(),
            node: node.to_owned(),
        };
        self.send_order(&order, None).await
    }

    /// Has the box that leads carry out an order for somebody who has asked this one.
    pub(crate) async fn order_store_for(
        &self,
        order: &StoreOrder,
        who: &str,
    ) -> Result<(), ClientError> {
        self.send_order(order, Some(who)).await
    }

    async fn send_order(&self, order: &StoreOrder, who: Option<&str>) -> Result<(), ClientError> {
        let StoreOrder {
            action,
            store,
            node,
        } = order.clone();
        let (what, body) = match action {
            StoreAction::Move => {
                let request = MoveStoreRequest { store, node };
                ("stores/move", body(&request)?)
            }
            StoreAction::Adopt => {
                let request = AdoptStoreRequest {
                    store,
                    node,
                    lose_what_others_have: true,
                };
                ("stores/adopt", body(&request)?)
            }
        };
        let _: Done = self.whole(Method::POST, what, body, who).await?;
        Ok(())
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T, ClientError> {
        self.whole(Method::GET, what, Bytes::new(), None).await
    }

    pub(crate) async fn post<Q: Serialize, T: DeserializeOwned>(
        &self,
        what: &str,
        question: &Q,
    ) -> Result<T, ClientError> {
        let body = body(question)?;
        self.whole(Method::POST, what, body, None).await
    }

    /// Asks for lines, as of `events?follow=true`.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses.
    pub async fn lines(&self, what: &str) -> Result<Lines, ClientError> {
        let send = self.send(Method::GET, what, Bytes::new(), None);
        let body = tokio::time::timeout(BEGINNING, send).await;
        Ok(Lines {
            body: body.map_err(|_| ClientError::TimedOut)??,
            buffer: Vec::new(),
            read: 0,
        })
    }

    async fn whole<T: DeserializeOwned>(
        &self,
        method: Method,
        what: &str,
        body: Bytes,
        who: Option<&str>,
    ) -> Result<T, ClientError> {
        let exchange = async {
            let body = self.send(method, what, body, who).await?;
            read(body).await
        };
        let bytes = tokio::time::timeout(ANSWER, exchange).await;
        let bytes = bytes.map_err(|_| ClientError::TimedOut)??;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Version(error.to_string()))
    }

    async fn connect(&self) -> Result<Box<dyn Io>, ClientError> {
        match &self.0 {
            Way::Unix(path) => Ok(Box::new(connect_unix(path).await?)),
            Way::Tls {
                address,
                connector,
                expected,
                ..
            } => {
                let connector = connector.borrow().clone();
                let connecting = connect_tls(*address, &connector, expected);
                let stream = tokio::time::timeout(CONNECT, connecting).await;
                Ok(Box::new(stream.map_err(|_| ClientError::TimedOut)??))
            }
        }
    }

    /// Sends a request, and returns the body of an answer that is no refusal.
    async fn send(
        &self,
        method: Method,
        what: &str,
        body: Bytes,
        who: Option<&str>,
    ) -> Result<Incoming, ClientError> {
        let lost = |error: hyper::Error| ClientError::Lost(error.to_string());
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(lost)?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/v1/{what}"))
            .header("host", "agent")
            .header("content-type", "application/json");
        if let Some(who) = who {
            request = request.header(FOR, who);
        }
        if let Way::Tls {
            token: Some(token), ..
        } = &self.0
        {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body));
        let request = request.map_err(|error| ClientError::Version(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(lost)?;
        let (head, body) = response.into_parts();
        if head.status == StatusCode::OK {
            return Ok(body);
        }
        let bytes = read(body).await?;
        let refusal = serde_json::from_slice::<Refusal>(&bytes);
        Err(match refusal {
            Ok(refusal) => refusal.into(),
            Err(_) => ClientError::Version(format!("it answers {}", head.status)),
        })
    }
}

fn body<Q: Serialize>(question: &Q) -> Result<Bytes, ClientError> {
    let body = serde_json::to_vec(question);
    let body = body.map_err(|error| ClientError::Version(error.to_string()))?;
    Ok(body.into())
}

async fn connect_unix(path: &Path) -> Result<UnixStream, ClientError> {
    let at = || path.display().to_string();
    let stream = UnixStream::connect(path).await;
    let stream = stream.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ClientError::PermissionDenied(path.to_owned()),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(at()),
        _ => ClientError::Lost(error.to_string()),
    })?;
    let peer = socket_peercred(&stream).map_err(|error| ClientError::Lost(error.to_string()))?;
    let uid = peer.uid.as_raw();
    if trusts(path, uid) {
        return Ok(stream);
    }
    Err(ClientError::NotTrusted {
        at: at(),
        reason: format!("user {uid} listens there"),
    })
}

/// Whom requests are sent to: anybody may listen in the directory for temporary files, but only its owner and root
/// in another.
fn trusts(socket: &Path, uid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owner = socket.parent().and_then(|directory| {
        let metadata = std::fs::metadata(directory).ok()?;
        Some(metadata.uid())
    });
    uid == 0 || uid == geteuid().as_raw() || owner == Some(uid)
}

async fn connect_tls(
    address: SocketAddr,
    connector: &SslConnector,
    expected: &Expected,
) -> Result<tokio_openssl::SslStream<TcpStream>, ClientError> {
    let not_trusted = |reason: String| ClientError::NotTrusted {
        at: address.to_string(),
        reason,
    };
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => ClientError::NotRunning(address.to_string()),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            ClientError::Unreachable {
                at: address.to_string(),
                reason: error.to_string(),
            }
        }
        _ => ClientError::Lost(error.to_string()),
    })?;
    let _ = stream.set_nodelay(true);
    // Boxes are known by the name in their certificates, wherever they are.
    let ssl = connector
        .configure()
        .and_then(|configuration| {
            configuration
                .verify_hostname(false)
                .use_server_name_indication(false)
                .into_ssl("agent")
        })
        .map_err(|error| not_trusted(error.to_string()))?;
    let mut stream = tokio_openssl::SslStream::new(ssl, stream)
        .map_err(|error| not_trusted(error.to_string()))?;
    if let Err(error) = Pin::new(&mut stream).connect().await {
        let verdict = stream.ssl().verify_result();
        let reason = if verdict == openssl::x509::X509VerifyResult::OK {
            error.to_string()
        } else {
            verdict.error_string().to_owned()
        };
        return Err(not_trusted(reason));
    }
    if matches!(expected, Expected::Anybody) {
        return Ok(stream);
    }
    let certificate = stream.ssl().peer_certificate();
    let made = certificate
        .as_ref()
        .map(|certificate| pki::made(certificate));
    let principal = certificate.and_then(|certificate| Principal::of(&certificate));
    match (principal, expected) {
        (Some(principal), expected) if principal.kind == Kind::Box => match expected {
            Expected::BoxOf(cluster, _) if principal.cluster != *cluster => {
                Err(not_trusted(format!("it is {principal}")))
            }
            Expected::BoxOf(_, keeper)
                if !keeper.roster().takes_box(
                    &principal.name,
                    made.and_then(Result::ok).unwrap_or(i64::MIN),
                ) =>
            {
                Err(not_trusted(format!(
                    "it is {principal}, which was forgotten"
                )))
            }
            _ => Ok(stream),
        },
        (Some(principal), _) => Err(not_trusted(format!("it is {principal}"))),
        (None, _) => Err(not_trusted("its certificate is of no box".to_owned())),
    }
}

async fn read(body: Incoming) -> Result<Bytes, ClientError> {
    let limited = Limited::new(body, LARGEST_ANSWER);
    let collected = limited.collect().await;
    let collected = collected.map_err(|error| ClientError::Lost(error.to_string()))?;
    Ok(collected.to_bytes())
}

/// An answer of many lines, of which some may be still to come.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    read: usize,
}

impl Lines {
    /// Waits for the next line. Returns `None` at the end.
    ///
    /// # Errors
    ///
    /// Fails if the connection breaks, if a line is none of this version's, and if whoever asks may be told no more.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            let rest = &self.buffer[self.read..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = &rest[..end];
                self.read += end + 1;
                return match serde_json::from_slice(line) {
                    Ok(line) => Ok(Some(line)),
                    // Whoever may be told no more is told that.
                    Err(error) => Err(match serde_json::from_slice(line) {
                        Ok(refusal) => ClientError::Refused(refusal),
                        Err(_) => ClientError::Version(error.to_string()),
                    }),
                };
            }
            if rest.len() > LONGEST_LINE {
                return Err(ClientError::Version("a line is too long".to_owned()));
            }
            self.buffer.drain(..self.read);
            self.read = 0;
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| ClientError::Lost(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}
