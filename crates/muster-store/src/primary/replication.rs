//! A store that several endpoints keep: one of them is its primary, the others have what it has before anybody hears of it.
//!
//! The primary decides what becomes of a command by what is committed and what is on its way, and sends the outcome to all copies. When
//! all that are in sync have it, it is committed: only then it is made in the state, told to clones, watchers and the backend, and
//! answered. So what anybody has seen is never taken back, and a copy that becomes the primary has it.

mod deciding;
mod fetching;
mod following;
mod leading;
mod log;
mod peers;
mod reporting;
#[cfg(any(test, feature = "simulation"))]
pub(in crate::primary) mod sabotage;
#[cfg(test)]
pub(in crate::primary) mod simulation;
mod store_clock;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use muster_wire::{EndpointId, Mono};

use super::Primary;
use super::backlog::Backlog;
use super::commit_queue::CommitQueue;
use crate::arithmetic::amend;
use crate::backend::Commit;
use crate::clone::differences;
use crate::op::{Answer, Change, Edit, Writer};
use crate::protocol::{LogEntry, Results};
use crate::state::Pending;
use crate::{BackendWrite, Entries, Now, Output, PrimaryConfig, Restored, State, StoreName};

use following::Following;
use log::Log;
pub use peers::CopyRequest;
use peers::Peers;
use store_clock::StoreClock;

/// Which endpoints keep a store, as coordinators have decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The number of the decision. Of two, the one with the larger number counts.
    pub epoch: u64,
    /// The epoch in which the present history of the store began. What a copy has of another one counts for nothing.
    pub began: u64,
    /// The endpoint that has the primary, if one can have it: one of those in sync.
    pub primary: Option<EndpointId>,
    /// The endpoints that have everything.
    pub in_sync: Vec<EndpointId>,
    /// An endpoint that is to become one of them.
    pub joining: Option<EndpointId>,
    /// With fewer in sync, nothing is written.
    pub min_copies: usize,
}

impl Assignment {
    /// Returns `true` if an endpoint keeps a copy, or is to.
    pub fn names(&self, endpoint: EndpointId) -> bool {
        self.in_sync.contains(&endpoint) || self.joining == Some(endpoint)
    }
}

/// What a store's copy knows of the others.
#[derive(Debug)]
pub(super) struct Replication {
    #[cfg(any(test, feature = "simulation"))]
    broken: sabotage::Sabotage,
    pub(super) assignment: Assignment,
    role: Role,
    /// The epoch in which the history began that it has a copy of; 0 if it has none that is complete.
    holds: u64,
    /// A snapshot was begun that is not complete: what is here belongs to no timeline.
    is_torn: bool,
    /// The coordinators were not heard for too long: nothing is decided here alone.
    is_suspended: bool,
    /// The last commit could not be put on disk.
    disk_fails: bool,
    clock: StoreClock,
    log: Log,
    pending: Pending,
    /// The index that is on disk, here.
    on_disk: u64,
    /// The index that the commit under way puts on disk.
    committing: u64,
    /// All that writers were told to be on disk.
    durable: u64,
}

#[derive(Debug)]
enum Role {
    Primary(Box<Leading>),
    Copy(Box<Following>),
}

/// What a primary keeps of others.
#[derive(Debug, Default)]
struct Leading {
    peers: Peers,
    /// Those who asked something, with the index behind which it is answered.
    questions: std::collections::VecDeque<leading::Question>,
    /// What writers are told when it is on disk.
    held: BTreeMap<Writer, Results>,
}

impl Primary {
    /// Creates a copy that has nothing yet, or what a backend has kept.
    pub fn copy(
        name: StoreName,
        endpoint: EndpointId,
        config: PrimaryConfig,
        restored: Option<Restored>,
        now: Now,
    ) -> Self {
        let (state, queue, timeline, index, writers) = match restored {
            None => (State::new(config.limit), None, 0, 0, Vec::new()),
            Some(Restored {
                state,
                timeline,
                index,
                writers,
            }) => {
                let queue = Some(CommitQueue::new(timeline));
                (state, queue, timeline, index, writers)
            }
        };
        let changes = state.changes();
        let mut primary = Self::new(name, endpoint, timeline, config, state, queue, now);
        primary.out.clear();
        for writer in &writers {
            primary.sessions.restore(writer);
        }
        primary.replication = Some(Box::new(Replication::behind(index, changes, now.mono)));
        primary
    }

    /// It was a primary of its own accord, and is one of several copies from now on. What it has is to be the beginning of their
    /// history.
    pub(crate) fn begin_copies(&mut self, now: Mono) {
        let replication = Replication::behind(0, self.state.changes(), now);
        self.replication = Some(Box::new(replication));
        // From now on they say which entry is to be on disk.
        self.sessions.forget_marks();
    }

    /// The same copy, which breaks a rule.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn breaking(mut self, rule: sabotage::Sabotage) -> Self {
        self.break_rule(rule);
        self
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn break_rule(&mut self, rule: sabotage::Sabotage) {
        if let Some(replication) = self.replication.as_mut() {
            replication.broken = rule;
        }
    }

    #[cfg(any(test, feature = "simulation"))]
    fn breaks(&self, rule: sabotage::Sabotage) -> bool {
        self.replication
            .as_ref()
            .is_some_and(|it| it.broken == rule)
    }

    /// Follows a decision of the coordinators. Older ones than the last are ignored.
    pub fn assign(&mut self, assignment: Assignment, now: Now) {
        let me = self.me.endpoint;
        let Some(replication) = self.replication.as_mut() else {
            return;
        };
        if assignment.epoch <= replication.assignment.epoch {
            return;
        }
        let leads = assignment.primary == Some(me);
        let led = matches!(replication.role, Role::Primary(_));
        let is_same_history = replication.holds == assignment.began;
        self.epoch = assignment.epoch;
        replication.clock.forget_primary();
        replication.assignment = assignment;
        if leads && is_same_history {
            if !led {
                replication.takes_over(&self.state);
            }
        } else if leads {
            self.begin_history(now);
        } else {
            if led {
                replication.pending = Pending::default();
                self.sessions.forget_marks();
            }
            replication.follows(now.mono);
        }
        self.assign_peers(now.mono);
        if leads {
            self.alive(now.mono);
        }
        self.look_after_copies(now);
    }

    /// Notes whether the coordinators were not heard for too long. The only copy that is in sync decides nothing then. Returns `true` if it
    /// goes on.
    pub fn suspend(&mut self, is_suspended: bool, now: Now) -> bool {
        let Some(replication) = self.replication.as_mut() else {
            return false;
        };
        let was_suspended = std::mem::replace(&mut replication.is_suspended, is_suspended);
        let goes_on = was_suspended && !is_suspended;
        if goes_on {
            self.look_after_copies(now);
        }
        goes_on
    }

    /// Returns `true` if nothing can be decided at present: nobody else has to have it, and this may not decide alone.
    fn must_wait(&self) -> bool {
        let Some(replication) = &self.replication else {
            return false;
        };
        let Role::Primary(leading) = &replication.role else {
            return false;
        };
        replication.is_suspended && !leading.peers.iter().any(|peer| peer.in_sync)
    }

    /// Returns `true` if what is made is to be on disk before anything else happens: nobody else has it.
    pub(super) fn waits_for_disk(&self) -> bool {
        let Some(replication) = &self.replication else {
            return false;
        };
        let Role::Primary(leading) = &replication.role else {
            return false;
        };
        self.config.alone_durable
            && self.commit_queue.is_some()
            && !replication.disk_fails
            && !leading.peers.iter().any(|peer| peer.in_sync)
            && self.own_durable() < replication.log.committed()
    }

    /// Returns `true` if others are to ask it: it is the primary, or there are no copies.
    pub fn serves(&self) -> bool {
        match &self.replication {
            None => true,
            Some(replication) => matches!(replication.role, Role::Primary(_)),
        }
    }

    /// Returns the decision of the coordinators that it follows, if it is one of several copies.
    pub fn assignment(&self) -> Option<&Assignment> {
        self.replication.as_ref().map(|it| &it.assignment)
    }

    /// Returns what it has.
    pub(crate) fn into_entries(mut self) -> Entries {
        let nothing = Entries::within(&self.config.budget);
        self.state.adopt(nothing, 0, [])
    }

    /// Returns the epoch of the last decision that it follows; 0 if there is none.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns `true` if what it has is of the present history, as far as it knows.
    pub(crate) fn is_current(&self) -> bool {
        match &self.replication {
            None => true,
            Some(replication) => match &replication.role {
                Role::Primary(_) => true,
                Role::Copy(_) => replication.is_in_sync(),
            },
        }
    }

    /// Returns `true` if it has all that it has to have to be read.
    pub fn is_whole(&self) -> bool {
        match &self.replication {
            None => true,
            Some(replication) => match &replication.role {
                Role::Primary(_) => true,
                Role::Copy(_) => replication.holds != 0,
            },
        }
    }

    /// Returns the store's time. It goes by its primary's clock, and goes on when another one takes its place.
    pub(crate) fn store_time(&self, now: Now) -> Now {
        let replication = self.replication.as_ref();
        replication.map_or(now, |it| it.clock.now(now))
    }

    /// What it has is the beginning of a history of its own.
    fn begin_history(&mut self, now: Now) {
        if self.replication.as_ref().is_some_and(|it| it.is_torn) {
            // Nobody knows what is in it, nor whose commands were.
            self.empty();
        }
        let began = u64::try_from(now.wall.as_nanos()).unwrap_or(0);
        let timeline = began.max(self.timeline.saturating_add(1));
        self.set_timeline(timeline.min(crate::protocol::NUMBERS - 1));
        let is_open = self.generation().is_some();
        let Some(replication) = self.replication.as_mut() else {
            return;
        };
        replication.clock.begin();
        let changes = self.state.changes();
        // Numbers go on, so that one on disk is never taken for another one.
        let index = replication.log.committed();
        replication.log = Log::behind(index, changes);
        replication.holds = replication.assignment.began;
        replication.is_torn = false;
        if is_open {
            // It is on disk when all before it is.
            replication.log.push(LogEntry::nothing());
        }
        replication.takes_over(&self.state);
        self.out.push_back(Output::Attached);
    }

    fn empty(&mut self) {
        let nothing = Entries::within(&self.config.budget);
        let changes = self.state.changes();
        let before = self.state.adopt(nothing, changes, []);
        if self.is_watched {
            let told = differences(&before, self.state.entries(), changes);
            self.out.extend(told.map(Output::Changed));
        }
        self.sessions.clear();
        self.new_backlog();
        if let Some(commit_queue) = &mut self.commit_queue {
            commit_queue.replace(Commit {
                changes,
                writes: vec![BackendWrite::Clear],
                ..Commit::default()
            });
        }
    }

    /// What it has is of another timeline from now on, and so is what its backend is given.
    fn set_timeline(&mut self, timeline: u64) {
        self.timeline = timeline;
        if let Some(commit_queue) = &mut self.commit_queue {
            commit_queue.set_timeline(timeline);
        }
    }

    fn assign_peers(&mut self, now: Mono) {
        let me = self.me.endpoint;
        if let Some(replication) = self.replication.as_mut()
            && let Role::Primary(leading) = &mut replication.role
        {
            leading.peers.assign(&replication.assignment, me, now);
        }
    }

    /// Makes what is committed up to an index. Returns what its writers are told.
    fn make_committed(&mut self, upto: u64, now: Mono) -> BTreeMap<Writer, Results> {
        let Some(replication) = self.replication.as_mut() else {
            return BTreeMap::new();
        };
        let mut runs: Vec<Run> = Vec::new();
        while replication.log.committed() < upto
            && let Some((entry, changes)) = replication.log.commit()
        {
            if let Role::Copy(following) = &replication.role
                && following.is_fetching()
            {
                // What came before is not here yet.
                continue;
            }
            let LogEntry { by, answer, edit } = entry;
            if let Some((writer, number)) = by {
                match runs.last_mut() {
                    Some(run) if run.goes_on_with(writer, number) => run.answers.push(answer),
                    _ => runs.push(Run {
                        writer,
                        first: number,
                        answers: vec![answer],
                    }),
                }
            }
            if let Some(edit) = edit {
                let known = replication.pending.made(changes, &edit);
                let Some(event) = self.state.install(edit, known) else {
                    // What is here is not what the primary had: it begins anew.
                    replication.tears(now);
                    break;
                };
                let change = Change {
                    number: changes,
                    writer: by.map(|(writer, _)| writer),
                    event,
                };
                if let Some(commit_queue) = &mut self.commit_queue {
                    commit_queue.add(&change, by);
                }
                self.untold.push(change);
            }
        }
        let mut told: BTreeMap<Writer, Results> = BTreeMap::new();
        for run in runs {
            let Run {
                writer,
                first,
                answers,
            } = run;
            let next = first + answers.len() as u64;
            replication.pending.end(writer, next - 1);
            self.state.skip(writer, next - 1);
            let session = self.sessions.of(writer, now);
            session.note(first, answers.iter().cloned());
            let results = told.entry(writer).or_insert_with(|| Results {
                instance: writer.instance,
                timeline: self.timeline,
                epoch: self.epoch,
                next: first,
                durable: 0,
                failed: 0,
                number: first,
                answers: Vec::new(),
            });
            if results.next != first {
                // The writer has given up what is missing, and with it all that came before.
                results.number = first;
                results.answers.clear();
            }
            results.next = next;
            results.answers.extend(answers);
        }
        told
    }

    /// The index up to which everything is on the disk here.
    fn own_durable(&self) -> u64 {
        let Some(replication) = &self.replication else {
            return 0;
        };
        match &self.commit_queue {
            Some(queue) if queue.generation().is_none() => replication.log.committed(),
            _ => replication.on_disk,
        }
    }

    /// The backend has taken a commit.
    pub(super) fn copy_kept(&mut self, is_kept: bool, now: Now) {
        let Some(replication) = self.replication.as_mut() else {
            return;
        };
        replication.disk_fails = !is_kept;
        if is_kept {
            replication.on_disk = replication.on_disk.max(replication.committing);
        }
        match &replication.role {
            Role::Primary(_) if !is_kept => {
                self.tell_not_kept();
                self.advance(now);
            }
            Role::Primary(_) => self.advance(now),
            Role::Copy(_) => self.acknowledge(),
        }
    }

    /// The index that a commit has everything up to.
    pub(super) fn commits_at(&mut self) -> u64 {
        #[cfg(test)]
        if self.replication.is_none() {
            return self.pretended;
        }
        let Some(replication) = self.replication.as_mut() else {
            return 0;
        };
        replication.committing = replication.log.committed();
        replication.committing
    }

    /// Does what is due between copies.
    pub(super) fn look_after_copies(&mut self, now: Now) {
        let Some(replication) = self.replication.as_mut() else {
            return;
        };
        match &replication.role {
            Role::Primary(_) => {
                self.expire_copied(now);
                self.advance(now);
            }
            Role::Copy(_) => self.follow(now.mono),
        }
    }

    /// When that is.
    pub(super) fn next_look_at_copies(&self, now: Now) -> Option<Mono> {
        let replication = self.replication.as_ref()?;
        match &replication.role {
            Role::Primary(leading) => {
                let deadline = self.state.next_deadline_behind(&replication.pending);
                let now = replication.clock.now(now);
                let deadline = deadline.map(|at| now.until(at));
                let peers = if self.must_wait() {
                    leading.peers.next_sending()
                } else {
                    leading.peers.next_tick(replication.log.last())
                };
                [deadline, peers].into_iter().flatten().min()
            }
            Role::Copy(following) => following.next_tick(),
        }
    }

    fn new_backlog(&mut self) {
        self.backlog = Backlog::new(self.state.changes());
    }
}

impl Replication {
    /// Has all up to an index, and knows nobody.
    fn behind(index: u64, changes: u64, now: Mono) -> Self {
        Self {
            #[cfg(any(test, feature = "simulation"))]
            broken: sabotage::Sabotage::default(),
            assignment: Assignment {
                epoch: 0,
                began: 0,
                primary: None,
                in_sync: Vec::new(),
                joining: None,
                min_copies: 0,
            },
            role: Role::Copy(Box::new(Following::new(now))),
            holds: 0,
            is_torn: false,
            is_suspended: false,
            disk_fails: false,
            clock: StoreClock::default(),
            log: Log::behind(index, changes),
            pending: Pending::default(),
            on_disk: index,
            committing: index,
            durable: 0,
        }
    }

    /// Everything that is here becomes what the store has, when all that are in sync have it.
    fn takes_over(&mut self, state: &State) {
        #[cfg(any(test, feature = "simulation"))]
        if self.broken == sabotage::Sabotage::DropsOpen {
            self.log.truncate(0);
        }
        self.pending = Pending::default();
        let mut changes = self.log.changes_committed();
        let mut index = self.log.committed() + 1;
        while let Some(entry) = self.log.get(index) {
            if let Some((writer, number)) = entry.by {
                self.pending.note(writer, number);
            }
            if let Some(edit) = &entry.edit {
                changes += 1;
                let known = match edit {
                    Edit::Amend { key, amendment, .. } => {
                        let made = || state.entries().get(key);
                        let entry = self.pending.get(key).unwrap_or_else(made);
                        let amended = entry.map(|entry| amend(&entry.value, amendment));
                        amended.and_then(Result::ok).map(|amended| amended.value)
                    }
                    _ => None,
                };
                if let Some(event) = state.entries().event(edit.clone(), known) {
                    self.pending.add(changes, &event);
                }
            }
            index += 1;
        }
        self.role = Role::Primary(Box::default());
    }

    /// Another one is the primary, or nobody is.
    fn follows(&mut self, now: Mono) {
        if !self.is_in_sync() {
            self.log.truncate(0);
        }
        self.role = Role::Copy(Box::new(Following::new(now)));
    }

    /// What is here belongs to no timeline: a copy fetches everything again.
    fn tears(&mut self, now: Mono) {
        self.is_torn = true;
        self.holds = 0;
        if let Role::Copy(following) = &mut self.role {
            **following = Following::new(now);
        }
    }

    fn is_in_sync(&self) -> bool {
        // What it has without gaps is of this history.
        self.holds == self.assignment.began && self.holds != 0
    }
}

/// The answers to commands of one writer that follow one another.
#[derive(Debug)]
struct Run {
    writer: Writer,
    first: u64,
    answers: Vec<Answer>,
}

impl Run {
    fn goes_on_with(&self, writer: Writer, number: u64) -> bool {
        self.writer == writer && self.first + self.answers.len() as u64 == number
    }
}

/// The answer of something that is not known any more.
fn known_or_repeated(answer: Option<Answer>) -> Answer {
    answer.unwrap_or(Answer::Repeated)
}
