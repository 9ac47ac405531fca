//! A number that grows by one: no sum is told twice, and it grows with time.

use std::collections::BTreeMap;

use super::{Asked, Outcome, Record};

pub(super) fn judge(records: &[&Record]) -> Vec<String> {
    let mut lies = Vec::new();
    let value = |record: &Record| match record.outcome {
        Outcome::Value(value) => Some(value.unwrap_or(0)),
        _ => None,
    };
    let is_increment = |record: &&&Record| record.asked == Asked::Increment;
    let mut sums: BTreeMap<u64, u32> = BTreeMap::new();
    for record in records.iter().filter(is_increment) {
        if let Some(sum) = value(record) {
            *sums.entry(sum).or_default() += 1;
        }
    }
    for (sum, times) in &sums {
        if *times > 1 {
            lies.push(format!("{times} increments have come to {sum}"));
        }
    }
    // What stands when something is told is at least what was told before it was asked.
    for record in records {
        let Some(sum) = value(record) else { continue };
        let before = records.iter().filter(|other| other.ended < record.began);
        let least = before.clone().filter_map(|other| value(other)).max();
        let least = least.unwrap_or(0) + u64::from(is_increment(&record));
        let acknowledged = before.filter(is_increment);
        let acknowledged = acknowledged.filter(|other| value(other).is_some()).count() as u64;
        let least = least.max(acknowledged + u64::from(is_increment(&record)));
        let began = records.iter().filter(|other| other.began <= record.ended);
        let began = began.filter(is_increment);
        let most = began
            .filter(|other| other.outcome != Outcome::Failed)
            .count() as u64;
        if sum < least {
            lies.push(format!("told {sum} after it was at least {least}"));
        }
        if sum > most {
            lies.push(format!(
                "told {sum}, and there were {most} increments at most"
            ));
        }
    }
    lies
}

#[cfg(test)]
mod tests {
    use super::super::forged::{lies, said};
    use super::*;

    fn sum(value: u64) -> Outcome {
        Outcome::Value(Some(value))
    }

    #[test]
    fn increments_that_are_not_answered_may_count() {
        let history = [
            said(1, (0, 2), Asked::Increment, sum(1)),
            said(2, (1, 9), Asked::Increment, Outcome::Unknown),
            said(3, (1, 2), Asked::Increment, Outcome::Failed),
            said(1, (3, 4), Asked::Increment, sum(3)),
            said(3, (0, 1), Asked::GetCounter, Outcome::Value(None)),
            said(3, (5, 6), Asked::GetCounter, sum(3)),
        ];
        assert_eq!(lies(&history), [""; 0]);
        let not_applied = [
            said(2, (0, 9), Asked::Increment, Outcome::Unknown),
            said(1, (3, 4), Asked::Increment, sum(1)),
        ];
        assert_eq!(lies(&not_applied), [""; 0]);
    }

    #[test]
    fn lies_are_found() {
        let twice = [
            said(1, (0, 3), Asked::Increment, sum(1)),
            said(2, (0, 3), Asked::Increment, sum(1)),
        ];
        assert_eq!(lies(&twice), ["2 increments have come to 1"]);
        let lost = [
            said(1, (0, 1), Asked::Increment, sum(1)),
            said(1, (2, 3), Asked::Increment, sum(2)),
            said(2, (4, 5), Asked::GetCounter, sum(1)),
        ];
        assert_eq!(lies(&lost), ["told 1 after it was at least 2"]);
        let applied_twice = [
            said(1, (0, 1), Asked::Increment, sum(1)),
            said(2, (4, 5), Asked::GetCounter, sum(2)),
        ];
        assert_eq!(
            lies(&applied_twice),
            ["told 2, and there were 1 increments at most"]
        );
    }
}
