//! Timing of short operations.

use std::time::{Duration, Instant};

use crate::allocations;

/// Length of one round.
const ROUND: Duration = Duration::from_millis(20);
/// Rounds, of which the fastest counts: whatever else the machine does only makes one slower.
const ROUNDS: u32 = 15;

/// What one call of an operation costs.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// Nanoseconds.
    pub nanos: f64,
    /// Allocations.
    pub allocations: f64,
}

/// Measures an operation over many calls.
#[allow(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]
pub fn measure(mut operation: impl FnMut()) -> Measurement {
    let mut calls = 1_u32;
    loop {
        let start = Instant::now();
        (0..calls).for_each(|_| operation());
        if start.elapsed() >= ROUND {
            break;
        }
        calls *= 2;
    }
    let before = allocations();
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        (0..calls).for_each(|_| operation());
        fastest = fastest.min(start.elapsed());
    }
    Measurement {
        nanos: fastest.as_nanos() as f64 / f64::from(calls),
        allocations: (allocations() - before) as f64 / (f64::from(calls) * f64::from(ROUNDS)),
    }
}
