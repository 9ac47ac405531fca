//! Batches of messages as bytes (protocol version 2, section 3.3).

use std::collections::HashMap;

use bytes::Bytes;

use super::{Fault, Frame, read_class, read_id, shared, skip_fields};
use crate::bytes::{Reader, put_string, put_varint};
use crate::mesh::parcel::Parcel;
use crate::message::{Class, Kind, MessageId};
use crate::{EndpointId, Topic};

/// The most origins with an alias, per direction of a link.
pub const MAX_ALIASES: usize = 4096;

const HOPS_MASK: u8 = 0x1f;
const COMMAND: u8 = 0x20;
const RESERVED: u8 = 0x40;
const FIELDS: u8 = 0x80;

/// The aliases that a sender has given, and the last sequence of each by class.
#[derive(Debug, Default)]
pub(super) struct SenderAliases {
    numbers: HashMap<EndpointId, usize>,
    last: Vec<[u64; 4]>,
}

/// The aliases that a receiver was told.
#[derive(Debug, Default)]
pub(super) struct ReceiverAliases {
    origins: Vec<(EndpointId, [u64; 4])>,
}

/// A difference as an unsigned number that is small if the difference is.
fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ (difference >> 63).wrapping_neg()
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

pub(super) fn write(
    aliases: &mut SenderAliases,
    class: Class,
    parcels: &[Parcel],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&[class as u8, 0]);
    put_varint(out, parcels.len() as u64);
    for parcel in parcels {
        let last = aliases.write(parcel.id.origin, class, out);
        let difference = parcel.id.sequence.wrapping_sub(*last);
        *last = parcel.id.sequence;
        put_varint(out, zigzag(difference));
        let kind = match parcel.kind {
            Kind::Data => 0,
            Kind::Command => COMMAND,
        };
        out.push(parcel.hops.min(HOPS_MASK) | kind);
        put_string(out, parcel.topic.as_bytes());
        put_string(out, &parcel.payload);
    }
}

impl SenderAliases {
    /// Appends the alias of an origin, and gives the place of its last sequence.
    fn write(&mut self, origin: EndpointId, class: Class, out: &mut Vec<u8>) -> &mut u64 {
        let known = self.numbers.get(&origin).copied();
        let at = known.unwrap_or_else(|| {
            // The last place serves all who come too late for an alias; it starts at 0 each time.
            let at = self.numbers.len();
            if at < MAX_ALIASES {
                self.numbers.insert(origin, at);
            }
            at
        });
        if at == self.last.len() {
            self.last.push([0; 4]);
        }
        if known.is_some() {
            put_varint(out, at as u64 + 1);
        } else {
            out.push(0);
            out.extend_from_slice(origin.as_bytes());
            self.last[at] = [0; 4];
        }
        &mut self.last[at][class as usize]
    }
}

impl ReceiverAliases {
    /// Reads an origin and gives the place of its last sequence.
    fn read(&mut self, reader: &mut Reader<'_>) -> Option<&mut (EndpointId, [u64; 4])> {
        let alias = usize::try_from(reader.varint()?).ok()?;
        if alias > 0 {
            // The place behind the last alias is nobody's.
            let given = self.origins.len().min(MAX_ALIASES);
            return self.origins[..given].get_mut(alias - 1);
        }
        let origin = read_id(reader)?;
        if self.origins.len() > MAX_ALIASES {
            self.origins.pop();
        }
        self.origins.push((origin, [0; 4]));
        self.origins.last_mut()
    }
}

pub(super) fn read(
    aliases: &mut ReceiverAliases,
    reader: &mut Reader<'_>,
    whole: &Bytes,
) -> Result<Frame, Fault> {
    let class = read_class(reader).ok_or(Fault::Malformed)?;
    let flags = reader.u8().ok_or(Fault::Malformed)?;
    let count = reader.varint().ok_or(Fault::Malformed)?;
    // Compression is not spoken yet, and was not offered.
    if flags != 0 || count == 0 {
        return Err(Fault::Malformed);
    }
    let mut parcels = Vec::new();
    for _ in 0..count {
        parcels.push(read_parcel(aliases, class, reader, whole).ok_or(Fault::Malformed)?);
    }
    Ok(Frame::Batch { class, parcels })
}

fn read_parcel(
    aliases: &mut ReceiverAliases,
    class: Class,
    reader: &mut Reader<'_>,
    whole: &Bytes,
) -> Option<Parcel> {
    let (origin, last) = aliases.read(reader)?;
    let last = &mut last[class as usize];
    *last = last.wrapping_add(unzigzag(reader.varint()?));
    let id = MessageId {
        origin: *origin,
        sequence: *last,
    };
    let flags = reader.u8()?;
    if flags & RESERVED != 0 {
        return None;
    }
    let topic = Topic::new(reader.string()?).ok()?;
    let payload = shared(whole, reader.string()?);
    if flags & FIELDS != 0 {
        skip_fields(&mut Reader::new(reader.string()?)).ok()?;
    }
    Some(Parcel {
        id,
        class,
        hops: flags & HOPS_MASK,
        kind: if flags & COMMAND == 0 {
            Kind::Data
        } else {
            Kind::Command
        },
        topic,
        payload,
    })
}
