//! Joining: asking a neighbour to be made known, and doing so for others (section 8.1).

use std::time::Duration;

use super::Mesh;
use crate::EndpointId;
use crate::mesh::barrier::Outcome;
use crate::mesh::codec::MeshFrame;
use crate::mesh::hold_down::Change;
use crate::time::Mono;

/// A neighbour that has not made us known after this time is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

impl Mesh {
    /// Asks a neighbour to make us known, once one has our records and we have its; not `passed` if
    /// there is another.
    pub(super) fn try_join(&mut self, passed: Option<EndpointId>, now: Mono) {
        if self.ready || self.sponsor.is_some() {
            return;
        }
        let candidates = self.neighbours.iter().filter(|(peer, neighbour)| {
            neighbour.is_synced
                && !self.is_between_leaves(**peer)
                && (!self.identity.transit || self.announced.contains(peer))
        });
        // Those that relay first: they are nearer to everybody.
        let chosen = candidates.map(|(peer, _)| *peer).min_by_key(|peer| {
            let slot = self.database.slot(*peer);
            let is_transit = slot.is_some_and(|slot| self.database.graph().leads_on(slot));
            (Some(*peer) == passed, !is_transit)
        });
        if let Some(peer) = chosen {
            self.sponsor = Some((peer, now));
            self.send(peer, MeshFrame::JoinRequest);
        }
    }

    pub(super) fn retry_join(&mut self, now: Mono) {
        if let Some((sponsor, asked)) = self.sponsor
            && !self.ready
            && now.since(asked) >= PATIENCE
        {
            self.sponsor = None;
            self.try_join(Some(sponsor), now);
        }
    }

    pub(super) fn join_retry_due(&self) -> Option<Mono> {
        let (_, asked) = self.sponsor.filter(|_| !self.ready)?;
        Some(asked.after(PATIENCE))
    }

    /// A neighbour asks to be made known. Requests of one hold-down share a flood.
    pub(super) fn join_requested(&mut self, from: EndpointId, now: Mono) {
        self.joiners.insert(from);
        self.hold_down.changed(Change::Join, now);
    }

    /// All know us, or so our sponsor says: from now on we are announced as ready.
    pub(super) fn join_ready(&mut self, id: EndpointId, now: Mono) {
        if id == self.identity.id && !self.ready {
            self.ready = true;
            self.flush(now);
            self.look = Some(now);
        }
    }

    pub(super) fn flood_over(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Acknowledge(to, (root, flood)) => {
                self.send(to, MeshFrame::JoinAcknowledged { root, flood });
            }
            Outcome::Ready {
                number,
                joiners,
                is_acknowledged,
            } => {
                let (last, announcement) = self.last_flood;
                if is_acknowledged && number == last {
                    self.hold_down.acknowledged(announcement);
                }
                for joiner in joiners {
                    self.send(joiner, MeshFrame::JoinReady(joiner));
                }
            }
        }
    }
}
