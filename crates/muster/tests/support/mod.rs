//! Certificates made for a test.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use muster::Certificates;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::symm::Cipher;
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509, X509NameBuilder};

/// An authority in a directory.
pub(crate) struct Authority {
    directory: PathBuf,
    key: PKey<Private>,
    certificate: X509,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Flaw {
    None,
    Expired,
}

impl Authority {
    pub(crate) fn new(directory: &Path) -> Self {
        let key = new_key();
        let name = directory.to_string_lossy();
        let name: String = name.chars().rev().take(40).collect();
        let certificate = certificate(&name, &key, None, Flaw::None);
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join("ca.pem"), certificate.to_pem().unwrap()).unwrap();
        Self {
            directory: directory.to_path_buf(),
            key,
            certificate,
        }
    }

    /// A certificate for `name`; its key is protected by the passphrase, if there is one.
    pub(crate) fn certify(&self, name: &str, flaw: Flaw, passphrase: Option<&str>) -> Certificates {
        let key = new_key();
        let signed = certificate(name, &key, Some((&self.certificate, &self.key)), flaw);
        let path = |extension: &str| self.directory.join(format!("{name}.{extension}"));
        std::fs::write(path("pem"), signed.to_pem().unwrap()).unwrap();
        let pem = match passphrase {
            Some(passphrase) => key
                .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), passphrase.as_bytes())
                .unwrap(),
            None => key.private_key_to_pem_pkcs8().unwrap(),
        };
        std::fs::write(path("key"), pem).unwrap();
        Certificates {
            cafile: Some(self.directory.join("ca.pem")),
            capath: None,
            certificate: path("pem"),
            keyfile: path("key"),
            passphrase: passphrase.map(str::to_owned),
        }
    }
}

fn new_key() -> PKey<Private> {
    let group = openssl::ec::EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(openssl::ec::EcKey::generate(&group).unwrap()).unwrap()
}

fn certificate(
    name: &str,
    key: &PKey<Private>,
    issuer: Option<(&X509, &PKey<Private>)>,
    flaw: Flaw,
) -> X509 {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(1 + name.len() as u32)
        .unwrap()
        .to_asn1_integer()
        .unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder
        .set_issuer_name(issuer.map_or(&*subject, |(issuer, _)| issuer.subject_name()))
        .unwrap();
    builder.set_pubkey(key).unwrap();
    builder
        .set_not_before(&Asn1Time::from_unix(1_600_000_000).unwrap())
        .unwrap();
    let end = match flaw {
        Flaw::None => Asn1Time::days_from_now(2).unwrap(),
        Flaw::Expired => Asn1Time::from_unix(1_700_000_000).unwrap(),
    };
    builder.set_not_after(&end).unwrap();
    if issuer.is_none() {
        builder
            .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
            .unwrap();
    }
    builder
        .sign(issuer.map_or(key, |(_, key)| key), MessageDigest::sha256())
        .unwrap();
    builder.build()
}
