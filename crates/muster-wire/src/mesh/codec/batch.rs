//! Batches of messages as bytes (protocol version 2, section 3.3).

use std::collections::HashMap;

use super::{BATCH, Decoder, Encoder, Fault, FrameError, read_class, read_id};
use super::{name, skip_fields};
use crate::EndpointId;
use crate::bytes::{Reader, padded_varint, put_string, put_varbyte, put_varint, unzigzag, zigzag};
use crate::frame;
use crate::message::{Class, Kind, MessageId};

/// The most origins with an alias, per direction of a link.
pub const MAX_ALIASES: usize = 4096;

const HOPS_MASK: u8 = 0x1f;
const COMMAND: u8 = 0x20;
const RESERVED: u8 = 0x40;
const FIELDS: u8 = 0x80;

/// The optional field of a message that names the peer of version 1 whose message it is.
const GUEST: u64 = 1;

/// The bytes of a batch's count, which is written when the batch is complete: a varint may be longer
/// than it need be.
const COUNT: usize = 3;

/// The most messages of a batch, far above what is written. It limits what the endpoints that pass
/// a batch on have to keep for it, since a message may have as few as six bytes.
pub const MAX_MESSAGES: usize = 16_384;

const _: () = assert!(MAX_MESSAGES < 1 << (7 * COUNT), "a count says all numbers");

/// The aliases that a sender has given, and the last sequence of each by class.
#[derive(Debug, Default)]
pub(super) struct SenderAliases {
    numbers: HashMap<EndpointId, usize>,
    last: Vec<[u64; 4]>,
    /// The origin of the last message and its place: most have the same as the one before.
    recent: Option<(EndpointId, usize)>,
}

/// The aliases that a receiver was told.
#[derive(Debug, Default)]
pub(super) struct ReceiverAliases {
    origins: Vec<(EndpointId, [u64; 4])>,
}

/// What is written before a message's payload.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The message's identity: who published it, and its number there.
    pub id: MessageId,
    /// The number of links that the message may still cross, including the next one.
    pub hops: u8,
    /// What the payload holds.
    pub kind: Kind,
    /// Where it goes.
    pub topic: &'a [u8],
    /// The peer of version 1 that published the message, if the origin did not do so itself.
    /// [`Head::put_tail`] must then follow the payload.
    pub guest: Option<EndpointId>,
}

impl Head<'_> {
    /// Appends what is written after the payload: nothing, for most messages.
    pub fn put_tail(&self, out: &mut Vec<u8>) {
        if let Some(guest) = self.guest {
            let mut fields = Vec::with_capacity(18);
            put_varint(&mut fields, GUEST);
            put_string(&mut fields, guest.as_bytes());
            put_string(out, &fields);
        }
    }
}

/// A batch that is being written.
#[derive(Debug)]
pub struct OpenBatch {
    class: Class,
    start: usize,
    count: usize,
    /// The bytes of payloads that are not in the buffer.
    elsewhere: usize,
}

/// A message of a batch, borrowed from the frame.
#[derive(Debug, Clone, Copy)]
pub struct MessageRef<'a> {
    /// The number of the origin among those of this direction of the link.
    pub alias: usize,
    /// The message's identity: who published it, and its number there.
    pub id: MessageId,
    /// The number of links that the message may still cross, including the one that it came by.
    pub hops: u8,
    /// What the payload holds.
    pub kind: Kind,
    /// The topic, not yet known to be a valid one.
    pub topic: &'a [u8],
    /// The encoded content, not yet validated.
    pub payload: &'a [u8],
    /// The peer of version 1 that published the message, if the origin did not do so itself.
    pub guest: Option<EndpointId>,
}

/// The messages of a batch, read one by one. Nothing follows an error.
#[derive(Debug)]
pub struct Batch<'d, 'a> {
    /// The class of all its messages.
    pub class: Class,
    left: u64,
    aliases: &'d mut ReceiverAliases,
    reader: Reader<'a>,
}

impl Encoder {
    /// Begins a batch at the end of `out`. Messages follow, each by [`Encoder::put_head`] and its
    /// payload, then [`OpenBatch::close`].
    pub fn begin_batch(class: Class, out: &mut Vec<u8>) -> OpenBatch {
        let start = out.len();
        out.extend_from_slice(&[0; frame::HEADER]);
        out.extend_from_slice(&[BATCH, class as u8, 0]);
        out.extend_from_slice(&[0x80, 0x80, 0]);
        OpenBatch {
            class,
            start,
            count: 0,
            elsewhere: 0,
        }
    }

    /// Appends what is written before a payload of `length` bytes. The payload must follow, and
    /// then [`Head::put_tail`]. Both go into `out`, or, if [`OpenBatch::note_elsewhere`] says so,
    /// into what is written after it.
    pub fn put_head(
        &mut self,
        batch: &mut OpenBatch,
        head: &Head<'_>,
        length: usize,
        out: &mut Vec<u8>,
    ) {
        batch.count += 1;
        put_head(&mut self.aliases, batch.class, head, out);
        put_varbyte(out, length);
    }

    /// Appends a whole batch of one message.
    pub fn put_message(
        &mut self,
        class: Class,
        head: &Head<'_>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        let mut batch = Self::begin_batch(class, out);
        self.put_head(&mut batch, head, payload.len(), out);
        out.extend_from_slice(payload);
        head.put_tail(out);
        batch.close(out);
    }
}

impl OpenBatch {
    /// Returns the class of its messages.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Returns where the frame begins in its buffer.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Returns the size of the frame so far, in bytes, payloads elsewhere included.
    pub fn size(&self, out: &[u8]) -> usize {
        out.len() - self.start + self.elsewhere
    }

    /// Returns `true` if there is no room for one more message.
    pub fn is_full(&self) -> bool {
        self.count >= MAX_MESSAGES
    }

    /// Notes that the last message's payload, of `length` bytes, is not in the buffer and will be
    /// written separately.
    pub fn note_elsewhere(&mut self, length: usize) {
        self.elsewhere += length;
    }

    /// Completes the frame: sets its length and the number of messages.
    pub fn close(self, out: &mut [u8]) {
        let length = self.size(out) - frame::HEADER;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        out[self.start..self.start + frame::HEADER].copy_from_slice(&length.to_be_bytes());
        let at = self.start + frame::HEADER + 3;
        out[at..at + COUNT].copy_from_slice(&padded_varint::<COUNT>(self.count));
    }
}

pub(super) fn put_head(
    aliases: &mut SenderAliases,
    class: Class,
    head: &Head<'_>,
    out: &mut Vec<u8>,
) {
    let last = aliases.write(head.id.origin, class, out);
    let difference = head.id.sequence.wrapping_sub(*last);
    *last = head.id.sequence;
    put_varint(out, zigzag(difference));
    let kind = match head.kind {
        Kind::Data => 0,
        Kind::Command => COMMAND,
    };
    let fields = if head.guest.is_some() { FIELDS } else { 0 };
    out.push(head.hops.min(HOPS_MASK) | kind | fields);
    put_string(out, head.topic);
}

impl SenderAliases {
    /// Appends the alias of an origin, and gives the place of its last sequence.
    fn write(&mut self, origin: EndpointId, class: Class, out: &mut Vec<u8>) -> &mut u64 {
        let recent = self.recent.filter(|(recent, _)| *recent == origin);
        let known = recent.map(|(_, at)| at);
        let known = known.or_else(|| self.numbers.get(&origin).copied());
        let at = known.unwrap_or_else(|| {
            // The last place serves all who come too late for an alias; it starts at 0 each time.
            let at = self.numbers.len();
            if at < MAX_ALIASES {
                self.numbers.insert(origin, at);
            }
            at
        });
        if at == self.last.len() {
            self.last.push([0; 4]);
        }
        if known.is_some() {
            self.recent = Some((origin, at));
            put_varint(out, at as u64 + 1);
        } else {
            out.push(0);
            out.extend_from_slice(origin.as_bytes());
            self.last[at] = [0; 4];
        }
        &mut self.last[at][class as usize]
    }
}

impl ReceiverAliases {
    /// Reads an origin and gives its place.
    fn read(&mut self, reader: &mut Reader<'_>) -> Option<usize> {
        let alias = usize::try_from(reader.varint()?).ok()?;
        if alias > 0 {
            // The place behind the last alias is nobody's.
            let given = self.origins.len().min(MAX_ALIASES);
            return (alias <= given).then(|| alias - 1);
        }
        let origin = read_id(reader)?;
        if self.origins.len() > MAX_ALIASES {
            self.origins.pop();
        }
        self.origins.push((origin, [0; 4]));
        Some(self.origins.len() - 1)
    }
}

impl Decoder {
    /// The messages of a frame's payload behind its kind.
    pub(super) fn batch<'d, 'a>(&'d mut self, body: &'a [u8]) -> Result<Batch<'d, 'a>, FrameError> {
        Batch::new(&mut self.aliases, Reader::new(body)).ok_or(FrameError::Malformed(name(BATCH)))
    }
}

impl<'d, 'a> Batch<'d, 'a> {
    pub(super) fn new(aliases: &'d mut ReceiverAliases, mut reader: Reader<'a>) -> Option<Self> {
        let class = read_class(&mut reader)?;
        let flags = reader.u8()?;
        let left = reader.varint()?;
        // What is compressed is expanded first.
        (flags == 0 && (1..=MAX_MESSAGES as u64).contains(&left)).then_some(Self {
            class,
            left,
            aliases,
            reader,
        })
    }

    fn message(&mut self) -> Option<MessageRef<'a>> {
        let reader = &mut self.reader;
        let alias = self.aliases.read(reader)?;
        let (origin, last) = &mut self.aliases.origins[alias];
        let last = &mut last[self.class as usize];
        *last = last.wrapping_add(unzigzag(reader.varint()?));
        let id = MessageId {
            origin: *origin,
            sequence: *last,
        };
        let flags = reader.u8()?;
        if flags & RESERVED != 0 {
            return None;
        }
        let topic = reader.string()?;
        let payload = reader.string()?;
        let guest = if flags & FIELDS == 0 {
            None
        } else {
            read_fields(&mut Reader::new(reader.string()?)).ok()?
        };
        Some(MessageRef {
            alias,
            id,
            hops: flags & HOPS_MASK,
            kind: if flags & COMMAND == 0 {
                Kind::Data
            } else {
                Kind::Command
            },
            topic,
            payload,
            guest,
        })
    }
}

/// Reads the optional fields of a message; those that are unknown are passed over.
fn read_fields(reader: &mut Reader<'_>) -> Result<Option<EndpointId>, Fault> {
    let mut guest = None;
    while !reader.is_empty() {
        let tag = reader.varint().ok_or(Fault::Malformed)?;
        let field = reader.string().ok_or(Fault::Malformed)?;
        if tag == GUEST {
            let id = read_id(&mut Reader::new(field)).filter(|id| !id.is_nil());
            guest = Some(id.ok_or(Fault::Malformed)?);
        }
    }
    Ok(guest)
}

impl<'a> Iterator for Batch<'_, 'a> {
    type Item = Result<MessageRef<'a>, FrameError>;

    /// The next message. Nothing follows an error.
    fn next(&mut self) -> Option<Self::Item> {
        let malformed = FrameError::Malformed(name(BATCH));
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
