//! A node's lease: for how long it may act on what it was told, without hearing anything new.
//!
//! A node renews at every voter. A renewal counts when the leader grants it and most voters, the leader among them, have seen it
//! in one and the same term. The lease runs from the time at which the renewal was *sent*, so it is over before the coordinators,
//! who count from when they heard it, give the node up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use muster_wire::Mono;

use super::messages::LeaseAnswer;
use super::view::View;

/// How often a node renews.
pub const RENEW_EVERY: Duration = Duration::from_millis(500);

/// How long a lease runs.
pub const LEASE: Duration = Duration::from_secs(2);

/// When coordinators give a node up that they do not hear: its lease is over, though clocks differ by a tenth.
pub const SILENCE: Duration = Duration::from_millis(2800);

/// From when on a node that was not run takes itself for stopped.
pub const STOPPED: Duration = Duration::from_secs(1);

/// The renewals that may be under way.
const UNDER_WAY: usize = 8;

/// What a node may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has never had a lease, as where nobody grants one: everybody goes by what he sees.
    Alone,
    /// It is in, and its lease runs.
    In,
    /// Its lease is over, or it was stopped: until it hears more, nothing that it holds for its own counts.
    Suspended,
    /// It is out, and waits to be admitted.
    Out,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Alone, Self::In, Self::Suspended, Self::Out];

    /// Returns it in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::In => "in",
            Self::Suspended => "suspended",
            Self::Out => "out",
        }
    }
}

/// A renewal that was sent.
#[derive(Debug, Clone)]
struct Sent {
    number: u64,
    at: Mono,
    session: u64,
    /// Who has seen it, by term.
    seen: BTreeMap<u64, BTreeSet<String>>,
    /// The term, session and number of voters of the leader's grant.
    granted: Option<(u64, u64, u64)>,
}

/// The lease of one life of a node.
#[derive(Debug, Clone)]
pub struct Lease {
    session: u64,
    /// Until when it runs.
    until: Option<Mono>,
    number: u64,
    next: Mono,
    sent: VecDeque<Sent>,
    /// When the node's loop turned last.
    turned: Mono,
    /// It has had a lease at some time.
    had_lease: bool,
}

/// What an answer has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing new.
    Nothing,
    /// The lease runs on, or again.
    Granted,
    /// The session is over.
    Out,
}

impl Lease {
    /// A life begins: it is not in.
    pub fn new(now: Mono) -> Self {
        Self {
            session: 0,
            until: None,
            number: 0,
            next: now,
            sent: VecDeque::new(),
            turned: now,
            had_lease: false,
        }
    }

    /// The node's loop turns. It is called before anything else is done: returns `true` if the node was stopped, so that nothing of
    /// what has arrived meanwhile can be taken for new.
    pub fn turn(&mut self, now: Mono) -> bool {
        let was_stopped = now.since(self.turned) > STOPPED;
        self.turned = self.turned.max(now);
        if was_stopped {
            // Answers to what was sent before come from the same past as everything else that waits to be read.
            self.sent.clear();
            self.until = None;
            self.next = now;
        }
        was_stopped
    }

    /// Returns when the next renewal is due.
    pub fn next(&self) -> Mono {
        self.next
    }

    /// Returns when the lease ends, if it runs.
    pub fn until(&self) -> Option<Mono> {
        self.until
    }

    /// Returns the number of a renewal to be sent now, if one is due.
    pub fn renew(&mut self, now: Mono) -> Option<u64> {
        if now < self.next {
            return None;
        }
        self.next = now.after(RENEW_EVERY);
        self.number += 1;
        if self.sent.len() == UNDER_WAY {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            number: self.number,
            at: now,
            session: self.session,
            seen: BTreeMap::new(),
            granted: None,
        });
        Some(self.number)
    }

    /// A voter has answered.
    pub fn answered(&mut self, voter: &str, answer: &LeaseAnswer, now: Mono) -> Heard {
        let Some(sent) = self.sent.iter_mut().find(|it| it.number == answer.number) else {
            return Heard::Nothing;
        };
        if answer.is_out {
            let is_ours = sent.session == self.session && self.session != 0;
            if is_ours {
                self.end();
                self.next = now;
                return Heard::Out;
            }
            return Heard::Nothing;
        }
        // Of terms of which nobody leads there are not many.
        if sent.seen.len() < UNDER_WAY || sent.seen.contains_key(&answer.term) {
            let seen = sent.seen.entry(answer.term).or_default();
            if seen.len() < UNDER_WAY {
                seen.insert(voter.to_owned());
            }
        }
        if answer.session != 0 && answer.voters > 0 {
            let granted = (answer.term, answer.session, answer.voters);
            if sent.granted.is_none_or(|(term, ..)| term <= answer.term) {
                sent.granted = Some(granted);
            }
        }
        let Some((term, session, voters)) = sent.granted else {
            return Heard::Nothing;
        };
        let seen = sent.seen.get(&term).map_or(0, BTreeSet::len) as u64;
        if seen <= voters / 2 {
            return Heard::Nothing;
        }
        let until = sent.at.after(LEASE);
        if self.until.is_some_and(|known| known >= until) && session == self.session {
            return Heard::Nothing;
        }
        self.session = session;
        self.until = Some(until);
        self.had_lease = true;
        Heard::Granted
    }

    /// The node has a view. Returns `true` if its session is over by it.
    pub fn sees(&mut self, view: &View, node: &str, now: Mono) -> bool {
        if self.session == 0 || view.epoch() < self.session {
            return false;
        }
        let is_ours = view
            .get(node)
            .is_some_and(|it| it.session == self.session && it.out.is_none());
        if !is_ours {
            self.end();
            self.next = now;
        }
        !is_ours
    }

    fn end(&mut self) {
        self.session = 0;
        self.until = None;
        self.sent.clear();
    }

    /// The session; 0 if it has none.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Returns `true` if the lease runs.
    pub fn runs(&self, now: Mono) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// What the node may do.
    pub fn standing(&self, now: Mono) -> Standing {
        match (self.had_lease, self.session, self.runs(now)) {
            (false, ..) => Standing::Alone,
            (true, 0, _) => Standing::Out,
            (true, _, true) => Standing::In,
            (true, _, false) => Standing::Suspended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn seen(number: u64, term: u64) -> LeaseAnswer {
        LeaseAnswer {
            number,
            term,
            epoch: 5,
            session: 0,
            is_out: false,
            voters: 0,
        }
    }

    fn granted(number: u64, term: u64) -> LeaseAnswer {
        LeaseAnswer {
            session: 5,
            voters: 3,
            ..seen(number, term)
        }
    }

    #[test]
    fn a_lease_needs_the_leader_and_most_voters_of_one_term() {
        let mut lease = Lease::new(at(0));
        let number = lease.renew(at(0)).unwrap();
        assert_eq!(lease.renew(at(499)), None);
        assert_eq!(lease.standing(at(1)), Standing::Alone);
        assert_eq!(
            lease.answered("a", &granted(number, 4), at(3)),
            Heard::Nothing
        );
        // A voter of another term has moved on.
        assert_eq!(lease.answered("b", &seen(number, 5), at(4)), Heard::Nothing);
        assert!(!lease.runs(at(4)));
        assert_eq!(lease.answered("c", &seen(number, 4), at(5)), Heard::Granted);
        assert_eq!(lease.standing(at(5)), Standing::In);
        // It runs from when it was sent.
        assert!(lease.runs(at(1999)));
        assert!(!lease.runs(at(2000)));
        assert_eq!(lease.standing(at(2000)), Standing::Suspended);
    }

    #[test]
    fn the_same_voter_twice_is_one() {
        let mut lease = Lease::new(at(0));
        let number = lease.renew(at(0)).unwrap();
        lease.answered("a", &granted(number, 4), at(1));
        lease.answered("a", &granted(number, 4), at(2));
        lease.answered("a", &seen(number, 4), at(2));
        assert!(!lease.runs(at(3)));
    }

    #[test]
    fn a_node_that_was_stopped_takes_no_old_answer() {
        let mut lease = Lease::new(at(0));
        let number = lease.renew(at(0)).unwrap();
        lease.answered("a", &granted(number, 4), at(1));
        assert!(lease.turn(at(1500)));
        assert_eq!(
            lease.answered("b", &seen(number, 4), at(1500)),
            Heard::Nothing
        );
        assert!(!lease.runs(at(1500)));
        let number = lease.renew(at(1500)).unwrap();
        assert!(!lease.turn(at(1600)));
        lease.answered("a", &granted(number, 4), at(1601));
        assert_eq!(
            lease.answered("b", &seen(number, 4), at(1602)),
            Heard::Granted
        );
    }

    #[test]
    fn who_is_out_asks_again_at_once() {
        let mut lease = Lease::new(at(0));
        let number = lease.renew(at(0)).unwrap();
        lease.answered("a", &granted(number, 4), at(1));
        lease.answered("b", &seen(number, 4), at(1));
        let number = lease.renew(at(500)).unwrap();
        let out = LeaseAnswer {
            is_out: true,
            ..seen(number, 4)
        };
        assert_eq!(lease.answered("a", &out, at(501)), Heard::Out);
        assert_eq!(lease.standing(at(501)), Standing::Out);
        assert!(lease.renew(at(501)).is_some());
        // Once is enough.
        assert_eq!(lease.answered("a", &out, at(502)), Heard::Nothing);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut lease = Lease::new(at(0));
        for number in 0..100 {
            lease.renew(at(number * 500));
        }
        assert_eq!(lease.sent.len(), UNDER_WAY);
        for term in 0..100 {
            for voter in 0..100 {
                lease.answered(&format!("v{voter}"), &seen(100, term), at(50_000));
            }
        }
        let last = lease.sent.back().unwrap();
        assert!(last.seen.len() <= UNDER_WAY);
        assert!(last.seen.values().all(|it| it.len() <= UNDER_WAY));
    }
}
