//! `muster records`: what all loggers have written to a stream.

mod verify;

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use muster_agent::{Condition, MOST_CONDITIONS, RecordLine};

use super::agent_client::Target;
use super::events::next;
use super::logs::{Since, moment, since_when};
use crate::arguments::{Format, LayoutOption};
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, USAGE, print, say};

/// How many records of each box are shown, unless it is said.
const LAST: usize = 10_000;

/// And before those that are followed.
const LAST_OF_FOLLOWED: usize = 10;

/// Show the records of a stream, of all loggers, in the order of their time
///
/// Current files, rotated ones and those of the archive are read. As text it is a table with tabs, its columns those of the records; as JSON an
/// object on a line. With --follow the last ten come first, or what --since and --last ask for, and then what any logger of any box writes.
///
/// With --verify no records are shown, but counted. What each logger's present life has written is compared with what is in the files that
/// it has begun, on all boxes; what former lives have written nobody counts. Exit codes then: 0 nothing is missing; 1 records are missing;
/// 5 it cannot be told, as a box or a logger does not answer or the archive has removed files.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The stream, as notice or known_hosts
    #[arg(value_name = "STREAM", required_unless_present = "verify")]
    stream: Option<String>,
    /// Count the records in the files of all streams, and say whether any are missing
    #[arg(long, conflicts_with_all = ["stream", "follow", "since", "conditions", "last"])]
    verify: bool,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Only records of this time and later: so long ago as 90s, 15m, 2h or 1d, or a time such as 2026-11-29T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since_when)]
    since: Option<Since>,
    /// Only records with this value in a column: id.resp_p==53, or with another one: service!=dns. Several have to hold all
    ///
    /// Numbers, addresses and truth values are compared as such. A column that is not set equals nothing.
    #[arg(long = "where", value_name = "FIELD==VALUE", value_parser = condition)]
    conditions: Vec<String>,
    /// So many of each box at most: the newest. 10000 if not given
    #[arg(long, value_name = "COUNT")]
    last: Option<usize>,
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
    if arguments.verify {
        let target = Target::of(&arguments.layout).await?;
        return verify::run(&target, arguments.format).await;
    }
    let stream = arguments.stream.as_deref().unwrap_or_default();
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if stream.is_empty() || !stream.chars().all(is_letter) {
        let message = format!("no stream is called `{stream}`");
        return Err(Failure::new(message).code(USAGE).into());
    }
    if arguments.conditions.len() > MOST_CONDITIONS {
        let message = format!("there may be {MOST_CONDITIONS} conditions");
        return Err(Failure::new(message).code(USAGE).into());
    }
    let target = Target::of(&arguments.layout).await?;
    let mut lines = target.lines(&query(stream, &arguments)).await?;
    let mut table = Table::default();
    let mut records = Vec::new();
    while let Some(record) = next::<RecordLine>(&target, &mut lines).await? {
        if let Some(remark) = &record.remark {
            say(remark);
        } else if arguments.format == Format::Json {
            print(&json(&record)?)?;
        } else if arguments.follow {
            print(&table.of(&[record]))?;
        } else {
            records.push(record);
        }
    }
    if arguments.format == Format::Text && !arguments.follow {
        print(&table.of(&records))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn query(stream: &str, arguments: &Arguments) -> String {
    let usual = match (arguments.follow, arguments.since) {
        (true, None) => LAST_OF_FOLLOWED,
        _ => LAST,
    };
    let mut query = format!(
        "records/{stream}?since={}&last={}&follow={}",
        moment(arguments.since),
        arguments.last.unwrap_or(usual),
        arguments.follow
    );
    for condition in &arguments.conditions {
        query.push_str("&where=");
        query.push_str(&encoded(condition));
    }
    query
}

/// Checks a condition; the agent reads it.
fn condition(text: &str) -> Result<String, String> {
    Condition::parse(text).map(|_| text.to_owned())
}

/// A value as it may stand in a query (RFC 3986, section 2.1).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
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

/// Records as lines, below the columns that any of them has.
#[derive(Debug, Default)]
struct Table {
    columns: Vec<String>,
    has_head: bool,
}

impl Table {
    /// The lines of some records. If they have columns that none before had, these are named first.
    fn of(&mut self, records: &[RecordLine]) -> String {
        let before = self.columns.len();
        for (name, _) in records.iter().flat_map(|record| &record.fields) {
            if !self.columns.contains(name) {
                self.columns.push(name.clone());
            }
        }
        let mut text = String::new();
        if !self.has_head || self.columns.len() > before {
            self.has_head = true;
            text = self.columns.join("\t");
            text.push('\n');
        }
        for record in records {
            let value = |column: &String| {
                let mut fields = record.fields.iter();
                let found = fields.find(|(name, _)| name == column);
                found.map_or_else(|| "-".to_owned(), |(_, value)| cell(value))
            };
            let cells: Vec<String> = self.columns.iter().map(value).collect();
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        text
    }
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
            Table::default().of(&records),
            "ts\tnote\thost\n1.0\ta\\tb\t-\n2.0\t-\t10.0.0.1\n"
        );
        assert_eq!(Table::default().of(&[]), "\n");
        // One after another.
        let mut table = Table::default();
        assert_eq!(table.of(&records[..1]), "ts\tnote\n1.0\ta\\tb\n");
        assert_eq!(table.of(&records[..1]), "1.0\ta\\tb\n");
        assert_eq!(
            table.of(&records[1..]),
            "ts\tnote\thost\n2.0\t-\t10.0.0.1\n"
        );
        assert_eq!(
            json(&records[1]).ok().as_deref(),
            Some("{\"ts\":\"2.0\",\"host\":\"10.0.0.1\"}\n")
        );
    }
    #[test]
    fn conditions_are_checked_and_written_so_that_they_are_one_value() {
        assert_eq!(condition("a==1").as_deref(), Ok("a==1"));
        assert!(condition("a>1").is_err());
        assert_eq!(encoded("id.h==::1&x \u{e9}"), "id.h%3D%3D::1%26x%20%C3%A9");
    }
}
