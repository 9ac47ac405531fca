//! What others publish to the manager's topic, where there are several managers: one of them handles it, and the others keep it until that
//! one has said so.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use muster_wire::{EndpointId, Mono};

/// What is kept at most.
const MOST: usize = 16_384;
const MOST_BYTES: usize = 16 << 20;

/// How long a message may come behind the word that another manager has handled it.
const EARLY_FOR: Duration = Duration::from_secs(30);

/// When nobody has said so long that a message is handled, the active manager may not have it: it is passed on.
const PASS_ON: Duration = Duration::from_secs(5);

/// How many messages are remembered as handled, and for how long: so late they are not passed on.
const MOST_REMEMBERED: usize = 65_536;
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// How often a manager says what it has handled.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// How long the next manager waits for what the former one has still said.
const WAIT: Duration = Duration::from_secs(1);

/// A message, as its receivers know it: all of them have the same, whichever way it came.
pub(super) fn fingerprint(from: EndpointId, payload: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = from.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fold);
    payload.iter().fold(hash, fold)
}

/// What a manager says at once.
const TOLD_AT_ONCE: usize = 4_096;

#[derive(Debug)]
struct Kept {
    at: Mono,
    fingerprint: u64,
    from: EndpointId,
    payload: Bytes,
}

/// What has come to the manager's topic, without I/O.
#[derive(Debug, Default)]
pub(super) struct ManagerTopic {
    is_active: bool,
    /// In the order of their coming, by number.
    kept: BTreeMap<u64, Kept>,
    /// The numbers of what has a fingerprint.
    numbers: BTreeMap<u64, VecDeque<u64>>,
    next: u64,
    bytes: usize,
    /// What another manager has handled before it came here, and when that was said.
    early: BTreeMap<u64, VecDeque<Mono>>,
    early_since: VecDeque<(Mono, u64)>,
    /// What was handled lately, here or by another manager, and when that was known.
    known: BTreeMap<u64, Mono>,
    known_since: VecDeque<(Mono, u64)>,
    /// What this manager handles, by the numbers of keyed events.
    open: BTreeMap<u64, u64>,
    /// What this manager has handled, and has not said yet.
    handled: Vec<u64>,
    tell_at: Option<Mono>,
    /// When this manager handles what the former one has not.
    catch_up_at: Option<Mono>,
}

impl ManagerTopic {
    /// This manager is the active one, or is not any more. Returns `true` if that is new.
    pub(super) fn set_active(&mut self, is_active: bool, now: Mono) -> bool {
        let has_changed = is_active != self.is_active;
        if has_changed {
            self.is_active = is_active;
            self.catch_up_at = is_active.then(|| now.after(WAIT));
        }
        has_changed
    }

    /// A message has arrived. Returns its fingerprint if it is handled here; otherwise it is kept. `dropped` hears how many were too many.
    pub(super) fn arrived(
        &mut self,
        from: EndpointId,
        payload: &[u8],
        now: Mono,
        dropped: &mut u64,
    ) -> Option<u64> {
        let fingerprint = fingerprint(from, payload);
        if self.is_early(fingerprint) {
            return None;
        }
        // The former manager may still say that it has handled it, and what was kept comes first.
        if self.is_active && self.catch_up_at.is_none() {
            return Some(fingerprint);
        }
        self.bytes += payload.len();
        let kept = Kept {
            at: now,
            fingerprint,
            from,
            payload: Bytes::copy_from_slice(payload),
        };
        self.kept.insert(self.next, kept);
        let numbers = self.numbers.entry(fingerprint).or_default();
        numbers.push_back(self.next);
        self.next += 1;
        *dropped += self.expire(now);
        None
    }

    /// Returns `true` if another manager has handled a message before it came here. That is used up.
    fn is_early(&mut self, fingerprint: u64) -> bool {
        let Some(times) = self.early.get_mut(&fingerprint) else {
            return false;
        };
        times.pop_front();
        if times.is_empty() {
            self.early.remove(&fingerprint);
        }
        true
    }

    /// Takes the oldest message with a fingerprint, if one is kept.
    fn take_kept(&mut self, fingerprint: u64) -> Option<Kept> {
        let numbers = self.numbers.get_mut(&fingerprint)?;
        let number = numbers.pop_front()?;
        if numbers.is_empty() {
            self.numbers.remove(&fingerprint);
        }
        let kept = self.kept.remove(&number)?;
        self.bytes -= kept.payload.len();
        Some(kept)
    }

    /// A message is handled as this keyed event.
    pub(super) fn is_open(&mut self, number: u64, fingerprint: u64, now: Mono) {
        self.open.insert(number, fingerprint);
        self.remember(fingerprint, now);
    }

    fn remember(&mut self, fingerprint: u64, now: Mono) {
        self.known.insert(fingerprint, now);
        self.known_since.push_back((now, fingerprint));
        while let Some((since, fingerprint)) = self.known_since.front().copied()
            && (self.known_since.len() > MOST_REMEMBERED || since.after(REMEMBERED_FOR) <= now)
        {
            self.known_since.pop_front();
            if self.known.get(&fingerprint) == Some(&since) {
                self.known.remove(&fingerprint);
            }
        }
    }

    /// Returns `true` if a message was handled lately.
    pub(super) fn is_known(&self, fingerprint: u64) -> bool {
        self.known.contains_key(&fingerprint)
    }

    /// A keyed event is done.
    pub(super) fn is_done(&mut self, number: u64, now: Mono) {
        if let Some(fingerprint) = self.open.remove(&number) {
            self.has_handled(fingerprint, now);
        }
    }

    /// A message is handled.
    pub(super) fn has_handled(&mut self, fingerprint: u64, now: Mono) {
        self.remember(fingerprint, now);
        self.handled.push(fingerprint);
        self.tell_at.get_or_insert(now.after(TELL_EVERY));
    }

    /// Forgets what is too old, or too much. Returns how many messages nobody is known to have handled.
    fn expire(&mut self, now: Mono) -> u64 {
        let mut dropped = 0;
        while let Some((_, first)) = self.kept.first_key_value()
            && (self.kept.len() > MOST || self.bytes > MOST_BYTES)
        {
            // The first of all is the first of its fingerprint.
            let fingerprint = first.fingerprint;
            dropped += u64::from(self.take_kept(fingerprint).is_some());
        }
        while let Some((at, fingerprint)) = self.early_since.front().copied()
            && (self.early_since.len() > MOST || at.after(EARLY_FOR) <= now)
        {
            self.early_since.pop_front();
            let times = self.early.get(&fingerprint);
            if times.is_some_and(|times| times.front() == Some(&at)) {
                self.is_early(fingerprint);
            }
        }
        dropped
    }

    /// Another manager has handled messages. Returns how many nobody is known to have handled that are dropped.
    pub(super) fn handled_elsewhere(&mut self, fingerprints: &[u64], now: Mono) -> u64 {
        for fingerprint in fingerprints.iter().take(TOLD_AT_ONCE) {
            self.remember(*fingerprint, now);
            if self.take_kept(*fingerprint).is_none() {
                self.early.entry(*fingerprint).or_default().push_back(now);
                self.early_since.push_back((now, *fingerprint));
            }
        }
        self.expire(now)
    }

    /// Takes what this manager has to say, if it is due: what it has handled.
    pub(super) fn take_handled(&mut self, now: Mono) -> Option<Vec<u64>> {
        self.tell_at.take_if(|at| *at <= now)?;
        let rest = self.handled.split_off(self.handled.len().min(TOLD_AT_ONCE));
        if !rest.is_empty() {
            self.tell_at = Some(now);
        }
        Some(std::mem::replace(&mut self.handled, rest))
    }

    /// Takes what the former manager has not said that it has handled, when it has had its time to say so: fingerprints, senders and
    /// messages.
    pub(super) fn take_left(&mut self, now: Mono) -> Vec<(u64, EndpointId, Bytes)> {
        if self.catch_up_at.take_if(|at| *at <= now).is_none() {
            return Vec::new();
        }
        self.bytes = 0;
        self.numbers.clear();
        let left = std::mem::take(&mut self.kept).into_values();
        left.map(|kept| (kept.fingerprint, kept.from, kept.payload))
            .collect()
    }

    /// Takes what nobody has said that it has handled, although the active manager has had its time for that: senders and messages.
    pub(super) fn take_unheard(&mut self, now: Mono) -> Vec<(EndpointId, Bytes)> {
        let mut unheard = Vec::new();
        while !self.is_active
            && let Some((_, first)) = self.kept.first_key_value()
            && first.at.after(PASS_ON) <= now
        {
            let fingerprint = first.fingerprint;
            let Some(kept) = self.take_kept(fingerprint) else {
                break;
            };
            unheard.push((kept.from, kept.payload));
        }
        unheard
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let first = self.kept.first_key_value().filter(|_| !self.is_active);
        let pass_on = first.map(|(_, kept)| kept.at.after(PASS_ON));
        let deadlines = [self.tell_at, self.catch_up_at, pass_on];
        deadlines.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ms: u64) -> Mono {
        Mono::default().after(Duration::from_millis(ms))
    }

    fn from(number: u8) -> EndpointId {
        EndpointId::from_bytes([number; 16])
    }

    #[test]
    fn the_next_manager_handles_what_the_former_one_has_not() {
        let (mut one, mut other) = (ManagerTopic::default(), ManagerTopic::default());
        one.set_active(true, after(0));
        assert_eq!(one.take_left(after(1_000)), Vec::new());
        let mut dropped = 0;
        for (ms, payload) in [(1_000, b"a"), (1_010, b"b"), (1_020, b"a"), (1_300, b"c")] {
            let arrived = one.arrived(from(1), payload, after(ms), &mut dropped);
            one.is_open(ms, arrived.unwrap(), after(ms));
            one.is_done(ms, after(ms));
            if let Some(handled) = one.take_handled(after(ms)) {
                assert_eq!(other.handled_elsewhere(&handled, after(ms)), 0);
            }
            // The last one comes late, and what was handled before it came is known.
            let arrived = other.arrived(from(1), payload, after(ms), &mut dropped);
            assert_eq!(arrived, None);
        }
        // The first manager is gone, and could not say everything.
        other.set_active(true, after(1_400));
        assert_eq!(other.take_left(after(2_399)), Vec::new());
        let left = other.take_left(after(2_400));
        assert_eq!(left, Vec::new());
        assert_eq!((dropped, other.bytes), (0, 0));

        other.set_active(false, after(3_000));
        for sender in [1, 2] {
            let arrived = other.arrived(from(sender), b"d", after(3_000), &mut dropped);
            assert_eq!(arrived, None);
        }
        let handled = [fingerprint(from(2), b"d")];
        other.handled_elsewhere(&handled, after(3_001));
        other.set_active(true, after(3_100));
        let left = other.take_left(after(4_100));
        let known = fingerprint(from(1), b"d");
        assert_eq!(left, [(known, from(1), Bytes::from_static(b"d"))]);
        other.has_handled(known, after(4_100));
        let told = other.take_handled(after(4_350)).unwrap();
        assert_eq!(told, [known]);
    }

    #[test]
    fn what_the_active_manager_has_not_heard_is_passed_on_to_it() {
        let (mut one, mut other) = (ManagerTopic::default(), ManagerTopic::default());
        one.set_active(true, after(0));
        one.take_left(after(1_000));
        let mut dropped = 0;
        for payload in [b"a", b"b", b"c"] {
            other.arrived(from(1), payload, after(2_000), &mut dropped);
        }
        // The first one is handled; of the second one that is not heard; the third one has not arrived there.
        for (number, payload) in [(1, b"a"), (2, b"b")] {
            let arrived = one.arrived(from(1), payload, after(2_000), &mut dropped);
            one.is_open(number, arrived.unwrap(), after(2_000));
        }
        other.handled_elsewhere(&[fingerprint(from(1), b"a")], after(2_250));
        assert_eq!(other.next_deadline(), Some(after(7_000)));
        assert_eq!(other.take_unheard(after(6_999)), Vec::new());
        let unheard = other.take_unheard(after(7_000));
        let message = |text: &'static [u8]| (from(1), Bytes::from_static(text));
        assert_eq!(unheard, [message(b"b"), message(b"c")]);
        assert_eq!((other.next_deadline(), other.bytes), (None, 0));
        assert!(one.is_known(fingerprint(from(1), b"b")));
        assert!(!one.is_known(fingerprint(from(1), b"c")));
        one.has_handled(fingerprint(from(1), b"c"), after(7_001));
        assert!(one.is_known(fingerprint(from(1), b"c")));
        assert!(!one.is_known(fingerprint(from(2), b"c")));
        // It is remembered for a while.
        one.has_handled(9, after(62_500));
        assert!(!one.is_known(fingerprint(from(1), b"b")));
        assert!(one.is_known(fingerprint(from(1), b"c")));
    }

    #[test]
    fn what_is_kept_is_bounded_and_counted() {
        let mut topic = ManagerTopic::default();
        let mut dropped = 0;
        for number in 0..MOST + 5 {
            topic.arrived(from(1), &number.to_le_bytes(), after(0), &mut dropped);
        }
        assert_eq!(dropped, 5);
        let large = vec![0; MOST_BYTES];
        topic.arrived(from(1), &large, after(0), &mut dropped);
        assert_eq!((dropped, topic.kept.len()), (MOST as u64 + 5, 1));
        let many: Vec<u64> = (0..2 * MOST as u64).collect();
        for _ in 0..3 {
            topic.handled_elsewhere(&many, after(30_000));
        }
        assert!(topic.early_since.len() <= MOST && topic.early.len() <= MOST);
        for number in 0..MOST_REMEMBERED as u64 + 9 {
            topic.is_open(number, number | 1 << 40, after(30_000));
        }
        assert_eq!(topic.known.len(), MOST_REMEMBERED);
        assert_eq!(topic.known_since.len(), MOST_REMEMBERED);
    }
}
