//! What has become of a duty: the manager that has it acts in all rounds, each time is counted in one row, and in the end all files are read.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use muster_bench::boxes::Boxes;
use serde::Serialize;

use super::files::{Files, Row, rows};
use super::wrong::Wrong;

/// How many times a second who has the duty acts.
pub(super) const RATE: u32 = 40;

/// What is in the files.
#[derive(Debug, Default, Serialize)]
pub(super) struct Account {
    /// How often a manager has gained the duty and acted.
    spans: usize,
    /// How often somebody has acted.
    counted: u64,
    /// Numbers that are missing: what the row knew is gone.
    missing: u64,
    /// Numbers that are there twice, by files with a final name.
    twice: u64,
    /// Numbers that are there twice together with other files, which loggers would have taken out if they had gone on.
    to_be_taken_out: u64,
    /// Times at which a manager began to act before another one had ended.
    overlaps: u64,
    /// What is wrong.
    #[serde(skip_serializing_if = "Wrong::is_empty")]
    wrong: Wrong,
}

impl Account {
    pub(super) fn is_good(&self) -> bool {
        self.missing == 0 && self.twice == 0 && self.overlaps == 0 && self.counted > 0
    }

    pub(super) fn line(&self) -> String {
        format!(
            "a duty of one manager at a time, gained {} times: acted {} times, {} numbers missing, {} twice ({} more in files without a final name), {} times two at once{}",
            self.spans,
            self.counted,
            self.missing,
            self.twice,
            self.to_be_taken_out,
            self.overlaps,
            self.wrong
        )
    }
}

/// Reads the files of all boxes, whose nodes have stopped.
pub(super) fn account(boxes: &Boxes) -> Result<Account> {
    let files = Files::of(boxes, "probe_duty")?;
    judge(&rows(&files.settled)?, &rows(&files.unsettled)?)
}

/// From when until when a life acted without losing the duty.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: f64,
    last: f64,
}

fn judge(settled: &[Row], unsettled: &[Row]) -> Result<Account> {
    let mut account = Account::default();
    let mut numbers = BTreeSet::new();
    let mut spans: BTreeMap<(String, u64), Span> = BTreeMap::new();
    let settled = settled.iter().map(|row| (row, true));
    for (row, is_settled) in settled.chain(unsettled.iter().map(|row| (row, false))) {
        let number = row.number("number")?;
        let (life, span) = (row.text("life")?.to_owned(), row.number("span")?);
        let acted: f64 = row.text("acted")?.parse()?;
        let known = spans.entry((life, span)).or_insert(Span {
            first: acted,
            last: acted,
        });
        known.first = known.first.min(acted);
        known.last = known.last.max(acted);
        if numbers.insert(number) {
            continue;
        }
        if is_settled {
            account.twice += 1;
            let (node, ts) = (row.text("node")?, row.text("ts")?);
            account
                .wrong
                .tell(|| format!("number {number} is there again, of {node} at {ts}"));
        } else {
            account.to_be_taken_out += 1;
        }
    }
    account.spans = spans.len();
    account.counted = numbers.len() as u64;
    let last = numbers.last().copied().unwrap_or(0);
    account.missing = last - account.counted;
    let mut missing = (1..=last).filter(|number| !numbers.contains(number));
    if let Some(first) = missing.next() {
        account.wrong.tell(|| format!("number {first} is missing"));
    }
    let mut spans: Vec<((String, u64), Span)> = spans.into_iter().collect();
    spans.sort_by(|(_, one), (_, other)| one.first.total_cmp(&other.first));
    let mut latest: Option<(&str, f64)> = None;
    for ((life, _), Span { first, last }) in &spans {
        if let Some((other, until)) = latest.filter(|(_, until)| first <= until) {
            account.overlaps += 1;
            account
                .wrong
                .tell(|| format!("{life} acted from {first} on, and {other} until {until}"));
        }
        if latest.is_none_or(|(_, until)| until < *last) {
            latest = Some((life, *last));
        }
    }
    Ok(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(number: &str, life: &str, acted: &str) -> Row {
        Row::forged(&[
            ("ts", "1.0"),
            ("node", "manager-a"),
            ("life", life),
            ("span", "1"),
            ("acted", acted),
            ("number", number),
        ])
    }

    #[test]
    fn one_after_another_is_good() {
        let rows = [
            counted("1", "one", "1.0"),
            counted("2", "one", "2.0"),
            counted("3", "two", "2.5"),
        ];
        let account = judge(&rows, &[counted("3", "two", "2.5")]).unwrap();
        assert!(account.is_good(), "{account:?}");
        assert_eq!((account.spans, account.counted), (2, 3));
        assert_eq!(account.to_be_taken_out, 1);
        assert!(!judge(&[], &[]).unwrap().is_good());
    }

    #[test]
    fn what_is_missing_or_there_twice_or_at_once_is_found() {
        let missing = [counted("1", "one", "1.0"), counted("3", "one", "2.0")];
        assert_eq!(judge(&missing, &[]).unwrap().missing, 1);
        let twice = [counted("1", "one", "1.0"), counted("1", "one", "2.0")];
        let twice = judge(&twice, &[]).unwrap();
        assert_eq!((twice.twice, twice.is_good()), (1, false));
        let at_once = [
            counted("1", "one", "1.0"),
            counted("2", "two", "1.5"),
            counted("3", "one", "2.0"),
        ];
        let at_once = judge(&at_once, &[]).unwrap();
        assert_eq!((at_once.overlaps, at_once.is_good()), (1, false));
    }
}
