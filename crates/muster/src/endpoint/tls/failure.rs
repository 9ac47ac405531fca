//! Why a connection could not be secured, or was lost.

use std::io;

use openssl::error::ErrorStack;

use super::refusal::CertificateRefusal;
use crate::endpoint::stranger::ForeignProtocol;

/// What is said when the other side refuses our certificate.
pub(super) const NOT_TRUSTED: &str = " (the peer does not trust our certificate)";

/// What is said when the peer's certificate is that of nobody.
pub(super) const PEER_IS_ANONYMOUS: &str =
    " (the modes of the two sides differ: the peer's is anonymous, this side's is mutual)";

/// What is said when a peer refuses the certificate of nobody.
pub(super) const PEER_CHECKS: &str =
    " (the modes of the two sides differ: the peer checks certificates)";

/// Why a connection could not be secured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The other side closed before its first byte.
    #[error("connection closed before the TLS handshake")]
    ClosedInSilence,
    /// The other side does not speak TLS.
    #[error("the peer does not speak TLS, which this side needs; is it switched off on its side?")]
    PeerIsPlain,
    /// The other side is no peer at all.
    #[error("{0}")]
    Foreign(ForeignProtocol),
    /// The other side closed during the handshake: often it does not speak TLS, or in another mode.
    #[error("TLS: the peer closed during the handshake; does it speak TLS, in the same mode?")]
    Closed,
    /// The other side's certificate is not trusted here.
    #[error("TLS: the peer's certificate is refused: {0}")]
    CertificateRefused(Box<CertificateRefusal>),
    /// OpenSSL or the other side refused, in OpenSSL's words and with a hint.
    #[error("TLS: {0}")]
    Refused(String),
    /// The connection failed.
    #[error("TLS: {0}")]
    Connection(ConnectionError),
}

/// A failure of a connection: the system's, or its TLS layer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ConnectionError {
    kind: io::ErrorKind,
    text: String,
}

impl ConnectionError {
    /// Returns the kind of the failure: for one of TLS, [`InvalidData`](io::ErrorKind::InvalidData).
    pub fn kind(&self) -> io::ErrorKind {
        self.kind
    }
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<openssl::ssl::Error>());
        match inner {
            Some(inner) => Self {
                kind: io::ErrorKind::InvalidData,
                text: failure(inner).to_string(),
            },
            None => Self {
                kind: error.kind(),
                text: error.to_string(),
            },
        }
    }
}

/// An OpenSSL error, with what to look at.
pub(super) fn failure(error: &openssl::ssl::Error) -> TlsFailure {
    if let Some(error) = error.io_error() {
        return broken(error);
    }
    let reasons: Vec<&str> = error
        .ssl_error()
        .map(ErrorStack::errors)
        .unwrap_or_default()
        .iter()
        .filter_map(openssl::error::Error::reason)
        .collect();
    if reasons.is_empty() {
        return TlsFailure::Closed;
    }
    let reason = reasons.join(", ");
    let not_tls = ["wrong version", "http request", "packet length"];
    if not_tls.iter().any(|words| reason.contains(words)) {
        return TlsFailure::PeerIsPlain;
    }
    let hint = if reason.contains("unknown ca") {
        NOT_TRUSTED
    } else if reason.contains("certificate required")
        || reason.contains("did not return a certificate")
    {
        " (one side has no certificate: the modes differ)"
    } else if reason.contains("handshake failure") || reason.contains("no shared cipher") {
        " (the modes of the two sides differ)"
    } else if reason.contains("expired") {
        " (the peer says that our certificate has expired)"
    } else {
        ""
    };
    TlsFailure::Refused(format!("{reason}{hint}"))
}

/// A failure of the connection below.
pub(super) fn broken(error: &io::Error) -> TlsFailure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => TlsFailure::Closed,
        kind => TlsFailure::Connection(ConnectionError {
            kind,
            text: error.to_string(),
        }),
    }
}
