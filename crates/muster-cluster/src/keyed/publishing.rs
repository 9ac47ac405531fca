//! A producer's events: each is sent to the owner of its key until it is done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use muster_wire::{EndpointId, Mono};

use super::entry::EventId;
use super::messages::{Events, EventsAck, KeyedEvent, MOST_OPEN};
use super::open_events::{Open, OpenEvents};
use super::roster::{Holder, Roster};

/// The bytes of events that may be open.
const MOST_BYTES: usize = 64 << 20;

/// What an event counts for besides its payload.
const PER_EVENT: usize = 128;

/// The events and bytes that one owner may have been sent and not acknowledged.
const WINDOW_EVENTS: usize = 4_096;
const WINDOW_BYTES: usize = 8 << 20;

/// What is sent at once.
const AT_ONCE_EVENTS: usize = 512;
const AT_ONCE_BYTES: usize = 256 << 10;

/// How soon events are sent again that are not acknowledged; then after twice the time, and so on.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MOST: Duration = Duration::from_secs(2);

/// How soon all members hear which events are not open any more; then some times more, each after twice the time: nobody confirms it.
const TELL_FLOOR: Duration = Duration::from_secs(1);
const TELL_FLOOR_MOST: Duration = Duration::from_secs(32);

/// Why an event was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// Events for one life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sending {
    pub(crate) to: EndpointId,
    pub(crate) events: Events,
    /// These were sent before.
    pub(crate) repeated: usize,
}

/// What one owner is sent.
#[derive(Debug)]
struct Towards {
    to: Holder,
    generation: u64,
    /// The events in their places, from the first one that is open.
    sent: VecDeque<(u64, u64)>,
    bytes: usize,
    /// The next place.
    next: u64,
    /// The place behind what was sent since it was begun or begun again.
    told: u64,
    /// The place behind what was ever sent.
    ever_told: u64,
    /// The place that the owner expected last.
    expected: u64,
    /// Behind the window.
    waiting: VecDeque<u64>,
    again_at: Option<Mono>,
    again_after: Duration,
}

/// The events of one producer for the members of one pool, without I/O.
#[derive(Debug)]
pub(crate) struct Publishing {
    roster: Roster,
    /// What members are told of outputs: none below it is sent by anybody.
    outputs_floor: u64,
    open: OpenEvents,
    bytes: usize,
    towards: BTreeMap<EndpointId, Towards>,
    /// Events whose key nobody owns at present.
    unowned: BTreeSet<u64>,
    generation: u64,
    /// When all members are told what is not open any more, and after which time again.
    tell_at: Option<Mono>,
    tell_after: Duration,
    tells_soon: bool,
    done: Vec<u64>,
    steps: Vec<Sending>,
}

impl Publishing {
    pub(crate) fn new() -> Self {
        Self {
            roster: Roster::new(0, Vec::new()),
            outputs_floor: 0,
            open: OpenEvents::default(),
            bytes: 0,
            towards: BTreeMap::new(),
            unowned: BTreeSet::new(),
            generation: 0,
            tell_at: None,
            tell_after: TELL_FLOOR,
            tells_soon: false,
            done: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Returns how many events are open.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Returns `true` if half as much is open as may be.
    pub(crate) fn is_half_full(&self) -> bool {
        self.bytes > MOST_BYTES / 2 || self.open.next() - self.floor() > MOST_OPEN / 2
    }

    /// Returns the number of the next event.
    pub(crate) fn next_number(&self) -> u64 {
        self.open.next()
    }

    /// Returns the first number that is open.
    pub(crate) fn floor(&self) -> u64 {
        self.open.floor()
    }

    /// Takes an event. Returns its number, which is done some day.
    ///
    /// # Errors
    /// [`Full`] if as much is open as may be.
    pub(crate) fn publish(&mut self, digest: u32, payload: Bytes) -> Result<u64, Full> {
        self.publish_as(digest, payload, None)
    }

    /// Takes an event that others may publish as well. It is handled once by the number that it was made with.
    ///
    /// # Errors
    /// [`Full`] if as much is open as may be.
    pub(crate) fn publish_as(
        &mut self,
        digest: u32,
        payload: Bytes,
        made_as: Option<EventId>,
    ) -> Result<u64, Full> {
        let size = payload.len() + PER_EVENT;
        if self.open.next() - self.floor() >= MOST_OPEN || self.bytes + size > MOST_BYTES {
            return Err(Full);
        }
        self.bytes += size;
        let number = self.open.push(Open {
            digest,
            payload,
            made_as,
            sent_to: None,
        });
        self.assign(number, digest);
        Ok(number)
    }

    fn assign(&mut self, number: u64, digest: u32) {
        let Some(owner) = self.roster.owner(digest) else {
            self.unowned.insert(number);
            return;
        };
        let generation = &mut self.generation;
        let towards = self.towards.entry(owner.life).or_insert_with(|| {
            *generation += 1;
            Towards {
                to: owner,
                generation: *generation,
                sent: VecDeque::new(),
                bytes: 0,
                next: 0,
                told: 0,
                ever_told: 0,
                expected: 0,
                waiting: VecDeque::new(),
                again_at: None,
                again_after: AGAIN,
            }
        });
        towards.waiting.push_back(number);
    }

    /// The members of the pool are these from now on.
    pub(crate) fn enter(&mut self, roster: Roster) {
        if roster.id() == self.roster.id() {
            self.roster = roster;
            return;
        }
        self.roster = roster;
        // Newcomers do not know what is not open any more.
        self.tells_soon = self.open.next() > 0;
        // Everything begins anew, in order; owners know what they have.
        self.towards.clear();
        self.unowned.clear();
        let open = self.open.iter_mut().map(|(number, open)| {
            open.sent_to = None;
            (number, open.digest)
        });
        let open: Vec<(u64, u32)> = open.collect();
        for (number, digest) in open {
            self.assign(number, digest);
        }
    }

    /// An owner has said something.
    pub(crate) fn acknowledged(&mut self, from: EndpointId, ack: &EventsAck, now: Mono) {
        let before = self.open.len();
        // Also of a former owner: what is done is done.
        for (first, last) in ack.done.ranges() {
            for number in self.open.within(first, last) {
                self.end(number);
            }
        }
        let has_news = self.open.len() < before;
        if has_news && (self.tell_at.is_none() || self.tell_after > TELL_FLOOR) {
            self.tell_soon(now);
        }
        let Some(towards) = self.towards.get_mut(&from) else {
            return;
        };
        if towards.generation != ack.generation {
            return;
        }
        let before = towards.sent.len();
        towards.pass_over(&self.open);
        if has_news || towards.sent.len() < before {
            towards.again_after = AGAIN;
            towards.again_at = None;
        }
        // What it took, and has not any more, it takes again.
        if ack.expected < towards.expected {
            towards.told = towards.told.min(ack.expected);
        }
        towards.expected = ack.expected;
        if towards.sent.is_empty() {
            towards.again_at = None;
        } else {
            towards
                .again_at
                .get_or_insert(now.after(towards.again_after));
        }
    }

    /// An event is done.
    fn end(&mut self, number: u64) {
        let Some(open) = self.open.remove(number) else {
            return;
        };
        self.bytes -= open.payload.len() + PER_EVENT;
        self.unowned.remove(&number);
        let towards = open.sent_to.and_then(|life| self.towards.get_mut(&life));
        if let Some(towards) = towards {
            towards.bytes = towards.bytes.saturating_sub(open.payload.len());
        }
        self.done.push(number);
    }

    /// Returns when [`tick`](Self::tick) is due.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        let towards = self.towards.values().filter_map(|it| it.again_at).min();
        [towards, self.tell_at].into_iter().flatten().min()
    }

    /// Sends again what is not acknowledged.
    pub(crate) fn tick(&mut self, now: Mono) {
        for towards in self.towards.values_mut() {
            if towards.again_at.is_some_and(|at| at <= now) {
                towards.again_after = (towards.again_after * 2).min(AGAIN_MOST);
                towards.again_at = None;
                towards.told = towards.sent.front().map_or(towards.next, |first| first.0);
            }
        }
        if self.tell_at.is_some_and(|at| at <= now) {
            let is_last = self.tell_after >= TELL_FLOOR_MOST;
            self.tell_after *= 2;
            self.tell_at = (!is_last).then(|| now.after(self.tell_after));
            self.tell_floor();
        }
    }

    /// Nobody will ever handle what is open. Returns the numbers of the events.
    pub(crate) fn drop_all(&mut self) -> Vec<u64> {
        self.towards.clear();
        self.unowned.clear();
        self.bytes = 0;
        self.open.drain()
    }

    /// None of this producer's outputs below a number is sent by anybody any more.
    pub(crate) fn raise_outputs_floor(&mut self, floor: u64) {
        if floor > self.outputs_floor {
            self.outputs_floor = floor;
            self.tells_soon |= self.tell_at.is_none() || self.tell_after > TELL_FLOOR;
        }
    }

    fn tell_soon(&mut self, now: Mono) {
        self.tells_soon = false;
        self.tell_after = TELL_FLOOR;
        self.tell_at = Some(now.after(TELL_FLOOR));
    }

    fn tell_floor(&mut self) {
        let floor = self.floor();
        for holder in self.roster.holders() {
            self.steps.push(Sending {
                to: holder.life,
                events: Events {
                    generation: 0,
                    first: 0,
                    floor,
                    outputs_floor: self.outputs_floor,
                    events: Vec::new(),
                },
                repeated: 0,
            });
        }
    }

    /// Takes the numbers of the events that are done.
    pub(crate) fn take_done(&mut self) -> Vec<u64> {
        mem::take(&mut self.done)
    }

    /// Takes what is to be sent.
    pub(crate) fn take_steps(&mut self, now: Mono) -> Vec<Sending> {
        if self.tells_soon {
            self.tell_soon(now);
        }
        let floor = self.floor();
        for towards in self.towards.values_mut() {
            towards.fill(&mut self.open);
            while let Some((first, events, repeated)) = towards.take(&self.open) {
                towards
                    .again_at
                    .get_or_insert(now.after(towards.again_after));
                self.steps.push(Sending {
                    to: towards.to.life,
                    events: Events {
                        generation: towards.generation,
                        first,
                        floor,
                        outputs_floor: self.outputs_floor,
                        events,
                    },
                    repeated,
                });
            }
        }
        mem::take(&mut self.steps)
    }
}

impl Towards {
    /// Passes over what is done, by the word of whomever.
    fn pass_over(&mut self, open: &OpenEvents) {
        while let Some((_, number)) = self.sent.front()
            && !open.has(*number)
        {
            self.sent.pop_front();
        }
    }

    /// Gives events their places, as far as the window allows.
    fn fill(&mut self, open: &mut OpenEvents) {
        self.pass_over(open);
        while self.sent.len() < WINDOW_EVENTS && self.bytes < WINDOW_BYTES {
            let Some(number) = self.waiting.pop_front() else {
                return;
            };
            if let Some(open) = open.get_mut(number) {
                open.sent_to = Some(self.to.life);
                self.bytes += open.payload.len();
                self.sent.push_back((self.next, number));
                self.next += 1;
            }
        }
    }

    /// Takes the next events to send, with the place from which on these are all that is open.
    fn take(&mut self, open: &OpenEvents) -> Option<(u64, Vec<KeyedEvent>, usize)> {
        let from = self.sent.partition_point(|(place, _)| *place < self.told);
        let before = from.checked_sub(1).and_then(|before| self.sent.get(before));
        let first = before.map_or(0, |(place, _)| place + 1);
        let mut events = Vec::new();
        let (mut bytes, mut repeated) = (0, 0);
        for (place, number) in self.sent.range(from..) {
            if events.len() >= AT_ONCE_EVENTS || bytes >= AT_ONCE_BYTES {
                break;
            }
            let Some(found) = open.get(*number) else {
                continue;
            };
            bytes += found.payload.len();
            repeated += usize::from(*place < self.ever_told);
            self.told = place + 1;
            events.push(KeyedEvent {
                place: *place,
                number: *number,
                digest: found.digest,
                payload: found.payload.clone(),
                made_as: found.made_as,
            });
        }
        self.ever_told = self.ever_told.max(self.told);
        (!events.is_empty()).then_some((first, events, repeated))
    }
}
