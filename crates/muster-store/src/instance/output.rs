//! What a store wants done.

use std::fmt;

use muster_data::Timespan;
use muster_wire::EndpointId;

use crate::backend::Commit;
use crate::broker::{Entity, Snapshot};
use crate::level::Revision;
use crate::op::{Change, WriteRefusal};
use crate::protocol::Reply;
use crate::{CopyRequest, SettledWrite};

/// What a store asks of its driver: messages to send, a backend to use, people and programs to
/// inform. Nothing is waited for; where an answer is expected, the documentation says how it is
/// given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this to all clones, on the store's [clone topic](crate::StoreName::clone_topic).
    Broadcast(Vec<u8>),
    /// Send this to whoever is the primary, on the store's [primary
    /// topic](crate::StoreName::primary_topic).
    Find(Vec<u8>),
    /// Send this to one endpoint, by Muster's protocol.
    Send(EndpointId, Vec<u8>),
    /// Send this to all clones of Broker's protocol, on [their
    /// topic](crate::StoreName::broker_clone_topic).
    BrokerBroadcast(Vec<u8>),
    /// Send this to every master of Broker's protocol, on [their
    /// topic](crate::StoreName::broker_master_topic).
    BrokerFind(Vec<u8>),
    /// Send this to one endpoint, on the topic of Broker's clones.
    BrokerToClone(EndpointId, Vec<u8>),
    /// Send this to one endpoint, on the topic of Broker's masters.
    BrokerToMaster(EndpointId, Vec<u8>),
    /// Like [`Output::BrokerToClone`]. It may be large, and is not yet encoded.
    BrokerSnapshot(Box<Snapshot>),
    /// Listen to the topic of Broker's clones, then call
    /// [`Instance::listening`](crate::Instance::listening); or, if `false`, stop listening to it.
    ListenToBroker(bool),
    /// Ask the node that should have the primary to open it. No answer is expected but the primary
    /// itself.
    AskToOpen,
    /// Ask the coordinators to decide something about the copies of the store. It is asked again until they have.
    Request {
        /// The decision that it presupposes: [`Assignment::epoch`](crate::Assignment::epoch).
        epoch: u64,
        /// What is asked for.
        request: CopyRequest,
    },
    /// Look for other primaries in reach, then call
    /// [`Instance::rival_found`](crate::Instance::rival_found).
    FindRival,
    /// Read what the backend has kept, then call [`Instance::loaded`](crate::Instance::loaded).
    Load {
        /// About how much memory the entries may take, in bytes.
        limit: usize,
    },
    /// Have the backend put this on disk, then call
    /// [`Instance::committed`](crate::Instance::committed). There is one commit under way at a
    /// time.
    Commit(Commit),
    /// The store is open. Earlier writes are on their way.
    Opened,
    /// The primary could not be opened. Earlier writes are settled as not applied.
    OpenFailed,
    /// There is something to read, for the first time or again: the copy here is what the primary
    /// has.
    Attached,
    /// An entry has changed. These come in order, for watchers. A snapshot that replaces an older
    /// one is reported as the changes between them.
    Changed(Change),
    /// A write is over.
    Settled(SettledWrite),
    /// The primary has answered a question.
    Replied {
        /// The number of the question.
        request: u64,
        /// The primary's timeline and its last change when it answered.
        revision: Revision,
        /// The answer.
        reply: Reply,
    },
    /// No primary has answered a question by its deadline.
    NoReply {
        /// The number of the question.
        request: u64,
    },
    /// Something that operators of the cluster should know.
    Notice(Notice),
}

/// Something about a store that operators of the cluster should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The store is too large for the clone's copy, and is no longer followed.
    TooLarge,
    /// Writes are refused, because the stores of this node have reached what they may take together. Repeated once a
    /// minute.
    OverBudget,
    /// The clone's copy was given up, because the stores of this node have reached what they may take together.
    NoRoomForCopy,
    /// There is room again, and the clone fetches its copy.
    RoomForCopy,
    /// Two endpoints claim to be the store's primary. The clone stays with the first.
    TwoPrimaries(EndpointId, EndpointId),
    /// The clone's copy is stale, because its primary is not heard.
    Stale,
    /// The primary of a stale clone is heard again.
    Recovered,
    /// Coordinators have put the primary elsewhere, or have put it nowhere, after this endpoint, or one before it with the same backend,
    /// had opened it of its own accord. What only that had is given up.
    WritesGivenUp,
    /// This endpoint is to keep a copy, and the backend that it is to begin with cannot be read. It is tried again every 5 seconds.
    CopyUnreadable,
    /// The clock of this endpoint is so far behind that of the primary, or ahead of it if this is negative. The store goes by that of
    /// the primary, also when this endpoint takes its place.
    ClocksApart(Timespan),
    /// The clone now follows a master of Broker, at this endpoint.
    FollowsBroker(EndpointId),
    /// The clone now follows a Muster primary, in place of Broker's master.
    FollowsMuster,
    /// Another endpoint in reach has a primary of the same store.
    Rival(EndpointId),
    /// The other primary is gone.
    RivalGone,
    /// A clone of Broker's protocol is attached.
    BrokerCloneAttached(Entity),
    /// A clone of Broker's protocol is no longer served, because it was silent or lagged too far
    /// behind.
    BrokerCloneDropped(Entity),
    /// A clone of Broker's protocol gets nothing, because the state, of this many bytes, does not
    /// fit into a frame. Reported once.
    BrokerCloneTooLarge(Entity, usize),
    /// A write of a clone of Broker's protocol was refused. The protocol has no answer to tell it
    /// so.
    BrokerWriteRefused(Entity, WriteRefusal),
}

/// How important a [`Notice`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It only helps in looking for the cause of something.
    Debug,
    /// It is part of normal operation.
    Info,
    /// It may resolve itself.
    Warning,
    /// It needs an operator.
    Error,
}

impl Notice {
    /// Returns how important it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::BrokerWriteRefused(..) => Severity::Debug,
            Self::Recovered
            | Self::RoomForCopy
            | Self::FollowsBroker(_)
            | Self::RivalGone
            | Self::BrokerCloneAttached(_) => Severity::Info,
            Self::Stale
            | Self::FollowsMuster
            | Self::ClocksApart(_)
            | Self::BrokerCloneDropped(_) => Severity::Warning,
            Self::TooLarge
            | Self::OverBudget
            | Self::NoRoomForCopy
            | Self::WritesGivenUp
            | Self::CopyUnreadable
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
            Self::OverBudget => f.write_str(
                "refuses writes: the stores of this node have reached `stores.node_memory_limit`",
            ),
            Self::NoRoomForCopy => f.write_str(
                "this node has no copy: its stores have reached `stores.node_memory_limit`",
            ),
            Self::RoomForCopy => {
                f.write_str("there is room in `stores.node_memory_limit` again: fetching a copy")
            }
            Self::TwoPrimaries(first, second) => {
                write!(f, "two primaries, {first} and {second}; the first is kept")
            }
            Self::Stale => f.write_str("stale: its primary is not heard"),
            Self::Recovered => f.write_str("its primary is heard again"),
            Self::WritesGivenUp => f.write_str(
                "the coordinators have put its primary elsewhere; what was written here before they were heard is \
                 given up",
            ),
            Self::CopyUnreadable => f.write_str(
                "its backend cannot be read, so this node keeps no copy of it; it is tried again every 5 seconds",
            ),
            Self::ClocksApart(apart) => {
                let seconds = apart.as_secs_f64();
                let how = if seconds > 0.0 { "behind" } else { "ahead of" };
                write!(
                    f,
                    "the clock here is {:.0} s {how} that of its primary: TTLs end by that one",
                    seconds.abs()
                )
            }
            Self::FollowsBroker(master) => {
                write!(f, "its primary is a master of Broker, at {master}")
            }
            Self::FollowsMuster => f.write_str(
                "a Muster primary has appeared, and is now followed in place of Broker's master",
            ),
            Self::Rival(rival) => write!(
                f,
                "two primaries: {rival} has one as well as this endpoint; every node must have the same \
                 layout, which puts it in one place"
            ),
            Self::RivalGone => {
                f.write_str("the other primary is gone, and the one here is the only one again")
            }
            Self::BrokerCloneAttached(clone) => {
                write!(f, "serves a Broker clone at {}", clone.endpoint)
            }
            Self::BrokerCloneDropped(clone) => write!(
                f,
                "the Broker clone at {} is no longer served: it is silent, or lags too far behind",
                clone.endpoint
            ),
            Self::BrokerCloneTooLarge(clone, size) => write!(
                f,
                "its {size} bytes do not fit into a frame, so the Broker clone at {} gets nothing",
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
