//! What is known of the keys with one digest.

use std::collections::BTreeMap;

use bytes::Bytes;
use muster_wire::EndpointId;

use super::roster::Holder;
use crate::delivery::Numbers;

/// What a row counts for besides its bytes.
pub(super) const PER_ROW: usize = 128;

/// Orders what was known of a digest at different times, wherever that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Version {
    /// The epoch in which its owner began; 0 where nobody coordinates.
    pub(crate) epoch: u64,
    /// Grows with each owner.
    pub(crate) term: u64,
    /// Grows with each change that an owner makes, to whichever digest.
    pub(crate) count: u64,
}

/// A change of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowChange {
    /// Table, key and the row in it.
    pub(crate) row: Bytes,
    /// What it is now; `None` if it is gone.
    pub(crate) value: Option<Bytes>,
}

/// The number that a producer has given an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventId {
    /// The producer's life.
    pub(crate) producer: EndpointId,
    pub(crate) number: u64,
}

/// The rows of all keys with one digest, and which events are in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) version: Version,
    pub(crate) rows: BTreeMap<Bytes, Bytes>,
    /// By producer: the events that were handled, and may come again.
    pub(crate) handled: BTreeMap<EndpointId, Numbers>,
}

impl Contents {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.handled.is_empty()
    }

    pub(super) fn has_handled(&self, event: EventId) -> bool {
        let handled = self.handled.get(&event.producer);
        handled.is_some_and(|numbers| numbers.contains(event.number))
    }

    pub(super) fn bytes(&self) -> usize {
        let rows = self.rows.iter();
        rows.map(|(row, value)| row.len() + value.len() + PER_ROW)
            .sum()
    }

    /// Makes changes. Returns by how many bytes it has grown and shrunk.
    pub(super) fn apply(&mut self, changes: &[RowChange]) -> (usize, usize) {
        let (mut grown, mut shrunk) = (0, 0);
        for RowChange { row, value } in changes {
            let before = match value {
                Some(value) => {
                    grown += row.len() + value.len() + PER_ROW;
                    self.rows.insert(row.clone(), value.clone())
                }
                None => self.rows.remove(row),
            };
            shrunk += before.map_or(0, |before| row.len() + before.len() + PER_ROW);
        }
        (grown, shrunk)
    }

    /// Forgets events that do not come again. Returns whether any was known.
    pub(super) fn forget_below(&mut self, producer: EndpointId, floor: u64) -> bool {
        let Some(numbers) = self.handled.get_mut(&producer) else {
            return false;
        };
        numbers.remove_below(floor);
        if numbers.is_empty() {
            self.handled.remove(&producer);
        }
        true
    }
}

/// What a member has of a digest.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) contents: Contents,
    /// Whose contents these are: the owner that has made them, or that has sent them.
    pub(super) of: Holder,
    /// This member is the owner, and has all that is known.
    pub(super) is_served: bool,
    /// The standby that has everything but what is on its way.
    pub(super) at: Option<Holder>,
    /// Messages on the way to the standby that have something of it.
    pub(super) on_the_way: usize,
    /// The standby is to get all of it.
    pub(super) is_wanted: bool,
    /// What the standby is to be told, unless it gets all of it, and of which version it is then.
    pub(super) changes: Vec<RowChange>,
    pub(super) base: Version,
    /// The events that are in what the standby is to be told.
    pub(super) events: Vec<EventId>,
}

impl Entry {
    pub(super) fn new(contents: Contents, of: Holder) -> Self {
        Self {
            contents,
            of,
            is_served: false,
            at: None,
            on_the_way: 0,
            is_wanted: false,
            changes: Vec::new(),
            base: Version::default(),
            events: Vec::new(),
        }
    }

    /// Notes what the standby is to be told.
    pub(super) fn note(&mut self, base: Version, changes: Vec<RowChange>, event: Option<EventId>) {
        if self.changes.is_empty() && self.events.is_empty() {
            self.base = base;
        }
        self.changes.extend(changes);
        self.events.extend(event);
    }

    /// Takes what the standby is to be told: of which version it has to be, the changes, and the events in them.
    pub(super) fn take_news(&mut self) -> Option<(Version, Vec<RowChange>, Vec<EventId>)> {
        let has_any = !self.changes.is_empty() || !self.events.is_empty();
        has_any.then(|| {
            let changes = std::mem::take(&mut self.changes);
            (self.base, changes, std::mem::take(&mut self.events))
        })
    }

    /// Has the standby told all of it.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
        self.changes.clear();
    }

    /// The standby is told all of it. Returns the events in it that it does not have yet.
    pub(super) fn take_all(&mut self) -> Vec<EventId> {
        self.is_wanted = false;
        self.changes.clear();
        std::mem::take(&mut self.events)
    }

    /// Somebody else is the owner, or may know more.
    pub(super) fn stop_serving(&mut self) {
        self.is_served = false;
        self.at = None;
        self.on_the_way = 0;
        self.is_wanted = false;
        self.changes.clear();
        self.events.clear();
    }

    /// Returns `true` if the standby has all of it.
    pub(super) fn is_safe(&self) -> bool {
        self.on_the_way == 0 && !self.has_news()
    }

    /// Returns `true` if the standby is to be told something.
    pub(super) fn has_news(&self) -> bool {
        self.is_wanted || !self.changes.is_empty() || !self.events.is_empty()
    }
}
