//! What one read brought for the peers that it goes on to: messages, and parts of runs as they came.

use bytes::Bytes;
use muster_wire::credit;
use muster_wire::mesh::codec::RunPart;
use muster_wire::{Class, EndpointId, Kind, MESSAGE_OVERHEAD, MessageId, QueueLimits};

use super::latest::Latest;
use super::pending::{Lying, Topics, cut_out, hash_of, hash_pending, narrow};
use crate::endpoint::outgoing::{Outgoing, Relayed, RelayedEntry, RelayedRuns, parts_bookkeeping};

/// The most messages that are relayed as one.
pub(super) const RELAYED: usize = 512;

/// What is relayed as one with others has a payload up to this size.
const SMALL: usize = 1 << 20;

/// Where messages go on to: those that share it share a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// The peer's position in the table.
    pub(super) peer: u32,
    pub(super) class: Class,
    /// The peer of version 1 whose messages they are, if they are published for one.
    pub(super) guest: Option<EndpointId>,
}

/// What a message that goes on says of itself.
#[derive(Clone, Copy)]
pub(super) struct Onward {
    pub(super) id: MessageId,
    /// The links that it may still cross, the next one included.
    pub(super) hops: u8,
    pub(super) kind: Kind,
}

/// What goes on, in the order in which it came.
#[derive(Default)]
pub(super) struct Relays {
    all: Vec<Relay>,
    /// Where the latest of each way lies: only there may something be added, or it would overtake others.
    latest: Latest,
}

fn hash_way(way: Way) -> u64 {
    let guest = way.guest.map_or(0, hash_of);
    hash_pending(way.peer, guest) ^ ((way.class as u64) << 40)
}

impl Relays {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Hands everything over.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Relay> {
        self.all.drain(..)
    }

    /// Notes a message that goes on by a way, into a queue of these limits: what a full queue drops at once
    /// is never more than it may hold.
    pub(super) fn message(
        &mut self,
        way: Way,
        message: Lying<'_>,
        onward: Onward,
        limits: QueueLimits,
    ) {
        let known = self.latest(way);
        let latest = known.filter(|at| self.all[*at].takes_message(message.length, limits));
        let what = || What::Messages(Topics::default(), Vec::new());
        let at = latest.unwrap_or_else(|| self.begin(way, what(), known));
        let relay = &mut self.all[at];
        relay.bytes += message.length;
        relay.cost += credit::cost(message.topic.as_bytes(), message.length);
        relay.messages += 1;
        if let What::Messages(topics, entries) = &mut relay.what {
            entries.push(RelayedEntry {
                topic: topics.note(message.topic),
                start: narrow(message.start),
                length: narrow(message.length),
                id: onward.id,
                hops: onward.hops,
                kind: onward.kind,
            });
        }
    }

    /// Notes a part of a run, likewise. Returns `false` if it is more than the queue may hold.
    pub(super) fn part(&mut self, way: Way, part: &RunPart, limits: QueueLimits) -> bool {
        let fits = |messages: usize, parts: usize, bytes: usize| {
            messages <= limits.messages.min(RELAYED)
                && parts_bookkeeping(parts) + bytes <= limits.bytes
        };
        let length = part.length as usize;
        if !fits(part.messages, 1, length) {
            return false;
        }
        let known = self.latest(way);
        let latest = known.filter(|at| {
            let relay = &self.all[*at];
            matches!(&relay.what, What::Parts(parts)
                if fits(relay.messages + part.messages, parts.len() + 1, relay.bytes + length))
        });
        let at = latest.unwrap_or_else(|| self.begin(way, What::Parts(Vec::new()), known));
        let relay = &mut self.all[at];
        relay.bytes += length;
        relay.cost += part.cost;
        relay.messages += part.messages;
        if let What::Parts(parts) = &mut relay.what {
            parts.push(part.clone());
        }
        true
    }

    /// The position of what was noted last for a way.
    fn latest(&mut self, way: Way) -> Option<usize> {
        let Self { all, latest } = self;
        if all.is_empty() {
            latest.clear();
        }
        latest.find(hash_way(way), |at| {
            let known = all.get(at);
            known.is_some_and(|known| known.is_latest && known.way == way)
        })
    }

    /// Begins something new for a way, behind what is known of it, and returns its position.
    fn begin(&mut self, way: Way, what: What, known: Option<usize>) -> usize {
        if let Some(known) = known {
            self.all[known].is_latest = false;
        }
        self.all.push(Relay {
            way,
            is_latest: true,
            what,
            messages: 0,
            bytes: 0,
            cost: 0,
        });
        let at = self.all.len() - 1;
        let all = &self.all;
        let is_by = |at: usize| all[at].way == way;
        let hash = hash_way(way);
        self.latest.set(hash, at, is_by, |at| hash_way(all[at].way));
        at
    }
}

/// What goes on by one way.
pub(super) struct Relay {
    pub(super) way: Way,
    is_latest: bool,
    what: What,
    messages: usize,
    bytes: usize,
    cost: usize,
}

enum What {
    Messages(Topics, Vec<RelayedEntry>),
    Parts(Vec<RunPart>),
}

/// What relayed messages cost a queue besides their bytes.
fn relayed_bookkeeping(entries: usize) -> usize {
    entries * size_of::<RelayedEntry>() + MESSAGE_OVERHEAD
}

impl Relay {
    /// Whether one more message of `length` bytes leaves a queue of these limits able to take them all.
    fn takes_message(&self, length: usize, limits: QueueLimits) -> bool {
        let entries = self.messages + 1;
        matches!(self.what, What::Messages(..))
            && length <= SMALL
            && entries <= limits.messages.min(RELAYED)
            && relayed_bookkeeping(entries) + self.bytes + length <= limits.bytes
    }

    /// What is queued: a queue takes no more than `most` bytes at once, those that are kept alive included.
    pub(super) fn into_outgoing(self, chunk: &Bytes, allocation: usize, most: usize) -> Outgoing {
        match self.what {
            What::Messages(topics, mut entries) => {
                let most = most.saturating_sub(relayed_bookkeeping(entries.len()));
                let places = entries.iter_mut();
                let places = places.map(|entry| (&mut entry.start, entry.length));
                let (buffer, retained) = cut_out(chunk, allocation, self.bytes, most, places);
                Outgoing::Relayed(Relayed {
                    class: self.way.class,
                    guest: self.way.guest,
                    buffer,
                    topics: topics.0,
                    entries,
                    retained,
                    cost: self.cost,
                })
            }
            What::Parts(mut parts) => {
                let most = most.saturating_sub(parts_bookkeeping(parts.len()));
                let places = parts.iter_mut();
                let places = places.map(|part| (&mut part.start, part.length));
                let (buffer, retained) = cut_out(chunk, allocation, self.bytes, most, places);
                Outgoing::RelayedRuns(RelayedRuns {
                    class: self.way.class,
                    buffer,
                    parts,
                    messages: self.messages,
                    retained,
                    cost: self.cost,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;
