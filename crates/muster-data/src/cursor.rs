//! Low-level reading of encoded values: bounds-safe, whatever the bytes are.

use crate::kind::Kind;

/// Marks the kinds whose size depends on their content.
pub(crate) const VARIABLE: u8 = u8::MAX;

/// Body size by tag, for the kinds that have one.
pub(crate) const BODY_SIZE: [u8; 16] = {
    let mut sizes = [VARIABLE; 16];
    sizes[Kind::None as usize] = 0;
    sizes[Kind::Boolean as usize] = 1;
    sizes[Kind::Count as usize] = 8;
    sizes[Kind::Integer as usize] = 8;
    sizes[Kind::Real as usize] = 8;
    sizes[Kind::Address as usize] = 16;
    sizes[Kind::Subnet as usize] = 17;
    sizes[Kind::Port as usize] = 3;
    sizes[Kind::Timestamp as usize] = 8;
    sizes[Kind::Timespan as usize] = 8;
    sizes
};

/// Why a length could not be read.
pub(crate) enum LengthError {
    /// The bytes end inside it.
    Truncated,
    /// It has more than five bytes or more than 32 bits.
    OutOfRange,
}

/// Reads a variable length at `*pos` and moves past it.
#[inline]
pub(crate) fn read_length(bytes: &[u8], pos: &mut usize) -> Result<u32, LengthError> {
    match bytes.get(*pos) {
        Some(&byte) if byte < 0x80 => {
            *pos += 1;
            Ok(u32::from(byte))
        }
        _ => read_long_length(bytes, pos),
    }
}

#[cold]
fn read_long_length(bytes: &[u8], pos: &mut usize) -> Result<u32, LengthError> {
    let mut value = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(*pos).ok_or(LengthError::Truncated)?;
        *pos += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(value).map_err(|_| LengthError::OutOfRange);
        }
    }
    Err(LengthError::OutOfRange)
}

/// Position after the value that begins at `pos`, or the end of the bytes if they are no value.
///
/// Needs no stack: values that are still to come are only counted.
#[inline]
pub(crate) fn skip(bytes: &[u8], pos: usize) -> usize {
    let Some(&tag) = bytes.get(pos) else {
        return bytes.len();
    };
    let size = BODY_SIZE[usize::from(tag & 15)];
    if size != VARIABLE && tag < 16 {
        (pos + 1 + usize::from(size)).min(bytes.len())
    } else {
        skip_variable(bytes, pos).unwrap_or(bytes.len())
    }
}

fn skip_variable(bytes: &[u8], mut pos: usize) -> Option<usize> {
    let mut pending = 1_u64;
    while pending > 0 {
        pending -= 1;
        let tag = *bytes.get(pos)?;
        pos += 1;
        match *BODY_SIZE.get(usize::from(tag))? {
            VARIABLE => {
                let length = read_length(bytes, &mut pos).ok()?;
                match Kind::from_tag(tag)? {
                    Kind::Set | Kind::Vector => pending += u64::from(length),
                    Kind::Table => pending += 2 * u64::from(length),
                    _ => pos = pos.checked_add(length as usize)?,
                }
            }
            size => pos += usize::from(size),
        }
    }
    (pos <= bytes.len()).then_some(pos)
}

/// Bytes `from..from + N`, zeros where there are none.
#[inline]
pub(crate) fn array<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    match bytes.get(from..).and_then(<[u8]>::first_chunk::<N>) {
        Some(chunk) => *chunk,
        None => [0; N],
    }
}
