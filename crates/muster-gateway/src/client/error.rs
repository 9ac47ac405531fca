//! Why a client has no connection.

use std::path::PathBuf;
use std::time::Duration;

/// Why a connection was not made, or has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server cannot be reached.
    #[error("cannot connect to {url}: {source}")]
    Connect {
        /// The server.
        url: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The connection cannot be secured.
    #[error("no TLS with {url}: {reason}")]
    Tls {
        /// The server.
        url: String,
        /// Why.
        reason: TlsReason,
    },
    /// The server does not answer in time.
    #[error("{url} did not answer within {limit:?}")]
    Timeout {
        /// The server.
        url: String,
        /// The limit.
        limit: Duration,
    },
    /// The server answers with something else.
    #[error("{url} refused: {reason}")]
    Refused {
        /// The server.
        url: String,
        /// Why.
        reason: RefusalReason,
    },
    /// The connection has ended.
    #[error("the connection has ended: {0}")]
    Ended(DisconnectReason),
    /// A text that cannot be sent in a header.
    #[error("`{0}` cannot be a header's value")]
    Header(String),
}

/// Why a connection to a server cannot be secured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsReason {
    /// The certificate is not one of the host in the address.
    #[error("its certificate is not trusted: it does not name this host")]
    OtherHost,
    /// The certificate is not trusted, in OpenSSL's words.
    #[error("its certificate is not trusted: {0}")]
    NotTrusted(&'static str),
    /// The file with the trusted authorities cannot be used.
    #[error("cannot use the CA file {}: {problem}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// OpenSSL's words.
        problem: String,
    },
    /// Anything else: often, the server does not speak TLS. In OpenSSL's words.
    #[error("{0}")]
    Other(String),
}

/// Why a server does not accept a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusalReason {
    /// It answered the upgrade to WebSocket with another HTTP status; 401 asks for a token.
    #[error("HTTP status {status} {body}")]
    Status {
        /// The status code.
        status: u16,
        /// The response's body.
        body: String,
    },
    /// It accepted the WebSocket, and answered the subscriptions with an error.
    #[error("{code}: {context}")]
    Error {
        /// What kind of problem, in one word.
        code: String,
        /// What exactly.
        context: String,
    },
    /// What it says is not the WebSocket protocol.
    #[error("{0}")]
    NotWebSocket(String),
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The server closed without a reason.
    #[error("closed")]
    Closed,
    /// The server closed and said why.
    #[error("closed with code {code}: {reason}")]
    ClosedWith {
        /// WebSocket's close code.
        code: u16,
        /// The server's words.
        reason: String,
    },
    /// The server answered no ping for this long.
    #[error("nothing heard for {0:?}")]
    Silent(Duration),
    /// The server read nothing for this long, while something waited to be written.
    #[error("nothing was read for {0:?}")]
    NotRead(Duration),
    /// This process shut its endpoint down.
    #[error("the endpoint has ended")]
    EndpointShutDown,
    /// The connection failed, or what came was not the WebSocket protocol.
    #[error("{0}")]
    Connection(String),
}
