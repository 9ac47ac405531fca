//! The events of Zeek's scripts about what is known of a network. A worker sends them to the proxy that owns the key,
//! if the host is one of those to be tracked.
//!
//! Their names have no module: an event that a script handles without declaring it is global in Zeek, even if the
//! script is in a module.

use muster_data::Record;

use super::KnownCert;
use crate::{KnownHost, KnownService};

/// A Zeek worker has seen a host. The key is the address.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "known_host_add")]
pub struct KnownHostAdd {
    /// The host.
    pub info: KnownHost,
}

/// A Zeek worker has seen a service. The key is the address and port as text.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "known_service_add")]
pub struct KnownServiceAdd {
    /// The service, with all protocols that were spoken, or an empty one if none is known.
    pub info: KnownService,
}

/// A Zeek worker has seen a certificate. The key is the address and hash as text.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "known_cert_add")]
pub struct KnownCertAdd {
    /// The certificate.
    pub info: KnownCert,
    /// Its SHA-1 in hexadecimal digits.
    pub hash: String,
}
