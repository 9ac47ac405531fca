//! A member of a pool: the keys that it owns, and those that it has copies of.

mod copies;
mod intake;
mod settling;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use muster_wire::{EndpointId, Mono};

use self::intake::{Held, Producer};
use self::settling::{Heard, Phase, Progress};
use super::entry::{Changes, Contents, Entry, EventId, OutputChange, Receipt, Version, Wait};
use super::lane::Lane;
use super::messages::{EventsAck, LaneAck, LaneMessage};
use super::roster::{Holder, Roster};
use super::sabotage::Sabotage;

/// How long a member that is out may come back with what it had. As long is remembered what is empty by now.
const MAY_COME_BACK: Duration = Duration::from_secs(600);

/// For how long a member waits for those who may have what nobody else has.
const WAIT_FOR_LOST: Duration = Duration::from_secs(10);

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeeperStep {
    /// To a producer.
    Acknowledge(EndpointId, EventsAck),
    /// To another member.
    Say(EndpointId, LaneMessage),
    /// To a member that has said something.
    Confirm(EndpointId, LaneAck),
}

/// Whether an output may have left before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// Its digest has had no other owner since it was made.
    First,
    Again,
}

/// An output that may leave its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) digest: u32,
    pub(crate) id: EventId,
    pub(crate) departure: Departure,
    pub(crate) output: Bytes,
}

/// What a member has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeeperCounts {
    /// Events that were given to a handler.
    pub(crate) handled: u64,
    /// Events that came again and were not.
    pub(crate) again: u64,
    /// Events that were not taken for want of room.
    pub(crate) no_room: u64,
    /// Digests whose contents were given to another owner.
    pub(crate) handed_over: u64,
    /// Digests whose contents came from another member.
    pub(crate) taken_over: u64,
    /// How often a member went on although what others had may be lost.
    pub(crate) gave_up: u64,
    /// Messages that no member sends.
    pub(crate) malformed: u64,
}

/// What a member may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeeperLimits {
    /// The bytes of all rows, copies included.
    pub(crate) rows: usize,
    /// The bytes of events that wait for the contents of their keys.
    pub(crate) held: usize,
    /// The events that are remembered because they may come again.
    pub(crate) handled: usize,
    /// The producers that are known.
    pub(crate) producers: usize,
}

impl Default for KeeperLimits {
    fn default() -> Self {
        Self {
            rows: 1 << 30,
            held: 16 << 20,
            handled: 1 << 20,
            producers: 4_096,
        }
    }
}

/// A member of a pool, without I/O.
#[derive(Debug)]
pub(crate) struct Keeper {
    me: EndpointId,
    limits: KeeperLimits,
    roster: Roster,
    /// This member, if it is in.
    mine: Option<Holder>,
    /// It may not act alone at present.
    is_suspended: bool,
    /// From when on the leases of all are over who are out.
    alone_from: Mono,
    /// When it was in last, as far as it knows.
    was_in: Mono,
    /// The last roster in which everything had a copy.
    settled_in: Option<Roster>,
    /// Until when it waits for those who may have what nobody else has.
    waits_until: Option<Mono>,
    /// The sites of members that are out and may come back, and since when.
    missing: BTreeMap<u32, Mono>,
    entries: BTreeMap<u32, Entry>,
    /// The bytes of all rows.
    bytes: usize,
    lanes: BTreeMap<EndpointId, Lane>,
    heard: BTreeMap<EndpointId, Heard>,
    phase: Phase,
    /// The last generation of a lane.
    generation: u64,
    /// The epoch, and the term, in which it has begun to own what it owns.
    epoch: u64,
    term: u64,
    count: u64,
    producers: BTreeMap<EndpointId, Producer>,
    /// The events that are remembered.
    remembered: usize,
    /// Events whose keys' contents are not here yet.
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Events to handle.
    ready: VecDeque<Held>,
    /// It owns keys that it did not own before.
    has_gained: bool,
    /// Outputs that may leave.
    leaving: VecDeque<(u32, EventId, Departure)>,
    /// Digests that have had outputs since it was looked last.
    with_outputs: BTreeSet<u32>,
    /// Outputs of which nothing is known any more.
    forgotten: Vec<EventId>,
    /// Whom to answer.
    to_answer: BTreeSet<EndpointId>,
    /// Digests that may be forgotten.
    empty: BTreeSet<u32>,
    /// It was looked for others since everything was where it belongs.
    is_swept: bool,
    steps: Vec<KeeperStep>,
    counts: KeeperCounts,
    broken: Sabotage,
}

impl Keeper {
    pub(crate) fn new(me: EndpointId, limits: KeeperLimits) -> Self {
        Self {
            me,
            limits,
            roster: Roster::new(0, Vec::new()),
            mine: None,
            is_suspended: false,
            alone_from: Mono::default(),
            was_in: Mono::default(),
            settled_in: None,
            waits_until: None,
            missing: BTreeMap::new(),
            entries: BTreeMap::new(),
            bytes: 0,
            lanes: BTreeMap::new(),
            heard: BTreeMap::new(),
            phase: Phase::default(),
            generation: 0,
            epoch: 0,
            term: 0,
            count: 0,
            producers: BTreeMap::new(),
            remembered: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            ready: VecDeque::new(),
            has_gained: false,
            leaving: VecDeque::new(),
            with_outputs: BTreeSet::new(),
            forgotten: Vec::new(),
            to_answer: BTreeSet::new(),
            empty: BTreeSet::new(),
            is_swept: false,
            steps: Vec::new(),
            counts: KeeperCounts::default(),
            broken: Sabotage::None,
        }
    }

    /// Lets a rule be broken.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn sabotage(&mut self, broken: Sabotage) {
        self.broken = broken;
    }

    pub(crate) fn counts(&self) -> KeeperCounts {
        self.counts
    }

    /// Returns how many bytes the rows have, copies included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many digests are owned, and of how many there are copies or what is on its way.
    #[cfg(test)]
    pub(crate) fn digests(&self) -> (usize, usize) {
        let owned = self.entries.values().filter(|entry| entry.is_served);
        let owned = owned.count();
        (owned, self.entries.len() - owned)
    }

    /// Returns `true` if of all that this member owns there are copies, and all other members have said the same of theirs.
    pub(crate) fn is_settled(&self) -> bool {
        self.phase.progress == Progress::Clean
    }

    /// Returns `true` if this member owns a digest, and has all that is known of it.
    pub(crate) fn serves(&self, digest: u32) -> bool {
        self.mine.is_some()
            && self.roster.owner(digest) == self.mine
            && (self.phase.progress > Progress::Waiting
                || self
                    .entries
                    .get(&digest)
                    .is_some_and(|entry| entry.is_served))
    }

    /// The same, if it may act: its lease runs.
    pub(crate) fn acts_for(&self, digest: u32) -> bool {
        !self.is_suspended && self.serves(digest)
    }

    /// Returns `true` if nobody who is out can take itself for a member any more.
    pub(crate) fn is_alone(&self, now: Mono) -> bool {
        now >= self.alone_from
    }

    /// Returns `true` if it may not act.
    pub(crate) fn is_suspended(&self) -> bool {
        self.is_suspended
    }

    /// Returns the session in which it owns what it owns, if it is in.
    pub(crate) fn session(&self) -> Option<u64> {
        Some(self.mine?.session)
    }

    /// Returns `true` if there are other members, who would take over.
    pub(crate) fn has_others(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// Returns a row of a digest that this member owns.
    pub(crate) fn row(&self, digest: u32, row: &[u8]) -> Option<&Bytes> {
        self.entries.get(&digest)?.contents.rows.get(row)
    }

    /// Returns the rows of a digest, in order, from one on.
    pub(crate) fn rows_from<'a>(
        &'a self,
        digest: u32,
        first: &'a [u8],
    ) -> impl Iterator<Item = (&'a Bytes, &'a Bytes)> {
        let entry = self.entries.get(&digest);
        entry.into_iter().flat_map(move |entry| {
            let from = (std::ops::Bound::Included(first), std::ops::Bound::Unbounded);
            entry.contents.rows.range::<[u8], _>(from)
        })
    }

    /// Returns the digests that this member owns and has something of.
    pub(crate) fn owned(&self) -> impl Iterator<Item = u32> {
        let entries = self.entries.iter();
        entries
            .filter(|(_, entry)| entry.is_served && !entry.contents.rows.is_empty())
            .map(|(digest, _)| *digest)
    }

    /// Returns how many more bytes rows may have.
    pub(crate) fn room(&self) -> usize {
        self.limits.rows.saturating_sub(self.bytes)
    }

    /// Something was done to a digest: because of an event, or on its own.
    pub(crate) fn changed(
        &mut self,
        digest: u32,
        event: Option<Receipt>,
        changes: impl Into<Changes>,
    ) {
        let changes = changes.into();
        let Some(mine) = self.mine.filter(|_| self.serves(digest)) else {
            return;
        };
        if event.is_none() && changes.is_empty() {
            return;
        }
        if let Some(event) = event {
            self.remember(event.made_as, digest);
        }
        let standby = self.roster.standby(digest);
        self.count += 1;
        let entry = self.entries.entry(digest).or_insert_with(|| {
            let mut entry = Entry::new(Contents::default(), mine);
            entry.is_served = true;
            // The standby has nothing of it, as this member has not.
            entry.at = standby;
            entry
        });
        let base = entry.contents.version;
        entry.contents.version = Version {
            epoch: self.epoch,
            term: self.term,
            count: self.count,
        };
        let (grown, shrunk) = entry.contents.apply(&changes);
        self.bytes = (self.bytes + grown).saturating_sub(shrunk);
        if let Some(Receipt { made_as, .. }) = event {
            let handled = entry.contents.handled.entry(made_as.producer).or_default();
            handled.insert(made_as.number);
        }
        if shrunk > 0 {
            self.empty.insert(digest);
        }
        if !changes.outputs.is_empty() {
            self.with_outputs.insert(digest);
        }
        let done = event.map(|event| Wait::Done(event.sent_as));
        let outputs = changes.outputs.iter().map(|change| match change.output {
            Some(_) => Wait::Leaves(change.id),
            None => Wait::Forgotten(change.id),
        });
        let waits: Vec<Wait> = done.into_iter().chain(outputs).collect();
        let lane = standby.and_then(|standby| self.lanes.get_mut(&standby.life));
        let Some(lane) = lane else {
            // Nobody else is there to have it.
            return self.is_known(digest, waits);
        };
        let early: Vec<Wait> = match self.broken {
            Sabotage::AcknowledgesAlone => done.into_iter().collect(),
            Sabotage::LetsGoAtOnce => waits.clone(),
            _ => Vec::new(),
        };
        if entry.is_wanted || entry.at != standby || base == Version::default() {
            entry.at = standby;
            entry.want();
            entry.waits.extend(waits);
            lane.copies.insert(digest);
        } else {
            let made_as = event.map(|event| event.made_as);
            entry.note(base, changes, made_as, waits);
            lane.changed.insert(digest);
        }
        self.is_known(digest, early);
    }

    /// The standby has what these have waited for.
    fn is_known(&mut self, digest: u32, waits: Vec<Wait>) {
        for wait in waits {
            match wait {
                Wait::Done(event) => self.done(event),
                Wait::Leaves(id) => self.leaving.push_back((digest, id, Departure::First)),
                Wait::LeavesAgain(id) => self.leaving.push_back((digest, id, Departure::Again)),
                Wait::Forgotten(id) => self.forgotten.push(id),
            }
        }
    }

    /// Returns `true` if this member owns keys that it did not own when it was asked last, and has what is known of them.
    pub(crate) fn has_gained(&mut self) -> bool {
        mem::take(&mut self.has_gained)
    }

    /// Takes an output that may leave.
    pub(crate) fn take_output(&mut self) -> Option<Leaving> {
        // Others may have taken over from a member that may not act.
        while !self.is_suspended
            && let Some((digest, id, departure)) = self.leaving.pop_front()
        {
            let entry = self.entries.get(&digest).filter(|entry| entry.is_served);
            if let Some(output) = entry.and_then(|entry| entry.contents.outputs.get(&id)) {
                return Some(Leaving {
                    digest,
                    id,
                    departure,
                    output: output.clone(),
                });
            }
        }
        None
    }

    /// An output is where it belongs. Soon nobody sends it any more, which [`take_forgotten`](Self::take_forgotten) tells. Returns
    /// `false` if another member has it now, or nobody any more.
    pub(crate) fn output_arrived(&mut self, digest: u32, id: EventId) -> bool {
        let entry = self.entries.get(&digest).filter(|entry| entry.is_served);
        let is_here = entry.is_some_and(|entry| entry.contents.outputs.contains_key(&id));
        if is_here {
            let outputs = vec![OutputChange { id, output: None }];
            let rows = Vec::new();
            self.changed(digest, None, Changes { rows, outputs });
        }
        is_here
    }

    /// Returns an output of a digest that this member owns.
    pub(crate) fn output(&self, digest: u32, id: EventId) -> Option<&Bytes> {
        let entry = self.entries.get(&digest).filter(|entry| entry.is_served)?;
        entry.contents.outputs.get(&id)
    }

    /// Takes the numbers of outputs that nobody says any more.
    pub(crate) fn take_forgotten(&mut self) -> Vec<EventId> {
        mem::take(&mut self.forgotten)
    }

    /// Returns the outputs of all that is here, copies included.
    pub(crate) fn outputs(&mut self) -> Vec<EventId> {
        let mut found = Vec::new();
        let entries = &self.entries;
        self.with_outputs.retain(|digest| {
            let entry = entries.get(digest);
            let outputs = entry.into_iter().flat_map(|it| it.contents.outputs.keys());
            let before = found.len();
            found.extend(outputs.copied());
            found.len() > before
        });
        found
    }

    /// Returns `true` if there may be outputs here.
    pub(crate) fn may_have_outputs(&self) -> bool {
        !self.with_outputs.is_empty()
    }

    /// Returns `true` if there are outputs of digests that this member owns.
    pub(crate) fn owns_outputs(&self) -> bool {
        let entries = self.with_outputs.iter();
        let mut entries = entries.filter_map(|digest| self.entries.get(digest));
        entries.any(|entry| entry.is_served && !entry.contents.outputs.is_empty())
    }

    /// Takes what is to be sent.
    pub(crate) fn take_steps(&mut self, now: Mono) -> Vec<KeeperStep> {
        if self.mine.is_some() && !self.is_suspended {
            self.was_in = now;
        }
        self.forget_empty();
        self.speak(now);
        self.answer();
        mem::take(&mut self.steps)
    }

    /// Returns when [`tick`](Self::tick) is due.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        let lanes = self.lanes.values().filter_map(Lane::next_deadline);
        let missing = self
            .missing
            .values()
            .map(|since| since.after(MAY_COME_BACK));
        lanes.chain(self.waits_until).chain(missing).min()
    }

    /// Says again what has not arrived.
    pub(crate) fn tick(&mut self, now: Mono) {
        for lane in self.lanes.values_mut() {
            lane.tick(now);
        }
        self.missing
            .retain(|_, since| since.after(MAY_COME_BACK) > now);
        if self.waits_until.is_some_and(|until| until <= now) {
            self.counts.gave_up += 1;
            self.settled_in = None;
            self.offer();
        }
    }

    /// The member may act, or not: its lease runs, or has ended.
    pub(crate) fn set_suspended(&mut self, is_suspended: bool) {
        self.is_suspended = is_suspended && self.broken != Sabotage::GoesOnWithoutLease;
        self.release_held();
    }
}
