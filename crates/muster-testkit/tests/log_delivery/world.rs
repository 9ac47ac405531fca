//! A cluster whose nodes write records, and who reads the files in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_cluster::coordination::Standing;
use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, LogSink, Registry, Site,
};
use muster_cluster::{Layout, Node};
use muster_data::Record;
use muster_frameworks::log_files::{LogFilesConfig, LogFormat, RotatedName, read_rows};
use muster_test_support::Random;
use muster_testkit::Cluster;

use super::Broken;
use super::disk::{Disks, Watched};
use super::trouble::{Counts, Troubles, layout_of};

/// A record. No two are equal.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::row")]
struct Row {
    of: String,
    life: u64,
    number: u64,
}

/// How many records a [`Scribe`] writes between two flushes.
const FLUSH_EVERY: u64 = 16;

/// What a [`Scribe`] counts: the records of its life that are safe by the word of a flush.
const PROMISED: &str = "promised";

/// Writes what it is told, and flushes now and then.
#[derive(Default)]
struct Scribe {
    written: u64,
    promised: u64,
    /// Something is lost: of what comes behind it nothing more is promised.
    has_lost: bool,
}

impl Framework for Scribe {
    const NAME: &'static str = "scribe";

    const COUNTERS: &'static [CounterSpec] = &[CounterSpec::new(PROMISED, "Safe by a flush.")];

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self::default())
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::write);
        declarations.stream::<Row>("rows");
    }
}

impl Scribe {
    #[allow(clippy::needless_pass_by_value, reason = "a handler")]
    fn write(&mut self, row: Row, cx: &mut Context<'_>) {
        cx.log("rows", &row).unwrap();
        self.written += 1;
        let written = self.written;
        if !written.is_multiple_of(FLUSH_EVERY) {
            return;
        }
        cx.flush_logs().then(move |this: &mut Self, cx, flushed| {
            this.has_lost |= flushed.lost.total() > 0;
            if flushed.is_safe() && !this.has_lost && written > this.promised {
                cx.count(PROMISED, written - this.promised);
                this.promised = written;
            }
        });
    }
}

/// What a run has done.
#[derive(Debug, Default, Clone)]
pub(crate) struct Account {
    pub(crate) written: u64,
    pub(crate) acknowledged: u64,
    pub(crate) promised: u64,
    pub(crate) spooled: u64,
    pub(crate) found: u64,
    pub(crate) dropped: u64,
    pub(crate) repeated: u64,
    pub(crate) duplicates: u64,
    pub(crate) in_files: u64,
    pub(crate) troubles: Counts,
}

impl Account {
    pub(crate) fn add(&mut self, more: &Self) {
        self.written += more.written;
        self.acknowledged += more.acknowledged;
        self.promised += more.promised;
        self.spooled += more.spooled;
        self.found += more.found;
        self.dropped += more.dropped;
        self.repeated += more.repeated;
        self.duplicates += more.duplicates;
        self.in_files += more.in_files;
        self.troubles.add(&more.troubles);
    }
}

pub(crate) struct World {
    cluster: Cluster,
    random: Random,
    nodes: Vec<String>,
    loggers: Vec<String>,
    troubles: Troubles,
    disks: Disks,
    directory: tempfile::TempDir,
    /// The number of the next record of each life.
    next: BTreeMap<(String, u64), u64>,
    /// What each life had acknowledged, or kept in its spool, when it was seen last.
    safe: BTreeMap<(String, u64), u64>,
    /// How many of the first records of each life were safe by the word of a flush when it was seen last.
    promised: BTreeMap<(String, u64), u64>,
    /// Those that are dead.
    dead: BTreeSet<String>,
    /// The lives of loggers, to see when their disks fail.
    lives: BTreeMap<String, u64>,
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn directory_of(directory: &Path, logger: &str) -> PathBuf {
    directory.join(logger)
}

impl World {
    fn new(seed: u64, broken: Option<Broken>) -> Self {
        let mut random = Random::new(seed);
        let boxes: &[&str] = if random.chance(50) {
            &["a", "b"]
        } else {
            &["a", "b", "c"]
        };
        let mut nodes = vec![
            ("manager", "manager", "a"),
            ("logger-1", "logger", "a"),
            ("logger-2", "logger", "b"),
            ("data", "data", "b"),
            ("worker-1", "worker", boxes[random.below(boxes.len())]),
            ("worker-2", "worker", boxes[random.below(boxes.len())]),
        ];
        if boxes.len() == 3 {
            nodes.push(("logger-3", "logger", "c"));
        }
        let mut text = layout_of(&nodes, boxes);
        let batch = [3, 20, 400][random.below(3)];
        let spool = ["always", "overflow", "never"][random.below(3)];
        let _ = writeln!(
            text,
            "[logging]\nbatch_size = {batch}\nbatch_interval = \"200ms\"\nspool = \"{spool}\""
        );
        let directory = tempfile::tempdir().unwrap();
        let disks = Disks::default();
        let rotation = Duration::from_secs([1, 5, 20][random.below(3)]);
        let format = if random.chance(50) {
            LogFormat::Tsv
        } else {
            LogFormat::Json
        };
        let of_sinks = (directory.path().to_owned(), disks.clone());
        let make = move |_: &Layout, node: &Node| -> Box<dyn LogSink> {
            let config = LogFilesConfig {
                directory: directory_of(&of_sinks.0, node.name.as_str()),
                format,
                rotation: Some(rotation),
                writer_name: Some(node.name.to_string()),
            };
            Box::new(Watched::new(config, &of_sinks.1, broken))
        };
        let slowest = [3, 20, 60][random.below(3)];
        let slowest_disk = [2, 20, 100][random.below(3)];
        let mut cluster = Cluster::of(&text, Registry::new().with::<Scribe>())
            .seed(seed)
            .latency(Duration::from_micros(200)..=ms(slowest))
            .disk_latency(Duration::from_micros(200)..=ms(slowest_disk))
            .log_sinks(make)
            .spools();
        for of_box in cluster.boxes() {
            let offset = ms(random.number(10_000_000));
            let rate = 950_000 + random.number(100_001);
            cluster = cluster.clock_of_box(&of_box, offset, rate);
        }
        let loggers = nodes.iter().filter(|(_, role, _)| *role == "logger");
        Self {
            cluster,
            random,
            loggers: loggers.map(|(name, ..)| (*name).to_owned()).collect(),
            nodes: nodes.iter().map(|(name, ..)| (*name).to_owned()).collect(),
            troubles: Troubles::default(),
            disks,
            directory,
            next: BTreeMap::new(),
            safe: BTreeMap::new(),
            promised: BTreeMap::new(),
            dead: BTreeSet::new(),
            lives: BTreeMap::new(),
        }
    }

    /// Runs a cluster in trouble, heals it, and reads the files.
    pub(crate) fn run(seed: u64, broken: Option<Broken>) -> Result<Account, String> {
        let mut world = Self::new(seed, broken);
        world.cluster.start();
        for _ in 0..60 {
            world.cluster.run_for(ms(500));
            if world.is_calm() {
                break;
            }
        }
        if !world.is_calm() {
            return Err("L: not everybody is in at the beginning".to_owned());
        }
        let end = world.cluster.now() + Duration::from_secs(60);
        while world.cluster.now() < end {
            world.act();
        }
        for node in world.troubles.heal(&mut world.cluster, &world.nodes) {
            world.begins_anew(&node);
        }
        for _ in 0..120 {
            world.cluster.run_for(ms(500));
            if world.is_settled() {
                break;
            }
        }
        world.look();
        world.check_settled()?;
        // What is in current files gets its final name. If somebody has ended before he could say what counts, the next lives settle it.
        let ended = world.nodes.iter();
        let ended = ended.map(|node| (node.clone(), world.cluster.life(node)));
        let ended: Vec<(String, u64)> = ended.collect();
        for _ in 0..3 {
            world.cluster.stop_all();
            if world.check_names().is_ok() {
                break;
            }
            for node in &world.nodes {
                world.cluster.restart(node);
            }
            world.cluster.run_for(Duration::from_secs(30));
        }
        world.check_names()?;
        world.check_files(&ended)
    }

    fn is_calm(&self) -> bool {
        is_calm(&self.cluster, &self.nodes)
    }

    fn act(&mut self) {
        let wait = Duration::from_micros(2_000 + self.random.number(60_000));
        self.cluster.run_for(wait);
        let node = self.nodes[self.random.below(self.nodes.len())].clone();
        if self.cluster.is_alive(&node) && !self.cluster.is_frozen(&node) {
            let life = self.cluster.life(&node);
            let some = 1 + self.random.below(12);
            for _ in 0..some {
                let number = self.next.entry((node.clone(), life)).or_default();
                let row = Row {
                    of: node.clone(),
                    life,
                    number: *number,
                };
                *number += 1;
                self.cluster.raise(&node, &row);
            }
        }
        self.look();
        let nodes = &self.nodes;
        let calm =
            |cluster: &Cluster, random: &mut Random| random.chance(10) && is_calm(cluster, nodes);
        let anew = self
            .troubles
            .go_on(&mut self.cluster, &mut self.random, nodes, calm);
        for node in anew {
            self.begins_anew(&node);
        }
        self.fail_disks();
    }

    /// What a node that has died had not synced is lost half of the time.
    fn fail_disks(&mut self) {
        for node in &self.nodes {
            let is_new = self.cluster.is_alive(node) || !self.dead.insert(node.clone());
            if self.cluster.is_alive(node) {
                self.dead.remove(node);
            } else if !is_new && self.random.chance(50) {
                self.cluster.power_fails(node);
            }
        }
        for logger in &self.loggers {
            if self.cluster.is_alive(logger) {
                self.lives.insert(logger.clone(), self.cluster.life(logger));
            } else if self.lives.remove(logger).is_some() && self.random.chance(50) {
                let directory = directory_of(self.directory.path(), logger);
                self.disks.power_fails(&directory, &mut self.random);
            }
        }
    }

    fn begins_anew(&mut self, node: &str) {
        let life = self.cluster.life(node);
        self.lives.insert(node.to_owned(), life);
    }

    /// Remembers what is acknowledged or kept: a node that dies takes its counts with it. What was found acknowledges records of
    /// former lives, so it does not count for this one.
    fn look(&mut self) {
        for node in &self.nodes {
            if self.cluster.is_alive(node) {
                let counts = self.cluster.node(node).counts();
                let key = (node.clone(), self.cluster.life(node));
                let promised = counts.of_frameworks(PROMISED);
                self.promised.insert(key.clone(), promised);
                let acknowledged = counts.records_acknowledged;
                let acknowledged = acknowledged.saturating_sub(counts.records_found);
                self.safe
                    .insert(key, acknowledged.max(counts.records_spooled));
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.check_settled().is_ok()
    }

    /// Nothing is open any more, and nothing undecided.
    fn check_settled(&self) -> Result<(), String> {
        if !self.is_calm() {
            return Err("L: not everybody is in again".to_owned());
        }
        for node in &self.nodes {
            let known = self.cluster.node(node);
            let (open, undecided) = (known.waiting_records(), known.undecided_batches());
            if open > 0 {
                return Err(format!("L: {open} records of {node} are open"));
            }
            if undecided > 0 {
                return Err(format!("L: {undecided} batches at {node} are undecided"));
            }
        }
        Ok(())
    }

    /// Every file has its final name.
    fn check_names(&self) -> Result<(), String> {
        for logger in &self.loggers {
            let directory = directory_of(self.directory.path(), logger);
            for entry in std::fs::read_dir(&directory)
                .into_iter()
                .flatten()
                .flatten()
            {
                let name = entry.file_name().into_string().unwrap_or_default();
                if entry.path().is_file() && RotatedName::parse(&name).is_none() {
                    return Err(format!("L: {logger} has {name} after its end"));
                }
            }
            // What a failure of the power has left without an entry in the diary is put aside: nothing of it was acknowledged.
            let waiting = std::fs::read_dir(directory.join("unsettled"))
                .into_iter()
                .flatten()
                .flatten();
            let mut waiting = waiting.map(|file| file.path());
            if let Some(file) = waiting.find(|file| file.extension() != Some("strange".as_ref())) {
                let file = file.display();
                return Err(format!("L: {logger} has {file} without a final name"));
            }
        }
        Ok(())
    }

    /// Reads what all loggers have in files with final names.
    fn check_files(&self, ended: &[(String, u64)]) -> Result<Account, String> {
        let mut rows: BTreeMap<(String, u64), BTreeSet<u64>> = BTreeMap::new();
        let mut in_files = 0;
        for logger in &self.loggers {
            let directory = directory_of(self.directory.path(), logger);
            let found = read_rows(&directory, "rows").map_err(|error| error.to_string())?;
            for row in found {
                let field = |name: &str| row.get(name).cloned().unwrap_or_default();
                let (of, life, number) = (field("of"), field("life"), field("number"));
                let key = (of, life.parse().map_err(|_| "no life")?);
                let number = number.parse().map_err(|_| "no number")?;
                in_files += 1;
                if !rows.entry(key.clone()).or_default().insert(number) {
                    return Err(format!("TWICE: {number} of {key:?}"));
                }
            }
        }
        for (key, acknowledged) in &self.safe {
            let found = rows.get(key).map_or(0, |rows| rows.len() as u64);
            if found < *acknowledged {
                return Err(format!(
                    "LOST: of {key:?} {found} of {acknowledged} acknowledged or kept"
                ));
            }
        }
        for (key, promised) in &self.promised {
            let found = rows.get(key);
            let is_there = |number: &u64| found.is_some_and(|rows| rows.contains(number));
            if let Some(number) = (0..*promised).find(|number| !is_there(number)) {
                return Err(format!(
                    "LOST: {number} of {key:?}, of which {promised} were safe by a flush"
                ));
            }
        }
        // Of lives that have ended in order everything is accounted for.
        let dropped = self.cluster.total(|counts| {
            let unsettled = counts.records_unsettled.total();
            counts.records_dropped.total() + counts.records_invalid.total() + unsettled
        });
        for key in ended {
            let written = self.next.get(key).copied().unwrap_or(0);
            let found = rows.get(key).map_or(0, |rows| rows.len() as u64);
            if found + dropped < written {
                let acknowledged = self.safe.get(key);
                return Err(format!(
                    "LOST: of {key:?} {found} of {written}, {acknowledged:?} acknowledged, {dropped} dropped"
                ));
            }
        }
        Ok(Account {
            written: self.next.values().sum(),
            acknowledged: self.safe.values().sum(),
            promised: self.promised.values().sum(),
            spooled: self.cluster.total(|counts| counts.records_spooled),
            found: self.cluster.total(|counts| counts.records_found),
            dropped,
            repeated: self.cluster.total(|counts| counts.batches_repeated),
            duplicates: self.cluster.total(|counts| counts.batches_again),
            in_files,
            troubles: self.troubles.counts.clone(),
        })
    }
}

/// Everybody lives and is in.
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
    epochs.iter().all(|epoch| *epoch == epochs[0])
}
