//! Rules of requests that a simulation breaks on purpose.

/// A rule of requests that is broken on purpose, to see that it is noticed.
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
    /// A question that arrives again is handled again.
    HandlesAgain,
    /// A question that is sent again has a new number.
    NumbersAnew,
    /// A node that is out is not named as missing.
    ForgetsMissing,
    /// A node that is out is waited for.
    WaitsForGone,
    /// What a node said that is no longer asked counts, whichever question is open now.
    TakesAnyAnswer,
}
