//! Reading of the bodies of single values: what follows the tag.
//!
//! None of these can fail; of a body that is too short they read zeros.

use crate::cursor::{array, read_length};
use crate::{Address, EnumRef, Port, Protocol, Subnet, Timespan, Timestamp};

#[inline]
pub(crate) fn boolean(body: &[u8]) -> bool {
    array(body, 0) != [0]
}

#[inline]
pub(crate) fn count(body: &[u8]) -> u64 {
    u64::from_be_bytes(array(body, 0))
}

#[inline]
pub(crate) fn integer(body: &[u8]) -> i64 {
    i64::from_be_bytes(array(body, 0))
}

#[inline]
pub(crate) fn real(body: &[u8]) -> f64 {
    crate::real::from_wire(count(body))
}

#[inline]
pub(crate) fn string(body: &[u8]) -> &[u8] {
    let mut pos = 0;
    let Ok(length) = read_length(body, &mut pos) else {
        return &[];
    };
    let rest = &body[pos..];
    rest.get(..length as usize).unwrap_or(rest)
}

#[inline]
pub(crate) fn enum_name(body: &[u8]) -> EnumRef<'_> {
    EnumRef::new(string(body))
}

#[inline]
pub(crate) fn address(body: &[u8]) -> Address {
    Address::from_bytes(array(body, 0))
}

#[inline]
pub(crate) fn subnet(body: &[u8]) -> Subnet {
    let [length] = array(body, 16);
    Subnet::from_wire(address(body), length)
}

#[inline]
pub(crate) fn port(body: &[u8]) -> Port {
    let [protocol] = array(body, 2);
    Port {
        number: u16::from_be_bytes(array(body, 0)),
        protocol: Protocol::from_number(protocol).unwrap_or_default(),
    }
}

#[inline]
pub(crate) fn timestamp(body: &[u8]) -> Timestamp {
    Timestamp::from_nanos(integer(body))
}

#[inline]
pub(crate) fn timespan(body: &[u8]) -> Timespan {
    Timespan::from_nanos(integer(body))
}
