//! Why an input cannot start.

use std::io;
use std::path::PathBuf;

use crate::zeek_log::LogError;

/// Why an input cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// No file's name matches a pattern.
    #[error("no file matches `{}`", .0.display())]
    NoMatch(PathBuf),
    /// A directory cannot be searched for a pattern.
    #[error("cannot search `{}`: {source}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file cannot be opened.
    #[error("{0}")]
    File(#[source] LogError),
    /// There are more files than an input may have.
    #[error("{found} log files; an input reads at most {most}")]
    TooManyFiles {
        /// The number of files.
        found: usize,
        /// The most files that an input may have.
        most: usize,
    },
    /// The speed is negative or not a number.
    #[error("a speed of {0} times real time; it has to be 0 (as fast as possible) or more")]
    Speed(f64),
}
