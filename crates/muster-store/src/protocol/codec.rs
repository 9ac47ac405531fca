//! Messages as bytes.

use muster_wire::bytes::{Reader, put_string, put_varint};

use super::parts::{
    answer, changes, entry, epoch, key, list, number, op, optional, put_answer, put_changes,
    put_entry, put_op, put_optional, value,
};
use super::replication::{
    acknowledgement, attach, attached, cursor, put_acknowledgement, put_attach, put_attached,
    put_cursor, put_replicate, put_writers, replicate, writers,
};
use super::{
    Chunk, LogEntry, MessageError, Query, Replicate, Reply, Results, StoreMessage, WriteBatch,
};
use crate::StoreName;

const FETCH: u8 = 0x01;
const MISSING: u8 = 0x02;
const WRITE: u8 = 0x03;
const QUERY: u8 = 0x04;
const ACKNOWLEDGE: u8 = 0x05;
const ATTACH: u8 = 0x06;
const FETCH_WRITERS: u8 = 0x07;
const CHUNK: u8 = 0x81;
const CHANGES: u8 = 0x82;
const ALIVE: u8 = 0x83;
const GONE: u8 = 0x84;
const RESULTS: u8 = 0x85;
const REPLY: u8 = 0x86;
const REPLICATE: u8 = 0x87;
const WRITERS: u8 = 0x88;
const FENCED: u8 = 0x89;
const ATTACHED: u8 = 0x8a;

impl StoreMessage {
    /// Returns `true` if the message is for a primary. Other messages are for clones, writers or
    /// whoever asked.
    pub fn is_for_primary(&self) -> bool {
        matches!(
            self,
            Self::Fetch { .. }
                | Self::Missing { .. }
                | Self::Write(_)
                | Self::Query { .. }
                | Self::Attach(_)
                | Self::Acknowledge(_)
                | Self::FetchWriters { .. }
        )
    }

    /// Encodes the message. `name` is the store that it belongs to.
    pub fn encode(&self, name: &StoreName) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        let mut begin = |tag| {
            out.push(tag);
            put_string(&mut out, name.as_str().as_bytes());
        };
        match self {
            Self::Fetch { instance, after } => {
                begin(FETCH);
                put_varint(&mut out, *instance);
                put_optional(&mut out, after.as_ref());
            }
            Self::Missing { timeline, from } => {
                begin(MISSING);
                put_varint(&mut out, *timeline);
                put_varint(&mut out, *from);
            }
            Self::Write(write) => {
                begin(WRITE);
                put_varint(&mut out, write.instance);
                put_varint(&mut out, write.first_open);
                put_varint(&mut out, write.number);
                put_varint(&mut out, write.ops.len() as u64);
                for (op, level) in &write.ops {
                    put_op(&mut out, op, *level);
                }
            }
            Self::Query { request, query } => {
                begin(QUERY);
                put_varint(&mut out, *request);
                match query {
                    Query::Get(key) => {
                        out.push(0);
                        put_string(&mut out, key.as_bytes());
                    }
                    Query::Size => out.push(1),
                }
            }
            Self::Chunk(chunk) => {
                begin(CHUNK);
                put_varint(&mut out, chunk.instance);
                put_varint(&mut out, chunk.timeline);
                put_varint(&mut out, chunk.as_of);
                put_optional(&mut out, chunk.after.as_ref());
                out.push(u8::from(chunk.is_last));
                put_varint(&mut out, chunk.entries.len() as u64);
                for (key, entry) in &chunk.entries {
                    put_string(&mut out, key.as_bytes());
                    put_entry(&mut out, entry);
                }
                put_varint(&mut out, chunk.epoch);
            }
            Self::Changes(changes) => {
                begin(CHANGES);
                put_changes(&mut out, changes);
            }
            Self::Alive {
                timeline,
                last,
                epoch,
            } => {
                begin(ALIVE);
                put_varint(&mut out, *timeline);
                put_varint(&mut out, *last);
                put_varint(&mut out, *epoch);
            }
            Self::Gone { timeline, epoch } => {
                begin(GONE);
                put_varint(&mut out, *timeline);
                put_varint(&mut out, *epoch);
            }
            Self::Results(results) => {
                begin(RESULTS);
                put_varint(&mut out, results.instance);
                put_varint(&mut out, results.timeline);
                put_varint(&mut out, results.next);
                put_varint(&mut out, results.durable);
                put_varint(&mut out, results.failed);
                put_varint(&mut out, results.number);
                put_varint(&mut out, results.answers.len() as u64);
                for answer in &results.answers {
                    put_answer(&mut out, answer);
                }
                put_varint(&mut out, results.epoch);
            }
            Self::Reply {
                request,
                timeline,
                last,
                reply,
                epoch,
            } => {
                begin(REPLY);
                put_varint(&mut out, *request);
                put_varint(&mut out, *timeline);
                put_varint(&mut out, *last);
                match reply {
                    Reply::Entry(None) => out.push(0),
                    Reply::Entry(Some(entry)) => {
                        out.push(1);
                        put_entry(&mut out, entry);
                    }
                    Reply::Size(size) => {
                        out.push(2);
                        put_varint(&mut out, *size);
                    }
                }
                put_varint(&mut out, *epoch);
            }
            Self::Attach(attach) => {
                begin(ATTACH);
                put_attach(&mut out, attach);
            }
            Self::Acknowledge(acknowledgement) => {
                begin(ACKNOWLEDGE);
                put_acknowledgement(&mut out, acknowledgement);
            }
            Self::FetchWriters { epoch, after } => {
                begin(FETCH_WRITERS);
                put_varint(&mut out, *epoch);
                put_cursor(&mut out, *after);
            }
            Self::Attached(attached) => {
                begin(ATTACHED);
                put_attached(&mut out, attached);
            }
            Self::Replicate(replicate) => {
                begin(REPLICATE);
                put_replicate(&mut out, replicate);
            }
            Self::Writers(part) => {
                begin(WRITERS);
                put_writers(&mut out, part);
            }
            Self::Fenced { epoch } => {
                begin(FENCED);
                put_varint(&mut out, *epoch);
            }
        }
        out
    }

    /// Encodes [`StoreMessage::Replicate`] of entries that are elsewhere.
    pub(crate) fn encode_replicate(name: &StoreName, replicate: &Replicate<&LogEntry>) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + replicate.entries.len() * 32);
        out.push(REPLICATE);
        put_string(&mut out, name.as_str().as_bytes());
        put_replicate(&mut out, replicate);
        out
    }

    /// Returns the name of the store that a message belongs to, and `true` if it is for the
    /// primary. Returns `None` if the bytes are not a message.
    pub fn addressee(bytes: &[u8]) -> Option<(&str, bool)> {
        let mut reader = Reader::new(bytes);
        let tag = reader.u8()?;
        let name = std::str::from_utf8(reader.string()?).ok()?;
        Some((name, tag < CHUNK))
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(bytes);
        let message = read(&mut reader).ok_or(MessageError)?;
        // Room to grow: what is behind is for later versions.
        Ok(message)
    }
}

fn read(reader: &mut Reader<'_>) -> Option<StoreMessage> {
    let tag = reader.u8()?;
    reader.string()?;
    Some(match tag {
        FETCH => {
            let instance = reader.varint()?;
            let mut after = None;
            optional(reader, &mut after)?;
            StoreMessage::Fetch { instance, after }
        }
        MISSING => StoreMessage::Missing {
            timeline: number(reader)?,
            from: number(reader)?,
        },
        WRITE => {
            let instance = reader.varint()?;
            let first_open = number(reader)?;
            let number = number(reader)?;
            StoreMessage::Write(WriteBatch {
                instance,
                first_open,
                number,
                ops: list(reader, op)?,
            })
        }
        QUERY => StoreMessage::Query {
            request: reader.varint()?,
            query: match reader.u8()? {
                0 => Query::Get(key(reader)?),
                1 => Query::Size,
                _ => return None,
            },
        },
        CHUNK => {
            let instance = reader.varint()?;
            let timeline = number(reader)?;
            let as_of = number(reader)?;
            let mut after = None;
            optional(reader, &mut after)?;
            let is_last = reader.u8()? != 0;
            StoreMessage::Chunk(Chunk {
                instance,
                timeline,
                as_of,
                after,
                entries: list(reader, |reader| Some((value(reader)?, entry(reader)?)))?,
                is_last,
                epoch: epoch(reader)?,
            })
        }
        CHANGES => StoreMessage::Changes(changes(reader)?),
        ALIVE => StoreMessage::Alive {
            timeline: number(reader)?,
            last: number(reader)?,
            epoch: epoch(reader)?,
        },
        GONE => StoreMessage::Gone {
            timeline: number(reader)?,
            epoch: epoch(reader)?,
        },
        RESULTS => StoreMessage::Results(Results {
            instance: reader.varint()?,
            timeline: number(reader)?,
            next: number(reader)?,
            durable: number(reader)?,
            failed: number(reader)?,
            number: number(reader)?,
            answers: list(reader, answer)?,
            epoch: epoch(reader)?,
        }),
        REPLY => StoreMessage::Reply {
            request: reader.varint()?,
            timeline: number(reader)?,
            last: number(reader)?,
            reply: match reader.u8()? {
                0 => Reply::Entry(None),
                1 => Reply::Entry(Some(entry(reader)?)),
                2 => Reply::Size(reader.varint()?),
                _ => return None,
            },
            epoch: epoch(reader)?,
        },
        ATTACH => StoreMessage::Attach(attach(reader)?),
        ACKNOWLEDGE => StoreMessage::Acknowledge(acknowledgement(reader)?),
        FETCH_WRITERS => StoreMessage::FetchWriters {
            epoch: number(reader)?,
            after: cursor(reader)?,
        },
        ATTACHED => StoreMessage::Attached(attached(reader)?),
        REPLICATE => StoreMessage::Replicate(replicate(reader)?),
        WRITERS => StoreMessage::Writers(writers(reader)?),
        FENCED => StoreMessage::Fenced {
            epoch: number(reader)?,
        },
        _ => return None,
    })
}
