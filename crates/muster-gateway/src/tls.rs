//! TLS of the gateway: ordinary certificates, as any WebSocket client expects.

use std::fmt;
use std::path::Path;
use std::pin::Pin;

use openssl::ssl::{Ssl, SslAcceptor, SslFiletype, SslMethod, SslVerifyMode};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_openssl::SslStream;

use crate::config::GatewayTls;

/// A file that cannot be used.
pub(crate) struct TlsProblem {
    pub(crate) what: &'static str,
    pub(crate) path: String,
    pub(crate) reason: String,
}

/// TLS that is served from files, which may become others.
pub(crate) struct ServedTls {
    files: GatewayTls,
    present: watch::Sender<SslAcceptor>,
}

impl fmt::Debug for ServedTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServedTls").field(&self.files).finish()
    }
}

impl ServedTls {
    /// Reads the files.
    pub(crate) fn open(files: &GatewayTls) -> Result<Self, TlsProblem> {
        let (present, _) = watch::channel(acceptor(files)?);
        Ok(Self {
            files: files.clone(),
            present,
        })
    }

    /// What is served, now and after changes.
    pub(crate) fn present(&self) -> watch::Receiver<SslAcceptor> {
        self.present.subscribe()
    }

    /// Serves what is in the files by now. If that cannot be used, the former stays.
    pub(crate) fn reload(&self) -> Result<(), TlsProblem> {
        self.present.send_replace(acceptor(&self.files)?);
        Ok(())
    }
}

/// Sets TLS up from files.
fn acceptor(files: &GatewayTls) -> Result<SslAcceptor, TlsProblem> {
    let system = |reason: openssl::error::ErrorStack| TlsProblem {
        what: "TLS",
        path: String::new(),
        reason: reason.to_string(),
    };
    let file = |what: &'static str, path: &Path, reason: &openssl::error::ErrorStack| {
        // A file that cannot be read has the system's words, which are clearer.
        let reason = match std::fs::File::open(path) {
            Err(error) => error.to_string(),
            Ok(_) => reason.to_string(),
        };
        TlsProblem {
            what,
            path: path.display().to_string(),
            reason,
        }
    };
    let mut builder =
        SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).map_err(system)?;
    builder
        .set_certificate_chain_file(&files.certificate)
        .map_err(|error| file("the certificate", &files.certificate, &error))?;
    builder
        .set_private_key_file(&files.keyfile, SslFiletype::PEM)
        .map_err(|error| file("the key", &files.keyfile, &error))?;
    builder
        .check_private_key()
        .map_err(|error| file("the key of another certificate,", &files.keyfile, &error))?;
    if let Some(cafile) = &files.cafile {
        builder
            .set_ca_file(cafile)
            .map_err(|error| file("the CA file", cafile, &error))?;
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    Ok(builder.build())
}

/// The server's side of a TLS handshake.
pub(crate) async fn accept(
    acceptor: &SslAcceptor,
    stream: TcpStream,
) -> Result<SslStream<TcpStream>, String> {
    let ssl = Ssl::new(acceptor.context()).map_err(|error| error.to_string())?;
    let mut stream = SslStream::new(ssl, stream).map_err(|error| error.to_string())?;
    Pin::new(&mut stream)
        .accept()
        .await
        .map_err(|error| error.to_string())?;
    Ok(stream)
}
