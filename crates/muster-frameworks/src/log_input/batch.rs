//! Events on their way out of an input.

use muster_data::Timestamp;

/// The events of a batch at most.
pub const MOST_EVENTS: usize = 512;

/// A batch of this many bytes is full; it may be longer by one event.
pub const MOST_BYTES: usize = 64 << 10;

/// Encoded events in time order, and how far the input has come behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputBatch {
    bytes: Vec<u8>,
    /// Where each event ends.
    ends: Vec<usize>,
    /// The low watermark: the smallest of the latest times that each file which has not ended has
    /// reached, or [`Watermarks::END`](muster_cluster::Watermarks::END) if all have. A file whose
    /// rows run backwards may still bring rows before it.
    pub low: Timestamp,
}

impl InputBatch {
    pub(super) fn new(low: Timestamp) -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            low,
        }
    }

    /// The events, each one value as [`put_event`](muster_wire::zeek::put_event) encodes it.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len()).map(|index| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start..self.ends[index]]
        })
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether the batch brings nothing but its watermark.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn push(&mut self, event: &[u8]) {
        self.bytes.extend_from_slice(event);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn is_full(&self) -> bool {
        self.ends.len() >= MOST_EVENTS || self.bytes.len() >= MOST_BYTES
    }
}
