//! Why an input cannot start.

use std::io;
use std::path::PathBuf;

use crate::zeek_log::LogError;

/// Why an input cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// A pattern that no file's name matches.
    #[error("no file matches `{}`", .0.display())]
    NoMatch(PathBuf),
    /// A directory that cannot be searched for a pattern.
    #[error("cannot search `{}`: {source}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that cannot be opened.
    #[error("{0}")]
    File(#[source] LogError),
    /// More files than an input may have.
    #[error("{found} log files; an input reads at most {most}")]
    TooManyFiles {
        /// The number of files.
        found: usize,
        /// The number that may be.
        most: usize,
    },
    /// A speed that is negative or no number.
    #[error("a speed of {0} times real time; it has to be 0 (as fast as possible) or more")]
    Speed(f64),
}
