//! A snapshot on its way: parts in the order of keys, each as of another change, and the changes between.

use std::collections::HashMap;

use muster_data::Timestamp;

use crate::budget::HeldBytes;
use crate::op::{Amendment, Edit, NumberedEdit};
use crate::protocol::Chunk;
use crate::{ENTRY_OVERHEAD, Encoded, Entries, Entry, StoreBudget};

/// Parts are made while the store changes. Every entry says which change made it, so part and change meet in
/// any order: the later one stays. Changes come without a gap from the first part on, and the snapshot is
/// whole when all parts are there and the changes have reached the latest of them.
#[derive(Debug, Default)]
pub(crate) struct Attaching {
    entries: Entries,
    /// Keys that were removed since the first part, and by which change.
    removed: HashMap<Encoded, u64>,
    /// What `removed` takes.
    removed_bytes: HeldBytes,
    /// Amendments of keys whose entries are yet to come, in order.
    early: HashMap<Encoded, Vec<Early>>,
    /// What `early` takes.
    early_bytes: HeldBytes,
    /// Something was to be amended that cannot be.
    is_false: bool,
    /// The last change that removed everything.
    cleared: u64,
    last_key: Option<Encoded>,
    has_all_entries: bool,
    /// The last change before which there is no gap; `None` before the first part.
    reached: Option<u64>,
    /// The latest change that is in a part.
    needed: u64,
}

impl Attaching {
    /// Nothing so far. What comes counts in a budget.
    pub(crate) fn within(budget: &StoreBudget) -> Self {
        let mut attaching = Self::default();
        attaching.entries.join(budget);
        attaching.removed_bytes.join(budget);
        attaching.early_bytes.join(budget);
        attaching
    }

    /// The memory that it takes so far, in bytes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.bytes() + self.removed_bytes.bytes() + self.early_bytes.bytes()
    }

    /// Returns `true` if a part has come.
    pub(crate) fn has_begun(&self) -> bool {
        self.reached.is_some()
    }

    /// Returns `true` if the last part has come.
    pub(crate) fn has_all_entries(&self) -> bool {
        self.has_all_entries
    }

    /// The last key of the parts so far.
    pub(crate) fn last_key(&self) -> Option<&Encoded> {
        self.last_key.as_ref()
    }

    /// The number of the change that is needed next.
    pub(crate) fn next(&self) -> u64 {
        self.reached.unwrap_or(0) + 1
    }

    /// Returns `true` if everything is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.has_all_entries && self.reached.is_some_and(|reached| reached >= self.needed)
    }

    /// Returns `true` if what has come does not fit together: it is fetched again.
    pub(crate) fn is_false(&self) -> bool {
        self.is_false
    }

    /// The entries, and the number of the last change in them.
    pub(crate) fn into_entries(self) -> (Entries, u64) {
        (self.entries, self.reached.unwrap_or(0))
    }

    /// Takes a part; whether it was the next.
    pub(crate) fn chunk(&mut self, chunk: Chunk) -> bool {
        if self.has_all_entries || chunk.after != self.last_key {
            return false;
        }
        let last = chunk.entries.last();
        // A primary whose parts do not advance must not keep us asking.
        if !chunk.is_last && last.is_none_or(|(key, _)| Some(key) <= self.last_key.as_ref()) {
            return false;
        }
        if let Some((key, _)) = last {
            self.last_key = Some(key.clone());
        }
        self.reached.get_or_insert(chunk.as_of);
        self.needed = self.needed.max(chunk.as_of);
        self.has_all_entries = chunk.is_last;
        for (key, entry) in chunk.entries {
            let removed = self.removed.get(&key).copied().unwrap_or(0);
            let known = self.entries.get(&key).map_or(0, |known| known.changed);
            if entry.changed > removed.max(self.cleared).max(known) {
                let changed = entry.changed;
                let early = self.forget_early(&key);
                self.entries.put(key.clone(), entry);
                for early in early {
                    if early.number > changed {
                        self.amend(&key, early);
                    }
                }
            }
        }
        true
    }

    /// Takes the next change.
    pub(crate) fn change(&mut self, change: NumberedEdit) {
        let number = change.number;
        self.reached = Some(number);
        if let Some(key) = change.edit.key() {
            let known = self.entries.get(key).map_or(0, |known| known.changed);
            if number <= known {
                return;
            }
        }
        match change.edit {
            Edit::Put {
                key,
                value,
                expires,
            } => {
                self.forget_removed(&key);
                self.forget_early(&key);
                let entry = Entry {
                    value,
                    expires,
                    changed: number,
                };
                self.entries.put(key, entry);
            }
            Edit::Amend {
                key,
                amendment,
                expires,
            } => {
                let early = Early {
                    number,
                    amendment,
                    expires,
                };
                if self.entries.get(&key).is_some() {
                    self.amend(&key, early);
                } else {
                    // The part that has the key is yet to come.
                    self.early_bytes.change(early.cost(&key), 0);
                    self.early.entry(key).or_default().push(early);
                }
            }
            Edit::Erase { key } | Edit::Expire { key } => {
                self.forget_early(&key);
                self.entries.remove(&key);
                let cost = removed_cost(&key);
                if self.removed.insert(key, number).is_none() {
                    self.removed_bytes.change(cost, 0);
                }
            }
            Edit::Clear => {
                self.cleared = number;
                self.removed.clear();
                self.removed_bytes.change(0, self.removed_bytes.bytes());
                self.early.clear();
                self.early_bytes.change(0, self.early_bytes.bytes());
                self.entries.retain(|_, entry| entry.changed > number);
            }
        }
    }

    fn amend(&mut self, key: &Encoded, early: Early) {
        let edit = Edit::Amend {
            key: key.clone(),
            amendment: early.amendment,
            expires: early.expires,
        };
        if self.entries.perform(early.number, edit).is_none() {
            self.is_false = true;
        }
    }

    fn forget_removed(&mut self, key: &Encoded) {
        if self.removed.remove(key).is_some() {
            self.removed_bytes.change(0, removed_cost(key));
        }
    }

    fn forget_early(&mut self, key: &Encoded) -> Vec<Early> {
        let forgotten = self.early.remove(key).unwrap_or_default();
        let bytes = forgotten.iter().map(|early| early.cost(key)).sum();
        self.early_bytes.change(0, bytes);
        forgotten
    }
}

/// An amendment of an entry that is not here yet.
#[derive(Debug)]
struct Early {
    number: u64,
    amendment: Amendment,
    expires: Option<Timestamp>,
}

impl Early {
    fn cost(&self, key: &Encoded) -> usize {
        key.size() + self.amendment.part().size() + ENTRY_OVERHEAD
    }
}

fn removed_cost(key: &Encoded) -> usize {
    key.size() + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests;
