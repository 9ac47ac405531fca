//! Known certificates: which hosts present which, as Zeek's workers report it.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler takes its event by value"
)]

use muster_cluster::node::{Context, CounterSpec, Declarations, Framework, Site};
use muster_cluster::{Key, PoolChange, PoolName, Role, SettingSpec};
use muster_data::{Address, Data, Port, Record, Timestamp};

use super::KnownCertAdd;
use crate::checked::Checked;
use crate::known_hosts::still_holds;
use crate::recent::{A_DAY, Recent};

/// Zeek's hashes are 40 digits. A longer one is not worth remembering.
const LONGEST_HASH: usize = 128;

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
/// logs each pair to the stream `known_certs`. It remembers `known_certs.max_certs` pairs for
/// `known_certs.expiry`; the oldest are forgotten first, and counted as `evicted`.
#[derive(Debug)]
pub struct KnownCerts {
    known: Recent<(Address, Box<str>)>,
}

fn key(host: Address, hash: &str) -> Key {
    Key::cat(&[Data::from(host), Data::from(hash)])
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
            "evicted",
            "Remembered certificates that were forgotten to make room, and may be logged again. Growth means that `known_certs.max_certs` is too small for the network.",
        ),
    ];

    fn create(site: &Site<'_>) -> Option<Self> {
        let settings = &site.node.settings;
        site.owns_keys().then(|| Self {
            known: Recent::new(
                settings.size("known_certs.max_certs"),
                settings.duration("known_certs.expiry"),
            ),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::known_cert_add);
        declarations.zeek_stream::<KnownCert>("known_certs", "Known::CERTS_LOG");
    }

    fn pool_changed(&mut self, change: &PoolChange, cx: &mut Context<'_>) {
        if change.pool == PoolName::proxy() {
            let holds = |(host, hash): &(Address, Box<str>)| {
                still_holds(Role::Proxy, change, key(*host, hash), cx)
            };
            self.known.retain(holds);
        }
    }
}

impl KnownCerts {
    fn known_cert_add(&mut self, event: KnownCertAdd, cx: &mut Context<'_>) {
        let entry = (event.info.host, event.hash.into_boxed_str());
        if self.known.contains(&entry, cx.now()) {
            return;
        }
        cx.log("known_certs", &event.info).checked(cx);
        cx.count("certs", 1);
        if entry.1.len() <= LONGEST_HASH {
            let evicted = self.known.insert(entry, cx.now());
            cx.count("evicted", evicted);
        }
    }
}
