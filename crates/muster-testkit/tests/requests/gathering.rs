//! One question to thirty workers, again and again, while something happens to one of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use muster_cluster::node::RequestErrorKind;
use muster_test_support::Random;
use muster_testkit::{Cluster, RequestSabotage};

use super::ledger::{self, Ask, Outcome};

const WORKERS: usize = 30;

/// How often the workers are asked in a run.
const ROUNDS: u64 = 4;

/// The deadline.
const WITHIN: Duration = Duration::from_secs(8);

/// How long after the death of a worker nobody waits for it any more, the coordinators' word included.
const SETTLED: Duration = Duration::from_secs(4);

/// By how much a node's loop may be late.
const LATENESS: Duration = Duration::from_millis(5);

/// What the runs have brought.
#[derive(Debug, Default, Clone)]
pub(crate) struct Account {
    pub(crate) rounds: u64,
    pub(crate) answers: usize,
    pub(crate) missing: usize,
    pub(crate) complete: usize,
    pub(crate) repeated: u64,
    pub(crate) late: u64,
}

impl Account {
    pub(crate) fn add(&mut self, more: &Self) {
        self.rounds += more.rounds;
        self.answers += more.answers;
        self.missing += more.missing;
        self.complete += more.complete;
        self.repeated += more.repeated;
        self.late += more.late;
    }
}

/// What happens to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Dies,
    Stops,
    /// It dies, and begins anew at once.
    BeginsAnew,
    /// It stands still until the request has ended.
    StandsStill,
    /// It stands still for a moment, and its answer is still in time.
    Pauses,
    /// Nothing gets to it, or nothing from it.
    IsCutOff,
    /// It is down before anybody asks.
    IsDown,
}

/// A layout of workers on one machine, or on two and the last worker alone on a third.
fn layout(has_boxes: bool) -> String {
    let mut text = String::new();
    let mut node = |name: &str, role: &str, of_box: &str| {
        let _ = writeln!(text, "[[node]]\nname = \"{name}\"\nrole = \"{role}\"");
        if has_boxes {
            let _ = writeln!(text, "box = \"{of_box}\"");
        }
    };
    node("manager", "manager", "a");
    node("data-1", "data", "a");
    node("data-2", "data", "b");
    for number in 1..=WORKERS {
        let of_box = match number {
            WORKERS => "c",
            number if number % 2 == 0 => "a",
            _ => "b",
        };
        node(&worker(number), "worker", of_box);
    }
    if has_boxes {
        for (at, of_box) in ["a", "b", "c"].iter().enumerate() {
            let _ = writeln!(text, "[box.{of_box}]\naddress = \"10.0.0.{at}\"");
        }
    }
    text
}

fn worker(number: usize) -> String {
    format!("worker-{number}")
}

pub(crate) fn run(seed: u64, broken: RequestSabotage) -> Result<Account, String> {
    let mut random = Random::new(seed);
    let has_boxes = seed % 2 == 1;
    let mut cluster = Cluster::of(&layout(has_boxes), ledger::registry())
        .seed(seed)
        .sabotage_requests(broken);
    cluster.start();
    let everybody: BTreeSet<String> = (1..=WORKERS).map(worker).collect();
    let mut troubles = Vec::new();
    for request in 0..ROUNDS {
        if !settle(&mut cluster, &everybody) {
            return Err("L: not everybody is there before a round".to_owned());
        }
        let mut trouble = [
            Trouble::Dies,
            Trouble::Stops,
            Trouble::BeginsAnew,
            Trouble::StandsStill,
            Trouble::Pauses,
            Trouble::IsCutOff,
            Trouble::IsDown,
        ][random.below(7)];
        let mut victim = worker(1 + random.below(WORKERS));
        if trouble == Trouble::IsCutOff {
            if has_boxes {
                victim = worker(WORKERS);
            } else {
                trouble = Trouble::Pauses;
            }
        }
        troubles.push((trouble, victim.clone()));
        if trouble == Trouble::IsDown {
            cluster.kill(&victim);
            cluster.run_for(SETTLED);
        }
        let within = u64::try_from(WITHIN.as_millis()).unwrap();
        let ask = Ask {
            request,
            of: "all".to_owned(),
            whom: String::new(),
            within,
            quorum: u64::MAX,
        };
        cluster.raise("manager", &ask);
        cluster.run_for(Duration::from_micros(random.number(40_000)));
        begin(&mut cluster, &mut random, trouble, &victim);
        let end = cluster.now() + WITHIN + LATENESS;
        while cluster.now() < end && !ledger::has_outcome(request) {
            cluster.run_for(Duration::from_millis(20));
        }
        end_of(&mut cluster, trouble, &victim);
    }
    // What is on its way arrives.
    cluster.run_for(Duration::from_secs(10));
    if cluster.node("manager").open_requests() > 0 {
        return Err("OPEN: a request has no outcome".to_owned());
    }
    check(&cluster, &everybody, &troubles)
}

fn begin(cluster: &mut Cluster, random: &mut Random, trouble: Trouble, victim: &str) {
    match trouble {
        Trouble::Dies => cluster.kill(victim),
        Trouble::Stops => cluster.stop(victim),
        Trouble::BeginsAnew => {
            cluster.kill(victim);
            cluster.run_for(Duration::from_micros(random.number(20_000)));
            cluster.restart(victim);
        }
        Trouble::StandsStill => cluster.freeze(victim),
        Trouble::Pauses => {
            cluster.freeze(victim);
            cluster.run_for(Duration::from_millis(100 + random.number(2_000)));
            cluster.thaw(victim);
        }
        Trouble::IsCutOff => match random.below(3) {
            0 => cluster.cut_off("c"),
            1 => {
                for other in ["a", "b"] {
                    cluster.cut("c", other);
                }
            }
            _ => {
                for other in ["a", "b"] {
                    cluster.cut(other, "c");
                }
            }
        },
        Trouble::IsDown => {}
    }
}

fn end_of(cluster: &mut Cluster, trouble: Trouble, victim: &str) {
    match trouble {
        Trouble::Dies | Trouble::Stops | Trouble::IsDown => cluster.restart(victim),
        Trouble::StandsStill => cluster.thaw(victim),
        Trouble::IsCutOff => cluster.mend_network(),
        Trouble::BeginsAnew | Trouble::Pauses => {}
    }
}

/// Everybody is there, and nobody is new.
fn settle(cluster: &mut Cluster, everybody: &BTreeSet<String>) -> bool {
    for _ in 0..120 {
        cluster.run_for(Duration::from_millis(500));
        let manager = cluster.node("manager");
        let pool = manager.pools().view(&muster_cluster::PoolName::worker());
        let living = pool.unwrap().living().count();
        let membership = manager.membership();
        let is_seen = |name: &String| membership.id_of_name(name).is_some();
        if living == everybody.len() && everybody.iter().all(is_seen) {
            cluster.run_for(Duration::from_secs(6));
            return true;
        }
    }
    false
}

fn check(
    cluster: &Cluster,
    everybody: &BTreeSet<String>,
    troubles: &[(Trouble, String)],
) -> Result<Account, String> {
    let ledger = ledger::take();
    ledger.check(everybody)?;
    let mut account = Account {
        rounds: ROUNDS,
        repeated: cluster.total(|counts| counts.questions_repeated),
        late: cluster.total(|counts| counts.answers_late),
        ..Account::default()
    };
    for (request, (trouble, victim)) in (0..).zip(troubles) {
        let asked = &ledger.asked[&request];
        let (at, outcome) = asked
            .outcomes
            .first()
            .ok_or(format!("OPEN: round {request} has no outcome"))?;
        let Outcome::Gathered(gathered) = outcome else {
            return Err("WRONG: not gathered".to_owned());
        };
        account.answers += gathered.answers.len();
        account.missing += gathered.missing.len();
        account.complete += usize::from(gathered.is_complete());
        let took = at.since(asked.at);
        let may_take = match trouble {
            Trouble::Dies | Trouble::Stops | Trouble::BeginsAnew => SETTLED,
            Trouble::StandsStill | Trouble::Pauses | Trouble::IsCutOff => WITHIN + LATENESS,
            Trouble::IsDown => Duration::from_secs(2),
        };
        if took > may_take {
            return Err(format!("LATE: round {request} ({trouble:?}) took {took:?}"));
        }
        // Nobody but the one that is in trouble may be missing.
        let names: Vec<&str> = gathered
            .missing
            .iter()
            .map(|(node, _)| node.as_str())
            .collect();
        if names.iter().any(|name| name != victim) {
            return Err(format!(
                "MISSING: round {request} ({trouble:?} {victim}): {names:?}"
            ));
        }
        let kind = gathered.missing.first().map(|(_, kind)| kind);
        let is_named = match trouble {
            // It may have answered before.
            Trouble::Dies | Trouble::Stops | Trouble::BeginsAnew => {
                matches!(kind, None | Some(RequestErrorKind::Gone))
            }
            Trouble::StandsStill | Trouble::IsCutOff => matches!(
                kind,
                None | Some(RequestErrorKind::Gone | RequestErrorKind::NoAnswer)
            ),
            // A pause of two seconds is none for those who are asked by the layout alone.
            Trouble::Pauses => matches!(kind, None | Some(RequestErrorKind::Gone)),
            Trouble::IsDown => matches!(kind, Some(RequestErrorKind::Nobody)),
        };
        if !is_named {
            return Err(format!("KIND: round {request} ({trouble:?}): {kind:?}"));
        }
    }
    Ok(account)
}
