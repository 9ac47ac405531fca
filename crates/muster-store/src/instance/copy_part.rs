//! An instance that keeps a copy of a store whose copies coordinators decide about: the primary's, or one that stands by. What its endpoint
//! writes goes the same way as everybody's, so that it is applied once, whoever is the primary when it arrives.

use std::collections::VecDeque;

use muster_wire::{EndpointId, Mono};

#[cfg(test)]
use super::Sabotage;
use super::primary_part::PrimaryPart;
use super::{CopyReport, Output, StorePart};
use crate::backend::Commit;
use crate::broker::BrokerCommand;
use crate::clone::{FormerCopy, HeldWrites, differences};
use crate::op::{Answer, Op};
use crate::protocol::{Query, StoreMessage};
use crate::{
    Assignment, CloneConfig, Entries, Freshness, Level, Now, Revision, SettledWrite, StoreClone,
    Token,
};

#[derive(Debug)]
pub(super) struct CopyPart {
    me: EndpointId,
    pub(super) part: PrimaryPart,
    /// The way of this endpoint's writes and questions to the primary, which may be here. Until the copy has what this has as a clone,
    /// it goes on as one, and is what the endpoint reads.
    client: StoreClone,
    /// The copy is what the endpoint reads.
    reads_copy: bool,
    /// The endpoint's watchers are told of changes.
    is_watched: bool,
    /// Settled writes whose change the copy here does not have yet.
    held: HeldWrites,
    serves: bool,
    /// How it is a clone, if it becomes one again.
    clone_config: CloneConfig,
    out: VecDeque<Output>,
    #[cfg(test)]
    sabotage: Sabotage,
}

impl CopyPart {
    /// A copy that its endpoint reads at once. `client` has none.
    pub(super) fn with(
        me: EndpointId,
        part: PrimaryPart,
        client: StoreClone,
        clone_config: CloneConfig,
    ) -> Self {
        Self {
            me,
            part,
            client,
            reads_copy: true,
            is_watched: false,
            held: HeldWrites::default(),
            serves: false,
            clone_config,
            out: VecDeque::new(),
            #[cfg(test)]
            sabotage: Sabotage::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn set_sabotage(&mut self, sabotage: Sabotage) {
        self.sabotage = sabotage;
    }

    /// A copy that begins beside a clone.
    pub(super) fn beside_clone(
        me: EndpointId,
        part: PrimaryPart,
        client: StoreClone,
        clone_config: CloneConfig,
    ) -> Self {
        Self {
            reads_copy: false,
            ..Self::with(me, part, client, clone_config)
        }
    }

    /// Sets whether the endpoint's watchers are told of changes: of what it reads.
    pub(super) fn set_watched(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
        self.part.set_watched(is_watched && self.reads_copy);
        self.client.set_watched(is_watched && !self.reads_copy);
    }

    /// What it is as a clone from now on. All that it still wants done goes to `out`.
    pub(super) fn into_client(
        mut self,
        out: &mut VecDeque<Output>,
        now: Now,
    ) -> (StoreClone, CloneConfig) {
        self.pump(now);
        out.extend(self.out);
        let mut client = self.client;
        #[cfg(test)]
        if self.sabotage == Sabotage::CloneForgetsHeld {
            self.held = HeldWrites::default();
        }
        if self.reads_copy {
            let copy = self.part.primary;
            let revision = copy.is_whole().then(|| copy.revision());
            client.takes_copy(copy.into_entries(), revision, self.held, now.mono);
        }
        (client, self.clone_config)
    }

    pub(super) fn entries(&self) -> &Entries {
        if self.reads_copy {
            self.part.primary.state().entries()
        } else {
            self.client.entries()
        }
    }

    /// The last change in what is read.
    pub(super) fn applied(&self) -> Revision {
        if self.reads_copy {
            self.part.primary.revision()
        } else {
            self.client.applied().unwrap_or(Revision::ABSENT)
        }
    }

    pub(super) fn freshness(&self, now: Mono) -> Freshness {
        let copy = &self.part.primary;
        if !self.reads_copy {
            self.client.freshness(now)
        } else if copy.serves() || (copy.is_current() && self.client.has_heard_lately(now)) {
            Freshness::Fresh
        } else {
            Freshness::Stale
        }
    }

    /// What the copy has is of the history that this endpoint knows to be the present one.
    fn is_copy_current(&self) -> bool {
        let copy = &self.part.primary;
        copy.is_current() && self.client.epoch() <= copy.epoch()
    }

    pub(super) fn report(&self, now: Mono) -> StorePart {
        let report = self.part.report();
        if self.part.primary.serves() {
            return StorePart::Primary(report);
        }
        let assignment = self.part.primary.assignment();
        StorePart::Copy(CopyReport {
            primary: assignment.and_then(|assignment| assignment.primary),
            copies: report.copies.unwrap_or_default(),
            freshness: self.freshness(now),
            unsettled: self.client.unsettled() + self.held.len(),
            backend: report.backend,
            pending_commits: report.pending_commits,
            failures: report.failures,
            is_failing: report.is_failing,
        })
    }

    pub(super) fn assign(&mut self, assignment: Assignment, now: Now) {
        if let Some(primary) = assignment.primary {
            self.client.assigned(primary, assignment.epoch, now.mono);
        }
        self.part.primary.assign(assignment, now);
        self.pump(now);
    }

    pub(super) fn write(
        &mut self,
        op: Op,
        level: Level,
        token: Token,
        deadline: Option<Mono>,
        now: Now,
    ) {
        self.client.write(op, level, token, deadline, now.mono);
        self.pump(now);
    }

    /// Notes whether the coordinators were not heard for too long.
    pub(super) fn suspend(&mut self, is_suspended: bool, now: Now) {
        if self.part.primary.suspend(is_suspended, now) {
            self.pump(now);
        }
    }

    pub(super) fn query(&mut self, request: u64, query: Query, now: Now) {
        self.client.query(request, query, now.mono);
        self.pump(now);
    }

    /// Takes a message for the copy, or for the endpoint's way to the primary.
    pub(super) fn receive(&mut self, from: EndpointId, message: StoreMessage, now: Now) {
        match &message {
            StoreMessage::Chunk(chunk) if chunk.instance == 0 => {
                self.part.primary.receive(from, message, now);
            }
            StoreMessage::Chunk(_)
            | StoreMessage::Changes(_)
            | StoreMessage::Results(_)
            | StoreMessage::Reply { .. }
            | StoreMessage::Alive { .. }
            | StoreMessage::Gone { .. } => self.client.receive(from, message, now.mono),
            _ => self.part.primary.receive(from, message, now),
        }
        self.pump(now);
    }

    pub(super) fn receive_broker(&mut self, command: BrokerCommand, now: Now) {
        if self.part.primary.serves() {
            self.part.receive_broker(command, now);
            self.set_watched(self.is_watched);
            self.pump(now);
        }
    }

    pub(super) fn committed(&mut self, failed: Option<Commit>, now: Now) {
        self.part.committed(failed, now);
        self.pump(now);
    }

    pub(super) fn lost(&mut self, endpoint: EndpointId, now: Now) {
        self.client.lost(endpoint, now.mono);
        self.pump(now);
    }

    pub(super) fn discovered(&mut self, now: Now) {
        self.client.discovered(now.mono);
        self.pump(now);
    }

    pub(super) fn tick(&mut self, now: Now) {
        self.client.tick(now.mono);
        self.part.primary.tick(now);
        self.part.tick_broker(now);
        self.set_watched(self.is_watched);
        self.pump(now);
        let old = self.held.release_old(now.mono);
        self.out.extend(old.into_iter().map(Output::Settled));
    }

    pub(super) fn next_tick(&self, now: Now) -> Mono {
        let held = self.held.next_tick();
        let part = self.part.next_tick_of_copy(now);
        let others = [Some(self.client.next_tick()), held];
        others.into_iter().flatten().fold(part, Mono::min)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.client.is_settled() && self.held.is_empty() && self.part.primary.is_settled()
    }

    pub(super) fn close(&mut self, now: Now) {
        self.client.close(now.mono);
        self.part.primary.close();
        self.pump(now);
        self.release(u64::MAX);
    }

    /// Carries what the two here have for one another, until neither has more.
    fn pump(&mut self, now: Now) {
        self.exchange(now);
        if self.serves {
            self.part.advance_broker(now);
            self.exchange(now);
        }
        if self.reads_copy && self.is_copy_current() {
            self.release(self.part.primary.state().changes());
        }
    }

    fn exchange(&mut self, now: Now) {
        loop {
            if let Some(output) = self.client.poll() {
                self.of_client(output, now);
            } else if let Some(output) = self.part.primary.poll() {
                self.of_copy(output, now);
            } else if !self.begins_to_serve(now.mono) && !self.begins_to_read() {
                break;
            }
        }
    }

    /// Begins or ends what is the primary's alone, if it is the primary, or is not any more.
    fn begins_to_serve(&mut self, now: Mono) -> bool {
        let serves = self.part.primary.serves();
        if serves == std::mem::replace(&mut self.serves, serves) {
            return false;
        }
        if serves {
            // Who looks for a primary finds this one.
            self.client.discovered(now);
        } else {
            self.part.forget_broker(now);
        }
        true
    }

    /// Reads the copy from now on, if it has what is read now. Watchers are told what is different.
    fn begins_to_read(&mut self) -> bool {
        let copy = &self.part.primary;
        #[cfg(test)]
        let reads_at_once = self.sabotage == Sabotage::ReadsCopyAtOnce;
        #[cfg(not(test))]
        let reads_at_once = false;
        if self.reads_copy || !(self.is_copy_current() || reads_at_once) {
            return false;
        }
        let read = self.client.applied().filter(|_| !reads_at_once);
        if read.is_some_and(|read| {
            read.timeline == copy.timeline() && read.change > copy.state().changes()
        }) {
            return false;
        }
        let FormerCopy {
            entries,
            timeline,
            held,
            mut held_before,
        } = self.client.gives_up_copy();
        let is_told = self.is_watched;
        #[cfg(test)]
        let is_told = is_told && self.sabotage != Sabotage::TellsNoDifferences;
        if is_told {
            let changes = copy.state().changes();
            let told = differences(&entries, copy.state().entries(), changes);
            self.out.extend(told.map(Output::Changed));
        }
        self.out.push_back(Output::Attached);
        // What they wrote to a former primary is in the copy, or is lost.
        if timeline == Some(self.part.primary.timeline()) {
            self.held = held;
        } else {
            held_before.append(held);
        }
        let before = held_before.release(u64::MAX);
        self.out.extend(before.into_iter().map(Output::Settled));
        self.reads_copy = true;
        self.set_watched(self.is_watched);
        true
    }

    fn of_client(&mut self, output: Output, now: Now) {
        match output {
            Output::Send(to, bytes) if to == self.me => self.hand_to_copy(&bytes, now),
            Output::Find(bytes) if self.part.primary.serves() => self.hand_to_copy(&bytes, now),
            Output::Settled(settled) if self.reads_copy => self.settle(settled, now),
            output => self.out.push_back(output),
        }
    }

    fn hand_to_copy(&mut self, bytes: &[u8], now: Now) {
        if let Ok(message) = StoreMessage::decode(bytes) {
            self.part.primary.receive(self.me, message, now);
        }
    }

    fn of_copy(&mut self, output: Output, now: Now) {
        match output {
            Output::Send(to, bytes) if to == self.me => {
                if let Ok(message) = StoreMessage::decode(&bytes) {
                    self.client.receive(self.me, message, now.mono);
                }
            }
            Output::Changed(change) => {
                self.part.note_for_broker(&change, now);
                if self.reads_copy && self.is_watched {
                    self.out.push_back(Output::Changed(change));
                }
            }
            Output::Attached if !self.reads_copy => {}
            output => self.out.push_back(output),
        }
    }

    /// A write is over. Its author hears of it when what this endpoint reads has it.
    fn settle(&mut self, settled: SettledWrite, now: Now) {
        let change = match &settled.outcome {
            Ok(Answer::Done { change, .. } | Answer::Unchanged { change }) => *change,
            _ => 0,
        };
        #[cfg(test)]
        let change = if self.sabotage == Sabotage::SettlesBeforeRead {
            0
        } else {
            change
        };
        if change == 0 {
            return self.out.push_back(Output::Settled(settled));
        }
        let knows_epoch = self.client.epoch() == self.part.primary.epoch();
        if knows_epoch && change > self.part.primary.state().changes() {
            // The primary answers only what is committed.
            self.part.primary.is_committed(change, now);
        }
        self.held.hold(change, settled, now.mono);
    }

    /// Tells of the settled writes up to a change.
    fn release(&mut self, change: u64) {
        let released = self.held.release(change);
        self.out.extend(released.into_iter().map(Output::Settled));
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front().or_else(|| self.part.poll_broker())
    }
}
