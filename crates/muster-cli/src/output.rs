//! What is printed, and how the command ends.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Error, Result};
use tracing::Level;

use crate::log;

pub(crate) use muster_gateway::status::MISCONFIGURED;

/// What was typed is not understood, as `clap` has it.
pub(crate) const USAGE: u8 = 2;

/// No cluster runs where one was looked for.
pub(crate) const NOT_RUNNING: u8 = 3;

/// Some boxes did not answer.
pub(crate) const INCOMPLETE: u8 = 5;

/// Whoever asks may not, or the state of things does not allow it.
pub(crate) const REFUSED: u8 = 4;

/// A failure with an exit code of its own and a way out.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code: 1,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Takes a hint if it has none.
    pub(crate) fn or_hint(mut self, hint: Option<String>) -> Self {
        self.hint = self.hint.or(hint);
        self
    }

    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Writes text to stdout.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a line to stderr, in the form of the process's log.
pub(crate) fn say(text: &str) {
    say_at(Level::INFO, text);
}

/// The same of something that should not be.
pub(crate) fn warn(text: &str) {
    say_at(Level::WARN, text);
}

fn say_at(level: Level, text: &str) {
    if log::write_record(level, text, None) {
        return;
    }
    // There is nobody left to tell that stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Ends the command with a failure. A closed pipe is success: the reader has seen enough.
pub(crate) fn failed(error: &Error) -> ExitCode {
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed) {
        return ExitCode::SUCCESS;
    }
    let failure = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Failure>());
    let hint = failure.and_then(|failure| failure.hint.as_deref());
    if !log::write_record(Level::ERROR, &format!("{error:#}"), hint) {
        say(&format!("error: {error:#}"));
        if let Some(hint) = hint {
            say(&format!("hint: {hint}"));
        }
    }
    ExitCode::from(failure.map_or(1, |failure| failure.code))
}

/// A text from the network with its control characters as escapes: it forges no line, and does nothing to
/// a terminal.
pub(crate) fn one_line(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line.into()
}
