//! The state of a node and of a cluster as it is reported and read by programs: version 1 of the schema.
//!
//! A node's monitor serves a [`NodePage`] as `/status`, `muster status --format json` prints a [`ClusterStatus`]. The types read
//! what they write; fields may be added within a version. [`NodeStatus::new`] makes the status from a node's report.

mod conversion;
mod coordinators;
mod store_groups;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use coordinators::{
    CoordinationStatus, CoordinatorStatus, CoordinatorsStatus, IN, LEADER, MemberStatus, NO_PART,
    OUT, WAITING,
};
pub use store_groups::{
    COMPLETE, COORDINATORS, LackStatus, SHORT, STORE, StoreCopyStatus, StoreCounts,
    StoreGroupStatus, StoresStatus,
};

/// The version of everything that is printed as JSON.
pub const VERSION: u32 = 1;

/// The state of a node whose process runs but has not reported for [`SILENT_AFTER`].
pub const SILENT: &str = "silent";

/// The word for a process that ended because its node cannot be configured, and is not started again.
pub const FAILED: &str = "failed";

/// The exit code of a node that cannot be configured: trying again would be of no use. The `EX_CONFIG` of `sysexits.h`, as
/// systemd knows it.
pub const MISCONFIGURED: u8 = 78;

/// The word for a node that is on another machine.
pub const ELSEWHERE: &str = "elsewhere";

/// The age at which a report says nothing of the present any more.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);

/// What one life of a node reports of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeStatus {
    /// The life that reports.
    pub id: String,
    /// starting, ready, degraded or stopping; silent if the node has not reported for too long, or
    /// hangs.
    pub state: String,
    /// How old the state was when it was reported: a loop that hangs reports none.
    #[serde(default)]
    pub age_seconds: f64,
    /// What the node's loop and the mesh count. The keys are those of
    /// [`Descriptor::key`](muster_wire::counters::Descriptor::key).
    pub counts: BTreeMap<String, u64>,
    /// What the loop counts by names from the network, the first 64 of them: `events_unhandled` by
    /// event, `identifier_updates` by variable.
    #[serde(default)]
    pub by_name: BTreeMap<String, BTreeMap<String, u64>>,
    /// What its frameworks count, as `scan.notices`.
    pub frameworks: BTreeMap<String, u64>,
    /// Log records that wait for their batch.
    pub waiting_records: usize,
    /// What waits for the node's loop.
    pub inbox: QueueStatus,
    /// Messages that no peer subscribed to, by topic; node names and ids stand as `*`.
    pub unrouted: BTreeMap<String, u64>,
    /// Connections refused before they became peerings.
    #[serde(default)]
    pub connections_refused: u64,
    /// Messages dropped for subscribers of the endpoint, the node's loop among them, by cause.
    #[serde(default)]
    pub subscribers_dropped: BTreeMap<String, u64>,
    /// How far its input has been read, if it has one.
    pub input: Option<InputStatus>,
    /// Its peers, present and past.
    pub peers: Vec<PeerStatus>,
    /// The stores that are open on the node, by name.
    #[serde(default)]
    pub stores: Vec<StoreStatus>,
    /// What it fails at, at present.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<TroubleStatus>,
    /// The nodes that this one has no link with although the layout asks for it, and that are up: they
    /// are reached through others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detours: Vec<String>,
    /// What it has of its cluster's coordinators, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordination: Option<CoordinationStatus>,
    /// Of several managers, whether this is the one that hears the manager's topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_manager: Option<bool>,
    /// Where the node serves its metrics and status.
    #[serde(default)]
    pub monitor: Option<String>,
    /// Its gateway for WebSocket clients, if it has one.
    #[serde(default)]
    pub gateway: Option<GatewayStatus>,
    /// Its bridge to a WebSocket server, if it has one.
    #[serde(default)]
    pub bridge: Option<BridgeStatus>,
}

/// Something that a node fails at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TroubleStatus {
    /// log, store, layout or others.
    pub kind: String,
    /// What it is, as `log conn`.
    pub what: String,
    /// What went wrong the last time.
    pub text: String,
    /// How often it went wrong; for a log, the number of records that were lost.
    pub count: u64,
    /// When it began, in seconds since 1970.
    pub since: f64,
}

/// A node's gateway for WebSocket clients.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GatewayStatus {
    /// Clients that were connected so far.
    pub accepted: u64,
    /// Connections that were turned away.
    pub turned_away: u64,
    /// Events that clients published.
    pub events_in: u64,
    /// Events given to clients: one for each that got it.
    pub events_out: u64,
    /// Messages of clients that were answered with an error.
    pub refused: u64,
    /// Messages dropped because clients or the gateway did not keep up, by cause.
    pub dropped: BTreeMap<String, u64>,
    /// The clients that are connected.
    pub clients: Vec<ClientStatus>,
}

/// A WebSocket client.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClientStatus {
    /// The number of the client, from 0.
    pub number: u64,
    /// Its address.
    pub address: String,
    /// Whose token it showed.
    pub grant: String,
    /// What it calls itself.
    pub application: Option<String>,
    /// Events that it published.
    pub events_in: u64,
    /// Events that it was given.
    pub events_out: u64,
    /// Messages that wait for it.
    pub queued: usize,
}

/// A node's bridge to a WebSocket server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BridgeStatus {
    /// The server's address.
    #[serde(default)]
    pub server: String,
    /// Whether the server is connected.
    pub connected: bool,
    /// Connections that came about.
    pub connections: u64,
    /// Events that came in.
    pub events_in: u64,
    /// Events that went out.
    pub events_out: u64,
    /// Errors that the server answered with.
    pub errors: u64,
    /// Messages dropped because the server was away or did not keep up, by cause.
    pub dropped: BTreeMap<String, u64>,
    /// Why the last connection failed or ended.
    pub last_error: Option<String>,
}

/// A bounded queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueueStatus {
    /// Messages that wait.
    pub messages: usize,
    /// Messages dropped, by cause.
    pub dropped: BTreeMap<String, u64>,
}

/// A node's input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InputStatus {
    /// Whether it has ended.
    pub ended: bool,
    /// The event time up to which it has been read, in seconds since 1970.
    pub low: Option<f64>,
}

/// A peering, present or past.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeerStatus {
    /// The node's name, if it said hello.
    pub node: Option<String>,
    /// Its endpoint id.
    pub id: String,
    /// Its address.
    pub address: String,
    /// What its connection runs over: "tcp" or "unix"; empty in reports of older programs.
    #[serde(default)]
    pub transport: String,
    /// Whether the peering stands.
    pub connected: bool,
    /// Messages received, refused ones included.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes of message frames that were sent.
    pub bytes_out: u64,
    /// Messages of the peer that were refused.
    pub refused_in: u64,
    /// What waits to be sent to it.
    pub queue: QueueStatus,
    /// The memory that the waiting messages keep alive.
    pub queue_bytes: usize,
}

/// A store on a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoreStatus {
    /// Its name.
    pub store: String,
    /// The entries that are here.
    pub entries: usize,
    /// The memory that they take, in bytes, roughly.
    pub bytes: usize,
    /// Set if the master is here.
    pub master: Option<MasterStatus>,
    /// Set if a clone is here.
    pub clone: Option<CloneStatus>,
    /// Set if a copy is here that is not the master's.
    #[serde(default)]
    pub copy: Option<CopyStatus>,
}

/// A store's master.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MasterStatus {
    /// memory, sqlite, or what keeps the state otherwise.
    pub backend: String,
    /// Writers on other nodes that it remembers.
    pub writers: usize,
    /// Clones of Broker's protocol that it serves.
    pub broker_clones: usize,
    /// Changes that wait for the backend.
    pub unkept: usize,
    /// How often the backend has failed.
    pub failures: u64,
    /// Whether it failed the last time.
    pub failing: bool,
    /// The endpoint that has a master of the same store, too.
    pub rival: Option<String>,
    /// Set if coordinators decide which nodes have copies.
    #[serde(default)]
    pub copies: Option<CopiesStatus>,
}

/// The copies of a store, as one of them sees them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CopiesStatus {
    /// The number of the last decision of the coordinators that is known here.
    pub epoch: u64,
    /// The copies that have everything.
    pub in_sync: usize,
    /// With fewer of them nothing is written.
    pub min_copies: usize,
    /// Entries that not all of them are known to have.
    pub waiting: u64,
    /// The other copies, at the master.
    pub others: Vec<OtherCopyStatus>,
}

/// Another copy, as the master sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OtherCopyStatus {
    /// Its endpoint.
    pub endpoint: String,
    /// Whether it has everything.
    pub in_sync: bool,
    /// Whether it follows.
    pub attached: bool,
    /// Entries that it does not have in memory.
    pub lag: u64,
    /// Entries that it does not have on disk, if the store is persistent.
    pub disk_lag: Option<u64>,
}

/// A copy of a store that is not the master's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CopyStatus {
    /// The endpoint of the master, if there is one.
    pub master: Option<String>,
    /// standby if it has everything and may become the master, joining if it is to.
    pub role: String,
    /// unattached, fresh or stale.
    pub state: String,
    /// memory, sqlite, or what keeps it otherwise.
    pub backend: String,
    /// Changes that wait for the backend.
    pub unkept: usize,
    /// How often the backend has failed.
    pub failures: u64,
    /// Whether it failed the last time.
    pub failing: bool,
    /// Writes of the node that wait for the master.
    pub unsettled: usize,
    /// The copies.
    pub copies: CopiesStatus,
}

/// A store's clone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CloneStatus {
    /// The endpoint of its master, if it knows one.
    pub master: Option<String>,
    /// unattached, fresh or stale.
    pub state: String,
    /// Changes that it has been told of and is missing.
    pub missing: u64,
    /// Writes of the node that wait for the master.
    pub unsettled: usize,
}

/// What a node's monitor serves as `/status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodePage {
    /// [`VERSION`].
    pub version: u32,
    /// The node's name.
    pub node: String,
    /// Its role.
    pub role: String,
    /// What it reports.
    #[serde(flatten)]
    pub status: NodeStatus,
}

/// A node's process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProcessStatus {
    /// The node's name.
    pub node: String,
    /// Its role.
    pub role: String,
    /// Its box, if the cluster has several.
    #[serde(default, rename = "box", skip_serializing_if = "Option::is_none")]
    pub box_name: Option<String>,
    /// running, waiting, failing (it ends again and again), held, stopping, ended, failed (it cannot be configured), elsewhere (it is on another machine) or
    /// unknown (the agent of its box does not answer).
    pub process: String,
    /// Its process id, while it runs.
    pub pid: Option<u32>,
    /// How long it has run, while it runs.
    pub uptime_seconds: Option<f64>,
    /// How often it was started again.
    pub restarts: u32,
    /// Whether another program is on disk by now than the one that it runs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub outdated: bool,
    /// Why its last process ended, unless it was asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What its present or last life reported last.
    pub report: Option<NodeStatus>,
    /// How old what it says is, while the process runs.
    #[serde(default)]
    pub report_age_seconds: Option<f64>,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// The agent of a box.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AgentStatus {
    /// Its process id.
    pub pid: u32,
    /// The version of its program.
    pub version: String,
    /// When it started, or replaced its program, in seconds since 1970.
    pub started: f64,
    /// How many days the certificate of the box is still valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_days: Option<f64>,
    /// Its clock when it answered, in seconds since 1970.
    #[serde(default)]
    pub time: f64,
    /// How many files its nodes may have open, each.
    #[serde(default)]
    pub open_files_limit: u64,
    /// The file systems that its nodes write to.
    #[serde(default)]
    pub disks: Vec<DiskStatus>,
    /// Its archive of log files, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveStatus>,
    /// Whether another program is on disk by now than the one that it runs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub outdated: bool,
    /// Its place in the mesh of the cluster, if it is a box of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<AgentMeshStatus>,
}

/// The place of a box's agent in the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AgentMeshStatus {
    /// The id of its endpoint.
    pub id: String,
    /// With whom it is linked, and with whom it should be.
    pub links: Vec<AgentLink>,
    /// How many other endpoints it reaches.
    pub in_reach: usize,
    /// Why it is not all that it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A link of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AgentLink {
    /// The name of the other side.
    pub peer: String,
    /// Whether it stands.
    pub connected: bool,
}

/// The archive of a box's log files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ArchiveStatus {
    /// Rotated files that wait to be archived.
    pub waiting_files: u64,
    /// The files in it.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Files that wait to be shipped.
    pub unshipped_files: u64,
    /// Why none was shipped the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ship_failure: Option<String>,
    /// What is wrong besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A file system that a box's nodes write to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiskStatus {
    /// The directory that is on it.
    pub directory: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// What is left for nodes, in bytes.
    pub available_bytes: u64,
}

/// The word for a node of a box whose agent does not answer.
pub const UNKNOWN: &str = "unknown";

/// The word for a box whose agent answers.
pub const UP: &str = "up";

/// The word for a box whose agent does not answer.
pub const GONE: &str = "gone";

/// The state of a node whose agent does not answer, and whom its peers see.
pub const CONNECTED: &str = "connected";

/// A box of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BoxStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// [`UP`], or [`GONE`] if its agent does not answer.
    pub agent: String,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The agent, if it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<AgentStatus>,
    /// How far its clock is ahead of that of the box that was asked, in seconds; half the time of the answer is added to what
    /// is certain of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_seconds: Option<f64>,
}

/// A cluster, as far as the agent that was asked knows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClusterStatus {
    /// [`VERSION`].
    pub version: u32,
    /// The layout's file.
    pub layout: String,
    /// The cluster's name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The agent that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    /// The boxes of the cluster, if it has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<BoxStatus>,
    /// Its nodes, in the layout's order.
    pub nodes: Vec<ProcessStatus>,
    /// Its coordinators, if it has several boxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinators: Option<CoordinatorsStatus>,
}

impl NodeStatus {
    /// Returns the age of the state, if the report with it came so long ago.
    pub fn age_after(&self, came: Duration) -> Duration {
        let before = Duration::try_from_secs_f64(self.age_seconds).unwrap_or_default();
        came.saturating_add(before)
    }

    /// Returns one of [`NodeStatus::counts`], or 0.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// Returns a count of this name, summed over frameworks.
    pub fn of_frameworks(&self, name: &str) -> u64 {
        let suffix = format!(".{name}");
        self.frameworks
            .iter()
            .filter(|(key, _)| key.ends_with(&suffix))
            .map(|(_, value)| value)
            .sum()
    }
}

impl ClusterStatus {
    /// Returns the managers that take themselves for the active one: one, if all is well. `None` if the layout has one manager, or none
    /// reports.
    pub fn active_managers(&self) -> Option<Vec<&str>> {
        let nodes = self.nodes.iter().filter(|node| node.pid.is_some());
        let known = nodes.filter_map(|node| {
            let is_active = node.report.as_ref()?.active_manager?;
            Some((node.node.as_str(), is_active))
        });
        let known: Vec<(&str, bool)> = known.collect();
        let active = known.iter().filter(|(_, is_active)| *is_active);
        (!known.is_empty()).then(|| active.map(|(name, _)| *name).collect())
    }

    /// Returns whether every box answers, and every node of theirs runs, has just reported, and sees all the nodes that it
    /// works with. Nodes of machines without an agent are left out.
    pub fn all_ready(&self) -> bool {
        if self.boxes.iter().any(|known| known.agent == GONE) {
            return false;
        }
        let mut here = self.nodes.iter().filter(|node| node.process != ELSEWHERE);
        here.all(ProcessStatus::is_ready)
    }

    /// Returns whether its coordinators decide, or none are known.
    pub fn decides(&self) -> bool {
        let coordinators = self.coordinators.as_ref();
        coordinators.is_none_or(CoordinatorsStatus::decides)
    }
}

impl ProcessStatus {
    /// Returns whether it runs, has just reported, and sees all the nodes that it works with.
    pub fn is_ready(&self) -> bool {
        let fresh = |age| age <= SILENT_AFTER.as_secs_f64();
        self.process == "running"
            && self.report_age_seconds.is_some_and(fresh)
            && self
                .report
                .as_ref()
                .is_some_and(|report| report.state == "ready")
    }
}

impl NodeStatus {
    /// Returns everything that this node dropped, by cause.
    pub fn dropped(&self) -> BTreeMap<String, u64> {
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
