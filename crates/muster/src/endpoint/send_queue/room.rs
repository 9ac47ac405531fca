//! Publishers that wait for room in a peer's queue.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use muster_wire::counters::DropCause;
use muster_wire::{Class, Push};

use super::{SendQueue, State};
use crate::endpoint::post::Post;

/// Publishers that wait do so from so many bytes on, if the queue's bound is not lower, which is where messages are
/// dropped: what is written next is still in the processor's caches then.
pub(crate) const WAITS_FROM: usize = 1 << 20;

const CLASSES: [Class; 4] = [
    Class::Control,
    Class::Interactive,
    Class::Event,
    Class::Bulk,
];

/// Those who wait for room.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    threads: [usize; 4],
    /// As many as there are publishers.
    tasks: [Vec<Waker>; 4],
    /// Whether somebody has waited in vain: until much has left the queue, its bound alone counts. Who takes nothing
    /// holds others up once, not with each message.
    in_vain: [bool; 4],
}

impl Waiting {
    /// The number of threads that wait.
    #[cfg(test)]
    pub(super) fn threads(&self) -> usize {
        self.threads.iter().sum()
    }
}

impl SendQueue {
    /// Whether a message is offered at once: it has room, or nobody waits for this peer.
    fn goes_now(&self, state: &State, post: &Post<'_>) -> bool {
        let class = self.queue_of_class(post.class);
        let queue = state.data.class(class);
        let bytes = post.queued().bytes;
        let is_waited_for = state.is_waited_for[class as usize];
        let is_low = queue.bytes() + bytes <= WAITS_FROM || state.waiting.in_vain[class as usize];
        !is_waited_for || (is_low && queue.has_room(1, bytes)) || queue.is_empty()
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
        let class = self.queue_of_class(post.class);
        let tasks = &mut state.waiting.tasks[class as usize];
        if !tasks.iter().any(|waker| waker.will_wake(cx.waker())) {
            tasks.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Offers a message that has waited as long as it may: it is taken if the queue's bound has room for it.
    pub(crate) fn post_late(&self, post: &Post<'_>) -> Push {
        let mut state = self.lock();
        if let Some(cause) = self.cannot_take_post(&state, post) {
            return self.refuse_post(&mut state, post, cause);
        }
        self.post_late_locked(state, post)
    }

    fn post_late_locked(&self, mut state: MutexGuard<'_, State>, post: &Post<'_>) -> Push {
        let class = self.queue_of_class(post.class);
        state.waiting.in_vain[class as usize] = true;
        if state.data.class(class).has_room(1, post.queued().bytes) {
            return self.post_locked(state, post);
        }
        self.refuse_post(&mut state, post, DropCause::Deadline)
    }

    /// Offers a message, waiting for room until `deadline`.
    pub(crate) fn post_blocking(&self, post: &Post<'_>, deadline: Instant) -> Push {
        let class = self.queue_of_class(post.class) as usize;
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
                return self.post_late_locked(state, post);
            }
            state.waiting.threads[class] += 1;
            let (locked, _) = self
                .room
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
            state = locked;
            state.waiting.threads[class] -= 1;
        }
    }

    /// Whether more than half of a class's queue is in use, so that whoever relays into it should let its own sources wait,
    /// unless it was given up.
    pub(crate) fn is_behind(&self, class: Class) -> bool {
        let class = self.queue_of_class(class);
        let state = self.lock();
        let given_up = &self.given_up[class as usize];
        if !state.data.class(class).is_half_full() {
            given_up.store(false, Ordering::Relaxed);
            return false;
        }
        state.ended.is_none() && !given_up.load(Ordering::Relaxed)
    }

    /// How often the writer has taken something: a sign of life.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Nobody lets others wait for a class of this peer, until no more than half of its queue is in use.
    pub(crate) fn give_up(&self, class: Class) {
        let class = self.queue_of_class(class);
        self.given_up[class as usize].store(true, Ordering::Relaxed);
    }

    /// Waits until much of a class has left the queue, or nothing more will.
    pub(crate) fn poll_room(&self, class: Class, cx: &mut Context<'_>) -> Poll<()> {
        let class = self.queue_of_class(class);
        let mut state = self.lock();
        if state.ended.is_some() || !state.data.class(class).is_half_full() {
            return Poll::Ready(());
        }
        let tasks = &mut state.waiting.tasks[class as usize];
        if !tasks.iter().any(|waker| waker.will_wake(cx.waker())) {
            tasks.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Tells those who wait for a class of which something was taken, once half of what it may hold is free: each that is
    /// woken costs more than many messages.
    pub(super) fn tell_room(&self, state: &mut State) {
        let State { data, waiting, .. } = state;
        let mut has_threads = false;
        for (at, class) in CLASSES.into_iter().enumerate() {
            let queue = data.class(class);
            if queue.is_half_full() || queue.bytes() > WAITS_FROM / 2 {
                continue;
            }
            waiting.in_vain[at] = false;
            has_threads |= waiting.threads[at] > 0;
            for waker in waiting.tasks[at].drain(..) {
                waker.wake();
            }
        }
        if has_threads {
            self.room.notify_all();
        }
    }

    /// Tells all who wait: nothing will be as it was.
    pub(super) fn tell_all(&self, state: &mut State) {
        self.room.notify_all();
        for waker in state
            .waiting
            .tasks
            .iter_mut()
            .flat_map(|tasks| tasks.drain(..))
        {
            waker.wake();
        }
    }
}
