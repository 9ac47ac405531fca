//! The records that a [`LogWrite`](super::LogWrite) carries: Zeek's plain serialisation, big-endian
//! and without any of Broker's encoding (protocol section 9.5).
//!
//! [`Fields`] reads a record field by field without copying; only the elements of sets and vectors
//! are collected. No number in the bytes is trusted: what is allocated never exceeds what was read.

use std::fmt;

use muster_data::{Address, Port, Protocol, Subnet};

use super::TypeTag;
use crate::bytes::Reader;

/// How deep sets and vectors may be nested. Zeek logs none inside another.
pub const MOST_NESTED: u32 = 4;

/// The bytes of the smallest value: type, subtype and the mark that it is unset.
const SMALLEST_VALUE: usize = 9;

/// A value of a log record.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// A field of this type that is not set.
    Unset(TypeTag),
    /// True or false.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Count(u64),
    /// A floating-point number.
    Double(f64),
    /// A point in time, in seconds since the epoch.
    Time(f64),
    /// A length of time in seconds.
    Interval(f64),
    /// Bytes.
    String(&'a [u8]),
    /// The full name of an enum value.
    Enum(&'a [u8]),
    /// A port.
    Port(Port),
    /// An address.
    Addr(Address),
    /// A subnet.
    Subnet(Subnet),
    /// A function: its description, body included.
    Func(&'a [u8]),
    /// A file's name.
    File(&'a [u8]),
    /// The elements of a set, in the order in which they came.
    Set(Vec<Value<'a>>),
    /// The elements of a vector.
    Vector(Vec<Value<'a>>),
}

/// Why bytes are not a log record, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SerialError {
    kind: SerialErrorKind,
    field: usize,
    element: Option<usize>,
}

/// What is wrong with a log record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SerialErrorKind {
    /// The bytes end before the record does.
    Truncated,
    /// Bytes are left after the last field.
    TrailingBytes,
    /// A length, or a number of fields or elements, that is negative or more than the bytes can
    /// hold.
    Length,
    /// The number of a type that does not exist.
    UnknownType(i32),
    /// A type that no value of a log can have.
    Type(TypeTag),
    /// A port above 65,535, or of an unknown protocol.
    Port,
    /// An address that is neither IPv4 nor IPv6.
    AddressFamily(u8),
    /// A prefix length that the subnet's family does not have.
    PrefixLength(u8),
    /// Sets and vectors nested more than [`MOST_NESTED`] deep.
    TooDeep,
}

/// An iterator over the fields of a record. It ends after the first error.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    reader: Reader<'a>,
    count: usize,
    next: usize,
}

impl<'a> Fields<'a> {
    /// Starts to read a record.
    ///
    /// # Errors
    ///
    /// Fails if the number of fields is missing, negative, or more than the bytes can hold.
    pub fn new(bytes: &'a [u8]) -> Result<Self, SerialError> {
        let mut reader = Reader::new(bytes);
        let count = reader
            .array()
            .map(i32::from_be_bytes)
            .ok_or(SerialErrorKind::Truncated)
            .and_then(|count| elements(count.into(), &reader))
            .map_err(|kind| SerialError::new(kind, 0))?;
        Ok(Self {
            reader,
            count,
            next: 0,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Value<'a>, SerialError>;

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.next;
        if field >= self.count {
            if self.reader.is_empty() {
                return None;
            }
            self.reader = Reader::new(&[]);
            return Some(Err(SerialError::new(SerialErrorKind::TrailingBytes, field)));
        }
        self.next += 1;
        let value = value(&mut self.reader, MOST_NESTED);
        Some(value.map_err(|(kind, element)| {
            (self.next, self.reader) = (self.count, Reader::new(&[]));
            SerialError {
                kind,
                field,
                element,
            }
        }))
    }
}

/// Reads a whole record.
///
/// # Errors
///
/// Fails at the first field that cannot be read, and if bytes are left after the last one.
pub fn read_record(bytes: &[u8]) -> Result<Vec<Value<'_>>, SerialError> {
    Fields::new(bytes)?.collect()
}

/// Appends a record with these fields.
pub fn put_record(out: &mut Vec<u8>, fields: &[Value<'_>]) {
    let count = i32::try_from(fields.len()).unwrap_or(i32::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    for field in fields {
        put_value(out, field);
    }
}

impl Value<'_> {
    /// Returns the value's type.
    pub fn ty(&self) -> TypeTag {
        match self {
            Self::Unset(ty) => *ty,
            Self::Bool(_) => TypeTag::Bool,
            Self::Int(_) => TypeTag::Int,
            Self::Count(_) => TypeTag::Count,
            Self::Double(_) => TypeTag::Double,
            Self::Time(_) => TypeTag::Time,
            Self::Interval(_) => TypeTag::Interval,
            Self::String(_) => TypeTag::String,
            Self::Enum(_) => TypeTag::Enum,
            Self::Port(_) => TypeTag::Port,
            Self::Addr(_) => TypeTag::Addr,
            Self::Subnet(_) => TypeTag::Subnet,
            Self::Func(_) => TypeTag::Func,
            Self::File(_) => TypeTag::File,
            Self::Set(_) => TypeTag::Table,
            Self::Vector(_) => TypeTag::Vector,
        }
    }

    /// Returns the elements of a set or vector, and an empty slice for other values.
    pub fn elements(&self) -> &[Self] {
        match self {
            Self::Set(elements) | Self::Vector(elements) => elements,
            _ => &[],
        }
    }
}

type Failed = (SerialErrorKind, Option<usize>);

fn value<'a>(reader: &mut Reader<'a>, depth: u32) -> Result<Value<'a>, Failed> {
    let plain = |kind| (kind, None);
    let ty = type_tag(reader).map_err(plain)?;
    type_tag(reader).map_err(plain)?; // the subtype, which real records leave void
    // As Zeek reads it: whatever is not 1 is absent.
    if byte(reader).map_err(plain)? != 1 {
        return Ok(Value::Unset(ty));
    }
    if !ty.is_container() {
        return scalar(reader, ty).map_err(plain);
    }
    let depth = depth
        .checked_sub(1)
        .ok_or(plain(SerialErrorKind::TooDeep))?;
    let count = eight(reader).map_err(plain)?;
    let count = elements(i64::from_be_bytes(count), reader).map_err(plain)?;
    let mut values = Vec::new();
    for at in 0..count {
        values.push(value(reader, depth).map_err(|(kind, _)| (kind, Some(at)))?);
    }
    Ok(match ty {
        TypeTag::Table => Value::Set(values),
        _ => Value::Vector(values),
    })
}

fn scalar<'a>(reader: &mut Reader<'a>, ty: TypeTag) -> Result<Value<'a>, SerialErrorKind> {
    Ok(match ty {
        TypeTag::Bool => Value::Bool(eight(reader)? != [0; 8]),
        TypeTag::Int => Value::Int(i64::from_be_bytes(eight(reader)?)),
        TypeTag::Count => Value::Count(u64::from_be_bytes(eight(reader)?)),
        TypeTag::Double => Value::Double(f64::from_be_bytes(eight(reader)?)),
        TypeTag::Time => Value::Time(f64::from_be_bytes(eight(reader)?)),
        TypeTag::Interval => Value::Interval(f64::from_be_bytes(eight(reader)?)),
        TypeTag::String => Value::String(text(reader)?),
        TypeTag::Enum => Value::Enum(text(reader)?),
        TypeTag::Func => Value::Func(text(reader)?),
        TypeTag::File => Value::File(text(reader)?),
        TypeTag::Port => {
            let number = u64::from_be_bytes(eight(reader)?);
            let protocol = four(reader)?;
            let number = u16::try_from(number).map_err(|_| SerialErrorKind::Port)?;
            let protocol = u8::try_from(protocol)
                .ok()
                .and_then(Protocol::from_number)
                .ok_or(SerialErrorKind::Port)?;
            Value::Port(Port::new(number, protocol))
        }
        TypeTag::Addr => Value::Addr(address(reader)?.0),
        TypeTag::Subnet => {
            let length = byte(reader)?;
            let (address, is_v4) = address(reader)?;
            let fits = length <= 128 && (!is_v4 || length >= 96);
            if !fits {
                return Err(SerialErrorKind::PrefixLength(length));
            }
            Value::Subnet(Subnet::from_wire(address, length))
        }
        other => return Err(SerialErrorKind::Type(other)),
    })
}

fn type_tag(reader: &mut Reader<'_>) -> Result<TypeTag, SerialErrorKind> {
    let number = four(reader)?;
    u64::try_from(number)
        .ok()
        .and_then(TypeTag::from_number)
        .ok_or(SerialErrorKind::UnknownType(number))
}

/// A number of values, if the bytes that are left can hold as many.
fn elements(count: i64, reader: &Reader<'_>) -> Result<usize, SerialErrorKind> {
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= reader.remaining() / SMALLEST_VALUE)
        .ok_or(SerialErrorKind::Length)
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], SerialErrorKind> {
    let length = usize::try_from(four(reader)?).map_err(|_| SerialErrorKind::Length)?;
    reader.take(length).ok_or(SerialErrorKind::Truncated)
}

/// An address, and whether it is one of IPv4.
fn address(reader: &mut Reader<'_>) -> Result<(Address, bool), SerialErrorKind> {
    let short = SerialErrorKind::Truncated;
    match byte(reader)? {
        4 => {
            let bytes: [u8; 4] = reader.array().ok_or(short)?;
            Ok((std::net::Ipv4Addr::from(bytes).into(), true))
        }
        6 => Ok((Address::from_bytes(reader.array().ok_or(short)?), false)),
        other => Err(SerialErrorKind::AddressFamily(other)),
    }
}

fn byte(reader: &mut Reader<'_>) -> Result<u8, SerialErrorKind> {
    reader.u8().ok_or(SerialErrorKind::Truncated)
}

fn four(reader: &mut Reader<'_>) -> Result<i32, SerialErrorKind> {
    let bytes = reader.array().ok_or(SerialErrorKind::Truncated)?;
    Ok(i32::from_be_bytes(bytes))
}

fn eight(reader: &mut Reader<'_>) -> Result<[u8; 8], SerialErrorKind> {
    reader.array().ok_or(SerialErrorKind::Truncated)
}

fn put_value(out: &mut Vec<u8>, value: &Value<'_>) {
    put_number(out, value.ty().number());
    put_number(out, TypeTag::Void.number());
    out.push(u8::from(!matches!(value, Value::Unset(_))));
    match value {
        Value::Unset(_) => {}
        Value::Bool(value) => out.extend_from_slice(&i64::from(*value).to_be_bytes()),
        Value::Int(value) => out.extend_from_slice(&value.to_be_bytes()),
        Value::Count(value) => out.extend_from_slice(&value.to_be_bytes()),
        Value::Double(value) | Value::Time(value) | Value::Interval(value) => {
            out.extend_from_slice(&value.to_be_bytes());
        }
        Value::String(text) | Value::Enum(text) | Value::Func(text) | Value::File(text) => {
            let length = i32::try_from(text.len()).unwrap_or(i32::MAX);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(text);
        }
        Value::Port(port) => {
            out.extend_from_slice(&u64::from(port.number).to_be_bytes());
            put_number(out, port.protocol as u8);
        }
        Value::Addr(address) => put_address(out, *address, address.is_v4()),
        Value::Subnet(subnet) => {
            out.push(subnet.wire_length());
            put_address(out, subnet.address(), subnet.is_v4());
        }
        Value::Set(elements) | Value::Vector(elements) => {
            let count = i64::try_from(elements.len()).unwrap_or(i64::MAX);
            out.extend_from_slice(&count.to_be_bytes());
            for element in elements {
                put_value(out, element);
            }
        }
    }
}

fn put_number(out: &mut Vec<u8>, number: u8) {
    out.extend_from_slice(&i32::from(number).to_be_bytes());
}

fn put_address(out: &mut Vec<u8>, address: Address, is_v4: bool) {
    let bytes = address.as_bytes();
    if is_v4 {
        out.push(4);
        out.extend_from_slice(&bytes[12..]);
    } else {
        out.push(6);
        out.extend_from_slice(bytes);
    }
}

impl SerialError {
    fn new(kind: SerialErrorKind, field: usize) -> Self {
        Self {
            kind,
            field,
            element: None,
        }
    }

    /// Returns what is wrong.
    pub fn kind(&self) -> SerialErrorKind {
        self.kind
    }

    /// Returns the field that is wrong, counted from 0.
    pub fn field(&self) -> usize {
        self.field
    }

    /// Returns the element that is wrong, counted from 0, if the field is a set or vector.
    pub fn element(&self) -> Option<usize> {
        self.element
    }
}

impl fmt::Display for SerialErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("truncated"),
            Self::TrailingBytes => f.write_str("bytes after the last field"),
            Self::Length => f.write_str("impossible length"),
            Self::UnknownType(number) => write!(f, "unknown type {number}"),
            Self::Type(ty) => write!(f, "a value of type {ty}"),
            Self::Port => f.write_str("impossible port"),
            Self::AddressFamily(family) => write!(f, "unknown address family {family}"),
            Self::PrefixLength(length) => write!(f, "impossible prefix length {length}"),
            Self::TooDeep => f.write_str("nested too deeply"),
        }
    }
}

impl fmt::Display for SerialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field {}", self.field)?;
        if let Some(element) = self.element {
            write!(f, ", element {element}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl std::error::Error for SerialError {}
