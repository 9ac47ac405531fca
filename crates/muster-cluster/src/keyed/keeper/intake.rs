//! Events that producers send to the owner of their keys.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use muster_wire::EndpointId;

use super::settling::Progress;
use super::{Keeper, KeeperStep};
use crate::delivery::Numbers;
use crate::keyed::entry::{Changes, EventId, Receipt, Wait, maker_of_outputs};
use crate::keyed::messages::{Events, EventsAck, KeyedEvent};
use crate::keyed::sabotage::Sabotage;

/// What is known of a producer.
#[derive(Debug, Default)]
pub(super) struct Producer {
    generation: u64,
    /// The place of the next event that is taken.
    expected: u64,
    /// Events below this do not come again.
    pub(super) floor: u64,
    /// The events that were handled, by number: which digest they are of.
    window: BTreeMap<u64, u32>,
    /// What it is to be told is done.
    done: Numbers,
}

/// An event that waits for the contents of its key.
#[derive(Debug)]
pub(super) struct Held {
    receipt: Receipt,
    generation: u64,
    event: KeyedEvent,
}

impl Keeper {
    /// A producer sends events.
    pub(crate) fn arrived(&mut self, from: EndpointId, message: Events) {
        if !self.know(from) {
            self.counts.no_room += message.events.len() as u64;
            return;
        }
        self.advance(from, message.floor);
        let maker = maker_of_outputs(from);
        if message.outputs_floor > 0 && self.know(maker) {
            self.advance(maker, message.outputs_floor);
        }
        if self.is_suspended || self.mine.is_none() || message.events.is_empty() {
            return;
        }
        let Some(producer) = self.producers.get_mut(&from) else {
            return;
        };
        if message.generation < producer.generation {
            return;
        }
        if message.generation > producer.generation {
            producer.generation = message.generation;
            producer.expected = 0;
        }
        let has_gap = message.first > producer.expected;
        self.to_answer.insert(from);
        if has_gap && self.broken != Sabotage::TakesWithGaps {
            return;
        }
        for event in message.events {
            if !self.take_in(from, event) {
                break;
            }
        }
    }

    /// Takes an event, or not. Returns `false` if nothing behind it can be taken either.
    fn take_in(&mut self, from: EndpointId, event: KeyedEvent) -> bool {
        let Some(producer) = self.producers.get(&from) else {
            return false;
        };
        let (generation, expected, floor) =
            (producer.generation, producer.expected, producer.floor);
        let sent_as = EventId {
            producer: from,
            number: event.number,
        };
        let made_as = event.made_as.unwrap_or(sent_as);
        let receipt = Receipt { sent_as, made_as };
        let place = event.place;
        if event.number < floor {
            self.took(from, place);
            return true;
        }
        if self.roster.owner(event.digest) != self.mine {
            return place < expected;
        }
        let is_served = self.serves(event.digest);
        if is_served && self.is_again(receipt, event.digest) {
            self.counts.again += 1;
            self.took(from, place);
            return true;
        }
        // It was taken before, and waits.
        if place < expected {
            return true;
        }
        if !self.know(made_as.producer) {
            self.counts.no_room += 1;
            return false;
        }
        if !is_served {
            if self.held_bytes + event.payload.len() > self.limits.held {
                self.counts.no_room += 1;
                return false;
            }
            self.held_bytes += event.payload.len();
            self.held.push_back(Held {
                receipt,
                generation,
                event,
            });
            self.took(from, place);
            return true;
        }
        if self.remembered + self.ready.len() >= self.limits.handled {
            self.counts.no_room += 1;
            return false;
        }
        self.took(from, place);
        self.ready.push_back(Held {
            receipt,
            generation,
            event,
        });
        true
    }

    fn took(&mut self, from: EndpointId, place: u64) {
        if let Some(producer) = self.producers.get_mut(&from) {
            producer.expected = producer.expected.max(place.saturating_add(1));
        }
    }

    /// Returns `true` if an event was handled. It is acknowledged when the standby has it.
    fn is_again(&mut self, receipt: Receipt, digest: u32) -> bool {
        let Receipt { sent_as, made_as } = receipt;
        if self.broken == Sabotage::HandlesAgain {
            return false;
        }
        // Whoever has made it says so. Who has sent it may not know.
        let maker = self.producers.get(&made_as.producer);
        if maker.is_some_and(|maker| made_as.number < maker.floor) {
            self.done(sent_as);
            return true;
        }
        let Some(entry) = self.entries.get_mut(&digest) else {
            return false;
        };
        if !entry.contents.has_handled(made_as) {
            return false;
        }
        if entry.is_safe() {
            self.done(sent_as);
            return true;
        }
        // It is told as done when all that is on its way has arrived.
        let standby = self.roster.standby(digest);
        let done = Wait::Done(sent_as);
        if !entry.waits.contains(&done)
            && let Some(lane) = standby.and_then(|standby| self.lanes.get_mut(&standby.life))
        {
            entry.note(entry.contents.version, Changes::default(), None, [done]);
            lane.changed.insert(digest);
        }
        true
    }

    /// Takes the next event to handle. [`changed`](Self::changed) follows, before anything else.
    pub(crate) fn take_event(&mut self) -> Option<(Receipt, KeyedEvent)> {
        // Others may have taken over from a member that may not act.
        let handles_all = self.broken == Sabotage::HandlesWhatItHasTaken;
        while (handles_all || !self.is_suspended)
            && let Some(held) = self.ready.pop_front()
        {
            // Since it was taken there are other members: what is done to its key here does not count any more, or not yet.
            if !handles_all && !self.serves(held.event.digest) {
                self.expect_again(&held);
                continue;
            }
            let Held { receipt, event, .. } = held;
            let EventId { producer, number } = receipt.sent_as;
            let known = self.producers.get(&producer);
            let is_over = known.is_none_or(|known| number < known.floor);
            if is_over || self.is_again(receipt, event.digest) {
                self.counts.again += 1;
                continue;
            }
            self.counts.handled += 1;
            return Some((receipt, event));
        }
        None
    }

    /// An event is done: its producer is told.
    pub(super) fn done(&mut self, event: EventId) {
        if let Some(producer) = self.producers.get_mut(&event.producer) {
            producer.done.insert(event.number);
            self.to_answer.insert(event.producer);
        }
    }

    /// Answers producers.
    pub(super) fn answer(&mut self) {
        for life in mem::take(&mut self.to_answer) {
            if let Some(producer) = self.producers.get_mut(&life) {
                let ack = EventsAck {
                    generation: producer.generation,
                    expected: producer.expected,
                    done: mem::take(&mut producer.done),
                };
                self.steps.push(KeeperStep::Acknowledge(life, ack));
            }
        }
    }

    /// An event is remembered as long as it may come again.
    pub(super) fn remember(&mut self, event: EventId, digest: u32) {
        if !self.know(event.producer) {
            return;
        }
        let producer = self.producers.entry(event.producer).or_default();
        let before = producer.window.insert(event.number, digest);
        self.remembered += usize::from(before.is_none());
    }

    /// Knows a producer from now on. Returns `false` if there is no room for one more.
    pub(super) fn know(&mut self, producer: EndpointId) -> bool {
        let has_room = self.producers.len() < self.limits.producers;
        if has_room {
            self.producers.entry(producer).or_default();
        }
        has_room || self.producers.contains_key(&producer)
    }

    /// What is below a number does not come again.
    pub(super) fn advance(&mut self, from: EndpointId, floor: u64) {
        let Some(producer) = self.producers.get_mut(&from) else {
            return;
        };
        if floor <= producer.floor {
            return;
        }
        producer.floor = floor;
        for lane in self.lanes.values_mut() {
            lane.floors.insert(from);
        }
        let open = producer.window.split_off(&floor);
        let over = mem::replace(&mut producer.window, open);
        self.remembered = self.remembered.saturating_sub(over.len());
        let digests: BTreeSet<u32> = over.into_values().collect();
        for digest in digests {
            if let Some(entry) = self.entries.get_mut(&digest)
                && entry.contents.forget_below(from, floor)
                && entry.contents.is_empty()
            {
                self.empty.insert(digest);
            }
        }
    }

    /// A producer is gone for good: nothing of it comes again.
    pub(crate) fn forget_producer(&mut self, life: EndpointId) {
        self.advance(life, u64::MAX);
        self.producers.remove(&life);
        self.to_answer.remove(&life);
    }

    /// Returns the producers that are known.
    pub(crate) fn producers(&self) -> impl Iterator<Item = EndpointId> {
        self.producers.keys().copied()
    }

    /// Nothing that was handled is here any more.
    pub(super) fn forget_windows(&mut self) {
        for producer in self.producers.values_mut() {
            producer.window.clear();
        }
        self.remembered = 0;
    }

    /// What is here may not be the newest: producers send all that is open, in order.
    pub(super) fn expect_anew(&mut self) {
        for producer in self.producers.values_mut() {
            producer.expected = 0;
        }
    }

    /// An event that was taken is not here any more: it is taken again, and nothing behind it before.
    pub(super) fn expect_again(&mut self, held: &Held) {
        let sender = held.receipt.sent_as.producer;
        if let Some(producer) = self.producers.get_mut(&sender)
            && producer.generation == held.generation
        {
            producer.expected = producer.expected.min(held.event.place);
            self.to_answer.insert(sender);
        }
    }

    /// The contents of all keys are here: what has waited for them is handled.
    pub(super) fn release_held(&mut self) {
        if self.is_suspended || self.phase.progress == Progress::Waiting {
            return;
        }
        let mut dropped = BTreeSet::new();
        for held in mem::take(&mut self.held) {
            let producer = held.receipt.sent_as.producer;
            let is_own = self.roster.owner(held.event.digest) == self.mine;
            if !is_own || dropped.contains(&producer) {
                // It goes to another owner; order is per producer and owner.
                self.expect_again(&held);
                dropped.insert(producer);
                continue;
            }
            self.ready.push_back(held);
        }
        self.held_bytes = 0;
    }
}
