//! The order of the keys, while snapshots are made.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

use super::Slot;
use crate::Encoded;

/// So many keys are sorted at a time.
const SORTED_AT_ONCE: usize = 4096;

/// Changes that an order takes up in any case before it is given up.
const CHANGES: usize = 4096;

/// The keys that were there when it was made, sorted as far as somebody has read, and what has changed since.
///
/// Sorting a million keys would keep writers waiting, so it is done along the way: a cut divides what is not sorted into
/// smaller and greater keys until the next few thousand stand alone.
#[derive(Debug, Clone)]
pub(super) struct Order {
    keys: Vec<Handle>,
    /// So many of `keys` are sorted.
    sorted: usize,
    /// Ends of parts of `keys` behind those, the nearest last: what is before an end is smaller than what is behind.
    ends: Vec<usize>,
    /// Keys that came since, and are there.
    added: BTreeSet<Encoded>,
    /// Slots of `keys` whose keys are removed. They are given to no other key while this order is there.
    retired: Vec<u32>,
}

/// A key by its slot, with what distinguishes most keys without a look at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handle {
    /// The first eight bytes behind those that all keys have in common.
    begins: u64,
    pub(super) slot: u32,
}

impl Handle {
    fn compare(&self, other: &Self, slots: &[Slot]) -> Ordering {
        self.begins
            .cmp(&other.begins)
            .then_with(|| key_of(slots, self.slot).cmp(&key_of(slots, other.slot)))
    }
}

fn key_of(slots: &[Slot], slot: u32) -> Option<&Encoded> {
    slots.get(slot as usize).and_then(Slot::key)
}

/// Handles of all keys that are there, not in order.
fn handles(slots: &[Slot]) -> Vec<Handle> {
    let keys = || {
        (0u32..)
            .zip(slots)
            .filter_map(|(number, slot)| Some((number, slot.live()?.0)))
    };
    let mut common: Option<&[u8]> = None;
    for (_, key) in keys() {
        let key = key.as_bytes();
        let before = common.unwrap_or(key);
        let same = before.iter().zip(key).take_while(|(a, b)| a == b).count();
        common = Some(&before[..same]);
    }
    let common = common.map_or(0, <[u8]>::len);
    keys()
        .map(|(slot, key)| {
            let mut begins = [0; 8];
            let rest = &key.as_bytes()[common..];
            let taken = rest.len().min(8);
            begins[..taken].copy_from_slice(&rest[..taken]);
            let begins = u64::from_be_bytes(begins);
            Handle { begins, slot }
        })
        .collect()
}

/// Returns the slots of all keys that are there, in the order of keys.
pub(super) fn in_order(slots: &[Slot]) -> impl Iterator<Item = u32> + use<> {
    let mut handles = handles(slots);
    handles.sort_unstable_by(|one, other| one.compare(other, slots));
    handles.into_iter().map(|handle| handle.slot)
}

impl Order {
    pub(super) fn new(slots: &[Slot]) -> Self {
        let keys = handles(slots);
        Self {
            sorted: 0,
            ends: vec![keys.len()],
            keys,
            added: BTreeSet::new(),
            retired: Vec::new(),
        }
    }

    /// Takes up a key that has come.
    pub(super) fn add(&mut self, key: &Encoded) {
        self.added.insert(key.clone());
    }

    /// Takes up that a key was removed. Returns `true` if its slot must be kept for it.
    pub(super) fn remove(&mut self, key: &Encoded, slot: u32) -> bool {
        let is_retired = !self.added.remove(key);
        if is_retired {
            self.retired.push(slot);
        }
        is_retired
    }

    /// Returns `true` when so much has changed that making a new order is cheaper in the long run.
    pub(super) fn is_outdated(&self) -> bool {
        self.added.len() + self.retired.len() > CHANGES.max(self.keys.len() / 2)
    }

    /// The slots that were kept for their keys.
    pub(super) fn into_retired(self) -> Vec<u32> {
        self.retired
    }

    /// Goes through the keys behind one, in order, until `take` returns `false` for one: a slot, or a key that was
    /// added and has to be looked for. Returns `true` if it came to the end.
    pub(super) fn each_behind(
        &mut self,
        slots: &[Slot],
        key: Option<&Encoded>,
        mut take: impl FnMut(Found<'_>) -> bool,
    ) -> bool {
        let mut next = key.map_or(0, |key| self.position_behind(slots, key));
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let mut added = {
            // Not borrowed from `self`, which sorts on.
            std::mem::take(&mut self.added)
        };
        let mut others = added.range((from, Bound::Unbounded)).peekable();
        let is_end = loop {
            while next >= self.sorted && self.sorted < self.keys.len() {
                self.sort_more(slots);
            }
            let kept = self.keys.get(next).map(|handle| handle.slot);
            let is_added_first = match (kept.and_then(|slot| key_of(slots, slot)), others.peek()) {
                (Some(kept), Some(other)) => *other < kept,
                (None, Some(_)) => true,
                (_, None) => false,
            };
            let goes_on = if is_added_first {
                others.next().is_none_or(|key| take(Found::Added(key)))
            } else {
                let Some(slot) = kept else {
                    break true;
                };
                next += 1;
                // Retired slots have no entry.
                let is_there = slots[slot as usize].live().is_some();
                !is_there || take(Found::Slot(slot))
            };
            if !goes_on {
                break false;
            }
        };
        drop(others);
        std::mem::swap(&mut self.added, &mut added);
        is_end
    }

    fn position_behind(&mut self, slots: &[Slot], key: &Encoded) -> usize {
        let is_up_to = |handle: &Handle| key_of(slots, handle.slot).is_some_and(|kept| kept <= key);
        while self.sorted < self.keys.len() && self.keys[..self.sorted].last().is_none_or(is_up_to)
        {
            self.sort_more(slots);
        }
        self.keys[..self.sorted].partition_point(is_up_to)
    }

    /// Sorts some of the keys behind those that are sorted, if there are any.
    fn sort_more(&mut self, slots: &[Slot]) {
        while let Some(&end) = self.ends.last() {
            let part = &mut self.keys[self.sorted..end];
            if part.len() <= SORTED_AT_ONCE {
                part.sort_unstable_by(|one, other| one.compare(other, slots));
                self.sorted = end;
                self.ends.pop();
                return;
            }
            let half = part.len() / 2;
            part.select_nth_unstable_by(half, |one, other| one.compare(other, slots));
            self.ends.push(self.sorted + half);
        }
    }
}

/// A key that comes next in an order.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Slot(u32),
    Added(&'a Encoded),
}
