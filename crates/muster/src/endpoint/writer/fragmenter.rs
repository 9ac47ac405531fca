//! Large messages of the bulk class, sent in parts between which the other classes have their turn.

use std::collections::VecDeque;

use bytes::Bytes;
use muster_wire::mesh::codec::{Encoder, Head, RunHead, RunMessage, put_fragment_head};
use muster_wire::{Class, EndpointId, Kind, MessageId, Topic};

/// A message with a larger payload is cut, into parts of this size.
pub(super) const PART: usize = 64 << 10;

/// How many parts one write has when no other class wants to send.
pub(super) const AT_ONCE: usize = 2;

/// The share of the bulk class in what the others send, as a divisor: 4 to 32 and 16.
const SHARE: usize = 12;

/// A message of the bulk class.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) topic: Topic,
    pub(super) payload: Bytes,
    pub(super) id: MessageId,
    pub(super) hops: u8,
    pub(super) kind: Kind,
    pub(super) guest: Option<EndpointId>,
}

impl Piece {
    pub(super) fn head(&self) -> Head<'_> {
        Head {
            id: self.id,
            hops: self.hops,
            kind: self.kind,
            topic: self.topic.as_bytes(),
            guest: self.guest,
        }
    }
}

/// What is to be sent next of the bulk class, in order: large messages, and what was taken behind them.
#[derive(Debug, Default)]
pub(super) struct Fragmenter {
    waiting: VecDeque<Piece>,
    /// The first one, once a part of it was sent.
    current: Option<Cut>,
    next_number: u64,
    /// What the others have sent for which no part was.
    share: usize,
}

#[derive(Debug)]
struct Cut {
    number: u64,
    index: u64,
    payload: Bytes,
    /// What stands behind the payload.
    tail: Vec<u8>,
}

/// What goes out next.
pub(super) enum Next {
    /// A small message, in a batch.
    Small(Piece),
    /// A part of a large one.
    Part(Part),
}

/// A part of a message.
#[derive(Debug)]
pub(super) struct Part {
    /// The number of its message, and which part of it this is.
    pub(super) place: (u64, u64),
    pub(super) last: bool,
    /// What stands before the payload's bytes.
    pub(super) head: Vec<u8>,
    pub(super) payload: Bytes,
    /// What stands behind.
    pub(super) tail: Vec<u8>,
    /// The topic, if it is the first of its message.
    pub(super) topic: Option<Topic>,
}

impl Part {
    /// Appends what stands before the part in its frame.
    pub(super) fn put_head(&self, out: &mut Vec<u8>) {
        let length = self.head.len() + self.payload.len() + self.tail.len();
        put_fragment_head(Class::Bulk, self.place, self.last, length, out);
        out.extend_from_slice(&self.head);
    }
}

impl Fragmenter {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.current.is_none()
    }

    /// Puts a message behind the others.
    pub(super) fn push(&mut self, piece: Piece) {
        self.waiting.push_back(piece);
    }

    /// Puts a message of a run behind the others.
    pub(super) fn push_of_run(&mut self, head: &RunHead, message: &RunMessage<'_>, payload: Bytes) {
        // A topic that is none was not passed on.
        let Ok(topic) = Topic::new(message.topic) else {
            return;
        };
        let (origin, sequence) = (head.origin, message.sequence);
        self.push(Piece {
            topic,
            payload,
            id: MessageId { origin, sequence },
            hops: head.hops,
            kind: message.kind,
            guest: None,
        });
    }

    /// The topics of what was not begun.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.waiting.iter().map(|piece| &piece.topic)
    }

    /// How many parts may go now, if the others have sent so many bytes, or all that they had.
    pub(super) fn parts_after(&mut self, others: usize, is_all: bool) -> usize {
        if is_all {
            self.share = 0;
            return AT_ONCE;
        }
        self.share += others / SHARE;
        let parts = self.share / PART;
        self.share %= PART;
        parts
    }

    pub(super) fn next(&mut self) -> Option<Next> {
        let mut head = Vec::new();
        let mut topic = None;
        if self.current.is_none() {
            let piece = self.waiting.pop_front()?;
            if piece.payload.len() <= PART {
                return Some(Next::Small(piece));
            }
            Encoder::put_cut_head(Class::Bulk, &piece.head(), piece.payload.len(), &mut head);
            let mut tail = Vec::new();
            piece.head().put_tail(&mut tail);
            self.next_number += 1;
            topic = Some(piece.topic);
            self.current = Some(Cut {
                number: self.next_number,
                index: 0,
                payload: piece.payload,
                tail,
            });
        }
        let cut = self.current.as_mut()?;
        let part = cut.payload.split_to(cut.payload.len().min(PART));
        let last = cut.payload.is_empty();
        let tail = if last {
            std::mem::take(&mut cut.tail)
        } else {
            Vec::new()
        };
        let place = (cut.number, cut.index);
        cut.index += 1;
        if last {
            self.current = None;
        }
        Some(Next::Part(Part {
            place,
            last,
            head,
            payload: part,
            tail,
            topic,
        }))
    }
}
