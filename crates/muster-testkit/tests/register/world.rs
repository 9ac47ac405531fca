//! A cluster whose nodes change registers, an operator, and what goes wrong.

use std::time::Duration;

use muster_cluster::coordination::{Standing, StoreGroup};
use muster_cluster::node::Registry;
use muster_cluster::register::{ConfigKey, STORE};
use muster_data::Data;
use muster_store::op::Op;
use muster_store::{Encoded, Level};
use muster_test_support::Random;
use muster_testkit::Cluster;

use super::Broken;
use super::follower::{Change, Follower, LEVEL, LIMIT, MOST, Outcome, TURN, Tell, remembered};
use super::oracle::Oracle;
use super::trouble::{Counts, Troubles, layout_of};

/// What a run has done.
#[derive(Debug, Default, Clone)]
pub(crate) struct Account {
    pub(crate) set: u64,
    pub(crate) won: u64,
    pub(crate) beaten: u64,
    pub(crate) unknown: u64,
    pub(crate) heard: u64,
    pub(crate) refused: u64,
    pub(crate) troubles: Counts,
}

impl Account {
    pub(crate) fn add(&mut self, more: &Self) {
        self.set += more.set;
        self.won += more.won;
        self.beaten += more.beaten;
        self.unknown += more.unknown;
        self.heard += more.heard;
        self.refused += more.refused;
        self.troubles.add(&more.troubles);
    }
}

pub(crate) struct World {
    cluster: Cluster,
    random: Random,
    nodes: Vec<String>,
    troubles: Troubles,
    oracle: Oracle,
    broken: Broken,
    /// The number of the next change.
    next: u64,
    step: u64,
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl World {
    fn new(seed: u64, broken: Broken) -> Self {
        let _ = remembered();
        let mut random = Random::new(seed);
        let boxes: &[&str] = if random.chance(50) {
            &["a", "b"]
        } else {
            &["a", "b", "c"]
        };
        let nodes = [
            ("manager", "manager", "a"),
            ("logger", "logger", boxes[random.below(boxes.len())]),
            ("data-1", "data", "a"),
            ("data-2", "data", "b"),
            ("worker", "worker", boxes[random.below(boxes.len())]),
        ];
        let mut text = layout_of(&nodes, boxes);
        if boxes.len() == 3 {
            text.push_str("[[node]]\nname = \"data-3\"\nrole = \"data\"\nbox = \"c\"\n");
        }
        let slowest = [3, 20, 60][random.below(3)];
        let slowest_disk = [2, 20, 100][random.below(3)];
        let mut cluster = Cluster::of(&text, Registry::new().with::<Follower>())
            .seed(seed)
            .latency(Duration::from_micros(200)..=ms(slowest))
            .disk_latency(Duration::from_micros(200)..=ms(slowest_disk))
            .neglect(broken.neglect)
            .sabotage_copies(broken.copies);
        for of_box in cluster.boxes() {
            let offset = ms(random.number(10_000_000));
            let rate = 950_000 + random.number(100_001);
            cluster = cluster.clock_of_box(&of_box, offset, rate);
        }
        let of_layout = cluster.layout().nodes().iter();
        Self {
            nodes: of_layout.map(|node| node.name.to_string()).collect(),
            cluster,
            random,
            troubles: Troubles::default(),
            oracle: Oracle::default(),
            broken,
            next: 1,
            step: 0,
        }
    }

    /// Runs a cluster in trouble, heals it, kills it, starts it anew, and looks at everything.
    pub(crate) fn run(seed: u64, broken: Broken) -> Result<Account, String> {
        let mut world = Self::new(seed, broken);
        world.cluster.start();
        world.settle()?;
        let end = world.cluster.now() + Duration::from_secs(60);
        while world.cluster.now() < end {
            world.act()?;
        }
        world.troubles.heal(&mut world.cluster, &world.nodes);
        world.settle()?;
        // The operator says what is to be, and everybody comes to it.
        let limit = 1 + world.random.number(MOST);
        world.operate(&Data::Count(limit), false);
        let (level, turn) = world.agree(limit)?;
        world.oracle.check(level, turn)?;
        let boxes = world.cluster.boxes();
        for of_box in &boxes {
            world.cluster.kill_box(of_box);
        }
        for of_box in &boxes {
            world.cluster.start_box(of_box);
        }
        world.settle()?;
        let again = world.agree(limit)?;
        if again != (level, turn) {
            return Err(format!(
                "END: {again:?} after everything has started anew, and {level}, {turn} before"
            ));
        }
        let oracle = &world.oracle;
        Ok(Account {
            set: oracle.count(|is_swap, outcome| !is_swap && outcome == Outcome::Done),
            won: oracle.count(|is_swap, outcome| is_swap && outcome == Outcome::Done),
            beaten: oracle.count(|is_swap, outcome| is_swap && outcome == Outcome::Not),
            unknown: oracle.count(|_, outcome| outcome == Outcome::Unknown),
            heard: oracle.heard,
            refused: world.cluster.total(|counts| counts.register_values_refused),
            troubles: world.troubles.counts.clone(),
        })
    }

    /// Waits until everybody is in, and the register has its copies.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..120 {
            self.cluster.run_for(ms(500));
            self.look()?;
            if is_calm(&self.cluster, &self.nodes) {
                return Ok(());
            }
        }
        Err("L: not everybody is in".to_owned())
    }

    fn act(&mut self) -> Result<(), String> {
        let wait = Duration::from_micros(2_000 + self.random.number(150_000));
        self.cluster.run_for(wait);
        // Several change the same at once.
        for _ in 0..self.random.below(4) {
            let node = self.nodes[self.random.below(self.nodes.len())].clone();
            let is_swap = self.random.chance(60);
            if !self.cluster.is_alive(&node) || self.cluster.is_frozen(&node) {
                continue;
            }
            let change = Change {
                number: self.next,
                is_swap,
                is_broken: self.broken.swaps_by_setting,
            };
            self.next += 1;
            self.oracle.asked(change.number, self.step);
            self.cluster.raise(&node, &change);
        }
        if self.random.chance(10) {
            let value = match self.random.below(4) {
                0 => Data::string("many"),
                1 => Data::Count(MOST + 1 + self.random.number(MOST)),
                _ => Data::Count(self.random.number(MOST)),
            };
            let unset = self.random.chance(20);
            self.operate(&value, unset);
        }
        let nodes = &self.nodes;
        let calm =
            |cluster: &Cluster, random: &mut Random| random.chance(20) && is_calm(cluster, nodes);
        self.troubles
            .go_on(&mut self.cluster, &mut self.random, nodes, calm);
        self.look()
    }

    /// An operator changes the setting, by any node.
    fn operate(&mut self, value: &Data, unset: bool) {
        let node = self.nodes[self.random.below(self.nodes.len())].clone();
        if !self.cluster.is_alive(&node) || self.cluster.is_frozen(&node) {
            return;
        }
        let key = ConfigKey::Value(LIMIT.to_owned()).encoded();
        let op = if unset {
            Op::Erase { key }
        } else {
            let value = Encoded::of(value);
            let ttl = None;
            Op::Put { key, value, ttl }
        };
        let within = Duration::from_secs(20);
        self.cluster
            .write_to_store(&node, STORE, op, Level::Durable, within);
    }

    /// Takes what was heard.
    fn look(&mut self) -> Result<(), String> {
        self.step += 1;
        self.oracle.take(remembered(), self.step)
    }

    /// Everybody comes to have, and to have heard of, the same.
    fn agree(&mut self, limit: u64) -> Result<(u64, u64), String> {
        let mut differ = String::new();
        for _ in 0..120 {
            self.cluster.run_for(ms(500));
            self.look()?;
            for node in &self.nodes {
                self.cluster.raise(node, &Tell {});
            }
            self.look()?;
            match self.agreed(limit) {
                Ok(agreed) => return Ok(agreed),
                Err(error) => differ = error,
            }
        }
        Err(differ)
    }

    fn agreed(&self, limit: u64) -> Result<(u64, u64), String> {
        let stored = |name: &str| match self.cluster.stored(&self.nodes[0], STORE, name) {
            Some(Data::Count(value)) => value,
            _ => 0,
        };
        let (level, turn) = (stored(LEVEL.name()), stored(TURN.name()));
        for node in &self.nodes {
            let life = self.cluster.node(node).membership().id_of_name(node);
            let life = life.ok_or_else(|| format!("END: {node} does not know itself"))?;
            for (name, value) in [(LEVEL.name(), level), (TURN.name(), turn), (LIMIT, limit)] {
                let has = self.oracle.of(life, name);
                if has != value {
                    return Err(format!("END: {node} has {has} of {name}, which is {value}"));
                }
            }
        }
        Ok((level, turn))
    }
}

/// Everybody lives and is in, and the register has its copies.
fn is_calm(cluster: &Cluster, nodes: &[String]) -> bool {
    let mut epochs = Vec::new();
    for node in nodes {
        if !cluster.is_alive(node) {
            return false;
        }
        match cluster.node(node).coordination() {
            Some(known) if known.standing == Standing::In => epochs.push(known.epoch),
            _ => return false,
        }
    }
    let view = cluster.node(&nodes[0]).view();
    let group = view.and_then(|view| view.store(STORE));
    epochs.iter().all(|epoch| *epoch == epochs[0]) && group.is_some_and(StoreGroup::is_redundant)
}
