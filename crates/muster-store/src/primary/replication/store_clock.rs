//! The clock that a store goes by when boxes' clocks differ.

use muster_data::{Timespan, Timestamp};

use crate::Now;

/// Up to here clocks are taken for the same.
const APART: Timespan = Timespan::from_secs(1);

/// TTLs end by the clock of the primary. When another copy takes its place whose clock is an hour ahead, everything that lives for less would
/// end at once. So the store's time goes on as it was: a copy knows how far its own clock is behind that of the primary.
#[derive(Debug, Default)]
pub(super) struct StoreClock {
    /// What is added to the own clock.
    ahead: Timespan,
    /// By how much the primary of this epoch was ahead at most. What it says takes its time to come, so it is no less.
    heard: Option<Timespan>,
    is_told: bool,
}

impl StoreClock {
    /// The store's time.
    pub(super) fn now(&self, now: Now) -> Now {
        let wall = now.wall + self.ahead;
        Now { wall, ..now }
    }

    /// There may be another primary.
    pub(super) fn forget_primary(&mut self) {
        self.heard = None;
    }

    /// A history begins with what is on disk, by the clock here.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    /// The primary has told the store's time. Returns how far it is from the time here, once, if that is far.
    pub(super) fn hears(&mut self, at: Timestamp, now: Now) -> Option<Timespan> {
        let nanos = at.as_nanos().saturating_sub(now.wall.as_nanos());
        let ahead = Timespan::from_nanos(nanos);
        let ahead = self.heard.map_or(ahead, |heard| heard.max(ahead));
        self.heard = Some(ahead);
        let is_far = ahead > APART || ahead < Timespan::from_nanos(-APART.as_nanos());
        self.ahead = if is_far {
            ahead
        } else {
            Timespan::from_nanos(0)
        };
        let is_news = is_far && !std::mem::replace(&mut self.is_told, is_far);
        is_news.then_some(ahead)
    }
}
