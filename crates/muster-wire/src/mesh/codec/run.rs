//! Runs: the small messages of one origin in the form in which they cross every link (protocol version 2,
//! section 3.7).
//!
//! A [`Run`] is written message by message where it waits to be sent, and is a whole frame whenever it is asked for.
//! Its bytes depend on nothing but its messages, so that a relay passes them on as they are.

use super::{FrameError, RUN, name, read_class, read_id, skip_fields};
use crate::bytes::{Reader, put_string, put_varint};
use crate::credit;
use crate::frame;
use crate::message::{Class, Kind};
use crate::queue::MESSAGE_OVERHEAD;
use crate::{EndpointId, Topic};

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
    /// Returns what it costs of the receiver's credit.
    pub fn cost(&self) -> usize {
        credit::cost(self.topic, self.payload.len())
    }

    /// Returns the number of bytes that a queue counts for it.
    pub fn bytes(&self) -> usize {
        self.payload.len() + MESSAGE_OVERHEAD
    }
}

/// A difference as an unsigned number that is small if the difference is.
fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ (difference >> 63).wrapping_neg()
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
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
        self.bytes += message.bytes();
        self.cost += message.cost();
    }

    /// Takes the oldest message out, if there are several: calls `gone` with it, and returns what it cost.
    pub fn shed(&mut self, gone: impl FnOnce(&RunMessage<'_>)) -> Option<Shed> {
        if self.messages < 2 {
            return None;
        }
        let buffer = &self.buffer[..];
        let mut topic = &buffer[self.front.0..self.front.1];
        let mut reader = Reader::new(&buffer[self.start + RUN_HEAD..]);
        let message = read_message(&mut reader, &mut self.head.base, &mut topic)?;
        gone(&message);
        let shed = Shed {
            bytes: message.bytes(),
            cost: message.cost(),
        };
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

/// What a message has left room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shed {
    /// The bytes that a queue counted for it.
    pub bytes: usize,
    /// What it cost of the receiver's credit.
    pub cost: usize,
}

/// Writes what stands before the messages of a run, which have `body` bytes, to [`RUN_HEAD`] bytes.
fn put_run_head(head: &RunHead, messages: usize, body: usize, out: &mut [u8]) {
    let length = u32::try_from(RUN_HEAD - frame::HEADER + body).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out[4..7].copy_from_slice(&[RUN, head.class as u8, head.hops]);
    out[7..23].copy_from_slice(head.origin.as_bytes());
    out[23..31].copy_from_slice(&head.base.to_be_bytes());
    for (place, byte) in out[31..RUN_HEAD].iter_mut().enumerate() {
        let bits = (messages >> (7 * place)).to_le_bytes()[0] & 0x7f;
        let more = if place + 1 < COUNT { 0x80 } else { 0 };
        *byte = bits | more;
    }
}

/// A part of a run that came, to be passed on without its messages being looked at again.
#[derive(Debug, Clone)]
pub struct RunPart {
    /// What its messages have in common; the base is the sequence before the first of them.
    pub head: RunHead,
    /// The number of messages.
    pub messages: usize,
    /// Where they lie in the bytes that they came in.
    pub start: u32,
    /// How many bytes they have there.
    pub length: u32,
    /// What stood before the first payload, if its topic was that of a message before the part.
    pub first: Option<First>,
    /// What the messages cost of the receiver's credit.
    pub cost: usize,
}

/// The front of a part's first message.
#[derive(Debug, Clone)]
pub struct First {
    /// Its sequence.
    pub sequence: u64,
    /// What its payload holds.
    pub kind: Kind,
    /// Its topic.
    pub topic: Topic,
}

impl RunPart {
    /// Returns where its messages lie in the bytes that they came in.
    pub fn place(&self) -> std::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.length as usize
    }

    /// Appends what stands in the frame before the bytes that came.
    pub fn put_front(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + RUN_HEAD, 0);
        if let Some(first) = &self.first {
            out.push(match first.kind {
                Kind::Data => 0,
                Kind::Command => COMMAND,
            });
            put_varint(out, zigzag(first.sequence.wrapping_sub(self.head.base)));
            put_string(out, first.topic.as_bytes());
        }
        let body = out.len() - start - RUN_HEAD + self.length as usize;
        let head = &mut out[start..start + RUN_HEAD];
        put_run_head(&self.head, self.messages, body, head);
    }

    /// Calls `each` with every message, which lie in `bytes`.
    pub fn for_each<'a>(&'a self, bytes: &'a [u8], mut each: impl FnMut(RunMessage<'a>)) {
        let mut messages = RunMessages {
            left: self.messages,
            last: self.head.base,
            topic: &[],
            reader: Reader::new(&bytes[self.place()]),
        };
        if let Some(first) = &self.first {
            messages.topic = first.topic.as_bytes();
            messages.last = first.sequence;
            messages.left -= 1;
            if let Some(payload) = messages.reader.string() {
                each(RunMessage {
                    sequence: first.sequence,
                    kind: first.kind,
                    topic: first.topic.as_bytes(),
                    payload,
                });
            }
        }
        for message in messages {
            each(message);
        }
    }
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
    reader: Reader<'a>,
}

impl<'a> ReceivedRun<'a> {
    /// Reads a frame's payload behind its kind.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let head = |reader: &mut Reader<'a>| {
            let head = RunHead {
                class: read_class(reader)?,
                hops: reader.u8()?,
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
            reader,
        })
    }

    /// Returns the bytes that are left: the next message begins where they do.
    pub fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }

    fn message(&mut self) -> Option<RunMessage<'a>> {
        let flags = *self.reader.rest().first()?;
        let is_same = flags & SAME_TOPIC != 0;
        if flags & !FLAGS != 0 || (is_same && !self.has_topic) {
            return None;
        }
        self.has_topic = true;
        read_message(&mut self.reader, &mut self.last, &mut self.topic)
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
    let flags = reader.u8()?;
    *last = last.wrapping_add(unzigzag(reader.varint()?));
    if flags & SAME_TOPIC == 0 {
        let length = usize::from(reader.u8()?);
        *topic = reader.take(length).filter(|_| length <= RUN_TOPIC)?;
    }
    let payload = reader.string()?;
    let kind = if flags & COMMAND == 0 {
        Kind::Data
    } else {
        Kind::Command
    };
    Some(RunMessage {
        sequence: *last,
        kind,
        topic,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Decoder, Frame};
    use super::*;

    const HEAD: RunHead = RunHead {
        class: Class::Event,
        hops: 16,
        origin: EndpointId::from_bytes([0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0x0a]),
        base: 4,
    };

    /// A message by itself.
    type Owned = (u64, Kind, Vec<u8>, Vec<u8>);

    fn owned(message: RunMessage<'_>) -> Owned {
        let (topic, payload) = (message.topic.to_vec(), message.payload.to_vec());
        (message.sequence, message.kind, topic, payload)
    }

    fn borrowed(message: &Owned) -> RunMessage<'_> {
        RunMessage {
            sequence: message.0,
            kind: message.1,
            topic: &message.2,
            payload: &message.3,
        }
    }

    /// Reads a frame with its length, and says where each message began.
    fn read(frame: &[u8]) -> (RunHead, Vec<Owned>) {
        let length = u32::from_be_bytes(frame[..4].try_into().unwrap());
        assert_eq!(length as usize, frame.len() - 4);
        let mut decoder = Decoder::default();
        let Ok(Frame::Run(run)) = decoder.read(&frame[4..]) else {
            panic!("no run");
        };
        let head = run.head;
        (head, run.map(|message| owned(message.unwrap())).collect())
    }

    /// The example of section 3.7.
    #[test]
    fn a_run_is_that_of_the_specification() {
        let mut run = Run::new(Vec::new(), HEAD);
        for (sequence, payload) in [(5, 42), (6, 43)] {
            run.push(&RunMessage {
                sequence,
                kind: Kind::Data,
                topic: b"/test",
                payload: &[0, 0, 0, 0, 0, payload],
            });
        }
        run.close();
        let expected = "00000036 0e 02 10 0000000000004000800000000000000a \
                        0000000000000004 828000 00 02 052f74657374 0600000000002a 40 02 0600000000002b";
        let expected: String = expected.split_whitespace().collect();
        let digits =
            |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
        let hex: Option<String> = run.frame().iter().flat_map(digits).collect();
        assert_eq!(hex.as_ref(), Some(&expected));
        let specification = include_str!("../../../../../docs/protocol-v2.md");
        let lines = [
            "00000036 0e 02 10 0000000000004000800000000000000a",
            "0000000000000004 828000",
            "00 02 05 2f74657374 06 0000000000 2a",
            "40 02 06 0000000000 2b",
        ];
        for line in lines {
            assert!(specification.contains(line), "{line}");
        }
        let lines: String = lines.join("").split_whitespace().collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_no_run_is_refused() {
        let mut run = Run::new(Vec::new(), HEAD);
        run.push(&borrowed(&(5, Kind::Data, b"/t".to_vec(), vec![0])));
        run.push(&borrowed(&(6, Kind::Data, b"/t".to_vec(), vec![0])));
        run.close();
        let good = &run.frame()[4..];
        let errors = |payload: &[u8]| {
            let mut decoder = Decoder::default();
            match decoder.read(payload) {
                Ok(Frame::Run(run)) => run.filter(Result::is_err).count(),
                Ok(_) => panic!("another frame"),
                Err(_) => 1,
            }
        };
        assert_eq!(errors(good), 0);
        for length in 0..good.len() {
            assert_eq!(errors(&good[..length]), 1, "{length}");
        }
        let broken = |at: usize, byte: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            bytes
        };
        let first = RUN_HEAD - 4;
        // A topic like that of nothing, a bit that is not known, no message, too many, and no class.
        for bytes in [
            broken(first, SAME_TOPIC),
            broken(first, 0x80),
            broken(first, 0x01),
            broken(first - 3, 0x80),
            broken(first - 1, 0x7f),
            broken(1, 4),
            // A topic that is too long.
            [&broken(first + 2, 0x80)[..], &[0; 200]].concat(),
        ] {
            assert_eq!(errors(&bytes), 1, "{bytes:?}");
        }
        // Optional fields may follow.
        let with_fields = [good, &[9, 1, 7]].concat();
        assert_eq!(errors(&with_fields), 0);
    }

    fn messages() -> impl Strategy<Value = Vec<Owned>> {
        let kind = prop_oneof![Just(Kind::Data), Just(Kind::Command)];
        let topic = prop_oneof![Just("/a"), Just("/b/longer/than/the/others"), Just("/c")];
        let message = (
            0u64..4,
            kind,
            topic,
            prop::collection::vec(any::<u8>(), 0..200),
        );
        prop::collection::vec(message, 1..60).prop_map(|messages| {
            let mut last = 4u64;
            messages
                .into_iter()
                .map(|(step, kind, topic, payload)| {
                    // Two publishers may come out of turn.
                    last = last.wrapping_add(if step == 0 { u64::MAX } else { step });
                    (last, kind, topic.as_bytes().to_vec(), payload)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_left_of_a_run_is_read_back(messages in messages(), shed in 0usize..70) {
            let mut run = Run::new(Vec::new(), HEAD);
            for message in &messages {
                run.push(&borrowed(message));
            }
            let mut gone = Vec::new();
            for _ in 0..shed {
                run.shed(|message| gone.push(owned(*message)));
            }
            let count = shed.min(messages.len() - 1);
            prop_assert_eq!(&gone[..], &messages[..count]);
            let left = &messages[count..];
            prop_assert_eq!(run.messages(), left.len());
            let bytes: usize = left.iter().map(|message| borrowed(message).bytes()).sum();
            let cost: usize = left.iter().map(|message| borrowed(message).cost()).sum();
            prop_assert_eq!((run.bytes(), run.cost()), (bytes, cost));
            prop_assert_eq!(&run.each().map(owned).collect::<Vec<_>>()[..], left);
            // It goes on where it was.
            let next = (1000, Kind::Data, left[left.len() - 1].2.clone(), vec![7]);
            run.push(&borrowed(&next));
            run.close();
            let (head, read) = read(run.frame());
            prop_assert_eq!((head.origin, head.class, head.hops), (HEAD.origin, HEAD.class, HEAD.hops));
            prop_assert_eq!(read, [left, &[next][..]].concat());
        }

        #[test]
        fn a_part_of_a_run_is_a_run(messages in messages(), from in 0usize..60, count in 1usize..60) {
            let mut run = Run::new(Vec::new(), HEAD);
            for message in &messages {
                run.push(&borrowed(message));
            }
            run.close();
            let from = from.min(messages.len() - 1);
            let count = count.min(messages.len() - from);
            let bytes = run.frame();
            let mut decoder = Decoder::default();
            let Ok(Frame::Run(mut received)) = decoder.read(&bytes[4..]) else {
                panic!("no run");
            };
            let place = |rest: &[u8]| rest.as_ptr() as usize - bytes.as_ptr() as usize;
            let mut base = HEAD.base;
            let mut topic = &[][..];
            for _ in 0..from {
                let message = received.next().unwrap().unwrap();
                (base, topic) = (message.sequence, message.topic);
            }
            let mut start = place(received.rest());
            let first = received.next().unwrap().unwrap();
            let is_same = from > 0 && topic == first.topic;
            let first = is_same.then(|| {
                let before = Reader::new(first.payload);
                let mut length = Vec::new();
                put_string(&mut length, first.payload);
                start = place(before.rest()) - (length.len() - first.payload.len());
                First {
                    sequence: first.sequence,
                    kind: first.kind,
                    topic: Topic::new(first.topic).unwrap(),
                }
            });
            for _ in 1..count {
                received.next().unwrap().unwrap();
            }
            let part = RunPart {
                head: RunHead { hops: 15, base, ..HEAD },
                messages: count,
                start: u32::try_from(start).unwrap(),
                length: u32::try_from(place(received.rest()) - start).unwrap(),
                first,
                cost: 0,
            };
            let expected = &messages[from..from + count];
            let mut each = Vec::new();
            part.for_each(bytes, |message| each.push(owned(message)));
            prop_assert_eq!(&each[..], expected);
            let mut frame = Vec::new();
            part.put_front(&mut frame);
            frame.extend_from_slice(&bytes[part.place()]);
            let (head, read) = read(&frame);
            prop_assert_eq!((head.hops, head.base), (15, base));
            prop_assert_eq!(&read[..], expected);
        }
    }
}
