//! How a clone's copy comes to be what its primary has.

use muster_wire::Mono;

use super::attaching::Attaching;
use super::{ASK_AGAIN, CopyMode, StoreClone};
use crate::op::{Change, NumberedEdit, StoreEvent};
use crate::protocol::{Changes, Chunk};
use crate::{Entries, Output, Revision};

impl StoreClone {
    pub(super) fn changes(&mut self, changes: Changes, now: Mono) {
        if self.config.copy == CopyMode::None
            || self.attaching.as_ref().is_some_and(|a| !a.has_begun())
        {
            return; // all of them are in the snapshot that comes
        }
        let (mut has_progress, mut fits) = (false, true);
        for change in changes.changes {
            self.exists = self.exists.max(change.number);
            if change.number != self.next() {
                continue;
            }
            has_progress = true;
            match &mut self.attaching {
                Some(attaching) => {
                    attaching.change(change);
                    fits = !attaching.is_false();
                }
                None => fits = self.apply(change),
            }
            if !fits {
                break;
            }
        }
        if !fits {
            // It is not what the primary has: all of it is fetched again.
            return self.attach(now);
        }
        if self.give_up_if_too_large(now) {
            return;
        }
        if has_progress {
            self.asked = ASK_AGAIN;
            // What was asked for has come, if not all of it.
            self.ask_at = self.ask_at.filter(|_| self.is_fetching());
        }
        self.end_attaching();
        self.ask_for_missing(now);
        self.settle_held();
    }

    pub(super) fn is_fetching(&self) -> bool {
        let attaching = self.attaching.as_ref();
        attaching.is_some_and(|attaching| !attaching.has_all_entries())
    }

    pub(super) fn chunk(&mut self, chunk: Chunk, now: Mono) {
        let Some(attaching) = &mut self.attaching else {
            return;
        };
        self.exists = self.exists.max(chunk.as_of);
        if !attaching.chunk(chunk) {
            return; // not the part that comes next
        }
        if attaching.is_false() {
            return self.attach(now);
        }
        self.asked = ASK_AGAIN;
        if self.give_up_if_too_large(now) {
            return;
        }
        if self.is_fetching() {
            self.ask(now);
            return;
        }
        self.ask_at = None;
        self.end_attaching();
        self.ask_for_missing(now);
        self.settle_held();
    }

    /// Takes over a snapshot that is whole: what is different is told as changes.
    pub(super) fn end_attaching(&mut self) {
        let is_whole = self.attaching.as_ref().is_some_and(Attaching::is_whole);
        if !is_whole {
            return;
        }
        let (Some(attaching), Some(primary)) = (self.attaching.take(), self.primary) else {
            return;
        };
        self.no_room = None;
        let (entries, last) = attaching.into_entries();
        let before = std::mem::replace(&mut self.entries, entries);
        self.applied = Some(Revision {
            timeline: primary.timeline,
            change: last,
        });
        self.ask_at = None;
        if self.is_watched {
            self.tell_differences(&before, last);
        }
        self.out.push_back(Output::Attached);
        let released = self.held_before.release(u64::MAX);
        self.tell_settled(released);
    }

    /// Tells what a new snapshot changes as changes.
    pub(super) fn tell_differences(&mut self, before: &Entries, last: u64) {
        let changes = differences(before, &self.entries, last);
        self.out.extend(changes.map(Output::Changed));
    }

    /// Makes a change. Returns `false` if there is nothing that can be changed so.
    pub(super) fn apply(&mut self, change: NumberedEdit) -> bool {
        let NumberedEdit {
            number,
            writer,
            edit,
        } = change;
        let Some(event) = self.entries.perform(number, edit) else {
            return false;
        };
        if let Some(applied) = &mut self.applied {
            applied.change = number;
        }
        if self.is_watched {
            self.out.push_back(Output::Changed(Change {
                number,
                writer,
                event,
            }));
        }
        true
    }
}

/// What is different between two copies, as changes that lead from the first to the second.
pub(crate) fn differences(
    before: &Entries,
    after: &Entries,
    last: u64,
) -> impl Iterator<Item = Change> {
    // Most entries are the same: only what is not is sorted.
    let gone = before.iter().filter(|(key, _)| after.get(key).is_none());
    let mut gone: Vec<_> = gone.collect();
    gone.sort_unstable_by_key(|(key, _)| *key);
    let new = after.iter().filter(|(key, entry)| {
        let old = before.get(key);
        old.is_none_or(|old| old.value != entry.value || old.expires != entry.expires)
    });
    let mut new: Vec<_> = new.collect();
    new.sort_unstable_by_key(|(key, _)| *key);
    let erased = gone.into_iter().map(|(key, old)| StoreEvent::Erase {
        key: key.clone(),
        old: Some(old.value.clone()),
    });
    let put = new.into_iter().map(|(key, entry)| StoreEvent::Put {
        key: key.clone(),
        value: entry.value.clone(),
        expires: entry.expires,
        old: before.get(key).map(|old| old.value.clone()),
        amendment: None,
    });
    let events: Vec<_> = erased.chain(put).collect();
    events.into_iter().map(move |event| Change {
        number: last,
        writer: None,
        event,
    })
}
