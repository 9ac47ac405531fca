//! The time that TTLs are measured by: the wall's, without its jumps.

use std::time::Duration;

use muster_data::{Timespan, Timestamp};
use muster_wire::Mono;

/// A difference between the wall's clock and the monotonic one that is a jump. Smaller ones are corrections, which are followed.
const JUMP: Duration = Duration::from_secs(1);

/// A wall clock that does not jump. When somebody sets the machine's clock, the time that entries have left stays what it was:
/// from then on this clock differs from the wall's.
#[derive(Debug, Clone, Copy)]
pub struct SteadyClock {
    /// What was read last, and when.
    last: Timestamp,
    read_at: Mono,
    /// How far the wall's clock has jumped ahead so far.
    ahead: Timespan,
}

impl SteadyClock {
    /// Returns a clock that agrees with the wall's now.
    pub fn new(mono: Mono, wall: Timestamp) -> Self {
        Self {
            last: wall,
            read_at: mono,
            ahead: Timespan::from_nanos(0),
        }
    }

    /// Returns the time when the monotonic clock and the wall's show these. The monotonic clock never goes back.
    pub fn read(&mut self, mono: Mono, wall: Timestamp) -> Timestamp {
        let expected = self.last + Timespan::from(mono.since(self.read_at));
        let steady = wall - self.ahead;
        let difference = (steady - expected).as_nanos().unsigned_abs();
        if Duration::from_nanos(difference) > JUMP {
            self.ahead = wall - expected;
            self.last = expected;
        } else {
            self.last = steady;
        }
        self.read_at = mono;
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn mono(seconds: u64) -> Mono {
        Mono::default().after(Duration::from_secs(seconds))
    }

    #[test]
    fn jumps_do_not_matter_and_corrections_do() {
        let mut clock = SteadyClock::new(mono(0), at(1000));
        assert_eq!(clock.read(mono(10), at(1010)), at(1010));
        // Somebody sets the clock a day ahead, and back again further than it was.
        assert_eq!(clock.read(mono(11), at(87_411)), at(1011));
        assert_eq!(clock.read(mono(20), at(87_420)), at(1020));
        assert_eq!(clock.read(mono(21), at(21)), at(1021));
        // A clock that is a little fast or slow is followed.
        let slow = at(30) + Timespan::from(Duration::from_millis(400));
        assert_eq!(
            clock.read(mono(30), slow),
            at(1030) + Timespan::from(Duration::from_millis(400))
        );
    }
}
