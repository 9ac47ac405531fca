//! Zeek's events.

use muster_data::{DataRef, Kind, Timestamp, ValueRef, VectorRef, encode};

use super::message::{EVENT, FORMAT, put_header};

/// The metadata id of an event's network timestamp.
pub const NETWORK_TIMESTAMP: u64 = 1;

/// The metadata id of the publishing node's incarnation, which Muster's hello carries. Zeek ignores
/// ids from 200 on that nobody has registered.
pub const INCARNATION: u64 = 201;

/// The identifier of the metadata with a node's layout: [`LayoutFingerprint::layout`], a count.
pub const LAYOUT: u64 = 202;

/// The identifier of the metadata with a node's settings: [`LayoutFingerprint::settings`], a count.
pub const SETTINGS: u64 = 203;

/// The identifier of the metadata with what a node can do, which its hello carries: a count whose bits are
/// [`ACKNOWLEDGES_LOGS`], [`ANSWERS_REQUESTS`], [`OWNS_KEYS`] and those of later releases.
pub const FEATURES: u64 = 204;

/// The node is a logger that acknowledges batches of log records.
pub const ACKNOWLEDGES_LOGS: u64 = 1;

/// The node answers requests.
pub const ANSWERS_REQUESTS: u64 = 2;

/// The node handles events for the owners of keys, and has copies of their rows.
pub const OWNS_KEYS: u64 = 4;

/// An event as it was received: its name, arguments and metadata, borrowed and not yet converted.
#[derive(Debug, Clone, Copy)]
pub struct EventRef<'a> {
    name: &'a str,
    arguments: DataRef<'a>,
    metadata: Option<VectorRef<'a>>,
}

/// Why a value is not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// The value is not a vector of format, type and content.
    #[error("not a Zeek message")]
    NotAMessage,
    /// The message has another version of the format.
    #[error("unknown Zeek message format")]
    UnknownFormat,
    /// It is a message of another type, such as a log write or a batch.
    #[error("a Zeek message of type {0} is not an event")]
    NotAnEvent(u64),
    /// The content is not name, arguments and perhaps metadata.
    #[error("malformed event")]
    Malformed,
}

impl<'a> EventRef<'a> {
    /// Reads an event. Elements after the metadata are ignored, as in Zeek.
    ///
    /// # Errors
    ///
    /// Fails if the value is not a well-formed event. As in Zeek, each entry of the metadata must
    /// be a pair of an id and a value, and the network timestamp a timestamp.
    pub fn read(value: DataRef<'a>) -> Result<Self, EventError> {
        let mut message = value.as_vector().ok_or(EventError::NotAMessage)?.iter();
        let mut next = || message.next().ok_or(EventError::NotAMessage);
        let (format, kind, content) = (next()?, next()?, next()?);
        if format.as_count() != Some(FORMAT) {
            return Err(EventError::UnknownFormat);
        }
        match kind.as_count() {
            Some(EVENT) => {}
            Some(other) => return Err(EventError::NotAnEvent(other)),
            None => return Err(EventError::NotAMessage),
        }
        let content = content.as_vector().ok_or(EventError::Malformed)?;
        Self::read_content(content).ok_or(EventError::Malformed)
    }

    /// Reads what comes behind format and type.
    pub(super) fn read_content(content: VectorRef<'a>) -> Option<Self> {
        let mut content = content.iter();
        let name = content.next().and_then(|name| name.as_str());
        let arguments = content
            .next()
            .filter(|arguments| arguments.as_vector().is_some());
        let metadata = match content.next() {
            Some(metadata) => Some(
                metadata
                    .as_vector()
                    .filter(|metadata| metadata.iter().all(is_metadata))?,
            ),
            None => None,
        };
        let (name, arguments) = name.zip(arguments)?;
        Some(Self {
            name,
            arguments,
            metadata,
        })
    }

    /// Returns the event's name, such as `Cluster::hello`.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Returns the arguments: a vector, from which a record of the same fields can be converted.
    pub fn arguments(&self) -> DataRef<'a> {
        self.arguments
    }

    /// Returns what the publishing node's layout comes to, if it says so.
    pub fn fingerprint(&self) -> Option<LayoutFingerprint> {
        let count = |id| self.metadata(id).and_then(|value| value.as_count());
        Some(LayoutFingerprint {
            layout: count(LAYOUT)?,
            settings: count(SETTINGS)?,
        })
    }

    /// Returns the event's network timestamp, if it has one.
    pub fn timestamp(&self) -> Option<Timestamp> {
        match self.metadata(NETWORK_TIMESTAMP)?.get() {
            ValueRef::Timestamp(timestamp) => Some(timestamp),
            _ => None,
        }
    }

    /// Returns `true` if the event has a metadata element, even an empty one.
    pub fn has_metadata(&self) -> bool {
        self.metadata.is_some()
    }

    /// Returns the value of a metadata id, if the event has it.
    pub fn metadata(&self, id: u64) -> Option<DataRef<'a>> {
        self.metadata?.iter().find_map(|entry| {
            let mut pair = entry.as_vector()?.iter();
            (pair.next()?.as_count()? == id).then(|| pair.next())?
        })
    }
}

fn is_metadata(entry: DataRef<'_>) -> bool {
    let Some(pair) = entry.as_vector().filter(|pair| pair.len() == 2) else {
        return false;
    };
    let mut pair = pair.iter();
    let id = pair.next().and_then(|id| id.as_count());
    let is_timestamp = pair
        .next()
        .is_some_and(|value| value.kind() == Kind::Timestamp);
    id.is_some_and(|id| id != NETWORK_TIMESTAMP || is_timestamp)
}

/// Metadata of an event to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metadata {
    /// The network timestamp.
    pub timestamp: Option<Timestamp>,
    /// The incarnation of the publishing node.
    pub incarnation: Option<u64>,
    /// What the publishing node's layout comes to.
    pub fingerprint: Option<LayoutFingerprint>,
    /// What the publishing node can do, in bits.
    pub features: Option<u64>,
}

/// What a node's layout comes to, in two numbers: nodes that work together have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayoutFingerprint {
    /// Of what decides who owns which keys, stores and logs.
    pub layout: u64,
    /// Of the settings that concern more than one machine.
    pub settings: u64,
}

/// Appends an event. `arguments` appends its vector of arguments. Without metadata the element for
/// it is left out, as by Zeek's `Cluster::publish`.
pub fn put_event(
    out: &mut Vec<u8>,
    name: &str,
    metadata: Metadata,
    arguments: impl FnOnce(&mut Vec<u8>),
) {
    let entries = usize::from(metadata.timestamp.is_some())
        + usize::from(metadata.incarnation.is_some())
        + 2 * usize::from(metadata.fingerprint.is_some())
        + usize::from(metadata.features.is_some());
    put_header(out, EVENT);
    encode::vector_header(out, 2 + usize::from(entries > 0));
    encode::string(out, name.as_bytes());
    arguments(out);
    if entries == 0 {
        return;
    }
    encode::vector_header(out, entries);
    if let Some(timestamp) = metadata.timestamp {
        encode::vector_header(out, 2);
        encode::count(out, NETWORK_TIMESTAMP);
        encode::timestamp(out, timestamp);
    }
    if let Some(incarnation) = metadata.incarnation {
        encode::vector_header(out, 2);
        encode::count(out, INCARNATION);
        encode::count(out, incarnation);
    }
    if let Some(LayoutFingerprint { layout, settings }) = metadata.fingerprint {
        for (id, value) in [(LAYOUT, layout), (SETTINGS, settings)] {
            encode::vector_header(out, 2);
            encode::count(out, id);
            encode::count(out, value);
        }
    }
    if let Some(features) = metadata.features {
        encode::vector_header(out, 2);
        encode::count(out, FEATURES);
        encode::count(out, features);
    }
}

#[cfg(test)]
mod tests {
    use muster_data::{Data, Limits};

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        use std::fmt::Write;
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    fn event(name: &str, metadata: Metadata, arguments: &[Data]) -> Vec<u8> {
        let mut out = Vec::new();
        put_event(&mut out, name, metadata, |out| {
            muster_data::Encode::encode(arguments, out);
        });
        out
    }

    /// The two examples of protocol section 9.2.
    #[test]
    fn events_are_those_of_the_specification() {
        let plain = event(
            "my_event",
            Metadata::default(),
            &[Data::Integer(1), Data::from("x")],
        );
        assert_eq!(
            hex(&plain),
            "0e030200000000000000010200000000000000010e0205086d795f6576656e740e02030000000000000001050178"
        );
        let metadata = Metadata {
            timestamp: Some(Timestamp::from_nanos(0)),
            ..Metadata::default()
        };
        let stamped = event(
            "Supervisor::node_status",
            metadata,
            &[Data::from("TEST"), Data::from(42u64)],
        );
        assert_eq!(
            hex(&stamped),
            "0e030200000000000000010200000000000000010e03051753757065727669736f723a3a6e6f64655f737461747573\
             0e020504544553540\
             2000000000000002a0e010e02020000000000000001090000000000000000"
        );
    }

    #[test]
    fn what_was_written_is_read() {
        let metadata = Metadata {
            timestamp: Some(Timestamp::from_nanos(5)),
            incarnation: Some(9),
            fingerprint: Some(LayoutFingerprint {
                layout: 7,
                settings: u64::MAX,
            }),
            features: Some(ACKNOWLEDGES_LOGS),
        };
        let bytes = event("a::b", metadata, &[Data::from(1u64)]);
        let event = EventRef::read(DataRef::parse(&bytes, &Limits::default()).unwrap()).unwrap();
        assert_eq!(
            (event.name(), event.timestamp()),
            ("a::b", Some(Timestamp::from_nanos(5)))
        );
        assert_eq!(event.fingerprint(), metadata.fingerprint);
        assert_eq!(
            event
                .metadata(INCARNATION)
                .and_then(|value| value.as_count()),
            Some(9)
        );
        assert!(event.metadata(7).is_none());
    }

    #[test]
    fn other_values_are_refused() {
        let read = |data: Data| {
            let bytes = muster_data::encode_to_vec(&data);
            EventRef::read(DataRef::from_validated(&bytes)).map(|event| event.name().to_owned())
        };
        assert_eq!(read(Data::from(1u64)), Err(EventError::NotAMessage));
        let content = || Data::vector([Data::from("x")]);
        let message =
            |format, kind| Data::vector([Data::from(format), Data::from(kind), content()]);
        assert_eq!(read(message(2u64, 1u64)), Err(EventError::UnknownFormat));
        assert_eq!(read(message(1u64, 3u64)), Err(EventError::NotAnEvent(3)));
        assert_eq!(read(message(1u64, 1u64)), Err(EventError::Malformed));
    }
}
