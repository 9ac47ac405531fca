//! `muster records --verify`: what is in the files of loggers, beside what they and the nodes that log say.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use muster_agent::{LoggerFiles, StreamFiles};
use muster_gateway::status::{ClusterStatus, NodeStatus, ProcessStatus, VERSION};
use serde::Serialize;

use super::super::agent_client::Target;
use super::super::events::next;
use super::super::stores::table::table;
use crate::arguments::Format;
use crate::output::{INCOMPLETE, print, say};

/// How often it is counted at most, and the pause in between: a file that is moved meanwhile may be missing, or be there twice.
const TIMES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// By so many seconds a node may be older than a logger that it was started with. It takes longer until a logger has acknowledged
/// something, has died and is there again.
const STARTED_TOGETHER: f64 = 0.5;

/// What the counts come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// Nothing is missing.
    Complete,
    /// Records are missing.
    Missing,
    /// It cannot be told.
    Unknown,
}

/// What was counted, and what it comes to: version 1 of the schema.
#[derive(Debug, Serialize)]
struct Verified {
    version: u32,
    verdict: Verdict,
    /// What is missing of what the present lives of loggers have written, at least.
    missing: u64,
    /// The rows of their files that cannot be read.
    unreadable: u64,
    /// What is in their files and was not written by them, at least.
    too_many: u64,
    /// What loggers have acknowledged to the present lives of nodes and is not in files, at least; nothing if a logger's life is
    /// younger than that of a node.
    acknowledged_missing: Option<u64>,
    loggers: Vec<Logger>,
    /// What is in the files of the loggers' present lives, by stream.
    streams: BTreeMap<String, StreamFiles>,
    /// The present lives of the nodes that have logged.
    nodes: Vec<Producer>,
    /// Why it cannot be told, or not of all.
    unknown: Vec<String>,
}

/// A logger.
#[derive(Debug, Serialize)]
struct Logger {
    #[serde(flatten)]
    files: LoggerFiles,
    in_files: u64,
    missing: u64,
    too_many: u64,
}

/// A node that has logged.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Producer {
    node: String,
    life: String,
    /// By its frameworks, or by Zeek's nodes.
    logged: u64,
    /// What it has found of former lives on its disk.
    found: u64,
    acknowledged: u64,
    /// Given to loggers that acknowledge nothing.
    unacknowledged: u64,
    /// Not acknowledged yet.
    open: u64,
    /// What it has kept on its disk for a while.
    spooled: u64,
    lost: u64,
}

pub(super) async fn run(target: &Target, format: Format) -> Result<ExitCode> {
    let mut verified = count(target).await?;
    for _ in 1..TIMES {
        if verified.missing == 0 && verified.too_many == 0 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        verified = count(target).await?;
    }
    match format {
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&verified)?))?,
        Format::Text => print(&verified.text())?,
    }
    for text in &verified.unknown {
        say(text);
    }
    Ok(match verified.verdict {
        Verdict::Complete => ExitCode::SUCCESS,
        Verdict::Missing => ExitCode::from(1),
        Verdict::Unknown => ExitCode::from(INCOMPLETE),
    })
}

/// Asks first what was acknowledged, then what is in the files: that can only be more.
async fn count(target: &Target) -> Result<Verified> {
    let status = target.status().await?;
    let mut lines = target.lines("records").await?;
    let mut loggers = Vec::new();
    while let Some(logger) = next::<LoggerFiles>(target, &mut lines).await? {
        loggers.push(logger);
    }
    Ok(Verified::new(&status, loggers))
}

impl Logger {
    fn new(files: LoggerFiles) -> Self {
        let in_files = files.streams.values().map(StreamFiles::total).sum();
        let is_known = files.unknown.is_none();
        // What counts elsewhere may be gone from the files, or be there yet.
        let least = files.written.saturating_sub(files.struck);
        let missing = if is_known {
            least.saturating_sub(in_files)
        } else {
            0
        };
        let too_many = if is_known {
            in_files.saturating_sub(files.written_after)
        } else {
            0
        };
        Self {
            files,
            in_files,
            missing,
            too_many,
        }
    }

    /// What cannot be told of it.
    fn unknown(&self) -> Option<String> {
        let LoggerFiles {
            node,
            box_name,
            removed_files,
            unknown,
            ..
        } = &self.files;
        let name = match box_name {
            _ if !node.is_empty() => node.clone(),
            Some(name) => format!("box {name}"),
            None => "a box".to_owned(),
        };
        if let Some(unknown) = unknown {
            return Some(format!("{name}: {unknown}"));
        }
        (self.missing > 0 && *removed_files > 0).then(|| {
            format!(
                "{name}: the archive has removed {removed_files} files since its agent began: what is missing may have been in them"
            )
        })
    }
}

impl Producer {
    fn new(node: &ProcessStatus, report: &NodeStatus) -> Option<Self> {
        let count = |key: &str| report.count(key);
        let lost = [
            "records_dropped",
            "records_invalid",
            "records_unsettled",
            "records_spoilt",
        ];
        let producer = Self {
            node: node.node.clone(),
            life: report.id.clone(),
            logged: count("records_logged"),
            found: count("records_found"),
            acknowledged: count("records_acknowledged"),
            unacknowledged: count("records_unacknowledged"),
            open: report.waiting_records as u64,
            spooled: count("records_spooled"),
            lost: lost.iter().map(|key| count(key)).sum(),
        };
        (producer.logged + producer.found > 0).then_some(producer)
    }
}

/// What was acknowledged to lives that are not older than any logger's: these have it in the files that were counted.
fn acknowledged(status: &ClusterStatus, loggers: &[Logger]) -> Option<u64> {
    let running = status.nodes.iter().filter_map(|node| {
        let acknowledged = node.report.as_ref()?.count("records_acknowledged");
        Some((acknowledged, node.uptime_seconds?))
    });
    let logging: Vec<(u64, f64)> = running.filter(|(records, _)| *records > 0).collect();
    let is_logger = |node: &&ProcessStatus| {
        let mut loggers = loggers.iter();
        loggers.any(|logger| logger.files.node == node.node)
    };
    let youngest = status.nodes.iter().filter(is_logger);
    let youngest = youngest.map(|node| node.uptime_seconds.unwrap_or(0.0));
    let youngest = youngest.fold(f64::INFINITY, f64::min);
    let is_older = |(_, uptime): &(u64, f64)| *uptime > youngest + STARTED_TOGETHER;
    let is_doubtful = |files: &LoggerFiles| files.unknown.is_some() || files.removed_files > 0;
    if loggers.iter().any(|logger| is_doubtful(&logger.files))
        || loggers.is_empty()
        || logging.iter().any(is_older)
    {
        return None;
    }
    Some(logging.iter().map(|(records, _)| records).sum())
}

impl Verified {
    fn new(status: &ClusterStatus, loggers: Vec<LoggerFiles>) -> Self {
        let loggers: Vec<Logger> = loggers.into_iter().map(Logger::new).collect();
        let mut streams: BTreeMap<String, StreamFiles> = BTreeMap::new();
        for (name, files) in loggers.iter().flat_map(|logger| &logger.files.streams) {
            let StreamFiles {
                current,
                rotated,
                archived,
                unsettled,
            } = files;
            let stream = streams.entry(name.clone()).or_default();
            stream.current += current;
            stream.rotated += rotated;
            stream.archived += archived;
            stream.unsettled += unsettled;
        }
        let nodes = status.nodes.iter().filter_map(|node| {
            let is_running = node.uptime_seconds.is_some();
            Producer::new(node, node.report.as_ref().filter(|_| is_running)?)
        });
        let mut unknown: Vec<String> = loggers.iter().filter_map(Logger::unknown).collect();
        if loggers.is_empty() {
            unknown.push("no node of Muster's writes log files".to_owned());
        }
        let missing: u64 = loggers.iter().map(|logger| logger.missing).sum();
        let unreadable: u64 = loggers.iter().map(|logger| logger.files.unreadable).sum();
        let in_files: u64 = loggers.iter().map(|logger| logger.in_files).sum();
        let acknowledged_missing =
            acknowledged(status, &loggers).map(|records| records.saturating_sub(in_files));
        let verdict = if !unknown.is_empty() {
            Verdict::Unknown
        } else if missing + unreadable + acknowledged_missing.unwrap_or(0) > 0 {
            Verdict::Missing
        } else {
            Verdict::Complete
        };
        Self {
            version: VERSION,
            verdict,
            missing,
            unreadable,
            too_many: loggers.iter().map(|logger| logger.too_many).sum(),
            acknowledged_missing,
            streams,
            nodes: nodes.collect(),
            loggers,
            unknown,
        }
    }
}

impl Verified {
    /// The counts as tables, and what they come to.
    fn text(&self) -> String {
        let mut text = String::new();
        let known = self.loggers.iter();
        let known: Vec<&Logger> = known.filter(|it| !it.files.node.is_empty()).collect();
        if !known.is_empty() {
            let head = [
                "logger", "written", "struck", "in files", "missing", "too many",
            ];
            let mut rows = vec![head.map(ToOwned::to_owned)];
            rows.extend(known.iter().map(|logger| {
                let count = |number: u64| match logger.files.unknown {
                    Some(_) => "-".to_owned(),
                    None => number.to_string(),
                };
                [
                    logger.files.node.clone(),
                    count(logger.files.written),
                    count(logger.files.struck),
                    count(logger.in_files),
                    count(logger.missing),
                    count(logger.too_many),
                ]
            }));
            table(&rows, &mut text);
        }
        if !self.streams.is_empty() {
            let head = ["stream", "current", "rotated", "archived", "unsettled"];
            let mut rows = vec![head.map(ToOwned::to_owned)];
            rows.extend(self.streams.iter().map(|(name, files)| {
                let counts = [
                    files.current,
                    files.rotated,
                    files.archived,
                    files.unsettled,
                ];
                let [current, rotated, archived, unsettled] = counts.map(|it| it.to_string());
                [name.clone(), current, rotated, archived, unsettled]
            }));
            text.push('\n');
            table(&rows, &mut text);
        }
        if !self.nodes.is_empty() {
            let head = [
                "node",
                "logged",
                "found",
                "acknowledged",
                "unacknowledged",
                "open",
                "spooled",
                "lost",
            ];
            let mut rows = vec![head.map(ToOwned::to_owned)];
            rows.extend(self.nodes.iter().map(|node| {
                let counts = [
                    node.logged,
                    node.found,
                    node.acknowledged,
                    node.unacknowledged,
                    node.open,
                    node.spooled,
                    node.lost,
                ];
                let [
                    logged,
                    found,
                    acknowledged,
                    unacknowledged,
                    open,
                    spooled,
                    lost,
                ] = counts.map(|it| it.to_string());
                let name = node.node.clone();
                [
                    name,
                    logged,
                    found,
                    acknowledged,
                    unacknowledged,
                    open,
                    spooled,
                    lost,
                ]
            }));
            text.push('\n');
            table(&rows, &mut text);
        }
        if !text.is_empty() {
            text.push('\n');
        }
        for line in self.lines() {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    /// What the counts come to, in words.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for problem in self.loggers.iter().flat_map(|it| &it.files.problems) {
            lines.push(problem.clone());
        }
        for logger in &self.loggers {
            let (node, earlier) = (&logger.files.node, logger.files.earlier_files);
            if earlier > 0 {
                lines.push(format!(
                    "{node}: {earlier} files of former lives were not counted"
                ));
            }
        }
        if self.too_many > 0 {
            lines.push(format!(
                "{} records are in the files of loggers that these have not written there, such as copies",
                self.too_many
            ));
        }
        if let Some(missing @ 1..) = self.acknowledged_missing {
            lines.push(format!(
                "{missing} acknowledged records are not in the files"
            ));
        }
        if self.unreadable > 0 {
            let unreadable = self.unreadable;
            lines.push(format!("{unreadable} rows of the files cannot be read"));
        }
        lines.push(match (self.missing, self.verdict) {
            (0, Verdict::Complete) => {
                "nothing is missing of what the loggers have written since they began".to_owned()
            }
            (0, Verdict::Unknown) => "it cannot be told whether anything is missing".to_owned(),
            (0, Verdict::Missing) => "the files of the loggers are not whole".to_owned(),
            (missing, _) => {
                format!("{missing} records are missing that loggers have written since they began")
            }
        });
        lines
    }
}
