//! Messages that a queue can never take, however empty it is: each is counted, and the log names some.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use muster_wire::Topic;

/// The time between two that a queue tells of.
const APART: Duration = Duration::from_secs(10);

/// Tells of the messages that one queue cannot take.
#[derive(Debug, Default)]
pub(crate) struct TooLarge {
    told: Mutex<Option<Instant>>,
}

impl TooLarge {
    /// Tells that a message of `bytes` is too large for a queue that takes up to `limit` bytes, unless it has told of
    /// another just before.
    pub(crate) fn tell(&self, queue: &str, topic: &Topic, bytes: usize, limit: usize) {
        if let Ok(mut told) = self.told.lock() {
            if told.is_some_and(|told| told.elapsed() < APART) {
                return;
            }
            *told = Some(Instant::now());
        }
        tracing::warn!(
            "dropped a message of {bytes} bytes on {topic}: {queue} takes at most {limit} bytes at once; more of them \
             within {APART:?} are only counted"
        );
    }
}
