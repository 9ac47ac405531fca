//! Logs of Zeek's nodes on a logger: what `log_create` says of a log is remembered, and the records of
//! the `log_write`s behind it become batches as Muster's own nodes send them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use muster_data::{Timespan, Timestamp, encode};
use muster_wire::EndpointId;
use muster_wire::zeek::serial::{Fields, SerialError, Value};
use muster_wire::zeek::{LogCreate, LogField, LogWrite, Message, TypeTag};

use super::logs::{Column, LogBatch, is_stream_name};
use super::{NodeLoop, Severity};
use crate::delivery::{Batch, StreamHead};

/// The logs whose columns are remembered at most, counted by stream, writer and path. A large
/// cluster of Zeek's has about a hundred.
const KNOWN_LOGS: usize = 1024;

/// The columns of a log at most; Zeek's longest logs have some fifty.
const MOST_COLUMNS: usize = 1024;

/// The bytes of all column names of a log at most.
const LONGEST_NAMES: usize = 64 << 10;

/// The bytes of the names of a log's stream and of its writer at most, each; Zeek's are below 50.
const LONGEST_NAME: usize = 256;

/// What a node knows of Zeek's logs.
#[derive(Debug, Default)]
pub(crate) struct ZeekLogs {
    by_path: HashMap<String, Vec<Known>>,
    count: usize,
    /// How many descriptions there were so far: their ages.
    created: u64,
}

/// A log as its last `log_create` described it.
#[derive(Debug)]
struct Known {
    stream: String,
    writer: String,
    number: u64,
    format: Arc<Format>,
}

/// What every record of a log looks like.
#[derive(Debug, PartialEq, Eq)]
struct Format {
    head: Arc<StreamHead>,
    columns: Vec<Column>,
    /// Type and element type of each column.
    types: Vec<(TypeTag, TypeTag)>,
}

/// Why a log is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum LogProblem {
    #[error("its path is no name of a log: letters, digits, `_` and `-`, at most 64")]
    Path,
    #[error("its stream or its writer has a name of more than {LONGEST_NAME} bytes")]
    Names,
    #[error("the columns need names, all different, at most {MOST_COLUMNS} of them")]
    Columns,
    #[error("column `{name}` of type {ty}")]
    Type { name: String, ty: String },
}

/// Why a record is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum RecordProblem {
    #[error(transparent)]
    Serial(#[from] SerialError),
    #[error("more or fewer fields than the {0} columns that log_create told of")]
    FieldCount(usize),
    #[error("column `{column}` of type {ty} holds a value of type {found}")]
    Type {
        column: String,
        ty: String,
        found: TypeTag,
    },
}

impl ZeekLogs {
    /// Remembers a log; tells whether another had to be forgotten for it.
    fn create(&mut self, create: &LogCreate<'_>) -> Result<bool, LogProblem> {
        let path = create.info.path;
        if !is_stream_name(path) {
            return Err(LogProblem::Path);
        }
        if create.stream.len() > LONGEST_NAME || create.writer.len() > LONGEST_NAME {
            return Err(LogProblem::Names);
        }
        let known = Known {
            stream: create.stream.to_owned(),
            writer: create.writer.to_owned(),
            number: self.created,
            format: Arc::new(Format::new(path, &create.fields)?),
        };
        self.created += 1;
        let of_path = self.by_path.entry(path.to_owned()).or_default();
        let is_same = |other: &&mut Known| known.is_of(&other.stream, &other.writer);
        if let Some(before) = of_path.iter_mut().find(is_same) {
            // Every node of the stream says the same: batches are told apart by the one they hold.
            let format = Some(&before.format).filter(|format| **format == known.format);
            let format = format.map_or_else(|| Arc::clone(&known.format), Arc::clone);
            *before = Known { format, ..known };
            return Ok(false);
        }
        of_path.push(known);
        self.count += 1;
        let is_over = self.count > KNOWN_LOGS;
        if is_over {
            self.forget_oldest();
        }
        Ok(is_over)
    }

    fn forget_oldest(&mut self) {
        let all = self.by_path.values().flatten();
        let Some(oldest) = all.map(|known| known.number).min() else {
            return;
        };
        self.by_path.retain(|_, of_path| {
            of_path.retain(|known| known.number != oldest);
            !of_path.is_empty()
        });
        self.count -= 1;
    }

    fn find(&self, write: &LogWrite<'_>) -> Option<Arc<Format>> {
        let of_path = self.by_path.get(write.path)?;
        let known = of_path
            .iter()
            .find(|known| known.is_of(write.stream, write.writer))?;
        Some(Arc::clone(&known.format))
    }
}

impl Known {
    fn is_of(&self, stream: &str, writer: &str) -> bool {
        self.stream == stream && self.writer == writer
    }
}

impl Format {
    fn new(path: &str, fields: &[LogField<'_>]) -> Result<Self, LogProblem> {
        let names: HashSet<&str> = fields.iter().map(|field| field.name).collect();
        let bytes: usize = names.iter().map(|name| name.len()).sum();
        let fits = (1..=MOST_COLUMNS).contains(&names.len()) && bytes <= LONGEST_NAMES;
        if !fits || names.len() != fields.len() || names.contains("") {
            return Err(LogProblem::Columns);
        }
        for field in fields {
            let is_scalar = |ty: TypeTag| ty.is_loggable() && !ty.is_container();
            let fits = if field.ty.is_container() {
                is_scalar(field.subtype)
            } else {
                is_scalar(field.ty)
            };
            if !fits {
                return Err(LogProblem::Type {
                    name: clipped(field.name).to_owned(),
                    ty: field.type_name(),
                });
            }
        }
        let column = |field: &LogField<'_>| Column {
            name: field.name.to_owned(),
            zeek_type: field.type_name(),
        };
        let columns: Vec<Column> = fields.iter().map(column).collect();
        Ok(Self {
            head: Arc::new(StreamHead::new(path, &columns[..])),
            columns,
            types: fields
                .iter()
                .map(|field| (field.ty, field.subtype))
                .collect(),
        })
    }

    /// Appends a record as a vector with an element per column.
    fn put(&self, out: &mut Vec<u8>, serial_data: &[u8]) -> Result<(), RecordProblem> {
        encode::vector_header(out, self.types.len());
        let mut fields = Fields::new(serial_data)?;
        for (column, (ty, subtype)) in self.types.iter().enumerate() {
            let count = RecordProblem::FieldCount(self.types.len());
            let value = fields.next().ok_or(count)??;
            let wrong = (!fits(&value, *ty)).then_some(value.ty()).or_else(|| {
                let elements = value.elements().iter();
                elements
                    .filter(|e| !fits(e, *subtype))
                    .map(Value::ty)
                    .next()
            });
            if let Some(found) = wrong {
                let column = &self.columns[column];
                return Err(RecordProblem::Type {
                    column: column.name.clone(),
                    ty: column.zeek_type.clone(),
                    found,
                });
            }
            put_value(out, &value);
        }
        match fields.next() {
            None => Ok(()),
            Some(Ok(_)) => Err(RecordProblem::FieldCount(self.types.len())),
            Some(Err(error)) => Err(error.into()),
        }
    }
}

fn fits(value: &Value<'_>, ty: TypeTag) -> bool {
    matches!(value, Value::Unset(_)) || value.ty() == ty
}

/// Appends a value as a row has it: functions and files as their text, sets in the order in which
/// they came, which is that of Zeek's own log, times and intervals as Zeek's seconds where no number of
/// nanoseconds says the same.
fn put_value(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Unset(_) => encode::none(out),
        Value::Bool(value) => encode::boolean(out, *value),
        Value::Int(value) => encode::integer(out, *value),
        Value::Count(value) => encode::count(out, *value),
        Value::Double(value) => encode::real(out, *value),
        Value::Time(seconds) => match nanos(*seconds) {
            Some(nanos) => encode::timestamp(out, Timestamp::from_nanos(nanos)),
            None => encode::real(out, *seconds),
        },
        Value::Interval(seconds) => match nanos(*seconds) {
            Some(nanos) => encode::timespan(out, Timespan::from_nanos(nanos)),
            None => encode::real(out, *seconds),
        },
        Value::Enum(name) => encode::enum_value(out, name),
        Value::String(text) | Value::Func(text) | Value::File(text) => encode::string(out, text),
        Value::Port(port) => encode::port(out, *port),
        Value::Addr(address) => encode::address(out, address),
        Value::Subnet(subnet) => encode::subnet(out, subnet),
        Value::Set(elements) => {
            encode::set_header(out, elements.len());
            for element in elements {
                put_value(out, element);
            }
        }
        Value::Vector(elements) => {
            encode::vector_header(out, elements.len());
            for element in elements {
                put_value(out, element);
            }
        }
    }
}

/// Zeek's seconds as nanoseconds, if these say the same: as seconds they are the same double again, and
/// they round to the microseconds that Zeek writes, the nearest ones, halves to the even. `None` for what
/// nanoseconds cannot hold, and for many intervals: the difference of two times is rarely a whole number
/// of nanoseconds.
///
/// Nanoseconds that are rounded to microseconds are rounded twice; what is just below a half would go
/// up. So they stay below that half.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the numbers are within bounds"
)]
fn nanos(seconds: f64) -> Option<i64> {
    const LIMIT: f64 = 9.2e9;
    if !seconds.is_finite() || seconds.abs() >= LIMIT {
        return None;
    }
    let micros = scaled(seconds, 1_000_000) as i64;
    let nearest = scaled(seconds, 1_000_000_000) as i64;
    let nanos = nearest
        .clamp(micros * 1000 - 500, micros * 1000 + 499)
        .max(0);
    let nanos = if seconds < 0.0 { -nanos } else { nanos };
    let again = Timestamp::from_nanos(nanos).as_secs_f64();
    (again.to_bits() == seconds.to_bits()).then_some(nanos)
}

/// The size of a number, below 2^34, times a factor, to the nearest whole number, halves to the even.
/// The product is exact: a double's own has rounding errors, and a half is then no half.
fn scaled(number: f64, factor: u64) -> u128 {
    const MANTISSA: u32 = 52;
    let bits = number.abs().to_bits();
    let exponent = (bits >> MANTISSA) as u32;
    let fraction = bits & ((1 << MANTISSA) - 1);
    // Subnormal numbers have no hidden bit, and the exponent of the smallest others.
    let mantissa = if exponent == 0 {
        fraction
    } else {
        fraction | 1 << MANTISSA
    };
    let product = u128::from(mantissa) * u128::from(factor);
    let shift = 1075 - exponent.max(1);
    let Some(half) = shift
        .checked_sub(1)
        .and_then(|bits| 1u128.checked_shl(bits))
    else {
        return if shift == 0 { product } else { 0 };
    };
    let (whole, rest) = (product >> shift.min(127), product & (2 * (half - 1) + 1));
    whole + u128::from(rest > half || (rest == half && whole % 2 == 1))
}

/// The records of one message from the network, by log.
#[derive(Default)]
struct Received {
    batches: Vec<Rows>,
    /// The batch that takes the records of a format, by the format's address. It stays that format's,
    /// as the batch holds on to it.
    by_format: HashMap<*const Format, usize>,
}

struct Rows {
    path: String,
    format: Arc<Format>,
    bytes: Vec<u8>,
    count: usize,
}

impl Received {
    /// Takes a record. One whose log has other columns by now comes into a batch of its own.
    fn push(&mut self, write: &LogWrite<'_>, format: Arc<Format>) -> Result<(), RecordProblem> {
        let next = self.batches.len();
        let at = *self.by_format.entry(Arc::as_ptr(&format)).or_insert(next);
        if at == next {
            self.batches.push(Rows {
                path: write.path.to_owned(),
                format,
                bytes: Vec::new(),
                count: 0,
            });
        }
        let rows = &mut self.batches[at];
        let length = rows.bytes.len();
        if let Err(problem) = rows.format.put(&mut rows.bytes, write.serial_data) {
            rows.bytes.truncate(length);
            return Err(problem);
        }
        rows.count += 1;
        Ok(())
    }
}

impl From<Rows> for LogBatch {
    fn from(rows: Rows) -> Self {
        let mut encoded = Vec::with_capacity(rows.bytes.len() + 8);
        encode::vector_header(&mut encoded, rows.count);
        encoded.extend_from_slice(&rows.bytes);
        let columns = rows.format.columns.clone();
        Self::from_rows(rows.path, columns, Bytes::from(encoded), rows.count)
    }
}

impl From<Rows> for Batch {
    fn from(rows: Rows) -> Self {
        Self::new(Arc::clone(&rows.format.head), rows.bytes, rows.count)
    }
}

impl NodeLoop {
    /// Deals with a message of Zeek's that is no single event.
    pub(super) fn zeek_message(&mut self, from: EndpointId, message: Message<'_>) {
        let mut received = Received::default();
        self.unpack(from, message, &mut received);
        let forwards = self.core.layout.forwards_logs(&self.core.node);
        for rows in received.batches.into_iter().filter(|rows| rows.count > 0) {
            self.core.counts.records_received += rows.count as u64;
            if forwards {
                self.core.counts.records_logged += rows.count as u64;
                self.core.ship_batch(rows.into());
            } else {
                self.write_batch(rows.into());
            }
        }
    }

    fn unpack(&mut self, from: EndpointId, message: Message<'_>, received: &mut Received) {
        match message {
            Message::Event(event) => self.event(from, &event),
            Message::Batch(batch) => {
                for message in batch {
                    self.unpack(from, message, received);
                }
            }
            Message::LogCreate(create) => self.log_create(from, &create),
            Message::LogWrite(write) => self.log_write(from, &write, received),
            Message::IdentifierUpdate(update) => self.identifier_update(from, update.name),
            // A message of a kind that was added since.
            _ => self.core.counts.events_refused += 1,
        }
    }

    /// Whether Zeek's nodes may log here.
    fn is_zeek_logger(&self) -> bool {
        let (layout, node) = (&self.core.layout, &self.core.node);
        layout.takes_logs(node) || layout.forwards_logs(node)
    }

    fn log_create(&mut self, from: EndpointId, create: &LogCreate<'_>) {
        if !self.is_zeek_logger() {
            // Zeek tells every peer of its logs, whether it takes logs or not.
            self.core.counts.logs_refused += 1;
            return;
        }
        match self.core.logging.zeek_logs.create(create) {
            Ok(false) => {}
            Ok(true) => {
                self.core.counts.logs_forgotten += 1;
                let text = || {
                    format!("forgot the columns of a Zeek log: {KNOWN_LOGS} others came after it")
                };
                self.core
                    .report(Severity::Warning, "forgotten log_create", text);
            }
            Err(problem) => {
                self.core.counts.logs_refused += 1;
                let (sender, path) = (self.sender(from), clipped(create.info.path));
                let text = || format!("refused the log {path:?} of {sender}: {problem}");
                self.core
                    .report(Severity::Warning, "refused log_create", text);
            }
        }
    }

    fn log_write(&mut self, from: EndpointId, write: &LogWrite<'_>, received: &mut Received) {
        let refusal = if !self.is_zeek_logger() {
            (
                "log_write here".to_owned(),
                "this node is not a logger".to_owned(),
            )
        } else if !is_stream_name(write.path) {
            ("log_write path".to_owned(), LogProblem::Path.to_string())
        } else if let Some(format) = self.core.logging.zeek_logs.find(write) {
            match received.push(write, format) {
                Ok(()) => return,
                Err(problem) => (
                    format!("log_write record of {}", write.path),
                    problem.to_string(),
                ),
            }
        } else {
            let (stream, writer) = (clipped(write.stream), clipped(write.writer));
            let problem = format!("no log_create of {stream:?} with {writer:?} came before");
            (format!("unknown log {}", write.path), problem)
        };
        self.core.counts.records_refused.add(write.path);
        let (kind, problem) = refusal;
        let (sender, path) = (self.sender(from), clipped(write.path));
        let text = || format!("refused a record of log {path:?} of {sender}: {problem}");
        self.core.report(Severity::Warning, &kind, text);
    }

    /// The sender in words: a node's name, or else its endpoint's id.
    pub(super) fn sender(&self, from: EndpointId) -> String {
        let name = self.core.members.membership.name_of(from);
        name.map_or_else(|| from.to_string(), ToString::to_string)
    }
}

/// The beginning of a text from the network.
fn clipped(text: &str) -> &str {
    const LONGEST: usize = 80;
    text.char_indices()
        .nth(LONGEST)
        .map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a logger's file has it.
    fn printed(nanos: i64) -> String {
        let micros = (nanos.unsigned_abs() + 500) / 1000;
        let sign = if nanos < 0 { "-" } else { "" };
        format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }

    #[test]
    fn times_round_as_zeek_rounds_them() {
        let quarter = 1_700_000_000.25;
        assert_eq!(nanos(quarter), Some(1_700_000_000_250_000_000));
        assert_eq!(nanos(0.0), Some(0));
        // A half goes to the even microsecond.
        let halves = [(1.0, 499), (3.0, 500)].map(|(part, last)| {
            let nanos = nanos(1_700_000_000.0 + part / 128.0).unwrap();
            (nanos % 1000, last)
        });
        assert!(
            halves.iter().all(|(nanos, last)| nanos == last),
            "{halves:?}"
        );
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e10, -1e300] {
            assert_eq!(nanos(seconds), None);
        }
        // What is no whole number of nanoseconds stays as it is; so does the sign of a zero.
        for seconds in [1e-300, f64::from_bits(1), 0.1 + 0.2, 1.0 / 3.0, -0.0] {
            assert_eq!(nanos(seconds), None, "{seconds}");
        }
        // Times as they are in a double, in steps of its last place.
        let mut differ = 0;
        for start in [1_700_000_000.0f64, 8_000_000_000.0, 100_000_000.0] {
            let mut time = start;
            for _ in 0..100_000 {
                for seconds in [time, -time] {
                    let nanos = nanos(seconds).unwrap();
                    assert_eq!(printed(nanos), format!("{seconds:.6}"), "{seconds:e}");
                }
                let plain = Timestamp::from_secs_f64(time).as_nanos();
                differ += u32::from(printed(plain) != format!("{time:.6}"));
                time = f64::from_bits(time.to_bits() + 1);
            }
        }
        assert!(differ > 50, "the plain way is wrong {differ} times");
    }

    #[test]
    fn products_are_exact() {
        for (number, factor, product) in [
            (0.0, 10, 0),
            (0.5, 1, 0),
            (1.5, 1, 2),
            (2.5, 1, 2),
            (0.000_148_5, 1_000_000, 149),
            (9.2e9, 1_000_000_000, 9_200_000_000_000_000_000),
            (f64::MIN_POSITIVE, u64::MAX, 0),
            (f64::from_bits(1), u64::MAX, 0),
            (1e-20, 1_000_000_000, 0),
        ] {
            assert_eq!(scaled(number, factor), product, "{number} {factor}");
        }
    }

    #[test]
    fn the_oldest_log_is_forgotten() {
        let mut logs = ZeekLogs::default();
        let field = LogField {
            name: "a",
            secondary_name: None,
            ty: TypeTag::Count,
            subtype: TypeTag::Void,
            optional: false,
        };
        let create = |logs: &mut ZeekLogs, number: usize| {
            let stream = format!("S{number}::LOG");
            let create = LogCreate {
                stream: &stream,
                writer: "W",
                info: muster_wire::zeek::WriterInfo {
                    path: if number.is_multiple_of(2) {
                        "even"
                    } else {
                        "odd"
                    },
                    ..Default::default()
                },
                fields: vec![field],
            };
            logs.create(&create).unwrap()
        };
        let knows = |logs: &ZeekLogs, number: usize| {
            let write = LogWrite {
                stream: &format!("S{number}::LOG"),
                writer: "W",
                path: if number.is_multiple_of(2) {
                    "even"
                } else {
                    "odd"
                },
                serial_data: b"",
            };
            logs.find(&write).is_some()
        };
        for number in 0..KNOWN_LOGS {
            assert!(!create(&mut logs, number));
        }
        // Described again, it is young again.
        assert!(!create(&mut logs, 0));
        assert!(create(&mut logs, KNOWN_LOGS));
        assert!(knows(&logs, 0) && !knows(&logs, 1) && knows(&logs, 2));
        assert_eq!(logs.count, KNOWN_LOGS);
    }
}
