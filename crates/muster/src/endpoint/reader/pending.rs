//! What one read brought: for one subscriber here after the other, and for the peers that it goes on to.

use bytes::Bytes;
use muster_wire::{Class, EndpointId, MessageId, QueueLimits, Topic};

use super::credit::Classes;
use super::latest::Latest;
use super::relays::Relays;
use crate::endpoint::in_order::Place;
use crate::endpoint::shared::Table;
use crate::endpoint::subscriber::{Batch, BatchEntry, bookkeeping, topic_cost};

/// A batch that is under this part of its read buffer is copied out of it, so that a few queued
/// messages do not keep a large buffer alive.
const SHARED_PART: usize = 4;

/// The bounds of a queue that is gone.
const NOTHING: QueueLimits = QueueLimits {
    messages: 0,
    bytes: 0,
};

/// For more messages than this no room is made before they come.
const MOST_USUAL: usize = 4096;

/// So many subscribers and origins get room for their messages at once.
const FEW: usize = 4;

/// How many of a batch's last topics are compared before one is noted again.
const RECENT_TOPICS: usize = 8;

/// The topics of some messages, each noted once where they lie close together.
#[derive(Default)]
pub(super) struct Topics(pub(super) Vec<Topic>);

impl Topics {
    pub(super) fn note(&mut self, topic: &Topic) -> u32 {
        let recent = self.0.iter().enumerate().rev().take(RECENT_TOPICS);
        let known = recent.into_iter().find(|(_, known)| *known == topic);
        let at = if let Some((at, _)) = known {
            at
        } else {
            self.0.push(topic.clone());
            self.0.len() - 1
        };
        narrow(at)
    }
}

/// Frames are limited far below 32 bits, and a buffer holds at most one unfinished frame.
pub(super) fn narrow(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Where a message for subscribers comes from.
#[derive(Clone, Copy)]
pub(super) struct Source {
    /// Who it is from, as subscribers see it.
    pub(super) from: EndpointId,
    pub(super) class: Class,
    /// Its identity; messages of peers of version 1 have none.
    pub(super) id: Option<MessageId>,
}

/// The messages of one origin for one subscriber.
pub(super) struct Pending {
    pub(super) subscriber: u32,
    pub(super) from: EndpointId,
    /// Whether no later one is of the same subscriber and origin: only there may a message be added, or it would
    /// overtake others.
    is_latest: bool,
    topics: Topics,
    /// The topic of the last message.
    topic: u32,
    entries: Vec<BatchEntry>,
    bytes: usize,
    /// The classes of traffic that they came in.
    pub(super) classes: Classes,
    /// The place of each among those of its origin, if the subscriber asks for order.
    pub(super) places: Vec<Place>,
    is_in_order: bool,
    /// The bounds of the subscriber's queue.
    limits: QueueLimits,
    /// What the topics cost it.
    topics_cost: usize,
}

impl Pending {
    fn new(
        subscriber: u32,
        from: EndpointId,
        is_in_order: bool,
        limits: QueueLimits,
        usual: usize,
    ) -> Self {
        Self {
            subscriber,
            from,
            is_latest: true,
            topics: Topics::default(),
            topic: 0,
            entries: Vec::with_capacity(usual),
            bytes: 0,
            classes: Classes::default(),
            places: Vec::new(),
            is_in_order,
            limits,
            topics_cost: 0,
        }
    }

    fn is_of(&self, subscriber: u32, from: EndpointId) -> bool {
        self.subscriber == subscriber && self.from == from
    }

    /// Whether one more message leaves the subscriber's queue able to take them all.
    fn has_room(&self, message: Lying<'_>) -> bool {
        let entries = self.entries.len() + 1;
        let bytes = self.bytes + message.length + self.topics_cost + topic_cost(message.topic);
        entries <= self.limits.messages && bytes + bookkeeping(entries) <= self.limits.bytes
    }

    /// The same for a message with the topic of the last one.
    fn has_room_again(&self, length: usize) -> bool {
        let entries = self.entries.len() + 1;
        let bytes = self.bytes + length + self.topics_cost;
        entries <= self.limits.messages && bytes + bookkeeping(entries) <= self.limits.bytes
    }

    fn add(&mut self, source: Source, message: Lying<'_>) {
        let topics = self.topics.0.len();
        self.topic = self.topics.note(message.topic);
        if self.topics.0.len() > topics {
            self.topics_cost += topic_cost(message.topic);
        }
        self.add_again(source, message.start, message.length);
    }

    /// Adds a message with the topic of the last one.
    fn add_again(&mut self, source: Source, start: usize, length: usize) {
        self.bytes += length;
        self.classes.add(source.class);
        if let Some(id) = source.id.filter(|_| self.is_in_order) {
            let class = source.class;
            self.places.push(Place { id, class });
        }
        self.entries.push(BatchEntry {
            topic: self.topic,
            start: narrow(start),
            length: narrow(length),
        });
    }

    pub(super) fn into_batch(mut self, chunk: &Bytes, allocation: usize) -> Batch {
        let most = self.limits.bytes.saturating_sub(self.topics_cost);
        let most = most.saturating_sub(bookkeeping(self.entries.len()));
        let places = self.entries.iter_mut();
        let places = places.map(|entry| (&mut entry.start, entry.length));
        let (buffer, retained) = cut_out(chunk, allocation, self.bytes, most, places);
        Batch {
            number: 0,
            from: self.from,
            buffer,
            topics: self.topics.0,
            entries: self.entries,
            retained,
        }
    }
}

/// What one read brought: for subscribers here, and for the peers that it goes on to.
#[derive(Default)]
pub(super) struct Brought {
    pub(super) pending: Vec<Pending>,
    pub(super) relays: Relays,
    latest_pending: Latest,
    /// Where the last message went.
    last: Vec<usize>,
    /// How many messages the last read brought for somebody.
    usual: usize,
}

/// A hash of an endpoint's id, which is random.
pub(super) fn hash_of(id: EndpointId) -> u64 {
    let (first, last) = id.as_bytes().split_at(8);
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    number(first) ^ number(last).rotate_left(29)
}

pub(super) fn hash_pending(subscriber: u32, from: u64) -> u64 {
    from.wrapping_add(u64::from(subscriber).wrapping_mul(0xd6e8_feb8_6659_fd93))
}

impl Brought {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.relays.is_empty()
    }

    /// Notes a message for the subscribers at some positions of the table.
    pub(super) fn deliver(
        &mut self,
        table: &Table,
        source: Source,
        message: Lying<'_>,
        subscribers: &[u32],
    ) {
        let Self {
            pending,
            latest_pending: latest,
            last,
            usual,
            ..
        } = self;
        last.clear();
        if pending.is_empty() {
            latest.clear();
        }
        let from = source.from;
        let origin = hash_of(from);
        for &subscriber in subscribers {
            let hash = hash_pending(subscriber, origin);
            let known = latest.find(hash, |at| {
                let known = pending.get(at);
                known.is_some_and(|known| known.is_latest && known.is_of(subscriber, from))
            });
            let at = known.filter(|at| pending[*at].has_room(message));
            let at = at.unwrap_or_else(|| {
                if let Some(full) = known {
                    pending[full].is_latest = false;
                }
                let handle = table.subscriber(subscriber);
                let is_in_order = handle.is_some_and(|subscriber| subscriber.is_in_order);
                let limits = handle.map_or(NOTHING, |subscriber| subscriber.limits());
                // Many at once have a few each.
                let usual = if pending.len() < FEW { *usual } else { 0 };
                pending.push(Pending::new(subscriber, from, is_in_order, limits, usual));
                let at = pending.len() - 1;
                let is_of = |at: usize| pending[at].is_of(subscriber, from);
                latest.set(hash, at, is_of, |at| {
                    hash_pending(pending[at].subscriber, hash_of(pending[at].from))
                });
                at
            });
            pending[at].add(source, message);
            last.push(at);
        }
    }

    /// Hands over what there is for subscribers.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Pending> {
        let first = self.pending.first().map_or(0, |first| first.entries.len());
        self.usual = first.min(MOST_USUAL);
        self.pending.drain(..)
    }

    /// Notes a message that goes where the last one went, with the same topic, from the same source. Returns `false` if
    /// it does not fit there, and is to be noted as others are.
    pub(super) fn deliver_again(&mut self, source: Source, start: usize, length: usize) -> bool {
        let Self { pending, last, .. } = self;
        let fits = last.iter().all(|at| pending[*at].has_room_again(length));
        if fits {
            for at in last {
                pending[*at].add_again(source, start, length);
            }
        }
        fits
    }
}

/// A message where it lies in the read buffer.
#[derive(Clone, Copy)]
pub(super) struct Lying<'t> {
    pub(super) topic: &'t Topic,
    pub(super) start: usize,
    pub(super) length: usize,
}

/// The buffer that some messages of `bytes` in all are kept in, and the size of the allocation that
/// it keeps alive, at most `most` if that is possible: the chunk itself, or a copy, in which case the
/// places move.
pub(super) fn cut_out<'a>(
    chunk: &Bytes,
    allocation: usize,
    bytes: usize,
    most: usize,
    places: impl Iterator<Item = (&'a mut u32, u32)>,
) -> (Bytes, usize) {
    let is_refused = bytes > most;
    if bytes >= allocation / SHARED_PART && (allocation <= most || is_refused) {
        return (chunk.clone(), allocation);
    }
    let mut copy = Vec::with_capacity(bytes);
    for (place, length) in places {
        let start = *place as usize;
        *place = narrow(copy.len());
        copy.extend_from_slice(&chunk[start..start + length as usize]);
    }
    (Bytes::from(copy), bytes)
}

#[cfg(test)]
mod tests;
