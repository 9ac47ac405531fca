//! What a store can be asked for, and what comes of it.

use muster_data::{Kind, Timespan, Timestamp};
use muster_wire::EndpointId;

use crate::{Encoded, Revision};

/// The author of writes: an instance of a store on an endpoint. Its writes are numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The number of the instance among those of the endpoint.
    pub instance: u64,
}

/// An operation on a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a value. Without a TTL it is kept until something changes it.
    Put {
        /// The key.
        key: Encoded,
        /// The value.
        value: Encoded,
        /// The value's TTL.
        ttl: Option<Timespan>,
    },
    /// Sets a value if the key is absent.
    PutUnique {
        /// The key.
        key: Encoded,
        /// The value.
        value: Encoded,
        /// The value's TTL.
        ttl: Option<Timespan>,
    },
    /// Sets or removes a value, if the key has not been changed since a given revision.
    Swap {
        /// The key.
        key: Encoded,
        /// The revision of the key that the writer knows.
        seen: Revision,
        /// The new value; `None` removes the key.
        value: Option<Encoded>,
        /// The value's TTL.
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
    /// Adds to a value; see [`add`](crate::arithmetic::add).
    Add {
        /// The key.
        key: Encoded,
        /// What is added.
        value: Encoded,
        /// The kind of value that is made if the key is absent.
        initial: Kind,
        /// The value's TTL from now on.
        ttl: Option<Timespan>,
    },
    /// Subtracts from a value; see [`subtract`](crate::arithmetic::subtract).
    Subtract {
        /// The key.
        key: Encoded,
        /// What is subtracted.
        value: Encoded,
        /// The value's TTL from now on.
        ttl: Option<Timespan>,
    },
    /// Removes all keys.
    Clear,
}

/// Defines [`OpKind`] with the byte that each kind has on the wire: an operation that is missing here does not
/// compile.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $tag:literal,)+) => {
        /// The kind of an [`Op`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum OpKind {
            $($(#[$doc])* $kind = $tag,)+
        }

        impl OpKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// Returns the kind's byte in messages.
            pub fn tag(self) -> u8 {
                self as u8
            }

            /// Returns the kind with a byte, or `None` if there is none.
            pub fn from_tag(tag: u8) -> Option<Self> {
                match tag {
                    $($tag => Some(Self::$kind),)+
                    _ => None,
                }
            }
        }

        impl Op {
            /// Returns the kind of the operation.
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
    /// Returns `true` if only a primary may issue the operation.
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

    /// Returns `true` if the operation concerns one key.
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

    /// Makes an operation of this kind, for tests and tools. It takes over those of the given parts
    /// that the kind has. An addition makes a count, and a swap expects the key to be absent.
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

/// An [`Op`] with everything besides the state that its outcome depends on. Applied in the same
/// order, commands have the same outcomes everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreCommand {
    /// When the primary accepted it. TTLs count from this time.
    pub at: Timestamp,
    /// The writer whose command it is.
    pub writer: Writer,
    /// Its number among the writer's commands.
    pub number: u64,
    /// What is to be done.
    pub op: Op,
}

/// The outcome of an [`Op`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The store has changed.
    Done {
        /// The number of the change.
        change: u64,
        /// For a number, its new value; for a vector that an element was removed from, that
        /// element.
        value: Option<Encoded>,
    },
    /// Nothing has changed, because the condition did not hold or there was nothing to do: the key
    /// exists, was changed meanwhile, or is absent.
    Unchanged {
        /// The last change of the key; 0 if the key is absent.
        change: u64,
    },
    /// It was applied before, and its outcome is no longer known.
    Repeated,
    /// It is not possible.
    Refused(WriteRefusal),
}

/// Why an [`Op`] was refused. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteRefusal {
    /// The operation does not suit the kind of the stored value.
    #[error("the operation does not suit the kind of the stored value")]
    TypeClash,
    /// There is no such key.
    #[error("no such key")]
    NoSuchKey,
    /// The operation cannot use this value.
    #[error("invalid data for this operation")]
    InvalidData,
    /// The key or the value is larger than a store accepts.
    #[error("key or value too large")]
    TooLarge,
    /// The store has reached its memory limit.
    #[error("the store is full")]
    Full,
    /// The stores of the primary's node have together reached the memory that they may take.
    #[error("the stores of the primary's node are full (`stores.node_memory_limit`)")]
    OverBudget,
    /// Only the primary may do this.
    #[error("only a primary may do this")]
    Reserved,
    /// A durable write to a store that is in memory only is not possible.
    #[error("the store is not persistent")]
    NotPersistent,
    /// The primary cannot write to its disk.
    #[error("the store's backend has failed")]
    Backend,
    /// Fewer copies are in sync than the store must have (`min_copies`).
    #[error("fewer copies of the store are in sync than it must have (`min_copies`)")]
    TooFewCopies,
    /// The store's master is one of Broker, whose protocol does not have this operation.
    #[error("the store's master is one of Broker, which does not support this")]
    Unsupported,
}

/// A change that was made, with what it replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number among the changes of the store, from 1 without gaps.
    pub number: u64,
    /// The writer that asked for it; `None` for what the store did by itself.
    pub writer: Option<Writer>,
    /// What has changed.
    pub event: StoreEvent,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// A key was set to a new value.
    Put {
        /// The key.
        key: Encoded,
        /// The new value.
        value: Encoded,
        /// When the value's TTL ends; `None` if it has none.
        expires: Option<Timestamp>,
        /// The old value, if there was one.
        old: Option<Encoded>,
        /// What leads from the old value to the new one, where that is much shorter.
        amendment: Option<Amendment>,
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
        /// The keys and the values that they had.
        old: Vec<(Encoded, Encoded)>,
    },
}

/// What changes a part of a set, a table, a vector or a string: all that is sent and kept of an insert into a large one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amendment {
    /// This is added, as [`add`](crate::arithmetic::add) does.
    Add(Encoded),
    /// This is taken away, as [`subtract`](crate::arithmetic::subtract) does.
    Subtract(Encoded),
}

impl Amendment {
    /// Returns what is added or taken away.
    pub fn part(&self) -> &Encoded {
        match self {
            Self::Add(part) | Self::Subtract(part) => part,
        }
    }
}

/// What a change does, without what it replaces: what others are sent of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// A key is set to a value.
    Put {
        /// The key.
        key: Encoded,
        /// The value.
        value: Encoded,
        /// When the value's TTL ends; `None` if it has none.
        expires: Option<Timestamp>,
    },
    /// A part of a key's value is changed.
    Amend {
        /// The key. It has a value.
        key: Encoded,
        /// What is changed.
        amendment: Amendment,
        /// When the value's TTL ends from now on; `None` if it has none.
        expires: Option<Timestamp>,
    },
    /// A key is removed.
    Erase {
        /// The key.
        key: Encoded,
    },
    /// A key is removed, because its TTL ran out.
    Expire {
        /// The key.
        key: Encoded,
    },
    /// All keys are removed.
    Clear,
}

impl Edit {
    /// Returns the key, if it concerns one.
    pub fn key(&self) -> Option<&Encoded> {
        match self {
            Self::Put { key, .. }
            | Self::Amend { key, .. }
            | Self::Erase { key }
            | Self::Expire { key } => Some(key),
            Self::Clear => None,
        }
    }

    /// The memory and the bytes in messages that its key and its value take.
    pub(crate) fn size(&self) -> usize {
        let value = match self {
            Self::Put { value, .. } => value.size(),
            Self::Amend { amendment, .. } => amendment.part().size(),
            Self::Erase { .. } | Self::Expire { .. } | Self::Clear => 0,
        };
        self.key().map_or(0, Encoded::size) + value
    }
}

impl From<StoreEvent> for Edit {
    fn from(event: StoreEvent) -> Self {
        match event {
            StoreEvent::Put {
                key,
                value,
                expires,
                amendment,
                old: _,
            } => match amendment {
                None => Self::Put {
                    key,
                    value,
                    expires,
                },
                Some(amendment) => Self::Amend {
                    key,
                    amendment,
                    expires,
                },
            },
            StoreEvent::Erase { key, .. } => Self::Erase { key },
            StoreEvent::Expire { key, .. } => Self::Expire { key },
            StoreEvent::Clear { .. } => Self::Clear,
        }
    }
}

/// An edit and its place in the order of all: the unit in which primaries tell clones of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedEdit {
    /// Its number among the changes of the store, from 1 without gaps.
    pub number: u64,
    /// The writer that asked for it; `None` for what the store did by itself.
    pub writer: Option<Writer>,
    /// What it does.
    pub edit: Edit,
}

impl From<Change> for NumberedEdit {
    fn from(change: Change) -> Self {
        Self {
            number: change.number,
            writer: change.writer,
            edit: change.event.into(),
        }
    }
}
