//! When a connection's buffer is given back: one that has grown for a burst must not stay for an idle
//! connection, of which an endpoint may have hundreds.

use std::time::{Duration, Instant};

/// Buffers up to this size stay.
const SMALL: usize = 16 << 10;

/// A buffer is too large for what is less than this part of it, as a divisor.
const UNUSED: usize = 8;

/// After so many uses of which none needed it, a large buffer goes, and after so much time: an idle link has no other uses
/// than heartbeats.
const USES: u8 = 32;
const IDLE: Duration = Duration::from_secs(1);

/// Watches the uses of a buffer.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    uses: u8,
    /// The largest of them.
    most: usize,
    /// When the first of them was.
    since: Option<Instant>,
}

impl Spare {
    /// Notes that so many bytes of a buffer were used. If it is too large by now: how large it is to be,
    /// which is twice what was used of late, so that a steady flow does not make it grow again.
    pub(crate) fn shrinks_to(&mut self, used: usize, capacity: usize) -> Option<usize> {
        if capacity <= SMALL || used >= capacity / UNUSED {
            *self = Self::default();
            return None;
        }
        self.uses += 1;
        self.most = self.most.max(used);
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.uses < USES && since.elapsed() < IDLE {
            return None;
        }
        Some(2 * std::mem::take(self).most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_goes_when_it_was_not_needed_for_a_while() {
        let mut spare = Spare::default();
        let large = 256 << 10;
        for used in [100, 40_000, 100] {
            for _ in 1..USES {
                assert_eq!(spare.shrinks_to(used, large), None);
            }
        }
        assert_eq!(spare.shrinks_to(300, large), Some(600));
        assert!(!(0..100).any(|_| spare.shrinks_to(0, SMALL).is_some()));
    }
}
