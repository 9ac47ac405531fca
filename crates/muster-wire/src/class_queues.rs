//! One queue per class of traffic, emptied so that no class waits for another for long.

use std::collections::VecDeque;

use crate::counters::{DropCause, DropLedger};
use crate::credit::{Credits, SHARING};
use crate::message::Class;
use crate::queue::{Overflow, Queue, QueueLimits, Queued};

/// The bytes that each class may take in one round, in the order of [`Class`]: 8 to 4 to 1. Control
/// takes what it has.
const QUANTA: [usize; 4] = [0, 32 << 10, 16 << 10, 4 << 10];

/// The bound of one class's queue, and what it does when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassPolicy {
    /// The bounds.
    pub limits: QueueLimits,
    /// What a full queue does.
    pub overflow: Overflow,
}

/// The queues of all classes towards one peer. Control goes first; the others share the link by
/// weight, in bytes, and what one class does not use the others may (deficit round robin, Shreedhar
/// and Varghese 1995).
#[derive(Debug)]
pub struct ClassQueues<T> {
    queues: [Queue<T>; 4],
    /// What a class may still take of its round; what is over stays, so that large items get their turn.
    deficits: [usize; 4],
    credits: Credits,
    /// A class that is not taken for now.
    is_held: [bool; 4],
}

impl<T: Queued> ClassQueues<T> {
    /// Creates empty queues. Policies are in the order of [`Class`]; each queue has `reserved`
    /// places for items that must not be lost.
    pub fn new(policies: [ClassPolicy; 4], reserved: usize) -> Self {
        let queue = |policy: ClassPolicy| {
            Queue::new(policy.limits, policy.overflow).with_reserved(reserved)
        };
        Self {
            queues: policies.map(queue),
            deficits: [0; 4],
            credits: Credits::default(),
            is_held: [false; 4],
        }
    }

    /// Sets the bounds and rules from now on, in the order of [`Class`]; see [`Queue::set_policy`].
    pub fn set_policies(&mut self, policies: [ClassPolicy; 4]) {
        for (queue, policy) in self.queues.iter_mut().zip(policies) {
            queue.set_policy(policy.limits, policy.overflow);
        }
    }

    /// Returns how much the receiver lets this side send.
    pub fn credits(&self) -> &Credits {
        &self.credits
    }

    /// Returns the credits for changing them.
    pub fn credits_mut(&mut self) -> &mut Credits {
        &mut self.credits
    }

    /// Holds a class back or lets it go: while it is held, [`ClassQueues::take`] leaves it in its
    /// queue.
    pub fn hold(&mut self, class: Class, is_held: bool) {
        self.is_held[class as usize] = is_held;
    }

    /// Returns `true` if a class has something that may be sent now.
    fn may_take(&self, class: Class) -> bool {
        let is_held = self.is_held[class as usize];
        !self.class(class).is_empty() && !is_held && self.credits.allows(class)
    }

    /// Returns `true` if there is something that may be sent now.
    pub fn is_ready(&self) -> bool {
        self.queues.iter().any(|queue| !queue.is_empty())
            && (self.may_take(Class::Control) || SHARING.iter().any(|class| self.may_take(*class)))
    }

    /// Returns the queue of a class.
    pub fn class(&self, class: Class) -> &Queue<T> {
        &self.queues[class as usize]
    }

    /// Returns the queue of a class, for pushing to it.
    #[inline]
    pub fn class_mut(&mut self, class: Class) -> &mut Queue<T> {
        &mut self.queues[class as usize]
    }

    /// Returns the number of queued messages.
    pub fn len(&self) -> usize {
        self.queues.iter().map(Queue::len).sum()
    }

    /// Returns `true` if nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(Queue::is_empty)
    }

    /// Returns the number of bytes that the queued messages keep alive.
    pub fn bytes(&self) -> usize {
        self.queues.iter().map(Queue::bytes).sum()
    }

    /// Returns what was dropped so far, in all classes together.
    pub fn dropped(&self) -> DropLedger {
        let mut sum = DropLedger::default();
        for queue in &self.queues {
            sum.merge(queue.dropped());
        }
        sum
    }

    /// Drops everything queued, counted under `cause`.
    pub fn clear(&mut self, cause: DropCause) {
        for queue in &mut self.queues {
            queue.clear(cause);
        }
        self.deficits = [0; 4];
    }

    /// Takes about `bytes` bytes, in the order in which they are to be sent: all of control, then
    /// rounds of the other classes, as far as they have credit. Rounds are finished and items taken
    /// whole, so it may be somewhat more.
    pub fn take(&mut self, bytes: usize, into: &mut VecDeque<T>) {
        self.take_ready(bytes, into);
        for class in SHARING {
            if !self.class(class).is_empty() && !self.credits.allows(class) {
                self.credits.wait(class);
            }
        }
    }

    fn take_ready(&mut self, bytes: usize, into: &mut VecDeque<T>) {
        let control = self.class_mut(Class::Control);
        while let Some(item) = control.pop() {
            into.push_back(item);
        }
        let mut classes = SHARING.into_iter().filter(|class| self.may_take(*class));
        if let (Some(only), None) = (classes.next(), classes.next())
            && into.is_empty()
            && self.class(only).bytes() <= bytes
            && self.credits.covers(only, self.class(only).cost())
        {
            // The common case costs nothing per item.
            self.deficits[only as usize] = 0;
            self.credits.spend(only, self.class(only).cost());
            return self.class_mut(only).take_all(into);
        }
        let mut taken = 0;
        while taken < bytes && SHARING.iter().any(|class| self.may_take(*class)) {
            for class in SHARING {
                if !self.may_take(class) {
                    self.deficits[class as usize] = 0;
                    continue;
                }
                let deficit = &mut self.deficits[class as usize];
                let queue = &mut self.queues[class as usize];
                *deficit += QUANTA[class as usize];
                while self.credits.allows(class)
                    && let Some(size) = queue.next_bytes()
                    && size <= *deficit
                    && let Some(item) = queue.pop()
                {
                    *deficit -= size;
                    taken += size;
                    self.credits.spend(class, item.cost());
                    into.push_back(item);
                }
                if queue.is_empty() {
                    *deficit = 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Item(Class, usize, usize);

    impl Queued for Item {
        fn messages(&self) -> usize {
            1
        }

        fn bytes(&self) -> usize {
            self.2
        }

        fn cost(&self) -> usize {
            self.2 + 7
        }

        fn reserved(&self) -> bool {
            self.0 == Class::Control
        }

        fn count_dropped(&self, cause: DropCause, ledger: &mut DropLedger) {
            ledger.count(cause, "t", 1);
        }
    }

    fn queues() -> ClassQueues<Item> {
        let policy = ClassPolicy {
            limits: QueueLimits {
                messages: 100_000,
                bytes: 1 << 30,
            },
            overflow: Overflow::DropOldest,
        };
        ClassQueues::new([policy; 4], 10)
    }

    fn bytes_of(taken: &VecDeque<Item>, class: Class) -> usize {
        let items = taken.iter().filter(|item| item.0 == class);
        items.map(|item| item.2).sum()
    }

    #[test]
    fn classes_share_by_their_weights_and_control_goes_first() {
        let mut queues = queues();
        for number in 0..20_000 {
            for class in SHARING {
                queues.class_mut(class).push(Item(class, number, 500));
            }
        }
        let hello = Item(Class::Control, 0, 100);
        queues.class_mut(Class::Control).push(hello.clone());
        let mut taken = VecDeque::new();
        for _ in 0..13 {
            queues.take(52 << 10, &mut taken);
        }
        assert_eq!(taken.front(), Some(&hello));
        let [interactive, event, bulk] = SHARING.map(|class| bytes_of(&taken, class));
        let near = |value: usize, expected: usize| value.abs_diff(expected) < expected / 20;
        assert!(
            near(event, interactive / 2) && near(bulk, interactive / 8),
            "{interactive} {event} {bulk}"
        );
    }

    #[test]
    fn a_lone_class_gets_everything_and_a_newcomer_waits_for_one_round() {
        let mut queues = queues();
        for number in 0..10_000 {
            queues
                .class_mut(Class::Bulk)
                .push(Item(Class::Bulk, number, 1000));
        }
        let mut taken = VecDeque::new();
        queues.take(100_000, &mut taken);
        assert!(bytes_of(&taken, Class::Bulk) >= 100_000);
        let request = Item(Class::Interactive, 0, 300);
        queues.class_mut(Class::Interactive).push(request.clone());
        taken.clear();
        queues.take(100_000, &mut taken);
        assert_eq!(taken.front(), Some(&request));
    }

    #[test]
    fn an_item_larger_than_a_quantum_gets_its_turn() {
        let mut queues = queues();
        queues
            .class_mut(Class::Bulk)
            .push(Item(Class::Bulk, 0, 1 << 20));
        for number in 0..50_000 {
            queues
                .class_mut(Class::Event)
                .push(Item(Class::Event, number, 1000));
        }
        let mut taken = VecDeque::new();
        let mut takes = 0;
        while bytes_of(&taken, Class::Bulk) == 0 {
            taken.clear();
            queues.take(64 << 10, &mut taken);
            takes += 1;
        }
        // A mebibyte in quanta of 4 KiB: 256 rounds, a few in each take.
        assert!(takes < 200, "{takes}");
    }

    #[test]
    fn a_class_without_credit_waits_and_no_other_waits_for_it() {
        let mut queues = queues();
        for class in SHARING {
            queues.credits_mut().grant(class, 1000);
            for number in 0..10 {
                queues.class_mut(class).push(Item(class, number, 393));
            }
        }
        queues.credits_mut().grant(Class::Event, 1 << 20);
        let mut taken = VecDeque::new();
        queues.take(1 << 20, &mut taken);
        // Two are covered, the third takes the credit below zero.
        let taken_of = |taken: &VecDeque<Item>| SHARING.map(|class| bytes_of(taken, class) / 393);
        assert_eq!(taken_of(&taken), [3, 10, 3]);
        assert!(!queues.is_ready());
        assert_eq!(queues.credits().waits(), 2);
        taken.clear();
        queues.take(1 << 20, &mut taken);
        assert!(taken.is_empty() && queues.credits().waits() == 2);
        queues.credits_mut().grant(Class::Bulk, 1 << 20);
        assert!(queues.is_ready());
        queues.take(1 << 20, &mut taken);
        assert_eq!(taken_of(&taken), [0, 0, 7]);
        assert_eq!(
            (queues.len(), queues.class(Class::Interactive).cost()),
            (7, 2800)
        );
        queues.hold(Class::Interactive, true);
        queues.credits_mut().lift();
        assert!(!queues.is_ready());
        queues.hold(Class::Interactive, false);
        taken.clear();
        queues.take(1 << 20, &mut taken);
        assert_eq!(taken_of(&taken), [7, 0, 0]);
    }

    proptest! {
        #[test]
        fn everything_is_taken_once_in_the_order_of_its_class(
            items in prop::collection::vec((0u8..4, 1usize..40_000, any::<bool>()), 0..200)
        ) {
            let mut queues = queues();
            let mut pushed: [Vec<Item>; 4] = Default::default();
            let mut taken = VecDeque::new();
            let all = [Class::Control, Class::Interactive, Class::Event, Class::Bulk];
            for (number, (class, size, take)) in items.into_iter().enumerate() {
                let class = all[class as usize];
                let item = Item(class, number, size);
                if queues.class(class).len() < 10 {
                    queues.class_mut(class).push(item.clone());
                    pushed[class as usize].push(item);
                }
                if take {
                    queues.take(20_000, &mut taken);
                }
            }
            while !queues.is_empty() {
                queues.take(20_000, &mut taken);
            }
            for class in all {
                let of_class: Vec<Item> =
                    taken.iter().filter(|item| item.0 == class).cloned().collect();
                prop_assert_eq!(&of_class, &pushed[class as usize]);
            }
            prop_assert_eq!(queues.bytes(), 0);
        }
    }
}
