//! What a node reports about itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_cluster::node::{CoordinationReport, NodeCounts, NodeState, Trouble};
use muster_store::StoreBudgetReport;
use muster_wire::EndpointId;
use muster_wire::counters::{Counter, DropLedger};

use crate::endpoint::{EndpointCounts, PeerReport};
use crate::store::StoreReport;

/// What a node's loop says of itself, a few times a second.
#[derive(Debug, Clone)]
pub(crate) struct LoopReport {
    pub(crate) state: NodeState,
    pub(crate) counts: NodeCounts,
    pub(crate) waiting_records: usize,
    pub(crate) inbox: usize,
    pub(crate) inbox_dropped: DropLedger,
    pub(crate) unrouted: DropLedger,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) detours: Vec<String>,
    pub(crate) coordination: Option<CoordinationReport>,
    pub(crate) active_manager: Option<bool>,
    pub(crate) input_ended: Option<bool>,
    pub(crate) input_low: Option<i64>,
    pub(crate) names: BTreeMap<EndpointId, String>,
    pub(crate) store_memory: StoreBudgetReport,
    pub(crate) made: Instant,
}

/// What a node counts and sees.
#[derive(Debug, Clone, Default)]
pub struct NodeReport {
    /// The endpoint id of the node's life that reports.
    pub id: EndpointId,
    /// The node's state.
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
    /// What the node fails at, at present.
    pub troubles: Vec<Trouble>,
    /// The nodes that this one is linked with by the layout and that are up, but reached only through
    /// others at present.
    pub detours: Vec<String>,
    /// What the node has of its coordinators, if its layout has any.
    pub coordination: Option<CoordinationReport>,
    /// Whether the node is the one that hears the manager's topic; `None` if it is not one of several managers.
    pub active_manager: Option<bool>,
    /// Whether the inputs have ended; `None` without inputs.
    pub input_ended: Option<bool>,
    /// The event time up to which the inputs have been read, in nanoseconds since 1970.
    pub input_low: Option<i64>,
    /// How long ago the node's loop made this report; a loop that hangs in a handler makes none.
    pub age: Duration,
    /// Connections that were refused before they became peerings.
    pub connections_refused: u64,
    /// Messages that were dropped for subscribers of the endpoint, the node's loop among them.
    pub subscribers_dropped: DropLedger,
    /// Messages that were published before the endpoint had joined its mesh, and dropped.
    pub joining_dropped: DropLedger,
    /// Messages that came from neighbours to be passed on, and for which no way led on from here.
    pub relay_dropped: DropLedger,
    /// What became of the mesh's messages and records in the endpoint.
    pub mesh: Vec<Counter>,
    /// The stores that are open on the endpoint, by name.
    pub stores: Vec<StoreReport>,
    /// What the stores of the node take together.
    pub store_memory: StoreBudgetReport,
    /// The peers, present and past.
    pub peers: Vec<PeerLine>,
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
    /// Puts together what the loop last said, if it has said anything yet, and what the endpoint counts now.
    pub(crate) fn new(
        id: EndpointId,
        said: Option<LoopReport>,
        endpoint: EndpointCounts,
        stores: Vec<StoreReport>,
    ) -> Self {
        let names = said.as_ref().map(|said| &said.names);
        let line = |report: PeerReport| PeerLine {
            node: names.and_then(|names| names.get(&report.peer.id).cloned()),
            report,
        };
        let report = Self {
            id,
            peers: endpoint.peers.into_iter().map(line).collect(),
            mesh: endpoint.mesh,
            connections_refused: endpoint.connections_refused,
            subscribers_dropped: endpoint.subscribers_dropped,
            joining_dropped: endpoint.joining_dropped,
            relay_dropped: endpoint.relay_dropped,
            stores,
            ..Self::default()
        };
        let Some(said) = said else {
            return report;
        };
        Self {
            state: said.state,
            age: said.made.elapsed(),
            counts: said.counts,
            waiting_records: said.waiting_records,
            inbox: said.inbox,
            inbox_dropped: said.inbox_dropped,
            unrouted: said.unrouted,
            troubles: said.troubles,
            detours: said.detours,
            coordination: said.coordination,
            active_manager: said.active_manager,
            store_memory: said.store_memory,
            input_ended: said.input_ended,
            input_low: said.input_low,
            ..report
        }
    }
}
