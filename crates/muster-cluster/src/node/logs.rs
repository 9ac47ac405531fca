//! Log records and their batches: written to streams on any node, gathered, and read by loggers. A batch carries its
//! columns, so that a logger need not know a stream beforehand.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_data::{DataRef, Record, Type, encode};
use muster_wire::Mono;

use super::shape;
use crate::delivery::messages::DeliveryNote;
use crate::delivery::{Batch, LARGE_BATCH, StreamHead};

/// A column of a log stream.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::column")]
pub struct Column {
    /// The name, such as `id.orig_h`.
    pub name: String,
    /// The type as Zeek writes it, such as `set[addr]`.
    pub zeek_type: String,
}

/// A batch of log records, as a logger receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBatch {
    /// The stream: the name of the log file.
    pub stream: String,
    /// The columns of every record.
    pub columns: Vec<Column>,
    /// A vector of records, encoded and validated.
    rows: Bytes,
    count: usize,
}

impl LogBatch {
    /// Returns the records, each a vector with an element per column.
    pub fn rows(&self) -> impl Iterator<Item = DataRef<'_>> {
        DataRef::from_validated(&self.rows)
            .as_vector()
            .into_iter()
            .flat_map(|rows| rows.iter())
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The bytes of the records, encoded.
    pub fn bytes(&self) -> usize {
        self.rows.len()
    }

    /// Returns `true` if there are no records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Reads the arguments of the event that carries a batch: stream, columns and records.
    ///
    /// # Errors
    /// A text that says in what they are not those of a batch, or which record does not fit its columns.
    pub fn from_event(arguments: DataRef<'_>) -> Result<Self, String> {
        Self::read(arguments).map(|(batch, _)| batch)
    }

    /// A batch of `count` records in an encoded vector, each with an element per column.
    pub(crate) fn from_rows(
        stream: String,
        columns: Vec<Column>,
        rows: Bytes,
        count: usize,
    ) -> Self {
        Self {
            stream,
            columns,
            rows,
            count,
        }
    }

    /// Reads the arguments of a [`BATCH`] event, with the note of a batch that is to be acknowledged. The error says in what
    /// they are not those of a batch, or which record does not fit its columns.
    pub(crate) fn read(arguments: DataRef<'_>) -> Result<(Self, Option<DeliveryNote>), String> {
        let parts = || {
            let mut arguments = arguments.as_vector()?.iter();
            let stream = arguments.next()?.as_str()?.to_owned();
            let columns = arguments.next()?.to::<Vec<Column>>().ok()?;
            let rows = arguments.next()?;
            let note = match arguments.next() {
                Some(note) => Some(note.to::<DeliveryNote>().ok()?),
                None => None,
            };
            Some((stream, columns, rows, rows.as_vector()?, note))
        };
        let (stream, columns, rows, vector, note) = parts().ok_or_else(|| {
            let found = shape::found(arguments);
            format!("declared (stream: string, columns: vector, records: vector), found {found}")
        })?;
        if !is_stream_name(&stream) {
            return Err(format!("{stream:?} is no name of a stream"));
        }
        let fits = |row: DataRef<'_>| {
            row.as_vector()
                .is_some_and(|row| row.len() == columns.len())
        };
        if let Some((number, row)) = vector.iter().enumerate().find(|(_, row)| !fits(*row)) {
            let declared = columns
                .iter()
                .take(24)
                .map(|column| format!("{}: {}", column.name, column.zeek_type));
            let declared: Vec<String> = declared.collect();
            return Err(format!(
                "record {number} of stream {stream} does not fit its {} columns: declared ({}), found {}",
                columns.len(),
                declared.join(", "),
                shape::found(row),
            ));
        }
        let count = vector.len();
        let batch = Self {
            stream,
            columns,
            rows: Bytes::copy_from_slice(rows.bytes()),
            count,
        };
        Ok((batch, note))
    }
}

/// The event that carries a batch: stream, columns, records.
pub(crate) const BATCH: &str = "Muster::log_batch";

/// A stream's name becomes a file's name: letters, digits, `_` and `-`, at most 64.
pub(crate) fn is_stream_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(fits)
}

/// Why a stream cannot be declared or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Not a record type.
    #[error("a log stream is made of records, not of {0}")]
    NotARecord(String),
    /// A field that no log column can hold.
    #[error("field `{field}` of type {ty} cannot be a log column")]
    Column {
        /// The field.
        field: String,
        /// Its type.
        ty: String,
    },
    /// The name cannot be that of a file.
    #[error("`{0}` is not a name of a log stream: it has letters, digits, `_` and `-`, at most 64")]
    Name(String),
    /// Two frameworks declare the stream with different columns, or for different streams of Zeek's.
    #[error("stream `{0}` is declared twice with different columns")]
    Conflict(String),
    /// No framework on this node has declared the stream.
    #[error("stream `{0}` is not declared")]
    Undeclared(String),
    /// The record is not of the type that was declared.
    #[error("stream `{stream}`: {problem}")]
    WrongRecord {
        /// The stream.
        stream: String,
        /// What is wrong.
        problem: String,
    },
}

/// The columns of a record type.
pub(crate) fn columns_of(ty: &Type) -> Result<Vec<Column>, StreamError> {
    let Type::Record(record) = ty else {
        return Err(StreamError::NotARecord(ty.to_string()));
    };
    record
        .fields
        .iter()
        .map(|field| {
            let zeek_type = zeek_type(&field.ty).ok_or_else(|| StreamError::Column {
                field: field.name.to_string(),
                ty: field.ty.to_string(),
            })?;
            Ok(Column {
                name: field.name.to_string(),
                zeek_type,
            })
        })
        .collect()
}

fn zeek_type(ty: &Type) -> Option<String> {
    let word = match ty {
        Type::Optional(inner) => return zeek_type(inner),
        Type::Set(element) => return Some(format!("set[{}]", scalar_type(element)?)),
        Type::Vector(element) => return Some(format!("vector[{}]", scalar_type(element)?)),
        scalar => scalar_type(scalar)?,
    };
    Some(word.to_owned())
}

fn scalar_type(ty: &Type) -> Option<&'static str> {
    Some(match ty {
        Type::Boolean => "bool",
        Type::Count => "count",
        Type::Integer => "int",
        Type::Real => "double",
        Type::String => "string",
        Type::Address => "addr",
        Type::Subnet => "subnet",
        Type::Port => "port",
        Type::Timestamp => "time",
        Type::Timespan => "interval",
        Type::Enum => "enum",
        _ => return None,
    })
}

#[derive(Debug)]
struct Stream {
    ty: Type,
    columns: Vec<Column>,
    /// Its name and its columns, as batches begin with them.
    head: Arc<StreamHead>,
    /// Zeek's stream of the same columns.
    zeek_stream: Option<&'static str>,
    /// The Rust type that was checked against `ty` last.
    checked: Option<TypeId>,
    /// The batch that is being filled.
    open: Rows,
    /// When the first waiting record was written.
    since: Mono,
}

/// Encoded records, one after the other.
#[derive(Debug, Default)]
struct Rows {
    bytes: Vec<u8>,
    count: usize,
}

impl Stream {
    fn is_waiting(&self) -> bool {
        self.open.count > 0
    }
}

/// The records of a node that wait for their batch.
#[derive(Debug)]
pub(crate) struct Logs {
    streams: BTreeMap<&'static str, Stream>,
    batch_size: usize,
    batch_interval: Duration,
}

/// Records of a stream, on their way to a logger.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    /// The stream's name.
    pub(crate) name: &'static str,
    /// The records' type.
    pub(crate) ty: &'a Type,
    pub(crate) columns: &'a [Column],
    /// Zeek's stream of the same columns.
    pub(crate) zeek_stream: Option<&'static str>,
    /// A vector of the records, encoded.
    pub(crate) rows: &'a [u8],
    /// How many there are.
    pub(crate) count: usize,
}

/// Appends the arguments of a [`BATCH`] event. With a note the batch is acknowledged.
pub(crate) fn put_batch(out: &mut Vec<u8>, batch: &Batch, note: Option<&DeliveryNote>) {
    encode::vector_header(out, 3 + usize::from(note.is_some()));
    batch.put(out);
    if let Some(note) = note {
        muster_data::Encode::encode(note, out);
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logged {
    Waiting,
    /// The batch is full: send it.
    Full,
}

impl Logs {
    pub(crate) fn new(batch_size: usize, batch_interval: Duration) -> Self {
        Self {
            streams: BTreeMap::new(),
            batch_size: batch_size.max(1),
            batch_interval,
        }
    }

    pub(crate) fn declare(
        &mut self,
        name: &'static str,
        ty: Type,
        columns: Vec<Column>,
        zeek_stream: Option<&'static str>,
    ) -> Result<(), StreamError> {
        if !is_stream_name(name) {
            return Err(StreamError::Name(name.to_owned()));
        }
        if let Some(known) = self.streams.get(name) {
            let same = known.ty == ty && known.zeek_stream == zeek_stream;
            return if same {
                Ok(())
            } else {
                Err(StreamError::Conflict(name.to_owned()))
            };
        }
        let stream = Stream {
            head: Arc::new(StreamHead::new(name, &columns[..])),
            ty,
            columns,
            zeek_stream,
            checked: None,
            open: Rows::default(),
            since: Mono::default(),
        };
        self.streams.insert(name, stream);
        Ok(())
    }

    /// Writes a record of the Rust type `rust` and run-time type `ty`.
    pub(crate) fn write_typed(
        &mut self,
        name: &str,
        rust: TypeId,
        ty: impl FnOnce() -> Type,
        now: Mono,
        row: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Logged, StreamError> {
        self.fits(name, rust, ty)?;
        Ok(self.append(name, now, row))
    }

    /// Makes a batch of one record of the Rust type `rust` and run-time type `ty`.
    pub(crate) fn one_typed(
        &mut self,
        name: &str,
        rust: TypeId,
        ty: impl FnOnce() -> Type,
        row: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Batch, StreamError> {
        let stream = self.fits(name, rust, ty)?;
        let mut rows = Vec::new();
        row(&mut rows);
        Ok(Batch::new(Arc::clone(&stream.head), rows, 1))
    }

    /// Returns the stream, if records of a type fit it.
    fn fits(
        &mut self,
        name: &str,
        rust: TypeId,
        ty: impl FnOnce() -> Type,
    ) -> Result<&Stream, StreamError> {
        let stream = self
            .streams
            .get_mut(name)
            .ok_or_else(|| StreamError::Undeclared(name.to_owned()))?;
        if stream.checked != Some(rust) {
            let ty = ty();
            if ty != stream.ty {
                let problem = format!("declared as {}, written as {ty}", stream.ty);
                return Err(StreamError::WrongRecord {
                    stream: name.to_owned(),
                    problem,
                });
            }
            stream.checked = Some(rust);
        }
        Ok(stream)
    }

    /// Writes a record whose type is checked now.
    pub(crate) fn write_checked(
        &mut self,
        name: &str,
        row: DataRef<'_>,
        now: Mono,
    ) -> Result<Logged, StreamError> {
        self.check(name, row)?;
        Ok(self.append(name, now, |out| out.extend_from_slice(row.bytes())))
    }

    /// Makes a batch of one record whose type is checked now.
    pub(crate) fn one_checked(&self, name: &str, row: DataRef<'_>) -> Result<Batch, StreamError> {
        let stream = self.check(name, row)?;
        Ok(Batch::new(
            Arc::clone(&stream.head),
            row.bytes().to_vec(),
            1,
        ))
    }

    /// Returns the stream, if a record fits it.
    fn check(&self, name: &str, row: DataRef<'_>) -> Result<&Stream, StreamError> {
        let stream = self
            .streams
            .get(name)
            .ok_or_else(|| StreamError::Undeclared(name.to_owned()))?;
        let fits = row
            .as_vector()
            .is_some_and(|fields| fields.len() == stream.columns.len());
        if let Some(problem) = match stream.ty.check(row) {
            Err(error) => Some(error.to_string()),
            Ok(()) if !fits => Some(format!("a record has {} fields", stream.columns.len())),
            Ok(()) => None,
        } {
            return Err(StreamError::WrongRecord {
                stream: name.to_owned(),
                problem,
            });
        }
        Ok(stream)
    }

    fn append(&mut self, name: &str, now: Mono, row: impl FnOnce(&mut Vec<u8>)) -> Logged {
        let Some(stream) = self.streams.get_mut(name) else {
            return Logged::Waiting; // whoever writes has looked it up
        };
        if !stream.is_waiting() {
            stream.since = now;
        }
        row(&mut stream.open.bytes);
        stream.open.count += 1;
        if stream.open.count < self.batch_size && stream.open.bytes.len() < LARGE_BATCH {
            return Logged::Waiting;
        }
        Logged::Full
    }

    /// When the next batch is due although it is not full.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        let waiting = self.streams.values().filter(|stream| stream.is_waiting());
        waiting
            .map(|stream| stream.since.after(self.batch_interval))
            .min()
    }

    /// The streams that are due at `now`, or all that have records.
    pub(crate) fn due(&self, now: Option<Mono>) -> Vec<&'static str> {
        self.streams
            .iter()
            .filter(|(_, stream)| stream.is_waiting())
            .filter(|(_, stream)| {
                now.is_none_or(|now| stream.since.after(self.batch_interval) <= now)
            })
            .map(|(name, _)| *name)
            .collect()
    }

    /// Takes what a stream has gathered.
    pub(crate) fn take(&mut self, name: &str) -> Option<Batch> {
        let stream = self.streams.get_mut(name).filter(|it| it.is_waiting())?;
        let Rows { bytes, count } = std::mem::take(&mut stream.open);
        Some(Batch::new(Arc::clone(&stream.head), bytes, count))
    }

    /// The most records of one batch.
    pub(crate) fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Describes records of a stream, an encoded vector of so many. Returns `None` if the stream is not declared.
    pub(crate) fn outgoing<'a>(
        &'a self,
        name: &str,
        rows: &'a [u8],
        count: usize,
    ) -> Option<Outgoing<'a>> {
        let (name, stream) = self.streams.get_key_value(name)?;
        Some(Outgoing {
            name,
            ty: &stream.ty,
            columns: &stream.columns,
            zeek_stream: stream.zeek_stream,
            rows,
            count,
        })
    }

    /// The records that are gathered.
    pub(crate) fn waiting(&self) -> usize {
        self.streams.values().map(|stream| stream.open.count).sum()
    }
}
