//! Errors in the text form.

use std::fmt;

use thiserror::Error;

/// Longest piece of the input that an error quotes, in characters.
const QUOTED: usize = 40;

/// The kind of a [`ParseError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// The text does not have the form of any value.
    Malformed,
    /// The form is right, but the number is too large, or more precise than the type.
    OutOfRange,
    /// The text ends too early.
    UnexpectedEnd,
    /// Text follows the value.
    TrailingText,
    /// A set holds an element twice, or a table holds a key twice.
    Duplicate,
    /// The nesting exceeds the limit.
    TooDeep,
    /// The text or its number of elements exceeds the limit.
    TooLarge,
}

/// The error for text that is not a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ParseError {
    kind: ParseErrorKind,
    offset: usize,
    found: String,
    expected: &'static str,
}

impl ParseError {
    /// Error at a byte of the input, with the text found there.
    pub(crate) fn new(
        kind: ParseErrorKind,
        offset: usize,
        found: &str,
        expected: &'static str,
    ) -> Self {
        let mut quoted: String = found.chars().take(QUOTED).collect();
        if quoted.len() < found.len() {
            quoted.push_str("...");
        }
        Self {
            kind,
            offset,
            found: quoted,
            expected,
        }
    }

    /// The same error in a text where the piece it was found in begins at this byte.
    pub(crate) fn at(mut self, offset: usize) -> Self {
        self.offset += offset;
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ParseErrorKind {
        self.kind
    }

    /// Returns the byte of the input at which the error was noticed, counted from 0.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Returns the text at fault or its beginning. Empty at the end of the input.
    pub fn found(&self) -> &str {
        &self.found
    }

    /// Returns what would have been right, with an example.
    pub fn expected(&self) -> &'static str {
        self.expected
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.kind {
            ParseErrorKind::OutOfRange => "out of range: ",
            ParseErrorKind::Duplicate => "duplicate: ",
            ParseErrorKind::TooDeep => "nested too deeply: ",
            ParseErrorKind::TooLarge => "too large: ",
            _ => "",
        };
        write!(f, "at byte {}: {problem}found ", self.offset)?;
        if self.found.is_empty() {
            f.write_str("the end")?;
        } else {
            write!(f, "`{}`", self.found)?;
        }
        write!(f, ", expected {}", self.expected)
    }
}
