//! A cluster of three boxes, and what is published there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use muster_cluster::coordination::Standing;
use muster_cluster::node::LogSink;
use muster_cluster::{Layout, Node};
use muster_frameworks::log_files::{FileSink, LogFilesConfig, LogFormat, RotatedName, read_rows};
use muster_test_support::Random;
use muster_testkit::{Cluster, KeyedSabotage};

use super::ledger::{self, Publish, Tell};
use super::trouble::{Counts, Troubles, layout_of};

/// How long the trouble lasts.
const TROUBLE: Duration = Duration::from_secs(60);

const KEYS: u64 = 40;

const NODES: [(&str, &str, &str); 11] = [
    ("manager", "manager", "a"),
    ("logger-1", "logger", "b"),
    ("logger-2", "logger", "c"),
    ("data-1", "data", "a"),
    ("data-2", "data", "a"),
    ("data-3", "data", "b"),
    ("data-4", "data", "c"),
    ("worker-1", "worker", "a"),
    ("worker-2", "worker", "b"),
    ("worker-3", "worker", "b"),
    ("worker-4", "worker", "c"),
];

/// What the runs have brought.
#[derive(Debug, Default, Clone)]
pub(crate) struct Account {
    pub(crate) published: usize,
    pub(crate) acknowledged: usize,
    pub(crate) in_rows: usize,
    pub(crate) in_files: usize,
    pub(crate) taken_over: u64,
    pub(crate) repeated: u64,
    pub(crate) again: u64,
    pub(crate) troubles: Counts,
}

impl Account {
    pub(crate) fn add(&mut self, more: &Self) {
        self.published += more.published;
        self.acknowledged += more.acknowledged;
        self.in_rows += more.in_rows;
        self.in_files += more.in_files;
        self.taken_over += more.taken_over;
        self.repeated += more.repeated;
        self.again += more.again;
        self.troubles.add(&more.troubles);
    }
}

struct World {
    cluster: Cluster,
    random: Random,
    nodes: Vec<String>,
    troubles: Troubles,
    /// Where loggers have their files.
    directory: tempfile::TempDir,
    /// By a worker's life: its last number.
    last: BTreeMap<String, u64>,
    published: usize,
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Has loggers write files.
fn sinks(directory: &Path) -> impl Fn(&Layout, &Node) -> Box<dyn LogSink> + 'static {
    let directory = directory.to_owned();
    move |_, node| {
        let config = LogFilesConfig {
            directory: directory.join(node.name.as_str()),
            format: LogFormat::Json,
            rotation: Some(Duration::from_secs(10)),
            writer_name: Some(node.name.to_string()),
        };
        Box::new(FileSink::new(config).unwrap())
    }
}

pub(crate) fn run(seed: u64, broken: KeyedSabotage) -> Result<Account, String> {
    let mut random = Random::new(seed);
    let slowest = [3, 20, 60][random.below(3)];
    let layout = layout_of(&NODES, &["a", "b", "c"]);
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::of(&layout, ledger::registry())
        .seed(seed)
        .log_sinks(sinks(directory.path()))
        .sabotage_keyed(broken)
        .latency(Duration::from_micros(200)..=ms(slowest));
    let nodes = NODES.iter().map(|(name, ..)| (*name).to_owned());
    let mut world = World {
        cluster,
        random,
        nodes: nodes.collect(),
        troubles: Troubles::default(),
        directory,
        last: BTreeMap::new(),
        published: 0,
    };
    world.cluster.start();
    // Some publish before it is clear who is there.
    let is_early = seed.is_multiple_of(2);
    for _ in 0..60 {
        if is_early {
            world.publish_for(ms(500));
        } else {
            world.cluster.run_for(ms(500));
        }
        if is_calm(&world.cluster, &world.nodes) {
            break;
        }
    }
    let end = world.cluster.now() + TROUBLE;
    while world.cluster.now() < end {
        world.act();
    }
    world.troubles.heal(&mut world.cluster, &world.nodes);
    for _ in 0..60 {
        world.cluster.run_for(ms(500));
        if is_calm(&world.cluster, &world.nodes) && world.is_done() {
            break;
        }
    }
    world.check()
}

impl World {
    fn act(&mut self) {
        let wait = Duration::from_micros(2_000 + self.random.number(60_000));
        self.cluster.run_for(wait);
        let workers = self.nodes.iter().filter(|node| node.starts_with("worker"));
        let workers: Vec<&String> = workers.collect();
        let worker = workers[self.random.below(workers.len())].clone();
        if self.cluster.is_alive(&worker) && !self.cluster.is_frozen(&worker) {
            for _ in 0..=self.random.below(4) {
                self.publish(&worker);
            }
        }
        let nodes = &self.nodes;
        let calm =
            |cluster: &Cluster, random: &mut Random| random.chance(20) && is_calm(cluster, nodes);
        self.troubles
            .go_on(&mut self.cluster, &mut self.random, nodes, calm);
    }

    fn publish(&mut self, worker: &str) {
        let life = format!("{worker}/{}", self.cluster.life(worker));
        let number = self.last.entry(life.clone()).or_default();
        *number += 1;
        let event = Publish {
            key: format!("key-{}", self.random.number(KEYS)),
            life,
            number: *number,
        };
        self.published += 1;
        self.cluster.raise(worker, &event);
    }

    fn check(&mut self) -> Result<Account, String> {
        if !self.is_settled() {
            return Err("CALM: the cluster is not in order again".to_owned());
        }
        for node in &self.nodes {
            let open = self.cluster.node(node).open_keyed_events();
            if open > 0 {
                return Err(format!("OPEN: {open} events of {node}"));
            }
        }
        if !self.is_done() {
            return Err("OPEN: what handlers have given away has not arrived".to_owned());
        }
        for (name, role, _) in NODES {
            if role == "data" {
                self.cluster.raise(name, &Tell {});
            }
        }
        self.cluster.run_for(ms(500));
        let unowned = self.cluster.total(|counts| counts.keyed_unowned);
        if unowned > 0 {
            return Err(format!("UNOWNED: {unowned} events"));
        }
        let counts = self.counts();
        let ledger = ledger::take();
        if let Some(problem) = ledger.problem {
            return Err(problem);
        }
        for (event, times) in &ledger.rows {
            if *times > 1 {
                return Err(format!("TWICE: {event:?} is {times} times in the rows"));
            }
        }
        for event in &ledger.acknowledged {
            if !ledger.rows.contains_key(event) {
                return Err(format!("MISSING: {event:?}"));
            }
        }
        // What the handlers have given away.
        let handled: BTreeSet<(String, u64)> = ledger
            .rows
            .into_keys()
            .map(|(_, life, number)| (life, number))
            .collect();
        for (echo, times) in &ledger.echoes {
            if *times > 1 {
                return Err(format!(
                    "TWICE: the echo of {echo:?} is {times} times there"
                ));
            }
        }
        if let Some(event) = handled.iter().find(|it| !ledger.echoes.contains_key(it)) {
            return Err(format!("MISSING: the echo of {event:?}"));
        }
        self.end()?;
        let logged = self.logged()?;
        if let Some(event) = handled.iter().find(|it| !logged.contains(it)) {
            return Err(format!("MISSING: the record of {event:?}"));
        }
        Ok(Account {
            acknowledged: ledger.acknowledged.len(),
            in_rows: handled.len(),
            in_files: logged.len(),
            ..counts
        })
    }

    fn counts(&self) -> Account {
        Account {
            published: self.published,
            taken_over: self.cluster.total(|counts| counts.keys_taken_over),
            repeated: self.cluster.total(|counts| counts.keyed_repeated),
            again: self.cluster.total(|counts| counts.keyed_again),
            troubles: self.troubles.counts.clone(),
            ..Account::default()
        }
    }

    /// Nothing is open.
    fn is_done(&self) -> bool {
        let mut nodes = self.nodes.iter().map(|node| self.cluster.node(node));
        nodes.all(|node| {
            node.open_keyed_events() == 0
                && node.waiting_records() == 0
                && node.undecided_batches() == 0
        })
    }

    /// Stops all nodes, until every file has its final name.
    fn end(&mut self) -> Result<(), String> {
        let mut nameless = None;
        for _ in 0..3 {
            self.cluster.stop_all();
            nameless = self.nameless();
            if nameless.is_none() {
                return Ok(());
            }
            for node in &self.nodes {
                self.cluster.restart(node);
            }
            self.cluster.run_for(Duration::from_secs(30));
        }
        Err(format!("NAME: {nameless:?} has no final name"))
    }

    /// A file without a final name.
    fn nameless(&self) -> Option<String> {
        let loggers = ["logger-1", "logger-2"].into_iter();
        loggers
            .flat_map(|logger| {
                let directory = self.directory.path().join(logger);
                let waiting = std::fs::read_dir(directory.join("unsettled"));
                let files = std::fs::read_dir(directory).into_iter().flatten();
                let files = files.flatten().filter(|file| file.path().is_file());
                let files = files.map(|file| file.file_name().into_string().unwrap());
                let files = files.filter(|name| RotatedName::parse(name).is_none());
                let waiting = waiting.into_iter().flatten().flatten();
                files.chain(waiting.map(|file| file.path().display().to_string()))
            })
            .next()
    }

    /// The events of which handlers have written a record.
    fn logged(&self) -> Result<BTreeSet<(String, u64)>, String> {
        let mut logged = BTreeSet::new();
        for logger in ["logger-1", "logger-2"] {
            let directory = self.directory.path().join(logger);
            let rows = read_rows(&directory, "hits").map_err(|error| error.to_string())?;
            for row in rows {
                let event = (row["life"].clone(), row["number"].parse().unwrap());
                if logged.contains(&event) {
                    return Err(format!("TWICE: the record of {event:?}"));
                }
                logged.insert(event);
            }
        }
        Ok(logged)
    }
}

/// A cluster on one machine, where nobody coordinates: data nodes die, stop and come back, one at a time.
pub(crate) fn run_alone(seed: u64) -> Result<Account, String> {
    let mut random = Random::new(seed);
    let nodes = NODES.iter();
    let lines =
        nodes.map(|(name, role, _)| format!("[[node]]\nname = \"{name}\"\nrole = \"{role}\"\n"));
    let layout: String = lines.collect();
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::of(&layout, ledger::registry())
        .seed(seed)
        .log_sinks(sinks(directory.path()));
    let mut world = World {
        cluster,
        random: Random::new(seed.wrapping_add(1)),
        nodes: NODES.iter().map(|(name, ..)| (*name).to_owned()).collect(),
        troubles: Troubles::default(),
        directory,
        last: BTreeMap::new(),
        published: 0,
    };
    world.cluster.start();
    world.cluster.run_for(Duration::from_secs(5));
    for _ in 0..8 {
        let node = format!("data-{}", 1 + random.below(4));
        world.publish_for(ms(random.number(1_000)));
        let stops = random.chance(30);
        if stops {
            world.cluster.stop(&node);
        } else {
            world.cluster.kill(&node);
        }
        world.troubles.counts.kills += 1;
        world.publish_for(ms(random.number(6_000)));
        world.cluster.restart(&node);
        world.publish_for(ms(random.number(1_000)));
        for _ in 0..40 {
            world.cluster.run_for(ms(250));
            if world.is_settled() {
                break;
            }
        }
    }
    world.cluster.run_for(Duration::from_secs(10));
    world.check()
}

impl World {
    fn publish_for(&mut self, span: Duration) {
        let end = self.cluster.now() + span;
        while self.cluster.now() < end {
            let worker = format!("worker-{}", 1 + self.random.below(4));
            self.publish(&worker);
            self.cluster
                .run_for(Duration::from_micros(self.random.number(40_000)));
        }
    }

    fn is_settled(&self) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.all(|node| self.cluster.is_alive(node) && self.cluster.node(node).keys_are_settled())
    }
}

/// Everybody lives and is in, and of all rows there are copies.
fn is_calm(cluster: &Cluster, nodes: &[String]) -> bool {
    nodes.iter().all(|node| {
        cluster.is_alive(node)
            && cluster
                .node(node)
                .coordination()
                .is_some_and(|known| known.standing == Standing::In)
            && cluster.node(node).keys_are_settled()
    })
}
