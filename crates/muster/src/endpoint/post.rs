//! A message of this endpoint on its way into the queues of peers.

use std::sync::OnceLock;

use bytes::Bytes;
use muster_wire::mesh::codec::RUN_TOPIC;
use muster_wire::{Class, Kind, MESSAGE_OVERHEAD, Message, MessageId, Size, Topic, credit};

/// A payload from this size on is shared by all queues.
const SHARED: usize = 4 << 10;

/// So are payloads that would have more bytes than this in all queues together.
const ALL_COPIES: usize = 64 << 10;

/// A message that is offered to queues. Each decides how it holds it: written out among others, which costs a small one
/// neither an allocation nor a count of references, or as a payload that all queues share.
#[derive(Debug)]
pub(crate) struct Post<'a> {
    pub(crate) topic: &'a Topic,
    pub(crate) kind: Kind,
    pub(crate) class: Class,
    pub(crate) id: MessageId,
    payload: &'a [u8],
    /// The same, if it may be kept as it is. Otherwise it lies in a buffer that its publisher needs again, and is
    /// copied when somebody wants to keep it.
    given: Option<&'a Bytes>,
    copy: OnceLock<Bytes>,
    /// Whether queues copy it if they can.
    is_copied: bool,
}

impl<'a> Post<'a> {
    /// A message whose payload is given, or lies in a buffer.
    #[inline]
    pub(crate) fn new(
        topic: &'a Topic,
        (given, lent): (Option<&'a Bytes>, &'a [u8]),
        kind: Kind,
        class: Class,
        id: MessageId,
    ) -> Self {
        Self {
            topic,
            kind,
            class,
            id,
            payload: given.map_or(lent, |bytes| bytes),
            given,
            copy: OnceLock::new(),
            is_copied: false,
        }
    }

    /// A message as a publisher with one peer offers it.
    #[cfg(test)]
    pub(crate) fn of(message: &'a Message) -> Self {
        let Message {
            topic,
            payload,
            kind,
            class,
            id,
        } = message;
        let nobody = MessageId {
            origin: muster_wire::EndpointId::NIL,
            sequence: 1,
        };
        let id = id.unwrap_or(nobody);
        let mut post = Self::new(topic, (None, payload), *kind, *class, id);
        post.set_peers(1);
        post
    }

    /// It goes to so many peers.
    #[inline]
    pub(crate) fn set_peers(&mut self, peers: usize) {
        let length = self.payload.len();
        self.is_copied = length < SHARED
            && length * peers <= ALL_COPIES
            && self.topic.as_bytes().len() <= RUN_TOPIC
            && self.class != Class::Control;
    }

    #[inline]
    pub(crate) fn payload(&self) -> &[u8] {
        self.payload
    }

    /// Whether a queue that can write it among others does.
    #[inline]
    pub(crate) fn is_copied(&self) -> bool {
        self.is_copied
    }

    /// The message by itself.
    pub(crate) fn message(&self) -> Message {
        let copy = || {
            self.copy
                .get_or_init(|| Bytes::copy_from_slice(self.payload))
        };
        let payload = self.given.unwrap_or_else(copy);
        Message {
            topic: self.topic.clone(),
            payload: payload.clone(),
            kind: self.kind,
            class: self.class,
            id: Some(self.id),
        }
    }

    /// The bytes of its topic and payload.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.topic.as_bytes().len() + self.payload().len()
    }

    /// What it is in a queue, however that holds it.
    #[inline]
    pub(crate) fn queued(&self) -> Size {
        let payload = self.payload().len();
        Size {
            messages: 1,
            bytes: payload + MESSAGE_OVERHEAD,
            cost: credit::cost(self.topic.as_bytes(), payload),
        }
    }
}
