//! Messages as bytes.

use muster_wire::bytes::{Reader, put_string, put_varint};

use super::parts::{
    answer, changes, entry, key, list, number, op, optional, put_answer, put_changes, put_entry,
    put_op, put_optional, value,
};
use super::{Chunk, MessageError, Query, Reply, Results, StoreMessage, WriteBatch};
use crate::StoreName;

const FETCH: u8 = 0x01;
const MISSING: u8 = 0x02;
const WRITE: u8 = 0x03;
const QUERY: u8 = 0x04;
const CHUNK: u8 = 0x81;
const CHANGES: u8 = 0x82;
const ALIVE: u8 = 0x83;
const GONE: u8 = 0x84;
const RESULTS: u8 = 0x85;
const REPLY: u8 = 0x86;

impl StoreMessage {
    /// Returns `true` if the message is for a primary. Other messages are for clones, writers or
    /// whoever asked.
    pub fn is_for_primary(&self) -> bool {
        matches!(
            self,
            Self::Fetch { .. } | Self::Missing { .. } | Self::Write(_) | Self::Query { .. }
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
            }
            Self::Changes(changes) => {
                begin(CHANGES);
                put_changes(&mut out, changes);
            }
            Self::Alive { timeline, last } => {
                begin(ALIVE);
                put_varint(&mut out, *timeline);
                put_varint(&mut out, *last);
            }
            Self::Gone { timeline } => {
                begin(GONE);
                put_varint(&mut out, *timeline);
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
            }
            Self::Reply {
                request,
                timeline,
                last,
                reply,
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
            }
        }
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
            })
        }
        CHANGES => StoreMessage::Changes(changes(reader)?),
        ALIVE => StoreMessage::Alive {
            timeline: number(reader)?,
            last: number(reader)?,
        },
        GONE => StoreMessage::Gone {
            timeline: number(reader)?,
        },
        RESULTS => StoreMessage::Results(Results {
            instance: reader.varint()?,
            timeline: number(reader)?,
            next: number(reader)?,
            durable: number(reader)?,
            failed: number(reader)?,
            number: number(reader)?,
            answers: list(reader, answer)?,
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
        },
        _ => return None,
    })
}
