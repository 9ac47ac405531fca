//! Errors in JSON.

use thiserror::Error;

/// What is wrong with a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// The text is no JSON.
    Malformed,
    /// The JSON is no value: a part is missing, of the wrong type, or out of range.
    WrongType,
    /// A set holds an element twice, or a table a key.
    Duplicate,
    /// The nesting exceeds the limit.
    TooDeep,
    /// The text or its number of elements exceeds the limit.
    TooLarge,
}

/// Error for JSON that is no value.
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

    /// What is wrong.
    pub fn kind(&self) -> JsonErrorKind {
        self.kind
    }

    /// Where it is, as `data[2].data[0]`; empty for the outermost value and where the text is no JSON.
    pub fn path(&self) -> &str {
        &self.path
    }
}
