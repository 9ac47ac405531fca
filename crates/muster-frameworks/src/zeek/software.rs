//! Software: what runs on which host, in which version, as the workers of a cluster report it.

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
use muster_data::{Address, EnumValue, Port, Record, Timestamp};

use super::version::{self, Version};
use crate::Notice;
use crate::checked::Checked;
use crate::known_hosts::may_put;
use crate::local_nets::{self, LocalNets};
use crate::logged::{Logged, digest_of};
use crate::recent::{A_DAY, Recent, workers_expiry};
use crate::zeek_log::{Connection, NamedSoftware};

/// A worker, of Zeek or of Muster, has seen software. The key is the host's address.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Software::new")]
pub struct SoftwareNew {
    /// The software.
    pub info: SoftwareInfo,
}

/// Software as workers report it. Fields that scripts add after these, such as the `url` of `detect-webapps`, are
/// ignored.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Software::Info")]
pub struct SoftwareInfo {
    /// When it was seen.
    pub ts: Option<Timestamp>,
    /// Where it runs.
    pub host: Address,
    /// A server's port.
    pub host_p: Option<Port>,
    /// What kind of software, as `HTTP::BROWSER`.
    pub software_type: EnumValue,
    /// What it is called; unset while `unparsed_version` has not been parsed.
    pub name: Option<Vec<u8>>,
    /// Its version. If there is none, name and version are parsed from `unparsed_version`.
    pub version: Option<Version>,
    /// What it calls itself.
    pub unparsed_version: Option<Vec<u8>>,
    /// Whether it is logged even if it is known.
    pub force_log: bool,
}

/// A record of the stream `software`.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Software::Info")]
pub struct SoftwareRecord {
    /// When it was seen.
    pub ts: Option<Timestamp>,
    /// Where it runs.
    pub host: Address,
    /// A server's port.
    pub host_p: Option<Port>,
    /// What kind of software, as `HTTP::BROWSER`.
    pub software_type: EnumValue,
    /// What it is called, in bytes, as it may be anything.
    pub name: Option<Vec<u8>>,
    /// The first number of its version.
    #[record(rename = "version.major")]
    pub major: Option<u64>,
    /// The second number.
    #[record(rename = "version.minor")]
    pub minor: Option<u64>,
    /// The third number.
    #[record(rename = "version.minor2")]
    pub minor2: Option<u64>,
    /// The fourth number.
    #[record(rename = "version.minor3")]
    pub minor3: Option<u64>,
    /// What follows the numbers, such as `beta42`.
    #[record(rename = "version.addl")]
    pub addl: Option<Vec<u8>>,
    /// What it calls itself.
    pub unparsed_version: Option<Vec<u8>>,
}

/// Software on a host: the host, what kind of software (such as `SSH::SERVER`), and what it is called.
pub type SoftwareKey = (Address, EnumValue, Vec<u8>);

/// The store of the version that was seen last of every software on every host, as the software states it. It outlives
/// the cluster.
pub const TRACKED: SharedStore<SoftwareKey, Vec<u8>> =
    SharedStore::new("software/tracked").persistent();

/// The store of versions that have been logged, by software and version, with a TTL: after a restart of the whole cluster
/// they are not logged again, if it is kept on disk.
pub const KNOWN_SOFTWARE: SharedStore<(SoftwareKey, Vec<u8>), bool> =
    SharedStore::new("software/known");

/// Logs every version of every software on the hosts of local networks once a day, and raises a notice when a version
/// has changed.
///
/// A worker takes the software that the rows of its logs name ([`Connection::software`]), and sends what is new to it
/// to the data node that owns the host, as [keyed events](Context::publish_keyed). Zeek's workers send the same event ([`SoftwareNew`]) to
/// the owner that they find, which passes it on, so both are handled alike. The owner parses the version text, if the worker did not, and logs the software to the stream
/// `software` if host, kind, name and version are new, or if it is to be logged in any case. Both remember
/// `software.max_versions` of them for `software.expiry`; the oldest are forgotten first, and counted as `evicted`.
/// What was logged is in rows that a second node has as well, so that no new owner logs what a dead owner has
/// logged, and in a store ([`KNOWN_SOFTWARE`]).
///
/// The version seen last is in a store of its own ([`TRACKED`]), so that a change is noticed whichever node owns the
/// host then, and after a restart of the cluster. The setting `software.changes_of` says whose changes raise
/// `Software::Software_Version_Change`: by default those of servers.
///
/// Zeek's own proxies differ: a client and a server of one name and version are one to them, they forget the versions
/// of a software on a host when there are more than twenty, and everything about a host a day after they saw the
/// first.
#[derive(Debug)]
pub struct Software {
    local_nets: LocalNets,
    /// What a worker has told.
    told: Recent<(Address, Text)>,
    /// What a data node has logged.
    logged: Logged<Address, Text>,
    /// Kinds of software, or parts of their names.
    changes_of: Vec<String>,
    most: usize,
    expiry: Duration,
    role: Role,
}

/// Kind, name and version that were logged of a host, by their hash, and until when they are not logged again.
const LOGGED: KeyedTable<Address, Text, Timestamp> = KeyedTable::new("software/logged");

/// The timer by which what has ended is removed.
const SWEEP: u64 = 1;

/// Software that may be new, and the version that its change is told by.
#[derive(Debug, Clone)]
struct Sighting {
    record: SoftwareRecord,
    version: Vec<u8>,
}

/// A kind, a name or a version by its hash: names and versions are chosen by whoever runs the software, and may be
/// long.
type Text = u64;

impl Framework for Software {
    const NAME: &'static str = "software";

    const SETTINGS: &'static [SettingSpec] = &[
        SettingSpec::subnet_list(
            "software.local_nets",
            local_nets::DEFAULT,
            "the networks whose software, as Muster's workers see it, is logged",
        )
        .live(),
        SettingSpec::count(
            "software.max_versions",
            200_000,
            "most versions of software on hosts that a node remembers",
        )
        .positive(),
        SettingSpec::duration(
            "software.expiry",
            A_DAY,
            "time after which a version on a host is logged again (Zeek's create_expire)",
        )
        .positive(),
        SettingSpec::text_list(
            "software.changes_of",
            &["SERVER"],
            "kinds of software, or parts of their names, whose changes of version raise a notice",
        )
        .live(),
    ];

    const COUNTERS: &'static [CounterSpec] = &[
        CounterSpec::new(
            "software",
            "Software that was logged, each by the owner of its host.",
        ),
        CounterSpec::new(
            "changes",
            "Changes of a version on a host that were noticed.",
        ),
        CounterSpec::new(
            "without_version",
            "What Zeek's workers told of software without a version, which no worker does, and was dropped. Growth means that a node runs another version of Zeek's script.",
        ),
        CounterSpec::new(
            "not_told",
            "Software that was told to nobody, as too many events waited for the owners of keys. It is told when it is seen again; growth means that no data node is up, or that there are too few.",
        ),
        CounterSpec::new(
            "known_elsewhere",
            "Software that was not logged because the store had it: it was logged before the whole cluster was restarted. Nothing is lost.",
        ),
        CounterSpec::new(
            "store_silent",
            "Software that was logged while the store could not be read. Growth means that the primary of `software/known` is away; software may be logged twice.",
        ),
        CounterSpec::new(
            "untracked",
            "Software whose changes are not noticed because the store of versions was full. Growth means that `software.max_versions` is too small for the network.",
        ),
        CounterSpec::new(
            "evicted",
            "Remembered sightings that were forgotten to make room, so that software may be told again. Growth means that `software.max_versions` is too small for the network.",
        ),
    ];

    fn create(site: &Site<'_>) -> Option<Self> {
        let settings = &site.node.settings;
        let has_work = site.is(Role::Worker) || site.owns_keys();
        let expiry = settings.duration("software.expiry");
        let most = settings.size("software.max_versions");
        has_work.then(|| Self {
            local_nets: LocalNets::of(settings, "software.local_nets"),
            told: Recent::new(most, workers_expiry(expiry)),
            logged: Logged::new(LOGGED, most, expiry, SWEEP),
            changes_of: settings.text_list("software.changes_of").to_vec(),
            most,
            expiry,
            role: site.node.role,
        })
    }

    fn setting_changed(&mut self, _: &SettingChange<'_>, cx: &mut Context<'_>) {
        self.local_nets = LocalNets::of(cx.settings(), "software.local_nets");
        self.changes_of = cx.settings().text_list("software.changes_of").to_vec();
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        if self.role == Role::Worker {
            declarations.on(Self::connection);
        } else {
            declarations.store(&TRACKED);
            declarations.store(&KNOWN_SOFTWARE);
            declarations.on(Self::software_new);
            let pool = PoolName::proxy();
            declarations.keyed(pool, |new: &SoftwareNew| new.info.host, Self::software_seen);
            declarations.zeek_stream::<SoftwareRecord>("software", "Software::LOG");
        }
    }

    fn pool_changed(&mut self, change: &PoolChange, _: &mut Context<'_>) {
        if change.pool == PoolName::proxy() && self.role == Role::Worker {
            // Muster's owners know; the next one of a key may be a Zeek process, or come after one.
            self.told.retain(|(host, _)| {
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

impl Software {
    fn connection(&mut self, connection: Connection, cx: &mut Context<'_>) {
        for named in connection.software {
            self.tell(connection.ts, named, cx);
        }
    }

    /// Tells the owner of what a row names, unless it has been told.
    fn tell(&mut self, ts: Timestamp, named: NamedSoftware, cx: &mut Context<'_>) {
        let NamedSoftware {
            host,
            port,
            kind,
            text,
        } = named;
        let port_text = port.map(|port| port.to_string()).unwrap_or_default();
        let kind_text = kind.to_string();
        let parts = [kind_text.as_bytes(), port_text.as_bytes(), &text];
        let entry = (host, digest_of(&parts));
        if self.told.contains(&entry, cx.now()) || !self.local_nets.contains(&host) {
            return;
        }
        let info = SoftwareInfo {
            ts: Some(ts),
            host,
            host_p: port,
            software_type: kind,
            name: None,
            version: None,
            unparsed_version: Some(text),
            force_log: false,
        };
        let (pool, new) = (PoolName::proxy(), SoftwareNew { info });
        if cx.zeek_owns(&pool, host)
            && let Some(owner) = cx.topic_for_key(&pool, host)
        {
            cx.publish(&owner, &new).checked(cx);
        } else if !tell(&new, cx) {
            return;
        }
        let evicted = self.told.insert(entry, cx.now());
        cx.count("evicted", evicted);
    }

    /// Zeek's workers tell the owner that they find, which is not always the one that handles keyed events.
    fn software_new(&mut self, event: SoftwareNew, cx: &mut Context<'_>) {
        tell(&event, cx);
    }

    fn software_seen(&mut self, event: SoftwareNew, cx: &mut KeyedContext<'_, '_, Address>) {
        let must_log = event.info.force_log;
        let Some(sighting) = sighting(event.info) else {
            // No worker sends such a thing.
            cx.count("without_version", 1);
            return;
        };
        let is_new = self.logged.is_new(&sighting.digest(), cx);
        if is_new {
            self.track(&sighting, cx);
        }
        let is_logged = must_log || (is_new && self.is_unknown(&sighting, cx));
        if is_logged {
            cx.log("software", &sighting.record).checked(cx);
            cx.count("software", 1);
        }
    }

    /// Returns `true` if the store does not know a version. From then on it does.
    fn is_unknown(&self, sighting: &Sighting, cx: &mut Context<'_>) -> bool {
        let key = (sighting.key(), sighting.version.clone());
        let store = cx.store(&KNOWN_SOFTWARE);
        let is_attached = store.is_attached();
        if matches!(store.get(&key), Ok(Some(_))) {
            cx.count("known_elsewhere", 1);
            return false;
        }
        cx.count("store_silent", u64::from(!is_attached));
        if may_put(cx.store(&KNOWN_SOFTWARE).size(), self.most, cx) {
            cx.store(&KNOWN_SOFTWARE)
                .put_unique_for(&key, &true, self.expiry)
                .count_failures(self);
        }
        true
    }

    /// Compares a version with the one that was seen last, and puts it in its place.
    fn track(&self, sighting: &Sighting, cx: &mut Context<'_>) {
        let Sighting { record, version } = sighting;
        let key = sighting.key();
        let kind = record.software_type.to_string();
        let is_wanted = self.changes_of.iter().any(|part| kind.contains(part));
        let before = cx.store(&TRACKED).get(&key).ok().flatten();
        let is_full = before.is_none() && !may_put(cx.store(&TRACKED).size(), self.most, cx);
        if is_full {
            cx.count("untracked", 1);
            return;
        }
        if before.as_ref() == Some(version) {
            return;
        }
        if let Some(before) = before
            && is_wanted
        {
            let host = record.host;
            let software = String::from_utf8_lossy(&key.2).into_owned();
            let [before, now] = [&before, version].map(|text| String::from_utf8_lossy(text));
            let msg =
                format!("{kind} '{software}' version changed from {before} to {now} on {host}");
            let ts = record.ts.unwrap_or_else(|| cx.wall());
            let mut notice = Notice::new(ts, "Software::Software_Version_Change", msg);
            notice.src = Some(host);
            notice.identifier = Some(format!("{host} {kind} {software} {now}"));
            notice.raise(cx);
            cx.count("changes", 1);
        }
        cx.store(&TRACKED).put(&key, version).count_failures(self);
    }
}

/// Tells the owner of a host. Returns `false` if nobody can be told.
fn tell(new: &SoftwareNew, cx: &mut Context<'_>) -> bool {
    let published = cx.publish_keyed(&PoolName::proxy(), new.info.host, new);
    let is_told = published.is_ok();
    cx.count("not_told", u64::from(!is_told));
    is_told
}

impl Sighting {
    fn digest(&self) -> Text {
        let (_, kind, name) = self.key();
        digest_of(&[kind.to_string().as_bytes(), &name, &self.version])
    }

    fn key(&self) -> SoftwareKey {
        let record = &self.record;
        let name = record.name.clone().unwrap_or_default();
        (record.host, record.software_type.clone(), name)
    }
}

/// What is logged of what a worker tells; `None` if it has no version at all.
fn sighting(info: SoftwareInfo) -> Option<Sighting> {
    let SoftwareInfo {
        ts,
        host,
        host_p,
        software_type,
        name,
        version,
        unparsed_version,
        force_log: _,
    } = info;
    let (name, version) = match (version, &unparsed_version) {
        (Some(version), _) => (name, version),
        (None, Some(text)) => {
            let parsed = version::parse(text);
            (Some(parsed.name), parsed.version)
        }
        (None, None) => return None,
    };
    let text = unparsed_version
        .clone()
        .unwrap_or_else(|| version.to_string().into_bytes());
    let Version {
        major,
        minor,
        minor2,
        minor3,
        addl,
    } = version;
    let record = SoftwareRecord {
        ts,
        host,
        host_p,
        software_type,
        name,
        major,
        minor,
        minor2,
        minor3,
        addl,
        unparsed_version,
    };
    Some(Sighting {
        record,
        version: text,
    })
}
