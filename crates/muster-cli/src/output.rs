//! What is printed, and how the command ends.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Error, Result};
use tracing_subscriber::EnvFilter;

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

/// Writes a line to stderr.
pub(crate) fn say(text: &str) {
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
    say(&format!("error: {error:#}"));
    let failure = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Failure>());
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_ref()) {
        say(&format!("hint: {hint}"));
    }
    ExitCode::from(failure.map_or(1, |failure| failure.code))
}

/// Starts the log on stderr at a level. The environment variable `MUSTER_LOG` names another, as `MUSTER_LOG=debug`.
pub(crate) fn start_log(level: &str) {
    let filter = EnvFilter::try_from_env("MUSTER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(|| LogWriter)
        .log_internal_errors(false)
        .init();
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

/// The log's way to stderr: each event on one line, whatever the names from the network in it. A log that cannot be written, as on a full disk, ends nothing: tracing
/// would say so on stderr as well, and panic when that fails too.
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Colours are tracing's own: it escapes those of others.
        let (text, end) = match bytes {
            [text @ .., b'\n'] => (text, "\n"),
            text => (text, ""),
        };
        let mut line = String::from_utf8_lossy(text)
            .replace('\n', "\\n")
            .replace('\r', "\\r");
        line.push_str(end);
        let _ = io::stderr().lock().write_all(line.as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
