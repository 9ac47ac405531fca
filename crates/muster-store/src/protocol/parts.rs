//! What messages are made of, as bytes: keys and values, entries, operations, changes, answers.

use muster_data::{Kind, Timespan, Timestamp};
use muster_wire::EndpointId;
use muster_wire::bytes::{Reader, put_string, put_varint};

use super::Changes;
use crate::op::{Amendment, Answer, Edit, NumberedEdit, Op, OpKind, OpParts, WriteRefusal, Writer};
use crate::{Encoded, Entry, Level, Revision};

/// On an operation: the writer waits until it is on disk.
const DURABLE: u8 = 0x80;
/// On an operation or entry: it has a TTL, or an end.
const TIMED: u8 = 0x40;
/// On an operation or change: there is one more value.
const VALUED: u8 = 0x20;

/// Timelines and numbers of changes and writes end here, far from where they could overflow: a timeline is a time in
/// nanoseconds.
pub(crate) const NUMBERS: u64 = 1 << 62;

pub(super) fn number(reader: &mut Reader<'_>) -> Option<u64> {
    reader.varint().filter(|number| *number < NUMBERS)
}

/// A count, then as many elements; none is shorter than a byte.
pub(super) fn list<T>(
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

pub(super) fn value(reader: &mut Reader<'_>) -> Option<Encoded> {
    Encoded::parse(reader.string()?).ok()
}

pub(super) fn key(reader: &mut Reader<'_>) -> Option<Encoded> {
    Some(value(reader)?.into_key())
}

pub(super) fn put_optional(out: &mut Vec<u8>, value: Option<&Encoded>) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put_string(out, value.as_bytes());
        }
    }
}

/// A value if there is one: read into `place`.
pub(super) fn optional(reader: &mut Reader<'_>, place: &mut Option<Encoded>) -> Option<()> {
    *place = match reader.u8()? {
        0 => None,
        1 => Some(value(reader)?),
        _ => return None,
    };
    Some(())
}

pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_varint(out, entry.changed);
    put_end(out, entry.expires);
    put_string(out, entry.value.as_bytes());
}

pub(super) fn entry(reader: &mut Reader<'_>) -> Option<Entry> {
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

/// The end of a TTL if there is one: read into `place`.
fn end(reader: &mut Reader<'_>, place: &mut Option<Timestamp>) -> Option<()> {
    *place = match reader.u8()? {
        0 => None,
        1 => Some(Timestamp::from_nanos(i64::from_be_bytes(reader.array()?))),
        _ => return None,
    };
    Some(())
}

pub(super) fn put_op(out: &mut Vec<u8>, op: &Op, level: Level) {
    let OpParts { key, value, ttl } = op.parts();
    let mut flags = op.kind().tag();
    if level == Level::Durable {
        flags |= DURABLE;
    }
    if ttl.is_some() {
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
    if let Some(ttl) = ttl {
        out.extend_from_slice(&ttl.as_nanos().to_be_bytes());
    }
    match op {
        Op::Add { initial, .. } => out.push(initial.tag()),
        Op::Swap { seen, .. } => {
            put_varint(out, seen.timeline);
            put_varint(out, seen.change);
        }
        Op::Put { .. }
        | Op::PutUnique { .. }
        | Op::Erase { .. }
        | Op::Expire { .. }
        | Op::Subtract { .. }
        | Op::Clear => {}
    }
}

pub(super) fn op(reader: &mut Reader<'_>) -> Option<(Op, Level)> {
    let flags = reader.u8()?;
    let kind = OpKind::from_tag(flags & 0x1f)?;
    let level = if flags & DURABLE == 0 {
        Level::Applied
    } else {
        Level::Durable
    };
    // What has no key has nothing behind it.
    let (mut found, mut value, mut ttl) = (None, None, None);
    if kind.has_key() {
        found = Some(key(reader)?);
        if flags & VALUED != 0 {
            value = Some(self::value(reader)?);
        }
        if flags & TIMED != 0 {
            ttl = Some(Timespan::from_nanos(i64::from_be_bytes(reader.array()?)));
        }
    }
    let key = found;
    let op = match kind {
        OpKind::Put => Op::Put {
            key: key?,
            value: value?,
            ttl,
        },
        OpKind::PutUnique => Op::PutUnique {
            key: key?,
            value: value?,
            ttl,
        },
        OpKind::Erase => Op::Erase { key: key? },
        OpKind::Expire => Op::Expire { key: key? },
        OpKind::Add => Op::Add {
            key: key?,
            value: value?,
            initial: Kind::from_tag(reader.u8()?)?,
            ttl,
        },
        OpKind::Subtract => Op::Subtract {
            key: key?,
            value: value?,
            ttl,
        },
        OpKind::Swap => Op::Swap {
            key: key?,
            seen: Revision {
                timeline: number(reader)?,
                change: number(reader)?,
            },
            value,
            ttl,
        },
        OpKind::Clear => Op::Clear,
    };
    Some((op, level))
}

pub(super) fn put_writer(out: &mut Vec<u8>, writer: Writer) {
    out.extend_from_slice(writer.endpoint.as_bytes());
    put_varint(out, writer.instance);
}

pub(super) fn writer(reader: &mut Reader<'_>) -> Option<Writer> {
    Some(Writer {
        endpoint: EndpointId::from_bytes(reader.array()?),
        instance: reader.varint()?,
    })
}

/// Timeline, number of the first, the writers, then each change: kind and flags, its writer's place among them
/// from 1 (0 for none), and what changed.
pub(super) fn put_changes(out: &mut Vec<u8>, changes: &Changes) {
    put_varint(out, changes.timeline);
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
        put_writer(out, *writer);
    }
    put_varint(out, changes.changes.len() as u64);
    for change in &changes.changes {
        let place = writers
            .iter()
            .position(|writer| Some(*writer) == change.writer);
        let place = place.map_or(0, |place| place as u64 + 1);
        out.push(edit_kind(&change.edit));
        put_varint(out, place);
        put_edit(out, &change.edit);
    }
    put_varint(out, changes.epoch);
}

/// The byte that says what is changed.
pub(super) fn edit_kind(edit: &Edit) -> u8 {
    match edit {
        Edit::Put { .. } => 0,
        Edit::Erase { .. } => 1,
        Edit::Expire { .. } => 2,
        Edit::Clear => 3,
        Edit::Amend {
            amendment: Amendment::Add(_),
            ..
        } => 4,
        Edit::Amend {
            amendment: Amendment::Subtract(_),
            ..
        } => 5,
    }
}

/// What is changed, without its kind.
pub(super) fn put_edit(out: &mut Vec<u8>, edit: &Edit) {
    if let Some(key) = edit.key() {
        put_string(out, key.as_bytes());
    }
    match edit {
        Edit::Put { value, expires, .. } => {
            put_string(out, value.as_bytes());
            put_end(out, *expires);
        }
        Edit::Amend {
            amendment, expires, ..
        } => {
            put_string(out, amendment.part().as_bytes());
            put_end(out, *expires);
        }
        Edit::Erase { .. } | Edit::Expire { .. } | Edit::Clear => {}
    }
}

/// What is changed, of a kind.
pub(super) fn edit(reader: &mut Reader<'_>, kind: u8) -> Option<Edit> {
    if kind == 3 {
        return Some(Edit::Clear);
    }
    let key = value(reader)?;
    match kind {
        1 => return Some(Edit::Erase { key }),
        2 => return Some(Edit::Expire { key }),
        _ => {}
    }
    let value = value(reader)?;
    let mut expires = None;
    end(reader, &mut expires)?;
    let amendment = match kind {
        0 => {
            return Some(Edit::Put {
                key,
                value,
                expires,
            });
        }
        4 => Amendment::Add(value),
        5 => Amendment::Subtract(value),
        _ => return None,
    };
    Some(Edit::Amend {
        key,
        amendment,
        expires,
    })
}

pub(super) fn changes(reader: &mut Reader<'_>) -> Option<Changes> {
    let timeline = number(reader)?;
    let mut next = number(reader)?;
    let writers = list(reader, writer)?;
    let changes = list(reader, |reader| {
        let kind = reader.u8()?;
        let writer = match reader.varint()? {
            0 => None,
            place => Some(*writers.get(usize::try_from(place - 1).ok()?)?),
        };
        let edit = edit(reader, kind)?;
        let change = NumberedEdit {
            number: next,
            writer,
            edit,
        };
        next += 1;
        Some(change)
    })?;
    let epoch = epoch(reader)?;
    Some(Changes {
        timeline,
        epoch,
        changes,
    })
}

/// A number behind everything else, which earlier releases do not write: 0 there.
pub(super) fn epoch(reader: &mut Reader<'_>) -> Option<u64> {
    match reader.remaining() {
        0 => Some(0),
        _ => number(reader),
    }
}

pub(super) fn put_answer(out: &mut Vec<u8>, answer: &Answer) {
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

/// Reads what [`encode_answers`] has written. Returns `None` if a backend has lost them.
pub(crate) fn decode_answers(bytes: &[u8]) -> Option<(u64, Vec<Answer>)> {
    let mut reader = Reader::new(bytes);
    let first = number(&mut reader)?;
    Some((first, list(&mut reader, answer)?))
}

/// Their places are their numbers on the wire.
const REFUSALS: [WriteRefusal; 11] = [
    WriteRefusal::TypeClash,
    WriteRefusal::NoSuchKey,
    WriteRefusal::InvalidData,
    WriteRefusal::TooLarge,
    WriteRefusal::Full,
    WriteRefusal::Reserved,
    WriteRefusal::NotPersistent,
    WriteRefusal::Backend,
    WriteRefusal::Unsupported,
    WriteRefusal::OverBudget,
    WriteRefusal::TooFewCopies,
];

pub(super) fn answer(reader: &mut Reader<'_>) -> Option<Answer> {
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
