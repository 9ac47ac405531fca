//! Settings: values with a declared key, type and default, that a layout, a node of it or the
//! command line may override.

mod choice;
mod sections;
mod spec;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use muster_wire::Overflow;

use crate::coordination::MOST_COPIES;
use crate::layout::StoreBackend;

pub use choice::Choice;
pub use sections::{
    AcknowledgeWhen, ForwardingMode, LinkOverrides, LocalMode, PeeringSettings, QueueOverrides,
    SpoolWhen, TlsMode,
};
pub use spec::{SettingKind, SettingSpec};
pub use value::SettingValue;

use sections::PersistentBackend;
pub(crate) use value::{LONGEST, MOST_COUNT, RawValue, parse_duration};

/// Whether a logger gives on what it is given.
pub(crate) const FORWARD: &str = "logging.forward";

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The settings of the core. Frameworks bring theirs to [`Layout::parse`](crate::Layout::parse).
pub const CORE_SETTINGS: &[SettingSpec] = &[
    SettingSpec::count(
        "peering.data_queue",
        65_536,
        "most data messages that may wait for one peer (Zeek's peer_buffer_size)",
    )
    .positive(),
    SettingSpec::count(
        "peering.data_queue_bytes",
        64 * MIB,
        "most bytes that the data messages waiting for one peer may hold",
    )
    .positive(),
    SettingSpec::count(
        "peering.control_queue",
        1024,
        "most control messages that may wait for one peer; more disconnect it",
    )
    .positive(),
    SettingSpec::choice::<Overflow>(
        "peering.overflow",
        "drop_oldest",
        "what happens when a data queue is full (Zeek's peer_overflow_policy)",
    ),
    SettingSpec::count(
        "peering.interactive_queue",
        65_536,
        "most requests and notices that may wait for one peer",
    )
    .positive(),
    SettingSpec::count(
        "peering.interactive_queue_bytes",
        16 * MIB,
        "most bytes that the requests and notices waiting for one peer may hold",
    )
    .positive(),
    SettingSpec::choice::<Overflow>(
        "peering.interactive_overflow",
        "drop_oldest",
        "what happens when a queue of requests and notices is full",
    ),
    SettingSpec::count(
        "peering.bulk_queue",
        65_536,
        "most messages with logs and snapshots that may wait for one peer",
    )
    .positive(),
    SettingSpec::count(
        "peering.bulk_queue_bytes",
        64 * MIB,
        "most bytes that the logs and snapshots waiting for one peer may hold",
    )
    .positive(),
    SettingSpec::choice::<Overflow>(
        "peering.bulk_overflow",
        "drop_oldest",
        "what happens when a queue of logs and snapshots is full",
    ),
    SettingSpec::count(
        "peering.credit",
        16 * MIB,
        "bytes of each class that a peer may send before they are dealt with (each message counts 512 more)",
    )
    .positive(),
    SettingSpec::count(
        "peering.credit_of_all",
        16 * MIB,
        "bytes of each class that all peers may send together; each has a share of at least 64 KiB",
    )
    .positive(),
    SettingSpec::count(
        "peering.largest_message",
        64 * MIB - 1024,
        "most bytes of one message, with its topic, that every peer takes; a queue whose own bound is smaller takes less",
    )
    .within(64 << 10, 1024 * MIB),
    SettingSpec::count(
        "peering.unfinished_frames",
        256 * MIB,
        "most bytes that the readers of all peers hold together of messages that have not come to their end; two of the largest may in any case",
    )
    .within(MIB, 1024 * 1024 * MIB),
    SettingSpec::text(
        "cluster.name",
        "",
        "the cluster's name: nodes refuse peers that belong to another one; empty takes any",
    ),
    SettingSpec::boolean(
        "peering.slow",
        false,
        "whether links are so slow that messages are compressed where that pays",
    ),
    SettingSpec::text_list(
        "classes.interactive",
        &[],
        "topic prefixes whose events go before others, as requests and notices do",
    ),
    SettingSpec::text_list(
        "classes.bulk",
        &[],
        "topic prefixes whose events wait for others, as logs do",
    ),
    SettingSpec::choice::<ForwardingMode>(
        "peering.forwarding",
        "auto",
        "what a node does with messages of others: auto is relay, and leaf for workers; direct is no mesh",
    ),
    SettingSpec::boolean(
        "peering.relay_version_1",
        true,
        "whether a node that relays does so between its peers of version 1 (Zeek, Broker) and the mesh",
    ),
    SettingSpec::text_list(
        "peering.direct",
        &[],
        "names of nodes that are dialled outside the mesh: nothing is relayed over these peerings",
    ),
    SettingSpec::choice::<LocalMode>(
        "peering.local",
        "auto",
        "whether peers of one machine and user use Unix sockets: auto, where they find each other, or off",
    ),
    SettingSpec::duration(
        "peering.busy_poll",
        Duration::ZERO,
        "how long a reader with nothing to read keeps a processor busy before it waits, for shorter round trips; 0 for not",
    )
    .at_most(Duration::from_millis(10)),
    SettingSpec::duration(
        "peering.retry",
        Duration::from_secs(1),
        "time between two attempts to dial a peer",
    )
    .positive(),
    SettingSpec::duration(
        "peering.heartbeat",
        Duration::from_secs(2),
        "silence after which a peer is pinged; with 0 no peer is pinged or given up",
    ),
    SettingSpec::duration(
        "peering.heartbeat_timeout",
        Duration::from_secs(10),
        "silence after which a peer counts as lost",
    )
    .positive(),
    SettingSpec::choice::<TlsMode>(
        "tls.mode",
        "off",
        "how peerings are protected; the same on all nodes (Zeek's default is anonymous)",
    ),
    SettingSpec::text(
        "tls.ssl_cafile",
        "",
        "file of trusted authorities, for mutual; in all paths {node} stands for the node's name",
    ),
    SettingSpec::text(
        "tls.ssl_capath",
        "",
        "directory of trusted authorities, for mutual",
    ),
    SettingSpec::text(
        "tls.ssl_certificate",
        "",
        "the node's certificate, for mutual",
    ),
    SettingSpec::text(
        "tls.ssl_keyfile",
        "",
        "the certificate's private key, for mutual",
    ),
    SettingSpec::text(
        "tls.ssl_passphrase",
        "",
        "the key's passphrase, if it has one",
    ),
    SettingSpec::count(
        "runtime.inbox",
        65_536,
        "most messages that may wait for the node's handlers",
    )
    .positive(),
    SettingSpec::count(
        "runtime.inbox_bytes",
        64 * MIB,
        "most bytes that the messages waiting for the node's handlers may hold",
    )
    .positive(),
    SettingSpec::duration(
        "runtime.start_deadline",
        Duration::from_secs(15),
        "how long a node waits for the nodes of its layout before it starts without them",
    ),
    SettingSpec::count(
        "logging.batch_size",
        400,
        "most log records of one batch (Zeek's log_batch_size)",
    )
    .positive(),
    SettingSpec::duration(
        "logging.batch_interval",
        Duration::from_secs(1),
        "longest time that a log record waits for others (Zeek's log_batch_interval)",
    ),
    SettingSpec::choice::<AcknowledgeWhen>(
        "logging.acknowledge",
        "synced",
        "when a logger acknowledges records: `synced` to its disk, `written` to the system, which a power failure can lose, or `never`",
    ),
    SettingSpec::boolean(
        FORWARD,
        false,
        "whether a logger writes nothing itself, and gives what Zeek's nodes log to the other loggers: for one on the box of Zeek's workers",
    ),
    SettingSpec::choice::<SpoolWhen>(
        "logging.spool",
        "overflow",
        "which log records a node keeps on disk until a logger has them: those that have no room in memory, and what is left at the end (`overflow`), all (`always`), or none (`never`)",
    ),
    SettingSpec::count(
        "logging.spool_limit",
        1 << 30,
        "most bytes of log records that a node keeps on disk",
    ),
    SettingSpec::real(
        "input.speed",
        0.0,
        "replay speed as a multiple of real time; 0 reads as fast as possible",
    ),
    SettingSpec::choice::<StoreBackend>(
        "stores.default_backend",
        "memory",
        "what keeps a store whose author does not ask for persistence (Zeek's default_backend)",
    ),
    SettingSpec::choice::<PersistentBackend>(
        "stores.default_persistent_backend",
        "sqlite",
        "what keeps a store whose author asks for persistence",
    ),
    SettingSpec::text(
        "stores.default_master_node",
        "",
        "the node that has the primaries of stores; the manager if empty",
    ),
    SettingSpec::text(
        "stores.default_store_dir",
        "",
        "where the files of stores go; `stores` in the layout's directory if empty",
    ),
    SettingSpec::count(
        "stores.copies",
        0,
        "how many nodes keep each store; 0 is 2 if those that may are on several boxes, and 1 otherwise",
    )
    .within(0, MOST_COPIES as u64),
    SettingSpec::count(
        "stores.min_copies",
        1,
        "below so many copies in sync a store acknowledges nothing",
    )
    .within(1, MOST_COPIES as u64),
    SettingSpec::count(
        "stores.memory_limit",
        4096 * MIB,
        "most bytes that the entries of one store may take, roughly",
    )
    .positive(),
    SettingSpec::count(
        "stores.node_memory_limit",
        8192 * MIB,
        "most bytes that the entries of all stores of a node may take together, roughly",
    )
    .positive(),
    SettingSpec::duration(
        "stores.resync_interval",
        Duration::from_secs(10),
        "how often a clone that does not hear its primary looks for it (Zeek's default_clone_resync_interval)",
    )
    .positive(),
    SettingSpec::duration(
        "stores.stale_interval",
        Duration::from_secs(300),
        "how long after a clone last heard its primary its copy counts as stale (Zeek's default_clone_stale_interval)",
    )
    .positive(),
    SettingSpec::duration(
        "stores.mutation_buffer_interval",
        Duration::from_secs(120),
        "how long a write waits for a primary (Zeek's default_clone_mutation_buffer_interval)",
    )
    .positive(),
    SettingSpec::count(
        "coordination.count",
        3,
        "most boxes whose agents are coordinators: 1, 3 or 5; with three any one may be away, with five any two",
    )
    .within(1, 5)
    .odd(),
    SettingSpec::text_list(
        "coordination.voters",
        &[],
        "names of the boxes whose agents are coordinators, the first to lead first; empty takes them by what runs where",
    ),
    SettingSpec::duration(
        "watermark.allowance",
        Duration::from_secs(15 * 60),
        "event time that a window stays open after the watermark has passed its end",
    ),
];

/// Where the effective value of a setting comes from; a later variant wins over an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A section of the layout, for the whole cluster.
    Layout {
        /// The line in the layout file, counted from 1.
        line: usize,
    },
    /// The node's own `options`.
    Node {
        /// The line in the layout file, counted from 1.
        line: usize,
    },
    /// A `[[link]]` of the layout, for what the node sends to some of its peers.
    Link {
        /// The line in the layout file, counted from 1.
        line: usize,
    },
    /// The command line.
    Override,
    /// The register: somebody has changed a live setting while the cluster runs.
    Register,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Layout { line } => write!(f, "layout, line {line}"),
            Self::Node { line } => write!(f, "node, line {line}"),
            Self::Link { line } => write!(f, "link, line {line}"),
            Self::Override => f.write_str("command line"),
            Self::Register => f.write_str("register"),
        }
    }
}

/// Why an override was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// No setting of this key is declared.
    #[error("unknown setting `{key}`{}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// The key as given.
        key: String,
        /// The declared key that looks most like it.
        nearest: Option<String>,
    },
    /// The text is not a value of the setting's kind, or outside its bounds.
    #[error("{0}")]
    BadValue(String),
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean `{key}`?"))
}

/// A setting of a node: its effective value, and where the value comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting<'a> {
    /// Its key, such as `peering.heartbeat`.
    pub key: &'static str,
    /// Its value.
    pub value: &'a SettingValue,
    /// Where the value was set.
    pub origin: Origin,
}

/// The effective settings of one node. Cheap to clone.
///
/// The typed getters cannot fail for a declared key of the right kind.
///
/// # Panics
/// All getters panic for a key that was not declared, or not with that kind: a mistake in the
/// program, never in a layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    entries: Arc<BTreeMap<&'static str, (SettingValue, Origin)>>,
}

impl Settings {
    /// Returns the defaults of the core's settings and of `specs`. A key that is declared twice keeps its first
    /// declaration.
    pub fn defaults(specs: &[SettingSpec]) -> Self {
        let mut entries = BTreeMap::new();
        for spec in CORE_SETTINGS.iter().chain(specs) {
            entries
                .entry(spec.key())
                .or_insert_with(|| (spec.default_value(), Origin::Default));
        }
        Self {
            entries: Arc::new(entries),
        }
    }

    /// The value of a count.
    pub fn count(&self, key: &str) -> u64 {
        match self.value(key) {
            SettingValue::Count(value) => *value,
            other => wrong_kind(key, "count", other),
        }
    }

    /// Returns a count as a length or capacity, at most `usize::MAX`.
    pub fn size(&self, key: &str) -> usize {
        usize::try_from(self.count(key)).unwrap_or(usize::MAX)
    }

    /// The value of a real number.
    pub fn real(&self, key: &str) -> f64 {
        match self.value(key) {
            SettingValue::Real(value) => *value,
            other => wrong_kind(key, "real", other),
        }
    }

    /// The value of a length of time.
    pub fn duration(&self, key: &str) -> Duration {
        match self.value(key) {
            SettingValue::Duration(value) => *value,
            other => wrong_kind(key, "duration", other),
        }
    }

    /// The value of a boolean.
    pub fn boolean(&self, key: &str) -> bool {
        match self.value(key) {
            SettingValue::Boolean(value) => *value,
            other => wrong_kind(key, "boolean", other),
        }
    }

    /// Returns what the word of a choice stands for.
    pub fn choice<C: Choice>(&self, key: &str) -> C {
        match C::from_name(self.text(key)) {
            Some(value) => value,
            None => wrong_kind(key, "choice of this kind", self.value(key)),
        }
    }

    /// The value of a text.
    pub fn text(&self, key: &str) -> &str {
        match self.value(key) {
            SettingValue::Text(text) => text,
            other => wrong_kind(key, "text", other),
        }
    }

    /// The value of a list of texts.
    pub fn text_list(&self, key: &str) -> &[String] {
        match self.value(key) {
            SettingValue::TextList(texts) => texts,
            other => wrong_kind(key, "list of texts", other),
        }
    }

    /// The value of a list of counts.
    pub fn count_list(&self, key: &str) -> &[u64] {
        match self.value(key) {
            SettingValue::CountList(values) => values,
            other => wrong_kind(key, "list of counts", other),
        }
    }

    /// Where the value comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.entry(key).1
    }

    /// The value of any setting.
    pub fn value(&self, key: &str) -> &SettingValue {
        &self.entry(key).0
    }

    /// Returns all settings, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = Setting<'_>> {
        self.entries.iter().map(|(key, (value, origin))| Setting {
            key,
            value,
            origin: *origin,
        })
    }

    pub(crate) fn set(&mut self, key: &'static str, value: SettingValue, origin: Origin) {
        Arc::make_mut(&mut self.entries).insert(key, (value, origin));
    }

    fn entry(&self, key: &str) -> &(SettingValue, Origin) {
        let Some(entry) = self.entries.get(key) else {
            panic!("the setting `{key}` is not declared");
        };
        entry
    }
}

fn wrong_kind(key: &str, asked: &str, found: &SettingValue) -> ! {
    panic!("the setting `{key}` is no {asked}: {found:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_settings_are_declared_once_and_have_help() {
        let defaults = Settings::defaults(&[]);
        assert_eq!(defaults.iter().count(), CORE_SETTINGS.len());
        for spec in CORE_SETTINGS {
            assert!(
                spec.key().contains('.') && !spec.help().is_empty(),
                "{}",
                spec.key()
            );
        }
        assert_eq!(defaults.size("peering.data_queue"), 65_536);
        assert_eq!(
            defaults.duration("watermark.allowance"),
            Duration::from_secs(900)
        );
        assert_eq!(defaults.origin("input.speed"), Origin::Default);
    }

    #[test]
    #[should_panic(expected = "is not declared")]
    fn an_undeclared_key_is_a_mistake_of_the_program() {
        Settings::defaults(&[]).count("no.such");
    }
}
