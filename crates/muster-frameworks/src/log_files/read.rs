//! Reads what a logger's files hold.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{LogFilesError, LogFilesErrorKind};
use super::sink::UNSETTLED;
use crate::log_input::pattern::matches;
use crate::zeek_log::{LogErrorKind, LogReader, Row};

/// Counts the complete rows of every stream in a directory, in the current and rotated files of all writers and in those that
/// wait for their final names, TSV and JSON. Torn rows do not count, nor do files that are not logs.
///
/// No file may be rotated meanwhile.
///
/// # Errors
/// [`LogFilesError`] if the directory or a file cannot be read.
pub fn count_rows(directory: &Path) -> Result<BTreeMap<String, u64>, LogFilesError> {
    let mut counts = BTreeMap::new();
    for (stream, path) in files(directory)? {
        let mut count = 0;
        if visit(&path, |_| count += 1)? {
            *counts.entry(stream).or_default() += count;
        }
    }
    Ok(counts)
}

/// Returns the rows of one stream as text by column, without columns that are not set. The files are read in the order
/// of their names, so those of one writer are in the order of time. For tests and small logs: everything is in memory.
///
/// # Errors
/// [`LogFilesError`] if the directory or a file cannot be read.
pub fn read_rows(
    directory: &Path,
    stream: &str,
) -> Result<Vec<BTreeMap<String, String>>, LogFilesError> {
    let mut rows = Vec::new();
    for (_, path) in files(directory)?
        .into_iter()
        .filter(|file| file.0 == stream)
    {
        rows.extend(read_rows_of(&path)?);
    }
    Ok(rows)
}

/// Reads all rows of one file; the value of each field is found by its name.
///
/// # Errors
/// Fails if the file cannot be read, or is not a log.
pub fn read_rows_of(path: &Path) -> Result<Vec<BTreeMap<String, String>>, LogFilesError> {
    let mut rows = Vec::new();
    visit(path, |row| {
        let fields = row.fields();
        rows.push(
            fields
                .map(|(name, field)| (name.to_owned(), field.text().into_owned()))
                .collect(),
        );
    })?;
    Ok(rows)
}

/// Returns the files of one stream, current and rotated ones, of all writers, in the order of their names.
///
/// # Errors
/// Fails if the directory cannot be read.
pub fn files_of(directory: &Path, stream: &str) -> io::Result<Vec<PathBuf>> {
    let found = files(directory).map_err(io::Error::other)?;
    let of_stream = found.into_iter().filter(|(of, _)| of == stream);
    Ok(of_stream.map(|(_, path)| path).collect())
}

/// Returns whether a stream is one of those that a pattern names: `*` in it is any text, `?` any one character.
pub fn names_stream(pattern: &str, stream: &str) -> bool {
    matches(pattern.as_bytes(), stream.as_bytes())
}

/// Stream and path of every log in a directory, by name.
fn files(directory: &Path) -> Result<Vec<(String, PathBuf)>, LogFilesError> {
    let failed = |error| LogFilesError::new(LogFilesErrorKind::Directory, directory, error);
    let mut files = Vec::new();
    let entries = std::fs::read_dir(directory).map_err(failed)?;
    // Files that wait for their final names are in a directory of their own, if there are any.
    let waiting = std::fs::read_dir(directory.join(UNSETTLED))
        .into_iter()
        .flatten();
    for entry in entries.chain(waiting) {
        let entry = entry.map_err(failed)?;
        let (name, path) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str() else {
            continue;
        };
        let mut ends = [".gz", ".zst"].iter();
        let plain = ends.find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let Some(base) = plain.strip_suffix(".log") else {
            continue;
        };
        let stream = base.split('.').next().unwrap_or(base);
        if !stream.is_empty() && !path.is_dir() {
            files.push((stream.to_owned(), path));
        }
    }
    files.sort();
    Ok(files)
}

/// Every whole row of a file, up to where it is torn. `false` if the file is no log.
fn visit(path: &Path, mut take: impl FnMut(&Row<'_>)) -> Result<bool, LogFilesError> {
    let failed = |error| {
        let error = io::Error::other(error);
        LogFilesError::new(LogFilesErrorKind::Read, path, error)
    };
    let mut reader = LogReader::open(path, &[]).map_err(failed)?;
    loop {
        match reader.next_row() {
            Ok(Some(row)) => take(&row),
            Ok(None) => return Ok(true),
            Err(error) if error.kind() == LogErrorKind::NotALog => return Ok(false),
            Err(error) if error.is_row() || error.kind() == LogErrorKind::Truncated => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
