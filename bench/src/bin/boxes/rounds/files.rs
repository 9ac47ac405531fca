//! The log files that the boxes have in the end.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use muster_bench::boxes::Boxes;
use muster_frameworks::log_files::{RotatedName, files_of, read_rows_of};

use crate::founding::of_cluster;

/// The files of a stream, on all boxes.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Those with a final name.
    pub(super) settled: Vec<PathBuf>,
    /// Files that have no final name although everything was stopped.
    pub(super) unsettled: Vec<PathBuf>,
}

/// A record, as text by column.
pub(super) struct Row(BTreeMap<String, String>);

impl Files {
    /// Finds them. The nodes of all boxes have stopped.
    pub(super) fn of(boxes: &Boxes, stream: &str) -> Result<Self> {
        let mut found = Self::default();
        for made in of_cluster(boxes) {
            let logs = made.root.join("var/log/muster/current");
            if !logs.is_dir() {
                continue;
            }
            for path in files_of(&logs, stream)? {
                let name = path.file_name().and_then(|name| name.to_str());
                let is_settled = name.is_some_and(|name| RotatedName::parse(name).is_some());
                let files = if is_settled {
                    &mut found.settled
                } else {
                    &mut found.unsettled
                };
                files.push(path);
            }
        }
        Ok(found)
    }
}

/// Reads all records of files.
pub(super) fn rows(files: &[PathBuf]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in files {
        rows.extend(read_rows_of(path)?.into_iter().map(Row));
    }
    Ok(rows)
}

impl Row {
    pub(super) fn text(&self, column: &str) -> Result<&str> {
        let text = self.0.get(column).map(String::as_str);
        text.with_context(|| format!("a record has no {column}: {:?}", self.0))
    }

    pub(super) fn number(&self, column: &str) -> Result<u64> {
        Ok(self.text(column)?.parse()?)
    }
}

#[cfg(test)]
impl Row {
    pub(super) fn forged(columns: &[(&str, &str)]) -> Self {
        let columns = columns.iter();
        Self(
            columns
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
        )
    }
}
