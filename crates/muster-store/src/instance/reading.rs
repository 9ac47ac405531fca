//! What can be read of an instance at any time.

use muster_wire::{EndpointId, Mono};

use super::{Instance, Part, StorePart, StoreReport};
use crate::{Entries, Freshness, Revision, StoreName};

/// Which messages an instance takes. All others need not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hears {
    /// Those for a primary, as [`StoreMessage::addressee`](crate::protocol::StoreMessage::addressee) tells, and those to Broker's
    /// masters.
    pub for_primary: bool,
    /// All others, and those to Broker's clones.
    pub for_clones: bool,
}

impl Instance {
    /// Returns which messages it takes, or will take once it is open. Nothing is taken before it is known what it is to be.
    pub fn hears(&self) -> Hears {
        match &self.part {
            Part::Closed => Hears::default(),
            Part::Opening { .. } | Part::Failed | Part::Primary(_) => Hears {
                for_primary: true,
                for_clones: false,
            },
            Part::Clone(_) => Hears {
                for_primary: false,
                for_clones: true,
            },
            Part::Copy(part) => Hears {
                for_primary: part.part.primary.serves(),
                // What copies tell one another, and what becomes of this endpoint's writes.
                for_clones: true,
            },
        }
    }

    /// Returns the store's name.
    pub fn name(&self) -> &StoreName {
        &self.name
    }

    /// Returns `true` if this endpoint has the primary, or will have it once its backend has been
    /// read.
    pub fn is_primary(&self) -> bool {
        match &self.part {
            Part::Opening { .. } | Part::Primary(_) => true,
            Part::Copy(part) => part.part.primary.serves(),
            Part::Closed | Part::Failed | Part::Clone(_) => false,
        }
    }

    /// Returns `true` if this endpoint has one of several copies, or reads its backend to have one.
    pub fn keeps_copy(&self) -> bool {
        matches!(self.part, Part::Copy(_)) || self.reading.is_under_way
    }

    /// Returns `true` if the primary could not be opened. [`Instance::open`] tries again.
    pub fn has_failed(&self) -> bool {
        matches!(self.part, Part::Failed)
    }

    /// Returns whether the primary's state outlives its process, or `None` if the primary is not
    /// here.
    pub fn is_persistent(&self) -> Option<bool> {
        match &self.part {
            Part::Opening { .. } => Some(true),
            Part::Primary(part) => Some(part.primary.is_persistent()),
            Part::Copy(part) => Some(part.part.primary.is_persistent()),
            Part::Closed | Part::Failed | Part::Clone(_) => None,
        }
    }

    /// Returns the entries that are here, or `None` if there are none to read.
    pub fn entries(&self) -> Option<&Entries> {
        match &self.part {
            Part::Primary(part) => Some(part.primary.state().entries()),
            Part::Copy(part) => Some(part.entries()),
            Part::Clone(part) => Some(part.follower.entries()),
            Part::Closed | Part::Opening { .. } | Part::Failed => None,
        }
    }

    /// Returns the last change that is here, or [`Revision::ABSENT`] if there is none yet.
    pub fn applied(&self) -> Revision {
        match &self.part {
            Part::Primary(part) => part.primary.revision(),
            Part::Copy(part) => part.applied(),
            Part::Clone(part) => part.follower.applied().unwrap_or(Revision::ABSENT),
            Part::Closed | Part::Opening { .. } | Part::Failed => Revision::ABSENT,
        }
    }

    /// Returns how old the entries here may be.
    pub fn freshness(&self, now: Mono) -> Freshness {
        match &self.part {
            Part::Primary(_) => Freshness::Fresh,
            Part::Copy(part) => part.freshness(now),
            Part::Clone(part) => part.follower.freshness(now),
            Part::Closed | Part::Opening { .. } | Part::Failed => Freshness::Unattached,
        }
    }

    /// Returns the endpoint that has the primary, or Broker's master in its place, if it is known.
    pub fn primary(&self) -> Option<EndpointId> {
        match &self.part {
            Part::Opening { .. } | Part::Primary(_) => Some(self.config.endpoint),
            Part::Clone(part) => part.follower.primary(),
            Part::Copy(part) => {
                let assignment = part.part.primary.assignment();
                assignment.and_then(|assignment| assignment.primary)
            }
            Part::Closed | Part::Failed => None,
        }
    }

    /// Returns `true` if all writes are settled and, at a persistent store's primary, all changes
    /// are on disk.
    pub fn is_settled(&self) -> bool {
        match &self.part {
            Part::Primary(part) => part.primary.is_settled(),
            Part::Copy(part) => part.is_settled(),
            Part::Clone(part) => part.follower.is_settled(),
            Part::Closed | Part::Opening { .. } | Part::Failed => self.early.is_empty(),
        }
    }

    /// Returns what the store reports of itself, or `None` if it is not open.
    pub fn report(&self, now: Mono) -> Option<StoreReport> {
        let part = match &self.part {
            Part::Primary(part) => StorePart::Primary(part.report()),
            Part::Copy(part) => part.report(now),
            Part::Clone(part) => StorePart::Clone(part.report(now)),
            Part::Closed | Part::Opening { .. } | Part::Failed => return None,
        };
        let entries = self.entries()?;
        Some(StoreReport {
            name: self.name.clone(),
            entries: entries.len(),
            bytes: entries.bytes(),
            part,
        })
    }
}
