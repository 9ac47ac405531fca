//! Sets of small numbers as bits.

/// A set of positions, one bit each; grows as needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BitSet {
    words: Vec<u64>,
}

fn place(position: u32) -> (usize, u64) {
    ((position / 64) as usize, 1 << (position % 64))
}

impl BitSet {
    /// Adds a position. Returns `true` if it was not in the set.
    pub fn insert(&mut self, position: u32) -> bool {
        let (word, bit) = place(position);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        is_new
    }

    /// Removes a position, if it is in the set.
    pub fn remove(&mut self, position: u32) {
        let (word, bit) = place(position);
        if let Some(word) = self.words.get_mut(word) {
            *word &= !bit;
        }
    }

    /// Returns `true` if a position is in the set.
    pub fn contains(&self, position: u32) -> bool {
        let (word, bit) = place(position);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Returns `true` if the two sets have a position in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.words
            .iter()
            .zip(&other.words)
            .any(|(mine, theirs)| mine & theirs != 0)
    }

    /// Returns the number of positions in the set.
    pub fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Returns `true` if the set is empty.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Returns the positions in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        positions(self.words.iter().copied())
    }

    /// The positions that are in the set and among these bits, in ascending order.
    pub(super) fn common(&self, bits: &[u64]) -> impl Iterator<Item = u32> {
        let pairs = self.words.iter().zip(bits);
        positions(pairs.map(|(mine, theirs)| mine & theirs))
    }

    /// Returns the positions that are in this set and not in the other, in ascending order.
    pub fn without(&self, other: &Self) -> impl Iterator<Item = u32> {
        let theirs = other.words.iter().copied().chain(std::iter::repeat(0));
        let pairs = self.words.iter().zip(theirs);
        positions(pairs.map(|(mine, theirs)| mine & !theirs))
    }

    /// Makes the set that of all positions up to this number of them, and perhaps a few more.
    pub(super) fn fill(&mut self, positions: usize) {
        self.words.clear();
        self.words.resize(positions.div_ceil(64), u64::MAX);
    }
}

fn positions(words: impl Iterator<Item = u64>) -> impl Iterator<Item = u32> {
    (0u32..).zip(words).flat_map(|(index, word)| {
        let mut rest = word;
        std::iter::from_fn(move || {
            let bit = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            (bit < 64).then_some(index * 64 + bit)
        })
    })
}

impl FromIterator<u32> for BitSet {
    fn from_iter<I: IntoIterator<Item = u32>>(positions: I) -> Self {
        let mut set = Self::default();
        for position in positions {
            set.insert(position);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_is_a_set(
            added in prop::collection::vec(0u32..300, 0..50), removed in prop::collection::vec(0u32..400, 0..50)
        ) {
            let mut expected: BTreeSet<u32> = added.iter().copied().collect();
            let mut bits: BitSet = added.into_iter().collect();
            for position in removed {
                bits.remove(position);
                expected.remove(&position);
                prop_assert!(!bits.contains(position));
            }
            prop_assert_eq!(bits.len(), expected.len());
            prop_assert_eq!(bits.is_empty(), expected.is_empty());
            prop_assert!(bits.iter().eq(expected.iter().copied()));
            prop_assert_eq!(bits.meets(&bits), !expected.is_empty());
        }

        #[test]
        fn two_sets_have_an_intersection_and_a_difference(
            mine in prop::collection::btree_set(0u32..300, 0..50), theirs in prop::collection::btree_set(0u32..200, 0..50)
        ) {
            let bits = |set: &BTreeSet<u32>| set.iter().copied().collect::<BitSet>();
            let (a, b) = (bits(&mine), bits(&theirs));
            prop_assert!(a.common(&b.words).eq(mine.intersection(&theirs).copied()));
            prop_assert!(a.without(&b).eq(mine.difference(&theirs).copied()));
            prop_assert!(b.without(&a).eq(theirs.difference(&mine).copied()));
        }
    }
}
