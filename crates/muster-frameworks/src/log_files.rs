//! The files that a logger writes: one per stream, in Zeek's TSV or as JSON lines, rotated by the
//! wall clock.
//!
//! [`LogFiles`] writes batches to files in one directory. The current file of a stream is `known_hosts.log`, or
//! `known_hosts.logger-1.log` where the writer has a name; a rotated one has the times of its beginning and its end in
//! its name, `known_hosts.logger-1.2018-03-24-17-00-00-18-00-00.log`. All times in names and headers are UTC.
//!
//! What is in a file with a final name stays there: no such file is truncated to less than its complete rows, continued by another
//! life, or replaced by another file. With a diary, a rotated file waits in `unsettled` for its final name until it is clear what of
//! it counts here. Only one writer of a name may write to a directory at a time.
//!
//! [`FileSink`] makes them the `log_sink` of a node, and [`SETTINGS`] are the settings that a layout may have for
//! them.
//!
//! [`count_rows`] and [`read_rows`] read what was written.

mod diary;
mod error;
mod files;
mod json;
mod ledger;
mod names;
mod open_file;
mod read;
mod settling;
mod sink;
mod tsv;

#[cfg(test)]
mod diary_tests;
#[cfg(test)]
mod tests;

pub use error::{LogFilesError, LogFilesErrorKind};
pub use files::{
    LogFiles, LogFilesConfig, LogFormat, MOST_CHANGES, MOST_STREAMS, SHORTEST_ROTATION,
};
pub use names::RotatedName;
pub use read::{count_rows, files_of, names_stream, read_rows, read_rows_of};
#[cfg(feature = "simulation")]
pub use sink::BrokenRule;
pub use sink::{FileSink, Reopener, SETTINGS};
