//! Software: what runs on which host, in which version, as the workers of a cluster report it.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler takes its event by value"
)]

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, SettingChange, SharedStore, Site,
};
use muster_cluster::{Key, PoolChange, PoolName, Role, SettingSpec};
use muster_data::{Address, EnumValue, Port, Record, Timestamp};

use super::version::{self, Version};
use crate::Notice;
use crate::checked::Checked;
use crate::known_hosts::{STORE_TIMEOUT, may_ask, still_holds};
use crate::local_nets::{self, LocalNets};
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

/// The store of versions that have been logged, by software and version, with a TTL: an owner that takes over a host
/// does not log them again.
pub const KNOWN_SOFTWARE: SharedStore<(SoftwareKey, Vec<u8>), bool> =
    SharedStore::new("software/known");

/// Logs every version of every software on the hosts of local networks once a day, and raises a notice when a version
/// has changed.
///
/// A worker takes the software that the rows of its logs name ([`Connection::software`]), and sends what is new to it
/// to the data node that owns the host. Zeek's workers do that with the same event ([`SoftwareNew`]), so both are
/// handled alike. The owner parses the version text, if the worker did not, and logs the software to the stream
/// `software` if host, kind, name and version are new, or if it is to be logged in any case. Both remember
/// `software.max_versions` of them for `software.expiry`; the oldest are forgotten first, and counted as `evicted`.
/// What was logged is kept in a store as well ([`KNOWN_SOFTWARE`]), so that no new owner logs what a dead owner has
/// logged.
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
    /// What a worker has told, and what a data node has logged.
    known: Recent<Entry>,
    /// Kinds of software, or parts of their names.
    changes_of: Vec<String>,
    most: usize,
    expiry: Duration,
    /// What the store is asked about.
    asked: HashMap<Entry, Sighting>,
    role: Role,
}

/// Host and kind; for a data node the name as well; the version.
type Entry = (Address, Text, Text, Text);

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
            "unowned",
            "Software that was seen while no node owned keys, and was told to nobody. It is told when it is seen again; growth means that no data node is up.",
        ),
        CounterSpec::new(
            "known_elsewhere",
            "Software that was not logged because the store had it, as after another owner or a Zeek node has logged it. Nothing is lost.",
        ),
        CounterSpec::new(
            "store_silent",
            "Software whose owner got no answer of the store in time, and logged it all the same. Growth means that the primary of `software/known` is away or overloaded; software may be logged twice.",
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
        let expiry = match site.node.role {
            Role::Worker => workers_expiry(expiry),
            _ => expiry,
        };
        has_work.then(|| Self {
            local_nets: LocalNets::of(settings, "software.local_nets"),
            known: Recent::new(settings.size("software.max_versions"), expiry),
            changes_of: settings.text_list("software.changes_of").to_vec(),
            most: settings.size("software.max_versions"),
            expiry,
            asked: HashMap::new(),
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
            declarations.zeek_stream::<SoftwareRecord>("software", "Software::LOG");
        }
    }

    fn done(&mut self, cx: &mut Context<'_>) {
        // The store's answers come too late: better twice than never.
        for sighting in std::mem::take(&mut self.asked).into_values() {
            write(&sighting.record, cx);
        }
    }

    fn pool_changed(&mut self, change: &PoolChange, cx: &mut Context<'_>) {
        if change.pool == PoolName::proxy() {
            let role = self.role;
            self.known
                .retain(|(host, ..)| still_holds(role, change, Key::from(host), cx));
        }
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
        let entry = (host, hash(&kind), hash(&port), hash(&text));
        if self.known.contains(&entry, cx.now()) || !self.local_nets.contains(&host) {
            return;
        }
        let Some(owner) = cx.topic_for_key(&PoolName::proxy(), host) else {
            cx.count("unowned", 1);
            return;
        };
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
        cx.publish(&owner, &SoftwareNew { info }).checked(cx);
        self.remember(entry, cx);
    }

    fn software_new(&mut self, event: SoftwareNew, cx: &mut Context<'_>) {
        let must_log = event.info.force_log;
        let Some(sighting) = sighting(event.info) else {
            // No worker sends such a thing.
            cx.count("without_version", 1);
            return;
        };
        let record = &sighting.record;
        let entry = (
            record.host,
            hash(&record.software_type),
            hash(&record.name),
            hash(&sighting.version),
        );
        if self.known.contains(&entry, cx.now()) {
            if must_log {
                write(record, cx);
            }
            return;
        }
        self.remember(entry, cx);
        self.track(&sighting, cx);
        let may_ask = may_ask(cx.store(&KNOWN_SOFTWARE).size(), self.most, cx);
        if must_log || !may_ask {
            write(record, cx);
        }
        if may_ask {
            self.ask(entry, sighting, must_log, cx);
        }
    }

    /// Tells the store of software, and logs it if the store does not know it and it has not been logged yet.
    fn ask(&mut self, entry: Entry, sighting: Sighting, is_logged: bool, cx: &mut Context<'_>) {
        let key = (sighting.key(), sighting.version.clone());
        if !is_logged {
            self.asked.insert(entry, sighting);
        }
        cx.store(&KNOWN_SOFTWARE)
            .within(STORE_TIMEOUT)
            .put_unique_for(&key, &true, self.expiry)
            .then(move |this: &mut Self, cx, is_new| {
                let Some(sighting) = this.asked.remove(&entry) else {
                    return;
                };
                match is_new {
                    Ok(true) => write(&sighting.record, cx),
                    Ok(false) => cx.count("known_elsewhere", 1),
                    Err(_) => {
                        cx.count("store_silent", 1);
                        write(&sighting.record, cx);
                    }
                }
            });
    }

    /// Compares a version with the one that was seen last, and puts it in its place.
    fn track(&self, sighting: &Sighting, cx: &mut Context<'_>) {
        let Sighting { record, version } = sighting;
        let key = sighting.key();
        let kind = record.software_type.to_string();
        let is_wanted = self.changes_of.iter().any(|part| kind.contains(part));
        let before = cx.store(&TRACKED).get(&key).ok().flatten();
        let is_full = before.is_none() && !may_ask(cx.store(&TRACKED).size(), self.most, cx);
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

    fn remember(&mut self, entry: Entry, cx: &mut Context<'_>) {
        let evicted = self.known.insert(entry, cx.now());
        if evicted > 0 {
            cx.count("evicted", evicted);
        }
    }
}

impl Sighting {
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

fn write(record: &SoftwareRecord, cx: &mut Context<'_>) {
    cx.log("software", record).checked(cx);
    cx.count("software", 1);
}

/// 64 bits of `SipHash`.
fn hash(value: &impl Hash) -> Text {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
