//! What crossed a peering, counted by its reader and its writer.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::endpoint::counts::Compressed;

/// What crossed a peering, in messages and bytes of frames.
#[derive(Debug, Default)]
pub(crate) struct PeerCounts {
    pub(crate) messages_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) messages_out: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) compressed_in: CompressedCounts,
    pub(crate) compressed_out: CompressedCounts,
    /// Reads from the connection that brought something: signs of life.
    pub(crate) reads: AtomicU64,
}

/// What crossed a peering compressed, in bytes of frames, in one direction.
#[derive(Debug, Default)]
pub(crate) struct CompressedCounts {
    bytes: AtomicU64,
    original: AtomicU64,
}

impl CompressedCounts {
    /// Counts a frame, and how large it would have been.
    pub(crate) fn add(&self, bytes: usize, original: usize) {
        PeerCounts::add(&self.bytes, bytes as u64);
        PeerCounts::add(&self.original, original as u64);
    }

    pub(crate) fn get(&self) -> Compressed {
        Compressed {
            bytes: PeerCounts::get(&self.bytes),
            original: PeerCounts::get(&self.original),
        }
    }
}

impl PeerCounts {
    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
