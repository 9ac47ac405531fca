//! Owned values.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    Address, ConvertError, DataRef, DecodeError, DecodeOwned, EnumValue, Kind, Limits, Port, Set,
    Subnet, Table, Timespan, Timestamp, from_data, real, text,
};

/// An owned value of any kind.
///
/// Values are ordered by kind, then as Broker orders them: numbers numerically, strings, enum names
/// and addresses bytewise, containers element by element. All zeros among reals are equal, and
/// subnormal numbers are equal to them, because the encoding turns these into zeros. There is one
/// NaN, after everything else.
///
/// A program must not nest values deeper than [`Limits::MAX_DEPTH`], because nothing can read them
/// back.
#[derive(Clone, Default)]
pub enum Data {
    /// Absent.
    #[default]
    None,
    /// True or false.
    Boolean(bool),
    /// Unsigned number.
    Count(u64),
    /// Signed number.
    Integer(i64),
    /// Floating-point number.
    Real(f64),
    /// Byte string, usually UTF-8.
    String(Box<[u8]>),
    /// IPv4 or IPv6 address.
    Address(Address),
    /// Address prefix.
    Subnet(Subnet),
    /// Transport port.
    Port(Port),
    /// Point in time.
    Timestamp(Timestamp),
    /// Length of time.
    Timespan(Timespan),
    /// Name of an enum value.
    Enum(EnumValue),
    /// Set without duplicates.
    Set(Set),
    /// Table with unique keys.
    Table(Table),
    /// Sequence of values, also a record.
    Vector(Box<[Data]>),
}

// Stores hold millions of these.
const _: () = assert!(size_of::<Data>() == 24);

impl Data {
    /// Makes a string of bytes or of a text.
    pub fn string(bytes: impl AsRef<[u8]>) -> Self {
        Self::String(bytes.as_ref().into())
    }

    /// Makes an enum value of a name.
    pub fn enum_value(name: impl AsRef<[u8]>) -> Self {
        Self::Enum(EnumValue::new(name))
    }

    /// Makes a vector of elements.
    pub fn vector<T: Into<Data>>(elements: impl IntoIterator<Item = T>) -> Self {
        Self::Vector(elements.into_iter().map(Into::into).collect())
    }

    /// Makes a set of elements. Duplicates are dropped.
    pub fn set<T: Into<Data>>(elements: impl IntoIterator<Item = T>) -> Self {
        Self::Set(elements.into_iter().collect())
    }

    /// Makes a table of entries. Of several entries with the same key, the last one stays.
    pub fn table<K: Into<Data>, V: Into<Data>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Table(entries.into_iter().collect())
    }

    /// Decodes a value that takes up all the bytes.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are not exactly one valid value within the limits.
    pub fn from_bytes(bytes: &[u8], limits: &Limits) -> Result<Self, DecodeError> {
        DataRef::parse(bytes, limits).map(|value| value.to_data())
    }

    /// Returns the kind of the value.
    pub fn kind(&self) -> Kind {
        match self {
            Self::None => Kind::None,
            Self::Boolean(_) => Kind::Boolean,
            Self::Count(_) => Kind::Count,
            Self::Integer(_) => Kind::Integer,
            Self::Real(_) => Kind::Real,
            Self::String(_) => Kind::String,
            Self::Address(_) => Kind::Address,
            Self::Subnet(_) => Kind::Subnet,
            Self::Port(_) => Kind::Port,
            Self::Timestamp(_) => Kind::Timestamp,
            Self::Timespan(_) => Kind::Timespan,
            Self::Enum(_) => Kind::Enum,
            Self::Set(_) => Kind::Set,
            Self::Table(_) => Kind::Table,
            Self::Vector(_) => Kind::Vector,
        }
    }

    /// Returns `true` if the value can be read as a `T`.
    pub fn is<T: DecodeOwned>(&self) -> bool {
        self.to::<T>().is_ok()
    }

    /// Reads the value as a `T`. This is strict: an integer is not accepted as a count.
    ///
    /// # Errors
    ///
    /// Fails if the value is not a `T`; the error says what is wrong, and where.
    pub fn to<T: DecodeOwned>(&self) -> Result<T, ConvertError> {
        from_data(self)
    }

    /// Returns `true` if the value is absent.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Returns the text, if this is a string and valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// Returns the bytes, if this is a string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::String(bytes) = self {
            Some(bytes)
        } else {
            None
        }
    }

    /// Returns the number, if this is a count.
    pub fn as_count(&self) -> Option<u64> {
        if let Self::Count(count) = self {
            Some(*count)
        } else {
            None
        }
    }

    /// Returns the elements, if this is a vector.
    pub fn as_vector(&self) -> Option<&[Data]> {
        if let Self::Vector(elements) = self {
            Some(elements)
        } else {
            None
        }
    }

    /// Returns the set, if this is one.
    pub fn as_set(&self) -> Option<&Set> {
        if let Self::Set(set) = self {
            Some(set)
        } else {
            None
        }
    }

    /// Returns the table, if this is one.
    pub fn as_table(&self) -> Option<&Table> {
        if let Self::Table(table) = self {
            Some(table)
        } else {
            None
        }
    }
}

impl Ord for Data {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(left), Self::Boolean(right)) => left.cmp(right),
            (Self::Count(left), Self::Count(right)) => left.cmp(right),
            (Self::Integer(left), Self::Integer(right)) => left.cmp(right),
            (Self::Real(left), Self::Real(right)) => real::compare(*left, *right),
            (Self::String(left), Self::String(right)) => left.cmp(right),
            (Self::Address(left), Self::Address(right)) => left.cmp(right),
            (Self::Subnet(left), Self::Subnet(right)) => left.cmp(right),
            (Self::Port(left), Self::Port(right)) => left.cmp(right),
            (Self::Timestamp(left), Self::Timestamp(right)) => left.cmp(right),
            (Self::Timespan(left), Self::Timespan(right)) => left.cmp(right),
            (Self::Enum(left), Self::Enum(right)) => left.cmp(right),
            (Self::Set(left), Self::Set(right)) => left.cmp(right),
            (Self::Table(left), Self::Table(right)) => left.cmp(right),
            (Self::Vector(left), Self::Vector(right)) => left.cmp(right),
            _ => self.kind().cmp(&other.kind()),
        }
    }
}

impl PartialOrd for Data {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Data {}

impl Hash for Data {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind().hash(state);
        match self {
            Self::None => {}
            Self::Boolean(value) => value.hash(state),
            Self::Count(value) => value.hash(state),
            Self::Integer(value) => value.hash(state),
            Self::Real(value) => real::hash(*value, state),
            Self::String(value) => value.hash(state),
            Self::Address(value) => value.hash(state),
            Self::Subnet(value) => value.hash(state),
            Self::Port(value) => value.hash(state),
            Self::Timestamp(value) => value.hash(state),
            Self::Timespan(value) => value.hash(state),
            Self::Enum(value) => value.hash(state),
            Self::Set(value) => value.hash(state),
            Self::Table(value) => value.hash(state),
            Self::Vector(value) => value.hash(state),
        }
    }
}

impl fmt::Display for Data {
    /// Text form, which [`FromStr`](std::str::FromStr) reads back exactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write_data(self, f)
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write_data(self, f)
    }
}

macro_rules! data_from {
    ($($source:ty => |$value:ident| $data:expr;)*) => {$(
        impl From<$source> for Data {
            fn from($value: $source) -> Self {
                $data
            }
        }
    )*};
}

data_from! {
    bool => |value| Self::Boolean(value);
    u64 => |value| Self::Count(value);
    u32 => |value| Self::Count(value.into());
    u16 => |value| Self::Count(value.into());
    i64 => |value| Self::Integer(value);
    i32 => |value| Self::Integer(value.into());
    f64 => |value| Self::Real(value);
    &str => |value| Self::string(value);
    &[u8] => |value| Self::string(value);
    String => |value| Self::String(value.into_bytes().into());
    Address => |value| Self::Address(value);
    IpAddr => |value| Self::Address(value.into());
    Ipv4Addr => |value| Self::Address(value.into());
    Ipv6Addr => |value| Self::Address(value.into());
    Subnet => |value| Self::Subnet(value);
    Port => |value| Self::Port(value);
    Timestamp => |value| Self::Timestamp(value);
    Timespan => |value| Self::Timespan(value);
    EnumValue => |value| Self::Enum(value);
    Set => |value| Self::Set(value);
    Table => |value| Self::Table(value);
    Vec<Data> => |value| Self::Vector(value.into());
}

impl<const N: usize> From<[Data; N]> for Data {
    fn from(elements: [Data; N]) -> Self {
        Self::Vector(elements.into())
    }
}

impl<T: Into<Data>> From<Option<T>> for Data {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn ordered_by_kind_then_value() {
        let ascending = [
            Data::None,
            Data::from(false),
            Data::from(true),
            Data::from(5u64),
            Data::from(-5i64),
            Data::from(f64::NEG_INFINITY),
            Data::from(0.0),
            Data::from(f64::INFINITY),
            Data::from(f64::NAN),
            Data::from("B"),
            Data::from("a"),
            Data::from("aa"),
            Data::from(Port::new(53, crate::Protocol::Tcp)),
            Data::from(Port::new(53, crate::Protocol::Udp)),
            Data::enum_value("A"),
            Data::set([1u64, 5]),
            Data::set([2u64]),
            Data::Vector([].into()),
            Data::vector([1u64, 2]),
            Data::vector([2u64]),
        ];
        assert!(ascending.is_sorted_by(|left, right| left < right));
    }

    #[test]
    fn equal_reals_have_equal_hashes() {
        let hasher = std::hash::RandomState::new();
        for (left, right) in [(0.0, -0.0), (f64::NAN, -f64::NAN), (5e-324, 0.0)] {
            let (left, right) = (Data::Real(left), Data::Real(right));
            assert_eq!(left, right);
            assert_eq!(hasher.hash_one(&left), hasher.hash_one(&right));
        }
        assert_ne!(Data::Count(1), Data::Integer(1));
    }
}
