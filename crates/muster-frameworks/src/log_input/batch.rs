//! Events on their way out of an input.

use muster_data::Timestamp;

use super::summary::InputNote;

/// The most events of a batch.
pub const MOST_EVENTS: usize = 512;

/// A batch with this many bytes is full; the last event may exceed them.
pub const MOST_BYTES: usize = 64 << 10;

/// Encoded events in the order of time, and how far the input has come after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputBatch {
    bytes: Vec<u8>,
    /// Where each event ends.
    ends: Vec<usize>,
    /// The low watermark. Each file that has not ended has reached some latest time; this is the smallest of them, or
    /// [`Watermarks::END`](muster_cluster::Watermarks::END) if all files have ended. A file whose rows go back in time
    /// may still bring rows before it. Rows whose time is out of line do not move it.
    ///
    /// What is written while it is read ends only when it is said to, and holds nothing back while it has nothing.
    pub low: Timestamp,
    /// What there is to say about the files since the last batch.
    pub notes: Vec<InputNote>,
    /// What became of the rows since the last batch, as an event for the node that reads.
    counted: Option<Vec<u8>>,
}

impl InputBatch {
    pub(super) fn new(low: Timestamp) -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            low,
            notes: Vec::new(),
            counted: None,
        }
    }

    /// Returns the events, each encoded by [`put_event`](muster_wire::zeek::put_event).
    pub fn events(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len()).map(|index| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start..self.ends[index]]
        })
    }

    /// Returns the event that says what became of the rows since the last batch, encoded like those of the rows. It is
    /// for the node that reads: [`InputCounters`](super::InputCounters) counts there. `None` if nothing was read.
    pub fn counted(&self) -> Option<&[u8]> {
        self.counted.as_deref()
    }

    pub(super) fn count(&mut self, counted: Option<Vec<u8>>) {
        self.counted = counted;
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns `true` if the batch brings nothing but its watermark.
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
