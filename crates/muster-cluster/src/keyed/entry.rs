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

/// An event that has arrived, by two numbers that are mostly the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// By which it is acknowledged: it is that of the node that has sent it.
    pub(crate) sent_as: EventId,
    /// By which it is known when it comes again: that of the node that has made it.
    pub(crate) made_as: EventId,
}

/// What a node gives its outputs their numbers as: not its life, in which what it publishes by itself has numbers.
pub(crate) fn maker_of_outputs(life: EndpointId) -> EndpointId {
    EndpointId::from_bytes(life.as_bytes().map(|byte| byte ^ 0xa5))
}

/// Something that a handler has given away: an event, or a log record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputChange {
    pub(crate) id: EventId,
    /// `None` if it is where it belongs, and nobody says it any more.
    pub(crate) output: Option<Bytes>,
}

/// What was done to a digest at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    pub(crate) rows: Vec<RowChange>,
    pub(crate) outputs: Vec<OutputChange>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.outputs.is_empty()
    }

    fn extend(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.outputs.extend(other.outputs);
    }
}

impl From<Vec<RowChange>> for Changes {
    fn from(rows: Vec<RowChange>) -> Self {
        Self {
            rows,
            outputs: Vec::new(),
        }
    }
}

/// What waits until the standby has what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// An event is done then.
    Done(EventId),
    /// An output leaves then.
    Leaves(EventId),
    /// The same of an output that another owner may have let go.
    LeavesAgain(EventId),
    /// Of an output nothing is known any more then.
    Forgotten(EventId),
}

/// The rows of all keys with one digest, and which events are in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) version: Version,
    pub(crate) rows: BTreeMap<Bytes, Bytes>,
    /// By producer: the events that were handled, and may come again.
    pub(crate) handled: BTreeMap<EndpointId, Numbers>,
    /// What its handlers have given away, and is not known to have arrived.
    pub(crate) outputs: BTreeMap<EventId, Bytes>,
}

impl Contents {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.handled.is_empty() && self.outputs.is_empty()
    }

    pub(super) fn has_handled(&self, event: EventId) -> bool {
        let handled = self.handled.get(&event.producer);
        handled.is_some_and(|numbers| numbers.contains(event.number))
    }

    pub(super) fn bytes(&self) -> usize {
        let rows = self.rows.iter();
        let rows = rows.map(|(row, value)| row.len() + value.len() + PER_ROW);
        let outputs = self.outputs.values();
        rows.chain(outputs.map(|output| output.len() + PER_ROW))
            .sum()
    }

    /// Makes changes. Returns by how many bytes it has grown and shrunk.
    pub(super) fn apply(&mut self, changes: &Changes) -> (usize, usize) {
        let (mut grown, mut shrunk) = (0, 0);
        for OutputChange { id, output } in &changes.outputs {
            let before = match output {
                Some(output) => {
                    grown += output.len() + PER_ROW;
                    self.outputs.insert(*id, output.clone())
                }
                None => self.outputs.remove(id),
            };
            shrunk += before.map_or(0, |before| before.len() + PER_ROW);
        }
        for RowChange { row, value } in &changes.rows {
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
    pub(super) changes: Changes,
    pub(super) base: Version,
    /// The events that are in what the standby is to be told.
    events: Vec<EventId>,
    /// What waits until it knows it.
    pub(super) waits: Vec<Wait>,
}

/// What a standby is told of a digest.
#[derive(Debug)]
pub(super) struct News {
    /// The version that it has to have.
    pub(super) base: Version,
    pub(super) changes: Changes,
    pub(super) events: Vec<EventId>,
    pub(super) waits: Vec<Wait>,
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
            changes: Changes::default(),
            base: Version::default(),
            events: Vec::new(),
            waits: Vec::new(),
        }
    }

    /// Notes what the standby is to be told.
    pub(super) fn note(
        &mut self,
        base: Version,
        changes: Changes,
        event: Option<EventId>,
        waits: impl IntoIterator<Item = Wait>,
    ) {
        if !self.has_changes() {
            self.base = base;
        }
        self.changes.extend(changes);
        self.events.extend(event);
        self.waits.extend(waits);
    }

    /// Takes what the standby is to be told.
    pub(super) fn take_news(&mut self) -> Option<News> {
        self.has_changes().then(|| News {
            base: self.base,
            changes: std::mem::take(&mut self.changes),
            events: std::mem::take(&mut self.events),
            waits: std::mem::take(&mut self.waits),
        })
    }

    /// Has the standby told all of it.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
        self.changes = Changes::default();
        self.events.clear();
    }

    /// The standby is told all of it. Returns what waits for that.
    pub(super) fn take_all(&mut self) -> Vec<Wait> {
        self.want();
        self.is_wanted = false;
        std::mem::take(&mut self.waits)
    }

    /// Nobody else is there to be told. Returns what has waited for that.
    pub(super) fn tell_nobody(&mut self) -> Vec<Wait> {
        self.at = None;
        self.take_all()
    }

    /// Somebody else is the owner, or may know more.
    pub(super) fn stop_serving(&mut self) {
        self.is_served = false;
        self.at = None;
        self.on_the_way = 0;
        self.want();
        self.is_wanted = false;
        self.waits.clear();
    }

    /// Returns `true` if the standby has all of it.
    pub(super) fn is_safe(&self) -> bool {
        self.on_the_way == 0 && !self.has_news()
    }

    /// Returns `true` if the standby is to be told something.
    pub(super) fn has_news(&self) -> bool {
        self.is_wanted || self.has_changes()
    }

    fn has_changes(&self) -> bool {
        !self.changes.is_empty() || !self.events.is_empty() || !self.waits.is_empty()
    }
}
