//! Rounds of faults: clients use stores, something happens to a box and ends again, and an oracle judges what they were told.

use std::fmt;
use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use muster_bench::boxes::{BoxOfOne, Boxes, Network, kill_process, until};
use muster_bench::oracle::{Asked, Kind, Outcome, Record, judge};
use serde::Serialize;
use serde_json::Value;

use crate::client::{self, STORES, Said, now};
use crate::say;

/// The nodes of the cluster, with their roles and boxes.
const NODES: [(&str, &str, &str); 8] = [
    ("manager", "manager", "a"),
    ("logger-a", "logger", "a"),
    ("data-a", "data", "a"),
    ("logger-b", "logger", "b"),
    ("data-b", "data", "b"),
    ("worker-1", "worker", "c"),
    ("worker-2", "worker", "c"),
    ("worker-3", "worker", "c"),
];

const BOXES: [&str; 3] = ["a", "b", "c"];

/// What a node whose box has crashed is given until another serves.
const CRASH_LIMIT: f64 = 2.0;

/// What a node whose box hangs is given.
const HANG_LIMIT: f64 = 5.0;

/// A pause without an acknowledgement that is none of the cluster's: the machine has few processors for all of this.
const USUAL_PAUSE: f64 = 0.4;

/// How long a cluster may take to be well again.
const WELL_LIMIT: Duration = Duration::from_secs(90);

/// How long the clients may take to end what they do.
const REST_LIMIT: Duration = Duration::from_secs(90);

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Plan {
    rounds: u32,
    seed: u64,
    only: Option<String>,
    is_json: bool,
}

impl Plan {
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut plan = Self {
            rounds: 100,
            seed: now(),
            only: None,
            is_json: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("{word} needs a value"))?;
            match *word {
                "--rounds" => plan.rounds = value.parse().context("--rounds takes a number")?,
                "--seed" => plan.seed = value.parse().context("--seed takes a number")?,
                "--fault" if FAULTS.iter().any(|known| known.name() == *value) => {
                    plan.only = Some((*value).to_owned());
                }
                "--fault" => {
                    let names: Vec<&str> = FAULTS.iter().map(|known| known.name()).collect();
                    bail!("there is no fault {value}: {}", names.join(", "));
                }
                "--format" => plan.is_json = *value == "json",
                _ => bail!(
                    "usage: boxes operate | [--rounds N] [--seed N] [--fault NAME] [--format text|json]"
                ),
            }
        }
        Ok(plan)
    }
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    KillOne,
    Freeze,
    Cut,
    Dumb,
    Deaf,
    CutFromOne,
    Reset,
    Loss,
    FullDisk,
    HungDisk,
    Restart,
}

const FAULTS: [Fault; 12] = [
    Fault::Kill,
    Fault::KillOne,
    Fault::Freeze,
    Fault::Cut,
    Fault::Dumb,
    Fault::Deaf,
    Fault::CutFromOne,
    Fault::Reset,
    Fault::Loss,
    Fault::FullDisk,
    Fault::HungDisk,
    Fault::Restart,
];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillOne => "kill-one",
            Self::Freeze => "freeze",
            Self::Cut => "cut",
            Self::Dumb => "dumb",
            Self::Deaf => "deaf",
            Self::CutFromOne => "cut-from-one",
            Self::Reset => "reset",
            Self::Loss => "loss",
            Self::FullDisk => "full-disk",
            Self::HungDisk => "hung-disk",
            Self::Restart => "restart",
        }
    }

    /// How long it lasts at least and at most, in seconds.
    fn span(self) -> (u64, u64) {
        match self {
            Self::Freeze => (1, 20),
            Self::HungDisk => (1, 10),
            Self::Restart => (0, 0),
            _ => (4, 10),
        }
    }

    /// How long the cluster may take to go on.
    fn limit(self) -> f64 {
        match self {
            Self::Kill | Self::KillOne | Self::Restart | Self::Reset => CRASH_LIMIT,
            _ => HANG_LIMIT,
        }
    }
}

/// Numbers that look random, the same from the same seed: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of so many.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.next() % (to - from + 1))
    }
}

/// What a round does.
#[derive(Debug, Clone)]
struct Round {
    fault: Fault,
    on: &'static str,
    /// Another box, or a node or agent of this one.
    which: usize,
    after: Duration,
    lasts: Duration,
}

impl Round {
    fn drawn(numbers: &mut Numbers, only: Option<&str>) -> Self {
        let drawn = FAULTS[numbers.below(FAULTS.len())];
        let named = only.and_then(|name| FAULTS.into_iter().find(|fault| fault.name() == name));
        let fault = named.unwrap_or(drawn);
        let (shortest, longest) = fault.span();
        Self {
            fault,
            on: BOXES[numbers.below(BOXES.len())],
            which: numbers.below(64),
            after: numbers.millis(1000, 2500),
            lasts: numbers.millis(shortest * 1000, longest * 1000),
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasts = self.lasts.as_secs_f64();
        write!(f, "{} {}", self.fault.name(), self.on)?;
        if self.lasts > Duration::ZERO {
            write!(f, " {lasts:.1} s")?;
        }
        Ok(())
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Verdict {
    round: u32,
    fault: &'static str,
    on: &'static str,
    seconds: f64,
    /// From the fault until everything that clients do was answered again, in seconds.
    settled: f64,
    /// Whether that was before the fault had ended.
    settled_by_itself: bool,
    within_limit: bool,
    acknowledged: usize,
    failed: usize,
    unknown: usize,
    /// From the end of the fault until all nodes were ready, in seconds; `None` if they never were.
    well: Option<f64>,
    lies: Vec<String>,
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.lies.is_empty() && self.within_limit && self.well.is_some()
    }

    fn line(&self, plan: &Round) -> String {
        let settled = if self.settled_by_itself {
            format!("went on after {:.1} s", self.settled)
        } else {
            format!("went on after {:.1} s, when it had ended", self.settled)
        };
        let well = match self.well {
            Some(well) => format!("well {well:.1} s later"),
            None => "NOT WELL AGAIN".to_owned(),
        };
        let mut line = format!(
            "{:>3}  {:<22} {settled}; {well}; {} acknowledged, {} failed, {} unknown: {}",
            self.round,
            plan.to_string(),
            self.acknowledged,
            self.failed,
            self.unknown,
            if self.is_good() { "good" } else { "NOT GOOD" },
        );
        for lie in self.lies.iter().take(3) {
            line += &format!("\n       {lie}");
        }
        if self.lies.len() > 3 {
            line += &format!("\n       and {} more", self.lies.len() - 3);
        }
        line
    }
}

/// Runs the rounds. Returns whether all were good.
pub(crate) fn run(boxes: &Boxes, plan: &Plan) -> Result<bool> {
    let mut numbers = Numbers(plan.seed);
    let mut cluster = Cluster::found(boxes)?;
    let mut clients = Clients::start(boxes)?;
    if !plan.is_json {
        say(&format!(
            "seed {}: {} rounds, stores {}",
            plan.seed,
            plan.rounds,
            STORES.join(" and ")
        ));
    }
    let mut verdicts = Vec::new();
    for number in 1..=plan.rounds {
        let round = Round::drawn(&mut numbers, plan.only.as_deref());
        let verdict = cluster.play(number, &round, &mut clients)?;
        if plan.is_json {
            say(&serde_json::to_string(&verdict)?);
        } else {
            say(&verdict.line(&round));
        }
        if verdict.well.is_none() {
            cluster.start_over()?;
        }
        verdicts.push(verdict);
    }
    let good = verdicts.iter().filter(|verdict| verdict.is_good()).count();
    if !plan.is_json {
        say(&summary(&verdicts));
    }
    Ok(good == verdicts.len())
}

fn summary(verdicts: &[Verdict]) -> String {
    let count = |has: &dyn Fn(&Verdict) -> bool| verdicts.iter().filter(|one| has(one)).count();
    let lies: usize = verdicts.iter().map(|verdict| verdict.lies.len()).sum();
    let mut settled: Vec<f64> = verdicts.iter().map(|verdict| verdict.settled).collect();
    settled.sort_by(f64::total_cmp);
    let middle = settled.get(settled.len() / 2).copied().unwrap_or_default();
    let longest = settled.last().copied().unwrap_or_default();
    format!(
        "{} of {} rounds were good; {lies} lies in {} rounds; {} went on too late; {} were not well again; went on after {middle:.1} s in the middle, {longest:.1} s at most",
        count(&Verdict::is_good),
        verdicts.len(),
        count(&|verdict| !verdict.lies.is_empty()),
        count(&|verdict| !verdict.within_limit),
        count(&|verdict| verdict.well.is_none()),
    )
}

/// The cluster under test.
struct Cluster<'a> {
    boxes: &'a Boxes,
    agents: Vec<Child>,
}

impl<'a> Cluster<'a> {
    /// Founds it, and waits until it is ready.
    fn found(boxes: &'a Boxes) -> Result<Self> {
        let mut cluster = Self {
            boxes,
            agents: Vec::new(),
        };
        let layout = layout(boxes)?;
        let layout = layout.to_str().context("the directory is no text")?;
        let first = boxes.get("a")?;
        first.ends_with(0, &["init", "--box", "a", layout])?;
        cluster.start("a")?;
        until("the agent of a", || {
            let code = first.run(&["status"])?.status.code();
            Ok(code.filter(|code| *code != 3))
        })?;
        for name in ["b", "c"] {
            let token = first.ends_with(0, &["token", "create"])?;
            let at = first.address.to_string();
            let join = ["join", "--box", name, token.trim(), &at];
            boxes.get(name)?.ends_with(0, &join)?;
            cluster.start(name)?;
        }
        boxes
            .get("c")?
            .ends_with(0, &["status", "--wait", "ready"])?;
        Ok(cluster)
    }

    fn start(&mut self, name: &str) -> Result<()> {
        let agent = self.boxes.get(name)?.agent()?;
        self.agents.push(agent);
        Ok(())
    }

    /// Ends everything and starts it again.
    fn start_over(&mut self) -> Result<()> {
        for made in self.boxes.iter() {
            made.set_network(Network::Whole)?;
            made.kill_all()?;
        }
        for name in BOXES {
            self.start(name)?;
        }
        let well = self.wait_until_well("a")?;
        well.map(drop)
            .context("the cluster does not start any more")
    }

    fn play(&mut self, number: u32, round: &Round, clients: &mut Clients) -> Result<Verdict> {
        clients.begin(&format!("r{number}"))?;
        std::thread::sleep(round.after);
        let struck = now();
        let ends = self.strike(round)?;
        std::thread::sleep(round.lasts);
        let healed = now();
        self.heal(round, ends)?;
        let asked = if round.on == "a" { "b" } else { "a" };
        let well = self.wait_until_well(asked)?;
        std::thread::sleep(Duration::from_millis(500));
        let history = clients.rest()?;
        Ok(verdict(number, round, (struck, healed), well, &history))
    }

    /// Has the fault happen. Returns what its end needs.
    fn strike(&mut self, round: &Round) -> Result<Option<String>> {
        let struck = self.boxes.get(round.on)?;
        match round.fault {
            Fault::Kill => struck.kill_all()?,
            Fault::KillOne => return kill_one(struck, round.which),
            Fault::Freeze => struck.set_frozen(true)?,
            Fault::Cut => struck.set_network(Network::Cut)?,
            Fault::Dumb => struck.set_network(Network::Dumb)?,
            Fault::Deaf => struck.set_network(Network::Deaf)?,
            Fault::CutFromOne => {
                let mut others = self.boxes.iter().filter(|other| other.name != round.on);
                let other = others.nth(round.which % 2).context("there are three")?;
                struck.set_network(Network::CutFrom(other.address))?;
            }
            Fault::Reset => struck.set_network(Network::Reset)?,
            Fault::Loss => struck.set_network(Network::Lossy(30))?,
            Fault::FullDisk => struck.set_full(true)?,
            Fault::HungDisk => struck.set_hung(true)?,
            Fault::Restart => {
                struck.ends_with(0, &["agent", "stop"])?;
            }
        }
        Ok(None)
    }

    fn heal(&mut self, round: &Round, killed: Option<String>) -> Result<()> {
        let struck = self.boxes.get(round.on)?;
        match round.fault {
            Fault::Kill | Fault::Restart => self.start(round.on)?,
            // Its agent has started a node again by now.
            Fault::KillOne if killed.as_deref() == Some(AGENT) => self.start(round.on)?,
            Fault::KillOne => {}
            Fault::Freeze => struck.set_frozen(false)?,
            Fault::FullDisk => struck.set_full(false)?,
            Fault::HungDisk => struck.set_hung(false)?,
            _ => struck.set_network(Network::Whole)?,
        }
        Ok(())
    }

    /// Waits until every box tells of every node that it is ready. Returns after how many seconds.
    fn wait_until_well(&self, asked: &str) -> Result<Option<f64>> {
        let asked = self.boxes.get(asked)?;
        let begun = Instant::now();
        while begun.elapsed() < WELL_LIMIT {
            let output = asked.run(&["status", "--format", "json"])?;
            let status: Option<Value> = serde_json::from_slice(&output.stdout).ok();
            let code = output.status.code();
            if code == Some(0) && status.is_some_and(|status| is_well(&status)) {
                return Ok(Some(begun.elapsed().as_secs_f64()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(None)
    }
}

/// What stands for a box's agent where a process is chosen.
const AGENT: &str = "agent";

/// Kills one process of a box, and returns whose it was.
fn kill_one(struck: &BoxOfOne, which: usize) -> Result<Option<String>> {
    let status = struck.status()?;
    let mut here: Vec<(String, u64)> = Vec::new();
    for (name, _, on) in NODES {
        let nodes = status["nodes"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let node = nodes.iter().find(|node| node["node"] == name);
        let pid = node.and_then(|node| node["pid"].as_u64());
        here.extend(
            pid.filter(|_| on == struck.name)
                .map(|pid| (name.to_owned(), pid)),
        );
    }
    let agent = status["agent"]["pid"].as_u64();
    here.extend(agent.map(|pid| (AGENT.to_owned(), pid)));
    ensure!(!here.is_empty(), "box {} has no process", struck.name);
    let (name, pid) = here.swap_remove(which % here.len());
    kill_process(u32::try_from(pid)?)?;
    Ok(Some(name))
}

/// Whether every node is ready and every agent answers.
fn is_well(status: &Value) -> bool {
    let all = |list: &Value, fits: &dyn Fn(&Value) -> bool| {
        let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
        !items.is_empty() && items.iter().all(fits)
    };
    all(&status["boxes"], &|known| known["agent"] == "up")
        && all(&status["nodes"], &|node| node["report"]["state"] == "ready")
}

fn layout(boxes: &Boxes) -> Result<PathBuf> {
    use std::fmt::Write as _;
    let mut text = "[cluster]\nname = \"rounds\"\n".to_owned();
    for made in boxes.iter() {
        writeln!(text, "[box.{}]\naddress = \"{}\"", made.name, made.address)?;
    }
    for (name, role, on) in NODES {
        writeln!(
            text,
            "[[node]]\nname = \"{name}\"\nrole = \"{role}\"\nbox = \"{on}\""
        )?;
    }
    let [in_memory, in_a_file] = STORES;
    writeln!(text, "[store.\"{in_memory}\"]\nbackend = \"memory\"")?;
    writeln!(
        text,
        "[store.\"{in_a_file}\"]\nbackend = \"sqlite\"\nmaster = \"data-b\""
    )?;
    let file = boxes.directory().join("rounds.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

/// The process of the clients.
struct Clients {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<Said>,
}

impl Clients {
    fn start(boxes: &Boxes) -> Result<Self> {
        let at = boxes.get("c")?;
        // The box may be cut off from its disk.
        let identity = boxes.directory().join("clients");
        copy_identity(&at.root.join("var/lib/muster/identity"), &identity)?;
        let mut command = at.outsider(&std::env::current_exe()?);
        command.arg("client").arg(&identity);
        for made in boxes.iter() {
            command.arg(format!("{}:17701", made.address));
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the clients")?;
        let stdin = child.stdin.take().context("their stdin is piped")?;
        let stdout = child.stdout.take().context("their stdout is piped")?;
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(Ok(heard)) = line.map(|line| client::parse(&line)) else {
                    return;
                };
                if sender.send(heard).is_err() {
                    return;
                }
            }
        });
        let linked = said.recv_timeout(REST_LIMIT);
        ensure!(
            matches!(linked, Ok(Said::Linked)),
            "the clients find no cluster"
        );
        Ok(Self { child, stdin, said })
    }

    fn begin(&mut self, round: &str) -> Result<()> {
        writeln!(self.stdin, "{round}").context("the clients have ended")
    }

    /// Has them end what they do and read what stands; returns all that they were told since the round began.
    fn rest(&mut self) -> Result<Vec<Record>> {
        self.begin("rest")?;
        let end = Instant::now() + REST_LIMIT;
        let mut history = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(Said::Ended(record)) => history.push(record),
                Ok(Said::Rested) => return Ok(history),
                Ok(Said::Linked) => {}
                Err(error) => bail!("the clients do not come to an end: {error}"),
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies the files of a box's identity.
fn copy_identity(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn verdict(
    number: u32,
    round: &Round,
    (struck, healed): (u64, u64),
    well: Option<f64>,
    history: &[Record],
) -> Verdict {
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

    fn history(times: impl Iterator<Item = u64> + Clone) -> Vec<Record> {
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
        let busy = history((0..100).map(|step| step * 100 * MILLI));
        assert_eq!(settled(&busy, 2000 * MILLI, 5000 * MILLI), (0.0, true));
        let times = (0..100)
            .filter(|step| !(20..45).contains(step))
            .map(|step| step * 100 * MILLI);
        let paused = history(times.clone());
        assert_eq!(settled(&paused, 2000 * MILLI, 5000 * MILLI), (2.5, true));
        assert_eq!(settled(&paused, 2000 * MILLI, 4000 * MILLI), (2.5, false));
        // One store is never answered again.
        let mut lame = history((0..20).map(|step| step * 100 * MILLI));
        let going = (20..100).flat_map(|step| acknowledged(STORES[0], step * 100 * MILLI));
        lame.extend(going);
        assert_eq!(settled(&lame, 2000 * MILLI, 5000 * MILLI), (7.9, false));
    }

    #[test]
    fn the_same_seed_draws_the_same_rounds() {
        let drawn = |seed| {
            let mut numbers = Numbers(seed);
            let rounds = (0..50).map(|_| Round::drawn(&mut numbers, None).to_string());
            rounds.collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let all = drawn(1).join("\n");
        assert!(
            FAULTS.iter().all(|fault| all.contains(fault.name())),
            "{all}"
        );
    }
}
