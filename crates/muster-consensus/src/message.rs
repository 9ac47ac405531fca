//! What voters say to one another.

use crate::entry::{Entry, Snapshot};
use crate::id::{ClusterId, DiskId};

/// A message from one voter to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The group of both.
    pub cluster: ClusterId,
    /// The sender's file.
    pub from: DiskId,
    /// The file that it is meant for.
    pub to: DiskId,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A leader's entries.
    Append {
        /// The leader's term.
        term: u64,
        /// The index before the entries.
        before: u64,
        /// The term of that index.
        before_term: u64,
        /// What the leader knows to be agreed on.
        commit: u64,
        /// The entries, one behind the other, from `before + 1`.
        entries: Vec<Entry>,
    },
    /// An answer to `Append` and `Snapshot`.
    AppendReply {
        /// The sender's term.
        term: u64,
        /// The last entry that the sender has as the leader has it; if rejected, the index before the refused entries.
        index: u64,
        /// What the sender knows to be agreed on.
        commit: u64,
        /// Where to try next, if the entries did not fit.
        rejected: Option<Hint>,
    },
    /// A candidate asks for a vote.
    Vote {
        /// Whether it asks only if it would get one.
        pre: bool,
        /// The term that it wants to lead.
        term: u64,
        /// Its last entry.
        last: u64,
        /// The term of that entry.
        last_term: u64,
        /// What it knows to be agreed on.
        commit: u64,
        /// The term of that entry.
        commit_term: u64,
        /// Whether the leader asked it to.
        handed_on: bool,
    },
    /// A vote.
    VoteReply {
        /// Whether it answers a question before the election.
        pre: bool,
        /// The term of the election; if refused, the sender's.
        term: u64,
        /// Whether the candidate has it.
        granted: bool,
        /// What the sender knows to be agreed on, if refused.
        commit: u64,
        /// The term of that entry.
        commit_term: u64,
    },
    /// A leader is there.
    Heartbeat {
        /// Its term.
        term: u64,
        /// What is agreed on, of what the receiver is known to have.
        commit: u64,
    },
    /// So is a follower.
    HeartbeatReply {
        /// Its term.
        term: u64,
        /// What it knows to be agreed on.
        commit: u64,
    },
    /// A leader's state, where entries do not reach back far enough.
    Snapshot {
        /// Its term.
        term: u64,
        /// The state.
        snapshot: Snapshot,
    },
    /// A leader asks the receiver to lead.
    TakeOver {
        /// The leader's term.
        term: u64,
    },
    /// The receiver of a message has another file than the message was meant for.
    WrongDisk,
}

/// Where a follower's log agrees with its leader's at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// The index.
    pub index: u64,
    /// The term that the follower has there.
    pub term: u64,
}

impl Body {
    /// The term that it speaks of.
    pub fn term(&self) -> Option<u64> {
        match self {
            Self::Append { term, .. }
            | Self::AppendReply { term, .. }
            | Self::Vote { term, .. }
            | Self::VoteReply { term, .. }
            | Self::Heartbeat { term, .. }
            | Self::HeartbeatReply { term, .. }
            | Self::Snapshot { term, .. }
            | Self::TakeOver { term } => Some(*term),
            Self::WrongDisk => None,
        }
    }
}
