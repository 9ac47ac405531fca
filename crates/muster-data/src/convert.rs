//! Conversion of values to Rust types.

mod containers;
mod error;
mod leaves;

pub use error::{ConvertError, ConvertErrorKind};

use crate::{Data, DataRef, encode_to_vec};

/// Types that can be read from a value.
///
/// Reading is strict: an integer is not accepted as a count, nor a vector as a set.
pub trait Decode<'a>: Sized {
    /// Reads the value.
    ///
    /// # Errors
    ///
    /// Fails if the value is not of this type.
    fn decode(value: DataRef<'a>) -> Result<Self, ConvertError>;

    /// What a field of this type is when its record ends before it; only optional types have that.
    fn missing() -> Option<Self> {
        None
    }
}

/// Types that can be read from a value without borrowing from it.
pub trait DecodeOwned: for<'a> Decode<'a> {}

impl<T: for<'a> Decode<'a>> DecodeOwned for T {}

/// Reads an owned value as a `T`.
///
/// # Errors
///
/// Fails if the value is not a `T`; the error says what is wrong, and where.
pub fn from_data<T: DecodeOwned>(data: &Data) -> Result<T, ConvertError> {
    T::decode(DataRef::from_validated(&encode_to_vec(data)))
}
