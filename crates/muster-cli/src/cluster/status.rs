//! `muster status`: the state of a cluster, in words for people or as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use muster_data::Timestamp;
use muster_gateway::status::{
    BoxStatus, BridgeStatus, ClusterStatus, GONE, GatewayStatus, MasterStatus, NodeStatus,
    ProcessStatus, StoreStatus, UNKNOWN,
};

use super::agent_client::Target;
use super::coordinators;
use crate::arguments::{Format, LayoutFile, seconds};
use crate::commands::{Execute, on_runtime};
use crate::output::{INCOMPLETE, print, say};

/// Show the state of every node of a running cluster
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) layout: LayoutFile,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Wait until every node is ready
    #[arg(long, value_enum)]
    pub(crate) wait: Option<Wait>,
    /// Wait so many seconds at most
    #[arg(long, value_parser = seconds, default_value = "30", requires = "wait")]
    pub(crate) timeout: Duration,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// Every node is ready
    Ready,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let target = Target::choose(arguments.layout.given(), &arguments.layout.remote).await?;
    let status = match arguments.wait {
        None => target.status().await?,
        Some(Wait::Ready) => until_ready(&target, arguments.timeout).await?,
    };
    target.warn();
    match arguments.format {
        Format::Text => print(&text(&status))?,
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&status)?))?,
    }
    let is_incomplete = status.boxes.iter().any(|known| known.agent == GONE);
    Ok(if is_well(&status) {
        ExitCode::SUCCESS
    } else if is_incomplete {
        INCOMPLETE.into()
    } else {
        ExitCode::FAILURE
    })
}

/// Whether every node is ready, and what has to be decided is decided.
fn is_well(status: &ClusterStatus) -> bool {
    status.all_ready() && status.decides()
}

/// Asks until every node is ready; an agent that is not there yet is waited for, too.
async fn until_ready(target: &Target, limit: Duration) -> Result<ClusterStatus> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let status = target.status().await;
        let is_ready = status.as_ref().is_ok_and(is_well);
        if is_ready {
            return status;
        }
        if tokio::time::Instant::now() >= deadline {
            say(&format!("not every node has become ready within {limit:?}"));
            return status;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A cluster as a table, and lines below it of what its nodes have to do with besides their peers.
fn text(cluster: &ClusterStatus) -> String {
    let mut text = format!(
        "{:<12} {:<8} {:<9} {:<9} {:>7} {:>9} {:>8} {:>6} {:>10} {:>10} {:>7}  {}\n",
        "node",
        "role",
        "process",
        "state",
        "pid",
        "uptime",
        "restarts",
        "peers",
        "events in",
        "events out",
        "queued",
        "dropped"
    );
    for node in &cluster.nodes {
        row(node, &mut text);
    }
    for known in &cluster.boxes {
        let _ = writeln!(text, "{}", box_line(known));
    }
    let known = cluster.coordinators.as_ref();
    let decisions = [
        known.and_then(coordinators::line),
        known.and_then(coordinators::redundancy),
    ];
    for line in decisions.into_iter().flatten() {
        let _ = writeln!(text, "{line}");
    }
    if let Some(active) = cluster.active_managers() {
        let _ = writeln!(text, "{}", active_manager(&active));
    }
    let outdated = cluster.nodes.iter().filter(|node| node.outdated);
    let outdated: Vec<&str> = outdated.map(|node| node.node.as_str()).collect();
    if !outdated.is_empty() {
        let names = outdated.join(", ");
        let _ = writeln!(
            text,
            "another program is on disk than these run: {names} (`muster restart` brings it)"
        );
    }
    if cluster.agent.as_ref().is_some_and(|agent| agent.outdated) {
        text.push_str(
            "another program is on disk than the agent runs (`muster agent reload` brings it)\n",
        );
    }
    archives(cluster, &mut text);
    for node in &cluster.nodes {
        if node.pid.is_none()
            && let Some(reason) = &node.reason
        {
            let _ = writeln!(text, "{}: ended, {reason}", node.node);
        }
    }
    for node in cluster.nodes.iter().filter(|node| node.pid.is_some()) {
        if let Some(report) = &node.report {
            lines(&node.node, report, &mut text);
        }
    }
    text
}

/// Who of several managers is active, in words.
fn active_manager(active: &[&str]) -> String {
    match active {
        [] => "no manager is active: what is said to the manager waits".to_owned(),
        [name] => format!("the active manager is {name}"),
        several => format!(
            "several managers take themselves for the active one: {}",
            several.join(", ")
        ),
    }
}

/// A box, in words.
fn box_line(known: &BoxStatus) -> String {
    let BoxStatus {
        name,
        address,
        reason,
        ..
    } = known;
    let mut line = format!("box {name} ({address}): agent {}", known.agent);
    if let Some(reason) = reason {
        let _ = write!(line, ", {reason}");
    }
    if let Some(agent) = &known.process {
        let _ = write!(line, ", version {}", agent.version);
        if let Some(days) = agent.certificate_days {
            let _ = write!(line, ", certificate valid for {days:.0} days");
        }
        if let Some(mesh) = &agent.mesh {
            let standing = mesh.links.iter().filter(|link| link.connected).count();
            let (links, reached) = (mesh.links.len(), mesh.in_reach);
            let _ = write!(line, ", {standing} of {links} links, {reached} in reach");
            if let Some(problem) = &mesh.problem {
                let _ = write!(line, "; {problem}");
            }
        }
    }
    line
}

/// What is to be said of the archives of log files, if anything is.
fn archives(cluster: &ClusterStatus, text: &mut String) {
    let of_boxes = cluster.boxes.iter().map(|known| {
        let place = format!("box {}: ", known.name);
        (place, known.process.as_ref())
    });
    let alone = cluster.agent.as_ref().filter(|_| cluster.boxes.is_empty());
    let all = of_boxes.chain([(String::new(), alone)]);
    let archives = all.filter_map(|(place, agent)| Some((place, agent?.archive.as_ref()?)));
    for (place, archive) in archives {
        if let Some(problem) = &archive.problem {
            let _ = writeln!(text, "{place}archive: {problem}");
        }
        if archive.unshipped_files > 0 {
            let files = match archive.unshipped_files {
                1 => "1 file waits".to_owned(),
                files => format!("{files} files wait"),
            };
            let reason = archive.ship_failure.as_ref();
            let reason = reason.map_or_else(String::new, |reason| format!("; {reason}"));
            let _ = writeln!(text, "{place}archive: {files} for archive.command{reason}");
        }
    }
}

// What is written below goes to a string, which takes everything.

fn row(node: &ProcessStatus, text: &mut String) {
    let report = node.report.clone().unwrap_or_default();
    // What a process that is gone said last of its state is no longer true; its counts are.
    let alive = node.pid.is_some();
    // Of a node whose agent does not answer its peers may know something.
    let has_state = alive || node.process == UNKNOWN;
    let connected = report
        .peers
        .iter()
        .filter(|peer| alive && peer.connected)
        .count();
    let queued: usize = report.peers.iter().map(|peer| peer.queue.messages).sum();
    let _ = writeln!(
        text,
        "{:<12} {:<8} {:<9} {:<9} {:>7} {:>9} {:>8} {:>6} {:>10} {:>10} {:>7}  {}",
        node.node,
        node.role,
        node.process,
        if has_state && !report.state.is_empty() {
            &report.state
        } else {
            "-"
        },
        node.pid.map_or("-".to_owned(), |pid| pid.to_string()),
        node.uptime_seconds.map_or("-".to_owned(), uptime),
        node.restarts,
        connected,
        report.count("events_in"),
        report.count("events_out"),
        queued + report.inbox.messages,
        causes(&report.dropped()),
    );
}

/// What was lost in a node's life, whatever the reason; the keys are those of its counts.
const LOSSES: [(&str, &str); 8] = [
    ("records_failed", "log records not written"),
    ("records_removed", "log records removed with their file"),
    ("records_dropped", "log records without a logger"),
    ("records_refused", "log records refused"),
    ("records_invalid", "log records that no logger writes"),
    (
        "records_unsettled",
        "log records that a logger took with it, perhaps",
    ),
    (
        "records_spoilt",
        "log records that the spool's disk has lost",
    ),
    ("store_writes_failed", "writes to stores failed"),
];

fn lines(node: &str, report: &NodeStatus, text: &mut String) {
    for trouble in &report.troubles {
        let _ = writeln!(
            text,
            "{node}: {}: {} ({} times since {})",
            trouble.what,
            trouble.text,
            trouble.count,
            time_of_day(trouble.since),
        );
    }
    let losses = LOSSES.iter().map(|(key, what)| (report.count(key), what));
    let losses: Vec<String> = losses
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !losses.is_empty() {
        let _ = writeln!(text, "{node}: lost so far: {}", losses.join(", "));
    }
    if !report.detours.is_empty() {
        let names = report.detours.join(", ");
        let _ = writeln!(
            text,
            "{node}: no link with {names}, reached through other nodes"
        );
    }
    stores(node, &report.stores, text);
    if let Some(status) = &report.gateway {
        gateway(node, status, text);
    }
    if let Some(status) = &report.bridge {
        bridge(node, status, text);
    }
}

/// A line for each store whose primary is here, and one for the clones that are not up to date.
fn stores(node: &str, stores: &[StoreStatus], text: &mut String) {
    for store in stores {
        if let Some(primary) = &store.master {
            primary_line(node, store, primary, text);
        }
    }
    for store in stores {
        let failing = store.copy.as_ref().filter(|copy| copy.failing);
        if let Some(copy) = failing {
            let _ = writeln!(
                text,
                "{node}: copy of store {}, {}: {} failures of the backend, failing now",
                store.store, copy.backend, copy.failures
            );
        }
    }
    let joining: Vec<&str> = stores
        .iter()
        .filter(|store| {
            store
                .copy
                .as_ref()
                .is_some_and(|copy| copy.role == "joining")
        })
        .map(|store| store.store.as_str())
        .collect();
    if !joining.is_empty() {
        let _ = writeln!(text, "{node}: fetches copies of {}", joining.join(", "));
    }
    let behind: Vec<String> = stores
        .iter()
        .filter_map(|store| {
            let clone = store.clone.as_ref()?;
            (clone.state != "fresh").then(|| format!("{} {}", store.store, clone.state))
        })
        .collect();
    if !behind.is_empty() {
        let _ = writeln!(text, "{node}: clones: {}", behind.join(", "));
    }
}

fn primary_line(node: &str, store: &StoreStatus, primary: &MasterStatus, text: &mut String) {
    let _ = write!(
        text,
        "{node}: store {}, {}: {} entries, {} KiB, {} writers",
        store.store,
        primary.backend,
        store.entries,
        store.bytes.div_ceil(1024),
        primary.writers,
    );
    if let Some(copies) = &primary.copies {
        let s = if copies.in_sync == 1 { "y" } else { "ies" };
        let _ = write!(text, ", {} cop{s} in sync", copies.in_sync);
    }
    if primary.broker_clones > 0 {
        let _ = write!(text, ", {} clones of Broker", primary.broker_clones);
    }
    if primary.unkept > 0 {
        let _ = write!(text, ", {} changes wait for the disk", primary.unkept);
    }
    if primary.failures > 0 {
        let now = if primary.failing { ", failing now" } else { "" };
        let _ = write!(text, ", {} failures of the backend{now}", primary.failures);
    }
    if let Some(rival) = &primary.rival {
        let _ = write!(text, ", TWO PRIMARIES: {rival} has one as well");
    }
    text.push('\n');
}

fn gateway(node: &str, gateway: &GatewayStatus, text: &mut String) {
    let _ = writeln!(
        text,
        "{node}: {} WebSocket clients, {} events in, {} out, dropped: {}",
        gateway.clients.len(),
        gateway.events_in,
        gateway.events_out,
        causes(&gateway.dropped),
    );
}

fn bridge(node: &str, bridge: &BridgeStatus, text: &mut String) {
    let state = match (&bridge.last_error, bridge.connected) {
        (_, true) => "connected".to_owned(),
        (Some(error), false) => format!("not connected ({error})"),
        (None, false) => "not connected yet".to_owned(),
    };
    let _ = writeln!(
        text,
        "{node}: bridge to {}: {state}, {} events in, {} out, dropped: {}",
        bridge.server,
        bridge.events_in,
        bridge.events_out,
        causes(&bridge.dropped),
    );
}

/// Causes and numbers in words; a dash for none.
pub(crate) fn causes(dropped: &BTreeMap<String, u64>) -> String {
    if dropped.is_empty() {
        return "-".to_owned();
    }
    let parts: Vec<String> = dropped
        .iter()
        .map(|(cause, messages)| format!("{messages} {cause}"))
        .collect();
    parts.join(", ")
}

/// A time as day and time, UTC.
fn time_of_day(seconds: f64) -> String {
    let whole = Timestamp::from_secs_f64(seconds.floor());
    whole.to_string()
}

fn uptime(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds)
        .unwrap_or_default()
        .as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}
