//! How a node tells others about its peers.

use std::collections::BTreeMap;

use muster_cluster::node::NodeLoop;
use muster_data::Record;
use muster_wire::EndpointId;
use muster_wire::peering::Protocol;

use crate::endpoint::{EndpointCounts, PeerOrigin};

/// Asks a node for its peers; published to the node's id topic. The answer goes to
/// `muster/peers/<id of the asker>/`.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::peers_request")]
pub struct PeersRequest {}

/// A node's peers.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::peers")]
pub struct PeersReply {
    /// The node that answers.
    pub node: String,
    /// Its present peers.
    pub peers: Vec<PeerDescription>,
    /// Its state: starting, ready, degraded or stopping. Older programs do not say it.
    pub state: Option<String>,
    /// The number of the layout's other nodes that it has not seen yet. Older programs do not say it.
    pub unseen: Option<u64>,
}

/// One peer of a node.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::peer")]
pub struct PeerDescription {
    /// The peer's name, if it is a node.
    pub node: Option<String>,
    /// Its endpoint id.
    pub id: String,
    /// Its address.
    pub address: String,
    /// Whether the answering node made the connection.
    pub dialled: bool,
    /// The version of the protocol that is spoken with it: 1 with Zeek, 2 within a mesh.
    pub protocol: u64,
    /// Messages received from it.
    pub messages_in: u64,
    /// Messages handed to its connection.
    pub messages_out: u64,
    /// Messages that wait for it.
    pub queued: u64,
    /// Messages for it that were dropped.
    pub dropped: u64,
    /// What its connection runs over: "tcp" or "unix". Older programs do not say it.
    pub transport: Option<String>,
}

impl PeersReply {
    pub(crate) fn new(node: &NodeLoop, counts: &EndpointCounts) -> Self {
        let description = Self::of_peers(counts, node.names());
        Self {
            node: node.name().to_string(),
            state: Some(node.state().name().to_owned()),
            unseen: Some(node.unseen() as u64),
            ..description
        }
    }

    fn of_peers(counts: &EndpointCounts, names: &BTreeMap<EndpointId, String>) -> Self {
        let present = counts.peers.iter().filter(|report| report.connected);
        let peers = present.map(|report| PeerDescription {
            node: names.get(&report.peer.id).cloned(),
            id: report.peer.id.to_string(),
            address: report.peer.address.clone(),
            dialled: report.peer.origin == PeerOrigin::Dialled,
            protocol: match report.peer.protocol {
                Protocol::V1 => 1,
                Protocol::V2 => 2,
            },
            messages_in: report.messages_in,
            messages_out: report.messages_out,
            queued: report.queued as u64,
            dropped: report.dropped.total(),
            transport: Some(report.peer.transport.name().to_owned()),
        });
        Self {
            node: String::new(),
            peers: peers.collect(),
            state: None,
            unseen: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_wire::counters::DropLedger;

    use super::*;
    use crate::endpoint::{Compressed, PeerInfo, PeerReport, Transport};

    #[test]
    fn a_peer_is_described_with_the_protocol_that_it_speaks() {
        for (protocol, number) in [(Protocol::V1, 1), (Protocol::V2, 2)] {
            let report = PeerReport {
                peer: PeerInfo {
                    id: EndpointId::from_random([1; 16]),
                    address: String::new(),
                    origin: PeerOrigin::Dialled,
                    transport: Transport::Unix,
                    protocol,
                },
                connected: true,
                messages_out: 0,
                bytes_out: 0,
                messages_in: 0,
                bytes_in: 0,
                compressed_out: Compressed::default(),
                compressed_in: Compressed::default(),
                queued: 0,
                queued_bytes: 0,
                dropped: DropLedger::default(),
                refused: DropLedger::default(),
                credit_waits: 0,
            };
            let counts = EndpointCounts {
                peers: vec![report],
                ..EndpointCounts::default()
            };
            let reply = PeersReply::of_peers(&counts, &BTreeMap::new());
            assert_eq!(reply.peers[0].protocol, number);
            assert_eq!(reply.peers[0].transport.as_deref(), Some("unix"));
        }
    }

    #[test]
    fn the_loop_listens_for_the_question_that_is_asked() {
        assert_eq!(PeersRequest::NAME, muster_cluster::node::PEERS_REQUEST);
    }
}
