//! The state of a primary: a deterministic machine without clock, randomness or I/O.

mod writers;

use std::collections::BTreeSet;

use muster_data::{Data, Kind, Timespan, Timestamp};

use crate::arithmetic;
use crate::entries::{ENTRY_OVERHEAD, Entries, Entry, LARGEST_LIMIT, Place, SnapshotPart};
use crate::op::{Answer, Change, Op, StoreCommand, StoreEvent, WriteRefusal, Writer};
use crate::protocol::NUMBERS;
use crate::{Encoded, StoreBudget};
use writers::Writers;

/// The largest key, in bytes of its encoding.
pub const MAX_KEY: usize = 64 << 10;

/// The largest value, in bytes of its encoding.
pub const MAX_VALUE: usize = 16 << 20;

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
        match self.perform(at, op) {
            Err(Stop::Refused(refusal)) => (Answer::Refused(refusal), None),
            Err(Stop::Unchanged(key)) => {
                let entry = self.entries.get(&key);
                let change = entry.map_or(0, |entry| entry.changed);
                (Answer::Unchanged { change }, None)
            }
            Err(Stop::Empty) => (Answer::Unchanged { change: 0 }, None),
            Ok((event, value)) => {
                let change = Change {
                    number: self.changes,
                    writer: (!by_itself).then_some(writer),
                    event,
                };
                let answer = Answer::Done {
                    change: self.changes,
                    value,
                };
                (answer, Some(change))
            }
        }
    }

    /// Counts a writer's command without applying it.
    pub fn skip(&mut self, writer: Writer, number: u64) {
        self.writers.advance(writer, number);
    }

    fn perform(&mut self, at: Timestamp, op: Op) -> Result<(StoreEvent, Option<Encoded>), Stop> {
        let only = |event| Ok((event, None));
        match op {
            Op::Put { key, value, ttl } => {
                let place = self.entries.locate(&key);
                only(self.put(at, place, key, value, ttl)?)
            }
            Op::PutUnique { key, value, ttl } => {
                let place = self.entries.locate(&key);
                if self.entries.at(place).is_some() {
                    return Err(Stop::Unchanged(key));
                }
                only(self.put(at, place, key, value, ttl)?)
            }
            Op::Swap {
                key,
                seen,
                value,
                ttl,
            } => {
                let place = self.entries.locate(&key);
                let changed = self.entries.at(place).map_or(0, |entry| entry.changed);
                if changed != seen.change {
                    return Err(Stop::Unchanged(key));
                }
                match value {
                    Some(value) => only(self.put(at, place, key, value, ttl)?),
                    None => only(self.erase(key)?),
                }
            }
            Op::Erase { key } => only(self.erase(key)?),
            Op::Expire { key } => {
                let expires = self.entries.get(&key).and_then(|entry| entry.expires);
                if expires.is_none_or(|expires| expires >= at) {
                    return Err(Stop::Unchanged(key));
                }
                let old = self.remove(&key);
                self.changes += 1;
                only(StoreEvent::Expire { key, old })
            }
            Op::Add {
                key,
                value,
                initial,
                ttl,
            } => {
                let place = self.entries.locate(&key);
                let stored = match self.entries.at(place) {
                    Some(entry) => entry.value.to_data(),
                    None => arithmetic::initial(initial).ok_or(WriteRefusal::TypeClash)?,
                };
                let sum = arithmetic::add(stored, &value.to_data())?;
                let told = is_number(&sum).then(|| Encoded::of(&sum));
                let event = self.put(at, place, key, Encoded::of(&sum), ttl)?;
                Ok((event, told))
            }
            Op::Subtract { key, value, ttl } => {
                let place = self.entries.locate(&key);
                let entry = self.entries.at(place).ok_or(WriteRefusal::NoSuchKey)?;
                let (left, taken) = arithmetic::subtract(entry.value.to_data(), &value.to_data())?;
                let told = taken.map(|taken| Encoded::of(&taken));
                let told = told.or_else(|| is_number(&left).then(|| Encoded::of(&left)));
                let event = self.put(at, place, key, Encoded::of(&left), ttl)?;
                Ok((event, told))
            }
            Op::Clear => {
                if self.entries.is_empty() {
                    return Err(Stop::Empty);
                }
                self.deadlines.clear();
                self.changes += 1;
                let old = self.entries.take().into_iter();
                let old = old.map(|(key, entry)| (key, entry.value)).collect();
                only(StoreEvent::Clear { old })
            }
        }
    }

    fn put(
        &mut self,
        at: Timestamp,
        place: Place,
        key: Encoded,
        value: Encoded,
        ttl: Option<Timespan>,
    ) -> Result<StoreEvent, WriteRefusal> {
        if key.size() > MAX_KEY || value.size() > MAX_VALUE {
            return Err(WriteRefusal::TooLarge);
        }
        let held = self.entries.at(place).map(|entry| entry.value.size());
        let more = match held {
            Some(held) => value.size().saturating_sub(held),
            None => key.size() + value.size() + ENTRY_OVERHEAD,
        };
        if more > 0 {
            if more > self.limit.saturating_sub(self.entries.bytes()) {
                return Err(WriteRefusal::Full);
            }
            if !self.entries.claim(more) {
                return Err(WriteRefusal::OverBudget);
            }
        }
        let expires =
            ttl.map(|ttl| Timestamp::from_nanos(at.as_nanos().saturating_add(ttl.as_nanos())));
        self.changes += 1;
        let entry = Entry {
            value: value.clone(),
            expires,
            changed: self.changes,
        };
        let old = self.entries.put_at(place, key.clone(), entry);
        if let Some(ends) = old.as_ref().and_then(|old| old.expires) {
            self.deadlines.remove(&(ends, key.clone()));
        }
        if let Some(ends) = expires {
            self.deadlines.insert((ends, key.clone()));
        }
        Ok(StoreEvent::Put {
            key,
            value,
            expires,
            old: old.map(|old| old.value),
        })
    }

    fn erase(&mut self, key: Encoded) -> Result<StoreEvent, Stop> {
        let Some(old) = self.remove(&key) else {
            return Err(Stop::Unchanged(key));
        };
        self.changes += 1;
        let old = Some(old);
        Ok(StoreEvent::Erase { key, old })
    }

    fn remove(&mut self, key: &Encoded) -> Option<Encoded> {
        let old = self.entries.remove(key)?;
        if let Some(ends) = old.expires {
            self.deadlines.remove(&(ends, key.clone()));
        }
        Some(old.value)
    }
}

/// Why nothing changes.
enum Stop {
    Refused(WriteRefusal),
    /// The condition on this key does not hold.
    Unchanged(Encoded),
    Empty,
}

impl From<WriteRefusal> for Stop {
    fn from(refusal: WriteRefusal) -> Self {
        Self::Refused(refusal)
    }
}

fn is_number(value: &Data) -> bool {
    matches!(
        value.kind(),
        Kind::Count | Kind::Integer | Kind::Real | Kind::Timestamp | Kind::Timespan
    )
}
