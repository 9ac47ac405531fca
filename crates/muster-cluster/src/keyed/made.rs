//! The outputs that a node has made.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_wire::Mono;

use crate::delivery::Numbers;

/// The outputs whose numbers may be open at once: loggers and owners know so many.
const MOST_OPEN: u64 = 65_536 - 1_024;

/// How long an output that another owner has may go without a word of it. Owners say it more often.
const NOT_SEEN_FOR: Duration = Duration::from_secs(600);

/// The numbers of the outputs that a node has made in its life, and which of them somebody may still send.
#[derive(Debug, Default)]
pub(crate) struct Made {
    next: u64,
    /// When it was last known that somebody has it.
    open: BTreeMap<u64, Mono>,
}

impl Made {
    /// Returns `true` if another output may be made.
    pub(crate) fn has_room(&self) -> bool {
        self.next - self.floor() < MOST_OPEN
    }

    /// Returns the number of a new output.
    pub(crate) fn make(&mut self, now: Mono) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, now);
        number
    }

    /// Nobody sends an output any more.
    pub(crate) fn over(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// Nobody sends these any more.
    pub(crate) fn are_over(&mut self, numbers: &Numbers) {
        self.open.retain(|number, _| !numbers.contains(*number));
    }

    /// Somebody has outputs.
    pub(crate) fn seen(&mut self, numbers: &Numbers, now: Mono) {
        for (number, at) in &mut self.open {
            if numbers.contains(*number) {
                *at = now;
            }
        }
    }

    /// Returns `true` if somebody may still send any.
    pub(crate) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Passes over those of which nothing was heard for a long time.
    pub(crate) fn expire(&mut self, now: Mono) {
        self.open.retain(|_, at| at.after(NOT_SEEN_FOR) > now);
    }

    /// Returns the first number that somebody may still send.
    pub(crate) fn floor(&self) -> u64 {
        let first = self.open.first_key_value();
        first.map_or(self.next, |(number, _)| *number)
    }
}
