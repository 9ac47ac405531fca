//! The entries of a store in memory, for primaries and clones alike.

mod editing;
mod index;
mod order;

use muster_data::Timestamp;

use crate::budget::HeldBytes;
use crate::{Encoded, StoreBudget};
use index::{Index, KeyHash};
use order::{Found, Order};

/// About what an entry costs in memory besides the bytes of its key and value.
pub const ENTRY_OVERHEAD: usize = 128;

/// The most bytes that entries may be allowed to take: no more of them than slots have numbers.
pub(crate) const LARGEST_LIMIT: usize = (u32::MAX as usize / 2).saturating_mul(ENTRY_OVERHEAD);

/// Slots without an entry are given back when they are more than three quarters of all, and of so many.
const FEW_SLOTS: usize = 1024;

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Encoded,
    /// When its TTL ends; `None` if it has none.
    pub expires: Option<Timestamp>,
    /// The number of the change that made it: its revision.
    pub changed: u64,
}

/// Entries by their keys.
///
/// A look-up goes by hash. The order of keys is made when somebody asks for it: for [`Entries::in_order`] and
/// [`Entries::take`] at once, for the parts of a snapshot along the way.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    slots: Vec<Slot>,
    /// Slots without a key.
    free: Vec<u32>,
    index: Index,
    held: HeldBytes,
    /// There while snapshots are made.
    order: Option<Order>,
}

/// Where an entry lies.
#[derive(Debug, Clone)]
enum Slot {
    Live(Encoded, Entry),
    /// The entry is removed, and an [`Order`] still knows its key by this slot.
    Retired(Encoded),
    Free,
}

impl Slot {
    fn live(&self) -> Option<(&Encoded, &Entry)> {
        match self {
            Self::Live(key, entry) => Some((key, entry)),
            Self::Retired(_) | Self::Free => None,
        }
    }

    fn key(&self) -> Option<&Encoded> {
        match self {
            Self::Live(key, _) | Self::Retired(key) => Some(key),
            Self::Free => None,
        }
    }
}

/// Where a key is, or would be. It holds until entries are put or removed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    hash: KeyHash,
    slot: Option<u32>,
}

/// Entries of a snapshot, in the order of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPart {
    /// The entries.
    pub entries: Vec<(Encoded, Entry)>,
    /// Whether no entries follow.
    pub is_last: bool,
}

/// What an entry costs in a part besides the bytes of its key and value.
const IN_A_PART: usize = 16;

impl Entries {
    /// Creates a table that counts in a budget.
    pub fn within(budget: &StoreBudget) -> Self {
        let mut entries = Self::default();
        entries.join(budget);
        entries
    }

    /// Counts in a budget from now on, room or not.
    pub(crate) fn join(&mut self, budget: &StoreBudget) {
        self.held.join(budget);
    }

    /// Makes room in the budget for what is put next. Returns `false` if there is none.
    pub(crate) fn claim(&mut self, more: usize) -> bool {
        self.held.claim(more)
    }

    /// Returns `true` if the budget has room for so many bytes more.
    pub(crate) fn has_budget(&self, more: usize) -> bool {
        self.held.has_room(more)
    }

    /// Returns `true` if the budget's tables hold more than they may.
    pub(crate) fn are_over_budget(&self) -> bool {
        self.held.is_over()
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns `true` if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns about how much memory the entries take, in bytes.
    pub fn bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Returns the entry of a key, if there is one.
    pub fn get(&self, key: &Encoded) -> Option<&Entry> {
        self.at(self.locate(key))
    }

    /// Looks for a key.
    pub(crate) fn locate(&self, key: &Encoded) -> Place {
        let hash = self.index.hash(key);
        let is_it = |slot: u32| {
            let live = self.slots.get(slot as usize).and_then(Slot::live);
            live.is_some_and(|(found, _)| found == key)
        };
        let slot = self.index.find(hash, is_it);
        Place { hash, slot }
    }

    /// Returns the entry at a place, if there is one.
    pub(crate) fn at(&self, place: Place) -> Option<&Entry> {
        let slot = self.slots.get(place.slot? as usize)?;
        slot.live().map(|(_, entry)| entry)
    }

    /// Sets an entry. Returns the entry that the key had before.
    pub fn put(&mut self, key: Encoded, entry: Entry) -> Option<Entry> {
        let place = self.locate(&key);
        self.put_at(place, key, entry)
    }

    /// Sets the entry of a key at the place that was found for it.
    pub(crate) fn put_at(&mut self, place: Place, key: Encoded, entry: Entry) -> Option<Entry> {
        let added = cost(&key, &entry);
        let there = place
            .slot
            .and_then(|slot| self.slots.get_mut(slot as usize));
        if let Some(Slot::Live(_, there)) = there {
            // The old key's bytes are kept.
            let old = std::mem::replace(there, entry);
            self.held.change(added, cost(&key, &old));
            return Some(old);
        }
        self.held.change(added, 0);
        if let Some(order) = &mut self.order {
            order.add(&key);
        }
        let live = Slot::Live(key, entry);
        let slot = if let Some(free) = self.free.pop() {
            self.slots[free as usize] = live;
            free
        } else {
            self.slots.push(live);
            u32::try_from(self.slots.len() - 1).expect("the limit in bytes comes before")
        };
        self.index.insert(place.hash, slot);
        self.give_up_order_if_outdated();
        None
    }

    /// Removes an entry. Returns the entry, if there was one.
    pub fn remove(&mut self, key: &Encoded) -> Option<Entry> {
        let place = self.locate(key);
        let slot = place.slot?;
        let (key, entry) = self.empty(slot, place.hash)?;
        self.held.change(0, cost(&key, &entry));
        self.give_up_order_if_outdated();
        self.give_back_slots();
        Some(entry)
    }

    /// Removes all entries and returns them in order.
    pub fn take(&mut self) -> Vec<(Encoded, Entry)> {
        let mut all = std::mem::take(self);
        self.index = all.index.emptied();
        self.held = all.held.emptied();
        let in_order = order::in_order(&all.slots);
        let taken = in_order.filter_map(|slot| {
            match std::mem::replace(&mut all.slots[slot as usize], Slot::Free) {
                Slot::Live(key, entry) => Some((key, entry)),
                Slot::Retired(_) | Slot::Free => None,
            }
        });
        taken.collect()
    }

    /// Keeps the entries for which `keep` returns `true`, and removes the others.
    pub fn retain(&mut self, mut keep: impl FnMut(&Encoded, &Entry) -> bool) {
        for slot in 0..self.slots.len() {
            let live = self.slots[slot].live();
            if let Some((key, entry)) = live.filter(|(key, entry)| !keep(key, entry)) {
                self.held.change(0, cost(key, entry));
                let hash = self.index.hash(key);
                let slot = u32::try_from(slot).expect("each has a number");
                self.empty(slot, hash);
            }
        }
        self.give_up_order_if_outdated();
        self.give_back_slots();
    }

    /// Returns all entries, in no order that means anything. It depends on what was put and removed alone, so it is
    /// the same in every run.
    pub fn iter(&self) -> impl Iterator<Item = (&Encoded, &Entry)> {
        self.slots.iter().filter_map(Slot::live)
    }

    /// Returns all entries in the order of their keys' bytes. Takes time to sort them.
    pub fn in_order(&self) -> impl Iterator<Item = (&Encoded, &Entry)> {
        order::in_order(&self.slots).filter_map(|slot| self.slots[slot as usize].live())
    }

    /// Returns the entries after a key, in the order of their keys' bytes, or the first ones if there is no key: about
    /// so many bytes of them.
    ///
    /// The order of keys is kept for the next part, up to date with what is put and removed meanwhile, until
    /// [`Entries::forget_order`].
    pub fn part(&mut self, after: Option<&Encoded>, bytes: usize) -> SnapshotPart {
        let mut order = match self.order.take() {
            Some(order) => order,
            None => Order::new(&self.slots),
        };
        let mut entries = Vec::new();
        let mut taken = 0;
        let is_last = order.each_behind(&self.slots, after, |found| {
            if taken >= bytes {
                return false;
            }
            let live = match found {
                Found::Slot(slot) => self.slots[slot as usize].live(),
                Found::Added(key) => {
                    let slot = self.locate(key).slot;
                    slot.and_then(|slot| self.slots[slot as usize].live())
                }
            };
            if let Some((key, entry)) = live {
                taken += key.size() + entry.value.size() + IN_A_PART;
                entries.push((key.clone(), entry.clone()));
            }
            true
        });
        self.order = Some(order);
        SnapshotPart { entries, is_last }
    }

    /// Forgets the order of keys, because no snapshot is being made.
    pub fn forget_order(&mut self) {
        for slot in self
            .order
            .take()
            .map(Order::into_retired)
            .into_iter()
            .flatten()
        {
            self.slots[slot as usize] = Slot::Free;
            self.free.push(slot);
        }
        self.give_back_slots();
    }

    fn give_up_order_if_outdated(&mut self) {
        if self.order.as_ref().is_some_and(Order::is_outdated) {
            self.forget_order();
        }
    }

    /// Takes the entry out of a slot.
    fn empty(&mut self, slot: u32, hash: KeyHash) -> Option<(Encoded, Entry)> {
        self.index.remove(hash, slot);
        let place = &mut self.slots[slot as usize];
        let Slot::Live(key, entry) = std::mem::replace(place, Slot::Free) else {
            return None;
        };
        let order = self.order.as_mut();
        if order.is_some_and(|order| order.remove(&key, slot)) {
            *place = Slot::Retired(key.clone());
        } else {
            self.free.push(slot);
        }
        Some((key, entry))
    }

    /// Makes slots and index as small as the entries need, if most have none.
    fn give_back_slots(&mut self) {
        let few = self.len() < self.slots.len() / 4 && self.slots.len() > FEW_SLOTS;
        if !few || self.order.is_some() {
            return;
        }
        self.slots.retain(|slot| slot.live().is_some());
        self.slots.shrink_to_fit();
        self.free = Vec::new();
        self.index = self.index.emptied();
        for (number, slot) in (0u32..).zip(&self.slots) {
            if let Some((key, _)) = slot.live() {
                self.index.insert(self.index.hash(key), number);
            }
        }
    }
}

/// Equal if the same keys have the same entries.
impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .iter()
                .all(|(key, entry)| other.get(key) == Some(entry))
    }
}

impl Eq for Entries {}

fn cost(key: &Encoded, entry: &Entry) -> usize {
    key.size() + entry.value.size() + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests;
