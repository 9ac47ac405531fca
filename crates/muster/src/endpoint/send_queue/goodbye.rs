//! The orderly end of a peering: what is queued is written, then both sides say goodbye.

use bytes::Bytes;
use muster_wire::mesh::codec::LinkFrame;
use muster_wire::peering::Protocol;
use muster_wire::{Class, Push};

use super::control::{ControlKind, encoded};
use super::pings::Ping;
use super::{Outgoing, SendQueue, wake};
use crate::endpoint::end_reason::{EndReason, LossReason};

impl SendQueue {
    /// Takes no more messages; the writer says goodbye when what is queued is written.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        self.tell_all(&mut state);
        wake(state);
    }

    /// Returns `true` if nothing new is taken: this side ends the peering.
    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Returns `true` if both sides have said goodbye: then the connection's end is what both want.
    pub(crate) fn both_closing(&self) -> bool {
        let state = self.lock();
        state.closing && state.peer_closing
    }

    /// Says goodbye to a peer of version 2; its answer ends the peering.
    pub(crate) fn push_goodbye(&self) {
        let frame = goodbye(LinkFrame::SHUTTING_DOWN, "shutting down");
        self.push_control(frame, ControlKind::Other);
    }

    /// The peer of version 2 has said goodbye. Returns `true` if that ends the peering, as the answer to ours.
    /// Otherwise it is answered behind the data that it is to have.
    pub(crate) fn goodbye_came(&self) -> bool {
        let mut state = self.lock();
        if state.closing {
            return true;
        }
        if !state.peer_closing {
            state.peer_closing = true;
            let frame = goodbye(LinkFrame::SHUTTING_DOWN, "shutting down");
            state.farewell = Some(frame);
            // It waits for what is queued, and then grants nothing more.
            state.data.credits_mut().lift();
            wake(state);
        }
        false
    }

    /// What is still to be said to the peer of a peering that has ended here, if it can be said at once.
    pub(crate) fn last_word(&self) -> Option<Bytes> {
        let ended = self.lock().ended.clone();
        let is_fenced = ended == Some(EndReason::Lost(LossReason::Fenced));
        (is_fenced && self.protocol == Protocol::V2).then(|| goodbye(LinkFrame::FENCED, "fenced"))
    }

    /// Queues the answer to the goodbye of a peer of version 1, behind the data that it is to have.
    pub(crate) fn push_last_answer(&self, frame: Bytes) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        state.peer_closing = true;
        let queue = state.data.class_mut(Class::Event);
        if matches!(queue.push(Outgoing::Frame(frame)), Push::Dropped(_)) {
            self.end_locked(&mut state, LossReason::ControlQueueFull.into());
        }
        wake(state);
    }

    /// Begins a ping, which ends with the peering. `None` if that has ended, or if too many wait for their pong.
    pub(crate) fn begin_ping(&self) -> Option<Ping> {
        let mut state = self.lock();
        match state.ended {
            Some(_) => None,
            None => state.pings.begin(),
        }
    }

    /// The answer to a ping has come.
    pub(crate) fn pong_came(&self, number: u64) {
        self.lock().pings.answered(number);
    }
}

fn goodbye(reason: u8, text: &str) -> Bytes {
    let frame = LinkFrame::Goodbye {
        reason,
        text: text.to_owned(),
    };
    encoded(|out| frame.write(out))
}
