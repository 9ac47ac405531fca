//! `muster spool`: the log records that nodes of this box keep on disk until a logger has them, and those of a machine that is gone.

mod handing_over;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use muster_cluster::node::Leftover;
use muster_wire::EndpointId;
use serde::Serialize;

use self::handing_over::{SHIPPED, Shipment};
use super::agent_client::Target;
use super::node::SPOOL;
use super::stores::table::table;
use crate::arguments::{Format, LayoutOption, seconds};
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, NOT_RUNNING, USAGE, print, say};

/// How often it is looked whether a node has shipped what it was handed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Show the log records that the nodes of this box keep on disk until a logger has them
///
/// A node keeps there what has no room in its memory while no logger takes it, and what is left when it ends; with
/// `logging.spool = "always"` all of its records. What a former life of the node has left it sends when it is started again.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    layout: LayoutOption,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Have a node of this box send what nodes that will not run again have left, such as those of a dead machine whose disk is here
    ///
    /// The directory is a spool, that of a node in it, or that of one life of a node. It is taken over by the node, so nothing is sent
    /// twice. Records keep their identity: what a logger has already is not written again.
    ///
    /// Exit codes: 0 the loggers have everything; 1 something cannot be read or is not sent yet; 3 no node of this box runs.
    Ship(Ship),
}

#[derive(Debug, Args)]
struct Ship {
    /// The directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The node of this box that is to send it [default: the first one that runs]
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Wait so many seconds at most until the loggers have it
    #[arg(long, value_parser = seconds, default_value = "120")]
    timeout: Duration,
    #[command(flatten)]
    layout: LayoutOption,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(self))
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.action {
        Some(Action::Ship(ship)) => run_ship(&ship).await,
        None => show(&arguments.layout, arguments.format).await,
    }
}

/// What one life of a node has on disk.
#[derive(Debug, Serialize)]
struct Line {
    node: String,
    life: String,
    batches: usize,
    records: usize,
    bytes: usize,
    streams: BTreeMap<String, usize>,
    /// The records of its journal that cannot be read.
    damaged: u64,
}

impl Line {
    fn new(left: &Leftover) -> Self {
        let mut streams: BTreeMap<String, usize> = BTreeMap::new();
        for batch in left.batches.values() {
            *streams.entry(batch.stream.clone()).or_default() += batch.records;
        }
        Self {
            node: left.node.clone(),
            life: left.life.to_string(),
            batches: left.batches.len(),
            records: streams.values().sum(),
            bytes: left.batches.values().map(|batch| batch.bytes).sum(),
            streams,
            damaged: left.bad,
        }
    }
}

async fn show(layout: &LayoutOption, format: Format) -> Result<ExitCode> {
    let target = local(layout).await?;
    let root = target.places().state.join(SPOOL);
    let mut lines = Vec::new();
    for (life, directory) in lives_below(&root)? {
        match read(&directory, life) {
            Ok(left) if left.batches.is_empty() && left.bad == 0 => {}
            Ok(left) => lines.push(Line::new(&left)),
            // A node has removed it meanwhile.
            Err(_) if !directory.exists() => {}
            Err(error) => return Err(error),
        }
    }
    match format {
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&lines)?))?,
        Format::Text => print(&text(&lines))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(lines: &[Line]) -> String {
    if lines.is_empty() {
        return "no log records are kept on disk\n".to_owned();
    }
    let head = ["node", "life", "batches", "records", "bytes", "streams"];
    let mut rows = vec![head.map(ToOwned::to_owned)];
    rows.extend(lines.iter().map(|line| {
        let streams = line.streams.iter();
        let streams = streams.map(|(stream, records)| format!("{stream}: {records}"));
        [
            line.node.clone(),
            line.life.clone(),
            line.batches.to_string(),
            line.records.to_string(),
            line.bytes.to_string(),
            streams.collect::<Vec<_>>().join(", "),
        ]
    }));
    let mut text = String::new();
    table(&rows, &mut text);
    for line in lines.iter().filter(|line| line.damaged > 0) {
        let (damaged, node, life) = (line.damaged, &line.node, &line.life);
        let _ = writeln!(
            text,
            "{damaged} records of life {life} of {node} cannot be read"
        );
    }
    text
}

/// The cluster of a layout on this machine: its files are needed.
async fn local(layout: &LayoutOption) -> Result<Target> {
    let target = Target::of(layout).await?;
    if target.is_remote() {
        return Err(Failure::new("spools are on the disks of their boxes")
            .hint("run this command there")
            .code(USAGE)
            .into());
    }
    Ok(target)
}

/// Reads what a life has on disk.
fn read(directory: &Path, life: EndpointId) -> Result<Leftover> {
    let left = Leftover::read(directory, life);
    Ok(left.map_err(|error| Failure::new(error.to_string()))?)
}

/// The life that a directory is named after, if it is one of a spool.
fn life_of(directory: &Path) -> Option<EndpointId> {
    directory.file_name()?.to_str()?.parse().ok()
}

/// Returns the directories of lives that a directory is or has, two levels below it at most.
fn lives_below(directory: &Path) -> Result<Vec<(EndpointId, PathBuf)>> {
    let mut found = Vec::new();
    let mut level = vec![directory.to_owned()];
    for _ in 0..3 {
        let mut below = Vec::new();
        for directory in level {
            if let Some(life) = life_of(&directory) {
                found.push((life, directory));
                continue;
            }
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.map_err(|error| {
                    Failure::new(format!("cannot read {}: {error}", directory.display()))
                })?,
            };
            let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            entries.retain(|path| path.is_dir());
            entries.sort();
            below.extend(entries);
        }
        level = below;
    }
    Ok(found)
}

async fn run_ship(arguments: &Ship) -> Result<ExitCode> {
    let target = local(&arguments.layout).await?;
    let running = muster_agent::running_nodes(target.places());
    let node = match &arguments.node {
        Some(node) if running.contains(node) => node.clone(),
        Some(node) => {
            let running = running.join(", ");
            return Err(
                Failure::new(format!("node {node} does not run on this box"))
                    .hint(format!("those that run are {running}"))
                    .code(NOT_RUNNING)
                    .into(),
            );
        }
        None => running.into_iter().next().ok_or_else(|| {
            Failure::new("no node runs on this box that could send it").code(NOT_RUNNING)
        })?,
    };
    let home = target.places().state.join(SPOOL).join(&node);
    // What was begun before is ended first, also if it has another name by now.
    let mut shipments = handing_over::begun(&arguments.directory, &home)?;
    if !arguments.directory.is_dir() && shipments.is_empty() {
        let directory = arguments.directory.display();
        return Err(Failure::new(format!("{directory} is not a directory"))
            .code(USAGE)
            .into());
    }
    let directory = std::path::absolute(&arguments.directory)?;
    let directory = fs::canonicalize(&directory).unwrap_or(directory);
    for (life, source) in lives_below(&directory)? {
        if source.starts_with(&home) {
            return Err(Failure::new(format!(
                "{} is where {node} looks by itself",
                source.display()
            ))
            .hint("it sends what is there within ten seconds")
            .code(USAGE)
            .into());
        }
        let line = Line::new(&read(&source, life)?);
        say(&format!(
            "{} batches, {} records that life {life} of {} has left",
            line.batches, line.records, line.node
        ));
        shipments.push(Shipment::hand_over(&source, &home, life)?);
    }
    if shipments.is_empty() {
        let directory = directory.display();
        return Err(
            Failure::new(format!("{directory} has nothing that a node has left"))
                .hint(format!("what was handed over before is called *.{SHIPPED}"))
                .into(),
        );
    }
    wait(&shipments, &node, arguments.timeout).await
}

/// Waits until a node has sent what it was handed.
async fn wait(shipments: &[Shipment], node: &str, timeout: Duration) -> Result<ExitCode> {
    let deadline = tokio::time::Instant::now() + timeout;
    while shipments.iter().any(Shipment::is_there) {
        if tokio::time::Instant::now() >= deadline {
            let left = shipments.iter().filter(|it| it.is_there()).count();
            return Err(Failure::new(format!("{node} has not sent {left} of {} yet", shipments.len()))
                .hint("it goes on; `muster spool` shows how far it is, and `muster status` whether loggers are there")
                .into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let damaged: Vec<String> = shipments.iter().filter_map(Shipment::damaged).collect();
    if !damaged.is_empty() {
        return Err(Failure::new("the loggers have what could be read")
            .hint(format!("what could not is in {}", damaged.join(", ")))
            .into());
    }
    say("the loggers have it");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_found_in_a_spool_in_that_of_a_node_and_by_themselves() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("spool");
        let life = EndpointId::from_random([7; 16]);
        let of_life = root.join("worker-1").join(life.to_string());
        fs::create_dir_all(&of_life).unwrap();
        fs::create_dir_all(root.join("worker-2/others")).unwrap();
        for directory in [&root, &root.join("worker-1"), &of_life] {
            let found = lives_below(directory).unwrap();
            assert_eq!(found, [(life, of_life.clone())]);
        }
        assert_eq!(lives_below(&root.join("worker-2")).unwrap(), []);
        assert_eq!(lives_below(&root.join("nowhere")).unwrap(), []);
    }
}
