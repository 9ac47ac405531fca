//! Where the entry of a key is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};

/// Where the entry of each key is. The keys are where the places lead to, and not here: of a key there are 16 bytes.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By the digest of a key.
    places: HashMap<u64, u64, BuildHasherDefault<Digested>>,
    /// Those whose digest another key has.
    others: HashMap<Box<[u8]>, u64>,
}

/// The digest of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(u64);

/// What is hashed is a digest.
#[derive(Debug, Default)]
struct Digested(u64);

impl Hasher for Digested {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, digest: u64) {
        self.0 = digest;
    }
}

impl Digest {
    pub(super) fn of(key: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(key);
        let digest = hasher.finish();
        // Tests see keys of the same digest.
        Self(if cfg!(test) { digest & 0x3f } else { digest })
    }
}

impl Index {
    /// Returns the place of a key. `key_at` returns the key at a place.
    pub(super) fn find<'a>(
        &self,
        digest: Digest,
        key: &[u8],
        key_at: impl Fn(u64) -> Option<&'a [u8]>,
    ) -> Option<u64> {
        let place = self.places.get(&digest.0).copied();
        if place.is_some_and(|place| key_at(place) == Some(key)) {
            return place;
        }
        self.others.get(key).copied()
    }

    /// Sets the place of a key. `former` is what [`find`](Self::find) has returned.
    pub(super) fn set(&mut self, digest: Digest, key: &[u8], former: Option<u64>, place: u64) {
        match self.places.entry(digest.0) {
            Entry::Vacant(entry) => _ = entry.insert(place),
            Entry::Occupied(mut entry) if Some(*entry.get()) == former => _ = entry.insert(place),
            Entry::Occupied(_) => _ = self.others.insert(key.into(), place),
        }
    }

    /// Forgets a key that is at a place.
    pub(super) fn forget(&mut self, key: &[u8], place: u64) {
        match self.places.entry(Digest::of(key).0) {
            Entry::Occupied(entry) if *entry.get() == place => _ = entry.remove(),
            _ => _ = self.others.remove(key),
        }
    }

    /// Forgets all keys.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.others.clear();
    }
}
