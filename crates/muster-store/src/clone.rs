//! A store's clone: a copy that repairs itself, and the way to the primary for its node's writes.

mod attaching;
mod copying;
mod following;
mod held;
mod room;
mod settling;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use muster_wire::{EndpointId, Mono};

#[cfg(test)]
use crate::instance::Sabotage;
use crate::op::Op;
use crate::protocol::{Query, StoreMessage};
use crate::writes::{Unsent, Writes};
use crate::{Entries, Level, Output, Revision, StoreBudget, StoreName, Token};

pub(crate) use attaching::Attaching;
pub(crate) use copying::differences;
pub(crate) use held::HeldWrites;

use room::NoRoom;

/// The settings of a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneConfig {
    /// How often a clone that does not hear its primary looks for one.
    pub resync_interval: Duration,
    /// How long after a clone last heard its primary its copy counts as stale.
    pub stale_interval: Duration,
    /// How long a write waits for a primary, if it has no deadline of its own.
    pub mutation_buffer_interval: Duration,
    /// How long a primary may be silent before another is accepted in its place. A primary is
    /// silent for two seconds at most.
    pub primary_timeout: Duration,
    /// Whether it holds a copy. Without one it only sends writes and questions.
    pub copy: CopyMode,
    /// About how much memory the copy may take, in bytes. A larger store is not followed.
    pub limit: usize,
    /// What it shares with other stores of its node. When there is no room for it the copy is given up, and fetched anew
    /// when there is.
    pub budget: StoreBudget,
    /// Whether the shell knows which node should have the primary, and can ask it to open it:
    /// [`Output::AskToOpen`](crate::Output::AskToOpen).
    pub ask_to_open: bool,
}

/// Whether a clone holds a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyMode {
    /// It holds a copy of the whole store.
    Full,
    /// It holds no copy. This suits short-lived programs, such as a command line.
    None,
}

impl Default for CloneConfig {
    /// Zeek's defaults where it has them: 10 s (but a clone that has never had a primary looks for one every
    /// second), 5 minutes, 2 minutes; and 5 s.
    fn default() -> Self {
        Self {
            resync_interval: Duration::from_secs(10),
            stale_interval: Duration::from_secs(300),
            mutation_buffer_interval: Duration::from_secs(120),
            primary_timeout: Duration::from_secs(5),
            copy: CopyMode::Full,
            limit: crate::DEFAULT_LIMIT,
            budget: StoreBudget::default(),
            ask_to_open: false,
        }
    }
}

/// How old the copy of a clone may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It has never heard from a primary, so there is nothing to read.
    Unattached,
    /// It follows its primary.
    Fresh,
    /// It has not heard from its primary for longer than the stale interval. Its copy is as of
    /// then.
    Stale,
}

/// How soon a clone that has no primary, or waits for an answer of its, asks again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The slowest that a clone without any primary asks.
const FIND_SLOWLY: Duration = Duration::from_secs(1);

/// When the primary has answered nothing for so long, another one may have taken over: it is looked for, and again after that.
const SEARCH_AFTER: Duration = Duration::from_secs(1);
const SEARCH_AGAIN: Duration = Duration::from_millis(500);

/// How long two primaries must speak until it is told: one that has crashed may have spoken a moment ago.
const RIVALRY: Duration = Duration::from_secs(3);

/// The primary that a clone follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Followed {
    endpoint: EndpointId,
    timeline: u64,
    /// The epoch in which it is the primary; 0 where coordinators do not decide that.
    epoch: u64,
    /// It has said itself that this is its timeline.
    has_spoken: bool,
    heard: Mono,
}

/// What a clone had that holds no copy any more.
#[derive(Debug)]
pub(crate) struct FormerCopy {
    pub(crate) entries: Entries,
    /// The timeline of the primary that it followed.
    pub(crate) timeline: Option<u64>,
    /// Settled writes whose changes it did not have.
    pub(crate) held: HeldWrites,
    /// Settled writes to former primaries.
    pub(crate) held_before: HeldWrites,
}

/// A clone without I/O.
#[derive(Debug)]
pub struct StoreClone {
    name: StoreName,
    instance: u64,
    config: CloneConfig,
    primary: Option<Followed>,
    /// What is said in an earlier epoch is not listened to.
    epoch: u64,
    entries: Entries,
    /// The copy was given up, until there is room for it.
    no_room: Option<NoRoom>,
    /// The last change in `entries`.
    applied: Option<Revision>,
    attaching: Option<Attaching>,
    /// When the primary is asked next, for what is missing or at all.
    ask_at: Option<Mono>,
    /// When another primary is looked for, if nothing is heard of this one: something waits for its word.
    search_at: Option<Mono>,
    /// How long until it is asked once more.
    asked: Duration,
    /// The primary has said that changes up to here exist.
    exists: u64,
    writes: Writes,
    /// Settled writes whose change this copy does not have yet.
    held: HeldWrites,
    /// Settled writes to former primaries: a new snapshot has them, or they are lost.
    held_before: HeldWrites,
    /// Another endpoint that claims to be the primary, and since when.
    rival: Option<(EndpointId, Mono)>,
    has_warned: bool,
    is_watched: bool,
    out: VecDeque<Output>,
    #[cfg(test)]
    pub(crate) sabotage: Sabotage,
}

impl StoreClone {
    /// Creates a clone that has nothing yet. `instance` must be different for all instances on an
    /// endpoint.
    pub fn new(name: StoreName, instance: u64, config: CloneConfig, now: Mono) -> Self {
        let mut clone = Self {
            name,
            instance,
            primary: None,
            epoch: 0,
            entries: Entries::within(&config.budget),
            config,
            no_room: None,
            applied: None,
            attaching: None,
            ask_at: None,
            search_at: None,
            asked: ASK_AGAIN,
            exists: 0,
            writes: Writes::new(instance),
            held: HeldWrites::default(),
            held_before: HeldWrites::default(),
            rival: None,
            has_warned: false,
            is_watched: true,
            out: VecDeque::new(),
            #[cfg(test)]
            sabotage: Sabotage::default(),
        };
        clone.find(now);
        clone
    }

    /// Returns the store's name.
    pub fn name(&self) -> &StoreName {
        &self.name
    }

    /// Returns the entries of the copy.
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Returns the last change in the copy, or `None` before the first snapshot.
    pub fn applied(&self) -> Option<Revision> {
        self.applied
    }

    /// Returns the endpoint of its primary, if it follows one.
    pub fn primary(&self) -> Option<EndpointId> {
        self.primary.map(|primary| primary.endpoint)
    }

    /// Returns how many changes the copy is missing, as far as its primary has told; 0 before the
    /// first snapshot.
    pub fn missing(&self) -> u64 {
        let applied = self.applied.map(|applied| applied.change);
        applied.map_or(0, |change| self.exists.saturating_sub(change))
    }

    /// Returns the number of writes that are not settled.
    pub fn unsettled(&self) -> usize {
        self.writes.len()
    }

    /// Returns how old the copy may be.
    pub fn freshness(&self, now: Mono) -> Freshness {
        match (self.applied, self.primary) {
            (None, _) => Freshness::Unattached,
            (Some(_), Some(primary)) if now.since(primary.heard) < self.config.stale_interval => {
                Freshness::Fresh
            }
            (Some(_), _) => Freshness::Stale,
        }
    }

    /// Sets whether changes are reported by [`Output::Changed`]. At first they are.
    pub fn set_watched(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
    }

    /// Sends a write to the primary. It is settled by `deadline` or, without one, within
    /// [`CloneConfig::mutation_buffer_interval`].
    pub fn write(&mut self, op: Op, level: Level, token: Token, deadline: Option<Mono>, now: Mono) {
        let deadline = deadline.unwrap_or_else(|| now.after(self.config.mutation_buffer_interval));
        self.writes.submit(op, level, token, deadline);
        self.send_writes(now);
        self.settle(now);
    }

    /// Takes a message from an endpoint. Messages that are not for a clone are ignored.
    pub fn receive(&mut self, from: EndpointId, message: StoreMessage, now: Mono) {
        let (timeline, epoch) = match &message {
            StoreMessage::Alive {
                timeline, epoch, ..
            }
            | StoreMessage::Gone { timeline, epoch }
            | StoreMessage::Reply {
                timeline, epoch, ..
            } => (*timeline, *epoch),
            StoreMessage::Changes(changes) => (changes.timeline, changes.epoch),
            StoreMessage::Chunk(chunk) if chunk.instance == self.instance => {
                (chunk.timeline, chunk.epoch)
            }
            StoreMessage::Results(results) if results.instance == self.instance => {
                (results.timeline, results.epoch)
            }
            _ => return,
        };
        if epoch < self.epoch {
            return; // of one that was the primary
        }
        let follows = self.follows(from, timeline, epoch, now);
        match message {
            StoreMessage::Reply {
                request,
                last,
                reply,
                ..
            } => {
                let revision = Revision {
                    timeline,
                    change: last,
                };
                self.out.push_back(Output::Replied {
                    request,
                    revision,
                    reply,
                });
            }
            _ if !follows => {}
            StoreMessage::Alive { last, .. } => {
                self.exists = self.exists.max(last);
                self.ask_for_missing(now);
            }
            StoreMessage::Changes(changes) => self.changes(changes, now),
            StoreMessage::Chunk(chunk) => self.chunk(chunk, now),
            StoreMessage::Gone { .. } if self.config.copy == CopyMode::Full => self.attach(now),
            StoreMessage::Results(results) => self.results(&results, now),
            _ => {}
        }
    }

    /// The last epoch that it knows of; 0 where coordinators do not decide who is the primary.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns `true` if its primary was heard within the stale interval.
    pub(crate) fn has_heard_lately(&self, now: Mono) -> bool {
        self.primary
            .is_some_and(|primary| now.since(primary.heard) < self.config.stale_interval)
    }

    /// Returns `true` if a primary is heard.
    pub(crate) fn hears_primary(&self, now: Mono) -> bool {
        self.primary
            .is_some_and(|primary| !self.is_silent(primary, now))
    }

    /// Until when its primary counts as heard, if nothing more is heard of it.
    pub(crate) fn heard_until(&self) -> Option<Mono> {
        let primary = self.primary?;
        Some(primary.heard.after(self.config.primary_timeout))
    }

    /// What it has, for whoever follows another primary from now on. If this one ever hears its own again, it
    /// begins anew.
    pub(crate) fn take_entries(&mut self) -> Entries {
        self.primary = None;
        self.applied = None;
        self.attaching = None;
        let nothing = Entries::within(&self.config.budget);
        std::mem::replace(&mut self.entries, nothing)
    }

    /// Takes over what was read of another primary so far: what is different in the next snapshot is told as
    /// changes.
    pub(crate) fn adopt(&mut self, entries: Entries, now: Mono) {
        self.entries = entries;
        self.applied = None;
        if self.primary.is_some() && self.config.copy == CopyMode::Full {
            self.attach(now);
        }
    }

    /// The writes that no primary was sent.
    pub(crate) fn take_unsent(&mut self) -> Vec<(Unsent, Level)> {
        self.writes.take_unsent()
    }

    /// Sends a question to the primary, or to whoever is the primary if none is known. It is sent
    /// once, and may get lost.
    pub fn query(&mut self, request: u64, query: Query, now: Mono) {
        let message = StoreMessage::Query { request, query };
        let primary = self
            .primary
            .filter(|primary| !self.is_silent(*primary, now));
        if let Some(primary) = primary {
            self.send(primary.endpoint, &message);
            self.awaits_word(now);
        } else {
            let message = message.encode(&self.name);
            self.out.push_back(Output::Find(message));
        }
    }

    /// Coordinators have decided which endpoint is the primary. Earlier decisions than the last that is known are ignored.
    pub fn assigned(&mut self, primary: EndpointId, epoch: u64, now: Mono) {
        if epoch <= self.epoch {
            return;
        }
        self.epoch = epoch;
        match self.primary {
            Some(known) if known.endpoint != primary => {
                let timeline = known.timeline;
                self.begins_with(primary, timeline, epoch, now);
                if let Some(primary) = &mut self.primary {
                    // It may have begun another history, with any number.
                    primary.has_spoken = false;
                }
            }
            Some(_) => {}
            None => self.find(now),
        }
    }

    /// Holds no copy from now on, and is only a way to the primary. Returns what it had.
    pub(crate) fn gives_up_copy(&mut self) -> FormerCopy {
        self.applied = None;
        self.config.copy = CopyMode::None;
        self.attaching = None;
        self.no_room = None;
        self.ask_at = None;
        let nothing = Entries::within(&self.config.budget);
        FormerCopy {
            entries: std::mem::replace(&mut self.entries, nothing),
            timeline: self.primary.map(|primary| primary.timeline),
            held: std::mem::take(&mut self.held),
            held_before: std::mem::take(&mut self.held_before),
        }
    }

    /// Holds a copy from now on: this one, as of a revision. `held` are settled writes whose changes it does not have yet.
    pub(crate) fn takes_copy(
        &mut self,
        entries: Entries,
        applied: Option<Revision>,
        held: HeldWrites,
        now: Mono,
    ) {
        self.config.copy = CopyMode::Full;
        self.entries = entries;
        self.applied = applied;
        self.held = held;
        self.find(now);
    }

    /// Notes that an endpoint is out of reach. If it had the primary, another one is accepted at
    /// once.
    pub fn lost(&mut self, endpoint: EndpointId, now: Mono) {
        if let Some(primary) = &mut self.primary
            && primary.endpoint == endpoint
        {
            primary.heard = Mono(
                primary
                    .heard
                    .0
                    .min(now.0.saturating_sub(nanos(self.config.primary_timeout))),
            );
            self.find(now);
        }
    }

    /// Notes that a possible primary is in reach. A clone that has no primary asks at once.
    pub fn discovered(&mut self, now: Mono) {
        if self
            .primary
            .is_none_or(|primary| self.is_silent(primary, now))
        {
            self.find(now);
        }
    }

    /// Does what is due at the time `now`.
    pub fn tick(&mut self, now: Mono) {
        self.writes.expire(now);
        if let Some(primary) = self.primary {
            if let Some(write) = self.writes.again(now) {
                self.send(primary.endpoint, &StoreMessage::Write(write));
                self.awaits_word(now);
            }
            let needs_it = self.config.copy == CopyMode::Full || !self.writes.is_empty();
            if needs_it && self.is_silent(primary, now) && self.ask_at.is_none() {
                self.ask_at = Some(now);
            }
        }
        if self.ask_at.is_some_and(|at| at <= now) {
            self.ask(now);
        }
        if self.next_search().is_some_and(|at| at <= now) {
            self.search(now);
        }
        self.look_for_room(now);
        self.send_writes(now);
        self.settle(now);
        self.release_held(now);
    }

    /// Returns when [`StoreClone::tick`] has something to do, at the latest.
    pub fn next_tick(&self) -> Mono {
        let silent = self
            .primary
            .map(|primary| primary.heard.after(self.config.primary_timeout));
        // Once it is silent, `ask_at` says when it is looked for.
        let needs_it = self.config.copy == CopyMode::Full || !self.writes.is_empty();
        let silent = silent.filter(|_| self.ask_at.is_none() && needs_it);
        let writes = self.writes.next_tick();
        let (held, before) = (self.held.next_tick(), self.held_before.next_tick());
        let room = self.no_room.as_ref().map(NoRoom::look_at);
        [
            self.ask_at,
            self.next_search(),
            silent,
            writes,
            held,
            before,
            room,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(Mono(u64::MAX))
    }

    /// Returns `true` if all writes are settled.
    pub fn is_settled(&self) -> bool {
        self.writes.is_empty() && self.held.is_empty() && self.held_before.is_empty()
    }

    /// Settles all waiting writes, because the store is closed.
    pub fn close(&mut self, now: Mono) {
        self.writes.close();
        self.settle(now);
        self.release_all();
    }

    /// Returns the next thing to do, or `None` if there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn is_silent(&self, primary: Followed, now: Mono) -> bool {
        now.since(primary.heard) >= self.config.primary_timeout
    }

    fn send(&mut self, to: EndpointId, message: &StoreMessage) {
        self.out
            .push_back(Output::Send(to, message.encode(&self.name)));
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
