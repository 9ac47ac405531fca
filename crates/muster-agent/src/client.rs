//! Whoever asks an agent.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use muster_gateway::status::ClusterStatus;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::{Done, Refusal};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(8);

/// The largest answer in bytes.
const LARGEST_ANSWER: usize = 256 << 20;

/// The longest line of a stream in bytes.
const LONGEST_LINE: usize = 1 << 20;

/// Why an agent has not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No agent listens.
    #[error("no agent listens on {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket may not be opened.
    #[error("cannot open {}: permission denied", .0.display())]
    PermissionDenied(PathBuf),
    /// Somebody listens who is neither this user, nor root, nor the owner of the socket's directory.
    #[error("{} is of user {uid}, who is not trusted", path.display())]
    NotTrusted {
        /// The socket.
        path: PathBuf,
        /// Who listens.
        uid: u32,
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

/// Asks an agent over its Unix socket. Each request has a connection of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Returns a client of the agent that listens on a socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the state of the box.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses.
    pub async fn status(&self) -> Result<ClusterStatus, ClientError> {
        self.whole(Method::GET, "/v1/status").await
    }

    /// Asks for a change, such as `nodes/data-1/restart`, `stop` or `reload`. Returns what is worth knowing of it.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses.
    pub async fn change(&self, what: &str) -> Result<Option<String>, ClientError> {
        let done: Done = self.whole(Method::POST, &format!("/v1/{what}")).await?;
        Ok(done.note)
    }

    /// Asks for lines, as of `events?follow=true`.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses.
    pub async fn lines(&self, what: &str) -> Result<Lines, ClientError> {
        let path = format!("/v1/{what}");
        let send = self.send(Method::GET, &path);
        let body = tokio::time::timeout(ANSWER, send).await;
        Ok(Lines {
            body: body.map_err(|_| ClientError::TimedOut)??,
            buffer: Vec::new(),
            read: 0,
        })
    }

    async fn whole<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, ClientError> {
        let exchange = async {
            let body = self.send(method, path).await?;
            read(body).await
        };
        let bytes = tokio::time::timeout(ANSWER, exchange).await;
        let bytes = bytes.map_err(|_| ClientError::TimedOut)??;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Version(error.to_string()))
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let path = || self.socket.clone();
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::PermissionDenied(path()),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(path())
            }
            _ => ClientError::Lost(error.to_string()),
        })?;
        let lost = |error: rustix::io::Errno| ClientError::Lost(error.to_string());
        let peer = socket_peercred(&stream).map_err(lost)?;
        if !self.trusts(peer.uid.as_raw()) {
            return Err(ClientError::NotTrusted {
                path: path(),
                uid: peer.uid.as_raw(),
            });
        }
        Ok(stream)
    }

    /// Whom requests are sent to: anybody may listen in the directory for temporary files, but only its owner and root
    /// in another.
    fn trusts(&self, uid: u32) -> bool {
        use std::os::unix::fs::MetadataExt;
        let owner = self.socket.parent().and_then(|directory| {
            let metadata = std::fs::metadata(directory).ok()?;
            Some(metadata.uid())
        });
        uid == 0 || uid == geteuid().as_raw() || owner == Some(uid)
    }

    /// Sends a request, and returns the body of an answer that is no refusal.
    async fn send(&self, method: Method, path: &str) -> Result<Incoming, ClientError> {
        let lost = |error: hyper::Error| ClientError::Lost(error.to_string());
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(lost)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "agent")
            .body(Empty::<Bytes>::new())
            .map_err(|error| ClientError::Version(error.to_string()))?;
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
    /// Fails if the connection breaks, and if a line is none of this version's.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            let rest = &self.buffer[self.read..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = serde_json::from_slice(&rest[..end]);
                self.read += end + 1;
                let version = |error: serde_json::Error| ClientError::Version(error.to_string());
                return line.map(Some).map_err(version);
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
