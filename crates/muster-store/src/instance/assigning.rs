//! How an instance follows coordinators: a clone becomes a copy, a copy a clone again, and a primary of its own accord what they say.

use std::time::Duration;

use muster_wire::Mono;

#[cfg(test)]
use super::Sabotage;
use super::clone_part::ClonePart;
use super::copy_part::CopyPart;
use super::primary_part::PrimaryPart;
use super::{Instance, Notice, Output, Part};
use crate::clone::HeldWrites;
use crate::{
    Assignment, CloneConfig, CopyMode, Follower, Now, Primary, PrimaryConfig, Restored, StoreClone,
};

/// How long after a failure the backend of a copy is read again.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// What coordinators have decided, and how a copy here works.
#[derive(Debug)]
pub(super) struct Assigned {
    assignment: Assignment,
    config: PrimaryConfig,
    backend: Option<&'static str>,
}

/// The reading of the backend that a copy begins with.
#[derive(Debug, Default)]
pub(super) struct CopyReading {
    pub(super) is_under_way: bool,
    /// When it is tried again.
    pub(super) again_at: Option<Mono>,
    /// The last one has failed, and the operator knows.
    has_failed: bool,
}

impl Instance {
    /// Follows a decision of the coordinators. An endpoint that is to keep a copy begins to; all others have a clone. A primary that
    /// was opened before any coordinator was heard goes on as a copy if it is to be the primary; otherwise what was written there is
    /// given up. If the instance is not open yet the decision waits until it is; one that could not be opened is a clone then. `config` and `backend` are those of
    /// [`Placement::Primary`](super::Placement::Primary), for the copy. Decisions that come late are ignored.
    pub fn assign(
        &mut self,
        assignment: Assignment,
        config: &PrimaryConfig,
        backend: Option<&'static str>,
        now: Now,
    ) {
        self.now = now;
        let known = self.assigned.as_ref().map(|it| it.assignment.epoch);
        if known.is_some_and(|epoch| epoch >= assignment.epoch) {
            return;
        }
        let leads = assignment.primary == Some(self.config.endpoint);
        self.assigned = Some(Assigned {
            assignment,
            config: config.clone(),
            backend,
        });
        match self.part {
            Part::Primary(_) if leads => self.primary_becomes_copy(),
            Part::Primary(_) => self.end_primary(),
            Part::Failed => self.begin_assigned(config),
            Part::Closed | Part::Opening { .. } | Part::Clone(_) | Part::Copy(_) => {}
        }
        self.follow_coordinators();
    }

    /// Becomes what the last decision says, or begins to.
    pub(super) fn follow_coordinators(&mut self) {
        let now = self.now;
        let Some(assigned) = &self.assigned else {
            return;
        };
        let assignment = &assigned.assignment;
        let is_named = assignment.names(self.config.endpoint);
        match &mut self.part {
            Part::Copy(part) if is_named => part.assign(assignment.clone(), now),
            Part::Copy(_) => self.end_copy(),
            Part::Clone(part) => {
                if let Some(primary) = assignment.primary {
                    part.follower.assigned(primary, assignment.epoch, now.mono);
                }
                if !is_named {
                    self.reading.again_at = None;
                } else if assigned.backend.is_none() {
                    self.begin_copy(None);
                } else if self.reading.again_at.is_none() {
                    self.read_backend();
                }
            }
            Part::Closed | Part::Opening { .. } | Part::Failed | Part::Primary(_) => {}
        }
    }

    fn is_to_be_copy(&self) -> bool {
        let assigned = self.assigned.as_ref();
        let is_named = assigned.is_some_and(|it| it.assignment.names(self.config.endpoint));
        is_named && matches!(self.part, Part::Clone(_))
    }

    fn read_backend(&mut self) {
        if let Some(assigned) = &self.assigned
            && !self.reading.is_under_way
        {
            let limit = assigned.config.limit;
            self.reading.is_under_way = true;
            self.out.push_back(Output::Load { limit });
        }
    }

    /// Reads the backend again, if that is due.
    pub(super) fn read_again(&mut self) {
        if self.reading.again_at.is_some_and(|at| at <= self.now.mono) {
            self.reading.again_at = None;
            if self.is_to_be_copy() {
                self.read_backend();
            }
        }
    }

    /// The backend was read for a copy, or could not be.
    pub(super) fn copy_loaded(&mut self, restored: Option<Restored>) {
        self.reading.is_under_way = false;
        if !self.is_to_be_copy() {
            return;
        }
        if restored.is_some() {
            self.reading.has_failed = false;
            return self.begin_copy(restored);
        }
        // The coordinators see that it does not come, and may name another one.
        self.reading.again_at = Some(self.now.mono.after(READ_AGAIN));
        #[cfg(test)]
        if self.sabotage == Sabotage::ReadsBackendOnce {
            self.reading.again_at = Some(Mono(u64::MAX));
        }
        if !std::mem::replace(&mut self.reading.has_failed, true) {
            self.out.push_back(Output::Notice(Notice::CopyUnreadable));
        }
    }

    /// It was to open as the primary, and coordinators decide about that now.
    pub(super) fn begin_assigned(&mut self, config: &PrimaryConfig) {
        let config = clone_config(config);
        let clone = ClonePart::new(&self.name, &self.config, config, self.now.mono);
        self.begin(Part::Clone(Box::new(clone)));
    }

    /// A clone becomes a copy: what it sends and waits for goes on.
    fn begin_copy(&mut self, restored: Option<Restored>) {
        let now = self.now;
        let Some(assigned) = &self.assigned else {
            return;
        };
        let part = match std::mem::replace(&mut self.part, Part::Failed) {
            Part::Clone(part) => *part,
            other => {
                self.part = other;
                return;
            }
        };
        let (client, clone_config) = part.into_client(&mut self.out, now.mono);
        let (name, me) = (self.name.clone(), self.config.endpoint);
        let leads = assigned.assignment.primary == Some(me);
        let is_of_one = restored.as_ref().is_some_and(Restored::is_of_one);
        if is_of_one && !leads && !std::mem::replace(&mut self.has_given_up, true) {
            // An earlier process here was the primary, and nobody else has what it wrote.
            self.out.push_back(Output::Notice(Notice::WritesGivenUp));
        }
        let copy = Primary::copy(name, me, assigned.config.clone(), restored, now);
        #[cfg(any(test, feature = "simulation"))]
        let copy = copy.breaking(self.broken);
        let part = PrimaryPart::new(copy, assigned.backend, &self.config, now.mono);
        #[cfg(test)]
        let client = match self.sabotage {
            Sabotage::CopyForgetsWrites => {
                let (name, number) = (self.name.clone(), self.config.number);
                StoreClone::new(name, number, clone_config.clone(), now.mono)
            }
            _ => client,
        };
        let mut part = CopyPart::beside_clone(me, part, client, clone_config);
        part.set_watched(self.is_watched);
        #[cfg(test)]
        part.set_sabotage(self.sabotage);
        part.assign(assigned.assignment.clone(), now);
        self.part = Part::Copy(Box::new(part));
    }

    /// A copy becomes a clone again, and goes on from what it has.
    fn end_copy(&mut self) {
        let now = self.now;
        let part = match std::mem::replace(&mut self.part, Part::Failed) {
            Part::Copy(part) => *part,
            other => {
                self.part = other;
                return;
            }
        };
        let (client, config) = part.into_client(&mut self.out, now);
        self.begin_clone(client, config);
    }

    /// A primary that coordinators have put here goes on as a copy, and so do its writes.
    fn primary_becomes_copy(&mut self) {
        let now = self.now;
        let Some(mut part) = self.take_primary() else {
            return;
        };
        self.out.extend(part.rivals.forget());
        part.primary.begin_copies(now.mono);
        #[cfg(any(test, feature = "simulation"))]
        part.primary.break_rule(self.broken);
        let config = clone_config(part.primary.config());
        let way = CloneConfig {
            copy: CopyMode::None,
            ..config.clone()
        };
        let client = StoreClone::new(self.name.clone(), self.config.number, way, now.mono);
        let mut part = CopyPart::with(self.config.endpoint, part, client, config);
        part.set_watched(self.is_watched);
        #[cfg(test)]
        part.set_sabotage(self.sabotage);
        self.part = Part::Copy(Box::new(part));
    }

    /// Coordinators have put the primary elsewhere, or have put none anywhere. What is here is read until another one is heard.
    fn end_primary(&mut self) {
        let now = self.now;
        let Some(part) = self.take_primary() else {
            return;
        };
        if part.has_something_of_its_own() {
            self.has_given_up = true;
            self.out.push_back(Output::Notice(Notice::WritesGivenUp));
        }
        let mut primary = part.primary;
        primary.close();
        while let Some(output) = primary.poll() {
            self.out.push_back(output);
        }
        let config = clone_config(primary.config());
        let mut client = StoreClone::new(
            self.name.clone(),
            self.config.number,
            config.clone(),
            now.mono,
        );
        let revision = primary.revision();
        let entries = primary.into_entries();
        client.takes_copy(entries, Some(revision), HeldWrites::default(), now.mono);
        self.begin_clone(client, config);
    }

    /// Takes the primary out, when all that it wants done is on its way.
    fn take_primary(&mut self) -> Option<PrimaryPart> {
        let mut part = match std::mem::replace(&mut self.part, Part::Failed) {
            Part::Primary(part) => *part,
            other => {
                self.part = other;
                return None;
            }
        };
        while let Some(output) = part.poll(self.is_watched, self.now) {
            if output != Output::FindRival {
                self.out.push_back(output);
            }
        }
        Some(part)
    }

    fn begin_clone(&mut self, client: StoreClone, config: CloneConfig) {
        let now = self.now.mono;
        let (me, number) = (self.config.endpoint, self.config.number);
        let mut follower = Follower::with(client, me, number, config.clone(), now);
        follower.set_watched(self.is_watched);
        self.part = Part::Clone(Box::new(ClonePart::with(follower, config, now)));
        if let Some(assigned) = &self.assigned
            && let Some(primary) = assigned.assignment.primary
            && let Part::Clone(part) = &mut self.part
        {
            let epoch = assigned.assignment.epoch;
            part.follower.assigned(primary, epoch, now);
        }
    }
}

/// How a clone works in the place of a primary or a copy.
fn clone_config(config: &PrimaryConfig) -> CloneConfig {
    CloneConfig {
        limit: config.limit,
        budget: config.budget.clone(),
        ..CloneConfig::default()
    }
}

#[cfg(test)]
mod tests;
