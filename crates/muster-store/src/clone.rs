//! A store's clone: a copy that repairs itself, and the way of its node's writes to the master.

mod attaching;
mod copying;
mod following;
mod settling;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use crate::op::{Change, Op};
use crate::protocol::{Message, Query, Reply};
use crate::writes::{Unsent, Writes};
use crate::{Entries, Level, Revision, Settled, StoreName, Token};

pub(crate) use copying::perform;

use attaching::Attaching;

/// How a clone works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneConfig {
    /// How often a clone that does not hear its master looks for one.
    pub resync_interval: Duration,
    /// How long after its master was heard last what a clone has counts as stale.
    pub stale_interval: Duration,
    /// How long a write waits for a master, unless it says so itself.
    pub mutation_buffer_interval: Duration,
    /// How long a master may be silent before another is accepted in its place. It speaks every two seconds.
    pub master_timeout: Duration,
    /// Whether it holds a copy at all. Without one it only writes and asks.
    pub copy: Copy,
    /// The memory that the copy may take, in bytes, roughly. A store that is larger is not followed.
    pub limit: usize,
}

/// Whether a clone holds a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copy {
    /// Of the whole store.
    Whole,
    /// No copy: for those who come and go, such as a command line.
    Nothing,
}

impl Default for CloneConfig {
    /// Zeek's defaults where it has them: 10 s (but a clone that has never had a master looks for one every
    /// second), 5 minutes, 2 minutes; and 5 s.
    fn default() -> Self {
        Self {
            resync_interval: Duration::from_secs(10),
            stale_interval: Duration::from_secs(300),
            mutation_buffer_interval: Duration::from_secs(120),
            master_timeout: Duration::from_secs(5),
            copy: Copy::Whole,
            limit: crate::DEFAULT_LIMIT,
        }
    }
}

/// How old what a clone has may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It has never heard of a master: there is nothing to read.
    Unattached,
    /// It follows its master.
    Fresh,
    /// It has not heard its master for longer than the stale interval: it has what it had then.
    Stale,
}

/// What a clone wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloneOutput {
    /// To whoever is the master: to the store's master topic.
    Find(Vec<u8>),
    /// To one endpoint.
    Send(EndpointId, Vec<u8>),
    /// The copy has changed: for watchers, in order. A snapshot that replaces an older one comes as the
    /// changes between them.
    Changed(Change),
    /// A write has come to its end.
    Settled(Settled),
    /// The master has answered a question: its number, and the master's life and last change then.
    Replied(u64, Revision, Reply),
    /// The copy is whole, for the first time or again: what it has is the master's.
    Attached,
    /// The store is larger than the copy may be: it is not followed any more.
    TooLarge,
    /// Two endpoints say that they are the store's master; the first is kept.
    TwoMasters(EndpointId, EndpointId),
}

/// How soon a clone that has no master, or waits for an answer of its, asks again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The slowest that a clone without any master asks.
const FIND_SLOWLY: Duration = Duration::from_secs(1);

/// How long a write that the master has applied waits until this copy has it too, be it from the next master.
const HELD: Duration = Duration::from_secs(10);

/// How long two masters must speak until it is told: one that has crashed may have spoken a moment ago.
const RIVALRY: Duration = Duration::from_secs(3);

/// The master that a clone follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Master {
    endpoint: EndpointId,
    life: u64,
    heard: Mono,
}

/// A clone without I/O.
#[derive(Debug)]
pub struct StoreClone {
    name: StoreName,
    instance: u64,
    config: CloneConfig,
    master: Option<Master>,
    entries: Entries,
    /// The life and number of the last change in `entries`.
    applied: Option<(u64, u64)>,
    attaching: Option<Attaching>,
    /// When the master is asked next, for what is missing or at all.
    ask_at: Option<Mono>,
    /// How long until it is asked once more.
    asked: Duration,
    /// The master has said that changes up to here exist.
    exists: u64,
    writes: Writes,
    /// Settled writes whose change this copy does not have yet.
    held: BTreeMap<u64, Vec<Settled>>,
    held_since: Mono,
    /// The same of former masters: a new snapshot has them, or they are lost.
    held_before: Vec<Settled>,
    /// Who else says that it is the master, and since when.
    rival: Option<(EndpointId, Mono)>,
    has_warned: bool,
    is_watched: bool,
    out: VecDeque<CloneOutput>,
}

impl StoreClone {
    /// A clone that has nothing yet. No two instances of an endpoint may have one number.
    pub fn new(name: StoreName, instance: u64, config: CloneConfig, now: Mono) -> Self {
        let mut clone = Self {
            name,
            instance,
            config,
            master: None,
            entries: Entries::default(),
            applied: None,
            attaching: None,
            ask_at: None,
            asked: ASK_AGAIN,
            exists: 0,
            writes: Writes::new(instance),
            held: BTreeMap::new(),
            held_since: now,
            held_before: Vec::new(),
            rival: None,
            has_warned: false,
            is_watched: true,
            out: VecDeque::new(),
        };
        clone.find(now);
        clone
    }

    /// The store's name.
    pub fn name(&self) -> &StoreName {
        &self.name
    }

    /// What it has.
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The master's life and the number of the last change that it has; `None` before the first snapshot.
    pub fn applied(&self) -> Option<(u64, u64)> {
        self.applied
    }

    /// The endpoint of its master, if it follows one.
    pub fn master(&self) -> Option<EndpointId> {
        self.master.map(|master| master.endpoint)
    }

    /// The changes that its master has told of and that it lacks; 0 before the first snapshot.
    pub fn missing(&self) -> u64 {
        let applied = self.applied.map(|(_, change)| change);
        applied.map_or(0, |change| self.exists.saturating_sub(change))
    }

    /// The writes that are not settled.
    pub fn unsettled(&self) -> usize {
        self.writes.len()
    }

    /// How old what it has may be.
    pub fn freshness(&self, now: Mono) -> Freshness {
        match (self.applied, self.master) {
            (None, _) => Freshness::Unattached,
            (Some(_), Some(master)) if now.since(master.heard) < self.config.stale_interval => {
                Freshness::Fresh
            }
            (Some(_), _) => Freshness::Stale,
        }
    }

    /// Whether changes are told by [`CloneOutput::Changed`]; they are at first.
    pub fn set_watched(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
    }

    /// Sends a write to the master; it is settled by `deadline`, if there is none after the configuration's
    /// interval.
    pub fn write(&mut self, op: Op, level: Level, token: Token, deadline: Option<Mono>, now: Mono) {
        let deadline = deadline.unwrap_or_else(|| now.after(self.config.mutation_buffer_interval));
        self.writes.submit(op, level, token, deadline);
        self.send_writes(now);
        self.settle(now);
    }

    /// Takes a message that came from an endpoint. What is not for a clone is ignored.
    pub fn receive(&mut self, from: EndpointId, message: Message, now: Mono) {
        let life = match &message {
            Message::Alive { life, .. } | Message::Gone { life } | Message::Reply { life, .. } => {
                *life
            }
            Message::Changes(changes) => changes.life,
            Message::Chunk(chunk) if chunk.instance == self.instance => chunk.life,
            Message::Results(results) if results.instance == self.instance => results.life,
            _ => return,
        };
        let follows = self.follows(from, life, now);
        match message {
            Message::Reply {
                request,
                last,
                reply,
                ..
            } => {
                let revision = Revision { life, change: last };
                self.out
                    .push_back(CloneOutput::Replied(request, revision, reply));
            }
            _ if !follows => {}
            Message::Alive { last, .. } => {
                self.exists = self.exists.max(last);
                self.ask_for_missing(now);
            }
            Message::Changes(changes) => self.changes(changes, now),
            Message::Chunk(chunk) => self.chunk(chunk, now),
            Message::Gone { .. } => self.attach(now),
            Message::Results(results) => self.results(&results, now),
            _ => {}
        }
    }

    /// Whether a master is heard.
    pub(crate) fn hears_master(&self, now: Mono) -> bool {
        self.master
            .is_some_and(|master| !self.is_silent(master, now))
    }

    /// What it has, for whoever follows another master from now on. If this one ever hears its own again, it
    /// begins anew.
    pub(crate) fn take_entries(&mut self) -> Entries {
        self.master = None;
        self.applied = None;
        self.attaching = None;
        std::mem::take(&mut self.entries)
    }

    /// Takes over what was read of another master so far: what is different in the next snapshot is told as
    /// changes.
    pub(crate) fn adopt(&mut self, entries: Entries, now: Mono) {
        self.entries = entries;
        self.applied = None;
        if self.master.is_some() && self.config.copy == Copy::Whole {
            self.attach(now);
        }
    }

    /// The writes that no master was sent.
    pub(crate) fn take_unsent(&mut self) -> Vec<(Unsent, Level)> {
        self.writes.take_unsent()
    }

    /// Asks the master a question, or whoever is the master if none is known. It may get lost.
    pub fn query(&mut self, request: u64, query: Query, now: Mono) {
        let message = Message::Query { request, query };
        let master = self.master.filter(|master| !self.is_silent(*master, now));
        if let Some(master) = master {
            self.send(master.endpoint, &message);
        } else {
            let message = message.encode(&self.name);
            self.out.push_back(CloneOutput::Find(message));
        }
    }

    /// An endpoint is out of reach: if it was the master, another is accepted at once.
    pub fn lost(&mut self, endpoint: EndpointId, now: Mono) {
        if let Some(master) = &mut self.master
            && master.endpoint == endpoint
        {
            master.heard = Mono(
                master
                    .heard
                    .0
                    .min(now.0.saturating_sub(nanos(self.config.master_timeout))),
            );
            self.find(now);
        }
    }

    /// Someone is in reach who may be the master: a clone that has none asks at once.
    pub fn discovered(&mut self, now: Mono) {
        if self.master.is_none_or(|master| self.is_silent(master, now)) {
            self.find(now);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Mono) {
        self.writes.expire(now);
        if let Some(master) = self.master {
            if let Some(write) = self.writes.again(now) {
                self.send(master.endpoint, &Message::Write(write));
            }
            let needs_it = self.config.copy == Copy::Whole || !self.writes.is_empty();
            if needs_it && self.is_silent(master, now) && self.ask_at.is_none() {
                self.ask_at = Some(now);
            }
        }
        if self.ask_at.is_some_and(|at| at <= now) {
            self.ask(now);
        }
        self.send_writes(now);
        self.settle(now);
        self.release_held(now);
    }

    /// When [`StoreClone::tick`] has something to do at the latest.
    pub fn next_tick(&self) -> Mono {
        let silent = self
            .master
            .map(|master| master.heard.after(self.config.master_timeout));
        // Once it is silent, `ask_at` says when it is looked for.
        let needs_it = self.config.copy == Copy::Whole || !self.writes.is_empty();
        let silent = silent.filter(|_| self.ask_at.is_none() && needs_it);
        let writes = self.writes.next_tick();
        let holds = !(self.held.is_empty() && self.held_before.is_empty());
        let held = holds.then(|| self.held_since.after(HELD));
        [self.ask_at, silent, writes, held]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Mono(u64::MAX))
    }

    /// Whether all writes are settled.
    pub fn is_settled(&self) -> bool {
        self.writes.is_empty() && self.held.is_empty() && self.held_before.is_empty()
    }

    /// Settles what waits: the store is closed.
    pub fn close(&mut self, now: Mono) {
        self.writes.close();
        self.held_since = Mono::default();
        self.settle(now);
        self.release_held(now.after(HELD));
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<CloneOutput> {
        self.out.pop_front()
    }

    fn is_silent(&self, master: Master, now: Mono) -> bool {
        now.since(master.heard) >= self.config.master_timeout
    }

    fn send(&mut self, to: EndpointId, message: &Message) {
        self.out
            .push_back(CloneOutput::Send(to, message.encode(&self.name)));
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
