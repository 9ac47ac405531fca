//! Rules that a simulation breaks on purpose, to see that it notices.

/// A rule to break on purpose.
#[cfg_attr(
    not(any(test, feature = "simulation")),
    expect(unreachable_pub, reason = "only a simulation breaks rules")
)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// No rule is broken.
    #[default]
    Nothing,
    /// A voter gives every candidate of a term its vote.
    VotesTwice,
    /// A leader counts voters that have not answered.
    CountsUnanswered,
    /// What presupposes something on disk leaves at once.
    ReleasesAtOnce,
    /// An emptied voter comes back under the old identity, and votes.
    KeepsWipedDisk,
    /// A candidate keeps the leader that it has lost, and refuses other candidates for it.
    KeepsLeader,
}
