//! What a store's copies say to one another, and its bytes.

use std::borrow::Borrow;

use muster_data::Timestamp;
use muster_wire::bytes::{Reader, put_string, put_varint};

use super::parts::{
    answer, edit, edit_kind, list, number, put_answer, put_edit, put_writer, writer,
};
use crate::op::{Answer, Edit, Writer};

/// From a copy to the primary: it wants to be sent what it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attach {
    /// The epoch that the copy knows.
    pub epoch: u64,
    /// The timeline of what it has; 0 if it has nothing.
    pub timeline: u64,
    /// The index of the last entry that it has and that is committed.
    pub index: u64,
}

/// From the primary to a copy: where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// The primary's epoch.
    pub epoch: u64,
    /// The primary's timeline.
    pub timeline: u64,
    /// The entries behind this one come. All up to it are committed.
    pub index: u64,
    /// The number of the last change up to there.
    pub change: u64,
    /// The copy has what is up to there. Otherwise it has to fetch a snapshot.
    pub continues: bool,
}

/// From a copy to the primary: what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The epoch that the copy knows.
    pub epoch: u64,
    /// The timeline of what it has.
    pub timeline: u64,
    /// All entries up to this one are in its memory.
    pub index: u64,
    /// The changes of all entries up to this one are on its disk.
    pub durable: u64,
    /// It has everything that came before, too: its snapshot is complete.
    pub is_whole: bool,
}

/// From the primary to a copy: what was decided, in one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicate<E = LogEntry> {
    /// The primary's epoch.
    pub epoch: u64,
    /// The primary's timeline.
    pub timeline: u64,
    /// All entries up to this one are committed.
    pub committed: u64,
    /// The index of the first entry.
    pub first: u64,
    /// The number of the first change in these entries, if there is one.
    pub change: u64,
    /// The writers of these entries, each with the number of its lowest command whose answer it waits for.
    pub writers: Vec<(Writer, u64)>,
    /// The entries.
    pub entries: Vec<E>,
    /// The store's time, by which TTLs end: that of the primary.
    pub at: Timestamp,
}

/// What the primary has decided about a command: its outcome, not the command. Whoever has all of them has the store, its writers'
/// numbers and their answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The writer and the number of its command; `None` for what the store does by itself.
    pub by: Option<(Writer, u64)>,
    /// The answer to it.
    pub answer: Answer,
    /// What it changes, if it changes something.
    pub edit: Option<Edit>,
}

/// From the primary to a new copy: writers, in the order of their endpoints and instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritersPart {
    /// The primary's epoch.
    pub epoch: u64,
    /// The primary's timeline.
    pub timeline: u64,
    /// The writer behind which it begins, as asked for.
    pub after: Option<Writer>,
    /// The writers.
    pub rows: Vec<WriterRow>,
    /// Whether no writers follow.
    pub is_last: bool,
}

/// What is known of a writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterRow {
    /// The writer.
    pub writer: Writer,
    /// The number of its last command.
    pub number: u64,
    /// The number of its first answer that is kept.
    pub first: u64,
    /// Its answers.
    pub answers: Vec<Answer>,
}

impl LogEntry {
    /// What changes nothing and answers nobody: whoever has it has all before it.
    pub(crate) fn nothing() -> Self {
        Self {
            by: None,
            answer: Answer::Repeated,
            edit: None,
        }
    }

    /// The memory and the bytes in messages that it takes, roughly.
    pub(crate) fn size(&self) -> usize {
        self.edit.as_ref().map_or(0, Edit::size) + size_of::<Self>()
    }
}

pub(super) fn put_attach(out: &mut Vec<u8>, attach: &Attach) {
    put_varint(out, attach.epoch);
    put_varint(out, attach.timeline);
    put_varint(out, attach.index);
}

pub(super) fn attach(reader: &mut Reader<'_>) -> Option<Attach> {
    Some(Attach {
        epoch: number(reader)?,
        timeline: number(reader)?,
        index: number(reader)?,
    })
}

pub(super) fn put_attached(out: &mut Vec<u8>, attached: &Attached) {
    put_varint(out, attached.epoch);
    put_varint(out, attached.timeline);
    put_varint(out, attached.index);
    put_varint(out, attached.change);
    out.push(u8::from(attached.continues));
}

pub(super) fn attached(reader: &mut Reader<'_>) -> Option<Attached> {
    Some(Attached {
        epoch: number(reader)?,
        timeline: number(reader)?,
        index: number(reader)?,
        change: number(reader)?,
        continues: reader.u8()? != 0,
    })
}

pub(super) fn put_acknowledgement(out: &mut Vec<u8>, it: &Acknowledgement) {
    put_varint(out, it.epoch);
    put_varint(out, it.timeline);
    put_varint(out, it.index);
    put_varint(out, it.durable);
    out.push(u8::from(it.is_whole));
}

pub(super) fn acknowledgement(reader: &mut Reader<'_>) -> Option<Acknowledgement> {
    Some(Acknowledgement {
        epoch: number(reader)?,
        timeline: number(reader)?,
        index: number(reader)?,
        durable: number(reader)?,
        is_whole: reader.u8()? != 0,
    })
}

/// On an entry: it is of the same writer as the one before, and its command is the next one.
const SAME: u8 = 0x80;
/// On an entry: it has no writer.
const NOBODY: u8 = 0x40;
/// On an entry: nothing has changed.
const NOTHING: u8 = 0x1f;

pub(super) fn put_replicate<E: Borrow<LogEntry>>(out: &mut Vec<u8>, it: &Replicate<E>) {
    put_varint(out, it.epoch);
    put_varint(out, it.timeline);
    put_varint(out, it.committed);
    put_varint(out, it.first);
    put_varint(out, it.change);
    put_varint(out, it.writers.len() as u64);
    for (writer, first_open) in &it.writers {
        put_writer(out, *writer);
        put_varint(out, *first_open);
    }
    put_varint(out, it.entries.len() as u64);
    let mut before = None;
    for entry in &it.entries {
        let LogEntry { by, answer, edit } = entry.borrow();
        let kind = edit.as_ref().map_or(NOTHING, edit_kind);
        match by {
            None => out.push(kind | NOBODY),
            Some((writer, number)) if before == Some((*writer, number.wrapping_sub(1))) => {
                out.push(kind | SAME);
            }
            Some((writer, number)) => {
                out.push(kind);
                let place = it.writers.iter().position(|(known, _)| known == writer);
                put_varint(out, place.unwrap_or(it.writers.len()) as u64);
                put_varint(out, *number);
            }
        }
        before = *by;
        put_answer(out, answer);
        if let Some(edit) = edit {
            put_edit(out, edit);
        }
    }
    out.extend_from_slice(&it.at.as_nanos().to_be_bytes());
}

pub(super) fn replicate(reader: &mut Reader<'_>) -> Option<Replicate> {
    let epoch = number(reader)?;
    let timeline = number(reader)?;
    let committed = number(reader)?;
    let first = number(reader)?;
    let change = number(reader)?;
    let writers = list(reader, |reader| Some((writer(reader)?, number(reader)?)))?;
    let mut before: Option<(Writer, u64)> = None;
    let entries = list(reader, |reader| {
        let flags = reader.u8()?;
        let by = if flags & NOBODY != 0 {
            None
        } else if flags & SAME != 0 {
            let (writer, number) = before?;
            Some((writer, number.checked_add(1)?))
        } else {
            let place = usize::try_from(reader.varint()?).ok()?;
            Some((writers.get(place)?.0, number(reader)?))
        };
        before = by;
        let answer = answer(reader)?;
        let edit = match flags & NOTHING {
            NOTHING => None,
            kind => Some(edit(reader, kind)?),
        };
        Some(LogEntry { by, answer, edit })
    })?;
    let at = Timestamp::from_nanos(i64::from_be_bytes(reader.array()?));
    Some(Replicate {
        epoch,
        timeline,
        committed,
        first,
        change,
        writers,
        entries,
        at,
    })
}

pub(super) fn put_cursor(out: &mut Vec<u8>, after: Option<Writer>) {
    match after {
        None => out.push(0),
        Some(after) => {
            out.push(1);
            put_writer(out, after);
        }
    }
}

#[allow(
    clippy::option_option,
    reason = "what cannot be read, and what is not there"
)]
pub(super) fn cursor(reader: &mut Reader<'_>) -> Option<Option<Writer>> {
    match reader.u8()? {
        0 => Some(None),
        1 => Some(Some(writer(reader)?)),
        _ => None,
    }
}

pub(super) fn put_writers(out: &mut Vec<u8>, part: &WritersPart) {
    put_varint(out, part.epoch);
    put_varint(out, part.timeline);
    put_cursor(out, part.after);
    out.push(u8::from(part.is_last));
    put_varint(out, part.rows.len() as u64);
    for row in &part.rows {
        put_writer(out, row.writer);
        put_varint(out, row.number);
        let mut answers = Vec::new();
        put_varint(&mut answers, row.first);
        put_varint(&mut answers, row.answers.len() as u64);
        for answer in &row.answers {
            put_answer(&mut answers, answer);
        }
        put_string(out, &answers);
    }
}

pub(super) fn writers(reader: &mut Reader<'_>) -> Option<WritersPart> {
    let epoch = number(reader)?;
    let timeline = number(reader)?;
    let after = cursor(reader)?;
    let is_last = reader.u8()? != 0;
    let rows = list(reader, |reader| {
        let writer = writer(reader)?;
        let last = number(reader)?;
        let mut answers = Reader::new(reader.string()?);
        Some(WriterRow {
            writer,
            number: last,
            first: number(&mut answers)?,
            answers: list(&mut answers, answer)?,
        })
    })?;
    Some(WritersPart {
        epoch,
        timeline,
        after,
        rows,
        is_last,
    })
}
