//! Rules of feeds that a simulation breaks on purpose.

/// A rule of feeds that is broken on purpose, to see that it is noticed.
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
    /// A follower takes a part that does not begin where it is.
    TakesGaps,
    /// A follower keeps what the new list does not have.
    SweepsNothing,
    /// A follower drops everything before it takes a new list.
    EmptiesFirst,
    /// A follower goes on in a new life of the source where it was in the former one.
    MixesLives,
    /// A follower goes on although removals that it may have missed are forgotten.
    ForgetsRemovals,
    /// A source sends on without waiting for its followers.
    SendsWithoutEnd,
}
