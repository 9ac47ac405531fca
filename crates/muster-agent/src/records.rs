//! What the loggers of a box have written to a stream: the newest records, in the order of their time, and those that come.

mod condition;
mod follow;
mod written;

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use muster_frameworks::log_files;
use muster_frameworks::zeek_log::{LogErrorKind, LogReader};
use serde::{Deserialize, Serialize};

pub use self::condition::{Condition, MOST_CONDITIONS};
pub(crate) use self::follow::Followed;
pub(crate) use self::written::count;
pub use self::written::{LoggerFiles, StreamFiles};
use crate::archive;

/// How much later than the time of its writing a record's time may be, in seconds: clocks of sensors differ.
const CLOCKS_APART: f64 = 3600.0;

/// The most records that are asked of one box.
pub(crate) const MOST_RECORDS: usize = 1_000_000;

/// The bytes of records that are kept of one box; the oldest go first.
const MOST_BYTES: usize = 64 << 20;

/// The column that says when.
const TIME: &str = "ts";

/// A record of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecordLine {
    /// When, in seconds since 1970: its `ts`, or 0 if it has none.
    pub time: f64,
    /// The file that it is in.
    pub file: String,
    /// Names and values of the columns that are set, in the order of the log.
    pub fields: Vec<(String, String)>,
    /// What is to be said of the records, if this is none itself: that others are left out, or cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

impl RecordLine {
    /// A line that says something of the records.
    pub(crate) fn of_remark(text: String) -> Self {
        Self {
            remark: Some(text),
            ..Self::default()
        }
    }
}

/// What is asked of a stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) stream: String,
    /// Records of this time and later ones, in seconds since 1970.
    pub(crate) since: f64,
    /// So many at most: the newest.
    pub(crate) most: usize,
    /// What they have to have.
    pub(crate) conditions: Vec<Condition>,
}

impl Asked {
    fn wants(&self, record: &RecordLine) -> bool {
        let mut conditions = self.conditions.iter();
        conditions.all(|condition| condition.holds(&record.fields))
    }
}

/// What is found of a stream.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In the order of time.
    pub(crate) records: Vec<RecordLine>,
    /// How many older ones there are.
    pub(crate) left_out: u64,
    /// How many files of the archive were not read, as all in them is older.
    pub(crate) unread: usize,
    /// Files that could not be read to their end, or of which some rows could not be, with the reason.
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
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// Reads the newest records of a stream, of all writers: of current files, of rotated ones, and of the archive as far as
/// something newer may be there. Blocks for the disk.
pub(crate) fn read(directory: &Path, archive: &Path, asked: Asked) -> io::Result<Found> {
    let mut newest = Newest::new(asked);
    // Files that are archived meanwhile are in the archive by the time that it is looked at, and are not read twice.
    let mut read = HashSet::new();
    for path in log_files::files_of(directory, &newest.asked.stream)? {
        let original = std::fs::symlink_metadata(&path);
        if newest.take_all(&path) {
            read.extend(original.map(|metadata| archive::original(&metadata)));
        }
    }
    let mut archived = archived(archive, &newest.asked)?;
    while let Some((last, path)) = archived.pop() {
        if newest.has_none_before(last) {
            newest.found.unread = archived.len() + 1;
            break;
        }
        if !archive::is_of_any(&path, read.iter().map(String::as_str)) {
            newest.take_all(&path);
        }
    }
    Ok(newest.found())
}

/// The files of the archive that may have records since a time, those that were written last at the end; with the time up to which they
/// may have records.
fn archived(archive: &Path, asked: &Asked) -> io::Result<Vec<(f64, PathBuf)>> {
    let files = archive::files_of(archive, &asked.stream)?.into_iter();
    let last = |written: SystemTime| {
        let since_1970 = written.duration_since(UNIX_EPOCH).unwrap_or_default();
        since_1970.as_secs_f64() + CLOCKS_APART
    };
    let mut files: Vec<(f64, PathBuf)> = files
        .map(|(written, path)| (last(written), path))
        .filter(|(last, _)| *last >= asked.since)
        .collect();
    files.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    Ok(files)
}

/// The newest records so far.
struct Newest {
    asked: Asked,
    kept: BinaryHeap<Reverse<Kept>>,
    number: u64,
    bytes: usize,
    found: Found,
}

impl Newest {
    fn new(asked: Asked) -> Self {
        Self {
            asked,
            kept: BinaryHeap::new(),
            number: 0,
            bytes: 0,
            found: Found::default(),
        }
    }

    /// Takes what is new of a file. Returns whether it could be read.
    fn take_all(&mut self, path: &Path) -> bool {
        let reader = LogReader::open(path, &[TIME]);
        let drained = reader.map(|mut reader| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            drain(&mut reader, &name, |record| {
                self.take(record);
                ControlFlow::Continue(())
            })
        });
        let place = path.display().to_string();
        match drained {
            Ok(Drained::Failed(_)) | Err(_) if !path.exists() => false,
            Ok(drained) => {
                self.found.problems.extend(drained.problem(&place));
                !matches!(drained, Drained::Failed(_))
            }
            Err(problem) => {
                self.found.problems.push(format!("{place}: {problem}"));
                false
            }
        }
    }

    fn take(&mut self, record: RecordLine) {
        if record.time < self.asked.since || !self.asked.wants(&record) {
            return;
        }
        self.number += 1;
        let bytes = size_of(&record);
        self.bytes += bytes;
        self.kept.push(Reverse(Kept {
            record,
            number: self.number,
            bytes,
        }));
        while self.kept.len() > self.asked.most || (self.bytes > MOST_BYTES && self.kept.len() > 1)
        {
            self.found.left_out += 1;
            self.bytes -= self.kept.pop().map_or(0, |Reverse(oldest)| oldest.bytes);
        }
    }

    /// Whether there are as many as are wanted, and all are of a later time than this one.
    fn has_none_before(&self, time: f64) -> bool {
        let is_full = self.kept.len() >= self.asked.most || self.found.left_out > 0;
        let oldest = self.kept.peek();
        is_full && oldest.is_some_and(|Reverse(oldest)| oldest.record.time > time)
    }

    fn found(mut self) -> Found {
        let kept = self.kept.into_iter().map(|Reverse(kept)| kept);
        let mut kept: Vec<Kept> = kept.collect();
        kept.sort();
        self.found.records = kept.into_iter().map(|kept| kept.record).collect();
        self.found
    }
}

/// About how many bytes a record has in memory.
pub(crate) fn size_of(record: &RecordLine) -> usize {
    let fields = record.fields.iter();
    fields
        .map(|(name, value)| name.len() + value.len() + 2 * size_of_val(name))
        .sum::<usize>()
        + size_of_val(record)
}

/// How the reading of a file has ended.
#[derive(Debug, PartialEq, Eq)]
enum Drained {
    /// There is nothing more, now or at all. So many rows are none.
    All { wrong: u64 },
    /// Nobody wants more at the moment.
    Broken { wrong: u64 },
    /// It cannot be read any further.
    Failed(String),
}

impl Drained {
    /// What is wrong with the file, if anything is.
    fn problem(&self, place: &str) -> Option<String> {
        match self {
            Self::All { wrong: 0 } | Self::Broken { wrong: 0 } => None,
            Self::All { wrong } | Self::Broken { wrong } => {
                Some(format!("{place}: {wrong} rows cannot be read"))
            }
            Self::Failed(problem) => Some(format!("{place}: {problem}")),
        }
    }
}

/// Every whole row of a file, up to where it is torn.
fn drain(
    reader: &mut LogReader,
    name: &str,
    mut take: impl FnMut(RecordLine) -> ControlFlow<()>,
) -> Drained {
    let mut wrong = 0;
    loop {
        match reader.next_row() {
            Ok(Some(row)) => {
                let time = row
                    .get(0)
                    .and_then(muster_frameworks::zeek_log::Field::timestamp);
                let fields = row.fields();
                let record = RecordLine {
                    time: time.map_or(0.0, muster_data::Timestamp::as_secs_f64),
                    file: name.to_owned(),
                    fields: fields
                        .map(|(name, field)| (name.to_owned(), field.text().into_owned()))
                        .collect(),
                    remark: None,
                };
                if take(record).is_break() {
                    return Drained::Broken { wrong };
                }
            }
            Ok(None) => return Drained::All { wrong },
            Err(error) => match error.kind() {
                LogErrorKind::NotALog | LogErrorKind::NotReady => return Drained::All { wrong },
                // The last row of a file may just be on its way.
                LogErrorKind::Truncated => {}
                _ if error.is_row() => wrong += 1,
                _ => return Drained::Failed(error.to_string()),
            },
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

    fn look(directory: &Path, stream: &str, since: f64, most: usize) -> io::Result<Found> {
        let asked = Asked {
            stream: stream.to_owned(),
            since,
            most,
            ..Asked::default()
        };
        read(directory, &directory.join("archive"), asked)
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
        let all = look(directory, "notice", 0.0, 100).unwrap();
        assert_eq!(notes(&all), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!((all.left_out, all.problems.len()), (0, 0));
        assert_eq!(
            all.records[0].file,
            "notice.logger-2.2018-03-24-17-00-00-18-00-00.log"
        );
        let wrong = format!("{HEADER}1.5\n2.5\ta\tb\tc\n0.5\tnew\n");
        std::fs::write(directory.join("weird.log"), wrong).unwrap();
        let weird = look(directory, "weird", 0.0, 100).unwrap();
        assert_eq!(notes(&weird), ["new"]);
        assert_eq!(weird.problems.len(), 1);
        assert!(
            weird.problems[0].ends_with("weird.log: 2 rows cannot be read"),
            "{:?}",
            weird.problems
        );
        let last = look(directory, "notice", 0.0, 2).unwrap();
        assert_eq!((notes(&last), last.left_out), (vec!["e", "f"], 4));
        let since = look(directory, "notice", 4.0, 100).unwrap();
        assert_eq!((notes(&since), since.left_out), (vec!["d", "e", "f"], 0));
        assert!(
            look(directory, "no_such", 0.0, 9)
                .unwrap()
                .records
                .is_empty()
        );
        assert!(look(&directory.join("none"), "notice", 0.0, 9).is_err());
    }

    fn archive_file(directory: &Path, name: &str, rows: &[(u32, &str)], written: u64) {
        use std::io::Write;
        let day = directory.join("archive/2018-03-24");
        std::fs::create_dir_all(&day).unwrap();
        write(&day, "plain", rows);
        let text = std::fs::read(day.join("plain")).unwrap();
        std::fs::remove_file(day.join("plain")).unwrap();
        let file = std::fs::File::create(day.join(name)).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(&file, flate2::Compression::default());
        encoder.write_all(&text).unwrap();
        encoder.finish().unwrap();
        file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(written))
            .unwrap();
    }

    #[test]
    fn the_archive_is_read_as_far_as_something_newer_may_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        write(directory, "notice.log", &[(90_003, "e"), (90_004, "f")]);
        let hour = |from: u32| format!("notice.{from:02}:00:00-{:02}:00:00.log.gz", from + 1);
        archive_file(directory, &hour(1), &[(3_700, "a"), (3_800, "b")], 7_200);
        archive_file(directory, &hour(2), &[(7_300, "c")], 10_800);
        archive_file(directory, &hour(24), &[(90_000, "d")], 90_001);
        archive_file(
            directory,
            "scans.01:00:00-02:00:00.log.gz",
            &[(1, "x")],
            7_200,
        );
        let all = look(directory, "notice", 0.0, 100).unwrap();
        assert_eq!(notes(&all), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!((all.left_out, all.unread), (0, 0));
        // The two older files have nothing of the newest three.
        let last = look(directory, "notice", 0.0, 3).unwrap();
        assert_eq!(notes(&last), ["d", "e", "f"]);
        assert_eq!((last.left_out, last.unread), (0, 2));
        let since = look(directory, "notice", 7_000.0, 100).unwrap();
        assert_eq!(notes(&since), ["c", "d", "e", "f"]);
    }
}
