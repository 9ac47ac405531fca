//! The events of a producer that are open, by their numbers.

use std::collections::VecDeque;

use bytes::Bytes;
use muster_wire::EndpointId;

use super::entry::EventId;

/// An event that is not done.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) digest: u32,
    pub(super) payload: Bytes,
    pub(super) made_as: Option<EventId>,
    /// Whom it was sent to, in the present roster.
    pub(super) sent_to: Option<EndpointId>,
}

/// Events by consecutive numbers: most of those between the first and the last one that is open are open.
#[derive(Debug, Default)]
pub(super) struct OpenEvents {
    /// The number of the first element, which is open.
    floor: u64,
    events: VecDeque<Option<Open>>,
    count: usize,
}

impl OpenEvents {
    /// Returns how many are open.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Returns the first number that is open, or the next one.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Returns the number of the next event.
    pub(super) fn next(&self) -> u64 {
        self.floor + self.events.len() as u64
    }

    /// Adds the next event, and returns its number.
    pub(super) fn push(&mut self, open: Open) -> u64 {
        let number = self.next();
        self.events.push_back(Some(open));
        self.count += 1;
        number
    }

    fn index(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.floor)?).ok()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Open> {
        self.events.get(self.index(number)?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Open> {
        let index = self.index(number)?;
        self.events.get_mut(index)?.as_mut()
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Open> {
        let index = self.index(number)?;
        let removed = self.events.get_mut(index)?.take()?;
        self.count -= 1;
        while let Some(None) = self.events.front() {
            self.events.pop_front();
            self.floor += 1;
        }
        Some(removed)
    }

    /// Returns the numbers that may be open of those from `first` to `last`.
    pub(super) fn within(&self, first: u64, last: u64) -> std::ops::Range<u64> {
        let end = last.saturating_add(1).min(self.next());
        first.max(self.floor).min(end)..end
    }

    /// Returns all that are open, in order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Open)> {
        let numbered = (self.floor..).zip(&mut self.events);
        numbered.filter_map(|(number, open)| Some((number, open.as_mut()?)))
    }

    /// Removes all, and returns their numbers.
    pub(super) fn drain(&mut self) -> Vec<u64> {
        let next = self.next();
        let numbers = self.iter_mut().map(|(number, _)| number).collect();
        self.events.clear();
        self.floor = next;
        self.count = 0;
        numbers
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use muster_test_support::Random;

    use super::*;

    fn open(digest: u32) -> Open {
        Open {
            digest,
            payload: Bytes::new(),
            made_as: None,
            sent_to: None,
        }
    }

    #[test]
    fn they_are_what_an_ordered_map_has() {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let mut events = OpenEvents::default();
            let mut map: BTreeMap<u64, u32> = BTreeMap::new();
            let mut next = 0;
            for step in 0..2_000_u32 {
                if random.chance(55) {
                    assert_eq!(events.push(open(step)), next);
                    map.insert(next, step);
                    next += 1;
                } else {
                    let number = random.number(next + 3);
                    let removed = events.remove(number).map(|open| open.digest);
                    assert_eq!(removed, map.remove(&number));
                }
                assert_eq!(events.len(), map.len());
                assert_eq!(events.next(), next);
                let floor = map.keys().next().copied().unwrap_or(next);
                assert_eq!(events.floor(), floor);
                let (first, last) = (random.number(next + 3), random.number(next + 3));
                let within = events.within(first, last).filter(|it| events.has(*it));
                let expected = (first..=last).filter(|it| map.contains_key(it));
                assert!(within.eq(expected));
            }
            assert!(events.within(0, u64::MAX).end == next);
            let pairs = events
                .iter_mut()
                .map(|(number, open)| (number, open.digest));
            assert!(pairs.eq(map.clone()));
            assert!(events.drain().into_iter().eq(map.into_keys()));
            assert_eq!((events.len(), events.floor()), (0, next));
        }
    }
}
