//! What endpoints without certificates of their own speak by: TLS 1.3 where the acceptor has this certificate that
//! nobody checks, otherwise what Broker speaks, which is TLS 1.2 without any.

use std::sync::{Mutex, PoisonError};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslContext, SslVerifyMode};
use openssl::x509::{X509, X509NameBuilder, X509Ref};

use super::stream::Side;

/// Broker's anonymous suite; it needs the lowest security level. Later versions of TLS have their own suites.
const CIPHERS: &str = "AECDH-AES256-SHA@SECLEVEL=0";

/// The only group that Broker's anonymous mode offers.
const GROUPS: &str = "P-384";

/// Whose certificate it is: whoever checks it can say what is wrong.
const NAME: &str = "anonymous (not to be trusted)";

/// The certificate's version, counted from 0.
const VERSION_3: i32 = 2;

/// The bits of its serial number.
const SERIAL_BITS: i32 = 127;

/// How long it is valid, in days: nobody looks.
const DAYS: u32 = 3650;

#[derive(Clone)]
struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

/// Returns the context of one side. Only an acceptor has a certificate: what a dialler has none of it cannot show to
/// those who would check it.
pub(super) fn context(side: Side) -> Result<SslContext, ErrorStack> {
    let mut builder = super::builder(CIPHERS)?;
    builder.set_groups_list(GROUPS)?;
    builder.set_verify(SslVerifyMode::NONE);
    if side == Side::Acceptor {
        let Identity { certificate, key } = identity()?;
        builder.set_certificate(&certificate)?;
        builder.set_private_key(&key)?;
        // Nobody resumes a session.
        builder.set_num_tickets(0)?;
    }
    Ok(builder.build())
}

/// Returns the certificate of this process, made when it is first asked for.
fn identity() -> Result<Identity, ErrorStack> {
    static IDENTITY: Mutex<Option<Identity>> = Mutex::new(None);
    let mut identity = IDENTITY.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *identity {
        Some(identity) => Ok(identity.clone()),
        none => Ok(none.insert(Identity::new()?).clone()),
    }
}

/// Whether a certificate is such a one.
pub(super) fn is_of_anonymous(certificate: &X509Ref) -> bool {
    let mut names = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    names.any(|name| name.data().as_slice() == NAME.as_bytes())
}

impl Identity {
    fn new() -> Result<Self, ErrorStack> {
        // The curve that all who speak TLS 1.3 can verify, and the cheapest: its strength protects nothing here.
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
        let mut name = X509NameBuilder::new()?;
        name.append_entry_by_nid(Nid::COMMONNAME, NAME)?;
        let name = name.build();
        let mut serial = BigNum::new()?;
        serial.rand(SERIAL_BITS, MsbOption::MAYBE_ZERO, false)?;
        let mut builder = X509::builder()?;
        builder.set_version(VERSION_3)?;
        let serial = serial.to_asn1_integer()?;
        builder.set_serial_number(&serial)?;
        builder.set_subject_name(&name)?;
        builder.set_issuer_name(&name)?;
        let (begin, end) = (Asn1Time::days_from_now(0)?, Asn1Time::days_from_now(DAYS)?);
        builder.set_not_before(&begin)?;
        builder.set_not_after(&end)?;
        builder.set_pubkey(&key)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Self {
            certificate: builder.build(),
            key,
        })
    }
}
