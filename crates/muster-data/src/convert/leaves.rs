//! Reading of single values.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{ConvertError, ConvertErrorKind, Decode};
use crate::{
    Address, Data, DataRef, EnumRef, EnumValue, Kind, Port, Subnet, Timespan, Timestamp, body,
};

macro_rules! decode {
    ($($target:ty, $kind:ident => $read:expr;)*) => {$(
        impl<'a> Decode<'a> for $target {
            #[inline]
            fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
                match value.body(Kind::$kind) {
                    Some(body) => Ok($read(body)),
                    None => Err(ConvertError::wrong_type(Kind::$kind.word(), value)),
                }
            }
        }
    )*};
}

decode! {
    bool, Boolean => body::boolean;
    u64, Count => body::count;
    i64, Integer => body::integer;
    f64, Real => body::real;
    &'a [u8], String => body::string;
    Vec<u8>, String => |body| body::string(body).to_vec();
    Address, Address => body::address;
    IpAddr, Address => |body| body::address(body).to_ip();
    Subnet, Subnet => body::subnet;
    Port, Port => body::port;
    Timestamp, Timestamp => body::timestamp;
    Timespan, Timespan => body::timespan;
    EnumRef<'a>, Enum => body::enum_name;
    EnumValue, Enum => |body| body::enum_name(body).to_value();
}

macro_rules! decode_narrow {
    ($($target:ty, $wide:ty, $expected:literal, |$value:ident| $result:expr;)*) => {$(
        impl<'a> Decode<'a> for $target {
            fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
                let $value = <$wide>::decode(value)?;
                $result.map_err(|_| out_of_range($expected, value))
            }
        }
    )*};
}

fn out_of_range(expected: &'static str, value: DataRef<'_>) -> ConvertError {
    ConvertError::new(ConvertErrorKind::OutOfRange, expected, value)
}

decode_narrow! {
    u32, u64, "count of 32 bits", |number| Self::try_from(number);
    u16, u64, "count of 16 bits", |number| Self::try_from(number);
    i32, i64, "int of 32 bits", |number| Self::try_from(number);
    Duration, Timespan, "interval that is not negative", |span| Self::try_from(span);
    Ipv4Addr, IpAddr, "IPv4 addr", |address| match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(()),
    };
    Ipv6Addr, IpAddr, "IPv6 addr", |address| match address {
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
