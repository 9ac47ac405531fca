//! Where the latest of many things of one key lies in a list.

/// The places of a table that is kept when its list is emptied.
const KEPT: usize = 8192;

/// The positions in a list, by hashes of keys that are numbers made here or random ids: whoever chooses ids that
/// collide finds a list that is searched, as it would be without this.
#[derive(Debug)]
pub(super) struct Latest {
    /// A round and a position in its list; those of another round are empty.
    places: Vec<(u32, u32)>,
    length: usize,
    round: u32,
    /// The position after that of the last key, and the one where the last message began: most messages go where
    /// the one before went, in the same order.
    next: usize,
    start: usize,
    #[cfg(test)]
    pub(super) looked_at: usize,
}

impl Default for Latest {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            length: 0,
            round: 1,
            next: 0,
            start: 0,
            #[cfg(test)]
            looked_at: 0,
        }
    }
}

impl Latest {
    /// The list is empty.
    pub(super) fn clear(&mut self) {
        self.length = 0;
        (self.next, self.start) = (0, 0);
        let too_large = self.places.len() > KEPT;
        if too_large || self.round == u32::MAX {
            self.places = Vec::new();
            self.round = 0;
        }
        self.round += 1;
    }

    /// Returns the position of the latest with a key, if there is one. `is_it` says whether a position is that.
    pub(super) fn find(
        &mut self,
        hash: u64,
        mut is_it: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        #[cfg(test)]
        {
            self.looked_at += 1;
        }
        if !is_it(self.next) {
            if is_it(self.start) {
                self.next = self.start;
            } else {
                let at = self.place(hash, &mut is_it)?;
                let (round, position) = self.places[at];
                if round != self.round {
                    return None;
                }
                self.next = position as usize;
                self.start = self.next;
            }
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// Notes that the latest with a key is at a position. `is_it` says whether a position had that key.
    pub(super) fn set(
        &mut self,
        hash: u64,
        position: usize,
        is_it: impl FnMut(usize) -> bool,
        hash_of: impl Fn(usize) -> u64,
    ) {
        if (self.length + 1) * 2 > self.places.len() {
            self.grow(hash_of);
        }
        if let Some(at) = self.place(hash, is_it) {
            if self.places[at].0 != self.round {
                self.length += 1;
            }
            self.places[at] = (self.round, u32::try_from(position).unwrap_or(u32::MAX));
        }
        self.next = position + 1;
    }

    /// The place that has a key, or would have it.
    fn place(&mut self, hash: u64, mut is_it: impl FnMut(usize) -> bool) -> Option<usize> {
        let places = self.places.len();
        if places == 0 {
            return None;
        }
        let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let mut at = usize::try_from(hash).unwrap_or(0) & (places - 1);
        loop {
            #[cfg(test)]
            {
                self.looked_at += 1;
            }
            let (round, position) = self.places[at];
            if round != self.round || is_it(position as usize) {
                return Some(at);
            }
            at = (at + 1) & (places - 1);
        }
    }

    fn grow(&mut self, hash_of: impl Fn(usize) -> u64) {
        let larger = vec![(0, 0); (self.places.len() * 2).max(16)];
        let old = std::mem::replace(&mut self.places, larger);
        let round = self.round;
        for place in old.into_iter().filter(|place| place.0 == round) {
            if let Some(at) = self.place(hash_of(place.1 as usize), |_| false) {
                self.places[at] = place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_test_support::Random;

    use super::*;

    /// A list of keys, with the position of the latest of each.
    #[derive(Default)]
    struct List {
        keys: Vec<u64>,
        latest: Latest,
    }

    impl List {
        /// Finds a key as it is found by hash, and by looking at all.
        fn find(&mut self, key: u64, hash: impl Fn(u64) -> u64) -> Option<usize> {
            let expected = self.keys.iter().rposition(|known| *known == key);
            let keys = &self.keys;
            let is_latest = |at: usize| Some(at) == expected && keys[at] == key;
            assert_eq!(self.latest.find(hash(key), is_latest), expected);
            expected
        }

        fn push(&mut self, key: u64, hash: impl Fn(u64) -> u64) {
            self.keys.push(key);
            let keys = &self.keys;
            let at = keys.len() - 1;
            let set = |at: usize| keys[at] == key;
            self.latest.set(hash(key), at, set, |at| hash(keys[at]));
        }
    }

    #[test]
    fn the_latest_is_found_in_every_round_and_however_hashes_collide() {
        for spread in [1u64, 7, u64::MAX] {
            let hash = |key: u64| key.wrapping_mul(0x2545_f491_4f6c_dd1d) % spread;
            let mut random = Random::new(spread);
            let mut list = List::default();
            for _ in 0..40 {
                let keys = 1 + random.number(60);
                for _ in 0..300 {
                    let key = random.number(keys);
                    if list.find(key, hash).is_none() || random.chance(10) {
                        list.push(key, hash);
                    }
                }
                list.keys.clear();
                list.latest.clear();
                assert_eq!(list.find(3, hash), None);
            }
        }
    }

    #[test]
    fn a_table_that_has_grown_much_is_given_back() {
        let mut list = List::default();
        for key in 0..20_000 {
            list.push(key, |key| key);
        }
        assert!(list.latest.places.len() > KEPT);
        list.keys.clear();
        list.latest.clear();
        assert_eq!(list.latest.places.len(), 0);
        list.push(4, |key| key);
        assert_eq!(list.find(4, |key| key), Some(0));
    }
}
