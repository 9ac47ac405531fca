//! How many records are in the files of a logger's present life, beside what that life says that it has written.
//!
//! A life begins files of its own, and the name of a rotated file says when it was begun. So what one life has written can be told from what
//! others have, and be counted. What former lives had written nobody counts any more.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_frameworks::log_files::RotatedName;
use muster_frameworks::zeek_log::{LogErrorKind, LogReader};
use muster_gateway::status::{NodeStatus, ProcessStatus};
use serde::{Deserialize, Serialize};

use crate::place::Places;
use crate::{archive, journal};

/// The problems that are told of one logger.
const MOST_PROBLEMS: usize = 20;

/// Where files wait for their final names.
const UNSETTLED: &str = "unsettled";

/// The ending of a log file's name.
const LOG: &str = ".log";

/// The role of nodes that write logs, unless there is none.
const LOGGER: &str = "logger";

/// What the present life of a logger has in its files, beside what it says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoggerFiles {
    /// When it was counted, in seconds since 1970.
    pub time: f64,
    /// The logger's node.
    pub node: String,
    /// Its box, if the cluster has several.
    #[serde(default, rename = "box", skip_serializing_if = "Option::is_none")]
    pub box_name: Option<String>,
    /// Its life.
    pub life: String,
    /// When the life began, in seconds since 1970.
    pub since: f64,
    /// The records that it had written when counting began.
    pub written: u64,
    /// The records that it had written when counting was over.
    pub written_after: u64,
    /// Those of them that count at another logger, when counting was over: they may be in the files yet.
    pub struck: u64,
    /// What is in its files, by stream.
    pub streams: BTreeMap<String, StreamFiles>,
    /// The rows of these files that cannot be read.
    pub unreadable: u64,
    /// Its files that former lives have begun. They were not read.
    pub earlier_files: u64,
    /// The files that the archive of the box has removed since its agent began.
    pub removed_files: u64,
    /// Files that could not be read, or not all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Why nothing is said of the logger, or of its whole box if no node is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// The records of one stream in the files of a life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamFiles {
    /// In the file that is written.
    pub current: u64,
    /// In rotated files.
    pub rotated: u64,
    /// In files of the archive.
    pub archived: u64,
    /// In files that wait for their final names. Some of these may be at another logger as well.
    pub unsettled: u64,
}

impl StreamFiles {
    /// Returns the number of records in all files.
    pub fn total(&self) -> u64 {
        let Self {
            current,
            rotated,
            archived,
            unsettled,
        } = self;
        current + rotated + archived + unsettled
    }
}

impl LoggerFiles {
    /// A line that says why nothing is known of a box.
    pub(crate) fn of_silence(time: f64, name: &str, reason: &str) -> Self {
        Self {
            time,
            box_name: Some(name.to_owned()),
            unknown: Some(reason.to_owned()),
            ..Self::default()
        }
    }

    /// Begins the count of a logger, if the node is one. `now` is the wall clock's time in seconds since 1970.
    pub(crate) fn begin(node: &ProcessStatus, now: f64) -> Option<Self> {
        let written = node.report.as_ref().map_or(0, written);
        if node.role != LOGGER && written == 0 {
            return None;
        }
        let mut begun = Self {
            time: now,
            node: node.node.clone(),
            ..Self::default()
        };
        match (&node.report, node.uptime_seconds) {
            (Some(report), Some(uptime)) => {
                begun.life.clone_from(&report.id);
                begun.since = now - uptime;
                begun.written = written;
            }
            _ => begun.unknown = Some(format!("its process is {}", node.process)),
        }
        Some(begun)
    }

    /// Returns `true` if what is known of the node is not older than `limit`, or nothing is.
    pub(crate) fn is_fresh(node: &ProcessStatus, limit: Duration) -> bool {
        let age = node.report_age_seconds;
        age.is_none_or(|age| age <= limit.as_secs_f64())
    }

    /// Takes what is in the files.
    pub(crate) fn take(&mut self, counted: io::Result<Counted>) {
        match counted {
            Ok(counted) => {
                self.streams = counted.streams;
                self.unreadable = counted.unreadable;
                self.earlier_files = counted.earlier_files;
                self.problems = counted.problems;
            }
            Err(error) => self.unknown = Some(format!("its files cannot be read: {error}")),
        }
    }

    /// Takes what the node says of itself afterwards. Returns `false` if that is older than `since`.
    pub(crate) fn end(&mut self, node: Option<&ProcessStatus>, since: Duration) -> bool {
        let known = node.and_then(|node| {
            let age = node.report_age_seconds?;
            Some((node.report.as_ref()?, age))
        });
        let Some((report, _)) = known.filter(|(_, age)| *age < since.as_secs_f64()) else {
            return false;
        };
        if report.id == self.life {
            self.written_after = written(report);
            self.struck = report.count("records_struck");
        } else {
            self.unknown = Some("it began anew while its files were counted".to_owned());
        }
        true
    }
}

fn written(report: &NodeStatus) -> u64 {
    report.count("records_written")
}

/// What is in the files of a life.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counted {
    streams: BTreeMap<String, StreamFiles>,
    unreadable: u64,
    earlier_files: u64,
    problems: Vec<String>,
}

/// Where a file is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Current,
    Rotated,
    Unsettled,
    Archived,
}

/// A file of a logger.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    stream: String,
    writer: Option<String>,
    stage: Stage,
    /// The day and the time of its beginning, as in `2018-03-24` and `17:00:00`, if its name says so.
    begun: Option<(String, String)>,
}

impl Name {
    /// Reads the name of a file beside the logger's current ones.
    fn of(name: &str) -> Option<Self> {
        if let Some(rotated) = RotatedName::parse(name) {
            return Some(Self {
                stream: rotated.stream,
                writer: rotated.writer,
                stage: Stage::Rotated,
                begun: Some((rotated.day, rotated.from)),
            });
        }
        let (stream, writer) = parts(name.strip_suffix(LOG)?)?;
        Some(Self {
            stream,
            writer,
            stage: Stage::Current,
            begun: None,
        })
    }

    /// Reads the name of a file that is written.
    fn of_current(name: &str) -> Option<Self> {
        Self::of(name).filter(|name| name.stage == Stage::Current)
    }

    /// Reads the name of a file that waits for its final one: `conn.logger-1.17.log`.
    fn of_unsettled(name: &str) -> Option<Self> {
        let (base, number) = name.strip_suffix(LOG)?.rsplit_once('.')?;
        number.parse::<u64>().ok()?;
        let (stream, writer) = parts(base)?;
        Some(Self {
            stream,
            writer,
            stage: Stage::Unsettled,
            begun: None,
        })
    }

    /// Reads the name of a file of the archive: `conn.17:00:00-18:00:00-logger-1.log.gz`, in the directory of its day. `node` is whose
    /// files are looked for: what is behind it may be a number.
    fn of_archived(day: &str, name: &str, node: &str) -> Option<Self> {
        let (stream, rest) = name.split_once('.')?;
        let (span, behind) = (rest.get(..17)?, rest.get(17..)?);
        let (behind, _) = behind.split_once(LOG)?;
        let behind = match behind.rsplit_once('_') {
            Some((before, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                // The name of a node may end like that as well.
                if behind.strip_prefix('-') == Some(node) {
                    behind
                } else {
                    before
                }
            }
            _ => behind,
        };
        Some(Self {
            stream: stream.to_owned(),
            writer: behind.strip_prefix('-').map(ToOwned::to_owned),
            stage: Stage::Archived,
            begun: Some((day.to_owned(), span.get(..8)?.to_owned())),
        })
    }
}

/// Stream and writer: `conn.logger-1`.
fn parts(base: &str) -> Option<(String, Option<String>)> {
    let (stream, writer) = match base.split_once('.') {
        Some((stream, writer)) => (stream, Some(writer.to_owned())),
        None => (base, None),
    };
    (!stream.is_empty()).then(|| (stream.to_owned(), writer))
}

/// The files of one life of a logger.
struct Life<'a> {
    node: &'a str,
    since: SystemTime,
    /// Day and time of its beginning, as names have them.
    begun: (String, String),
    counted: Counted,
    /// What was read and may be in the archive by now.
    originals: Vec<String>,
}

/// Counts what is in the files that the life of a logger since `since`, in seconds since 1970, has begun: the current ones, rotated ones,
/// those that wait for their final names, and those of the archive. Blocks for the disk.
///
/// A file that is moved meanwhile may be missing, or be there twice.
pub(crate) fn count(places: &Places, node: &str, since: f64) -> io::Result<Counted> {
    let since = Duration::try_from_secs_f64(since).unwrap_or_default();
    let begun = muster_data::Timestamp::from_secs(i64::try_from(since.as_secs()).unwrap_or(0));
    let begun = begun.to_string();
    let mut life = Life {
        node,
        since: UNIX_EPOCH + since,
        begun: (
            begun.get(..10).unwrap_or_default().to_owned(),
            begun.get(11..19).unwrap_or_default().to_owned(),
        ),
        counted: Counted::default(),
        originals: Vec::new(),
    };
    let (logs, unsettled) = (&places.logs, places.logs.join(UNSETTLED));
    // First what grows. A file that moves on in between is met at its next place; one that was read is known by its number.
    let mut seen = std::collections::HashSet::new();
    for (directory, read_name) in [
        (logs.as_path(), Name::of_current as fn(&str) -> Option<Name>),
        (logs, Name::of),
        (&unsettled, Name::of_unsettled),
        (logs, Name::of),
    ] {
        for (path, metadata) in entries(directory)? {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name.and_then(read_name) else {
                continue;
            };
            if !is_of_journal(places, &path) && seen.insert((metadata.dev(), metadata.ino())) {
                life.take(&path, &metadata, &name);
            }
        }
    }
    for (day, path) in archive::all_files(&places.archive)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| Name::of_archived(&day, name, node)) else {
            continue;
        };
        let originals = life.originals.iter().map(String::as_str);
        if archive::is_of_any(&path, originals) {
            continue;
        }
        // One that has expired meanwhile is none.
        if let Ok(metadata) = std::fs::symlink_metadata(&path) {
            life.take(&path, &metadata, &name);
        }
    }
    Ok(life.counted)
}

/// Whether a file is the agent's own, where everything is in one directory.
fn is_of_journal(places: &Places, path: &Path) -> bool {
    let mut own = journal::FILES.iter();
    own.any(|name| path == places.journal.join(name))
}

/// The files of a directory, if there is one.
fn entries(directory: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // It may be gone by now.
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            found.push((entry.path(), metadata));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

impl Life<'_> {
    fn take(&mut self, path: &Path, metadata: &Metadata, name: &Name) {
        // A logger that is the only one of its layout does not name itself.
        if name.writer.as_deref().is_some_and(|it| it != self.node) {
            return;
        }
        let is_begun_before = name.begun.as_ref().is_some_and(|begun| *begun < self.begun);
        let written = metadata.modified();
        if is_begun_before || written.is_ok_and(|written| written < self.since) {
            self.counted.earlier_files += u64::from(metadata.len() > 0);
            return;
        }
        let (rows, wrong, problem) = rows(path);
        self.counted.unreadable += wrong;
        if let Some(problem) = problem
            && path.exists()
            && self.counted.problems.len() < MOST_PROBLEMS
        {
            let problem = format!("{}: {problem}", path.display());
            self.counted.problems.push(problem);
        }
        if name.stage != Stage::Archived {
            self.originals.push(archive::original(metadata));
        }
        if rows == 0 {
            return;
        }
        let stream = self.counted.streams.entry(name.stream.clone()).or_default();
        let count = match name.stage {
            Stage::Current => &mut stream.current,
            Stage::Rotated => &mut stream.rotated,
            Stage::Unsettled => &mut stream.unsettled,
            Stage::Archived => &mut stream.archived,
        };
        *count += rows;
    }
}

/// Counts the whole rows of a file, up to where it is torn, and those that cannot be read; and says what is wrong with it, if anything is.
fn rows(path: &Path) -> (u64, u64, Option<String>) {
    let (mut rows, mut wrong) = (0, 0);
    let mut reader = match LogReader::open(path, &[]) {
        Ok(reader) => reader,
        Err(error) => return (rows, wrong, Some(error.to_string())),
    };
    loop {
        match reader.next_row() {
            Ok(Some(_)) => rows += 1,
            Ok(None) => break,
            Err(error) => match error.kind() {
                LogErrorKind::NotReady => break,
                // The last row of a file may just be on its way.
                LogErrorKind::Truncated => {}
                _ if error.is_row() => wrong += 1,
                _ => return (rows, wrong, Some(error.to_string())),
            },
        }
    }
    let problem = (wrong > 0).then(|| format!("{wrong} rows cannot be read"));
    (rows, wrong, problem)
}

#[cfg(test)]
mod tests;
