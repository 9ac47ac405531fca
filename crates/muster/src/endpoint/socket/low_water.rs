//! How many bytes may wait in the system unsent: about what a link carries in a millisecond. With fewer a fast link waits
//! for its writer, with more what is urgent waits on a slow one.

use std::time::{Duration, Instant};

/// The lowest mark, which is that of a new connection.
pub(super) const LOWEST: u32 = 128 << 10;

/// The highest mark.
const HIGHEST: u32 = 4 << 20;

/// A mark is what a link carries in this time.
const DELAY: Duration = Duration::from_millis(1);

/// The bytes between two looks at the clock.
const STEP: usize = 64 << 10;

/// A rate is that of so many marks, of which all but one have left the system's buffer, ...
const MARKS: usize = 16;

/// ... or of what is written in this time, so that a link that has become slow is noticed.
const LONGEST: Duration = Duration::from_millis(20);

/// Decides on the mark of a connection by what is written.
#[derive(Debug)]
pub(super) struct LowWater {
    mark: u32,
    /// The bytes since the last look at the clock.
    unseen: usize,
    /// When the rate began to be measured, and the bytes since then.
    since: Option<(Instant, usize)>,
}

impl LowWater {
    pub(super) fn new() -> Self {
        Self {
            mark: LOWEST,
            unseen: 0,
            since: None,
        }
    }

    /// The bytes that may wait at most.
    #[cfg(test)]
    pub(super) fn mark(&self) -> u32 {
        self.mark
    }

    /// Notes that the system has taken bytes. Returns the mark if it is to be another from now on.
    pub(super) fn wrote(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> Option<u32> {
        self.unseen += bytes;
        if self.unseen < STEP {
            return None;
        }
        let (now, unseen) = (now(), std::mem::take(&mut self.unseen));
        let Some((begin, bytes)) = &mut self.since else {
            self.since = Some((now, 0));
            return None;
        };
        *bytes += unseen;
        let elapsed = now.saturating_duration_since(*begin);
        let is_measured = *bytes >= MARKS * self.mark as usize && elapsed >= DELAY;
        if !is_measured && elapsed < LONGEST {
            return None;
        }
        let mark = carried(*bytes, elapsed).clamp(LOWEST, HIGHEST);
        self.since = Some((now, 0));
        // Each change is a call of the system.
        if mark < self.mark.saturating_mul(2) && mark > self.mark / 2 {
            return None;
        }
        self.mark = mark;
        Some(mark)
    }
}

/// What a link carries in [`DELAY`] that has carried so many bytes in a time that is not zero.
fn carried(bytes: usize, elapsed: Duration) -> u32 {
    let carried = bytes as u128 * DELAY.as_nanos() / elapsed.as_nanos().max(1);
    u32::try_from(carried).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
