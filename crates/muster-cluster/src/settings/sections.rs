//! The core's settings as typed values, read once for each node.

use std::time::Duration;

use muster_wire::{ClassPolicy, Filter, Overflow, QueueLimits};

use super::{Origin, Settings};
use crate::layout::StoreBackend;

crate::choice!(Overflow {
    "drop_oldest" => Overflow::DropOldest,
    "drop_newest" => Overflow::DropNewest,
    "disconnect" => Overflow::Disconnect,
    "block" => Overflow::Block,
});

/// What a node does with the messages of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardingMode {
    /// It relays unless it is a worker: every worker is linked to every hub.
    Auto,
    /// It relays.
    Relay,
    /// It is in the mesh and does not relay.
    Leaf,
    /// It is in no mesh: it exchanges its own messages with its peers.
    Direct,
}

crate::choice!(ForwardingMode {
    "auto" => ForwardingMode::Auto,
    "relay" => ForwardingMode::Relay,
    "leaf" => ForwardingMode::Leaf,
    "direct" => ForwardingMode::Direct,
});

/// Whether peers of one machine use Unix sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalMode {
    /// Those of one user do, where they find each other.
    Auto,
    /// All connections are TCP.
    Off,
}

crate::choice!(LocalMode {
    "auto" => LocalMode::Auto,
    "off" => LocalMode::Off,
});

/// When a logger acknowledges records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AcknowledgeWhen {
    /// When they are safe on its disk.
    #[default]
    Synced,
    /// When they are written: a failure of the machine can lose them.
    Written,
    /// Never: nodes keep nothing, and what is with a logger that dies is lost.
    Never,
}

crate::choice!(AcknowledgeWhen {
    "synced" => AcknowledgeWhen::Synced,
    "written" => AcknowledgeWhen::Written,
    "never" => AcknowledgeWhen::Never,
});

/// Which batches of log records a node keeps on its disk until a logger has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpoolWhen {
    /// Those for which there is too little room in memory, and what is left at the end.
    #[default]
    Overflow,
    /// All: what a process leaves that is killed the next one sends.
    Always,
    /// None.
    Never,
}

crate::choice!(SpoolWhen {
    "overflow" => SpoolWhen::Overflow,
    "always" => SpoolWhen::Always,
    "never" => SpoolWhen::Never,
});

/// How peerings are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Not at all.
    Off,
    /// Encrypted, without knowing who the other side is: Zeek's default.
    Anonymous,
    /// With certificates on both sides.
    Mutual,
}

crate::choice!(TlsMode {
    "off" => TlsMode::Off,
    "anonymous" => TlsMode::Anonymous,
    "mutual" => TlsMode::Mutual,
});

crate::choice!(StoreBackend {
    "memory" => StoreBackend::Memory,
    "sqlite" => StoreBackend::Sqlite,
});

/// What keeps a store whose author asks for persistence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PersistentBackend {
    /// SQLite.
    Sqlite,
}

crate::choice!(PersistentBackend {
    "sqlite" => PersistentBackend::Sqlite,
});

/// The section `peering`, and `classes`.
#[derive(Debug, Clone, PartialEq)]
pub struct PeeringSettings {
    /// Events that wait for one peer.
    pub data: ClassPolicy,
    /// Requests and notices that wait for one peer.
    pub interactive: ClassPolicy,
    /// Logs and snapshots that wait for one peer.
    pub bulk: ClassPolicy,
    /// The most control messages that may wait for one peer.
    pub control_queue: usize,
    /// Bytes of each class that a peer may send before they are dealt with.
    pub credit: u64,
    /// Bytes of each class that all peers may send together before they are dealt with.
    pub credit_of_all: u64,
    /// The largest message in bytes, with its topic.
    pub largest_message: usize,
    /// The most bytes that the readers of all peers hold together of messages that have not come to their end.
    pub unfinished_frames: usize,
    /// Whether links are so slow that messages are compressed where that pays.
    pub slow: bool,
    /// Whether it relays between its peers of version 1 and the mesh.
    pub relay_version_1: bool,
    /// The names of the nodes that it dials outside the mesh.
    pub direct: Vec<String>,
    /// Whether peers of this machine use Unix sockets.
    pub local: LocalMode,
    /// How long a reader with nothing to read asks again and again before it waits; zero for not at all.
    pub busy_poll: Duration,
    /// The time between two attempts to dial a peer.
    pub retry: Duration,
    /// The silence after which a peer is pinged; zero for never.
    pub heartbeat: Duration,
    /// The silence after which a peer counts as lost.
    pub heartbeat_timeout: Duration,
    /// Topics whose events go before others.
    pub interactive_topics: Filter,
    /// Topics whose events wait for others.
    pub bulk_topics: Filter,
}

impl PeeringSettings {
    /// Reads the section. See [`Settings`] for when it panics.
    pub fn of(settings: &Settings) -> Self {
        let queue = |messages: &str, bytes: &str, overflow: &str| ClassPolicy {
            limits: QueueLimits {
                messages: settings.size(messages),
                bytes: settings.size(bytes),
            },
            overflow: settings.choice(overflow),
        };
        Self {
            data: queue(
                "peering.data_queue",
                "peering.data_queue_bytes",
                "peering.overflow",
            ),
            interactive: queue(
                "peering.interactive_queue",
                "peering.interactive_queue_bytes",
                "peering.interactive_overflow",
            ),
            bulk: queue(
                "peering.bulk_queue",
                "peering.bulk_queue_bytes",
                "peering.bulk_overflow",
            ),
            control_queue: settings.size("peering.control_queue"),
            credit: settings.count("peering.credit"),
            credit_of_all: settings.count("peering.credit_of_all"),
            largest_message: settings.size("peering.largest_message"),
            unfinished_frames: settings.size("peering.unfinished_frames"),
            slow: settings.boolean("peering.slow"),
            relay_version_1: settings.boolean("peering.relay_version_1"),
            direct: settings.text_list("peering.direct").to_vec(),
            local: settings.choice("peering.local"),
            busy_poll: settings.duration("peering.busy_poll"),
            retry: settings.duration("peering.retry"),
            heartbeat: settings.duration("peering.heartbeat"),
            heartbeat_timeout: settings.duration("peering.heartbeat_timeout"),
            interactive_topics: Filter::from_prefixes(settings.text_list("classes.interactive")),
            bulk_topics: Filter::from_prefixes(settings.text_list("classes.bulk")),
        }
    }
}

/// What a `[[link]]` of the layout sets for what is sent to one peer; the rest is as for all peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueOverrides {
    /// The most messages that may wait.
    pub messages: Option<usize>,
    /// The most bytes that they may hold.
    pub bytes: Option<usize>,
    /// What happens when the queue is full.
    pub overflow: Option<Overflow>,
}

/// What a `[[link]]` sets for each kind of queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkOverrides {
    /// Events.
    pub data: QueueOverrides,
    /// Requests and notices.
    pub interactive: QueueOverrides,
    /// Logs and snapshots.
    pub bulk: QueueOverrides,
    /// Whether the link is slow.
    pub slow: Option<bool>,
}

impl LinkOverrides {
    /// Reads what only links have set.
    pub fn of(settings: &Settings) -> Self {
        let is_set = |key: &str| matches!(settings.origin(key), Origin::Link { .. });
        let size = |key: &str| is_set(key).then(|| settings.size(key));
        let queue = |messages: &str, bytes: &str, overflow: &str| QueueOverrides {
            messages: size(messages),
            bytes: size(bytes),
            overflow: is_set(overflow).then(|| settings.choice(overflow)),
        };
        let slow = "peering.slow";
        Self {
            data: queue(
                "peering.data_queue",
                "peering.data_queue_bytes",
                "peering.overflow",
            ),
            interactive: queue(
                "peering.interactive_queue",
                "peering.interactive_queue_bytes",
                "peering.interactive_overflow",
            ),
            bulk: queue(
                "peering.bulk_queue",
                "peering.bulk_queue_bytes",
                "peering.bulk_overflow",
            ),
            slow: is_set(slow).then(|| settings.boolean(slow)),
        }
    }
}
