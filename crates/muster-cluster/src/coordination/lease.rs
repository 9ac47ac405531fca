//! A node's lease: for how long it may act on what it was told, without hearing anything new.
//!
//! A node that knows who leads renews there alone. The leader grants it when most voters, itself among them, have told it in its term
//! that they follow it, in answer to what it said after it had heard the renewal. Otherwise the node renews at every voter: that
//! counts when the leader grants it and most voters have seen it in one and the same term. Both say that whoever leads next has begun
//! to after the renewal was sent, and hears the node, or counts its silence from then on. The lease runs from the time at which the
//! renewal was *sent*, so it is over before the coordinators give the node up.

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

/// How soon a node whose lease runs asks again that has asked all voters: the leader is away, and another one is soon there.
const ASK_AGAIN: Duration = Duration::from_millis(250);

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

/// A renewal that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// Its number.
    pub number: u64,
    /// The voter that it goes to, if it goes to the leader alone.
    pub to: Option<String>,
}

/// A renewal that was sent.
#[derive(Debug, Clone)]
struct Sent {
    number: u64,
    at: Mono,
    session: u64,
    /// The leader alone was asked.
    is_alone: bool,
    /// The lease runs by it.
    is_granted: bool,
    /// Who has seen it, by term.
    seen: BTreeMap<u64, BTreeSet<String>>,
    /// What the leader has answered that is worth something if most voters have seen it.
    grant: Option<Grant>,
}

/// What a leader has granted.
#[derive(Debug, Clone)]
struct Grant {
    by: String,
    term: u64,
    session: u64,
    voters: u64,
    /// The leader could have found out by itself that it leads.
    can_confirm: bool,
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
    /// The voter that leads, and grants alone.
    leader: Option<String>,
    /// How often coordinators were recovered, as far as the node has heard: those before have no say.
    generation: u64,
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
            leader: None,
            generation: 0,
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

    /// Returns a renewal to be sent now, if one is due.
    pub fn renew(&mut self, now: Mono) -> Option<Renewal> {
        if now < self.next {
            return None;
        }
        let runs = self.runs(now);
        let last = self.sent.back();
        if !runs || last.is_some_and(|last| last.is_alone && !last.is_granted) {
            // Whoever led may do so no longer.
            self.leader = None;
        }
        let is_alone = self.leader.is_some();
        let pause = match (is_alone, runs) {
            (false, true) => ASK_AGAIN,
            _ => RENEW_EVERY,
        };
        self.next = now.after(pause);
        self.number += 1;
        if self.sent.len() == UNDER_WAY {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            number: self.number,
            at: now,
            session: self.session,
            is_alone,
            is_granted: false,
            seen: BTreeMap::new(),
            grant: None,
        });
        Some(Renewal {
            number: self.number,
            to: self.leader.clone(),
        })
    }

    /// A voter has answered.
    pub fn answered(&mut self, voter: &str, answer: &LeaseAnswer, now: Mono) -> Heard {
        if !self.is_of_now(answer.generation) {
            return Heard::Nothing;
        }
        let Some(at) = self.sent.iter().position(|it| it.number == answer.number) else {
            return Heard::Nothing;
        };
        let sent = &mut self.sent[at];
        if answer.is_out {
            let is_ours = sent.session == self.session && self.session != 0;
            if is_ours {
                self.end();
                self.next = now;
                return Heard::Out;
            }
            return Heard::Nothing;
        }
        let is_confirmed = answer.session != 0 && answer.confirmed == Some(true);
        if is_confirmed {
            return self.granted(at, Some(voter.to_owned()), answer.session, now);
        }
        if sent.is_alone && self.leader.is_some() {
            // It does not lead, or cannot tell.
            self.leader = None;
            self.next = now;
        }
        // Of terms of which nobody leads there are not many.
        if sent.seen.len() < UNDER_WAY || sent.seen.contains_key(&answer.term) {
            let seen = sent.seen.entry(answer.term).or_default();
            if seen.len() < UNDER_WAY {
                seen.insert(voter.to_owned());
            }
        }
        let known = sent.grant.as_ref().map_or(0, |grant| grant.term);
        if answer.session != 0 && answer.voters > 0 && known <= answer.term {
            sent.grant = Some(Grant {
                by: voter.to_owned(),
                term: answer.term,
                session: answer.session,
                voters: answer.voters,
                can_confirm: answer.confirmed.is_some(),
            });
        }
        let Some(grant) = &sent.grant else {
            return Heard::Nothing;
        };
        let seen = sent.seen.get(&grant.term).map_or(0, BTreeSet::len) as u64;
        if seen <= grant.voters / 2 {
            return Heard::Nothing;
        }
        let Grant {
            by,
            session,
            can_confirm,
            ..
        } = grant.clone();
        self.granted(at, can_confirm.then_some(by), session, now)
    }

    /// A renewal is granted, by somebody who can do it alone if he is named.
    fn granted(&mut self, at: usize, by: Option<String>, session: u64, now: Mono) -> Heard {
        let sent = &mut self.sent[at];
        let (sent_at, is_last) = (sent.at, sent.number == self.number);
        sent.is_granted = true;
        if is_last {
            self.leader = by;
            self.next = sent_at.after(RENEW_EVERY).max(now);
        }
        let until = sent_at.after(LEASE);
        if self.until.is_some_and(|known| known >= until) && session == self.session {
            return Heard::Nothing;
        }
        self.session = session;
        self.until = Some(until);
        self.had_lease = true;
        Heard::Granted
    }

    /// Whether coordinators of this generation have a say. They are of one; former releases do not say of which.
    fn is_of_now(&mut self, generation: Option<u64>) -> bool {
        let generation = generation.unwrap_or(self.generation);
        if generation > self.generation {
            self.generation = generation;
            // What others have answered is worth nothing any more.
            for sent in &mut self.sent {
                sent.seen.clear();
                sent.grant = None;
            }
        }
        generation == self.generation
    }

    /// The node has a view. Returns `true` if its session is over by it.
    pub fn sees(&mut self, view: &View, node: &str, now: Mono) -> bool {
        self.is_of_now(Some(view.generation()));
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
        self.leader = None;
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
mod tests;
