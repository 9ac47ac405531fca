//! What Muster's primaries, clones and writers say to one another: `docs/stores.md` has it byte by byte.
//!
//! Every message begins with a tag and the store's name. What a primary tells all clones goes to
//! [`StoreName::clone_topic`](crate::StoreName::clone_topic), what looks for a primary to
//! [`StoreName::primary_topic`](crate::StoreName::primary_topic); all else is addressed to one endpoint. Nothing
//! relies on a message arriving: numbers say what is missing.

mod codec;
mod parts;

use crate::op::{Answer, Change, Op};
use crate::{Encoded, Entry, Level};

pub(crate) use parts::{NUMBERS, decode_answers, encode_answers};

/// A message between Muster endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreMessage {
    /// Clone to primary: the entries behind a key, from the first without one.
    Fetch {
        /// The clone's instance, which the answer repeats.
        instance: u64,
        /// The last key that the clone has of this snapshot.
        after: Option<Encoded>,
    },
    /// Clone to primary: the changes from a number on. Also how a clone looks for its primary.
    Missing {
        /// The primary's timeline that the number belongs to; 0 for none.
        timeline: u64,
        /// The first change that the clone does not have.
        from: u64,
    },
    /// Writer to primary: commands, numbered on from the first.
    Write(WriteBatch),
    /// Anyone to primary: a question that the answer repeats the number of.
    Query {
        /// The number.
        request: u64,
        /// What is asked.
        query: Query,
    },
    /// Primary to clone: a part of a snapshot.
    Chunk(Chunk),
    /// Primary to clones: changes, numbered on from the first.
    Changes(Changes),
    /// Primary to clones: it lives, and this was its last change.
    Alive {
        /// Its timeline.
        timeline: u64,
        /// The number of its last change.
        last: u64,
    },
    /// Primary to clone: the changes asked for are not kept any more, or are of another timeline.
    Gone {
        /// The primary's timeline.
        timeline: u64,
    },
    /// Primary to writer: what became of its commands.
    Results(Results),
    /// Primary to whoever asked.
    Reply {
        /// The number of the question.
        request: u64,
        /// The primary's timeline.
        timeline: u64,
        /// The number of its last change.
        last: u64,
        /// The answer.
        reply: Reply,
    },
}

/// Commands of one writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteBatch {
    /// The writer's instance on its endpoint.
    pub instance: u64,
    /// The lowest number whose result the writer waits for: the primary forgets what is below.
    pub first_open: u64,
    /// The number of the first command.
    pub number: u64,
    /// The commands, each with the level that its writer waits for.
    pub ops: Vec<(Op, Level)>,
}

/// What is asked of a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The entry of a key.
    Get(Encoded),
    /// How many keys there are.
    Size,
}

/// The answer to a [`Query`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The entry, if there is one.
    Entry(Option<Entry>),
    /// The number of keys.
    Size(u64),
}

/// A part of a snapshot, in the order of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The instance that asked.
    pub instance: u64,
    /// The primary's timeline.
    pub timeline: u64,
    /// The last change that is in it.
    pub as_of: u64,
    /// The key that it begins behind, as asked for.
    pub after: Option<Encoded>,
    /// The entries.
    pub entries: Vec<(Encoded, Entry)>,
    /// Whether no entries follow.
    pub is_last: bool,
}

/// Changes of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The primary's timeline.
    pub timeline: u64,
    /// Changes with consecutive numbers; none of them says what was before.
    pub changes: Vec<Change>,
}

/// What became of a writer's commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    /// The writer's instance.
    pub instance: u64,
    /// The primary's timeline.
    pub timeline: u64,
    /// The number that the primary expects next: all below are applied.
    pub next: u64,
    /// All up to this number are on disk; 0 if none.
    pub durable: u64,
    /// All up to this number, and above `durable`, could not be put on disk; 0 if none.
    pub failed: u64,
    /// The number of the first answer.
    pub number: u64,
    /// Answers with consecutive numbers.
    pub answers: Vec<Answer>,
}

/// Why a message cannot be read. The one message is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message of a store's protocol")]
pub struct MessageError;
