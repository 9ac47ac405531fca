//! Rules of copies that a simulation breaks on purpose.

/// A rule of copies that is broken on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// What is decided is made at once.
    CommitsAlone,
    /// A copy tells a former primary that it has what that one sends.
    AcknowledgesFormer,
    /// A new copy does not count until the coordinators say so.
    CountsNewcomersLate,
    /// A new copy begins without knowing the writers.
    ForgetsWriters,
    /// A question is answered at once.
    AnswersAtOnce,
    /// A copy makes what it is sent at once.
    MakesAtOnce,
    /// A copy that becomes the primary forgets what is not committed.
    DropsOpen,
}
