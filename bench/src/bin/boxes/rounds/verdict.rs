//! What came of a round.

use std::fmt::Write as _;

use muster_bench::oracle::{Asked, Kind, Outcome, Record, judge};
use serde::Serialize;

use super::plan::Round;
use crate::client::STORES;

/// A pause without an acknowledgement that is none of the cluster's: the machine has few processors for all of this.
const USUAL_PAUSE: f64 = 0.4;

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    round: u32,
    fault: &'static str,
    on: &'static str,
    seconds: f64,
    /// From the fault until everything that clients do was answered again, in seconds.
    settled: f64,
    /// Whether that was before the fault had ended.
    settled_by_itself: bool,
    within_limit: bool,
    /// From the fault until the coordinators had decided that all nodes of the box are out, in seconds, if they had to.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<f64>,
    /// Whether they decided in time.
    decided_in_time: bool,
    acknowledged: usize,
    failed: usize,
    unknown: usize,
    /// From the end of the fault until all nodes were ready, in seconds; `None` if they never were.
    pub(super) well: Option<f64>,
    lies: Vec<String>,
}

impl Verdict {
    pub(super) fn is_good(&self) -> bool {
        self.lies.is_empty() && self.within_limit && self.decided_in_time && self.well.is_some()
    }

    /// Whether the cluster has told the truth, and was well again, however long it took.
    pub(super) fn is_true(&self) -> bool {
        self.lies.is_empty() && self.well.is_some()
    }

    pub(super) fn line(&self) -> String {
        let settled = if self.settled_by_itself {
            format!("went on after {:.1} s", self.settled)
        } else {
            format!("went on after {:.1} s, when it had ended", self.settled)
        };
        let well = match self.well {
            Some(well) => format!("well {well:.1} s later"),
            None => "NOT WELL AGAIN".to_owned(),
        };
        let decided = match self.decided {
            Some(decided) => format!("out after {decided:.1} s; "),
            None if self.decided_in_time => String::new(),
            None => "NOT OUT; ".to_owned(),
        };
        let mut line = format!(
            "{:>3}  {:<22} {decided}{settled}; {well}; {} acknowledged, {} failed, {} unknown: {}",
            self.round,
            format!("{} {} {:.1} s", self.fault, self.on, self.seconds),
            self.acknowledged,
            self.failed,
            self.unknown,
            if self.is_good() { "good" } else { "NOT GOOD" },
        );
        // A string takes everything.
        for lie in self.lies.iter().take(3) {
            let _ = write!(line, "\n       {lie}");
        }
        if self.lies.len() > 3 {
            let _ = write!(line, "\n       and {} more", self.lies.len() - 3);
        }
        line
    }
}

pub(super) fn summary(verdicts: &[Verdict]) -> String {
    let count = |has: &dyn Fn(&Verdict) -> bool| verdicts.iter().filter(|one| has(one)).count();
    let lies: usize = verdicts.iter().map(|verdict| verdict.lies.len()).sum();
    let mut settled: Vec<f64> = verdicts.iter().map(|verdict| verdict.settled).collect();
    settled.sort_by(f64::total_cmp);
    let middle = settled.get(settled.len() / 2).copied().unwrap_or_default();
    let longest = settled.last().copied().unwrap_or_default();
    let mut decided: Vec<f64> = verdicts.iter().filter_map(|one| one.decided).collect();
    decided.sort_by(f64::total_cmp);
    let views = match decided.as_slice() {
        [] => String::new(),
        times => format!(
            "; boxes out after {:.1} s in the middle, {:.1} s at most, {} too late",
            times[times.len() / 2],
            times[times.len() - 1],
            count(&|verdict| !verdict.decided_in_time),
        ),
    };
    format!(
        "{} of {} rounds were good; {lies} lies in {} rounds; {} went on too late; {} were not well again; went on after {middle:.1} s in the middle, {longest:.1} s at most{views}",
        count(&Verdict::is_good),
        verdicts.len(),
        count(&|verdict| !verdict.lies.is_empty()),
        count(&|verdict| !verdict.within_limit),
        count(&|verdict| verdict.well.is_none()),
    )
}

/// When what happened.
pub(super) struct Times {
    pub(super) struck: u64,
    pub(super) healed: u64,
    /// When all nodes of the box were out, if they had to be and were.
    pub(super) out: Option<u64>,
    /// How long after the fault's end all was well.
    pub(super) well: Option<f64>,
}

pub(super) fn verdict(number: u32, round: &Round, times: &Times, history: &[Record]) -> Verdict {
    let Times {
        struck,
        healed,
        out,
        well,
    } = *times;
    let (settled, settled_by_itself) = settled(history, struck, healed);
    // What lasts as long as the cluster may take need not be survived, only waited for.
    let lasted = seconds(struck, healed);
    let limit = round.fault.limit();
    let count = |has: &dyn Fn(&Record) -> bool| history.iter().filter(|record| has(record)).count();
    Verdict {
        round: number,
        fault: round.fault.name(),
        on: round.on,
        seconds: lasted,
        settled,
        settled_by_itself,
        decided: out.map(|out| seconds(struck, out)),
        decided_in_time: match out {
            Some(out) => seconds(struck, out) <= limit,
            // What is over before it is noticed need not be.
            None => !round.fault.takes_out() || lasted <= limit,
        },
        within_limit: settled <= limit || (lasted <= limit && settled <= lasted + limit),
        acknowledged: count(&is_acknowledged),
        failed: count(&|record| record.outcome == Outcome::Failed),
        unknown: count(&|record| record.outcome == Outcome::Unknown),
        well,
        lies: judge(history).iter().map(ToString::to_string).collect(),
    }
}

fn is_acknowledged(record: &Record) -> bool {
    record.asked.is_write() && !matches!(record.outcome, Outcome::Failed | Outcome::Unknown)
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds of some minutes")]
fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

/// How long after the fault the last pause has ended in which something was not acknowledged, for every store and kind of
/// operation, and whether that was before the fault had ended.
fn settled(history: &[Record], struck: u64, healed: u64) -> (f64, bool) {
    let end = history
        .iter()
        .map(|record| record.ended)
        .max()
        .unwrap_or(healed);
    let mut last = struck;
    for store in STORES {
        for kind in Kind::ALL {
            let of_probe = history.iter().filter(|record| {
                record.key.starts_with(store) && probes(&record.asked) == Some(kind)
            });
            let acknowledged = of_probe.filter(|record| is_acknowledged(record));
            let mut times: Vec<u64> = acknowledged.map(|record| record.ended).collect();
            times.sort_unstable();
            // Whoever is never answered again is not until the end.
            times.push(end);
            let before = times.partition_point(|time| *time < struck);
            let mut previous = if before == 0 {
                struck
            } else {
                times[before - 1]
            };
            for time in &times[before..] {
                if previous < healed && seconds(previous.max(struck), *time) > USUAL_PAUSE {
                    last = last.max(*time);
                }
                previous = *time;
            }
        }
    }
    (seconds(struck, last), last <= healed)
}

/// The kind of a write that shows whether something is answered. A swap may be refused again and again.
fn probes(asked: &Asked) -> Option<Kind> {
    match asked {
        Asked::Swap { .. } => None,
        asked => Some(asked.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(store: &str, ended: u64) -> Vec<Record> {
        let all = [
            (Asked::Put(1), Outcome::Done),
            (Asked::PutUnique(1), Outcome::Applied(false)),
            (Asked::Increment, Outcome::Value(Some(1))),
            (Asked::Push(1), Outcome::Done),
        ];
        let record = |(asked, outcome)| Record {
            client: 1,
            key: format!("{store} k"),
            began: ended,
            ended,
            asked,
            outcome,
        };
        all.map(record).to_vec()
    }

    fn history(times: &(impl Iterator<Item = u64> + Clone)) -> Vec<Record> {
        let of_store = |store| {
            times
                .clone()
                .flat_map(move |time| acknowledged(store, time))
        };
        STORES.into_iter().flat_map(of_store).collect()
    }

    const MILLI: u64 = 1_000_000;

    #[test]
    fn a_pause_counts_from_the_fault_until_all_is_answered_again() {
        let busy = history(&(0..100).map(|step| step * 100 * MILLI));
        assert_eq!(settled(&busy, 2000 * MILLI, 5000 * MILLI), (0.0, true));
        let times = (0..100)
            .filter(|step| !(20..45).contains(step))
            .map(|step| step * 100 * MILLI);
        let paused = history(&times);
        assert_eq!(settled(&paused, 2000 * MILLI, 5000 * MILLI), (2.5, true));
        assert_eq!(settled(&paused, 2000 * MILLI, 4000 * MILLI), (2.5, false));
        // One store is never answered again.
        let mut lame = history(&(0..20).map(|step| step * 100 * MILLI));
        let going = (20..100).flat_map(|step| acknowledged(STORES[0], step * 100 * MILLI));
        lame.extend(going);
        assert_eq!(settled(&lame, 2000 * MILLI, 5000 * MILLI), (7.9, false));
    }
}
