//! Links that are silent: when a peer is asked whether it is there, when others are asked whether they hear it, and
//! when the link is given up.

use std::sync::Arc;
use std::time::Duration;

use muster_wire::EndpointId;
use muster_wire::mesh::codec::LinkFrame;
use muster_wire::peering::Protocol;

use super::config::Heartbeat;
use super::end_reason::LossReason;
use super::peer_session::PeerSession;
use super::shared::{Shared, count};

/// The most neighbours that are asked whether they hear a peer.
const WITNESSES: usize = 8;

/// How long a neighbour that was asked waits for the peer's sign of life.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long nothing has come from a peer, looked at once in each interval.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    reads: u64,
    silent: Duration,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    /// Something has come.
    Heard,
    /// The peer is to be asked whether it is there, and others whether they hear it.
    Ask,
    /// The link is lost.
    Lost(LossReason),
}

impl Silence {
    /// Looks at the number of reads so far, an interval after the last look. `is_heard_elsewhere` says whether a
    /// neighbour has had a sign of life of the peer since it was asked.
    pub(crate) fn look(
        &mut self,
        reads: u64,
        heartbeat: Heartbeat,
        is_heard_elsewhere: bool,
    ) -> Look {
        if reads != self.reads {
            self.heard(reads);
            return Look::Heard;
        }
        let Heartbeat { interval, timeout } = heartbeat;
        self.silent += interval;
        let silent = self.silent;
        // Whoever lives says something in each interval, and has had another to answer.
        if silent >= interval * 2 && is_heard_elsewhere {
            return Look::Lost(LossReason::CutOff(silent));
        }
        if silent >= timeout.max(interval * 2) {
            return Look::Lost(LossReason::Silent(silent));
        }
        Look::Ask
    }

    /// Something has come, or nothing could: silence begins anew.
    pub(crate) fn heard(&mut self, reads: u64) {
        *self = Self {
            reads,
            silent: Duration::ZERO,
        };
    }
}

impl Shared {
    /// Asks neighbours that are linked with a silent one whether they hear it.
    pub(crate) fn ask_witnesses(&self, silent: EndpointId) {
        let table = self.table.load();
        let Some(routes) = table.mesh() else {
            return;
        };
        let others = table.peers().iter().filter(|peer| {
            let is_other = peer.id != silent && peer.protocol == Protocol::V2;
            is_other && routes.are_linked(peer.id, silent)
        });
        for peer in others.take(WITNESSES) {
            peer.handle.queue.push_link(&LinkFrame::Witness {
                is_answer: false,
                id: silent,
            });
        }
    }

    /// A neighbour asks whether a peer is heard here, or says that it hears it.
    pub(crate) fn witness(&self, asker: &Arc<PeerSession>, is_answer: bool, id: EndpointId) {
        let table = self.table.load();
        let Some(peer) = table.entry(id).filter(|peer| peer.protocol == Protocol::V2) else {
            return;
        };
        if is_answer {
            return peer.handle.is_heard_elsewhere();
        }
        count(&self.mesh.witnessed);
        // Too many at once are not answered.
        if !asker.question_begins() {
            return;
        }
        let Some(pong) = peer.handle.ping() else {
            return asker.question_ends();
        };
        let asker = Arc::clone(asker);
        tokio::spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(PATIENCE, pong).await {
                let is_answer = true;
                asker.queue.push_link(&LinkFrame::Witness { is_answer, id });
            }
            asker.question_ends();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Heartbeat = Heartbeat {
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(10),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_link_is_lost_when_others_hear_the_peer() {
        let mut silence = Silence::default();
        assert_eq!(silence.look(1, HEARTBEAT, false), Look::Heard);
        assert_eq!(silence.look(1, HEARTBEAT, false), Look::Ask);
        assert_eq!(
            silence.look(1, HEARTBEAT, true),
            Look::Lost(LossReason::CutOff(seconds(4)))
        );
        // What has come in the meantime counts more.
        let mut silence = Silence::default();
        assert_eq!(silence.look(0, HEARTBEAT, false), Look::Ask);
        assert_eq!(silence.look(1, HEARTBEAT, true), Look::Heard);
        // One interval is no proof, whoever hears it.
        assert_eq!(silence.look(1, HEARTBEAT, true), Look::Ask);
    }

    #[test]
    fn a_peer_that_nobody_hears_is_lost_after_the_time_out() {
        let mut silence = Silence::default();
        for _ in 0..4 {
            assert_eq!(silence.look(0, HEARTBEAT, false), Look::Ask);
        }
        silence.heard(0);
        for _ in 0..4 {
            assert_eq!(silence.look(0, HEARTBEAT, false), Look::Ask);
        }
        let lost = Look::Lost(LossReason::Silent(seconds(10)));
        assert_eq!(silence.look(0, HEARTBEAT, false), lost);
    }
}
