//! What a voter wants done, and why it refuses.

use bytes::Bytes;

use crate::entry::Entry;
use crate::id::VoterId;
use crate::kept::Batch;
use crate::message::Message;

/// What a voter wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A message goes to a voter. It may be lost.
    Send(VoterId, Message),
    /// A batch is to be written; then `Consensus::persisted` hears the number. [`Batch`] says what has to be synced.
    Persist(u64, Batch),
    /// An entry is agreed on. Each comes once in a life of the voter, in order.
    Apply(Entry),
    /// A state takes the place of what was applied so far.
    Install {
        /// The last entry that is in it.
        index: u64,
        /// The state.
        state: Bytes,
    },
    /// The voter's part is another one.
    Role {
        /// The part.
        role: Role,
        /// The term in which it has it.
        term: u64,
    },
    /// A voter of that name has another file than the group knows: the old one is gone, and to be removed.
    WrongDisk(VoterId),
    /// The voter has stopped. Nothing comes any more.
    Stopped(Fault),
}

/// A voter's part in its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It writes the log.
    Leader,
    /// It asks for votes.
    Candidate,
    /// It votes, and follows a leader if there is one.
    Follower(Option<VoterId>),
    /// It has no vote, yet or any more, and follows a leader if there is one.
    Learner(Option<VoterId>),
}

/// Why something was not done. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The voter has stopped.
    #[error("the voter has stopped")]
    Stopped,
    /// The message is of another group.
    #[error("a message of another cluster")]
    ForeignCluster,
    /// The message is for another file of this voter, and was answered.
    #[error("a message for another disk")]
    WrongDisk,
    /// Two disks have one number, or a disk has two names.
    #[error("a disk that cannot be told from a member's, or under another name")]
    Collision,
    /// A voter that knows nothing gives no votes, and takes no entries without a state before them.
    #[error("this voter has an empty disk")]
    Empty,
    /// The message contradicts the log, or cannot come from where it came from.
    #[error("a message that contradicts the log")]
    Contradiction,
    /// What has to be on disk first is not there yet.
    #[error("something is still being written")]
    Unwritten,
    /// Only a leader can.
    #[error("not the leader")]
    NotLeader,
    /// Nothing, or more than `MAX_DATA` or `MAX_STATE` bytes.
    #[error("empty or too large")]
    Size,
    /// The log is full: what was proposed has to be agreed on, or the log to be compacted, first.
    #[error("the log is full")]
    Full,
    /// Voters change one at a time.
    #[error("another change of voters is under way, or the leader is new")]
    ChangePending,
    /// The learner does not have everything yet.
    #[error("the learner is not caught up")]
    Behind,
    /// The change does not fit the group, or would remove the leader.
    #[error("the change does not fit the group")]
    Unfit,
    /// The entry is not applied, or is compacted already.
    #[error("only what was applied since the last compaction can be compacted")]
    NotApplied,
}

/// Why a voter has stopped. It takes no part any more; a new life begins with what its file holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The leader counts on entries that this voter has said it has, and it has not: its file is older than what it said.
    #[error(
        "this voter has {last} entries and the group counts on {commit}: its file is an old one"
    )]
    Forgotten {
        /// The last entry.
        last: u64,
        /// What the leader counts on.
        commit: u64,
    },
    /// The engine has panicked. The panic was caught.
    #[error("the consensus engine failed: {0}")]
    Engine(String),
}
