//! Writing without the writer's task. Waking it costs a publisher on another thread two calls of the system and
//! a switch between threads, which for a lone message is most of its way.

use std::sync::{Arc, MutexGuard, Weak};

use muster_wire::{Class, Message, Push, Queued};

use super::{SendQueue, State, Writer, wake};
use crate::endpoint::end_reason::EndReason;
use crate::endpoint::outgoing::{Outgoing, Relayed};

/// What costs no more than this of a peer's credit may be written at once.
const SMALL: usize = 4 << 10;

/// The side of a writer that others may write by.
pub(crate) trait InlineWriter: Send + Sync {
    /// Writes an item, unless somebody else is writing or has just done so: then gives it back. Calls `begin` when
    /// nobody else can write any more, and before it writes. Never waits.
    fn write_inline(&self, item: Outgoing, begin: &mut dyn FnMut()) -> Result<Written, Outgoing>;
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

    /// Offers a message as [`SendQueue::push`] does; writes it on this thread if nothing waits, and the last write
    /// is a while ago.
    pub(crate) fn push_inline(&self, message: Message) -> Push {
        self.offer_inline(Outgoing::Message(message))
    }

    /// Offers messages of others, likewise.
    pub(crate) fn relay(&self, relayed: Relayed) {
        self.offer_inline(Outgoing::Relayed(relayed));
    }

    fn offer_inline(&self, item: Outgoing) -> Push {
        let mut state = self.lock();
        if let Some(cause) = self.cannot_take(&state, &item) {
            return self.refuse(&mut state, &item, cause);
        }
        self.push_inline_locked(state, item)
    }

    /// Writes an item that has room now, or queues it.
    pub(super) fn push_inline_locked(&self, state: MutexGuard<'_, State>, item: Outgoing) -> Push {
        let class = self.queue_of(&item);
        let Some(writer) = self.resting_writer(&state, &item, class) else {
            return self.push_locked(state, item);
        };
        let cost = item.cost();
        let mut held = Some(state);
        let mut begin = || {
            if let Some(mut state) = held.take() {
                state.data.credits_mut().spend(class, cost);
            }
        };
        match writer.write_inline(item, &mut begin) {
            Err(item) => match held {
                Some(state) => return self.push_locked(state, item),
                None => return self.offer(item),
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

    /// The writer, if it has nothing to do and an item may go now: nothing waits that is to go before it.
    fn resting_writer(
        &self,
        state: &State,
        item: &Outgoing,
        class: Class,
    ) -> Option<Arc<dyn InlineWriter>> {
        // Compressing is the writer's work, and a slow link has more to wait for than its task.
        if state.writer != Writer::Rests || item.cost() > SMALL || self.compresses() {
            return None;
        }
        let has_nothing = state.has_nothing() && state.data.is_empty();
        // What the queue would refuse as too large is refused.
        let has_room = (state.data.class(class)).has_room(item.messages(), item.bytes());
        if !has_nothing || !has_room || !state.data.credits().allows(class) {
            return None;
        }
        self.inline_writer.get()?.upgrade()
    }
}
