//! Reading of options, containers and tuples.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

use super::{ConvertError, Decode};
use crate::{DataRef, FieldReader, Kind, Set, SetRef, Table, TableRef, VectorRef};

/// Most elements that room is made for before the first one has been read.
const RESERVED: usize = 1024;

fn vector(value: DataRef<'_>) -> Result<VectorRef<'_>, ConvertError> {
    value
        .as_vector()
        .ok_or_else(|| ConvertError::wrong_type(Kind::Vector.word(), value))
}

fn set(value: DataRef<'_>) -> Result<SetRef<'_>, ConvertError> {
    value
        .as_set()
        .ok_or_else(|| ConvertError::wrong_type(Kind::Set.word(), value))
}

fn table(value: DataRef<'_>) -> Result<TableRef<'_>, ConvertError> {
    value
        .as_table()
        .ok_or_else(|| ConvertError::wrong_type(Kind::Table.word(), value))
}

/// Reads the elements one by one; an error names the position.
fn elements<'a, T: Decode<'a>>(
    values: impl Iterator<Item = DataRef<'a>>,
) -> impl Iterator<Item = Result<T, ConvertError>> {
    values
        .enumerate()
        .map(|(index, value)| T::decode(value).map_err(|error| error.in_element(index)))
}

/// Reads the entries one by one; an error names the key.
fn entries<'a, K: Decode<'a>, V: Decode<'a>>(
    table: TableRef<'a>,
) -> impl Iterator<Item = Result<(K, V), ConvertError>> {
    table.iter().map(|(key, value)| {
        let entry = || Ok((K::decode(key)?, V::decode(value)?));
        entry().map_err(|error: ConvertError| error.in_element(key))
    })
}

impl<'a, T: Decode<'a>> Decode<'a> for Option<T> {
    #[inline]
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        if value.is_none() {
            Ok(None)
        } else {
            T::decode(value).map(Some)
        }
    }

    fn missing() -> Option<Self> {
        Some(None)
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Box<T> {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        T::decode(value).map(Self::new)
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Vec<T> {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        let vector = vector(value)?;
        // A large element type must not turn a short message into a huge reservation.
        let mut result = Self::with_capacity(vector.len().min(RESERVED));
        for element in elements(vector.iter()) {
            result.push(element?);
        }
        Ok(result)
    }
}

impl<'a, T: Decode<'a> + Ord> Decode<'a> for BTreeSet<T> {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        elements(set(value)?.iter()).collect()
    }
}

impl<'a, T: Decode<'a> + Eq + Hash, S: BuildHasher + Default> Decode<'a> for HashSet<T, S> {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        elements(set(value)?.iter()).collect()
    }
}

impl<'a, K: Decode<'a> + Ord, V: Decode<'a>> Decode<'a> for BTreeMap<K, V> {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        entries(table(value)?).collect()
    }
}

impl<'a, K, V, S> Decode<'a> for HashMap<K, V, S>
where
    K: Decode<'a> + Eq + Hash,
    V: Decode<'a>,
    S: BuildHasher + Default,
{
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        entries(table(value)?).collect()
    }
}

impl<'a> Decode<'a> for Set {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        Ok(set(value)?.iter().collect())
    }
}

impl<'a> Decode<'a> for Table {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        Ok(table(value)?.iter().collect())
    }
}

impl<'a> Decode<'a> for VectorRef<'a> {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        vector(value)
    }
}

impl<'a> Decode<'a> for SetRef<'a> {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        set(value)
    }
}

impl<'a> Decode<'a> for TableRef<'a> {
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
        table(value)
    }
}

macro_rules! decode_tuple {
    ($($name:ident $index:literal),*) => {
        impl<'a, $($name: Decode<'a>),*> Decode<'a> for ($($name,)*) {
            #[allow(unused_mut, unused_variables, clippy::unused_unit,
                reason = "the empty tuple has nothing to read")]
            fn decode(value: DataRef<'a>) -> Result<Self, ConvertError> {
                let mut fields = FieldReader::tuple(value)?;
                Ok(($(fields.next::<$name>($index)?,)*))
            }
        }
    };
}

decode_tuple!();
decode_tuple!(A "0");
decode_tuple!(A "0", B "1");
decode_tuple!(A "0", B "1", C "2");
decode_tuple!(A "0", B "1", C "2", D "3");
decode_tuple!(A "0", B "1", C "2", D "3", E "4");
decode_tuple!(A "0", B "1", C "2", D "3", E "4", F "5");
decode_tuple!(A "0", B "1", C "2", D "3", E "4", F "5", G "6");
decode_tuple!(A "0", B "1", C "2", D "3", E "4", F "5", G "6", H "7");
