//! `muster logs`: what the nodes' processes say of themselves, all of them in the order of time.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::{Args, ValueEnum};
use muster_agent::LogLine;
use muster_cluster::NodeName;
use muster_data::Timestamp;

use super::agent_client::Target;
use super::events::next;
use crate::arguments::{Format, LayoutOption};
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, USAGE, print};

/// Show the process logs of nodes, in the order of time
///
/// Of each node's file the last MiB is read, and the newest 10,000 lines of each box are shown. Older ones are in the files.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only of these nodes
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Only what was written since then: so long ago as 90s, 15m, 2h or 1d, or a time such as 2026-11-29T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since_when)]
    since: Option<Since>,
    /// Only lines of this level and those that are worse
    #[arg(long, value_enum)]
    level: Option<Level>,
    /// Only lines that contain this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    #[command(flatten)]
    layout: LayoutOption,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How bad a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    fn of(line: &LogLine) -> Option<Self> {
        Self::from_str(&line.level, true).ok()
    }
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(self))
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    let target = Target::of(&arguments.layout).await?;
    let mut query = format!(
        "logs?since={}&follow={}",
        moment(arguments.since),
        arguments.follow
    );
    for node in &arguments.nodes {
        let checked = NodeName::new(node);
        checked.map_err(|error| Failure::new(error.to_string()).code(USAGE))?;
        query.push_str("&node=");
        query.push_str(node);
    }
    let mut lines = target.lines(&query).await?;
    while let Some(line) = next::<LogLine>(&target, &mut lines).await? {
        if !is_wanted(&arguments, &line) {
            continue;
        }
        match arguments.format {
            Format::Json => print(&format!("{}\n", serde_json::to_string(&line)?))?,
            Format::Text => print(&format!(
                "{}  {:<12} {:<5} {}\n",
                time(line.time),
                line.node,
                line.level,
                line.text
            ))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn is_wanted(arguments: &Arguments, line: &LogLine) -> bool {
    let is_bad_enough = arguments
        .level
        .is_none_or(|worst| Level::of(line).is_some_and(|level| level <= worst));
    let has_text = |text: &String| line.text.contains(text);
    is_bad_enough && arguments.grep.as_ref().is_none_or(has_text)
}

/// Since when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Since {
    /// Since so long ago.
    Ago(Duration),
    /// Since this time, in seconds since 1970.
    At(f64),
}

/// Reads a duration with its unit, or a time as ISO 8601 has it; without a zone it is UTC.
pub(super) fn since_when(text: &str) -> Result<Since, String> {
    if let Ok(ago) = since(text) {
        return Ok(Since::Ago(ago));
    }
    let time = time_of(text).map(|time| Since::At(time.as_secs_f64()));
    time.ok_or_else(|| {
        format!("`{text}` is neither a duration, such as 90s, 15m, 2h or 1d, nor a time, such as 2026-11-29T10:00:00Z")
    })
}

/// Reads a duration with its unit.
pub(super) fn since(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().filter(char::is_ascii_alphabetic);
    let (number, factor) = match unit {
        Some(unit @ ('s' | 'm' | 'h' | 'd')) => (
            &text[..text.len() - 1],
            match unit {
                's' => 1.0,
                'm' => 60.0,
                'h' => 3600.0,
                _ => 86_400.0,
            },
        ),
        _ => (text, 1.0),
    };
    let number: Result<f64, _> = number.parse();
    let seconds = number.ok().map(|number| number * factor);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("`{text}` is not a duration, such as 90s, 15m, 2h or 1d"))
}

fn time_of(text: &str) -> Option<Timestamp> {
    let text = text.replacen(' ', "T", 1);
    ["", "Z", ":00Z", "T00:00:00Z"]
        .iter()
        .find_map(|end| format!("{text}{end}").parse().ok())
}

/// That time, in seconds since 1970; the beginning without one.
pub(super) fn moment(since: Option<Since>) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    match since {
        None => 0.0,
        Some(Since::Ago(ago)) => now.saturating_sub(ago).as_secs_f64(),
        Some(Since::At(time)) => time.max(0.0),
    }
}

/// A time in milliseconds, UTC. What has none is told so.
pub(super) fn time(seconds: f64) -> String {
    if seconds <= 0.0 {
        return "-".to_owned();
    }
    // Half a microsecond more: what is cut off below was never a whole millisecond.
    let text = Timestamp::from_secs_f64(seconds + 5e-7).to_string();
    let text = text.trim_end_matches('Z');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}.{fraction:0<3.3}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_duration_or_a_time() {
        let ago = |seconds| Ok(Since::Ago(Duration::from_secs(seconds)));
        assert_eq!(since_when("90s"), ago(90));
        assert_eq!(since_when("1.5h"), ago(5400));
        assert_eq!(since_when("1d"), ago(86_400));
        assert_eq!(since_when("7"), ago(7));
        for (text, time) in [
            ("2025-11-29T10:00:00Z", 1_764_410_400.0),
            ("2025-11-29T10:00:00.5Z", 1_764_410_400.5),
            ("2025-11-29T10:00:00", 1_764_410_400.0),
            ("2025-11-29 10:00", 1_764_410_400.0),
            ("2025-11-29", 1_764_374_400.0),
        ] {
            assert_eq!(since_when(text), Ok(Since::At(time)), "{text}");
        }
        for wrong in [
            "",
            "h",
            "-1s",
            "1w",
            "1e400",
            "NaN",
            "5\u{e9}",
            "2025-13-01",
            "10:00",
        ] {
            assert!(since_when(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(time(0.0), "-");
        assert_eq!(time(1_764_410_400.0), "2025-11-29T10:00:00.000Z");
        assert_eq!(time(1_764_410_400.123_456), "2025-11-29T10:00:00.123Z");
        assert_eq!(time(1_764_410_400.1), "2025-11-29T10:00:00.100Z");
    }
}
