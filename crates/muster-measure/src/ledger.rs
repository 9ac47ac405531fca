//! What a subscriber counts.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::usage::clock_seconds;
use crate::{Control, Payload, cpu_seconds};

/// When nothing has come for so long, nothing more will.
const QUIET: Duration = Duration::from_secs(3);

/// How often a subscriber should ask whether it [is over](Tally::look_for_end).
pub const LOOK: Duration = Duration::from_millis(20);

/// How many messages had been received at a time of the system's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The number of messages.
    pub messages: u64,
    /// The time, in seconds. It is the same for all processes of a machine.
    pub seconds: f64,
}

/// Counts what a subscriber receives. Rates are taken between the first and the last of many steps,
/// so they do not depend on when the publisher started and when it ended.
#[derive(Debug)]
pub struct Tally {
    messages: u64,
    stride: u64,
    next: u64,
    first: Option<Step>,
    last: Step,
    cpu: f64,
    dropped: u64,
    /// What had come when it last was more than before.
    seen: (u64, Instant),
}

impl Tally {
    /// Counts from now on.
    pub(crate) fn new(payload: Payload) -> Self {
        let (stride, now) = (payload.stride(), Instant::now());
        Self {
            messages: 0,
            stride,
            next: stride,
            first: None,
            last: Step::default(),
            cpu: cpu_seconds(),
            dropped: 0,
            seen: (0, now),
        }
    }

    /// Counts messages that were received.
    #[inline]
    pub fn add(&mut self, messages: u64) {
        self.messages += messages;
        if self.messages >= self.next {
            self.step();
        }
    }

    #[cold]
    fn step(&mut self) {
        self.next = self.messages + self.stride;
        self.last = Step {
            messages: self.messages,
            seconds: clock_seconds(),
        };
        self.first.get_or_insert(self.last);
    }

    /// Counts messages that were lost within this process.
    pub fn dropped(&mut self, messages: u64) {
        self.dropped = messages;
    }

    /// Looks whether something has come since the last look. Returns `true` if everything has been received, or if what
    /// is missing will not come any more.
    pub fn look_for_end(&mut self, control: &Control) -> bool {
        if self.messages > self.seen.0 {
            self.seen = (self.messages, Instant::now());
        }
        control
            .messages()
            .is_some_and(|messages| self.messages >= messages || self.seen.1.elapsed() > QUIET)
    }

    pub(crate) fn delivered(&self) -> Delivered {
        Delivered {
            messages: self.messages,
            first: self.first.unwrap_or_default(),
            last: self.last,
            cpu: cpu_seconds() - self.cpu,
            dropped: self.dropped,
        }
    }
}

/// What a subscriber has received.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Delivered {
    /// The number of messages.
    pub messages: u64,
    /// The first step; zero if there was none.
    pub first: Step,
    /// The last step.
    pub last: Step,
    /// CPU time since before the first message, in seconds.
    pub cpu: f64,
    /// Messages that were lost within the subscriber's process, as far as it knows.
    pub dropped: u64,
}

/// What all subscribers together receive in a second, from the first step of any to the last step of any;
/// 0 if there were too few messages to say.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn rate(all: &[Delivered]) -> f64 {
    let messages: u64 = all
        .iter()
        .map(|one| one.last.messages - one.first.messages)
        .sum();
    let starts = all.iter().map(|one| one.first.seconds);
    let ends = all.iter().map(|one| one.last.seconds);
    let span = ends.fold(0.0, f64::max) - starts.fold(f64::INFINITY, f64::min);
    if messages > 0 && span > 0.0 {
        messages as f64 / span
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(first: (u64, f64), last: (u64, f64)) -> Delivered {
        let step = |(messages, seconds)| Step { messages, seconds };
        Delivered {
            messages: last.0,
            first: step(first),
            last: step(last),
            cpu: 0.0,
            dropped: 0,
        }
    }

    #[test]
    fn subscribers_that_are_served_one_after_the_other_are_no_faster_for_it() {
        let all = [
            delivered((10, 1.0), (110, 2.0)),
            delivered((10, 2.0), (110, 3.0)),
        ];
        assert!((rate(&all) - 100.0).abs() < 1e-9);
        assert!((rate(&all[..1]) - 100.0).abs() < 1e-9);
        assert!(rate(&[delivered((0, 0.0), (0, 0.0))]).abs() < 1e-9);
    }
}
