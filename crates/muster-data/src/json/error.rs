//! Errors in JSON.

use thiserror::Error;

/// The kind of a [`JsonError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// The text is not JSON.
    Malformed,
    /// The JSON is not a value: a part is missing, of the wrong type, or out of range.
    WrongType,
    /// A set holds an element twice, or a table holds a key twice.
    Duplicate,
    /// The nesting exceeds the limit.
    TooDeep,
    /// The text or its number of elements exceeds the limit.
    TooLarge,
}

/// The error for JSON that is not a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{problem}", if path.is_empty() { String::new() } else { format!("at {path}: ") })]
pub struct JsonError {
    kind: JsonErrorKind,
    path: String,
    problem: String,
}

impl JsonError {
    pub(super) fn new(kind: JsonErrorKind, path: String, problem: String) -> Self {
        Self {
            kind,
            path,
            problem,
        }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> JsonErrorKind {
        self.kind
    }

    /// Returns where the error is, such as `data[2].data[0]`. Empty for the outermost value, and if
    /// the text is not JSON.
    pub fn path(&self) -> &str {
        &self.path
    }
}
