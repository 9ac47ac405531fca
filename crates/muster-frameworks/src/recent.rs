//! What has been seen lately, within a bound.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use muster_wire::Mono;

/// The time after which what is known of a network is logged again, as in Zeek.
pub(crate) const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// How much longer a worker remembers what it has told than the owner does what it was told: told again
/// too early, it would be known still, and not be told another time for as long.
const WORKERS_REMEMBER_LONGER: Duration = Duration::from_secs(60);

/// A bounded set of keys that are forgotten some time after they came; the one that came first goes
/// first.
#[derive(Debug)]
pub(crate) struct Recent<K> {
    keys: HashSet<K>,
    order: VecDeque<(Mono, K)>,
    bound: usize,
    expiry: Duration,
}

/// How long a worker remembers what it has told an owner that remembers it for `expiry`.
pub(crate) fn workers_expiry(expiry: Duration) -> Duration {
    expiry.saturating_add(WORKERS_REMEMBER_LONGER)
}

impl<K: Clone + Eq + Hash> Recent<K> {
    pub(crate) fn new(bound: usize, expiry: Duration) -> Self {
        Self {
            keys: HashSet::new(),
            order: VecDeque::new(),
            bound: bound.max(1),
            expiry,
        }
    }

    /// Whether a key has come within the time before `now`.
    pub(crate) fn contains(&mut self, key: &K, now: Mono) -> bool {
        while let Some((since, _)) = self.order.front()
            && since.after(self.expiry) <= now
        {
            self.forget_first();
        }
        self.keys.contains(key)
    }

    /// Adds a key, and says how many it drove out: 0 or 1.
    pub(crate) fn insert(&mut self, key: K, now: Mono) -> u64 {
        if !self.keys.insert(key.clone()) {
            return 0;
        }
        self.order.push_back((now, key));
        if self.keys.len() <= self.bound {
            return 0;
        }
        self.forget_first();
        1
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.keys.remove(&key);
        }
    }

    /// Keeps only the keys for which `keep` holds.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        let keys = &mut self.keys;
        self.order.retain(|(_, key)| {
            let keep = keep(key);
            if !keep {
                keys.remove(key);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut recent = Recent::new(2, A_DAY);
        let now = Mono(0);
        let mut insert = |key| recent.insert(key, now);
        assert_eq!((insert(1), insert(2), insert(1), insert(3)), (0, 0, 0, 1));
        assert!(!recent.contains(&1, now) && recent.contains(&2, now) && recent.contains(&3, now));
        recent.retain(|key| *key != 3);
        assert_eq!((recent.insert(4, now), recent.contains(&2, now)), (0, true));
    }

    #[test]
    fn what_came_long_ago_is_forgotten() {
        let mut recent = Recent::new(10, Duration::from_nanos(5));
        recent.insert('a', Mono(0));
        recent.insert('b', Mono(3));
        assert!(recent.contains(&'a', Mono(4)));
        // Another sight of it does not make it younger: it is logged once each day.
        recent.insert('a', Mono(4));
        assert!(!recent.contains(&'a', Mono(5)) && recent.contains(&'b', Mono(7)));
        assert!(!recent.contains(&'b', Mono(8)));
        assert!(recent.order.is_empty() && recent.keys.is_empty());
    }
}
