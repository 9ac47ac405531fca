//! The time that paces an input.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use muster_wire::Mono;

/// A source of monotonic time that one can wait on.
pub trait Clock {
    /// Returns the present time.
    fn now(&self) -> Mono;

    /// Blocks the thread for this span. The input never asks for more than [`LONGEST_WAIT`](super::LONGEST_WAIT) at
    /// once.
    fn sleep(&self, span: Duration);
}

/// Real time since the clock was created.
#[derive(Debug, Clone, Copy)]
pub struct MonotonicClock {
    start: Instant,
}

impl MonotonicClock {
    /// Creates a clock that starts at 0 now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Mono {
        Mono::default().after(self.start.elapsed())
    }

    fn sleep(&self, span: Duration) {
        std::thread::sleep(span);
    }
}

/// Time that passes only while somebody sleeps, for tests and simulations.
#[derive(Debug, Default)]
pub struct SimulatedClock {
    nanos: AtomicU64,
}

impl SimulatedClock {
    /// Creates a clock at 0.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Mono {
        Mono(self.nanos.load(Ordering::Relaxed))
    }

    fn sleep(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}
