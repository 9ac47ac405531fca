//! What was decided about a store, in its order: what all copies have, and what is on its way to them.

use std::collections::VecDeque;

use crate::protocol::LogEntry;

/// The committed entries that are kept for copies that come back.
pub(super) const KEPT: usize = 65_536;

/// The memory of those, in bytes.
const KEPT_BYTES: usize = 32 << 20;

/// How many times as much is kept for a copy that is fetching a snapshot meanwhile.
pub(super) const KEPT_FOR_NEWCOMERS: usize = 8;

/// The entries that may wait for copies; beyond them nothing more is decided.
const WAITING: u64 = 1 << 18;

/// The memory of those, in bytes.
const WAITING_BYTES: usize = 64 << 20;

#[derive(Debug)]
struct Logged {
    entry: LogEntry,
    /// The number of the last change with this entry.
    changes: u64,
}

/// Entries with consecutive indices. Those up to `committed` are never taken back.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<Logged>,
    /// The index of the first of `entries`, or of the next.
    first: u64,
    /// The number of the last change before `entries`.
    before: u64,
    committed: u64,
    committed_bytes: usize,
    waiting_bytes: usize,
}

impl Log {
    /// Nothing is kept of the entries up to an index, which are committed, nor of the changes up to a number.
    pub(super) fn behind(index: u64, changes: u64) -> Self {
        Self {
            first: index + 1,
            before: changes,
            committed: index,
            ..Self::default()
        }
    }

    /// The index of the last entry.
    pub(super) fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    /// The number of the last change of all entries.
    pub(super) fn changes(&self) -> u64 {
        self.entries.back().map_or(self.before, |last| last.changes)
    }

    /// The number of the last change of the committed entries.
    pub(super) fn changes_committed(&self) -> u64 {
        self.changes_at(self.committed)
    }

    /// The number of the last change up to an index.
    pub(super) fn changes_at(&self, index: u64) -> u64 {
        let place = index.checked_sub(self.first);
        let place = place.and_then(|place| usize::try_from(place).ok());
        let logged = place.and_then(|place| self.entries.get(place));
        logged.map_or(self.before, |logged| logged.changes)
    }

    /// Returns `true` if as much waits for copies as may.
    pub(super) fn is_full(&self) -> bool {
        self.last() - self.committed >= WAITING || self.waiting_bytes >= WAITING_BYTES
    }

    pub(super) fn get(&self, index: u64) -> Option<&LogEntry> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get(place).map(|logged| &logged.entry)
    }

    /// Adds an entry. Returns the number of its change; that of the last one if it makes none.
    pub(super) fn push(&mut self, entry: LogEntry) -> u64 {
        let changes = self.changes() + u64::from(entry.edit.is_some());
        self.waiting_bytes += entry.size();
        self.entries.push_back(Logged { entry, changes });
        changes
    }

    /// Forgets what is behind an index and not committed.
    pub(super) fn truncate(&mut self, index: u64) {
        while self.last() > index.max(self.committed)
            && let Some(last) = self.entries.pop_back()
        {
            self.waiting_bytes -= last.entry.size();
        }
    }

    /// Commits the next entry, and returns it with the number of its change.
    pub(super) fn commit(&mut self) -> Option<(LogEntry, u64)> {
        let index = self.committed + 1;
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        let logged = self.entries.get(place)?;
        let (entry, changes) = (logged.entry.clone(), logged.changes);
        self.committed = index;
        self.waiting_bytes -= entry.size();
        self.committed_bytes += entry.size();
        Some((entry, changes))
    }

    /// The first index that is kept for copies that can be given up.
    pub(super) fn first_for_newcomers(&self) -> u64 {
        let committed = usize::try_from((self.committed + 1).saturating_sub(self.first));
        let too_many = committed.is_ok_and(|committed| committed > KEPT * KEPT_FOR_NEWCOMERS);
        if too_many || self.committed_bytes > KEPT_BYTES * KEPT_FOR_NEWCOMERS {
            self.committed + 1
        } else {
            self.first
        }
    }

    /// Forgets the oldest committed entries, as far as there are too many and nobody needs them who needs those from `needed` on.
    pub(super) fn trim(&mut self, needed: u64) {
        loop {
            let committed = usize::try_from((self.committed + 1).saturating_sub(self.first));
            let too_many = committed.is_ok_and(|committed| committed > KEPT);
            let is_large = self.committed_bytes > KEPT_BYTES;
            if !(too_many || is_large) || self.first >= needed.min(self.committed) {
                return;
            }
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.committed_bytes -= oldest.entry.size();
            self.before = oldest.changes;
            self.first += 1;
        }
    }

    /// Returns `true` if all entries behind an index are here.
    pub(super) fn covers(&self, index: u64) -> bool {
        index + 1 >= self.first && index <= self.last()
    }

    /// The entries from an index on, up to so many and so many bytes of them, with the number of the first change in them.
    pub(super) fn from(
        &self,
        index: u64,
        most: usize,
        bytes: usize,
    ) -> (u64, impl Iterator<Item = &LogEntry>) {
        let place = usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let before = self.changes_at(index.saturating_sub(1));
        let mut taken = 0;
        let entries = self.entries.iter().skip(place).take(most);
        let entries = entries.take_while(move |logged| {
            let fits = taken < bytes;
            taken += logged.entry.size();
            fits
        });
        (before + 1, entries.map(|logged| &logged.entry))
    }
}
