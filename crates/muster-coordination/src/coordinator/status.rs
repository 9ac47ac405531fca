//! What there is to show of a coordinator.

use std::time::Duration;

use muster_cluster::coordination::OutReason;
use muster_consensus::Role;

use super::Coordinator;

/// A coordinator, and what it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its part.
    pub part: Part,
    /// The box that leads, if it knows one.
    pub leader: Option<String>,
    /// The newest term that it has heard of.
    pub term: u64,
    /// The epoch of what it knows to be agreed on; 0 if that is nothing.
    pub epoch: u64,
    /// How often coordinators were recovered from the loss of most of them.
    pub generation: u64,
    /// The group, if it belongs to one.
    pub cluster: Option<[u8; 16]>,
    /// The coordinators, those of the layout first.
    pub voters: Vec<VoterStatus>,
    /// The nodes that were ever in and are not forgotten.
    pub members: Vec<MemberStatus>,
    /// Why it does not take part, or what is not as it should be.
    pub problem: Option<String>,
}

/// What part a coordinator has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It waits until all voters of the layout are there.
    Waiting,
    /// It decides.
    Leader,
    /// It votes.
    Follower,
    /// It asks to lead.
    Candidate,
    /// It has no vote, yet or any more.
    Learner,
}

impl Part {
    /// Returns it in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
        }
    }
}

/// A voter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoterStatus {
    /// Its box.
    pub box_name: String,
    /// Whether it is heard.
    pub is_present: bool,
    /// Whether it votes in the group.
    pub votes: bool,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its name.
    pub node: String,
    /// Where it runs.
    pub box_name: String,
    /// Its session.
    pub session: u64,
    /// Why it is out, if it is.
    pub out: Option<OutReason>,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// When it was heard last. Only a leader's word counts.
    pub heard: Option<Duration>,
}

impl Coordinator {
    /// Returns what there is to show of it.
    pub fn status(&self) -> Status {
        let group = self.group.as_ref();
        let (part, leader) = match group.map(|group| group.consensus.role()) {
            None => (Part::Waiting, None),
            Some(Role::Leader) => (Part::Leader, Some(self.config.me.clone())),
            Some(Role::Candidate) => (Part::Candidate, None),
            Some(Role::Follower(of)) => (Part::Follower, of.as_ref().map(|it| it.name.clone())),
            Some(Role::Learner(of)) => (Part::Learner, of.as_ref().map(|it| it.name.clone())),
        };
        let fault = group.and_then(|group| group.consensus.fault());
        Status {
            part,
            leader,
            term: group.map_or(0, |group| group.consensus.term()),
            epoch: group.map_or(0, |group| group.state.view().epoch()),
            generation: group.map_or(0, super::group::Group::generation),
            cluster: group.map(|group| group.cluster.0),
            voters: self.voters(),
            members: self.members(),
            problem: fault
                .map(ToString::to_string)
                .or_else(|| self.twin_problem())
                .or_else(|| self.problem.clone())
                .or_else(|| self.quarrels.values().next().cloned()),
        }
    }

    /// Returns the coordinators, those of the layout first.
    pub fn voters(&self) -> Vec<VoterStatus> {
        let group = self.group.as_ref();
        let members = group.and_then(|group| group.consensus.members());
        let mut names = self.config.voters.clone();
        let others = members.iter().flat_map(|it| it.all());
        for other in others {
            if !names.contains(&other.name) {
                names.push(other.name.clone());
            }
        }
        // What was said a moment ago is of the past when the mesh has lost whoever said it.
        let is_heard = |name: &str| {
            self.reached_voters.contains_key(name) && self.others.present(name, self.now).is_some()
        };
        let is_present = |name: &str| name == self.config.me || is_heard(name);
        let votes = |name: &str| {
            members.is_some_and(|it| it.voters().iter().any(|voter| voter.name == name))
        };
        let voters = names.into_iter().map(|name| VoterStatus {
            is_present: is_present(&name),
            votes: votes(&name),
            box_name: name,
        });
        voters.collect()
    }

    fn members(&self) -> Vec<MemberStatus> {
        let Some(group) = &self.group else {
            return Vec::new();
        };
        let members = group.state.view().members().map(|(node, member)| {
            let heard = group.detector.heard_at(node, member.life);
            MemberStatus {
                node: node.to_owned(),
                box_name: member.box_name.clone(),
                session: member.session,
                out: member.out,
                since: group.state.past(node).map_or(0, |past| past.wall),
                heard: heard.map(|at| self.now.since(at)),
            }
        });
        members.collect()
    }
}

#[cfg(any(test, feature = "simulation"))]
impl Coordinator {
    /// The pieces that it remembers, all of which have to be bounded whoever says what.
    pub fn weight(&self) -> usize {
        let group = self.group.as_ref();
        self.others.len()
            + self.outputs.len()
            + self.reached_voters.len()
            + self.reached_nodes.len()
            + self.refused.len()
            + self.quarrels.len()
            + group.map_or(0, super::group::Group::weight)
    }

    /// Whether it wants nothing done.
    pub fn is_idle(&self) -> bool {
        self.outputs.is_empty()
    }
}
