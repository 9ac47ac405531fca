//! Our log batches in the form that a Zeek logger takes: one of Zeek's batches, which begins with the
//! `log_create` of the log and has a `log_write` for each record.
//!
//! Zeek itself sends `log_create` once for each peer, before the first record. A logger that knows the
//! log already takes no notice of a further one, so here every batch describes itself: a description
//! that was lost where a queue was full costs one batch and not all that follow, and there is nothing
//! to remember of a logger's lives.

use muster_data::{DataRef, Timestamp, Type, ValueRef};
use muster_wire::zeek::serial::{Value, put_record};
use muster_wire::zeek::{
    LogCreate, LogField, LogWrite, TypeTag, WriterInfo, put_batch, put_log_create, put_log_write,
};

use super::logs::Outgoing;
use crate::layout::NodeName;

/// Zeek's writer of files, which every Zeek has.
const WRITER: &str = "Log::WRITER_ASCII";

/// The stream that takes what is no stream of Zeek's: every Zeek node of a cluster has it, and a stream
/// holds any number of logs, each with a path and columns of its own. A stream that a logger does not
/// know would be dropped there.
const COMMON_STREAM: &str = "Cluster::LOG";

/// What comes before the path of a log in [`COMMON_STREAM`], so that none of Zeek's own files, as
/// `notice.log`, is written from two streams with different columns.
const COMMON_PREFIX: &str = "muster_";

/// Where a log goes at a Zeek logger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    name: &'static str,
    zeek_stream: Option<&'static str>,
}

impl Target {
    pub(crate) fn of(records: &Outgoing<'_>) -> Self {
        Self {
            name: records.name,
            zeek_stream: records.zeek_stream,
        }
    }

    /// The full name of the stream's id.
    fn stream(self) -> &'static str {
        self.zeek_stream.unwrap_or(COMMON_STREAM)
    }

    /// The path: the name of the file that the logger writes.
    pub(crate) fn path(self) -> String {
        match self.zeek_stream {
            Some(_) => self.name.to_owned(),
            None => format!("{COMMON_PREFIX}{}", self.name),
        }
    }

    /// The same in words.
    pub(crate) fn describe(self, logger: &NodeName) -> String {
        let (name, path, stream) = (self.name, self.path(), self.stream());
        let condition = match self.zeek_stream {
            Some(_) => ", if it has loaded the script that makes that stream",
            None => "",
        };
        format!(
            "log `{name}` goes to {logger}, a Zeek logger, which writes it as {path} of stream \
             {stream}{condition}"
        )
    }

    /// Appends a batch as Zeek's message.
    pub(crate) fn put(self, out: &mut Vec<u8>, records: &Outgoing<'_>, now: Timestamp) {
        let path = self.path();
        let fields = fields(records);
        let types: Vec<TypeTag> = fields.iter().map(|field| field.ty).collect();
        let create = LogCreate {
            stream: self.stream(),
            writer: WRITER,
            info: WriterInfo {
                path: &path,
                network_time: now.as_secs_f64(),
                ..WriterInfo::default()
            },
            fields,
        };
        let mut serial_data = Vec::new();
        put_batch(out, 1 + records.count, |out| {
            put_log_create(out, &create);
            let rows = DataRef::from_validated(records.rows).as_vector();
            for row in rows.into_iter().flat_map(|rows| rows.iter()) {
                let values = row.as_vector().into_iter().flat_map(|row| row.iter());
                let values = values.zip(&types).map(|(field, ty)| value(field, *ty));
                serial_data.clear();
                put_record(&mut serial_data, &values.collect::<Vec<_>>());
                let write = LogWrite {
                    stream: create.stream,
                    writer: WRITER,
                    path: &path,
                    serial_data: &serial_data,
                };
                put_log_write(out, &write);
            }
        });
    }
}

/// The columns of a log as Zeek describes them.
fn fields<'a>(records: &'a Outgoing<'_>) -> Vec<LogField<'a>> {
    let Type::Record(record) = records.ty else {
        return Vec::new(); // `columns_of` lets nothing else become a stream
    };
    let columns = records.columns.iter().zip(&record.fields);
    columns
        .map(|(column, field)| {
            let (inner, optional) = match &field.ty {
                Type::Optional(inner) => (&**inner, true),
                inner => (inner, false),
            };
            let (ty, subtype) = match inner {
                Type::Set(element) => (TypeTag::Table, tag(element)),
                Type::Vector(element) => (TypeTag::Vector, tag(element)),
                scalar => (tag(scalar), TypeTag::Void),
            };
            LogField {
                name: &column.name,
                secondary_name: None,
                ty,
                subtype,
                optional,
            }
        })
        .collect()
}

fn tag(ty: &Type) -> TypeTag {
    match ty {
        Type::Boolean => TypeTag::Bool,
        Type::Count => TypeTag::Count,
        Type::Integer => TypeTag::Int,
        Type::Real => TypeTag::Double,
        Type::String => TypeTag::String,
        Type::Address => TypeTag::Addr,
        Type::Subnet => TypeTag::Subnet,
        Type::Port => TypeTag::Port,
        Type::Timestamp => TypeTag::Time,
        Type::Timespan => TypeTag::Interval,
        Type::Enum => TypeTag::Enum,
        _ => TypeTag::Void,
    }
}

/// A field's value; unset with the column's type.
fn value(field: DataRef<'_>, ty: TypeTag) -> Value<'_> {
    let elements = |element| value(element, TypeTag::Void);
    match field.get() {
        ValueRef::None | ValueRef::Table(_) => Value::Unset(ty),
        ValueRef::Boolean(value) => Value::Bool(value),
        ValueRef::Count(value) => Value::Count(value),
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Real(value) => Value::Double(value),
        ValueRef::String(bytes) => Value::String(bytes),
        ValueRef::Address(address) => Value::Addr(address),
        ValueRef::Subnet(subnet) => Value::Subnet(subnet),
        ValueRef::Port(port) => Value::Port(port),
        ValueRef::Timestamp(at) => Value::Time(at.as_secs_f64()),
        ValueRef::Timespan(span) => Value::Interval(span.as_secs_f64()),
        ValueRef::Enum(name) => Value::Enum(name.as_bytes()),
        ValueRef::Set(set) => Value::Set(set.iter().map(elements).collect()),
        ValueRef::Vector(vector) => Value::Vector(vector.iter().map(elements).collect()),
    }
}
