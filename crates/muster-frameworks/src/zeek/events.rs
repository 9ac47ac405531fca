//! The events of Zeek's scripts on what is known of a network. A worker sends them to the proxy that
//! owns the key, having looked whether it is one of the hosts to be tracked.
//!
//! Their names have no module: what a script handles without having declared it is global in Zeek, also
//! where the script is in a module.

use muster_data::Record;

use super::KnownCert;
use crate::{KnownHost, KnownService};

/// A worker of Zeek's has seen a host. The key is the address.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "known_host_add")]
pub struct KnownHostAdd {
    /// The host.
    pub info: KnownHost,
}

/// A worker of Zeek's has seen a service. The key is address and port as text.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "known_service_add")]
pub struct KnownServiceAdd {
    /// The service, with all protocols that were spoken; with an empty one if none is known.
    pub info: KnownService,
}

/// A worker of Zeek's has seen a certificate. The key is address and hash as text.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "known_cert_add")]
pub struct KnownCertAdd {
    /// The certificate.
    pub info: KnownCert,
    /// Its SHA-1 in hexadecimal digits.
    pub hash: String,
}
