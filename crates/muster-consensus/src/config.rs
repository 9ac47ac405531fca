//! How a voter is set.

use std::collections::BTreeSet;
use std::time::Duration;

/// How a voter is set. Everything but the rank is the same at all voters.
#[derive(Debug, Clone)]
pub struct Config {
    /// The grain of time.
    pub tick: Duration,
    /// After how many ticks a leader says that it is there.
    pub heartbeat_ticks: u32,
    /// For how many ticks nobody votes against a leader that it has heard. A leader that has not heard a majority for as long steps down.
    pub election_ticks: u32,
    /// The place of this voter among all, from 0: a lower one campaigns first.
    pub rank: u32,
    /// The names of voters that had better not lead: they wait longer, and hand leadership on.
    pub witnesses: BTreeSet<String>,
}

impl Default for Config {
    /// Ticks of 100 ms, heartbeats of 200 ms, elections after 0.6 s.
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(100),
            heartbeat_ticks: 2,
            election_ticks: 6,
            rank: 0,
            witnesses: BTreeSet::new(),
        }
    }
}

impl Config {
    /// Returns `true` if a voter can run with it.
    pub(crate) fn is_possible(&self) -> bool {
        !self.tick.is_zero()
            && self.heartbeat_ticks > 0
            && self.election_ticks > self.heartbeat_ticks
            && self.election_ticks <= 1000
    }
}
