//! The two ends of a channel of Broker's stores: numbered events over a network that may lose them (protocol
//! version 1, section 7.4).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use muster_wire::Mono;

use super::codec::Entity;

/// The unit of heartbeat intervals.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// The interval of acknowledgements and keepalives that this end announces, in ticks.
pub(super) const HEARTBEAT: u16 = 5;

/// How long the other end may be silent until it counts as gone: as Broker's.
pub(super) const TIMEOUT: Duration = Duration::from_secs(50);

/// How long without progress until missing events are asked for.
const NACK_AFTER: Duration = Duration::from_millis(200);

/// The missing events that are asked for at one time.
const NACK_MOST: usize = 256;

/// The events that wait for an earlier one, and their bytes. What is beyond is asked for again.
const WAITING: usize = 4096;
const WAITING_BYTES: usize = 32 << 20;

/// The events that are kept for consumers that have not confirmed them, and their bytes. A consumer that lags
/// further is dropped.
const KEPT: usize = 65_536;
const KEPT_BYTES: usize = 64 << 20;

/// The bytes that one nack brings back; the consumer asks again for the rest.
const RESENT_BYTES: usize = 1 << 20;

/// The consumers of one channel.
pub(super) const CONSUMERS: usize = 1024;

/// The end of a channel that sends.
#[derive(Debug)]
pub(super) struct Producer {
    /// The number of the last event; the first has 2.
    number: u64,
    paths: Vec<Path>,
    /// The last events that not all consumers have confirmed, encoded.
    kept: VecDeque<Vec<u8>>,
    bytes: usize,
    keepalive_at: Mono,
}

#[derive(Debug)]
struct Path {
    consumer: Entity,
    acked: u64,
    heard: Mono,
    /// When it was attached last.
    attached: Mono,
}

/// What a nack brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resend {
    Event(Vec<u8>),
    /// The event is not kept any more.
    Failed(u64),
}

impl Producer {
    pub(super) fn new(now: Mono) -> Self {
        Self {
            number: 1,
            paths: Vec::new(),
            kept: VecDeque::new(),
            bytes: 0,
            keepalive_at: now.after(heartbeat(HEARTBEAT)),
        }
    }

    /// The number of the last event.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns `true` if anybody hears the channel: without consumers events have no numbers.
    pub(super) fn is_heard(&self) -> bool {
        !self.paths.is_empty()
    }

    /// When a consumer was attached last.
    pub(super) fn attached(&self, consumer: Entity) -> Option<Mono> {
        let path = self.paths.iter().find(|path| path.consumer == consumer);
        path.map(|path| path.attached)
    }

    pub(super) fn has_room(&self) -> bool {
        self.paths.len() < CONSUMERS
    }

    /// Returns `true` if there are consumers, and an event more would be far from dropping one.
    pub(super) fn has_space(&self) -> bool {
        self.is_heard() && self.kept.len() < KEPT / 2 && self.bytes < KEPT_BYTES / 2
    }

    /// Attaches a consumer behind the last event. One that is attached already keeps what it has not
    /// confirmed: it may follow the offset of an earlier answer.
    pub(super) fn attach(&mut self, consumer: Entity, now: Mono) {
        if let Some(path) = self.path(consumer) {
            path.heard = now;
            path.attached = now;
            return;
        }
        self.paths.push(Path {
            consumer,
            acked: self.number,
            heard: now,
            attached: now,
        });
    }

    /// Takes the next event; the consumers that lag so far behind that they are dropped.
    pub(super) fn push(&mut self, event: Vec<u8>) -> Vec<Entity> {
        self.number += 1;
        self.bytes += event.len();
        self.kept.push_back(event);
        let mut dropped = Vec::new();
        while self.kept.len() > KEPT || (self.bytes > KEPT_BYTES && self.kept.len() > 1) {
            let Some(least) = self.paths.iter().map(|path| path.acked).min() else {
                break;
            };
            self.paths.retain(|path| {
                let stays = path.acked > least;
                if !stays {
                    dropped.push(path.consumer);
                }
                stays
            });
            self.trim();
        }
        dropped
    }

    /// A consumer has confirmed all events up to a number; whether it is one.
    pub(super) fn acked(&mut self, consumer: Entity, number: u64, now: Mono) -> bool {
        let (last, first) = (self.number, self.first());
        if let Some(path) = self.path(consumer) {
            if number >= path.acked {
                path.acked = number.min(last);
            }
            path.heard = now;
            self.trim();
            return true;
        }
        // One that was dropped while it was out of reach, and has missed nothing that is not kept.
        if number >= 1 && number <= last && number + 1 >= first && self.is_heard() {
            self.attach(consumer, now);
            if let Some(path) = self.path(consumer) {
                path.acked = number;
            }
            return true;
        }
        false
    }

    /// A consumer misses events.
    pub(super) fn nack(&mut self, consumer: Entity, numbers: &[u64], now: Mono) -> Vec<Resend> {
        let Some(first) = numbers.first() else {
            return Vec::new();
        };
        if self.path(consumer).is_none() || !numbers.is_sorted() {
            self.drop_path(consumer);
            return Vec::new();
        }
        self.acked(consumer, first.saturating_sub(1), now);
        let kept_from = self.first();
        let mut resent = Vec::new();
        let mut bytes = 0;
        for number in numbers.iter().take(NACK_MOST) {
            if *number > self.number {
                break;
            }
            let place = number.checked_sub(kept_from);
            let place = place.and_then(|place| usize::try_from(place).ok());
            match place.and_then(|place| self.kept.get(place)) {
                Some(event) if bytes < RESENT_BYTES => {
                    bytes += event.len();
                    resent.push(Resend::Event(event.clone()));
                }
                Some(_) => break,
                None => resent.push(Resend::Failed(*number)),
            }
        }
        resent
    }

    /// Forgets all events: whoever asks for them hears that they are gone.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
        self.bytes = 0;
        let number = self.number;
        for path in &mut self.paths {
            path.acked = number;
        }
    }

    /// Returns `true` if a keepalive is due.
    pub(super) fn tick(&mut self, now: Mono) -> bool {
        if now < self.keepalive_at {
            return false;
        }
        self.keepalive_at = now.after(heartbeat(HEARTBEAT));
        self.is_heard()
    }

    /// Drops the consumers that were not heard of for too long.
    pub(super) fn drop_silent(&mut self, now: Mono) -> Vec<Entity> {
        let mut dropped = Vec::new();
        self.paths.retain(|path| {
            let stays = now.since(path.heard) < TIMEOUT;
            if !stays {
                dropped.push(path.consumer);
            }
            stays
        });
        self.trim();
        dropped
    }

    pub(super) fn consumers(&self) -> impl Iterator<Item = Entity> {
        self.paths.iter().map(|path| path.consumer)
    }

    pub(super) fn next_tick(&self) -> Option<Mono> {
        self.is_heard().then_some(self.keepalive_at)
    }

    fn path(&mut self, consumer: Entity) -> Option<&mut Path> {
        self.paths.iter_mut().find(|path| path.consumer == consumer)
    }

    fn drop_path(&mut self, consumer: Entity) {
        self.paths.retain(|path| path.consumer != consumer);
        self.trim();
    }

    /// The number of the first event that is kept.
    fn first(&self) -> u64 {
        self.number + 1 - self.kept.len() as u64
    }

    fn trim(&mut self) {
        let least = self.paths.iter().map(|path| path.acked).min();
        let least = least.unwrap_or(self.number);
        while self.first() <= least
            && let Some(event) = self.kept.pop_front()
        {
            self.bytes -= event.len();
        }
    }
}

/// The end of a channel that receives.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    /// The number that is expected; 0 before the handshake.
    next: u64,
    /// One more than the highest number that exists.
    end: u64,
    /// Events behind a gap; `None` for one that is gone for good.
    waiting: BTreeMap<u64, Option<T>>,
    bytes: usize,
    heartbeat: Duration,
    ack_at: Mono,
    nack_at: Mono,
}

/// What comes out of a channel, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<T> {
    Event(T),
    /// The event of this number is gone for good.
    Lost(u64),
}

/// What the producer is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Feedback {
    Ack(u64),
    Nack(Vec<u64>),
}

impl<T> Consumer<T> {
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            end: 0,
            waiting: BTreeMap::new(),
            bytes: 0,
            heartbeat: heartbeat(HEARTBEAT),
            ack_at: Mono::default(),
            nack_at: Mono::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.next > 0
    }

    /// The number that all before are here of.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// One more than the highest number that is known to exist.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Returns `true` if no event is missing, as far as is known.
    pub(super) fn is_complete(&self) -> bool {
        self.next >= self.end
    }

    /// The first event that is expected has the number behind the offset. With the same number, or an offset below
    /// what has come already, nothing changes.
    pub(super) fn open(&mut self, offset: u64, ticks: u16, now: Mono) {
        self.heartbeat = heartbeat(ticks.clamp(1, 600));
        self.ack_at = now.after(self.heartbeat);
        self.skip_to(offset.saturating_add(1));
    }

    /// All events before a number are not needed any more.
    pub(super) fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
        self.end = self.end.max(self.next);
        self.waiting = self.waiting.split_off(&self.next);
        if self.waiting.is_empty() {
            self.bytes = 0;
        }
    }

    /// Takes an event, of so many bytes.
    pub(super) fn event(&mut self, number: u64, event: T, bytes: usize, now: Mono) {
        if self.insert(number, Some(event), bytes, now) {
            self.bytes += bytes;
        }
    }

    /// Takes the news that an event is gone for good.
    pub(super) fn lost(&mut self, number: u64, now: Mono) {
        self.insert(number, None, 0, now);
    }

    fn insert(&mut self, number: u64, event: Option<T>, bytes: usize, now: Mono) -> bool {
        if number < self.next || !self.is_open() {
            return false;
        }
        self.exists(number, now);
        let has_room = self.waiting.len() < WAITING && self.bytes + bytes <= WAITING_BYTES;
        if number != self.next && !has_room {
            return false;
        }
        if self.waiting.get(&number).is_some_and(Option::is_some) {
            return false;
        }
        self.waiting.insert(number, event);
        true
    }

    /// The producer has said that events up to this one exist.
    pub(super) fn exists(&mut self, number: u64, now: Mono) {
        if !self.is_open() || number < self.end {
            return;
        }
        if self.is_complete() {
            self.nack_at = now.after(NACK_AFTER);
        }
        self.end = number.saturating_add(1);
    }

    /// The next event in order.
    pub(super) fn take(&mut self, now: Mono) -> Option<Received<T>> {
        let first = self.waiting.first_entry()?;
        if *first.key() != self.next {
            return None;
        }
        let (number, event) = first.remove_entry();
        self.next = number.saturating_add(1);
        self.nack_at = now.after(NACK_AFTER);
        if self.waiting.is_empty() {
            self.bytes = 0;
        }
        Some(event.map_or(Received::Lost(number), Received::Event))
    }

    /// What the producer is to be told now.
    pub(super) fn tick(&mut self, now: Mono) -> Option<Feedback> {
        if !self.is_open() {
            return None;
        }
        if !self.is_complete() && now >= self.nack_at {
            self.nack_at = now.after(NACK_AFTER);
            let missing = (self.next..self.end).filter(|number| !self.waiting.contains_key(number));
            return Some(Feedback::Nack(missing.take(NACK_MOST).collect()));
        }
        if now >= self.ack_at {
            self.ack_at = now.after(self.heartbeat);
            return Some(Feedback::Ack(self.next - 1));
        }
        None
    }

    pub(super) fn next_tick(&self) -> Option<Mono> {
        let nack = (!self.is_complete()).then_some(self.nack_at);
        let ack = self.is_open().then_some(self.ack_at);
        [nack, ack].into_iter().flatten().min()
    }
}

fn heartbeat(ticks: u16) -> Duration {
    TICK * u32::from(ticks)
}

#[cfg(test)]
mod tests;
