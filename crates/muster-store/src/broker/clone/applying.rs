//! What a clone of Broker's master makes of its master's events and snapshots.

use muster_data::Timestamp;

use super::{BrokerClone, Copies, Need, end};
use crate::broker::channel::Received;
use crate::broker::codec::{Content, Entity};
use crate::budget::MissingCopy;
use crate::op::{Change, Edit, StoreEvent};
use crate::{Encoded, Entries, Entry, Notice, Now, Output};

impl BrokerClone {
    pub(super) fn apply_events(&mut self, now: Now) {
        while let Some(received) = self.events.take(now.mono) {
            match received {
                Received::Event(event) => self.apply(&event, now.wall),
                Received::Lost(number) if number <= self.covered => {}
                Received::Lost(_) => {
                    self.wants_snapshot.get_or_insert(Need::Lost);
                    self.find(now.mono);
                }
            }
        }
    }

    pub(super) fn apply(&mut self, event: &Content, now: Timestamp) {
        let (change, publisher) = match event {
            Content::Put {
                key,
                value,
                ttl,
                publisher,
            } => {
                let put = Edit::Put {
                    key: key.clone(),
                    value: value.clone(),
                    expires: ttl.map(|ttl| end(now, ttl)),
                };
                (put, *publisher)
            }
            Content::Erase { key, publisher } => {
                let key = key.clone();
                (Edit::Erase { key }, *publisher)
            }
            Content::Expire { key, publisher } => {
                let key = key.clone();
                (Edit::Expire { key }, *publisher)
            }
            Content::Clear { publisher } => (Edit::Clear, *publisher),
            Content::PutUniqueResult {
                inserted,
                who,
                request,
                ..
            } => {
                if *who == self.me {
                    let entries = &self.entries;
                    self.pending
                        .result(*request, *inserted, self.changes, entries);
                    self.settle();
                }
                return;
            }
            _ => return,
        };
        let before = match event {
            Content::Put { key, .. } => self.entries.get(key).map(|entry| entry.value.clone()),
            _ => None,
        };
        self.change(change, Some(publisher));
        if publisher == self.me {
            let entries = &self.entries;
            self.pending
                .echoed(event, before.as_ref(), self.changes, entries);
            self.settle();
        }
    }

    /// Makes a change, with the next number, and tells of it.
    pub(super) fn change(&mut self, edit: Edit, writer: Option<Entity>) {
        self.changes += 1;
        if !matches!(self.copies, Copies::Kept) {
            return;
        }
        let number = self.changes;
        let Some(event) = self.entries.perform(number, edit) else {
            return;
        };
        let is_told = match &event {
            StoreEvent::Put { .. } => true,
            StoreEvent::Erase { old, .. } | StoreEvent::Expire { old, .. } => old.is_some(),
            StoreEvent::Clear { old } => !old.is_empty(),
        };
        if is_told {
            self.out.push_back(Output::Changed(Change {
                number,
                writer,
                event,
            }));
        }
    }

    /// Takes over a snapshot: what is different is told as changes.
    pub(super) fn take_snapshot(&mut self, state: Vec<(Encoded, Encoded)>) {
        if !matches!(self.copies, Copies::Kept) {
            self.find_at = None;
            return;
        }
        let mut new = Entries::within(&self.config.budget);
        for (key, value) in state {
            let entry = Entry {
                value,
                expires: None,
                changed: self.changes + 1,
            };
            new.put(key, entry);
        }
        let gone: Vec<Encoded> = self
            .entries
            .in_order()
            .filter(|(key, _)| new.get(key).is_none())
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.change(Edit::Erase { key }, None);
        }
        for (key, entry) in new.take() {
            let known = self.entries.get(&key);
            if known.is_none_or(|known| known.value != entry.value) {
                let put = Edit::Put {
                    key,
                    value: entry.value,
                    expires: None,
                };
                self.change(put, None);
            }
        }
        self.has_copy = true;
        self.find_at = None;
        self.out.push_back(Output::Attached);
        self.give_up_if_too_large();
    }

    /// A copy that takes more memory than there is is given up whole, because changes cannot be left out of it. The clone
    /// still writes.
    pub(super) fn give_up_if_too_large(&mut self) {
        let (copies, notice) = if !matches!(self.copies, Copies::Kept) {
            return;
        } else if self.entries.bytes() > self.config.limit {
            (Copies::TooLarge, Notice::TooLarge)
        } else if self.entries.are_over_budget() {
            let counted = MissingCopy::new(&self.config.budget);
            let no_room = Copies::NoRoom { _counted: counted };
            (no_room, Notice::NoRoomForCopy)
        } else {
            return;
        };
        self.change(Edit::Clear, None);
        self.copies = copies;
        self.has_copy = false;
        self.out.push_back(Output::Notice(notice));
    }
}
