//! Rules that a simulation breaks on purpose, to see that it would notice.

/// A rule that is broken.
#[cfg_attr(
    not(any(test, feature = "simulation")),
    expect(unreachable_pub, dead_code, reason = "only a simulation breaks rules")
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sabotage {
    /// None.
    #[default]
    Nothing,
    /// A new leader counts silence from before its term: others may have heard the node meanwhile.
    CountsOldSilence,
    /// A leader gives a node up before its lease is over.
    IsImpatient,
    /// A view is told when it is proposed, not when it is agreed on.
    TellsProposals,
    /// Most voters are enough to found a group.
    FoundsWithMost,
    /// A leader grants a lease to a session that is over.
    GrantsOldSessions,
    /// A leader grants a lease alone without having found out that it still leads.
    GrantsWithoutRound,
    /// The last copy of a store that is in sync leaves when it is out.
    LetsLastCopyLeave,
    /// A copy is in sync by a primary's word of an earlier epoch.
    TakesStaleJoined,
    /// A candidate becomes primary that is not in sync.
    PromotesCandidates,
    /// A copy is out of sync by anybody's word.
    LetsAnybodyShrink,
    /// What was heard of nodes is remembered for ever.
    ForgetsNobody,
}
