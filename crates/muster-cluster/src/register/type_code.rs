//! Types as values, for definitions that are read by programs which do not know the type.

use std::borrow::Cow;
use std::sync::Arc;

use muster_data::{Data, Field, RecordType, Type};

/// How deep a type that is read may be.
const DEEPEST: usize = 16;

/// Returns a type as a value: a word for a plain one, otherwise a word and the types that it is made of.
pub(super) fn to_data(ty: &Type) -> Data {
    let with = |word: &str, parts: Vec<Data>| {
        Data::vector(std::iter::once(Data::string(word)).chain(parts))
    };
    match ty {
        Type::Set(of) => with("set", vec![to_data(of)]),
        Type::Vector(of) => with("vector", vec![to_data(of)]),
        Type::Optional(of) => with("optional", vec![to_data(of)]),
        Type::Table(key, value) => with("table", vec![to_data(key), to_data(value)]),
        Type::Record(record) => {
            let fields = record.fields.iter().map(|field| {
                Data::vector([Data::string(field.name.as_bytes()), to_data(&field.ty)])
            });
            let name = Data::string(record.name.as_bytes());
            with("record", std::iter::once(name).chain(fields).collect())
        }
        plain => Data::string(plain.to_string()),
    }
}

/// Returns the type that a value stands for, or `None` if it is none that this version knows.
pub(super) fn from_data(data: &Data) -> Option<Type> {
    read(data, DEEPEST)
}

fn read(data: &Data, deepest: usize) -> Option<Type> {
    let deepest = deepest.checked_sub(1)?;
    if let Some(word) = data.as_str() {
        return plain(word);
    }
    let (word, parts) = data.as_vector()?.split_first()?;
    let boxed = |part: &Data| read(part, deepest).map(Box::new);
    Some(match (word.as_str()?, parts) {
        ("set", [of]) => Type::Set(boxed(of)?),
        ("vector", [of]) => Type::Vector(boxed(of)?),
        ("optional", [of]) => Type::Optional(boxed(of)?),
        ("table", [key, value]) => Type::Table(boxed(key)?, boxed(value)?),
        ("record", [name, fields @ ..]) => {
            let field = |field: &Data| match field.as_vector()? {
                [name, ty] => Some(Field {
                    name: Cow::Owned(name.as_str()?.to_owned()),
                    ty: read(ty, deepest)?,
                }),
                _ => None,
            };
            Type::Record(Arc::new(RecordType {
                name: Cow::Owned(name.as_str()?.to_owned()),
                fields: fields.iter().map(field).collect::<Option<_>>()?,
            }))
        }
        _ => return None,
    })
}

fn plain(word: &str) -> Option<Type> {
    let known = [
        Type::Any,
        Type::None,
        Type::Boolean,
        Type::Count,
        Type::Integer,
        Type::Real,
        Type::String,
        Type::Address,
        Type::Subnet,
        Type::Port,
        Type::Timestamp,
        Type::Timespan,
        Type::Enum,
    ];
    known.into_iter().find(|ty| ty.to_string() == word)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use muster_data::{Address, Port, Subnet, Timespan, Typed};

    use super::*;

    #[test]
    fn types_are_read_as_they_were_written() {
        for ty in [
            bool::data_type(),
            u64::data_type(),
            Vec::<Subnet>::data_type(),
            BTreeMap::<Address, BTreeSet<Port>>::data_type(),
            Option::<Timespan>::data_type(),
            <(u64, String)>::data_type(),
            Type::record("Test::record", [("a", Type::Any), ("b", Type::None)]),
        ] {
            assert_eq!(from_data(&to_data(&ty)), Some(ty));
        }
    }

    #[test]
    fn what_is_no_type_is_refused() {
        let mut deep = Data::string("count");
        for _ in 0..DEEPEST {
            deep = Data::vector([Data::string("vector"), deep]);
        }
        for data in [
            Data::Count(1),
            Data::string("complex"),
            Data::vector::<Data>([]),
            Data::vector([Data::string("vector")]),
            Data::vector([Data::string("record"), Data::string("r"), Data::string("f")]),
            deep,
        ] {
            assert_eq!(from_data(&data), None, "{data}");
        }
    }
}
