//! Errors of conversions and type checks.

use std::borrow::Cow;
use std::fmt;

use crate::{DataRef, ValueRef};

/// Longest piece of a string that an error quotes, in bytes.
const QUOTED: usize = 40;

/// Why a value is not what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConvertErrorKind {
    /// The value is of another type.
    WrongType,
    /// The number does not fit.
    OutOfRange,
    /// The string is not UTF-8.
    NotUtf8,
    /// The record ends before a field that is not optional.
    MissingField,
    /// The values do not fit together, in the opinion of the type's author.
    Invalid,
}

/// Error for a value that is not of the expected type; names the field at fault.
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
    /// Error of a kind, with the expected type and the value that was there instead.
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

    /// Error for a value of another type.
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

    /// Puts the path into a field of a record.
    #[must_use]
    #[cold]
    pub fn in_field(mut self, record: impl Into<Cow<'static, str>>, field: &str) -> Self {
        self.0.steps.insert_str(0, field);
        self.0.steps.insert(0, '.');
        self.0.record = record.into();
        self
    }

    /// Puts the path into an element of a container; what is shown between the brackets is the
    /// position, or the key of a table.
    #[must_use]
    #[cold]
    pub fn in_element(mut self, element: impl fmt::Display) -> Self {
        self.0.steps.insert_str(0, &format!("[{element}]"));
        self.0.record = Cow::Borrowed("");
        self
    }

    /// Why the value does not fit.
    pub fn kind(&self) -> ConvertErrorKind {
        self.0.kind
    }

    /// Where it is: the outermost record and the steps below it, such as `Outer.inner.list[3]`; empty
    /// for the value itself.
    pub fn path(&self) -> String {
        format!("{}{}", self.0.record, self.0.steps)
    }

    /// The expected type.
    pub fn expected(&self) -> &str {
        &self.0.expected
    }

    /// What was there instead, in a few words.
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
