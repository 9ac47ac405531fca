//! The state of a cluster as it is reported, printed and read by programs: version 1 of the schema.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use muster::store::{CloneReport, Freshness, PrimaryReport, StorePart, StoreReport};
use muster::wire::counters::DropLedger;
use muster::{NodeReport, PeerLine};
use muster_gateway::{BridgeCounts, ClientReport, GatewayCounts};
use serde::{Deserialize, Serialize};

/// The version of everything that is printed as JSON.
pub(crate) const VERSION: u32 = 1;

/// The state of a node whose process runs but has not reported for [`SILENT_AFTER`].
pub(crate) const SILENT: &str = "silent";

/// The age at which a report says nothing of the present any more.
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(2);

/// What one life of a node reports of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    /// The life that reports.
    pub(crate) id: String,
    /// starting, ready, degraded or stopping; silent if the node has not reported for too long, or
    /// hangs.
    pub(crate) state: String,
    /// How old the state was when it was reported: a loop that hangs reports none.
    #[serde(default)]
    pub(crate) age_seconds: f64,
    /// What the node's loop counts.
    pub(crate) counts: BTreeMap<String, u64>,
    /// What the loop counts by names from the network, the first 64 of them: `events_unhandled` by
    /// event, `identifier_updates` by variable.
    #[serde(default)]
    pub(crate) by_name: BTreeMap<String, BTreeMap<String, u64>>,
    /// What its frameworks count, as `scan.notices`.
    pub(crate) frameworks: BTreeMap<String, u64>,
    /// Log records that wait for their batch.
    pub(crate) waiting_records: usize,
    pub(crate) inbox: QueueStatus,
    /// Messages that no peer subscribed to, by topic; node names and ids stand as `*`.
    pub(crate) unrouted: BTreeMap<String, u64>,
    /// Connections refused before they became peerings.
    #[serde(default)]
    pub(crate) connections_refused: u64,
    /// Messages dropped for subscribers of the endpoint, the node's loop among them, by cause.
    #[serde(default)]
    pub(crate) subscribers_dropped: BTreeMap<String, u64>,
    pub(crate) input: Option<InputStatus>,
    pub(crate) peers: Vec<PeerStatus>,
    /// The stores that are open on the node, by name.
    #[serde(default)]
    pub(crate) stores: Vec<StoreStatus>,
    /// The nodes that this one has no link with although the layout asks for it, and that are up: they
    /// are reached through others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) detours: Vec<String>,
    /// Where the node serves its metrics and status.
    #[serde(default)]
    pub(crate) monitor: Option<String>,
    #[serde(default)]
    pub(crate) gateway: Option<GatewayStatus>,
    #[serde(default)]
    pub(crate) bridge: Option<BridgeStatus>,
}

/// A node's gateway for WebSocket clients.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GatewayStatus {
    pub(crate) accepted: u64,
    pub(crate) turned_away: u64,
    pub(crate) events_in: u64,
    pub(crate) events_out: u64,
    /// Messages of clients that were answered with an error.
    pub(crate) refused: u64,
    /// Messages dropped because clients or the gateway did not keep up, by cause.
    pub(crate) dropped: BTreeMap<String, u64>,
    pub(crate) clients: Vec<ClientStatus>,
}

/// A WebSocket client.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClientStatus {
    pub(crate) number: u64,
    pub(crate) address: String,
    /// Whose token it showed.
    pub(crate) grant: String,
    pub(crate) application: Option<String>,
    pub(crate) events_in: u64,
    pub(crate) events_out: u64,
    pub(crate) queued: usize,
}

/// A node's bridge to a WebSocket server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct BridgeStatus {
    #[serde(default)]
    pub(crate) server: String,
    pub(crate) connected: bool,
    pub(crate) connections: u64,
    pub(crate) events_in: u64,
    pub(crate) events_out: u64,
    /// Errors that the server answered with.
    pub(crate) errors: u64,
    pub(crate) dropped: BTreeMap<String, u64>,
    pub(crate) last_error: Option<String>,
}

/// A bounded queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct QueueStatus {
    pub(crate) messages: usize,
    /// Messages dropped, by cause.
    pub(crate) dropped: BTreeMap<String, u64>,
}

/// A node's input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct InputStatus {
    pub(crate) ended: bool,
    /// The event time up to which it has been read, in seconds since 1970.
    pub(crate) low: Option<f64>,
}

/// A peering, present or past.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerStatus {
    /// The node's name, if it said hello.
    pub(crate) node: Option<String>,
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) connected: bool,
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) refused_in: u64,
    pub(crate) queue: QueueStatus,
    pub(crate) queue_bytes: usize,
}

/// A store on a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoreStatus {
    pub(crate) store: String,
    pub(crate) entries: usize,
    /// The memory that they take, roughly.
    pub(crate) bytes: usize,
    /// Set if the master is here.
    pub(crate) master: Option<MasterStatus>,
    /// Set if a clone is here.
    pub(crate) clone: Option<CloneStatus>,
}

/// A store's master.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MasterStatus {
    /// memory, sqlite, or what keeps the state otherwise.
    pub(crate) backend: String,
    /// Writers on other nodes that it remembers.
    pub(crate) writers: usize,
    pub(crate) broker_clones: usize,
    /// Changes that wait for the backend.
    pub(crate) unkept: usize,
    /// How often the backend has failed.
    pub(crate) failures: u64,
    /// Whether it failed the last time.
    pub(crate) failing: bool,
    /// The endpoint that has a master of the same store, too.
    pub(crate) rival: Option<String>,
}

/// A store's clone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CloneStatus {
    /// The endpoint of its master, if it knows one.
    pub(crate) master: Option<String>,
    /// unattached, fresh or stale.
    pub(crate) state: String,
    /// Changes that it knows of and lacks.
    pub(crate) missing: u64,
    /// Writes of the node that wait for the master.
    pub(crate) unsettled: usize,
}

/// What a node's monitor serves as `/status`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NodePage {
    pub(crate) version: u32,
    pub(crate) node: String,
    pub(crate) role: String,
    #[serde(flatten)]
    pub(crate) status: NodeStatus,
}

/// A node's process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessStatus {
    pub(crate) node: String,
    pub(crate) role: String,
    /// running, waiting, held, stopping or ended.
    pub(crate) process: String,
    pub(crate) pid: Option<u32>,
    pub(crate) uptime_seconds: Option<f64>,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// What its present or last life reported last.
    pub(crate) report: Option<NodeStatus>,
    /// How old what it says is, while the process runs.
    #[serde(default)]
    pub(crate) report_age_seconds: Option<f64>,
}

/// A cluster on this machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClusterStatus {
    pub(crate) version: u32,
    pub(crate) layout: String,
    pub(crate) nodes: Vec<ProcessStatus>,
}

impl NodeStatus {
    pub(crate) fn new(report: &NodeReport) -> Self {
        let mut counts = BTreeMap::new();
        let mut frameworks = BTreeMap::new();
        let mut by_name: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        let mesh = report.mesh.iter();
        for counter in mesh.filter(|counter| counter.labels.is_empty()) {
            counts.insert(counter.name.to_owned(), counter.value);
        }
        for counter in report.counts.counters() {
            let name = counter.name.to_owned();
            match counter.labels.first() {
                None => counts.insert(name, counter.value),
                Some(("framework", framework)) => {
                    frameworks.insert(format!("{framework}.{name}"), counter.value)
                }
                Some((_, what)) => by_name
                    .entry(name)
                    .or_default()
                    .insert(what.clone(), counter.value),
            };
        }
        Self {
            id: report.id.to_string(),
            state: report.state.name().to_owned(),
            age_seconds: report.age.as_secs_f64(),
            counts,
            by_name,
            frameworks,
            waiting_records: report.waiting_records,
            inbox: QueueStatus {
                messages: report.inbox,
                dropped: by_cause(&report.inbox_dropped),
            },
            unrouted: report
                .unrouted
                .entries()
                .map(|(_, topic, messages)| (topic.to_owned(), messages))
                .collect(),
            connections_refused: report.connections_refused,
            subscribers_dropped: by_cause(&report.subscribers_dropped),
            input: report.input_ended.map(|ended| InputStatus {
                ended,
                low: report
                    .input_low
                    .map(|nanos| Duration::from_nanos(nanos.unsigned_abs()).as_secs_f64()),
            }),
            peers: report.peers.iter().map(PeerStatus::new).collect(),
            stores: report.stores.iter().map(StoreStatus::new).collect(),
            detours: report.detours.clone(),
            monitor: None,
            gateway: None,
            bridge: None,
        }
    }

    /// How old the state is, with a report that came so long ago.
    pub(crate) fn age_after(&self, came: Duration) -> Duration {
        let before = Duration::try_from_secs_f64(self.age_seconds).unwrap_or_default();
        came.saturating_add(before)
    }

    /// One of the loop's counts.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// A count of the frameworks, summed.
    pub(crate) fn of_frameworks(&self, name: &str) -> u64 {
        let suffix = format!(".{name}");
        self.frameworks
            .iter()
            .filter(|(key, _)| key.ends_with(&suffix))
            .map(|(_, value)| value)
            .sum()
    }
}

impl GatewayStatus {
    pub(crate) fn new(counts: &GatewayCounts) -> Self {
        let mut dropped = counts.dropped.clone();
        dropped.merge(&counts.inbox_dropped);
        let client = |client: &ClientReport| ClientStatus {
            number: client.number,
            address: client.address.to_string(),
            grant: client.grant.clone(),
            application: client.application.clone(),
            events_in: client.events_in,
            events_out: client.events_out,
            queued: client.queued.0,
        };
        Self {
            accepted: counts.accepted,
            turned_away: counts.turned_away,
            events_in: counts.events_in,
            events_out: counts.events_out,
            refused: counts.refused,
            dropped: by_cause(&dropped),
            clients: counts.clients.iter().map(client).collect(),
        }
    }
}

impl BridgeStatus {
    pub(crate) fn new(counts: &BridgeCounts) -> Self {
        Self {
            server: counts.server.clone(),
            connected: counts.connected,
            connections: counts.connections,
            events_in: counts.events_in,
            events_out: counts.events_out,
            errors: counts.errors,
            dropped: by_cause(&counts.dropped),
            last_error: counts.last_error.clone(),
        }
    }
}

impl StoreStatus {
    fn new(report: &StoreReport) -> Self {
        let (master, clone) = match &report.part {
            StorePart::Primary(master) => (Some(MasterStatus::new(master)), None),
            StorePart::Clone(clone) => (None, Some(CloneStatus::new(clone))),
            _ => (None, None),
        };
        Self {
            store: report.name.to_string(),
            entries: report.entries,
            bytes: report.bytes,
            master,
            clone,
        }
    }
}

impl MasterStatus {
    fn new(report: &PrimaryReport) -> Self {
        Self {
            backend: report.backend.to_owned(),
            writers: report.writers,
            broker_clones: report.broker_clones,
            unkept: report.pending_commits,
            failures: report.failures,
            failing: report.is_failing,
            rival: report.rival.map(|id| id.to_string()),
        }
    }
}

impl CloneStatus {
    fn new(report: &CloneReport) -> Self {
        let state = match report.freshness {
            Freshness::Unattached => "unattached",
            Freshness::Fresh => "fresh",
            Freshness::Stale => "stale",
        };
        Self {
            master: report.primary.map(|id| id.to_string()),
            state: state.to_owned(),
            missing: report.missing,
            unsettled: report.unsettled,
        }
    }
}

impl PeerStatus {
    fn new(line: &PeerLine) -> Self {
        let report = &line.report;
        Self {
            node: line.node.clone(),
            id: report.peer.id.to_string(),
            address: report.peer.address.clone(),
            connected: report.connected,
            messages_in: report.messages_in,
            messages_out: report.messages_out,
            bytes_in: report.bytes_in,
            bytes_out: report.bytes_out,
            refused_in: report.refused.total(),
            queue: QueueStatus {
                messages: report.queued,
                dropped: by_cause(&report.dropped),
            },
            queue_bytes: report.queued_bytes,
        }
    }
}

impl ClusterStatus {
    /// Whether every node runs, has just reported, and sees all the nodes that it works with.
    pub(crate) fn all_ready(&self) -> bool {
        let ready = |node: &ProcessStatus| {
            let fresh = |age| age <= SILENT_AFTER.as_secs_f64();
            node.process == "running"
                && node.report_age_seconds.is_some_and(fresh)
                && node
                    .report
                    .as_ref()
                    .is_some_and(|report| report.state == "ready")
        };
        self.nodes.iter().all(ready)
    }

    /// The status as a table.
    pub(crate) fn text(&self) -> String {
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
        for node in &self.nodes {
            let report = node.report.clone().unwrap_or_default();
            // What a process that is gone said last of its state is no longer true; its counts are.
            let alive = node.pid.is_some();
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
                if alive && !report.state.is_empty() {
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
        for node in self.nodes.iter().filter(|node| node.pid.is_some()) {
            node.gates(&mut text);
        }
        text
    }
}

impl ProcessStatus {
    /// Lines about what the node has to do with besides its peers.
    fn gates(&self, text: &mut String) {
        let Some(report) = &self.report else {
            return;
        };
        if !report.detours.is_empty() {
            let names = report.detours.join(", ");
            let _ = writeln!(
                text,
                "{}: no link with {names}, reached through other nodes",
                self.node
            );
        }
        self.stores(report, text);
        if let Some(gateway) = &report.gateway {
            let _ = writeln!(
                text,
                "{}: {} WebSocket clients, {} events in, {} out, dropped: {}",
                self.node,
                gateway.clients.len(),
                gateway.events_in,
                gateway.events_out,
                causes(&gateway.dropped),
            );
        }
        if let Some(bridge) = &report.bridge {
            let state = match (&bridge.last_error, bridge.connected) {
                (_, true) => "connected".to_owned(),
                (Some(error), false) => format!("not connected ({error})"),
                (None, false) => "not connected yet".to_owned(),
            };
            let _ = writeln!(
                text,
                "{}: bridge to {} {state}, {} events in, {} out, dropped: {}",
                self.node,
                bridge.server,
                bridge.events_in,
                bridge.events_out,
                causes(&bridge.dropped),
            );
        }
    }
}

impl ProcessStatus {
    /// A line for each store whose master is here, and one for the clones that are not up to date.
    fn stores(&self, report: &NodeStatus, text: &mut String) {
        for store in &report.stores {
            let Some(master) = &store.master else {
                continue;
            };
            let _ = write!(
                text,
                "{}: store {}, {}: {} entries, {} KiB, {} writers",
                self.node,
                store.store,
                master.backend,
                store.entries,
                store.bytes.div_ceil(1024),
                master.writers,
            );
            if master.broker_clones > 0 {
                let _ = write!(text, ", {} clones of Broker", master.broker_clones);
            }
            if master.unkept > 0 {
                let _ = write!(text, ", {} changes wait for the disk", master.unkept);
            }
            if master.failures > 0 {
                let now = if master.failing { ", failing now" } else { "" };
                let _ = write!(text, ", {} failures of the backend{now}", master.failures);
            }
            if let Some(rival) = &master.rival {
                let _ = write!(text, ", TWO MASTERS: {rival} has one, too");
            }
            text.push('\n');
        }
        let behind: Vec<String> = report
            .stores
            .iter()
            .filter_map(|store| {
                let clone = store.clone.as_ref()?;
                (clone.state != "fresh").then(|| format!("{} {}", store.store, clone.state))
            })
            .collect();
        if !behind.is_empty() {
            let _ = writeln!(text, "{}: clones: {}", self.node, behind.join(", "));
        }
    }
}

impl NodeStatus {
    /// Everything dropped by this node, by cause.
    pub(crate) fn dropped(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        let queues = self
            .peers
            .iter()
            .map(|peer| &peer.queue)
            .chain([&self.inbox]);
        for (cause, messages) in queues.flat_map(|queue| &queue.dropped) {
            *sums.entry(cause.clone()).or_default() += messages;
        }
        let unrouted: u64 = self.unrouted.values().sum();
        if unrouted > 0 {
            sums.insert("no_subscriber".to_owned(), unrouted);
        }
        sums
    }
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

fn by_cause(ledger: &DropLedger) -> BTreeMap<String, u64> {
    ledger
        .by_cause()
        .into_iter()
        .map(|(cause, messages)| (cause.name().to_owned(), messages))
        .collect()
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
