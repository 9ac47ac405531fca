//! Why a certificate is refused: whose it is, who issued it, and whom this side trusts instead.

use std::fmt;
use std::path::Path;

use openssl::hash::MessageDigest;
use openssl::x509::{X509, X509NameRef, X509Ref};

/// The most authorities of a directory that are looked at.
const MOST: usize = 256;

/// The most entries of a name, and the most characters, that are read.
const MOST_ENTRIES: usize = 16;
const LONGEST_NAME: usize = 256;

/// The most trusted authorities that a refusal names.
const NAMED: usize = 4;

/// A certificate that is not trusted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRefusal {
    /// Why, in OpenSSL's words.
    pub reason: &'static str,
    /// The subject of the peer's certificate; empty if it is not known.
    pub subject: String,
    /// The name of the authority that issued it.
    pub issuer: String,
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// The trusted authorities, if the certificate is of none of them: those of the issuer's name, or, if there are
    /// none, some of the others.
    pub trusted: Vec<TrustedAuthority>,
}

/// A certificate authority that is trusted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedAuthority {
    /// Its name.
    pub subject: String,
    /// The serial number of its certificate, in hexadecimal digits.
    pub serial: String,
    /// The SHA-256 fingerprint of its certificate, in hexadecimal digits.
    pub fingerprint: String,
}

impl CertificateRefusal {
    /// Describes why a peer's certificate is refused, by whom it is from and who is trusted.
    pub(super) fn new(
        reason: &'static str,
        certificate: Option<&X509Ref>,
        authorities: &[X509],
    ) -> Self {
        let Some(certificate) = certificate else {
            return Self {
                reason,
                subject: String::new(),
                issuer: String::new(),
                serial: String::new(),
                trusted: Vec::new(),
            };
        };
        let issuer = name(certificate.issuer_name());
        let mut trusted = Vec::new();
        if !authorities.iter().any(|it| has_issued(it, certificate)) {
            trusted.extend(authorities.iter().map(TrustedAuthority::of));
            if trusted.iter().any(|it| it.subject == issuer) {
                trusted.retain(|it| it.subject == issuer);
            }
            trusted.truncate(NAMED);
        }
        Self {
            reason,
            subject: name(certificate.subject_name()),
            issuer,
            serial: serial(certificate),
            trusted,
        }
    }
}

impl TrustedAuthority {
    fn of(certificate: &X509) -> Self {
        let digest = certificate.digest(MessageDigest::sha256());
        let bytes = digest.as_ref().map_or(&[][..], |digest| digest);
        let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        Self {
            subject: name(certificate.subject_name()),
            serial: serial(certificate),
            fingerprint: pairs.join(":"),
        }
    }
}

impl fmt::Display for CertificateRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)?;
        if self.subject.is_empty() && self.issuer.is_empty() {
            return Ok(());
        }
        let Self {
            subject,
            issuer,
            serial,
            ..
        } = self;
        write!(
            f,
            "; it is that of {subject}, serial {serial}, issued by {issuer}"
        )?;
        for (at, authority) in self.trusted.iter().enumerate() {
            let TrustedAuthority {
                subject,
                serial,
                fingerprint,
            } = authority;
            let what = match at {
                0 if subject == issuer => "; trusted here is another authority of that name: ",
                0 => "; trusted here is ",
                _ => ", and ",
            };
            write!(
                f,
                "{what}{subject}, serial {serial}, SHA-256 fingerprint {fingerprint}"
            )?;
        }
        Ok(())
    }
}

fn has_issued(authority: &X509, certificate: &X509Ref) -> bool {
    let key = authority.public_key();
    key.is_ok_and(|key| certificate.verify(&key).unwrap_or(false))
}

/// A name as people write it.
pub(super) fn name(name: &X509NameRef) -> String {
    let entries = name.entries().map(|entry| {
        let key = entry.object().nid().short_name().unwrap_or("?");
        let value = entry.data().to_string();
        let value = value.unwrap_or_else(|_| "?".to_owned());
        format!("{key}={value}")
    });
    let whole = entries.take(MOST_ENTRIES).collect::<Vec<_>>().join(", ");
    // Anybody may have written it.
    whole
        .chars()
        .take(LONGEST_NAME)
        .flat_map(char::escape_debug)
        .collect()
}

/// The serial number of a certificate, in hexadecimal digits.
pub(super) fn serial(certificate: &X509Ref) -> String {
    let number = certificate.serial_number().to_bn();
    let digits = number.and_then(|number| number.to_hex_str());
    digits.map_or_else(|_| "?".to_owned(), |digits| digits.to_string())
}

/// The authorities in a file, and in a directory of files.
pub(super) fn authorities(file: Option<&Path>, directory: Option<&Path>) -> Vec<X509> {
    let mut files: Vec<_> = file.map(Path::to_path_buf).into_iter().collect();
    if let Some(entries) = directory.and_then(|directory| std::fs::read_dir(directory).ok()) {
        files.extend(entries.flatten().map(|entry| entry.path()).take(MOST));
    }
    let mut all: Vec<X509> = Vec::new();
    for file in files {
        let pem = std::fs::read(file).unwrap_or_default();
        for authority in X509::stack_from_pem(&pem).unwrap_or_default() {
            if all.len() < MOST && !all.contains(&authority) {
                all.push(authority);
            }
        }
    }
    all
}
