//! The list at its source, and how far its followers are.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use muster_wire::{EndpointId, Mono};

use super::error::FeedErrorKind;
use super::limits::FeedLimits;
use super::list::List;
use super::messages::Want;
use super::parts::Parts;
use super::sabotage::Sabotage;

/// How often a source says that it is there, and how far its list is.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

/// The least time between two announcements.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(100);

/// For how long changes wait for others that go with them.
const GATHER: Duration = Duration::from_millis(5);

/// For how long a follower that was sent something may be silent. Then it is forgotten; when it is heard again, it goes on.
const SILENCE: Duration = Duration::from_secs(10);

/// The parts that are made in one step at most, so that the node does something else in between.
const PARTS_PER_STEP: usize = 64;

/// The list of a feed at its source. It is changed at any time, and once it is [opened](Self::open) goes to followers.
#[derive(Debug)]
pub(crate) struct Source {
    feed: &'static str,
    limits: FeedLimits,
    list: List,
    parts: Parts,
    followers: BTreeMap<EndpointId, Follower>,
    /// The bytes that are on their way to all of them.
    under_way: usize,
    is_open: bool,
    /// Followers get changes up to this number.
    released: u64,
    /// When the first change behind it was made, and the bytes of all.
    gathering: Option<(Mono, usize)>,
    next_announcement: Mono,
    last_announcement: Option<Mono>,
    /// A follower can be sent something.
    is_stirred: bool,
    broken: Sabotage,
}

/// What is known of a follower.
#[derive(Debug)]
struct Follower {
    /// The number of its last message.
    number: u64,
    /// It has been sent everything up to this number.
    sent: u64,
    /// It is to be sent a part, even if there is nothing in it.
    is_owed: bool,
    /// What is on its way: up to which numbers, and the bytes.
    under_way: VecDeque<(u64, usize)>,
    bytes: usize,
    heard: Mono,
}

/// What came of a follower's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is taken.
    Taken,
    /// It is late, or came twice.
    Late,
    /// There are too many followers.
    TooMany,
    /// The list is not open yet, or never had such a position.
    Stray,
}

impl Source {
    /// The source of a feed, whose list is empty.
    pub(crate) fn new(feed: &'static str, limits: FeedLimits) -> Self {
        Self {
            feed,
            limits,
            list: List::default(),
            parts: Parts::default(),
            followers: BTreeMap::new(),
            under_way: 0,
            is_open: false,
            released: 0,
            gathering: None,
            next_announcement: Mono(0),
            last_announcement: None,
            is_stirred: false,
            broken: Sabotage::None,
        }
    }

    /// Lets a rule be broken, under other bounds.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn sabotage(&mut self, broken: Sabotage, limits: FeedLimits) {
        (self.broken, self.limits) = (broken, limits);
    }

    /// Sets the value of a key.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], now: Mono) -> Result<(), FeedErrorKind> {
        let size = self.list.put(key, value, &self.limits)?;
        self.changed(size, now);
        Ok(())
    }

    /// Removes a key. Returns `true` if it was there.
    pub(crate) fn remove(&mut self, key: &[u8], now: Mono) -> bool {
        let size = self.list.remove(key, &self.limits);
        self.changed(size, now);
        size > 0
    }

    /// Returns the value of a key, encoded.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.list.get(key)
    }

    /// Returns the number of items.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns the bytes of the items, and of what is remembered of removals.
    pub(crate) fn bytes(&self) -> usize {
        self.list.bytes()
    }

    /// Returns the number of the last change.
    #[cfg(test)]
    pub(crate) fn head(&self) -> u64 {
        self.list.head()
    }

    /// Returns the most bytes that are on their way to one follower.
    #[cfg(test)]
    pub(crate) fn most_under_way(&self) -> usize {
        let bytes = self.followers.values().map(|follower| follower.bytes);
        bytes.max().unwrap_or(0)
    }

    /// Followers may have the list from now on.
    pub(crate) fn open(&mut self, now: Mono) {
        if !self.is_open {
            self.is_open = true;
            self.next_announcement = now;
        }
    }

    /// Somebody has come who may be a follower.
    pub(crate) fn hurry(&mut self, now: Mono) {
        let rested = self.last_announcement.map(|at| at.after(ANNOUNCE_AGAIN));
        let soon = rested.map_or(now, |rested| rested.max(now));
        self.next_announcement = self.next_announcement.min(soon);
    }

    /// A life of a node is gone.
    pub(crate) fn gone(&mut self, life: EndpointId) {
        if let Some(follower) = self.followers.remove(&life) {
            self.under_way -= follower.bytes;
            self.is_stirred = true;
        }
    }

    /// A follower says what it has.
    pub(crate) fn wanted(&mut self, from: EndpointId, want: &Want, now: Mono) -> Heard {
        if !self.is_open || want.position > self.list.head() {
            return Heard::Stray;
        }
        let is_known = self.followers.contains_key(&from);
        if !is_known && self.followers.len() >= self.limits.followers {
            return Heard::TooMany;
        }
        let follower = self.followers.entry(from).or_insert_with(|| Follower {
            number: 0,
            sent: want.position,
            is_owed: false,
            under_way: VecDeque::new(),
            bytes: 0,
            heard: now,
        });
        if want.number <= follower.number {
            return Heard::Late;
        }
        follower.number = want.number;
        follower.heard = now;
        let before = follower.bytes;
        if want.is_anew {
            follower.sent = want.position;
            follower.is_owed = true;
            follower.under_way.clear();
            follower.bytes = 0;
        }
        while let Some(&(to, bytes)) = follower.under_way.front() {
            if to > want.position {
                break;
            }
            follower.under_way.pop_front();
            follower.bytes -= bytes;
        }
        follower.sent = follower.sent.max(want.position);
        self.under_way -= before - follower.bytes;
        self.is_stirred = true;
        Heard::Taken
    }

    /// Returns when there is something to do.
    pub(crate) fn next_deadline(&self, now: Mono) -> Option<Mono> {
        if !self.is_open {
            return None;
        }
        if self.is_stirred {
            return Some(now);
        }
        let gathered = self.gathering.filter(|_| !self.followers.is_empty());
        let gathered = gathered.map(|(since, _)| since.after(GATHER));
        Some(gathered.map_or(self.next_announcement, |at| at.min(self.next_announcement)))
    }

    /// Returns the number of the last change, if it is time to announce it.
    pub(crate) fn announcement(&mut self, now: Mono) -> Option<u64> {
        if !self.is_open || self.next_announcement > now {
            return None;
        }
        self.last_announcement = Some(now);
        self.next_announcement = now.after(ANNOUNCE_EVERY);
        let silent = self.followers.iter().filter(|(_, follower)| {
            !follower.under_way.is_empty() && now.since(follower.heard) > SILENCE
        });
        let silent: Vec<EndpointId> = silent.map(|(life, _)| *life).collect();
        for life in silent {
            self.gone(life);
        }
        Some(self.list.head())
    }

    /// Returns what is to be sent now, and to whom: events of parts.
    pub(crate) fn take_parts(&mut self, now: Mono) -> Vec<(EndpointId, Bytes)> {
        let mut sending = Vec::new();
        if !self.is_open {
            return sending;
        }
        if let Some((since, bytes)) = self.gathering
            && (bytes >= self.limits.part / 4 || since.after(GATHER) <= now)
        {
            self.gathering = None;
            self.released = self.list.head();
            self.is_stirred = true;
        }
        if !std::mem::take(&mut self.is_stirred) {
            return sending;
        }
        // In turn, so that those who are at the same place get the same part.
        loop {
            let before = sending.len();
            for (life, follower) in &mut self.followers {
                let is_behind = follower.is_owed || follower.sent < self.released;
                let is_full = follower.bytes >= self.limits.window
                    || self.under_way >= self.limits.window_of_all;
                if !is_behind || (is_full && self.broken != Sabotage::SendsWithoutEnd) {
                    continue;
                }
                let part = self
                    .parts
                    .part(self.feed, &self.list, follower.sent, &self.limits);
                let bytes = part.payload.len();
                follower.sent = part.to;
                follower.is_owed = false;
                follower.under_way.push_back((part.to, bytes));
                follower.bytes += bytes;
                self.under_way += bytes;
                sending.push((*life, part.payload));
            }
            if sending.len() == before {
                return sending;
            }
            if sending.len() >= PARTS_PER_STEP {
                self.is_stirred = true;
                return sending;
            }
        }
    }

    fn changed(&mut self, size: usize, now: Mono) {
        if size > 0 {
            let (since, bytes) = self.gathering.unwrap_or((now, 0));
            self.gathering = Some((since, bytes + size));
            // Who joins before somebody follows gets them with the rest.
            if self.followers.is_empty() {
                self.released = self.list.head();
            }
        }
    }
}
