//! Small messages for a peer of version 1, one frame after the other in one buffer.

use super::{FIXED, put_message_header};
use crate::EndpointId;
use crate::credit;
use crate::frame::HEADER;
use crate::mesh::codec::{RUN_BYTES, RUN_MESSAGES};
use crate::message::Kind;
use crate::queue::{MESSAGE_OVERHEAD, Size};

/// Messages of one sender that are written, each as a frame of its own.
#[derive(Debug)]
pub struct EnvelopeRun {
    buffer: Vec<u8>,
    /// Where the first frame begins in the buffer.
    start: usize,
    sender: EndpointId,
    messages: usize,
    bytes: usize,
    cost: usize,
}

impl EnvelopeRun {
    /// Begins in an empty buffer, which may have room from earlier messages.
    pub fn new(mut buffer: Vec<u8>, sender: EndpointId) -> Self {
        buffer.clear();
        Self {
            buffer,
            start: 0,
            sender,
            messages: 0,
            bytes: 0,
            cost: 0,
        }
    }

    /// Returns the number of messages.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Returns the number of bytes that a queue counts for its messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns what its messages cost of a receiver's credit, which there is none of in version 1.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Returns `true` if a message with a topic and payload of so many bytes has room. One that has no messages takes
    /// each one.
    #[inline]
    pub fn has_room(&self, size: usize) -> bool {
        let length = self.buffer.len() - self.start;
        self.messages < RUN_MESSAGES && length + size <= RUN_BYTES
    }

    /// Appends a message.
    pub fn push(&mut self, kind: Kind, topic: &[u8], payload: &[u8]) {
        put_message_header(&mut self.buffer, self.sender, kind, topic, payload.len());
        self.buffer.extend_from_slice(payload);
        self.messages += 1;
        self.bytes += payload.len() + MESSAGE_OVERHEAD;
        self.cost += credit::cost(topic, payload.len());
    }

    /// Takes the oldest message out, if there are several: calls `gone` with its topic, and returns what it was.
    pub fn shed(&mut self, gone: impl FnOnce(&[u8])) -> Option<Size> {
        if self.messages < 2 {
            return None;
        }
        let (length, topic) = first(&self.buffer[self.start..])?;
        let payload = length - HEADER - FIXED - topic.len();
        let shed = Size {
            messages: 1,
            bytes: payload + MESSAGE_OVERHEAD,
            cost: credit::cost(topic, payload),
        };
        gone(topic);
        self.start += length;
        self.messages -= 1;
        self.bytes -= shed.bytes;
        self.cost -= shed.cost;
        Some(shed)
    }

    /// Returns the topics of the messages, oldest first.
    pub fn topics(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.frames();
        std::iter::from_fn(move || {
            let (length, topic) = first(rest)?;
            rest = &rest[length..];
            Some(topic)
        })
    }

    /// Returns the frames.
    pub fn frames(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Gives the buffer back.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// The length of the first of some frames, its header included, and the topic in it.
fn first(frames: &[u8]) -> Option<(usize, &[u8])> {
    let length = u32::from_be_bytes(*frames.first_chunk()?) as usize + HEADER;
    let (_, envelope) = frames.split_at_checked(HEADER + FIXED - 2)?;
    let (size, rest) = envelope.split_first_chunk()?;
    let topic = rest.get(..usize::from(u16::from_be_bytes(*size)))?;
    Some((length, topic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{self, Envelope};

    #[test]
    fn what_is_left_is_one_frame_after_the_other() {
        let [sender, me] = [1, 2].map(|byte| EndpointId::from_random([byte; 16]));
        let topics = ["/a", "/longer", "/a", "/c"];
        for shed in 0..6 {
            let mut run = EnvelopeRun::new(Vec::new(), sender);
            for (number, topic) in (0u8..).zip(topics) {
                run.push(
                    Kind::Data,
                    topic.as_bytes(),
                    &vec![number; usize::from(number)],
                );
            }
            let mut gone = Vec::new();
            for _ in 0..shed {
                run.shed(|topic| gone.push(topic.to_vec()));
            }
            let count = shed.min(3);
            assert_eq!(
                gone,
                topics[..count]
                    .iter()
                    .map(|it| it.as_bytes())
                    .collect::<Vec<_>>()
            );
            assert_eq!(run.messages(), 4 - count);
            assert!(
                run.topics()
                    .eq(topics[count..].iter().map(|topic| topic.as_bytes()))
            );
            let mut rest = run.frames();
            let (mut bytes, mut cost) = (0, 0);
            for (number, expected) in (0u8..).zip(topics).skip(count) {
                let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
                let expected = Envelope::Message {
                    kind: Kind::Data,
                    topic: expected.as_bytes(),
                    payload: &vec![number; usize::from(number)],
                };
                let read = envelope::read(&rest[HEADER..HEADER + length], sender, me);
                assert_eq!(read, Ok(expected));
                rest = &rest[HEADER + length..];
                bytes += usize::from(number) + MESSAGE_OVERHEAD;
                cost += credit::cost(topics[usize::from(number)].as_bytes(), number.into());
            }
            assert!(rest.is_empty());
            assert_eq!((run.bytes(), run.cost()), (bytes, cost));
        }
    }
}
