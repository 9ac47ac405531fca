//! What waits in a peer's queue: messages, what is relayed, and what must not overtake them.

use bytes::Bytes;
use muster_wire::counters::{DropCause, DropLedger};
use muster_wire::{Class, EndpointId, Kind, MESSAGE_OVERHEAD, Message, MessageId, Queued, Topic};

/// What is written in the order of the data queue.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A message of this endpoint.
    Message(Message),
    /// A message of this endpoint that is addressed to this peer of version 1.
    Addressed(Message),
    /// Messages of others.
    Relayed(Relayed),
    /// The answer to a goodbye, which must not overtake the data before it.
    Frame(Bytes),
}

/// Messages of one class that one read brought and that go on to one peer, sharing one buffer: a
/// relay neither copies nor allocates for each of them.
#[derive(Debug)]
pub(crate) struct Relayed {
    pub(crate) class: Class,
    /// The peer of version 1 whose messages they are, if they are published for one.
    pub(crate) guest: Option<EndpointId>,
    pub(crate) buffer: Bytes,
    pub(crate) topics: Vec<Topic>,
    pub(crate) entries: Vec<RelayedEntry>,
    /// The size of the allocation that `buffer` keeps alive.
    pub(crate) retained: usize,
    /// What all of them cost of the receiver's credit.
    pub(crate) cost: usize,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RelayedEntry {
    pub(crate) topic: u32,
    pub(crate) start: u32,
    pub(crate) length: u32,
    pub(crate) id: MessageId,
    pub(crate) hops: u8,
    pub(crate) kind: Kind,
}

impl Outgoing {
    /// The class of traffic.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Message(message) | Self::Addressed(message) => message.class,
            Self::Relayed(relayed) => relayed.class,
            Self::Frame(_) => Class::Event,
        }
    }
}

/// What keeps no more alive holds no message that any peer refuses as too large.
const SURELY_SMALL: usize = 1 << 20;

impl Outgoing {
    /// The largest message in it, if it may be too large for a peer: its topic, and the bytes of topic and payload.
    pub(crate) fn largest(&self) -> Option<(&Topic, usize)> {
        match self {
            Self::Message(message) | Self::Addressed(message) => {
                Some((&message.topic, message.size()))
            }
            Self::Relayed(relayed) if relayed.retained > SURELY_SMALL => {
                let sizes = relayed.entries.iter().map(|entry| {
                    let topic = &relayed.topics[entry.topic as usize];
                    (topic, topic.as_bytes().len() + entry.length as usize)
                });
                sizes.max_by_key(|(_, size)| *size)
            }
            Self::Relayed(_) | Self::Frame(_) => None,
        }
    }
}

impl Relayed {
    /// A message's topic and payload.
    pub(crate) fn parts(&self, entry: &RelayedEntry) -> (&Topic, Bytes) {
        let (start, length) = (entry.start as usize, entry.length as usize);
        let payload = self.buffer.slice(start..start + length);
        (&self.topics[entry.topic as usize], payload)
    }

    /// The same with the payload where it lies.
    pub(crate) fn borrowed(&self, entry: &RelayedEntry) -> (&Topic, &[u8]) {
        let (start, length) = (entry.start as usize, entry.length as usize);
        let payload = &self.buffer[start..start + length];
        (&self.topics[entry.topic as usize], payload)
    }
}

impl Queued for Outgoing {
    fn messages(&self) -> usize {
        match self {
            Self::Message(message) | Self::Addressed(message) => message.messages(),
            Self::Relayed(relayed) => relayed.entries.len(),
            Self::Frame(_) => 0,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Message(message) | Self::Addressed(message) => message.bytes(),
            Self::Relayed(relayed) => {
                let entries = relayed.entries.len() * size_of::<RelayedEntry>();
                relayed.retained + entries + MESSAGE_OVERHEAD
            }
            Self::Frame(frame) => frame.len(),
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Message(message) | Self::Addressed(message) => message.cost(),
            Self::Relayed(relayed) => relayed.cost,
            Self::Frame(_) => 0,
        }
    }

    /// Control messages, and the answer to a goodbye, are lost with their peering only.
    fn reserved(&self) -> bool {
        match self {
            Self::Message(message) | Self::Addressed(message) => message.class == Class::Control,
            Self::Relayed(relayed) => relayed.class == Class::Control,
            Self::Frame(_) => true,
        }
    }

    fn count_dropped(&self, cause: DropCause, ledger: &mut DropLedger) {
        match self {
            Self::Message(message) | Self::Addressed(message) => {
                message.count_dropped(cause, ledger);
            }
            Self::Relayed(relayed) => {
                for entry in &relayed.entries {
                    let topic = &relayed.topics[entry.topic as usize];
                    ledger.count(cause, &topic.normalized(), 1);
                }
            }
            Self::Frame(_) => {}
        }
    }
}
