//! The state of a primary: a deterministic machine without clock, randomness or I/O.

mod pending;
mod writers;

use std::collections::BTreeSet;

use muster_data::{Kind, Timespan, Timestamp};

use crate::arithmetic::{self, Amended};
use crate::entries::{ENTRY_OVERHEAD, Entries, Entry, LARGEST_LIMIT, Place, SnapshotPart};
use crate::op::{
    Amendment, Answer, Change, Edit, Op, StoreCommand, StoreEvent, WriteRefusal, Writer,
};
use crate::protocol::NUMBERS;
use crate::{Encoded, StoreBudget};
pub(crate) use pending::Pending;
use writers::Writers;

/// The largest key, in bytes of its encoding.
pub const MAX_KEY: usize = 64 << 10;

/// The largest value, in bytes of its encoding.
pub const MAX_VALUE: usize = 16 << 20;

/// From this size on, in bytes, a value is not written anew when a short part of it changes.
/// Simulations have small values.
const AMENDED: usize = if cfg!(test) { 32 } else { 512 };

/// The number of writers whose last number is remembered. The one that has not written for longest
/// is forgotten first.
pub const MAX_WRITERS: usize = 65_536;

/// The memory that the entries of a store may take, in bytes, unless configured otherwise.
pub const DEFAULT_LIMIT: usize = 4 << 30;

/// Entries, writers and the number of the last change. The same commands in the same order lead to
/// the same state and the same answers, whoever applies them, so a log of commands that several
/// machines agree on can drive it; unless it counts in a [`StoreBudget`], which others use up as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    entries: Entries,
    /// The ends of TTLs in order: looking for those that are over costs nothing but those.
    deadlines: BTreeSet<(Timestamp, Encoded)>,
    changes: u64,
    writers: Writers,
    limit: usize,
}

impl Default for State {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT)
    }
}

impl State {
    /// Creates an empty state whose entries may take about `limit` bytes of memory.
    pub fn new(limit: usize) -> Self {
        Self {
            entries: Entries::default(),
            deadlines: BTreeSet::new(),
            changes: 0,
            writers: Writers::default(),
            limit: limit.min(LARGEST_LIMIT),
        }
    }

    /// Creates the state that a backend has kept. `changes` is the number of its last change. Of
    /// the writers, those that have not written for longest come first.
    pub fn restore(
        limit: usize,
        changes: u64,
        entries: impl IntoIterator<Item = (Encoded, Entry)>,
        writers: impl IntoIterator<Item = (Writer, u64)>,
    ) -> Self {
        let mut state = Self::new(limit);
        // A file may say anything.
        state.changes = changes.min(NUMBERS);
        for (key, mut entry) in entries {
            entry.changed = entry.changed.min(NUMBERS);
            state.changes = state.changes.max(entry.changed);
            if let Some(expires) = entry.expires {
                state.deadlines.insert((expires, key.clone()));
            }
            state.entries.put(key, entry);
        }
        for (writer, number) in writers {
            state.writers.advance(writer, number.min(NUMBERS));
        }
        state
    }

    /// Counts its entries in a budget from now on. Those that are there are taken in, room or not.
    pub fn join(&mut self, budget: &StoreBudget) {
        self.entries.join(budget);
    }

    #[cfg(test)]
    pub(crate) fn forget_writers(&mut self) {
        self.writers = Writers::default();
    }

    /// Returns the entries after a key for a snapshot, as [`Entries::part`] does.
    pub fn part(&mut self, after: Option<&Encoded>, bytes: usize) -> SnapshotPart {
        self.entries.part(after, bytes)
    }

    /// Forgets what is kept for the next part of a snapshot.
    pub fn forget_order(&mut self) {
        self.entries.forget_order();
    }

    /// Returns the entries.
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Returns the number of the last change; 0 before the first.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns the number of a writer's last command, if it is remembered.
    pub fn last_of(&self, writer: Writer) -> Option<u64> {
        self.writers.last_of(writer)
    }

    /// Returns the time at which the next TTL ends, if any key has one.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Returns the key whose TTL ended first, if that was before `now`.
    pub fn expired(&self, now: Timestamp) -> Option<&Encoded> {
        let (deadline, key) = self.deadlines.first()?;
        (*deadline < now).then_some(key)
    }

    /// Applies a command. Returns the answer for its writer, and the change, if there was one. A
    /// command whose number is not above the writer's last is not applied: its answer is
    /// [`Answer::Repeated`].
    pub fn apply(&mut self, command: StoreCommand) -> (Answer, Option<Change>) {
        let StoreCommand {
            at,
            writer,
            number,
            op,
        } = command;
        if !self.writers.advance(writer, number) {
            return (Answer::Repeated, None);
        }
        let by_itself = op.kind().is_reserved();
        let decided = self.decide(None, at, op).and_then(|decision| {
            if decision.more > 0 && !self.entries.claim(decision.more) {
                return Err(Stop::Refused(WriteRefusal::OverBudget));
            }
            Ok(decision)
        });
        match decided {
            Err(stop) => (stop.answer(), None),
            Ok(Decision {
                mut event,
                told,
                place,
                ..
            }) => {
                self.make(place, &mut event);
                let change = Change {
                    number: self.changes,
                    writer: (!by_itself).then_some(writer),
                    event,
                };
                let answer = Answer::Done {
                    change: self.changes,
                    value: told,
                };
                (answer, Some(change))
            }
        }
    }

    /// Counts a writer's command without applying it.
    pub fn skip(&mut self, writer: Writer, number: u64) {
        self.writers.advance(writer, number);
    }

    /// Makes a change that was decided elsewhere. Room is taken, whether there is some or not. What an amendment makes may be `known`.
    /// Returns `None`, and does nothing, if there is nothing that can be amended so.
    pub(crate) fn install(&mut self, edit: Edit, known: Option<Encoded>) -> Option<StoreEvent> {
        let mut event = self.entries.event(edit, known)?;
        self.make(None, &mut event);
        Some(event)
    }

    /// Returns `true` if so many bytes more are within its limit and its budget.
    pub(crate) fn has_budget(&self, more: usize) -> bool {
        self.entries.has_budget(more)
    }

    /// The keys whose TTLs ended before `now`, the first one first.
    pub(crate) fn all_expired(&self, now: Timestamp) -> impl Iterator<Item = &Encoded> {
        let ended = self.deadlines.iter();
        let ended = ended.take_while(move |(deadline, _)| *deadline < now);
        ended.map(|(_, key)| key)
    }

    /// When the first TTL ends of those whose keys are not about to change.
    pub(crate) fn next_deadline_behind(&self, pending: &Pending) -> Option<Timestamp> {
        let mut deadlines = self.deadlines.iter();
        let first = deadlines.find(|(_, key)| !pending.changes_key(key));
        first.map(|(deadline, _)| *deadline)
    }

    /// The writers and the numbers of their last commands, the one that wrote least lately first.
    pub(crate) fn writers(&self) -> impl Iterator<Item = (Writer, u64)> {
        self.writers.in_order()
    }

    /// Takes over what another copy has.
    pub(crate) fn adopt(
        &mut self,
        entries: Entries,
        changes: u64,
        writers: impl IntoIterator<Item = (Writer, u64)>,
    ) -> Entries {
        self.deadlines = entries
            .iter()
            .filter_map(|(key, entry)| Some((entry.expires?, key.clone())))
            .collect();
        self.changes = changes;
        self.writers = Writers::default();
        for (writer, number) in writers {
            self.writers.advance(writer, number);
        }
        std::mem::replace(&mut self.entries, entries)
    }

    /// What is there of a key, with what is decided and not yet made, and where.
    fn find<'a>(
        &'a self,
        pending: Option<&'a Pending>,
        key: &Encoded,
    ) -> (Option<&'a Entry>, Place) {
        let place = self.entries.locate(key);
        let made = self.entries.at(place);
        let entry = match pending {
            None => made,
            Some(pending) => pending.get(key).unwrap_or(made),
        };
        (entry, place)
    }

    /// What a command does, if it does something. Nothing is done yet. What is `pending` counts as done.
    pub(crate) fn decide(
        &self,
        pending: Option<&Pending>,
        at: Timestamp,
        op: Op,
    ) -> Result<Decision, Stop> {
        let unchanged = |entry: Option<&Entry>| {
            let change = entry.map_or(0, |entry| entry.changed);
            Err(Stop::Unchanged(change))
        };
        match op {
            Op::Put { key, value, ttl } => {
                let found = self.find(pending, &key);
                self.put(pending, at, found, key, value, ttl)
            }
            Op::PutUnique { key, value, ttl } => {
                let found = self.find(pending, &key);
                if found.0.is_some() {
                    return unchanged(found.0);
                }
                self.put(pending, at, found, key, value, ttl)
            }
            Op::Swap {
                key,
                seen,
                value,
                ttl,
            } => {
                let found = self.find(pending, &key);
                let changed = found.0.map_or(0, |entry| entry.changed);
                if changed != seen.change {
                    return unchanged(found.0);
                }
                match value {
                    Some(value) => self.put(pending, at, found, key, value, ttl),
                    None if found.0.is_none() => unchanged(None),
                    None => Ok(Decision::of(StoreEvent::Erase { key, old: None })),
                }
            }
            Op::Erase { key } => match self.find(pending, &key).0 {
                None => unchanged(None),
                Some(_) => Ok(Decision::of(StoreEvent::Erase { key, old: None })),
            },
            Op::Expire { key } => {
                let entry = self.find(pending, &key).0;
                let expires = entry.and_then(|entry| entry.expires);
                if expires.is_none_or(|expires| expires >= at) {
                    return unchanged(entry);
                }
                Ok(Decision::of(StoreEvent::Expire { key, old: None }))
            }
            Op::Add {
                key,
                value,
                initial,
                ttl,
            } => {
                let found = self.find(pending, &key);
                let Some(entry) = found.0 else {
                    let initial = arithmetic::initial(initial).ok_or(WriteRefusal::TypeClash)?;
                    let sum = Encoded::of(&arithmetic::add(initial, &value.to_data())?);
                    let told = is_number(sum.kind()).then(|| sum.clone());
                    let decision = self.put(pending, at, found, key, sum, ttl)?;
                    return Ok(Decision { told, ..decision });
                };
                let amendment = Amendment::Add(value);
                let amended = arithmetic::amend(&entry.value, &amendment)?;
                self.amend(pending, at, found, key, amendment, amended, ttl)
            }
            Op::Subtract { key, value, ttl } => {
                let found = self.find(pending, &key);
                let entry = found.0.ok_or(WriteRefusal::NoSuchKey)?;
                let amendment = Amendment::Subtract(value);
                let amended = arithmetic::amend(&entry.value, &amendment)?;
                self.amend(pending, at, found, key, amendment, amended, ttl)
            }
            Op::Clear => {
                let is_empty = match pending {
                    None => self.entries.is_empty(),
                    Some(pending) => pending.leaves_nothing_of(&self.entries),
                };
                if is_empty {
                    return unchanged(None);
                }
                Ok(Decision::of(StoreEvent::Clear { old: Vec::new() }))
            }
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one command and what it was found to do"
    )]
    fn amend(
        &self,
        pending: Option<&Pending>,
        at: Timestamp,
        found: (Option<&Entry>, Place),
        key: Encoded,
        how: Amendment,
        amended: Amended,
        ttl: Option<Timespan>,
    ) -> Result<Decision, Stop> {
        let Amended { value, taken } = amended;
        let told = taken.or_else(|| is_number(value.kind()).then(|| value.clone()));
        let is_much_shorter = value.size() >= AMENDED && how.part().size() <= value.size() / 2;
        let decision = self.put(pending, at, found, key, value, ttl)?;
        let mut event = decision.event;
        if let StoreEvent::Put { amendment, .. } = &mut event
            && is_much_shorter
        {
            *amendment = Some(how);
        }
        Ok(Decision {
            event,
            told,
            ..decision
        })
    }

    fn put(
        &self,
        pending: Option<&Pending>,
        at: Timestamp,
        (before, place): (Option<&Entry>, Place),
        key: Encoded,
        value: Encoded,
        ttl: Option<Timespan>,
    ) -> Result<Decision, Stop> {
        if key.size() > MAX_KEY || value.size() > MAX_VALUE {
            return Err(Stop::Refused(WriteRefusal::TooLarge));
        }
        let more = match before {
            Some(before) => value.size().saturating_sub(before.value.size()),
            None => key.size() + value.size() + ENTRY_OVERHEAD,
        };
        let held = self.entries.bytes() + pending.map_or(0, Pending::bytes);
        if more > 0 && more > self.limit.saturating_sub(held) {
            return Err(Stop::Refused(WriteRefusal::Full));
        }
        let expires =
            ttl.map(|ttl| Timestamp::from_nanos(at.as_nanos().saturating_add(ttl.as_nanos())));
        Ok(Decision {
            event: StoreEvent::Put {
                key,
                value,
                expires,
                old: None,
                amendment: None,
            },
            told: None,
            more,
            place: Some(place),
        })
    }

    /// Makes a change, and notes in it what was before. `place` is where the key of a put was found.
    fn make(&mut self, place: Option<Place>, event: &mut StoreEvent) {
        self.changes += 1;
        let ended = self.entries.make(self.changes, place, event);
        let (key, ends) = match event {
            StoreEvent::Put { key, expires, .. } => (key, *expires),
            StoreEvent::Erase { key, .. } | StoreEvent::Expire { key, .. } => (key, None),
            StoreEvent::Clear { .. } => return self.deadlines.clear(),
        };
        if let Some(ended) = ended {
            self.deadlines.remove(&(ended, key.clone()));
        }
        if let Some(ends) = ends {
            self.deadlines.insert((ends, key.clone()));
        }
    }
}

/// What a command does.
#[derive(Debug)]
pub(crate) struct Decision {
    /// The change, without what was before.
    pub(crate) event: StoreEvent,
    /// What the writer is told besides the number of the change.
    pub(crate) told: Option<Encoded>,
    /// How many bytes more are held then.
    pub(crate) more: usize,
    /// Where the key of a put was found, as long as nothing else is made.
    place: Option<Place>,
}

impl Decision {
    fn of(event: StoreEvent) -> Self {
        Self {
            event,
            told: None,
            more: 0,
            place: None,
        }
    }
}

/// Why nothing changes.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It is not possible.
    Refused(WriteRefusal),
    /// The condition on a key that this change made last does not hold.
    Unchanged(u64),
}

impl Stop {
    pub(crate) fn answer(self) -> Answer {
        match self {
            Self::Refused(refusal) => Answer::Refused(refusal),
            Self::Unchanged(change) => Answer::Unchanged { change },
        }
    }
}

impl From<WriteRefusal> for Stop {
    fn from(refusal: WriteRefusal) -> Self {
        Self::Refused(refusal)
    }
}

fn is_number(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Count | Kind::Integer | Kind::Real | Kind::Timestamp | Kind::Timespan
    )
}
