//! Many short lists of slots in one piece of memory.

/// A list: where it begins, how long it is, and how long it may become there.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: usize,
    length: usize,
    room: usize,
}

/// One list of slots, in ascending order, for each slot. A walk over a graph reads all of them, and its
/// time is that of memory: so they lie side by side. A list that outgrows its place moves to the end.
#[derive(Debug, Default)]
pub(super) struct Lists {
    spans: Vec<Span>,
    pool: Vec<u32>,
    /// The part of the pool that lists have moved away from.
    left: usize,
}

/// The room of a copy, for so many more slots in lists that move.
const COPY_ROOM: usize = 256;

/// By what part of its size the memory grows, as a divisor: it is there once for each endpoint and view, and in a large
/// mesh it is large.
const GROWTH: usize = 8;

impl Clone for Lists {
    /// A copy is made because it is about to change: it has some room.
    fn clone(&self) -> Self {
        let mut pool = Vec::with_capacity(self.pool.len() + COPY_ROOM);
        pool.extend_from_slice(&self.pool);
        Self {
            spans: self.spans.clone(),
            pool,
            left: self.left,
        }
    }
}

impl Lists {
    /// Makes room for the lists of this many slots.
    pub(super) fn grow(&mut self, slots: usize) {
        if slots > self.spans.len() {
            self.spans.resize(slots, Span::default());
        }
    }

    pub(super) fn get(&self, slot: u32) -> &[u32] {
        let span = self.spans.get(slot as usize).copied().unwrap_or_default();
        &self.pool[span.start..span.start + span.length]
    }

    pub(super) fn contains(&self, slot: u32, other: u32) -> bool {
        self.get(slot).binary_search(&other).is_ok()
    }

    /// Adds to a list; says whether it is new there.
    pub(super) fn insert(&mut self, slot: u32, other: u32) -> bool {
        let Err(at) = self.get(slot).binary_search(&other) else {
            return false;
        };
        let span = self.spans[slot as usize];
        if span.length == span.room {
            self.move_to_the_end(slot);
        }
        let Span { start, length, .. } = self.spans[slot as usize];
        self.pool[start..=start + length].copy_within(at..length, at + 1);
        self.pool[start + at] = other;
        self.spans[slot as usize].length += 1;
        true
    }

    /// Removes from a list; says whether it was there.
    pub(super) fn remove(&mut self, slot: u32, other: u32) -> bool {
        let Ok(at) = self.get(slot).binary_search(&other) else {
            return false;
        };
        let span = &mut self.spans[slot as usize];
        self.pool[span.start..span.start + span.length].copy_within(at + 1.., at);
        span.length -= 1;
        true
    }

    fn move_to_the_end(&mut self, slot: u32) {
        if self.left > 1024 && self.left > self.pool.len() / 2 {
            self.close_up();
        }
        let span = &mut self.spans[slot as usize];
        let old = span.start..span.start + span.length;
        self.left += span.room;
        span.start = self.pool.len();
        span.room = (2 * span.length).max(4);
        let end = span.start + span.room;
        if end > self.pool.capacity() {
            let more = span.room.max(self.pool.len() / GROWTH);
            self.pool.reserve_exact(more);
        }
        self.pool.extend_from_within(old);
        self.pool.resize(end, 0);
    }

    /// Puts the lists side by side again.
    fn close_up(&mut self) {
        let mut pool = Vec::with_capacity(self.pool.len());
        for span in &mut self.spans {
            let old = span.start..span.start + span.length;
            span.start = pool.len();
            span.room = span.length;
            pool.extend_from_slice(&self.pool[old]);
        }
        self.pool = pool;
        self.left = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_are_sets(
            steps in prop::collection::vec((0u32..5, 0u32..60, 0u8..3), 0..2000)
        ) {
            let mut lists = Lists::default();
            lists.grow(5);
            let mut expected = vec![BTreeSet::new(); 5];
            for (slot, other, step) in steps {
                let set: &mut BTreeSet<u32> = &mut expected[slot as usize];
                if step > 0 {
                    prop_assert_eq!(lists.insert(slot, other), set.insert(other));
                } else {
                    prop_assert_eq!(lists.remove(slot, other), set.remove(&other));
                }
                prop_assert_eq!(lists.contains(slot, other), set.contains(&other));
            }
            for (slot, set) in (0u32..).zip(&expected) {
                prop_assert!(lists.get(slot).iter().eq(set));
            }
            prop_assert!(lists.get(5).is_empty());
        }

        #[test]
        fn the_places_that_lists_have_left_are_used_again(others in 100u32..400) {
            let mut lists = Lists::default();
            lists.grow(100);
            for other in 0..others {
                for slot in 0..100 {
                    lists.insert(slot, other);
                }
            }
            for slot in 0..100 {
                prop_assert!(lists.get(slot).iter().copied().eq(0..others));
            }
            prop_assert!(lists.pool.len() < 400 * others as usize);
        }
    }
}
