//! What is asked of a store, and what comes of it.

use muster_data::{Kind, Timespan, Timestamp};
use muster_wire::EndpointId;

use crate::{Encoded, Revision};

/// Who writes: an instance of a store on an endpoint. Its writes are numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Which of the endpoint's instances.
    pub instance: u64,
}

/// A change that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a value. Without a TTL it stays for good.
    Put {
        /// The key.
        key: Encoded,
        /// The value.
        value: Encoded,
        /// How long it lives.
        ttl: Option<Timespan>,
    },
    /// Sets a value if the key is absent.
    PutUnique {
        /// The key.
        key: Encoded,
        /// The value.
        value: Encoded,
        /// How long it lives.
        ttl: Option<Timespan>,
    },
    /// Sets or removes a value if nobody has changed it since.
    Swap {
        /// The key.
        key: Encoded,
        /// The last change of the key that the writer knows.
        seen: Revision,
        /// The new value; `None` removes the key.
        value: Option<Encoded>,
        /// How long it lives.
        ttl: Option<Timespan>,
    },
    /// Removes a key.
    Erase {
        /// The key.
        key: Encoded,
    },
    /// Removes a key whose TTL has run out. Only a primary issues it.
    Expire {
        /// The key.
        key: Encoded,
    },
    /// Adds to a value: see [`add`](crate::arithmetic::add).
    Add {
        /// The key.
        key: Encoded,
        /// What is added.
        value: Encoded,
        /// The kind of value that is made if the key is absent.
        initial: Kind,
        /// How long it lives from now on.
        ttl: Option<Timespan>,
    },
    /// Takes from a value: see [`subtract`](crate::arithmetic::subtract).
    Subtract {
        /// The key.
        key: Encoded,
        /// What is taken.
        value: Encoded,
        /// How long it lives from now on.
        ttl: Option<Timespan>,
    },
    /// Removes all keys.
    Clear,
}

/// An [`Op`] with everything that its outcome depends on besides the state: applied in the same order it
/// has the same outcome everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreCommand {
    /// When the primary took it; TTLs count from here.
    pub at: Timestamp,
    /// Whose it is.
    pub writer: Writer,
    /// Its number among the writer's.
    pub number: u64,
    /// What is to be done.
    pub op: Op,
}

/// What became of an [`Op`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The store has changed.
    Done {
        /// The number of the change.
        change: u64,
        /// For a number, its new value; for a vector that was taken from, the element.
        value: Option<Encoded>,
    },
    /// The condition did not hold, or there was nothing to do: the key exists, was changed meanwhile, or
    /// is absent.
    Unchanged {
        /// The last change of the key, 0 if it is absent.
        change: u64,
    },
    /// It was applied before; what came of it is not known any more.
    Repeated,
    /// It is not possible.
    Refused(WriteRefusal),
}

/// Why an [`Op`] is not possible. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteRefusal {
    /// The kinds of the stored value and of the operation do not go together.
    #[error("the stored value is of another kind than the operation needs")]
    TypeClash,
    /// There is no such key.
    #[error("no such key")]
    NoSuchKey,
    /// The value of the operation cannot be used so.
    #[error("invalid data for this operation")]
    InvalidData,
    /// The key or value is larger than a store takes.
    #[error("key or value too large")]
    TooLarge,
    /// The store holds as much as its configuration permits.
    #[error("the store is full")]
    Full,
    /// Only the primary may do this.
    #[error("only a primary issues this")]
    Reserved,
    /// A durable write to a store that is in memory only.
    #[error("the store is not persistent")]
    NotPersistent,
    /// The primary cannot write to its disk.
    #[error("the store's backend has failed")]
    Backend,
    /// The store's master is one of Broker, whose protocol has no such operation.
    #[error("the store's master is one of Broker, which cannot do this")]
    Unsupported,
}

/// A change that was made, the unit of what primaries tell clones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number among the changes of the store, from 1 without a gap.
    pub number: u64,
    /// Who asked for it; `None` for what the store did itself.
    pub writer: Option<Writer>,
    /// What has changed.
    pub event: StoreEvent,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// A key has a value that it did not have.
    Put {
        /// The key.
        key: Encoded,
        /// The value from now on.
        value: Encoded,
        /// When it ends.
        expires: Option<Timestamp>,
        /// The value before.
        old: Option<Encoded>,
    },
    /// A key was removed.
    Erase {
        /// The key.
        key: Encoded,
        /// The value that it had.
        old: Option<Encoded>,
    },
    /// A key's TTL ran out.
    Expire {
        /// The key.
        key: Encoded,
        /// The value that it had.
        old: Option<Encoded>,
    },
    /// All keys were removed.
    Clear {
        /// They, and the values that they had.
        old: Vec<(Encoded, Encoded)>,
    },
}
