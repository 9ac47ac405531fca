//! One row of a log.

use std::sync::Arc;

use super::error::{LogError, LogErrorKind};
use super::field::Field;
use super::json::Object;
use super::tsv::Header;

/// One row of a log.
#[derive(Debug)]
pub struct Row<'a> {
    pub(super) columns: Columns<'a>,
    pub(super) file: &'a Arc<str>,
    pub(super) stem: &'a str,
    pub(super) line: u64,
}

#[derive(Debug)]
pub(super) enum Columns<'a> {
    Tsv {
        header: &'a Header,
        line: &'a [u8],
        ends: &'a [usize],
    },
    Json {
        object: &'a Object,
        line: &'a [u8],
    },
    None,
}

impl<'a> Row<'a> {
    /// The name of the log, such as `conn`: what TSV's `#path`, JSON's `_path` or the name of the object that the row
    /// is in says, or else what the file's name tells.
    pub fn path(&self) -> &'a str {
        self.stated_path().unwrap_or(self.stem)
    }

    /// The name that the log itself states.
    pub(super) fn stated_path(&self) -> Option<&'a str> {
        match &self.columns {
            Columns::Tsv { header, .. } => header.path(),
            Columns::Json { object, line } => object.path(line),
            Columns::None => None,
        }
    }

    /// The log that the file's name tells.
    pub(super) fn stem(&self) -> &'a str {
        self.stem
    }

    /// The number of the row's line, counted from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Returns the value of a wanted column, by its index in what was given to [`LogReader::new`](super::LogReader::new),
    /// or `None` if it is not set or the log has no such column.
    pub fn get(&self, wanted: usize) -> Option<Field<'a>> {
        match &self.columns {
            Columns::Tsv { header, line, ends } => header.field(line, ends, header.column(wanted)?),
            Columns::Json { object, line } => object.get(line, wanted).map(Field::json),
            Columns::None => None,
        }
    }

    /// Returns the names and values of all columns that are set, in the log's order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Field<'a>)> {
        let count = match &self.columns {
            Columns::Tsv { header, .. } => header.fields().len(),
            Columns::Json { object, .. } => object.len(),
            Columns::None => 0,
        };
        (0..count).filter_map(|column| match &self.columns {
            Columns::Tsv { header, line, ends } => {
                let name = header.fields().get(column)?;
                Some((name.as_str(), header.field(line, ends, column)?))
            }
            Columns::Json { object, line } => {
                let (name, value) = object.member(line, column)?;
                Some((name, Field::json(value)))
            }
            Columns::None => None,
        })
    }

    /// The names of the log's columns; in JSON those that are set.
    pub(super) fn each_column(&self, mut is_it: impl FnMut(&str)) {
        match &self.columns {
            Columns::Tsv { header, .. } => header.fields().iter().for_each(|name| is_it(name)),
            Columns::Json { object, line } => (0..object.len())
                .filter_map(|at| object.member(line, at))
                .for_each(|(name, _)| is_it(name)),
            Columns::None => {}
        }
    }

    /// An error that says what is wrong with this row.
    pub(super) fn error(&self, problem: impl Into<String>) -> LogError {
        LogError::new(LogErrorKind::Value, self.file, self.line, problem)
    }
}
