//! What is published while the endpoint joins its mesh: the others do not know it yet, and would
//! not take its messages.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::too_large::TooLarge;
use muster_wire::counters::{DropCause, DropLedger};
use muster_wire::{MESSAGE_OVERHEAD, Message, Overflow, Push, Queue, QueueLimits, Queued};

#[derive(Debug)]
pub(crate) struct JoinBuffer {
    is_open: AtomicBool,
    held: Mutex<Held>,
    /// The largest message that any peer's queue takes.
    largest: usize,
    too_large: TooLarge,
    /// Told of the end of the holding.
    closed: Condvar,
}

#[derive(Debug)]
struct Held {
    queue: Queue<Message>,
    /// Tasks that wait for the end of the holding, as many as there are publishers.
    wakers: Vec<Waker>,
}

impl JoinBuffer {
    pub(crate) fn new(limits: QueueLimits, overflow: Overflow) -> Self {
        // There is no peering to end yet.
        let overflow = match overflow {
            Overflow::Disconnect => Overflow::DropOldest,
            other => other,
        };
        Self {
            is_open: AtomicBool::new(false),
            held: Mutex::new(Held {
                queue: Queue::new(limits, overflow),
                wakers: Vec::new(),
            }),
            largest: usize::MAX,
            too_large: TooLarge::default(),
            closed: Condvar::new(),
        }
    }

    /// The same for messages of up to `largest` bytes.
    pub(crate) fn with_largest(mut self, largest: usize) -> Self {
        self.largest = largest;
        self
    }

    /// Refuses a message that no peer's queue will take.
    fn refuse_too_large(&self, held: &mut Held, message: &Message) -> Option<Push> {
        let limit = held.queue.limits().bytes.saturating_sub(MESSAGE_OVERHEAD);
        let limit = limit.min(self.largest);
        let bytes = message.size();
        (bytes > limit).then(|| {
            let queue = "what is held until the endpoint has joined its mesh";
            self.too_large.tell(queue, &message.topic, bytes, limit);
            held.queue.refuse(message, DropCause::TooLarge)
        })
    }

    /// From now on messages are held.
    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    /// Returns `true` if messages may have to be held; what holds them looks again.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Holds a message for the mesh, if it is time to; `None` if it is not, or not any more: then the
    /// routing table of this moment leads the way.
    pub(crate) fn hold(&self, message: &Message) -> Option<Push> {
        let mut held = self.lock();
        // Closed meanwhile: what was held before is on its way already.
        if !self.is_open() {
            return None;
        }
        let refused = self.refuse_too_large(&mut held, message);
        Some(refused.unwrap_or_else(|| held.queue.push(message.clone())))
    }

    /// Holds a message, waiting for room until `deadline`: there is some when the holding ends.
    pub(crate) fn hold_blocking(&self, message: &Message, deadline: Instant) -> Option<Push> {
        let mut held = self.lock();
        while self.is_open() {
            if let Some(refused) = self.refuse_too_large(&mut held, message) {
                return Some(refused);
            }
            if let Some(push) = held.push_if_room(message) {
                return Some(push);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(held.queue.refuse(message, DropCause::Deadline));
            }
            let waited = self.closed.wait_timeout(held, left);
            held = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// The same for a task.
    pub(crate) fn poll_hold(&self, message: &Message, cx: &mut Context<'_>) -> Poll<Option<Push>> {
        let mut held = self.lock();
        if !self.is_open() {
            return Poll::Ready(None);
        }
        if let Some(refused) = self.refuse_too_large(&mut held, message) {
            return Poll::Ready(Some(refused));
        }
        if let Some(push) = held.push_if_room(message) {
            return Poll::Ready(Some(push));
        }
        let mut known = held.wakers.iter();
        if !known.any(|waker| waker.will_wake(cx.waker())) {
            held.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Counts a message that waited for room and got none.
    pub(crate) fn refuse_late(&self, message: &Message) -> Push {
        self.lock().queue.refuse(message, DropCause::Deadline)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the holding: `send` gets what is held, in order, and nobody can get in between.
    pub(crate) fn close(&self, mut send: impl FnMut(Message)) {
        let mut held = self.lock();
        while let Some(message) = held.queue.pop() {
            send(message);
        }
        self.is_open.store(false, Ordering::Release);
        let wakers = std::mem::take(&mut held.wakers);
        drop(held);
        self.closed.notify_all();
        for waker in wakers {
            waker.wake();
        }
    }

    /// The messages that found no room, or made it for others.
    pub(crate) fn dropped(&self) -> DropLedger {
        self.lock().queue.dropped().clone()
    }
}

impl Held {
    /// Holds a message if there is room, or never will be.
    fn push_if_room(&mut self, message: &Message) -> Option<Push> {
        let queue = &mut self.queue;
        let has_room = queue.has_room(1, message.bytes()) || queue.is_empty();
        has_room.then(|| queue.push(message.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use muster_wire::Class;

    use super::*;
    use crate::endpoint::send_queue::tests::message;

    #[tokio::test]
    async fn who_may_wait_waits_for_the_end_of_the_holding() {
        let limits = QueueLimits {
            messages: 2,
            bytes: 1 << 20,
        };
        let early = Arc::new(JoinBuffer::new(limits, Overflow::DropOldest));
        let event = message("/t", Class::Event);
        assert_eq!(early.hold_blocking(&event, Instant::now()), None);
        early.open();
        for _ in 0..2 {
            let held = early.hold_blocking(&event, Instant::now());
            assert!(matches!(held, Some(Push::Queued { dropped: 0, .. })));
        }
        let late = early.hold_blocking(&event, Instant::now());
        assert_eq!(late, Some(Push::Dropped(DropCause::Deadline)));
        let waiting = Arc::clone(&early);
        let again = event.clone();
        let thread = std::thread::spawn(move || {
            waiting.hold_blocking(&again, Instant::now() + Duration::from_secs(20))
        });
        let waiting = Arc::clone(&early);
        let task =
            tokio::spawn(
                async move { std::future::poll_fn(|cx| waiting.poll_hold(&event, cx)).await },
            );
        while early.lock().wakers.is_empty() {
            tokio::task::yield_now().await;
        }
        let mut sent = 0;
        early.close(|_| sent += 1);
        assert_eq!(sent, 2);
        // They go where the routing table leads now.
        assert_eq!(task.await.unwrap(), None);
        assert_eq!(thread.join().unwrap(), None);
        assert_eq!(early.dropped().total(), 1);
    }
}
