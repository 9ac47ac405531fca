//! Known services: what is offered on local addresses.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler takes its event by value"
)]

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, SettingChange, SharedStore, Site,
};
use muster_cluster::{Key, PoolChange, PoolName, Role, SettingSpec};
use muster_data::{Address, Data, EnumValue, Port, Protocol, Record, Timestamp};

use crate::checked::Checked;
use crate::known_hosts::{STORE_TIMEOUT, came_about, may_ask, still_holds};
use crate::local_nets::{self, LocalNets};
use crate::recent::{A_DAY, Recent, workers_expiry};
use crate::zeek::KnownServiceAdd;
use crate::zeek_log::Connection;

/// The store of known services, by host, port and name, with a TTL. Zeek's nodes use the same store, with the same
/// keys and values, if `Known::use_service_store` is set.
pub const KNOWN_SERVICES: SharedStore<(Address, Port, String), bool> =
    SharedStore::new("zeek/known/services");

/// A worker has seen a service for the first time since the service's owner last changed.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::service_seen")]
pub struct ServiceSeen {
    /// The event time.
    pub ts: Timestamp,
    /// The host that offers it.
    pub host: Address,
    /// The port that it is offered at.
    pub port: Port,
    /// What it is; empty if that is not known.
    pub service: String,
}

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
    /// What a worker has told, and what a data node has logged.
    known: Recent<(Address, Port, Name)>,
    most: usize,
    expiry: Duration,
    /// The records whose services the store is asked about.
    asked: HashMap<u64, Asked>,
    next_asked: u64,
    role: Role,
}

/// A record whose services are not all known to be new or known.
#[derive(Debug)]
struct Asked {
    record: KnownService,
    /// The services that are new so far.
    new: BTreeSet<String>,
    /// Nothing is known of the service: the empty name among the new ones is not logged.
    is_nameless: bool,
    /// Those that the store has not answered for.
    waiting: BTreeSet<String>,
}

/// The name of a service, by its hash.
type Name = u64;

fn key(host: Address, port: Port) -> Key {
    Key::cat(&[Data::from(host), Data::from(port)])
}

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
            "unowned",
            "Services that were seen while no node owned keys, and were told to nobody. They are told when they are seen again; growth means that no data node is up.",
        ),
        CounterSpec::new(
            "known_elsewhere",
            "Services that were not logged because the store had them, as after another owner or a Zeek node has logged them. Nothing is lost.",
        ),
        CounterSpec::new(
            "store_silent",
            "Services whose owner got no answer of the store in time, and logged them all the same. Growth means that the primary of `zeek/known/services` is away or overloaded; services may be logged twice.",
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
        let expiry = match site.node.role {
            Role::Worker => workers_expiry(expiry),
            _ => expiry,
        };
        has_work.then(|| Self {
            local_nets: LocalNets::of(settings, "known_services.local_nets"),
            known: Recent::new(settings.size("known_services.max_services"), expiry),
            most: settings.size("known_services.max_services"),
            expiry,
            asked: HashMap::new(),
            next_asked: 0,
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
            declarations.on(Self::service_seen);
            declarations.on(Self::known_service_add);
            declarations.zeek_stream::<KnownService>("known_services", "Known::SERVICES_LOG");
        }
    }

    fn done(&mut self, cx: &mut Context<'_>) {
        // The store's answers come too late: better twice than never.
        for (_, mut asked) in self.asked.drain() {
            asked.new.append(&mut asked.waiting);
            asked.log(cx);
        }
    }

    fn pool_changed(&mut self, change: &PoolChange, cx: &mut Context<'_>) {
        if change.pool == PoolName::proxy() {
            let role = self.role;
            self.known
                .retain(|(host, port, _)| still_holds(role, change, key(*host, *port), cx));
        }
    }
}

impl KnownServices {
    fn connection(&mut self, connection: Connection, cx: &mut Context<'_>) {
        let (host, port) = (connection.resp_h, connection.resp_p);
        let has_ports = matches!(port.protocol, Protocol::Tcp | Protocol::Udp);
        if !has_ports || !is_offered(&connection) || !self.local_nets.contains(&host) {
            return;
        }
        for service in services(connection.service.as_deref().unwrap_or_default()) {
            let entry = (host, port, name(service));
            if self.known.contains(&entry, cx.now()) {
                continue;
            }
            let Some(owner) = cx.topic_for_key(&PoolName::proxy(), key(host, port)) else {
                cx.count("unowned", 1);
                continue;
            };
            let ts = connection.ts;
            let service = service.to_owned();
            if cx.zeek_owns(&PoolName::proxy(), key(host, port)) {
                let info = record(ts, host, port, [service].into());
                cx.publish(&owner, &KnownServiceAdd { info }).checked(cx);
            } else {
                let seen = ServiceSeen {
                    ts,
                    host,
                    port,
                    service,
                };
                cx.publish(&owner, &seen).checked(cx);
            }
            self.remember(entry, cx);
        }
    }

    fn service_seen(&mut self, seen: ServiceSeen, cx: &mut Context<'_>) {
        let entry = (seen.host, seen.port, name(&seen.service));
        if self.known.contains(&entry, cx.now()) {
            return;
        }
        self.remember(entry, cx);
        let record = record(seen.ts, seen.host, seen.port, BTreeSet::new());
        let is_nameless = seen.service.is_empty();
        self.ask(record, [seen.service].into(), is_nameless, cx);
    }

    fn known_service_add(&mut self, event: KnownServiceAdd, cx: &mut Context<'_>) {
        let mut info = event.info;
        let (host, port, now) = (info.host, info.port_num, cx.now());
        // A worker that saw a protocol and then that it was not sends none at all.
        let names: Vec<Name> = match info.service.len() {
            0 => vec![name("")],
            _ => info.service.iter().map(|service| name(service)).collect(),
        };
        let known = &mut self.known;
        let new = names.into_iter().map(|name| (host, port, name));
        let new: Vec<_> = new.filter(|entry| !known.contains(entry, now)).collect();
        if new.is_empty() {
            return;
        }
        let mut services = std::mem::take(&mut info.service);
        let is_nameless = services.is_empty();
        if is_nameless {
            services.insert(String::new());
        }
        services.retain(|service| new.contains(&(host, port, name(service))));
        for entry in new {
            self.remember(entry, cx);
        }
        self.ask(info, services, is_nameless, cx);
    }

    /// Logs the services of a record that the store does not know.
    fn ask(
        &mut self,
        record: KnownService,
        services: BTreeSet<String>,
        is_nameless: bool,
        cx: &mut Context<'_>,
    ) {
        let mut asked = Asked {
            waiting: services.clone(),
            record,
            new: BTreeSet::new(),
            is_nameless,
        };
        if !may_ask(cx.store(&KNOWN_SERVICES).size(), self.most, cx) {
            asked.new = services;
            return asked.log(cx);
        }
        let (host, port) = (asked.record.host, asked.record.port_num);
        self.next_asked += 1;
        let number = self.next_asked;
        self.asked.insert(number, asked);
        for service in services {
            let told = service.clone();
            cx.store(&KNOWN_SERVICES)
                .within(STORE_TIMEOUT)
                .put_unique_for(&(host, port, service), &true, self.expiry)
                .then(move |this: &mut Self, cx, is_new| {
                    let is_new = is_new.unwrap_or_else(|_| {
                        cx.count("store_silent", 1);
                        true
                    });
                    this.answered(number, told, is_new, cx);
                });
        }
    }

    fn answered(&mut self, number: u64, service: String, is_new: bool, cx: &mut Context<'_>) {
        let Some(asked) = self.asked.get_mut(&number) else {
            return;
        };
        asked.waiting.remove(&service);
        if is_new {
            asked.new.insert(service);
        } else {
            cx.count("known_elsewhere", 1);
        }
        if asked.waiting.is_empty()
            && let Some(asked) = self.asked.remove(&number)
        {
            asked.log(cx);
        }
    }

    fn remember(&mut self, entry: (Address, Port, Name), cx: &mut Context<'_>) {
        let evicted = self.known.insert(entry, cx.now());
        if evicted > 0 {
            cx.count("evicted", evicted);
        }
    }
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

impl Asked {
    fn log(self, cx: &mut Context<'_>) {
        if self.new.is_empty() {
            return;
        }
        let count = self.new.len() as u64;
        let mut record = self.record;
        record.service = self.new;
        if self.is_nameless {
            record.service.clear();
        }
        cx.log("known_services", &record).checked(cx);
        cx.count("services", count);
    }
}

fn record(ts: Timestamp, host: Address, port_num: Port, service: BTreeSet<String>) -> KnownService {
    KnownService {
        ts,
        host,
        port_num,
        port_proto: EnumValue::new(port_num.protocol.name()),
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
