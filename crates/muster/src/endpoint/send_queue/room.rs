//! Publishers that wait for room in a peer's queue.

use std::sync::PoisonError;
use std::task::{Context, Poll};
use std::time::Instant;

use muster_wire::counters::DropCause;
use muster_wire::Push;

use super::{SendQueue, State};
use crate::endpoint::post::Post;

impl SendQueue {
    /// Whether a message is offered at once: it has room, or nobody waits for this peer.
    fn goes_now(&self, state: &State, post: &Post<'_>) -> bool {
        let class = self.queue_of_class(post.class);
        let queue = state.data.class(class);
        let is_waited_for = state.is_waited_for[class as usize];
        !is_waited_for || queue.has_room(1, post.queued().bytes) || queue.is_empty()
    }

    /// Offers a message if it has room, or would not be taken at all; writes it on this thread if `inline`, under the
    /// conditions of [`SendQueue::post_inline`].
    pub(crate) fn post_if_room(&self, post: &Post<'_>, inline: bool) -> Option<Push> {
        let mut state = self.lock();
        if let Some(cause) = self.cannot_take_post(&state, post) {
            return Some(self.refuse_post(&mut state, post, cause));
        }
        self.goes_now(&state, post).then(|| {
            if inline {
                self.post_inline_locked(state, post)
            } else {
                self.post_locked(state, post)
            }
        })
    }

    /// Offers a message once it has room, or would not be taken at all.
    pub(crate) fn poll_post(&self, post: &Post<'_>, cx: &mut Context<'_>) -> Poll<Push> {
        let mut state = self.lock();
        if let Some(cause) = self.cannot_take_post(&state, post) {
            return Poll::Ready(self.refuse_post(&mut state, post, cause));
        }
        if self.goes_now(&state, post) {
            return Poll::Ready(self.post_locked(state, post));
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
    pub(crate) fn refuse_late(&self, post: &Post<'_>) -> Push {
        let mut state = self.lock();
        self.refuse_post(&mut state, post, DropCause::Deadline)
    }

    /// Offers a message, waiting for room until `deadline`.
    pub(crate) fn post_blocking(&self, post: &Post<'_>, deadline: Instant) -> Push {
        let mut state = self.lock();
        loop {
            if let Some(cause) = self.cannot_take_post(&state, post) {
                return self.refuse_post(&mut state, post, cause);
            }
            if self.goes_now(&state, post) {
                return self.post_locked(state, post);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.refuse_post(&mut state, post, DropCause::Deadline);
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
