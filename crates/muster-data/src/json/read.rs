//! Reading of JSON. A visitor knows the type before it meets the content, so that nothing is
//! buffered if the type comes first.

mod content;
mod data_type;
mod reading;

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use content::Content;
use data_type::DataType;
use reading::{Reading, quoted};

use super::error::{JsonError, JsonErrorKind};
use super::repair::repair;
use crate::{Data, Limits};

/// A data message: a value with its topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The topic; `None` if the message names none, or something other than a string.
    pub topic: Option<String>,
    /// The value.
    pub data: Data,
}

/// Reads a value: an object with its type and its content.
///
/// # Errors
///
/// Fails if the text is not JSON, not a value, or over a limit.
pub fn read(text: &[u8], limits: &Limits) -> Result<Data, JsonError> {
    read_message(text, limits).map(|message| message.data)
}

/// Reads a data message: an object with a topic, the type of a value and its content. As in C++, a
/// `type` beside them is ignored.
///
/// # Errors
///
/// Fails if the text is not JSON, not a message, or over a limit.
pub fn read_message(text: &[u8], limits: &Limits) -> Result<Message, JsonError> {
    if text.len() > limits.bytes {
        let problem = format!("{} bytes of text, at most {}", text.len(), limits.bytes);
        return Err(JsonError::new(
            JsonErrorKind::TooLarge,
            String::new(),
            problem,
        ));
    }
    match attempt(text, limits) {
        Err(error) if error.kind() == JsonErrorKind::Malformed => attempt(&repair(text), limits)
            .map_err(|second| match second.kind() {
                JsonErrorKind::Malformed => error,
                _ => second,
            }),
        result => result,
    }
}

fn attempt(text: &[u8], limits: &Limits) -> Result<Message, JsonError> {
    let reading = Reading {
        elements: Cell::new(limits.elements),
        problem: Cell::new(None),
        path: RefCell::default(),
    };
    let seed = Object {
        reading: &reading,
        depth: limits.effective_depth(),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    // Depth is limited by the seeds, and what they pass over is not read recursively.
    deserializer.disable_recursion_limit();
    seed.deserialize(&mut deserializer)
        .and_then(|message| deserializer.end().map(|()| message))
        .map_err(|error| reading.error(&error))
}

/// The names of an object's fields.
#[derive(Clone, Copy)]
enum Name {
    DataType,
    Data,
    Topic,
    Key,
    Value,
    Other,
}

impl Name {
    fn of(name: &str) -> Self {
        match name {
            "@data-type" => Self::DataType,
            "data" => Self::Data,
            "topic" => Self::Topic,
            "key" => Self::Key,
            "value" => Self::Value,
            _ => Self::Other,
        }
    }
}

/// Reads a string as what a function makes of it, without a copy.
struct Word<F>(F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for Word<F> {
    type Value = T;

    fn deserialize<D: serde::Deserializer<'de>>(self, source: D) -> Result<T, D::Error> {
        source.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for Word<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(text))
    }
}

/// Reads an object that holds a value, and perhaps a topic.
struct Object<'r> {
    reading: &'r Reading,
    /// Levels of containers that the value may have.
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Message;

    fn deserialize<D: serde::Deserializer<'de>>(self, source: D) -> Result<Message, D::Error> {
        source.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Message;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with @data-type and data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
        let Self { reading, depth } = self;
        let mut topic = None;
        let mut data_type = None;
        let mut data = None;
        let mut early: Option<&RawValue> = None;
        while let Some(name) = map.next_key_seed(Word(Name::of))? {
            match name {
                Name::DataType => {
                    let known = map.next_value_seed(Word(|name: &str| {
                        DataType::from_name(name).ok_or_else(|| quoted(name))
                    }))?;
                    data_type = Some(known.map_err(|name| {
                        let problem = format!("unknown @data-type `{name}`");
                        reading.fail::<A::Error>(JsonErrorKind::WrongType, problem)
                    })?);
                }
                Name::Data => match data_type {
                    Some(data_type) => {
                        data = Some(map.next_value_seed(Content {
                            reading,
                            data_type,
                            depth,
                        })?);
                    }
                    None => early = Some(map.next_value()?),
                },
                Name::Topic => topic = map.next_value_seed(OptionalText)?,
                Name::Key | Name::Value | Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let Some(data_type) = data_type else {
            return Err(reading.fail(JsonErrorKind::WrongType, "missing @data-type"));
        };
        if let Some(raw) = early {
            let mut source = serde_json::Deserializer::from_str(raw.get());
            source.disable_recursion_limit();
            let content = Content {
                reading,
                data_type,
                depth,
            };
            data = Some(content.deserialize(&mut source).map_err(|error| {
                let kind = match reading.problem.get() {
                    Some(kind) => kind,
                    None if error.is_data() => JsonErrorKind::WrongType,
                    None => JsonErrorKind::Malformed,
                };
                reading.fail::<A::Error>(kind, error)
            })?);
        }
        let data = match (data, data_type) {
            (Some(data), _) => data,
            (None, DataType::None) => Data::None,
            (None, _) => return Err(reading.fail(JsonErrorKind::WrongType, "missing data")),
        };
        Ok(Message { topic, data })
    }
}

/// Reads a string, or passes over anything else.
struct OptionalText;

impl<'de> DeserializeSeed<'de> for OptionalText {
    type Value = Option<String>;

    fn deserialize<D: serde::Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        let raw = <&RawValue as serde::Deserialize>::deserialize(source)?;
        Ok(serde_json::from_str(raw.get()).ok())
    }
}
