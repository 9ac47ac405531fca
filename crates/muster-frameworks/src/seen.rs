//! What has been seen before, within a bound.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// A bounded set of keys; the one that came first goes first.
#[derive(Debug)]
pub(crate) struct Seen<K> {
    keys: HashSet<K>,
    order: VecDeque<K>,
    bound: usize,
}

impl<K: Copy + Eq + Hash> Seen<K> {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            keys: HashSet::new(),
            order: VecDeque::new(),
            bound: bound.max(1),
        }
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.keys.contains(key)
    }

    /// Adds a key, and says how many it drove out: 0 or 1.
    pub(crate) fn insert(&mut self, key: K) -> u64 {
        if !self.keys.insert(key) {
            return 0;
        }
        self.order.push_back(key);
        if self.keys.len() <= self.bound {
            return 0;
        }
        if let Some(oldest) = self.order.pop_front() {
            self.keys.remove(&oldest);
        }
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut seen = Seen::new(2);
        assert_eq!((seen.insert(1), seen.insert(2), seen.insert(1)), (0, 0, 0));
        assert_eq!(seen.insert(3), 1);
        assert!(!seen.contains(&1) && seen.contains(&2) && seen.contains(&3));
    }
}
