//! Received messages, in the batches in which they arrived.

use bytes::Bytes;
use muster_wire::counters::{DropCause, DropLedger};
use muster_wire::{EndpointId, Message, Queued, Topic};

use crate::endpoint::in_order::{InOrder, Place};

/// Messages that arrived with one read from one peer's connection, sharing one buffer.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) number: u64,
    pub(crate) from: EndpointId,
    pub(crate) buffer: Bytes,
    pub(crate) topics: Vec<Topic>,
    pub(crate) entries: Vec<BatchEntry>,
    /// The size of the allocation that `buffer` keeps alive.
    pub(crate) retained: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchEntry {
    pub(crate) topic: u32,
    pub(crate) start: u32,
    pub(crate) length: u32,
}

/// A received message whose payload is one validated value.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Its topic.
    pub topic: &'a Topic,
    /// The encoded value, already validated.
    pub payload: &'a [u8],
    /// The peer that it came from; for one of this endpoint's own messages, [`Publisher::id`].
    ///
    /// [`Publisher::id`]: crate::Publisher::id
    pub from: EndpointId,
}

impl Batch {
    /// A message of this endpoint's own.
    pub(crate) fn of_one(from: EndpointId, message: &Message) -> Self {
        let length = u32::try_from(message.payload.len()).unwrap_or(u32::MAX);
        Self {
            number: 0,
            from,
            buffer: message.payload.clone(),
            topics: vec![message.topic.clone()],
            entries: vec![BatchEntry {
                topic: 0,
                start: 0,
                length,
            }],
            retained: message.payload.len(),
        }
    }

    /// Keeps the messages that arrive in order; calls `late` with the topic of each other one.
    pub(super) fn keep(
        &mut self,
        places: &[Place],
        order: &mut InOrder,
        mut late: impl FnMut(&Topic),
    ) {
        let mut places = places.iter();
        let topics = &self.topics;
        self.entries.retain(|entry| {
            let follows = places.next().is_none_or(|place| order.follows(*place));
            if !follows {
                late(&topics[entry.topic as usize]);
            }
            follows
        });
    }

    /// Returns the messages in the order in which they were received.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Received<'_>> {
        self.entries.iter().map(|entry| Received {
            topic: &self.topics[entry.topic as usize],
            payload: &self.buffer[entry.start as usize..(entry.start + entry.length) as usize],
            from: self.from,
        })
    }

    /// The peer that the messages came from.
    pub fn from(&self) -> EndpointId {
        self.from
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns `true` if there are no messages.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What a batch costs a queue besides its buffer and its topics.
pub(crate) fn bookkeeping(entries: usize) -> usize {
    entries * size_of::<BatchEntry>() + size_of::<Batch>()
}

/// What a topic of a batch costs a queue.
pub(crate) fn topic_cost(topic: &Topic) -> usize {
    topic.as_bytes().len() + size_of::<Topic>()
}

impl Queued for Batch {
    fn messages(&self) -> usize {
        self.entries.len()
    }

    fn bytes(&self) -> usize {
        let topics: usize = self.topics.iter().map(topic_cost).sum();
        self.retained + topics + bookkeeping(self.entries.len())
    }

    fn count_dropped(&self, cause: DropCause, ledger: &mut DropLedger) {
        for message in self.iter() {
            ledger.count_topic(cause, message.topic.as_bytes());
        }
    }
}
