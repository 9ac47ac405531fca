//! Seals as bytes, and the optional fields of records (protocol version 2, sections 3.4 and 5.2).

use std::sync::Arc;

use super::Fault;
use super::records::{GUESTS, SEAL};
use crate::bytes::{Reader, put_string, put_varint};
use crate::mesh::seal::{Credentials, NodeSeal, Signature};

/// The most certificates that a seal brings: one's own and those that lead to the authority, which itself is not among
/// them. Longer ways are hardly ever made.
pub const MAX_CHAIN: usize = 6;

/// The most bytes of them together. A certificate with a key of 4,096 bits and a few names has some 2 KiB. All members
/// keep them of all: 64 MiB at most, with as many endpoints as a mesh may have.
pub const MAX_CERTIFICATES: usize = 16 << 10;

/// The most bytes of a signature: that of a key of 8,192 bits.
const MAX_SIGNATURE: usize = 1 << 10;

/// The most bytes of optional fields that are kept although they are not known here.
const MAX_UNKNOWN: usize = 16 << 10;

pub(super) fn put_node_seal(seal: &NodeSeal, out: &mut Vec<u8>) {
    let NodeSeal {
        credentials,
        signature,
        unknown,
    } = seal;
    let Credentials { salt, certificates } = &**credentials;
    out.extend_from_slice(unknown);
    let mut field = Vec::new();
    field.extend_from_slice(salt);
    put_varint(&mut field, certificates.len() as u64);
    for certificate in certificates {
        put_string(&mut field, certificate);
    }
    put_string(&mut field, signature);
    put_varint(out, SEAL);
    put_string(out, &field);
}

pub(super) fn put_signature(signature: &Signature, out: &mut Vec<u8>) {
    put_varint(out, SEAL);
    put_string(out, signature);
}

/// The optional fields of a record. Of each tag the last one counts.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) guests: Option<&'a [u8]>,
    seal: Option<&'a [u8]>,
    /// All others, up to their bound.
    unknown: Vec<u8>,
    has_more: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let mut fields = Self::default();
        while !reader.is_empty() {
            let tag = reader.varint().ok_or(Fault::Malformed)?;
            let field = reader.string().ok_or(Fault::Malformed)?;
            match tag {
                GUESTS => fields.guests = Some(field),
                SEAL => fields.seal = Some(field),
                _ if fields.unknown.len() + field.len() > MAX_UNKNOWN => fields.has_more = true,
                _ => {
                    put_varint(&mut fields.unknown, tag);
                    put_string(&mut fields.unknown, field);
                }
            }
        }
        Ok(fields)
    }

    /// The seal of a link record or of a change.
    pub(super) fn signature(self) -> Result<Option<Signature>, Fault> {
        match self.seal {
            Some(field) if field.len() > MAX_SIGNATURE => Err(Fault::OverLimit),
            field => Ok(field.map(Into::into)),
        }
    }

    /// The seal of a node record, with the fields that are not known here: it is over them as well.
    pub(super) fn node_seal(self) -> Result<Option<Arc<NodeSeal>>, Fault> {
        let Some(field) = self.seal else {
            return Ok(None);
        };
        let mut reader = Reader::new(field);
        let mut head = || Some((reader.array()?, reader.varint()?));
        let (salt, count) = head().ok_or(Fault::Malformed)?;
        if count > MAX_CHAIN as u64 {
            return Err(Fault::OverLimit);
        }
        let mut certificates = Vec::new();
        let mut bytes = 0;
        for _ in 0..count {
            let certificate = reader.string().ok_or(Fault::Malformed)?;
            bytes += certificate.len();
            certificates.push(certificate.to_vec());
        }
        let signature = reader.string().ok_or(Fault::Malformed)?;
        if bytes > MAX_CERTIFICATES || signature.len() > MAX_SIGNATURE || self.has_more {
            return Err(Fault::OverLimit);
        }
        Ok(Some(Arc::new(NodeSeal {
            credentials: Arc::new(Credentials { salt, certificates }),
            signature: signature.into(),
            unknown: self.unknown,
        })))
    }
}
