//! Messages of others, and what is wrong with them. What the engine would fail at does not get there.

use muster_wire::Mono;
use raft::{INVALID_ID, StateRole};

use super::{Consensus, STRANGERS};
use crate::engine;
use crate::entry::{Entry, Snapshot};
use crate::id::{DiskId, Members, VoterId};
use crate::message::{Body, Message};
use crate::outcome::{Fault, Output, Refused};
use crate::sabotage::Sabotage;

impl Consensus {
    /// Takes a message of a voter that is known, to whoever brought it, by its name.
    ///
    /// # Errors
    ///
    /// Fails if the message is not for this voter, or contradicts what it knows. Nothing has changed then, unless the voter has found out
    /// that it has forgotten something, and has stopped.
    pub fn receive(&mut self, from: &str, message: Message, now: Mono) -> Result<(), Refused> {
        if self.fault.is_some() {
            return Err(Refused::Stopped);
        }
        self.now = self.now.max(now);
        let Message {
            cluster,
            from: disk,
            to,
            body,
        } = message;
        if cluster != self.cluster {
            return Err(Refused::ForeignCluster);
        }
        let sender = VoterId {
            name: from.to_owned(),
            disk,
        };
        if to != self.me.disk {
            if body != Body::WrongDisk {
                let answer = self.to(disk, Body::WrongDisk);
                self.outputs.push_back(Output::Send(sender, answer));
            }
            return Err(Refused::WrongDisk);
        }
        if body == Body::WrongDisk {
            let is_members = |members: &Members| members.all().any(|it| it.name == from);
            if self.members.as_ref().is_some_and(is_members) {
                self.outputs.push_back(Output::WrongDisk(sender));
            }
            return Ok(());
        }
        self.check_sender(&sender)?;
        self.check(&body, disk.number())?;
        if let Body::Snapshot { snapshot, .. } = &body {
            self.learn_names(snapshot)?;
        }
        self.remember(sender);
        self.step(body, disk.number());
        self.pump();
        Ok(())
    }

    fn step(&mut self, body: Body, from: u64) {
        let term = body.term();
        let leads = matches!(
            body,
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. }
        );
        if self.sabotage == Sabotage::VotesTwice
            && let Body::Vote { pre: false, .. } = body
            && term == Some(self.node.raft.term)
            && self.node.raft.state != StateRole::Leader
        {
            self.node.raft.vote = INVALID_ID;
            self.node.raft.leader_id = INVALID_ID;
        }
        let before = (self.node.raft.term, self.node.raft.vote);
        let Some(message) = engine::message_in(body, from, self.number) else {
            return;
        };
        // What the engine does not want is lost, as a message may be.
        self.engine(|node| {
            let _ = node.step(message);
        });
        let raft = &self.node.raft;
        let heard = leads && term == Some(raft.term) && raft.leader_id == from;
        let voted = raft.vote != INVALID_ID && (raft.term, raft.vote) != before;
        if heard || voted {
            self.wait_for_leader();
        }
    }

    /// A message of this voter.
    pub(super) fn to(&self, to: DiskId, body: Body) -> Message {
        Message {
            cluster: self.cluster,
            from: self.me.disk,
            to,
            body,
        }
    }

    fn check_sender(&self, sender: &VoterId) -> Result<(), Refused> {
        if sender.disk.number() == self.number || self.is_another(sender) {
            return Err(Refused::Collision);
        }
        Ok(())
    }

    /// Whether a member that is not this one has its number. What strangers say of themselves stands in nobody's way.
    fn is_another(&self, voter: &VoterId) -> bool {
        let number = voter.disk.number();
        let known = self.known.get(&number);
        known.is_some_and(|known| known != voter) && !self.strangers.contains(&number)
    }

    fn check(&mut self, body: &Body, from: u64) -> Result<(), Refused> {
        let raft = &self.node.raft;
        let (term, last) = (raft.term, raft.raft_log.last_index());
        let committed = raft.raft_log.committed;
        let is_empty = last == 0;
        match body {
            Body::Vote { .. } if is_empty && self.sabotage != Sabotage::KeepsWipedDisk => {
                Err(Refused::Empty)
            }
            Body::Append {
                before, entries, ..
            } => {
                if is_empty && *before == 0 && !entries.is_empty() {
                    return Err(Refused::Empty);
                }
                let bytes = entries.iter().map(Entry::weight).sum();
                self.check_room(entries.len(), bytes)
            }
            Body::Heartbeat {
                term: leaders,
                commit,
            } if *leaders >= term && *commit > last => {
                let members = self.members.as_ref();
                let is_voter = |it: &Members| it.voters().iter().any(|it| it.disk.number() == from);
                if members.is_some_and(is_voter) {
                    let commit = *commit;
                    self.stop(Fault::Forgotten { last, commit });
                }
                Err(Refused::Contradiction)
            }
            Body::AppendReply {
                term: theirs,
                index,
                rejected: None,
                ..
            } if *theirs == term && *index > last => Err(Refused::Contradiction),
            Body::Snapshot { snapshot, .. } => {
                let known = raft.raft_log.term(snapshot.index).unwrap_or(0);
                let same = snapshot.index != committed || known == snapshot.term;
                if same {
                    Ok(())
                } else {
                    Err(Refused::Contradiction)
                }
            }
            // The engine does not ask who says so, and not whether all is written.
            Body::TakeOver { .. } if !self.pending.is_empty() => Err(Refused::Unwritten),
            Body::TakeOver { .. } if raft.leader_id != from => Err(Refused::Contradiction),
            _ => Ok(()),
        }
    }

    fn learn_names(&mut self, snapshot: &Snapshot) -> Result<(), Refused> {
        if snapshot.members.all().any(|member| self.is_another(member)) {
            return Err(Refused::Collision);
        }
        for member in snapshot.members.all() {
            self.remember(member.clone());
        }
        Ok(())
    }

    /// Remembers whom answers go to.
    fn remember(&mut self, voter: VoterId) {
        let number = voter.disk.number();
        if number != self.number && self.known.insert(number, voter).is_none() {
            self.strangers.push_back(number);
            self.forget_strangers();
        }
    }

    fn forget_strangers(&mut self) {
        // All members of a state may be there before it is installed.
        while self.strangers.len() > STRANGERS + crate::id::MAX_MEMBERS {
            let Some(number) = self.strangers.pop_front() else {
                return;
            };
            self.known.remove(&number);
            self.unreachable.remove(&number);
            self.snapshots.remove(&number);
        }
    }

    /// Takes the group as it is now.
    pub(super) fn set_members(&mut self, members: Members, since: u64) {
        let numbers: Vec<u64> = members.all().map(|it| it.disk.number()).collect();
        for member in members.all() {
            self.known.insert(member.disk.number(), member.clone());
        }
        let gone = |number: &&u64| !numbers.contains(number) && !self.strangers.contains(number);
        let gone: Vec<u64> = self.known.keys().filter(gone).copied().collect();
        self.strangers.extend(gone);
        self.strangers.retain(|number| !numbers.contains(number));
        self.forget_strangers();
        self.members = Some(members);
        self.members_since = since;
    }
}
