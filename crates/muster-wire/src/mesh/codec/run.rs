//! Runs: the small messages of one origin in the form in which they cross every link (protocol version 2,
//! section 3.7).
//!
//! A [`Run`] is written message by message where it waits to be sent, and is a whole frame whenever it is asked for.
//! Its bytes depend on nothing but its messages, so that a relay passes them on as they are.

mod part;

use super::{FrameError, RUN, name, read_class, read_id, skip_fields};
use crate::bytes::{Reader, padded_varint, put_string, put_varint, unzigzag, zigzag};
use crate::credit;
use crate::frame;
use crate::message::{Class, Kind};
use crate::queue::{MESSAGE_OVERHEAD, Size};
use crate::{EndpointId, Topic};

pub use part::{First, RunPart};

/// The most messages of a run that is written; a reader takes [`MAX_MESSAGES`](super::MAX_MESSAGES).
pub const RUN_MESSAGES: usize = 512;

/// A run gets no more messages from this size on, in bytes.
pub const RUN_BYTES: usize = 32 << 10;

/// The longest topic of a message in a run. Queues count a fixed number of bytes for a message beside its payload, and
/// this is less. Its length is one byte.
pub const RUN_TOPIC: usize = 127;

/// What stands before the messages of a run, the frame's length included, in bytes.
pub const RUN_HEAD: usize = frame::HEADER + 1 + 1 + 1 + 16 + 8 + COUNT;

/// The bytes of a run's count, which is written when the run is complete: a varint may be longer than it need be.
const COUNT: usize = 3;

const COMMAND: u8 = 0x20;
const SAME_TOPIC: u8 = 0x40;
/// The most links that a run may say that it may still cross, as with a batch.
const MOST_HOPS: u8 = 31;

/// The other bits of a message's flags are 0.
const FLAGS: u8 = COMMAND | SAME_TOPIC;

/// What all messages of a run have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunHead {
    /// The class of all its messages.
    pub class: Class,
    /// The number of links that the messages may still cross, including the next one.
    pub hops: u8,
    /// Who published them.
    pub origin: EndpointId,
    /// The sequence that the first message's difference is to.
    pub base: u64,
}

/// A message of a run, borrowed from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunMessage<'a> {
    /// Its number among those of its origin and class.
    pub sequence: u64,
    /// What the payload holds.
    pub kind: Kind,
    /// The topic, not yet known to be a valid one.
    pub topic: &'a [u8],
    /// The encoded content, not yet validated.
    pub payload: &'a [u8],
}

impl RunMessage<'_> {
    /// Returns what it is in a queue.
    pub fn size(&self) -> Size {
        Size {
            messages: 1,
            bytes: self.payload.len() + MESSAGE_OVERHEAD,
            cost: self.cost(),
        }
    }

    /// Returns what it costs of the receiver's credit.
    pub fn cost(&self) -> usize {
        credit::cost(self.topic, self.payload.len())
    }
}

/// Messages that are written, in one buffer.
#[derive(Debug)]
pub struct Run {
    buffer: Vec<u8>,
    /// Where the frame begins in the buffer.
    start: usize,
    head: RunHead,
    /// The sequence of the last message.
    last: u64,
    messages: usize,
    bytes: usize,
    cost: usize,
    /// Where the topic of the last message lies.
    topic: (usize, usize),
    /// The same as it was given, if it was: most have the topic of the one before.
    given: Option<Topic>,
    /// Where the topic of the first message lies, if that has none of its own: it is in a message that was taken out.
    front: (usize, usize),
}

impl Run {
    /// Begins a run in an empty buffer, which may have room from an earlier one.
    pub fn new(mut buffer: Vec<u8>, head: RunHead) -> Self {
        buffer.clear();
        buffer.resize(RUN_HEAD, 0);
        Self {
            buffer,
            start: 0,
            last: head.base,
            head,
            messages: 0,
            bytes: 0,
            cost: 0,
            topic: (0, 0),
            given: None,
            front: (0, 0),
        }
    }

    /// Returns what all its messages have in common.
    pub fn head(&self) -> &RunHead {
        &self.head
    }

    /// Returns the number of messages.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Returns the number of bytes that a queue counts for its messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns what its messages cost of the receiver's credit.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Returns `true` if a message with a topic and payload of so many bytes has room in a run. A run that has no
    /// messages takes each one.
    #[inline]
    pub fn has_room(&self, size: usize) -> bool {
        let length = self.buffer.len() - self.start;
        self.messages < RUN_MESSAGES && length + size <= RUN_BYTES
    }

    /// Appends a message. Its origin and class are those of the run, and its topic has [`RUN_TOPIC`] bytes at most.
    pub fn push(&mut self, message: &RunMessage<'_>) {
        self.given = None;
        let is_same = self.has_topic(message.topic);
        self.put(message, is_same);
    }

    /// Appends a message with a topic that is at hand, likewise.
    #[inline]
    pub fn push_on(&mut self, topic: &Topic, sequence: u64, kind: Kind, payload: &[u8]) {
        let message = RunMessage {
            sequence,
            kind,
            topic: topic.as_bytes(),
            payload,
        };
        let is_given = self.given.as_ref().is_some_and(|it| it.is_clone_of(topic));
        if is_given {
            return self.put(&message, true);
        }
        let is_same = self.has_topic(message.topic);
        self.given = Some(topic.clone());
        self.put(&message, is_same);
    }

    /// Whether the last message has this topic.
    fn has_topic(&self, topic: &[u8]) -> bool {
        let (start, end) = self.topic;
        self.messages > 0 && self.buffer[start..end] == *topic
    }

    #[inline]
    fn put(&mut self, message: &RunMessage<'_>, is_same: bool) {
        let RunMessage { topic, payload, .. } = *message;
        debug_assert!(
            topic.len() <= RUN_TOPIC,
            "longer ones are sent by themselves"
        );
        let command = match message.kind {
            Kind::Data => 0,
            Kind::Command => COMMAND,
        };
        let difference = zigzag(message.sequence.wrapping_sub(self.last));
        let buffer = &mut self.buffer;
        if is_same && difference < 0x80 && payload.len() < 0x4000 {
            // The common case, in two pieces.
            let [low, more, ..] = payload.len().to_le_bytes();
            let high = more << 1 | low >> 7;
            let flags = command | SAME_TOPIC;
            let [difference, ..] = difference.to_le_bytes();
            buffer.reserve(4 + payload.len());
            if high == 0 {
                buffer.extend_from_slice(&[flags, difference, low]);
            } else {
                buffer.extend_from_slice(&[flags, difference, low | 0x80, high]);
            }
            buffer.extend_from_slice(payload);
        } else {
            buffer.push(command | if is_same { SAME_TOPIC } else { 0 });
            put_varint(buffer, difference);
            if !is_same {
                put_string(buffer, topic);
                self.topic = (buffer.len() - topic.len(), buffer.len());
            }
            put_string(buffer, payload);
        }
        self.last = message.sequence;
        self.messages += 1;
        let size = message.size();
        self.bytes += size.bytes;
        self.cost += size.cost;
    }

    /// Takes the oldest message out, if there are several: calls `gone` with it, and returns what it cost.
    pub fn shed(&mut self, gone: impl FnOnce(&RunMessage<'_>)) -> Option<Size> {
        if self.messages < 2 {
            return None;
        }
        let buffer = &self.buffer[..];
        let mut topic = &buffer[self.front.0..self.front.1];
        let mut reader = Reader::new(&buffer[self.start + RUN_HEAD..]);
        let message = read_message(&mut reader, &mut self.head.base, &mut topic)?;
        gone(&message);
        let shed = message.size();
        let place = topic.as_ptr() as usize - buffer.as_ptr() as usize;
        self.front = (place, place + topic.len());
        self.start = buffer.len() - reader.remaining() - RUN_HEAD;
        self.messages -= 1;
        self.bytes -= shed.bytes;
        self.cost -= shed.cost;
        Some(shed)
    }

    /// Gives the first message its own topic, if that lies before it in a message that was taken out, which is where there is room.
    fn put_first_topic(&mut self) {
        let (at, (start, end)) = (self.start + RUN_HEAD, self.front);
        let flags = self.buffer[at];
        if flags & SAME_TOPIC == 0 {
            return;
        }
        let mut reader = Reader::new(&self.buffer[at + 1..]);
        let _ = reader.varint();
        let payload = self.buffer.len() - reader.remaining();
        // The topic's length is one byte.
        let (text, length) = (start - 1, end - start);
        let mut difference = [0; 10];
        let difference = &mut difference[..payload - at - 1];
        difference.copy_from_slice(&self.buffer[at + 1..payload]);
        let topic = payload - length - 1;
        self.buffer.copy_within(text..end, topic);
        let begin = topic - difference.len() - 1;
        self.buffer[begin] = flags & !SAME_TOPIC;
        self.buffer[begin + 1..topic].copy_from_slice(difference);
        let place = (payload - length, payload);
        if self.topic == self.front {
            self.topic = place;
        }
        self.front = place;
        self.start = begin - RUN_HEAD;
    }

    /// Returns its messages, oldest first.
    pub fn each(&self) -> RunMessages<'_> {
        RunMessages {
            left: self.messages,
            last: self.head.base,
            topic: &self.buffer[self.front.0..self.front.1],
            reader: Reader::new(&self.buffer[self.start + RUN_HEAD..]),
        }
    }

    /// Completes the frame: writes what stands before the messages.
    pub fn close(&mut self) {
        self.put_first_topic();
        let (from, to) = (self.start, self.start + RUN_HEAD);
        let body = self.buffer.len() - to;
        put_run_head(&self.head, self.messages, body, &mut self.buffer[from..to]);
    }

    /// Returns the frame, which must be closed.
    pub fn frame(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Gives the buffer back.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// Writes what stands before the messages of a run, which have `body` bytes, to [`RUN_HEAD`] bytes.
fn put_run_head(head: &RunHead, messages: usize, body: usize, out: &mut [u8]) {
    let length = u32::try_from(RUN_HEAD - frame::HEADER + body).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out[4..7].copy_from_slice(&[RUN, head.class as u8, head.hops]);
    out[7..23].copy_from_slice(head.origin.as_bytes());
    out[23..31].copy_from_slice(&head.base.to_be_bytes());
    out[31..RUN_HEAD].copy_from_slice(&padded_varint::<COUNT>(messages));
}

/// The messages of a run that was read before, or written here.
#[derive(Debug)]
pub struct RunMessages<'a> {
    left: usize,
    last: u64,
    topic: &'a [u8],
    reader: Reader<'a>,
}

impl<'a> Iterator for RunMessages<'a> {
    type Item = RunMessage<'a>;

    fn next(&mut self) -> Option<RunMessage<'a>> {
        self.left = self.left.checked_sub(1)?;
        read_message(&mut self.reader, &mut self.last, &mut self.topic)
    }
}

/// A run that came, borrowed from its frame. Its messages are read one by one; nothing follows an error.
#[derive(Debug)]
pub struct ReceivedRun<'a> {
    /// What all its messages have in common.
    pub head: RunHead,
    left: u64,
    last: u64,
    topic: &'a [u8],
    has_topic: bool,
    /// From the length of the last message's payload on.
    payload: &'a [u8],
    reader: Reader<'a>,
}

impl<'a> ReceivedRun<'a> {
    /// Reads a frame's payload behind its kind.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let head = |reader: &mut Reader<'a>| {
            let head = RunHead {
                class: read_class(reader)?,
                hops: reader.u8().filter(|hops| *hops <= MOST_HOPS)?,
                origin: read_id(reader)?,
                base: reader.u64()?,
            };
            Some((head, reader.varint()?))
        };
        let (head, left) = head(&mut reader).ok_or(FrameError::Malformed(name(RUN)))?;
        if left == 0 {
            return Err(FrameError::Malformed(name(RUN)));
        }
        if left > super::MAX_MESSAGES as u64 {
            return Err(FrameError::OverLimit(name(RUN)));
        }
        Ok(Self {
            head,
            left,
            last: head.base,
            topic: &[],
            has_topic: false,
            payload: &[],
            reader,
        })
    }

    /// Returns the bytes that are left: the next message begins where they do.
    pub fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }

    /// Returns the bytes from the length of the last message's payload on. A sender may have written it with more bytes than
    /// needed.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    fn message(&mut self) -> Option<RunMessage<'a>> {
        let flags = *self.reader.rest().first()?;
        let is_same = flags & SAME_TOPIC != 0;
        if flags & !FLAGS != 0 || (is_same && !self.has_topic) {
            return None;
        }
        self.has_topic = true;
        let (message, payload) = read_placed(&mut self.reader, &mut self.last, &mut self.topic)?;
        self.payload = payload;
        Some(message)
    }
}

impl<'a> Iterator for ReceivedRun<'a> {
    type Item = Result<RunMessage<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let malformed = FrameError::Malformed(name(RUN));
        if self.left == 0 {
            let fields = skip_fields(&mut self.reader);
            self.reader = Reader::new(&[]);
            return fields.err().map(|_| Err(malformed));
        }
        self.left -= 1;
        let message = self.message();
        if message.is_none() {
            self.left = 0;
            self.reader = Reader::new(&[]);
        }
        Some(message.ok_or(malformed))
    }
}

fn read_message<'a>(
    reader: &mut Reader<'a>,
    last: &mut u64,
    topic: &mut &'a [u8],
) -> Option<RunMessage<'a>> {
    read_placed(reader, last, topic).map(|(message, _)| message)
}

/// Reads a message, and gives the bytes from the length of its payload on.
#[inline]
fn read_placed<'a>(
    reader: &mut Reader<'a>,
    last: &mut u64,
    topic: &mut &'a [u8],
) -> Option<(RunMessage<'a>, &'a [u8])> {
    let flags = reader.u8()?;
    *last = last.wrapping_add(unzigzag(reader.varint()?));
    if flags & SAME_TOPIC == 0 {
        let length = usize::from(reader.u8()?);
        *topic = reader.take(length).filter(|_| length <= RUN_TOPIC)?;
    }
    let place = reader.rest();
    let payload = reader.string()?;
    let kind = if flags & COMMAND == 0 {
        Kind::Data
    } else {
        Kind::Command
    };
    let message = RunMessage {
        sequence: *last,
        kind,
        topic,
        payload,
    };
    Some((message, place))
}

#[cfg(test)]
mod tests;
