//! What a node has handled of the questions of others, so that none is handled twice.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use muster_wire::{EndpointId, Mono};

use super::messages::Verdict;
use super::sabotage::Sabotage;
use crate::delivery::Numbers;
use crate::layout::MOST_NODES;

/// The lives of askers that are remembered: those of the largest layout, restarted once. Beyond that the one that was heard longest
/// ago is forgotten.
const MOST_ASKERS: usize = 2 * MOST_NODES;

/// The numbers of one asker that are remembered, counted as gaps between them are: as many as it can have open.
const MOST_GAPS: usize = 1_024;

/// The bytes of answers that are kept in case they were lost on their way.
const MOST_BYTES: usize = 16 << 20;

/// What a kept answer counts for besides its bytes.
const OVERHEAD: usize = 128;

/// For how long an answer is kept at most.
const LONGEST: Duration = Duration::from_secs(600);

/// The questions of all askers.
#[derive(Debug, Default)]
pub(crate) struct Answering {
    askers: BTreeMap<EndpointId, Asker>,
    /// Counts what arrives.
    arrivals: u64,
    kept: BTreeMap<(EndpointId, u64), Kept>,
    /// The keys of what is kept, by when it was.
    order: BTreeMap<u64, (EndpointId, u64)>,
    bytes: usize,
    broken: Sabotage,
}

/// What is remembered of one life.
#[derive(Debug, Default)]
struct Asker {
    handled: Numbers,
    /// Below it nothing is handled any more: nobody waits for it, or it is not known whether it was handled.
    least: u64,
    /// Below it nobody waits for anything.
    floor: u64,
    /// When it was heard last.
    heard: u64,
}

#[derive(Debug)]
struct Kept {
    verdict: Verdict,
    answer: Bytes,
    until: Mono,
    /// Its place in the order.
    place: u64,
}

/// What is to be done with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is new: it is to be handled, and [`Answering::answered`] called.
    Handle,
    /// It was handled, and this is the answer.
    Again(Verdict, Bytes),
    /// Nobody waits for it.
    Ignore,
}

impl Answering {
    /// Lets a rule be broken.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn sabotage(&mut self, broken: Sabotage) {
        self.broken = broken;
    }

    /// A question has arrived, whose handler is there. `floor` is the first number that the asker has open.
    pub(crate) fn arrived(
        &mut self,
        from: EndpointId,
        number: u64,
        floor: u64,
        now: Mono,
    ) -> Arrival {
        self.forget_late(now);
        self.arrivals += 1;
        if !self.askers.contains_key(&from) && self.askers.len() >= MOST_ASKERS {
            self.forget_oldest();
        }
        let asker = self.askers.entry(from).or_default();
        asker.heard = self.arrivals;
        if floor > asker.floor {
            asker.floor = floor;
            asker.least = asker.least.max(floor);
            asker.handled.remove_below(floor);
            self.forget_below(from, floor);
        }
        let Some(asker) = self.askers.get_mut(&from) else {
            return Arrival::Ignore;
        };
        if self.broken == Sabotage::HandlesAgain {
            return Arrival::Handle;
        }
        if number < asker.floor {
            return Arrival::Ignore;
        }
        if number < asker.least || asker.handled.contains(number) {
            let forgotten = || Arrival::Again(Verdict::Forgotten, Bytes::new());
            let kept = self.kept.get(&(from, number));
            return kept.map_or_else(forgotten, |kept| {
                Arrival::Again(kept.verdict.clone(), kept.answer.clone())
            });
        }
        asker.handled.insert(number);
        // Of more than it can have open the first ones are no longer told apart from those that were never there.
        let has_too_many = asker.handled.ranges().nth(MOST_GAPS).is_some();
        let first = asker.handled.ranges().next();
        if let Some((_, last)) = first.filter(|_| has_too_many) {
            asker.least = last.saturating_add(1);
            asker.handled.remove_below(asker.least);
        }
        Arrival::Handle
    }

    /// A question was handled. Its answer is kept for as long as the asker waits, if there is room.
    pub(crate) fn answered(
        &mut self,
        from: EndpointId,
        number: u64,
        verdict: Verdict,
        answer: Bytes,
        within: Duration,
        now: Mono,
    ) {
        let size = answer.len() + OVERHEAD;
        if size > MOST_BYTES {
            return;
        }
        self.forget(from, number);
        let place = self.arrivals;
        let kept = Kept {
            verdict,
            answer,
            until: now.after(within.min(LONGEST)),
            place,
        };
        self.kept.insert((from, number), kept);
        self.order.insert(place, (from, number));
        self.bytes += size;
        while self.bytes > MOST_BYTES {
            let Some((&place, &(from, number))) = self.order.first_key_value() else {
                return;
            };
            self.order.remove(&place);
            self.forget(from, number);
        }
    }

    /// The bytes that kept answers take.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget(&mut self, from: EndpointId, number: u64) {
        if let Some(kept) = self.kept.remove(&(from, number)) {
            self.bytes -= kept.answer.len() + OVERHEAD;
            self.order.remove(&kept.place);
        }
    }

    fn forget_below(&mut self, from: EndpointId, floor: u64) {
        while let Some((&(from, number), _)) = self.kept.range((from, 0)..(from, floor)).next() {
            self.forget(from, number);
        }
    }

    /// Forgets answers that nobody waits for any more, beginning with those that were kept first.
    fn forget_late(&mut self, now: Mono) {
        while let Some((_, &(from, number))) = self.order.first_key_value() {
            let kept = self.kept.get(&(from, number));
            if kept.is_some_and(|kept| kept.until > now) {
                return;
            }
            self.forget(from, number);
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.askers.iter().min_by_key(|(_, asker)| asker.heard);
        if let Some((&oldest, _)) = oldest {
            self.askers.remove(&oldest);
            self.forget_below(oldest, u64::MAX);
        }
    }
}
