//! Encoded values as stores keep them.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use muster_data::{
    Data, DataRef, DecodeError, Encode, Kind, Limits, ValueRef, encode_to_vec, validate_first,
};

/// A value in the binary encoding, already validated. Cheap to clone.
///
/// A store keeps its keys and values in this form, so that what comes from the network goes on to
/// clones and to disk without being decoded. The order is that of the bytes.
#[derive(Clone)]
pub struct Encoded(Bytes);

/// Up to this size bytes lie in place: an address with its port, four counts, a short name. A map of such keys
/// compares them without a look at other memory, which was half of the CPU of a `put_unique`.
const IN_PLACE: usize = 38;

#[derive(Clone)]
enum Bytes {
    Small { length: u8, bytes: [u8; IN_PLACE] },
    Shared(Arc<[u8]>),
}

impl From<&[u8]> for Bytes {
    fn from(from: &[u8]) -> Self {
        let mut bytes = [0; IN_PLACE];
        match (bytes.get_mut(..from.len()), u8::try_from(from.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(from);
                Self::Small { length, bytes }
            }
            _ => Self::Shared(from.into()),
        }
    }
}

impl Encoded {
    /// Encodes a value.
    pub fn of(value: &(impl Encode + ?Sized)) -> Self {
        Self(encode_to_vec(value)[..].into())
    }

    /// Encodes a value as a key. Equal values become equal bytes.
    pub fn key(value: &(impl Encode + ?Sized)) -> Self {
        Self::of(value).into_key()
    }

    /// Validates bytes as one value, and copies them.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are not exactly one valid value within the default [`Limits`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        DataRef::parse(bytes, &Limits::default())?;
        Ok(Self(bytes.into()))
    }

    /// Validates and copies the value at the start of some bytes. Returns its size as well.
    ///
    /// # Errors
    ///
    /// Fails if the bytes do not begin with a valid value within the default [`Limits`].
    pub fn parse_first(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        let size = validate_first(bytes, &Limits::default())?;
        Ok((Self(bytes[..size].into()), size))
    }

    /// What this crate has put together of encoded values.
    pub(crate) fn from_encoded(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Returns the same value in the one encoding that all values equal to it share: sets and
    /// tables in order, one zero and one NaN.
    #[must_use]
    pub fn into_key(self) -> Self {
        if is_plain(self.view()) {
            return self;
        }
        Self::of(&with_plain_reals(self.to_data()))
    }

    /// Returns the encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Small { length, bytes } => &bytes[..usize::from(*length)],
            Bytes::Shared(bytes) => bytes,
        }
    }

    /// Returns the number of bytes.
    pub fn size(&self) -> usize {
        self.as_bytes().len()
    }

    /// Returns the kind of the value.
    pub fn kind(&self) -> Kind {
        Kind::from_tag(self.as_bytes()[0]).expect("validated when it was made")
    }

    /// Returns a view of the value.
    pub fn view(&self) -> DataRef<'_> {
        DataRef::from_validated(self.as_bytes())
    }

    /// Decodes the value.
    pub fn to_data(&self) -> Data {
        self.view().to_data()
    }
}

impl PartialEq for Encoded {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Encoded {}

impl PartialOrd for Encoded {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Encoded {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Encoded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// Returns `true` if a value has one encoding only. Most keys have, and no tree is built for them:
/// without this, a key of four numbers cost a microsecond at each end.
pub(crate) fn is_plain(value: DataRef<'_>) -> bool {
    match value.get() {
        ValueRef::Real(_) | ValueRef::Set(_) | ValueRef::Table(_) => false,
        ValueRef::Vector(elements) => elements.iter().all(is_plain),
        _ => true,
    }
}

/// Zeros without a sign, and one NaN.
fn with_plain_reals(value: Data) -> Data {
    match value {
        Data::Real(real) if real.is_nan() => Data::Real(f64::NAN),
        Data::Real(real) => Data::Real(if real == 0.0 { 0.0 } else { real }),
        Data::Vector(elements) => {
            Data::Vector(elements.into_iter().map(with_plain_reals).collect())
        }
        Data::Set(elements) => {
            let elements = elements.into_vec().into_iter().map(with_plain_reals);
            Data::Set(elements.collect())
        }
        Data::Table(entries) => {
            let entries = entries.into_vec().into_iter();
            let plain =
                entries.map(|(key, value)| (with_plain_reals(key), with_plain_reals(value)));
            Data::Table(plain.collect())
        }
        other => other,
    }
}

impl fmt::Display for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.view(), f)
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.view(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_have_equal_bytes() {
        assert_eq!(Encoded::key(&-0.0), Encoded::key(&0.0));
        assert_ne!(Encoded::of(&-0.0), Encoded::of(&0.0));
        let quiet = f64::from_bits(0x7ff8_0000_0000_0001);
        assert_eq!(Encoded::key(&[quiet][..]), Encoded::key(&[f64::NAN][..]));
        // A set whose elements are out of order, as a careless peer may write it.
        let out_of_order = [12, 2, 2, 0, 0, 0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 1];
        let set = Encoded::parse(&out_of_order).unwrap().into_key();
        assert_eq!(set, Encoded::key(&Data::set([1u64, 2])));
    }

    #[test]
    fn short_and_long_values_are_one_order() {
        let values: Vec<Encoded> = (0..80).map(|n| Encoded::of(&"x".repeat(n))).collect();
        for (at, value) in values.iter().enumerate() {
            assert_eq!(value.to_data(), Data::from("x".repeat(at)));
            assert_eq!(value, &Encoded::parse(value.as_bytes()).unwrap());
            for (other_at, other) in values.iter().enumerate() {
                assert_eq!(value.cmp(other), value.as_bytes().cmp(other.as_bytes()));
                assert_eq!(value == other, at == other_at);
            }
        }
        assert_eq!(size_of::<Encoded>(), 40);
    }
}
