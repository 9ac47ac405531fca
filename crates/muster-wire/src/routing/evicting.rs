//! A bounded cache that, once full, gives up one entry for each new one.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// How many entries are looked at for one that was not used lately.
const TRIES: usize = 8;

/// The values of the keys used last, as far as they cost no more than a bound together.
///
/// What makes room is picked at random among those that were not asked for since they were last looked at. An order of
/// use would lose everything to somebody who goes round more keys than there is room for; so he finds most of them.
#[derive(Debug)]
pub(super) struct EvictingCache<K, V> {
    entries: Vec<Cached<K, V>>,
    positions: HashMap<K, usize>,
    cost: usize,
    limit: usize,
    random: u64,
    next_number: u64,
}

/// An entry of a cache.
#[derive(Debug)]
pub(super) struct Cached<K, V> {
    pub(super) key: K,
    pub(super) value: V,
    /// No other entry of this cache has it, nor had it before.
    pub(super) number: u64,
    cost: usize,
    is_used: bool,
}

impl<K: Hash + Eq + Clone, V> EvictingCache<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: Vec::new(),
            positions: HashMap::new(),
            cost: 0,
            limit,
            random: 0x9e37_79b9_7f4a_7c15,
            next_number: 0,
        }
    }

    /// Forgets everything. Numbers are given out no second time.
    pub(super) fn clear(&mut self) {
        *self = Self {
            random: self.random,
            next_number: self.next_number,
            ..Self::new(self.limit)
        };
    }

    /// How many entries were added in all.
    #[cfg(test)]
    pub(super) fn numbers(&self) -> u64 {
        self.next_number
    }

    /// Returns the entry at a position.
    pub(super) fn get(&self, position: usize) -> Option<&Cached<K, V>> {
        self.entries.get(position)
    }

    /// Returns the position of a key, and notes that it is used. It is valid until the next [`EvictingCache::add`].
    pub(super) fn find<Q>(&mut self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let position = *self.positions.get(key)?;
        if let Some(entry) = self.entries.get_mut(position) {
            entry.is_used = true;
        }
        Some(position)
    }

    /// Adds a key that is not there, and makes room for it if need be: only one that costs more than the bound alone
    /// goes beyond it. Returns its position.
    pub(super) fn add(&mut self, key: K, value: V, cost: usize) -> usize {
        while self.cost + cost > self.limit && !self.entries.is_empty() {
            self.evict();
        }
        self.next_number += 1;
        let position = self.entries.len();
        self.positions.insert(key.clone(), position);
        self.entries.push(Cached {
            key,
            value,
            number: self.next_number,
            cost,
            is_used: false,
        });
        self.cost += cost;
        position
    }

    fn evict(&mut self) {
        let mut position = self.draw();
        for _ in 1..TRIES {
            let entry = &mut self.entries[position];
            if !std::mem::take(&mut entry.is_used) {
                break;
            }
            position = self.draw();
        }
        let evicted = self.entries.swap_remove(position);
        self.positions.remove(&evicted.key);
        self.cost -= evicted.cost;
        if let Some(moved) = self.entries.get(position)
            && let Some(its) = self.positions.get_mut(&moved.key)
        {
            *its = position;
        }
    }

    /// A position, by Marsaglia's generator of 64 bits: it need not be good, and is the same in every run.
    fn draw(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let of = self.entries.len() as u64;
        usize::try_from(((self.random >> 32) * of) >> 32).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks keys up as the caches do. Returns how many were not there.
    fn look_up(cache: &mut EvictingCache<u32, u32>, keys: impl Iterator<Item = u32>) -> usize {
        let mut missed = 0;
        for key in keys {
            let position = cache.find(&key).unwrap_or_else(|| {
                missed += 1;
                cache.add(key, key + 1, 10)
            });
            let found = cache.get(position).unwrap();
            assert_eq!((found.key, found.value), (key, key + 1));
        }
        missed
    }

    #[test]
    fn every_key_has_its_value_and_the_bound_holds() {
        let mut cache = EvictingCache::new(1000);
        for round in 1..500u32 {
            look_up(&mut cache, (0..round).map(|key| key * key % 700));
            assert!(cache.cost <= 1000 && cache.entries.len() <= 100);
            assert_eq!(cache.positions.len(), cache.entries.len());
        }
        cache.clear();
        assert_eq!((cache.cost, cache.find(&1)), (0, None));
        // One that is too large has all the room.
        cache.add(7, 8, 5000);
        assert_eq!(cache.entries.len(), 1);
        look_up(&mut cache, 0..3);
        assert_eq!(cache.cost, 30);
    }

    /// A little beyond the bound costs a little: the whole cache was lost for one key too many.
    #[test]
    fn going_round_somewhat_too_many_keys_finds_most() {
        let mut cache = EvictingCache::new(10_000);
        let rounds = |times: u32| (0..times).flat_map(|_| 0..1200);
        look_up(&mut cache, rounds(5));
        let missed = look_up(&mut cache, rounds(10));
        assert!(missed < 12_000 / 2, "{missed} of 12,000");
    }

    #[test]
    fn what_is_used_all_the_time_stays_while_others_pass_by() {
        let mut cache = EvictingCache::new(10_000);
        let mixed = (0..100_000u32).map(|n| if n % 2 == 0 { n / 2 % 100 } else { 1000 + n });
        look_up(&mut cache, mixed.clone().take(10_000));
        let missed = look_up(&mut cache, mixed.filter(|key| *key < 100));
        assert!(missed < 50_000 / 20, "{missed} of 50,000");
    }
}
