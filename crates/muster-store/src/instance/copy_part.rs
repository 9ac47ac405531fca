//! An instance that keeps a copy of a store whose copies coordinators decide about: the primary's, or one that stands by. What its endpoint
//! writes goes the same way as everybody's, so that it is applied once, whoever is the primary when it arrives.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use super::primary_part::PrimaryPart;
use super::{InstanceConfig, Output};
use crate::op::{Answer, Op};
use crate::protocol::{Query, StoreMessage};
use crate::{Assignment, CloneConfig, Level, Now, Primary, SettledWrite, StoreClone, Token};

/// How long a write that is answered waits until the copy here has it, too.
const HELD: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct CopyPart {
    me: EndpointId,
    pub(super) part: PrimaryPart,
    /// The way of this endpoint's writes and questions to the primary, which may be here.
    pub(super) client: StoreClone,
    /// Settled writes whose change the copy here does not have yet.
    held: BTreeMap<u64, Vec<SettledWrite>>,
    held_since: Mono,
    serves: bool,
    /// How it is a clone, if it becomes one again.
    clone_config: CloneConfig,
    out: VecDeque<Output>,
}

impl CopyPart {
    pub(super) fn new(
        copy: Primary,
        client: StoreClone,
        backend: Option<&'static str>,
        config: &InstanceConfig,
        now: Mono,
    ) -> Self {
        Self {
            me: config.endpoint,
            part: PrimaryPart::new(copy, backend, config, now),
            client,
            held: BTreeMap::new(),
            held_since: now,
            serves: false,
            clone_config: CloneConfig::default(),
            out: VecDeque::new(),
        }
    }

    pub(super) fn remember(&mut self, config: CloneConfig) {
        self.clone_config = config;
    }

    /// What it consists of, with what it still wants done.
    pub(super) fn into_parts(
        self,
        out: &mut VecDeque<Output>,
    ) -> (CloneConfig, StoreClone, Primary) {
        out.extend(self.out);
        out.extend(self.held.into_values().flatten().map(Output::Settled));
        (self.clone_config, self.client, self.part.primary)
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

    pub(super) fn query(&mut self, request: u64, query: Query, now: Now) {
        self.client.query(request, query, now.mono);
        self.pump(now);
    }

    /// Takes a message for the copy, or for the endpoint's way to the primary.
    pub(super) fn receive(&mut self, from: EndpointId, message: StoreMessage, now: Now) {
        self.hand_over(from, message, now);
        self.pump(now);
    }

    fn hand_over(&mut self, from: EndpointId, message: StoreMessage, now: Now) {
        match message {
            StoreMessage::Results(_)
            | StoreMessage::Reply { .. }
            | StoreMessage::Alive { .. }
            | StoreMessage::Gone { .. } => self.client.receive(from, message, now.mono),
            _ => self.part.primary.receive(from, message, now),
        }
    }

    pub(super) fn tick(&mut self, now: Now) {
        self.client.tick(now.mono);
        self.part.primary.tick(now);
        self.part.tick_broker(now);
        if !self.held.is_empty() && now.mono.since(self.held_since) >= HELD {
            for settled in std::mem::take(&mut self.held).into_values().flatten() {
                self.out.push_back(Output::Settled(settled));
            }
        }
        self.pump(now);
    }

    pub(super) fn next_tick(&self, now: Now) -> Mono {
        let held = (!self.held.is_empty()).then(|| self.held_since.after(HELD));
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
        for settled in std::mem::take(&mut self.held).into_values().flatten() {
            self.out.push_back(Output::Settled(settled));
        }
    }

    /// Carries what the two here have for one another, until neither has more.
    pub(super) fn pump(&mut self, now: Now) {
        loop {
            if let Some(output) = self.client.poll() {
                self.of_client(output, now);
            } else if let Some(output) = self.part.primary.poll() {
                self.of_copy(output, now);
            } else {
                break;
            }
        }
        let serves = self.part.primary.serves();
        if serves != std::mem::replace(&mut self.serves, serves) {
            self.out.push_back(Output::Serve(serves));
        }
    }

    fn of_client(&mut self, output: Output, now: Now) {
        match output {
            Output::Send(to, bytes) if to == self.me => {
                if let Ok(message) = StoreMessage::decode(&bytes) {
                    self.part.primary.receive(self.me, message, now);
                }
            }
            Output::Settled(settled) => self.settle(settled, now),
            output => self.out.push_back(output),
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
                self.release(change.number);
                self.out.push_back(Output::Changed(change));
            }
            output => self.out.push_back(output),
        }
    }

    /// A write is over. Its author hears of it when what this endpoint reads has it.
    fn settle(&mut self, settled: SettledWrite, now: Now) {
        let change = match &settled.outcome {
            Ok(Answer::Done { change, .. } | Answer::Unchanged { change }) => *change,
            _ => 0,
        };
        if change > self.part.primary.state().changes() {
            // The primary answers only what is committed.
            self.part.primary.is_committed(change, now);
        }
        if change > self.part.primary.state().changes() {
            if self.held.is_empty() {
                self.held_since = now.mono;
            }
            return self.held.entry(change).or_default().push(settled);
        }
        self.out.push_back(Output::Settled(settled));
    }

    fn release(&mut self, change: u64) {
        while let Some(first) = self.held.first_entry()
            && *first.key() <= change
        {
            for settled in first.remove() {
                self.out.push_back(Output::Settled(settled));
            }
        }
    }

    pub(super) fn poll(&mut self, is_watched: bool, now: Now) -> Option<Output> {
        self.pump(now);
        while let Some(output) = self.out.pop_front() {
            if !is_watched && matches!(output, Output::Changed(_)) {
                continue;
            }
            return Some(output);
        }
        self.part.poll_broker()
    }
}
