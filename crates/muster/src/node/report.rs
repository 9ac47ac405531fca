//! What a node tells of itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_cluster::node::NodeCounts;
use muster_wire::EndpointId;
use muster_wire::counters::{Counter, DropLedger};

use crate::endpoint::{EndpointCounts, PeerReport};
use crate::store::StoreReport;

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeState {
    /// It waits for the nodes that it is linked with.
    #[default]
    Starting,
    /// All the nodes that it is linked with are up, some of them perhaps reached only through others.
    Ready,
    /// It runs, but not all the nodes that it is linked with are up.
    Degraded,
    /// It drains and ends.
    Stopping,
}

impl NodeState {
    /// The state in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
        }
    }
}

/// What a node counts and sees.
#[derive(Debug, Clone, Default)]
pub struct NodeReport {
    /// The life that reports.
    pub id: EndpointId,
    /// Where it stands.
    pub state: NodeState,
    /// What its loop counts.
    pub counts: NodeCounts,
    /// Log records that wait for their batch.
    pub waiting_records: usize,
    /// Messages that wait for the loop.
    pub inbox: usize,
    /// Messages that were dropped because the loop did not keep up.
    pub inbox_dropped: DropLedger,
    /// Messages that were published while no peer subscribed to their topic.
    pub unrouted: DropLedger,
    /// The nodes that this one is linked with by the layout and that are up, but reached only through
    /// others at present.
    pub detours: Vec<String>,
    /// Whether the inputs have ended; `None` without inputs.
    pub input_ended: Option<bool>,
    /// The event time up to which the inputs have been read.
    pub input_low: Option<i64>,
    /// How long ago the node's loop made this report; a loop that hangs in a handler makes none.
    pub age: Duration,
    /// Connections that were refused before they became peerings.
    pub connections_refused: u64,
    /// Messages that were dropped for subscribers of the endpoint, the node's loop among them.
    pub subscribers_dropped: DropLedger,
    /// What became of the mesh's messages and records in the endpoint.
    pub mesh: Vec<Counter>,
    /// The stores that are open on the endpoint, by name.
    pub stores: Vec<StoreReport>,
    /// The peers, present and past.
    pub peers: Vec<PeerLine>,
    pub(crate) made: Option<Instant>,
    pub(crate) names: BTreeMap<EndpointId, String>,
}

/// One peering of a node.
#[derive(Debug, Clone)]
pub struct PeerLine {
    /// The node's name, if the peer said hello.
    pub node: Option<String>,
    /// What crossed the peering.
    pub report: PeerReport,
}

impl NodeReport {
    pub(crate) fn add_peers(&mut self, counts: &EndpointCounts) {
        let line = |report: &PeerReport| PeerLine {
            node: self.names.get(&report.peer.id).cloned(),
            report: report.clone(),
        };
        self.peers = counts.peers.iter().map(line).collect();
        self.mesh.clone_from(&counts.mesh);
        self.connections_refused = counts.connections_refused;
        self.subscribers_dropped = counts.subscribers_dropped.clone();
    }
}
