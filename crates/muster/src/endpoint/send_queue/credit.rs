//! What a peer of version 2 lets this end send.

use std::task::{Context, Poll};

use muster_wire::Class;

use super::{SendQueue, wake};

impl SendQueue {
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
