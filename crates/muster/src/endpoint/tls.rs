//! TLS on the peer port, as Broker does it: none, anonymous, or both sides authenticated.
//!
//! The acceptor of a connection is the TLS server, its dialler the client. Names are never checked:
//! whoever has a certificate of the trusted authority is a member. But what a member says of itself in a mesh belongs to
//! the names in its certificate. Only OpenSSL has the cipher suite of
//! Broker's anonymous mode.

mod anonymous;
mod buffered;
mod failure;
mod refusal;
mod seals;
mod stream;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslVerifyMode, SslVersion,
};
use openssl::x509::{X509, X509Ref, X509VerifyResult};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::socket::Socket;
use super::status::Transport;
use super::stranger::{self, ForeignProtocol};
pub use failure::{ConnectionError, TlsFailure};
use failure::{NOT_TRUSTED, PEER_CHECKS, PEER_IS_ANONYMOUS, broken, failure};
pub use refusal::{CertificateRefusal, TrustedAuthority};
pub(crate) use seals::{CertificateSeals, SealingKey};
use stream::HandshakeFailure;
pub(crate) use stream::Side;
pub(crate) use stream::TlsStream;

/// The suites of authenticated connections up to TLS 1.2; later versions have their own.
const AUTHENTICATED_CIPHERS: &str = "HIGH:!aNULL:!MD5";

/// How certificates are checked: both sides must have one.
const MUTUAL: SslVerifyMode = SslVerifyMode::PEER.union(SslVerifyMode::FAIL_IF_NO_PEER_CERT);

/// How the connections of an endpoint are protected. Both sides of a peering must agree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Tls {
    /// Not at all.
    #[default]
    Off,
    /// Encrypted, without knowing to whom: Zeek's default. Those who do not take part cannot listen in, but anybody
    /// can take part.
    Anonymous,
    /// Encrypted, and each side shows a certificate that the other trusts.
    Mutual(Certificates),
}

/// The files of [`Tls::Mutual`], in PEM format; named after Zeek's `Broker::ssl_*`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Certificates {
    /// The trusted authorities, in one file.
    pub cafile: Option<PathBuf>,
    /// A directory of trusted authorities, named by their hashes (`openssl rehash`).
    pub capath: Option<PathBuf>,
    /// This endpoint's certificate, followed by any intermediate certificates.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub keyfile: PathBuf,
    /// The passphrase of the key, if it has one.
    pub passphrase: Option<String>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("cafile", &self.cafile)
            .field("capath", &self.capath)
            .field("certificate", &self.certificate)
            .field("keyfile", &self.keyfile)
            .field("passphrase", &self.passphrase.as_ref().map(|_| "(hidden)"))
            .finish()
    }
}

impl Tls {
    /// The mode in one word, as in settings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Anonymous => "anonymous",
            Self::Mutual(_) => "mutual",
        }
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or used.
    #[error("TLS: cannot use {what} {}: {reason}", path.display())]
    File {
        /// Which file: certificate, key, CA file or CA directory.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Neither a CA file nor a CA directory: nobody would be trusted.
    #[error(
        "TLS: mutual authentication needs a CA file or a CA directory, otherwise nobody is trusted"
    )]
    NobodyTrusted,
    /// The private key is not that of the certificate.
    #[error("TLS: the key {} is not that of the certificate {}", keyfile.display(), certificate.display())]
    WrongKey {
        /// The key's path.
        keyfile: PathBuf,
        /// The certificate's path.
        certificate: PathBuf,
    },
    /// The certificate has other names than the one before.
    #[error(
        "TLS: the new certificate has other names than the one before, and an endpoint's id is made of them: start it anew"
    )]
    OtherNames,
    /// OpenSSL lacks what the mode needs.
    #[error("TLS: OpenSSL cannot do {mode} TLS: {reason}")]
    Unsupported {
        /// The mode.
        mode: &'static str,
        /// Why.
        reason: String,
    },
}

/// What connections are made with.
#[derive(Clone)]
pub(crate) struct TlsContext(Option<Secure>);

/// What secure connections are made with.
#[derive(Clone)]
struct Secure {
    acceptor: SslContext,
    dialler: SslContext,
    is_anonymous: bool,
    /// Those who are trusted, if certificates are checked.
    authorities: Arc<[X509]>,
    /// What the records of a mesh are sealed with, if certificates are checked.
    sealing: Option<Arc<SealingKey>>,
}

/// A connection in its handshake, and the certificate of the other side that was refused.
struct Handshake<'a, S> {
    stream: TlsStream<S>,
    refused: Arc<Mutex<Option<X509>>>,
    secure: &'a Secure,
}

impl fmt::Debug for TlsContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "TlsContext(on)"
        } else {
            "TlsContext(off)"
        })
    }
}

/// A connection's stream after its TLS handshake, if it has one.
pub(crate) enum Secured {
    Plain(Socket),
    Tls(TlsStream<Socket>, Transport),
}

impl TlsContext {
    pub(crate) fn load(tls: &Tls) -> Result<Self, TlsError> {
        Ok(Self(match tls {
            Tls::Off => None,
            Tls::Anonymous => {
                let failed = |error: ErrorStack| unsupported("anonymous", &error);
                Some(Secure {
                    acceptor: anonymous::context(Side::Acceptor).map_err(failed)?,
                    dialler: anonymous::context(Side::Dialler).map_err(failed)?,
                    is_anonymous: true,
                    authorities: Arc::default(),
                    sealing: None,
                })
            }
            Tls::Mutual(certificates) => {
                let (context, key) = mutual(certificates)?;
                Some(Secure {
                    acceptor: context.clone(),
                    dialler: context,
                    is_anonymous: false,
                    authorities: refusal::authorities(
                        certificates.cafile.as_deref(),
                        certificates.capath.as_deref(),
                    )
                    .into(),
                    sealing: Some(Arc::new(SealingKey::load(certificates, key)?)),
                })
            }
        }))
    }

    /// What the records of a mesh are sealed with, if they are.
    pub(crate) fn sealing(&self) -> Option<&SealingKey> {
        self.0.as_ref()?.sealing.as_deref()
    }

    /// Shakes hands over any stream, if TLS is on.
    #[cfg(test)]
    pub(crate) async fn secure<S>(&self, side: Side, stream: S) -> Result<TlsStream<S>, TlsFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let secure = self.0.as_ref().ok_or(TlsFailure::PeerIsPlain)?;
        secure.shake_hands(side, stream).await
    }

    /// What a connection is secured with. Over a Unix socket both sides know that they are of one user, and nobody but
    /// the system sees what they say: what is anonymous gains nothing there. Who has a certificate is another question.
    fn for_transport(&self, transport: Transport) -> Option<&Secure> {
        let secure = self.0.as_ref();
        secure.filter(|secure| !secure.is_anonymous || transport != Transport::Unix)
    }

    /// Shakes hands as the server.
    pub(crate) async fn accept(&self, mut stream: Socket) -> Result<Secured, TlsFailure> {
        let transport = stream.transport();
        let Some(secure) = self.for_transport(transport) else {
            return Ok(Secured::Plain(stream));
        };
        // A peer without TLS is told apart by its first bytes, before OpenSSL answers it in TLS. Those of a Unix socket
        // cannot be looked at beforehand; nobody finds it without knowing what is spoken there.
        let mut first = [0u8; stranger::TELLING];
        let Some(seen) = stream.peek(&mut first).await else {
            let secured = secure.shake_hands(Side::Acceptor, stream).await?;
            return Ok(Secured::Tls(secured, transport));
        };
        let seen = seen.map_err(|error| TlsFailure::Connection(error.into()))?;
        if seen == 0 {
            return Err(TlsFailure::ClosedInSilence);
        }
        let first = &first[..seen];
        let telling = first.len().min(stranger::TLS_RECORD.len());
        if first[..telling] != stranger::TLS_RECORD[..telling] {
            // Whoever it is, it is told that this is TLS; what it has sent is read first, or it may see a reset.
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(&stranger::ALERT).await;
            let _ = stream.shutdown().await;
            let foreign = ForeignProtocol::of(first);
            return Err(foreign.map_or(TlsFailure::PeerIsPlain, TlsFailure::Foreign));
        }
        let secured = secure.shake_hands(Side::Acceptor, stream).await?;
        Ok(Secured::Tls(secured, transport))
    }

    /// Shakes hands as the client.
    pub(crate) async fn connect(&self, stream: Socket) -> Result<Secured, TlsFailure> {
        let transport = stream.transport();
        let Some(secure) = self.for_transport(transport) else {
            return Ok(Secured::Plain(stream));
        };
        let secured = secure.shake_hands(Side::Dialler, stream).await?;
        Ok(Secured::Tls(secured, transport))
    }
}

impl Secure {
    async fn shake_hands<S>(&self, side: Side, stream: S) -> Result<TlsStream<S>, TlsFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut handshake = self.wrap(side, stream)?;
        let result = handshake.stream.shake_hands(side).await;
        handshake.finish(result)
    }

    fn wrap<S>(&self, side: Side, stream: S) -> Result<Handshake<'_, S>, TlsFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let failed = |error: ErrorStack| TlsFailure::Refused(error.to_string());
        let context = match side {
            Side::Acceptor => &self.acceptor,
            Side::Dialler => &self.dialler,
        };
        let mut ssl = Ssl::new(context).map_err(failed)?;
        let refused = Arc::new(Mutex::new(None));
        if !self.authorities.is_empty() {
            let noted = Arc::clone(&refused);
            // OpenSSL keeps no certificate that it has refused.
            ssl.set_verify_callback(MUTUAL, move |is_good, context| {
                if !is_good {
                    let leaf = context.chain().and_then(|chain| chain.get(0));
                    let leaf = leaf
                        .or_else(|| context.current_cert())
                        .map(X509Ref::to_owned);
                    *noted.lock().unwrap_or_else(PoisonError::into_inner) = leaf;
                }
                is_good
            });
        }
        Ok(Handshake {
            stream: TlsStream::new(ssl, stream).map_err(failed)?,
            refused,
            secure: self,
        })
    }
}

impl<S> Handshake<'_, S> {
    fn finish(self, result: Result<(), HandshakeFailure>) -> Result<TlsStream<S>, TlsFailure> {
        let error = match result {
            Ok(()) => return Ok(self.stream),
            Err(HandshakeFailure::Unwritten(error)) => return Err(broken(&error)),
            Err(HandshakeFailure::Tls(error)) => error,
        };
        let ssl = self.stream.ssl();
        let verified = ssl.verify_result();
        // Where nothing is verified, there is a result all the same.
        if verified != X509VerifyResult::OK && !self.secure.is_anonymous {
            let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let (reason, leaf) = (verified.error_string(), refused.as_deref());
            if leaf.is_some_and(anonymous::is_of_anonymous) {
                return Err(TlsFailure::Refused(format!("{reason}{PEER_IS_ANONYMOUS}")));
            }
            let refusal = CertificateRefusal::new(reason, leaf, &self.secure.authorities);
            return Err(TlsFailure::CertificateRefused(Box::new(refusal)));
        }
        match (failure(&error), ssl.certificate()) {
            // A peer of the other mode checks what is not meant to be checked.
            (TlsFailure::Refused(text), _) if self.secure.is_anonymous => {
                let text = text.strip_suffix(NOT_TRUSTED).unwrap_or(&text);
                let is_explained = text.ends_with(')');
                let hint = if is_explained { "" } else { PEER_CHECKS };
                Err(TlsFailure::Refused(format!("{text}{hint}")))
            }
            // The other side may trust an authority of the same name.
            (TlsFailure::Refused(text), Some(own)) if text.contains(NOT_TRUSTED) => {
                let issuer = refusal::name(own.issuer_name());
                let serial = refusal::serial(own);
                let own = format!("{text}; ours has serial {serial} and was issued by {issuer}");
                Err(TlsFailure::Refused(own))
            }
            (failure, _) => Err(failure),
        }
    }
}

fn unsupported(mode: &'static str, error: &ErrorStack) -> TlsError {
    TlsError::Unsupported {
        mode,
        reason: error.to_string(),
    }
}

fn builder(ciphers: &str) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_cipher_list(ciphers)?;
    // What could not be written is offered again with what has come behind it, from wherever that lies then.
    builder.set_mode(
        SslMode::AUTO_RETRY | SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::ENABLE_PARTIAL_WRITE,
    );
    Ok(builder)
}

fn mutual(certificates: &Certificates) -> Result<(SslContext, PKey<Private>), TlsError> {
    let Certificates {
        cafile,
        capath,
        certificate,
        keyfile,
        passphrase,
    } = certificates;
    if cafile.is_none() && capath.is_none() {
        return Err(TlsError::NobodyTrusted);
    }
    let mut builder =
        builder(AUTHENTICATED_CIPHERS).map_err(|error| unsupported("mutual", &error))?;
    for (what, path) in [("CA file", cafile), ("CA directory", capath)] {
        if let Some(path) = path {
            // OpenSSL says little of what it cannot open, and nothing of an empty directory.
            std::fs::metadata(path).map_err(|error| file(what, path, &error))?;
        }
    }
    let cas = builder.load_verify_locations(cafile.as_deref(), capath.as_deref());
    let ca_path = cafile
        .as_deref()
        .or(capath.as_deref())
        .unwrap_or(Path::new(""));
    cas.map_err(|error| file("CA file", ca_path, &error))?;
    std::fs::metadata(certificate).map_err(|error| file("certificate", certificate, &error))?;
    builder
        .set_certificate_chain_file(certificate)
        .map_err(|error| file("certificate", certificate, &error))?;
    let pem = std::fs::read(keyfile).map_err(|error| file("key", keyfile, &error))?;
    // Without a passphrase an encrypted key is refused; OpenSSL would ask at the terminal.
    let passphrase = passphrase.as_deref().unwrap_or_default();
    let key = PKey::private_key_from_pem_passphrase(&pem, passphrase.as_bytes())
        .map_err(|error| file("key", keyfile, &error))?;
    let wrong_key = || TlsError::WrongKey {
        keyfile: keyfile.clone(),
        certificate: certificate.clone(),
    };
    builder.set_private_key(&key).map_err(|_| wrong_key())?;
    builder.check_private_key().map_err(|_| wrong_key())?;
    builder.set_verify(MUTUAL);
    Ok((builder.build(), key))
}

fn file(what: &'static str, path: &Path, error: &dyn fmt::Display) -> TlsError {
    TlsError::File {
        what,
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Strangers at a port with TLS are known, and told that it is TLS.
    #[tokio::test]
    async fn who_speaks_no_tls_is_known_and_told() {
        let context = TlsContext::load(&Tls::Anonymous).unwrap();
        for (first, expected) in [
            (
                &b"GET / HTTP/1.1\r\n\r\n"[..],
                TlsFailure::Foreign(ForeignProtocol::Http),
            ),
            (b"SSH-2.0-x\r\n", TlsFailure::Foreign(ForeignProtocol::Ssh)),
            (&[0, 0, 0, 0x17, 6, 0x5a], TlsFailure::PeerIsPlain),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut knocker = TcpStream::connect(address).await.unwrap();
            knocker.write_all(first).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            match context.accept(Socket::tcp(accepted, Duration::ZERO)).await {
                Err(failure) => assert_eq!(failure, expected),
                Ok(_) => panic!("{first:?} is no TLS"),
            }
            let mut told = Vec::new();
            knocker.read_to_end(&mut told).await.unwrap();
            assert_eq!(told, stranger::ALERT);
        }
    }
}
