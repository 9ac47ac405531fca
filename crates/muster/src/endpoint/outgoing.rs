//! What waits in a peer's queue: messages, what is relayed, and what must not overtake them.

use bytes::Bytes;
use muster_wire::counters::{DropCause, DropLedger};
use muster_wire::envelope::EnvelopeRun;
use muster_wire::mesh::codec::{Run, RunMessage, RunPart};
use muster_wire::{
    Class, EndpointId, Kind, MESSAGE_OVERHEAD, Message, MessageId, Queued, Size, Topic,
};

use super::post::Post;

/// What is written in the order of the data queue.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A message of this endpoint.
    Message(Message),
    /// A message of this endpoint that is addressed to this peer of version 1.
    Addressed(Message),
    /// Small messages of this endpoint, written as they cross the link.
    Run(Run),
    /// The same for a peer of version 1.
    Envelopes(EnvelopeRun),
    /// Messages of others.
    Relayed(Relayed),
    /// Runs of others, passed on as they came.
    RelayedRuns(RelayedRuns),
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

/// Parts of runs of one class that one read brought and that go on to one peer as they are.
#[derive(Debug)]
pub(crate) struct RelayedRuns {
    pub(crate) class: Class,
    pub(crate) buffer: Bytes,
    pub(crate) parts: Vec<RunPart>,
    pub(crate) messages: usize,
    /// The size of the allocation that `buffer` keeps alive.
    pub(crate) retained: usize,
    /// What all messages cost of the receiver's credit.
    pub(crate) cost: usize,
}

impl RelayedRuns {
    /// Calls `each` with every message.
    pub(crate) fn for_each<'a>(&'a self, mut each: impl FnMut(&RunPart, RunMessage<'a>)) {
        for part in &self.parts {
            part.for_each(&self.buffer, |message| each(part, message));
        }
    }

    /// A payload, which lies in the buffer, by itself.
    pub(crate) fn payload(&self, message: &RunMessage<'_>) -> Bytes {
        self.buffer.slice_ref(message.payload)
    }
}

/// What the parts of runs cost a queue besides their bytes.
pub(crate) fn parts_bookkeeping(parts: usize) -> usize {
    parts * size_of::<RunPart>() + MESSAGE_OVERHEAD
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
            Self::Run(run) => run.head().class,
            Self::Relayed(relayed) => relayed.class,
            Self::RelayedRuns(runs) => runs.class,
            Self::Frame(_) | Self::Envelopes(_) => Class::Event,
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
            // Runs have small messages only.
            _ => None,
        }
    }
}

impl Outgoing {
    /// Whether it is a run that has room for a small message of this endpoint.
    #[inline]
    pub(crate) fn takes(&self, post: &Post<'_>) -> bool {
        match self {
            Self::Run(run) => run.has_room(post.size()),
            Self::Envelopes(run) => run.has_room(post.size()),
            _ => false,
        }
    }

    /// Adds a small message of this endpoint to a run.
    #[inline]
    pub(crate) fn add(&mut self, post: &Post<'_>) {
        match self {
            Self::Run(run) => run.push_on(post.topic, post.id.sequence, post.kind, post.payload()),
            Self::Envelopes(run) => run.push(post.kind, post.topic.as_bytes(), post.payload()),
            _ => debug_assert!(false, "only runs are added to"),
        }
    }

    /// Whether it is a run.
    pub(crate) fn is_run(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Envelopes(_))
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
            Self::Run(run) => run.messages(),
            Self::Envelopes(run) => run.messages(),
            Self::Relayed(relayed) => relayed.entries.len(),
            Self::RelayedRuns(runs) => runs.messages,
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
            Self::Run(run) => run.bytes(),
            Self::Envelopes(run) => run.bytes(),
            Self::RelayedRuns(runs) => runs.retained + parts_bookkeeping(runs.parts.len()),
            Self::Frame(frame) => frame.len(),
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Message(message) | Self::Addressed(message) => message.cost(),
            Self::Run(run) => run.cost(),
            Self::Envelopes(run) => run.cost(),
            Self::Relayed(relayed) => relayed.cost,
            Self::RelayedRuns(runs) => runs.cost,
            Self::Frame(_) => 0,
        }
    }

    /// Control messages, and the answer to a goodbye, are lost with their peering only.
    fn reserved(&self) -> bool {
        match self {
            Self::Message(message) | Self::Addressed(message) => message.class == Class::Control,
            Self::Relayed(relayed) => relayed.class == Class::Control,
            Self::RelayedRuns(runs) => runs.class == Class::Control,
            Self::Run(_) | Self::Envelopes(_) => false,
            Self::Frame(_) => true,
        }
    }

    fn shed(&mut self, cause: DropCause, ledger: &mut DropLedger) -> Option<Size> {
        match self {
            Self::Run(run) => run.shed(|message| ledger.count_topic(cause, message.topic)),
            Self::Envelopes(run) => run.shed(|topic| ledger.count_topic(cause, topic)),
            _ => None,
        }
    }

    fn count_dropped(&self, cause: DropCause, ledger: &mut DropLedger) {
        match self {
            Self::Message(message) | Self::Addressed(message) => {
                message.count_dropped(cause, ledger);
            }
            Self::Run(run) => {
                for message in run.each() {
                    ledger.count_topic(cause, message.topic);
                }
            }
            Self::Envelopes(run) => {
                for topic in run.topics() {
                    ledger.count_topic(cause, topic);
                }
            }
            Self::RelayedRuns(runs) => {
                runs.for_each(|_, message| ledger.count_topic(cause, message.topic));
            }
            Self::Relayed(relayed) => {
                for entry in &relayed.entries {
                    let topic = &relayed.topics[entry.topic as usize];
                    ledger.count_topic(cause, topic.as_bytes());
                }
            }
            Self::Frame(_) => {}
        }
    }
}
