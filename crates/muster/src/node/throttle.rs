//! Lines of a log that somebody else can cause: told a few times, then counted.

use std::time::{Duration, Instant};

/// Lines that are told in one [`SPAN`].
const TOLD: u32 = 20;
const SPAN: Duration = Duration::from_secs(10);

/// Lets a bounded number of lines through.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Throttle {
    /// Tells a line with `tell`, unless there are too many; before the first of a new span it tells how
    /// many were not told.
    pub(crate) fn tell(&mut self, now: Instant, tell: impl FnOnce()) {
        if self
            .since
            .is_none_or(|since| now.duration_since(since) >= SPAN)
        {
            if self.untold > 0 {
                tracing::warn!("{} more lines of this kind were not logged", self.untold);
            }
            *self = Self {
                since: Some(now),
                ..Self::default()
            };
        }
        if self.told < TOLD {
            self.told += 1;
            tell();
        } else {
            self.untold += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_and_a_trickle_is_not() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        let mut told = 0;
        for _ in 0..1000 {
            throttle.tell(start, || told += 1);
        }
        assert_eq!((told, throttle.untold), (20, 980));
        for number in 1..100 {
            throttle.tell(start + SPAN * number, || told += 1);
        }
        assert_eq!((told, throttle.untold), (119, 0));
    }
}
