//! Hashing of endpoint ids, which are looked up for every record that comes.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::mesh::score::mix;

/// Makes hashers that share a random number: whoever chooses ids cannot have many of them in one place.
#[derive(Debug, Clone)]
pub(crate) struct IdHash(u64);

impl Default for IdHash {
    fn default() -> Self {
        Self(RandomState::new().hash_one(()))
    }
}

impl BuildHasher for IdHash {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.0)
    }
}

/// Hashes one id.
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.0 = mix(self.0 ^ u64::from_le_bytes(word));
        }
    }

    fn write_usize(&mut self, _: usize) {
        // All ids have one length.
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::EndpointId;

    #[test]
    fn ids_that_differ_in_little_have_other_hashes() {
        let hash = IdHash::default();
        let ids = (0..4096u16).map(|number| {
            let mut bytes = [7; 16];
            bytes[6..8].copy_from_slice(&(number % 64).to_be_bytes());
            bytes[14..].copy_from_slice(&(number / 64).to_be_bytes());
            EndpointId::from_bytes(bytes)
        });
        let hashes: HashSet<u64> = ids.map(|id| hash.hash_one(id)).collect();
        assert_eq!(hashes.len(), 4096);
        let low: HashSet<u64> = hashes.iter().map(|hash| hash % 4096).collect();
        assert!(low.len() > 2000, "{}", low.len());
        let other = IdHash::default();
        let id = EndpointId::from_bytes([1; 16]);
        assert_ne!(hash.hash_one(id), other.hash_one(id));
    }
}
