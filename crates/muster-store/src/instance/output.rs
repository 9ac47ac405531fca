//! What a store wants done.

use std::fmt;

use muster_wire::EndpointId;

use crate::SettledWrite;
use crate::backend::Commit;
use crate::broker::{Entity, Snapshot};
use crate::level::Revision;
use crate::op::{Change, WriteRefusal};
use crate::protocol::Reply;

/// What a store wants done by whoever drives it: messages to send, a backend to use, people and programs to tell.
/// Nothing is waited for; what has an answer says how it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// To all clones: to the store's [clone topic](crate::StoreName::clone_topic).
    Broadcast(Vec<u8>),
    /// To whoever is the primary: to the store's [primary topic](crate::StoreName::primary_topic).
    Find(Vec<u8>),
    /// To one endpoint, by Muster's protocol.
    Send(EndpointId, Vec<u8>),
    /// To all clones of Broker's protocol: to [their topic](crate::StoreName::broker_clone_topic).
    BrokerBroadcast(Vec<u8>),
    /// To every master of Broker's protocol: to [their topic](crate::StoreName::broker_master_topic).
    BrokerFind(Vec<u8>),
    /// To one endpoint, on the topic of Broker's clones.
    BrokerToClone(EndpointId, Vec<u8>),
    /// To one endpoint, on the topic of Broker's masters.
    BrokerToMaster(EndpointId, Vec<u8>),
    /// As [`Output::BrokerToClone`]. It may be large, and is yet to be encoded.
    BrokerSnapshot(Box<Snapshot>),
    /// The topic of Broker's clones is to be listened to, then [`Instance::listening`](crate::Instance::listening);
    /// or it is not needed any more.
    ListenToBroker(bool),
    /// The node that should have the primary is to be asked to open it. Nothing comes back but the primary.
    AskToOpen,
    /// Other primaries in reach are to be looked for, then
    /// [`Instance::rival_found`](crate::Instance::rival_found).
    FindRival,
    /// What the backend has persisted is to be read, then [`Instance::loaded`](crate::Instance::loaded).
    Load {
        /// The memory that the entries may take, in bytes, roughly.
        limit: usize,
    },
    /// To be put on disk by the backend, then [`Instance::committed`](crate::Instance::committed). One commit is
    /// under way at a time.
    Commit(Commit),
    /// The store is open. What was written before is under way.
    Opened,
    /// The primary could not be opened. What was written before is settled as not applied.
    OpenFailed,
    /// There is something to read, for the first time or again: what is here is what the primary has.
    Attached,
    /// An entry has changed: for watchers, in order. A snapshot that replaces an older one comes as the changes
    /// between them.
    Changed(Change),
    /// A write has come to its end.
    Settled(SettledWrite),
    /// The primary has answered a question.
    Replied {
        /// The number of the question.
        request: u64,
        /// The primary's timeline, and its last change then.
        revision: Revision,
        /// The answer.
        reply: Reply,
    },
    /// No primary has answered a question by its deadline.
    NoReply {
        /// The number of the question.
        request: u64,
    },
    /// Something that whoever runs the cluster should know of.
    Notice(Notice),
}

/// Something that whoever runs the cluster should know of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The store is larger than the clone's copy may be: it is not followed any more.
    TooLarge,
    /// Two endpoints say that they are the store's primary. The first is kept.
    TwoPrimaries(EndpointId, EndpointId),
    /// What the clone has is stale, as its primary is not heard of.
    Stale,
    /// The primary of a clone that was stale is heard again.
    Recovered,
    /// From now on the clone follows a master of Broker, at this endpoint.
    FollowsBroker(EndpointId),
    /// From now on the clone follows a primary of Muster, in place of Broker's master.
    FollowsMuster,
    /// Another endpoint in reach has a primary of the same store.
    Rival(EndpointId),
    /// The other primary is gone.
    RivalGone,
    /// A clone of Broker's protocol is served.
    BrokerCloneAttached(Entity),
    /// A clone of Broker's protocol is not served any more, as it was silent or lagged too far.
    BrokerCloneDropped(Entity),
    /// A clone of Broker's protocol gets nothing, as the state of so many bytes fits into no frame. Told once.
    BrokerCloneTooLarge(Entity, usize),
    /// A write of a clone of Broker's protocol was refused. Its protocol has no answer that says so.
    BrokerWriteRefused(Entity, WriteRefusal),
}

/// How much a [`Notice`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Only for whoever looks for the cause of something.
    Debug,
    /// As it should be.
    Info,
    /// It may mend itself.
    Warning,
    /// It needs somebody.
    Error,
}

impl Notice {
    /// How much it matters.
    pub fn severity(&self) -> Severity {
        match self {
            Self::BrokerWriteRefused(..) => Severity::Debug,
            Self::Recovered
            | Self::FollowsBroker(_)
            | Self::RivalGone
            | Self::BrokerCloneAttached(_) => Severity::Info,
            Self::Stale | Self::FollowsMuster | Self::BrokerCloneDropped(_) => Severity::Warning,
            Self::TooLarge
            | Self::TwoPrimaries(..)
            | Self::Rival(_)
            | Self::BrokerCloneTooLarge(..) => Severity::Error,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => {
                f.write_str("larger than `stores.memory_limit`: this node has no copy")
            }
            Self::TwoPrimaries(first, second) => {
                write!(f, "two primaries, {first} and {second}; the first is kept")
            }
            Self::Stale => f.write_str("stale, as its primary is not heard of"),
            Self::Recovered => f.write_str("its primary is back"),
            Self::FollowsBroker(master) => {
                write!(f, "its primary is a master of Broker, at {master}")
            }
            Self::FollowsMuster => f.write_str(
                "a Muster primary has appeared, and is followed in place of Broker's master",
            ),
            Self::Rival(rival) => write!(
                f,
                "two primaries: {rival} has one as well as this endpoint; every node must have the same \
                 layout, which puts it in one place"
            ),
            Self::RivalGone => f.write_str("its only primary is here again"),
            Self::BrokerCloneAttached(clone) => {
                write!(f, "serves a Broker clone at {}", clone.endpoint)
            }
            Self::BrokerCloneDropped(clone) => write!(
                f,
                "the Broker clone at {} is not served any more: it is silent, or lags too far",
                clone.endpoint
            ),
            Self::BrokerCloneTooLarge(clone, size) => write!(
                f,
                "its {size} bytes fit into no frame, so the Broker clone at {} gets nothing",
                clone.endpoint
            ),
            Self::BrokerWriteRefused(clone, refusal) => write!(
                f,
                "a write of the Broker clone at {} is refused: {refusal}",
                clone.endpoint
            ),
        }
    }
}
