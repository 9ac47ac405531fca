//! When an endpoint may announce its changes (protocol version 2, section 6.2).

use std::time::Duration;

use crate::time::Mono;

/// How long an announcement waits for further changes: longer the more there were of late.
const WAITS: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(1),
];

/// The waits while an endpoint asks to be made known: what comes in the meantime shares the flood.
const JOIN_WAITS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(50)];

/// What each relay of a mesh takes, when many have much to announce, of the time of those who hear it:
/// nobody hears more than 250 announcements a second, however many relays there are.
const SHARE: Duration = Duration::from_millis(4);

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
    /// Somebody has records of ours that are not: repeated ones wait longer, as whoever forges them decides how many
    /// there are.
    Contradiction,
}

/// Collects the changes of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct HoldDown {
    due: Option<Mono>,
    level: usize,
    last: Option<Mono>,
    /// What changes wait at least that are not the first for a while.
    pace: Duration,
}

impl HoldDown {
    /// Notes how many relays there are: all of them may have something to announce at the same time.
    pub(crate) fn share_with(&mut self, relays: usize) {
        let relays = u32::try_from(relays).unwrap_or(u32::MAX);
        self.pace = SHARE.saturating_mul(relays).min(WAITS[2]);
    }

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
            Change::Contradiction => WAITS[self.level],
        };
        let is_paced = self.level > 0 && change != Change::Loss;
        let due = now.after(if is_paced { wait.max(self.pace) } else { wait });
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
    fn the_more_relays_there_are_the_longer_each_waits() {
        let mut hold = HoldDown::default();
        hold.share_with(100);
        hold.changed(Change::Join, Mono(0));
        assert_eq!(hold.due(), Some(Mono(20_000_000)));
        hold.flushed(true, Mono(0));
        hold.changed(Change::Join, Mono(0));
        assert_eq!(hold.due(), Some(Mono(400_000_000)));
        hold.changed(Change::Loss, Mono(0));
        assert_eq!(hold.due(), Some(Mono(20_000_000)));
        hold.flushed(true, Mono(0));
        hold.share_with(usize::MAX);
        hold.changed(Change::News, Mono(0));
        assert_eq!(hold.due(), Some(Mono(1_000_000_000)));
    }

    #[test]
    fn repeated_contradictions_wait_longer_and_losses_do_not() {
        let at = |millis: u64| Mono(millis * 1_000_000);
        let mut hold = HoldDown::default();
        hold.changed(Change::Contradiction, at(0));
        assert_eq!(hold.due(), Some(at(20)));
        hold.changed(Change::Loss, at(5));
        assert_eq!(hold.due(), Some(at(5)));
        hold.flushed(true, at(5));
        hold.changed(Change::Contradiction, at(10));
        assert_eq!(hold.due(), Some(at(210)));
        hold.changed(Change::Loss, at(10));
        assert_eq!(hold.due(), Some(at(30)));
        hold.flushed(true, at(30));
        hold.changed(Change::Contradiction, at(40));
        assert_eq!(hold.due(), Some(at(1040)));
        hold.changed(Change::News, at(50));
        assert_eq!(hold.due(), Some(at(250)));
        hold.flushed(false, at(1040));
        hold.changed(Change::Loss, at(5030));
        assert_eq!(hold.due(), Some(at(5030)));
    }
}
