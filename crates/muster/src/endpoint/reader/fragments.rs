//! Large messages that come in parts.

use bytes::Bytes;
use muster_wire::Class;
use muster_wire::mesh::codec::FragmentRef;

/// What has come of the batch whose parts are coming, of the bulk class: one at a time.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    number: u64,
    /// The position of the part that must be next.
    next: u64,
    /// Nothing if no batch has begun.
    bytes: Vec<u8>,
}

/// A part that does not belong to what came before, or is too much: what came of its batch is lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Assembly {
    /// The size of the allocation of what has come.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds a part; the whole body if it was the last one. A body has `limit` bytes at most.
    pub(super) fn add(
        &mut self,
        part: &FragmentRef<'_>,
        limit: usize,
    ) -> Result<Option<Bytes>, Broken> {
        let is_new = part.index == 0 && self.bytes.is_empty();
        let follows = is_new || (part.number == self.number && part.index == self.next);
        let has_begun = is_new || !self.bytes.is_empty();
        let fits = self.bytes.len() + part.bytes.len() <= limit && !part.bytes.is_empty();
        let had_begun = !self.bytes.is_empty();
        if part.class != Class::Bulk || !follows || !has_begun || !fits {
            *self = Self::default();
            // A new one may begin where another was broken off.
            if had_begun && part.index == 0 {
                let _ = self.add(part, limit);
            }
            return Err(Broken);
        }
        self.number = part.number;
        self.next = part.index + 1;
        self.bytes.extend_from_slice(part.bytes);
        Ok(part.last.then(|| std::mem::take(self).bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u64, index: u64, last: bool, bytes: &[u8]) -> FragmentRef<'_> {
        FragmentRef {
            class: Class::Bulk,
            number,
            index,
            last,
            bytes,
        }
    }

    #[test]
    fn parts_in_their_order_make_a_whole_and_others_are_lost() {
        let mut assembly = Assembly::default();
        let whole = |bytes: &'static [u8]| Ok(Some(Bytes::from_static(bytes)));
        assert_eq!(assembly.add(&part(1, 0, true, b"a"), 9), whole(b"a"));
        assert_eq!(assembly.add(&part(2, 0, false, b"ab"), 9), Ok(None));
        assert_eq!(assembly.add(&part(2, 1, false, b"cd"), 9), Ok(None));
        assert_eq!(assembly.add(&part(2, 2, true, b"e"), 9), whole(b"abcde"));
        // One that has not begun, one with a gap and what follows it, one that is broken off by the next.
        assert_eq!(assembly.add(&part(3, 1, true, b"x"), 9), Err(Broken));
        assert_eq!(assembly.add(&part(4, 0, false, b"x"), 9), Ok(None));
        assert_eq!(assembly.add(&part(4, 2, false, b"x"), 9), Err(Broken));
        assert_eq!(assembly.add(&part(4, 3, true, b"x"), 9), Err(Broken));
        assert_eq!(assembly.add(&part(5, 0, false, b"x"), 9), Ok(None));
        assert_eq!(assembly.add(&part(6, 0, false, b"y"), 9), Err(Broken));
        assert_eq!(assembly.add(&part(6, 1, true, b"z"), 9), whole(b"yz"));
        // Too much, nothing at all, and another class.
        assert_eq!(assembly.add(&part(7, 0, false, b"12345"), 9), Ok(None));
        assert_eq!(assembly.add(&part(7, 1, true, b"67890"), 9), Err(Broken));
        assert_eq!(assembly.add(&part(8, 0, false, b""), 9), Err(Broken));
        let event = FragmentRef {
            class: Class::Event,
            ..part(9, 0, true, b"1")
        };
        assert_eq!(assembly.add(&event, 9), Err(Broken));
        assert_eq!(assembly.bytes.capacity(), 0);
    }
}
