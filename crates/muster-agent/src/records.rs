//! What the loggers of a box have written to a stream: the newest records, in the order of their time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::path::Path;

use muster_frameworks::log_files;
use muster_frameworks::zeek_log::{LogErrorKind, LogReader};
use serde::{Deserialize, Serialize};

/// The most records that are asked of one box.
pub(crate) const MOST_RECORDS: usize = 1_000_000;

/// The bytes of records that are kept of one box; the oldest go first.
const MOST_BYTES: usize = 128 << 20;

/// The column that says when.
const TIME: &str = "ts";

/// A record of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordLine {
    /// When, in seconds since 1970: its `ts`, or 0 if it has none.
    pub time: f64,
    /// The file that it is in.
    pub file: String,
    /// Names and values of the columns that are set, in the order of the log.
    pub fields: Vec<(String, String)>,
}

/// What is found of a stream.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In the order of time.
    pub(crate) records: Vec<RecordLine>,
    /// How many older ones there are.
    pub(crate) left_out: u64,
    /// Files that could not be read to their end, with the reason.
    pub(crate) problems: Vec<String>,
}

struct Kept {
    record: RecordLine,
    number: u64,
    bytes: usize,
}

impl Kept {
    fn key(&self) -> (i64, u64) {
        // Microseconds order as the times do.
        #[allow(clippy::cast_possible_truncation, reason = "far beyond any log's time")]
        let micros = (self.record.time * 1e6) as i64;
        (micros, self.number)
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Kept {}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// Reads the newest records of a stream in a directory, of all writers, current files and rotated ones. Blocks for the
/// disk.
pub(crate) fn read(directory: &Path, stream: &str, since: f64, most: usize) -> io::Result<Found> {
    let mut newest = BinaryHeap::new();
    let mut found = Found::default();
    let (mut number, mut bytes) = (0, 0);
    for path in log_files::files_of(directory, stream)? {
        let taken = visit(&path, |record| {
            if record.time < since {
                return;
            }
            number += 1;
            let size = size_of(&record);
            bytes += size;
            newest.push(Reverse(Kept {
                record,
                number,
                bytes: size,
            }));
            while newest.len() > most || (bytes > MOST_BYTES && newest.len() > 1) {
                found.left_out += 1;
                bytes -= newest.pop().map_or(0, |Reverse(oldest)| oldest.bytes);
            }
        });
        if let Err(problem) = taken {
            found
                .problems
                .push(format!("{}: {problem}", path.display()));
        }
    }
    let mut kept: Vec<Kept> = newest.into_iter().map(|Reverse(kept)| kept).collect();
    kept.sort();
    found.records = kept.into_iter().map(|kept| kept.record).collect();
    Ok(found)
}

fn size_of(record: &RecordLine) -> usize {
    let fields = record.fields.iter();
    fields
        .map(|(name, value)| name.len() + value.len() + 2 * size_of_val(name))
        .sum::<usize>()
        + size_of_val(record)
}

/// Every whole row of a file, up to where it is torn.
fn visit(path: &Path, mut take: impl FnMut(RecordLine)) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut reader = LogReader::open(path, &[TIME]).map_err(|error| error.to_string())?;
    loop {
        match reader.next_row() {
            Ok(Some(row)) => {
                let time = row
                    .get(0)
                    .and_then(muster_frameworks::zeek_log::Field::timestamp);
                let fields = row.fields();
                take(RecordLine {
                    time: time.map_or(0.0, muster_data::Timestamp::as_secs_f64),
                    file: name.clone().into_owned(),
                    fields: fields
                        .map(|(name, field)| (name.to_owned(), field.text().into_owned()))
                        .collect(),
                });
            }
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == LogErrorKind::NotALog => return Ok(()),
            Err(error) if error.is_row() || error.kind() == LogErrorKind::Truncated => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const HEADER: &str = "#separator \\x09\n#fields\tts\tnote\n#types\ttime\tstring\n";

    fn write(directory: &Path, name: &str, rows: &[(u32, &str)]) {
        let rows = rows
            .iter()
            .map(|(time, note)| format!("{time}.000000\t{note}\n"));
        let text = format!("{HEADER}{}", rows.collect::<String>());
        std::fs::write(directory.join(name), text).unwrap();
    }

    fn notes(found: &Found) -> Vec<&str> {
        let notes = found
            .records
            .iter()
            .map(|record| record.fields[1].1.as_str());
        notes.collect()
    }

    #[test]
    fn the_newest_records_of_all_writers_come_in_the_order_of_time() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        write(
            directory,
            "notice.logger-1.log",
            &[(3, "c"), (5, "e"), (4, "d")],
        );
        write(
            directory,
            "notice.logger-2.2018-03-24-17-00-00-18-00-00.log",
            &[(1, "a"), (2, "b")],
        );
        write(directory, "scans.logger-1.log", &[(9, "of another stream")]);
        std::fs::write(
            directory.join("notice.torn.log"),
            format!("{HEADER}6.0\tf\n7.0"),
        )
        .unwrap();
        let all = read(directory, "notice", 0.0, 100).unwrap();
        assert_eq!(notes(&all), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!((all.left_out, all.problems.len()), (0, 0));
        assert_eq!(
            all.records[0].file,
            "notice.logger-2.2018-03-24-17-00-00-18-00-00.log"
        );
        let last = read(directory, "notice", 0.0, 2).unwrap();
        assert_eq!((notes(&last), last.left_out), (vec!["e", "f"], 4));
        let since = read(directory, "notice", 4.0, 100).unwrap();
        assert_eq!((notes(&since), since.left_out), (vec!["d", "e", "f"], 0));
        assert!(
            read(directory, "no_such", 0.0, 9)
                .unwrap()
                .records
                .is_empty()
        );
        assert!(read(&directory.join("none"), "notice", 0.0, 9).is_err());
    }
}
