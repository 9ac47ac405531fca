//! A list that grows at its end: every acknowledged element is in it once, each writer's in order, and every reading is the
//! beginning of every later one.

use std::collections::BTreeMap;

use super::{Asked, Outcome, Record};

pub(super) fn judge(records: &[&Record]) -> Vec<String> {
    let mut lies = Vec::new();
    let mut readings: Vec<(&Record, &Vec<u64>)> = records
        .iter()
        .filter_map(|record| match &record.outcome {
            Outcome::List(list) => Some((*record, list)),
            Outcome::Value(None) if record.asked == Asked::GetList => Some((*record, &EMPTY)),
            _ => None,
        })
        .collect();
    let mut pushes: BTreeMap<u64, &Record> = BTreeMap::new();
    for record in records {
        if let Asked::Push(element) = record.asked {
            pushes.insert(element, record);
        }
    }
    // All readings are beginnings of the longest one.
    readings.sort_by_key(|(_, list)| list.len());
    let Some((_, longest)) = readings.last() else {
        return lies;
    };
    for (_, list) in &readings {
        if !longest.starts_with(list) {
            lies.push(format!("read {list:?} and {longest:?}"));
        }
    }
    let mut places: BTreeMap<u64, usize> = BTreeMap::new();
    for (place, element) in longest.iter().enumerate() {
        match pushes.get(element) {
            None => lies.push(format!("{element} is in it, and nobody has put it there")),
            Some(push) if push.outcome == Outcome::Failed => {
                lies.push(format!("{element} is in it, and it was refused"));
            }
            Some(_) => {}
        }
        if places.insert(*element, place).is_some() {
            lies.push(format!("{element} is in it twice"));
        }
    }
    for (record, list) in &readings {
        let done = pushes
            .iter()
            .filter(|(_, push)| push.outcome == Outcome::Done && push.ended < record.began);
        let missing: Vec<u64> = done
            .map(|(element, _)| *element)
            .filter(|element| !list.contains(element))
            .collect();
        if !missing.is_empty() {
            lies.push(format!("{missing:?} were acknowledged and are not there"));
        }
    }
    for (earlier, shorter) in &readings {
        let mut later = readings
            .iter()
            .filter(|(later, _)| later.ended < earlier.began);
        if let Some((_, longer)) = later.find(|(_, list)| list.len() > shorter.len()) {
            let (longer, shorter) = (longer.len(), shorter.len());
            lies.push(format!("read {shorter} elements after {longer}"));
        }
    }
    // What was put in later is further back.
    for (element, push) in &pushes {
        let Some(place) = places.get(element) else {
            continue;
        };
        let after = pushes.iter().filter(|(_, other)| push.ended < other.began);
        for (other, _) in after.filter(|_| push.outcome == Outcome::Done) {
            if places.get(other).is_some_and(|other| other < place) {
                lies.push(format!(
                    "{other} is before {element}, and was put in after it"
                ));
            }
        }
    }
    lies
}

static EMPTY: Vec<u64> = Vec::new();

#[cfg(test)]
mod tests {
    use super::super::forged::{lies, said};
    use super::*;

    fn read(client: u32, times: (u64, u64), list: &[u64]) -> Record {
        said(client, times, Asked::GetList, Outcome::List(list.to_vec()))
    }

    fn push(client: u32, times: (u64, u64), element: u64) -> Record {
        said(client, times, Asked::Push(element), Outcome::Done)
    }

    #[test]
    fn what_is_not_known_may_be_there_or_not() {
        let history = [
            push(1, (0, 1), 1),
            said(2, (0, 9), Asked::Push(2), Outcome::Unknown),
            said(2, (10, 11), Asked::Push(3), Outcome::Unknown),
            said(3, (0, 1), Asked::GetList, Outcome::Value(None)),
            read(3, (2, 3), &[1]),
            push(1, (4, 5), 4),
            read(3, (12, 13), &[1, 2, 4]),
        ];
        assert_eq!(lies(&history), [""; 0]);
    }

    #[test]
    fn lies_are_found() {
        let one = |history: &[Record], lie: &str| {
            let found = lies(history);
            assert!(found.iter().any(|found| found == lie), "{found:?}");
        };
        let first = push(1, (0, 1), 1);
        let lost = [first.clone(), read(2, (2, 3), &[])];
        one(&lost, "[1] were acknowledged and are not there");
        let twice = [first.clone(), read(2, (2, 3), &[1, 1])];
        one(&twice, "1 is in it twice");
        let foreign = [first.clone(), read(2, (2, 3), &[1, 5])];
        one(&foreign, "5 is in it, and nobody has put it there");
        let forked = [
            first.clone(),
            push(1, (2, 3), 2),
            read(2, (0, 3), &[1]),
            read(3, (0, 3), &[2, 1]),
        ];
        one(&forked, "read [1] and [2, 1]");
        one(&forked, "2 is before 1, and was put in after it");
        let back = [
            said(1, (0, 9), Asked::Push(1), Outcome::Unknown),
            read(2, (1, 2), &[1]),
            read(2, (3, 4), &[]),
        ];
        one(&back, "read 0 elements after 1");
        let refused = [
            said(1, (0, 1), Asked::Push(1), Outcome::Failed),
            read(2, (2, 3), &[1]),
        ];
        one(&refused, "1 is in it, and it was refused");
    }
}
