//! Settled writes whose changes a copy does not have yet.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_wire::Mono;

use crate::SettledWrite;

/// How long a write that the primary has applied waits until the copy has it too, be it from the next primary.
const HELD: Duration = Duration::from_secs(10);

/// They wait for their changes, by number, and none for longer than 10 seconds.
#[derive(Debug, Default)]
pub(crate) struct HeldWrites {
    waiting: BTreeMap<u64, Vec<(Mono, SettledWrite)>>,
    /// None has waited since before this.
    first: Option<Mono>,
}

impl HeldWrites {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    pub(crate) fn hold(&mut self, change: u64, settled: SettledWrite, now: Mono) {
        self.first.get_or_insert(now);
        let waiting = self.waiting.entry(change).or_default();
        waiting.push((now, settled));
    }

    /// Adds others, which wait for nothing that has a number.
    pub(crate) fn append(&mut self, others: Self) {
        self.first = self.first.into_iter().chain(others.first).min();
        let others = others.waiting.into_values().flatten();
        self.waiting.entry(u64::MAX).or_default().extend(others);
        self.waiting.retain(|_, waiting| !waiting.is_empty());
    }

    /// Those whose changes are there: all up to this one.
    pub(crate) fn release(&mut self, change: u64) -> Vec<SettledWrite> {
        let mut released = Vec::new();
        while let Some(first) = self.waiting.first_entry()
            && *first.key() <= change
        {
            released.extend(first.remove().into_iter().map(|(_, settled)| settled));
        }
        if self.waiting.is_empty() {
            self.first = None;
        }
        released
    }

    /// Those that have waited long enough.
    pub(crate) fn release_old(&mut self, now: Mono) -> Vec<SettledWrite> {
        let mut released = Vec::new();
        if self.next_tick().is_none_or(|at| at > now) {
            return released;
        }
        let mut first = None;
        for waiting in self.waiting.values_mut() {
            let is_old = |(since, _): &mut (Mono, SettledWrite)| since.after(HELD) <= now;
            let old = waiting.extract_if(.., is_old);
            released.extend(old.map(|(_, settled)| settled));
            let others = waiting.iter().map(|(since, _)| *since);
            first = first.into_iter().chain(others).min();
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        self.first = first;
        released
    }

    /// When [`HeldWrites::release_old`] has something to do, at the earliest.
    pub(crate) fn next_tick(&self) -> Option<Mono> {
        self.first.map(|first| first.after(HELD))
    }
}
