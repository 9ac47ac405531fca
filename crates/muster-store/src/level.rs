//! How far a write has got when its author is told.

/// What a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The primary has applied it. A crash of the primary's process may undo it.
    Applied,
    /// The primary has it on disk: not even a crash of its machine undoes it.
    Durable,
}

/// The primary and the change that made an entry. Revisions of different timelines cannot be
/// compared: after a crash, a primary may have given out the same numbers anew.
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
