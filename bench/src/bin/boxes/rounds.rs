//! Rounds of faults: clients use stores, something happens to a box and ends again, and an oracle judges what they were told.

mod clients;
pub(crate) mod decisions;
mod duty;
mod files;
mod keyed;
mod plan;
mod records;
mod verdict;
mod wrong;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use muster_bench::boxes::{BoxOfOne, Boxes, Network, kill_process};
use muster_test_support::Random;
use serde_json::Value;

use self::clients::Clients;
use self::decisions::Watch;
pub(crate) use self::plan::Plan;
use self::plan::{Fault, Round};
use self::records::Acknowledged;
use self::verdict::{Times, Verdict, summary, verdict};
use crate::client::{STORES, now};
use crate::founding::{BOXES, Cluster, of_cluster};
use crate::say;

/// The nodes of the cluster, with their roles and boxes.
const NODES: [(&str, &str, &str); 9] = [
    ("manager-a", "manager", "a"),
    ("manager-b", "manager", "b"),
    ("logger-a", "logger", "a"),
    ("data-a", "data", "a"),
    ("logger-b", "logger", "b"),
    ("data-b", "data", "b"),
    ("worker-1", "worker", "c"),
    ("worker-2", "worker", "c"),
    ("worker-3", "worker", "c"),
];

/// How long a cluster may take to be well again.
const WELL_LIMIT: Duration = Duration::from_secs(90);

/// Runs the rounds. Returns whether all were good.
pub(crate) fn run(boxes: &Boxes, plan: &Plan) -> Result<bool> {
    let mut random = Random::new(plan.seed);
    let sections = format!("{}{}", stores(), records::SECTIONS);
    let mut cluster = Cluster::found(boxes, "rounds", &NODES, records::options, &sections)?;
    let mut acknowledged = Acknowledged::default();
    let mut clients = Clients::start(boxes, plan.history.as_deref())?;
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
        let round = Round::drawn(&mut random, plan.only.as_deref());
        let verdict = cluster.play(number, &round, &mut clients)?;
        if plan.is_json {
            say(&serde_json::to_string(&verdict)?);
        } else {
            say(&verdict.line());
        }
        acknowledged.look(&boxes.get("a")?.status()?);
        if verdict.well.is_none() {
            cluster.start_over()?;
        }
        verdicts.push(verdict);
    }
    let is_good = |verdict: &&Verdict| verdict.is_good() || (plan.is_patient && verdict.is_true());
    let good = verdicts.iter().filter(is_good).count();
    drop(clients);
    cluster.stop(&mut acknowledged)?;
    let records = records::account(boxes, &acknowledged)?;
    let events = keyed::account(boxes)?;
    let duty = duty::account(boxes)?;
    if plan.is_json {
        say(&serde_json::to_string(&records)?);
        say(&serde_json::to_string(&events)?);
        say(&serde_json::to_string(&duty)?);
    } else {
        say(&summary(&verdicts));
        say(&records.line());
        say(&events.line());
        say(&duty.line());
    }
    Ok(good == verdicts.len() && records.is_good() && events.is_good() && duty.is_good())
}

impl Cluster<'_> {
    /// Ends everything and starts it again.
    fn start_over(&mut self) -> Result<()> {
        for made in of_cluster(self.boxes) {
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

    /// Stops everything.
    fn stop(&self, acknowledged: &mut Acknowledged) -> Result<()> {
        // Loggers come last: they take what the others still have.
        for made in of_cluster(self.boxes).collect::<Vec<_>>().into_iter().rev() {
            if let Ok(status) = made.status() {
                acknowledged.look(&status);
            }
            made.run(&["agent", "stop"])?;
        }
        Ok(())
    }

    fn play(&mut self, number: u32, round: &Round, clients: &mut Clients) -> Result<Verdict> {
        clients.begin(&format!("r{number}"))?;
        std::thread::sleep(round.after);
        let round = &self.aimed(round)?;
        let asked = if round.on == "a" { "b" } else { "a" };
        let struck = now();
        let ends = self.strike(round)?;
        let watch = round.fault.takes_out();
        let watch = watch.then(|| self.boxes.get(asked).map(|at| Watch::start(at, round.on)));
        let watch = watch.transpose()?;
        std::thread::sleep(round.lasts);
        let healed = now();
        let out = watch.and_then(Watch::end);
        self.heal(round, ends.as_deref())?;
        let well = self.wait_until_well(asked)?;
        std::thread::sleep(Duration::from_millis(500));
        let history = clients.rest()?;
        let times = Times {
            struck,
            healed,
            out,
            well,
        };
        Ok(verdict(number, round, &times, &history))
    }

    /// The round on the box that leads, if that is whom it is for.
    fn aimed(&self, round: &Round) -> Result<Round> {
        let mut aimed = round.clone();
        if round.fault.is_of_leader() {
            let told = decisions::coordinators(self.boxes.get("a")?)?;
            let leader = decisions::leader(&told).context("nobody leads")?;
            let leader = BOXES.into_iter().find(|name| *name == leader);
            aimed.on = leader.context("a box leads that the cluster does not have")?;
        }
        Ok(aimed)
    }

    /// Has the fault happen. Returns what its end needs.
    fn strike(&mut self, round: &Round) -> Result<Option<String>> {
        let struck = self.boxes.get(round.on)?;
        match round.fault {
            Fault::Kill | Fault::KillLeader => struck.kill_all()?,
            Fault::KillOne => return kill_one(struck, round.which),
            Fault::Freeze | Fault::FreezeLeader => struck.set_frozen(true)?,
            Fault::Cut => struck.set_network(Network::Cut)?,
            Fault::Dumb => struck.set_network(Network::Dumb)?,
            Fault::Deaf => struck.set_network(Network::Deaf)?,
            Fault::CutFromOne => {
                let mut others = of_cluster(self.boxes).filter(|other| other.name != round.on);
                let other = others.nth(round.which % 2).context("there are three")?;
                struck.set_network(Network::CutFrom(other.address))?;
            }
            Fault::Reset => struck.set_network(Network::Reset)?,
            Fault::Loss => struck.set_network(Network::Lossy(30))?,
            Fault::FullDisk => struck.set_full(true)?,
            Fault::HungDisk => struck.set_hung(true)?,
            Fault::Restart => {
                // If it was not in order, what was acknowledged has to be there all the same.
                struck.run(&["agent", "stop"])?;
            }
        }
        Ok(None)
    }

    fn heal(&mut self, round: &Round, killed: Option<&str>) -> Result<()> {
        let struck = self.boxes.get(round.on)?;
        match round.fault {
            Fault::Kill | Fault::KillLeader | Fault::Restart => self.start(round.on)?,
            // Its agent has started a node again by now.
            Fault::KillOne if killed == Some(AGENT) => self.start(round.on)?,
            Fault::KillOne => {}
            Fault::Freeze | Fault::FreezeLeader => struck.set_frozen(false)?,
            Fault::FullDisk => struck.set_full(false)?,
            Fault::HungDisk => struck.set_hung(false)?,
            _ => struck.set_network(Network::Whole)?,
        }
        Ok(())
    }

    /// Waits until every box tells of every node that it is ready, and the coordinators that it is in and that no store lacks a copy.
    /// Returns after how many seconds.
    fn wait_until_well(&self, asked: &str) -> Result<Option<f64>> {
        let asked = self.boxes.get(asked)?;
        let begun = Instant::now();
        while begun.elapsed() < WELL_LIMIT {
            let output = asked.run(&["status", "--format", "json"])?;
            let status: Option<Value> = serde_json::from_slice(&output.stdout).ok();
            let code = output.status.code();
            let is_well = code == Some(0) && status.is_some_and(|status| is_well(&status));
            if is_well && all_are_in(asked) && copies_are_complete(asked)? {
                return Ok(Some(begun.elapsed().as_secs_f64()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(None)
    }
}

/// Whether every store has its copies in sync, so that the next box may be lost.
fn copies_are_complete(asked: &BoxOfOne) -> Result<bool> {
    let output = asked.run(&["stores", "--format", "json"])?;
    Ok(output.status.code() == Some(0))
}

/// Whether somebody leads, and every node is in.
fn all_are_in(asked: &BoxOfOne) -> bool {
    let Ok(told) = decisions::coordinators(asked) else {
        return false;
    };
    let of_box = |name: &str| NODES.iter().filter(|(.., on)| *on == name).count();
    decisions::leader(&told).is_some()
        && BOXES
            .iter()
            .all(|name| decisions::count(&told, name, "in") == of_box(name))
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

/// The sections of the layout about the stores.
fn stores() -> String {
    let [in_memory, in_a_file] = STORES;
    format!(
        "[store.\"{in_memory}\"]\nbackend = \"memory\"\n\
         [store.\"{in_a_file}\"]\nbackend = \"sqlite\"\nmaster = \"data-b\"\n"
    )
}
