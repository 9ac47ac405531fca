//! Who is who in a cluster, by certificates: an authority, names, requests for certificates.
//!
//! A certificate says who has it by a URI among its alternative names: `muster://CLUSTER/box/NAME` or
//! `muster://CLUSTER/node/NAME`. Keys are made where they are used; what travels is a request (PKCS #10) and the certificate.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private};
use openssl::x509::extension::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
};
use openssl::x509::{X509, X509Name, X509NameBuilder, X509Ref, X509Req};

use crate::launch::write_whole;

/// How long an authority is valid, in days.
const AUTHORITY_DAYS: u32 = 3650;

/// How long the certificates of boxes and nodes are valid, in days.
pub(crate) const CERTIFICATE_DAYS: u32 = 90;

/// How long before they are made certificates are valid: clocks differ.
const EARLIER: i32 = 300;

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

/// What somebody is in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A box, by its agent.
    Box,
    /// A node.
    Node,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Box => "box",
            Self::Node => "node",
        }
    }
}

/// Who has a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: String,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cluster,
            kind,
            name,
        } = self;
        write!(f, "muster://{cluster}/{}/{name}", kind.word())
    }
}

impl Principal {
    fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("muster://")?.split('/');
        let (cluster, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
        let kinds = [Kind::Box, Kind::Node];
        let kind = kinds.into_iter().find(|known| known.word() == kind)?;
        let is_whole = parts.next().is_none() && !cluster.is_empty() && !name.is_empty();
        is_whole.then(|| Self {
            cluster: cluster.to_owned(),
            kind,
            name: name.to_owned(),
        })
    }

    /// Returns who a certificate is of, if it says that once.
    pub(crate) fn of(certificate: &X509Ref) -> Option<Self> {
        let alternatives = certificate.subject_alt_names()?;
        let mut found = alternatives
            .iter()
            .filter_map(|name| Self::parse(name.uri()?));
        let principal = found.next()?;
        found.next().is_none().then_some(principal)
    }
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
        builder.set_not_before(&*valid_from()?)?;
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
        let certificate = self.certify(&key, name, None, addresses, validity)?;
        let key = key.private_key_to_pem_pkcs8()?;
        Ok(Identity { certificate, key })
    }

    pub(crate) fn fingerprint(&self) -> Result<String, PkiError> {
        fingerprint(&self.certificate)
    }

    /// Signs a request. Of the request it takes the key alone: who somebody is, is not theirs to say.
    pub(crate) fn sign(
        &self,
        request: &str,
        principal: &Principal,
        addresses: &[IpAddr],
        validity: Duration,
    ) -> Result<String, PkiError> {
        let request = X509Req::from_pem(request.as_bytes())
            .map_err(malformed("the request for a certificate"))?;
        let key = request.public_key()?;
        if !request.verify(&key)? {
            return Err(PkiError::NotSigned);
        }
        self.certify(&key, &principal.name, Some(principal), addresses, validity)
    }

    fn certify<T: HasPublic>(
        &self,
        key: &PKeyRef<T>,
        name: &str,
        principal: Option<&Principal>,
        addresses: &[IpAddr],
        validity: Duration,
    ) -> Result<String, PkiError> {
        let mut builder = X509::builder()?;
        builder.set_version(2)?;
        builder.set_serial_number(&*serial()?)?;
        builder.set_subject_name(&*common_name(name)?)?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        builder.set_pubkey(key)?;
        builder.set_not_before(&*valid_from()?)?;
        builder.set_not_after(&*from_now(validity)?)?;
        let mut alternatives = SubjectAlternativeName::new();
        if let Some(principal) = principal {
            alternatives.uri(&principal.to_string());
        }
        // WebSocket clients look for the address, peers do not.
        alternatives.dns(name).dns("localhost");
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let others = addresses
            .iter()
            .filter(|address| !loopback.contains(address));
        for address in loopback.iter().chain(others) {
            alternatives.ip(&address.to_string());
        }
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let alternatives = alternatives.build(&context)?;
        builder.append_extension(alternatives)?;
        let usage = ExtendedKeyUsage::new()
            .server_auth()
            .client_auth()
            .build()?;
        builder.append_extension(usage)?;
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

fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

fn valid_from() -> Result<Asn1Time, ErrorStack> {
    Asn1Time::from_unix(unix_now() - i64::from(EARLIER))
}

fn from_now(validity: Duration) -> Result<Asn1Time, ErrorStack> {
    let seconds = i64::try_from(validity.as_secs()).unwrap_or(i64::MAX);
    Asn1Time::from_unix(unix_now().saturating_add(seconds))
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

/// How old a certificate is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Age {
    /// The part of its life that is over, from 0; more than 1 if it has ended.
    pub(crate) over: f64,
    /// How long it is valid, from its making.
    pub(crate) life: Duration,
}

impl Age {
    /// How many days it is still valid; negative if it has ended.
    pub(crate) fn days_left(&self) -> f64 {
        (1.0 - self.over) * self.life.as_secs_f64() / 86_400.0
    }
}

pub(crate) fn age(certificate: &X509Ref) -> Result<Age, PkiError> {
    let now = Asn1Time::days_from_now(0)?;
    let seconds = |from: &Asn1TimeRef, to: &Asn1TimeRef| {
        let difference = from.diff(to)?;
        Ok::<_, ErrorStack>(f64::from(difference.days) * 86_400.0 + f64::from(difference.secs))
    };
    // It is valid from a little before it was made.
    let made = f64::from(EARLIER);
    let life = seconds(certificate.not_before(), certificate.not_after())? - made;
    let over = seconds(certificate.not_before(), &now)? - made;
    let life = life.max(1.0);
    Ok(Age {
        over: over / life,
        life: Duration::from_secs_f64(life),
    })
}

/// When a certificate ends, since 1970.
pub(crate) fn expiry(certificate: &X509Ref) -> Result<Duration, PkiError> {
    let after = Asn1Time::from_unix(0)?.diff(certificate.not_after())?;
    let days = Duration::from_secs(86_400) * after.days.try_into().unwrap_or_default();
    let seconds = after.secs.try_into().unwrap_or_default();
    Ok(days + Duration::from_secs(seconds))
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

    #[test]
    fn names_are_read_whole_or_not_at_all() {
        assert_eq!(Principal::parse(&node().to_string()), Some(node()));
        for wrong in [
            "muster://east/node",
            "muster://east/node/",
            "muster:///node/a",
            "muster://east/node/a/b",
            "muster://east/king/a",
            "https://east/node/a",
        ] {
            assert_eq!(Principal::parse(wrong), None, "{wrong}");
        }
    }
}
