//! The readiness barrier: who waits for which nodes, the question to all others and its answers.

use std::sync::Arc;
use std::time::Duration;

use muster_data::Record;
use muster_wire::zeek::{EventRef, Metadata};
use muster_wire::{Class, EndpointId, Mono, Topic};

use super::framework::Hook;
use super::node_core::NodeCore;
use super::waits::Waiter;
use super::{Effect, NodeLoop};
use crate::layout::MOST_NODES;
use crate::readiness::{Look, MOST_MISSED, Quorum, Readiness, ReadyError};

/// The waits of one node at a time.
const MOST_WAITS: usize = 64;

/// Somebody asks which of these lives a node does not see.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::whom_do_you_see")]
pub(super) struct Question {
    pub(super) question: u64,
    /// Endpoint ids.
    pub(super) lives: Vec<String>,
}

/// The answer: those that it does not see, 65 of them at most.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::not_seen")]
pub(super) struct NotSeen {
    pub(super) question: u64,
    /// Endpoint ids.
    pub(super) lives: Vec<String>,
}

impl NodeCore {
    /// Somebody waits for a quorum from now on.
    pub(super) fn await_ready(
        &mut self,
        waiter: Waiter,
        quorum: &Quorum,
        limit: Duration,
    ) -> Result<(), ReadyError> {
        let now = self.clock.now.mono;
        let wait = Readiness::new(&self.layout, quorum, now, now.after(limit))?;
        if self.waits.all.len() >= MOST_WAITS {
            return Err(ReadyError::TooMany);
        }
        self.waits.all.push((waiter, wait));
        self.waits.looked = None;
        self.waits.changed();
        Ok(())
    }
}

impl NodeLoop {
    /// The driver waits.
    pub(super) fn await_ready(&mut self, token: u64, quorum: &Quorum, limit: Duration) {
        let waiter = Waiter::Driver { token };
        let refused = if self.stopping {
            Err(ReadyError::Stopped)
        } else {
            self.core.await_ready(waiter, quorum, limit)
        };
        if refused.is_err() {
            let outcome = refused;
            self.core
                .outbox
                .effects
                .push(Effect::Ready { token, outcome });
        }
    }

    /// The driver waits no longer.
    pub(super) fn give_up_ready(&mut self, token: u64) {
        let given_up = Waiter::Driver { token };
        self.core
            .waits
            .all
            .retain(|(waiter, _)| *waiter != given_up);
    }

    /// Looks after the waits, if anything has changed or is due.
    pub(super) fn look_at_waits(&mut self) {
        let now = self.core.clock.now.mono;
        let waits = &mut self.core.waits;
        let is_due = |at: Mono| at <= now;
        if waits.all.is_empty() || !waits.next_deadline(now).is_some_and(is_due) {
            return;
        }
        waits.has_changed = false;
        waits.looked = Some(now);
        let mut questions: Vec<(u64, Arc<[EndpointId]>)> = Vec::new();
        let mut ended = Vec::new();
        let core = &mut self.core;
        let count = &mut core.waits.questions;
        core.waits.all.retain_mut(|(waiter, wait)| {
            let number = || {
                *count += 1;
                *count
            };
            let outcome = match wait.look(&core.layout, &core.members.membership, now, number) {
                Look::Wait => return true,
                Look::Ask { question, lives } => {
                    questions.push((question, lives));
                    return true;
                }
                Look::Ready => Ok(()),
                Look::NotReady(lack) => Err(ReadyError::NotReady(lack)),
            };
            ended.push((*waiter, outcome));
            false
        });
        let everybody = self.core.layout.topics().broadcast();
        for (question, lives) in questions {
            let lives = lives.iter().map(ToString::to_string).collect();
            self.send_control(&everybody, &Question { question, lives });
        }
        for (waiter, outcome) in ended {
            self.end_wait(waiter, outcome);
        }
    }

    /// The node stops, and nobody needs to wait any longer.
    pub(super) fn end_waits(&mut self) {
        for (waiter, _) in std::mem::take(&mut self.core.waits.all) {
            // Frameworks are told by their last hook.
            if let Waiter::Driver { .. } = waiter {
                self.end_wait(waiter, Err(ReadyError::Stopped));
            }
        }
    }

    fn end_wait(&mut self, waiter: Waiter, outcome: Result<(), ReadyError>) {
        match waiter {
            Waiter::Driver { token } => self
                .core
                .outbox
                .effects
                .push(Effect::Ready { token, outcome }),
            Waiter::Framework { framework, token } => {
                self.hook(framework, Hook::Ready(token, &outcome));
            }
        }
    }

    /// Another node asks whom this one sees. Whoever it is may know: it has to name them.
    pub(super) fn asked_whom_it_sees(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if from == self.core.id {
            return;
        }
        let read = event.arguments().to::<Question>().ok();
        let asked = read.and_then(|read| Some((read.question, ids(&read.lives)?)));
        let Some((question, lives)) = asked else {
            self.core.counts.events_refused += 1;
            return;
        };
        if !lives.contains(&self.core.id) {
            return;
        }
        let membership = &self.core.members.membership;
        let unseen = lives.iter().filter(|id| membership.name_of(**id).is_none());
        let lives = unseen.take(MOST_MISSED + 1).map(ToString::to_string);
        let answer = NotSeen {
            question,
            lives: lives.collect(),
        };
        let topic = self.core.layout.topics().id(from);
        self.send_control(&topic, &answer);
    }

    pub(super) fn told_whom_it_does_not_see(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let read = event.arguments().to::<NotSeen>().ok();
        let answer = read.and_then(|read| Some((read.question, ids(&read.lives)?)));
        let Some((question, missed)) = answer else {
            self.core.counts.events_refused += 1;
            return;
        };
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let Some(name) = self.core.members.membership.name_of(from) else {
            return;
        };
        let waits = &mut self.core.waits;
        let mut matters = false;
        for (_, wait) in &mut waits.all {
            matters |= wait.answered(name, from, question, &missed);
        }
        waits.has_changed |= matters;
    }

    fn send_control<E: Record + muster_data::Encode>(&mut self, topic: &Topic, event: &E) {
        let metadata = Metadata::default();
        self.core
            .send(topic, Class::Control, E::NAME, metadata, |out| {
                event.encode(out);
            });
    }
}

/// Reads ids, as many as a layout may have nodes.
fn ids(texts: &[String]) -> Option<Vec<EndpointId>> {
    // The asker itself may be an observer.
    let fits = texts.len() <= MOST_NODES + 1;
    let ids = fits.then(|| texts.iter().map(|text| text.parse().ok()).collect());
    ids.flatten()
}
