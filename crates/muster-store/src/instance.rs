//! Everything that a store on one endpoint does.
//!
//! An [`Instance`] opens, waits for its backend, is the primary or a clone, and keeps what is
//! written or asked in the meantime. Facts go in with the time, decisions come out of
//! [`Instance::poll`]. An endpoint drives it with sockets, a disk and timers; a simulation needs
//! none of these.

mod assigning;
mod clone_part;
#[cfg(test)]
mod copies_simulation;
mod copy_part;
mod counters;
mod early;
mod output;
mod primary_part;
mod questions;
mod reading;
mod report;
#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(crate) use simulation::Sabotage;

use std::collections::VecDeque;
use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use crate::backend::Commit;
use crate::broker::BrokerCommand;
use crate::op::{Change, Op, StoreEvent};
use crate::protocol::{Query, StoreMessage};
use crate::writes::WriteOutcome;
use crate::{
    CloneConfig, CopyMode, Level, Now, Primary, PrimaryConfig, Restored, SettledWrite, StoreName,
    Token, WriteFailure,
};

pub use output::{Notice, Output, Severity};
pub use reading::Hears;
pub use report::{
    CloneReport, CopiesReport, CopyReport, CopyRole, OtherCopyReport, PrimaryReport, StorePart,
    StoreReport,
};

use assigning::{Assigned, CopyReading};
use clone_part::ClonePart;
use copy_part::CopyPart;
use early::EarlyWrites;
use primary_part::PrimaryPart;
use questions::Questions;

/// What an instance has to know of its endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceConfig {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// A number that no other instance of a store on this endpoint has.
    pub number: u64,
    /// The size of the largest frame that is sent to a peer, in bytes.
    pub frame_limit: usize,
    /// How long a second primary in reach is tolerated before it counts as a rival. It must be
    /// longer than a peer may be silent, because by then a primary that has crashed is known to be
    /// lost.
    pub rival_patience: Duration,
}

/// What an instance becomes when it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// The primary.
    Primary {
        /// How it works.
        config: PrimaryConfig,
        /// The kind of backend that keeps its state: [`Backend::kind`](crate::Backend::kind).
        /// `None` for a store in memory.
        backend: Option<&'static str>,
    },
    /// A clone. Its primary may be anywhere, and need not exist yet.
    Clone(CloneConfig),
}

/// What an instance is at present.
#[derive(Debug)]
enum Part {
    /// Not open yet.
    Closed,
    /// To be the primary, once the backend has been read.
    Opening {
        config: PrimaryConfig,
        backend: &'static str,
    },
    /// Its backend could not be read.
    Failed,
    Primary(Box<PrimaryPart>),
    Clone(Box<ClonePart>),
    /// A copy among others, by the word of coordinators.
    Copy(Box<CopyPart>),
}

/// A store on an endpoint, without I/O.
#[derive(Debug)]
pub struct Instance {
    name: StoreName,
    config: InstanceConfig,
    part: Part,
    /// What was written before it opened.
    early: EarlyWrites,
    /// What was asked and not yet answered.
    questions: Questions,
    is_watched: bool,
    /// What coordinators have decided last, if they decide about it.
    assigned: Option<Assigned>,
    /// The reading of the backend that a copy begins with.
    reading: CopyReading,
    /// The operator knows that what only this endpoint had is given up.
    has_given_up: bool,
    /// The time of the last fact.
    now: Now,
    out: VecDeque<Output>,
    #[cfg(test)]
    sabotage: Sabotage,
    /// The rule that its copies break.
    #[cfg(any(test, feature = "simulation"))]
    broken: crate::CopySabotage,
}

impl Instance {
    /// Creates an instance that is not open. Writes and questions wait until it is.
    pub fn new(name: StoreName, config: InstanceConfig, now: Now) -> Self {
        Self {
            name,
            config,
            part: Part::Closed,
            early: EarlyWrites::default(),
            questions: Questions::default(),
            is_watched: false,
            assigned: None,
            reading: CopyReading::default(),
            has_given_up: false,
            now,
            out: VecDeque::new(),
            #[cfg(test)]
            sabotage: Sabotage::default(),
            #[cfg(any(test, feature = "simulation"))]
            broken: crate::CopySabotage::default(),
        }
    }

    /// Lets the copies that it becomes from now on break a rule.
    #[cfg(any(test, feature = "simulation"))]
    pub fn sabotage_copies(&mut self, rule: crate::CopySabotage) {
        self.broken = rule;
    }

    /// Opens it. If it is open already, or being opened, nothing happens; if it could not be
    /// opened, this tries again.
    pub fn open(&mut self, placement: Placement, now: Now) {
        self.now = now;
        #[cfg(test)]
        if self.sabotage == Sabotage::SecondOpenForgets {
            self.early = EarlyWrites::default();
        }
        match self.part {
            Part::Closed | Part::Failed => {}
            Part::Opening { .. } | Part::Primary(_) | Part::Clone(_) | Part::Copy(_) => return,
        }
        match placement {
            Placement::Primary { config, .. } if self.assigned.is_some() => {
                self.begin_assigned(&config);
                self.follow_coordinators();
            }
            Placement::Primary {
                config,
                backend: Some(backend),
            } => {
                let limit = config.limit;
                self.part = Part::Opening { config, backend };
                self.out.push_back(Output::Load { limit });
            }
            Placement::Primary {
                config,
                backend: None,
            } => {
                let (name, me) = (self.name.clone(), self.config.endpoint);
                let primary = Primary::in_memory(name, me, timeline(now), config, now);
                self.begin_primary(primary, None, false);
            }
            Placement::Clone(config) => {
                let has_copy = config.copy == CopyMode::Full;
                let clone = ClonePart::new(&self.name, &self.config, config, now.mono);
                #[cfg(test)]
                let clone = clone.with_sabotage(self.sabotage);
                self.begin(Part::Clone(Box::new(clone)));
                if !has_copy {
                    self.out.push_back(Output::Attached);
                }
                self.follow_coordinators();
            }
        }
    }

    /// Notes whether this endpoint may not act by what coordinators have said last, because it has not heard them for too long. A primary
    /// that is the only copy in sync decides and answers nothing then: another one may have begun elsewhere.
    pub fn suspend(&mut self, is_suspended: bool, now: Now) {
        self.now = now;
        if let Part::Copy(part) = &mut self.part {
            part.suspend(is_suspended, now);
        }
    }

    /// Takes the state that [`Output::Load`] asked for, or `None` if the backend could not be read.
    pub fn loaded(&mut self, restored: Option<Restored>, now: Now) {
        self.now = now;
        if !matches!(self.part, Part::Opening { .. }) {
            return self.copy_loaded(restored);
        }
        let Part::Opening { config, backend } = std::mem::replace(&mut self.part, Part::Failed)
        else {
            return;
        };
        if self.assigned.is_some() {
            self.begin_assigned(&config);
            return self.copy_loaded(restored);
        }
        #[cfg(test)]
        let restored = self.sabotage.restored(restored);
        let Some(restored) = restored else {
            return self.give_up(now);
        };
        let is_of_copies = restored.is_of_copies();
        let (name, me) = (self.name.clone(), self.config.endpoint);
        #[cfg(test)]
        let former = restored.place();
        let primary = Primary::persistent(name, me, timeline(now), config, restored, now);
        #[cfg(test)]
        let primary = match self.sabotage {
            Sabotage::KeepsTimeline => primary.pretending(former),
            _ => primary,
        };
        self.begin_primary(primary, Some(backend), is_of_copies);
    }

    /// Notes that it cannot be opened. What was written is settled as not applied, and so is what
    /// is written until [`Instance::open`] is called again.
    pub fn give_up(&mut self, now: Now) {
        self.now = now;
        self.part = Part::Failed;
        #[cfg(test)]
        if self.sabotage == Sabotage::SilentFailure {
            self.early = EarlyWrites::default();
        }
        self.early.settle(WriteFailure::NoPrimary, &mut self.out);
        for (request, _) in self.questions.take() {
            self.out.push_back(Output::NoReply { request });
        }
        self.out.push_back(Output::OpenFailed);
    }

    fn begin_primary(
        &mut self,
        primary: Primary,
        backend: Option<&'static str>,
        is_of_copies: bool,
    ) {
        #[cfg(test)]
        let primary = primary.with_sabotage(self.sabotage);
        if self.is_watched {
            // As a clone tells of its first snapshot.
            for (key, entry) in primary.state().entries().in_order() {
                let event = StoreEvent::Put {
                    key: key.clone(),
                    value: entry.value.clone(),
                    expires: entry.expires,
                    old: None,
                    amendment: None,
                };
                self.out.push_back(Output::Changed(Change {
                    number: entry.changed,
                    writer: None,
                    event,
                }));
            }
        }
        let mut part = PrimaryPart::new(primary, backend, &self.config, self.now.mono);
        part.began_as_copy = is_of_copies;
        #[cfg(test)]
        let part = part.with_sabotage(self.sabotage);
        self.out.push_back(Output::Attached);
        self.begin(Part::Primary(Box::new(part)));
    }

    /// Takes up its part, and what has waited for it.
    fn begin(&mut self, part: Part) {
        self.part = part;
        self.set_watched(self.is_watched);
        self.out.push_back(Output::Opened);
        let early = self.early.take();
        #[cfg(test)]
        let early = self.sabotage.early(early);
        for write in early {
            let (token, now) = (write.token, self.now);
            if let Some(outcome) = self.write(write.op, write.level, token, write.deadline, now) {
                let settled = SettledWrite { token, outcome };
                self.out.push_back(Output::Settled(settled));
            }
        }
        self.ask_questions();
    }

    /// Sets whether changes are reported by [`Output::Changed`]. At first they are not.
    pub fn set_watched(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
        match &mut self.part {
            Part::Primary(part) => part.set_watched(is_watched),
            Part::Clone(part) => part.follower.set_watched(is_watched),
            Part::Copy(part) => part.set_watched(is_watched),
            Part::Closed | Part::Opening { .. } | Part::Failed => {}
        }
    }

    /// Writes to the store. Returns the outcome if it is known at once; otherwise it comes as
    /// [`Output::Settled`] with this token, by `deadline` if there is one. Writes before the store
    /// is open wait until it is, in order; beyond 65,536 of them, or 64 MiB of keys and values,
    /// further ones are refused.
    pub fn write(
        &mut self,
        op: Op,
        level: Level,
        token: Token,
        deadline: Option<Mono>,
        now: Now,
    ) -> Option<WriteOutcome> {
        self.now = now;
        match &mut self.part {
            Part::Closed | Part::Opening { .. } => {
                #[cfg(test)]
                let deadline = deadline.filter(|_| self.sabotage != Sabotage::EarlyForEver);
                self.early.add(op, level, token, deadline)
            }
            Part::Failed => Some(Err(WriteFailure::NoPrimary)),
            Part::Primary(part) => part.primary.write(op, level, token, deadline, now),
            Part::Clone(part) => {
                part.follower.write(op, level, token, deadline, now.mono);
                None
            }
            Part::Copy(part) => {
                part.write(op, level, token, deadline, now);
                None
            }
        }
    }

    /// Asks the primary a question, and repeats it while no answer comes. The result is
    /// [`Output::Replied`], or [`Output::NoReply`] at the deadline.
    pub fn query(&mut self, request: u64, query: Query, deadline: Mono, now: Now) {
        self.now = now;
        if !self.questions.add(request, query, deadline, now.mono) {
            self.out.push_back(Output::NoReply { request });
        }
        self.ask_questions();
    }

    fn ask_questions(&mut self) {
        match &mut self.part {
            Part::Primary(part) => {
                let revision = part.primary.revision();
                for (request, query) in self.questions.take() {
                    let reply = part.primary.reply(&query);
                    self.out.push_back(Output::Replied {
                        request,
                        revision,
                        reply,
                    });
                }
            }
            Part::Clone(part) => {
                for (request, query) in self.questions.due(self.now.mono) {
                    part.follower.query(request, query, self.now.mono);
                }
                #[cfg(test)]
                if self.sabotage == Sabotage::AsksQuestionOnce {
                    self.questions.never_again();
                }
            }
            Part::Copy(part) => {
                for (request, query) in self.questions.due(self.now.mono) {
                    part.query(request, query, self.now);
                }
            }
            Part::Closed | Part::Opening { .. } | Part::Failed => {}
        }
    }

    /// Takes a message of Muster's protocol from an endpoint. It is ignored if it does not concern
    /// what this instance is, or if the instance is not open: whoever needs an answer asks again.
    pub fn receive(&mut self, from: EndpointId, message: StoreMessage, now: Now) {
        self.now = now;
        match &mut self.part {
            Part::Primary(part) => part.primary.receive(from, message, now),
            Part::Clone(part) => part.follower.receive(from, message, now.mono),
            Part::Copy(part) => part.receive(from, message, now),
            Part::Closed | Part::Opening { .. } | Part::Failed => {}
        }
    }

    /// Takes a command of Broker's protocol that its sender's endpoint has sent.
    pub fn receive_broker(&mut self, command: BrokerCommand, now: Now) {
        self.now = now;
        match &mut self.part {
            Part::Primary(part) => {
                part.receive_broker(command, now);
                part.set_watched(self.is_watched);
            }
            Part::Clone(part) => part.follower.receive_broker(command, now),
            Part::Copy(part) => part.receive_broker(command, now),
            Part::Closed | Part::Opening { .. } | Part::Failed => {}
        }
    }

    /// Notes that the topic of Broker's clones is listened to, as [`Output::ListenToBroker`] asked
    /// for, so that a master's answer would arrive.
    pub fn listening(&mut self, now: Now) {
        self.now = now;
        if let Part::Clone(part) = &mut self.part {
            part.follower.listening(now.mono);
        }
    }

    /// Notes that an endpoint is out of reach. If it had the primary, another one is accepted at
    /// once.
    pub fn lost(&mut self, endpoint: EndpointId, now: Now) {
        self.now = now;
        match &mut self.part {
            Part::Clone(part) => part.lost(endpoint, now.mono),
            Part::Copy(part) => part.lost(endpoint, now),
            Part::Closed | Part::Opening { .. } | Part::Failed | Part::Primary(_) => {}
        }
    }

    /// Notes that an endpoint is in reach that may have the primary. A clone without a primary asks
    /// at once; a primary looks for a rival some time later.
    pub fn discovered(&mut self, now: Now) {
        self.now = now;
        match &mut self.part {
            Part::Primary(part) => part.rivals.look_soon(now.mono),
            Part::Clone(part) => part.follower.discovered(now.mono),
            Part::Copy(part) => part.discovered(now),
            Part::Closed | Part::Opening { .. } | Part::Failed => {}
        }
    }

    /// Takes the result of a search for another primary in reach, as [`Output::FindRival`] asked
    /// for.
    pub fn rival_found(&mut self, rival: Option<EndpointId>) {
        if let Part::Primary(part) = &mut self.part
            && let Some(notice) = part.rivals.found(rival)
        {
            self.out.push_back(Output::Notice(notice));
        }
    }

    /// Notes that the last [`Output::Commit`] is on disk, or has failed and comes back as `failed`.
    /// A failed commit is tried again later, and writers that wait for it are told of the failure.
    pub fn committed(&mut self, failed: Option<Commit>, now: Now) {
        self.now = now;
        match &mut self.part {
            Part::Primary(part) => part.committed(failed, now),
            Part::Copy(part) => part.committed(failed, now),
            Part::Closed | Part::Opening { .. } | Part::Failed | Part::Clone(_) => {}
        }
    }

    /// Does what is due at the time `now`.
    pub fn tick(&mut self, now: Now) {
        self.now = now;
        self.early.expire(now.mono, &mut self.out);
        match &mut self.part {
            Part::Primary(part) => {
                part.tick(now);
                part.set_watched(self.is_watched);
            }
            Part::Clone(part) => part.tick(now.mono),
            Part::Copy(part) => part.tick(now),
            Part::Closed | Part::Opening { .. } | Part::Failed => {}
        }
        self.read_again();
        self.questions.expire(now.mono, &mut self.out);
        self.ask_questions();
    }

    /// Returns when [`Instance::tick`] has something to do, at the latest.
    pub fn next_tick(&self, now: Now) -> Mono {
        let part = match &self.part {
            Part::Primary(part) => Some(part.next_tick(now)),
            Part::Clone(part) => Some(part.next_tick()),
            Part::Copy(part) => Some(part.next_tick(now)),
            Part::Closed | Part::Opening { .. } | Part::Failed => None,
        };
        let can_ask = matches!(self.part, Part::Clone(_) | Part::Copy(_));
        let questions = self.questions.next_tick(can_ask);
        let next = [
            part,
            self.early.next_tick(),
            questions,
            self.reading.again_at,
        ];
        next.into_iter().flatten().min().unwrap_or(Mono(u64::MAX))
    }

    /// Settles all waiting writes and questions, because the instance is no longer used.
    pub fn close(&mut self, now: Now) {
        self.now = now;
        self.early.settle(WriteFailure::Closed, &mut self.out);
        for (request, _) in self.questions.take() {
            self.out.push_back(Output::NoReply { request });
        }
        match &mut self.part {
            Part::Primary(part) => part.primary.close(),
            Part::Clone(part) => part.follower.close(now.mono),
            Part::Copy(part) => part.close(now),
            Part::Closed | Part::Opening { .. } | Part::Failed => {}
        }
    }

    /// Returns the next thing to do, or `None` if there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.out.pop_front() {
                return Some(output);
            }
            let output = match &mut self.part {
                Part::Primary(part) => part.poll(self.is_watched, self.now)?,
                Part::Clone(part) => part.poll()?,
                Part::Copy(part) => part.poll()?,
                Part::Closed | Part::Opening { .. } | Part::Failed => return None,
            };
            // One answer to a question that was asked twice is enough.
            if let Output::Replied { request, .. } = output
                && !self.questions.remove(request)
            {
                continue;
            }
            return Some(output);
        }
    }
}

/// A number above that of every timeline of the store before: the time in nanoseconds.
fn timeline(now: Now) -> u64 {
    u64::try_from(now.wall.as_nanos()).unwrap_or(0)
}
