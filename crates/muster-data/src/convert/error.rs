//! Errors of conversions and type checks.

use std::borrow::Cow;
use std::fmt;

use crate::{DataRef, ValueRef};

/// Longest piece of a string that an error quotes, in bytes.
const QUOTED: usize = 40;

/// The kind of a [`ConvertError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConvertErrorKind {
    /// The value is of another type.
    WrongType,
    /// The number is out of the type's range.
    OutOfRange,
    /// The string is not UTF-8.
    NotUtf8,
    /// The record ends before a field that is not optional.
    MissingField,
    /// The values do not fit together, as the author of the type defines it.
    Invalid,
}

/// The error for a value that is not of the expected type. It names the field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertError(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: ConvertErrorKind,
    /// Outermost record.
    record: Cow<'static, str>,
    /// Steps below it, such as `.inner.list[3]`.
    steps: String,
    expected: Cow<'static, str>,
    held: String,
}

impl ConvertError {
    /// Creates an error with the expected type and a description of the value that was there
    /// instead.
    #[cold]
    pub fn new(
        kind: ConvertErrorKind,
        expected: impl Into<Cow<'static, str>>,
        held: DataRef<'_>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            record: Cow::Borrowed(""),
            steps: String::new(),
            expected: expected.into(),
            held: describe(held),
        }))
    }

    /// Creates an error for a value of another type.
    #[cold]
    pub fn wrong_type(expected: impl Into<Cow<'static, str>>, held: DataRef<'_>) -> Self {
        Self::new(ConvertErrorKind::WrongType, expected, held)
    }

    /// Error for a record of `length` elements that ends before a field.
    #[cold]
    pub(crate) fn missing(expected: impl Into<Cow<'static, str>>, length: usize) -> Self {
        let mut error = Self::new(ConvertErrorKind::MissingField, expected, DataRef::NONE);
        error.0.held = format!("nothing: the record has {length} elements");
        error
    }

    /// Puts the field of a record in front of the path.
    #[must_use]
    #[cold]
    pub fn in_field(mut self, record: impl Into<Cow<'static, str>>, field: &str) -> Self {
        self.0.steps.insert_str(0, field);
        self.0.steps.insert(0, '.');
        self.0.record = record.into();
        self
    }

    /// Puts an element of a container in front of the path. `element` is shown between the
    /// brackets: the position, or the key of a table.
    #[must_use]
    #[cold]
    pub fn in_element(mut self, element: impl fmt::Display) -> Self {
        self.0.steps.insert_str(0, &format!("[{element}]"));
        self.0.record = Cow::Borrowed("");
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ConvertErrorKind {
        self.0.kind
    }

    /// Returns where the value is: the outermost record and the steps below it, such as
    /// `Outer.inner.list[3]`. Empty for the outermost value itself.
    pub fn path(&self) -> String {
        format!("{}{}", self.0.record, self.0.steps)
    }

    /// Returns the expected type.
    pub fn expected(&self) -> &str {
        &self.0.expected
    }

    /// Returns a short description of the value that was there instead.
    pub fn held(&self) -> &str {
        &self.0.held
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        if !inner.record.is_empty() || !inner.steps.is_empty() {
            write!(f, "{}{}: ", inner.record, inner.steps)?;
        }
        match inner.kind {
            ConvertErrorKind::OutOfRange => f.write_str("out of range: ")?,
            ConvertErrorKind::NotUtf8 => f.write_str("not UTF-8: ")?,
            ConvertErrorKind::MissingField => f.write_str("missing field: ")?,
            ConvertErrorKind::WrongType | ConvertErrorKind::Invalid => {}
        }
        write!(f, "expected {}, found {}", inner.expected, inner.held)
    }
}

impl std::error::Error for ConvertError {}

/// Kind and value in a few words.
fn describe(value: DataRef<'_>) -> String {
    let kind = value.kind();
    match value.get() {
        ValueRef::None => "none".into(),
        ValueRef::String(bytes) if bytes.len() > QUOTED => {
            // Not to cut a character, look back for the beginning of one.
            let end = (QUOTED - 3..=QUOTED)
                .rev()
                .find(|&end| bytes[end] & 0xc0 != 0x80)
                .unwrap_or(QUOTED);
            let beginning = crate::Data::string(&bytes[..end]);
            format!("string {beginning}... of {} bytes", bytes.len())
        }
        ValueRef::Set(set) => format!("set of {} elements", set.len()),
        ValueRef::Table(table) => format!("table of {} entries", table.len()),
        ValueRef::Vector(vector) => format!("vector of {} elements", vector.len()),
        _ => format!("{kind} {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode_to_vec;

    #[test]
    fn long_strings_are_cut_between_characters() {
        let text = "é".repeat(100);
        let bytes = encode_to_vec(text.as_str());
        let error = ConvertError::wrong_type("count", DataRef::from_validated(&bytes));
        assert_eq!(
            error.held(),
            format!("string \"{}\"... of 200 bytes", "é".repeat(20))
        );
    }

    #[test]
    fn path_begins_at_the_outermost_record() {
        let error = ConvertError::wrong_type("count", DataRef::NONE)
            .in_field("List", "items")
            .in_element(3)
            .in_field("Outer", "lists");
        assert_eq!(error.path(), "Outer.lists[3].items");
        assert_eq!(
            error.to_string(),
            "Outer.lists[3].items: expected count, found none"
        );
    }
}
