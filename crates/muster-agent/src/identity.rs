//! What a box is: its name, its keys and certificates, and the cluster's authority.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{
    SslAcceptor, SslConnector, SslContextBuilder, SslFiletype, SslMethod, SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use serde::{Deserialize, Serialize};

use crate::launch::write_whole;
use crate::pki::{self, Age, CERTIFICATE_DAYS, PkiError};

/// The port of agents: below those that Linux gives to connections.
pub const AGENT_PORT: u16 = 17_700;

/// Where agents listen as endpoints of the mesh.
pub(crate) const MESH_PORT: u16 = 17_701;

/// What `/etc/muster/agent.toml` says: made by `muster init` and `muster join`, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxFile {
    /// The box's name in the layout.
    #[serde(rename = "box")]
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// Where its agent listens for the others.
    pub listen: SocketAddr,
    /// The agent that signs certificates, if that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<SocketAddr>,
    /// How long certificates are valid that are made here, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_seconds: Option<u32>,
}

/// Why a box is not known to itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file of the box is none.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key or certificate cannot be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

impl BoxFile {
    /// Reads it. Returns `None` if there is none: then the box is alone.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or is none.
    pub fn read(path: &Path) -> Result<Option<Self>, IdentityError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(IdentityError::File {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let read = toml::from_str(&text).map_err(|error| IdentityError::Malformed {
            path: path.to_owned(),
            reason: error.message().to_owned(),
        });
        read.map(Some)
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), IdentityError> {
        let text = toml::to_string(self).map_err(|error| IdentityError::Malformed {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let text =
            format!("# What this machine is in its cluster: made by muster init or join.\n{text}");
        write_whole(path, text.as_bytes()).map_err(|source| IdentityError::File {
            path: path.to_owned(),
            source,
        })
    }

    /// How long certificates are valid that are made here.
    pub(crate) fn validity(&self) -> Duration {
        let days = u64::from(CERTIFICATE_DAYS);
        let usual = Duration::from_secs(days * 86_400);
        self.certificate_seconds
            .map_or(usual, |seconds| Duration::from_secs(seconds.into()))
    }
}

/// Where the keys and certificates of a box are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles(PathBuf);

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl IdentityFiles {
    /// Those below a directory for state.
    pub fn below(state: &Path) -> Self {
        Self(state.join("identity"))
    }

    /// Those in a directory.
    pub fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// The authorities that are trusted.
    pub fn authorities(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// The box's own.
    pub fn of_box(&self) -> CertificateFiles {
        CertificateFiles {
            certificate: self.0.join("box.pem"),
            key: self.0.join("box.key"),
        }
    }

    /// Those of a node.
    pub fn of_node(&self, node: &str) -> CertificateFiles {
        CertificateFiles {
            certificate: self.0.join("nodes").join(format!("{node}.pem")),
            key: self.0.join("nodes").join(format!("{node}.key")),
        }
    }

    /// Where the authority's key is, on its own box.
    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join("authority")
    }
}

impl CertificateFiles {
    /// Writes both: the key first, so that none is without its certificate for longer than a moment.
    pub(crate) fn write(&self, key: &[u8], certificate: &str) -> Result<(), PkiError> {
        pki::write(&self.key, key)?;
        pki::write(&self.certificate, certificate.as_bytes())
    }

    /// How old the certificate is. `None` if there is none, or no key of it.
    pub(crate) fn age(&self) -> Result<Option<Age>, PkiError> {
        if !self.certificate.exists() || !self.key.exists() {
            return Ok(None);
        }
        let certificate = pki::read_certificate(&self.certificate)?;
        pki::age(&certificate).map(Some)
    }

    /// When the certificate ends, since 1970. `None` if there is none that can be read.
    pub(crate) fn expiry(&self) -> Option<Duration> {
        let certificate = pki::read_certificate(&self.certificate).ok()?;
        pki::expiry(&certificate).ok()
    }
}

fn files_error(path: &Path) -> impl FnOnce(ErrorStack) -> PkiError {
    let what = path.display().to_string();
    move |source| PkiError::Malformed { what, source }
}

/// TLS for those who ask this box. Whoever has a certificate of the cluster shows it; whoever joins has none.
pub(crate) fn acceptor(files: &IdentityFiles) -> Result<SslAcceptor, PkiError> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    show(files, &mut builder)?;
    builder.set_verify(SslVerifyMode::PEER);
    // A certificate is looked at in each handshake: one that has expired meanwhile counts no more.
    builder.set_session_cache_mode(openssl::ssl::SslSessionCacheMode::OFF);
    builder.set_num_tickets(0)?;
    Ok(builder.build())
}

/// TLS for asking another box of the cluster.
pub(crate) fn connector(files: &IdentityFiles) -> Result<SslConnector, PkiError> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    show(files, &mut builder)?;
    Ok(builder.build())
}

/// Has TLS 1.3 show the certificate of this box, and believe the cluster's authorities.
fn show(files: &IdentityFiles, builder: &mut SslContextBuilder) -> Result<(), PkiError> {
    let own = files.of_box();
    let authorities = files.authorities();
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder
        .set_certificate_chain_file(&own.certificate)
        .map_err(files_error(&own.certificate))?;
    builder
        .set_private_key_file(&own.key, SslFiletype::PEM)
        .map_err(files_error(&own.key))?;
    builder
        .set_ca_file(&authorities)
        .map_err(files_error(&authorities))
}

/// TLS for whoever has no certificate yet: of an authority, or, to ask for that, of anybody.
pub(crate) fn stranger(authority: Option<X509>) -> Result<SslConnector, PkiError> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    match authority {
        Some(authority) => builder.cert_store_mut().add_cert(authority)?,
        None => builder.set_verify(SslVerifyMode::NONE),
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn the_file_of_a_box_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etc/muster/agent.toml");
        assert_eq!(BoxFile::read(&path).unwrap(), None);
        let file = BoxFile {
            name: "b".to_owned(),
            cluster: "east".to_owned(),
            listen: "192.0.2.2:17700".parse().unwrap(),
            authority: Some("192.0.2.1:17700".parse().unwrap()),
            certificate_seconds: None,
        };
        file.write(&path).unwrap();
        assert_eq!(BoxFile::read(&path).unwrap(), Some(file));
        std::fs::write(&path, "box = 3").unwrap();
        let error = BoxFile::read(&path).unwrap_err();
        assert!(error.to_string().contains("agent.toml"), "{error}");
    }
}
