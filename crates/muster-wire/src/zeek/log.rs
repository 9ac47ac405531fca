//! Log streams between Zeek's nodes: what a stream looks like, and its records.

use muster_data::{DataRef, ValueRef, VectorRef, encode};

use super::TypeTag;
use super::message::{LOG_CREATE, LOG_WRITE, put_header};

/// A new writer of a log stream, with a description of its records.
///
/// Zeek sends it to every peer before any [`LogWrite`] of the same stream, writer and path.
#[derive(Debug, Clone, PartialEq)]
pub struct LogCreate<'a> {
    /// The stream, such as `Conn::LOG`.
    pub stream: &'a str,
    /// The kind of writer, such as `Log::WRITER_ASCII`.
    pub writer: &'a str,
    /// How the writer is set up.
    pub info: WriterInfo<'a>,
    /// The fields of every record.
    pub fields: Vec<LogField<'a>>,
}

/// How a log writer is set up.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WriterInfo<'a> {
    /// The log's name, from which the writer makes a file's name.
    pub path: &'a str,
    /// The base time, in seconds, that the times of rotations are counted from.
    pub rotation_base: f64,
    /// Seconds between rotations; 0 if logs are never rotated.
    pub rotation_interval: f64,
    /// The sender's network time in seconds since the epoch.
    pub network_time: f64,
    /// The writer's own settings, by name.
    pub config: Vec<(&'a str, &'a str)>,
    /// The function that processes rotated files; empty if there is none.
    pub post_processor: &'a str,
}

/// A field of a log's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogField<'a> {
    /// The name, such as `id.orig_h`.
    pub name: &'a str,
    /// A second name, which only Zeek's input framework uses.
    pub secondary_name: Option<&'a str>,
    /// The type.
    pub ty: TypeTag,
    /// The type of the elements of a set or vector, otherwise [`TypeTag::Void`].
    pub subtype: TypeTag,
    /// Whether the field may be unset.
    pub optional: bool,
}

impl LogField<'_> {
    /// Returns the type as the headers of Zeek's logs name it, such as `set[addr]`.
    pub fn type_name(&self) -> String {
        if self.ty.is_container() {
            format!("{}[{}]", self.ty, self.subtype)
        } else {
            self.ty.word().to_owned()
        }
    }
}

/// A record of a log stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogWrite<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The kind of writer.
    pub writer: &'a str,
    /// The log's name.
    pub path: &'a str,
    /// The record, to be read by [`serial`](super::serial); not yet validated.
    pub serial_data: &'a [u8],
}

impl<'a> LogCreate<'a> {
    /// Reads a message's content. Elements behind those that are known are ignored, as Zeek does.
    pub(super) fn read(content: VectorRef<'a>) -> Option<Self> {
        let mut content = content.iter();
        Some(Self {
            stream: enum_name(content.next()?)?,
            writer: enum_name(content.next()?)?,
            info: WriterInfo::read(content.next()?.as_vector()?)?,
            fields: content
                .next()?
                .as_vector()?
                .iter()
                .map(|field| LogField::read(field.as_vector()?))
                .collect::<Option<_>>()?,
        })
    }
}

impl<'a> WriterInfo<'a> {
    fn read(info: VectorRef<'a>) -> Option<Self> {
        let mut info = info.iter();
        Some(Self {
            path: info.next()?.as_str()?,
            rotation_base: real(info.next()?)?,
            rotation_interval: real(info.next()?)?,
            network_time: real(info.next()?)?,
            config: info
                .next()?
                .as_table()?
                .iter()
                .map(|(key, value)| Some((key.as_str()?, value.as_str()?)))
                .collect::<Option<_>>()?,
            post_processor: info.next()?.as_str()?,
        })
    }
}

impl<'a> LogField<'a> {
    fn read(field: VectorRef<'a>) -> Option<Self> {
        let mut field = field.iter();
        let mut next = || field.next();
        Some(Self {
            name: next()?.as_str()?,
            secondary_name: match next()? {
                name if name.is_none() => None,
                name => Some(name.as_str()?),
            },
            ty: TypeTag::from_number(next()?.as_count()?)?,
            subtype: TypeTag::from_number(next()?.as_count()?)?,
            optional: match next()?.get() {
                ValueRef::Boolean(optional) => optional,
                _ => return None,
            },
        })
    }
}

impl<'a> LogWrite<'a> {
    pub(super) fn read(content: VectorRef<'a>) -> Option<Self> {
        let mut content = content.iter();
        Some(Self {
            stream: enum_name(content.next()?)?,
            writer: enum_name(content.next()?)?,
            path: content.next()?.as_str()?,
            serial_data: content.next()?.as_bytes()?,
        })
    }
}

fn enum_name(value: DataRef<'_>) -> Option<&str> {
    match value.get() {
        ValueRef::Enum(name) => name.as_str(),
        _ => None,
    }
}

fn real(value: DataRef<'_>) -> Option<f64> {
    match value.get() {
        ValueRef::Real(real) => Some(real),
        _ => None,
    }
}

/// Appends a message that describes a log stream and its records.
pub fn put_log_create(out: &mut Vec<u8>, create: &LogCreate<'_>) {
    let LogCreate {
        stream,
        writer,
        info,
        fields,
    } = create;
    let WriterInfo {
        path,
        rotation_base,
        rotation_interval,
        network_time,
        config,
        post_processor,
    } = info;
    put_header(out, LOG_CREATE);
    encode::vector_header(out, 4);
    encode::enum_value(out, stream.as_bytes());
    encode::enum_value(out, writer.as_bytes());
    encode::vector_header(out, 6);
    encode::string(out, path.as_bytes());
    encode::real(out, *rotation_base);
    encode::real(out, *rotation_interval);
    encode::real(out, *network_time);
    encode::table(out, config.iter().copied());
    encode::string(out, post_processor.as_bytes());
    encode::vector_header(out, fields.len());
    for field in fields {
        let LogField {
            name,
            secondary_name,
            ty,
            subtype,
            optional,
        } = field;
        encode::vector_header(out, 5);
        encode::string(out, name.as_bytes());
        match secondary_name {
            Some(name) => encode::string(out, name.as_bytes()),
            None => encode::none(out),
        }
        encode::count(out, ty.number().into());
        encode::count(out, subtype.number().into());
        encode::boolean(out, *optional);
    }
}

/// Appends a message with one record of a log.
pub fn put_log_write(out: &mut Vec<u8>, write: &LogWrite<'_>) {
    let LogWrite {
        stream,
        writer,
        path,
        serial_data,
    } = write;
    put_header(out, LOG_WRITE);
    encode::vector_header(out, 4);
    encode::enum_value(out, stream.as_bytes());
    encode::enum_value(out, writer.as_bytes());
    encode::string(out, path.as_bytes());
    encode::string(out, serial_data);
}
