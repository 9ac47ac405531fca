//! Records: structs as vectors with one element per field.

use std::borrow::Cow;

use crate::{ConvertError, DataRef, Decode, VectorIter};

/// Structs that are encoded as a vector with one element per field. Usually
/// [derived](macro@crate::Record).
///
/// As in Zeek, a vector with too few elements is an error unless the missing fields are optional, and
/// elements beyond the last field are ignored.
pub trait Record {
    /// Name of the record type, such as `Notice::Info`.
    const NAME: &'static str;
    /// Names of the fields in order.
    const FIELDS: &'static [&'static str];
}

/// Reads the fields of a record in order. It is used by derived code.
#[derive(Clone, Debug)]
pub struct FieldReader<'a> {
    record: &'static str,
    fields: VectorIter<'a>,
    length: usize,
}

impl<'a> FieldReader<'a> {
    /// Creates a reader of a value that must be a record. `record` is its name, for errors.
    ///
    /// # Errors
    ///
    /// Fails if the value is not a vector.
    #[inline]
    pub fn new(value: DataRef<'a>, record: &'static str) -> Result<Self, ConvertError> {
        match value.as_vector() {
            Some(vector) => Ok(Self {
                record,
                fields: vector.iter(),
                length: vector.len(),
            }),
            None => Err(wrong_record(value, record)),
        }
    }

    /// Reader of a tuple.
    pub(crate) fn tuple(value: DataRef<'a>) -> Result<Self, ConvertError> {
        Self::new(value, "")
    }

    /// Reads the next field, which `field` names in errors.
    ///
    /// # Errors
    ///
    /// Fails if the field is missing and not optional, or is not a `T`.
    #[inline]
    pub fn next<T: Decode<'a>>(&mut self, field: &'static str) -> Result<T, ConvertError> {
        match self.fields.next() {
            Some(value) => T::decode(value).map_err(|error| self.locate(error, field)),
            None => T::missing()
                .ok_or_else(|| self.locate(ConvertError::missing("a value", self.length), field)),
        }
    }

    #[cold]
    fn locate(&self, error: ConvertError, field: &'static str) -> ConvertError {
        if self.record.is_empty() {
            error.in_element(field)
        } else {
            error.in_field(self.record, field)
        }
    }
}

#[cold]
fn wrong_record(value: DataRef<'_>, record: &'static str) -> ConvertError {
    let expected = match record {
        "" => Cow::Borrowed("vector"),
        name => Cow::Owned(format!("record {name}")),
    };
    ConvertError::wrong_type(expected, value)
}
