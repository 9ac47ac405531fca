//! What copies of a store cost, and what they are worth: writes to stores with one copy and with two in turns, and the loss of a
//! box that has the primary. Every node, agent and client is a process, each box a network of its own.

mod client;
mod failover;
mod plan;
mod process;
mod report;
mod writing;

use anyhow::{Context, Result, ensure};
use muster_bench::boxes::{BoxOfOne, Boxes};
use serde_json::Value;

pub(crate) use self::client::run as run_client;
pub(crate) use self::plan::Plan;
use self::process::Client;
use self::report::Report;
use crate::founding::Cluster;
use crate::say;

/// The nodes of the cluster, with their roles and boxes. The first one of a box has the first port.
const NODES: [(&str, &str, &str); 4] = [
    (DATA[0], "data", "a"),
    (DATA[1], "data", "b"),
    ("manager", "manager", "a"),
    ("worker", "worker", "c"),
];

/// The nodes that keep the stores.
const DATA: [&str; 2] = ["data-a", "data-b"];

/// The first port of a box.
const PORT: u16 = 17760;

/// A store.
struct Kept {
    name: &'static str,
    backend: &'static str,
    copies: u64,
}

/// The stores: first with one copy, then with two.
const STORES: [Kept; 4] = [
    kept("copies/memory-1", "memory", 1),
    kept("copies/memory-2", "memory", 2),
    kept("copies/file-1", "sqlite", 1),
    kept("copies/file-2", "sqlite", 2),
];

/// Those of [`STORES`] in memory, with one copy and with two.
const IN_MEMORY: [usize; 2] = [0, 1];

/// Those in files.
const IN_FILES: [usize; 2] = [2, 3];

const fn kept(name: &'static str, backend: &'static str, copies: u64) -> Kept {
    Kept {
        name,
        backend,
        copies,
    }
}

/// Measures everything, and tells it.
pub(crate) fn run(boxes: &Boxes, plan: &Plan) -> Result<()> {
    let mut cluster = Cluster::found(
        boxes,
        "copies",
        &NODES,
        |_| String::new(),
        &layout_of_stores(),
    )?;
    let addresses: Vec<String> = ["a", "b"]
        .into_iter()
        .map(|name| Ok(format!("{}:{PORT}", boxes.get(name)?.address)))
        .collect::<Result<_>>()?;
    let mut client = Client::start(boxes, &addresses)?;
    for kept in &STORES {
        cluster.wait_until_kept("a", kept)?;
    }
    let mut writing = writing::Writing::new(&cluster, &mut client, plan)?;
    let report = Report {
        seconds: plan.seconds,
        repeat: plan.repeat,
        entries: plan.entries,
        writers: plan.writers,
        put_unique_pipelined: writing.compare(IN_MEMORY, writing::PIPELINED, false)?,
        put_unique_waiting: writing.compare(IN_MEMORY, 1, false)?,
        durable_pipelined: writing.compare(IN_FILES, writing::PIPELINED, true)?,
        durable_waiting: writing.compare(IN_FILES, 1, true)?,
        a_box_lost: failover::lose_boxes(&mut cluster, &mut client, plan)?,
    };
    say(&if plan.is_json {
        serde_json::to_string_pretty(&report)?
    } else {
        report.text()
    });
    Ok(())
}

impl Cluster<'_> {
    fn at(&self, name: &str) -> Result<&BoxOfOne> {
        self.boxes.get(name)
    }

    /// The process of a node.
    fn pid(&self, node: &str) -> Result<u32> {
        let status = self.at("c")?.status()?;
        let nodes = status["nodes"].as_array().map(Vec::as_slice);
        let mut nodes = nodes.unwrap_or_default().iter();
        let found = nodes.find(|it| it["node"] == node);
        let pid = found.and_then(|it| it["pid"].as_u64());
        let pid = pid.with_context(|| format!("node {node} has no process"))?;
        Ok(u32::try_from(pid)?)
    }

    /// What a box says of a store, if it says something.
    fn look(&self, asked: &str, store: &str) -> Result<Option<Value>> {
        let output = self.at(asked)?.run(&["stores", "--format", "json"])?;
        let told: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        let stores = told.as_ref().and_then(|told| told["stores"].as_array());
        let mut stores = stores.map(Vec::as_slice).unwrap_or_default().iter();
        Ok(stores.find(|it| it["store"] == store).cloned())
    }

    /// Waits until a store has all of its copies.
    fn wait_until_kept(&self, asked: &str, kept: &Kept) -> Result<()> {
        let told = failover::wait(|| {
            let told = self.look(asked, kept.name)?;
            Ok(told.filter(|told| told["redundant"] == true))
        })?;
        let told = told.with_context(|| format!("store {} has too few copies", kept.name))?;
        ensure!(told["goal"] == kept.copies, "{told}");
        Ok(())
    }
}

/// The sections of the layout about the stores.
fn layout_of_stores() -> String {
    let stores = STORES.iter().map(|kept| {
        format!(
            "[store.\"{}\"]\nbackend = \"{}\"\nmaster = \"{}\"\ncopies = {}\n",
            kept.name, kept.backend, DATA[0], kept.copies
        )
    });
    stores.collect()
}
