//! A coordinator's part in its group: the consensus, and what is agreed on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[cfg(test)]
use muster_cluster::coordination::View;
use muster_cluster::coordination::ViewUpdate;
use muster_consensus::{
    Body, ClusterId, Config as ConsensusConfig, Consensus, Content, DiskId, Kept, Message,
    Output as Wanted, Role, VoterId,
};
use muster_wire::{EndpointId, Mono};

use super::reports::reports_of;
use super::rounds::Rounds;
use super::stores::Stores;
use super::{BeginError, Config, Coordinator, Output, Severity, To};
use crate::detector::Detector;
use crate::messages::Carried;
use crate::sabotage::Sabotage;
use crate::state::{Entry, State};

pub(super) struct Group {
    pub(super) cluster: ClusterId,
    pub(super) consensus: Consensus,
    pub(super) state: State,
    pub(super) detector: Detector,
    /// What it has heard about stores, as their leader.
    pub(super) stores: Stores,
    /// How it finds out that it still leads.
    pub(super) rounds: Rounds,
    /// The voters with which it was founded; none if they have changed since.
    pub(super) founders: Vec<VoterId>,
    /// The generation that it was told when it began.
    pub(super) told_generation: u64,
    /// What is agreed on cannot be read.
    pub(super) is_unreadable: bool,
    /// It leads, and has applied all that was agreed on before.
    pub(super) is_current: bool,
    /// The coordinators' time that it began to lead with, and when.
    pub(super) clock: (u64, Mono),
    /// The index of what was proposed last, until it is decided.
    pub(super) proposed: Option<u64>,
    /// Who is given up in that.
    pub(super) given_up: BTreeSet<String>,
    /// The epoch that everybody was told of.
    pub(super) told: u64,
    pub(super) look_at: Mono,
    sabotage: Sabotage,
    /// The views before and after each entry that was applied since somebody looked.
    #[cfg(test)]
    pub(super) steps: Vec<(View, View)>,
    outputs: VecDeque<Output>,
}

impl Group {
    pub(super) fn new(
        config: &Config,
        disk: DiskId,
        kept: Kept,
        now: Mono,
        random: u64,
    ) -> Result<Self, BeginError> {
        let me = VoterId {
            name: config.me.clone(),
            disk,
        };
        let rank = config.voters.iter().position(|it| *it == config.me);
        let settings = ConsensusConfig {
            rank: u32::try_from(rank.unwrap_or(config.voters.len())).unwrap_or(u32::MAX),
            witnesses: config.witnesses.iter().cloned().collect(),
            ..ConsensusConfig::default()
        };
        let cluster = kept.cluster;
        let founding = kept.snapshot.as_ref().filter(|it| it.index == 1);
        let founders = founding.map_or(Vec::new(), |it| it.members.voters().to_vec());
        let consensus = Consensus::new(me, kept, settings, now, random)?;
        let mut group = Self {
            cluster,
            consensus,
            state: State::founded(cluster.0, 0),
            detector: Detector::new(config.nodes.clone(), now),
            stores: Stores::default(),
            rounds: Rounds::default(),
            founders,
            told_generation: 0,
            is_unreadable: false,
            is_current: false,
            clock: (0, now),
            proposed: None,
            given_up: BTreeSet::new(),
            told: 0,
            look_at: now,
            sabotage: Sabotage::Nothing,
            #[cfg(test)]
            steps: Vec::new(),
            outputs: VecDeque::new(),
        };
        group.pump(now);
        if group.is_unreadable {
            return Err(BeginError::State);
        }
        Ok(group)
    }

    pub(super) fn sabotage(&mut self, sabotage: Sabotage) {
        self.sabotage = sabotage;
        self.detector.sabotage(sabotage);
        self.stores.sabotage(sabotage);
    }

    pub(super) fn generation(&self) -> u64 {
        // A group has one generation. What was told counts until the group's state is here, which comes after its members.
        self.state.view().generation().max(self.told_generation)
    }

    /// Whether it leads, and knows what was agreed on before.
    pub(super) fn decides(&self) -> bool {
        self.is_current && self.consensus.leads()
    }

    pub(super) fn next_tick(&self) -> Mono {
        let next = self.consensus.next_tick();
        if self.decides() {
            next.min(self.look_at)
        } else {
            next
        }
    }

    /// The mesh reaches a voter's endpoint, or does not.
    pub(super) fn reaches_voter(&mut self, of_box: &str, reached: bool, now: Mono) {
        let members = self.consensus.members();
        let voter = members.and_then(|it| it.all().find(|it| it.name == of_box).cloned());
        if let Some(voter) = voter {
            self.consensus.reachable(&voter, reached, now);
        }
    }

    /// Whether those boxes that the mesh reaches are most voters: otherwise it is this coordinator that is lost, not the others.
    pub(super) fn are_most(&self, reached: &BTreeMap<String, EndpointId>) -> bool {
        let Some(members) = self.consensus.members() else {
            return false;
        };
        let me = &self.consensus.me().name;
        let voters = members.voters().iter();
        let there = voters.filter(|it| it.name == *me || reached.contains_key(&it.name));
        there.count() > members.voters().len() / 2
    }

    /// The coordinators' time, as this leader has it.
    pub(super) fn time(&self, now: Mono) -> u64 {
        let (began, since) = self.clock;
        let passed = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        began.saturating_add(passed).max(self.state.time())
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn weight(&self) -> usize {
        let members = self.state.view().members().count();
        members
            + self.founders.len()
            + self.outputs.len()
            + self.detector.weight()
            + self.stores.weight()
            + self.rounds.weight()
    }

    /// A message of another voter's consensus.
    pub(super) fn hears(&mut self, voter: &str, carried: &Carried, now: Mono) {
        let Ok(message) = Message::decode(&carried.message) else {
            return;
        };
        let from = message.from;
        let heartbeat = match message.body {
            Body::Heartbeat { term, .. } => Some((term, false)),
            Body::HeartbeatReply { term, .. } => Some((term, true)),
            _ => None,
        };
        // What is refused was a message of the past, or of others.
        let is_taken = self.consensus.receive(voter, message, now).is_ok();
        let (Some(round), Some((term, is_answer)), true) = (carried.round, heartbeat, is_taken)
        else {
            return;
        };
        if !is_answer {
            self.rounds.hears(from, term, round);
        } else if self.consensus.leads() && term == self.consensus.term() {
            self.rounds.is_answered(from, round);
        }
    }

    /// The round of a message to another voter, if it is a heartbeat or the answer to one, of the present term.
    fn round_of(&mut self, message: &Message) -> Option<u64> {
        let (now, leads) = (self.consensus.term(), self.consensus.leads());
        match message.body {
            Body::Heartbeat { term, .. } if leads && term == now => Some(self.rounds.ask()),
            Body::HeartbeatReply { term, .. } if term == now => self.rounds.echo(message.to, term),
            _ => None,
        }
    }

    /// The last round that most voters have answered, if this leader can find out that it still leads.
    pub(super) fn confirmed(&self) -> Option<u64> {
        let members = self.consensus.members()?;
        self.rounds.confirmed(self.consensus.me().disk, members)
    }

    /// Does what the consensus wants done.
    pub(super) fn pump(&mut self, now: Mono) {
        while let Some(wanted) = self.consensus.poll() {
            match wanted {
                Wanted::Send(to, message) => {
                    let carried = Carried {
                        round: self.round_of(&message),
                        message: message.encode(),
                    };
                    let event = muster_cluster::coordination::event(&carried);
                    let send = Output::Send(To::Voter(to.name), event);
                    self.outputs.push_back(send);
                }
                Wanted::Persist(number, batch) => {
                    self.outputs.push_back(Output::Persist(number, batch));
                }
                Wanted::Apply(entry) => self.apply(&entry, now),
                Wanted::Install { index: _, state } => match State::decode(&state) {
                    Ok(state) => self.state = state,
                    Err(_) => self.is_unreadable = true,
                },
                Wanted::Role { role, .. } => self.takes_part(&role, now),
                Wanted::WrongDisk(_) => {}
                Wanted::Stopped(fault) => {
                    let text = format!("coordination: this voter has stopped: {fault}");
                    self.report(Severity::Error, text);
                }
            }
        }
        if self.consensus.wants_compaction() {
            let index = self.consensus.applied();
            let _ = self.consensus.compact(index, self.state.encode().into());
            // What that wants done waits for the next call.
            while let Some(Wanted::Persist(number, batch)) = self.consensus.poll() {
                self.outputs.push_back(Output::Persist(number, batch));
            }
        }
    }

    fn report(&mut self, severity: Severity, text: String) {
        self.outputs.push_back(Output::Report(severity, text));
    }

    fn takes_part(&mut self, role: &Role, now: Mono) {
        self.is_current = false;
        self.proposed = None;
        self.given_up.clear();
        self.stores.forget();
        self.rounds.begin();
        if *role == Role::Leader {
            self.clock = (self.state.time(), now);
            self.detector.counts_from(now);
            self.look_at = now;
            self.report(
                Severity::Info,
                "coordination: this box leads from now on".to_owned(),
            );
        }
    }

    fn apply(&mut self, entry: &muster_consensus::Entry, now: Mono) {
        let is_own = self.consensus.leads() && entry.term == self.consensus.term();
        if is_own && !self.is_current {
            self.is_current = true;
            self.clock = (self.state.time(), now);
        }
        if self.proposed.is_some_and(|index| index <= entry.index) {
            self.proposed = None;
            self.given_up.clear();
            self.look_at = now;
        }
        match &entry.content {
            Content::Nothing => {}
            Content::Change(_) => self.founders.clear(),
            Content::Data(data) => match Entry::decode(data) {
                Ok(decided) => {
                    #[cfg(test)]
                    let before = self.state.view().clone();
                    let applied = self.state.apply(entry.index, &decided, self.sabotage);
                    #[cfg(test)]
                    self.steps.push((before, self.state.view().clone()));
                    if self.is_current {
                        for (severity, text) in reports_of(&applied) {
                            self.report(severity, text);
                        }
                    }
                }
                Err(_) => self.is_unreadable = true,
            },
        }
        if self.is_current {
            self.tell_view();
        }
    }

    /// Tells everybody what has changed since it was told last.
    pub(super) fn tell_view(&mut self) {
        let view = self.state.view();
        if view.epoch() <= self.told {
            return;
        }
        let update = ViewUpdate::since(view, self.told);
        self.told = view.epoch();
        let event = muster_cluster::coordination::event(&update);
        self.outputs.push_back(Output::Send(To::All, event));
    }
}

impl Coordinator {
    /// Lets the group do something, and whatever follows.
    pub(super) fn run_group(&mut self, act: impl FnOnce(&mut Group, Mono)) {
        let now = self.now;
        let Some(group) = &mut self.group else { return };
        act(group, now);
        group.pump(now);
        self.lead();
        if let Some(group) = &mut self.group {
            group.pump(now);
            self.outputs.append(&mut group.outputs);
            if group.is_unreadable {
                self.group = None;
                self.fails(BeginError::State.to_string());
            }
        }
    }
}

#[cfg(test)]
impl Coordinator {
    /// Takes the views before and after each entry that it has applied.
    pub(crate) fn take_steps(&mut self) -> Vec<(View, View)> {
        let group = self.group.as_mut();
        group.map_or_else(Vec::new, |group| std::mem::take(&mut group.steps))
    }

    /// Whether a leader does not admit a node yet, or has done so only a moment ago.
    pub(crate) fn is_to_wait(&self, node: &str) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        let at = group.state.admissible_at(node);
        at > 0 && at.saturating_add(3_000) > group.time(self.now)
    }
}
