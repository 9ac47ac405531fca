//! Records as bytes (protocol version 2, section 3.4).

use std::sync::Arc;

use super::seals::{self, Fields};
use super::{Fault, read_id};
use crate::bytes::{Reader, put_string, put_varint};
use crate::filter::Filter;
use crate::mesh::record::{Guest, LinkChanges, LinkRecord, NodeRecord, Record};
use crate::{EndpointId, Incarnation};

/// The most bytes of a name, a role or a machine.
pub const MAX_WORD: usize = 255;

/// The most entries of an announced filter.
pub const MAX_FILTER_ENTRIES: usize = 4096;

/// The most bytes of an announced filter's entries together.
pub const MAX_FILTER_BYTES: usize = 256 << 10;

/// The most neighbours in a link record.
pub const MAX_NEIGHBOURS: usize = 4096;

/// The most entries of a list of versions or ids.
pub(super) const MAX_LIST: u64 = 8192;

const NODE: u8 = 1;
const LINKS: u8 = 2;
const CHANGES: u8 = 3;

const TRANSIT: u8 = 1;
const READY: u8 = 2;
const HOMES: u8 = 4;

/// The most peers of version 1 that a node record names.
pub const MAX_GUESTS: usize = 4096;

/// The optional field of a node record that names them.
pub(super) const GUESTS: u64 = 1;

/// The optional field of every record that holds its seal.
pub(super) const SEAL: u64 = 2;

/// Of a guest: its filter follows.
const AT_HOME: u8 = 1;

/// Of a guest: it forwards.
const FORWARDS: u8 = 2;

/// Returns a text cut to at most `most` bytes, at the border of a character.
pub(super) fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// Reads a text of at most `most` bytes.
pub(super) fn word(reader: &mut Reader<'_>, most: usize) -> Result<String, Fault> {
    let bytes = reader.string().ok_or(Fault::Malformed)?;
    if bytes.len() > most {
        return Err(Fault::OverLimit);
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| Fault::Malformed)
}

pub(super) fn put_ids(ids: &[EndpointId], out: &mut Vec<u8>) {
    put_varint(out, ids.len() as u64);
    out.reserve(size_of_val(ids));
    for id in ids {
        out.extend_from_slice(id.as_bytes());
    }
}

pub(super) fn read_ids(reader: &mut Reader<'_>) -> Result<Vec<EndpointId>, Fault> {
    let count = reader.varint().ok_or(Fault::Malformed)?;
    if count > MAX_LIST {
        return Err(Fault::OverLimit);
    }
    let most = reader.remaining() / size_of::<EndpointId>();
    let mut ids = Vec::with_capacity(most.min(usize::try_from(count).unwrap_or(most)));
    for _ in 0..count {
        ids.push(read_id(reader).ok_or(Fault::Malformed)?);
    }
    Ok(ids)
}

/// Writes a record; `body` is a buffer for what is in it.
pub(super) fn write(record: &Record, body: &mut Vec<u8>, out: &mut Vec<u8>) {
    body.clear();
    out.push(match record {
        Record::Node(node, seal) => {
            put_node(node, body);
            if let Some(seal) = seal {
                seals::put_node_seal(seal, body);
            }
            NODE
        }
        Record::Links(links, seal) => {
            put_links(links, body);
            if let Some(seal) = seal {
                seals::put_signature(seal, body);
            }
            LINKS
        }
        Record::Changes(changes, seal) => {
            put_changes(changes, body);
            if let Some(seal) = seal {
                seals::put_signature(seal, body);
            }
            CHANGES
        }
    });
    put_string(out, body);
}

fn put_head(id: EndpointId, incarnation: Incarnation, version: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(&incarnation.0.to_be_bytes());
    put_varint(out, version);
}

/// Writes the fields of a link record.
pub(in crate::mesh) fn put_links(links: &LinkRecord, out: &mut Vec<u8>) {
    let LinkRecord {
        id,
        incarnation,
        version,
        neighbours,
    } = links;
    put_head(*id, *incarnation, *version, out);
    put_ids(neighbours, out);
}

fn put_changes(changes: &LinkChanges, out: &mut Vec<u8>) {
    let LinkChanges {
        id,
        incarnation,
        before,
        after,
        added,
        removed,
    } = changes;
    put_head(*id, *incarnation, *before, out);
    put_varint(out, *after);
    put_ids(added, out);
    put_ids(removed, out);
}

/// Writes the fields of a node record.
pub(in crate::mesh) fn put_node(node: &NodeRecord, out: &mut Vec<u8>) {
    let NodeRecord {
        id,
        incarnation,
        version,
        transit,
        ready,
        homes,
        name,
        role,
        machine,
        filter,
        guests,
    } = node;
    put_head(*id, *incarnation, *version, out);
    let flags = [(*transit, TRANSIT), (*ready, READY), (*homes, HOMES)];
    out.push(
        flags
            .iter()
            .map(|(is_set, flag)| u8::from(*is_set) * flag)
            .sum(),
    );
    for text in [name, role, machine] {
        put_string(out, cut(text, MAX_WORD).as_bytes());
    }
    filter.encode(out);
    if !guests.is_empty() {
        let mut field = Vec::new();
        write_guests(guests, &mut field);
        put_varint(out, GUESTS);
        put_string(out, &field);
    }
}

fn write_guests(guests: &[Guest], out: &mut Vec<u8>) {
    put_varint(out, guests.len() as u64);
    for guest in guests {
        let Guest {
            id,
            filter,
            forwards,
        } = guest;
        out.extend_from_slice(id.as_bytes());
        out.push((u8::from(filter.is_some()) * AT_HOME) | (u8::from(*forwards) * FORWARDS));
        if let Some(filter) = filter {
            filter.encode(out);
        }
    }
}

/// Guests: not too many, in ascending order, and their filters no more together than one may have alone.
fn read_guests(reader: &mut Reader<'_>) -> Result<Vec<Guest>, Fault> {
    let count = reader.varint().ok_or(Fault::Malformed)?;
    if count > MAX_GUESTS as u64 {
        return Err(Fault::OverLimit);
    }
    let mut guests: Vec<Guest> = Vec::new();
    let (mut entries, mut bytes) = (0, 0);
    for _ in 0..count {
        let id = read_id(reader).ok_or(Fault::Malformed)?;
        if id.is_nil() || guests.last().is_some_and(|last| last.id >= id) {
            return Err(Fault::Malformed);
        }
        let flags = reader.u8().ok_or(Fault::Malformed)?;
        let filter = if flags & AT_HOME == 0 {
            None
        } else {
            let filter = Filter::read(reader).map_err(|_| Fault::Malformed)?;
            entries += filter.entries().len();
            bytes += filter.entries().map(<[u8]>::len).sum::<usize>();
            Some(filter)
        };
        if entries > MAX_FILTER_ENTRIES || bytes > MAX_FILTER_BYTES {
            return Err(Fault::OverLimit);
        }
        guests.push(Guest {
            id,
            filter,
            forwards: flags & FORWARDS != 0,
        });
    }
    Ok(guests)
}

/// Reads one record; `None` if its kind is unknown.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Record>, Fault> {
    let kind = reader.u8().ok_or(Fault::Malformed)?;
    let mut body = Reader::new(reader.string().ok_or(Fault::Malformed)?);
    Ok(Some(match kind {
        NODE => {
            let mut node = read_node(&mut body)?;
            let fields = Fields::read(&mut body)?;
            if let Some(guests) = fields.guests {
                node.guests = read_guests(&mut Reader::new(guests))?;
            }
            Record::Node(Arc::new(node), fields.node_seal()?)
        }
        LINKS => Record::Links(
            read_links(&mut body)?,
            Fields::read(&mut body)?.signature()?,
        ),
        CHANGES => Record::Changes(
            read_changes(&mut body)?,
            Fields::read(&mut body)?.signature()?,
        ),
        _ => return Ok(None),
    }))
}

fn read_head(reader: &mut Reader<'_>) -> Result<(EndpointId, Incarnation, u64), Fault> {
    let mut head = || Some((read_id(reader)?, reader.u64()?, reader.varint()?));
    let (id, incarnation, version) = head().ok_or(Fault::Malformed)?;
    if id.is_nil() {
        return Err(Fault::Malformed);
    }
    Ok((id, Incarnation(incarnation), version))
}

fn read_node(reader: &mut Reader<'_>) -> Result<NodeRecord, Fault> {
    let (id, incarnation, version) = read_head(reader)?;
    let flags = reader.u8().ok_or(Fault::Malformed)?;
    let name = word(reader, MAX_WORD)?;
    let role = word(reader, MAX_WORD)?;
    let machine = word(reader, MAX_WORD)?;
    let filter = Filter::read(reader).map_err(|_| Fault::Malformed)?;
    let bytes: usize = filter.entries().map(<[u8]>::len).sum();
    if filter.entries().len() > MAX_FILTER_ENTRIES || bytes > MAX_FILTER_BYTES {
        return Err(Fault::OverLimit);
    }
    Ok(NodeRecord {
        id,
        incarnation,
        version,
        transit: flags & TRANSIT != 0,
        ready: flags & READY != 0,
        homes: flags & HOMES != 0,
        name,
        role,
        machine,
        filter,
        guests: Vec::new(),
    })
}

/// Neighbours: not too many, and in ascending order, so that none is there twice.
fn read_neighbours(reader: &mut Reader<'_>) -> Result<Vec<EndpointId>, Fault> {
    let ids = read_ids(reader)?;
    if ids.len() > MAX_NEIGHBOURS {
        return Err(Fault::OverLimit);
    }
    if ids.is_sorted_by(|a, b| a < b) {
        Ok(ids)
    } else {
        Err(Fault::Malformed)
    }
}

fn read_links(reader: &mut Reader<'_>) -> Result<LinkRecord, Fault> {
    let (id, incarnation, version) = read_head(reader)?;
    Ok(LinkRecord {
        id,
        incarnation,
        version,
        neighbours: read_neighbours(reader)?,
    })
}

fn read_changes(reader: &mut Reader<'_>) -> Result<LinkChanges, Fault> {
    let (id, incarnation, before) = read_head(reader)?;
    let after = reader.varint().ok_or(Fault::Malformed)?;
    if after <= before {
        return Err(Fault::Malformed);
    }
    Ok(LinkChanges {
        id,
        incarnation,
        before,
        after,
        added: read_neighbours(reader)?,
        removed: read_neighbours(reader)?,
    })
}
