//! Writing of JSON, straight from the encoded form.

use std::fmt::{self, Write};

use super::scalar;
use crate::{DataRef, ValueRef};

/// Appends a value as an object with its type and its content.
pub fn write(out: &mut Vec<u8>, value: DataRef<'_>) {
    out.push(b'{');
    write_fields(out, value);
    out.push(b'}');
}

/// Returns a value as JSON text.
pub fn to_string(value: DataRef<'_>) -> String {
    let mut out = Vec::with_capacity(64);
    write(&mut out, value);
    // What is written here is UTF-8 by construction.
    String::from_utf8(out).unwrap_or_default()
}

/// Appends a data message: an object with topic, type and content.
pub fn write_message(out: &mut Vec<u8>, topic: &[u8], value: DataRef<'_>) {
    out.extend_from_slice(br#"{"type":"data-message","topic":"#);
    write_string(out, topic);
    out.push(b',');
    write_fields(out, value);
    out.push(b'}');
}

/// Appends bytes as a JSON string. Those that are not UTF-8 become the text `\xff`, as in Zeek's
/// logs.
pub fn write_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    match std::str::from_utf8(bytes) {
        Ok(text) => write_escaped(out, text),
        Err(_) => {
            for chunk in bytes.utf8_chunks() {
                write_escaped(out, chunk.valid());
                for byte in chunk.invalid() {
                    put(out, format_args!("\\\\x{byte:02x}"));
                }
            }
        }
    }
    out.push(b'"');
}

fn write_escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            byte => put(out, format_args!("\\u{byte:04x}")),
        }
    }
    out.extend_from_slice(&bytes[written..]);
}

/// Text into a buffer of bytes; that cannot fail.
struct Text<'a>(&'a mut Vec<u8>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn put(out: &mut Vec<u8>, arguments: fmt::Arguments<'_>) {
    let _ = Text(out).write_fmt(arguments);
}

/// The beginning of an object's fields up to the content.
fn open(out: &mut Vec<u8>, data_type: &str) {
    out.extend_from_slice(br#""@data-type":""#);
    out.extend_from_slice(data_type.as_bytes());
    out.extend_from_slice(br#"","data":"#);
}

fn write_fields(out: &mut Vec<u8>, value: DataRef<'_>) {
    match value.get() {
        ValueRef::None => {
            open(out, "none");
            out.extend_from_slice(b"{}");
        }
        ValueRef::Boolean(value) => {
            open(out, "boolean");
            out.extend_from_slice(if value { b"true" } else { b"false" });
        }
        ValueRef::Count(value) => {
            open(out, "count");
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
        ValueRef::Integer(value) => {
            open(out, "integer");
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
        // No number of JSON is NaN, and C++ would refuse the whole message for a text.
        ValueRef::Real(value) if value.is_nan() => {
            open(out, "none");
            out.extend_from_slice(br#""nan""#);
        }
        ValueRef::Real(value) => {
            open(out, "real");
            match value {
                f64::INFINITY => out.extend_from_slice(b"1e400"),
                f64::NEG_INFINITY => out.extend_from_slice(b"-1e400"),
                // The debug form always has a fraction or an exponent, and as few digits as are exact.
                value => put(out, format_args!("{value:?}")),
            }
        }
        ValueRef::String(value) => {
            open(out, "string");
            write_string(out, value);
        }
        ValueRef::Address(value) => {
            open(out, "address");
            put(out, format_args!("\"{value}\""));
        }
        ValueRef::Subnet(value) => {
            open(out, "subnet");
            put(out, format_args!("\"{value}\""));
        }
        ValueRef::Port(value) => {
            open(out, "port");
            out.push(b'"');
            scalar::write_port(out, value);
            out.push(b'"');
        }
        ValueRef::Timestamp(value) => {
            open(out, "timestamp");
            out.push(b'"');
            scalar::write_timestamp(out, value);
            out.push(b'"');
        }
        ValueRef::Timespan(value) => {
            open(out, "timespan");
            put(out, format_args!("\"{value}\""));
        }
        ValueRef::Enum(value) => {
            open(out, "enum-value");
            write_string(out, value.as_bytes());
        }
        ValueRef::Set(set) => {
            open(out, "set");
            write_array(out, set.iter(), |out, element| write(out, element));
        }
        ValueRef::Vector(vector) => {
            open(out, "vector");
            write_array(out, vector.iter(), |out, element| write(out, element));
        }
        ValueRef::Table(table) => {
            open(out, "table");
            write_array(out, table.iter(), |out, (key, value)| {
                out.extend_from_slice(br#"{"key":"#);
                write(out, key);
                out.extend_from_slice(br#","value":"#);
                write(out, value);
                out.push(b'}');
            });
        }
    }
}

fn write_array<T>(
    out: &mut Vec<u8>,
    elements: impl Iterator<Item = T>,
    mut element: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (index, value) in elements.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        element(out, value);
    }
    out.push(b']');
}
