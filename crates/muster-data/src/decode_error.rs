//! Errors in encoded values.

use thiserror::Error;

/// The kind of a [`DecodeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// There are no bytes at all.
    #[error("the value is empty")]
    Empty,
    /// The bytes end inside a value, or a length reaches beyond them.
    #[error("the value is cut short")]
    Truncated,
    /// Bytes follow the value.
    #[error("bytes follow the value")]
    TrailingBytes,
    /// The tag byte is not one of the known kinds.
    #[error("unknown type tag")]
    UnknownTag,
    /// A length takes more than five bytes or exceeds 32 bits.
    #[error("length out of range")]
    BadLength,
    /// The protocol of a port is above 3.
    #[error("unknown port protocol")]
    BadProtocol,
    /// A set holds an element twice.
    #[error("duplicate element in a set")]
    DuplicateElement,
    /// A table holds a key twice.
    #[error("duplicate key in a table")]
    DuplicateKey,
    /// The nesting exceeds [`Limits::depth`](crate::Limits::depth).
    #[error("nested too deeply")]
    TooDeep,
    /// The elements exceed [`Limits::elements`](crate::Limits::elements).
    #[error("too many elements")]
    TooManyElements,
    /// The size exceeds [`Limits::bytes`](crate::Limits::bytes).
    #[error("value too large")]
    TooLarge,
    /// There are sets whose elements hold sets that are not in order, and comparing them would take
    /// too long.
    #[error("too complex to check for duplicates")]
    TooComplex,
}

/// The error for bytes that are not a valid value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{kind} at byte {offset}")]
pub struct DecodeError {
    kind: DecodeErrorKind,
    offset: usize,
}

impl DecodeError {
    pub(crate) fn new(kind: DecodeErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> DecodeErrorKind {
        self.kind
    }

    /// Returns the byte of the input at which the error was noticed, counted from 0.
    pub fn offset(&self) -> usize {
        self.offset
    }
}
