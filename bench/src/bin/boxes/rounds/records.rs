//! What has become of log records: workers write numbered ones in all rounds, and in the end all files are read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Result;
use muster_bench::boxes::Boxes;
use serde::Serialize;
use serde_json::Value;

use super::files::{Files, rows};
use super::{duty, keyed};

/// What workers log: numbered records, and the numbers of events that were acknowledged.
const STREAMS: [&str; 2] = ["probe", "probe_acknowledged"];

/// How many numbered records a worker writes in a second.
const RATE: u32 = 400;

/// Sections of the layout, and what is set for each worker.
pub(super) const SECTIONS: &str = "[logging]\nrotation = \"3s\"\n[archive]\nenabled = false\n";

/// The options of a node that writes records, publishes events, or has a duty.
pub(super) fn options(role: &str) -> String {
    match role {
        "worker" => {
            let keyed = keyed::RATE;
            format!(
                "options = {{ \"probe.rate\" = {RATE}, \"probe.keyed_rate\" = {keyed}, \"logging.spool\" = \"always\" }}\n"
            )
        }
        "manager" => format!("options = {{ \"probe.duty_rate\" = {} }}\n", duty::RATE),
        _ => String::new(),
    }
}

/// The records of lives that a logger has acknowledged, or that are in the spool, as they were seen last.
#[derive(Debug, Default)]
pub(super) struct Acknowledged(BTreeMap<String, u64>);

impl Acknowledged {
    /// Looks at what the status of all nodes says.
    pub(super) fn look(&mut self, status: &Value) {
        let nodes = status["nodes"].as_array().map(Vec::as_slice);
        for node in nodes.unwrap_or_default() {
            // Others log little, and under no number.
            if node["role"] != "worker" {
                continue;
            }
            let report = &node["report"];
            let count = |name: &str| report["counts"][name].as_u64();
            // What was found is of former lives, and acknowledged to this one.
            let found = count("records_found").unwrap_or(0);
            let acknowledged = count("records_acknowledged");
            let acknowledged = acknowledged.map(|all| all.saturating_sub(found));
            let safe = acknowledged.max(count("records_spooled"));
            if let (Some(id), Some(count)) = (report["id"].as_str(), safe) {
                let known = self.0.entry(id.to_owned()).or_default();
                *known = count.max(*known);
            }
        }
    }
}

/// What is in the files.
#[derive(Debug, Default, Serialize)]
pub(super) struct Account {
    lives: usize,
    acknowledged: u64,
    in_files: u64,
    /// Of those in files with a final name.
    twice: u64,
    /// Others, which loggers would have taken out if they had gone on.
    to_be_taken_out: u64,
    missing: u64,
    /// Files that have no final name although everything was stopped.
    unsettled: usize,
}

impl Account {
    pub(super) fn is_good(&self) -> bool {
        self.twice == 0 && self.missing == 0 && self.in_files > 0
    }

    pub(super) fn line(&self) -> String {
        format!(
            "log records of {} lives: {} acknowledged or on their disks, {} in the files, {} twice in those with a final name, {} of the former missing; {} files without a final name, and {} records twice with those",
            self.lives,
            self.acknowledged,
            self.in_files,
            self.twice,
            self.missing,
            self.unsettled,
            self.to_be_taken_out
        )
    }
}

/// Reads the files of all boxes, whose nodes have stopped.
pub(super) fn account(boxes: &Boxes, acknowledged: &Acknowledged) -> Result<Account> {
    let mut account = Account::default();
    let mut found = Found::default();
    for stream in STREAMS {
        let files = Files::of(boxes, stream)?;
        account.twice += found.read(stream, &files.settled)?;
        account.to_be_taken_out += found.read(stream, &files.unsettled)?;
        account.unsettled += files.unsettled.len();
    }
    account.lives = found.of_lives.len();
    account.in_files = found.records;
    for (life, count) in &acknowledged.0 {
        let numbers = found.of_lives.get(life);
        let there = numbers.map_or(0, |numbers| numbers.len() as u64);
        account.missing += count.saturating_sub(there);
        account.acknowledged += count;
    }
    Ok(account)
}

/// The records in files that were read.
#[derive(Debug, Default)]
struct Found {
    of_lives: BTreeMap<String, BTreeSet<(&'static str, u64)>>,
    records: u64,
}

impl Found {
    /// Reads files of a stream. Returns how many of their records were there before.
    fn read(&mut self, stream: &'static str, files: &[PathBuf]) -> Result<u64> {
        let mut twice = 0;
        for row in rows(files)? {
            self.records += 1;
            let numbers = self.of_lives.entry(row.text("life")?.to_owned());
            let is_new = numbers.or_default().insert((stream, row.number("number")?));
            twice += u64::from(!is_new);
        }
        Ok(twice)
    }
}
