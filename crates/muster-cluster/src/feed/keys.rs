//! The keys that a follower has.

use super::index::{Digest, Index};

/// What is before each key: when it was put last, and its length.
const HEAD: usize = 8;

/// The bit of a length that says that the key is no longer there.
const DEAD: u32 = 1 << 31;

/// With fewer bytes of keys that are no longer there nothing is moved.
const LITTLE: usize = 4_096;

/// The keys that a framework was told of, each with the round in which that was last. They are behind one another in one piece
/// of memory.
#[derive(Debug, Default)]
pub(super) struct Keys {
    bytes: Vec<u8>,
    index: Index,
    len: usize,
    /// The bytes of those that are no longer there.
    dead: usize,
}

impl Keys {
    /// Returns the number of keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() - self.dead
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.find(Digest::of(key), key).is_some()
    }

    /// Puts a key. Returns `true` if it was there.
    pub(super) fn put(&mut self, key: &[u8], round: u32) -> bool {
        let digest = Digest::of(key);
        if let Some(place) = self.find(digest, key) {
            if let Some(there) = self.bytes.get_mut(place..place + 4) {
                there.copy_from_slice(&round.to_le_bytes());
            }
            return true;
        }
        let place = self.bytes.len() as u64;
        let length = u32::try_from(key.len()).unwrap_or(DEAD) & !DEAD;
        self.bytes.extend_from_slice(&round.to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.index.set(digest, key, None, place);
        self.len += 1;
        false
    }

    /// Removes a key. Returns `true` if it was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let Some(place) = self.find(Digest::of(key), key) else {
            return false;
        };
        self.kill(place);
        self.tidy();
        true
    }

    /// Removes the keys that were put before a round, a number of keys at a time: looks at `most` keys from a place on, and hands
    /// those that are removed to `removed`. Returns the next place, or `None` at the end. In between nothing may be put or removed.
    pub(super) fn sweep(
        &mut self,
        mut place: usize,
        most: usize,
        round: u32,
        mut removed: impl FnMut(&[u8]),
    ) -> Option<usize> {
        for _ in 0..most {
            let Some((put, is_dead, key)) = record(&self.bytes, place) else {
                self.tidy();
                return None;
            };
            let next = place + HEAD + key.len();
            if !is_dead && put != round {
                removed(key);
                self.kill(place);
            }
            place = next;
        }
        Some(place)
    }

    fn find(&self, digest: Digest, key: &[u8]) -> Option<usize> {
        let place = self
            .index
            .find(digest, key, |place| key_at(&self.bytes, place))?;
        usize::try_from(place).ok()
    }

    /// The key at a place is no longer there.
    fn kill(&mut self, place: usize) {
        let Some((_, false, key)) = record(&self.bytes, place) else {
            return;
        };
        self.index.forget(key, place as u64);
        let length = u32::try_from(key.len()).unwrap_or(0);
        self.dead += HEAD + key.len();
        self.len -= 1;
        if let Some(there) = self.bytes.get_mut(place + 4..place + HEAD) {
            there.copy_from_slice(&(length | DEAD).to_le_bytes());
        }
    }

    /// Moves the keys together if most of the memory has none.
    fn tidy(&mut self) {
        if self.dead < LITTLE || self.dead * 2 < self.bytes.len() {
            return;
        }
        let mut kept = Vec::with_capacity(self.bytes());
        self.index.clear();
        let mut place = 0;
        while let Some((_, is_dead, key)) = record(&self.bytes, place) {
            let end = place + HEAD + key.len();
            if !is_dead {
                let digest = Digest::of(key);
                self.index.set(digest, key, None, kept.len() as u64);
                kept.extend_from_slice(self.bytes.get(place..end).unwrap_or_default());
            }
            place = end;
        }
        self.bytes = kept;
        self.dead = 0;
    }
}

/// The key at a place: when it was put, whether it is no longer there, and it.
fn record(bytes: &[u8], place: usize) -> Option<(u32, bool, &[u8])> {
    let rest = bytes.get(place..)?;
    let (round, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length);
    let key = rest.get(..usize::try_from(length & !DEAD).ok()?)?;
    Some((u32::from_le_bytes(*round), length & DEAD != 0, key))
}

fn key_at(bytes: &[u8], place: u64) -> Option<&[u8]> {
    let (_, is_dead, key) = record(bytes, usize::try_from(place).ok()?)?;
    (!is_dead).then_some(key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use muster_test_support::Random;

    use super::*;

    #[test]
    fn keys_are_what_was_put_and_not_removed_whatever_their_digests() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let (mut keys, mut model) = (Keys::default(), BTreeMap::new());
            for round in 1..5 {
                for _ in 0..3_000 {
                    let key = random.below(900).to_string().into_bytes();
                    if random.chance(60) {
                        let was_there = keys.put(&key, round);
                        assert_eq!(was_there, model.insert(key, round).is_some());
                    } else {
                        assert_eq!(keys.remove(&key), model.remove(&key).is_some());
                    }
                    assert_eq!(keys.len(), model.len());
                    assert!(keys.dead < LITTLE || keys.dead * 2 < keys.bytes.len());
                }
                let mut swept = Vec::new();
                let mut place = Some(0);
                while let Some(from) = place {
                    place = keys.sweep(from, 7, round, |key| swept.push(key.to_vec()));
                }
                swept.sort();
                let is_old = |put: &u32| *put != round;
                let old = model.iter().filter(|(_, put)| is_old(put));
                let old: Vec<Vec<u8>> = old.map(|(key, _)| key.clone()).collect();
                assert_eq!(swept, old);
                model.retain(|_, put| !is_old(put));
                assert!(model.keys().all(|key| keys.contains(key)));
                let bytes: usize = model.keys().map(|key| key.len() + HEAD).sum();
                assert_eq!((keys.len(), keys.bytes()), (model.len(), bytes));
            }
        }
    }
}
