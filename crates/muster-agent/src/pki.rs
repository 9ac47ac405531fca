//! Who is who in a cluster, by certificates: an authority, names, requests for certificates.
//!
//! A certificate says who has it by a URI among its alternative names: `muster://CLUSTER/box/NAME`,
//! `muster://CLUSTER/node/NAME` or `muster://CLUSTER/operator/NAME`. Keys are made where they are used; what travels is a
//! request (PKCS #10) and the certificate.
//!
//! Nodes take whoever has a certificate of the authority for a member of the mesh. An operator's is for no client and no
//! server of TLS by its extended key usage, so that nodes refuse it as any TLS does; agents let it through.

mod principal;
mod times;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private};
use openssl::sign::Signer;
use openssl::x509::extension::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
};
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::{
    X509, X509Name, X509NameBuilder, X509Ref, X509Req, X509StoreContextRef, X509VerifyResult,
};

pub(crate) use self::principal::{Kind, Principal};
pub(crate) use self::times::{Age, age, expiry, made};
use crate::launch::write_whole;

/// How long an authority is valid, in days.
const AUTHORITY_DAYS: u32 = 3650;

/// How long the certificates of boxes and nodes are valid, in days.
pub(crate) const CERTIFICATE_DAYS: u32 = 90;

/// The verdict of OpenSSL on a certificate whose extended key usage is another (`X509_V_ERR_INVALID_PURPOSE`).
const INVALID_PURPOSE: i32 = 26;

/// How long before they are made certificates are valid: clocks differ.
const EARLIER: i32 = 300;

/// What an operator's certificate is for, as extended key usage: a number of Muster's own, made of a UUID (X.667).
const FOR_AGENTS: &str = "2.25.194293589493102806339434345225268998094";

/// Why something about certificates cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file or an answer has not what it should have.
    #[error("{what}: {source}")]
    Malformed {
        /// What it is.
        what: String,
        /// OpenSSL's error.
        source: ErrorStack,
    },
    /// A request is not signed with its own key.
    #[error("the request for a certificate is not signed with its key")]
    NotSigned,
    /// OpenSSL failed.
    #[error("OpenSSL: {0}")]
    OpenSsl(#[from] ErrorStack),
}

fn malformed(what: impl Into<String>) -> impl FnOnce(ErrorStack) -> PkiError {
    let what = what.into();
    move |source| PkiError::Malformed { what, source }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File { path, source }
}

/// A key, and what asks for a certificate of it.
#[derive(Debug)]
pub(crate) struct NewKey {
    key: PKey<Private>,
    /// The request, as PEM.
    pub(crate) request: String,
}

impl NewKey {
    pub(crate) fn new() -> Result<Self, PkiError> {
        let key = new_key()?;
        let mut request = X509Req::builder()?;
        request.set_pubkey(&key)?;
        request.sign(&key, MessageDigest::sha256())?;
        let pem = request.build().to_pem()?;
        Ok(Self {
            key,
            request: String::from_utf8_lossy(&pem).into_owned(),
        })
    }

    pub(crate) fn pem(&self) -> Result<Vec<u8>, PkiError> {
        Ok(self.key.private_key_to_pem_pkcs8()?)
    }
}

fn new_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn common_name(text: &str) -> Result<X509Name, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, text)?;
    Ok(name.build())
}

/// The authority of a cluster, with its key.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new one, called `Muster cluster NAME`.
    ///
    /// # Errors
    ///
    /// Fails if OpenSSL does.
    pub fn found(name: &str) -> Result<Self, PkiError> {
        let key = new_key()?;
        let name = common_name(&format!("Muster cluster {name}"))?;
        let mut builder = X509::builder()?;
        builder.set_version(2)?;
        builder.set_serial_number(&*serial()?)?;
        builder.set_subject_name(&name)?;
        builder.set_issuer_name(&name)?;
        builder.set_pubkey(&key)?;
        builder.set_not_before(&*valid_from(unix_now())?)?;
        builder.set_not_after(&*Asn1Time::days_from_now(AUTHORITY_DAYS)?)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        let usage = KeyUsage::new()
            .critical()
            .key_cert_sign()
            .crl_sign()
            .build()?;
        builder.append_extension(usage)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Self {
            certificate: builder.build(),
            key,
        })
    }

    /// Reads one from a directory. Returns `None` if there is none.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, PkiError> {
        let (certificate, key) = (directory.join("ca.pem"), directory.join("ca.key"));
        if !key.exists() {
            return Ok(None);
        }
        Self::of_files(&certificate, &key).map(Some)
    }

    /// Reads one from its two files.
    ///
    /// # Errors
    ///
    /// Fails if one of them cannot be read, or is not what it should be.
    pub fn of_files(certificate: &Path, key: &Path) -> Result<Self, PkiError> {
        let pem = std::fs::read(key).map_err(file_error(key))?;
        Ok(Self {
            certificate: read_certificate(certificate)?,
            key: PKey::private_key_from_pem(&pem).map_err(malformed(key.display().to_string()))?,
        })
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<(), PkiError> {
        let identity = self.identity()?;
        write(&directory.join("ca.key"), &identity.key)?;
        write(&directory.join("ca.pem"), identity.certificate.as_bytes())
    }

    pub(crate) fn pem(&self) -> Result<String, PkiError> {
        Ok(String::from_utf8_lossy(&self.certificate.to_pem()?).into_owned())
    }

    /// Returns its own certificate and key.
    ///
    /// # Errors
    ///
    /// Fails if OpenSSL does.
    pub fn identity(&self) -> Result<Identity, PkiError> {
        Ok(Identity {
            certificate: self.pem()?,
            key: self.key.private_key_to_pem_pkcs8()?,
        })
    }

    /// Makes a key and its certificate, for a name and for addresses besides those of loopback.
    ///
    /// # Errors
    ///
    /// Fails if OpenSSL does.
    pub fn identify(
        &self,
        name: &str,
        addresses: &[IpAddr],
        validity: Duration,
    ) -> Result<Identity, PkiError> {
        let key = new_key()?;
        let made = unix_now();
        let certificate = self.certify(&key, name, None, addresses, made, validity)?;
        let key = key.private_key_to_pem_pkcs8()?;
        Ok(Identity { certificate, key })
    }

    pub(crate) fn fingerprint(&self) -> Result<String, PkiError> {
        fingerprint(&self.certificate)
    }

    /// Signs bytes.
    pub(crate) fn sign_bytes(&self, parts: &[&[u8]]) -> Result<Vec<u8>, PkiError> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key)?;
        for part in parts {
            signer.update(part)?;
        }
        Ok(signer.sign_to_vec()?)
    }

    /// Signs a request. Of the request it takes the key alone: who somebody is, is not theirs to say.
    pub(crate) fn sign(
        &self,
        request: &str,
        principal: &Principal,
        addresses: &[IpAddr],
        validity: Duration,
    ) -> Result<String, PkiError> {
        self.sign_as_of(request, principal, addresses, unix_now(), validity)
    }

    /// Signs a request, and says of the certificate that it was made at another time than now.
    pub(crate) fn sign_as_of(
        &self,
        request: &str,
        principal: &Principal,
        addresses: &[IpAddr],
        made: i64,
        validity: Duration,
    ) -> Result<String, PkiError> {
        let request = X509Req::from_pem(request.as_bytes())
            .map_err(malformed("the request for a certificate"))?;
        let key = request.public_key()?;
        if !request.verify(&key)? {
            return Err(PkiError::NotSigned);
        }
        let name = &principal.name;
        self.certify(&key, name, Some(principal), addresses, made, validity)
    }

    fn certify<T: HasPublic>(
        &self,
        key: &PKeyRef<T>,
        name: &str,
        principal: Option<&Principal>,
        addresses: &[IpAddr],
        made: i64,
        validity: Duration,
    ) -> Result<String, PkiError> {
        let is_person = principal.is_some_and(|principal| principal.kind == Kind::Operator);
        let mut builder = X509::builder()?;
        builder.set_version(2)?;
        builder.set_serial_number(&*serial()?)?;
        builder.set_subject_name(&*common_name(name)?)?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        builder.set_pubkey(key)?;
        builder.set_not_before(&*valid_from(made)?)?;
        builder.set_not_after(&*after(made, validity)?)?;
        let mut alternatives = SubjectAlternativeName::new();
        if let Some(principal) = principal {
            alternatives.uri(&principal.to_string());
        }
        let mut usage = ExtendedKeyUsage::new();
        if is_person {
            usage.other(FOR_AGENTS);
        } else {
            usage.server_auth().client_auth();
            // WebSocket clients look for the address, peers do not.
            alternatives.dns(name).dns("localhost");
            let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            let others = addresses
                .iter()
                .filter(|address| !loopback.contains(address));
            for address in loopback.iter().chain(others) {
                alternatives.ip(&address.to_string());
            }
        }
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let alternatives = alternatives.build(&context)?;
        builder.append_extension(alternatives)?;
        builder.append_extension(usage.build()?)?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(String::from_utf8_lossy(&builder.build().to_pem()?).into_owned())
    }
}

/// A key and its certificate, as PEM.
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The key, for its owner alone.
    pub key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

fn serial() -> Result<openssl::asn1::Asn1Integer, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    serial.to_asn1_integer()
}

pub(crate) fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

fn valid_from(made: i64) -> Result<Asn1Time, ErrorStack> {
    Asn1Time::from_unix(made.saturating_sub(i64::from(EARLIER)))
}

fn after(made: i64, validity: Duration) -> Result<Asn1Time, ErrorStack> {
    let seconds = i64::try_from(validity.as_secs()).unwrap_or(i64::MAX);
    Asn1Time::from_unix(made.saturating_add(seconds))
}

/// Writes a file for its owner alone.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    write_whole(path, bytes).map_err(file_error(path))
}

pub(crate) fn read_certificate(path: &Path) -> Result<X509, PkiError> {
    let pem = std::fs::read(path).map_err(file_error(path))?;
    X509::from_pem(&pem).map_err(malformed(path.display().to_string()))
}

/// The SHA-256 of a certificate, in hexadecimal digits.
pub(crate) fn fingerprint(certificate: &X509Ref) -> Result<String, PkiError> {
    Ok(hexadecimal(&certificate.digest(MessageDigest::sha256())?))
}

/// The serial number of a certificate, in hexadecimal digits.
pub(crate) fn serial_of(certificate: &X509Ref) -> Result<String, PkiError> {
    let serial = certificate.serial_number().to_bn()?;
    Ok(hexadecimal(&serial.to_vec()))
}

/// A store that trusts these authorities and nobody else.
pub(crate) fn store(authorities: &[X509]) -> Result<X509Store, PkiError> {
    let mut builder = X509StoreBuilder::new()?;
    for authority in authorities {
        builder.add_cert(authority.clone())?;
    }
    Ok(builder.build())
}

/// Lets an operator's certificate through a check of TLS that has found nothing wrong with it but its extended key usage.
pub(crate) fn lets_through(is_good: bool, context: &mut X509StoreContextRef) -> bool {
    let is_of_operator = || {
        let certificate = context.current_cert();
        let principal = certificate.and_then(Principal::of);
        principal.is_some_and(|principal| principal.kind == Kind::Operator)
    };
    let is_only_for_agents = !is_good
        && context.error_depth() == 0
        && context.error().as_raw() == INVALID_PURPOSE
        && is_of_operator();
    if is_only_for_agents {
        context.set_error(X509VerifyResult::OK);
    }
    is_good || is_only_for_agents
}

/// Reads pairs of hexadecimal digits.
pub(crate) fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| u8::try_from(char::from(digit).to_digit(16)?).ok();
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter();
    let bytes = bytes.map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    bytes.collect::<Option<_>>().filter(|_| rest.is_empty())
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const QUARTER: Duration = Duration::from_secs(90 * 86_400);

    fn node() -> Principal {
        Principal {
            cluster: "east".to_owned(),
            kind: Kind::Node,
            name: "data-1".to_owned(),
        }
    }

    #[test]
    fn a_request_gets_the_name_that_the_authority_gives_it() {
        let authority = Authority::found("east").unwrap();
        let key = NewKey::new().unwrap();
        let addresses = ["192.0.2.7".parse().unwrap()];
        let pem = authority
            .sign(&key.request, &node(), &addresses, QUARTER)
            .unwrap();
        let certificate = X509::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(Principal::of(&certificate), Some(node()));
        let of_authority = authority.certificate.public_key().unwrap();
        assert!(certificate.verify(&of_authority).unwrap());
        let age = age(&certificate).unwrap();
        assert!(age.over < 0.01 && age.days_left() > 89.0, "{age:?}");
        assert!(Principal::of(&authority.certificate).is_none());
        for wrong in ["", "no request", &pem] {
            assert!(authority.sign(wrong, &node(), &[], QUARTER).is_err());
        }
    }

    /// Nodes, and whoever else uses TLS as it is, must not take an operator for a member of the mesh.
    #[test]
    fn the_certificate_of_an_operator_is_for_no_client_and_no_server_of_tls() {
        use openssl::x509::X509PurposeId;
        let authority = Authority::found("east").unwrap();
        let is_taken = |kind: Kind, purpose: X509PurposeId| {
            let principal = Principal { kind, ..node() };
            let request = NewKey::new().unwrap().request;
            let pem = authority.sign(&request, &principal, &[], QUARTER).unwrap();
            let certificate = X509::from_pem(pem.as_bytes()).unwrap();
            let mut trusted = X509StoreBuilder::new().unwrap();
            trusted.add_cert(authority.certificate.clone()).unwrap();
            trusted.set_purpose(purpose).unwrap();
            let mut context = openssl::x509::X509StoreContext::new().unwrap();
            let others = openssl::stack::Stack::new().unwrap();
            let trusted = trusted.build();
            context
                .init(&trusted, &certificate, &others, |context| {
                    let is_good = context.verify_cert()?;
                    assert!(is_good || context.error().as_raw() == INVALID_PURPOSE);
                    Ok(is_good)
                })
                .unwrap()
        };
        for purpose in [X509PurposeId::SSL_CLIENT, X509PurposeId::SSL_SERVER] {
            assert!(is_taken(Kind::Node, purpose) && is_taken(Kind::Box, purpose));
            assert!(!is_taken(Kind::Operator, purpose));
        }
    }

    #[test]
    fn an_authority_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Authority::read(directory.path()).unwrap().is_none());
        let authority = Authority::found("east").unwrap();
        authority.write(directory.path()).unwrap();
        let read = Authority::read(directory.path()).unwrap().unwrap();
        assert_eq!(
            read.fingerprint().unwrap(),
            authority.fingerprint().unwrap()
        );
        let metadata = std::fs::metadata(directory.path().join("ca.key")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
}
