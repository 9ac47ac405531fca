//! The one check of received bytes, after which accessors cannot fail.

use std::cmp::Ordering;

use crate::cursor::{BODY_SIZE, LengthError, VARIABLE, read_length, skip};
use crate::kind::Kind;
use crate::order::{Containers, compare_encoded};
use crate::{DecodeError, DecodeErrorKind, Limits};

/// Containers up to this many elements are searched for duplicates pair by pair.
const PAIRWISE: usize = 8;

/// Effort for comparing sets that hold unordered sets, in bytes compared: this much in any case, so
/// that small values always pass.
const FREE_EFFORT: usize = 1 << 20;
/// Further effort for each byte of the whole value: nesting must not multiply a large value's cost.
const EFFORT_PER_BYTE: usize = 4;

/// Checks that bytes are exactly one valid value within the limits.
///
/// This walks the bytes once and allocates nothing, except for sets and tables of more than eight
/// entries that are not in order: those need memory in proportion to their size.
///
/// # Errors
///
/// Fails if the bytes are malformed, hold duplicates in a set or table, or are over a limit.
pub fn validate(bytes: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    if bytes.len() > limits.bytes {
        return Err(DecodeError::new(DecodeErrorKind::TooLarge, limits.bytes));
    }
    let mut walk = Walk::new(bytes, limits);
    walk.whole(limits.effective_depth())
        .map_err(|kind| DecodeError::new(kind, walk.pos.min(bytes.len())))
}

/// Checks that bytes begin with a valid value within the limits. Returns its size in bytes.
///
/// # Errors
///
/// Fails like [`validate`], except that bytes may follow the value.
pub fn validate_first(bytes: &[u8], limits: &Limits) -> Result<usize, DecodeError> {
    let most = bytes.len().min(limits.bytes);
    let mut walk = Walk::new(&bytes[..most], limits);
    match walk.values(1, limits.effective_depth()) {
        Ok(()) => Ok(walk.pos),
        Err(DecodeErrorKind::Truncated) if most < bytes.len() => {
            Err(DecodeError::new(DecodeErrorKind::TooLarge, most))
        }
        Err(kind) => Err(DecodeError::new(kind, walk.pos.min(most))),
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    pos: usize,
    /// How many more elements may come.
    elements: u64,
    /// How many sets and tables were not in order so far.
    unordered: u64,
    /// How many more bytes may be compared the slow way.
    effort: usize,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8], limits: &Limits) -> Self {
        let effort = bytes
            .len()
            .saturating_mul(EFFORT_PER_BYTE)
            .saturating_add(FREE_EFFORT);
        Self {
            bytes,
            pos: 0,
            elements: limits.elements,
            unordered: 0,
            effort,
        }
    }

    /// Walks over the one value that takes all the bytes.
    fn whole(&mut self, depth: u32) -> Result<(), DecodeErrorKind> {
        if self.bytes.is_empty() {
            return Err(DecodeErrorKind::Empty);
        }
        self.values(1, depth)?;
        if self.pos < self.bytes.len() {
            return Err(DecodeErrorKind::TrailingBytes);
        }
        Ok(())
    }

    /// Walks over consecutive values, with this many levels of nesting left.
    fn values(&mut self, count: u32, depth: u32) -> Result<(), DecodeErrorKind> {
        let mut pos = self.pos;
        for _ in 0..count {
            let Some(&tag) = self.bytes.get(pos) else {
                self.pos = pos;
                return Err(DecodeErrorKind::Truncated);
            };
            let size = BODY_SIZE[usize::from(tag & 15)];
            if size == VARIABLE || tag >= 16 {
                self.pos = pos;
                self.variable(tag, depth)?;
                pos = self.pos;
                continue;
            }
            pos += 1 + usize::from(size);
            if pos > self.bytes.len() {
                self.pos = pos;
                return Err(DecodeErrorKind::Truncated);
            }
            if tag == Kind::Port.tag() && self.bytes[pos - 1] > 3 {
                self.pos = pos - 1;
                return Err(DecodeErrorKind::BadProtocol);
            }
        }
        self.pos = pos;
        Ok(())
    }

    /// Walks over the value at the current position, whose size its tag does not tell.
    #[inline]
    fn variable(&mut self, tag: u8, depth: u32) -> Result<(), DecodeErrorKind> {
        let kind = Kind::from_tag(tag).ok_or(DecodeErrorKind::UnknownTag)?;
        self.pos += 1;
        match kind {
            Kind::Vector => {
                let length = self.container(1, depth)?;
                self.values(length, depth - 1)
            }
            Kind::Set => self.entries(1, depth, DecodeErrorKind::DuplicateElement),
            Kind::Table => self.entries(2, depth, DecodeErrorKind::DuplicateKey),
            _ => {
                let length = self.length()? as usize;
                if length > self.bytes.len() - self.pos {
                    return Err(DecodeErrorKind::Truncated);
                }
                self.pos += length;
                Ok(())
            }
        }
    }

    #[inline]
    fn length(&mut self) -> Result<u32, DecodeErrorKind> {
        read_length(self.bytes, &mut self.pos).map_err(|error| match error {
            LengthError::Truncated => DecodeErrorKind::Truncated,
            LengthError::OutOfRange => DecodeErrorKind::BadLength,
        })
    }

    /// Length of a container whose entries are `width` values each; `depth` is above zero after it.
    fn container(&mut self, width: u32, depth: u32) -> Result<u32, DecodeErrorKind> {
        if depth == 0 {
            return Err(DecodeErrorKind::TooDeep);
        }
        let length = self.length()?;
        let values = u64::from(length) * u64::from(width);
        // No value is shorter than its tag, so a count beyond the bytes is a lie.
        if values > (self.bytes.len() - self.pos) as u64 {
            return Err(DecodeErrorKind::Truncated);
        }
        self.elements = self
            .elements
            .checked_sub(values)
            .ok_or(DecodeErrorKind::TooManyElements)?;
        Ok(length)
    }

    /// Walks over a set (`width` 1) or a table (2), whose first values must differ.
    fn entries(
        &mut self,
        width: u32,
        depth: u32,
        duplicate: DecodeErrorKind,
    ) -> Result<(), DecodeErrorKind> {
        let length = self.container(width, depth)?;
        let start = self.pos;
        let unordered = self.unordered;
        let mut ascending = true;
        let mut previous: &[u8] = &[];
        for _ in 0..length {
            let from = self.pos;
            self.values(1, depth - 1)?;
            let key = &self.bytes[from..self.pos];
            if ascending && !previous.is_empty() {
                match self.compare(previous, key, unordered)? {
                    Ordering::Less => {}
                    Ordering::Equal => return Err(duplicate),
                    Ordering::Greater => ascending = false,
                }
            }
            previous = key;
            if width == 2 {
                self.values(1, depth - 1)?;
            }
        }
        if !ascending {
            if !self.distinct(start, length as usize, width, unordered)? {
                return Err(duplicate);
            }
            self.unordered += 1;
        }
        Ok(())
    }

    /// Compares two keys of a container before which so many others were not in order.
    #[inline]
    fn compare(
        &mut self,
        left: &[u8],
        right: &[u8],
        unordered: u64,
    ) -> Result<Ordering, DecodeErrorKind> {
        let containers = self.containers(unordered);
        if containers == Containers::AnyOrder {
            self.spend(left.len() + right.len())?;
        }
        Ok(compare_encoded(left, right, containers))
    }

    /// Whether the keys of a walked container differ from each other.
    #[cold]
    fn distinct(
        &mut self,
        start: usize,
        length: usize,
        width: u32,
        unordered: u64,
    ) -> Result<bool, DecodeErrorKind> {
        let bytes = self.bytes;
        let mut pos = start;
        let mut next_key = || {
            let end = skip(bytes, pos);
            let key = &bytes[pos..end];
            pos = if width == 2 { skip(bytes, end) } else { end };
            key
        };
        if length <= PAIRWISE {
            let mut keys: [&[u8]; PAIRWISE] = [&[]; PAIRWISE];
            for filled in 0..length {
                let key = next_key();
                for other in &keys[..filled] {
                    if self.compare(other, key, unordered)?.is_eq() {
                        return Ok(false);
                    }
                }
                keys[filled] = key;
            }
            return Ok(true);
        }
        let mut keys: Vec<&[u8]> = (0..length).map(|_| next_key()).collect();
        let containers = self.containers(unordered);
        if containers == Containers::AnyOrder {
            // A sort must not stop halfway, so its whole effort is counted beforehand: each key takes
            // part in about twice as many comparisons as the number of keys has bits.
            let comparisons = 2 * (length.ilog2() as usize + 1);
            self.spend((pos - start).saturating_mul(comparisons))?;
        }
        keys.sort_unstable_by(|left, right| compare_encoded(left, right, containers));
        Ok(keys
            .windows(2)
            .all(|pair| compare_encoded(pair[0], pair[1], containers).is_ne()))
    }

    /// What is known about a container's keys, if so many containers were not in order before it.
    #[inline]
    fn containers(&self, unordered: u64) -> Containers {
        if self.unordered == unordered {
            Containers::InOrder
        } else {
            Containers::AnyOrder
        }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), DecodeErrorKind> {
        self.effort = self
            .effort
            .checked_sub(bytes)
            .ok_or(DecodeErrorKind::TooComplex)?;
        Ok(())
    }
}
