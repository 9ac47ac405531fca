//! The entries of a store in memory, for primaries and clones alike.

use std::collections::BTreeMap;
use std::ops::Bound;

use muster_data::Timestamp;

use crate::Encoded;

/// About what an entry costs in memory besides the bytes of its key and value.
pub const ENTRY_OVERHEAD: usize = 128;

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

/// Entries in the order of their keys' bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    map: BTreeMap<Encoded, Entry>,
    bytes: usize,
}

impl Entries {
    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Returns `true` if there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Returns about how much memory the entries take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the entry of a key, if there is one.
    pub fn get(&self, key: &Encoded) -> Option<&Entry> {
        self.map.get(key)
    }

    /// Sets an entry. Returns the entry that the key had before.
    pub fn put(&mut self, key: Encoded, entry: Entry) -> Option<Entry> {
        self.bytes += cost(&key, &entry);
        // The old key's bytes are kept by the map.
        let size = key.size();
        let old = self.map.insert(key, entry);
        if let Some(old) = &old {
            self.bytes -= size + old.value.size() + ENTRY_OVERHEAD;
        }
        old
    }

    /// Removes an entry. Returns the entry, if there was one.
    pub fn remove(&mut self, key: &Encoded) -> Option<Entry> {
        let old = self.map.remove(key)?;
        self.bytes -= cost(key, &old);
        Some(old)
    }

    /// Removes all entries and returns them.
    pub fn take(&mut self) -> BTreeMap<Encoded, Entry> {
        self.bytes = 0;
        std::mem::take(&mut self.map)
    }

    /// Keeps the entries for which `keep` returns `true`, and removes the others.
    pub fn retain(&mut self, mut keep: impl FnMut(&Encoded, &Entry) -> bool) {
        let bytes = &mut self.bytes;
        self.map.retain(|key, entry| {
            let kept = keep(key, entry);
            if !kept {
                *bytes -= cost(key, entry);
            }
            kept
        });
    }

    /// Returns all entries in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Encoded, &Entry)> {
        self.map.iter()
    }

    /// Returns the entries after a key, in order, or all of them if there is no key.
    pub fn behind(&self, key: Option<&Encoded>) -> impl Iterator<Item = (&Encoded, &Entry)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.map.range((from, Bound::Unbounded))
    }
}

fn cost(key: &Encoded, entry: &Entry) -> usize {
    key.size() + entry.value.size() + ENTRY_OVERHEAD
}
