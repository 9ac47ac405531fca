//! The messages between Muster's primaries, clones and writers. `docs/stores.md` describes them
//! byte by byte.
//!
//! Every message begins with a tag and the store's name. What a primary tells all clones goes to
//! [`StoreName::clone_topic`](crate::StoreName::clone_topic), and what is to find a primary goes to
//! [`StoreName::primary_topic`](crate::StoreName::primary_topic). All else is addressed to one
//! endpoint. Nothing relies on a message arriving: numbers show what is missing.

mod codec;
mod parts;
mod replication;

use crate::op::{Answer, NumberedEdit, Op, Writer};
use crate::{Encoded, Entry, Level};

pub(crate) use parts::{NUMBERS, decode_answers, encode_answers};
pub use replication::{
    Acknowledgement, Attach, Attached, LogEntry, Replicate, WriterRow, WritersPart,
};

/// A message between Muster endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreMessage {
    /// From a clone to the primary: a request for the entries after a key, or from the first if
    /// there is none.
    Fetch {
        /// The clone's instance, which the answer repeats.
        instance: u64,
        /// The last key that the clone has of this snapshot.
        after: Option<Encoded>,
    },
    /// From a clone to the primary: a request for the changes from a number on. A clone also looks
    /// for its primary by this.
    Missing {
        /// The primary's timeline that the number belongs to; 0 for none.
        timeline: u64,
        /// The first change that the clone does not have.
        from: u64,
    },
    /// From a writer to the primary: commands with consecutive numbers.
    Write(WriteBatch),
    /// From anyone to the primary: a question.
    Query {
        /// A number, which the answer repeats.
        request: u64,
        /// What is asked.
        query: Query,
    },
    /// From the primary to a clone: a part of a snapshot.
    Chunk(Chunk),
    /// From the primary to all clones: changes with consecutive numbers.
    Changes(Changes),
    /// From the primary to all clones: it is alive, and this was its last change.
    Alive {
        /// Its timeline.
        timeline: u64,
        /// The number of its last change.
        last: u64,
        /// The epoch in which it is the primary; 0 where coordinators do not decide that.
        epoch: u64,
    },
    /// From the primary to a clone: the changes asked for are no longer kept, or are of another
    /// timeline.
    Gone {
        /// The primary's timeline.
        timeline: u64,
        /// The epoch in which it is the primary.
        epoch: u64,
    },
    /// From the primary to a writer: the outcomes of its commands.
    Results(Results),
    /// From the primary to whoever asked: the answer to a question.
    Reply {
        /// The number of the question.
        request: u64,
        /// The primary's timeline.
        timeline: u64,
        /// The number of its last change.
        last: u64,
        /// The answer.
        reply: Reply,
        /// The epoch in which it is the primary.
        epoch: u64,
    },
    /// From a copy to the primary: it wants to be sent what it does not have.
    Attach(Attach),
    /// From a copy to the primary: what it has.
    Acknowledge(Acknowledgement),
    /// From a new copy to the primary: a request for the writers behind one, or from the first if there is none.
    FetchWriters {
        /// The epoch that the copy knows.
        epoch: u64,
        /// The last one that it has.
        after: Option<Writer>,
    },
    /// From the primary to a copy: where it begins.
    Attached(Attached),
    /// From the primary to a copy: what was decided.
    Replicate(Replicate),
    /// From the primary to a new copy: writers, with their numbers and answers.
    Writers(WritersPart),
    /// From anyone to a copy: it goes by an epoch that is over.
    Fenced {
        /// The epoch that the sender knows.
        epoch: u64,
    },
}

/// Commands of one writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteBatch {
    /// The writer's instance on its endpoint.
    pub instance: u64,
    /// The lowest number whose result the writer waits for. The primary forgets results below it.
    pub first_open: u64,
    /// The number of the first command.
    pub number: u64,
    /// The commands, each with the level that its writer asks for.
    pub ops: Vec<(Op, Level)>,
}

/// A question to a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The entry of a key.
    Get(Encoded),
    /// The number of keys.
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
    /// The clone's instance that asked.
    pub instance: u64,
    /// The primary's timeline.
    pub timeline: u64,
    /// The epoch in which the sender is the primary.
    pub epoch: u64,
    /// The last change that is included.
    pub as_of: u64,
    /// The key after which it begins, as asked for.
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
    /// The epoch in which the sender is the primary; 0 where coordinators do not decide that.
    pub epoch: u64,
    /// Changes with consecutive numbers. None of them includes old values.
    pub changes: Vec<NumberedEdit>,
}

/// The outcomes of a writer's commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    /// The writer's instance.
    pub instance: u64,
    /// The primary's timeline.
    pub timeline: u64,
    /// The epoch in which the sender is the primary.
    pub epoch: u64,
    /// The number that the primary expects next. All below are applied.
    pub next: u64,
    /// All commands up to this number are on disk; 0 if none.
    pub durable: u64,
    /// All commands up to this number and above `durable` could not be put on disk; 0 if none.
    pub failed: u64,
    /// The number of the first answer.
    pub number: u64,
    /// Answers with consecutive numbers.
    pub answers: Vec<Answer>,
}

/// A message that cannot be read. It is lost, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message of a store's protocol")]
pub struct MessageError;
