//! Messages: what travels between publishers and subscribers inside an endpoint.

use bytes::Bytes;

use crate::{EndpointId, Topic};

/// What a message is for. On links of protocol version 2 classes do not wait for one another; links
/// of version 1 have one queue for control and one for all the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Hello, membership, heartbeats, routing.
    Control,
    /// Requests and notices.
    Interactive,
    /// Ordinary events.
    Event,
    /// Logs and snapshots.
    Bulk,
}

/// The identity of a message, by which duplicates are recognised. It is set once, when the message
/// is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The endpoint that published the message.
    pub origin: EndpointId,
    /// The number of the message among those of its origin and class, from 1.
    pub sequence: u64,
}

/// What a payload holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One value in Broker's binary encoding.
    Data,
    /// A store's internal command.
    Command,
}

/// A message on its way. The payload was encoded once and is shared by all queues; each link writes
/// its own header before it.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it goes.
    pub topic: Topic,
    /// The encoded content.
    pub payload: Bytes,
    /// What the payload holds.
    pub kind: Kind,
    /// Its class of traffic.
    pub class: Class,
    /// Its identity; `None` if it came from a peer of version 1.
    pub id: Option<MessageId>,
}

impl Message {
    /// Returns the bytes of its topic and payload.
    pub fn size(&self) -> usize {
        self.topic.as_bytes().len() + self.payload.len()
    }
}
