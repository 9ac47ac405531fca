//! Founding a cluster, and joining one.

use std::net::{IpAddr, SocketAddr};

use openssl::x509::X509;
use tokio::sync::watch;

use crate::client::{Client, ClientError, Expected};
use crate::desk::{self, AuthorityAnswer, JoinRequest, Joined};
use crate::identity::{self, BoxFile, IdentityError, IdentityFiles};
use crate::journal::now;
use crate::pki::{self, NewKey, PkiError};
use crate::token::{Token, TokenError};

/// Why a box does not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// What was typed is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The box has joined already.
    #[error("this box is {name} of cluster {cluster} already")]
    Joined {
        /// Its name.
        name: String,
        /// Its cluster.
        cluster: String,
    },
    /// Who answers has another authority than the token says. Nothing secret was sent.
    #[error("{at} has another authority than the token is of: nothing was sent to it")]
    OtherAuthority {
        /// Who answered.
        at: SocketAddr,
    },
    /// The agent does not answer, or refuses.
    #[error("cannot join at {at}: {source}")]
    Client {
        /// The agent.
        at: SocketAddr,
        /// Why.
        source: ClientError,
    },
    /// A key or certificate cannot be made or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl From<PkiError> for JoinError {
    fn from(error: PkiError) -> Self {
        Self::Identity(error.into())
    }
}

/// A cluster that was founded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founded {
    /// The SHA-256 of the authority's certificate.
    pub authority: String,
}

/// Makes the authority of a new cluster, and the certificate of its first box.
///
/// # Errors
///
/// Fails if the box has joined a cluster already, and if a file cannot be written.
pub fn found(file: &BoxFile, identity: &IdentityFiles) -> Result<Founded, JoinError> {
    let authority = desk::found(file, identity)?;
    Ok(Founded { authority })
}

/// A box that joins.
#[derive(Debug)]
pub struct Joining<'a> {
    /// What it shows.
    pub token: &'a str,
    /// The agent that it asks.
    pub at: IpAddr,
    /// Its name.
    pub name: &'a str,
    /// Its address; by default the one that the way to the agent begins at.
    pub address: Option<IpAddr>,
}

impl Joining<'_> {
    /// Asks for a certificate with a key that is made here, and writes both. Returns what the box is and the layout.
    ///
    /// # Errors
    ///
    /// Fails if the token or the agent is not what it should be, if the agent refuses, and if a file cannot be written.
    /// The token is told to nobody but the agent that has the key of its authority.
    pub async fn join(&self, identity: &IdentityFiles) -> Result<(BoxFile, String), JoinError> {
        let token: Token = self.token.parse()?;
        let at = desk::agent_at(self.at);
        let failed = |source| JoinError::Client { at, source };
        let (authority, pem) = authority_of(&token, at).await?;
        let expected = Expected::AnyBox;
        let known = Client::over_tls(at, fixed(Some(authority))?, expected);
        let key = NewKey::new()?;
        let request = JoinRequest {
            token: token.to_string(),
            name: self.name.to_owned(),
            address: match self.address {
                Some(address) => address,
                None => {
                    own_address(at).map_err(|error| failed(ClientError::Lost(error.to_string())))?
                }
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: now(),
            request: key.request.clone(),
        };
        let joined: Joined = known.post("join", &request).await.map_err(failed)?;
        pki::write(&identity.authorities(), pem.as_bytes())?;
        identity.of_box().write(&key.pem()?, &joined.certificate)?;
        let file = BoxFile {
            name: self.name.to_owned(),
            cluster: joined.cluster,
            listen: desk::agent_at(request.address),
            authority: Some(at),
            certificate_seconds: None,
        };
        Ok((file, joined.layout))
    }
}

/// Asks an agent, whoever it is, for the certificate of its authority, and takes it if it is that of a token.
pub(crate) async fn authority_of(
    token: &Token,
    at: SocketAddr,
) -> Result<(X509, String), JoinError> {
    let anybody = Client::over_tls(at, fixed(None)?, Expected::Anybody);
    let answer = anybody.get("ca").await;
    let answer: AuthorityAnswer = answer.map_err(|source| JoinError::Client { at, source })?;
    let authority = X509::from_pem(answer.certificate.as_bytes());
    let authority = authority.map_err(|source| PkiError::Malformed {
        what: format!("the authority of {at}"),
        source,
    })?;
    if pki::fingerprint(&authority)? != token.authority {
        return Err(JoinError::OtherAuthority { at });
    }
    Ok((authority, answer.certificate))
}

pub(crate) fn fixed(
    authority: Option<X509>,
) -> Result<watch::Receiver<openssl::ssl::SslConnector>, PkiError> {
    Ok(watch::channel(identity::stranger(authority)?).1)
}

/// The address that this machine has on the way to another.
fn own_address(to: SocketAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr = if to.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    // Nothing is sent: the system only looks up the way.
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}
