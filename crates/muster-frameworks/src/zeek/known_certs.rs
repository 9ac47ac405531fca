//! Known certificates: which hosts present which, as Zeek's workers report it.

#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "handlers are methods that take their event by value"
)]

use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, KeyedContext, KeyedTable, Site,
};
use muster_cluster::{Key, PoolName, SettingSpec};
use muster_data::{Address, Data, Port, Record, Timestamp};

use super::KnownCertAdd;
use crate::checked::Checked;
use crate::logged::Logged;
use crate::recent::A_DAY;

/// Zeek's hashes are 40 digits. A longer one is not worth remembering.
const LONGEST_HASH: usize = 128;

/// What the owner of a certificate has logged, and until when it does not do so again.
const LOGGED: KeyedTable<Cert, bool, Timestamp> = KeyedTable::new("known_certs/logged");

/// The timer by which what has ended is removed.
const SWEEP: u64 = 1;

/// A certificate of a host, by its hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Record)]
#[record(name = "Muster::cert")]
struct Cert {
    host: Address,
    hash: String,
}

impl From<Cert> for Key {
    /// Zeek's key of a certificate.
    fn from(Cert { host, hash }: Cert) -> Self {
        Self::cat(&[Data::from(host), Data::from(hash.as_str())])
    }
}

/// A worker has seen a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::cert_seen")]
struct CertSeen {
    info: KnownCert,
    hash: String,
}

/// A record of the stream `known_certs`.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Known::CertsInfo")]
pub struct KnownCert {
    /// When the certificate was seen.
    pub ts: Timestamp,
    /// The host that presented it.
    pub host: Address,
    /// The server's port.
    pub port_num: Option<Port>,
    /// Its subject, in bytes, as a certificate may hold anything.
    pub subject: Option<Vec<u8>>,
    /// Who issued it.
    pub issuer_subject: Option<Vec<u8>>,
    /// Its serial number, in hexadecimal digits.
    pub serial: Option<Vec<u8>>,
}

/// Logs every certificate of a host once a day.
///
/// Only Zeek's workers see certificates. They send them to the data node that owns host and hash, which
/// passes them on as [keyed events](Context::publish_keyed); their owner logs each pair to the stream `known_certs`. It remembers
/// `known_certs.max_certs` pairs for `known_certs.expiry`, and so does a second node; the oldest are forgotten first, and counted as
/// `evicted`.
#[derive(Debug)]
pub struct KnownCerts {
    logged: Logged<Cert, bool>,
}

impl Framework for KnownCerts {
    const NAME: &'static str = "known_certs";

    const SETTINGS: &'static [SettingSpec] = &[
        SettingSpec::count(
            "known_certs.max_certs",
            100_000,
            "most certificates of hosts that a node remembers",
        )
        .positive(),
        SettingSpec::duration(
            "known_certs.expiry",
            A_DAY,
            "time after which a certificate is logged again (Zeek's create_expire)",
        )
        .positive(),
    ];

    const COUNTERS: &'static [CounterSpec] = &[
        CounterSpec::new("certs", "Certificates that were logged."),
        CounterSpec::new(
            "not_told",
            "Certificates that were told to nobody, as too many events waited for the owners of keys. Growth means that there are too few data nodes.",
        ),
        CounterSpec::new(
            "evicted",
            "Remembered certificates that were forgotten to make room, and may be logged again. Growth means that `known_certs.max_certs` is too small for the network.",
        ),
    ];

    fn create(site: &Site<'_>) -> Option<Self> {
        let settings = &site.node.settings;
        site.owns_keys().then(|| Self {
            logged: Logged::new(
                LOGGED,
                settings.size("known_certs.max_certs"),
                settings.duration("known_certs.expiry"),
                SWEEP,
            ),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::known_cert_add);
        let cert = |seen: &CertSeen| Cert {
            host: seen.info.host,
            hash: seen.hash.clone(),
        };
        declarations.keyed(PoolName::proxy(), cert, Self::cert_seen);
        declarations.zeek_stream::<KnownCert>("known_certs", "Known::CERTS_LOG");
    }

    fn keys_gained(&mut self, _: &PoolName, cx: &mut Context<'_>) {
        self.logged.gained(cx);
    }

    fn timer(&mut self, _: u64, cx: &mut Context<'_>) {
        let evicted = self.logged.sweep(cx);
        cx.count("evicted", evicted);
    }
}

impl KnownCerts {
    fn known_cert_add(&mut self, event: KnownCertAdd, cx: &mut Context<'_>) {
        let KnownCertAdd { info, hash } = event;
        let host = info.host;
        let seen = CertSeen {
            info,
            hash: hash.clone(),
        };
        let cert = Cert { host, hash };
        let is_told = cx.publish_keyed(&PoolName::proxy(), cert, &seen).is_ok();
        cx.count("not_told", u64::from(!is_told));
    }

    fn cert_seen(&mut self, seen: CertSeen, cx: &mut KeyedContext<'_, '_, Cert>) {
        let is_long = seen.hash.len() > LONGEST_HASH;
        if is_long || self.logged.is_new(&true, cx) {
            cx.log("known_certs", &seen.info).checked(cx);
            cx.count("certs", 1);
        }
    }
}
