//! Which slot a key has: a hash table of numbers, without the keys.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::Encoded;

/// A place of the table without a slot. No slot has the number in its lower half.
const EMPTY: u64 = u64::MAX;

/// The places of the smallest table.
const SMALLEST: usize = 8;

/// Hashes of keys beside the slots that have them, eight to a cache line: a look-up reads one or two lines here and
/// then the slot, however many keys there are.
///
/// Keys come from the network, and somebody may choose them so that they collide. The hash is `SipHash` with a key that
/// is drawn at random for each table, so nobody can know which do, and nothing that leaves the store shows its order.
/// A quicker hash without that promise would save some 10 ns of a look-up that costs a write's cache misses besides.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    hashing: RandomState,
    /// Each the hash above the slot's number, or [`EMPTY`]. A hash lies at its home or in the places behind, without
    /// an empty one between.
    places: Vec<u64>,
    length: usize,
}

/// The hash of a key in one index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyHash(u32);

impl Index {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// An index of nothing that hashes as this one does.
    pub(super) fn emptied(&self) -> Self {
        Self {
            hashing: self.hashing.clone(),
            ..Self::default()
        }
    }

    pub(super) fn hash(&self, key: &Encoded) -> KeyHash {
        let mut hasher = self.hashing.build_hasher();
        hasher.write(key.as_bytes());
        KeyHash(upper(hasher.finish()))
    }

    /// The slot with this hash for which `is_it` holds.
    pub(super) fn find(&self, hash: KeyHash, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            let place = self.places[at];
            if place == EMPTY {
                return None;
            }
            if upper(place) == hash.0 && is_it(lower(place)) {
                return Some(lower(place));
            }
            at = self.behind(at);
        }
    }

    /// Adds a slot that is not there.
    pub(super) fn insert(&mut self, hash: KeyHash, slot: u32) {
        // Beyond three quarters looking for what is not there grows long.
        if (self.length + 1) * 4 > self.places.len() * 3 {
            self.grow();
        }
        self.place(hash, slot);
        self.length += 1;
    }

    /// Removes a slot that is there.
    pub(super) fn remove(&mut self, hash: KeyHash, slot: u32) {
        if self.places.is_empty() {
            return;
        }
        let removed = joined(hash, slot);
        let mut hole = self.home(hash);
        while self.places[hole] != removed {
            if self.places[hole] == EMPTY {
                return;
            }
            hole = self.behind(hole);
        }
        self.length -= 1;
        // Those behind it move up, as far as their homes allow.
        let mut at = hole;
        loop {
            at = self.behind(at);
            let place = self.places[at];
            if place == EMPTY {
                break;
            }
            let home = self.home(KeyHash(upper(place)));
            if self.distance(home, at) >= self.distance(hole, at) {
                self.places[hole] = place;
                hole = at;
            }
        }
        self.places[hole] = EMPTY;
    }

    /// The bytes that it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<u64>()
    }

    fn grow(&mut self) {
        let size = (self.places.len() * 2).max(SMALLEST);
        let old = std::mem::replace(&mut self.places, vec![EMPTY; size]);
        // Homes are in the order of hashes in either table: both are gone through once.
        for place in old.into_iter().filter(|place| *place != EMPTY) {
            self.place(KeyHash(upper(place)), lower(place));
        }
    }

    fn place(&mut self, hash: KeyHash, slot: u32) {
        let mut at = self.home(hash);
        while self.places[at] != EMPTY {
            at = self.behind(at);
        }
        self.places[at] = joined(hash, slot);
    }

    fn home(&self, hash: KeyHash) -> usize {
        let places = self.places.len() as u64;
        usize::try_from((u64::from(hash.0) * places) >> 32).expect("below the table's length")
    }

    fn behind(&self, at: usize) -> usize {
        if at + 1 == self.places.len() {
            0
        } else {
            at + 1
        }
    }

    /// How many places `to` is behind `from`.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.places.len() - from
        }
    }
}

fn joined(hash: KeyHash, slot: u32) -> u64 {
    u64::from(hash.0) << 32 | u64::from(slot)
}

fn upper(place: u64) -> u32 {
    u32::try_from(place >> 32).expect("32 bits")
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the lower half is asked for"
)]
fn lower(place: u64) -> u32 {
    place as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use muster_test_support::Random;

    use super::*;

    #[test]
    fn slots_are_found_whatever_was_removed_and_however_hashes_collide() {
        for hashes in [1u64, 3, 40, 1 << 32] {
            let mut random = Random::new(hashes);
            let mut index = Index::default();
            let mut there = BTreeSet::new();
            for slot in 0..3000u32 {
                // Hashes in every part of the table, and at its end, whose places begin anew.
                let hash = KeyHash(u32::MAX - u32::try_from(random.number(hashes)).unwrap());
                if there.len() > 400 || random.chance(30) {
                    let at = usize::try_from(random.number(there.len().max(1) as u64)).unwrap();
                    if let Some(&(hash, slot)) = there.iter().nth(at) {
                        there.remove(&(hash, slot));
                        index.remove(KeyHash(hash), slot);
                        assert_eq!(index.find(KeyHash(hash), |found| found == slot), None);
                    }
                }
                index.insert(hash, slot);
                there.insert((hash.0, slot));
                assert_eq!(index.len(), there.len());
                if slot % 16 == 0 {
                    for &(hash, slot) in &there {
                        let found = index.find(KeyHash(hash), |found| found == slot);
                        assert_eq!(found, Some(slot));
                    }
                }
            }
        }
    }

    #[test]
    fn two_tables_hash_in_two_ways() {
        let (one, other) = (Index::default(), Index::default());
        let keys: Vec<Encoded> = (0u64..8).map(|key| Encoded::key(&key)).collect();
        assert!(keys.iter().any(|key| one.hash(key) != other.hash(key)));
    }

    /// What a look-up reads does not grow with the table: keys that an opponent would choose, as near to one another as
    /// keys can be, are spread like any others.
    #[test]
    fn look_ups_read_few_places() {
        let mut index = Index::default();
        let keys = 200_000u32;
        for key in 0..keys {
            index.insert(index.hash(&Encoded::key(&u64::from(key))), key);
        }
        let mut read = 0;
        for key in 0..keys {
            let hash = index.hash(&Encoded::key(&u64::from(key)));
            let mut at = index.home(hash);
            while index.places[at] != joined(hash, key) {
                at = index.behind(at);
                read += 1;
            }
        }
        assert!(read < 2 * keys, "{read} places besides the {keys} homes");
        assert!(index.bytes() <= 22 * keys as usize);
    }
}
