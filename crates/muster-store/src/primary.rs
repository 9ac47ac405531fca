//! A store's primary, which puts all changes in one order.

mod backlog;
mod commit_queue;
mod own_writes;
mod replication;
mod restored;
mod serving;
mod sessions;

use std::collections::VecDeque;
use std::time::Duration;

use muster_data::Timestamp;
use muster_wire::{EndpointId, Mono};

use crate::backend::Commit;
#[cfg(test)]
use crate::instance::Sabotage;
use crate::op::{Answer, Change, NumberedEdit, Op, StoreCommand, WriteRefusal, Writer};
use crate::protocol::{Changes, NUMBERS, Query, Reply, Results, StoreMessage};
use crate::state::Pending;
use crate::writes::WriteOutcome;
use crate::{DEFAULT_LIMIT, Level, Notice, Output, Revision, State, StoreBudget, StoreName, Token};

use backlog::Backlog;
use commit_queue::CommitQueue;
use own_writes::OwnWrites;
use replication::Replication;
#[cfg(any(test, feature = "simulation"))]
pub use replication::sabotage::Sabotage as CopySabotage;
pub use replication::{Assignment, CopyRequest};
pub use restored::Restored;
use sessions::Sessions;

#[cfg(test)]
pub(crate) use replication::simulation::council::Council;

/// The present: monotonic time for timers, wall time for people and other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time.
    pub mono: Mono,
    /// Wall time.
    pub wall: Timestamp,
}

/// The settings of a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryConfig {
    /// About how much memory the entries may take, in bytes.
    pub limit: usize,
    /// What it shares with other stores of its node.
    pub budget: StoreBudget,
    /// How often clones are told that it is alive when nothing changes.
    pub alive_interval: Duration,
    /// Of a persistent store with copies, when only the primary's is in sync: whether others hear of a change, and its writer of the
    /// outcome, when the primary's disk has it. Otherwise what was answered would be in the memory of one process. While the disk fails
    /// it is not waited for.
    pub alone_durable: bool,
}

impl Now {
    /// When a time of the wall is over.
    pub(crate) fn until(self, deadline: Timestamp) -> Mono {
        // One tick more: a TTL ends strictly after its deadline.
        let nanos = deadline.as_nanos().saturating_sub(self.wall.as_nanos()) + 1;
        self.mono
            .after(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
    }
}

impl Default for PrimaryConfig {
    fn default() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            budget: StoreBudget::default(),
            alive_interval: Duration::from_secs(2),
            alone_durable: true,
        }
    }
}

/// The bytes of entries in one part of a snapshot.
const CHUNK: usize = 256 << 10;

/// How long the order of keys is kept behind the last part of a snapshot that somebody asked for: longer than a clone
/// waits before it asks again.
const KEEPS_ORDER: Duration = Duration::from_secs(10);

/// How long after the last change clones hear its number once more, so that the loss of the last is noticed.
const AFTER_CHANGE: Duration = Duration::from_millis(200);

/// The writers of a former timeline whose answers are remembered.
const RESTORED: usize = 1024;

/// How long nothing more is said of writes that the budget has no room for. They are counted meanwhile.
const QUIET: Duration = Duration::from_secs(60);

/// The TTLs that are ended at one time, before others have their turn.
const EXPIRED_AT_ONCE: usize = 4096;

/// A primary without I/O.
#[derive(Debug)]
pub struct Primary {
    name: StoreName,
    me: Writer,
    timeline: u64,
    config: PrimaryConfig,
    state: State,
    /// The number of the last command of its own.
    number: u64,
    backlog: Backlog,
    sessions: Sessions,
    commit_queue: Option<CommitQueue>,
    /// Changes that clones have not been told.
    untold: Vec<Change>,
    /// Changes of which this endpoint knows, and others hear when they are on disk.
    unsent: Vec<Change>,
    /// Durable writes of its own endpoint that wait for the disk.
    own: OwnWrites,
    is_watched: bool,
    /// The epoch in which it is the primary; 0 where coordinators do not decide that.
    epoch: u64,
    /// How it keeps in step with other copies, if there may be some.
    replication: Option<Box<Replication>>,
    alive_at: Mono,
    /// Until when the order of keys is kept for snapshots.
    order_until: Option<Mono>,
    /// Until when nothing is said of writes that the budget has no room for.
    refused_until: Option<Mono>,
    out: VecDeque<Output>,
    #[cfg(test)]
    sabotage: Sabotage,
    #[cfg(test)]
    pretended: u64,
}

impl Primary {
    /// Creates a primary whose store is in memory only. `timeline` must be above that of every
    /// earlier primary of the store, so it is the time of its start in nanoseconds.
    pub fn in_memory(
        name: StoreName,
        endpoint: EndpointId,
        timeline: u64,
        config: PrimaryConfig,
        now: Now,
    ) -> Self {
        let state = State::new(config.limit);
        Self::new(name, endpoint, timeline, config, state, None, now)
    }

    /// Creates a primary with the state that a backend has kept.
    pub fn persistent(
        name: StoreName,
        endpoint: EndpointId,
        timeline: u64,
        config: PrimaryConfig,
        restored: Restored,
        now: Now,
    ) -> Self {
        let Restored {
            state,
            timeline: former,
            writers,
            index: _,
        } = restored;
        let timeline = timeline.max(former.min(NUMBERS - 2) + 1);
        let commit_queue = Some(CommitQueue::new(timeline));
        let mut primary = Self::new(name, endpoint, timeline, config, state, commit_queue, now);
        // Those who wrote last are the ones who may ask.
        for writer in writers.iter().rev().take(RESTORED).rev() {
            primary.sessions.restore(writer);
        }
        primary
    }

    fn new(
        name: StoreName,
        endpoint: EndpointId,
        timeline: u64,
        config: PrimaryConfig,
        mut state: State,
        commit_queue: Option<CommitQueue>,
        now: Now,
    ) -> Self {
        state.join(&config.budget);
        let mut primary = Self {
            name,
            me: Writer {
                endpoint,
                instance: 0,
            },
            timeline,
            config,
            backlog: Backlog::new(state.changes()),
            state,
            number: 0,
            sessions: Sessions::default(),
            commit_queue,
            untold: Vec::new(),
            unsent: Vec::new(),
            own: OwnWrites::default(),
            is_watched: true,
            epoch: 0,
            replication: None,
            alive_at: now.mono,
            order_until: None,
            refused_until: None,
            out: VecDeque::new(),
            #[cfg(test)]
            sabotage: Sabotage::default(),
            #[cfg(test)]
            pretended: 0,
        };
        primary.alive(now.mono);
        primary
    }

    /// What it gives its backend looks as if all copies had it.
    #[cfg(test)]
    pub(crate) fn pretending(mut self, (timeline, index): (u64, u64)) -> Self {
        self.timeline = timeline;
        self.commit_queue = Some(CommitQueue::new(timeline));
        self.pretended = index;
        self
    }

    #[cfg(test)]
    pub(crate) fn with_sabotage(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = sabotage;
        self
    }

    /// Returns the store's name.
    pub fn name(&self) -> &StoreName {
        &self.name
    }

    /// Returns how it works.
    pub(crate) fn config(&self) -> &PrimaryConfig {
        &self.config
    }

    /// Returns its timeline, which tells it from other primaries of the store: the first half of a
    /// revision.
    pub fn timeline(&self) -> u64 {
        self.timeline
    }

    /// Returns the revision of the last change.
    pub fn revision(&self) -> Revision {
        Revision {
            timeline: self.timeline,
            change: self.state.changes(),
        }
    }

    /// Returns the entries and the number of the last change.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns `true` if its state outlives its process.
    pub fn is_persistent(&self) -> bool {
        self.commit_queue.is_some()
    }

    /// Sets whether changes are reported by [`Output::Changed`]. At first they are.
    pub fn set_watched(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
    }

    /// Applies an operation of its own endpoint. Returns the outcome, unless the disk has to be
    /// waited for: then it comes as [`Output::Settled`] with this token, by `deadline` if there is
    /// one.
    pub fn write(
        &mut self,
        op: Op,
        level: Level,
        token: Token,
        deadline: Option<Mono>,
        now: Now,
    ) -> Option<WriteOutcome> {
        self.number += 1;
        let answer = self.apply(self.me, self.number, op, level, now);
        let generation = self.generation();
        self.tell(now.mono);
        self.commit();
        let waits = level == Level::Durable && matches!(answer, Answer::Done { .. });
        #[cfg(test)]
        let waits = waits && self.sabotage != Sabotage::DurableAtOnce;
        #[cfg(test)]
        let deadline = deadline.filter(|_| self.sabotage != Sabotage::OwnForEver);
        match generation.filter(|_| waits) {
            Some(generation) => {
                self.own.add(generation, token, answer, deadline);
                None
            }
            None => Some(Ok(answer)),
        }
    }

    /// Answers a question of its own endpoint.
    pub fn reply(&self, query: &Query) -> Reply {
        match query {
            Query::Get(key) => Reply::Entry(self.state.entries().get(key).cloned()),
            Query::Size => Reply::Size(self.state.entries().len() as u64),
        }
    }

    /// Takes a message from an endpoint. Messages that are not for a primary are ignored.
    pub fn receive(&mut self, from: EndpointId, message: StoreMessage, now: Now) {
        if self.replication.is_some() {
            self.receive_as_copy(from, message, now);
            return self.commit();
        }
        match message {
            StoreMessage::Write(write) => self.write_of(from, write, now),
            message => self.answer(from, message, now),
        }
        self.commit();
    }

    /// Answers what changes nothing.
    fn answer(&mut self, from: EndpointId, message: StoreMessage, now: Now) {
        match message {
            StoreMessage::Fetch { instance, after } => {
                let chunk = self.chunk(instance, after, now.mono);
                self.send(from, &StoreMessage::Chunk(chunk));
            }
            StoreMessage::Missing {
                timeline,
                from: number,
            } => self.resend(from, timeline, number),
            StoreMessage::Query { request, query } => {
                let reply = StoreMessage::Reply {
                    request,
                    timeline: self.timeline,
                    last: self.state.changes(),
                    reply: self.reply(&query),
                    epoch: self.epoch,
                };
                self.send(from, &reply);
            }
            _ => {}
        }
    }

    /// Does what is due at the time `now`.
    pub fn tick(&mut self, now: Now) {
        if self.replication.is_none() {
            self.expire(now);
        }
        self.look_after_copies(now);
        self.look_after(now);
    }

    /// Ends what has a TTL that is over.
    fn expire(&mut self, now: Now) {
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(key) = self.state.expired(now.wall).cloned() else {
                break;
            };
            self.number += 1;
            let expire = Op::Expire { key };
            self.apply(self.me, self.number, expire, Level::Applied, now);
        }
    }

    /// Does what is due besides the ends of TTLs.
    fn look_after(&mut self, now: Now) {
        self.tell(now.mono);
        if self.serves() && now.mono >= self.alive_at {
            self.alive(now.mono);
        }
        if self.order_until.is_some_and(|until| until <= now.mono) {
            self.order_until = None;
            self.state.forget_order();
        }
        if let Some(commit_queue) = &mut self.commit_queue {
            commit_queue.tick(now.mono);
        }
        self.own.expire(now.mono, &mut self.out);
        self.commit();
    }

    /// Returns when [`Primary::tick`] has something to do, at the latest.
    pub fn next_tick(&self, now: Now) -> Mono {
        let deadline = match &self.replication {
            None => self.state.next_deadline().map(|at| now.until(at)),
            Some(_) => self.next_look_at_copies(now),
        };
        let serves = self.serves();
        let alive = serves.then_some(self.alive_at);
        let order = self.order_until.filter(|_| !serves);
        let retry = self.commit_queue.as_ref().and_then(CommitQueue::retry_at);
        let all = [alive, order, deadline, retry, self.own.next_tick()];
        all.into_iter().flatten().min().unwrap_or(Mono(u64::MAX))
    }

    /// Notes that the backend has kept the last [`Output::Commit`], or has failed and returns it as
    /// `failed`. A failed commit is tried again later, and writers that wait for it are told of the
    /// failure.
    pub fn committed(&mut self, failed: Option<Commit>, now: Now) {
        let is_kept = failed.is_none();
        #[cfg(test)]
        let is_kept = is_kept || self.sabotage == Sabotage::FailureIsSuccess;
        #[cfg(test)]
        let failed = failed.map(|commit| match self.sabotage {
            Sabotage::DropsFailedCommit => Commit::default(),
            _ => commit,
        });
        let Some(commit_queue) = &mut self.commit_queue else {
            return;
        };
        let Some(generation) = commit_queue.committed(failed, now.mono) else {
            return;
        };
        self.own.committed(generation, is_kept, &mut self.out);
        if self.replication.is_some() {
            self.copy_kept(is_kept, now);
        } else {
            self.tell_kept(generation, is_kept);
        }
        self.commit();
    }

    /// Tells writers how far their commands are on disk.
    fn tell_kept(&mut self, upto: u64, is_kept: bool) {
        let told = self.sessions.kept(upto, is_kept);
        for (writer, results) in told {
            let results = Results {
                timeline: self.timeline,
                epoch: self.epoch,
                ..results
            };
            self.send(writer.endpoint, &StoreMessage::Results(results));
        }
    }

    /// Settles all waiting writes, because the store is closed.
    pub fn close(&mut self) {
        self.own.close(&mut self.out);
    }

    /// Returns `true` if no changes wait for the disk or are on their way there.
    pub fn is_settled(&self) -> bool {
        self.generation().is_none()
    }

    /// Returns the number of changes that wait for the backend, not counting those that it is
    /// keeping now.
    pub fn pending_commits(&self) -> usize {
        self.commit_queue.as_ref().map_or(0, CommitQueue::waiting)
    }

    /// Returns the number of writers on other nodes that it remembers, at most 4,096.
    pub fn writers(&self) -> usize {
        self.sessions.len()
    }

    fn generation(&self) -> Option<u64> {
        self.commit_queue.as_ref().and_then(CommitQueue::generation)
    }

    /// Returns the next thing to do, or `None` if there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Applies an operation of a writer that speaks another protocol. Its commands are numbered
    /// here.
    pub fn apply_foreign(&mut self, writer: Writer, op: Op, now: Now) -> Answer {
        let answer = if self.replication.is_some() {
            self.decide_foreign(writer, op, now)
        } else {
            let number = self.state.last_of(writer).unwrap_or(0) + 1;
            self.apply(writer, number, op, Level::Applied, now)
        };
        self.tell(now.mono);
        self.commit();
        answer
    }

    fn apply(&mut self, writer: Writer, number: u64, op: Op, level: Level, now: Now) -> Answer {
        if let Some(answer) = self.judge(writer, &op, level, None) {
            self.state.skip(writer, number);
            return answer;
        }
        let command = StoreCommand {
            at: now.wall,
            writer,
            number,
            op,
        };
        let (answer, change) = self.state.apply(command);
        if answer == Answer::Refused(WriteRefusal::OverBudget) {
            self.over_budget(now.mono);
        }
        if let Some(change) = change {
            if let Some(commit_queue) = &mut self.commit_queue {
                let noted = (writer != self.me).then_some((writer, number));
                commit_queue.add(&change, noted);
            }
            self.untold.push(change);
        }
        answer
    }

    /// What is answered without a look at what the state has, if that is so.
    fn judge(
        &self,
        writer: Writer,
        op: &Op,
        level: Level,
        pending: Option<&Pending>,
    ) -> Option<Answer> {
        if let Op::Swap { key, seen, .. } = op
            && seen.change > 0
            && seen.timeline != self.timeline
        {
            let made = || self.state.entries().get(key);
            let entry = match pending.and_then(|pending| pending.get(key)) {
                Some(entry) => entry,
                None => made(),
            };
            let change = entry.map_or(0, |entry| entry.changed);
            return Some(Answer::Unchanged { change });
        }
        let refusal = match &self.commit_queue {
            None if level == Level::Durable => WriteRefusal::NotPersistent,
            Some(commit_queue) if !commit_queue.takes(level) => WriteRefusal::Backend,
            _ if writer != self.me && op.kind().is_reserved() => WriteRefusal::Reserved,
            _ => return None,
        };
        Some(Answer::Refused(refusal))
    }

    /// A write was refused because the stores of this node have no room. The operator is told now and then.
    fn over_budget(&mut self, now: Mono) {
        self.config.budget.note_refused();
        if self.refused_until.is_none_or(|until| until <= now) {
            self.refused_until = Some(now.after(QUIET));
            self.out.push_back(Output::Notice(Notice::OverBudget));
        }
    }

    /// Tells clones and watchers what has changed.
    fn tell(&mut self, now: Mono) {
        let mut changes = std::mem::take(&mut self.untold);
        if self.is_watched {
            let told = changes.iter().cloned().map(Output::Changed);
            self.out.extend(told);
        }
        if !self.unsent.is_empty() {
            self.unsent.append(&mut changes);
            changes = std::mem::take(&mut self.unsent);
        }
        if changes.is_empty() {
            return;
        }
        if self.waits_for_disk() {
            self.unsent = changes;
            return;
        }
        let changes: Vec<_> = changes.into_iter().map(NumberedEdit::from).collect();
        for change in &changes {
            self.backlog.push(change.clone());
        }
        if !self.serves() {
            return;
        }
        let changes = Changes {
            timeline: self.timeline,
            epoch: self.epoch,
            changes,
        };
        let message = StoreMessage::Changes(changes).encode(&self.name);
        self.out.push_back(Output::Broadcast(message));
        self.alive_at = self.alive_at.min(now.after(AFTER_CHANGE));
    }

    fn alive(&mut self, now: Mono) {
        let message = StoreMessage::Alive {
            timeline: self.timeline,
            last: self.state.changes(),
            epoch: self.epoch,
        };
        let message = message.encode(&self.name);
        self.out.push_back(Output::Broadcast(message));
        self.alive_at = now.after(self.config.alive_interval);
    }

    fn commit(&mut self) {
        if let Some(commit_queue) = &mut self.commit_queue
            && let Some(mut commit) = commit_queue.next()
        {
            for kept in &mut commit.writers {
                kept.answers = self.sessions.answers_of(kept.writer);
            }
            commit.index = self.commits_at();
            self.out.push_back(Output::Commit(commit));
        }
    }

    fn send(&mut self, to: EndpointId, message: &StoreMessage) {
        self.out
            .push_back(Output::Send(to, message.encode(&self.name)));
    }
}
