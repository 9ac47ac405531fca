//! The content of a value whose type is known, down to the elements of containers.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::data_type::DataType;
use super::reading::{Reading, Step, quoted};
use super::{Name, Object, Word};
use crate::json::error::JsonErrorKind;
use crate::json::scalar;
use crate::{Data, EnumValue, Set, Table};

/// Largest whole number up to which every one is a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads the content of a value whose type is known.
#[derive(Clone, Copy)]
pub(super) struct Content<'r> {
    pub(super) reading: &'r Reading,
    pub(super) data_type: DataType,
    pub(super) depth: u32,
}

impl Content<'_> {
    fn wrong<E: serde::de::Error>(self, found: impl fmt::Display) -> E {
        let expected = self.data_type.expected();
        let problem = format!("found {found}, expected {expected}");
        self.reading.fail(JsonErrorKind::WrongType, problem)
    }

    fn wrong_text<E: serde::de::Error>(self, text: &str) -> E {
        self.wrong(format_args!("\"{}\"", quoted(text)))
    }

    /// The seed of an element one level down.
    fn element<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(self
                .reading
                .fail(JsonErrorKind::TooDeep, "nested too deeply")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = Data;

    fn deserialize<D: serde::Deserializer<'de>>(self, source: D) -> Result<Data, D::Error> {
        if matches!(self.data_type, DataType::None) {
            // Anything goes; one text is told apart.
            let raw = <&RawValue as serde::Deserialize>::deserialize(source)?;
            return Ok(match raw.get() {
                r#""nan""# => Data::Real(f64::NAN),
                _ => Data::None,
            });
        }
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.data_type.expected())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Data, E> {
        match self.data_type {
            DataType::Boolean => Ok(Data::Boolean(value)),
            _ => Err(self.wrong(value)),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Data, E> {
        match self.data_type {
            DataType::Count => Ok(Data::Count(value)),
            DataType::Integer => i64::try_from(value)
                .map(Data::Integer)
                .map_err(|_| self.wrong(value)),
            #[allow(
                clippy::cast_precision_loss,
                reason = "the nearest double is what JSON means"
            )]
            DataType::Real => Ok(Data::Real(value as f64)),
            _ => Err(self.wrong(value)),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Data, E> {
        match self.data_type {
            DataType::Integer => Ok(Data::Integer(value)),
            #[allow(
                clippy::cast_precision_loss,
                reason = "the nearest double is what JSON means"
            )]
            DataType::Real => Ok(Data::Real(value as f64)),
            _ => Err(self.wrong(value)),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Data, E> {
        let is_whole = value.fract() == 0.0 && value.abs() <= EXACT;
        match self.data_type {
            DataType::Real => Ok(Data::Real(value)),
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole, and within the range"
            )]
            DataType::Count if is_whole && value >= 0.0 => Ok(Data::Count(value as u64)),
            #[allow(
                clippy::cast_possible_truncation,
                reason = "whole, and within the range"
            )]
            DataType::Integer if is_whole => Ok(Data::Integer(value as i64)),
            _ => Err(self.wrong(value)),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Data, E> {
        Err(self.wrong("null"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Data, E> {
        let data = match self.data_type {
            DataType::String => Some(Data::string(text)),
            DataType::Enum => Some(Data::Enum(EnumValue::new(text))),
            DataType::Count => text.parse().ok().map(Data::Count),
            DataType::Integer => text.parse().ok().map(Data::Integer),
            DataType::Real => text.parse().ok().map(Data::Real),
            DataType::Address => text.parse().ok().map(Data::Address),
            DataType::Subnet => scalar::read_subnet(text).map(Data::Subnet),
            DataType::Port => scalar::read_port(text).map(Data::Port),
            DataType::Timestamp => scalar::read_timestamp(text).map(Data::Timestamp),
            DataType::Timespan => scalar::read_timespan(text).map(Data::Timespan),
            DataType::None
            | DataType::Boolean
            | DataType::Set
            | DataType::Table
            | DataType::Vector => None,
        };
        data.ok_or_else(|| self.wrong_text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, _map: A) -> Result<Data, A::Error> {
        Err(self.wrong("an object"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Data, A::Error> {
        let reading = self.reading;
        match self.data_type {
            DataType::Table => {
                let inner = self.element()?;
                let mut entries = Vec::new();
                while let Some(entry) = reading.within(Step::Element(entries.len()), || {
                    elements.next_element_seed(Entry {
                        reading,
                        depth: inner.depth,
                    })
                })? {
                    entries.push(entry);
                }
                let length = entries.len();
                let table = Table::from(entries);
                if table.len() < length {
                    return Err(reading.fail(JsonErrorKind::Duplicate, "a key twice"));
                }
                Ok(Data::Table(table))
            }
            DataType::Set | DataType::Vector => {
                let inner = self.element()?;
                let mut values = Vec::new();
                while let Some(value) = reading.within(Step::Element(values.len()), || {
                    elements.next_element_seed(Element {
                        reading,
                        depth: inner.depth,
                    })
                })? {
                    values.push(value);
                }
                if matches!(self.data_type, DataType::Vector) {
                    return Ok(Data::from(values));
                }
                let length = values.len();
                let set = Set::from(values);
                if set.len() < length {
                    return Err(reading.fail(JsonErrorKind::Duplicate, "an element twice"));
                }
                Ok(Data::Set(set))
            }
            _ => Err(self.wrong("an array")),
        }
    }
}

/// Reads a value in a container.
struct Element<'r> {
    reading: &'r Reading,
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = Data;

    fn deserialize<D: serde::Deserializer<'de>>(self, source: D) -> Result<Data, D::Error> {
        self.reading.count_element()?;
        let object = Object {
            reading: self.reading,
            depth: self.depth,
        };
        object.deserialize(source).map(|message| message.data)
    }
}

/// Reads an entry of a table.
struct Entry<'r> {
    reading: &'r Reading,
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for Entry<'_> {
    type Value = (Data, Data);

    fn deserialize<D: serde::Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_> {
    type Value = (Data, Data);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with key and value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self { reading, depth } = self;
        let (mut key, mut value) = (None, None);
        while let Some(name) = map.next_key_seed(Word(Name::of))? {
            match name {
                Name::Key => {
                    let part = || map.next_value_seed(Element { reading, depth });
                    key = Some(reading.within(Step::Key, part)?);
                }
                Name::Value => {
                    let part = || map.next_value_seed(Element { reading, depth });
                    value = Some(reading.within(Step::Value, part)?);
                }
                Name::DataType | Name::Data | Name::Topic | Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (key, value) {
            (Some(key), Some(value)) => Ok((key, value)),
            (None, _) => Err(reading.fail(JsonErrorKind::WrongType, "an entry without key")),
            (_, None) => Err(reading.fail(JsonErrorKind::WrongType, "an entry without value")),
        }
    }
}
