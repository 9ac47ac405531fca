//! What Muster's masters, clones and writers say to one another: `docs/stores.md` has it byte by byte.
//!
//! Every message begins with a tag and the store's name. What a master tells all clones goes to
//! [`StoreName::clone_topic`](crate::StoreName::clone_topic), what looks for a master to
//! [`StoreName::master_topic`](crate::StoreName::master_topic); all else is addressed to one endpoint. Nothing
//! relies on a message arriving: numbers say what is missing.

use muster_data::{Kind, Timespan, Timestamp};
use muster_wire::EndpointId;
use muster_wire::bytes::{Reader, put_string, put_varint};

use crate::op::{Answer, Change, Event, Op, Refusal, Writer};
use crate::{Encoded, Entry, Level, Revision, StoreName};

/// A message between Muster endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Clone to master: the entries behind a key, from the first without one.
    Fetch {
        /// The clone's instance, which the answer repeats.
        instance: u64,
        /// The last key that the clone has of this snapshot.
        after: Option<Encoded>,
    },
    /// Clone to master: the changes from a number on. Also how a clone looks for its master.
    Missing {
        /// The master's life that the number belongs to; 0 for none.
        life: u64,
        /// The first change that the clone does not have.
        from: u64,
    },
    /// Writer to master: commands, numbered on from the first.
    Write(Write),
    /// Anyone to master: a question that the answer repeats the number of.
    Query {
        /// The number.
        request: u64,
        /// What is asked.
        query: Query,
    },
    /// Master to clone: a part of a snapshot.
    Chunk(Chunk),
    /// Master to clones: changes, numbered on from the first.
    Changes(Changes),
    /// Master to clones: it lives, and this was its last change.
    Alive {
        /// Its life.
        life: u64,
        /// The number of its last change.
        last: u64,
    },
    /// Master to clone: the changes asked for are not kept any more, or are of another life.
    Gone {
        /// The master's life.
        life: u64,
    },
    /// Master to writer: what became of its commands.
    Results(Results),
    /// Master to whoever asked.
    Reply {
        /// The number of the question.
        request: u64,
        /// The master's life.
        life: u64,
        /// The number of its last change.
        last: u64,
        /// The answer.
        reply: Reply,
    },
}

/// Commands of one writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The writer's instance on its endpoint.
    pub instance: u64,
    /// The lowest number whose result the writer waits for: the master forgets what is below.
    pub first_open: u64,
    /// The number of the first command.
    pub number: u64,
    /// The commands, each with the level that its writer waits for.
    pub ops: Vec<(Op, Level)>,
}

/// What is asked of a master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The entry of a key.
    Get(Encoded),
    /// How many keys there are.
    Size,
}

/// The answer to a [`Query`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The entry, if there is one.
    Entry(Option<Entry>),
    /// The number of keys.
    Size(u64),
}

/// A part of a snapshot, in the order of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The instance that asked.
    pub instance: u64,
    /// The master's life.
    pub life: u64,
    /// The last change that is in it.
    pub as_of: u64,
    /// The key that it begins behind, as asked for.
    pub after: Option<Encoded>,
    /// The entries.
    pub entries: Vec<(Encoded, Entry)>,
    /// Whether no entries follow.
    pub is_last: bool,
}

/// Changes of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The master's life.
    pub life: u64,
    /// Changes with consecutive numbers; none of them says what was before.
    pub changes: Vec<Change>,
}

/// What became of a writer's commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    /// The writer's instance.
    pub instance: u64,
    /// The master's life.
    pub life: u64,
    /// The number that the master expects next: all below are applied.
    pub next: u64,
    /// All up to this number are on disk; 0 if none.
    pub durable: u64,
    /// All up to this number, and above `durable`, could not be put on disk; 0 if none.
    pub failed: u64,
    /// The number of the first answer.
    pub number: u64,
    /// Answers with consecutive numbers.
    pub answers: Vec<Answer>,
}

/// Why a message cannot be read. The one message is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message of a store's protocol")]
pub struct MessageError;

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

/// On an operation: the writer waits until it is on disk.
const DURABLE: u8 = 0x80;
/// On an operation or entry: it has a lifetime, or an end.
const TIMED: u8 = 0x40;
/// On an operation or change: there is one more value.
const VALUED: u8 = 0x20;

impl Message {
    /// Whether it is for a master; otherwise it is for a clone, a writer or whoever asked.
    pub fn is_for_master(&self) -> bool {
        matches!(
            self,
            Self::Fetch { .. } | Self::Missing { .. } | Self::Write(_) | Self::Query { .. }
        )
    }

    /// The bytes of the message for or from the store of this name.
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
            Self::Missing { life, from } => {
                begin(MISSING);
                put_varint(&mut out, *life);
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
                put_varint(&mut out, chunk.life);
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
            Self::Alive { life, last } => {
                begin(ALIVE);
                put_varint(&mut out, *life);
                put_varint(&mut out, *last);
            }
            Self::Gone { life } => {
                begin(GONE);
                put_varint(&mut out, *life);
            }
            Self::Results(results) => {
                begin(RESULTS);
                put_varint(&mut out, results.instance);
                put_varint(&mut out, results.life);
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
                life,
                last,
                reply,
            } => {
                begin(REPLY);
                put_varint(&mut out, *request);
                put_varint(&mut out, *life);
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

    /// The name of the store that a message is for, and whether it is for the master.
    pub fn addressee(bytes: &[u8]) -> Option<(&str, bool)> {
        let mut reader = Reader::new(bytes);
        let tag = reader.u8()?;
        let name = std::str::from_utf8(reader.string()?).ok()?;
        Some((name, tag < CHUNK))
    }

    /// Reads the bytes of a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(bytes);
        let message = read(&mut reader).ok_or(MessageError)?;
        // Room to grow: what is behind is for later versions.
        Ok(message)
    }
}

fn read(reader: &mut Reader<'_>) -> Option<Message> {
    let tag = reader.u8()?;
    reader.string()?;
    Some(match tag {
        FETCH => {
            let instance = reader.varint()?;
            let mut after = None;
            optional(reader, &mut after)?;
            Message::Fetch { instance, after }
        }
        MISSING => Message::Missing {
            life: number(reader)?,
            from: number(reader)?,
        },
        WRITE => {
            let instance = reader.varint()?;
            let first_open = number(reader)?;
            let number = number(reader)?;
            Message::Write(Write {
                instance,
                first_open,
                number,
                ops: list(reader, op)?,
            })
        }
        QUERY => Message::Query {
            request: reader.varint()?,
            query: match reader.u8()? {
                0 => Query::Get(key(reader)?),
                1 => Query::Size,
                _ => return None,
            },
        },
        CHUNK => {
            let instance = reader.varint()?;
            let life = number(reader)?;
            let as_of = number(reader)?;
            let mut after = None;
            optional(reader, &mut after)?;
            let is_last = reader.u8()? != 0;
            Message::Chunk(Chunk {
                instance,
                life,
                as_of,
                after,
                entries: list(reader, |reader| Some((value(reader)?, entry(reader)?)))?,
                is_last,
            })
        }
        CHANGES => Message::Changes(changes(reader)?),
        ALIVE => Message::Alive {
            life: number(reader)?,
            last: number(reader)?,
        },
        GONE => Message::Gone {
            life: number(reader)?,
        },
        RESULTS => Message::Results(Results {
            instance: reader.varint()?,
            life: number(reader)?,
            next: number(reader)?,
            durable: number(reader)?,
            failed: number(reader)?,
            number: number(reader)?,
            answers: list(reader, answer)?,
        }),
        REPLY => Message::Reply {
            request: reader.varint()?,
            life: number(reader)?,
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

/// Lives and numbers of changes and writes end here, far from where they could overflow: a life is a time in
/// nanoseconds.
pub(crate) const NUMBERS: u64 = 1 << 62;

fn number(reader: &mut Reader<'_>) -> Option<u64> {
    reader.varint().filter(|number| *number < NUMBERS)
}

/// A count, then as many elements; none is shorter than a byte.
fn list<T>(
    reader: &mut Reader<'_>,
    mut element: impl FnMut(&mut Reader<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = usize::try_from(reader.varint()?).ok()?;
    if count > reader.remaining() {
        return None;
    }
    // No more room at once than the bytes can fill.
    let mut elements = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        elements.push(element(reader)?);
    }
    Some(elements)
}

fn value(reader: &mut Reader<'_>) -> Option<Encoded> {
    Encoded::parse(reader.string()?).ok()
}

fn key(reader: &mut Reader<'_>) -> Option<Encoded> {
    Some(value(reader)?.into_key())
}

fn put_optional(out: &mut Vec<u8>, value: Option<&Encoded>) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put_string(out, value.as_bytes());
        }
    }
}

/// A value if there is one: read into `place`.
fn optional(reader: &mut Reader<'_>, place: &mut Option<Encoded>) -> Option<()> {
    *place = match reader.u8()? {
        0 => None,
        1 => Some(value(reader)?),
        _ => return None,
    };
    Some(())
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_varint(out, entry.changed);
    put_end(out, entry.expires);
    put_string(out, entry.value.as_bytes());
}

fn entry(reader: &mut Reader<'_>) -> Option<Entry> {
    let changed = number(reader)?;
    let mut expires = None;
    end(reader, &mut expires)?;
    let value = value(reader)?;
    Some(Entry {
        value,
        expires,
        changed,
    })
}

fn put_end(out: &mut Vec<u8>, expires: Option<Timestamp>) {
    match expires {
        None => out.push(0),
        Some(expires) => {
            out.push(1);
            out.extend_from_slice(&expires.as_nanos().to_be_bytes());
        }
    }
}

/// The end of a lifetime if there is one: read into `place`.
fn end(reader: &mut Reader<'_>, place: &mut Option<Timestamp>) -> Option<()> {
    *place = match reader.u8()? {
        0 => None,
        1 => Some(Timestamp::from_nanos(i64::from_be_bytes(reader.array()?))),
        _ => return None,
    };
    Some(())
}

fn put_op(out: &mut Vec<u8>, op: &Op, level: Level) {
    let (kind, key, value, lifetime) = match op {
        Op::Put {
            key,
            value,
            lifetime,
        } => (0, Some(key), Some(value), *lifetime),
        Op::PutUnique {
            key,
            value,
            lifetime,
        } => (1, Some(key), Some(value), *lifetime),
        Op::Erase { key } => (2, Some(key), None, None),
        Op::Expire { key } => (3, Some(key), None, None),
        Op::Add {
            key,
            value,
            lifetime,
            ..
        } => (4, Some(key), Some(value), *lifetime),
        Op::Subtract {
            key,
            value,
            lifetime,
        } => (5, Some(key), Some(value), *lifetime),
        Op::Clear => (6, None, None, None),
        Op::Swap {
            key,
            value,
            lifetime,
            ..
        } => (7, Some(key), value.as_ref(), *lifetime),
    };
    let mut flags = kind;
    if level == Level::Durable {
        flags |= DURABLE;
    }
    if lifetime.is_some() {
        flags |= TIMED;
    }
    if value.is_some() {
        flags |= VALUED;
    }
    out.push(flags);
    if let Some(key) = key {
        put_string(out, key.as_bytes());
    }
    if let Some(value) = value {
        put_string(out, value.as_bytes());
    }
    if let Some(lifetime) = lifetime {
        out.extend_from_slice(&lifetime.as_nanos().to_be_bytes());
    }
    match op {
        Op::Add { initial, .. } => out.push(initial.tag()),
        Op::Swap { seen, .. } => {
            put_varint(out, seen.life);
            put_varint(out, seen.change);
        }
        _ => {}
    }
}

fn op(reader: &mut Reader<'_>) -> Option<(Op, Level)> {
    let flags = reader.u8()?;
    let kind = flags & 0x1f;
    let level = if flags & DURABLE == 0 {
        Level::Applied
    } else {
        Level::Durable
    };
    if kind == 6 {
        return Some((Op::Clear, level));
    }
    let key = key(reader)?;
    let given = match flags & VALUED {
        0 => None,
        _ => Some(value(reader)?),
    };
    let lifetime = match flags & TIMED {
        0 => None,
        _ => Some(Timespan::from_nanos(i64::from_be_bytes(reader.array()?))),
    };
    let op = match kind {
        0 => Op::Put {
            key,
            value: given?,
            lifetime,
        },
        1 => Op::PutUnique {
            key,
            value: given?,
            lifetime,
        },
        2 => Op::Erase { key },
        3 => Op::Expire { key },
        4 => Op::Add {
            key,
            value: given?,
            initial: Kind::from_tag(reader.u8()?)?,
            lifetime,
        },
        5 => Op::Subtract {
            key,
            value: given?,
            lifetime,
        },
        7 => Op::Swap {
            key,
            seen: Revision {
                life: number(reader)?,
                change: number(reader)?,
            },
            value: given,
            lifetime,
        },
        _ => return None,
    };
    Some((op, level))
}

/// Life, number of the first, the writers, then each change: kind and flags, its writer's place among them
/// from 1 (0 for none), and what changed.
fn put_changes(out: &mut Vec<u8>, changes: &Changes) {
    put_varint(out, changes.life);
    put_varint(out, changes.changes.first().map_or(0, |first| first.number));
    let mut writers: Vec<Writer> = Vec::new();
    for change in &changes.changes {
        if let Some(writer) = change.writer
            && writers.last() != Some(&writer)
            && !writers.contains(&writer)
        {
            writers.push(writer);
        }
    }
    put_varint(out, writers.len() as u64);
    for writer in &writers {
        out.extend_from_slice(writer.endpoint.as_bytes());
        put_varint(out, writer.instance);
    }
    put_varint(out, changes.changes.len() as u64);
    for change in &changes.changes {
        let place = writers
            .iter()
            .position(|writer| Some(*writer) == change.writer);
        let place = place.map_or(0, |place| place as u64 + 1);
        match &change.event {
            Event::Put {
                key,
                value,
                expires,
                ..
            } => {
                out.push(0);
                put_varint(out, place);
                put_string(out, key.as_bytes());
                put_string(out, value.as_bytes());
                put_end(out, *expires);
            }
            Event::Erase { key, .. } => {
                out.push(1);
                put_varint(out, place);
                put_string(out, key.as_bytes());
            }
            Event::Expire { key, .. } => {
                out.push(2);
                put_varint(out, place);
                put_string(out, key.as_bytes());
            }
            Event::Clear { .. } => {
                out.push(3);
                put_varint(out, place);
            }
        }
    }
}

fn changes(reader: &mut Reader<'_>) -> Option<Changes> {
    let life = number(reader)?;
    let mut next = number(reader)?;
    let writers = list(reader, |reader| {
        Some(Writer {
            endpoint: EndpointId::from_bytes(reader.array()?),
            instance: reader.varint()?,
        })
    })?;
    let changes = list(reader, |reader| {
        let kind = reader.u8()?;
        let writer = match reader.varint()? {
            0 => None,
            place => Some(*writers.get(usize::try_from(place - 1).ok()?)?),
        };
        let event = match kind {
            0 => {
                let (key, value) = (value(reader)?, value(reader)?);
                let mut expires = None;
                end(reader, &mut expires)?;
                Event::Put {
                    key,
                    value,
                    expires,
                    old: None,
                }
            }
            1 => Event::Erase {
                key: value(reader)?,
                old: None,
            },
            2 => Event::Expire {
                key: value(reader)?,
                old: None,
            },
            3 => Event::Clear { old: Vec::new() },
            _ => return None,
        };
        let change = Change {
            number: next,
            writer,
            event,
        };
        next += 1;
        Some(change)
    })?;
    Some(Changes { life, changes })
}

fn put_answer(out: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::Done { change, value } => {
            out.push(if value.is_some() { VALUED } else { 0 });
            put_varint(out, *change);
            if let Some(value) = value {
                put_string(out, value.as_bytes());
            }
        }
        Answer::Unchanged { change } => {
            out.push(1);
            put_varint(out, *change);
        }
        Answer::Repeated => out.push(2),
        Answer::Refused(refusal) => {
            out.push(3);
            out.push(
                REFUSALS
                    .iter()
                    .position(|known| known == refusal)
                    .and_then(|place| u8::try_from(place).ok())
                    .unwrap_or(u8::MAX),
            );
        }
    }
}

/// Answers as a backend keeps them: the number of the first, then all.
pub(crate) fn encode_answers<'a>(
    first: u64,
    answers: impl ExactSizeIterator<Item = &'a Answer>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(answers.len() * 4 + 10);
    put_varint(&mut out, first);
    put_varint(&mut out, answers.len() as u64);
    for answer in answers {
        put_answer(&mut out, answer);
    }
    out
}

/// The same read back; nothing if a backend has lost it.
pub(crate) fn decode_answers(bytes: &[u8]) -> Option<(u64, Vec<Answer>)> {
    let mut reader = Reader::new(bytes);
    let first = number(&mut reader)?;
    Some((first, list(&mut reader, answer)?))
}

/// Their places are their numbers on the wire.
const REFUSALS: [Refusal; 9] = [
    Refusal::TypeClash,
    Refusal::NoSuchKey,
    Refusal::InvalidData,
    Refusal::TooLarge,
    Refusal::Full,
    Refusal::Reserved,
    Refusal::NotPersistent,
    Refusal::Backend,
    Refusal::Unsupported,
];

fn answer(reader: &mut Reader<'_>) -> Option<Answer> {
    Some(match reader.u8()? {
        0 => Answer::Done {
            change: number(reader)?,
            value: None,
        },
        VALUED => Answer::Done {
            change: number(reader)?,
            value: Some(value(reader)?),
        },
        1 => Answer::Unchanged {
            change: number(reader)?,
        },
        2 => Answer::Repeated,
        3 => Answer::Refused(*REFUSALS.get(usize::from(reader.u8()?))?),
        _ => return None,
    })
}
