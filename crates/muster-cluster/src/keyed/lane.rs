//! What a member of a pool tells another one: in order, and again until it has it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use muster_wire::{EndpointId, Mono};

use super::entry::{Version, Wait};
use super::messages::{LaneItem, Mark};
use super::roster::Holder;

/// The bytes and messages that a member may be told and not yet have.
const WINDOW_BYTES: usize = 4 << 20;
const WINDOW_ITEMS: usize = 4_096;

/// The bytes of what is said at once.
const AT_ONCE: usize = 256 << 10;

/// How soon something is said again; then after twice the time, and so on.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MOST: Duration = Duration::from_secs(1);

/// Something that was said and is not yet known to have arrived.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) item: Bytes,
    /// Whose contents it has.
    pub(super) digest: Option<u32>,
    /// They are all of it, for a standby.
    pub(super) is_copy: bool,
    /// What waits until it has arrived.
    pub(super) waits: Vec<Wait>,
}

/// What one member tells another, as long as the same members are in.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) to: Holder,
    /// Which of this member's lanes it is: what comes later has a larger one.
    pub(super) generation: u64,
    /// The number of the first message that has not arrived.
    first: u64,
    said: VecDeque<Said>,
    bytes: usize,
    /// How many of these were said since it was begun or begun again.
    told: usize,
    /// When all is said again.
    again_at: Option<Mono>,
    again_after: Duration,
    /// Digests whose contents the member is to get as a copy, all of them.
    pub(super) copies: BTreeSet<u32>,
    /// Copies that have not arrived.
    pub(super) copies_said: usize,
    /// Digests that have changed.
    pub(super) changed: BTreeSet<u32>,
    /// Digests that the member may own from now on.
    pub(super) offers: BTreeSet<u32>,
    words: VecDeque<LaneItem>,
    /// The producers of which more does not come again than the member was told.
    pub(super) floors: BTreeSet<EndpointId>,
}

impl Lane {
    pub(super) fn new(to: Holder, generation: u64) -> Self {
        Self {
            to,
            generation,
            first: 0,
            said: VecDeque::new(),
            bytes: 0,
            told: 0,
            again_at: None,
            again_after: AGAIN,
            copies: BTreeSet::new(),
            copies_said: 0,
            changed: BTreeSet::new(),
            offers: BTreeSet::new(),
            words: VecDeque::new(),
            floors: BTreeSet::new(),
        }
    }

    /// Has a mark said behind all offers.
    pub(super) fn mark(&mut self, mark: Mark) {
        self.words.push_back(LaneItem::Mark(mark));
    }

    /// Has a copy forgotten.
    pub(super) fn forget(&mut self, digest: u32, version: Version) {
        self.words.push_back(LaneItem::Forget(digest, version));
    }

    /// Returns the next of these, if nothing is to be said before it.
    pub(super) fn next_word(&mut self) -> Option<LaneItem> {
        self.offers.is_empty().then(|| self.words.pop_front())?
    }

    /// Returns `true` if the member has to be told first what does not come again: from what is said next it may be gone.
    pub(super) fn needs_floors(&self) -> bool {
        let is_quiet = self.copies.is_empty() && self.offers.is_empty() && self.words.is_empty();
        !is_quiet && !self.floors.is_empty()
    }

    /// Returns `true` if every copy has arrived.
    pub(super) fn has_all_copies(&self) -> bool {
        self.copies.is_empty() && self.copies_said == 0
    }

    pub(super) fn has_room(&self) -> bool {
        self.said.len() < WINDOW_ITEMS && self.bytes < WINDOW_BYTES
    }

    pub(super) fn say(&mut self, said: Said) {
        self.bytes += said.item.len();
        self.copies_said += usize::from(said.is_copy);
        self.said.push_back(said);
    }

    /// Returns what is to be said now, with the number of the first of it.
    pub(super) fn take_unsaid(&mut self, now: Mono) -> Option<(u64, Vec<Bytes>)> {
        let number = self.first + self.told as u64;
        let mut items = Vec::new();
        let mut bytes = 0;
        while let Some(said) = self.said.get(self.told)
            && (items.is_empty() || bytes + said.item.len() <= AT_ONCE)
        {
            bytes += said.item.len();
            items.push(said.item.clone());
            self.told += 1;
        }
        if items.is_empty() {
            return None;
        }
        self.again_at.get_or_insert(now.after(self.again_after));
        Some((number, items))
    }

    /// The member has everything before a number. Returns what of it had not arrived before.
    pub(super) fn arrived(&mut self, expected: u64, now: Mono) -> Vec<Said> {
        let Some(count) = expected.checked_sub(self.first) else {
            return Vec::new();
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count == 0 || count > self.said.len() {
            return Vec::new();
        }
        self.first = expected;
        self.told = self.told.saturating_sub(count);
        let arrived: Vec<Said> = self.said.drain(..count).collect();
        for said in &arrived {
            self.bytes -= said.item.len();
            self.copies_said -= usize::from(said.is_copy);
        }
        self.again_after = AGAIN;
        self.again_at = (self.told > 0).then(|| now.after(AGAIN));
        arrived
    }

    /// Whether what has arrived is not there any more: the member has begun anew, and heard this much since.
    pub(super) fn was_lost(&self, (generation, expected): (u64, u64)) -> bool {
        let heard = if generation == self.generation {
            expected
        } else {
            0
        };
        heard < self.first
    }

    /// Has everything said again that has not arrived.
    pub(super) fn begin_again(&mut self) {
        self.told = 0;
        self.again_at = None;
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.again_at
    }

    pub(super) fn tick(&mut self, now: Mono) {
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_after = (self.again_after * 2).min(AGAIN_MOST);
            self.begin_again();
        }
    }

    /// Returns all that has not arrived.
    pub(super) fn into_said(self) -> impl Iterator<Item = Said> {
        self.said.into_iter()
    }
}
