//! How far a write has come when its author hears of it.

/// What a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The master has applied it. A crash of the master's process may undo it.
    Applied,
    /// The master has it on disk: not even a crash of its machine undoes it.
    Durable,
}
