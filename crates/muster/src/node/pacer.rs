//! Back-pressure on a node's input: it waits for nodes that are behind, not for those that are stuck.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_wire::EndpointId;

use crate::endpoint::{Endpoint, PeerReport};

/// How often the peers are looked at while one is behind.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A peer whose queue has not moved for so long is stuck: its queue's policy decides from then on.
const PATIENCE: Duration = Duration::from_secs(1);

/// Back-pressure for programs that publish what they read elsewhere: keeps track of the peers that are behind.
#[derive(Debug, Default)]
pub struct Pacer {
    looked: Option<Instant>,
    must_wait: bool,
    behind: BTreeMap<EndpointId, Progress>,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    messages_out: u64,
    since: Instant,
}

impl Pacer {
    /// Returns `true` if the input should wait: the queue of a node holds more than `limit` messages, and has moved
    /// within the last second. Endpoints that are not nodes, as `is_node` says, are not waited for.
    pub fn must_wait(
        &mut self,
        endpoint: &Endpoint,
        limit: usize,
        now: Instant,
        is_node: impl Fn(EndpointId) -> bool,
    ) -> bool {
        if endpoint.backlog() <= limit {
            self.must_wait = false;
            return false;
        }
        if self
            .looked
            .is_some_and(|looked| now.duration_since(looked) < LOOK_EVERY)
        {
            return self.must_wait;
        }
        self.looked = Some(now);
        let counts = endpoint.counts();
        let nodes = counts
            .peers
            .iter()
            .filter(|peer| peer.connected && is_node(peer.peer.id));
        self.must_wait = self.look(nodes, limit, now);
        self.must_wait
    }

    fn look<'a>(
        &mut self,
        peers: impl Iterator<Item = &'a PeerReport>,
        limit: usize,
        now: Instant,
    ) -> bool {
        let mut behind = BTreeMap::new();
        for peer in peers.filter(|peer| peer.queued > limit) {
            let known = self.behind.get(&peer.peer.id).copied();
            let same = known.filter(|known| known.messages_out == peer.messages_out);
            let moved = Progress {
                messages_out: peer.messages_out,
                since: now,
            };
            behind.insert(peer.peer.id, same.unwrap_or(moved));
        }
        self.behind = behind;
        self.behind
            .values()
            .any(|progress| now.duration_since(progress.since) < PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use muster_wire::counters::DropLedger;

    use super::*;
    use crate::endpoint::{Compressed, PeerInfo, PeerOrigin, Transport};

    fn peer(queued: usize, messages_out: u64) -> PeerReport {
        let id = EndpointId::from_random([1; 16]);
        PeerReport {
            peer: PeerInfo {
                id,
                address: String::new(),
                origin: PeerOrigin::Dialled,
                transport: Transport::Tcp,
                protocol: muster_wire::peering::Protocol::V1,
            },
            connected: true,
            messages_out,
            bytes_out: 0,
            messages_in: 0,
            bytes_in: 0,
            compressed_out: Compressed::default(),
            compressed_in: Compressed::default(),
            queued,
            queued_bytes: 0,
            dropped: DropLedger::default(),
            refused: DropLedger::default(),
            credit_waits: 0,
        }
    }

    #[test]
    fn a_slow_peer_is_waited_for_and_a_stuck_one_is_not() {
        let mut pacer = Pacer::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert!(!pacer.look([peer(5, 0)].iter(), 10, at(0)));
        assert!(pacer.look([peer(50, 0)].iter(), 10, at(100)));
        // It moves, if slowly.
        assert!(pacer.look([peer(50, 1)].iter(), 10, at(1_050)));
        assert!(pacer.look([peer(50, 1)].iter(), 10, at(2_000)));
        // Now it has not for a second.
        assert!(!pacer.look([peer(50, 1)].iter(), 10, at(2_100)));
        assert!(pacer.look([peer(50, 2)].iter(), 10, at(2_200)));
    }
}
