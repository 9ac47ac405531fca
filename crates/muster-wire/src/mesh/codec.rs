//! The frames of protocol version 2 (its section 3): layouts, limits, encoding and decoding.
//!
//! A link has one [`Encoder`] and one [`Decoder`] per direction, because origins are named by
//! aliases that both ends number alike.

mod batch;
mod compression;
mod fragment;
mod frames;
mod owned;
mod records;
mod run;
mod seals;
#[cfg(test)]
mod tests;

use crate::bytes::{Reader, put_string, put_varint};
use crate::frame;
use crate::mesh::record::Versions;
use crate::message::Class;
use crate::{EndpointId, Incarnation};

pub use batch::{Batch, Head, MAX_ALIASES, MAX_MESSAGES, MessageRef, OpenBatch};
pub use compression::{LEAST, MOST, expand, put_compressed_batch, put_compressed_part};
pub use fragment::{FragmentRef, is_fragment, put_fragment_head};
pub use frames::{Frame, FrameError, LinkFrame, MeshFrame};
pub use owned::{MeshMessage, OwnedFrame};
pub use records::{MAX_FILTER_BYTES, MAX_FILTER_ENTRIES, MAX_GUESTS, MAX_NEIGHBOURS, MAX_WORD};
pub(super) use records::{put_links, put_node};
pub use run::{
    First, RUN_BYTES, RUN_HEAD, RUN_MESSAGES, RUN_TOPIC, ReceivedRun, Run, RunHead, RunMessage,
    RunMessages, RunPart,
};
pub use seals::{MAX_CERTIFICATES, MAX_CHAIN};

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
const WITNESS: u8 = 13;

/// The optional field of a hash that says whether its sender is offered repairs.
const TAKES_OFFERS: u64 = 1;
const RUN: u8 = 14;

/// The most bytes of a neighbour's parting words.
pub const MAX_TEXT: usize = 1024;

/// Returns `true` if the payload of a frame is a batch of messages.
pub fn is_batch(payload: &[u8]) -> bool {
    payload.first() == Some(&BATCH)
}

/// Returns `true` if the payload of a frame is a run of messages.
pub fn is_run(payload: &[u8]) -> bool {
    payload.first() == Some(&RUN)
}

/// Returns `true` if the payload of a frame is a goodbye, which ends the peering.
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
        AGREE => "AGREE",
        RUN => "RUN",
        _ => "WITNESS",
    }
}

/// Writes the batches of one direction of a link.
#[derive(Debug, Default)]
pub struct Encoder {
    aliases: batch::SenderAliases,
}

/// Reads the frames of one direction of a link.
#[derive(Debug, Default)]
pub struct Decoder {
    aliases: batch::ReceiverAliases,
}

impl LinkFrame {
    /// Appends the whole frame, its length included.
    pub fn write(&self, out: &mut Vec<u8>) {
        frame::write(out, |out| self.put(out));
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Credit { class, bytes } => {
                out.extend_from_slice(&[CREDIT, *class as u8]);
                put_varint(out, *bytes);
            }
            Self::Goodbye { reason, text } => {
                out.extend_from_slice(&[GOODBYE, *reason]);
                put_string(out, records::cut(text, MAX_TEXT).as_bytes());
            }
            Self::Echo { is_answer, token } => {
                out.extend_from_slice(&[ECHO, u8::from(*is_answer)]);
                out.extend_from_slice(&token.to_be_bytes());
            }
            Self::Witness { is_answer, id } => {
                out.extend_from_slice(&[WITNESS, u8::from(*is_answer)]);
                out.extend_from_slice(id.as_bytes());
            }
        }
    }
}

impl MeshFrame {
    /// Appends the whole frame, its length included.
    pub fn write(&self, out: &mut Vec<u8>) {
        frame::write(out, |out| self.put(out));
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Records {
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
                let mut body = Vec::new();
                for record in records {
                    records::write(record, &mut body, out);
                }
            }
            Self::Digest(hash) => {
                out.extend_from_slice(&[DIGEST, 0]);
                out.extend_from_slice(&hash.to_be_bytes());
            }
            Self::Greeting(hash) => {
                out.extend_from_slice(&[DIGEST, 0]);
                out.extend_from_slice(&hash.to_be_bytes());
                put_varint(out, TAKES_OFFERS);
                put_string(out, &[1]);
            }
            Self::List(list) => {
                out.extend_from_slice(&[DIGEST, 1]);
                put_list(list, out);
            }
            Self::Offer { root, list } => {
                out.extend_from_slice(&[OFFER, 0]);
                out.extend_from_slice(root.as_bytes());
                put_list(list, out);
            }
            Self::Accept { root, ids } => {
                out.extend_from_slice(&[OFFER, 1]);
                out.extend_from_slice(root.as_bytes());
                records::put_ids(ids, out);
            }
            Self::Want(ids) => {
                out.push(WANT);
                records::put_ids(ids, out);
            }
            Self::Heartbeat { time, echo, hash } => {
                out.push(HEARTBEAT);
                for number in [time, echo, hash] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
            }
            Self::Agree { is_answer, hash } => {
                out.extend_from_slice(&[AGREE, u8::from(*is_answer)]);
                out.extend_from_slice(&hash.to_be_bytes());
            }
            Self::Agreed(hash) => {
                out.extend_from_slice(&[AGREE, 2]);
                out.extend_from_slice(&hash.to_be_bytes());
            }
            Self::JoinRequest => out.extend_from_slice(&[JOIN, 0]),
            Self::JoinAcknowledged { root, flood } => {
                out.extend_from_slice(&[JOIN, 1]);
                out.extend_from_slice(root.as_bytes());
                put_varint(out, *flood);
            }
            Self::JoinReady(id) => {
                out.extend_from_slice(&[JOIN, 2]);
                out.extend_from_slice(id.as_bytes());
            }
        }
    }
}

impl Decoder {
    /// Reads the payload of a frame that is not compressed; [`expand`] makes one of a compressed
    /// frame.
    ///
    /// # Errors
    ///
    /// Fails if the frame is empty, malformed, or over a limit. This ends the peering.
    pub fn read<'d, 'a>(&'d mut self, payload: &'a [u8]) -> Result<Frame<'d, 'a>, FrameError> {
        let (&kind, body) = payload.split_first().ok_or(FrameError::Empty)?;
        if kind == BATCH {
            return self.batch(body).map(Frame::Batch);
        }
        if kind == RUN {
            return ReceivedRun::read(body).map(Frame::Run);
        }
        if !(BATCH..=WITNESS).contains(&kind) {
            return Ok(Frame::Unknown);
        }
        let mut reader = Reader::new(body);
        let frame =
            read_body(kind, &mut reader).and_then(|frame| skip_fields(&mut reader).map(|()| frame));
        frame.map_err(|fault| match fault {
            Fault::Malformed => FrameError::Malformed(name(kind)),
            Fault::OverLimit => FrameError::OverLimit(name(kind)),
        })
    }
}

fn read_body<'d, 'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Frame<'d, 'a>, Fault> {
    let mesh = match kind {
        FRAGMENT => {
            return fragment::read(reader)
                .map(Frame::Fragment)
                .ok_or(Fault::Malformed);
        }
        CREDIT | GOODBYE | ECHO | WITNESS => return read_link(kind, reader).map(Frame::Link),
        RECORDS => read_records(reader)?,
        DIGEST => match reader.u8().ok_or(Fault::Malformed)? {
            0 => read_digest(reader)?,
            1 => MeshFrame::List(read_list(reader)?),
            _ => return Err(Fault::Malformed),
        },
        WANT => MeshFrame::Want(records::read_ids(reader)?),
        HEARTBEAT => read_heartbeat(reader).ok_or(Fault::Malformed)?,
        JOIN => read_join(reader).ok_or(Fault::Malformed)?,
        OFFER => read_offer(reader)?,
        _ => read_agree(reader).ok_or(Fault::Malformed)?,
    };
    Ok(Frame::Mesh(mesh))
}

fn read_link(kind: u8, reader: &mut Reader<'_>) -> Result<LinkFrame, Fault> {
    match kind {
        CREDIT => read_credit(reader).ok_or(Fault::Malformed),
        GOODBYE => {
            let reason = reader.u8().ok_or(Fault::Malformed)?;
            let text = records::word(reader, MAX_TEXT)?;
            Ok(LinkFrame::Goodbye { reason, text })
        }
        WITNESS => read_witness(reader).ok_or(Fault::Malformed),
        _ => read_echo(reader).ok_or(Fault::Malformed),
    }
}

fn read_witness(reader: &mut Reader<'_>) -> Option<LinkFrame> {
    Some(LinkFrame::Witness {
        is_answer: reader.u8()? != 0,
        id: read_id(reader)?,
    })
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

fn read_records(reader: &mut Reader<'_>) -> Result<MeshFrame, Fault> {
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
    Ok(MeshFrame::Records {
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

/// A hash, and whether its sender is offered repairs.
fn read_digest(reader: &mut Reader<'_>) -> Result<MeshFrame, Fault> {
    let hash = reader.u64().ok_or(Fault::Malformed)?;
    let mut takes_offers = false;
    while !reader.is_empty() {
        let tag = reader.varint().ok_or(Fault::Malformed)?;
        let field = reader.string().ok_or(Fault::Malformed)?;
        takes_offers |= tag == TAKES_OFFERS && field == [1];
    }
    Ok(if takes_offers {
        MeshFrame::Greeting(hash)
    } else {
        MeshFrame::Digest(hash)
    })
}

fn read_offer(reader: &mut Reader<'_>) -> Result<MeshFrame, Fault> {
    let form = reader.u8().ok_or(Fault::Malformed)?;
    let root = read_id(reader).ok_or(Fault::Malformed)?;
    match form {
        0 => read_list(reader).map(|list| MeshFrame::Offer { root, list }),
        1 => records::read_ids(reader).map(|ids| MeshFrame::Accept { root, ids }),
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

fn read_heartbeat(reader: &mut Reader<'_>) -> Option<MeshFrame> {
    Some(MeshFrame::Heartbeat {
        time: reader.u64()?,
        echo: reader.u64()?,
        hash: reader.u64()?,
    })
}

fn read_credit(reader: &mut Reader<'_>) -> Option<LinkFrame> {
    Some(LinkFrame::Credit {
        class: read_class(reader)?,
        bytes: reader.varint()?,
    })
}

fn read_join(reader: &mut Reader<'_>) -> Option<MeshFrame> {
    Some(match reader.u8()? {
        0 => MeshFrame::JoinRequest,
        1 => MeshFrame::JoinAcknowledged {
            root: read_id(reader)?,
            flood: reader.varint()?,
        },
        2 => MeshFrame::JoinReady(read_id(reader)?),
        _ => return None,
    })
}

fn read_echo(reader: &mut Reader<'_>) -> Option<LinkFrame> {
    Some(LinkFrame::Echo {
        is_answer: match reader.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        },
        token: reader.u64()?,
    })
}

fn read_agree(reader: &mut Reader<'_>) -> Option<MeshFrame> {
    let (form, hash) = (reader.u8()?, reader.u64()?);
    Some(match form {
        0 | 1 => MeshFrame::Agree {
            is_answer: form == 1,
            hash,
        },
        2 => MeshFrame::Agreed(hash),
        _ => return None,
    })
}
