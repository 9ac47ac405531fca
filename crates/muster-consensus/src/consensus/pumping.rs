//! What the engine wants done becomes output; what presupposes something on disk is held.

use raft::eraftpb::{Entry as EngineEntry, Message as EngineMessage};
use raft::{INVALID_ID, StateRole};

use super::{Consensus, Pending};
use crate::engine;
use crate::entry::{Content, Promise};
use crate::id::VoterId;
use crate::kept::Batch;
use crate::message::Message;
use crate::outcome::{Output, Role};
use crate::sabotage::Sabotage;

/// What the engine has handed out.
struct Ready {
    number: u64,
    promise: Option<Promise>,
    snapshot: Option<crate::entry::Snapshot>,
    entries: Vec<crate::entry::Entry>,
    committed: Vec<EngineEntry>,
    /// A leader's: they presuppose its term alone.
    at_once: Vec<EngineMessage>,
    /// They presuppose everything.
    held: Vec<EngineMessage>,
}

impl Consensus {
    /// Takes all that the engine has.
    pub(super) fn pump(&mut self) {
        self.count_unanswered();
        while let Some(true) = self.engine(|node| node.has_ready()) {
            let Some(ready) = self.engine(take) else {
                return;
            };
            self.hand_on_ready(ready);
        }
        self.tell_role();
    }

    fn hand_on_ready(&mut self, ready: Ready) {
        let mut held = self.translate(&ready.held);
        let mut at_once = self.translate(&ready.at_once);
        // More than what is agreed on: that alone is in no hurry.
        let promises = ready
            .promise
            .is_some_and(|it| (it.term, it.vote) != self.promise);
        if let Some(promise) = &ready.promise {
            self.promise = (promise.term, promise.vote);
        }
        let batch = Batch {
            sync: promises || ready.snapshot.is_some() || !ready.entries.is_empty(),
            clears: ready.snapshot.is_some(),
            promise: ready.promise,
            snapshot: ready.snapshot,
            entries: ready.entries,
        };
        // The term of a leader that has no other voters is not on disk yet when it begins to lead.
        if promises || self.promised > self.persisted {
            held.append(&mut at_once);
        }
        if self.sabotage == Sabotage::ReleasesAtOnce {
            at_once.append(&mut held);
        }
        let install = batch.snapshot.as_ref().map(|snapshot| {
            let members = snapshot.members.clone();
            (snapshot.index, snapshot.state.clone(), members)
        });
        let install = install.map(|(index, state, members)| {
            self.set_members(members, index);
            (index, state)
        });
        let empty = batch.promise.is_none() && !batch.sync;
        if !empty {
            self.hand_out(batch, ready.number, held, install);
            if promises {
                self.promised = self.batch;
            }
        } else if self.pending.is_empty() {
            let number = ready.number;
            self.engine(|node| node.on_persist_ready(number));
            at_once.append(&mut held);
        } else {
            // It presupposes what was handed out before.
            self.pending.push_back(Pending {
                number: self.batch,
                ready: ready.number,
                messages: held,
                install: None,
            });
        }
        self.send_all(at_once);
        self.apply(ready.committed);
    }

    /// Hands a batch out, and holds what waits for it.
    pub(super) fn hand_out(
        &mut self,
        batch: Batch,
        ready: u64,
        messages: Vec<(VoterId, Message)>,
        install: Option<(u64, bytes::Bytes)>,
    ) {
        self.batch += 1;
        self.pending.push_back(Pending {
            number: self.batch,
            ready,
            messages,
            install,
        });
        self.outputs.push_back(Output::Persist(self.batch, batch));
    }

    fn translate(&self, messages: &[EngineMessage]) -> Vec<(VoterId, Message)> {
        let translated = messages.iter().filter_map(|message| {
            let voter = self.known.get(&message.to)?.clone();
            let body = engine::message_out(message)?;
            let message = self.to(voter.disk, body);
            Some((voter, message))
        });
        translated.collect()
    }

    fn apply(&mut self, committed: Vec<EngineEntry>) {
        let Some(last) = committed.last().map(|entry| entry.index) else {
            return;
        };
        for entry in committed {
            let mut entry = engine::entry_out(&entry);
            if let Content::Change(change) = &entry.content {
                let members = self.members.as_ref();
                if let Some(members) = members.and_then(|members| members.changed(change)) {
                    let change = engine::change_in(change);
                    let _ = self.engine(|node| node.apply_conf_change(&change));
                    self.set_members(members, entry.index);
                } else {
                    entry.content = Content::Nothing;
                }
            }
            self.applied = entry.index;
            self.outputs.push_back(Output::Apply(entry));
        }
        self.engine(|node| node.advance_apply_to(last));
        self.leave_if_removed();
    }

    /// The engine goes on leading, and fails, when it is not in its group any more.
    fn leave_if_removed(&mut self) {
        let members = self.members.as_ref();
        let votes = members.is_some_and(|members| members.is_voter(self.me.disk));
        if !votes && self.node.raft.state != StateRole::Follower {
            let term = self.node.raft.term;
            self.engine(|node| node.raft.become_follower(term, INVALID_ID));
        }
    }

    fn tell_role(&mut self) {
        let raft = &self.node.raft;
        let leader = self.known.get(&raft.leader_id).cloned();
        let members = self.members.as_ref();
        let votes = members.is_some_and(|members| members.is_voter(self.me.disk));
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower if votes => Role::Follower(leader),
            StateRole::Follower => Role::Learner(leader),
        };
        let term = raft.term;
        if self.fault.is_some() || self.role == (role.clone(), term) {
            return;
        }
        if self.role.0 == Role::Leader && role != Role::Leader {
            self.snapshots.clear();
            self.wait_for_leader();
        }
        self.role = (role.clone(), term);
        self.outputs.push_back(Output::Role { role, term });
    }

    /// The rule that a leader counts those who have answered, broken.
    fn count_unanswered(&mut self) {
        let raft = &mut self.node.raft;
        if self.sabotage == Sabotage::CountsUnanswered && raft.state == StateRole::Leader {
            let last = raft.raft_log.last_index();
            let me = self.number;
            for (_, progress) in raft.mut_prs().iter_mut().filter(|(id, _)| **id != me) {
                progress.matched = progress.matched.max(last);
            }
        }
    }
}

/// Takes what the engine has to hand out, and makes it readable for it.
fn take(node: &mut raft::RawNode<crate::log::Log>) -> Ready {
    let mut ready = node.ready();
    let at_once = ready.take_messages();
    let held = ready.take_persisted_messages();
    let committed = ready.take_committed_entries();
    let entries = ready.take_entries();
    let snapshot = engine::snapshot_out(ready.snapshot());
    let promise = ready.hs().map(|hard| Promise {
        term: hard.term,
        vote: hard.vote,
        commit: hard.commit,
    });
    if let Some(snapshot) = &snapshot {
        node.mut_store().install(snapshot.clone());
    }
    node.mut_store().append(&entries);
    let number = ready.number();
    node.advance_append_async(ready);
    Ready {
        number,
        promise,
        snapshot,
        entries: entries.iter().map(engine::entry_out).collect(),
        committed,
        at_once,
        held,
    }
}
