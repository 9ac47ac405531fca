//! Timers of monotonic time and of event time.

use std::collections::BTreeMap;

use muster_data::Timestamp;
use muster_wire::Mono;

/// Whose timer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) framework: usize,
    pub(crate) token: u64,
}

/// The timers of a node.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    mono: BTreeMap<(Mono, u64), Owner>,
    event: BTreeMap<(Timestamp, u64), Owner>,
    next: u64,
}

impl Timers {
    pub(crate) fn schedule_mono(&mut self, at: Mono, owner: Owner) {
        self.next += 1;
        self.mono.insert((at, self.next), owner);
    }

    pub(crate) fn schedule_event_time(&mut self, at: Timestamp, owner: Owner) {
        self.next += 1;
        self.event.insert((at, self.next), owner);
    }

    pub(crate) fn cancel(&mut self, owner: Owner) {
        self.mono.retain(|_, known| *known != owner);
        self.event.retain(|_, known| *known != owner);
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.mono.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn pop_mono(&mut self, now: Mono) -> Option<Owner> {
        let entry = self
            .mono
            .first_entry()
            .filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    pub(crate) fn pop_event_time(&mut self, closed: Timestamp) -> Option<Owner> {
        let entry = self
            .event
            .first_entry()
            .filter(|entry| entry.key().0 <= closed)?;
        Some(entry.remove())
    }
}
