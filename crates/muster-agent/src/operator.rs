//! An operator on a machine of their own: what they show to agents, and how they get it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use muster_data::Timestamp;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslConnector, SslMethod, SslVersion};
use openssl::x509::X509;
use tokio::sync::watch;

use crate::api::Role;
use crate::client::{Client, ClientError, Expected};
use crate::desk::{OperatorAnswer, OperatorRequest};
use crate::join::{JoinError, authority_of, fixed};
use crate::journal::now;
use crate::pki::{self, Kind, NewKey, PkiError, Principal};
use crate::token::{Token, TokenError, TokenKind};

/// Why something cannot be shown to agents, or was not given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The text has no key, or no certificate of an operator.
    #[error("this is no identity of an operator: {0}")]
    Identity(String),
    /// The certificate has ended.
    #[error("the certificate of operator {name} ended on {when}")]
    Ended {
        /// The operator.
        name: String,
        /// When, as text.
        when: String,
    },
    /// The text is no token.
    #[error("this is no token of an operator: one looks like musterop1.AUTHORITY.ID.SECRET")]
    Token,
    /// The text has no certificate of an authority.
    #[error("this is no certificate of an authority: {0}")]
    Authority(String),
    /// The agent has another authority than the token says. Nothing secret was sent.
    #[error("{0} has another authority than the token is of: nothing was sent to it")]
    OtherAuthority(SocketAddr),
    /// The agent does not answer, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A key or certificate cannot be made or used.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

impl From<openssl::error::ErrorStack> for CredentialError {
    fn from(error: openssl::error::ErrorStack) -> Self {
        Self::Pki(error.into())
    }
}

impl From<TokenError> for CredentialError {
    fn from(_: TokenError) -> Self {
        Self::Token
    }
}

/// A key, its certificate, and the authorities by which agents are known: what `muster operator add` writes, as one PEM
/// file.
pub struct OperatorIdentity {
    name: String,
    key: PKey<Private>,
    certificate: X509,
    authorities: Vec<X509>,
}

impl fmt::Debug for OperatorIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorIdentity")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl OperatorIdentity {
    /// Reads one: a private key, the certificate of it, and the certificates of authorities, in this order.
    ///
    /// # Errors
    ///
    /// Fails if something of it is missing, or is not an operator's.
    pub fn parse(pem: &[u8]) -> Result<Self, CredentialError> {
        let wrong = |text: &str| CredentialError::Identity(text.to_owned());
        let key = PKey::private_key_from_pem(pem).map_err(|_| wrong("it has no private key"))?;
        let certificates = X509::stack_from_pem(pem);
        let certificates = certificates.map_err(|_| wrong("a certificate cannot be read"))?;
        let mut certificates = certificates.into_iter();
        let certificate = certificates.next();
        let certificate = certificate.ok_or_else(|| wrong("it has no certificate"))?;
        let principal = Principal::of(&certificate);
        let principal = principal.filter(|known| known.kind == Kind::Operator);
        let principal = principal.ok_or_else(|| wrong("its certificate is of no operator"))?;
        if !key.public_eq(&*certificate.public_key()?) {
            return Err(wrong("the key is of another certificate"));
        }
        let authorities: Vec<X509> = certificates.collect();
        if authorities.is_empty() {
            return Err(wrong("it has no certificate of an authority"));
        }
        Ok(Self {
            name: principal.name,
            key,
            certificate,
            authorities,
        })
    }

    fn connector(&self) -> Result<SslConnector, CredentialError> {
        let ends = pki::expiry(&self.certificate)?;
        if ends.as_secs_f64() <= now() {
            return Err(CredentialError::Ended {
                name: self.name.clone(),
                when: Timestamp::from_secs_f64(ends.as_secs_f64()).to_string(),
            });
        }
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
        builder.set_certificate(&self.certificate)?;
        builder.set_private_key(&self.key)?;
        // Agents of this cluster and nobody else, whatever the machine trusts.
        builder.set_cert_store(pki::store(&self.authorities)?);
        Ok(builder.build())
    }
}

/// What an operator shows to agents.
#[derive(Debug)]
pub enum Credential {
    /// A certificate.
    Identity(Box<OperatorIdentity>),
    /// A token.
    Token {
        /// As `muster operator add --token` has printed it.
        token: String,
        /// The certificate of the authority, as PEM. Without it the agent is asked, and believed if the token says so.
        authority: Option<Vec<u8>>,
    },
}

impl Client {
    /// Returns a client of the agent of a box, from another machine.
    ///
    /// # Errors
    ///
    /// Fails if what is to be shown is of no use, and if the agent has to be asked for its authority and does not answer.
    pub async fn remote(
        address: SocketAddr,
        credential: &Credential,
    ) -> Result<Self, CredentialError> {
        let (token, authority) = match credential {
            Credential::Identity(identity) => {
                let connector = watch::channel(identity.connector()?).1;
                return Ok(Self::over_tls(address, connector, Expected::AnyBox));
            }
            Credential::Token { token, authority } => (token, authority),
        };
        let token: Token = token.parse()?;
        if token.kind != TokenKind::Operator {
            return Err(CredentialError::Token);
        }
        let authority = match authority {
            Some(pem) => X509::from_pem(pem)
                .map_err(|error| CredentialError::Authority(error.to_string()))?,
            None => match authority_of(&token, address).await {
                Ok((authority, _)) => authority,
                Err(JoinError::OtherAuthority { at }) => {
                    return Err(CredentialError::OtherAuthority(at));
                }
                Err(JoinError::Client { source, .. }) => return Err(source.into()),
                Err(error) => return Err(CredentialError::Authority(error.to_string())),
            },
        };
        let client = Self::over_tls(address, fixed(Some(authority))?, Expected::AnyBox);
        Ok(client.with_token(token.to_string().into()))
    }

    /// Adds an operator. The key of a certificate is made here and goes nowhere else.
    ///
    /// # Errors
    ///
    /// Fails if no agent answers in time, or refuses.
    pub async fn add_operator(&self, new: &NewOperator) -> Result<Added, CredentialError> {
        let key = (!new.by_token).then(NewKey::new).transpose()?;
        let request = OperatorRequest {
            name: new.name.clone(),
            role: new.role,
            ttl_seconds: new.ttl.as_secs(),
            request: key.as_ref().map(|key| key.request.clone()),
            replace: new.replace,
        };
        let answer: OperatorAnswer = self.post("operators", &request).await?;
        let secret = match (key, answer.certificate, answer.token) {
            (Some(key), Some(certificate), _) => {
                let key = key.pem()?;
                let key = String::from_utf8_lossy(&key);
                format!("{key}{certificate}{}", answer.authority)
            }
            (None, _, Some(token)) => token,
            _ => {
                let text = "it gives neither a certificate nor a token";
                return Err(ClientError::Version(text.to_owned()).into());
            }
        };
        Ok(Added {
            secret,
            note: answer.note,
        })
    }
}

/// An operator to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOperator {
    /// The name: 1 to 64 ASCII letters, digits, and the characters `_ . -`.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// How long, in whole seconds.
    pub ttl: Duration,
    /// Whether they get a token instead of a certificate.
    pub by_token: bool,
    /// Whether what they had before ends.
    pub replace: bool,
}

/// An operator who was added.
#[derive(Clone, PartialEq, Eq)]
pub struct Added {
    /// What is theirs alone: the token, or a PEM text with key, certificate and authority.
    pub secret: String,
    /// What whoever asked should know.
    pub note: Option<String>,
}

impl fmt::Debug for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Added")
            .field("note", &self.note)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::pki::Authority;

    fn identity(kind: Kind, validity: u64) -> String {
        let authority = Authority::found("east").unwrap();
        let key = NewKey::new().unwrap();
        let principal = Principal {
            cluster: "east".to_owned(),
            kind,
            name: "alice".to_owned(),
        };
        let validity = Duration::from_secs(validity);
        let signed = authority.sign(&key.request, &principal, &[], validity);
        let key = String::from_utf8(key.pem().unwrap()).unwrap();
        format!("{key}{}{}", signed.unwrap(), authority.pem().unwrap())
    }

    #[test]
    fn an_identity_is_read_whole_or_what_is_missing_is_said() {
        let whole = identity(Kind::Operator, 60);
        let read = OperatorIdentity::parse(format!("# alice\n{whole}").as_bytes()).unwrap();
        assert_eq!((read.name.as_str(), read.authorities.len()), ("alice", 1));
        assert!(read.connector().is_ok());
        let at = whole.find("-----BEGIN CERT").unwrap();
        let last = whole.rfind("-----BEGIN CERT").unwrap();
        let other = identity(Kind::Operator, 60);
        for (wrong, why) in [
            (whole[at..].to_owned(), "no private key"),
            (whole[..at].to_owned(), "no certificate"),
            (whole[..last].to_owned(), "no certificate of an authority"),
            (
                format!("{}{}", &other[..at], &whole[at..]),
                "another certificate",
            ),
            (identity(Kind::Node, 60), "of no operator"),
        ] {
            let error = OperatorIdentity::parse(wrong.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(why), "{why}: {error}");
        }
        let ended = OperatorIdentity::parse(identity(Kind::Operator, 0).as_bytes()).unwrap();
        let error = ended.connector().unwrap_err().to_string();
        assert!(error.contains("operator alice ended on"), "{error}");
    }
}
