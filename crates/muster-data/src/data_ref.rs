//! Borrowed views of encoded values.

mod containers;

use std::cmp::Ordering;
use std::fmt;

use crate::cursor::{read_length, skip};
use crate::order::{Containers, compare_encoded};
use crate::{
    Address, ConvertError, Data, Decode, DecodeError, EnumRef, Kind, Limits, Port, Subnet, Table,
    Timespan, Timestamp, body, validate,
};

pub use containers::{SetIter, SetRef, TableIter, TableRef, VectorIter, VectorRef};

/// A borrowed view of one encoded value. It decodes only what is asked for, and allocates nothing.
///
/// Its accessors cannot fail. On bytes that were never validated they still neither panic nor loop:
/// what cannot be read counts as none.
#[derive(Clone, Copy)]
pub struct DataRef<'a> {
    bytes: &'a [u8],
}

/// The value that a [`DataRef`] holds.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// Absent.
    None,
    /// True or false.
    Boolean(bool),
    /// Unsigned number.
    Count(u64),
    /// Signed number.
    Integer(i64),
    /// Floating-point number.
    Real(f64),
    /// Byte string.
    String(&'a [u8]),
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
    Enum(EnumRef<'a>),
    /// Set.
    Set(SetRef<'a>),
    /// Table.
    Table(TableRef<'a>),
    /// Sequence of values.
    Vector(VectorRef<'a>),
}

impl<'a> DataRef<'a> {
    /// The value none.
    pub const NONE: DataRef<'static> = DataRef { bytes: &[0] };

    /// Validates bytes and returns a view of them.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are not exactly one valid value within the limits.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, DecodeError> {
        validate(bytes, limits)?;
        Ok(Self { bytes })
    }

    /// Returns a view of bytes that [`validate`] has accepted, or that this crate has encoded.
    /// Nothing is checked.
    #[inline]
    pub const fn from_validated(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Returns the encoded form.
    #[inline]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the kind of the value.
    #[inline]
    pub fn kind(&self) -> Kind {
        self.bytes
            .first()
            .and_then(|&tag| Kind::from_tag(tag))
            .unwrap_or(Kind::None)
    }

    /// Returns the value, with scalars decoded and containers as views.
    #[inline]
    pub fn get(&self) -> ValueRef<'a> {
        let body = self.bytes.get(1..).unwrap_or_default();
        match self.kind() {
            Kind::None => ValueRef::None,
            Kind::Boolean => ValueRef::Boolean(body::boolean(body)),
            Kind::Count => ValueRef::Count(body::count(body)),
            Kind::Integer => ValueRef::Integer(body::integer(body)),
            Kind::Real => ValueRef::Real(body::real(body)),
            Kind::String => ValueRef::String(body::string(body)),
            Kind::Address => ValueRef::Address(body::address(body)),
            Kind::Subnet => ValueRef::Subnet(body::subnet(body)),
            Kind::Port => ValueRef::Port(body::port(body)),
            Kind::Timestamp => ValueRef::Timestamp(body::timestamp(body)),
            Kind::Timespan => ValueRef::Timespan(body::timespan(body)),
            Kind::Enum => ValueRef::Enum(body::enum_name(body)),
            Kind::Set => ValueRef::Set(SetRef(VectorRef::new(body, 1))),
            Kind::Table => ValueRef::Table(TableRef(VectorRef::new(body, 2))),
            Kind::Vector => ValueRef::Vector(VectorRef::new(body, 1)),
        }
    }

    /// What follows the tag, if it is the tag of this kind. Cheaper than [`get`](Self::get) where only
    /// one kind will do.
    #[inline]
    pub(crate) fn body(&self, kind: Kind) -> Option<&'a [u8]> {
        match self.bytes.split_first() {
            Some((tag, body)) if *tag == kind.tag() => Some(body),
            _ => None,
        }
    }

    /// Returns the encoded bytes.
    #[inline]
    pub fn encoded(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the value in owned form.
    pub fn to_data(&self) -> Data {
        Owner {
            bytes: self.bytes,
            pos: 0,
        }
        .value(Limits::MAX_DEPTH)
    }

    /// Returns `true` if the value can be read as a `T`.
    pub fn is<T: Decode<'a>>(&self) -> bool {
        T::decode(*self).is_ok()
    }

    /// Reads the value as a `T`. This is strict: an integer is not accepted as a count.
    ///
    /// # Errors
    ///
    /// Fails if the value is not a `T`; the error says what is wrong, and where.
    #[inline]
    pub fn to<T: Decode<'a>>(&self) -> Result<T, ConvertError> {
        T::decode(*self)
    }

    /// Returns `true` if the value is absent.
    pub fn is_none(&self) -> bool {
        self.kind() == Kind::None
    }

    /// Returns the text, if this is a string and valid UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// Returns the bytes, if this is a string.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        self.body(Kind::String).map(body::string)
    }

    /// Returns the number, if this is a count.
    pub fn as_count(&self) -> Option<u64> {
        self.body(Kind::Count).map(body::count)
    }

    /// Returns the elements, if this is a vector.
    #[inline]
    pub fn as_vector(&self) -> Option<VectorRef<'a>> {
        self.body(Kind::Vector).map(|body| VectorRef::new(body, 1))
    }

    /// Returns the elements, if this is a set.
    #[inline]
    pub fn as_set(&self) -> Option<SetRef<'a>> {
        self.body(Kind::Set)
            .map(|body| SetRef(VectorRef::new(body, 1)))
    }

    /// Returns the entries, if this is a table.
    #[inline]
    pub fn as_table(&self) -> Option<TableRef<'a>> {
        self.body(Kind::Table)
            .map(|body| TableRef(VectorRef::new(body, 2)))
    }
}

/// Builds owned values in one pass over the bytes.
struct Owner<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl Owner<'_> {
    fn value(&mut self, depth: u32) -> Data {
        let rest = self.bytes.get(self.pos..).unwrap_or_default();
        let value = DataRef { bytes: rest };
        let kind = value.kind();
        if !matches!(kind, Kind::Set | Kind::Table | Kind::Vector) {
            self.pos += skip(rest, 0);
            return leaf(value.get());
        }
        self.pos += 1;
        let length = read_length(self.bytes, &mut self.pos).map_or(0, |length| length as usize);
        let Some(depth) = depth.checked_sub(1) else {
            // Only bytes that were never validated are nested deeper.
            self.pos = self.bytes.len();
            return Data::None;
        };
        let width = if kind == Kind::Table { 2 } else { 1 };
        let length = length.min(self.bytes.len().saturating_sub(self.pos) / width);
        match kind {
            Kind::Set => Data::Set((0..length).map(|_| self.value(depth)).collect()),
            Kind::Table => Data::Table(
                (0..length)
                    .map(|_| (self.value(depth), self.value(depth)))
                    .collect::<Table>(),
            ),
            _ => Data::Vector((0..length).map(|_| self.value(depth)).collect()),
        }
    }
}

fn leaf(value: ValueRef<'_>) -> Data {
    match value {
        ValueRef::Boolean(value) => Data::Boolean(value),
        ValueRef::Count(value) => Data::Count(value),
        ValueRef::Integer(value) => Data::Integer(value),
        ValueRef::Real(value) => Data::Real(value),
        ValueRef::String(value) => Data::String(value.into()),
        ValueRef::Address(value) => Data::Address(value),
        ValueRef::Subnet(value) => Data::Subnet(value),
        ValueRef::Port(value) => Data::Port(value),
        ValueRef::Timestamp(value) => Data::Timestamp(value),
        ValueRef::Timespan(value) => Data::Timespan(value),
        ValueRef::Enum(value) => Data::Enum(value.to_value()),
        ValueRef::None | ValueRef::Set(_) | ValueRef::Table(_) | ValueRef::Vector(_) => Data::None,
    }
}

impl From<DataRef<'_>> for Data {
    fn from(value: DataRef<'_>) -> Self {
        value.to_data()
    }
}

impl Ord for DataRef<'_> {
    /// Order of [`Data`].
    fn cmp(&self, other: &Self) -> Ordering {
        compare_encoded(self.bytes, other.bytes, Containers::AnyOrder)
    }
}

impl PartialOrd for DataRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for DataRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes || self.cmp(other).is_eq()
    }
}

impl Eq for DataRef<'_> {}

impl PartialEq<Data> for DataRef<'_> {
    fn eq(&self, other: &Data) -> bool {
        self.to_data() == *other
    }
}

impl fmt::Display for DataRef<'_> {
    /// Text form of the owned value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_data().fmt(f)
    }
}

impl fmt::Debug for DataRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
