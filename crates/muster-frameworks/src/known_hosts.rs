//! Known hosts: which local addresses are in use.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler takes its event by value"
)]

use std::collections::HashMap;
use std::time::Duration;

use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, SettingChange, SharedStore, Site,
};
use muster_cluster::{Key, PoolChange, PoolName, Role, SettingSpec};
use muster_data::{Address, Protocol, Record, Timestamp};

use crate::checked::Checked;
use crate::local_nets::{self, LocalNets};
use crate::recent::{A_DAY, Recent, workers_expiry};
use crate::zeek::KnownHostAdd;
use crate::zeek_log::{Connection, is_of_protocol};

/// The store of known hosts, with a TTL. Zeek's nodes use the same store, with the same keys and values, if
/// `Known::use_host_store` is set.
pub const KNOWN_HOSTS: SharedStore<Address, bool> = SharedStore::new("zeek/known/hosts");

/// How long an owner waits until the store has said whether a host is known (Zeek's `host_store_timeout`).
/// Without an answer the host is logged: better twice than never.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// A worker has seen a host for the first time since the host's owner last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Record)]
#[record(name = "Muster::host_seen")]
pub struct HostSeen {
    /// The event time.
    pub ts: Timestamp,
    /// The host.
    pub host: Address,
}

/// A record of the stream `known_hosts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Record)]
#[record(name = "Known::HostsInfo")]
pub struct KnownHost {
    /// When the host was seen, as far as its owner knows: of several workers, the first to report it counts.
    pub ts: Timestamp,
    /// The host.
    pub host: Address,
}

/// Logs every host of local networks once a day.
///
/// A worker takes both ends of a connection that [came about](came_about), and sends those in `known_hosts.local_nets`
/// to the data node that owns the address, unless it has done so before. The owner logs each to the stream
/// `known_hosts`, once within `known_hosts.expiry` of the owner's life: the hosts in the log do not depend on who saw
/// them; their times do. Zeek's workers send what they see to the same owner ([`KnownHostAdd`]), and a host that both
/// have seen is logged once; an owner that is a Zeek process gets the same event.
///
/// When an owner dies, workers send the hosts that they see from then on to the new owner, which asks the store about
/// them once more. What is known is kept in a store ([`KNOWN_HOSTS`]), so that no new owner logs what the dead owner
/// has logged; with `[store."zeek/known/hosts"] backend = "sqlite"` it outlives the cluster. If the store does not
/// answer, the owner's own memory decides. Workers and owners remember `known_hosts.max_hosts`; the oldest are
/// forgotten first, and counted as `evicted`.
#[derive(Debug)]
pub struct KnownHosts {
    local_nets: LocalNets,
    /// What a worker has told, and what a data node has logged.
    known: Recent<Address>,
    most: usize,
    expiry: Duration,
    /// The records whose hosts the store is asked about.
    asked: HashMap<Address, KnownHost>,
    role: Role,
}

/// Returns `true` if the row proves that both ends took part in the connection.
///
/// - A row of `conn` does if the connection was established; by UDP that is, if both ends have sent something.
/// - A row of a protocol's log does if it holds an answer, or if the protocol was spoken by TCP, unless the log says that
///   there was none: nothing is spoken by TCP before both ends have answered one another. By UDP a request alone proves
///   nothing, as in `syslog`: neither that there is a host where it went, nor, as anybody can write any address into it,
///   that there is one where it seems to come from.
/// - A row of any other log, such as `weird` or `notice`, may be about a connection that never came about.
pub fn came_about(connection: &Connection) -> bool {
    let is_by_tcp = connection.resp_p.protocol == Protocol::Tcp;
    connection
        .established
        .unwrap_or_else(|| is_by_tcp && is_of_protocol(&connection.log))
}

/// Whether a node keeps what it remembers of a key when a pool changes: a worker, if the owner is still
/// the same; a data node, if it is still the owner.
pub(crate) fn still_holds(role: Role, change: &PoolChange, key: Key, cx: &Context<'_>) -> bool {
    let after = change.owner_after(&key);
    if role == Role::Worker {
        after == change.owner_before(&key)
    } else {
        after == Some(cx.name())
    }
}

impl Framework for KnownHosts {
    const NAME: &'static str = "known_hosts";

    const SETTINGS: &'static [SettingSpec] = &[
        SettingSpec::subnet_list(
            "known_hosts.local_nets",
            local_nets::DEFAULT,
            "the networks whose hosts are logged",
        )
        .live(),
        SettingSpec::count(
            "known_hosts.max_hosts",
            100_000,
            "most hosts that a node remembers",
        )
        .positive(),
        SettingSpec::duration(
            "known_hosts.expiry",
            A_DAY,
            "time after which a host is logged again (Zeek's create_expire)",
        )
        .positive(),
    ];

    const COUNTERS: &'static [CounterSpec] = &[
        CounterSpec::new("hosts", "Hosts that were logged, each by its owner."),
        CounterSpec::new(
            "unowned",
            "Hosts that were seen while no node owned keys, and were told to nobody. They are told when they are seen again; growth means that no data node is up.",
        ),
        CounterSpec::new(
            "known_elsewhere",
            "Hosts that were not logged because the store had them, as after another owner or a Zeek node has logged them. Nothing is lost.",
        ),
        CounterSpec::new(
            "store_silent",
            "Hosts whose owner got no answer of the store in time, and logged them all the same. Growth means that the primary of `zeek/known/hosts` is away or overloaded; hosts may be logged twice.",
        ),
        CounterSpec::new(
            "evicted",
            "Remembered hosts that were forgotten to make room, and may be logged again. Growth means that `known_hosts.max_hosts` is too small for the network.",
        ),
    ];

    fn create(site: &Site<'_>) -> Option<Self> {
        let settings = &site.node.settings;
        let has_work = site.is(Role::Worker) || site.owns_keys();
        let expiry = settings.duration("known_hosts.expiry");
        let expiry = match site.node.role {
            Role::Worker => workers_expiry(expiry),
            _ => expiry,
        };
        has_work.then(|| Self {
            local_nets: LocalNets::of(settings, "known_hosts.local_nets"),
            known: Recent::new(settings.size("known_hosts.max_hosts"), expiry),
            most: settings.size("known_hosts.max_hosts"),
            expiry,
            asked: HashMap::new(),
            role: site.node.role,
        })
    }

    fn setting_changed(&mut self, _: &SettingChange<'_>, cx: &mut Context<'_>) {
        self.local_nets = LocalNets::of(cx.settings(), "known_hosts.local_nets");
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        if self.role == Role::Worker {
            declarations.on(Self::connection);
        } else {
            declarations.store(&KNOWN_HOSTS);
            declarations.on(Self::host_seen);
            declarations.on(Self::known_host_add);
            declarations.zeek_stream::<KnownHost>("known_hosts", "Known::HOSTS_LOG");
        }
    }

    fn done(&mut self, cx: &mut Context<'_>) {
        // The store's answers come too late: better twice than never.
        for record in std::mem::take(&mut self.asked).into_values() {
            write(&record, cx);
        }
    }

    fn pool_changed(&mut self, change: &PoolChange, cx: &mut Context<'_>) {
        if change.pool == PoolName::proxy() {
            let role = self.role;
            self.known
                .retain(|host| still_holds(role, change, Key::from(host), cx));
        }
    }
}

impl KnownHosts {
    fn connection(&mut self, connection: Connection, cx: &mut Context<'_>) {
        if !came_about(&connection) {
            return;
        }
        for host in [connection.orig_h, connection.resp_h] {
            if self.known.contains(&host, cx.now()) || !self.local_nets.contains(&host) {
                continue;
            }
            let Some(owner) = cx.topic_for_key(&PoolName::proxy(), host) else {
                cx.count("unowned", 1);
                continue;
            };
            let ts = connection.ts;
            if cx.zeek_owns(&PoolName::proxy(), host) {
                let info = KnownHost { ts, host };
                cx.publish(&owner, &KnownHostAdd { info }).checked(cx);
            } else {
                cx.publish(&owner, &HostSeen { ts, host }).checked(cx);
            }
            self.remember(host, cx);
        }
    }

    fn host_seen(&mut self, seen: HostSeen, cx: &mut Context<'_>) {
        let HostSeen { ts, host } = seen;
        self.log(&KnownHost { ts, host }, cx);
    }

    fn known_host_add(&mut self, event: KnownHostAdd, cx: &mut Context<'_>) {
        self.log(&event.info, cx);
    }

    fn log(&mut self, record: &KnownHost, cx: &mut Context<'_>) {
        if self.known.contains(&record.host, cx.now()) {
            return;
        }
        self.remember(record.host, cx);
        let record = *record;
        if !may_ask(cx.store(&KNOWN_HOSTS).size(), self.most, cx) {
            return write(&record, cx);
        }
        self.asked.insert(record.host, record);
        cx.store(&KNOWN_HOSTS)
            .within(STORE_TIMEOUT)
            .put_unique_for(&record.host, &true, self.expiry)
            .then(move |this: &mut Self, cx, is_new| {
                this.asked.remove(&record.host);
                match is_new {
                    Ok(true) => write(&record, cx),
                    Ok(false) => cx.count("known_elsewhere", 1),
                    Err(_) => {
                        cx.count("store_silent", 1);
                        write(&record, cx);
                    }
                }
            });
    }

    fn remember(&mut self, host: Address, cx: &mut Context<'_>) {
        let evicted = self.known.insert(host, cx.now());
        if evicted > 0 {
            cx.count("evicted", evicted);
        }
    }
}

fn write(record: &KnownHost, cx: &mut Context<'_>) {
    cx.log("known_hosts", record).checked(cx);
    cx.count("hosts", 1);
}

/// Whether an owner asks a store that has `size` keys here: it must not grow beyond what all owners may remember.
pub(crate) fn may_ask(size: usize, most: usize, cx: &Context<'_>) -> bool {
    let owners = cx.pool(&PoolName::proxy());
    let owners = owners.map_or(1, |pool| pool.living().count().max(1));
    size < most.saturating_mul(owners)
}
