//! Bounded queues with a policy for when they are full, and a ledger of what they dropped.

use std::collections::VecDeque;

use crate::counters::{DropCause, DropLedger};
use crate::credit;
use crate::message::Message;

/// What a full queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The oldest queued messages make room.
    #[default]
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// The new message is dropped and the peering ends.
    Disconnect,
    /// A publisher with a deadline waits for room until then. For those that do not wait, such as
    /// relays, the new message is dropped.
    Block,
}

/// The bounds of a queue; both hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most messages.
    pub messages: usize,
    /// The most bytes of allocations that the queued messages keep alive.
    pub bytes: usize,
}

/// What a queue can hold: one message or a batch.
pub trait Queued {
    /// Returns the number of messages in it.
    fn messages(&self) -> usize;
    /// Returns the number of bytes of the allocations that it keeps alive, bookkeeping included.
    fn bytes(&self) -> usize;
    /// What it costs of the receiver's credit, if it is to cross a link: the sum of
    /// [`credit::cost`](crate::credit::cost) of its messages.
    fn cost(&self) -> usize {
        0
    }
    /// Returns `true` if it must not be lost: it neither makes room nor is refused for lack of
    /// room, as long as the queue holds fewer of its kind than [`Queue::with_reserved`] allows.
    fn reserved(&self) -> bool {
        false
    }
    /// Takes its oldest message out, if it holds several that can be dropped one by one, counts that one as dropped in
    /// `ledger`, and returns what it was in the queue. `None` drops the whole item instead.
    fn shed(&mut self, cause: DropCause, ledger: &mut DropLedger) -> Option<Size> {
        let _ = (cause, ledger);
        None
    }
    /// Counts its messages as dropped, by topic, in `ledger`.
    fn count_dropped(&self, cause: DropCause, ledger: &mut DropLedger);
}

/// What some messages are in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// The number of messages.
    pub messages: usize,
    /// The number of bytes of the allocations that they keep alive.
    pub bytes: usize,
    /// What they cost of the receiver's credit.
    pub cost: usize,
}

impl Size {
    /// Returns what an item is.
    pub fn of(item: &impl Queued) -> Self {
        Self {
            messages: item.messages(),
            bytes: item.bytes(),
            cost: item.cost(),
        }
    }
}

/// What queues count for one message besides its payload, in bytes.
pub const MESSAGE_OVERHEAD: usize = 160;

impl Queued for Message {
    fn messages(&self) -> usize {
        1
    }

    fn bytes(&self) -> usize {
        self.payload.len() + MESSAGE_OVERHEAD
    }

    fn cost(&self) -> usize {
        credit::cost(self.topic.as_bytes(), self.payload.len())
    }

    fn count_dropped(&self, cause: DropCause, ledger: &mut DropLedger) {
        ledger.count_topic(cause, self.topic.as_bytes());
    }
}

/// What became of an item that was offered to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// It was queued. Older messages may have been dropped for it, if the policy is to drop the
    /// oldest.
    Queued {
        /// Whether the queue was empty before: then its reader has to be woken.
        was_empty: bool,
        /// How many older messages made room.
        dropped: usize,
    },
    /// It was not queued, and is counted in the ledger.
    Dropped(DropCause),
}

/// A bounded queue.
#[derive(Debug)]
pub struct Queue<T> {
    items: VecDeque<T>,
    messages: usize,
    bytes: usize,
    /// What all items cost of the receiver's credit.
    cost: usize,
    limits: QueueLimits,
    overflow: Overflow,
    /// The reserved items, which are outside the limits, how many there may be, and what they are.
    reserved: usize,
    reserved_limit: usize,
    reserved_messages: usize,
    reserved_bytes: usize,
    dropped: DropLedger,
}

impl<T: Queued> Queue<T> {
    /// Creates an empty queue.
    pub fn new(limits: QueueLimits, overflow: Overflow) -> Self {
        Self {
            items: VecDeque::new(),
            messages: 0,
            bytes: 0,
            cost: 0,
            limits,
            overflow,
            reserved: 0,
            reserved_limit: 0,
            reserved_messages: 0,
            reserved_bytes: 0,
            dropped: DropLedger::default(),
        }
    }

    /// Adds places for `items` reserved items, outside the limits of the others, with as many bytes
    /// again for them.
    #[must_use]
    pub fn with_reserved(mut self, items: usize) -> Self {
        self.reserved_limit = items;
        self
    }

    /// Sets the bounds and the rule from now on. What is queued stays and counts: if it is more
    /// than the new bounds allow, the next item that is offered is treated as the rule says for a
    /// full queue.
    pub fn set_policy(&mut self, limits: QueueLimits, overflow: Overflow) {
        self.limits = limits;
        self.overflow = overflow;
    }

    /// Returns the bounds.
    pub fn limits(&self) -> QueueLimits {
        self.limits
    }

    /// Returns `true` if an item of `messages` messages and `bytes` bytes has room without anything
    /// being dropped.
    #[inline]
    pub fn has_room(&self, messages: usize, bytes: usize) -> bool {
        self.messages + messages <= self.limits.messages && self.bytes + bytes <= self.limits.bytes
    }

    /// Offers an item. What is dropped, the item itself or older ones, is counted in the ledger.
    pub fn push(&mut self, item: T) -> Push {
        let size = Size::of(&item);
        if item.reserved() {
            let is_too_large =
                size.messages > self.limits.messages || size.bytes > self.limits.bytes;
            if is_too_large {
                return self.refuse(&item, DropCause::TooLarge);
            }
            return self.push_reserved(item);
        }
        match self.make_room(size) {
            Ok(dropped) => {
                let was_empty = self.items.is_empty() && dropped == 0;
                self.items.push_back(item);
                self.added(size);
                Push::Queued { was_empty, dropped }
            }
            Err(cause) => self.refuse(&item, cause),
        }
    }

    /// Offers messages that may join the newest item. `join` is given that item, and either adds the messages to it or
    /// returns an item of their own. It is called if there is room for them, or others have made it.
    ///
    /// # Errors
    ///
    /// Returns why the messages are not taken, for the caller to count.
    pub fn join(
        &mut self,
        size: Size,
        join: impl FnOnce(Option<&mut T>) -> Option<T>,
    ) -> Result<Push, DropCause> {
        let dropped = self.make_room(size)?;
        let was_empty = self.items.is_empty() && dropped == 0;
        if let Some(item) = join(self.items.back_mut()) {
            self.items.push_back(item);
        }
        self.added(size);
        Ok(Push::Queued { was_empty, dropped })
    }

    /// Offers messages to the newest item, if there is one that `takes` them and no more than `most` bytes are queued then.
    /// Room is made by dropping the oldest messages, if that is the policy. Returns how many were dropped if `add` has
    /// added the messages to the item, and `None` if nothing was done.
    #[inline]
    pub fn add_to_newest(
        &mut self,
        size: Size,
        most: usize,
        takes: impl FnOnce(&T) -> bool,
        add: impl FnOnce(&mut T),
    ) -> Option<usize> {
        if self.bytes + size.bytes > most || !self.items.back().is_some_and(takes) {
            return None;
        }
        let mut dropped = 0;
        if !self.has_room(size.messages, size.bytes) {
            // One item alone would be gone before something is added to it.
            if self.overflow != Overflow::DropOldest || self.items.len() < 2 {
                return None;
            }
            dropped = self.make_room(size).ok()?;
        }
        add(self.items.back_mut()?);
        self.added(size);
        Some(dropped)
    }

    /// Makes room by the queue's policy, and returns how many older messages were dropped for it.
    fn make_room(&mut self, size: Size) -> Result<usize, DropCause> {
        let Size {
            messages, bytes, ..
        } = size;
        if messages > self.limits.messages || bytes > self.limits.bytes {
            return Err(DropCause::TooLarge);
        }
        let mut dropped = 0;
        while !self.has_room(messages, bytes) {
            match self.overflow {
                Overflow::DropNewest | Overflow::Block => return Err(DropCause::Newest),
                Overflow::Disconnect => return Err(DropCause::Disconnect),
                Overflow::DropOldest => {
                    dropped += self.displace().ok_or(DropCause::TooLarge)?;
                }
            }
        }
        Ok(dropped)
    }

    fn added(&mut self, size: Size) {
        self.messages += size.messages;
        self.bytes += size.bytes;
        self.cost += size.cost;
    }

    /// Queues an item that must not be lost; too many of them are as a full queue that disconnects.
    fn push_reserved(&mut self, item: T) -> Push {
        let bytes = self.reserved_bytes + item.bytes();
        if self.reserved >= self.reserved_limit || bytes > self.limits.bytes {
            return self.refuse(&item, DropCause::Disconnect);
        }
        let was_empty = self.items.is_empty();
        self.reserved += 1;
        self.reserved_messages += item.messages();
        self.reserved_bytes = bytes;
        self.cost += item.cost();
        self.items.push_back(item);
        Push::Queued {
            was_empty,
            dropped: 0,
        }
    }

    /// Drops the oldest message that may be lost, or the oldest item if its messages cannot be dropped one by one, and
    /// returns how many messages that was. There are few of the others to be passed over.
    fn displace(&mut self) -> Option<usize> {
        let at = self.items.iter().position(|item| !item.reserved())?;
        if let Some(shed) = self.items[at].shed(DropCause::Oldest, &mut self.dropped) {
            self.messages -= shed.messages;
            self.bytes -= shed.bytes;
            self.cost -= shed.cost;
            return Some(shed.messages);
        }
        let oldest = self.items.remove(at)?;
        self.taken(&oldest);
        oldest.count_dropped(DropCause::Oldest, &mut self.dropped);
        Some(oldest.messages())
    }

    /// An item has left the queue.
    fn taken(&mut self, item: &T) {
        self.cost -= item.cost();
        if item.reserved() {
            self.reserved -= 1;
            self.reserved_messages -= item.messages();
            self.reserved_bytes -= item.bytes();
        } else {
            self.messages -= item.messages();
            self.bytes -= item.bytes();
        }
    }

    /// Takes everything queued, by swapping with `into`, which must be empty.
    pub fn take_all(&mut self, into: &mut VecDeque<T>) {
        debug_assert!(
            into.is_empty(),
            "the reader has consumed what it took before"
        );
        std::mem::swap(&mut self.items, into);
        self.messages = 0;
        self.bytes = 0;
        self.cost = 0;
        self.reserved = 0;
        self.reserved_messages = 0;
        self.reserved_bytes = 0;
    }

    /// Returns the number of bytes that the oldest item keeps alive, or `None` if nothing is
    /// queued.
    pub fn next_bytes(&self) -> Option<usize> {
        self.items.front().map(Queued::bytes)
    }

    /// Takes the oldest item, or returns `None` if nothing is queued.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.taken(&item);
        Some(item)
    }

    /// Drops everything queued, counted under `cause`.
    pub fn clear(&mut self, cause: DropCause) {
        while let Some(item) = self.pop() {
            item.count_dropped(cause, &mut self.dropped);
        }
    }

    /// Counts an item that was never queued as dropped.
    pub fn refuse(&mut self, item: &T, cause: DropCause) -> Push {
        item.count_dropped(cause, &mut self.dropped);
        Push::Dropped(cause)
    }

    /// Counts one message by its topic that was never queued, or that the reader took from the queue and lost.
    pub fn count_dropped_topic(&mut self, cause: DropCause, topic: &[u8]) {
        self.dropped.count_topic(cause, topic);
    }

    /// Counts messages, given by their topic label, that the reader took from the queue and lost.
    pub fn count_dropped(&mut self, cause: DropCause, label: &str, messages: u64) {
        self.dropped.count(cause, label, messages);
    }

    /// Returns the number of queued messages.
    pub fn len(&self) -> usize {
        self.messages + self.reserved_messages
    }

    /// Returns `true` if nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the number of bytes that the queued messages keep alive.
    pub fn bytes(&self) -> usize {
        self.bytes + self.reserved_bytes
    }

    /// Returns what the queued messages cost of the receiver's credit.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Returns `true` if more than half of either bound is in use, so that whoever fills the queue
    /// should wait.
    pub fn is_half_full(&self) -> bool {
        self.messages > self.limits.messages / 2 || self.bytes > self.limits.bytes / 2
    }

    /// Returns what was dropped so far.
    pub fn dropped(&self) -> &DropLedger {
        &self.dropped
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::Topic;
    use crate::counters::Dropped;
    use crate::message::{Class, Kind};

    fn message(topic: &str, size: usize) -> Message {
        Message {
            topic: Topic::new(topic).unwrap(),
            payload: Bytes::from(vec![0; size]),
            kind: Kind::Data,
            class: Class::Event,
            id: None,
        }
    }

    fn queue(messages: usize, bytes: usize, overflow: Overflow) -> Queue<Message> {
        Queue::new(QueueLimits { messages, bytes }, overflow)
    }

    #[test]
    fn a_full_queue_follows_its_policy() {
        let mut oldest = queue(2, 10_000, Overflow::DropOldest);
        assert_eq!(
            oldest.push(message("/1", 1)),
            Push::Queued {
                was_empty: true,
                dropped: 0
            }
        );
        assert_eq!(
            oldest.push(message("/2", 1)),
            Push::Queued {
                was_empty: false,
                dropped: 0
            }
        );
        assert_eq!(
            oldest.push(message("/3", 1)),
            Push::Queued {
                was_empty: false,
                dropped: 1
            }
        );
        assert_eq!(oldest.pop().unwrap().topic, Topic::new("/2").unwrap());
        assert_eq!(
            oldest.dropped().entries().collect::<Vec<_>>(),
            [Dropped {
                cause: DropCause::Oldest,
                topic: "/1",
                messages: 1
            }]
        );

        let mut newest = queue(1, 10_000, Overflow::DropNewest);
        newest.push(message("/1", 1));
        assert_eq!(
            newest.push(message("/2", 1)),
            Push::Dropped(DropCause::Newest)
        );

        let mut block = queue(1, 10_000, Overflow::Block);
        block.push(message("/1", 1));
        assert_eq!(
            block.push(message("/2", 1)),
            Push::Dropped(DropCause::Newest)
        );

        let mut disconnect = queue(1, 10_000, Overflow::Disconnect);
        disconnect.push(message("/1", 1));
        assert_eq!(
            disconnect.push(message("/2", 1)),
            Push::Dropped(DropCause::Disconnect)
        );
    }

    #[test]
    fn what_is_queued_counts_when_the_policy_changes() {
        let mut queue = queue(4, 10_000, Overflow::DropNewest);
        for topic in ["/1", "/2", "/3", "/4"] {
            queue.push(message(topic, 1));
        }
        let limits = QueueLimits {
            messages: 2,
            bytes: 10_000,
        };
        queue.set_policy(limits, Overflow::DropOldest);
        assert_eq!(queue.len(), 4);
        let push = queue.push(message("/5", 1));
        assert!(matches!(push, Push::Queued { dropped: 3, .. }), "{push:?}");
        assert_eq!((queue.len(), queue.dropped().total()), (2, 3));
    }

    #[test]
    fn bytes_bound_as_well_as_messages() {
        let mut queue = queue(100, 2_000, Overflow::DropOldest);
        queue.push(message("/1", 1_000));
        queue.push(message("/2", 1_000));
        assert_eq!((queue.len(), queue.dropped().total()), (1, 1));
        assert_eq!(
            queue.push(message("/3", 5_000)),
            Push::Dropped(DropCause::TooLarge)
        );
    }

    proptest! {
        #[test]
        fn what_was_pushed_is_queued_taken_or_counted(
            sizes in prop::collection::vec((0usize..900, any::<bool>()), 0..80)
        ) {
            let mut queue = queue(5, 2_500, Overflow::DropOldest);
            let (mut pushed, mut taken) = (0u64, 0u64);
            for (size, pop) in sizes {
                queue.push(message("/t", size));
                pushed += 1;
                taken += u64::from(pop && queue.pop().is_some());
                prop_assert!(queue.len() <= 5 && queue.bytes() <= 2_500);
            }
            prop_assert_eq!(pushed, taken + queue.len() as u64 + queue.dropped().total());
        }
    }
}
