//! A register is linearizable: there is one order of all operations in which each takes effect between its beginning and its
//! end, and which explains every answer. Writes of which nothing is known may stand anywhere after their beginning, or nowhere.
//!
//! The search is that of Wing and Gong, with what it has seen remembered, as Lowe has it.

use std::collections::HashSet;

use super::{Asked, Outcome, Record};

/// The states that are looked at before a key is given up. A key has few operations: this is for a defect of the client.
const MOST_STATES: usize = 2_000_000;

/// An operation as the search has it.
struct Step<'a> {
    asked: &'a Asked,
    outcome: &'a Outcome,
    began: u64,
    /// For ever for those of which nothing is known.
    ended: u64,
}

pub(super) fn judge(records: &[&Record]) -> Vec<String> {
    let mut steps: Vec<Step<'_>> = records
        .iter()
        // What failed has changed nothing and has told nothing; a reading that came to nothing as well.
        .filter(|record| record.outcome != Outcome::Failed)
        .filter(|record| record.asked.is_write() || record.outcome != Outcome::Unknown)
        .map(|record| Step {
            asked: &record.asked,
            outcome: &record.outcome,
            began: record.began,
            ended: match record.outcome {
                Outcome::Unknown => u64::MAX,
                _ => record.ended,
            },
        })
        .collect();
    steps.sort_by_key(|step| step.began);
    let mut search = Search {
        steps: &steps,
        seen: HashSet::new(),
        longest: 0,
    };
    let open = vec![true; steps.len()];
    match search.explains(open, None) {
        Some(true) => Vec::new(),
        Some(false) => {
            let known = steps.iter().filter(|step| step.ended != u64::MAX).count();
            let text = format!(
                "no order explains its {} operations; of the {known} that were answered {} fit",
                steps.len(),
                search.longest
            );
            vec![text]
        }
        None => vec![format!(
            "too many orders of its {} operations to look at",
            steps.len()
        )],
    }
}

struct Search<'a> {
    steps: &'a [Step<'a>],
    seen: HashSet<(Vec<bool>, Option<u64>)>,
    /// The most answered operations that an order has explained.
    longest: usize,
}

impl Search<'_> {
    /// Whether an order of the open steps explains the rest, from a value. `None` if there are too many to look at.
    fn explains(&mut self, open: Vec<bool>, value: Option<u64>) -> Option<bool> {
        let mut waiting = vec![(open, value)];
        while let Some((open, value)) = waiting.pop() {
            if self.seen.len() > MOST_STATES {
                return None;
            }
            if !self.seen.insert((open.clone(), value)) {
                continue;
            }
            let is_open = |index: &usize| open[*index];
            let left = (0..open.len()).filter(is_open);
            let answered = left.filter(|index| self.steps[*index].ended != u64::MAX);
            let first_end = answered.clone().map(|index| self.steps[index].ended).min();
            let all = self.steps.iter().filter(|step| step.ended != u64::MAX);
            self.longest = self.longest.max(all.count() - answered.count());
            let Some(first_end) = first_end else {
                return Some(true);
            };
            // Whatever comes next has begun before any of the rest has ended.
            for index in (0..open.len()).filter(is_open) {
                let step = &self.steps[index];
                if step.began > first_end {
                    break;
                }
                if let Ok(next) = after(step, value) {
                    let mut rest = open.clone();
                    rest[index] = false;
                    waiting.push((rest, next));
                }
            }
        }
        Some(false)
    }
}

/// The value after a step, if its answer fits.
fn after(step: &Step<'_>, value: Option<u64>) -> Result<Option<u64>, DoesNotFit> {
    match (step.asked, step.outcome) {
        (Asked::Get, Outcome::Value(read)) if *read == value => Ok(value),
        (Asked::Put(new), Outcome::Done | Outcome::Unknown) => Ok(Some(*new)),
        (Asked::Swap { from, to }, outcome) => {
            let fits = *from == value;
            let next = if fits { Some(*to) } else { value };
            match outcome {
                Outcome::Applied(applied) if *applied != fits => Err(DoesNotFit),
                Outcome::Applied(_) | Outcome::Unknown => Ok(next),
                _ => Err(DoesNotFit),
            }
        }
        _ => Err(DoesNotFit),
    }
}

/// A step that does not explain its answer.
struct DoesNotFit;

#[cfg(test)]
mod tests {
    use super::super::forged::{lies, said};
    use super::*;

    fn get(client: u32, times: (u64, u64), value: Option<u64>) -> Record {
        said(client, times, Asked::Get, Outcome::Value(value))
    }

    fn put(client: u32, times: (u64, u64), value: u64) -> Record {
        said(client, times, Asked::Put(value), Outcome::Done)
    }

    fn swap(client: u32, times: (u64, u64), from: Option<u64>, to: u64, done: bool) -> Record {
        let asked = Asked::Swap { from, to };
        said(client, times, asked, Outcome::Applied(done))
    }

    #[test]
    fn what_overlaps_may_have_any_order() {
        let history = [
            put(1, (0, 10), 1),
            put(2, (0, 10), 2),
            get(3, (1, 2), None),
            get(3, (3, 4), Some(2)),
            get(3, (5, 6), Some(1)),
            swap(4, (11, 12), Some(1), 3, true),
            swap(4, (13, 14), Some(1), 4, false),
            get(3, (15, 16), Some(3)),
        ];
        assert_eq!(lies(&history), [""; 0]);
    }

    #[test]
    fn what_is_not_known_may_come_late_or_never() {
        let unknown = said(1, (0, 1), Asked::Put(1), Outcome::Unknown);
        let late = [
            unknown.clone(),
            put(2, (2, 3), 2),
            get(3, (4, 5), Some(2)),
            get(3, (6, 7), Some(1)),
        ];
        assert_eq!(lies(&late), [""; 0]);
        let never = [unknown.clone(), get(3, (4, 5), None)];
        assert_eq!(lies(&never), [""; 0]);
        let twice = [
            unknown,
            get(3, (4, 5), Some(1)),
            put(2, (6, 7), 2),
            get(3, (8, 9), Some(2)),
            get(3, (10, 11), Some(1)),
        ];
        assert_eq!(
            lies(&twice),
            ["no order explains its 5 operations; of the 4 that were answered 3 fit"]
        );
    }

    #[test]
    fn lies_are_found() {
        for history in [
            // An acknowledged write is lost.
            vec![put(1, (0, 1), 1), get(2, (2, 3), None)],
            // A reading goes back.
            vec![
                put(1, (0, 10), 1),
                get(2, (1, 2), Some(1)),
                get(3, (3, 4), None),
            ],
            // Two have replaced the same value.
            vec![
                swap(1, (0, 9), None, 1, true),
                swap(2, (0, 9), None, 2, true),
            ],
            // What was refused is read.
            vec![
                said(1, (0, 1), Asked::Put(1), Outcome::Failed),
                get(2, (2, 3), Some(1)),
            ],
        ] {
            assert_eq!(lies(&history).len(), 1, "{history:?}");
        }
    }

    #[test]
    fn many_writes_of_which_nothing_is_known_are_no_hindrance() {
        let mut history: Vec<Record> = (0..20)
            .map(|value| said(1, (value, value + 1), Asked::Put(value), Outcome::Unknown))
            .collect();
        history.push(get(2, (100, 101), Some(7)));
        history.push(get(2, (102, 103), Some(3)));
        assert_eq!(lies(&history), [""; 0]);
    }
}
