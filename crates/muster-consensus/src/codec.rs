//! Bytes of messages, and of what is kept. Everything is bounded before it is built.
//!
//! Numbers are varints (7 bits per byte, least significant first), strings have their length before them.

use bytes::Bytes;
use muster_wire::bytes::{Reader, put_string, put_varint};

use crate::entry::{Content, Entry, MAX_DATA, MAX_NUMBER, MAX_STATE, Promise, Snapshot};
use crate::id::{ClusterId, DiskId, MAX_MEMBERS, MAX_NAME, Members, VoterChange, VoterId};
use crate::message::{Body, Hint, Message};

/// The first byte of everything that is written.
const FORMAT: u8 = 1;

/// The most entries of one message.
pub const MAX_ENTRIES: usize = 1024;

/// The most bytes of one message.
pub const MAX_MESSAGE: usize = MAX_STATE + 64 * 1024;

/// Why bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early, or a number has too many bytes.
    #[error("the bytes end too early")]
    Short,
    /// Something is left over.
    #[error("bytes are left over")]
    Trailing,
    /// Another format, or an unknown kind.
    #[error("an unknown format or kind")]
    Unknown,
    /// More than may be.
    #[error("larger than allowed")]
    TooLarge,
    /// A term or index out of bounds.
    #[error("a term or index out of bounds")]
    Number,
    /// Entries that do not follow one another.
    #[error("entries that do not follow one another")]
    Order,
    /// No possible group.
    #[error("no possible group of voters")]
    Members,
}

type Read<T> = Result<T, DecodeError>;

fn number(reader: &mut Reader<'_>) -> Read<u64> {
    let number = reader.varint().ok_or(DecodeError::Short)?;
    if number > MAX_NUMBER {
        return Err(DecodeError::Number);
    }
    Ok(number)
}

/// A term or index that is there: not 0.
fn counted(reader: &mut Reader<'_>) -> Read<u64> {
    match number(reader)? {
        0 => Err(DecodeError::Number),
        number => Ok(number),
    }
}

fn flag(reader: &mut Reader<'_>) -> Read<bool> {
    match reader.u8().ok_or(DecodeError::Short)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Unknown),
    }
}

fn sixteen(reader: &mut Reader<'_>) -> Read<[u8; 16]> {
    reader.array().ok_or(DecodeError::Short)
}

fn string<'a>(reader: &mut Reader<'a>, limit: usize) -> Read<&'a [u8]> {
    let bytes = reader.string().ok_or(DecodeError::Short)?;
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge);
    }
    Ok(bytes)
}

fn begin(bytes: &[u8], limit: usize) -> Read<Reader<'_>> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge);
    }
    let mut reader = Reader::new(bytes);
    match reader.u8() {
        None => Err(DecodeError::Short),
        Some(FORMAT) => Ok(reader),
        Some(_) => Err(DecodeError::Unknown),
    }
}

fn end<T>(reader: &Reader<'_>, value: T) -> Read<T> {
    if reader.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::Trailing)
    }
}

fn put_voter(out: &mut Vec<u8>, voter: &VoterId) {
    out.extend_from_slice(&voter.disk.0);
    put_string(out, voter.name.as_bytes());
}

fn voter(reader: &mut Reader<'_>) -> Read<VoterId> {
    let disk = DiskId(sixteen(reader)?);
    let name = std::str::from_utf8(string(reader, MAX_NAME)?).map_err(|_| DecodeError::Unknown)?;
    if name.is_empty() {
        return Err(DecodeError::Members);
    }
    Ok(VoterId {
        name: name.to_owned(),
        disk,
    })
}

fn put_voters(out: &mut Vec<u8>, voters: &[VoterId]) {
    muster_wire::bytes::put_varbyte(out, voters.len());
    for voter in voters {
        put_voter(out, voter);
    }
}

fn voters(reader: &mut Reader<'_>) -> Read<Vec<VoterId>> {
    let count = reader.varbyte().ok_or(DecodeError::Short)? as usize;
    if count > MAX_MEMBERS {
        return Err(DecodeError::TooLarge);
    }
    (0..count).map(|_| voter(reader)).collect()
}

fn put_members(out: &mut Vec<u8>, members: &Members) {
    put_voters(out, members.voters());
    put_voters(out, members.learners());
}

fn members(reader: &mut Reader<'_>) -> Read<Members> {
    let (voters, learners) = (voters(reader)?, voters(reader)?);
    Members::new(voters, learners).map_err(|_| DecodeError::Members)
}

pub(crate) fn put_change(out: &mut Vec<u8>, change: &VoterChange) {
    match change {
        VoterChange::AddLearner(voter) => {
            out.push(0);
            put_voter(out, voter);
        }
        VoterChange::Promote(disk) => {
            out.push(1);
            out.extend_from_slice(&disk.0);
        }
        VoterChange::Remove(disk) => {
            out.push(2);
            out.extend_from_slice(&disk.0);
        }
    }
}

pub(crate) fn change(reader: &mut Reader<'_>) -> Read<VoterChange> {
    match reader.u8().ok_or(DecodeError::Short)? {
        0 => Ok(VoterChange::AddLearner(voter(reader)?)),
        1 => Ok(VoterChange::Promote(DiskId(sixteen(reader)?))),
        2 => Ok(VoterChange::Remove(DiskId(sixteen(reader)?))),
        _ => Err(DecodeError::Unknown),
    }
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_varint(out, entry.index);
    put_varint(out, entry.term);
    match &entry.content {
        Content::Nothing => out.push(0),
        Content::Data(data) => {
            out.push(1);
            put_string(out, data);
        }
        Content::Change(change) => {
            out.push(2);
            put_change(out, change);
        }
    }
}

fn entry(reader: &mut Reader<'_>) -> Read<Entry> {
    let (index, term) = (counted(reader)?, counted(reader)?);
    let content = match reader.u8().ok_or(DecodeError::Short)? {
        0 => Content::Nothing,
        1 => match string(reader, MAX_DATA)? {
            [] => return Err(DecodeError::Short),
            data => Content::Data(Bytes::copy_from_slice(data)),
        },
        2 => Content::Change(change(reader)?),
        _ => return Err(DecodeError::Unknown),
    };
    Ok(Entry {
        index,
        term,
        content,
    })
}

fn put_snapshot(out: &mut Vec<u8>, snapshot: &Snapshot) {
    put_varint(out, snapshot.index);
    put_varint(out, snapshot.term);
    put_members(out, &snapshot.members);
    put_string(out, &snapshot.state);
}

fn snapshot(reader: &mut Reader<'_>) -> Read<Snapshot> {
    Ok(Snapshot {
        index: counted(reader)?,
        term: counted(reader)?,
        members: members(reader)?,
        state: Bytes::copy_from_slice(string(reader, MAX_STATE)?),
    })
}

impl Entry {
    /// Returns the bytes of the entry.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_entry(&mut out, self);
        out
    }

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are not just one entry within its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = begin(bytes, MAX_DATA + 64)?;
        let entry = entry(&mut reader)?;
        end(&reader, entry)
    }
}

impl Snapshot {
    /// Returns the bytes of the snapshot.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_snapshot(&mut out, self);
        out
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are not just one snapshot within its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = begin(bytes, MAX_MESSAGE)?;
        let snapshot = snapshot(&mut reader)?;
        end(&reader, snapshot)
    }
}

impl Promise {
    /// Returns the bytes of the promise.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_varint(&mut out, self.term);
        put_varint(&mut out, self.vote);
        put_varint(&mut out, self.commit);
        out
    }

    /// Reads a promise.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are not just one promise.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = begin(bytes, 64)?;
        let term = number(&mut reader)?;
        let vote = reader.varint().ok_or(DecodeError::Short)?;
        let commit = number(&mut reader)?;
        end(&reader, Self { term, vote, commit })
    }
}

impl Message {
    /// Returns the bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.cluster.0);
        out.extend_from_slice(&self.from.0);
        out.extend_from_slice(&self.to.0);
        put_body(&mut out, &self.body);
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are not just one message within its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = begin(bytes, MAX_MESSAGE)?;
        let message = Self {
            cluster: ClusterId(sixteen(&mut reader)?),
            from: DiskId(sixteen(&mut reader)?),
            to: DiskId(sixteen(&mut reader)?),
            body: body(&mut reader)?,
        };
        end(&reader, message)
    }
}

fn put_body(out: &mut Vec<u8>, body: &Body) {
    let mut put = |kind: u8, numbers: &[u64]| {
        out.push(kind);
        for &number in numbers {
            put_varint(out, number);
        }
    };
    match body {
        Body::Append {
            term,
            before,
            before_term,
            commit,
            entries,
        } => {
            put(0, &[*term, *before, *before_term, *commit]);
            muster_wire::bytes::put_varbyte(out, entries.len());
            for entry in entries {
                put_entry(out, entry);
            }
        }
        Body::AppendReply {
            term,
            index,
            commit,
            rejected: None,
        } => put(1, &[*term, *index, *commit]),
        Body::AppendReply {
            term,
            index,
            commit,
            rejected: Some(hint),
        } => put(2, &[*term, *index, *commit, hint.index, hint.term]),
        Body::Vote {
            pre,
            term,
            last,
            last_term,
            commit,
            commit_term,
            handed_on,
        } => {
            put(3, &[*term, *last, *last_term, *commit, *commit_term]);
            out.extend([u8::from(*pre), u8::from(*handed_on)]);
        }
        Body::VoteReply {
            pre,
            term,
            granted,
            commit,
            commit_term,
        } => {
            put(4, &[*term, *commit, *commit_term]);
            out.extend([u8::from(*pre), u8::from(*granted)]);
        }
        Body::Heartbeat { term, commit } => put(5, &[*term, *commit]),
        Body::HeartbeatReply { term, commit } => put(6, &[*term, *commit]),
        Body::Snapshot { term, snapshot } => {
            put(7, &[*term]);
            put_snapshot(out, snapshot);
        }
        Body::TakeOver { term } => put(8, &[*term]),
        Body::WrongDisk => put(9, &[]),
    }
}

fn body(reader: &mut Reader<'_>) -> Read<Body> {
    Ok(match reader.u8().ok_or(DecodeError::Short)? {
        0 => append(reader)?,
        kind @ (1 | 2) => Body::AppendReply {
            term: counted(reader)?,
            index: number(reader)?,
            commit: number(reader)?,
            rejected: match kind {
                1 => None,
                _ => Some(Hint {
                    index: number(reader)?,
                    term: number(reader)?,
                }),
            },
        },
        3 => {
            let term = counted(reader)?;
            let (last, last_term) = (number(reader)?, number(reader)?);
            let (commit, commit_term) = (number(reader)?, number(reader)?);
            Body::Vote {
                pre: flag(reader)?,
                term,
                last,
                last_term,
                commit,
                commit_term,
                handed_on: flag(reader)?,
            }
        }
        4 => {
            let term = counted(reader)?;
            let (commit, commit_term) = (number(reader)?, number(reader)?);
            Body::VoteReply {
                pre: flag(reader)?,
                term,
                granted: flag(reader)?,
                commit,
                commit_term,
            }
        }
        5 => Body::Heartbeat {
            term: counted(reader)?,
            commit: number(reader)?,
        },
        6 => Body::HeartbeatReply {
            term: counted(reader)?,
            commit: number(reader)?,
        },
        7 => {
            let (term, snapshot) = (counted(reader)?, snapshot(reader)?);
            if snapshot.term > term {
                return Err(DecodeError::Order);
            }
            Body::Snapshot { term, snapshot }
        }
        8 => Body::TakeOver {
            term: counted(reader)?,
        },
        9 => Body::WrongDisk,
        _ => return Err(DecodeError::Unknown),
    })
}

fn append(reader: &mut Reader<'_>) -> Read<Body> {
    let term = counted(reader)?;
    let (before, before_term) = (number(reader)?, number(reader)?);
    let commit = number(reader)?;
    let count = reader.varbyte().ok_or(DecodeError::Short)? as usize;
    if count > MAX_ENTRIES {
        return Err(DecodeError::TooLarge);
    }
    let mut entries = Vec::new();
    let mut last = (before, before_term);
    for _ in 0..count {
        let entry = entry(reader)?;
        if entry.index != last.0 + 1 || entry.term < last.1 || entry.term > term {
            return Err(DecodeError::Order);
        }
        last = (entry.index, entry.term);
        entries.push(entry);
    }
    // A term of 0 is that of no entry: the engine would take one that is not there for one of that term.
    if before_term > term || (before == 0) != (before_term == 0) {
        return Err(DecodeError::Order);
    }
    Ok(Body::Append {
        term,
        before,
        before_term,
        commit,
        entries,
    })
}

#[cfg(test)]
mod tests;
