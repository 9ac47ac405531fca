//! What the nodes' processes say of themselves, all of them in the order of time.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use muster_data::Timestamp;
use serde::{Deserialize, Serialize};

/// What is read of the end of each file, in bytes.
const TAIL: u64 = 1 << 20;

/// What is read at once of a file that grows, in bytes.
const GROWTH: u64 = 256 << 10;

/// The longest line, in bytes; what is longer is cut.
const LONGEST_LINE: usize = 16 << 10;

/// The words for how bad a line is.
const LEVELS: [&str; 5] = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

/// The most lines in an answer: the newest.
pub(crate) const MOST_LINES: usize = 10_000;

/// A line of a node's process log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogLine {
    /// The node.
    pub node: String,
    /// When, in seconds since 1970: that of the line before if the line has none.
    pub time: f64,
    /// ERROR, WARN, INFO, DEBUG or TRACE; empty if the line has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub level: String,
    /// The rest of the line.
    pub text: String,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wanted {
    /// Of these nodes; of all if there are none.
    pub(crate) nodes: Vec<String>,
    /// Since then, in seconds since 1970.
    pub(crate) since: f64,
}

impl Wanted {
    fn has(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|wanted| wanted == node)
    }
}

/// The process logs of a directory, read up to where they have been read.
#[derive(Debug)]
pub(crate) struct ProcessLogs {
    directory: PathBuf,
    wanted: Wanted,
    read: BTreeMap<String, Position>,
}

#[derive(Debug, Clone, Default)]
struct Position {
    file: (u64, u64),
    offset: u64,
    /// The time of the last line.
    time: f64,
    /// A last line that has not come to its end.
    rest: Vec<u8>,
}

impl ProcessLogs {
    pub(crate) fn new(directory: &Path, wanted: Wanted) -> Self {
        Self {
            directory: directory.to_owned(),
            wanted,
            read: BTreeMap::new(),
        }
    }

    /// Reads what is new, in the order of time. Blocks for the disk.
    pub(crate) fn read(&mut self) -> Vec<LogLine> {
        let mut lines = VecDeque::new();
        for (node, path) in self.files() {
            let of_node = self.read_file(&node, &path);
            lines.extend(
                of_node
                    .into_iter()
                    .filter(|line| line.time >= self.wanted.since),
            );
        }
        let mut lines = Vec::from(lines);
        // Stable: lines of one time and node stay in their order.
        lines.sort_by(|one, other| one.time.total_cmp(&other.time));
        if lines.len() > MOST_LINES {
            lines.drain(..lines.len() - MOST_LINES);
        }
        lines
    }

    fn files(&self) -> Vec<(String, PathBuf)> {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return Vec::new();
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let logs = paths.filter(|path| path.extension().is_some_and(|end| end == "log"));
        let named = logs.filter_map(|path| {
            let node = path.file_stem()?.to_str()?.to_owned();
            self.wanted.has(&node).then_some((node, path))
        });
        named.collect()
    }

    fn read_file(&mut self, node: &str, path: &Path) -> Vec<LogLine> {
        let is_first = !self.read.contains_key(node);
        let position = self.read.entry(node.to_owned()).or_default();
        let Ok(mut file) = File::open(path) else {
            return Vec::new();
        };
        let Ok(metadata) = file.metadata() else {
            return Vec::new();
        };
        let identity = (metadata.dev(), metadata.ino());
        if is_first {
            *position = Position {
                file: identity,
                offset: metadata.len().saturating_sub(TAIL),
                ..Position::default()
            };
        } else if position.file != identity || metadata.len() < position.offset {
            // Another file is in its place, or it was cut: it begins anew.
            *position = Position {
                file: identity,
                time: position.time,
                ..Position::default()
            };
        }
        let is_cut = is_first && position.offset > 0;
        let most = if is_first { TAIL } else { GROWTH };
        let mut bytes = std::mem::take(&mut position.rest);
        let before = bytes.len();
        let read = file
            .seek(SeekFrom::Start(position.offset))
            .and_then(|_| file.take(most).read_to_end(&mut bytes));
        if read.is_err() {
            bytes.truncate(before);
            position.rest = bytes;
            return Vec::new();
        }
        position.offset += (bytes.len() - before) as u64;
        let end = bytes.iter().rposition(|byte| *byte == b'\n');
        let end = end.map_or(0, |end| end + 1);
        position.rest = bytes[end..].to_vec();
        position.rest.truncate(LONGEST_LINE);
        let mut lines = Vec::new();
        // The first line of a tail has lost its beginning.
        for line in bytes[..end]
            .split(|byte| *byte == b'\n')
            .skip(usize::from(is_cut))
            .filter(|line| !line.is_empty())
        {
            let text = String::from_utf8_lossy(&line[..line.len().min(LONGEST_LINE)]);
            let line = parse(node, &text, position.time);
            position.time = line.time;
            lines.push(line);
        }
        lines
    }
}

/// A line of a log in JSON (`log.format`).
#[derive(Debug, Deserialize)]
struct JsonLine {
    #[serde(default)]
    time: String,
    #[serde(default)]
    level: String,
    message: String,
    #[serde(default)]
    fields: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    repeated: u64,
}

impl JsonLine {
    fn parse(line: &str) -> Option<Self> {
        let begins = line.starts_with('{');
        begins.then(|| serde_json::from_str(line).ok()).flatten()
    }

    /// The text, as a log of the other kind would have it.
    fn text(self) -> String {
        let mut text = self.message;
        for (name, value) in self.fields {
            let value = match value {
                serde_json::Value::String(value) => value,
                value => value.to_string(),
            };
            let _ = write!(text, " {name}={value}");
        }
        if self.repeated > 0 {
            let _ = write!(text, " ({} times more within a minute)", self.repeated);
        }
        plain(&text)
    }
}

/// A text with its control characters as escapes: what is one line in JSON is one here.
fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

/// What a line of a process log says to a person.
pub(crate) fn message(line: &str) -> String {
    JsonLine::parse(line).map_or_else(|| line.to_owned(), |line| plain(&line.message))
}

/// Takes a line apart: time, level, text.
fn parse(node: &str, line: &str, before: f64) -> LogLine {
    if let Some(json) = JsonLine::parse(line) {
        let time = json.time.parse::<Timestamp>();
        return LogLine {
            node: node.to_owned(),
            time: time.map_or(before, Timestamp::as_secs_f64),
            level: Some(json.level.clone())
                .filter(|level| LEVELS.contains(&level.as_str()))
                .unwrap_or_default(),
            text: json.text(),
        };
    }
    let mut line_of = LogLine {
        node: node.to_owned(),
        time: before,
        level: String::new(),
        text: line.to_owned(),
    };
    let Some((time, rest)) = line.split_once(' ') else {
        return line_of;
    };
    let Ok(time) = time.parse::<Timestamp>() else {
        return line_of;
    };
    let rest = rest.trim_start();
    let (level, text) = rest.split_once(' ').unwrap_or((rest, ""));
    line_of.time = time.as_secs_f64();
    if LEVELS.contains(&level) {
        level.clone_into(&mut line_of.level);
        text.clone_into(&mut line_of.text);
    } else {
        rest.clone_into(&mut line_of.text);
    }
    line_of
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::io::Write;

    use super::*;

    fn texts(lines: &[LogLine]) -> Vec<String> {
        let text = |line: &LogLine| format!("{} {} {}", line.node, line.level, line.text);
        lines.iter().map(text).collect()
    }

    fn append(directory: &Path, node: &str, text: &str) {
        let path = directory.join(format!("{node}.log"));
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn lines_of_all_nodes_come_in_the_order_of_time_and_keep_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        append(
            directory,
            "a",
            "2026-11-29T10:00:00.5Z  INFO one\nthread 'x' panicked\n2026-11-29T10:00:02Z ERROR four\n",
        );
        append(
            directory,
            "b",
            "2026-11-29T10:00:01Z  WARN three\n2026-11-29T10:00:03",
        );
        fs::write(directory.join("layout.toml"), "no log").unwrap();
        let mut logs = ProcessLogs::new(directory, Wanted::default());
        assert_eq!(
            texts(&logs.read()),
            [
                "a INFO one",
                "a  thread 'x' panicked",
                "b WARN three",
                "a ERROR four"
            ]
        );
        // What was not whole is read when it is; a file in place of another from its beginning.
        append(directory, "b", "Z INFO five\n");
        fs::rename(directory.join("a.log"), directory.join("a.log.1")).unwrap();
        append(directory, "a", "2026-11-29T10:00:04Z INFO six\n");
        assert_eq!(texts(&logs.read()), ["b INFO five", "a INFO six"]);
        assert_eq!(logs.read(), []);
        fs::write(directory.join("a.log"), "cut\n").unwrap();
        assert_eq!(texts(&logs.read()), ["a  cut"]);
    }

    #[test]
    fn lines_of_both_kinds_are_shown_alike() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        append(
            directory,
            "a",
            concat!(
                r#"{"time":"2026-11-29T10:00:01.5Z","level":"WARN","node":"a","target":"t","message":"one\n{}","fields":{"peer":"b","n":2},"repeated":3}"#,
                "\n2026-11-29T10:00:02Z ERROR two\n",
                r#"{"no":"message"}"#,
                "\n{ torn\n",
            ),
        );
        let mut logs = ProcessLogs::new(directory, Wanted::default());
        let lines = logs.read();
        assert_eq!(
            texts(&lines),
            [
                r"a WARN one\n{} n=2 peer=b (3 times more within a minute)",
                "a ERROR two",
                r#"a  {"no":"message"}"#,
                "a  { torn"
            ]
        );
        assert!((lines[1].time - lines[0].time - 0.5).abs() < 1e-6);
        assert_eq!(message(r#"{"message":"it ended"}"#), "it ended");
        assert_eq!(message("error: it ended"), "error: it ended");
    }

    #[test]
    fn only_what_is_wanted_is_read_and_long_files_from_their_end() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let line = format!("2026-11-29T10:00:00Z INFO {}\n", "x".repeat(1000));
        append(directory, "a", &line.repeat(3000));
        append(directory, "a", "2026-11-29T11:00:00Z INFO last\n");
        append(directory, "b", "2026-11-29T11:00:00Z INFO of b\n");
        let nodes = vec!["a".to_owned()];
        let mut logs = ProcessLogs::new(
            directory,
            Wanted {
                nodes: nodes.clone(),
                since: 0.0,
            },
        );
        let lines = logs.read();
        assert!(lines.len() > 900 && lines.len() < 1100, "{}", lines.len());
        assert_eq!(lines.last().unwrap().text, "last");
        assert!(lines.iter().all(|line| line.text.len() <= 1000));
        let since = lines.last().unwrap().time;
        let mut logs = ProcessLogs::new(directory, Wanted { nodes, since });
        assert_eq!(texts(&logs.read()), ["a INFO last"]);
    }

    #[test]
    fn bytes_that_are_no_text_and_lines_without_end_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        fs::write(directory.join("a.log"), b"\xff\xfe\n").unwrap();
        let mut logs = ProcessLogs::new(directory, Wanted::default());
        assert_eq!(logs.read().len(), 1);
        for _ in 0..10 {
            append(directory, "a", &"y".repeat(100_000));
            assert_eq!(logs.read(), []);
        }
        append(directory, "a", "\n");
        assert!(logs.read()[0].text.len() <= LONGEST_LINE);
    }
}
