//! Which master a clone follows, and what it asks of it.

use muster_wire::{EndpointId, Mono};

use super::attaching::Attaching;
use super::{ASK_AGAIN, CloneOutput, Copy, FIND_SLOWLY, Master, RIVALRY, StoreClone};
use crate::protocol::Message;

impl StoreClone {
    /// Notes that a master was heard; whether it is the one that this clone follows.
    pub(super) fn follows(&mut self, from: EndpointId, life: u64, now: Mono) -> bool {
        if let Some(master) = &mut self.master
            && master.endpoint == from
            && master.life == life
        {
            master.heard = now;
            return true;
        }
        if let Some(master) = self.master {
            let is_older = life < master.life;
            let is_other = master.endpoint != from;
            if is_other && !self.is_silent(master, now) {
                self.look_at_rival(master, from, now);
                return false;
            }
            if !is_other && is_older {
                return false; // a message of its former life that was late
            }
        }
        self.master = Some(Master {
            endpoint: from,
            life,
            heard: now,
        });
        self.rival = None;
        self.has_warned = false;
        self.exists = 0;
        let held = std::mem::take(&mut self.held);
        self.held_before.extend(held.into_values().flatten());
        self.ask_at = None;
        self.writes.restart(now);
        if self.config.copy == Copy::Whole {
            self.attach(now);
        }
        if let Some(write) = self.writes.again(now) {
            self.send(from, &Message::Write(write));
        }
        self.send_writes(now);
        false
    }

    /// Another endpoint says that it is the master: the one that comes after a crash, or one too many, if the
    /// first still speaks some time later.
    pub(super) fn look_at_rival(&mut self, master: Master, rival: EndpointId, now: Mono) {
        match self.rival {
            Some((known, since)) if known == rival => {
                let speaks = master.heard.since(since) >= RIVALRY;
                if speaks && !std::mem::replace(&mut self.has_warned, true) {
                    let both = CloneOutput::TwoMasters(master.endpoint, rival);
                    self.out.push_back(both);
                }
            }
            _ => self.rival = Some((rival, now)),
        }
    }

    /// Fetches a snapshot from the master, from its beginning.
    pub(super) fn attach(&mut self, now: Mono) {
        self.attaching = Some(Attaching::default());
        self.asked = ASK_AGAIN;
        self.ask(now);
    }

    /// Looks for a master.
    pub(super) fn find(&mut self, now: Mono) {
        self.asked = ASK_AGAIN;
        self.ask_at = Some(now);
        self.ask(now);
    }

    /// Asks for what is missing most, and again later.
    pub(super) fn ask(&mut self, now: Mono) {
        let master = self.master.filter(|master| !self.is_silent(*master, now));
        let Some(master) = master else {
            let (life, last) = self.applied.unwrap_or((0, 0));
            let from = last + 1;
            let message = Message::Missing { life, from };
            let message = message.encode(&self.name);
            self.out.push_back(CloneOutput::Find(message));
            self.ask_at = Some(now.after(self.asked));
            let most = if self.master.is_some() {
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
            Message::Fetch {
                instance: self.instance,
                after: attaching.last_key().cloned(),
            }
        } else {
            Message::Missing {
                life: master.life,
                from: self.next(),
            }
        };
        self.send(master.endpoint, &message);
        self.ask_at = Some(now.after(self.asked));
        self.asked = (self.asked * 2).min(FIND_SLOWLY);
    }

    /// The number of the next change.
    pub(super) fn next(&self) -> u64 {
        match &self.attaching {
            Some(attaching) => attaching.next(),
            None => self.applied.map_or(0, |(_, last)| last) + 1,
        }
    }

    /// Asks for changes if some exist that this copy does not have.
    pub(super) fn ask_for_missing(&mut self, now: Mono) {
        if self.config.copy == Copy::Nothing {
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
