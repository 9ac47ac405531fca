//! When certificates were made, and when they end.

use std::time::Duration;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::x509::X509Ref;

use super::{EARLIER, PkiError};

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

/// When a certificate was made, in seconds since 1970.
pub(crate) fn made(certificate: &X509Ref) -> Result<i64, PkiError> {
    let before = Asn1Time::from_unix(0)?.diff(certificate.not_before())?;
    let seconds = i64::from(before.days) * 86_400 + i64::from(before.secs);
    Ok(seconds + i64::from(EARLIER))
}
