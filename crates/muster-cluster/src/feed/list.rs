//! The list of a source: of each key its last change, in the order of changes.

use std::collections::VecDeque;

use muster_data::{DataRef, encode};

use super::error::FeedErrorKind;
use super::index::{Digest, Index};
use super::limits::FeedLimits;

/// What a change takes besides its bytes, when the bytes of a list are counted.
const AROUND: usize = 4;

/// With fewer changes that later ones have replaced nothing is moved.
const LITTLE: usize = 256;

/// The items of a list. Each is kept once, as it goes to followers: an encoded vector of key and value, or of the key alone if
/// it was removed.
#[derive(Debug, Default)]
pub(super) struct List {
    /// In the order of their numbers.
    changes: VecDeque<Change>,
    index: Index,
    /// The number of the last change.
    head: u64,
    /// Removals up to this number are forgotten.
    floor: u64,
    items: usize,
    bytes: usize,
    /// The numbers of removals that are remembered. Of some the key is there again.
    removals: VecDeque<u64>,
    /// How many changes are kept that later ones have replaced.
    replaced: usize,
}

/// A change, which has no bytes if a later one has replaced it.
#[derive(Debug)]
struct Change {
    number: u64,
    entry: Box<[u8]>,
}

/// Changes behind a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The number of the last one.
    pub(super) to: u64,
    /// How many there are.
    pub(super) count: usize,
}

impl List {
    /// Returns the number of the last change.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Returns the number up to which removals are forgotten.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Returns the number of items.
    pub(super) fn len(&self) -> usize {
        self.items
    }

    /// Returns the bytes of the items and of the removals that are remembered.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let number = self.find(key)?;
        parts(self.entry(number)?)?.1
    }

    /// Sets the value of a key. Returns the bytes of the change, 0 if the value was the same.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        limits: &FeedLimits,
    ) -> Result<usize, FeedErrorKind> {
        let size = key.len() + value.len() + AROUND;
        if size > limits.part {
            let most = limits.part;
            return Err(FeedErrorKind::ItemTooLarge { bytes: size, most });
        }
        let former = self.find(key);
        let there = former.and_then(|number| self.entry(number));
        let is_item = there.and_then(parts).map(|(_, value)| value);
        if is_item == Some(Some(value)) {
            return Ok(0);
        }
        let is_new = !matches!(is_item, Some(Some(_)));
        if is_new && self.items >= limits.items {
            return Err(FeedErrorKind::TooManyItems(limits.items));
        }
        let less = there.map_or(0, <[u8]>::len);
        if self.bytes - less + size > limits.bytes {
            return Err(FeedErrorKind::TooManyBytes(limits.bytes));
        }
        self.items += usize::from(is_new);
        let mut entry = Vec::with_capacity(size);
        encode::vector_header(&mut entry, 2);
        entry.extend_from_slice(key);
        entry.extend_from_slice(value);
        Ok(self.append(key, former, entry))
    }

    /// Removes a key. Returns the bytes of the change, 0 if the key was not there.
    pub(super) fn remove(&mut self, key: &[u8], limits: &FeedLimits) -> usize {
        let former = self.find(key);
        let there = former.and_then(|number| parts(self.entry(number)?)?.1);
        if there.is_none() {
            return 0;
        }
        let mut entry = Vec::with_capacity(key.len() + AROUND);
        encode::vector_header(&mut entry, 1);
        entry.extend_from_slice(key);
        let size = self.append(key, former, entry);
        self.items -= 1;
        self.removals.push_back(self.head);
        while self.removals.len() > limits.removals {
            self.forget_removal();
        }
        self.tidy();
        size
    }

    /// Returns the changes behind a position, as many as have about so many bytes; at least one, if there is one.
    pub(super) fn stretch(&self, position: u64, bytes: usize) -> Stretch {
        let mut stretch = Stretch {
            to: self.head,
            count: 0,
        };
        let (mut taken, mut last) = (0, position);
        for change in self.behind(position) {
            taken += change.entry.len();
            if taken > bytes && stretch.count > 0 {
                stretch.to = last;
                break;
            }
            stretch.count += 1;
            last = change.number;
        }
        stretch
    }

    /// Appends changes behind a position, encoded, as a vector.
    pub(super) fn put_stretch(&self, out: &mut Vec<u8>, position: u64, stretch: Stretch) {
        encode::vector_header(out, stretch.count);
        for change in self.behind(position).take(stretch.count) {
            out.extend_from_slice(&change.entry);
        }
    }

    fn behind(&self, position: u64) -> impl Iterator<Item = &Change> {
        let first = self
            .changes
            .partition_point(|change| change.number <= position);
        let behind = self.changes.range(first..);
        behind.filter(|change| !change.entry.is_empty())
    }

    fn append(&mut self, key: &[u8], former: Option<u64>, entry: Vec<u8>) -> usize {
        if let Some(former) = former {
            self.replace(former);
        }
        self.head += 1;
        let size = entry.len();
        self.bytes += size;
        self.changes.push_back(Change {
            number: self.head,
            entry: entry.into_boxed_slice(),
        });
        self.index.set(Digest::of(key), key, former, self.head);
        self.tidy();
        size
    }

    /// Forgets the first of the removals.
    fn forget_removal(&mut self) {
        let Some(number) = self.removals.pop_front() else {
            return;
        };
        // If the key is there again, a follower hears of that.
        let Some(entry) = self.entry(number) else {
            return;
        };
        if let Some((key, _)) = parts(entry) {
            let key = key.to_vec();
            self.index.forget(&key, number);
            self.floor = number;
        }
        self.replace(number);
    }

    /// A change is not kept.
    fn replace(&mut self, number: u64) {
        let Some(place) = self.place(number) else {
            return;
        };
        if let Some(change) = self.changes.get_mut(place) {
            self.bytes -= change.entry.len();
            change.entry = Box::default();
            self.replaced += 1;
        }
    }

    /// Drops changes that were replaced, if they are the most.
    fn tidy(&mut self) {
        while self.changes.front().is_some_and(|it| it.entry.is_empty()) {
            self.changes.pop_front();
            self.replaced -= 1;
        }
        if self.replaced > LITTLE && self.replaced * 2 > self.changes.len() {
            self.changes.retain(|change| !change.entry.is_empty());
            self.changes.shrink_to_fit();
            self.replaced = 0;
        }
    }

    fn find(&self, key: &[u8]) -> Option<u64> {
        self.index.find(Digest::of(key), key, |number| {
            Some(parts(self.entry(number)?)?.0)
        })
    }

    /// Returns a change, if it is kept.
    fn entry(&self, number: u64) -> Option<&[u8]> {
        let change = self.changes.get(self.place(number)?)?;
        Some(&*change.entry).filter(|entry| !entry.is_empty())
    }

    fn place(&self, number: u64) -> Option<usize> {
        // Where nothing is missing in between, it is where its number says.
        let first = self.changes.front()?.number;
        let guess = usize::try_from(number.checked_sub(first)?).ok()?;
        if self
            .changes
            .get(guess)
            .is_some_and(|it| it.number == number)
        {
            return Some(guess);
        }
        self.changes
            .binary_search_by_key(&number, |change| change.number)
            .ok()
    }
}

/// Key and value of a change; without a value it is a removal.
pub(super) fn parts(entry: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut elements = DataRef::from_validated(entry).as_vector()?.iter();
    let key = elements.next()?.encoded();
    Some((key, elements.next().map(|value| value.encoded())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use muster_data::encode_to_vec;
    use muster_test_support::Random;

    use super::*;

    const LIMITS: FeedLimits = FeedLimits {
        items: 200,
        bytes: 8_000,
        removals: 20,
        part: 300,
        ..FeedLimits::STANDARD
    };

    /// What somebody has who was given everything behind a position.
    fn follow(list: &List, mut position: u64, has: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
        while position < list.head() {
            let stretch = list.stretch(position, LIMITS.part);
            let mut out = Vec::new();
            list.put_stretch(&mut out, position, stretch);
            assert!(out.len() <= LIMITS.part + 8, "{}", out.len());
            let entries = DataRef::from_validated(&out).as_vector().unwrap();
            assert_eq!(entries.len(), stretch.count);
            for entry in entries {
                match parts(entry.encoded()).unwrap() {
                    (key, Some(value)) => _ = has.insert(key.to_vec(), value.to_vec()),
                    (key, None) => _ = has.remove(key),
                }
            }
            assert!(stretch.to > position);
            position = stretch.to;
        }
    }

    #[test]
    fn whoever_gets_what_is_behind_a_position_has_the_list() {
        for seed in 0..30 {
            let mut random = Random::new(seed);
            let (mut list, mut model) = (List::default(), BTreeMap::new());
            let mut follower = (0, BTreeMap::new());
            for _ in 0..4_000 {
                let key = encode_to_vec(&random.number(150));
                if random.chance(70) {
                    let value = encode_to_vec(&random.number(3));
                    let size = list.put(&key, &value, &LIMITS).unwrap();
                    let before = model.insert(key.clone(), value.clone());
                    assert_eq!(size == 0, before.as_ref() == Some(&value));
                } else {
                    let size = list.remove(&key, &LIMITS);
                    assert_eq!(size == 0, model.remove(&key).is_none());
                }
                assert_eq!(list.get(&key), model.get(&key).map(|value| &**value));
                assert_eq!(list.len(), model.len());
                assert!(list.removals.len() <= LIMITS.removals);
                assert!(list.changes.len() <= 2 * (LITTLE + 200));
                let kept: usize = list.changes.iter().map(|it| it.entry.len()).sum();
                assert_eq!(list.bytes(), kept);
                if random.chance(2) {
                    let (position, has) = &mut follower;
                    if *position < list.floor() {
                        (*position, *has) = (0, BTreeMap::new());
                    }
                    follow(&list, *position, has);
                    assert_eq!((&*has, list.len()), (&model, model.len()));
                    *position = list.head();
                }
            }
        }
    }

    #[test]
    fn items_and_bytes_are_bounded_and_what_is_refused_changes_nothing() {
        let mut list = List::default();
        let value = encode_to_vec(&7_u64);
        let key = |number: u64| encode_to_vec(&number);
        for number in 0..200 {
            list.put(&key(number), &value, &LIMITS).unwrap();
        }
        let refused = list.put(&key(200), &value, &LIMITS);
        assert_eq!(refused, Err(FeedErrorKind::TooManyItems(200)));
        let changed = encode_to_vec(&8_u64);
        assert!(list.put(&key(3), &changed, &LIMITS).is_ok());
        let large = encode_to_vec(&"x".repeat(280)[..]);
        let refused = list.put(&key(3), &"x".repeat(300).into_bytes(), &LIMITS);
        assert!(matches!(refused, Err(FeedErrorKind::ItemTooLarge { .. })));
        let fit = (4..200).filter(|number| list.put(&key(*number), &large, &LIMITS).is_ok());
        assert_eq!(fit.count(), 14);
        assert_eq!(
            list.put(&key(5), &value, &LIMITS).map(|size| size > 0),
            Ok(true)
        );
        assert!(list.bytes() <= LIMITS.bytes);
        assert_eq!(list.get(&key(3)), Some(&*changed));
        assert!(list.remove(&key(3), &LIMITS) > 0);
        assert!(list.put(&key(200), &value, &LIMITS).is_ok());
    }
}
