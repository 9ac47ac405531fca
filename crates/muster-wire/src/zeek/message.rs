//! All kinds of Zeek's messages, and batches of them.

use std::fmt;

use muster_data::{DataRef, VectorIter, VectorRef, encode};

use super::{EventRef, LogCreate, LogWrite};

/// The version of Zeek's message format.
pub(super) const FORMAT: u64 = 1;

pub(super) const EVENT: u64 = 1;
pub(super) const LOG_CREATE: u64 = 2;
pub(super) const LOG_WRITE: u64 = 3;
const IDENTIFIER_UPDATE: u64 = 4;
const BATCH: u64 = 5;

/// How deep batches may be nested in one another. Zeek's batches hold single messages only.
pub const MOST_NESTED_BATCHES: u32 = 8;

/// One of Zeek's messages, borrowed and not yet converted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Message<'a> {
    /// An event.
    Event(EventRef<'a>),
    /// The description of a log stream and of its records.
    LogCreate(LogCreate<'a>),
    /// A log record.
    LogWrite(LogWrite<'a>),
    /// A new value of a global variable.
    IdentifierUpdate(IdentifierUpdate<'a>),
    /// Several messages, all of them well-formed.
    Batch(Batch<'a>),
}

/// A new value of a global variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentifierUpdate<'a> {
    /// The variable, such as `TT::myid`.
    pub name: &'a str,
    /// The value.
    pub value: DataRef<'a>,
}

/// Several messages sent as one.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a>(VectorRef<'a>);

/// An iterator over the messages of a batch.
#[derive(Debug, Clone)]
pub struct BatchIter<'a>(VectorIter<'a>);

/// Why a value is not one of Zeek's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageError {
    kind: MessageErrorKind,
    /// The position in the outermost batch.
    element: Option<usize>,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageErrorKind {
    /// The value is not a vector of format, type and content.
    NotAMessage,
    /// The message has another version of the format.
    UnknownFormat,
    /// The message has a type that does not exist.
    UnknownType(u64),
    /// The content of an event is not a name, arguments and perhaps metadata.
    Event,
    /// The description of a log is malformed, or names types that do not exist.
    LogCreate,
    /// The content of a log record is not a stream, a writer, a path and data.
    LogWrite,
    /// The content of a variable's update is not a name and a value.
    IdentifierUpdate,
    /// The content of a batch is not a vector.
    Batch,
    /// Batches are nested in one another more than [`MOST_NESTED_BATCHES`] deep.
    TooDeep,
}

impl<'a> Message<'a> {
    /// Reads a message. The data of log records is not looked at.
    ///
    /// # Errors
    ///
    /// Fails if the value is not a well-formed message. One malformed message makes a whole batch
    /// invalid, as in Zeek.
    pub fn read(value: DataRef<'a>) -> Result<Self, MessageError> {
        Self::read_nested(value, MOST_NESTED_BATCHES)
    }

    fn read_nested(value: DataRef<'a>, depth: u32) -> Result<Self, MessageError> {
        let message = Self::read_one(value)?;
        if let Self::Batch(batch) = &message {
            let depth = depth.checked_sub(1).ok_or(MessageErrorKind::TooDeep)?;
            for (element, value) in batch.0.iter().enumerate() {
                Self::read_nested(value, depth).map_err(|error| MessageError {
                    element: Some(element),
                    ..error
                })?;
            }
        }
        Ok(message)
    }

    /// Reads a message without looking into batches.
    fn read_one(value: DataRef<'a>) -> Result<Self, MessageErrorKind> {
        use MessageErrorKind as Kind;
        let mut message = value.as_vector().ok_or(Kind::NotAMessage)?.iter();
        let mut next = || message.next().ok_or(Kind::NotAMessage);
        let (format, kind, content) = (next()?, next()?, next()?);
        if format.as_count() != Some(FORMAT) {
            return Err(Kind::UnknownFormat);
        }
        let kind = kind.as_count().ok_or(Kind::NotAMessage)?;
        let content = content.as_vector();
        let or = |error| content.ok_or(error);
        match kind {
            EVENT => EventRef::read_content(or(Kind::Event)?)
                .map(Self::Event)
                .ok_or(Kind::Event),
            LOG_CREATE => LogCreate::read(or(Kind::LogCreate)?)
                .map(Self::LogCreate)
                .ok_or(Kind::LogCreate),
            LOG_WRITE => LogWrite::read(or(Kind::LogWrite)?)
                .map(Self::LogWrite)
                .ok_or(Kind::LogWrite),
            IDENTIFIER_UPDATE => IdentifierUpdate::read(or(Kind::IdentifierUpdate)?)
                .map(Self::IdentifierUpdate)
                .ok_or(Kind::IdentifierUpdate),
            BATCH => Ok(Self::Batch(Batch(or(Kind::Batch)?))),
            other => Err(Kind::UnknownType(other)),
        }
    }
}

impl<'a> IdentifierUpdate<'a> {
    fn read(content: VectorRef<'a>) -> Option<Self> {
        let mut content = content.iter();
        Some(Self {
            name: content.next()?.as_str()?,
            value: content.next()?,
        })
    }
}

impl<'a> Batch<'a> {
    /// Returns the number of messages. A nested batch counts as one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no messages.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the messages in order.
    pub fn iter(&self) -> BatchIter<'a> {
        BatchIter(self.0.iter())
    }

    /// Returns the messages in order, as encoded values.
    pub fn values(&self) -> VectorIter<'a> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for Batch<'a> {
    type Item = Message<'a>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Batch<'a> {
    type Item = Message<'a>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        // All of them were read before, when the batch was.
        Message::read_one(self.0.next()?).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for BatchIter<'_> {}

impl MessageError {
    /// Returns what is wrong.
    pub fn kind(&self) -> MessageErrorKind {
        self.kind
    }

    /// Returns the position of the malformed message, counted from 0, if it is part of a batch.
    pub fn element(&self) -> Option<usize> {
        self.element
    }
}

impl From<MessageErrorKind> for MessageError {
    fn from(kind: MessageErrorKind) -> Self {
        let element = None;
        Self { kind, element }
    }
}

impl fmt::Display for MessageErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAMessage => "not a Zeek message",
            Self::UnknownFormat => "unknown Zeek message format",
            Self::UnknownType(number) => {
                return write!(f, "unknown type of Zeek message: {number}");
            }
            Self::Event => "malformed event",
            Self::LogCreate => "malformed log_create",
            Self::LogWrite => "malformed log_write",
            Self::IdentifierUpdate => "malformed identifier_update",
            Self::Batch => "malformed batch",
            Self::TooDeep => "batches nested too deeply",
        })
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(element) = self.element {
            write!(f, "message {element} of a batch: ")?;
        }
        self.kind.fmt(f)
    }
}

impl std::error::Error for MessageError {}

/// Appends what comes before a message's content.
pub(super) fn put_header(out: &mut Vec<u8>, kind: u64) {
    encode::vector_header(out, 3);
    encode::count(out, FORMAT);
    encode::count(out, kind);
}

/// Appends a message that sets a global variable to the value that `value` appends.
pub fn put_identifier_update(out: &mut Vec<u8>, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    put_header(out, IDENTIFIER_UPDATE);
    encode::vector_header(out, 2);
    encode::string(out, name.as_bytes());
    value(out);
}

/// Appends a batch of `count` messages, which `messages` appends.
pub fn put_batch(out: &mut Vec<u8>, count: usize, messages: impl FnOnce(&mut Vec<u8>)) {
    put_header(out, BATCH);
    encode::vector_header(out, count);
    messages(out);
}
