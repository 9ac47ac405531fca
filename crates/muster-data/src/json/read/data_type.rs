//! The types, as JSON names them and as errors describe them.

/// The types, by the names they have in JSON.
#[derive(Clone, Copy)]
pub(super) enum DataType {
    None,
    Boolean,
    Count,
    Integer,
    Real,
    String,
    Address,
    Subnet,
    Port,
    Timestamp,
    Timespan,
    Enum,
    Set,
    Table,
    Vector,
}

impl DataType {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "boolean" => Self::Boolean,
            "count" => Self::Count,
            "integer" => Self::Integer,
            "real" => Self::Real,
            "string" => Self::String,
            "address" => Self::Address,
            "subnet" => Self::Subnet,
            "port" => Self::Port,
            "timestamp" => Self::Timestamp,
            "timespan" => Self::Timespan,
            "enum-value" | "enum_value" => Self::Enum,
            "set" => Self::Set,
            "table" => Self::Table,
            "vector" => Self::Vector,
            _ => return None,
        })
    }

    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::None => "anything",
            Self::Boolean => "a boolean: true or false",
            Self::Count => "a count: a number from 0 to 18446744073709551615",
            Self::Integer => {
                "an integer: a number from -9223372036854775808 to 9223372036854775807"
            }
            Self::Real => "a real: a number such as 1.5",
            Self::String => "a string",
            Self::Address => "an address such as \"10.0.0.1\" or \"2001:db8::1\"",
            Self::Subnet => "a subnet such as \"10.0.0.0/8\"",
            Self::Port => "a port such as \"80/tcp\"",
            Self::Timestamp => "a timestamp such as \"2026-01-02T03:04:05.678\"",
            Self::Timespan => "a timespan such as \"1500ms\" (ns, us, ms, s, min, h, d)",
            Self::Enum => "an enum value such as \"Notice::ACTION_LOG\"",
            Self::Set => "a set: an array of objects with @data-type and data",
            Self::Table => "a table: an array of objects with key and value",
            Self::Vector => "a vector: an array of objects with @data-type and data",
        }
    }
}
