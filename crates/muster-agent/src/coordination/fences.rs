//! When an agent leads nothing through those who are out.

use muster_cluster::coordination::LEASE;
use muster_wire::Mono;

/// Whether an agent fences those who are out. It does as long as it reaches most coordinators: without them it may have missed that
/// somebody is in again, through whom its only way to them leads.
#[derive(Debug, Default)]
pub(super) struct Fences {
    hold: bool,
    /// Since when it is to be otherwise.
    since: Option<Mono>,
}

impl Fences {
    /// Returns `true` if those who are out are fenced.
    pub(super) fn hold(&self) -> bool {
        self.hold
    }

    /// Looks at whether most coordinators are in reach. Returns `true` if those who are out are to be fenced from now on, or are not any
    /// more.
    pub(super) fn look(&mut self, reaches_most: bool, now: Mono) -> bool {
        if reaches_most == self.hold {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        // What is out of reach for a moment is no reason; and who is in it has asked meanwhile.
        if now.since(since) < LEASE {
            return false;
        }
        self.hold = reaches_most;
        self.since = None;
        true
    }

    /// Returns `true` if most coordinators are in reach again, and those who are out are not fenced yet.
    pub(super) fn waits(&self) -> bool {
        !self.hold && self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(millis * 1_000_000)
    }

    #[test]
    fn fences_hold_as_long_as_most_coordinators_are_in_reach() {
        let mut fences = Fences::default();
        assert!(!fences.look(true, at(0)) && fences.waits());
        assert!(!fences.look(true, at(1999)) && !fences.hold());
        assert!(fences.look(true, at(2000)) && fences.hold());
        // A moment is no reason.
        assert!(!fences.look(false, at(3000)));
        assert!(!fences.look(true, at(4000)));
        assert!(!fences.look(false, at(5000)));
        assert!(!fences.look(false, at(6999)) && fences.hold());
        assert!(fences.look(false, at(7000)) && !fences.hold());
        assert!(!fences.waits() && !fences.look(false, at(9000)));
        // What it had missed it hears before it fences anybody again.
        assert!(!fences.look(true, at(9500)) && fences.waits());
        assert!(!fences.look(true, at(10_000)) && !fences.hold());
    }
}
