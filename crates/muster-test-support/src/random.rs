//! Random numbers from a seed.

use std::ops::RangeInclusive;
use std::time::Duration;

/// SplitMix64: a small generator whose numbers are the same on every machine and in every version.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Creates the generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    #[expect(clippy::should_implement_trait, reason = "there is no end to them")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, or 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    /// Returns a number below `end`.
    ///
    /// # Panics
    /// Panics if `end` is 0.
    pub fn number(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Returns `true` in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.number(100) < percent
    }

    /// Returns `true` once in `times` cases.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Returns 16 bytes, as for the id of an endpoint.
    pub fn bytes(&mut self) -> [u8; 16] {
        let bytes = (u128::from(self.next()) << 64) | u128::from(self.next());
        bytes.to_be_bytes()
    }

    /// Returns a number of nanoseconds within a range, both ends included.
    pub fn nanos(&mut self, range: &RangeInclusive<Duration>) -> u64 {
        let nanos = |duration: &Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let (low, high) = (nanos(range.start()), nanos(range.end()));
        low + self.next() % high.saturating_sub(low).saturating_add(1).max(1)
    }
}
