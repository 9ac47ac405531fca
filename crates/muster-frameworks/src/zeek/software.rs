//! Software: what runs on which host, in which version, as Zeek's workers tell.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler takes its event by value"
)]

use std::hash::{DefaultHasher, Hash, Hasher};

use muster_cluster::node::{Context, Declarations, Framework, SharedStore, Site};
use muster_cluster::{Key, PoolChange, PoolName, Role, SettingSpec};
use muster_data::{Address, EnumValue, Port, Record, Timestamp};

use super::version::{self, Version};
use crate::Notice;
use crate::checked::Checked;
use crate::known_hosts::{may_ask, still_holds};
use crate::recent::{A_DAY, Recent};

/// A worker of Zeek's has seen software. The key is the host's address.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Software::new")]
pub struct SoftwareNew {
    /// The software.
    pub info: SoftwareInfo,
}

/// Software as Zeek's workers tell of it. What scripts add behind these fields is left out, as the
/// `url` of `detect-webapps`.
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
    /// What it is called; unset as long as the version is not taken apart.
    pub name: Option<Vec<u8>>,
    /// Its version; without one, name and version are found in `unparsed_version`.
    pub version: Option<Version>,
    /// What it calls itself.
    pub unparsed_version: Option<Vec<u8>>,
    /// Whether it is logged although it is known.
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
    /// What it is called; bytes, as whoever runs it may call it anything.
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
    /// What comes behind the numbers, as `beta42`.
    #[record(rename = "version.addl")]
    pub addl: Option<Vec<u8>>,
    /// What it calls itself.
    pub unparsed_version: Option<Vec<u8>>,
}

/// A software on a host: the host, what kind of software (as `SSH::SERVER`), and what it is called.
pub type SoftwareKey = (Address, EnumValue, Vec<u8>);

/// The version that was seen last of every software on every host: what it calls itself. It outlives the
/// cluster.
pub const TRACKED: SharedStore<SoftwareKey, Vec<u8>> =
    SharedStore::new("software/tracked").persistent();

/// Logs every version of every software on a host once a day, and raises a notice when a version has changed.
///
/// The version seen last is in a store ([`TRACKED`]), so that a change is noticed whoever owns the host by then,
/// and after a restart of the cluster. Whose changes raise `Software::Software_Version_Change` is said by
/// `software.changes_of`: servers, unless told otherwise.
///
/// Only Zeek's workers see software. They send it to the data node that owns the host, which takes what
/// it calls itself apart, if the worker did not, and logs it to the stream `software` if host, name and
/// version are new, or if it is to be logged in any case. It remembers `software.max_versions` of them
/// for `software.expiry`; the oldest are forgotten first, and counted as `evicted`.
///
/// Zeek's own proxies differ in that they forget the versions of a software on a host when there are
/// more than twenty, and all that they know of a host a day after they saw the first.
#[derive(Debug)]
pub struct Software {
    known: Recent<(Address, Text, Text)>,
    /// Kinds of software, or parts of their names.
    changes_of: Vec<String>,
    most: usize,
}

/// A name or a version by its hash: both are chosen by whoever runs the software, and may be long.
type Text = u64;

impl Framework for Software {
    const NAME: &'static str = "software";

    const SETTINGS: &'static [SettingSpec] = &[
        SettingSpec::count(
            "software.max_versions",
            200_000,
            "versions of software on hosts that a node remembers at most",
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
        ),
    ];

    fn create(site: &Site<'_>) -> Option<Self> {
        let settings = &site.node.settings;
        site.owns_keys().then(|| Self {
            known: Recent::new(
                settings.size("software.max_versions"),
                settings.duration("software.expiry"),
            ),
            changes_of: settings.text_list("software.changes_of").to_vec(),
            most: settings.size("software.max_versions"),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.store(&TRACKED);
        declarations.on(Self::software_new);
        declarations.zeek_stream::<SoftwareRecord>("software", "Software::LOG");
    }

    fn pool_changed(&mut self, change: &PoolChange, cx: &mut Context<'_>) {
        if change.pool == PoolName::proxy() {
            self.known
                .retain(|(host, ..)| still_holds(Role::Proxy, change, Key::from(host), cx));
        }
    }
}

impl Software {
    fn software_new(&mut self, event: SoftwareNew, cx: &mut Context<'_>) {
        let SoftwareInfo {
            ts,
            host,
            host_p,
            software_type,
            name,
            version,
            unparsed_version,
            force_log,
        } = event.info;
        let (name, version) = match (version, &unparsed_version) {
            (Some(version), _) => (name, version),
            (None, Some(text)) => {
                let parsed = version::parse(text);
                (Some(parsed.name), parsed.version)
            }
            (None, None) => {
                // Zeek's workers send no such thing.
                cx.count("without_version", 1);
                return;
            }
        };
        let text = unparsed_version
            .clone()
            .unwrap_or_else(|| version.to_string().into_bytes());
        let entry = (host, hash(name.as_ref()), hash(Some(&text)));
        let is_known = self.known.contains(&entry, cx.now());
        if is_known && !force_log {
            return;
        }
        if !is_known {
            self.track(ts, (host, software_type.clone(), name.clone()), text, cx);
        }
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
        cx.log("software", &record).checked(cx);
        cx.count("software", 1);
        let evicted = self.known.insert(entry, cx.now());
        cx.count("evicted", evicted);
    }
}

impl Software {
    /// Compares a version with the one that was seen last, and puts it in its place.
    fn track(
        &self,
        ts: Option<Timestamp>,
        (host, kind, name): (Address, EnumValue, Option<Vec<u8>>),
        version: Vec<u8>,
        cx: &mut Context<'_>,
    ) {
        let kind_text = kind.to_string();
        let is_wanted = self.changes_of.iter().any(|part| kind_text.contains(part));
        let key = (host, kind, name.unwrap_or_default());
        let before = cx.store(&TRACKED).get(&key).ok().flatten();
        let is_full = before.is_none() && !may_ask(cx.store(&TRACKED).size(), self.most, cx);
        if is_full {
            cx.count("untracked", 1);
            return;
        }
        if before.as_ref() == Some(&version) {
            return;
        }
        if let Some(before) = before
            && is_wanted
        {
            let software = String::from_utf8_lossy(&key.2).into_owned();
            let [before, now] = [&before, &version].map(|text| String::from_utf8_lossy(text));
            let msg = format!(
                "{kind_text} '{software}' version changed from {before} to {now} on {host}"
            );
            let ts = ts.unwrap_or_else(|| cx.wall());
            let mut notice = Notice::new(ts, "Software::Software_Version_Change", msg);
            notice.src = Some(host);
            notice.identifier = Some(format!("{host} {kind_text} {software} {now}"));
            notice.raise(cx);
            cx.count("changes", 1);
        }
        cx.store(&TRACKED).put(&key, &version).count_failures(self);
    }
}

/// 64 bits of `SipHash`.
fn hash(text: Option<&Vec<u8>>) -> Text {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
