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

/// The wait when all have what was announced last, and have said so: somebody waits for one endpoint after another.
const NEXT_JOIN: Duration = Duration::from_millis(5);

/// What each relay of a mesh takes, when many have much to announce, of the time of those who hear it:
/// nobody hears more than 250 announcements a second, however many relays there are.
const SHARE: Duration = Duration::from_millis(4);

/// The announcements that may be heard in a short time before requests to join wait for their sake.
const BURST: u32 = 16;

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
    /// Until when those who hear them are busy with the announcements so far, at a [`SHARE`] each.
    busy_until: Mono,
    announcements: u64,
    /// Up to which of them all others have them, as they say themselves.
    acknowledged: u64,
}

impl HoldDown {
    /// Notes how many relays there are: all of them may have something to announce at the same time.
    pub(crate) fn share_with(&mut self, relays: usize) {
        let relays = u32::try_from(relays).unwrap_or(u32::MAX);
        self.pace = SHARE.saturating_mul(relays).min(WAITS[2]);
    }

    /// Notes that an announcement has gone round: one of ours, or one that came by.
    pub(crate) fn heard(&mut self, now: Mono) {
        let most = now.after(SHARE * BURST + WAITS[2]);
        self.busy_until = self.busy_until.max(now).after(SHARE).min(most);
    }

    /// What a request to join waits at least for the sake of those who hear of it: nothing while announcements are few,
    /// and never more than if all relays had something to say.
    fn join_pace(&self, now: Mono) -> Duration {
        let busy = self.busy_until.since(now);
        busy.saturating_sub(SHARE * BURST).min(self.pace)
    }

    /// The number of the last announcement.
    pub(crate) fn announcement(&self) -> u64 {
        self.announcements
    }

    /// Notes that all others have an announcement, and so all before.
    pub(crate) fn acknowledged(&mut self, announcement: u64) {
        self.acknowledged = self.acknowledged.max(announcement);
    }

    /// What requests to join wait. While an announcement is under way the next must not follow closely: it may take
    /// another way and come before it.
    fn join_wait(&self, now: Mono) -> Duration {
        match self.level {
            0 => JOIN_WAITS[0],
            _ if self.acknowledged == self.announcements => NEXT_JOIN.max(self.join_pace(now)),
            _ => JOIN_WAITS[1].max(self.pace),
        }
    }

    /// Notes a change.
    pub(crate) fn changed(&mut self, change: Change, now: Mono) {
        if self.last.is_none_or(|last| now.since(last) >= QUIET) {
            self.level = 0;
        }
        let wait = match change {
            Change::Loss if self.level == 0 => Duration::ZERO,
            Change::Loss => WAITS[0],
            Change::Join => self.join_wait(now),
            Change::News => WAITS[self.level.min(1)],
            Change::Contradiction => WAITS[self.level],
        };
        let is_paced = self.level > 0 && !matches!(change, Change::Loss | Change::Join);
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
            self.announcements += 1;
            self.heard(now);
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
        hold.changed(Change::News, Mono(0));
        assert_eq!(hold.due(), Some(Mono(20_000_000)));
        hold.flushed(true, Mono(0));
        hold.changed(Change::News, Mono(0));
        assert_eq!(hold.due(), Some(Mono(400_000_000)));
        hold.changed(Change::Loss, Mono(0));
        assert_eq!(hold.due(), Some(Mono(20_000_000)));
        hold.flushed(true, Mono(0));
        hold.share_with(usize::MAX);
        hold.changed(Change::News, Mono(0));
        assert_eq!(hold.due(), Some(Mono(1_000_000_000)));
    }

    #[test]
    fn requests_to_join_wait_the_longer_the_more_is_announced() {
        let at = |millis: u64| Mono(millis * 1_000_000);
        let mut hold = HoldDown::default();
        hold.share_with(100);
        hold.changed(Change::Join, at(0));
        assert_eq!(hold.due(), Some(at(20)));
        // One at a time, each with what it has others announce.
        let mut now = 20;
        for _ in 0..50 {
            hold.flushed(true, at(now));
            hold.heard(at(now));
            hold.heard(at(now));
            hold.acknowledged(hold.announcement());
            hold.changed(Change::Join, at(now));
            let due = hold.due().unwrap().0 / 1_000_000;
            assert!(due - now <= 5 + 12, "{}", due - now);
            now = due;
        }
        // Nobody hears more than 250 a second in the long run.
        assert!(now > 3 * 50 * 4 - 100);
        // All relays have something to say.
        for _ in 0..500 {
            hold.heard(at(now));
        }
        hold.flushed(true, at(now));
        hold.acknowledged(hold.announcement());
        hold.changed(Change::Join, at(now));
        assert_eq!(hold.due(), Some(at(now + 400)));
        // Half of it is over after half of the time, and all of it some time later.
        hold.flushed(false, at(now + 800));
        hold.changed(Change::Join, at(now + 800));
        assert_eq!(hold.due(), Some(at(now + 1000)));
        hold.flushed(false, at(now + 1500));
        hold.changed(Change::Join, at(now + 1500));
        assert_eq!(hold.due(), Some(at(now + 1505)));
    }

    /// What follows closely may come before what is still under way.
    #[test]
    fn requests_to_join_wait_for_what_is_under_way() {
        let at = |millis: u64| Mono(millis * 1_000_000);
        let mut hold = HoldDown::default();
        hold.share_with(1);
        hold.flushed(true, at(0));
        hold.acknowledged(hold.announcement());
        hold.flushed(true, at(10));
        hold.changed(Change::Join, at(10));
        assert_eq!(hold.due(), Some(at(60)));
        hold.acknowledged(hold.announcement());
        hold.changed(Change::Join, at(20));
        assert_eq!(hold.due(), Some(at(25)));
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
