//! Sets of batch numbers.

use std::collections::BTreeMap;

/// The most ranges that are read from a message; a set of a message has fewer, as a producer has no more batches open.
const MOST_RANGES: usize = 65_536;

/// A set of batch numbers, kept as ranges: numbers are mostly consecutive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers(BTreeMap<u64, u64>);

impl Numbers {
    /// Returns `true` if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many numbers there are.
    pub fn len(&self) -> u64 {
        let lengths = self
            .0
            .iter()
            .map(|(first, last)| (last - first).saturating_add(1));
        lengths.fold(0, u64::saturating_add)
    }

    /// Returns `true` if a number is among them.
    pub fn contains(&self, number: u64) -> bool {
        let range = self.0.range(..=number).next_back();
        range.is_some_and(|(_, last)| *last >= number)
    }

    /// Adds a number.
    pub fn insert(&mut self, number: u64) {
        self.insert_range(number, number);
    }

    /// Adds all numbers from `first` to `last`.
    pub fn insert_range(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let (mut first, mut last) = (first, last);
        // Ranges that overlap it or touch it become one with it.
        if let Some((&start, &end)) = self.0.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            (first, last) = (start, last.max(end));
        }
        while let Some((&start, &end)) = self.0.range(first..=last.saturating_add(1)).next() {
            last = last.max(end);
            self.0.remove(&start);
        }
        self.0.insert(first, last);
    }

    /// Adds all of another set.
    pub fn extend(&mut self, others: &Self) {
        for (first, last) in others.ranges() {
            self.insert_range(first, last);
        }
    }

    /// Removes a number. Returns `true` if it was there.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some((&first, &last)) = self.0.range(..=number).next_back() else {
            return false;
        };
        if last < number {
            return false;
        }
        self.0.remove(&first);
        if first < number {
            self.0.insert(first, number - 1);
        }
        if number < last {
            self.0.insert(number + 1, last);
        }
        true
    }

    /// Removes all numbers below a bound.
    pub fn remove_below(&mut self, bound: u64) {
        while let Some((&first, &last)) = self.0.first_key_value()
            && first < bound
        {
            self.0.remove(&first);
            if last >= bound {
                self.0.insert(bound, last);
            }
        }
    }

    /// Returns the ranges in order, each with its first and last number.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(first, last)| (*first, *last))
    }

    /// Returns the numbers in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.ranges().flat_map(|(first, last)| first..=last)
    }

    /// Returns the set as messages have it: the first and the last number of each range.
    pub fn to_pairs(&self) -> Vec<u64> {
        let pairs = self.ranges().flat_map(|(first, last)| [first, last]);
        pairs.collect()
    }

    /// Reads what [`to_pairs`](Self::to_pairs) makes. Returns `None` if the pairs are not those of ranges in order.
    pub fn from_pairs(pairs: &[u64]) -> Option<Self> {
        let (pairs, rest) = pairs.as_chunks::<2>();
        if !rest.is_empty() || pairs.len() > MOST_RANGES {
            return None;
        }
        let mut numbers = Self::default();
        let mut bound = 0;
        for &[first, last] in pairs {
            if first < bound || last < first {
                return None;
            }
            // Another one begins behind a gap.
            bound = last.saturating_add(2);
            numbers.0.insert(first, last);
        }
        Some(numbers)
    }
}

impl FromIterator<u64> for Numbers {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut set = Self::default();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_a_set() {
        let mut random = 12_345_u64;
        let mut next = |bound: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % bound
        };
        let (mut numbers, mut model) = (Numbers::default(), BTreeSet::new());
        for _ in 0..20_000 {
            let number = next(60);
            match next(8) {
                0..=3 => {
                    numbers.insert(number);
                    model.insert(number);
                }
                4..=5 => assert_eq!(numbers.remove(number), model.remove(&number)),
                6 => {
                    let last = number + next(5);
                    numbers.insert_range(number, last);
                    model.extend(number..=last);
                }
                _ => {
                    let bound = next(12);
                    numbers.remove_below(bound);
                    model.retain(|number| *number >= bound);
                }
            }
            assert_eq!(numbers.iter().collect::<BTreeSet<_>>(), model);
            assert_eq!(numbers.len(), model.len() as u64);
            let mut ranges = numbers.ranges().collect::<Vec<_>>();
            ranges.dedup_by(|next, before| {
                before.1 + 1 < next.0 && {
                    *before = *next;
                    true
                }
            });
            assert_eq!(
                ranges.len(),
                usize::from(!model.is_empty()),
                "ranges that touch are one"
            );
            assert_eq!(
                Numbers::from_pairs(&numbers.to_pairs()),
                Some(numbers.clone())
            );
        }
    }

    #[test]
    fn pairs_that_are_no_ranges_are_refused() {
        for pairs in [
            &[1_u64][..],
            &[2, 1],
            &[1, 2, 2, 3],
            &[1, 2, 3, 4],
            &[5, 6, 1, 2],
        ] {
            assert_eq!(Numbers::from_pairs(pairs), None, "{pairs:?}");
        }
        let all = Numbers::from_pairs(&[0, u64::MAX]).unwrap();
        assert!(all.contains(u64::MAX) && all.len() == u64::MAX);
    }
}
