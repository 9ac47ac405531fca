//! How a group begins: when all voters of the layout are there, and never before.

use std::collections::BTreeMap;

use muster_consensus::{ClusterId, DiskId, Kept, Members, VoterId};
use muster_wire::Mono;

use super::group::Group;
use super::{
    BeginError, Coordinator, FOUNDING_EVERY, Output, PRESENT_EVERY, PRESENT_FOR, Severity, To, clip,
};
use crate::messages::{Begin, Founder, Present};
use crate::sabotage::Sabotage;
use crate::state::State;

/// What another voter has said of itself last.
#[derive(Debug, Clone)]
pub(super) struct Other {
    pub(super) disk: DiskId,
    pub(super) cluster: Option<ClusterId>,
    at: Mono,
}

/// The other voters, by their boxes: only those of the layout.
#[derive(Debug, Default)]
pub(super) struct Others(BTreeMap<String, Other>);

impl Others {
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns what a voter has said, if it is there.
    pub(super) fn present(&self, voter: &str, now: Mono) -> Option<&Other> {
        let other = self.0.get(voter)?;
        (now.since(other.at) < PRESENT_FOR).then_some(other)
    }
}

fn sixteen(bytes: &[u8]) -> Option<[u8; 16]> {
    bytes.try_into().ok()
}

/// The first content of the file of a voter of a new group.
pub(super) fn content(
    cluster: ClusterId,
    disk: DiskId,
    founders: Vec<(String, DiskId)>,
    state: &State,
) -> Option<Kept> {
    let voters = founders.into_iter();
    let voters = voters.map(|(name, disk)| VoterId { name, disk });
    let members = Members::new(voters.collect(), Vec::new()).ok()?;
    Some(Kept::founding(
        cluster,
        disk,
        members,
        state.encode().into(),
    ))
}

impl Coordinator {
    /// Takes part in the group of its file.
    pub(super) fn start(&mut self, kept: Kept) -> Result<(), BeginError> {
        let mut group = Group::new(&self.config, self.disk, kept, self.now, self.random)?;
        group.sabotage(self.sabotage);
        group.told_generation = self.told_generation;
        for id in &self.reached_nodes {
            group.detector.reaches(*id, true, self.now);
        }
        for of_box in self.reached_voters.keys() {
            group.reaches_voter(of_box, true, self.now);
        }
        self.group = Some(group);
        self.problem = None;
        Ok(())
    }

    /// Says to all voters that it is there: also to whoever has its name.
    pub(super) fn say_present(&mut self) {
        let every = match self.group {
            Some(_) => PRESENT_EVERY,
            None => FOUNDING_EVERY,
        };
        self.present_at = self.now.after(every);
        for voter in self.config.voters.clone() {
            self.say_present_to(&voter);
        }
    }

    fn say_present_to(&mut self, voter: &str) {
        let group = self.group.as_ref();
        let present = Present {
            disk: self.disk.0.to_vec(),
            cluster: group.map_or(Vec::new(), |group| group.cluster.0.to_vec()),
            generation: group.map_or(0, Group::generation),
            voters: self.config.voters.clone(),
        };
        self.send(To::Voter(voter.to_owned()), &present);
    }

    /// Another voter is there.
    pub(super) fn hears_present(&mut self, voter: &str, present: &Present) {
        let disk = sixteen(&present.disk).map(DiskId);
        let (true, Some(disk)) = (self.config.voters.iter().any(|it| it == voter), disk) else {
            return;
        };
        if present.voters != self.config.voters {
            let theirs: Vec<String> = present.voters.iter().take(8).map(|it| clip(it)).collect();
            let (theirs, ours) = (theirs.join(", "), self.config.voters.join(", "));
            return self.quarrels(voter, format!(
                "the layout of box {voter} has other voters than this box's: {theirs} there, {ours} here"
            ));
        }
        let other = Other {
            disk,
            cluster: sixteen(&present.cluster).map(ClusterId),
            at: self.now,
        };
        let cluster = other.cluster;
        self.others.0.insert(voter.to_owned(), other);
        let Some(group) = &self.group else {
            self.quarrels.remove(voter);
            return self.found_if_all_are_there();
        };
        let (ours, ours_is) = (group.generation(), group.cluster);
        let is_foreign = cluster.is_some_and(|it| it != ours_is);
        if is_foreign && present.generation == ours {
            return self.quarrels(voter, format!(
                "box {voter} belongs to other coordinators: what is kept there or here is of another cluster"
            ));
        }
        self.quarrels.remove(voter);
        match cluster {
            None => self.tell_to_begin(voter, disk),
            Some(_) if !is_foreign => {}
            Some(_) if present.generation > ours => {
                let text = format!(
                    "coordination: box {voter} goes on with other coordinators since an operator has recovered them: \
                     what is kept here is put aside"
                );
                self.report(Severity::Warning, text);
                self.group = None;
                self.outputs.push_back(Output::Retire);
            }
            // It hears of this one, and follows.
            Some(_) => self.say_present_to(voter),
        }
    }

    /// Another voter and this one do not fit together. It is said once, though others that fit are heard in between.
    fn quarrels(&mut self, voter: &str, problem: String) {
        if self.quarrels.get(voter) != Some(&problem) {
            self.report(Severity::Error, format!("coordination: {problem}"));
            self.quarrels.insert(voter.to_owned(), problem);
        }
    }

    /// Founds a group, if it is this voter's part and all others are there.
    pub(super) fn found_if_all_are_there(&mut self) {
        let is_first = self.config.voters.first() == Some(&self.config.me);
        if self.group.is_some() || self.beginning.is_some() || !is_first {
            return;
        }
        let mut founders = vec![(self.config.me.clone(), self.disk)];
        for voter in &self.config.voters {
            let other = self.others.present(voter, self.now);
            if let Some(other) = other.filter(|other| other.cluster.is_none()) {
                founders.push((voter.clone(), other.disk));
            }
        }
        let needed = match self.sabotage {
            Sabotage::FoundsWithMost => self.config.voters.len() / 2 + 1,
            _ => self.config.voters.len(),
        };
        if founders.len() < needed {
            return;
        }
        // A disk founds one group in its life, so what is drawn with it is drawn for the group.
        let cluster = ClusterId(self.disk.0);
        let state = State::founded(cluster.0, 0);
        if let Some(kept) = content(cluster, self.disk, founders, &state) {
            self.begin(kept);
        }
    }

    pub(super) fn begin(&mut self, kept: Kept) {
        self.beginning = Some(kept.clone());
        self.outputs.push_back(Output::Begin(kept));
    }

    /// A voter without a group hears of this one's.
    fn tell_to_begin(&mut self, voter: &str, disk: DiskId) {
        let Some(group) = &self.group else { return };
        let is_founder = group.founders.iter().any(|it| it.disk == disk);
        let founders = group.founders.iter().filter(|_| is_founder);
        let begin = Begin {
            cluster: group.cluster.0.to_vec(),
            generation: group.generation(),
            disk: disk.0.to_vec(),
            founders: founders
                .map(|founder| Founder {
                    name: founder.name.clone(),
                    disk: founder.disk.0.to_vec(),
                })
                .collect(),
        };
        self.send(To::Voter(voter.to_owned()), &begin);
    }

    /// Another voter has a group.
    pub(super) fn told_to_begin(&mut self, voter: &str, begin: Begin) {
        let is_voter = self.config.voters.iter().any(|it| it == voter);
        let is_ours = sixteen(&begin.disk).map(DiskId) == Some(self.disk);
        if self.group.is_some() || self.beginning.is_some() || !is_voter || !is_ours {
            return;
        }
        let Some(cluster) = sixteen(&begin.cluster).map(ClusterId) else {
            return;
        };
        let mut founders = Vec::new();
        for founder in begin.founders {
            let Some(disk) = sixteen(&founder.disk).map(DiskId) else {
                return;
            };
            founders.push((founder.name, disk));
        }
        self.told_generation = begin.generation;
        let kept = if founders.is_empty() {
            Some(Kept::stranger(cluster, self.disk))
        } else {
            let state = State::founded(cluster.0, begin.generation);
            content(cluster, self.disk, founders, &state)
        };
        if let Some(kept) = kept {
            self.begin(kept);
        }
    }
}
