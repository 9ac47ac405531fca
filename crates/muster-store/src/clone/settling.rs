//! What becomes of a node's writes, told when its copy has them.

use muster_wire::Mono;

use super::{CopyMode, StoreClone};
use crate::op::Answer;
use crate::protocol::{Results, StoreMessage};
use crate::{Output, SettledWrite};

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
            self.awaits_word(now);
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
                self.held.hold(change, settled, now);
            }
        }
    }

    /// Tells of settled writes whose changes do not come here: their authors have waited long enough.
    pub(super) fn release_held(&mut self, now: Mono) {
        let mut released = self.held_before.release_old(now);
        released.extend(self.held.release_old(now));
        self.tell_settled(released);
    }

    /// Tells of all settled writes.
    pub(super) fn release_all(&mut self) {
        let mut released = self.held_before.release(u64::MAX);
        released.extend(self.held.release(u64::MAX));
        self.tell_settled(released);
    }

    pub(super) fn tell_settled(&mut self, settled: Vec<SettledWrite>) {
        self.out.extend(settled.into_iter().map(Output::Settled));
    }

    pub(super) fn settle_held(&mut self) {
        if self.attaching.is_none() {
            let released = self.held.release(self.next() - 1);
            self.tell_settled(released);
        }
    }
}
