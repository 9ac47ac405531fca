//! What a group agrees on, and what a voter keeps of it.

use bytes::Bytes;

use crate::id::{Members, VoterChange};

/// The most bytes that may be proposed as one entry.
pub const MAX_DATA: usize = 64 * 1024;

/// The most bytes of a state that entries are compacted to.
pub const MAX_STATE: usize = 8 * 1024 * 1024;

/// No term and no index is larger, so that counting on never overflows.
pub const MAX_NUMBER: u64 = 1 << 56;

/// What is in an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing: a leader's first entry, or a change of voters that did not fit.
    Nothing,
    /// What somebody has proposed: 1 to [`MAX_DATA`] bytes.
    Data(Bytes),
    /// A change of voters.
    Change(VoterChange),
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place, counted from 1.
    pub index: u64,
    /// The term of the leader that has written it.
    pub term: u64,
    /// What it says.
    pub content: Content,
}

impl Entry {
    /// What it counts for in memory.
    pub(crate) fn weight(&self) -> usize {
        let content = match &self.content {
            Content::Nothing => 0,
            Content::Data(data) => data.len(),
            Content::Change(_) => 300,
        };
        content + 32
    }
}

/// A state that stands for all entries up to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry that is in the state.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// The group after that entry.
    pub members: Members,
    /// The state, at most [`MAX_STATE`] bytes. Whoever applies entries knows what it says.
    pub state: Bytes,
}

/// What a voter has promised: it takes part in no earlier term, and gives no second vote in this one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// The newest term that it has heard of.
    pub term: u64,
    /// The number of whom it has voted for in that term, or 0.
    pub vote: u64,
    /// The last entry that it knows to be agreed on. It may be behind.
    pub commit: u64,
}
