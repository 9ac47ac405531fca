//! When an endpoint may announce its changes (protocol version 2, section 6.2).

use std::time::Duration;

use crate::time::Mono;

/// How long an announcement waits for further changes: longer the more there were of late.
const WAITS: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(1),
];

/// The same where somebody waits to be made known: what comes meanwhile shares the flood.
const JOIN_WAITS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(50)];

/// After this silence the first wait applies again.
const QUIET: Duration = Duration::from_secs(5);

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Something to use is gone: others must know soon.
    Loss,
    /// Somebody wants to be made known.
    Join,
    /// Somebody else's records came over a new link, or the subscriptions have changed.
    News,
    /// Something to use is new: it can wait, and perhaps it goes again.
    Gain,
}

/// Collects the changes of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct HoldDown {
    due: Option<Mono>,
    level: usize,
    last: Option<Mono>,
}

impl HoldDown {
    /// Notes a change.
    pub(crate) fn changed(&mut self, change: Change, now: Mono) {
        if self.last.is_none_or(|last| now.since(last) >= QUIET) {
            self.level = 0;
        }
        let wait = match change {
            Change::Loss if self.level == 0 => Duration::ZERO,
            Change::Loss => WAITS[0],
            Change::Join => JOIN_WAITS[self.level.min(1)],
            Change::News => WAITS[self.level.min(1)],
            Change::Gain => WAITS[self.level],
        };
        let due = now.after(wait);
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// When the changes are to be announced.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.due
    }

    /// The changes were looked at; `announced` says whether any were worth announcing.
    pub(crate) fn flushed(&mut self, announced: bool, now: Mono) {
        self.due = None;
        if announced {
            self.level = (self.level + 1).min(WAITS.len() - 1);
            self.last = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_gains_wait_longer_and_losses_do_not() {
        let at = |millis: u64| Mono(millis * 1_000_000);
        let mut hold = HoldDown::default();
        hold.changed(Change::Gain, at(0));
        assert_eq!(hold.due(), Some(at(20)));
        hold.changed(Change::Loss, at(5));
        assert_eq!(hold.due(), Some(at(5)));
        hold.flushed(true, at(5));
        hold.changed(Change::Gain, at(10));
        assert_eq!(hold.due(), Some(at(210)));
        hold.changed(Change::Loss, at(10));
        assert_eq!(hold.due(), Some(at(30)));
        hold.flushed(true, at(30));
        hold.changed(Change::Gain, at(40));
        assert_eq!(hold.due(), Some(at(1040)));
        hold.changed(Change::News, at(50));
        assert_eq!(hold.due(), Some(at(250)));
        hold.flushed(false, at(1040));
        hold.changed(Change::Loss, at(5030));
        assert_eq!(hold.due(), Some(at(5030)));
    }
}
