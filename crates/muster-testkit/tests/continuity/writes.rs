//! Those who write to stores, and what they know of it: lists that are appended to, counters, and keys that one of many wins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_data::Kind;
use muster_store::op::{Answer, Op};
use muster_store::{Encoded, Entries, Level, WriteFailure, WriteOutcome};
use muster_test_support::Random;
use muster_testkit::{Cluster, Write};

use super::layout::STORES;

/// So many numbers are in one list.
const LENGTH: u64 = 20;

/// How late a write may be settled.
const LATE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Append,
    Count,
    First,
}

#[derive(Debug)]
struct Asked {
    what: What,
    write: Write,
    node: String,
    life: u64,
    key: Encoded,
    until: Duration,
    outcome: Option<WriteOutcome>,
}

/// What is read of a store: of each key what it has.
type Read = BTreeMap<Encoded, Encoded>;

#[derive(Debug, Default)]
pub(crate) struct Writes {
    asked: Vec<Asked>,
    /// Those whose outcome is not known yet.
    open: BTreeSet<usize>,
    /// How often each life of a node has appended.
    appended: BTreeMap<(String, u64), u64>,
    /// What was read last, by node, its life, and store.
    read: BTreeMap<(String, u64, usize), Read>,
    /// What somebody has read of lists and keys that are won.
    seen: BTreeMap<(usize, Encoded), BTreeSet<u64>>,
}

fn numbers(value: &Encoded) -> Vec<u64> {
    let list = value.view().to::<Vec<u64>>().ok();
    list.or_else(|| Some(vec![value.view().to().ok()?]))
        .unwrap_or_default()
}

fn all(entries: &Entries) -> Read {
    let entries = entries.iter();
    entries.map(|(k, e)| (k.clone(), e.value.clone())).collect()
}

fn store_of(what: What) -> usize {
    match what {
        What::Append => 0,
        What::Count => 1,
        What::First => 2,
    }
}

impl Writes {
    pub(crate) fn asked(&self) -> usize {
        self.asked.len()
    }

    pub(crate) fn done(&self) -> usize {
        let done = |asked: &&Asked| matches!(asked.outcome, Some(Ok(Answer::Done { .. })));
        self.asked.iter().filter(done).count()
    }

    /// A node writes, if it runs.
    pub(crate) fn write(&mut self, cluster: &mut Cluster, random: &mut Random, node: &str) {
        if !cluster.is_alive(node) || cluster.is_frozen(node) {
            return;
        }
        let number = self.asked.len() as u64;
        let life = cluster.life(node);
        let what = [What::Append, What::Append, What::Count, What::First][random.below(4)];
        let (key, op) = match what {
            What::Append => {
                let count = self.appended.entry((node.to_owned(), life)).or_default();
                let key = Encoded::key(&format!("of {node} {life} {}", *count / LENGTH));
                *count += 1;
                (key.clone(), add(key, number, Kind::Vector))
            }
            What::Count => {
                let key = Encoded::key(&format!("count {}", random.below(3)));
                (key.clone(), add(key, 1, Kind::Count))
            }
            What::First => {
                let key = Encoded::key(&format!("key {}", number / 4));
                let op = Op::PutUnique {
                    key: key.clone(),
                    value: Encoded::of(&number),
                    ttl: None,
                };
                (key, op)
            }
        };
        let level = if random.chance(40) {
            Level::Durable
        } else {
            Level::Applied
        };
        let within = Duration::from_millis(300 + random.number(20_000));
        let store = STORES[store_of(what)];
        let write = cluster.write_to_store(node, store, op, level, within);
        self.open.insert(self.asked.len());
        self.asked.push(Asked {
            what,
            write,
            node: node.to_owned(),
            life,
            key,
            until: cluster.now() + within,
            outcome: None,
        });
    }

    /// Takes what has become of writes.
    pub(crate) fn hear(&mut self, cluster: &Cluster) -> Result<(), String> {
        let mut late = None;
        self.open.retain(|number| {
            let asked = &mut self.asked[*number];
            asked.outcome = cluster.outcome(asked.write).cloned();
            let is_gone = !cluster.is_alive(&asked.node) || cluster.life(&asked.node) != asked.life;
            if !is_gone && asked.outcome.is_none() && asked.until + LATE < cluster.now() {
                late = Some(*number);
            }
            asked.outcome.is_none() && !is_gone
        });
        match late {
            None => Ok(()),
            Some(number) => Err(format!(
                "ONCE: {number} of {} is not settled",
                self.asked[number].node
            )),
        }
    }

    /// Somebody reads what is there: it never goes back.
    pub(crate) fn read(&mut self, cluster: &Cluster, node: &str) -> Result<(), String> {
        if !cluster.is_alive(node) || cluster.is_frozen(node) {
            return Ok(());
        }
        let life = cluster.life(node);
        for (at, store) in STORES.iter().enumerate() {
            let Some(now) = cluster.look_at_store(node, store, all) else {
                continue;
            };
            let known = self.read.entry((node.to_owned(), life, at)).or_default();
            for (key, before) in &*known {
                if now.get(key) == Some(before) {
                    continue;
                }
                let (before, is) = (numbers(before), now.get(key).map(numbers));
                let goes_on = is.as_ref().is_some_and(|is| match at {
                    0 => is.starts_with(&before),
                    1 => *is >= before,
                    _ => *is == before,
                });
                if !goes_on {
                    return Err(format!(
                        "READ: {key} of {store} goes back at {node}: from {before:?} to {is:?}"
                    ));
                }
            }
            for (key, value) in &now {
                if known.get(key) != Some(value) {
                    let seen = self.seen.entry((at, key.clone())).or_default();
                    seen.extend(numbers(value));
                }
            }
            *known = now;
        }
        Ok(())
    }

    /// Nobody waits any more.
    pub(crate) fn check_settled(&self, cluster: &Cluster) -> Result<(), String> {
        let mut open = self.open.iter().map(|number| &self.asked[*number]);
        let waits = |asked: &&Asked| {
            let is_there = cluster.is_alive(&asked.node) && cluster.life(&asked.node) == asked.life;
            is_there && cluster.outcome(asked.write).is_none()
        };
        match open.find(waits) {
            None => Ok(()),
            Some(asked) => Err(format!(
                "L: {} still waits for {:?}",
                asked.node, asked.what
            )),
        }
    }

    /// Everything that was acknowledged is there, once; and everything that anybody has read.
    pub(crate) fn check(&mut self, cluster: &Cluster, node: &str) -> Result<(), String> {
        self.hear(cluster)?;
        let stores: Vec<Read> = STORES
            .iter()
            .map(|store| cluster.look_at_store(node, store, all).unwrap_or_default())
            .collect();
        for ((store, key), seen) in &self.seen {
            let is: BTreeSet<u64> = stores[*store]
                .get(key)
                .map(numbers)
                .into_iter()
                .flatten()
                .collect();
            // Counters go on.
            if *store != 1 && !seen.is_subset(&is) {
                return Err(format!(
                    "READ: {seen:?} was read of {key}, and {is:?} is there"
                ));
            }
        }
        for list in stores[0].values().map(numbers) {
            if !list.is_sorted_by(|one, other| one < other) {
                return Err(format!("TWICE: applied twice, or out of order: {list:?}"));
            }
        }
        let mut counted: BTreeMap<&Encoded, (u64, u64, BTreeSet<u64>)> = BTreeMap::new();
        for (asked, number) in self.asked.iter().zip(0_u64..) {
            let of = stores[store_of(asked.what)].get(&asked.key).map(numbers);
            let of = of.unwrap_or_default();
            if asked.outcome == Some(Ok(Answer::Repeated)) {
                return Err(format!(
                    "TWICE: what became of {number} is not known any more"
                ));
            }
            let (is_done, is_not) = verdict(asked.outcome.as_ref());
            match asked.what {
                What::Count => {
                    let (done, may, answers) = counted.entry(&asked.key).or_default();
                    *done += u64::from(is_done);
                    *may += u64::from(!is_not);
                    if let Some(Ok(Answer::Done { value, .. })) = &asked.outcome {
                        let answer = value.as_ref().map(numbers).unwrap_or_default();
                        if !answer.iter().all(|it| answers.insert(*it)) {
                            return Err(format!("TWICE: two were answered {answer:?}"));
                        }
                    }
                }
                What::Append | What::First => {
                    let is_there = of.contains(&number);
                    if is_done && !is_there {
                        return Err(format!(
                            "LOST: {number} of {} was acknowledged, and is not there: {of:?}",
                            asked.node
                        ));
                    }
                    if is_not && is_there {
                        return Err(format!(
                            "TWICE: {number} was not to be applied, and is there"
                        ));
                    }
                }
            }
        }
        for (key, (done, may, answers)) in counted {
            let is = stores[1].get(key).map(numbers).unwrap_or_default();
            let is = is.first().copied().unwrap_or(0);
            if is < done || is > may || answers.last().is_some_and(|last| *last > is) {
                return Err(format!(
                    "LOST: {key} is {is}, of {done} to {may} that were counted"
                ));
            }
        }
        Ok(())
    }
}

/// All nodes have the same.
pub(crate) fn check_equal(cluster: &Cluster, nodes: &[String]) -> Result<(), String> {
    for store in STORES {
        let of = |node: &String| cluster.look_at_store(node, store, all);
        let first = of(&nodes[0]);
        for node in nodes {
            if of(node) != first || first.is_none() {
                return Err(format!(
                    "L: {node} has something else of {store} than {}",
                    nodes[0]
                ));
            }
        }
    }
    Ok(())
}

fn add(key: Encoded, number: u64, initial: Kind) -> Op {
    Op::Add {
        key,
        value: Encoded::of(&number),
        initial,
        ttl: None,
    }
}

/// Whether a write has changed something for certain, and whether it has not.
fn verdict(outcome: Option<&WriteOutcome>) -> (bool, bool) {
    match outcome {
        Some(Ok(Answer::Done { .. }) | Err(WriteFailure::NotDurable)) => (true, false),
        Some(
            Ok(Answer::Unchanged { .. } | Answer::Refused(_))
            | Err(WriteFailure::NoPrimary | WriteFailure::TooMany | WriteFailure::Closed),
        ) => (false, true),
        _ => (false, false),
    }
}
