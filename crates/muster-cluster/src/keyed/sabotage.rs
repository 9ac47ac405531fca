//! Rules of keyed work that a simulation breaks on purpose.

/// A rule of keyed work that is broken on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    not(any(test, feature = "simulation")),
    allow(
        dead_code,
        unreachable_pub,
        reason = "nothing is broken outside of simulations"
    )
)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// An owner acknowledges an event that its standby does not have yet.
    AcknowledgesAlone,
    /// A new owner does not wait until all others have offered what they have.
    ServesAtOnce,
    /// An event that comes again is handled again.
    HandlesAgain,
    /// An owner hands over rows without the numbers of the events that are in them.
    HandsOverRowsAlone,
    /// An owner hands over rows without what their handlers have given away.
    HandsOverNoOutputs,
    /// Outputs leave before the standby knows of them.
    LetsGoAtOnce,
    /// Outputs are numbered anew by whoever sends them.
    NumbersOutputsAnew,
    /// A member that is not the owner any more offers nothing.
    KeepsForItself,
    /// The standby of an owner that is out offers nothing.
    StandbyKeepsForItself,
    /// A member keeps what others own by now, and what they have removed since.
    KeepsStaleCopies,
    /// An owner takes what comes although something before it is missing.
    TakesWithGaps,
    /// A standby takes what an owner says that is not in any more.
    TakesFromFormer,
    /// What is empty is forgotten although somebody may come back who has something older.
    ForgetsTooEarly,
    /// A member goes on although its lease is over.
    GoesOnWithoutLease,
    /// A member handles what it has taken although its lease is over, or another one owns it by now.
    HandlesWhatItHasTaken,
    /// A member takes what is there for all that is known, although both who had the rest are out.
    DoesNotWait,
    /// What has seen more owners wins, whenever the last of them began.
    CountsTermsAlone,
    /// What is oldest wins when several members offer something.
    TakesOldest,
}
