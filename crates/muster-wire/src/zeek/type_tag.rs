//! The numbers of Zeek's types.

use std::fmt;

macro_rules! type_tags {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $word:literal;)*) => {
        /// A type of Zeek, by the number that logs carry (protocol section 9.5).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum TypeTag {
            $($(#[$doc])* $name = $number,)*
        }

        impl TypeTag {
            /// All types, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the type with a number, or `None` if there is none.
            pub const fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Returns Zeek's word for the type. A table is called a set, as it is in logs.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

type_tags! {
    /// No type: the subtype of what has none.
    Void = 0, "void";
    /// True or false.
    Bool = 1, "bool";
    /// A signed number.
    Int = 2, "int";
    /// An unsigned number.
    Count = 3, "count";
    /// A floating-point number.
    Double = 4, "double";
    /// A point in time.
    Time = 5, "time";
    /// A length of time.
    Interval = 6, "interval";
    /// Bytes.
    String = 7, "string";
    /// A regular expression.
    Pattern = 8, "pattern";
    /// A name out of a list.
    Enum = 9, "enum";
    /// A transport port.
    Port = 10, "port";
    /// An address.
    Addr = 11, "addr";
    /// An address prefix.
    Subnet = 12, "subnet";
    /// Every type.
    Any = 13, "any";
    /// A set; Zeek's tables with values are not logged.
    Table = 14, "set";
    /// A record.
    Record = 15, "record";
    /// A list of types.
    List = 16, "list";
    /// A function, event or hook.
    Func = 17, "func";
    /// An open file.
    File = 18, "file";
    /// A vector.
    Vector = 19, "vector";
    /// A value of a plugin's type.
    Opaque = 20, "opaque";
    /// A type as a value.
    Type = 21, "type";
    /// The type of what went wrong.
    Error = 22, "error";
}

impl TypeTag {
    /// Returns the type's number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns `true` if values of the type have elements.
    pub const fn is_container(self) -> bool {
        matches!(self, Self::Table | Self::Vector)
    }

    /// Returns `true` if a log record can have a field of the type.
    pub const fn is_loggable(self) -> bool {
        matches!(
            self,
            Self::Bool
                | Self::Int
                | Self::Count
                | Self::Double
                | Self::Time
                | Self::Interval
                | Self::String
                | Self::Enum
                | Self::Port
                | Self::Addr
                | Self::Subnet
                | Self::Func
                | Self::File
                | Self::Table
                | Self::Vector
        )
    }
}

impl fmt::Display for TypeTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zeeks() {
        for (number, tag) in (0u64..).zip(TypeTag::ALL) {
            assert_eq!(TypeTag::from_number(number), Some(*tag));
            assert_eq!(u64::from(tag.number()), number);
        }
        assert_eq!(TypeTag::ALL.len(), 23);
        assert_eq!(TypeTag::from_number(23), None);
        assert_eq!(TypeTag::from_number(u64::MAX), None);
        assert_eq!(TypeTag::Table.to_string(), "set");
        let loggable = TypeTag::ALL.iter().filter(|tag| tag.is_loggable());
        assert_eq!(loggable.count(), 15);
    }
}
