//! Whose certificates are good for a seal, and which names make an id.

use std::path::PathBuf;

use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509Builder, X509NameBuilder};

use super::*;
use crate::endpoint::tls::{Tls, TlsContext};

const NOW: Wall = Wall(1_800_000_000);

struct Issued {
    certificate: X509,
    key: PKey<Private>,
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// A certificate valid for a hundred days on either side of [`NOW`].
fn issue(
    name: &str,
    key: PKey<Private>,
    issuer: Option<&Issued>,
    extend: impl FnOnce(&mut X509Builder),
) -> Issued {
    let mut subject = X509NameBuilder::new().unwrap();
    if !name.is_empty() {
        subject.append_entry_by_text("CN", name).unwrap();
    }
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(127, MsbOption::MAYBE_ZERO, false).unwrap();
    let serial = serial.to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&subject).unwrap();
    let by = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(by).unwrap();
    builder.set_pubkey(&key).unwrap();
    valid(&mut builder, 100);
    extend(&mut builder);
    let digest = digest(issuer.map_or(&key, |issuer| &issuer.key));
    // An authority here signs with a hash.
    let digest = digest.unwrap_or_else(MessageDigest::sha256);
    let by = issuer.map_or(&key, |issuer| &issuer.key);
    builder.sign(by, digest).unwrap();
    Issued {
        certificate: builder.build(),
        key,
    }
}

/// Valid for so many days from a hundred days before [`NOW`].
fn valid(builder: &mut X509Builder, days: i64) {
    let now = i64::try_from(NOW.0).unwrap();
    let day = 24 * 3600;
    let time = |days: i64| Asn1Time::from_unix(now + days * day).unwrap();
    builder.set_not_before(&time(-100)).unwrap();
    builder.set_not_after(&time(days)).unwrap();
}

fn authority(builder: &mut X509Builder) {
    let constraints = BasicConstraints::new().critical().ca().build().unwrap();
    builder.append_extension(constraints).unwrap();
}

fn alternatives(builder: &mut X509Builder, names: &[&str]) {
    let mut alternatives = SubjectAlternativeName::new();
    for name in names {
        match name.split_once(':') {
            Some(("uri", uri)) => alternatives.uri(uri),
            Some(("ip", address)) => alternatives.ip(address),
            _ => alternatives.dns(name),
        };
    }
    let context = builder.x509v3_context(None, None);
    let alternatives = alternatives.build(&context).unwrap();
    builder.append_extension(alternatives).unwrap();
}

/// The files of a certificate with those behind it.
fn written(
    directory: &tempfile::TempDir,
    root: &Issued,
    chain: &[&Issued],
) -> (Certificates, PKey<Private>) {
    let path = |name: &str| -> PathBuf { directory.path().join(name) };
    let pem = |issued: &Issued| issued.certificate.to_pem().unwrap();
    std::fs::write(path("ca.pem"), pem(root)).unwrap();
    let all: Vec<u8> = chain.iter().flat_map(|issued| pem(issued)).collect();
    std::fs::write(path("own.pem"), all).unwrap();
    let key = chain[0].key.private_key_to_pem_pkcs8().unwrap();
    std::fs::write(path("own.key"), key).unwrap();
    let certificates = Certificates {
        cafile: Some(path("ca.pem")),
        capath: None,
        certificate: path("own.pem"),
        keyfile: path("own.key"),
        passphrase: None,
    };
    (certificates, chain[0].key.clone())
}

/// What becomes of a seal that these make, for one who has the same authority.
fn sealed(root: &Issued, chain: &[&Issued], at: Wall) -> Result<(), Refusal> {
    let directory = tempfile::tempdir().unwrap();
    let (certificates, key) = written(&directory, root, chain);
    let seals = SealingKey::load(&certificates, key).unwrap();
    let seals = seals.for_life([7; 16]);
    let owner = seals.owner(seals.id(), seals.credentials(), at);
    assert_nothing_is_left();
    let owner = owner?;
    let signature = seals.sign(b"a record").unwrap();
    assert!(owner.has_signed(b"a record", &signature));
    assert!(!owner.has_signed(b"another", &signature));
    assert!(!owner.has_signed(b"a record", b"no signature"));
    assert!(!owner.has_signed(b"a record", &[]));
    assert_nothing_is_left();
    Ok(())
}

/// A connection on the same thread would be ended by it.
fn assert_nothing_is_left() {
    let left = ErrorStack::get();
    assert!(left.errors().is_empty(), "{left}");
}

#[test]
fn keys_of_every_kind_that_tls_takes_seal() {
    let root = issue("root", new_key(), None, authority);
    let keys = [
        new_key(),
        PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
        PKey::generate_ed25519().unwrap(),
    ];
    for key in keys {
        let own = issue("own", key, Some(&root), |_| {});
        assert_eq!(sealed(&root, &[&own], NOW), Ok(()));
    }
}

/// A node's certificate that a box's agent has asked for is that node's; others say nothing of names.
#[test]
fn a_certificate_may_bind_its_owner_to_a_name() {
    let root = issue("root", new_key(), None, authority);
    let may = |alternative: Option<&str>, name: &str| {
        let own = issue("data-1", new_key(), Some(&root), |builder| {
            if let Some(alternative) = alternative {
                alternatives(builder, &["localhost", alternative]);
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let (certificates, key) = written(&directory, &root, &[&own]);
        let seals = SealingKey::load(&certificates, key).unwrap();
        let seals = seals.for_life([7; 16]);
        let owner = seals.owner(seals.id(), seals.credentials(), NOW).unwrap();
        owner.may_be_called(name)
    };
    let node = Some("uri:muster://east/node/data-1");
    assert!(may(node, "data-1") && may(node, ""));
    assert!(!may(node, "data-2") && !may(node, "manager"));
    let agent = Some("uri:muster://east/box/a");
    assert!(may(agent, "agent.a") && !may(agent, "a") && !may(agent, "manager"));
    assert!(may(None, "anything") && may(Some("uri:https://example.org/node/x"), "anything"));
}

#[test]
fn who_is_refused_by_a_handshake_has_no_good_seal() {
    let root = issue("root", new_key(), None, authority);
    let middle = issue("middle", new_key(), Some(&root), authority);
    let own = issue("own", new_key(), Some(&middle), |_| {});
    assert_eq!(sealed(&root, &[&own, &middle], NOW), Ok(()));
    // The authority itself may stand in the file.
    assert_eq!(sealed(&root, &[&own, &middle, &root], NOW), Ok(()));
    assert_eq!(sealed(&root, &[&own], NOW), Err(Refusal::Untrusted));
    let other = issue("root", new_key(), None, authority);
    assert_eq!(
        sealed(&other, &[&own, &middle, &root], NOW),
        Err(Refusal::Untrusted)
    );
    // One that may not issue any has issued it.
    let leaf = issue("leaf", new_key(), Some(&root), |_| {});
    let forged = issue("own", new_key(), Some(&leaf), |_| {});
    assert_eq!(
        sealed(&root, &[&forged, &leaf], NOW),
        Err(Refusal::Untrusted)
    );
    for (use_of, expected) in [
        (ExtendedKeyUsage::new().client_auth().build(), Ok(())),
        (ExtendedKeyUsage::new().server_auth().build(), Ok(())),
        (
            ExtendedKeyUsage::new().code_signing().build(),
            Err(Refusal::Untrusted),
        ),
    ] {
        let own = issue("own", new_key(), Some(&root), |builder| {
            builder.append_extension(use_of.unwrap()).unwrap();
        });
        assert_eq!(sealed(&root, &[&own], NOW), expected);
    }
}

#[test]
fn all_that_lead_to_the_authority_must_be_valid_when_the_record_comes() {
    let root = issue("root", new_key(), None, authority);
    let middle = issue("middle", new_key(), Some(&root), |builder| {
        authority(builder);
        valid(builder, 50);
    });
    let own = issue("own", new_key(), Some(&middle), |builder| {
        valid(builder, 60);
    });
    let day = 24 * 3600;
    for (days, expected) in [
        (0, Ok(())),
        (49, Ok(())),
        (51, Err(Refusal::OutOfDate)),
        (-99, Ok(())),
        (-101, Err(Refusal::OutOfDate)),
    ] {
        let at = Wall(NOW.0.saturating_add_signed(days * day));
        assert_eq!(sealed(&root, &[&own, &middle], at), expected, "{days}");
    }
}

#[test]
fn an_id_is_of_the_names_and_of_nothing_else() {
    let root = issue("root", new_key(), None, authority);
    let other = issue("other", new_key(), None, authority);
    let id = |name: &str, alternatives_of: &[&str], issuer: &Issued| {
        let own = issue(name, new_key(), Some(issuer), |builder| {
            if !alternatives_of.is_empty() {
                alternatives(builder, alternatives_of);
            }
        });
        id_of(&names(&own.certificate).unwrap(), [7; 16])
    };
    let first = id(
        "own",
        &["a.example", "b.example", "uri:spiffe://x/y"],
        &root,
    );
    for renewed in [
        id(
            "own",
            &["a.example", "b.example", "uri:spiffe://x/y"],
            &root,
        ),
        id(
            "own",
            &["uri:spiffe://x/y", "b.example", "a.example"],
            &root,
        ),
        id(
            "own",
            &["a.example", "b.example", "uri:spiffe://x/y"],
            &other,
        ),
    ] {
        assert_eq!(renewed, first);
    }
    for another in [
        id(
            "else",
            &["a.example", "b.example", "uri:spiffe://x/y"],
            &root,
        ),
        id("own", &["a.example", "uri:spiffe://x/y"], &root),
        id(
            "own",
            &["a.example", "b.example", "uri:spiffe://x/z"],
            &root,
        ),
        id("own", &[], &root),
        id("own", &["ip:192.0.2.1"], &root),
        // Without a name it is the key's.
        id("", &[], &root),
        id("", &[], &root),
    ] {
        assert_ne!(another, first);
    }
    assert_ne!(id("", &[], &root), id("", &[], &root));
    assert_eq!(id("", &["a.example"], &root), id("", &["a.example"], &root));
    // Another life.
    let own = issue("own", new_key(), Some(&root), |_| {});
    let names = names(&own.certificate).unwrap();
    assert_ne!(id_of(&names, [7; 16]), id_of(&names, [8; 16]));
}

/// The file is named: the endpoint would be heard by nobody.
#[test]
fn more_certificates_than_a_record_takes_are_told_at_the_start() {
    let root = issue("root", new_key(), None, authority);
    let mut chain = vec![issue("authority-0", new_key(), Some(&root), authority)];
    for number in 1..MAX_CHAIN {
        let last = chain.last();
        let name = format!("authority-{number}");
        let next = issue(&name, new_key(), last, authority);
        chain.push(next);
    }
    chain.push(issue("own", new_key(), chain.last(), |_| {}));
    let chain: Vec<&Issued> = chain.iter().rev().collect();
    let directory = tempfile::tempdir().unwrap();
    let (certificates, _) = written(&directory, &root, &chain);
    let error = TlsContext::load(&Tls::Mutual(certificates)).unwrap_err();
    assert!(
        matches!(&error, TlsError::File { what: "certificate", path, .. } if path.ends_with("own.pem")),
        "{error}"
    );
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let root = issue("root", new_key(), None, authority);
    let directory = tempfile::tempdir().unwrap();
    let own = issue("own", new_key(), Some(&root), |_| {});
    let (certificates, key) = written(&directory, &root, &[&own]);
    let seals = SealingKey::load(&certificates, key).unwrap();
    let seals = seals.for_life([7; 16]);
    let der = own.certificate.to_der().unwrap();
    for certificates in [
        vec![],
        vec![vec![]],
        vec![vec![0x30; 100]],
        vec![der[..der.len() - 1].to_vec()],
        vec![der.clone(), vec![1, 2, 3]],
    ] {
        let credentials = Credentials {
            salt: [7; 16],
            certificates,
        };
        let refused = seals.owner(seals.id(), &credentials, NOW).map(|_| ());
        assert_eq!(refused, Err(Refusal::Untrusted));
        assert_nothing_is_left();
    }
}
