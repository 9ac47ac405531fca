//! The kinds of values and their tags.

use std::fmt;

/// The kind of a value. Its number is the tag byte of the encoding, and values are ordered by it
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Absent.
    None = 0,
    /// True or false.
    Boolean = 1,
    /// Unsigned 64-bit number.
    Count = 2,
    /// Signed 64-bit number.
    Integer = 3,
    /// Floating-point number.
    Real = 4,
    /// Byte string, usually UTF-8.
    String = 5,
    /// IPv4 or IPv6 address.
    Address = 6,
    /// Address prefix.
    Subnet = 7,
    /// Transport port.
    Port = 8,
    /// Point in time.
    Timestamp = 9,
    /// Length of time.
    Timespan = 10,
    /// Name of an enum value.
    Enum = 11,
    /// Set without duplicates.
    Set = 12,
    /// Table with unique keys.
    Table = 13,
    /// Sequence of values, also a record.
    Vector = 14,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::None,
        Self::Boolean,
        Self::Count,
        Self::Integer,
        Self::Real,
        Self::String,
        Self::Address,
        Self::Subnet,
        Self::Port,
        Self::Timestamp,
        Self::Timespan,
        Self::Enum,
        Self::Set,
        Self::Table,
        Self::Vector,
    ];

    /// Returns the kind with a tag byte, or `None` if there is none.
    #[inline]
    pub const fn from_tag(tag: u8) -> Option<Self> {
        if (tag as usize) < Self::ALL.len() {
            Some(Self::ALL[tag as usize])
        } else {
            None
        }
    }

    /// Returns the tag byte of the encoding.
    #[inline]
    pub const fn tag(self) -> u8 {
        self as u8
    }

    /// Returns Zeek's word for the kind, such as `count` or `addr`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Boolean => "bool",
            Self::Count => "count",
            Self::Integer => "int",
            Self::Real => "double",
            Self::String => "string",
            Self::Address => "addr",
            Self::Subnet => "subnet",
            Self::Port => "port",
            Self::Timestamp => "time",
            Self::Timespan => "interval",
            Self::Enum => "enum",
            Self::Set => "set",
            Self::Table => "table",
            Self::Vector => "vector",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_kinds_agree() {
        for tag in 0..=14 {
            assert_eq!(Kind::from_tag(tag).map(Kind::tag), Some(tag));
        }
        assert_eq!(Kind::from_tag(15), None);
    }
}
