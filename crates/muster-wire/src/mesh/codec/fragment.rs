//! Parts of a batch that is too large to be sent in one piece (protocol version 2, section 11.2).
//!
//! Parts are sent between other batches, so a batch that is cut shares nothing with them: it has
//! aliases of its own, and begins with none.

use super::batch::{self, Batch, Head};
use super::compression::COMPRESSED_PART;
use super::{Decoder, Encoder, FRAGMENT, FrameError, read_class};
use crate::bytes::{Reader, put_varbyte, put_varint};
use crate::frame;
use crate::message::Class;

/// A part of the body of a batch, borrowed from the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentRef<'a> {
    /// The class of the batch.
    pub class: Class,
    /// The number of the cut batch on this link.
    pub number: u64,
    /// The position of the part in the batch.
    pub index: u64,
    /// Whether it is the last part.
    pub last: bool,
    /// The bytes of the part.
    pub bytes: &'a [u8],
}

/// Returns `true` if the payload of a frame is a part of a batch.
pub fn is_fragment(payload: &[u8]) -> bool {
    payload.first() == Some(&FRAGMENT)
}

/// Appends the frame of a part, except for the part itself, which has `length` bytes and must
/// follow.
pub fn put_fragment_head(
    class: Class,
    (number, index): (u64, u64),
    last: bool,
    length: usize,
    out: &mut Vec<u8>,
) {
    put_flagged_head(class, (number, index), u8::from(last), length, out);
}

pub(super) fn put_flagged_head(
    class: Class,
    (number, index): (u64, u64),
    flags: u8,
    length: usize,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&[0; frame::HEADER]);
    out.extend_from_slice(&[FRAGMENT, class as u8]);
    put_varint(out, number);
    put_varint(out, index);
    out.push(flags);
    put_varbyte(out, length);
    let whole = out.len() - start - frame::HEADER + length;
    let whole = u32::try_from(whole).unwrap_or(u32::MAX);
    out[start..start + frame::HEADER].copy_from_slice(&whole.to_be_bytes());
}

impl Encoder {
    /// Appends the beginning of the body of a batch that is to be cut, up to its only message's
    /// payload. The payload has `length` bytes and must follow, and after it [`Head::put_tail`].
    pub fn put_cut_head(class: Class, head: &Head<'_>, length: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&[class as u8, 0, 1]);
        batch::put_head(&mut batch::SenderAliases::default(), class, head, out);
        put_varbyte(out, length);
    }
}

impl Decoder {
    /// Reads the messages of a batch that was cut and has been put together again. The decoder must
    /// be new.
    ///
    /// # Errors
    ///
    /// Fails if the beginning of the batch is malformed.
    pub fn cut_batch<'d, 'a>(&'d mut self, body: &'a [u8]) -> Result<Batch<'d, 'a>, FrameError> {
        Batch::new(&mut self.aliases, Reader::new(body)).ok_or(FrameError::Malformed("cut BATCH"))
    }
}

pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Option<FragmentRef<'a>> {
    let class = read_class(reader)?;
    let (number, index) = (reader.varint()?, reader.varint()?);
    let flags = reader.u8()?;
    if flags & COMPRESSED_PART != 0 {
        return None; // it is to be expanded first
    }
    let last = flags & 1 != 0;
    Some(FragmentRef {
        class,
        number,
        index,
        last,
        bytes: reader.string()?,
    })
}
