//! One voter: what is asked of it, and what it wants done.

mod elections;
mod pumping;
mod receiving;
mod states;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use muster_wire::Mono;
use raft::{RawNode, StateRole};

use crate::config::Config;
use crate::engine;
use crate::entry::{MAX_DATA, MAX_NUMBER};
use crate::id::{ClusterId, Members, VoterChange, VoterId};
use crate::kept::{Kept, KeptError};
use crate::log::Log;
use crate::message::{Body, Message};
use crate::outcome::{Fault, Output, Refused, Role};
use crate::random::Random;
use crate::sabotage::Sabotage;

/// From how many applied entries on the log is to be compacted.
pub const COMPACT_ENTRIES: u64 = 1024;

/// From how many bytes of entries on the log is to be compacted.
pub const COMPACT_BYTES: usize = 256 * 1024;

/// The most entries of a log, but for a few that leaders begin with. Only a log that nobody compacts gets there.
pub const MAX_LOG_ENTRIES: usize = 16 * 1024;

/// The most bytes of a log.
pub const MAX_LOG_BYTES: usize = 16 * 1024 * 1024;

/// What a leader proposes before it is agreed on, in bytes.
const UNCOMMITTED: u64 = 256 * 1024;

/// The size of a message of entries, unless a single one is larger.
const MESSAGE: u64 = 64 * 1024;

/// How many senders that are no members are remembered, to be answered.
const STRANGERS: usize = 16;

/// What waits for a batch to be on disk.
struct Pending {
    /// The batch.
    number: u64,
    /// The engine's number of what was handed out, or 0.
    ready: u64,
    messages: Vec<(VoterId, Message)>,
    install: Option<(u64, Bytes)>,
}

/// One voter, or learner, of a group of coordinators.
///
/// After every call [`poll`](Self::poll) is called until it returns `None`.
pub struct Consensus {
    me: VoterId,
    number: u64,
    cluster: ClusterId,
    config: Config,
    node: RawNode<Log>,
    /// The group after the last applied entry; none at a stranger.
    members: Option<Members>,
    /// The last entry that changed the group.
    members_since: u64,
    /// Whom messages may come from and go to, by the engine's numbers.
    known: BTreeMap<u64, VoterId>,
    /// Of these, who is no member; the oldest first.
    strangers: VecDeque<u64>,
    outputs: VecDeque<Output>,
    pending: VecDeque<Pending>,
    /// The number of the last batch.
    batch: u64,
    /// The term and vote that were handed out to be written last.
    promise: (u64, u64),
    /// The last batch that has a new term or vote in it.
    promised: u64,
    /// The last batch that is on disk.
    persisted: u64,
    applied: u64,
    now: Mono,
    tick_at: Mono,
    /// When a voter that hears no leader campaigns.
    campaign_at: Mono,
    /// When one campaigns whose leader is known to be out of reach.
    soon_at: Option<Mono>,
    /// How often it has campaigned so.
    tries: u32,
    unreachable: BTreeSet<u64>,
    /// Who was sent a state, and when.
    snapshots: BTreeMap<u64, Mono>,
    role: (Role, u64),
    random: Random,
    sabotage: Sabotage,
    fault: Option<Fault>,
}

impl Consensus {
    /// Begins a life of a voter with what its file holds. `random` is a number that no other voter has.
    ///
    /// # Errors
    ///
    /// Fails if the file contradicts itself or is another voter's, or the settings are impossible.
    pub fn new(
        me: VoterId,
        kept: Kept,
        config: Config,
        now: Mono,
        random: u64,
    ) -> Result<Self, KeptError> {
        kept.check(&me)?;
        if !config.is_possible() {
            return Err(KeptError::Settings);
        }
        let number = me.disk.number();
        let cluster = kept.cluster;
        let start = kept.snapshot.clone();
        let applied = start.as_ref().map_or(0, |snapshot| snapshot.index);
        let members = start.as_ref().map(|snapshot| snapshot.members.clone());
        let settings = Self::engine_settings(number, applied, &config);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = catch_unwind(AssertUnwindSafe(|| {
            RawNode::new(&settings, Log::new(kept), &logger)
        }));
        let Ok(Ok(node)) = node else {
            return Err(KeptError::Engine);
        };
        let role = (Role::Learner(None), node.raft.term);
        let promise = (node.raft.term, node.raft.vote);
        let mut consensus = Self {
            number,
            cluster,
            node,
            known: BTreeMap::new(),
            strangers: VecDeque::new(),
            outputs: VecDeque::new(),
            pending: VecDeque::new(),
            batch: 0,
            promise,
            promised: 0,
            persisted: 0,
            applied,
            members_since: applied,
            now,
            tick_at: now.after(config.tick),
            campaign_at: now,
            soon_at: None,
            tries: 0,
            unreachable: BTreeSet::new(),
            snapshots: BTreeMap::new(),
            role,
            random: Random(random),
            sabotage: Sabotage::Nothing,
            fault: None,
            me,
            config,
            members: None,
        };
        if let Some(members) = members {
            consensus.set_members(members, applied);
        }
        if !consensus.is_alone() {
            consensus.wait_for_leader();
        }
        if let Some(snapshot) = start {
            consensus.outputs.push_back(Output::Install {
                index: snapshot.index,
                state: snapshot.state,
            });
        }
        consensus.pump();
        Ok(consensus)
    }

    fn engine_settings(number: u64, applied: u64, config: &Config) -> raft::Config {
        // The engine's own time-out is never over, and never random: the wall decides who campaigns when.
        let never = usize::MAX / 4;
        raft::Config {
            election_tick: config.election_ticks as usize,
            heartbeat_tick: config.heartbeat_ticks as usize,
            min_election_tick: never,
            max_election_tick: never + 1,
            applied,
            max_size_per_msg: MESSAGE,
            max_inflight_msgs: 64,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: UNCOMMITTED,
            ..raft::Config::new(number)
        }
    }

    /// Returns what is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Says that the time has passed. It is called at [`next_tick`](Self::next_tick), or later.
    pub fn tick(&mut self, now: Mono) {
        if self.fault.is_some() {
            return;
        }
        self.now = self.now.max(now);
        let most = self.config.election_ticks * 2;
        let mut ticks = 0;
        while self.tick_at <= self.now && ticks < most {
            self.tick_at = self.tick_at.after(self.config.tick);
            self.engine(RawNode::tick);
            ticks += 1;
        }
        if ticks == most {
            // It was stopped: a leader is none any more, and whoever follows hears first what the others say.
            self.tick_at = self.now.after(self.config.tick);
            self.wait_for_leader();
        }
        self.repeat_snapshots();
        self.hand_on();
        self.pump();
        self.campaign_if_due();
    }

    /// Returns when [`tick`](Self::tick) is to be called.
    pub fn next_tick(&self) -> Mono {
        if self.fault.is_some() {
            return Mono(u64::MAX);
        }
        match self.campaign_due() {
            Some(due) if self.pending.is_empty() => self.tick_at.min(due),
            _ => self.tick_at,
        }
    }

    /// Says that all batches up to a number are on disk.
    pub fn persisted(&mut self, upto: u64) {
        let upto = upto.min(self.batch);
        if self.fault.is_some() || upto <= self.persisted {
            return;
        }
        self.persisted = upto;
        let mut ready = 0;
        let mut install = None;
        let written = self.pending.iter().take_while(|it| it.number <= upto);
        let written = written.count();
        for pending in self.pending.drain(..written).collect::<Vec<_>>() {
            ready = ready.max(pending.ready);
            self.send_all(pending.messages);
            if pending.install.is_some() {
                install = pending.install;
            }
        }
        self.engine(|node| node.on_persist_ready(ready));
        if let Some((index, state)) = install
            && index > self.applied
        {
            self.applied = index;
            self.engine(|node| node.advance_apply_to(index));
            self.outputs.push_back(Output::Install { index, state });
        }
        self.pump();
        self.campaign_if_due();
    }

    /// Proposes an entry of 1 to [`MAX_DATA`] bytes, and returns the index that it has if it is agreed on. It is, when an entry of that
    /// index and of this leader's term is applied.
    ///
    /// # Errors
    ///
    /// Fails, and nothing was proposed, at a voter that does not lead or whose log is full.
    pub fn propose(&mut self, data: Bytes) -> Result<u64, Refused> {
        self.check_leads()?;
        if data.is_empty() || data.len() > MAX_DATA {
            return Err(Refused::Size);
        }
        self.check_room(1, data.len())?;
        let proposed = self.engine(|node| node.propose(Vec::new(), data.into()));
        self.proposed(proposed.map(|it| it.is_ok()))
    }

    /// Proposes a change of the group, and returns its index. It holds when it is applied; one that does not fit any more is applied as
    /// [`Content::Nothing`](crate::Content::Nothing).
    ///
    /// # Errors
    ///
    /// Fails, and nothing was proposed, at a voter that does not lead, while another change is under way, and if the change does not fit.
    pub fn change(&mut self, change: &VoterChange) -> Result<u64, Refused> {
        self.check_leads()?;
        let members = self.members.as_ref().ok_or(Refused::Unfit)?;
        let fits = members.changed(change).is_some();
        match change {
            VoterChange::AddLearner(voter) => {
                let number = voter.disk.number();
                // A number is not used again, if its disk is gone, too.
                let known = self.known.get(&number);
                if known.is_some_and(|known| known.disk != voter.disk) {
                    return Err(Refused::Collision);
                }
            }
            VoterChange::Promote(disk) => {
                let raft = &self.node.raft;
                let progress = raft.prs().get(disk.number());
                if fits && progress.is_none_or(|it| it.matched < raft.raft_log.committed) {
                    return Err(Refused::Behind);
                }
            }
            VoterChange::Remove(disk) if *disk == self.me.disk => return Err(Refused::Unfit),
            VoterChange::Remove(_) => {}
        }
        if !fits {
            return Err(Refused::Unfit);
        }
        if self.node.raft.has_pending_conf() {
            return Err(Refused::ChangePending);
        }
        self.check_room(1, 512)?;
        let (words, change) = (engine::change_bytes(change), engine::change_in(change));
        let proposed = self.engine(|node| node.propose_conf_change(words, change));
        self.proposed(proposed.map(|it| it.is_ok()))
    }

    fn proposed(&mut self, proposed: Option<bool>) -> Result<u64, Refused> {
        match proposed {
            Some(true) => {
                let index = self.node.raft.raft_log.last_index();
                self.pump();
                Ok(index)
            }
            Some(false) => Err(Refused::Full),
            None => Err(Refused::Stopped),
        }
    }

    /// Asks another voter to lead. Until it does, or an election's time is over, nothing can be proposed.
    ///
    /// # Errors
    ///
    /// Fails at a voter that does not lead, and if the other has no vote.
    pub fn transfer_to(&mut self, voter: &VoterId) -> Result<(), Refused> {
        self.check_leads()?;
        let votes = self.members.as_ref();
        if voter.disk == self.me.disk || !votes.is_some_and(|it| it.is_voter(voter.disk)) {
            return Err(Refused::Unfit);
        }
        let number = voter.disk.number();
        self.engine(|node| node.transfer_leader(number));
        self.pump();
        Ok(())
    }

    /// Who this voter is.
    pub fn me(&self) -> &VoterId {
        &self.me
    }

    /// The group after the last applied entry; none at a stranger.
    pub fn members(&self) -> Option<&Members> {
        self.members.as_ref()
    }

    /// The newest term that it has heard of.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// The last entry that was handed out to be applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Returns `true` if it leads.
    pub fn leads(&self) -> bool {
        self.fault.is_none() && self.node.raft.state == StateRole::Leader
    }

    /// Returns its part in the group.
    pub fn role(&self) -> &Role {
        &self.role.0
    }

    /// Returns why it has stopped, if it has.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Breaks a rule from now on.
    #[cfg(any(test, feature = "simulation"))]
    pub fn sabotage(&mut self, sabotage: Sabotage) {
        self.sabotage = sabotage;
    }

    fn check_leads(&self) -> Result<(), Refused> {
        if self.fault.is_some() {
            Err(Refused::Stopped)
        } else if self.node.raft.state == StateRole::Leader {
            Ok(())
        } else {
            Err(Refused::NotLeader)
        }
    }

    fn check_room(&self, entries: usize, bytes: usize) -> Result<(), Refused> {
        let log = self.node.store();
        let full = log.len() + entries > MAX_LOG_ENTRIES
            || log.bytes() + bytes > MAX_LOG_BYTES
            || self.node.raft.raft_log.last_index() >= MAX_NUMBER;
        if full { Err(Refused::Full) } else { Ok(()) }
    }

    fn is_alone(&self) -> bool {
        self.members
            .as_ref()
            .is_some_and(|members| members.voters() == [self.me.clone()])
    }

    /// Lets the engine do something. If it panics, the voter stops.
    fn engine<T>(&mut self, act: impl FnOnce(&mut RawNode<Log>) -> T) -> Option<T> {
        if self.fault.is_some() {
            return None;
        }
        // The engine is not used any more after a panic, so nobody sees what it left half done.
        match catch_unwind(AssertUnwindSafe(|| act(&mut self.node))) {
            Ok(done) => Some(done),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                let text: String = text.unwrap_or("unknown").chars().take(300).collect();
                self.stop(Fault::Engine(text));
                None
            }
        }
    }

    fn stop(&mut self, fault: Fault) {
        self.pending.clear();
        self.outputs.push_back(Output::Stopped(fault.clone()));
        self.fault = Some(fault);
    }

    fn send_all(&mut self, messages: Vec<(VoterId, Message)>) {
        for (to, message) in messages {
            if matches!(message.body, Body::Snapshot { .. }) {
                self.snapshots.insert(to.disk.number(), self.now);
            }
            self.outputs.push_back(Output::Send(to, message));
        }
    }
}
