//! `muster records`: what all loggers have written to a stream.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use muster_agent::RecordLine;

use super::agent_client::Target;
use super::events::next;
use super::logs::{moment, since};
use crate::arguments::{Format, LayoutOption};
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, USAGE, print, say};

/// Show the records of a stream, of all loggers, in the order of their time
///
/// Current files, rotated ones and those of the archive are read. As text it is a table with tabs, its columns those of the records; as JSON an
/// object on a line.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The stream, as notice or known_hosts
    #[arg(value_name = "STREAM")]
    stream: String,
    /// Only records whose time is not longer ago: a duration such as 90s, 15m, 2h or 1d
    #[arg(long, value_name = "DURATION", value_parser = since)]
    since: Option<Duration>,
    /// So many of each box at most: the newest
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    last: usize,
    #[command(flatten)]
    layout: LayoutOption,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(self))
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if arguments.stream.is_empty() || !arguments.stream.chars().all(is_letter) {
        let message = format!("no stream is called `{}`", arguments.stream);
        return Err(Failure::new(message).code(USAGE).into());
    }
    let target = Target::of(&arguments.layout).await?;
    let query = format!(
        "records/{}?since={}&last={}",
        arguments.stream,
        moment(arguments.since),
        arguments.last
    );
    let mut lines = target.lines(&query).await?;
    let mut records = Vec::new();
    while let Some(record) = next::<RecordLine>(&target, &mut lines).await? {
        if let Some(remark) = &record.remark {
            say(remark);
        } else if arguments.format == Format::Json {
            print(&json(&record)?)?;
        } else {
            records.push(record);
        }
    }
    if arguments.format == Format::Text {
        print(&table(&records))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A record as an object, its columns in their order.
fn json(record: &RecordLine) -> Result<String> {
    let fields = record.fields.iter().map(|(name, value)| {
        Ok(format!(
            "{}:{}",
            serde_json::to_string(name)?,
            serde_json::to_string(value)?
        ))
    });
    let fields: Vec<String> = fields.collect::<Result<_>>()?;
    Ok(format!("{{{}}}\n", fields.join(",")))
}

/// Records as lines, with the columns that any of them has.
fn table(records: &[RecordLine]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for (name, _) in records.iter().flat_map(|record| &record.fields) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let mut text = columns.join("\t");
    text.push('\n');
    for record in records {
        let value = |column: &&str| {
            let mut fields = record.fields.iter();
            let found = fields.find(|(name, _)| name == column);
            found.map_or_else(|| "-".to_owned(), |(_, value)| cell(value))
        };
        let cells: Vec<String> = columns.iter().map(value).collect();
        text.push_str(&cells.join("\t"));
        text.push('\n');
    }
    text
}

/// A value that is one cell on one line.
fn cell(value: &str) -> String {
    let is_plain = !value.contains(char::is_control);
    if is_plain {
        return value.to_owned();
    }
    value.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &[(&str, &str)]) -> RecordLine {
        RecordLine {
            fields: fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..RecordLine::default()
        }
    }

    #[test]
    fn a_table_has_the_columns_of_all_records() {
        let records = [
            record(&[("ts", "1.0"), ("note", "a\tb")]),
            record(&[("ts", "2.0"), ("host", "10.0.0.1")]),
        ];
        assert_eq!(
            table(&records),
            "ts\tnote\thost\n1.0\ta\\tb\t-\n2.0\t-\t10.0.0.1\n"
        );
        assert_eq!(
            json(&records[1]).ok().as_deref(),
            Some("{\"ts\":\"2.0\",\"host\":\"10.0.0.1\"}\n")
        );
    }
}
