//! Types at run time.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Address, ConvertError, Data, DataRef, EnumRef, EnumValue, Kind, Port, Set, Subnet, Table,
    Timespan, Timestamp, ValueRef, VectorRef,
};

/// A type of values that is known at run time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Every value.
    Any,
    /// None only.
    None,
    /// Booleans.
    Boolean,
    /// Counts.
    Count,
    /// Integers.
    Integer,
    /// Reals.
    Real,
    /// Strings.
    String,
    /// Addresses.
    Address,
    /// Subnets.
    Subnet,
    /// Ports.
    Port,
    /// Points in time.
    Timestamp,
    /// Lengths of time.
    Timespan,
    /// Enum values with any name.
    Enum,
    /// Sets whose elements have a type.
    Set(Box<Type>),
    /// Tables whose keys have one type and whose values have another.
    Table(Box<Type>, Box<Type>),
    /// Vectors whose elements have a type.
    Vector(Box<Type>),
    /// None, or a value of a type.
    Optional(Box<Type>),
    /// Vectors whose elements are the fields of a record.
    Record(Arc<RecordType>),
}

/// The type of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordType {
    /// The name, such as `Notice::Info`; empty for a tuple.
    pub name: Cow<'static, str>,
    /// The fields in order.
    pub fields: Vec<Field>,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The name.
    pub name: Cow<'static, str>,
    /// The type.
    pub ty: Type,
}

impl Type {
    /// Makes the type of a record from its name and fields.
    pub fn record<N: Into<Cow<'static, str>>>(
        name: impl Into<Cow<'static, str>>,
        fields: impl IntoIterator<Item = (N, Type)>,
    ) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, ty)| Field {
                name: name.into(),
                ty,
            })
            .collect();
        Self::Record(Arc::new(RecordType {
            name: name.into(),
            fields,
        }))
    }

    /// Makes the type of a tuple from the types of its values.
    pub fn tuple(types: impl IntoIterator<Item = Type>) -> Self {
        Self::record(
            "",
            types
                .into_iter()
                .enumerate()
                .map(|(index, ty)| (index.to_string(), ty)),
        )
    }

    /// Checks that a value is of this type, without building values.
    ///
    /// # Errors
    ///
    /// Fails if it is not; the error names the field at fault.
    pub fn check(&self, value: DataRef<'_>) -> Result<(), ConvertError> {
        match (self, value.get()) {
            (Self::Any, _) | (Self::Optional(_), ValueRef::None) => Ok(()),
            (Self::Optional(ty), _) => ty.check(value),
            (Self::Set(ty), ValueRef::Set(set)) => {
                set.iter().enumerate().try_for_each(|(index, element)| {
                    ty.check(element).map_err(|error| error.in_element(index))
                })
            }
            (Self::Vector(ty), ValueRef::Vector(vector)) => {
                vector.iter().enumerate().try_for_each(|(index, element)| {
                    ty.check(element).map_err(|error| error.in_element(index))
                })
            }
            (Self::Table(key_type, value_type), ValueRef::Table(table)) => {
                table.iter().try_for_each(|(key, value)| {
                    key_type
                        .check(key)
                        .and_then(|()| value_type.check(value))
                        .map_err(|error| error.in_element(key))
                })
            }
            (Self::Record(record), ValueRef::Vector(vector)) => record.check(vector),
            _ if self.kind() == Some(value.kind()) => Ok(()),
            _ => Err(ConvertError::wrong_type(self.to_string(), value)),
        }
    }

    /// Kind of the values, if the type is a single kind without further conditions.
    fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::None => Kind::None,
            Self::Boolean => Kind::Boolean,
            Self::Count => Kind::Count,
            Self::Integer => Kind::Integer,
            Self::Real => Kind::Real,
            Self::String => Kind::String,
            Self::Address => Kind::Address,
            Self::Subnet => Kind::Subnet,
            Self::Port => Kind::Port,
            Self::Timestamp => Kind::Timestamp,
            Self::Timespan => Kind::Timespan,
            Self::Enum => Kind::Enum,
            Self::Any
            | Self::Set(_)
            | Self::Table(..)
            | Self::Vector(_)
            | Self::Optional(_)
            | Self::Record(_) => return None,
        })
    }
}

impl RecordType {
    /// Whether the elements are the fields of this record.
    fn check(&self, vector: VectorRef<'_>) -> Result<(), ConvertError> {
        let mut elements = vector.iter();
        self.fields.iter().try_for_each(|field| {
            let result = match elements.next() {
                Some(element) => field.ty.check(element),
                None if matches!(field.ty, Type::Optional(_)) => Ok(()),
                None => Err(ConvertError::missing(field.ty.to_string(), vector.len())),
            };
            result.map_err(|error| {
                if self.name.is_empty() {
                    error.in_element(&field.name)
                } else {
                    error.in_field(self.name.clone(), &field.name)
                }
            })
        })
    }
}

impl fmt::Display for Type {
    /// As Zeek scripts write the type, such as `table[string] of count`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Set(ty) => write!(f, "set[{ty}]"),
            Self::Table(key, value) => write!(f, "table[{key}] of {value}"),
            Self::Vector(ty) => write!(f, "vector of {ty}"),
            Self::Optional(ty) => write!(f, "{ty} &optional"),
            Self::Record(record) => record.fmt(f),
            _ => f.write_str(self.kind().map_or("any", Kind::word)),
        }
    }
}

impl fmt::Display for RecordType {
    /// `record Name`; a tuple as the list of its types.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            return write!(f, "record {}", self.name);
        }
        f.write_str("(")?;
        for (index, field) in self.fields.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", field.ty)?;
        }
        f.write_str(")")
    }
}

/// Rust types with a corresponding [`Type`].
pub trait Typed {
    /// Returns the type of the values.
    fn data_type() -> Type;
}

macro_rules! typed {
    ($($ty:ty => $result:expr;)*) => {$(
        impl Typed for $ty {
            fn data_type() -> Type {
                $result
            }
        }
    )*};
}

typed! {
    Data => Type::Any;
    DataRef<'_> => Type::Any;
    bool => Type::Boolean;
    u64 => Type::Count;
    u32 => Type::Count;
    u16 => Type::Count;
    i64 => Type::Integer;
    i32 => Type::Integer;
    f64 => Type::Real;
    str => Type::String;
    String => Type::String;
    Cow<'_, str> => Type::String;
    [u8] => Type::String;
    Vec<u8> => Type::String;
    Address => Type::Address;
    IpAddr => Type::Address;
    Ipv4Addr => Type::Address;
    Ipv6Addr => Type::Address;
    Subnet => Type::Subnet;
    Port => Type::Port;
    Timestamp => Type::Timestamp;
    Timespan => Type::Timespan;
    Duration => Type::Timespan;
    EnumValue => Type::Enum;
    EnumRef<'_> => Type::Enum;
    Set => Type::Set(Box::new(Type::Any));
    Table => Type::Table(Box::new(Type::Any), Box::new(Type::Any));
}

impl<T: Typed + ?Sized> Typed for &T {
    fn data_type() -> Type {
        T::data_type()
    }
}

impl<T: Typed + ?Sized> Typed for Box<T> {
    fn data_type() -> Type {
        T::data_type()
    }
}

impl<T: Typed> Typed for Option<T> {
    fn data_type() -> Type {
        Type::Optional(Box::new(T::data_type()))
    }
}

impl<T: Typed> Typed for [T] {
    fn data_type() -> Type {
        Type::Vector(Box::new(T::data_type()))
    }
}

impl<T: Typed> Typed for Vec<T> {
    fn data_type() -> Type {
        Type::Vector(Box::new(T::data_type()))
    }
}

impl<T: Typed> Typed for BTreeSet<T> {
    fn data_type() -> Type {
        Type::Set(Box::new(T::data_type()))
    }
}

impl<T: Typed, S> Typed for HashSet<T, S> {
    fn data_type() -> Type {
        Type::Set(Box::new(T::data_type()))
    }
}

impl<K: Typed, V: Typed> Typed for BTreeMap<K, V> {
    fn data_type() -> Type {
        Type::Table(Box::new(K::data_type()), Box::new(V::data_type()))
    }
}

impl<K: Typed, V: Typed, S> Typed for HashMap<K, V, S> {
    fn data_type() -> Type {
        Type::Table(Box::new(K::data_type()), Box::new(V::data_type()))
    }
}

macro_rules! typed_tuple {
    ($($name:ident)*) => {
        impl<$($name: Typed),*> Typed for ($($name,)*) {
            fn data_type() -> Type {
                Type::tuple([$($name::data_type()),*])
            }
        }
    };
}

typed_tuple!();
typed_tuple!(A);
typed_tuple!(A B);
typed_tuple!(A B C);
typed_tuple!(A B C D);
typed_tuple!(A B C D E);
typed_tuple!(A B C D E F);
typed_tuple!(A B C D E F G);
typed_tuple!(A B C D E F G H);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode_to_vec;

    #[test]
    fn words_of_zeek() {
        let cases = [
            (u64::data_type(), "count"),
            (f64::data_type(), "double"),
            (<BTreeSet<Address>>::data_type(), "set[addr]"),
            (
                <BTreeMap<String, Vec<i64>>>::data_type(),
                "table[string] of vector of int",
            ),
            (<Option<Timespan>>::data_type(), "interval &optional"),
            (<(u64, &str)>::data_type(), "(count, string)"),
            (<&[u8]>::data_type(), "string"),
            (Type::record("Scan", [("port", Type::Port)]), "record Scan"),
        ];
        for (ty, text) in cases {
            assert_eq!(ty.to_string(), text);
        }
    }

    #[test]
    fn check_names_the_field() {
        let scan = Type::record("Scan", [("host", Type::Address), ("port", Type::Port)]);
        let list = Type::record("List", [("scans", Type::Vector(Box::new(scan)))]);
        let address = Address::from_bytes([1; 16]);
        let port = Port::tcp(80);
        let good = encode_to_vec(&(vec![(address, port)],));
        assert_eq!(list.check(DataRef::from_validated(&good)), Ok(()));
        let bad = encode_to_vec(&(vec![(address, 80u64)],));
        let error = list.check(DataRef::from_validated(&bad)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "List.scans[0].port: expected port, found count 80"
        );
        let short = encode_to_vec(&(vec![(address,)],));
        let error = list.check(DataRef::from_validated(&short)).unwrap_err();
        assert_eq!(error.path(), "List.scans[0].port");
    }
}
