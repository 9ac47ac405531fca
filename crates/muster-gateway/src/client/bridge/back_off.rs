//! How long a bridge waits before it connects again.

use std::time::Duration;

/// The wait before the first and the last repetition of a connection that failed; it doubles between.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A connection that lasted so long was a good one: the wait behind it is the first again.
const STEADY: Duration = Duration::from_secs(30);

/// The wait before a connection is tried again.
pub(super) struct BackOff(Duration);

impl Default for BackOff {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl BackOff {
    /// The wait behind a connection that lasted for a time: twice as long as before, unless the
    /// connection was a good one. A server that ends each one at once is no better than one that is away.
    pub(super) fn next(&mut self, lasted: Duration) -> Duration {
        if lasted >= STEADY {
            self.0 = FIRST_WAIT;
        }
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST_WAIT);
        wait
    }
}

/// Three quarters to five quarters of a time, so that many bridges do not come at once.
pub(super) fn with_jitter(wait: Duration) -> Duration {
    let random = muster::random_id().map_or(128, |id| u32::from(id.as_bytes()[15]));
    wait * (192 + random / 2) / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_good_connection_makes_the_wait_short_again() {
        let mut back_off = BackOff::default();
        let short = Duration::from_secs(1);
        let waits: Vec<_> = (0..3).map(|_| back_off.next(short)).collect();
        assert_eq!(waits, [FIRST_WAIT, FIRST_WAIT * 2, FIRST_WAIT * 4]);
        assert_eq!(back_off.next(STEADY), FIRST_WAIT);
        for _ in 0..10 {
            back_off.next(short);
        }
        assert_eq!(back_off.next(short), LONGEST_WAIT);
    }
}
