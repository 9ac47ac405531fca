//! How far a write has come when its author hears of it.

/// What a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The primary has applied it. A crash of the primary's process may undo it.
    Applied,
    /// The primary has it on disk: not even a crash of its machine undoes it.
    Durable,
}

/// Which change of which of a store's primaries made an entry. Revisions of different timelines do not compare: after
/// a crash of a primary its numbers may have been given out anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The primary's timeline.
    pub timeline: u64,
    /// The number of the change.
    pub change: u64,
}

impl Revision {
    /// The revision of a key that is absent.
    pub const ABSENT: Self = Self {
        timeline: 0,
        change: 0,
    };
}
