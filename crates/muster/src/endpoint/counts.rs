//! Reports of an endpoint's peers and queues.

use muster_wire::counters::DropLedger;

use super::Endpoint;
use super::peer_queue::{PeerCounts, PeerQueue};
use super::status::PeerInfo;

/// What crossed one peering, present or past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// The peer.
    pub peer: PeerInfo,
    /// Whether the peering stands.
    pub connected: bool,
    /// Messages handed to the connection.
    pub messages_out: u64,
    /// Bytes of message frames handed to the connection.
    pub bytes_out: u64,
    /// Messages received, refused ones included.
    pub messages_in: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Messages queued.
    pub queued: usize,
    /// Bytes that the queued messages keep alive.
    pub queued_bytes: usize,
    /// Messages for the peer that were dropped.
    pub dropped: DropLedger,
    /// Messages of the peer that were refused.
    pub refused: DropLedger,
}

/// The reports of all peers, and of the local subscribers together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointCounts {
    /// Present peers, then up to 64 former ones.
    pub peers: Vec<PeerReport>,
}

impl Endpoint {
    /// What crossed the peerings and what was dropped.
    pub fn counts(&self) -> EndpointCounts {
        let table = self.shared.table.load();
        let present = table
            .peers()
            .iter()
            .map(|entry| report(&entry.handle, true));
        let retired = self.shared.retired();
        let former = retired.iter().map(|queue| report(queue, false));
        EndpointCounts {
            peers: present.chain(former).collect(),
        }
    }
}

fn report(queue: &PeerQueue, connected: bool) -> PeerReport {
    let (queued, queued_bytes, dropped) = queue.depth();
    let counts = &queue.counts;
    PeerReport {
        peer: queue.info.clone(),
        connected,
        messages_out: PeerCounts::get(&counts.messages_out),
        bytes_out: PeerCounts::get(&counts.bytes_out),
        messages_in: PeerCounts::get(&counts.messages_in),
        bytes_in: PeerCounts::get(&counts.bytes_in),
        queued,
        queued_bytes,
        dropped,
        refused: queue.refused(),
    }
}
