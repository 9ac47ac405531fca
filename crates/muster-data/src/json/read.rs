//! Reading of JSON: a visitor that knows the type before it meets the content, so that nothing is
//! buffered as long as the type comes first.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{JsonError, JsonErrorKind};
use super::repair::repair;
use super::scalar;
use crate::{Data, EnumValue, Limits, Set, Table};

/// Longest piece of the input that an error quotes, in characters.
const QUOTED: usize = 40;

/// Longest description of a problem, in characters.
const LONGEST_PROBLEM: usize = 400;

/// Largest whole number up to which every one is a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A data message: a value with its topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The topic; absent if the message names none, or something else than a string.
    pub topic: Option<String>,
    /// The value.
    pub data: Data,
}

/// Reads a value: an object with its type and its content.
pub fn read(text: &[u8], limits: &Limits) -> Result<Data, JsonError> {
    read_message(text, limits).map(|message| message.data)
}

/// Reads a data message. Like C++, this looks at no `type` beside topic, type of the value and content.
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

/// What is shared by all parts of one text.
struct Reading {
    /// Elements that may still come.
    elements: Cell<u64>,
    /// What was found to be wrong besides the syntax.
    problem: Cell<Option<JsonErrorKind>>,
    /// Where the reader is; after an error, where it was.
    path: RefCell<Vec<Step>>,
}

#[derive(Clone, Copy)]
enum Step {
    Element(usize),
    Key,
    Value,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(index) => write!(f, "data[{index}]"),
            Self::Key => f.write_str("key"),
            Self::Value => f.write_str("value"),
        }
    }
}

impl Reading {
    fn fail<E: serde::de::Error>(&self, kind: JsonErrorKind, problem: impl fmt::Display) -> E {
        self.problem.set(Some(kind));
        E::custom(problem)
    }

    fn error(&self, error: &serde_json::Error) -> JsonError {
        let kind = match self.problem.get() {
            Some(kind) => kind,
            None if error.is_data() => JsonErrorKind::WrongType,
            None => JsonErrorKind::Malformed,
        };
        // What serde says of a wrong type quotes the input whole.
        let problem = beginning(&error.to_string(), LONGEST_PROBLEM);
        if kind == JsonErrorKind::Malformed {
            return JsonError::new(kind, String::new(), problem);
        }
        let steps: Vec<String> = self.path.borrow().iter().map(Step::to_string).collect();
        let path = steps.join(".");
        JsonError::new(kind, path, problem)
    }

    /// Reads a part of a value; after an error the path still leads there.
    fn within<T, E>(&self, step: Step, part: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.path.borrow_mut().push(step);
        let result = part();
        if result.is_ok() {
            self.path.borrow_mut().pop();
        }
        result
    }

    fn count_element<E: serde::de::Error>(&self) -> Result<(), E> {
        match self.elements.get().checked_sub(1) {
            Some(left) => {
                self.elements.set(left);
                Ok(())
            }
            None => Err(self.fail(JsonErrorKind::TooLarge, "too many elements")),
        }
    }
}

/// The types, by the names they have in JSON.
#[derive(Clone, Copy)]
enum DataType {
    None,
    Boolean,
    Count,
    Integer,
    Real,
    String,
    Address,
    Subnet,
    Port,
    Timestamp,
    Timespan,
    Enum,
    Set,
    Table,
    Vector,
}

impl DataType {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "boolean" => Self::Boolean,
            "count" => Self::Count,
            "integer" => Self::Integer,
            "real" => Self::Real,
            "string" => Self::String,
            "address" => Self::Address,
            "subnet" => Self::Subnet,
            "port" => Self::Port,
            "timestamp" => Self::Timestamp,
            "timespan" => Self::Timespan,
            "enum-value" | "enum_value" => Self::Enum,
            "set" => Self::Set,
            "table" => Self::Table,
            "vector" => Self::Vector,
            _ => return None,
        })
    }

    fn expected(self) -> &'static str {
        match self {
            Self::None => "anything",
            Self::Boolean => "a boolean: true or false",
            Self::Count => "a count: a number from 0 to 18446744073709551615",
            Self::Integer => {
                "an integer: a number from -9223372036854775808 to 9223372036854775807"
            }
            Self::Real => "a real: a number such as 1.5",
            Self::String => "a string",
            Self::Address => "an address such as \"10.0.0.1\" or \"2001:db8::1\"",
            Self::Subnet => "a subnet such as \"10.0.0.0/8\"",
            Self::Port => "a port such as \"80/tcp\"",
            Self::Timestamp => "a timestamp such as \"2026-01-02T03:04:05.678\"",
            Self::Timespan => "a timespan such as \"1500ms\" (ns, us, ms, s, min, h, d)",
            Self::Enum => "an enum value such as \"Notice::ACTION_LOG\"",
            Self::Set => "a set: an array of objects with @data-type and data",
            Self::Table => "a table: an array of objects with key and value",
            Self::Vector => "a vector: an array of objects with @data-type and data",
        }
    }
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

/// Reads the content of a value whose type is known.
#[derive(Clone, Copy)]
struct Content<'r> {
    reading: &'r Reading,
    data_type: DataType,
    depth: u32,
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

/// A piece of the input for an error to quote.
fn quoted(text: &str) -> String {
    beginning(text, QUOTED)
}

fn beginning(text: &str, most: usize) -> String {
    let mut beginning: String = text.chars().take(most).collect();
    if beginning.len() < text.len() {
        beginning.push_str("...");
    }
    beginning
}
