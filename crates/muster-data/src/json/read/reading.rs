//! What all parts of one text share: the limit of its elements, and where an error is.

use std::cell::{Cell, RefCell};
use std::fmt;

use crate::json::error::{JsonError, JsonErrorKind};

/// Longest description of a problem, in characters.
const LONGEST_PROBLEM: usize = 400;

/// Longest piece of the input that an error quotes, in characters.
const QUOTED: usize = 40;

/// What is shared by all parts of one text.
pub(super) struct Reading {
    /// Elements that may still come.
    pub(super) elements: Cell<u64>,
    /// What was found to be wrong besides the syntax.
    pub(super) problem: Cell<Option<JsonErrorKind>>,
    /// Where the reader is; after an error, where it was.
    pub(super) path: RefCell<Vec<Step>>,
}

#[derive(Clone, Copy)]
pub(super) enum Step {
    Element(usize),
    Key,
    Value,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(index) => write!(f, "data[{index}]"),
            Self::Key => f.write_str("key"),
            Self::Value => f.write_str("value"),
        }
    }
}

impl Reading {
    pub(super) fn fail<E: serde::de::Error>(
        &self,
        kind: JsonErrorKind,
        problem: impl fmt::Display,
    ) -> E {
        self.problem.set(Some(kind));
        E::custom(problem)
    }

    pub(super) fn error(&self, error: &serde_json::Error) -> JsonError {
        let kind = match self.problem.get() {
            Some(kind) => kind,
            None if error.is_data() => JsonErrorKind::WrongType,
            None => JsonErrorKind::Malformed,
        };
        // What serde says of a wrong type quotes the input whole.
        let problem = beginning(&error.to_string(), LONGEST_PROBLEM);
        if kind == JsonErrorKind::Malformed {
            return JsonError::new(kind, String::new(), problem);
        }
        let steps: Vec<String> = self.path.borrow().iter().map(Step::to_string).collect();
        let path = steps.join(".");
        JsonError::new(kind, path, problem)
    }

    /// Reads a part of a value; after an error the path still leads there.
    pub(super) fn within<T, E>(
        &self,
        step: Step,
        part: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.path.borrow_mut().push(step);
        let result = part();
        if result.is_ok() {
            self.path.borrow_mut().pop();
        }
        result
    }

    pub(super) fn count_element<E: serde::de::Error>(&self) -> Result<(), E> {
        match self.elements.get().checked_sub(1) {
            Some(left) => {
                self.elements.set(left);
                Ok(())
            }
            None => Err(self.fail(JsonErrorKind::TooLarge, "too many elements")),
        }
    }
}

/// A piece of the input for an error to quote.
pub(super) fn quoted(text: &str) -> String {
    beginning(text, QUOTED)
}

fn beginning(text: &str, most: usize) -> String {
    let mut beginning: String = text.chars().take(most).collect();
    if beginning.len() < text.len() {
        beginning.push_str("...");
    }
    beginning
}
