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

    /// Takes the timers that are due. What their hooks schedule is for the next time, even if it is
    /// due at once: a hook that schedules itself without delay must not keep the node busy for ever.
    pub(crate) fn take_mono(&mut self, now: Mono) -> Vec<Owner> {
        take_until(&mut self.mono, now)
    }

    /// Takes the timers of event time up to `closed`.
    pub(crate) fn take_event_time(&mut self, closed: Timestamp) -> Vec<Owner> {
        take_until(&mut self.event, closed)
    }

    /// Whether a timer of event time is due.
    pub(crate) fn is_event_time_due(&self, closed: Timestamp) -> bool {
        self.event
            .keys()
            .next()
            .is_some_and(|(at, _)| *at <= closed)
    }
}

fn take_until<T: Ord + Copy>(timers: &mut BTreeMap<(T, u64), Owner>, until: T) -> Vec<Owner> {
    let mut due = Vec::new();
    while let Some(entry) = timers.first_entry().filter(|entry| entry.key().0 <= until) {
        due.push(entry.remove());
    }
    due
}
