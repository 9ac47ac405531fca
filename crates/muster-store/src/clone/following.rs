//! Which primary a clone follows, and what it asks of it.

use muster_wire::{EndpointId, Mono};

use super::attaching::Attaching;
use super::{
    ASK_AGAIN, CopyMode, FIND_SLOWLY, Followed, RIVALRY, SEARCH_AFTER, SEARCH_AGAIN, StoreClone,
};
use crate::protocol::StoreMessage;
use crate::{Notice, Output, Revision};

impl StoreClone {
    /// Notes that a primary was heard; whether it is the one that this clone follows.
    pub(super) fn follows(
        &mut self,
        from: EndpointId,
        timeline: u64,
        epoch: u64,
        now: Mono,
    ) -> bool {
        self.epoch = epoch;
        if let Some(primary) = &mut self.primary
            && primary.endpoint == from
            && primary.timeline == timeline
        {
            primary.epoch = epoch;
            primary.has_spoken = true;
            primary.heard = now;
            self.search_at = None;
            return true;
        }
        let is_later = self.primary.is_some_and(|primary| primary.epoch < epoch);
        if is_later && self.primary.is_some_and(|it| it.timeline == timeline) {
            // Another copy is the primary of the same history: nothing is fetched again.
            self.begins_with(from, timeline, epoch, now);
            self.ask_for_missing(now);
            return true;
        }
        if let Some(primary) = self.primary.filter(|_| !is_later) {
            let is_older = timeline < primary.timeline;
            let is_other = primary.endpoint != from;
            if is_other && !self.is_silent(primary, now) {
                self.look_at_rival(primary, from, now);
                return false;
            }
            if !is_other && is_older && primary.has_spoken {
                return false; // a message of its former timeline that was late
            }
        }
        self.exists = 0;
        let held = std::mem::take(&mut self.held);
        self.held_before.append(held);
        self.ask_at = None;
        self.begins_with(from, timeline, epoch, now);
        if self.config.copy == CopyMode::Full {
            self.attach(now);
        }
        false
    }

    /// There is another primary. It is sent what the one before has not answered.
    pub(super) fn begins_with(&mut self, from: EndpointId, timeline: u64, epoch: u64, now: Mono) {
        self.primary = Some(Followed {
            endpoint: from,
            timeline,
            epoch,
            has_spoken: true,
            heard: now,
        });
        self.search_at = None;
        self.rival = None;
        self.has_warned = false;
        self.writes.restart(now);
        if let Some(write) = self.writes.again(now) {
            self.send(from, &StoreMessage::Write(write));
        }
        self.send_writes(now);
    }

    /// Another endpoint says that it is the primary: the one that comes after a crash, or one too many, if the
    /// first still speaks some time later.
    pub(super) fn look_at_rival(&mut self, primary: Followed, rival: EndpointId, now: Mono) {
        match self.rival {
            Some((known, since)) if known == rival => {
                let speaks = primary.heard.since(since) >= RIVALRY;
                if speaks && !std::mem::replace(&mut self.has_warned, true) {
                    let both = Output::Notice(Notice::TwoPrimaries(primary.endpoint, rival));
                    self.out.push_back(both);
                }
            }
            _ => self.rival = Some((rival, now)),
        }
    }

    /// Fetches a snapshot from the primary, from its beginning.
    pub(super) fn attach(&mut self, now: Mono) {
        self.attaching = Some(Attaching::within(&self.config.budget));
        self.asked = ASK_AGAIN;
        self.ask(now);
    }

    /// Looks for a primary.
    pub(super) fn find(&mut self, now: Mono) {
        self.asked = ASK_AGAIN;
        self.ask_at = Some(now);
        self.ask(now);
    }

    /// Asks whoever is the primary.
    fn ask_all(&mut self) {
        let applied = self.applied.unwrap_or(Revision::ABSENT);
        let (timeline, from) = (applied.timeline, applied.change + 1);
        let message = StoreMessage::Missing { timeline, from };
        let message = message.encode(&self.name);
        self.out.push_back(Output::Find(message));
    }

    /// Something waits for a word of the primary.
    pub(super) fn awaits_word(&mut self, now: Mono) {
        self.search_at.get_or_insert(now.after(SEARCH_AFTER));
    }

    /// When another primary is looked for. When the known one counts as silent, [`ask`](Self::ask) does that.
    pub(super) fn next_search(&self) -> Option<Mono> {
        let primary = self.primary?;
        self.search_at.filter(|at| !self.is_silent(primary, *at))
    }

    /// Looks for another primary. The known one is followed until there is one.
    pub(super) fn search(&mut self, now: Mono) {
        self.ask_all();
        self.search_at = (!self.writes.is_empty()).then(|| now.after(SEARCH_AGAIN));
    }

    /// Asks for what is missing most, and again later.
    pub(super) fn ask(&mut self, now: Mono) {
        let primary = self
            .primary
            .filter(|primary| !self.is_silent(*primary, now));
        let Some(primary) = primary else {
            self.ask_all();
            self.ask_at = Some(now.after(self.asked));
            let most = if self.primary.is_some() {
                self.config.resync_interval
            } else {
                FIND_SLOWLY.min(self.config.resync_interval)
            };
            self.asked = (self.asked * 2).min(most);
            return;
        };
        let message = if let Some(attaching) = &self.attaching
            && !attaching.has_all_entries()
        {
            StoreMessage::Fetch {
                instance: self.instance,
                after: attaching.last_key().cloned(),
            }
        } else {
            // Without a copy nothing is missing but a word of the primary.
            let timeline = match self.config.copy {
                CopyMode::Full => primary.timeline,
                CopyMode::None => 0,
            };
            StoreMessage::Missing {
                timeline,
                from: self.next(),
            }
        };
        self.send(primary.endpoint, &message);
        self.ask_at = Some(now.after(self.asked));
        self.asked = (self.asked * 2).min(FIND_SLOWLY);
    }

    /// The number of the next change.
    pub(super) fn next(&self) -> u64 {
        match &self.attaching {
            Some(attaching) => attaching.next(),
            None => self.applied.map_or(0, |applied| applied.change) + 1,
        }
    }

    /// Asks for changes if some exist that this copy does not have.
    pub(super) fn ask_for_missing(&mut self, now: Mono) {
        if self.config.copy == CopyMode::None {
            self.ask_at = None;
            return;
        }
        let fetches = self
            .attaching
            .as_ref()
            .is_some_and(|attaching| !attaching.has_all_entries());
        if fetches {
            return; // `ask_at` stands until the next part comes
        }
        if self.next() > self.exists {
            self.ask_at = None;
            self.asked = ASK_AGAIN;
        } else if self.ask_at.is_none() {
            self.ask(now);
        }
    }
}
