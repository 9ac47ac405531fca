//! Large buffers that are used again. A new one is memory that the system has to clear, and that is in no cache: at
//! 1 MiB, a third of the rate of a fast link.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

/// Smaller buffers are left to the allocator.
pub(crate) const LARGE: usize = 8 << 10;

/// The most bytes that an endpoint keeps for payloads, and as many for reading.
const KEPT: usize = 16 << 20;

/// The most buffers of either.
const BUFFERS: usize = 128;

/// A buffer is used for what needs at least this part of it, as a divisor: the rest is memory that nobody accounts for.
const WASTED: usize = 8;

/// The buffers of an endpoint that are used again.
#[derive(Debug, Default)]
pub(crate) struct Recycling {
    payloads: Arc<Pool<Vec<u8>>>,
    reads: Pool<Bytes>,
}

impl Recycling {
    /// Returns an empty buffer for a payload of about `size` bytes.
    pub(crate) fn for_payload(&self, size: usize) -> Vec<u8> {
        let mut kept = self.payloads.lock();
        let most = size + size / WASTED;
        let found = kept.take(|_, capacity| (size..=most).contains(&capacity));
        drop(kept);
        found.unwrap_or_else(|| Vec::with_capacity(size))
    }

    /// Makes a payload of a buffer. When nobody has it any more, the buffer is used again.
    pub(crate) fn payload(&self, buffer: Vec<u8>) -> Bytes {
        if buffer.capacity() < LARGE {
            return Bytes::from(buffer);
        }
        let pool = Arc::clone(&self.payloads);
        Bytes::from_owner(Lent { buffer, pool })
    }

    /// Returns a buffer to read into that begins with the bytes of `full`, and has room for at least `more` behind them.
    /// What others have of `full`, which had an allocation of so many bytes, keeps its place until they drop it.
    pub(crate) fn read_on(&self, full: BytesMut, allocation: usize, more: usize) -> BytesMut {
        let full = match full.freeze().try_into_mut() {
            // Nobody else has a part of it: it grows where it is.
            Ok(mut own) => {
                own.reserve(more);
                return own;
            }
            Err(full) => full,
        };
        let size = full.len() + more;
        let most = size.saturating_mul(2);
        let mut kept = self.reads.lock();
        let found =
            kept.take(|buffer, capacity| (size..=most).contains(&capacity) && buffer.is_unique());
        let found = found.and_then(|buffer| buffer.try_into_mut().ok());
        let mut next = match found {
            Some(mut buffer) => {
                buffer.clear();
                buffer.reserve(size);
                buffer
            }
            None => BytesMut::with_capacity(size),
        };
        next.extend_from_slice(&full);
        if allocation >= LARGE {
            kept.put(full, allocation);
        }
        next
    }

    /// Gives all back that was not used since this was called last.
    pub(crate) fn trim(&self) {
        self.payloads.lock().trim();
        self.reads.lock().trim();
    }
}

/// Buffers that are kept.
#[derive(Debug)]
struct Pool<B>(Mutex<Kept<B>>);

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<B> Pool<B> {
    fn lock(&self) -> MutexGuard<'_, Kept<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Buffers with their capacities, the newest, which are in the processor's caches, last.
#[derive(Debug)]
struct Kept<B> {
    buffers: VecDeque<(B, usize)>,
    bytes: usize,
    /// Whether one was used of late.
    is_used: bool,
}

impl<B> Default for Kept<B> {
    fn default() -> Self {
        Self {
            buffers: VecDeque::new(),
            bytes: 0,
            is_used: false,
        }
    }
}

impl<B> Kept<B> {
    /// Takes the newest that fits.
    fn take(&mut self, fits: impl Fn(&B, usize) -> bool) -> Option<B> {
        self.is_used = true;
        let at = self
            .buffers
            .iter()
            .rposition(|(buffer, capacity)| fits(buffer, *capacity))?;
        let (buffer, capacity) = self.buffers.remove(at)?;
        self.bytes -= capacity;
        Some(buffer)
    }

    /// Keeps a buffer, and gives up the oldest if that is too many.
    fn put(&mut self, buffer: B, capacity: usize) {
        if capacity > KEPT / 2 {
            return;
        }
        self.bytes += capacity;
        self.buffers.push_back((buffer, capacity));
        while self.bytes > KEPT || self.buffers.len() > BUFFERS {
            let Some((_, capacity)) = self.buffers.pop_front() else {
                return;
            };
            self.bytes -= capacity;
        }
    }

    fn trim(&mut self) {
        if !std::mem::take(&mut self.is_used) {
            *self = Self::default();
        }
    }
}

/// The buffer of a payload.
struct Lent {
    buffer: Vec<u8>,
    pool: Arc<Pool<Vec<u8>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let capacity = buffer.capacity();
        self.pool.lock().put(buffer, capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_of_a_payload_is_used_again_when_nobody_has_it() {
        let recycling = Recycling::default();
        let mut buffer = recycling.for_payload(1 << 20);
        buffer.extend_from_slice(&[7; 1000]);
        let place = buffer.as_ptr();
        let payload = recycling.payload(buffer);
        let other = payload.clone();
        drop(payload);
        let is_given = |size| {
            let buffer = recycling.for_payload(size);
            buffer.as_ptr() == place
        };
        assert!(!is_given(1 << 20));
        assert_eq!(other[..], [7; 1000]);
        drop(other);
        // One that would be mostly empty is not taken, nor one that would have to grow.
        assert!(!is_given(1 << 19) && !is_given(1 << 21));
        let again = recycling.for_payload((1 << 20) - 100);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    /// What somebody still reads must stay as it is.
    #[test]
    fn a_read_buffer_is_used_again_when_all_parts_of_it_are_gone() {
        let recycling = Recycling::default();
        let size = 1 << 20;
        let mut buffer = BytesMut::with_capacity(size);
        let place = buffer.as_ptr();
        buffer.extend_from_slice(&[1; 600]);
        let first = buffer.split_to(200).freeze();
        let second = buffer.split_to(300).freeze();
        let mut next = recycling.read_on(buffer, size, size);
        assert_eq!(next[..], [1; 100]);
        assert_ne!(next.as_ptr(), place);
        next.resize(size, 2);
        drop(first);
        let allocation = next.capacity();
        let third = next.split_to(size).freeze();
        let mut next = recycling.read_on(next, allocation, size);
        assert_ne!(next.as_ptr(), place);
        assert_eq!(second[..], [1; 300]);
        drop(second);
        next.resize(size, 3);
        let allocation = next.capacity();
        let fourth = next.split_to(size).freeze();
        let next = recycling.read_on(next, allocation, size);
        assert_eq!((next.as_ptr(), next.len()), (place, 0));
        assert!(next.capacity() >= size);
        assert_eq!((third[99], third[100], fourth[0]), (1, 2, 3));
    }

    /// A frame that grows while it comes must not leave what it has outgrown behind.
    #[test]
    fn a_read_buffer_that_nobody_shares_is_not_kept() {
        let recycling = Recycling::default();
        let mut buffer = BytesMut::with_capacity(LARGE);
        buffer.resize(LARGE, 1);
        let buffer = recycling.read_on(buffer, LARGE, 1 << 20);
        assert!(buffer.capacity() >= LARGE + (1 << 20));
        assert_eq!(
            (buffer.len(), buffer.iter().all(|byte| *byte == 1)),
            (LARGE, true)
        );
        assert_eq!(recycling.reads.lock().bytes, 0);
    }

    #[test]
    fn what_is_kept_is_bounded_and_goes_when_it_is_not_used() {
        let recycling = Recycling::default();
        let payloads: Vec<Bytes> = (0..100)
            .map(|_| recycling.payload(Vec::with_capacity(1 << 20)))
            .collect();
        assert_eq!(recycling.payloads.lock().bytes, 0);
        drop(payloads);
        let kept = |recycling: &Recycling| {
            let kept = recycling.payloads.lock();
            (kept.bytes, kept.buffers.len())
        };
        assert_eq!(kept(&recycling), (KEPT, KEPT >> 20));
        drop(recycling.payload(Vec::with_capacity(KEPT)));
        assert_eq!(kept(&recycling), (KEPT, KEPT >> 20));
        let small: Vec<Bytes> = (0..2 * BUFFERS)
            .map(|_| recycling.payload(Vec::with_capacity(LARGE)))
            .collect();
        drop(small);
        assert_eq!(kept(&recycling), (BUFFERS * LARGE, BUFFERS));
        drop(recycling.for_payload(100 << 10));
        recycling.trim();
        assert_eq!(kept(&recycling).1, BUFFERS);
        recycling.trim();
        assert_eq!(kept(&recycling), (0, 0));
    }
}
