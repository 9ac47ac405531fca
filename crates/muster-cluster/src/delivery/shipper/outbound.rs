//! What a producer has with one logger: what it was given, and what is to be said to it.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_wire::Mono;

use crate::delivery::Numbers;

/// The batches that one logger may have been given and not acknowledged, and their bytes.
const MOST_IN_FLIGHT: usize = 256;
const MOST_BYTES_IN_FLIGHT: usize = 16 << 20;

/// How long a logger that says nothing is waited for before its oldest batch is sent again; twice as long each time.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);
pub(super) const ASK_AGAIN_AT_MOST: Duration = Duration::from_secs(5);

/// How long the word on what was acknowledged waits for more of it.
const VERDICT_AFTER: Duration = Duration::from_millis(200);

/// What a producer says about batches that a logger has acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) keep: Numbers,
    pub(crate) keep_shared: Numbers,
    pub(crate) strike: Numbers,
    pub(crate) settle: Numbers,
}

impl Verdict {
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            keep,
            keep_shared,
            strike,
            settle,
        } = self;
        [keep, keep_shared, strike, settle]
            .iter()
            .all(|numbers| numbers.is_empty())
    }
}

/// What a producer has with one logger.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// The batches that it was given, in the order of sending.
    pub(super) in_flight: BTreeMap<u64, u64>,
    pub(super) bytes: usize,
    pub(super) next_turn: u64,
    /// When the oldest is sent again if nothing is heard.
    pub(super) ask_at: Mono,
    pub(super) wait: Duration,
    pub(super) verdict: Verdict,
    pub(super) verdict_at: Option<Mono>,
}

impl Outbound {
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let fits = self.in_flight.len() < MOST_IN_FLIGHT
            && self.bytes.saturating_add(bytes) <= MOST_BYTES_IN_FLIGHT;
        fits || self.in_flight.is_empty()
    }

    /// It has said something.
    pub(super) fn heard(&mut self, now: Mono) {
        self.wait = ASK_AGAIN;
        self.ask_at = now.after(self.wait);
    }

    pub(super) fn say(&mut self, now: Mono) -> &mut Verdict {
        self.verdict_at.get_or_insert(now.after(VERDICT_AFTER));
        &mut self.verdict
    }
}
