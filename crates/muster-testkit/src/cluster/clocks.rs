//! The clocks of boxes, and the true time.

use std::time::Duration;

use muster_cluster::node::Now;
use muster_data::Timestamp;
use muster_wire::Mono;

use super::Cluster;

/// The wall clock's time when a simulation begins: 2026-01-01.
const BEGIN: Timestamp = Timestamp::from_secs(1_767_225_600);

/// The rate of a clock that is right, in millionths.
const RIGHT: u64 = 1_000_000;

/// The clocks of one box.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// What the monotonic clock shows at the beginning.
    offset: u64,
    /// How much it shows more for a second that passes, in millionths of a second.
    rate: u64,
    /// By how much the wall's clock is ahead.
    ahead: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            offset: 0,
            rate: RIGHT,
            ahead: 0,
        }
    }
}

fn scaled(nanos: u64, by: u64, of: u64) -> u64 {
    let scaled = u128::from(nanos) * u128::from(by) / u128::from(of);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

impl Clock {
    fn mono(&self, now: u64) -> Mono {
        Mono(self.offset + scaled(now, self.rate, RIGHT))
    }

    fn true_time(&self, at: Mono) -> u64 {
        let passed = at.0.saturating_sub(self.offset);
        if self.rate == RIGHT {
            return passed;
        }
        // Not a moment too early.
        scaled(passed, RIGHT, self.rate).saturating_add(2)
    }
}

impl Cluster {
    /// Sets how a box's monotonic clock runs: it begins at `offset`, and for a million microseconds that pass it counts `rate` microseconds.
    /// By default all clocks begin at 0 and are right. Coordinators allow for clocks that differ by a tenth.
    #[must_use]
    pub fn clock_of_box(mut self, of_box: &str, offset: Duration, rate: u64) -> Self {
        assert!(!self.started, "clocks are set before the start");
        let of_box = self.box_position(of_box);
        let clock = &mut self.boxes.all[of_box].clock;
        (clock.offset, clock.rate) = (crate::nanos(offset), rate);
        self
    }

    /// Sets by how many seconds a box's wall clock is ahead of the true time from now on, as when somebody sets it; behind if it is less
    /// than 0.
    pub fn set_wall_clock(&mut self, of_box: &str, ahead: i64) {
        let of_box = self.box_position(of_box);
        self.boxes.all[of_box].clock.ahead = ahead.saturating_mul(1_000_000_000);
    }

    fn clock_of(&self, position: usize) -> Clock {
        let of_box = self.nodes[position].of_box;
        of_box.map_or_else(Clock::default, |of_box| self.boxes.all[of_box].clock)
    }

    /// The time as a process sees it.
    pub(super) fn clock(&self, position: usize) -> Now {
        let clock = self.clock_of(position);
        let wall = i64::try_from(self.now).expect("a simulation is short");
        Now {
            mono: clock.mono(self.now),
            wall: Timestamp::from_nanos(BEGIN.as_nanos() + wall + clock.ahead),
        }
    }

    /// When a process's monotonic clock will show a time.
    pub(super) fn true_time(&self, position: usize, at: Mono) -> u64 {
        self.clock_of(position).true_time(at)
    }
}
