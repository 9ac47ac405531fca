//! What can go wrong with a logger's files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogFilesErrorKind {
    /// The directory cannot be created or read.
    Directory,
    /// The writer's name cannot be part of a file's name.
    WriterName,
    /// The stream's name cannot be a file's name.
    StreamName,
    /// The stream has no columns, or one without a name or type, or two of the same name.
    Columns,
    /// More streams than [`MOST_STREAMS`](super::MOST_STREAMS).
    TooManyStreams,
    /// The columns of a stream have changed [too often](super::MOST_CHANGES).
    TooManyChanges,
    /// A file cannot be created.
    Create,
    /// A file cannot be written, for example because the disk is full.
    Write,
    /// A file cannot be moved to its rotated name; the rows are where they were.
    Rotate,
    /// A file was removed while it was written, with the rows in it. A new one is begun.
    Removed,
    /// A file cannot be read.
    Read,
}

/// An error of writing or reading a logger's files. It names the file, and says which rows of a batch were written and
/// which were not.
#[derive(Debug)]
pub struct LogFilesError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: LogFilesErrorKind,
    path: PathBuf,
    written: u64,
    not_written: u64,
    gone: u64,
    source: Option<io::Error>,
}

impl LogFilesError {
    pub(super) fn new(
        kind: LogFilesErrorKind,
        path: impl AsRef<Path>,
        source: impl Into<Option<io::Error>>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            path: path.as_ref().to_owned(),
            written: 0,
            not_written: 0,
            gone: 0,
            source: source.into(),
        }))
    }

    /// The error of a batch of which so many rows were written and so many not.
    pub(super) fn with_rows(mut self, written: usize, not_written: usize) -> Self {
        self.0.written = written as u64;
        self.0.not_written = not_written as u64;
        self
    }

    /// The error of a file that was removed with so many rows.
    pub(super) fn removed(path: &Path, gone: u64) -> Self {
        let mut error = Self::new(LogFilesErrorKind::Removed, path, None);
        error.0.gone = gone;
        error
    }

    /// Returns the number of rows that were written before, and are gone with a removed file.
    pub fn gone(&self) -> u64 {
        self.0.gone
    }

    /// What went wrong.
    pub fn kind(&self) -> LogFilesErrorKind {
        self.0.kind
    }

    /// The file or directory, or the name that was refused.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The number of rows of the batch that are in the file nevertheless.
    pub fn written(&self) -> u64 {
        self.0.written
    }

    /// The number of rows of the batch, after the first [`written`](Self::written) ones, that are in no file.
    pub fn not_written(&self) -> u64 {
        self.0.not_written
    }
}

impl fmt::Display for LogFilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            path,
            written,
            not_written,
            gone,
            source,
        } = &*self.0;
        let path = path.display();
        match kind {
            LogFilesErrorKind::Directory => write!(f, "cannot use directory `{path}`"),
            LogFilesErrorKind::WriterName => write!(
                f,
                "`{path}` is not a writer's name: it has 1 to 128 letters, digits, `_`, `.` and `-`"
            ),
            LogFilesErrorKind::StreamName => write!(
                f,
                "`{path}` is not a stream's name: it has 1 to 64 letters, digits, `_` and `-`"
            ),
            LogFilesErrorKind::Columns => write!(
                f,
                "`{path}`: the columns need names, all different, and types"
            ),
            LogFilesErrorKind::TooManyStreams => write!(
                f,
                "`{path}`: {} streams are open already",
                super::MOST_STREAMS
            ),
            LogFilesErrorKind::TooManyChanges => write!(
                f,
                "`{path}`: the columns change too often; do all nodes run the same version?"
            ),
            LogFilesErrorKind::Create => write!(f, "cannot create `{path}`"),
            LogFilesErrorKind::Write => write!(f, "cannot write `{path}`"),
            LogFilesErrorKind::Rotate => write!(f, "cannot rotate `{path}`"),
            LogFilesErrorKind::Removed => write!(
                f,
                "`{path}` was removed with the {gone} rows in it; a new file is begun"
            ),
            LogFilesErrorKind::Read => write!(f, "cannot read `{path}`"),
        }?;
        if let Some(source) = source {
            write!(f, ": {source}")?;
        }
        if *not_written > 0 {
            write!(f, "; {not_written} rows are not written")?;
            if *written > 0 {
                write!(f, ", {written} before them are")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for LogFilesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}
