//! A clone whose copy takes more memory than there is.

use std::time::Duration;

use muster_wire::Mono;

use super::attaching::Attaching;
use super::{CopyMode, StoreClone};
use crate::budget::MissingCopy;
use crate::entries::LARGEST_LIMIT;
#[cfg(test)]
use crate::instance::Sabotage;
use crate::op::{Change, StoreEvent};
use crate::{Entries, Notice, Output};

/// How long after it was given up a copy is fetched anew, if there is room then; the longest, when that fails again
/// and again.
const LOOK_AFTER: Duration = Duration::from_secs(10);
const LOOK_AFTER_AT_MOST: Duration = Duration::from_secs(320);

/// A copy that was given up because the budget had no room for it.
#[derive(Debug)]
pub(super) struct NoRoom {
    /// What it took so far, at least: a copy that was being fetched takes more.
    needs: usize,
    look_at: Mono,
    look_after: Duration,
    /// Counts it as missing; `None` while it is fetched anew.
    missing: Option<MissingCopy>,
}

impl NoRoom {
    /// When it looks for room; never while the copy is fetched anew.
    pub(super) fn look_at(&self) -> Mono {
        self.look_at
    }
}

impl StoreClone {
    /// A store, or somebody who says that he has it, must not take all memory. A copy is given up whole, because
    /// changes cannot be left out of it.
    pub(super) fn give_up_if_too_large(&mut self, now: Mono) -> bool {
        let attaching = self.attaching.as_ref().map_or(0, Attaching::bytes);
        let needs = attaching.max(self.entries.bytes());
        if needs > self.config.limit.min(LARGEST_LIMIT) {
            self.no_room = None;
            self.give_up_copy(Notice::TooLarge);
            return true;
        }
        if !self.entries.are_over_budget() {
            return false;
        }
        #[cfg(test)]
        if self.sabotage == Sabotage::LeavesOutWhatHasNoRoom {
            let last = self.entries.iter().max_by_key(|(_, entry)| entry.changed);
            let last = last.map(|(key, _)| key.clone());
            last.and_then(|key| self.entries.remove(&key));
            return false;
        }
        let before = self.no_room.take().map(|before| before.look_after * 2);
        let look_after = before.map_or(LOOK_AFTER, |after| after.min(LOOK_AFTER_AT_MOST));
        self.no_room = Some(NoRoom {
            needs,
            look_at: now.after(look_after),
            look_after,
            missing: Some(MissingCopy::new(&self.config.budget)),
        });
        self.give_up_copy(Notice::NoRoomForCopy);
        true
    }

    /// From now on there is nothing to read: those who watch hear of that, and those who wait until their writes can be
    /// read wait no longer.
    fn give_up_copy(&mut self, notice: Notice) {
        self.config.copy = CopyMode::None;
        self.attaching = None;
        self.ask_at = None;
        let nothing = Entries::within(&self.config.budget);
        let mut entries = std::mem::replace(&mut self.entries, nothing);
        let applied = self.applied.take();
        if self.is_watched && !entries.is_empty() {
            let old = entries.take().into_iter();
            let old = old.map(|(key, entry)| (key, entry.value)).collect();
            self.out.push_back(Output::Changed(Change {
                number: applied.map_or(0, |applied| applied.change),
                writer: None,
                event: StoreEvent::Clear { old },
            }));
        }
        self.release_all();
        self.out.push_back(Output::Notice(notice));
    }

    /// Fetches the copy that was given up, if there is room for it by now.
    pub(super) fn look_for_room(&mut self, now: Mono) {
        let Some(no_room) = self.no_room.as_mut().filter(|no| no.look_at <= now) else {
            return;
        };
        if !self.config.budget.has_room(no_room.needs) {
            no_room.look_at = now.after(no_room.look_after);
            return;
        }
        no_room.look_at = Mono(u64::MAX);
        #[cfg(test)]
        if self.sabotage == Sabotage::NeverFetchesAgain {
            return;
        }
        no_room.missing = None;
        self.config.copy = CopyMode::Full;
        self.out.push_back(Output::Notice(Notice::RoomForCopy));
        if self.primary.is_some() {
            self.attach(now);
        } else {
            self.find(now);
        }
    }
}
