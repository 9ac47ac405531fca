//! What can be wrong with a log.

use std::fmt;
use std::io;
use std::sync::Arc;

/// What is wrong with a log, or with one of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogErrorKind {
    /// The file cannot be read.
    Io,
    /// Neither TSV with Zeek's header nor JSON.
    NotALog,
    /// A header line is not valid, or a row comes before any header.
    Header,
    /// The file ends in the middle of a row or of its compressed data.
    Truncated,
    /// The compressed data is damaged.
    Corrupt,
    /// Decompressing it takes more memory than a file may have, or than the other files have left.
    TooMuchMemory,
    /// A row is longer than [`LONGEST_LINE`](super::LONGEST_LINE).
    LineTooLong,
    /// A row has more or fewer columns than its header.
    ColumnCount,
    /// A row is not a JSON object.
    Json,
    /// A column does not hold what it should.
    Value,
    /// The source has nothing at the moment ([`WouldBlock`](io::ErrorKind::WouldBlock)): nothing is wrong, and a later
    /// call may bring a row.
    NotReady,
}

impl LogErrorKind {
    /// Returns `true` if one row is at fault, and not the file.
    pub const fn is_row(self) -> bool {
        matches!(
            self,
            Self::LineTooLong | Self::ColumnCount | Self::Json | Self::Value
        )
    }
}

/// An error of reading a log. It names the file and the line.
#[derive(Debug)]
pub struct LogError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: LogErrorKind,
    file: Arc<str>,
    line: u64,
    problem: String,
    source: Option<io::Error>,
}

impl LogError {
    pub(super) fn new(
        kind: LogErrorKind,
        file: &Arc<str>,
        line: u64,
        problem: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            file: Arc::clone(file),
            line,
            problem: problem.into(),
            source: None,
        }))
    }

    /// An error of the reader below; the kind tells damaged data from a failing disk.
    pub(crate) fn io(file: &Arc<str>, line: u64, source: io::Error) -> Self {
        let (kind, problem) = match source.kind() {
            io::ErrorKind::WouldBlock => {
                (LogErrorKind::NotReady, "nothing at the moment".to_owned())
            }
            io::ErrorKind::UnexpectedEof => (
                LogErrorKind::Truncated,
                "the compressed data ends too early".to_owned(),
            ),
            io::ErrorKind::OutOfMemory => (LogErrorKind::TooMuchMemory, source.to_string()),
            // zstd has no kind of its own for what it cannot read.
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::Other => (
                LogErrorKind::Corrupt,
                format!("the compressed data is damaged: {source}"),
            ),
            _ => (LogErrorKind::Io, source.to_string()),
        };
        Self(Box::new(Inner {
            kind,
            file: Arc::clone(file),
            line,
            problem,
            source: Some(source),
        }))
    }

    /// Returns what is wrong.
    pub fn kind(&self) -> LogErrorKind {
        self.0.kind
    }

    /// Returns `true` if one row is at fault; reading can go on after it.
    pub fn is_row(&self) -> bool {
        self.0.kind.is_row()
    }

    /// The file, as it was named to the reader.
    pub fn file(&self) -> &str {
        &self.0.file
    }

    /// The line, counted from 1; 0 if the file could not be read at all.
    pub fn line(&self) -> u64 {
        self.0.line
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.line {
            0 => write!(f, "{}: {}", self.0.file, self.0.problem),
            line => write!(f, "{}:{line}: {}", self.0.file, self.0.problem),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}

/// A piece of a value for an error's text: at most 40 characters, printable.
pub(super) fn quote(bytes: &[u8]) -> String {
    const MOST: usize = 40;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MOST)]);
    let short: String = text.chars().take(MOST).collect();
    let more = if short.len() < bytes.len() { "..." } else { "" };
    format!("`{}{more}`", short.escape_debug())
}
