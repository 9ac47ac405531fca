//! A cluster, those who write, what goes wrong, and who looks at it.

use std::time::Duration;

use muster_cluster::coordination::Standing;
use muster_cluster::node::Registry;
use muster_coordination::Coordinator;
use muster_test_support::Random;
use muster_testkit::Cluster;

use super::Sabotage;
use super::layout::{self, STORES};
use super::oracle::Oracle;
use super::trouble::{Counts, Troubles};
use super::writes::{Writes, check_equal};

/// What a run has done.
#[derive(Debug, Default, Clone)]
pub(crate) struct Account {
    pub(crate) asked: usize,
    pub(crate) done: usize,
    pub(crate) troubles: Counts,
    pub(crate) silent: usize,
    pub(crate) epochs: u64,
}

impl Account {
    pub(crate) fn add(&mut self, more: &Self) {
        self.asked += more.asked;
        self.done += more.done;
        self.troubles.add(&more.troubles);
        self.silent += more.silent;
        self.epochs += more.epochs;
    }
}

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) random: Random,
    /// The nodes that write.
    pub(crate) nodes: Vec<String>,
    persistent: Vec<bool>,
    pub(crate) oracle: Oracle,
    pub(crate) writes: Writes,
    troubles: Troubles,
    pub(crate) is_bad: bool,
    nobody_reads: bool,
    pub(crate) account: Account,
}

pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Random::new(seed);
        let plan = layout::draw(&mut random);
        let slowest = [3, 20, 60][random.below(3)];
        let slowest_disk = [2, 20, 100][random.below(3)];
        let mut cluster = Cluster::of(&plan.text, Registry::new())
            .seed(seed)
            .latency(Duration::from_micros(200)..=ms(slowest))
            .disk_latency(Duration::from_micros(200)..=ms(slowest_disk))
            .sabotage_coordinators(sabotage.coordinators)
            .sabotage_copies(sabotage.copies)
            .neglect(sabotage.neglect);
        for of_box in cluster.boxes() {
            let offset = ms(random.number(10_000_000));
            let rate = 950_000 + random.number(100_001);
            cluster = cluster.clock_of_box(&of_box, offset, rate);
        }
        Self {
            cluster,
            random,
            oracle: Oracle::default(),
            writes: Writes::default(),
            nodes: plan.nodes,
            persistent: plan.persistent,
            troubles: Troubles::default(),
            is_bad: false,
            nobody_reads: sabotage.nobody_reads,
            account: Account::default(),
        }
    }

    /// Starts everything, and waits until nothing is missing: before that, one failure may be one too many.
    pub(crate) fn begins(&mut self) -> Result<(), String> {
        self.cluster.start();
        for node in self.nodes.clone() {
            self.opens(&node);
        }
        for _ in 0..60 {
            self.advance(ms(500))?;
            if self.check_redundant().is_ok() {
                self.is_bad = true;
                return Ok(());
            }
        }
        self.check_redundant()
    }

    /// A node that has just begun uses its stores.
    pub(crate) fn opens(&mut self, node: &str) {
        for (store, persistent) in STORES.iter().zip(&self.persistent) {
            self.cluster.use_store(node, store, *persistent);
        }
    }

    /// Lets time pass, and looks at everything that happens.
    pub(crate) fn advance(&mut self, span: Duration) -> Result<(), String> {
        let oracle = &mut self.oracle;
        self.cluster
            .run_watched(span, |cluster, name| oracle.look(cluster, name));
        self.account.silent = oracle.silent();
        self.account.epochs = oracle.epochs();
        let at = self.cluster.now();
        oracle
            .verdict()
            .map_err(|wrong| format!("at {at:?}: {wrong}"))
    }

    pub(crate) fn run(&mut self, span: Duration) -> Result<(), String> {
        let end = self.cluster.now() + span;
        while self.cluster.now() < end {
            let wait = Duration::from_micros(2_000 + self.random.number(100_000));
            self.advance(wait)?;
            self.act()?;
        }
        Ok(())
    }

    /// Somebody does something, or something goes wrong.
    fn act(&mut self) -> Result<(), String> {
        let at = self.cluster.now();
        let wrong = |wrong| format!("at {at:?}: {wrong}");
        if self.is_bad {
            let node = self.nodes[self.random.below(self.nodes.len())].clone();
            let some = 1 + self.random.below(3);
            for _ in 0..some {
                self.writes
                    .write(&mut self.cluster, &mut self.random, &node);
            }
        }
        let (is_bad, nodes) = (self.is_bad, &self.nodes);
        let anew = self.troubles.go_on(
            &mut self.cluster,
            &mut self.random,
            nodes,
            |cluster, random| {
                is_bad && random.chance(20) && check_redundant(cluster, nodes).is_ok()
            },
        );
        for node in anew {
            self.opens(&node);
        }
        let node = self.nodes[self.random.below(self.nodes.len())].clone();
        self.writes.hear(&self.cluster).map_err(wrong)?;
        if self.random.chance(75) || self.nobody_reads {
            return Ok(());
        }
        self.writes.read(&self.cluster, &node).map_err(wrong)
    }

    /// Everybody is in, and every store has all of its copies.
    pub(crate) fn check_redundant(&self) -> Result<(), String> {
        check_redundant(&self.cluster, &self.nodes)
    }

    /// All that is wrong ends.
    pub(crate) fn heal(&mut self) {
        self.is_bad = false;
        for node in self.troubles.heal(&mut self.cluster, &self.nodes) {
            self.opens(&node);
        }
    }

    /// Everything is in order again: redundant, settled, and equal everywhere.
    pub(crate) fn check_settled(&self) -> Result<(), String> {
        self.check_redundant()?;
        self.writes.check_settled(&self.cluster)?;
        check_equal(&self.cluster, &self.nodes)
    }

    /// What was said in the course of the run is true.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        self.account.troubles = self.troubles.counts.clone();
        self.account.asked = self.writes.asked();
        self.account.done = self.writes.done();
        self.writes.check(&self.cluster, &self.nodes[0])
    }

    /// Coordinators remember what is there, and nothing of those who are gone.
    pub(crate) fn check_bounds(&self) -> Result<(), String> {
        // Of each node that it is a member, what it said last, a renewal that waits, and twice that it is in reach; and two other voters, of which
        // each was heard, has answered, and is in reach.
        let most = 5 * self.nodes.len() + 11;
        for of_box in self.cluster.boxes() {
            let coordinator = self.cluster.coordinator(&of_box);
            let weight = coordinator.map_or(0, Coordinator::weight);
            if weight > most {
                return Err(format!("B1: {of_box} remembers {weight} things of {most}"));
            }
        }
        Ok(())
    }
}

/// Everybody is in, and every store has all of its copies.
fn check_redundant(cluster: &Cluster, nodes: &[String]) -> Result<(), String> {
    let mut epochs = Vec::new();
    for node in nodes {
        if !cluster.is_alive(node) {
            return Err(format!("L: {node} is dead"));
        }
        let known = cluster.node(node).coordination();
        let known = known.ok_or("L: no coordinators")?;
        if known.standing != Standing::In {
            return Err(format!("L: {node} is {:?}", known.standing));
        }
        epochs.push(known.epoch);
    }
    if epochs.iter().any(|epoch| *epoch != epochs[0]) {
        return Err(format!("L: views differ: {epochs:?}"));
    }
    let view = cluster.node(&nodes[0]).view();
    let view = view.ok_or("L: no view")?;
    for store in STORES {
        let group = view.store(store);
        let group = group.ok_or_else(|| format!("L: {store} was never opened"))?;
        if !group.is_redundant() {
            return Err(format!("L: {store} is not redundant: {group:?}"));
        }
    }
    Ok(())
}
