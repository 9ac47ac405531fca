//! An instance that is the primary: beside it the clones of Broker's protocol, its backend's health, its rivals.

use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use super::{InstanceConfig, Notice, Output, PrimaryReport};
use crate::backend::Commit;
use crate::broker::{BrokerClones, BrokerCommand, Entity};
use crate::op::Change;
use crate::{Now, Primary};

#[derive(Debug)]
pub(super) struct PrimaryPart {
    pub(super) primary: Primary,
    entity: Entity,
    frame_limit: usize,
    broker: BrokerClones,
    pub(super) rivals: Rivals,
    backend: &'static str,
    failures: u64,
    is_failing: bool,
    /// What it began with was kept by one of several copies.
    pub(super) began_as_copy: bool,
    /// The number of the last change that it began with.
    began_behind: u64,
}

impl PrimaryPart {
    pub(super) fn new(
        primary: Primary,
        backend: Option<&'static str>,
        config: &InstanceConfig,
        now: Mono,
    ) -> Self {
        let entity = Entity {
            endpoint: config.endpoint,
            instance: config.number,
        };
        Self {
            began_as_copy: false,
            began_behind: primary.state().changes(),
            primary,
            entity,
            frame_limit: config.frame_limit,
            broker: BrokerClones::new(entity, config.frame_limit, now),
            rivals: Rivals::new(config.rival_patience, now),
            backend: backend.unwrap_or("memory"),
            failures: 0,
            is_failing: false,
        }
    }

    #[cfg(test)]
    pub(super) fn with_sabotage(mut self, sabotage: super::Sabotage) -> Self {
        self.rivals.is_blind = sabotage == super::Sabotage::BlindToRivals;
        self
    }

    /// Whether the endpoint's watchers are told of changes. Broker's clones are told of every change, too.
    pub(super) fn set_watched(&mut self, is_watched: bool) {
        let is_watched = is_watched || self.broker.attached() > 0;
        self.primary.set_watched(is_watched);
    }

    pub(super) fn receive_broker(&mut self, command: BrokerCommand, now: Now) {
        self.broker.receive(command, &mut self.primary, now);
    }

    /// Returns `true` if it has what no other copy has.
    pub(super) fn has_something_of_its_own(&self) -> bool {
        let state = self.primary.state();
        state.changes() > self.began_behind || !(self.began_as_copy || state.entries().is_empty())
    }

    pub(super) fn committed(&mut self, failed: Option<Commit>, now: Now) {
        self.is_failing = failed.is_some();
        self.failures += u64::from(self.is_failing);
        self.primary.committed(failed, now);
    }

    pub(super) fn tick(&mut self, now: Now) {
        self.primary.tick(now);
        self.broker.tick(now);
        self.rivals.tick(now.mono);
    }

    /// Looks after Broker's clones alone.
    pub(super) fn tick_broker(&mut self, now: Now) {
        self.broker.tick(now);
    }

    /// When the primary or Broker's clones are to be looked after: coordinators see to it that there is no rival.
    pub(super) fn next_tick_of_copy(&self, now: Now) -> Mono {
        let broker = self.broker.next_tick();
        let primary = self.primary.next_tick(now);
        broker.map_or(primary, |broker| broker.min(primary))
    }

    /// Broker's clones hear what all copies have.
    pub(super) fn advance_broker(&mut self, now: Now) {
        self.broker.advanced(&mut self.primary, now);
    }

    /// Another one is the primary: Broker's clones find that.
    pub(super) fn forget_broker(&mut self, now: Mono) {
        self.broker = BrokerClones::new(self.entity, self.frame_limit, now);
    }

    pub(super) fn note_for_broker(&mut self, change: &Change, now: Now) {
        if self.primary.serves() {
            let now = self.primary.store_time(now);
            self.broker.changed(change, now);
        }
    }

    pub(super) fn poll_broker(&mut self) -> Option<Output> {
        self.broker.poll()
    }

    pub(super) fn next_tick(&self, now: Now) -> Mono {
        let primary = self.primary.next_tick(now);
        let others = [self.broker.next_tick(), self.rivals.next_tick()];
        others.into_iter().flatten().fold(primary, Mono::min)
    }

    pub(super) fn report(&self) -> PrimaryReport {
        PrimaryReport {
            backend: self.backend,
            writers: self.primary.writers(),
            broker_clones: self.broker.attached(),
            pending_commits: self.primary.pending_commits(),
            failures: self.failures,
            is_failing: self.is_failing,
            rival: self.rivals.known,
            copies: self.primary.copies(),
        }
    }

    pub(super) fn poll(&mut self, is_watched: bool, now: Now) -> Option<Output> {
        while let Some(output) = self.primary.poll() {
            if let Output::Changed(change) = &output {
                let now = self.primary.store_time(now);
                self.broker.changed(change, now);
                if !is_watched {
                    continue;
                }
            }
            return Some(output);
        }
        if std::mem::take(&mut self.rivals.is_due) {
            return Some(Output::FindRival);
        }
        self.broker.poll()
    }
}

/// What a primary knows of others of its name: a mistake that only the operator can mend.
#[derive(Debug)]
pub(super) struct Rivals {
    patience: Duration,
    known: Option<EndpointId>,
    /// When one is looked for. While one is known it is looked for at every turn.
    look_at: Option<Mono>,
    is_due: bool,
    #[cfg(test)]
    is_blind: bool,
}

impl Rivals {
    fn new(patience: Duration, now: Mono) -> Self {
        Self {
            patience,
            known: None,
            look_at: Some(now.after(patience)),
            is_due: true,
            #[cfg(test)]
            is_blind: false,
        }
    }

    /// Somebody is in reach who may have the primary, too.
    pub(super) fn look_soon(&mut self, now: Mono) {
        self.look_at.get_or_insert(now.after(self.patience));
    }

    /// Looks for none any more. Returns what is new of that.
    pub(super) fn forget(&mut self) -> Option<Output> {
        (self.look_at, self.is_due) = (None, false);
        self.found(None).map(Output::Notice)
    }

    fn tick(&mut self, now: Mono) {
        let is_due = self.look_at.is_some_and(|at| at <= now);
        if is_due || self.known.is_some() {
            self.look_at = None;
            self.is_due = true;
        }
    }

    fn next_tick(&self) -> Option<Mono> {
        self.look_at
    }

    /// Notes what a look has found. Returns what is new of it.
    pub(super) fn found(&mut self, rival: Option<EndpointId>) -> Option<Notice> {
        #[cfg(test)]
        let rival = rival.filter(|_| !self.is_blind);
        if rival == self.known {
            return None;
        }
        self.known = rival;
        Some(rival.map_or(Notice::RivalGone, Notice::Rival))
    }
}
