//! Reading and writing the primitives of the peer protocol: big-endian integers and varbytes.

/// A cursor over received bytes. Reads never panic: they return `None` if the bytes end too early,
/// or if a number does not fit.
#[derive(Debug, Clone)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Creates a cursor at the start of some bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns `true` if nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of bytes that are left.
    pub fn remaining(&self) -> usize {
        self.0.len()
    }

    /// Returns the bytes that are left, without taking them.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Takes the next `count` bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    /// Takes the next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    /// Takes the next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Takes the next four bytes as a big-endian number.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes the next eight bytes as a big-endian number.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Takes a size: 7 bits per byte, least significant first, at most 5 bytes and 32 bits.
    pub fn varbyte(&mut self) -> Option<u32> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).ok();
            }
        }
        None
    }

    /// Takes a number of up to 64 bits: 7 bits per byte, least significant first, at most 10 bytes.
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Takes a length as a varbyte and that many bytes.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varbyte()?).ok()?;
        self.take(length)
    }
}

/// Appends a size as a varbyte. Sizes above 32 bits do not occur, since frames are limited far
/// below.
pub fn put_varbyte(out: &mut Vec<u8>, value: usize) {
    muster_data::encode::put_varbyte(out, u32::try_from(value).unwrap_or(u32::MAX));
}

/// Appends a number of up to 64 bits: 7 bits per byte, least significant first.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a length as a varbyte, then the bytes.
pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varbyte(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Returns a number with just `N` bytes, as a varint that may be longer than it need be.
pub fn padded_varint<const N: usize>(value: usize) -> [u8; N] {
    std::array::from_fn(|place| {
        let more = if place + 1 < N { 0x80 } else { 0 };
        (value >> (7 * place)).to_le_bytes()[0] & 0x7f | more
    })
}

/// Returns a difference as an unsigned number that is small if the difference is.
#[inline]
pub fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ (difference >> 63).wrapping_neg()
}

/// Returns the difference that [`zigzag`] has made a number of.
#[inline]
pub fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varbytes_round_trip_and_end_after_five_bytes() {
        for value in [0u32, 5, 127, 128, 200, 65_536, 0xffff_ffff] {
            let mut out = Vec::new();
            put_varbyte(&mut out, value as usize);
            assert_eq!(Reader::new(&out).varbyte(), Some(value));
        }
        assert_eq!(
            Reader::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).varbyte(),
            None
        );
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x7f]).varbyte(), None);
        assert_eq!(Reader::new(&[0x80]).varbyte(), None);
    }
}
