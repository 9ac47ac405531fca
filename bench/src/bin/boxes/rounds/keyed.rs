//! What has become of events for the owners of keys: workers publish numbered ones in all rounds and log which are acknowledged, owners log
//! which they have handled, and in the end all files are read.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use muster_bench::boxes::Boxes;
use serde::Serialize;

use super::files::{Files, Row, rows};
use super::wrong::Wrong;

/// How many events a worker publishes in a second.
pub(super) const RATE: u32 = 60;

/// What is in the files.
#[derive(Debug, Default, Serialize)]
pub(super) struct Account {
    /// Lives that have published events of which anything is known.
    lives: usize,
    /// Up to the last number of each life of which anything is known.
    published: u64,
    /// What a worker that was killed had not logged is not among them.
    acknowledged: u64,
    handled: u64,
    /// Acknowledged, and nobody has handled them.
    lost: u64,
    /// Handled twice, by files with a final name.
    twice: u64,
    /// Handled twice together with others, which loggers would have taken out if they had gone on.
    to_be_taken_out: u64,
    /// Handled by an owner whose rows did not know exactly the events of that life and key before.
    out_of_place: u64,
    /// What is wrong, for the first events.
    #[serde(skip_serializing_if = "Wrong::is_empty")]
    wrong: Wrong,
}

impl Account {
    pub(super) fn is_good(&self) -> bool {
        self.lost == 0 && self.twice == 0 && self.out_of_place == 0 && self.acknowledged > 0
    }

    pub(super) fn line(&self) -> String {
        format!(
            "keyed events of {} lives: {} published, {} acknowledged, {} handled, {} acknowledged and lost, {} handled twice ({} more in files without a final name), {} with other rows than expected{}",
            self.lives,
            self.published,
            self.acknowledged,
            self.handled,
            self.lost,
            self.twice,
            self.to_be_taken_out,
            self.out_of_place,
            self.wrong
        )
    }
}

/// Reads the files of all boxes, whose nodes have stopped.
pub(super) fn account(boxes: &Boxes) -> Result<Account> {
    let acknowledged = Files::of(boxes, "probe_acknowledged")?;
    let handled = Files::of(boxes, "probe_handled")?;
    let acknowledged = [acknowledged.settled, acknowledged.unsettled].concat();
    judge(
        &rows(&acknowledged)?,
        &rows(&handled.settled)?,
        &rows(&handled.unsettled)?,
    )
}

/// An event: the life that has published it, and its number there.
type Event = (String, u64);

fn event(row: &Row) -> Result<Event> {
    Ok((row.text("life")?.to_owned(), row.number("number")?))
}

fn judge(acknowledged: &[Row], settled: &[Row], unsettled: &[Row]) -> Result<Account> {
    let mut account = Account::default();
    let mut handled: BTreeMap<Event, &Row> = BTreeMap::new();
    for (row, is_settled) in settled
        .iter()
        .map(|row| (row, true))
        .chain(unsettled.iter().map(|row| (row, false)))
    {
        let (life, number) = event(row)?;
        let who = format!("{} at {}", row.text("node")?, row.text("ts")?);
        if row.number("place")? != row.number("expected")? {
            account.out_of_place += 1;
            let (key, place, expected) =
                (row.text("key")?, row.text("place")?, row.text("expected")?);
            account.wrong.tell(|| {
                format!("{life} {number}, place {place} of key {key}: {who} expected {expected}")
            });
        }
        let before = handled.insert((life.clone(), number), row);
        if let Some(before) = before {
            let before = format!("{} at {}", before.text("node")?, before.text("ts")?);
            if is_settled {
                account.twice += 1;
                account
                    .wrong
                    .tell(|| format!("{life} {number}: handled by {before} and by {who}"));
            } else {
                account.to_be_taken_out += 1;
            }
        }
    }
    let mut known = BTreeSet::new();
    for row in acknowledged {
        let event = event(row)?;
        if !handled.contains_key(&event) && !known.contains(&event) {
            account.lost += 1;
            let (life, number) = &event;
            let ts = row.text("ts")?;
            account
                .wrong
                .tell(|| format!("{life} {number}: acknowledged at {ts} and lost"));
        }
        known.insert(event);
    }
    account.acknowledged = known.len() as u64;
    account.handled = handled.len() as u64;
    let mut published: BTreeMap<String, u64> = BTreeMap::new();
    for (life, number) in handled.into_keys().chain(known) {
        let all = published.entry(life).or_default();
        *all = (*all).max(number + 1);
    }
    account.lives = published.len();
    account.published = published.values().sum();
    Ok(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(number: &str) -> Row {
        Row::forged(&[("ts", "1.0"), ("life", "one"), ("number", number)])
    }

    fn handled(number: &str, place: &str, expected: &str) -> Row {
        Row::forged(&[
            ("ts", "1.0"),
            ("node", "data-1"),
            ("life", "one"),
            ("number", number),
            ("key", "7"),
            ("place", place),
            ("expected", expected),
        ])
    }

    #[test]
    fn what_is_handled_once_and_in_its_place_is_good() {
        let rows = [handled("0", "0", "0"), handled("1", "1", "1")];
        let account = judge(&[acknowledged("0")], &rows, &[handled("2", "2", "2")]).unwrap();
        assert!(account.is_good(), "{account:?}");
        assert_eq!((account.published, account.acknowledged), (3, 1));
        assert_eq!(account.handled, 3);
        let nothing = judge(&[], &rows, &[]).unwrap();
        assert!(!nothing.is_good());
    }

    #[test]
    fn what_is_lost_or_handled_twice_or_out_of_place_is_found() {
        let known = [acknowledged("0"), acknowledged("1")];
        let lost = judge(&known, &[handled("0", "0", "0")], &[]).unwrap();
        assert_eq!((lost.lost, lost.is_good()), (1, false));
        let again = [handled("0", "0", "0"), handled("0", "0", "0")];
        let twice = judge(&known[..1], &again, &[]).unwrap();
        assert_eq!((twice.twice, twice.is_good()), (1, false));
        assert!(
            twice.line().contains("handled by data-1"),
            "{}",
            twice.line()
        );
        let forgotten = judge(&known[..1], &[handled("0", "1", "0")], &[]).unwrap();
        assert_eq!((forgotten.out_of_place, forgotten.is_good()), (1, false));
    }

    #[test]
    fn a_copy_that_loggers_would_have_taken_out_is_told_apart() {
        let row = || handled("0", "0", "0");
        let account = judge(&[acknowledged("0")], &[row()], &[row()]).unwrap();
        assert_eq!((account.twice, account.to_be_taken_out), (0, 1));
        assert!(account.is_good());
    }
}
