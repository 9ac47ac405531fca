//! What a peer of version 2 grants and is granted.

use std::task::{Context, Poll};

use muster_wire::Class;
use muster_wire::credit::SHARING;
use muster_wire::mesh::codec::LinkFrame;

use super::{EndReason, PeerQueue, State, encoded, wake};

impl PeerQueue {
    /// Grants the first credit, which also says that this end knows of credit and of fragments. Whoever knows
    /// of neither skips it.
    pub(crate) fn grant_first(&self, window: u64) {
        let mut state = self.lock();
        for class in SHARING {
            self.grant_due(&mut state, class, window);
        }
    }

    /// What came of each class has left the reader: grants as much again, in so far as it is worth a frame.
    pub(crate) fn grant(&self, class: Class, cost: usize, window: u64) {
        let mut state = self.lock();
        state.grants.came(class, cost);
        if self.grant_due(&mut state, class, window) {
            wake(state);
        }
    }

    fn grant_due(&self, state: &mut State, class: Class, window: u64) -> bool {
        if state.ended.is_some() {
            return false;
        }
        let Some(bytes) = state.grants.due(class, window) else {
            return false;
        };
        // One for each quarter of a window that has come: their number is bounded by what the peer reads. One
        // that found no room would end the peering like any other frame.
        let frame = LinkFrame::Credit { class, bytes };
        if !self.push_frame(state, encoded(|out| frame.write(out)), false) {
            let full = EndReason::Lost("control queue is full".to_owned());
            self.end_locked(state, full);
        }
        true
    }

    /// The peer lets this end send more.
    pub(crate) fn credit_came(&self, class: Class, bytes: u64) {
        let mut state = self.lock();
        state.knows_credit = true;
        state.data.credits_mut().grant(class, bytes);
        if state.data.is_ready() {
            wake(state);
        }
    }

    /// Whether the peer has said that it knows of credit, and with it of fragments.
    pub(crate) fn knows_credit(&self) -> bool {
        self.lock().knows_credit
    }

    /// How often a class of traffic waited for credit.
    pub(crate) fn credit_waits(&self) -> u64 {
        self.lock().data.credits().waits()
    }

    /// Whether there is something that may be sent now.
    pub(crate) fn has_more(&self) -> bool {
        self.lock().data.is_ready()
    }

    /// Waits until something may be sent, or nothing will be.
    pub(crate) fn poll_credit(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.has_nothing() || state.data.is_empty() || state.ended.is_some() {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What is still queued is sent without credit: the peering is about to end.
    pub(crate) fn lift_credit(&self) {
        self.lock().data.credits_mut().lift();
    }
}
