//! How far a write has come when its author hears of it.

/// What a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The master has applied it. A crash of the master's process may undo it.
    Applied,
    /// The master has it on disk: not even a crash of its machine undoes it.
    Durable,
}

/// Which change of which of a store's masters made an entry. Revisions of different lives do not compare: after
/// a crash of a master its numbers may have been given out anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The master's life.
    pub life: u64,
    /// The number of the change.
    pub change: u64,
}

impl Revision {
    /// The revision of a key that is absent.
    pub const ABSENT: Self = Self { life: 0, change: 0 };
}
