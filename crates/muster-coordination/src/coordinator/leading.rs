//! What a leader decides: who is in, and who votes.

use std::time::Duration;

use muster_consensus::{MAX_DATA, Members, VoterChange, VoterId};

use super::founding::Others;
use super::{Config, Coordinator};
use crate::sabotage::Sabotage;
use crate::state::{Change, EXPEL, Entry, MOST_CHANGES};
use muster_data::encode_to_vec;
use muster_wire::Mono;

/// How often a leader looks whether something is to be decided.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// An entry has fewer bytes besides its changes.
pub(crate) const ENTRY_BYTES: usize = 64;

impl Coordinator {
    /// Decides what is due, if this coordinator leads.
    pub(super) fn lead(&mut self) {
        let (now, wall) = (self.now, self.wall);
        let Some(group) = &mut self.group else { return };
        if !group.decides() || now < group.look_at {
            return;
        }
        group.look_at = now.after(LOOK_EVERY);
        if group.proposed.is_some() {
            return;
        }
        if let Some(change) =
            next_change(&self.config, group.consensus.members(), &self.others, now)
        {
            // What does not fit yet is tried again.
            group.proposed = group.consensus.change(&change).ok();
            if group.proposed.is_some() {
                return;
            }
        }
        if !group.are_most(&self.reached_voters) {
            return;
        }
        let time = group.time(now);
        let mut changes = group.detector.decide(&group.state, time, now);
        let of_stores = group.stores.decide(&group.state, now);
        add_what_fits(&mut changes, of_stores);
        if changes.is_empty() {
            return;
        }
        let entry = Entry {
            time,
            wall,
            changes,
        };
        group.proposed = group.consensus.propose(entry.encode().into()).ok();
        if group.proposed.is_some() {
            // What is under way is not taken back: nothing is granted to them meanwhile.
            let gone = entry.changes.iter().filter(|it| it.kind == EXPEL);
            group.given_up = gone.map(|it| it.node.clone()).collect();
        }
        if self.sabotage == Sabotage::TellsProposals && group.proposed.is_some() {
            let before = group.state.clone();
            let index = group.consensus.applied() + 1;
            group.state.apply(index, &entry, self.sabotage);
            group.tell_view();
            group.state = before;
        }
    }
}

/// Adds changes as long as one entry can hold them. The others come with the next one.
fn add_what_fits(changes: &mut Vec<Change>, more: Vec<Change>) {
    let size = |change: &Change| encode_to_vec(change).len();
    let taken: usize = changes.iter().map(size).sum();
    let mut room = (MAX_DATA - ENTRY_BYTES).saturating_sub(taken);
    for change in more {
        let bytes = size(&change);
        if changes.len() >= MOST_CHANGES || bytes > room {
            return;
        }
        room -= bytes;
        changes.push(change);
    }
}

/// What is to be changed next about who votes, so that those of the layout do, each with the file that it has.
fn next_change(
    config: &Config,
    members: Option<&Members>,
    others: &Others,
    now: Mono,
) -> Option<VoterChange> {
    let members = members?;
    let disk_of = |name: &str| others.present(name, now).map(|other| other.disk);
    let is_wanted = |member: &VoterId| config.voters.contains(&member.name);
    // A file that is gone votes never again.
    let is_replaced = |member: &&VoterId| {
        member.name != config.me && disk_of(&member.name).is_some_and(|disk| disk != member.disk)
    };
    if let Some(gone) = members.all().find(is_replaced) {
        return Some(VoterChange::Remove(gone.disk));
    }
    if let Some(learner) = members.learners().iter().find(|it| is_wanted(it)) {
        return Some(VoterChange::Promote(learner.disk));
    }
    for name in &config.voters {
        if !members.all().any(|it| it.name == *name)
            && let Some(disk) = disk_of(name)
        {
            return Some(VoterChange::AddLearner(VoterId {
                name: name.clone(),
                disk,
            }));
        }
    }
    // Only when those who stay are enough.
    let stays = |it: &&VoterId| is_wanted(it);
    let enough = members.voters().iter().filter(stays).count() == config.voters.len();
    let goes = |it: &&VoterId| !is_wanted(it) && it.name != config.me;
    let gone = members.all().find(goes).filter(|_| enough)?;
    Some(VoterChange::Remove(gone.disk))
}
