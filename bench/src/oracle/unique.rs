//! Of those who write if nobody has, one wins, and everybody reads its value from then on.

use super::{Asked, Outcome, Record};

pub(super) fn judge(records: &[&Record]) -> Vec<String> {
    let mut lies = Vec::new();
    let written = |record: &Record| match record.asked {
        Asked::PutUnique(value) => Some(value),
        _ => None,
    };
    let winners: Vec<(u64, &Record)> = records
        .iter()
        .filter(|record| record.outcome == Outcome::Applied(true))
        .filter_map(|record| Some((written(record)?, *record)))
        .collect();
    if winners.len() > 1 {
        let values: Vec<String> = winners.iter().map(|(value, _)| value.to_string()).collect();
        lies.push(format!("several were the first: {}", values.join(", ")));
    }
    let may_stand = |value: u64| {
        let mut writes = records
            .iter()
            .filter(|record| written(record) == Some(value));
        writes.any(|record| matches!(record.outcome, Outcome::Applied(true) | Outcome::Unknown))
    };
    let mut read: Vec<(u64, Option<u64>, &Record)> = records
        .iter()
        .filter_map(|record| match record.outcome {
            Outcome::Value(value) => Some((record.began, value, *record)),
            _ => None,
        })
        .collect();
    read.sort_by_key(|(began, ..)| *began);
    for (_, value, record) in &read {
        match value {
            Some(value) if !may_stand(*value) => {
                lies.push(format!("read {value}, which nobody has written"));
            }
            _ => {}
        }
        for (winner, write) in &winners {
            if *value != Some(*winner) && write.ended < record.began {
                lies.push(format!("read {value:?} after {winner} was the first"));
            }
        }
    }
    for (earlier, later) in read
        .iter()
        .flat_map(|one| read.iter().map(move |other| (one, other)))
    {
        let is_earlier = earlier.2.ended < later.2.began;
        if is_earlier && earlier.1.is_some() && later.1 != earlier.1 {
            lies.push(format!("read {:?} after {:?}", later.1, earlier.1));
        }
    }
    // Somebody was told that another had been first: then one must have been.
    let is_refused = |record: &&&Record| record.outcome == Outcome::Applied(false);
    let may_have = |record: &&Record| {
        matches!(record.outcome, Outcome::Applied(true) | Outcome::Unknown)
            && record.asked.is_write()
    };
    if records.iter().any(|record| is_refused(&record)) && !records.iter().any(may_have) {
        lies.push("all were told that another was the first".to_owned());
    }
    lies
}

#[cfg(test)]
mod tests {
    use super::super::forged::{lies, said};
    use super::*;

    #[test]
    fn one_wins_and_is_read() {
        let history = [
            said(1, (0, 2), Asked::PutUnique(1), Outcome::Applied(true)),
            said(2, (0, 3), Asked::PutUnique(2), Outcome::Applied(false)),
            said(3, (0, 1), Asked::GetUnique, Outcome::Value(None)),
            said(3, (4, 5), Asked::GetUnique, Outcome::Value(Some(1))),
        ];
        assert_eq!(lies(&history), [""; 0]);
        let unknown = [
            said(1, (0, 9), Asked::PutUnique(1), Outcome::Unknown),
            said(2, (2, 3), Asked::PutUnique(2), Outcome::Applied(false)),
            said(2, (4, 5), Asked::GetUnique, Outcome::Value(Some(1))),
        ];
        assert_eq!(lies(&unknown), [""; 0]);
    }

    #[test]
    fn lies_are_found() {
        let twice = [
            said(1, (0, 2), Asked::PutUnique(1), Outcome::Applied(true)),
            said(2, (3, 4), Asked::PutUnique(2), Outcome::Applied(true)),
        ];
        assert_eq!(lies(&twice), ["several were the first: 1, 2"]);
        let lost = [
            said(1, (0, 2), Asked::PutUnique(1), Outcome::Applied(true)),
            said(2, (3, 4), Asked::GetUnique, Outcome::Value(None)),
        ];
        assert_eq!(lies(&lost), ["read None after 1 was the first"]);
        let back = [
            said(1, (0, 9), Asked::PutUnique(1), Outcome::Unknown),
            said(2, (1, 2), Asked::GetUnique, Outcome::Value(Some(1))),
            said(2, (3, 4), Asked::GetUnique, Outcome::Value(None)),
        ];
        assert_eq!(lies(&back), ["read None after Some(1)"]);
        let nobody = [said(
            1,
            (0, 2),
            Asked::PutUnique(1),
            Outcome::Applied(false),
        )];
        assert_eq!(lies(&nobody), ["all were told that another was the first"]);
        let foreign = [
            said(1, (0, 2), Asked::PutUnique(1), Outcome::Failed),
            said(2, (3, 4), Asked::GetUnique, Outcome::Value(Some(1))),
        ];
        assert_eq!(lies(&foreign), ["read 1, which nobody has written"]);
    }
}
