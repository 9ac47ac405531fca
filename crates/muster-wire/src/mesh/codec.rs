//! The frames of protocol version 2 (its section 3): layouts, limits, encoding and decoding.
//!
//! A link has one [`Encoder`] and one [`Decoder`], because origins are named by aliases that both
//! ends count alike.

mod batch;
mod compression;
mod fragment;
mod records;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::bytes::{Reader, put_string, put_varint};
use crate::frame;
use crate::mesh::parcel::Parcel;
use crate::mesh::record::{Record, Versions};
use crate::message::Class;
use crate::{EndpointId, Incarnation};

pub use batch::{Batch, Head, MAX_ALIASES, MAX_MESSAGES, MessageRef, OpenBatch};
pub use compression::{LEAST, MOST, expand, put_compressed_batch, put_compressed_part};
pub use fragment::{FragmentRef, is_fragment, put_fragment_head};
pub use records::{MAX_FILTER_BYTES, MAX_FILTER_ENTRIES, MAX_GUESTS, MAX_NEIGHBOURS, MAX_WORD};

const BATCH: u8 = 1;
const RECORDS: u8 = 2;
const DIGEST: u8 = 3;
const WANT: u8 = 4;
const HEARTBEAT: u8 = 5;
const CREDIT: u8 = 6;
const JOIN: u8 = 7;
const GOODBYE: u8 = 8;
const FRAGMENT: u8 = 9;
const ECHO: u8 = 10;
const OFFER: u8 = 11;
const AGREE: u8 = 12;

/// The most bytes of a neighbour's parting words.
pub const MAX_TEXT: usize = 1024;

/// A frame between two Muster endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Messages of one class.
    Batch {
        /// The class of all of them.
        class: Class,
        /// The messages in order.
        parcels: Vec<Parcel>,
    },
    /// Records of the database.
    Records {
        /// The endpoint down whose tree they travel; nil for a repair between two neighbours.
        root: EndpointId,
        /// Whether more frames of this repair follow.
        more: bool,
        /// The number of the flood, if it must be acknowledged.
        flood: Option<u64>,
        /// The records; those of unknown kinds are left out.
        records: Vec<Record>,
    },
    /// The hash of a database.
    Digest(u64),
    /// The versions of all records in reach.
    List(Vec<Versions>),
    /// The endpoints whose records are wanted.
    Want(Vec<EndpointId>),
    /// The versions of records that would be sent down a tree, for those who lack some.
    Offer {
        /// The endpoint down whose tree they would travel.
        root: EndpointId,
        /// What there is.
        list: Vec<Versions>,
    },
    /// What is taken up of an offer.
    Accept {
        /// The root that the offer named.
        root: EndpointId,
        /// The endpoints whose records are to come.
        ids: Vec<EndpointId>,
    },
    /// A question whether the other end and all below it have the same records, or that they have.
    Agree {
        /// Whether it is the answer.
        is_answer: bool,
        /// The hash of the records.
        hash: u64,
    },
    /// All have the records of this hash.
    Agreed(u64),
    /// A sign of life.
    Heartbeat {
        /// The sender's monotonic time in nanoseconds.
        time: u64,
        /// The last time that came from the other end; 0 for none.
        echo: u64,
        /// The hash of the sender's database.
        hash: u64,
    },
    /// Permission to send more.
    Credit {
        /// What may be sent.
        class: Class,
        /// How many bytes more.
        bytes: u64,
    },
    /// The sender asks to be made known to all.
    JoinRequest,
    /// The sender and all below it have installed a flood.
    JoinAcknowledged {
        /// The root of the flood.
        root: EndpointId,
        /// The number of the flood.
        flood: u64,
    },
    /// All know the endpoint.
    JoinReady(EndpointId),
    /// The peering ends.
    Goodbye {
        /// Why, as a number.
        reason: u8,
        /// Why, in words; what is over 1,024 bytes is cut.
        text: String,
    },
    /// A part of the body of a batch.
    Fragment {
        /// The class of the batch.
        class: Class,
        /// The number of the cut frame on this link.
        number: u64,
        /// The position of the part.
        index: u64,
        /// Whether it is the last part.
        last: bool,
        /// The part.
        bytes: Bytes,
    },
    /// A question whether the other end is there, or the answer.
    Echo {
        /// Whether it is the answer.
        is_answer: bool,
        /// The number of the question.
        token: u64,
    },
}

/// A frame that cannot be read: it ends the peering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame without a kind.
    #[error("empty frame")]
    Empty,
    /// The frame ends inside a field, or a field is not what it may be.
    #[error("malformed {0} frame")]
    Malformed(&'static str),
    /// A list or text in it is longer than allowed.
    #[error("{0} frame over a limit")]
    OverLimit(&'static str),
}

/// Whether the payload of a frame is one of messages.
pub fn is_batch(payload: &[u8]) -> bool {
    payload.first() == Some(&BATCH)
}

/// Whether the payload of a frame is the end of a peering.
pub fn is_goodbye(payload: &[u8]) -> bool {
    payload.first() == Some(&GOODBYE)
}

/// What went wrong inside a frame, before its kind is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Malformed,
    OverLimit,
}

fn name(kind: u8) -> &'static str {
    match kind {
        BATCH => "BATCH",
        RECORDS => "RECORDS",
        DIGEST => "DIGEST",
        WANT => "WANT",
        HEARTBEAT => "HEARTBEAT",
        CREDIT => "CREDIT",
        JOIN => "JOIN",
        GOODBYE => "GOODBYE",
        FRAGMENT => "FRAGMENT",
        ECHO => "ECHO",
        OFFER => "OFFER",
        _ => "AGREE",
    }
}

/// Writes the frames of one direction of a link.
#[derive(Debug, Default)]
pub struct Encoder {
    aliases: batch::SenderAliases,
}

/// Reads the frames of one direction of a link.
#[derive(Debug, Default)]
pub struct Decoder {
    aliases: batch::ReceiverAliases,
}

impl Encoder {
    /// Appends a whole frame, its length included.
    pub fn write(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        frame::write(out, |out| self.write_payload(frame, out));
    }

    fn write_payload(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        match frame {
            Frame::Batch { class, parcels } => {
                out.push(BATCH);
                batch::write(&mut self.aliases, *class, parcels, out);
            }
            Frame::Records {
                root,
                more,
                flood,
                records,
            } => {
                out.push(RECORDS);
                out.extend_from_slice(root.as_bytes());
                out.push(u8::from(*more) | u8::from(flood.is_some()) << 1);
                put_varint(out, flood.unwrap_or(0));
                put_varint(out, records.len() as u64);
                for record in records {
                    records::write(record, out);
                }
            }
            Frame::Digest(hash) => {
                out.extend_from_slice(&[DIGEST, 0]);
                out.extend_from_slice(&hash.to_be_bytes());
            }
            Frame::List(list) => {
                out.extend_from_slice(&[DIGEST, 1]);
                put_list(list, out);
            }
            Frame::Offer { root, list } => {
                out.extend_from_slice(&[OFFER, 0]);
                out.extend_from_slice(root.as_bytes());
                put_list(list, out);
            }
            Frame::Accept { root, ids } => {
                out.extend_from_slice(&[OFFER, 1]);
                out.extend_from_slice(root.as_bytes());
                records::put_ids(ids, out);
            }
            Frame::Want(ids) => {
                out.push(WANT);
                records::put_ids(ids, out);
            }
            Frame::Heartbeat { time, echo, hash } => {
                out.push(HEARTBEAT);
                for number in [time, echo, hash] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
            }
            Frame::Agree { is_answer, hash } => {
                out.extend_from_slice(&[AGREE, u8::from(*is_answer)]);
                out.extend_from_slice(&hash.to_be_bytes());
            }
            Frame::Agreed(hash) => {
                out.extend_from_slice(&[AGREE, 2]);
                out.extend_from_slice(&hash.to_be_bytes());
            }
            Frame::Credit { class, bytes } => {
                out.extend_from_slice(&[CREDIT, *class as u8]);
                put_varint(out, *bytes);
            }
            Frame::JoinRequest => out.extend_from_slice(&[JOIN, 0]),
            Frame::JoinAcknowledged { root, flood } => {
                out.extend_from_slice(&[JOIN, 1]);
                out.extend_from_slice(root.as_bytes());
                put_varint(out, *flood);
            }
            Frame::JoinReady(id) => {
                out.extend_from_slice(&[JOIN, 2]);
                out.extend_from_slice(id.as_bytes());
            }
            Frame::Goodbye { reason, text } => {
                out.extend_from_slice(&[GOODBYE, *reason]);
                put_string(out, records::cut(text, MAX_TEXT).as_bytes());
            }
            Frame::Fragment {
                class,
                number,
                index,
                last,
                bytes,
            } => {
                out.extend_from_slice(&[FRAGMENT, *class as u8]);
                put_varint(out, *number);
                put_varint(out, *index);
                out.push(u8::from(*last));
                put_string(out, bytes);
            }
            Frame::Echo { is_answer, token } => {
                out.extend_from_slice(&[ECHO, u8::from(*is_answer)]);
                out.extend_from_slice(&token.to_be_bytes());
            }
        }
    }
}

impl Decoder {
    /// Reads the payload of a frame. `None` for a frame of an unknown kind, which is skipped.
    pub fn read(&mut self, payload: &Bytes) -> Result<Option<Frame>, FrameError> {
        let (&kind, body) = payload.split_first().ok_or(FrameError::Empty)?;
        if !(BATCH..=AGREE).contains(&kind) {
            return Ok(None);
        }
        let mut reader = Reader::new(body);
        let frame = self
            .body(kind, &mut reader, payload)
            .and_then(|frame| skip_fields(&mut reader).map(|()| frame));
        match frame {
            Ok(frame) => Ok(Some(frame)),
            Err(Fault::Malformed) => Err(FrameError::Malformed(name(kind))),
            Err(Fault::OverLimit) => Err(FrameError::OverLimit(name(kind))),
        }
    }

    fn body(&mut self, kind: u8, reader: &mut Reader<'_>, whole: &Bytes) -> Result<Frame, Fault> {
        match kind {
            BATCH => batch::read(&mut self.aliases, reader, whole),
            RECORDS => read_records(reader),
            DIGEST => match reader.u8().ok_or(Fault::Malformed)? {
                0 => reader.u64().map(Frame::Digest).ok_or(Fault::Malformed),
                1 => read_list(reader).map(Frame::List),
                _ => Err(Fault::Malformed),
            },
            WANT => records::read_ids(reader).map(Frame::Want),
            HEARTBEAT => read_heartbeat(reader).ok_or(Fault::Malformed),
            CREDIT => read_credit(reader).ok_or(Fault::Malformed),
            JOIN => read_join(reader).ok_or(Fault::Malformed),
            GOODBYE => {
                let reason = reader.u8().ok_or(Fault::Malformed)?;
                let text = records::word(reader, MAX_TEXT)?;
                Ok(Frame::Goodbye { reason, text })
            }
            FRAGMENT => fragment::read(reader, whole),
            ECHO => read_echo(reader).ok_or(Fault::Malformed),
            OFFER => read_offer(reader),
            _ => read_agree(reader).ok_or(Fault::Malformed),
        }
    }
}

/// Passes over optional fields up to the end.
fn skip_fields(reader: &mut Reader<'_>) -> Result<(), Fault> {
    while !reader.is_empty() {
        reader.varint().ok_or(Fault::Malformed)?;
        reader.string().ok_or(Fault::Malformed)?;
    }
    Ok(())
}

fn read_class(reader: &mut Reader<'_>) -> Option<Class> {
    Some(match reader.u8()? {
        0 => Class::Control,
        1 => Class::Interactive,
        2 => Class::Event,
        3 => Class::Bulk,
        _ => return None,
    })
}

fn read_id(reader: &mut Reader<'_>) -> Option<EndpointId> {
    reader.array().map(EndpointId::from_bytes)
}

/// The part of `whole` that the reader's slice is: what is kept shares the frame's memory.
fn shared(whole: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() {
        Bytes::new()
    } else {
        whole.slice_ref(part)
    }
}

fn read_records(reader: &mut Reader<'_>) -> Result<Frame, Fault> {
    let head = |reader: &mut Reader<'_>| {
        let root = read_id(reader)?;
        let flags = reader.u8()?;
        Some((root, flags, reader.varint()?, reader.varint()?))
    };
    let (root, flags, flood, count) = head(reader).ok_or(Fault::Malformed)?;
    let mut records = Vec::new();
    for _ in 0..count {
        records.extend(records::read(reader)?);
    }
    Ok(Frame::Records {
        root,
        more: flags & 1 != 0,
        flood: (flags & 2 != 0).then_some(flood),
        records,
    })
}

fn put_list(list: &[Versions], out: &mut Vec<u8>) {
    put_varint(out, list.len() as u64);
    for versions in list {
        out.extend_from_slice(versions.id.as_bytes());
        out.extend_from_slice(&versions.incarnation.0.to_be_bytes());
        put_varint(out, versions.node);
        put_varint(out, versions.links);
    }
}

fn read_offer(reader: &mut Reader<'_>) -> Result<Frame, Fault> {
    let form = reader.u8().ok_or(Fault::Malformed)?;
    let root = read_id(reader).filter(|root| !root.is_nil());
    let root = root.ok_or(Fault::Malformed)?;
    match form {
        0 => read_list(reader).map(|list| Frame::Offer { root, list }),
        1 => records::read_ids(reader).map(|ids| Frame::Accept { root, ids }),
        _ => Err(Fault::Malformed),
    }
}

fn read_list(reader: &mut Reader<'_>) -> Result<Vec<Versions>, Fault> {
    let count = reader.varint().ok_or(Fault::Malformed)?;
    if count > records::MAX_LIST {
        return Err(Fault::OverLimit);
    }
    let mut list = Vec::new();
    for _ in 0..count {
        let mut versions = || {
            Some(Versions {
                id: read_id(reader)?,
                incarnation: Incarnation(reader.u64()?),
                node: reader.varint()?,
                links: reader.varint()?,
            })
        };
        list.push(versions().ok_or(Fault::Malformed)?);
    }
    Ok(list)
}

fn read_heartbeat(reader: &mut Reader<'_>) -> Option<Frame> {
    Some(Frame::Heartbeat {
        time: reader.u64()?,
        echo: reader.u64()?,
        hash: reader.u64()?,
    })
}

fn read_credit(reader: &mut Reader<'_>) -> Option<Frame> {
    Some(Frame::Credit {
        class: read_class(reader)?,
        bytes: reader.varint()?,
    })
}

fn read_join(reader: &mut Reader<'_>) -> Option<Frame> {
    Some(match reader.u8()? {
        0 => Frame::JoinRequest,
        1 => Frame::JoinAcknowledged {
            root: read_id(reader)?,
            flood: reader.varint()?,
        },
        2 => Frame::JoinReady(read_id(reader)?),
        _ => return None,
    })
}

fn read_echo(reader: &mut Reader<'_>) -> Option<Frame> {
    Some(Frame::Echo {
        is_answer: match reader.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        },
        token: reader.u64()?,
    })
}

fn read_agree(reader: &mut Reader<'_>) -> Option<Frame> {
    let (form, hash) = (reader.u8()?, reader.u64()?);
    Some(match form {
        0 | 1 => Frame::Agree {
            is_answer: form == 1,
            hash,
        },
        2 => Frame::Agreed(hash),
        _ => return None,
    })
}
