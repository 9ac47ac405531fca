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

/// Defines [`OpKind`] with the byte that each kind has on the wire: an operation that is missing here does not
/// compile.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $tag:literal,)+) => {
        /// What kind of operation an [`Op`] is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum OpKind {
            $($(#[$doc])* $kind = $tag,)+
        }

        impl OpKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// Its byte in messages.
            pub fn tag(self) -> u8 {
                self as u8
            }

            /// The kind that has a byte, if one has.
            pub fn from_tag(tag: u8) -> Option<Self> {
                match tag {
                    $($tag => Some(Self::$kind),)+
                    _ => None,
                }
            }
        }

        impl Op {
            /// What kind of operation it is.
            pub fn kind(&self) -> OpKind {
                match self {
                    $(Self::$kind { .. } => OpKind::$kind,)+
                }
            }
        }
    };
}

kinds! {
    /// [`Op::Put`].
    Put = 0,
    /// [`Op::PutUnique`].
    PutUnique = 1,
    /// [`Op::Erase`].
    Erase = 2,
    /// [`Op::Expire`].
    Expire = 3,
    /// [`Op::Add`].
    Add = 4,
    /// [`Op::Subtract`].
    Subtract = 5,
    /// [`Op::Clear`].
    Clear = 6,
    /// [`Op::Swap`].
    Swap = 7,
}

impl OpKind {
    /// Whether only a primary issues it.
    pub fn is_reserved(self) -> bool {
        match self {
            Self::Expire => true,
            Self::Put
            | Self::PutUnique
            | Self::Swap
            | Self::Erase
            | Self::Add
            | Self::Subtract
            | Self::Clear => false,
        }
    }

    /// Whether it concerns one key.
    pub fn has_key(self) -> bool {
        match self {
            Self::Clear => false,
            Self::Put
            | Self::PutUnique
            | Self::Swap
            | Self::Erase
            | Self::Expire
            | Self::Add
            | Self::Subtract => true,
        }
    }

    /// An operation of this kind, for tests and tools: of what is given it has what the kind takes. An addition makes a
    /// count, and a swap expects that the key is absent.
    pub fn example(self, key: Encoded, value: Encoded, ttl: Option<Timespan>) -> Op {
        match self {
            Self::Put => Op::Put { key, value, ttl },
            Self::PutUnique => Op::PutUnique { key, value, ttl },
            Self::Swap => Op::Swap {
                key,
                seen: Revision::ABSENT,
                value: Some(value),
                ttl,
            },
            Self::Erase => Op::Erase { key },
            Self::Expire => Op::Expire { key },
            Self::Add => Op::Add {
                key,
                value,
                initial: Kind::Count,
                ttl,
            },
            Self::Subtract => Op::Subtract { key, value, ttl },
            Self::Clear => Op::Clear,
        }
    }
}

/// What most operations consist of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpParts<'a> {
    pub(crate) key: Option<&'a Encoded>,
    pub(crate) value: Option<&'a Encoded>,
    pub(crate) ttl: Option<Timespan>,
}

impl Op {
    pub(crate) fn parts(&self) -> OpParts<'_> {
        let (key, value, ttl) = match self {
            Self::Put { key, value, ttl }
            | Self::PutUnique { key, value, ttl }
            | Self::Add {
                key, value, ttl, ..
            }
            | Self::Subtract { key, value, ttl } => (Some(key), Some(value), *ttl),
            Self::Swap {
                key, value, ttl, ..
            } => (Some(key), value.as_ref(), *ttl),
            Self::Erase { key } | Self::Expire { key } => (Some(key), None, None),
            Self::Clear => (None, None, None),
        };
        OpParts { key, value, ttl }
    }

    /// The memory and the bytes in messages that it takes, roughly.
    pub(crate) fn size(&self) -> usize {
        let OpParts { key, value, .. } = self.parts();
        key.map_or(0, Encoded::size) + value.map_or(0, Encoded::size) + 16
    }
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
