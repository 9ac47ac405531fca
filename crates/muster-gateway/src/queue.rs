//! The queue between a gateway and one of its clients.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use muster::QueueDepth;
use muster_wire::counters::{DropCause, DropLedger};
use muster_wire::{Overflow, Push, Queue, QueueLimits, Queued, Topic};
use tokio::sync::Notify;

use crate::budget::{Budget, Share};
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
    /// The queues of all clients together were full, and this one was the fullest.
    pub(crate) const FULLEST: Self = Self {
        code: 1013,
        reason: "too slow: the clients' queues together were full, and this one was the fullest",
    };
    /// A message of the client was larger than it may be.
    pub(crate) const TOO_BIG: Self = Self {
        code: 1009,
        reason: "message too big",
    };

    /// Returns whether the client is not to hear what is queued any more: it would not read it.
    pub(crate) fn is_of_slowness(self) -> bool {
        self.code == Self::TOO_SLOW.code
    }
}

#[derive(Debug)]
struct State {
    queue: Queue<Outgoing>,
    /// The bytes of what was taken and is not written.
    taken: usize,
    /// The bytes of both, among those of all clients.
    share: Share,
    closing: Option<Closing>,
}

impl State {
    fn settle(&mut self) {
        self.share.set(self.queue.bytes() + self.taken);
    }
}

/// A client's bounded queue.
#[derive(Debug)]
pub(crate) struct ClientQueue {
    overflow: ClientOverflow,
    state: Mutex<State>,
    ready: Notify,
    /// The client did not keep up.
    too_slow: Notify,
    /// The reader waits until its answer to a ping is on its way, and hears when it is.
    flush: Notify,
    flushed: Notify,
    largest: usize,
}

impl ClientQueue {
    pub(crate) fn new(limits: QueueLimits, overflow: ClientOverflow, budget: Arc<Budget>) -> Self {
        let policy = match overflow {
            ClientOverflow::Disconnect => Overflow::Disconnect,
            ClientOverflow::DropOldest => Overflow::DropOldest,
        };
        Self {
            overflow,
            state: Mutex::new(State {
                queue: Queue::new(limits, policy).with_reserved(ANSWERS),
                taken: 0,
                share: Share::new(budget),
                closing: None,
            }),
            ready: Notify::new(),
            too_slow: Notify::new(),
            flush: Notify::new(),
            flushed: Notify::new(),
            largest: limits.bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a text; what does not fit costs the connection, or older texts. A text larger than the whole queue costs only
    /// itself, and returns `false`: the client is told of it by whoever queued it.
    pub(crate) fn push(&self, item: Outgoing) -> bool {
        let is_too_large = item.bytes() > self.largest;
        let mut state = self.lock();
        if state.closing.is_some() {
            state.queue.refuse(&item, DropCause::Closed);
            return true;
        }
        if is_too_large {
            state.queue.refuse(&item, DropCause::TooLarge);
            return false;
        }
        let pushed = state.queue.push(item);
        state.settle();
        let is_too_slow = match pushed {
            Push::Queued { was_empty, .. } => {
                if was_empty {
                    self.ready.notify_one();
                }
                return true;
            }
            Push::Dropped(DropCause::Disconnect) => true,
            Push::Dropped(_) => self.overflow == ClientOverflow::Disconnect,
        };
        if is_too_slow {
            self.end_slow(&mut state, Closing::TOO_SLOW);
        }
        true
    }

    fn end_slow(&self, state: &mut State, closing: Closing) {
        state.closing = Some(closing);
        self.ready.notify_one();
        self.too_slow.notify_one();
    }

    /// Ends the connection of the client that holds most, when all hold too much.
    pub(crate) fn end_fullest(&self) {
        let mut state = self.lock();
        if state.closing.is_none() {
            self.end_slow(&mut state, Closing::FULLEST);
        }
    }

    /// Returns the bytes that wait for the client, unless its connection is ending.
    pub(crate) fn held(&self) -> Option<usize> {
        let state = self.lock();
        state.closing.is_none().then(|| state.share.held())
    }

    /// Queues an answer of the gateway's own.
    pub(crate) fn answer(&self, text: String) {
        let _ = self.push(Outgoing {
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
        state.taken = into.iter().map(Queued::bytes).sum();
        state.settle();
        state.closing
    }

    /// What was taken is written.
    pub(crate) fn written(&self) {
        let mut state = self.lock();
        state.taken = 0;
        state.settle();
    }

    /// Waits until whoever writes has flushed what the connection answers by itself, as it does to pings. A client that
    /// reads nothing cannot make more of it.
    pub(crate) async fn until_flushed(&self) {
        self.flush.notify_one();
        self.flushed.notified().await;
    }

    /// Waits until somebody waits for a flush.
    pub(crate) async fn flush_wanted(&self) {
        self.flush.notified().await;
    }

    pub(crate) fn flushed(&self) {
        self.flushed.notify_one();
    }

    /// Counts what was taken for a client that did not keep up, and not written.
    pub(crate) fn lost(&self, items: &mut VecDeque<Outgoing>) {
        let mut state = self.lock();
        for item in items.drain(..) {
            state.queue.refuse(&item, DropCause::Disconnect);
        }
        state.taken = 0;
        state.settle();
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
