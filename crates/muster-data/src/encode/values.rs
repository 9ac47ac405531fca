//! Encoding of values and of Rust types.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{
    Encode, address, boolean, count, enum_value, integer, length, none, port, real, set,
    set_header, string, subnet, table, table_header, timespan, timestamp, vector_header,
};
use crate::{
    Address, Data, DataRef, EnumRef, EnumValue, Port, Set, Subnet, Table, Timespan, Timestamp,
};

macro_rules! encode {
    ($($source:ty => |$value:ident, $out:ident| $body:expr;)*) => {$(
        impl Encode for $source {
            #[inline]
            fn encode(&self, $out: &mut Vec<u8>) {
                let $value = self;
                $body;
            }
        }
    )*};
}

encode! {
    bool => |value, out| boolean(out, *value);
    u64 => |value, out| count(out, *value);
    u32 => |value, out| count(out, (*value).into());
    u16 => |value, out| count(out, (*value).into());
    i64 => |value, out| integer(out, *value);
    i32 => |value, out| integer(out, (*value).into());
    f64 => |value, out| real(out, *value);
    str => |value, out| string(out, value.as_bytes());
    String => |value, out| string(out, value.as_bytes());
    [u8] => |value, out| string(out, value);
    Address => |value, out| address(out, value);
    IpAddr => |value, out| address(out, &(*value).into());
    Ipv4Addr => |value, out| address(out, &(*value).into());
    Ipv6Addr => |value, out| address(out, &(*value).into());
    Subnet => |value, out| subnet(out, value);
    Port => |value, out| port(out, *value);
    Timestamp => |value, out| timestamp(out, *value);
    Timespan => |value, out| timespan(out, *value);
    Duration => |value, out| timespan(out, (*value).into());
    EnumValue => |value, out| enum_value(out, value.as_bytes());
    EnumRef<'_> => |value, out| enum_value(out, value.as_bytes());
    // These are sorted and free of duplicates already.
    Set => |value, out| {
        set_header(out, value.len());
        all(value.as_slice(), out);
    };
    Table => |value, out| {
        table_header(out, value.len());
        for (key, value) in value {
            key.encode(out);
            value.encode(out);
        }
    };
    DataRef<'_> => |value, out| {
        // A view of no bytes reads as none.
        if value.bytes().is_empty() { none(out) } else { out.extend_from_slice(value.bytes()) }
    };
}

impl Encode for Data {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => none(out),
            Self::Boolean(value) => boolean(out, *value),
            Self::Count(value) => count(out, *value),
            Self::Integer(value) => integer(out, *value),
            Self::Real(value) => real(out, *value),
            Self::String(value) => string(out, value),
            Self::Address(value) => address(out, value),
            Self::Subnet(value) => subnet(out, value),
            Self::Port(value) => port(out, *value),
            Self::Timestamp(value) => timestamp(out, *value),
            Self::Timespan(value) => timespan(out, *value),
            Self::Enum(value) => enum_value(out, value.as_bytes()),
            Self::Set(value) => value.encode(out),
            Self::Table(value) => value.encode(out),
            Self::Vector(value) => value.encode(out),
        }
    }
}

fn all<T: Encode>(values: &[T], out: &mut Vec<u8>) {
    for value in values {
        value.encode(out);
    }
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, out: &mut Vec<u8>) {
        let count = length(self.len()) as usize;
        vector_header(out, count);
        all(&self[..count], out);
    }
}

impl<T, const N: usize> Encode for [T; N]
where
    [T]: Encode,
{
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

impl<T> Encode for Vec<T>
where
    [T]: Encode,
{
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

impl<T: Encode + ?Sized> Encode for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode(self, out);
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode(self, out);
    }
}

impl<T: Encode + ToOwned + ?Sized> Encode for Cow<'_, T> {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode(self, out);
    }
}

impl<T: Encode> Encode for Option<T> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.encode(out),
            None => none(out),
        }
    }
}

impl<T: Encode> Encode for BTreeSet<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        set(out, self.iter());
    }
}

impl<T: Encode, S> Encode for HashSet<T, S> {
    fn encode(&self, out: &mut Vec<u8>) {
        set(out, self.iter());
    }
}

impl<K: Encode, V: Encode> Encode for BTreeMap<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        table(out, self.iter());
    }
}

impl<K: Encode, V: Encode, S> Encode for HashMap<K, V, S> {
    fn encode(&self, out: &mut Vec<u8>) {
        table(out, self.iter());
    }
}

macro_rules! encode_tuple {
    ($count:literal: $($name:ident $index:tt),*) => {
        impl<$($name: Encode),*> Encode for ($($name,)*) {
            fn encode(&self, out: &mut Vec<u8>) {
                vector_header(out, $count);
                $(self.$index.encode(out);)*
            }
        }
    };
}

encode_tuple!(0:);
encode_tuple!(1: A 0);
encode_tuple!(2: A 0, B 1);
encode_tuple!(3: A 0, B 1, C 2);
encode_tuple!(4: A 0, B 1, C 2, D 3);
encode_tuple!(5: A 0, B 1, C 2, D 3, E 4);
encode_tuple!(6: A 0, B 1, C 2, D 3, E 4, F 5);
encode_tuple!(7: A 0, B 1, C 2, D 3, E 4, F 5, G 6);
encode_tuple!(8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
