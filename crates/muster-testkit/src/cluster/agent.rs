//! The agent of a box: in the mesh, where it relays, and a coordinator if the box has a vote.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use muster_cluster::coordination::{
    NotTaken, View, ViewChange, ViewUpdate, ViewWanted, event, voters,
};
use muster_cluster::node::{Effect, Input, Now, Reach, Report, Severity};
use muster_cluster::{AGENT_PREFIX, AgentDial, Layout, Topics};
use muster_coordination::{
    Config, Coordinator, Output, Sabotage, Severity as CoordinatorSeverity, To,
};
use muster_data::{DataRef, Record};
use muster_wire::zeek::{EventRef, Message};
use muster_wire::{Class, EndpointId, Mono, Topic};

use super::voter_disk::{Done, Job, VoterDisk};

/// How often an agent looks whether it has missed a view.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// How often one whose file could not be used tries again.
const RETRY: Duration = Duration::from_secs(30);

/// The largest message that goes ahead of all that waits.
const URGENT: usize = 16 * 1024;

/// Returns the name of a box's agent in the mesh.
pub(super) fn name_of(of_box: &str) -> String {
    format!("{AGENT_PREFIX}{of_box}")
}

/// Returns the name of whom an agent dials.
pub(super) fn name_of_dial(dial: &AgentDial) -> String {
    match dial {
        AgentDial::Hub(name) => name.to_string(),
        AgentDial::Agent(of_box) => name_of(of_box),
    }
}

/// One life of a box's agent.
pub(super) struct Agent {
    topics: Topics,
    voters: Vec<String>,
    subscriptions: Vec<Topic>,
    coordinator: Option<Coordinator>,
    /// What this box goes by.
    view: View,
    /// Who is in reach.
    names: BTreeMap<EndpointId, String>,
    ask_at: Mono,
    /// When a box that has a vote, and whose file could not be used, tries again.
    retry_at: Option<Mono>,
    effects: Vec<Effect>,
    jobs: Vec<Job>,
}

impl Agent {
    pub(super) fn new(layout: &Layout, own: &str, id: EndpointId, now: Now) -> Self {
        let topics = layout.topics().clone();
        let own = topics.agent(&name_of(own));
        let others = [topics.id(id), topics.coordination()];
        Self {
            voters: voters(layout),
            subscriptions: own.into_iter().chain(others).collect(),
            topics,
            coordinator: None,
            view: View::default(),
            names: BTreeMap::new(),
            ask_at: now.mono.after(ASK_EVERY / 2),
            retry_at: None,
            effects: Vec::new(),
            jobs: Vec::new(),
        }
    }

    /// Takes part with what is in the voter's file.
    pub(super) fn begin(
        &mut self,
        config: Config,
        disk: &VoterDisk,
        random: u64,
        sabotage: Sabotage,
        now: Now,
    ) {
        let kept = disk.kept.clone();
        let made = Coordinator::new(config, disk.id, kept, now.mono, random);
        let mut coordinator = made.unwrap_or_else(|error| panic!("a voter's own file: {error}"));
        coordinator.sabotage(sabotage);
        for (id, name) in &self.names {
            coordinator.reaches(*id, name, true, now.mono);
        }
        self.coordinator = Some(coordinator);
        self.retry_at = None;
        self.carry_out();
    }

    pub(super) fn coordinator(&self) -> Option<&Coordinator> {
        self.coordinator.as_ref()
    }

    pub(super) fn subscriptions(&self) -> &[Topic] {
        &self.subscriptions
    }

    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Takes what is to be written to the voter's file.
    pub(super) fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    pub(super) fn next_deadline(&self) -> Mono {
        let coordinator = self.coordinator.as_ref().map(Coordinator::next_tick);
        let others = [coordinator, self.retry_at];
        others.into_iter().flatten().fold(self.ask_at, Mono::min)
    }

    /// Returns `true` if its file is to be tried again.
    pub(super) fn is_to_retry(&self, now: Mono) -> bool {
        self.retry_at.is_some_and(|at| at <= now)
    }

    pub(super) fn step(&mut self, input: Input<'_>, now: Now) {
        match input {
            Input::Tick => self.tick(now),
            Input::Message { from, payload } => self.message(from, payload, now),
            Input::Announced(id, name) => {
                self.names.insert(id, name.to_owned());
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.reaches(id, name, true, now.mono);
                }
            }
            Input::Reach(id, Reach::Unreachable) => {
                if let Some(name) = self.names.remove(&id)
                    && let Some(coordinator) = &mut self.coordinator
                {
                    coordinator.reaches(id, &name, false, now.mono);
                }
            }
            _ => {}
        }
        self.carry_out();
    }

    fn tick(&mut self, now: Now) {
        let wall = u64::try_from(now.wall.as_nanos() / 1_000_000_000).unwrap_or(0);
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.tick(now.mono, wall);
        }
        if now.mono >= self.ask_at {
            self.ask_at = now.mono.after(ASK_EVERY);
            self.follow_own();
            if self.coordinator.is_none() {
                for voter in self.voters.clone() {
                    self.ask_for_view(&voter);
                }
            }
        }
    }

    fn message(&mut self, from: EndpointId, payload: &[u8], now: Now) {
        let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(payload)) else {
            return;
        };
        let Some(name) = self.names.get(&from).cloned() else {
            return;
        };
        if event.name() == ViewUpdate::NAME {
            return self.view_told(&name, &event);
        }
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.receive(from, &name, &event, now.mono);
        }
    }

    fn view_told(&mut self, name: &str, event: &EventRef<'_>) {
        let voter = name.strip_prefix(AGENT_PREFIX);
        let Some(voter) = voter.filter(|it| self.voters.iter().any(|known| known == it)) else {
            return;
        };
        let Ok(update) = event.arguments().to::<ViewUpdate>() else {
            return;
        };
        if self.follow(&update) == Err(NotTaken::Gap) {
            self.ask_for_view(voter);
        }
    }

    fn ask_for_view(&mut self, voter: &str) {
        let epoch = self.view.epoch();
        if let Some(topic) = self.topics.agent(&name_of(voter)) {
            self.publish(topic, event(&ViewWanted { epoch }));
        }
    }

    /// Who is out is led around, and who is in may relay.
    fn follow(&mut self, update: &ViewUpdate) -> Result<(), NotTaken> {
        for change in self.view.update(update)? {
            match change {
                ViewChange::Out { life, .. } => self.effects.push(Effect::Fence(life)),
                ViewChange::In { life, .. } => self.effects.push(Effect::Unfence(life)),
                ViewChange::Store { .. } => {}
            }
        }
        Ok(())
    }

    fn follow_own(&mut self) {
        let decided = self.coordinator.as_ref().and_then(Coordinator::view);
        if let Some(decided) = decided.filter(|it| it.epoch() > self.view.epoch()) {
            let update = ViewUpdate::whole(decided);
            // What this box's own coordinator says is never foreign for long.
            let _ = self.follow(&update);
        }
    }

    /// Something is in the voter's file.
    pub(super) fn written(&mut self, done: Done) {
        if let Some(coordinator) = &mut self.coordinator {
            match done {
                Done::Begun => coordinator.begun(),
                Done::Written(number) => coordinator.persisted(number),
            }
        }
        self.carry_out();
    }

    /// Nothing more can be written to the voter's file.
    pub(super) fn fails(&mut self, now: Now) {
        self.coordinator = None;
        self.retry_at = Some(now.mono.after(RETRY));
        self.report(
            Severity::Error,
            "coordination: this box has no vote: its file cannot be written".to_owned(),
        );
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.coordinator.as_mut().and_then(Coordinator::poll) {
            match output {
                Output::Send(to, event) => self.send(&to, event),
                Output::Begin(kept) => self.jobs.push(Job::Begin(kept)),
                Output::Persist(number, batch) => self.jobs.push(Job::Batch(number, batch)),
                Output::Retire => {
                    panic!("a voter has to give up its group, which nobody recovers here")
                }
                Output::Report(severity, text) => {
                    let severity = match severity {
                        CoordinatorSeverity::Info => Severity::Info,
                        CoordinatorSeverity::Warning => Severity::Warning,
                        CoordinatorSeverity::Error => Severity::Error,
                    };
                    self.report(severity, text);
                }
            }
        }
        // What it publishes does not come back to it. Of what another one leads this box's own coordinator may be behind.
        if self.coordinator.as_ref().is_some_and(Coordinator::decides) {
            self.follow_own();
        }
    }

    fn report(&mut self, severity: Severity, text: String) {
        let report = Report { severity, text };
        self.effects.push(Effect::Report(report));
    }

    fn send(&mut self, to: &To, event: Vec<u8>) {
        let topic = match to {
            To::Voter(of_box) => self.topics.agent(&name_of(of_box)),
            To::Life(life) => Some(self.topics.id(*life)),
            To::All => Some(self.topics.coordination()),
        };
        if let Some(topic) = topic {
            self.publish(topic, event);
        }
    }

    fn publish(&mut self, topic: Topic, event: Vec<u8>) {
        let class = if event.len() <= URGENT {
            Class::Control
        } else {
            Class::Interactive
        };
        self.effects.push(Effect::Publish {
            topic,
            payload: Bytes::from(event),
            class,
        });
    }
}
