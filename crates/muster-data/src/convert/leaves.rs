//! Reading of single values.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{ConvertError, ConvertErrorKind, Decode};
use crate::{
    Address, Data, DataRef, EnumRef, EnumValue, Kind, Port, Subnet, Timespan, Timestamp, ValueRef,
};

macro_rules! decode {
    ($($target:ty, $kind:ident($value:ident) => $result:expr;)*) => {$(
        impl<'a> Decode<'a> for $target {
            #[inline]
            fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
                match value.get() {
                    ValueRef::$kind($value) => Ok($result),
                    _ => Err(ConvertError::wrong_type(Kind::$kind.word(), value)),
                }
            }
        }
    )*};
}

decode! {
    bool, Boolean(value) => value;
    u64, Count(value) => value;
    i64, Integer(value) => value;
    f64, Real(value) => value;
    &'a [u8], String(value) => value;
    Vec<u8>, String(value) => value.to_vec();
    Address, Address(value) => value;
    IpAddr, Address(value) => value.to_ip();
    Subnet, Subnet(value) => value;
    Port, Port(value) => value;
    Timestamp, Timestamp(value) => value;
    Timespan, Timespan(value) => value;
    EnumRef<'a>, Enum(value) => value;
    EnumValue, Enum(value) => value.to_value();
}

macro_rules! decode_narrow {
    ($($target:ty, $kind:ident, $expected:literal, |$value:ident| $result:expr;)*) => {$(
        impl<'a> Decode<'a> for $target {
            fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
                match value.get() {
                    ValueRef::$kind($value) => $result
                        .map_err(|_| out_of_range($expected, value)),
                    _ => Err(ConvertError::wrong_type($expected, value)),
                }
            }
        }
    )*};
}

fn out_of_range(expected: &'static str, value: DataRef<'_>) -> ConvertError {
    ConvertError::new(ConvertErrorKind::OutOfRange, expected, value)
}

decode_narrow! {
    u32, Count, "count of 32 bits", |value| Self::try_from(value);
    u16, Count, "count of 16 bits", |value| Self::try_from(value);
    i32, Integer, "int of 32 bits", |value| Self::try_from(value);
    Duration, Timespan, "interval that is not negative", |value| Self::try_from(value);
    Ipv4Addr, Address, "IPv4 addr", |value| match value.to_ip() {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(()),
    };
    Ipv6Addr, Address, "IPv6 addr", |value| match value.to_ip() {
        IpAddr::V6(address) => Ok(address),
        IpAddr::V4(_) => Err(()),
    };
}

impl<'a> Decode<'a> for &'a str {
    #[inline]
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        let bytes = <&[u8]>::decode(value)?;
        std::str::from_utf8(bytes)
            .map_err(|_| ConvertError::new(ConvertErrorKind::NotUtf8, Kind::String.word(), value))
    }
}

impl<'a> Decode<'a> for String {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        <&str>::decode(value).map(Self::from)
    }
}

impl<'a> Decode<'a> for Cow<'a, str> {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        <&str>::decode(value).map(Self::Borrowed)
    }
}

impl<'a> Decode<'a> for Data {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        Ok(value.to_data())
    }
}

impl<'a> Decode<'a> for DataRef<'a> {
    #[inline]
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        Ok(value)
    }
}
