//! A cluster of three boxes with a manager on two of them, and what is published there.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_cluster::coordination::Standing;
use muster_test_support::Random;
use muster_testkit::{Cluster, KeyedSabotage};

use super::ledger::{self, Ledger, Publish, Tell, Word};
use super::trouble::{Counts, Troubles, layout_of};

/// How long the trouble lasts.
const TROUBLE: Duration = Duration::from_secs(60);

const NODES: [(&str, &str, &str); 8] = [
    ("m-1", "manager", "a"),
    ("m-2", "manager", "b"),
    ("logger-1", "logger", "c"),
    ("data-1", "data", "c"),
    ("data-2", "data", "c"),
    ("worker-1", "worker", "c"),
    ("worker-2", "worker", "c"),
    ("worker-3", "worker", "c"),
];

const MANAGERS: [(&str, &str); 2] = [("m-1", "a"), ("m-2", "b")];

/// Who is in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concerns {
    /// One manager at a time, or its box.
    Managers,
    /// Anything.
    Everything,
}

/// What the runs have brought.
#[derive(Debug, Default, Clone)]
pub(crate) struct Account {
    /// What workers have published for the manager.
    pub(crate) words: usize,
    pub(crate) acknowledged: usize,
    /// How often another manager acted for the duty than the one before.
    pub(crate) takings: usize,
    /// What managers were made to suffer.
    pub(crate) of_managers: usize,
    /// What anybody was.
    pub(crate) troubles: Counts,
}

impl Account {
    pub(crate) fn add(&mut self, more: &Self) {
        self.words += more.words;
        self.acknowledged += more.acknowledged;
        self.takings += more.takings;
        self.of_managers += more.of_managers;
        self.troubles.add(&more.troubles);
    }
}

struct World {
    cluster: Cluster,
    random: Random,
    nodes: Vec<String>,
    concerns: Concerns,
    /// What is wrong with a manager, and until when.
    present: Option<(Wrong, usize, Duration)>,
    count: usize,
    troubles: Troubles,
    /// By a node's life: its last number.
    last: BTreeMap<String, u64>,
}

/// What is wrong with a manager.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Dead,
    BoxDead,
    Stopped,
    Frozen,
    CutOff,
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) fn run(seed: u64, concerns: Concerns, broken: KeyedSabotage) -> Result<Account, String> {
    let mut random = Random::new(seed);
    let slowest = [3, 20, 60][random.below(3)];
    let layout = layout_of(&NODES, &["a", "b", "c"]);
    let cluster = Cluster::of(&layout, ledger::registry())
        .seed(seed)
        .sabotage_keyed(broken)
        .latency(Duration::from_micros(200)..=ms(slowest));
    let mut world = World {
        cluster,
        random,
        nodes: NODES.iter().map(|(name, ..)| (*name).to_owned()).collect(),
        concerns,
        present: None,
        count: 0,
        troubles: Troubles::default(),
        last: BTreeMap::new(),
    };
    world.cluster.start();
    world.settle();
    let end = world.cluster.now() + TROUBLE;
    while world.cluster.now() < end {
        world.act();
    }
    if let Some((wrong, manager, _)) = world.present.take() {
        world.mend(wrong, manager);
    }
    world.troubles.heal(&mut world.cluster, &world.nodes);
    world.settle();
    for _ in 0..60 {
        if world.is_done() {
            break;
        }
        world.cluster.run_for(ms(500));
    }
    world.check()
}

impl World {
    /// Waits until everything is in order. Who comes and goes often is admitted later and later.
    fn settle(&mut self) {
        for _ in 0..240 {
            self.cluster.run_for(ms(500));
            if self.is_calm() {
                return;
            }
        }
    }

    fn is_calm(&self) -> bool {
        is_calm(&self.cluster, &self.nodes)
    }

    /// Nothing is open.
    fn is_done(&self) -> bool {
        let mut nodes = self.nodes.iter().map(|name| self.cluster.node(name));
        nodes.all(|node| node.is_keyed_work_done() && node.waiting_records() == 0)
    }

    fn act(&mut self) {
        let wait = Duration::from_micros(2_000 + self.random.number(60_000));
        self.cluster.run_for(wait);
        for _ in 0..=self.random.below(2) {
            let worker = format!("worker-{}", 1 + self.random.below(3));
            self.publish(&worker);
        }
        // What a manager itself publishes is lost with it.
        if self.random.chance(20) {
            let (manager, _) = MANAGERS[self.random.below(2)];
            self.publish(manager);
        }
        match self.concerns {
            Concerns::Managers => self.trouble_managers(),
            Concerns::Everything => {
                let nodes = &self.nodes;
                let calm = |cluster: &Cluster, random: &mut Random| {
                    random.chance(20) && is_calm(cluster, nodes)
                };
                self.troubles
                    .go_on(&mut self.cluster, &mut self.random, nodes, calm);
            }
        }
    }

    fn publish(&mut self, node: &str) {
        if !self.cluster.is_alive(node) || self.cluster.is_frozen(node) {
            return;
        }
        let life = format!("{node}/{}", self.cluster.life(node));
        let number = self.last.entry(life.clone()).or_default();
        *number += 1;
        let event = Publish {
            life,
            number: *number,
            is_word: self.random.chance(60),
        };
        self.cluster.raise(node, &event);
    }

    fn trouble_managers(&mut self) {
        let now = self.cluster.now();
        if let Some((wrong, manager, _)) = self.present.take_if(|(_, _, until)| *until <= now) {
            return self.mend(wrong, manager);
        }
        if self.present.is_some() || !self.random.chance(10) || !self.is_calm() {
            return;
        }
        let index = self.random.below(2);
        let (manager, of_box) = MANAGERS[index];
        let wrong = match self.random.below(5) {
            0 => Wrong::Dead,
            1 => Wrong::BoxDead,
            2 => Wrong::Stopped,
            3 => Wrong::Frozen,
            _ => Wrong::CutOff,
        };
        match wrong {
            Wrong::Dead => self.cluster.kill(manager),
            Wrong::BoxDead => self.cluster.kill_box(of_box),
            Wrong::Stopped => self.cluster.stop(manager),
            Wrong::Frozen => self.cluster.freeze(manager),
            Wrong::CutOff => self.cluster.cut_off(of_box),
        }
        self.count += 1;
        let until = now + ms(100 + self.random.number(8_000));
        self.present = Some((wrong, index, until));
    }

    fn mend(&mut self, wrong: Wrong, manager: usize) {
        let (manager, of_box) = MANAGERS[manager];
        match wrong {
            Wrong::Dead | Wrong::Stopped => self.cluster.restart(manager),
            Wrong::BoxDead => {
                self.cluster.start_box(of_box);
                if !self.cluster.is_alive(manager) {
                    self.cluster.restart(manager);
                }
            }
            Wrong::Frozen => self.cluster.thaw(manager),
            Wrong::CutOff => self.cluster.mend_network(),
        }
    }

    fn check(&mut self) -> Result<Account, String> {
        if !self.is_calm() {
            return Err("CALM: the cluster is not in order again".to_owned());
        }
        if !self.is_done() {
            return Err("OPEN: what was published is not done".to_owned());
        }
        for (manager, _) in MANAGERS {
            self.cluster.raise(manager, &Tell {});
        }
        self.cluster.run_for(ms(500));
        let ledger = ledger::take();
        if let Some(problem) = ledger.problem {
            return Err(problem);
        }
        check_rows(&ledger)?;
        if self.concerns == Concerns::Managers {
            self.check_words(&ledger)?;
        }
        Ok(Account {
            words: ledger.words.len(),
            acknowledged: ledger.acknowledged.len(),
            takings: ledger.takings,
            of_managers: self.count,
            troubles: self.troubles.counts.clone(),
        })
    }

    /// What workers have published for the manager was handled, and its record is there once.
    fn check_words(&self, ledger: &Ledger) -> Result<(), String> {
        let mut logged: BTreeMap<(String, u64), u64> = BTreeMap::new();
        for Word { life, number } in self.cluster.log_of::<Word>("words") {
            *logged.entry((life, number)).or_default() += 1;
        }
        if let Some((word, times)) = logged.iter().find(|(_, times)| **times > 1) {
            return Err(format!(
                "TWICE: the record of {word:?} is {times} times there"
            ));
        }
        let mut words = ledger.words.iter();
        match words.find(|word| word.0.starts_with("worker") && !logged.contains_key(*word)) {
            Some(word) => Err(format!("LOST: {word:?}")),
            None => Ok(()),
        }
    }
}

fn check_rows(ledger: &Ledger) -> Result<(), String> {
    if let Some((event, times)) = ledger.rows.iter().find(|(_, times)| **times > 1) {
        return Err(format!("TWICE: {event:?} is {times} times in the rows"));
    }
    let mut acknowledged = ledger.acknowledged.iter();
    match acknowledged.find(|event| !ledger.rows.contains_key(*event)) {
        Some(event) => Err(format!("MISSING: {event:?}")),
        None => Ok(()),
    }
}

/// Everybody lives and is in, and of all rows there are copies.
fn is_calm(cluster: &Cluster, nodes: &[String]) -> bool {
    nodes.iter().all(|name| {
        let node = || cluster.node(name);
        let is_in = || {
            let known = node().coordination();
            known.is_some_and(|known| known.standing == Standing::In)
        };
        cluster.is_alive(name) && is_in() && node().keys_are_settled()
    })
}
