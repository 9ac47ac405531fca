//! What a copy does that is not the primary: it takes what was decided, says that it has it, and makes it when all have it.

use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use super::fetching::{Fetched, Fetching};
#[cfg(any(test, feature = "simulation"))]
use super::sabotage::Sabotage;
use super::{Log, Primary, Role};
use crate::backend::Commit;
use crate::clone::differences;
use crate::protocol::{
    Acknowledgement, Attach, Attached, Chunk, Replicate, StoreMessage, WritersPart,
};
use crate::{BackendWrite, Notice, Now, Output, PersistedWriter};

/// How soon a copy asks again that has no answer; doubled up to [`ASK_SLOWLY`].
const ASK_AGAIN: Duration = Duration::from_millis(200);
const ASK_SLOWLY: Duration = Duration::from_secs(2);

/// A copy's part.
#[derive(Debug)]
pub(super) struct Following {
    /// The primary of this epoch has said where it begins.
    is_attached: bool,
    /// All entries up to here are those of the primary of this epoch.
    matched: u64,
    fetching: Option<Box<Fetching>>,
    /// When the primary is asked again.
    ask_at: Option<Mono>,
    asked: Duration,
    /// What the primary was told last: what is in memory, on disk, and that it is whole.
    told: (u64, u64, bool),
}

impl Following {
    pub(super) fn new(now: Mono) -> Self {
        Self {
            is_attached: false,
            matched: 0,
            fetching: None,
            ask_at: Some(now),
            asked: ASK_AGAIN,
            told: (0, 0, false),
        }
    }

    pub(super) fn is_fetching(&self) -> bool {
        self.fetching.is_some()
    }

    pub(super) fn next_tick(&self) -> Option<Mono> {
        self.ask_at
    }

    fn asks_again(&mut self, now: Mono) {
        self.ask_at = Some(now.after(self.asked));
        self.asked = (self.asked * 2).min(ASK_SLOWLY);
    }
}

impl Primary {
    fn following(&mut self) -> Option<&mut Following> {
        match &mut self.replication.as_mut()?.role {
            Role::Copy(following) => Some(following),
            Role::Primary(_) => None,
        }
    }

    /// Asks the primary for what is missing, if that is due.
    pub(super) fn follow(&mut self, now: Mono) {
        let epoch = self.epoch;
        let Some(following) = self.following() else {
            return;
        };
        if following.ask_at.is_none_or(|at| at > now) {
            return;
        }
        if !following.is_attached {
            following.asks_again(now);
            return self.ask_to_attach();
        }
        let (mut entries, mut writers) = (None, None);
        if let Some(fetching) = &following.fetching {
            entries = fetching.next_entries();
            writers = fetching.next_writers();
        }
        if entries.is_none() && writers.is_none() {
            following.ask_at = None;
            return;
        }
        following.asks_again(now);
        let Some(primary) = self.primary_of_copies() else {
            return;
        };
        if let Some(after) = entries {
            // Instances count from 1: an answer to this is nobody else's.
            let fetch = StoreMessage::Fetch { instance: 0, after };
            self.send(primary, &fetch);
        } else if let Some(after) = writers {
            self.send(primary, &StoreMessage::FetchWriters { epoch, after });
        }
    }

    fn primary_of_copies(&self) -> Option<EndpointId> {
        let replication = self.replication.as_ref()?;
        let primary = replication.assignment.primary?;
        (primary != self.me.endpoint).then_some(primary)
    }

    fn ask_to_attach(&mut self) {
        let me = self.me.endpoint;
        let Some(replication) = self.replication.as_ref() else {
            return;
        };
        if !replication.assignment.names(me) {
            return;
        }
        // What was on its way to it may have been decided otherwise.
        let attach = Attach {
            epoch: self.epoch,
            timeline: if replication.is_torn {
                0
            } else {
                self.timeline
            },
            index: replication.log.committed(),
        };
        if let Some(primary) = self.primary_of_copies() {
            self.send(primary, &StoreMessage::Attach(attach));
        }
    }

    /// Takes a message of the primary.
    pub(super) fn hear_primary(&mut self, from: EndpointId, message: StoreMessage, now: Now) {
        let epoch = self.epoch;
        let (of, timeline) = match &message {
            StoreMessage::Attached(it) => (it.epoch, it.timeline),
            StoreMessage::Replicate(it) => (it.epoch, it.timeline),
            StoreMessage::Writers(it) => (it.epoch, it.timeline),
            StoreMessage::Chunk(it) => (it.epoch, it.timeline),
            _ => return,
        };
        if of < epoch {
            // It was the primary, and does not know yet that it is not any more.
            return self.send(from, &StoreMessage::Fenced { epoch });
        }
        // One that is ahead says it again when the coordinators' word is here, too.
        if of > epoch || self.primary_of_copies() != Some(from) {
            return;
        }
        if let StoreMessage::Attached(attached) = message {
            return self.attached(attached, now);
        }
        let is_attached = self.following().is_some_and(|it| it.is_attached);
        if !is_attached || timeline != self.timeline {
            return;
        }
        match message {
            StoreMessage::Replicate(replicate) => self.replicated(replicate, now),
            StoreMessage::Chunk(chunk) => self.fetched_entries(chunk, now),
            StoreMessage::Writers(part) => self.fetched_writers(part, now),
            _ => {}
        }
    }

    /// The primary says where this copy begins.
    fn attached(&mut self, attached: Attached, now: Now) {
        let me = self.me.endpoint;
        let budget = self.config.budget.clone();
        let Some(replication) = self.replication.as_mut() else {
            return;
        };
        let Role::Copy(following) = &mut replication.role else {
            return;
        };
        if following.is_attached && (attached.continues || attached.index <= following.matched) {
            return; // an answer to an earlier question
        }
        let begins_here = replication.log.committed() == attached.index;
        if attached.continues {
            if !begins_here || replication.is_torn || attached.timeline != self.timeline {
                return;
            }
            replication.holds = replication.assignment.began;
        } else {
            // One that counts as having everything does not give it up: the primary has the coordinators count it out first.
            if replication.assignment.in_sync.contains(&me) {
                return;
            }
            replication.holds = 0;
            replication.is_torn = true;
            replication.log = Log::behind(attached.index, attached.change);
            let fetching = Fetching::behind(attached.index, attached.change, &budget);
            following.fetching = Some(Box::new(fetching));
        }
        following.is_attached = true;
        following.matched = attached.index;
        following.asked = ASK_AGAIN;
        following.ask_at = following.fetching.is_some().then_some(now.mono);
        if !attached.continues {
            // What the backend has stays of its own timeline until it is given everything: a file that has half of one and the number
            // of the other would be taken for what it is not.
            self.timeline = attached.timeline;
            if let Some(commit_queue) = &mut self.commit_queue {
                commit_queue.replace(Commit::default());
            }
        }
        self.follow(now.mono);
        self.acknowledge();
    }

    /// Takes what was decided.
    fn replicated(&mut self, replicate: Replicate, now: Now) {
        let Some(replication) = self.replication.as_mut() else {
            return;
        };
        let Role::Copy(following) = &mut replication.role else {
            return;
        };
        let log = &mut replication.log;
        if let Some(apart) = replication.clock.hears(replicate.at, now) {
            let notice = Notice::ClocksApart(apart);
            self.out.push_back(Output::Notice(notice));
        }
        let has_entries = !replicate.entries.is_empty();
        if has_entries {
            if replicate.first > following.matched + 1 {
                // What is between comes again, or the primary begins anew with this copy.
                self.say_what_is_here();
                return self.acknowledge();
            }
            let mut change = replicate.change;
            for (index, entry) in (replicate.first..).zip(replicate.entries) {
                let makes_change = entry.edit.is_some();
                if index > following.matched {
                    let known = log.get(index);
                    if known.is_some_and(|known| *known != entry) {
                        // Another primary had decided otherwise, and not all had heard of it.
                        log.truncate(index - 1);
                    }
                    if index > log.last() {
                        let fits = log.changes() + 1 == change || !makes_change;
                        if !fits || log.is_full() {
                            break;
                        }
                        log.push(entry);
                    }
                    following.matched = index;
                }
                change += u64::from(makes_change);
            }
            for (writer, first_open) in replicate.writers {
                self.sessions.forget_below(writer, first_open);
            }
        }
        let upto = replicate.committed.min(following.matched);
        #[cfg(any(test, feature = "simulation"))]
        let upto = match replication.broken {
            Sabotage::MakesAtOnce => following.matched,
            _ => upto,
        };
        self.commit_copy(upto, now);
        if has_entries {
            self.say_what_is_here();
        }
        self.acknowledge();
    }

    /// Makes what all have.
    fn commit_copy(&mut self, upto: u64, now: Now) {
        self.make_committed(upto, now.mono);
        self.feed(now);
        self.tell(now.mono);
        if let Some(replication) = self.replication.as_mut() {
            let fed = match &replication.role {
                Role::Copy(following) => following.fetching.as_ref().map(|it| it.fed + 1),
                Role::Primary(_) => None,
            };
            replication.log.trim(fed.unwrap_or(u64::MAX));
        }
        self.commit();
    }

    /// All up to a change is committed, as an answer to a command of this endpoint says.
    pub(crate) fn is_committed(&mut self, change: u64, now: Now) {
        let Some(replication) = self.replication.as_ref() else {
            return;
        };
        let Role::Copy(following) = &replication.role else {
            return;
        };
        let (log, matched) = (&replication.log, following.matched);
        let mut index = log.committed();
        while index < matched && log.changes_at(index) < change {
            index += 1;
        }
        if index > log.committed() {
            self.commit_copy(index, now);
        }
    }

    fn fetched_entries(&mut self, chunk: Chunk, now: Now) {
        let is_next = self.following().is_some_and(|following| {
            let fetching = following.fetching.as_mut();
            fetching.is_some_and(|fetching| fetching.chunk(chunk))
        });
        self.fetched(is_next, now);
    }

    fn fetched_writers(&mut self, part: WritersPart, now: Now) {
        let is_next = self.following().is_some_and(|following| {
            let fetching = following.fetching.as_mut();
            fetching.is_some_and(|fetching| fetching.writers(part))
        });
        self.fetched(is_next, now);
    }

    fn fetched(&mut self, is_next: bool, now: Now) {
        if !is_next {
            return;
        }
        if let Some(following) = self.following() {
            following.asked = ASK_AGAIN;
            following.ask_at = Some(now.mono);
        }
        self.feed(now);
        self.follow(now.mono);
        self.commit();
        self.acknowledge();
    }

    /// Looks at what is committed for a snapshot that is on its way, and takes it over when it is complete.
    fn feed(&mut self, now: Now) {
        let Some(replication) = self.replication.as_mut() else {
            return;
        };
        let Role::Copy(following) = &mut replication.role else {
            return;
        };
        let Some(fetching) = &mut following.fetching else {
            return;
        };
        let log = &replication.log;
        while fetching.takes_entries()
            && fetching.fed < log.committed()
            && let Some(entry) = log.get(fetching.fed + 1)
        {
            let changes = log.changes_at(fetching.fed + 1);
            fetching.feed(entry.clone(), changes);
        }
        if fetching.is_false() {
            return replication.tears(now.mono);
        }
        if fetching.fed == log.committed()
            && fetching.is_whole()
            && let Some(fetching) = following.fetching.take()
        {
            following.ask_at = None;
            replication.holds = replication.assignment.began;
            replication.is_torn = false;
            self.take_over(fetching.into_fetched(), now);
        }
    }

    /// A snapshot is complete: what is different is told as changes, and the backend is given all of it.
    fn take_over(&mut self, fetched: Fetched, now: Now) {
        let Fetched {
            entries,
            changes,
            writers,
        } = fetched;
        #[cfg(any(test, feature = "simulation"))]
        let writers = if self.breaks(Sabotage::ForgetsWriters) {
            Vec::new()
        } else {
            writers
        };
        let numbers = writers.iter().map(|row| (row.writer, row.number));
        let numbers: Vec<_> = numbers.collect();
        let before = self.state.adopt(entries, changes, numbers);
        if self.is_watched {
            let told = differences(&before, self.state.entries(), changes);
            self.out.extend(told.map(Output::Changed));
        }
        self.sessions.clear();
        for row in writers {
            self.sessions.of(row.writer, now.mono);
            self.sessions.adopt(row);
        }
        self.untold.clear();
        self.unsent.clear();
        self.new_backlog();
        self.set_timeline(self.timeline);
        if let Some(commit_queue) = &mut self.commit_queue {
            let entries = self.state.entries().iter();
            let puts = entries.map(|(key, entry)| BackendWrite::Put(key.clone(), entry.clone()));
            let writers = self.state.writers();
            let writers = writers.map(|(writer, number)| PersistedWriter {
                writer,
                number,
                answers: Vec::new(),
            });
            commit_queue.replace(Commit {
                changes,
                writes: std::iter::once(BackendWrite::Clear).chain(puts).collect(),
                writers: writers.collect(),
                ..Commit::default()
            });
            if let Some(replication) = self.replication.as_mut() {
                // What was on disk is of no use to anybody until this is.
                replication.on_disk = 0;
            }
        }
        self.out.push_back(Output::Attached);
    }

    fn say_what_is_here(&mut self) {
        if let Some(following) = self.following() {
            // Also if it was said before: that may have been lost.
            following.told.0 = u64::MAX;
        }
    }

    /// Tells the primary what is here, if that is more than it was told.
    pub(super) fn acknowledge(&mut self) {
        let is_persistent = self.commit_queue.is_some();
        let durable = if is_persistent { self.own_durable() } else { 0 };
        let (timeline, epoch) = (self.timeline, self.epoch);
        let Some(primary) = self.primary_of_copies() else {
            return;
        };
        let Some(following) = self.following() else {
            return;
        };
        if !following.is_attached {
            return;
        }
        let is_whole = following.fetching.is_none();
        let durable = if is_whole { durable } else { 0 };
        let says = (following.matched, durable, is_whole);
        if following.told == says {
            return;
        }
        following.told = says;
        let acknowledgement = Acknowledgement {
            epoch,
            timeline,
            index: says.0,
            durable: says.1,
            is_whole: says.2,
        };
        self.send(primary, &StoreMessage::Acknowledge(acknowledgement));
    }
}
