//! Reports of an endpoint's peers and queues.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use muster_wire::EndpointId;
use muster_wire::counters::{Counter, DropLedger};

use super::Endpoint;
use super::counters::mesh as counters;
use super::peer_session::{PeerCounts, PeerSession};
use super::shared::Table;
use super::status::PeerInfo;
use super::subscriber::lock_ledger;

/// What crossed one peering, present or past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// The peer.
    pub peer: PeerInfo,
    /// Whether the peering is up.
    pub connected: bool,
    /// Messages handed to the connection.
    pub messages_out: u64,
    /// Bytes of message frames handed to the connection.
    pub bytes_out: u64,
    /// Messages received, refused ones included.
    pub messages_in: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Of the bytes that were handed over, those of compressed frames.
    pub compressed_out: Compressed,
    /// Of the bytes that were received, those of compressed frames.
    pub compressed_in: Compressed,
    /// Messages queued.
    pub queued: usize,
    /// Bytes that the queued messages keep alive.
    pub queued_bytes: usize,
    /// Messages for the peer that were dropped.
    pub dropped: DropLedger,
    /// Messages of the peer that were refused.
    pub refused: DropLedger,
    /// How often a class of traffic waited because the peer had granted no more credit.
    pub credit_waits: u64,
}

/// The traffic of a peering in compressed frames, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compressed {
    /// The bytes of the compressed frames.
    pub bytes: u64,
    /// The bytes of these frames without compression.
    pub original: u64,
}

impl Compressed {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.original += other.original;
    }
}

/// How full a queue is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Messages queued.
    pub messages: usize,
    /// Bytes that they keep alive.
    pub bytes: usize,
    /// What was dropped, by cause and topic.
    pub dropped: DropLedger,
}

/// The reports of all peers, and of the local subscribers together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointCounts {
    /// Present peers, then former ones, where each endpoint id has one report for all its former peerings. If there
    /// are very many former peers, the oldest share one last report with the nil id.
    pub peers: Vec<PeerReport>,
    /// Messages for local subscribers, present and former, that were dropped.
    pub subscribers_dropped: DropLedger,
    /// Messages that were published before the endpoint had joined its mesh, and dropped.
    pub joining_dropped: DropLedger,
    /// Messages that came from neighbours to be passed on, and for which no way led on from here.
    pub relay_dropped: DropLedger,
    /// Connections that were accepted and did not become a peering, without redundant ones. The log says why.
    pub connections_refused: u64,
    /// What became of the mesh's messages and records.
    pub mesh: Vec<Counter>,
}

/// The queues of former peers that are kept as they are, as they may still count a little.
const RECENT: usize = 64;

/// The endpoint ids of former peers whose totals are kept apart.
const TOTALS: usize = 1024;

/// What is kept of the peers that are not in the routing table any more.
#[derive(Debug, Default)]
pub(crate) struct Former {
    /// Those whose connection still stands.
    leaving: Vec<Arc<PeerSession>>,
    /// The last ones.
    recent: VecDeque<Arc<PeerSession>>,
    /// The totals of the ones before.
    totals: Totals,
}

/// Bounded totals of former peerings.
#[derive(Debug, Clone, Default)]
struct Totals {
    by_id: HashMap<EndpointId, PeerReport>,
    /// The order in which the ids came.
    order: VecDeque<EndpointId>,
    /// All ids that had no place.
    rest: Option<PeerReport>,
}

impl Former {
    /// A peer is being removed, and leaves the routing table.
    pub(crate) fn leave(&mut self, session: &Arc<PeerSession>) {
        if !self.leaving.iter().any(|known| Arc::ptr_eq(known, session)) {
            self.leaving.push(Arc::clone(session));
        }
    }

    /// Keeps a former peer's counts; `at_most` queues may be in use still.
    pub(crate) fn retire(&mut self, session: &Arc<PeerSession>, at_most: usize) {
        self.leaving.retain(|known| !Arc::ptr_eq(known, session));
        self.recent.push_back(Arc::clone(session));
        while self.recent.len() > RECENT {
            let in_use = self
                .recent
                .front()
                .is_some_and(|session| Arc::strong_count(session) > 1);
            if in_use && self.recent.len() <= RECENT + at_most {
                break;
            }
            if let Some(oldest) = self.recent.pop_front() {
                self.totals.add(report(&oldest, false));
            }
        }
        self.totals.limit();
    }
}

impl Totals {
    fn add(&mut self, report: PeerReport) {
        let id = report.peer.id;
        if let Some(total) = self.by_id.get_mut(&id) {
            return total.merge(report);
        }
        self.by_id.insert(id, report);
        self.order.push_back(id);
    }

    /// Puts the ids that have no place into the nameless rest.
    fn limit(&mut self) {
        while self.order.len() > TOTALS {
            let oldest = self.order.pop_front();
            if let Some(mut report) = oldest.and_then(|id| self.by_id.remove(&id)) {
                report.peer.id = EndpointId::default();
                "former peers".clone_into(&mut report.peer.address);
                match &mut self.rest {
                    Some(rest) => rest.merge(report),
                    None => self.rest = Some(report),
                }
            }
        }
    }

    /// All totals, oldest first, the nameless one last.
    fn into_reports(mut self) -> impl Iterator<Item = PeerReport> {
        let by_id = std::mem::take(&mut self.order)
            .into_iter()
            .filter_map(move |id| self.by_id.remove(&id));
        by_id.chain(self.rest)
    }
}

impl PeerReport {
    /// Adds what crossed a later peering.
    fn merge(&mut self, later: Self) {
        self.peer = later.peer;
        self.connected |= later.connected;
        self.messages_out += later.messages_out;
        self.bytes_out += later.bytes_out;
        self.messages_in += later.messages_in;
        self.bytes_in += later.bytes_in;
        self.compressed_out.add(later.compressed_out);
        self.compressed_in.add(later.compressed_in);
        self.queued += later.queued;
        self.queued_bytes += later.queued_bytes;
        self.dropped.merge(&later.dropped);
        self.refused.merge(&later.refused);
        self.credit_waits += later.credit_waits;
    }
}

impl Endpoint {
    fn subscribers_dropped(&self, table: &Table) -> DropLedger {
        // Under this lock no queue goes over to the former ones.
        let former = lock_ledger(&self.shared.former_subscribers);
        let mut sum = former.clone();
        let present = (0..).map_while(|position| table.subscriber(position));
        for queue in present {
            queue.add_dropped(&mut sum);
        }
        sum
    }

    /// Returns what crossed the peerings and what was dropped.
    pub fn counts(&self) -> EndpointCounts {
        let table = self.shared.table.load();
        let mut peers: Vec<_> = table
            .peers()
            .iter()
            .map(|entry| report(&entry.handle, true))
            .collect();
        let former = self.shared.former();
        // A queue that is on its way out of the table is in both.
        let elsewhere = |session: &&Arc<PeerSession>| {
            let mut present = table.peers().iter();
            !present.any(|entry| Arc::ptr_eq(&entry.handle, session))
        };
        let leaving = former.leaving.iter().filter(elsewhere);
        peers.extend(leaving.map(|session| report(session, true)));
        let mut totals = former.totals.clone();
        for session in former.recent.iter().filter(elsewhere) {
            totals.add(report(session, false));
        }
        drop(former);
        totals.limit();
        peers.extend(totals.into_reports());
        let mut mesh = self.shared.mesh_counters();
        let sum = |of: fn(&PeerReport) -> u64| peers.iter().map(of).sum();
        mesh.extend([
            counters::CREDIT_WAITS.of(sum(|peer| peer.credit_waits)),
            counters::COMPRESSED_IN.of(sum(|peer| peer.compressed_in.bytes)),
            counters::COMPRESSED_IN_ORIGINAL.of(sum(|peer| peer.compressed_in.original)),
            counters::COMPRESSED_OUT.of(sum(|peer| peer.compressed_out.bytes)),
            counters::COMPRESSED_OUT_ORIGINAL.of(sum(|peer| peer.compressed_out.original)),
        ]);
        EndpointCounts {
            peers,
            subscribers_dropped: self.subscribers_dropped(&table),
            joining_dropped: self.shared.join_buffer.dropped(),
            relay_dropped: self.shared.mesh.stranded(),
            connections_refused: self.shared.connections_refused(),
            mesh,
        }
    }
}

fn report(session: &PeerSession, connected: bool) -> PeerReport {
    let depth = session.queue.depth();
    let counts = &session.counts;
    PeerReport {
        peer: session.info.clone(),
        connected,
        messages_out: PeerCounts::get(&counts.messages_out),
        bytes_out: PeerCounts::get(&counts.bytes_out),
        messages_in: PeerCounts::get(&counts.messages_in),
        bytes_in: PeerCounts::get(&counts.bytes_in),
        compressed_out: counts.compressed_out.get(),
        compressed_in: counts.compressed_in.get(),
        queued: depth.messages,
        queued_bytes: depth.bytes,
        dropped: depth.dropped,
        refused: session.refused(),
        credit_waits: session.queue.credit_waits(),
    }
}

#[cfg(test)]
mod tests {
    use muster_wire::counters::DropCause;

    use super::*;
    use crate::endpoint::send_queue::SendQueue;
    use crate::endpoint::{EndpointConfig, PeerOrigin, Transport};

    #[test]
    fn the_counts_of_very_many_former_peers_are_kept_in_bounded_room() {
        let config = EndpointConfig::default();
        let mut former = Former::default();
        let mut in_use = Vec::new();
        for number in 0..3000u16 {
            let mut id = [7; 16];
            id[..2].copy_from_slice(&(number / 2).to_be_bytes());
            let info = PeerInfo {
                id: EndpointId::from_random(id),
                address: String::new(),
                origin: PeerOrigin::Accepted,
                transport: Transport::Tcp,
                protocol: muster_wire::peering::Protocol::V1,
            };
            let queue = SendQueue::new(info.protocol, &config);
            let session = Arc::new(PeerSession::new(EndpointId::default(), info, queue));
            PeerCounts::add(&session.counts.messages_in, 3);
            session.count_refused(DropCause::Malformed, "/t");
            former.leave(&session);
            former.retire(&session, 8);
            if number % 50 == 0 {
                in_use.push(session);
            }
        }
        assert!(former.leaving.is_empty() && former.recent.len() <= RECENT + 8);
        let mut totals = former.totals.clone();
        for session in &former.recent {
            totals.add(report(session, false));
        }
        totals.limit();
        let reports: Vec<_> = totals.into_reports().collect();
        assert_eq!(reports.len(), TOTALS + 1);
        assert!(reports[TOTALS].peer.id.is_nil() && !reports[0].peer.id.is_nil());
        assert_eq!(reports[0].messages_in, 6);
        assert_eq!(reports.iter().map(|r| r.messages_in).sum::<u64>(), 9000);
        let refused = reports.iter().map(|r| r.refused.by_cause());
        assert_eq!(refused.map(|r| r[&DropCause::Malformed]).sum::<u64>(), 3000);
    }
}
