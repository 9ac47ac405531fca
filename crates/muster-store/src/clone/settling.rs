//! What becomes of a node's writes, told when its copy has them.

use muster_wire::Mono;

use super::{CopyMode, HELD, StoreClone};
use crate::Output;
use crate::op::Answer;
use crate::protocol::{Results, StoreMessage};

impl StoreClone {
    pub(super) fn results(&mut self, results: &Results, now: Mono) {
        self.writes.receive(results, now);
        self.send_writes(now);
        self.settle(now);
    }

    pub(super) fn send_writes(&mut self, now: Mono) {
        let Some(primary) = self.primary else {
            return;
        };
        while let Some(write) = self.writes.send(now) {
            self.send(primary.endpoint, &StoreMessage::Write(write));
        }
    }

    /// Tells of settled writes, as soon as what this node reads has them.
    pub(super) fn settle(&mut self, now: Mono) {
        for settled in self.writes.settled() {
            let change = match &settled.outcome {
                Ok(Answer::Done { change, .. } | Answer::Unchanged { change }) => *change,
                _ => 0,
            };
            let is_here = self.config.copy == CopyMode::None
                || (self.attaching.is_none() && change < self.next());
            if change == 0 || is_here {
                self.out.push_back(Output::Settled(settled));
            } else {
                if self.held.is_empty() && self.held_before.is_empty() {
                    self.held_since = now;
                }
                self.held.entry(change).or_default().push(settled);
            }
        }
    }

    /// Tells of settled writes whose changes do not come here: their authors have waited long enough.
    pub(super) fn release_held(&mut self, now: Mono) {
        if now.since(self.held_since) < HELD {
            return;
        }
        let held = std::mem::take(&mut self.held).into_values().flatten();
        for settled in self.held_before.drain(..).chain(held) {
            self.out.push_back(Output::Settled(settled));
        }
    }

    pub(super) fn settle_held(&mut self) {
        if self.attaching.is_some() {
            return;
        }
        let next = self.next();
        while let Some(first) = self.held.first_entry()
            && *first.key() < next
        {
            for settled in first.remove() {
                self.out.push_back(Output::Settled(settled));
            }
        }
    }
}
