//! The orderly end of a peering: what is queued is written, then both sides say goodbye.

use bytes::Bytes;
use muster_wire::mesh::codec::LinkFrame;
use muster_wire::{Class, Push};

use super::control::{ControlKind, encoded};
use super::pings::Ping;
use super::{Outgoing, SendQueue, wake};
use crate::endpoint::end_reason::LossReason;

/// Why a mesh's goodbye is said.
const SHUTTING_DOWN: u8 = 1;

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
        self.push_control(goodbye(), ControlKind::Other);
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
            state.farewell = Some(goodbye());
            // It waits for what is queued, and then grants nothing more.
            state.data.credits_mut().lift();
            wake(state);
        }
        false
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

fn goodbye() -> Bytes {
    let frame = LinkFrame::Goodbye {
        reason: SHUTTING_DOWN,
        text: "shutting down".to_owned(),
    };
    encoded(|out| frame.write(out))
}
