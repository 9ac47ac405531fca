//! Writing of the text form.

use std::fmt::{self, Formatter, Write};
use std::net::Ipv6Addr;

use super::PREFIXES;
use crate::Data;

/// Writes a value so that it reads back exactly.
pub(crate) fn write_data(data: &Data, f: &mut Formatter<'_>) -> fmt::Result {
    match data {
        Data::None => f.write_str("nil"),
        Data::Boolean(true) => f.write_str("T"),
        Data::Boolean(false) => f.write_str("F"),
        Data::Count(value) => write!(f, "{value}"),
        Data::Integer(value) => write!(f, "{value:+}"),
        // The debug form always has a fraction or an exponent, and as few digits as are exact.
        Data::Real(value) if value.is_nan() => f.write_str("nan"),
        Data::Real(value) => write!(f, "{value:?}"),
        Data::String(value) => write_quoted(value, f),
        Data::Address(value) => write!(f, "{value}"),
        Data::Subnet(value) => write!(f, "{value}"),
        Data::Port(value) => write!(f, "{value}"),
        Data::Timestamp(value) => write!(f, "{value}"),
        Data::Timespan(value) => write!(f, "{value}"),
        Data::Enum(value) => write_enum(value.as_bytes(), f),
        Data::Set(set) => {
            f.write_char('{')?;
            write_list(set.as_slice(), f)?;
            f.write_char('}')
        }
        Data::Table(table) if table.is_empty() => f.write_str("{->}"),
        Data::Table(table) => {
            f.write_char('{')?;
            for (index, (key, value)) in table.iter().enumerate() {
                let separator = if index == 0 { "" } else { ", " };
                write!(f, "{separator}{key} -> {value}")?;
            }
            f.write_char('}')
        }
        Data::Vector(elements) => {
            f.write_char('[')?;
            write_list(elements, f)?;
            f.write_char(']')
        }
    }
}

fn write_list(elements: &[Data], f: &mut Formatter<'_>) -> fmt::Result {
    for (index, element) in elements.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(f, "{separator}{element}")?;
    }
    Ok(())
}

/// Writes an enum name: bare where it cannot be taken for anything else, otherwise quoted.
pub(crate) fn write_enum(name: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    match std::str::from_utf8(name) {
        Ok(name) if is_bare_enum(name) => f.write_str(name),
        _ => {
            f.write_str("enum:")?;
            write_quoted(name, f)
        }
    }
}

/// Returns `true` if the text is two or more identifiers joined by `::` and neither an IPv6
/// address, as `fe::ab` is, nor the beginning of a value with a stated type, as `addr::` may be.
pub(super) fn is_bare_enum(text: &str) -> bool {
    let mut parts = text.split("::");
    let first = parts.next().unwrap_or_default();
    text.contains("::")
        && !PREFIXES.contains(&first)
        && text.split("::").all(is_identifier)
        && text.parse::<Ipv6Addr>().is_err()
}

fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Writes a string in quotes; what is not UTF-8 or not printable becomes an escape.
fn write_quoted(bytes: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => {
                    let mut buffer = [0; 4];
                    for byte in c.encode_utf8(&mut buffer).bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                }
                c => f.write_char(c)?,
            }
        }
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    f.write_char('"')
}
