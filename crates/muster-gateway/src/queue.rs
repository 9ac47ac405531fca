//! The queue between a gateway and one of its clients.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use muster::QueueDepth;
use muster_wire::counters::{DropCause, DropLedger};
use muster_wire::{Overflow, Push, Queue, QueueLimits, Queued, Topic};
use tokio::sync::Notify;

use crate::config::ClientOverflow;

/// What an item costs besides its text, in bytes.
const ITEM_OVERHEAD: usize = 96;

/// The answers that wait for a client at most, besides the messages; a client that does not read them
/// is as one that does not keep up.
const ANSWERS: usize = 256;

/// A text on its way to a client.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) text: Utf8Bytes,
    /// The topic of an event; an answer of the gateway's own has none.
    pub(crate) topic: Option<Topic>,
}

impl Queued for Outgoing {
    fn messages(&self) -> usize {
        1
    }

    fn bytes(&self) -> usize {
        self.text.len() + ITEM_OVERHEAD
    }

    fn reserved(&self) -> bool {
        self.topic.is_none()
    }

    fn count_dropped(&self, cause: DropCause, ledger: &mut DropLedger) {
        if let Some(topic) = &self.topic {
            ledger.count(cause, &topic.normalized(), 1);
        }
    }
}

/// Why the gateway ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

impl Closing {
    /// The gateway ends.
    pub(crate) const TERMINATING: Self = Self {
        code: 1001,
        reason: "Terminating",
    };
    /// No answer to a ping.
    pub(crate) const PING_TIMEOUT: Self = Self {
        code: 1011,
        reason: "Ping timeout",
    };
    /// The queue was full.
    pub(crate) const TOO_SLOW: Self = Self {
        code: 1013,
        reason: "too slow: the client's queue was full",
    };
}

#[derive(Debug)]
struct State {
    queue: Queue<Outgoing>,
    closing: Option<Closing>,
}

/// A client's bounded queue.
#[derive(Debug)]
pub(crate) struct ClientQueue {
    overflow: ClientOverflow,
    state: Mutex<State>,
    ready: Notify,
    /// The client did not keep up.
    too_slow: Notify,
}

impl ClientQueue {
    pub(crate) fn new(limits: QueueLimits, overflow: ClientOverflow) -> Self {
        let policy = match overflow {
            ClientOverflow::Disconnect => Overflow::Disconnect,
            ClientOverflow::DropOldest => Overflow::DropOldest,
        };
        Self {
            overflow,
            state: Mutex::new(State {
                queue: Queue::new(limits, policy).with_reserved(ANSWERS),
                closing: None,
            }),
            ready: Notify::new(),
            too_slow: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a text; what does not fit costs the connection, or older texts.
    pub(crate) fn push(&self, item: Outgoing) {
        let mut state = self.lock();
        if state.closing.is_some() {
            state.queue.refuse(&item, DropCause::Closed);
            return;
        }
        let is_too_slow = match state.queue.push(item) {
            Push::Queued { was_empty, .. } => {
                if was_empty {
                    self.ready.notify_one();
                }
                return;
            }
            Push::Dropped(DropCause::Disconnect) => true,
            // A text larger than the whole queue is a gap, too, of which the client must know.
            Push::Dropped(_) => self.overflow == ClientOverflow::Disconnect,
        };
        if is_too_slow {
            state.closing = Some(Closing::TOO_SLOW);
            self.ready.notify_one();
            self.too_slow.notify_one();
        }
    }

    /// Queues an answer of the gateway's own.
    pub(crate) fn answer(&self, text: String) {
        self.push(Outgoing {
            text: text.into(),
            topic: None,
        });
    }

    /// Ends the connection when what is queued is written.
    pub(crate) fn close(&self, closing: Closing) {
        self.lock().closing.get_or_insert(closing);
        self.ready.notify_one();
    }

    /// Takes all that is queued into `into`, which must be empty; the end, if it comes behind.
    pub(crate) fn take(&self, into: &mut VecDeque<Outgoing>) -> Option<Closing> {
        let mut state = self.lock();
        state.queue.take_all(into);
        state.closing
    }

    /// Counts what was taken for a client that did not keep up, and not written.
    pub(crate) fn lost(&self, items: &mut VecDeque<Outgoing>) {
        let mut state = self.lock();
        for item in items.drain(..) {
            state.queue.refuse(&item, DropCause::Disconnect);
        }
    }

    /// Waits until there may be something to take.
    pub(crate) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Waits until the client has not kept up.
    pub(crate) async fn too_slow(&self) {
        self.too_slow.notified().await;
    }

    /// Texts and bytes that wait, and what was dropped.
    pub(crate) fn depth(&self) -> QueueDepth {
        let state = self.lock();
        QueueDepth {
            messages: state.queue.len(),
            bytes: state.queue.bytes(),
            dropped: state.queue.dropped().clone(),
        }
    }
}
