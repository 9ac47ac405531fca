//! Binary encoding, version 1: a tag byte, then the body, numbers big-endian.
//!
//! The functions write single values of a given kind; [`Encode`] is implemented on top of them.

mod containers;
mod values;

pub use containers::{set, table};

use crate::kind::Kind;
use crate::{Address, Data, DataRef, Port, Subnet, Timespan, Timestamp, real};

/// Types that have an encoded form.
///
/// An implementation appends exactly one value.
pub trait Encode {
    /// Appends the encoded value.
    fn encode(&self, out: &mut Vec<u8>);
}

/// Returns the encoded form of a value.
pub fn encode_to_vec(value: &(impl Encode + ?Sized)) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    value.encode(&mut out);
    out
}

/// Returns anything that can be encoded as an owned value.
pub fn to_data(value: &(impl Encode + ?Sized)) -> Data {
    DataRef::from_validated(&encode_to_vec(value)).to_data()
}

/// Appends a length: seven bits per byte, least significant first.
#[inline]
pub fn put_varbyte(out: &mut Vec<u8>, length: u32) {
    if length < 0x80 {
        out.push(low_byte(length));
    } else {
        put_long_varbyte(out, length);
    }
}

#[cold]
fn put_long_varbyte(out: &mut Vec<u8>, mut length: u32) {
    while length >= 0x80 {
        out.push(low_byte(length) | 0x80);
        length >>= 7;
    }
    out.push(low_byte(length));
}

#[inline]
fn low_byte(number: u32) -> u8 {
    number.to_le_bytes()[0]
}

/// Length as far as the encoding can express it.
#[inline]
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Appends a tag and a body of eight bytes.
#[inline]
fn eight(out: &mut Vec<u8>, kind: Kind, body: [u8; 8]) {
    let mut bytes = [kind.tag(); 9];
    bytes[1..].copy_from_slice(&body);
    out.extend_from_slice(&bytes);
}

/// Appends none.
#[inline]
pub fn none(out: &mut Vec<u8>) {
    out.push(Kind::None.tag());
}

/// Appends a boolean.
#[inline]
pub fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(&[Kind::Boolean.tag(), value.into()]);
}

/// Appends a count.
#[inline]
pub fn count(out: &mut Vec<u8>, value: u64) {
    eight(out, Kind::Count, value.to_be_bytes());
}

/// Appends an integer.
#[inline]
pub fn integer(out: &mut Vec<u8>, value: i64) {
    eight(out, Kind::Integer, value.to_be_bytes());
}

/// Appends a real. Subnormal numbers become zero, because C++ peers cannot read them.
#[inline]
pub fn real(out: &mut Vec<u8>, value: f64) {
    eight(out, Kind::Real, real::to_wire(value).to_be_bytes());
}

#[inline]
fn sized(out: &mut Vec<u8>, kind: Kind, bytes: &[u8]) {
    let length = length(bytes.len());
    if length < 0x80 {
        out.extend_from_slice(&[kind.tag(), low_byte(length)]);
    } else {
        out.push(kind.tag());
        put_long_varbyte(out, length);
    }
    out.extend_from_slice(&bytes[..length as usize]);
}

/// Appends a string. The encoding holds at most 4 GiB; of a longer string only the beginning is
/// kept.
#[inline]
pub fn string(out: &mut Vec<u8>, value: &[u8]) {
    sized(out, Kind::String, value);
}

/// Appends an enum value with this name.
#[inline]
pub fn enum_value(out: &mut Vec<u8>, name: &[u8]) {
    sized(out, Kind::Enum, name);
}

/// Appends an address.
#[inline]
pub fn address(out: &mut Vec<u8>, value: &Address) {
    let mut bytes = [Kind::Address.tag(); 17];
    bytes[1..].copy_from_slice(value.as_bytes());
    out.extend_from_slice(&bytes);
}

/// Appends a subnet.
#[inline]
pub fn subnet(out: &mut Vec<u8>, value: &Subnet) {
    let mut bytes = [Kind::Subnet.tag(); 18];
    bytes[1..17].copy_from_slice(value.address().as_bytes());
    bytes[17] = value.wire_length();
    out.extend_from_slice(&bytes);
}

/// Appends a port.
#[inline]
pub fn port(out: &mut Vec<u8>, value: Port) {
    let [high, low] = value.number.to_be_bytes();
    out.extend_from_slice(&[Kind::Port.tag(), high, low, value.protocol as u8]);
}

/// Appends a timestamp.
#[inline]
pub fn timestamp(out: &mut Vec<u8>, value: Timestamp) {
    eight(out, Kind::Timestamp, value.as_nanos().to_be_bytes());
}

/// Appends a timespan.
#[inline]
pub fn timespan(out: &mut Vec<u8>, value: Timespan) {
    eight(out, Kind::Timespan, value.as_nanos().to_be_bytes());
}

/// Appends the beginning of a vector. This many values must follow.
#[inline]
pub fn vector_header(out: &mut Vec<u8>, elements: usize) {
    container_header(out, Kind::Vector, elements);
}

/// Appends the beginning of a set. This many values must follow, all different; [`set`] takes care
/// of that.
#[inline]
pub fn set_header(out: &mut Vec<u8>, elements: usize) {
    container_header(out, Kind::Set, elements);
}

/// Appends the beginning of a table. This many pairs of a key and a value must follow, all keys
/// different; [`table`] takes care of that.
#[inline]
pub fn table_header(out: &mut Vec<u8>, entries: usize) {
    container_header(out, Kind::Table, entries);
}

#[inline]
fn container_header(out: &mut Vec<u8>, kind: Kind, entries: usize) {
    let length = length(entries);
    if length < 0x80 {
        out.extend_from_slice(&[kind.tag(), low_byte(length)]);
    } else {
        out.push(kind.tag());
        put_long_varbyte(out, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let cases: [(u32, &[u8]); 6] = [
            (5, &[0x05]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (200, &[0xc8, 0x01]),
            (65536, &[0x80, 0x80, 0x04]),
            (u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (length, bytes) in cases {
            let mut out = Vec::new();
            put_varbyte(&mut out, length);
            assert_eq!(out, bytes);
        }
    }
}
