//! Known services: what is offered on local addresses.

#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "handlers are methods that take their event by value"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, KeyedContext, KeyedTable, SettingChange,
    SharedStore, Site,
};
use muster_cluster::{Key, PoolChange, PoolName, Role, SettingSpec};
use muster_data::{Address, Data, EnumValue, Port, Protocol, Record, Timestamp};

use crate::checked::Checked;
use crate::known_hosts::{came_about, may_put};
use crate::local_nets::{self, LocalNets};
use crate::logged::Logged;
use crate::recent::{A_DAY, Recent, workers_expiry};
use crate::zeek::KnownServiceAdd;
use crate::zeek_log::Connection;

/// The store of known services, by host, port and name, with a TTL. Zeek's nodes use the same store, with the same
/// keys and values, if `Known::use_service_store` is set.
pub const KNOWN_SERVICES: SharedStore<(Address, Port, String), bool> =
    SharedStore::new("zeek/known/services");

/// A worker has seen services for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::service_seen")]
pub struct ServiceSeen {
    /// The event time.
    pub ts: Timestamp,
    /// The host that offers it.
    pub host: Address,
    /// The port that it is offered at.
    pub port: Port,
    /// What it is; an empty name, or none at all, if that is not known.
    pub services: BTreeSet<String>,
}

/// Where services are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Record)]
#[record(name = "Muster::service_place")]
struct Place {
    host: Address,
    port: Port,
}

impl From<Place> for Key {
    /// Zeek's key of a service.
    fn from(Place { host, port }: Place) -> Self {
        Self::cat(&[Data::from(host), Data::from(port)])
    }
}

/// What the owner of a place has logged, and until when it does not do so again.
const LOGGED: KeyedTable<Place, String, Timestamp> = KeyedTable::new("known_services/logged");

/// The timer by which what has ended is removed.
const SWEEP: u64 = 1;

/// A record of the stream `known_services`.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Known::ServicesInfo")]
pub struct KnownService {
    /// When the service was seen, as far as its owner knows: of several workers, the first to report it counts.
    pub ts: Timestamp,
    /// The host that offers it.
    pub host: Address,
    /// The port that it is offered at.
    pub port_num: Port,
    /// The transport protocol.
    pub port_proto: EnumValue,
    /// What it is; empty if that is not known, or an empty name where Zeek's workers say so.
    pub service: BTreeSet<String>,
}

/// Logs every service of local networks once a day.
///
/// A worker takes the responder of a TCP or UDP connection if Zeek takes it for a service
/// ([`Connection::is_service`]), or, in the log of a protocol, if it [came about](came_about), and sends host, port and
/// service to the data node that owns host and port (with Zeek's key for them), unless it has done so before. The
/// owner logs each to the stream `known_services`, once within `known_services.expiry` of the owner's life. If several
/// services are seen at a port, or a connection before its service is known, each has a record of its own. So the
/// records do not depend on what was seen first; their times do.
///
/// Zeek's workers send what they see to the same owner ([`KnownServiceAdd`]), and what both have seen is logged once.
/// Their records are logged like a Zeek proxy does: all services of a message in one record, without those that are
/// known already, and a service without a name under an empty one.
///
/// The death of an owner, the store of what is known ([`KNOWN_SERVICES`]) and the bound of memory
/// (`known_services.max_services`) are handled as for [known hosts](crate::KnownHosts).
#[derive(Debug)]
pub struct KnownServices {
    local_nets: LocalNets,
    /// What a worker has told.
    told: Recent<(Place, Name)>,
    /// What a data node has logged.
    logged: Logged<Place, String>,
    most: usize,
    expiry: Duration,
    role: Role,
}

/// The name of a service, by its hash.
type Name = u64;

impl Framework for KnownServices {
    const NAME: &'static str = "known_services";

    const SETTINGS: &'static [SettingSpec] = &[
        SettingSpec::subnet_list(
            "known_services.local_nets",
            local_nets::DEFAULT,
            "the networks whose services are logged",
        )
        .live(),
        SettingSpec::count(
            "known_services.max_services",
            100_000,
            "most services that a node remembers",
        )
        .positive(),
        SettingSpec::duration(
            "known_services.expiry",
            A_DAY,
            "time after which a service is logged again (Zeek's create_expire)",
        )
        .positive(),
    ];

    const COUNTERS: &'static [CounterSpec] = &[
        CounterSpec::new("services", "Services that were logged, each by its owner."),
        CounterSpec::new(
            "not_told",
            "Services that were told to nobody, as too many events waited for the owners of keys. They are told when they are seen again; growth means that no data node is up, or that there are too few.",
        ),
        CounterSpec::new(
            "known_elsewhere",
            "Services that were not logged because the store had them: a Zeek node has logged them, or a node of the cluster before all were restarted. Nothing is lost.",
        ),
        CounterSpec::new(
            "store_silent",
            "Services that were logged while the store could not be read. Growth means that the primary of `zeek/known/services` is away; what Zeek's nodes have logged may be logged twice.",
        ),
        CounterSpec::new(
            "evicted",
            "Remembered services that were forgotten to make room, and may be logged again. Growth means that `known_services.max_services` is too small for the network.",
        ),
    ];

    fn create(site: &Site<'_>) -> Option<Self> {
        let settings = &site.node.settings;
        let has_work = site.is(Role::Worker) || site.owns_keys();
        let expiry = settings.duration("known_services.expiry");
        let most = settings.size("known_services.max_services");
        has_work.then(|| Self {
            local_nets: LocalNets::of(settings, "known_services.local_nets"),
            told: Recent::new(most, workers_expiry(expiry)),
            logged: Logged::new(LOGGED, most, expiry, SWEEP),
            most,
            expiry,
            role: site.node.role,
        })
    }

    fn setting_changed(&mut self, _: &SettingChange<'_>, cx: &mut Context<'_>) {
        self.local_nets = LocalNets::of(cx.settings(), "known_services.local_nets");
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        if self.role == Role::Worker {
            declarations.on(Self::connection);
        } else {
            declarations.store(&KNOWN_SERVICES);
            let place = |seen: &ServiceSeen| Place {
                host: seen.host,
                port: seen.port,
            };
            declarations.keyed(PoolName::proxy(), place, Self::service_seen);
            declarations.on(Self::known_service_add);
            declarations.zeek_stream::<KnownService>("known_services", "Known::SERVICES_LOG");
        }
    }

    fn pool_changed(&mut self, change: &PoolChange, _: &mut Context<'_>) {
        if change.pool == PoolName::proxy() && self.role == Role::Worker {
            // Muster's owners know; the next one of a key may be a Zeek process, or come after one.
            self.told.retain(|(place, _)| {
                let key = Key::from(*place);
                change.owner_before(&key) == change.owner_after(&key)
            });
        }
    }

    fn keys_gained(&mut self, _: &PoolName, cx: &mut Context<'_>) {
        self.logged.gained(cx);
    }

    fn timer(&mut self, _: u64, cx: &mut Context<'_>) {
        let evicted = self.logged.sweep(cx);
        cx.count("evicted", evicted);
    }
}

impl KnownServices {
    fn connection(&mut self, connection: Connection, cx: &mut Context<'_>) {
        let (host, port) = (connection.resp_h, connection.resp_p);
        let has_ports = matches!(port.protocol, Protocol::Tcp | Protocol::Udp);
        if !has_ports || !is_offered(&connection) || !self.local_nets.contains(&host) {
            return;
        }
        let place = Place { host, port };
        for service in services(connection.service.as_deref().unwrap_or_default()) {
            let entry = (place, name(service));
            if self.told.contains(&entry, cx.now()) {
                continue;
            }
            let (pool, ts) = (PoolName::proxy(), connection.ts);
            let services = BTreeSet::from([service.to_owned()]);
            if cx.zeek_owns(&pool, place)
                && let Some(owner) = cx.topic_for_key(&pool, place)
            {
                let info = record(ts, place, services);
                cx.publish(&owner, &KnownServiceAdd { info }).checked(cx);
            } else if !tell(ts, place, services, cx) {
                continue;
            }
            let evicted = self.told.insert(entry, cx.now());
            cx.count("evicted", evicted);
        }
    }

    /// Zeek's workers tell the owner that they find, which is not always the one that handles keyed events.
    fn known_service_add(&mut self, event: KnownServiceAdd, cx: &mut Context<'_>) {
        let info = event.info;
        let place = Place {
            host: info.host,
            port: info.port_num,
        };
        // A worker that saw a protocol and then that it was not sends none at all, and an empty name is one to Zeek.
        tell(info.ts, place, info.service, cx);
    }

    fn service_seen(&mut self, seen: ServiceSeen, cx: &mut KeyedContext<'_, '_, Place>) {
        let ServiceSeen {
            ts,
            host,
            port,
            mut services,
        } = seen;
        let is_nameless = services.is_empty();
        if is_nameless {
            services.insert(String::new());
        }
        services.retain(|service| self.logged.is_new(service, cx));
        let is_attached = cx.store(&KNOWN_SERVICES).is_attached();
        services.retain(|service| {
            let key = (host, port, service.clone());
            let is_known = matches!(cx.store(&KNOWN_SERVICES).get(&key), Ok(Some(_)));
            cx.count("known_elsewhere", u64::from(is_known));
            !is_known
        });
        if services.is_empty() {
            return;
        }
        for service in &services {
            cx.count("store_silent", u64::from(!is_attached));
            if may_put(cx.store(&KNOWN_SERVICES).size(), self.most, cx) {
                let key = (host, port, service.clone());
                cx.store(&KNOWN_SERVICES)
                    .put_unique_for(&key, &true, self.expiry)
                    .count_failures(self);
            }
        }
        cx.count("services", services.len() as u64);
        if is_nameless {
            services.clear();
        }
        let record = record(ts, Place { host, port }, services);
        cx.log("known_services", &record).checked(cx);
    }
}

/// Tells the owner of a place. Returns `false` if nobody can be told.
fn tell(ts: Timestamp, place: Place, services: BTreeSet<String>, cx: &mut Context<'_>) -> bool {
    let Place { host, port } = place;
    let seen = ServiceSeen {
        ts,
        host,
        port,
        services,
    };
    let is_told = cx.publish_keyed(&PoolName::proxy(), place, &seen).is_ok();
    cx.count("not_told", u64::from(!is_told));
    is_told
}

/// Whether the responder of a row offers a service: by Zeek's rule where the row is of `conn`.
fn is_offered(connection: &Connection) -> bool {
    connection
        .is_service
        .unwrap_or_else(|| came_about(connection))
}

/// The services that a list names, as `conn` has all the protocols that were spoken. One that was taken for another
/// at first (`-http`) does not count; nothing else leaves a service without a name. FTP's data alone is no service.
fn services(list: &str) -> Vec<&str> {
    let named: Vec<&str> = list.split(',').map(str::trim).collect();
    if named[..] == ["ftp-data"] {
        return Vec::new();
    }
    let mut services: Vec<&str> = named
        .into_iter()
        .filter(|name| !name.is_empty() && !name.starts_with('-'))
        .collect();
    if services.is_empty() {
        services.push("");
    }
    services
}

fn record(ts: Timestamp, place: Place, service: BTreeSet<String>) -> KnownService {
    let Place { host, port } = place;
    KnownService {
        ts,
        host,
        port_num: port,
        port_proto: EnumValue::new(port.protocol.name()),
        service,
    }
}

/// 64 bits of FNV-1a: services have few names, and they need not be kept twice for every port.
fn name(service: &str) -> Name {
    service.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::services;

    #[test]
    fn lists_of_services() {
        for (list, expected) in [
            ("http", &["http"][..]),
            ("http,ssl", &["http", "ssl"]),
            ("ssl, http", &["ssl", "http"]),
            ("", &[""]),
            ("-", &[""]),
            ("http,-http", &["http"]),
            ("-http", &[""]),
            ("-http,ssl", &["ssl"]),
            ("ftp-data", &[]),
            ("ftp-data,ftp", &["ftp-data", "ftp"]),
        ] {
            assert_eq!(services(list), expected, "{list}");
        }
    }
}
