//! Publishers that wait for room in a peer's queue.

use std::sync::PoisonError;
use std::task::{Context, Poll};
use std::time::Instant;

use muster_wire::counters::DropCause;
use muster_wire::{Message, Push, Queued};

use super::{Outgoing, SendQueue, State};

impl SendQueue {
    /// Whether an item is offered at once: it has room, or nobody waits for this peer.
    fn goes_now(&self, state: &mut State, item: &Outgoing) -> bool {
        let is_waited_for = state.is_waited_for[self.queue_of(item) as usize];
        let queue = self.class_of(state, item);
        !is_waited_for || queue.has_room(item.messages(), item.bytes()) || queue.is_empty()
    }

    /// Offers a message if it has room, or would not be taken at all; writes it on this thread if `inline`, under the
    /// conditions of [`SendQueue::push_inline`].
    pub(crate) fn push_if_room(&self, message: &Message, inline: bool) -> Option<Push> {
        let item = Outgoing::Message(message.clone());
        let mut state = self.lock();
        let cannot = self.cannot_take(&state, &item);
        if let Some(cause) = cannot {
            return Some(self.refuse(&mut state, &item, cause));
        }
        self.goes_now(&mut state, &item).then(|| {
            if inline {
                self.push_inline_locked(state, item)
            } else {
                self.push_locked(state, item)
            }
        })
    }

    /// Offers a message once it has room, or would not be taken at all.
    pub(crate) fn poll_push(&self, message: &Message, cx: &mut Context<'_>) -> Poll<Push> {
        let item = Outgoing::Message(message.clone());
        let mut state = self.lock();
        if let Some(cause) = self.cannot_take(&state, &item) {
            return Poll::Ready(self.refuse(&mut state, &item, cause));
        }
        if self.goes_now(&mut state, &item) {
            return Poll::Ready(self.push_locked(state, item));
        }
        if !state
            .room_wakers
            .iter()
            .any(|waker| waker.will_wake(cx.waker()))
        {
            state.room_wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Counts a message that waited for room and got none.
    pub(crate) fn refuse_late(&self, message: Message) -> Push {
        let item = Outgoing::Message(message);
        let mut state = self.lock();
        self.class_of(&mut state, &item)
            .refuse(&item, DropCause::Deadline)
    }

    /// Offers a message, waiting for room until `deadline`.
    pub(crate) fn push_blocking(&self, message: Message, deadline: Instant) -> Push {
        let item = Outgoing::Message(message);
        let mut state = self.lock();
        loop {
            let cannot = self.cannot_take(&state, &item);
            if let Some(cause) = cannot {
                return self.refuse(&mut state, &item, cause);
            }
            if self.goes_now(&mut state, &item) {
                return self.push_locked(state, item);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let queue = self.class_of(&mut state, &item);
                return queue.refuse(&item, DropCause::Deadline);
            }
            state.waiting_for_room += 1;
            let (locked, _) = self
                .room
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
            state = locked;
            state.waiting_for_room -= 1;
        }
    }

    pub(super) fn tell_room(&self, state: &mut State) {
        if state.waiting_for_room > 0 {
            self.room.notify_all();
        }
        for waker in state.room_wakers.drain(..) {
            waker.wake();
        }
    }
}
