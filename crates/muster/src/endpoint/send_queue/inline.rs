//! Writing without the writer's task. Waking it costs a publisher on another thread two calls of the system and
//! a switch between threads, which for a lone message is most of its way.

use std::sync::{Arc, MutexGuard, Weak};

use muster_wire::{Class, Push, Size};

use super::{SendQueue, State, Writer, wake};
use crate::endpoint::end_reason::EndReason;
use crate::endpoint::outgoing::Outgoing;
use crate::endpoint::post::Post;

/// What costs no more than this of a peer's credit may be written at once.
const SMALL: usize = 4 << 10;

/// The side of a writer that others may write by.
pub(crate) trait InlineWriter: Send + Sync {
    /// Writes something, unless somebody else is writing or has just done so: then gives it back. Calls `begin` when
    /// nobody else can write any more, and before it writes. Never waits.
    #[allow(
        clippy::result_large_err,
        reason = "what is given back is queued as it is"
    )]
    fn write_inline<'a>(
        &self,
        what: Inline<'a>,
        begin: &mut dyn FnMut(),
    ) -> Result<Written, Inline<'a>>;
}

/// What may be written without the writer's task.
#[derive(Debug)]
pub(crate) enum Inline<'a> {
    /// A message of this endpoint.
    Post(&'a Post<'a>),
    /// Messages of others.
    Item(Outgoing),
}

impl Inline<'_> {
    fn queued(&self) -> Size {
        match self {
            Self::Post(post) => post.queued(),
            Self::Item(item) => Size::of(item),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Post(post) => post.class,
            Self::Item(item) => item.class(),
        }
    }
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Written {
    /// The system has all of it.
    All,
    /// The writer's task has to write the rest.
    Part,
    /// The connection is lost.
    Failed(EndReason),
}

impl SendQueue {
    /// From now on others may write, whenever the writer rests.
    pub(crate) fn share_writer(&self, writer: Weak<dyn InlineWriter>) {
        // There is one writer in the life of a queue.
        let _ = self.inline_writer.set(writer);
    }

    /// Offers a message as [`SendQueue::post`] does; writes it on this thread if nothing waits, and the last write
    /// is a while ago.
    pub(crate) fn post_inline(&self, post: &Post<'_>) -> Push {
        let mut state = self.lock();
        if let Some(cause) = self.cannot_take_post(&state, post) {
            return self.refuse_post(&mut state, post, cause);
        }
        self.post_inline_locked(state, post)
    }

    /// Offers messages of others, likewise.
    pub(crate) fn relay(&self, relayed: Outgoing) {
        let mut state = self.lock();
        if let Some(cause) = self.cannot_take(&state, &relayed) {
            self.refuse(&mut state, &relayed, cause);
            return;
        }
        self.write_or_queue(state, Inline::Item(relayed));
    }

    /// Writes a message that has room now, or queues it.
    pub(super) fn post_inline_locked(&self, state: MutexGuard<'_, State>, post: &Post<'_>) -> Push {
        self.write_or_queue(state, Inline::Post(post))
    }

    fn write_or_queue(&self, state: MutexGuard<'_, State>, what: Inline<'_>) -> Push {
        let class = self.queue_of_class(what.class());
        let size = what.queued();
        let Some(writer) = self.resting_writer(&state, size, class) else {
            return self.queue_locked(state, what);
        };
        let mut held = Some(state);
        let mut begin = || {
            if let Some(mut state) = held.take() {
                state.data.credits_mut().spend(class, size.cost);
            }
        };
        match writer.write_inline(what, &mut begin) {
            Err(what) => match (held, what) {
                (Some(state), what) => return self.queue_locked(state, what),
                (None, Inline::Post(post)) => return self.post(post),
                (None, Inline::Item(item)) => return self.offer(item),
            },
            Ok(Written::All) => {}
            Ok(Written::Part) => {
                let mut state = self.lock();
                state.writer = Writer::HasRest;
                wake(state);
            }
            Ok(Written::Failed(reason)) => self.end(reason),
        }
        Push::Queued {
            was_empty: true,
            dropped: 0,
        }
    }

    fn queue_locked(&self, state: MutexGuard<'_, State>, what: Inline<'_>) -> Push {
        match what {
            Inline::Post(post) => self.post_locked(state, post),
            Inline::Item(item) => self.push_locked(state, item),
        }
    }

    /// The writer, if it has nothing to do and something may go now: nothing waits that is to go before it.
    fn resting_writer(
        &self,
        state: &State,
        size: Size,
        class: Class,
    ) -> Option<Arc<dyn InlineWriter>> {
        // Compressing is the writer's work, and a slow link has more to wait for than its task.
        if state.writer != Writer::Rests || size.cost > SMALL || self.compresses() {
            return None;
        }
        let has_nothing = state.has_nothing() && state.data.is_empty();
        // What the queue would refuse as too large is refused.
        let has_room = (state.data.class(class)).has_room(size.messages, size.bytes);
        if !has_nothing || !has_room || !state.data.credits().allows(class) {
            return None;
        }
        self.inline_writer.get()?.upgrade()
    }
}
