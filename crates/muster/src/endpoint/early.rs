//! What is published while the endpoint joins its mesh: the others do not know it yet, and would
//! not take its messages.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use muster_wire::{Message, Overflow, Push, Queue, QueueLimits};

#[derive(Debug)]
pub(crate) struct Early {
    is_open: AtomicBool,
    held: Mutex<Queue<Message>>,
}

impl Early {
    pub(crate) fn new(limits: QueueLimits, overflow: Overflow) -> Self {
        // There is no peering to end yet.
        let overflow = match overflow {
            Overflow::Disconnect => Overflow::DropOldest,
            other => other,
        };
        Self {
            is_open: AtomicBool::new(false),
            held: Mutex::new(Queue::new(limits, overflow)),
        }
    }

    /// From now on messages are held.
    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    /// Holds a message for the mesh, if it is time to; `None` if it is not, or not any more: then the
    /// routing table of this moment leads the way.
    pub(crate) fn hold(&self, message: &Message) -> Option<Push> {
        if !self.is_open.load(Ordering::Acquire) {
            return None;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Closed meanwhile: what was held before is on its way already.
        self.is_open
            .load(Ordering::Acquire)
            .then(|| held.push(message.clone()))
    }

    /// Ends the holding: `send` gets what is held, in order, and nobody can get in between.
    pub(crate) fn close(&self, mut send: impl FnMut(Message)) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(message) = held.pop() {
            send(message);
        }
        self.is_open.store(false, Ordering::Release);
    }

    /// The messages that found no room, or made it for others.
    pub(crate) fn dropped(&self) -> u64 {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.dropped().total()
    }
}
