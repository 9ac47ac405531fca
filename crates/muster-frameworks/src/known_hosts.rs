//! Known hosts: which local addresses are in use.

#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "handlers are methods that take their event by value"
)]

use std::time::Duration;

use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, KeyedContext, KeyedTable, SettingChange,
    SharedStore, Site,
};
use muster_cluster::{Key, PoolChange, PoolName, Role, SettingSpec};
use muster_data::{Address, Protocol, Record, Timestamp};

use crate::checked::Checked;
use crate::local_nets::{self, LocalNets};
use crate::logged::Logged;
use crate::recent::{A_DAY, Recent, workers_expiry};
use crate::zeek::KnownHostAdd;
use crate::zeek_log::{Connection, is_of_protocol};

/// The store of known hosts, with a TTL. Zeek's nodes use the same store, with the same keys and values, if
/// `Known::use_host_store` is set.
pub const KNOWN_HOSTS: SharedStore<Address, bool> = SharedStore::new("zeek/known/hosts");

/// What the owner of a host has logged, and until when it does not do so again.
const LOGGED: KeyedTable<Address, bool, Timestamp> = KeyedTable::new("known_hosts/logged");

/// The timer by which what has ended is removed.
const SWEEP: u64 = 1;

/// A worker has seen a host for the first time.
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
/// Hosts are [keyed events](Context::publish_keyed), and what was logged is in rows under the host's key, which a second node has as well:
/// whoever dies, each host is logged, and once. What is known is also kept in a store ([`KNOWN_HOSTS`]): there owners find what Zeek's
/// nodes have logged, and what was logged before the whole cluster was restarted, with
/// `[store."zeek/known/hosts"] backend = "sqlite"`. Workers and owners remember `known_hosts.max_hosts`; the oldest are
/// forgotten first, and counted as `evicted`.
#[derive(Debug)]
pub struct KnownHosts {
    local_nets: LocalNets,
    /// What a worker has told.
    told: Recent<Address>,
    /// What a data node has logged.
    logged: Logged<Address, bool>,
    most: usize,
    expiry: Duration,
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
            "not_told",
            "Hosts that were told to nobody, as too many events waited for the owners of keys. They are told when they are seen again; growth means that no data node is up, or that there are too few.",
        ),
        CounterSpec::new(
            "known_elsewhere",
            "Hosts that were not logged because the store had them: a Zeek node has logged them, or a node of the cluster before all were restarted. Nothing is lost.",
        ),
        CounterSpec::new(
            "store_silent",
            "Hosts that were logged while the store could not be read. Growth means that the primary of `zeek/known/hosts` is away; what Zeek's nodes have logged may be logged twice.",
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
        let most = settings.size("known_hosts.max_hosts");
        has_work.then(|| Self {
            local_nets: LocalNets::of(settings, "known_hosts.local_nets"),
            told: Recent::new(most, workers_expiry(expiry)),
            logged: Logged::new(LOGGED, most, expiry, SWEEP),
            most,
            expiry,
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
            let pool = PoolName::proxy();
            declarations.keyed(pool, |seen: &HostSeen| seen.host, Self::host_seen);
            declarations.on(Self::known_host_add);
            declarations.zeek_stream::<KnownHost>("known_hosts", "Known::HOSTS_LOG");
        }
    }

    fn pool_changed(&mut self, change: &PoolChange, _: &mut Context<'_>) {
        if change.pool == PoolName::proxy() && self.role == Role::Worker {
            // Muster's owners know; the next one of a key may be a Zeek process, or come after one.
            self.told.retain(|host| {
                let key = Key::from(host);
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

impl KnownHosts {
    fn connection(&mut self, connection: Connection, cx: &mut Context<'_>) {
        if !came_about(&connection) {
            return;
        }
        for host in [connection.orig_h, connection.resp_h] {
            if self.told.contains(&host, cx.now()) || !self.local_nets.contains(&host) {
                continue;
            }
            let (pool, ts) = (PoolName::proxy(), connection.ts);
            if cx.zeek_owns(&pool, host)
                && let Some(owner) = cx.topic_for_key(&pool, host)
            {
                let info = KnownHost { ts, host };
                cx.publish(&owner, &KnownHostAdd { info }).checked(cx);
            } else if !tell(ts, host, cx) {
                continue;
            }
            let evicted = self.told.insert(host, cx.now());
            cx.count("evicted", evicted);
        }
    }

    /// Zeek's workers tell the owner that they find, which is not always the one that handles keyed events.
    fn known_host_add(&mut self, event: KnownHostAdd, cx: &mut Context<'_>) {
        let KnownHost { ts, host } = event.info;
        tell(ts, host, cx);
    }

    fn host_seen(&mut self, seen: HostSeen, cx: &mut KeyedContext<'_, '_, Address>) {
        let HostSeen { ts, host } = seen;
        if !self.logged.is_new(&true, cx) {
            return;
        }
        let store = cx.store(&KNOWN_HOSTS);
        let is_attached = store.is_attached();
        if matches!(store.get(&host), Ok(Some(_))) {
            cx.count("known_elsewhere", 1);
            return;
        }
        cx.count("store_silent", u64::from(!is_attached));
        if may_put(cx.store(&KNOWN_HOSTS).size(), self.most, cx) {
            cx.store(&KNOWN_HOSTS)
                .put_unique_for(&host, &true, self.expiry)
                .count_failures(self);
        }
        cx.log("known_hosts", &KnownHost { ts, host }).checked(cx);
        cx.count("hosts", 1);
    }
}

/// Tells the owner of a host. Returns `false` if nobody can be told.
fn tell(ts: Timestamp, host: Address, cx: &mut Context<'_>) -> bool {
    let seen = HostSeen { ts, host };
    let is_told = cx.publish_keyed(&PoolName::proxy(), host, &seen).is_ok();
    cx.count("not_told", u64::from(!is_told));
    is_told
}

/// Whether the owner of a store that has `size` keys here puts another one into it: it must not grow beyond what all owners may
/// remember.
pub(crate) fn may_put(size: usize, most: usize, cx: &Context<'_>) -> bool {
    let owners = cx.pool(&PoolName::proxy());
    let owners = owners.map_or(1, |pool| pool.living().count().max(1));
    size < most.saturating_mul(owners)
}
