//! Sending at a pace that does not depend on the answers.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cpu_seconds;
use crate::latency::LatencyReport;

/// A sleep is ended so much before its time, and the rest waited out on the processor: being woken
/// takes a while.
const WAKE: Duration = Duration::from_micros(15);

/// How long after the last answer no further one is expected.
pub const QUIET: Duration = Duration::from_secs(3);

/// A pace.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Messages per second.
    pub per_second: u32,
    /// The number of messages in all.
    pub messages: u64,
    /// How many of them, at the beginning, are not timed.
    pub warm_up: u64,
}

impl Plan {
    /// Creates a pace for `seconds` seconds, and a fifth of a second before them.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of messages"
    )]
    pub fn new(per_second: u32, seconds: f64) -> Self {
        let warm_up = u64::from(per_second / 5);
        let timed = (f64::from(per_second) * seconds).ceil() as u64;
        Self {
            per_second,
            messages: warm_up + timed,
            warm_up,
        }
    }
}

/// When each message is to be sent. An answer's time counts from then: a message that was sent
/// late, because the sender or its system could not keep up, has waited all the same.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    plan: Plan,
    start: Instant,
}

impl Schedule {
    /// Creates a schedule that begins in a moment.
    pub fn begin(plan: Plan) -> Self {
        Self {
            plan,
            start: Instant::now() + Duration::from_millis(1),
        }
    }

    /// Returns when a message is to be sent.
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn due(&self, message: u64) -> Instant {
        let seconds = message as f64 / f64::from(self.plan.per_second);
        self.start + Duration::from_secs_f64(seconds)
    }
}

/// Sends every message of a schedule when it is due, on this thread. Returns how late each was, in
/// nanoseconds.
pub fn pace(schedule: Schedule, mut send: impl FnMut(u64)) -> Vec<u64> {
    // Without this, Linux lets sleepers sleep 50 us longer. It is no matter where that cannot be said.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let plan = schedule.plan;
    let mut late = Vec::new();
    for message in 0..plan.messages {
        let due = schedule.due(message);
        let mut now = Instant::now();
        if let Some(rest) = due.checked_duration_since(now + WAKE) {
            std::thread::sleep(rest);
        }
        while now < due {
            std::hint::spin_loop();
            now = Instant::now();
        }
        if message >= plan.warm_up {
            late.push(nanoseconds(now - due));
        }
        send(message);
    }
    late
}

/// Times answers.
#[derive(Debug)]
pub struct Answers {
    schedule: Schedule,
    times: Vec<u64>,
    answered: u64,
    cpu: f64,
}

impl Answers {
    /// Creates the record of the answers to the messages of a schedule.
    pub fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            times: Vec::new(),
            answered: 0,
            cpu: cpu_seconds(),
        }
    }

    /// Notes that the answer to a message has arrived.
    pub fn add(&mut self, message: u64) {
        let now = Instant::now();
        self.answered += 1;
        if message >= self.schedule.plan.warm_up {
            let due = self.schedule.due(message);
            self.times
                .push(nanoseconds(now.saturating_duration_since(due)));
        }
    }

    /// Returns `true` if all answers have arrived.
    pub fn are_all(&self) -> bool {
        self.answered >= self.schedule.plan.messages
    }

    /// Returns what was measured. `late` is how late the messages were sent, in nanoseconds.
    pub fn report(self, late: Vec<u64>) -> LatencyReport {
        let plan = self.schedule.plan;
        let cpu = cpu_seconds() - self.cpu;
        LatencyReport::new(
            self.times,
            late,
            plan.messages - self.answered.min(plan.messages),
            cpu,
        )
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
