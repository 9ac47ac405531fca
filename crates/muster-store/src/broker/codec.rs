//! The commands of Broker's stores as bytes (protocol version 1, section 7.2).

use muster_data::{Kind, Timespan};
use muster_wire::EndpointId;
use muster_wire::bytes::{Reader, put_varbyte};

use crate::Encoded;
use crate::op::Writer;

/// A master, or a clone and its writer, on an endpoint. Broker calls this an entity.
pub type Entity = Writer;

/// The receiver of commands that are for everybody.
pub const EVERYBODY: Entity = Entity {
    endpoint: EndpointId::NIL,
    instance: 0,
};

/// A command between a master of Broker's protocol and a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerCommand {
    /// The number of an event in its sender's channel; the offset of a snapshot; 0 for everything else.
    pub number: u64,
    /// The sender.
    pub sender: Entity,
    /// The receiver, or [`EVERYBODY`].
    pub receiver: Entity,
    /// What it says.
    pub content: Content,
}

/// The content of a [`BrokerCommand`]. Those up to [`Content::Clear`] are events of a channel; the
/// others control a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A key is set. Without a TTL it is kept until something changes it.
    Put {
        /// The key.
        key: Encoded,
        /// The value.
        value: Encoded,
        /// The value's TTL.
        ttl: Option<Timespan>,
        /// The entity that asked for it.
        publisher: Entity,
    },
    /// A key is to be set if it is absent.
    PutUnique {
        /// The key.
        key: Encoded,
        /// The value.
        value: Encoded,
        /// The value's TTL.
        ttl: Option<Timespan>,
        /// The entity that waits for the result.
        who: Entity,
        /// The number that the result repeats.
        request: u64,
        /// The entity that asked for it.
        publisher: Entity,
    },
    /// The outcome of a [`Content::PutUnique`].
    PutUniqueResult {
        /// Whether the key was absent.
        inserted: bool,
        /// The entity that waits for the result.
        who: Entity,
        /// The number of the request.
        request: u64,
        /// The master.
        publisher: Entity,
    },
    /// A key is removed.
    Erase {
        /// The key.
        key: Encoded,
        /// The entity that asked for it.
        publisher: Entity,
    },
    /// A key's TTL has run out.
    Expire {
        /// The key.
        key: Encoded,
        /// The master.
        publisher: Entity,
    },
    /// Something is to be added to a value.
    Add {
        /// The key.
        key: Encoded,
        /// What is added.
        value: Encoded,
        /// The kind of value that is made if the key is absent.
        initial: Kind,
        /// The value's TTL.
        ttl: Option<Timespan>,
        /// The entity that asked for it.
        publisher: Entity,
    },
    /// Something is to be subtracted from a value.
    Subtract {
        /// The key.
        key: Encoded,
        /// What is subtracted.
        value: Encoded,
        /// The value's TTL.
        ttl: Option<Timespan>,
        /// The entity that asked for it.
        publisher: Entity,
    },
    /// All keys are removed.
    Clear {
        /// The entity that asked for it.
        publisher: Entity,
    },
    /// A clone starts to write. Its first event has the number after the offset.
    AttachWriter {
        /// The number of the last event that the master must not expect.
        offset: u64,
        /// The interval of acknowledgements, in ticks of 100 ms.
        heartbeat: u16,
    },
    /// The sender tells the number of the last event in its channel.
    Keepalive {
        /// The number of its last event.
        number: u64,
    },
    /// All events up to a number have been received.
    CumulativeAck {
        /// The number.
        number: u64,
    },
    /// Events are missing. The number 0 alone asks to be attached.
    Nack {
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// A clone is attached, and gets the whole state.
    AckClone {
        /// The number of the last event that is included.
        offset: u64,
        /// The interval of acknowledgements, in ticks of 100 ms.
        heartbeat: u16,
        /// The keys and values.
        state: Vec<(Encoded, Encoded)>,
    },
    /// An event that was asked for is no longer kept.
    RetransmitFailed {
        /// Its number.
        number: u64,
    },
}

/// A command that cannot be read. It is lost, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed command of a Broker store")]
pub struct CommandError;

const PUT: u8 = 0;
const PUT_UNIQUE: u8 = 1;
const PUT_UNIQUE_RESULT: u8 = 2;
const ERASE: u8 = 3;
const EXPIRE: u8 = 4;
const ADD: u8 = 5;
const SUBTRACT: u8 = 6;
const CLEAR: u8 = 7;
const ATTACH_WRITER: u8 = 8;
const KEEPALIVE: u8 = 9;
const CUMULATIVE_ACK: u8 = 10;
const NACK: u8 = 11;
const ACK_CLONE: u8 = 12;
const RETRANSMIT_FAILED: u8 = 13;

/// The bytes of a command before its content.
pub(super) const FIXED: usize = 8 + 24 + 24 + 1;

impl Content {
    /// Returns `true` if this is a numbered event of its sender's channel.
    pub fn is_event(&self) -> bool {
        self.index() <= CLEAR
    }

    fn index(&self) -> u8 {
        match self {
            Self::Put { .. } => PUT,
            Self::PutUnique { .. } => PUT_UNIQUE,
            Self::PutUniqueResult { .. } => PUT_UNIQUE_RESULT,
            Self::Erase { .. } => ERASE,
            Self::Expire { .. } => EXPIRE,
            Self::Add { .. } => ADD,
            Self::Subtract { .. } => SUBTRACT,
            Self::Clear { .. } => CLEAR,
            Self::AttachWriter { .. } => ATTACH_WRITER,
            Self::Keepalive { .. } => KEEPALIVE,
            Self::CumulativeAck { .. } => CUMULATIVE_ACK,
            Self::Nack { .. } => NACK,
            Self::AckClone { .. } => ACK_CLONE,
            Self::RetransmitFailed { .. } => RETRANSMIT_FAILED,
        }
    }

    /// Returns about how many bytes its keys and values have.
    pub fn size(&self) -> usize {
        match self {
            Self::Put { key, value, .. }
            | Self::PutUnique { key, value, .. }
            | Self::Add { key, value, .. }
            | Self::Subtract { key, value, .. } => key.size() + value.size() + 64,
            Self::Erase { key, .. } | Self::Expire { key, .. } => key.size() + 64,
            _ => 64,
        }
    }
}

impl BrokerCommand {
    /// Encodes the command.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED + 128);
        out.extend_from_slice(&self.number.to_be_bytes());
        put_entity(&mut out, self.sender);
        put_entity(&mut out, self.receiver);
        out.push(self.content.index());
        let numbers = |out: &mut Vec<u8>, number: u64| out.extend_from_slice(&number.to_be_bytes());
        match &self.content {
            Content::Put {
                key,
                value,
                ttl,
                publisher,
            }
            | Content::Subtract {
                key,
                value,
                ttl,
                publisher,
            } => {
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(value.as_bytes());
                put_lifetime(&mut out, *ttl);
                put_entity(&mut out, *publisher);
            }
            Content::PutUnique {
                key,
                value,
                ttl,
                who,
                request,
                publisher,
            } => {
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(value.as_bytes());
                put_lifetime(&mut out, *ttl);
                put_entity(&mut out, *who);
                numbers(&mut out, *request);
                put_entity(&mut out, *publisher);
            }
            Content::PutUniqueResult {
                inserted,
                who,
                request,
                publisher,
            } => {
                out.push(u8::from(*inserted));
                put_entity(&mut out, *who);
                numbers(&mut out, *request);
                put_entity(&mut out, *publisher);
            }
            Content::Erase { key, publisher } | Content::Expire { key, publisher } => {
                out.extend_from_slice(key.as_bytes());
                put_entity(&mut out, *publisher);
            }
            Content::Add {
                key,
                value,
                initial,
                ttl,
                publisher,
            } => {
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(value.as_bytes());
                out.push(initial.tag());
                put_lifetime(&mut out, *ttl);
                put_entity(&mut out, *publisher);
            }
            Content::Clear { publisher } => put_entity(&mut out, *publisher),
            Content::AttachWriter { offset, heartbeat } => {
                numbers(&mut out, *offset);
                out.extend_from_slice(&heartbeat.to_be_bytes());
            }
            Content::Keepalive { number }
            | Content::CumulativeAck { number }
            | Content::RetransmitFailed { number } => numbers(&mut out, *number),
            Content::Nack { numbers: all } => {
                put_varbyte(&mut out, all.len());
                for number in all {
                    numbers(&mut out, *number);
                }
            }
            Content::AckClone {
                offset,
                heartbeat,
                state,
            } => {
                let bytes = state.iter().map(|(key, value)| key.size() + value.size());
                out.reserve(bytes.sum::<usize>() + 16);
                numbers(&mut out, *offset);
                out.extend_from_slice(&heartbeat.to_be_bytes());
                put_varbyte(&mut out, state.len());
                for (key, value) in state {
                    out.extend_from_slice(key.as_bytes());
                    out.extend_from_slice(value.as_bytes());
                }
            }
        }
        out
    }

    /// Reads a command. Bytes after it are ignored, as by Broker.
    ///
    /// # Errors
    ///
    /// Fails if the bytes do not begin with a well-formed command.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        read(&mut Reader::new(bytes)).ok_or(CommandError)
    }
}

fn read(reader: &mut Reader<'_>) -> Option<BrokerCommand> {
    let number = reader.u64()?;
    let sender = entity(reader)?;
    let receiver = entity(reader)?;
    let content = match reader.u8()? {
        PUT => Content::Put {
            key: key(reader)?,
            value: value(reader)?,
            ttl: ttl(reader).ok()?,
            publisher: entity(reader)?,
        },
        PUT_UNIQUE => Content::PutUnique {
            key: key(reader)?,
            value: value(reader)?,
            ttl: ttl(reader).ok()?,
            who: entity(reader)?,
            request: reader.u64()?,
            publisher: entity(reader)?,
        },
        PUT_UNIQUE_RESULT => Content::PutUniqueResult {
            inserted: reader.u8()? != 0,
            who: entity(reader)?,
            request: reader.u64()?,
            publisher: entity(reader)?,
        },
        ERASE => Content::Erase {
            key: key(reader)?,
            publisher: entity(reader)?,
        },
        EXPIRE => Content::Expire {
            key: key(reader)?,
            publisher: entity(reader)?,
        },
        ADD => Content::Add {
            key: key(reader)?,
            value: value(reader)?,
            initial: Kind::from_tag(reader.u8()?)?,
            ttl: ttl(reader).ok()?,
            publisher: entity(reader)?,
        },
        SUBTRACT => Content::Subtract {
            key: key(reader)?,
            value: value(reader)?,
            ttl: ttl(reader).ok()?,
            publisher: entity(reader)?,
        },
        CLEAR => Content::Clear {
            publisher: entity(reader)?,
        },
        ATTACH_WRITER => Content::AttachWriter {
            offset: reader.u64()?,
            heartbeat: u16::from_be_bytes(reader.array()?),
        },
        KEEPALIVE => Content::Keepalive {
            number: reader.u64()?,
        },
        CUMULATIVE_ACK => Content::CumulativeAck {
            number: reader.u64()?,
        },
        NACK => Content::Nack {
            numbers: list(reader, 8, |reader| reader.array().map(u64::from_be_bytes))?,
        },
        ACK_CLONE => Content::AckClone {
            offset: reader.u64()?,
            heartbeat: u16::from_be_bytes(reader.array()?),
            state: list(reader, 2, |reader| Some((key(reader)?, value(reader)?)))?,
        },
        RETRANSMIT_FAILED => Content::RetransmitFailed {
            number: reader.u64()?,
        },
        _ => return None,
    };
    Some(BrokerCommand {
        number,
        sender,
        receiver,
        content,
    })
}

/// A count, then as many elements of at least `least` bytes.
fn list<T>(
    reader: &mut Reader<'_>,
    least: usize,
    mut element: impl FnMut(&mut Reader<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = usize::try_from(reader.varbyte()?).ok()?;
    if count > reader.remaining() / least {
        return None;
    }
    // No more room at once than a small part of the bytes can fill.
    let mut elements = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        elements.push(element(reader)?);
    }
    Some(elements)
}

fn put_entity(out: &mut Vec<u8>, entity: Entity) {
    out.extend_from_slice(entity.endpoint.as_bytes());
    out.extend_from_slice(&entity.instance.to_be_bytes());
}

fn entity(reader: &mut Reader<'_>) -> Option<Entity> {
    Some(Entity {
        endpoint: EndpointId::from_bytes(reader.array()?),
        instance: reader.u64()?,
    })
}

fn put_lifetime(out: &mut Vec<u8>, ttl: Option<Timespan>) {
    match ttl {
        None => out.push(0),
        Some(ttl) => {
            out.push(1);
            out.extend_from_slice(&ttl.as_nanos().to_be_bytes());
        }
    }
}

/// A TTL, if there is one; an error at the end of the bytes.
fn ttl(reader: &mut Reader<'_>) -> Result<Option<Timespan>, CommandError> {
    if reader.u8().ok_or(CommandError)? == 0 {
        return Ok(None);
    }
    let nanos = reader.array().map(i64::from_be_bytes);
    nanos
        .map(Timespan::from_nanos)
        .map(Some)
        .ok_or(CommandError)
}

fn value(reader: &mut Reader<'_>) -> Option<Encoded> {
    let rest = reader.clone().take(reader.remaining())?;
    let (value, size) = Encoded::parse_first(rest).ok()?;
    reader.take(size)?;
    Some(value)
}

fn key(reader: &mut Reader<'_>) -> Option<Encoded> {
    value(reader).map(Encoded::into_key)
}

#[cfg(test)]
mod tests;
