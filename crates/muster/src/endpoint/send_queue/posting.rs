//! Messages of this endpoint on their way into a peer's queue, small ones written out among others.

use std::sync::MutexGuard;

use muster_wire::Push;
use muster_wire::counters::DropCause;
use muster_wire::peering::Protocol;

use super::{Outgoing, SendQueue, State};
use crate::endpoint::post::Post;

impl SendQueue {
    /// Offers a message, under the queue's policy.
    pub(crate) fn post(&self, post: &Post<'_>) -> Push {
        let mut state = self.lock();
        if let Some(cause) = self.cannot_take_post(&state, post) {
            return self.refuse_post(&mut state, post, cause);
        }
        self.post_locked(state, post)
    }

    /// Adds a message to the newest run of its class, if there is one that is not full, and no more bytes than `most`
    /// wait: what nearly every message of a publisher that is in a hurry does. Its reader was woken for that run. Returns how
    /// many older messages were dropped for it, or `None` if it is not queued.
    #[inline]
    pub(crate) fn adds_to_run(&self, post: &Post<'_>, most: usize) -> Option<usize> {
        if !post.is_copied() {
            return None;
        }
        let mut state = self.lock();
        if state.closing || state.ended.is_some() {
            return None;
        }
        let queue = state.data.class_mut(self.queue_of_class(post.class));
        let takes = |newest: &Outgoing| newest.takes(post);
        queue.add_to_newest(post.queued(), most, takes, |newest| newest.add(post))
    }

    /// Queues a message, among others in the form in which it crosses the link if the peer reads that.
    pub(super) fn post_locked(&self, mut state: MutexGuard<'_, State>, post: &Post<'_>) -> Push {
        let writes_runs = self.protocol == Protocol::V1 || self.takes_runs();
        if !post.is_copied() || !writes_runs {
            return self.push_locked(state, Outgoing::Message(post.message()));
        }
        let State { data, runs, .. } = &mut *state;
        let queue = data.class_mut(self.queue_of_class(post.class));
        let push = queue
            .join(post.queued(), |newest| {
                let mut follows_full = false;
                if let Some(newest) = newest {
                    if newest.takes(post) {
                        newest.add(post);
                        return None;
                    }
                    follows_full = newest.is_run();
                }
                Some(runs.begin(self.protocol, follows_full, post))
            })
            .unwrap_or_else(|cause| {
                queue.count_dropped_topic(cause, post.topic.as_bytes());
                Push::Dropped(cause)
            });
        self.pushed(state, push)
    }

    /// Counts a message that is not taken.
    pub(super) fn refuse_post(&self, state: &mut State, post: &Post<'_>, cause: DropCause) -> Push {
        let class = self.queue_of_class(post.class);
        if cause == DropCause::TooLarge {
            self.tell_too_large(post.topic, post.size(), class);
        }
        let queue = state.data.class_mut(class);
        queue.count_dropped_topic(cause, post.topic.as_bytes());
        Push::Dropped(cause)
    }

    pub(super) fn cannot_take_post(&self, state: &State, post: &Post<'_>) -> Option<DropCause> {
        if state.closing || state.ended.is_some() {
            return Some(DropCause::PeerGone);
        }
        let class = self.queue_of_class(post.class);
        let is_over = post.queued().bytes > self.limits(class).bytes || post.size() > self.largest;
        is_over.then_some(DropCause::TooLarge)
    }
}
