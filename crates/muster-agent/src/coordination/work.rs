//! The coordinator of a box at work: what arrives goes in, what it wants done is done.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use muster::{Delivery, Endpoint, Publisher, Status as MeshStatus, Subscriber, since_boot as now};
use muster_cluster::coordination::{NotTaken, View, ViewChange, ViewUpdate, ViewWanted};
use muster_cluster::{Layout, Topics, coordination};
use muster_coordination::{Config, Coordinator, Output, Severity, Status, StoreOrderError, To};
use muster_data::{DataRef, Record};
use muster_gateway::status::{LackStatus, StoreCounts, StoreGroupStatus};
use muster_wire::zeek::{EventRef, Message};
use muster_wire::{Class, EndpointId, Mono, QueueLimits, Topic};
use tokio::sync::{mpsc, oneshot};

use super::groups::{self, Away, Groups, StoreAction, StoreOrder};
use super::writing::{Done, MOVE_AWAY, Writing};
use crate::api::Refusal;
use crate::journal::{EventKind, Journal};
use crate::mesh::agent_name;

/// What waits for the coordinator: renewals of a large cluster, and what is left of them when it was stopped.
pub(crate) const INBOX: QueueLimits = QueueLimits {
    messages: 16 * 1024,
    bytes: 16 * 1024 * 1024,
};

/// The largest message that goes ahead of all that waits.
const URGENT: usize = 16 * 1024;

/// How often an agent looks whether it has missed a view.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// How often it is looked which coordinators are away.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often one whose file could not be used tries again.
const RETRY: Duration = Duration::from_secs(30);

/// The name of a voter's file.
const FILE: &str = "coordinator.sqlite";

/// What the coordinator of a box is made of.
#[derive(Debug, Clone)]
pub(crate) struct CoordinationConfig {
    /// `None` on a box that has no vote.
    pub(crate) voter: Option<Config>,
    pub(crate) voters: Vec<String>,
    pub(crate) topics: Topics,
    /// This box.
    pub(crate) own: String,
    /// Where the voter's file is.
    pub(crate) directory: PathBuf,
}

impl CoordinationConfig {
    /// Returns what a layout says of the coordinator of a box.
    pub(crate) fn of(layout: &Layout, own: &str, directory: &Path) -> Self {
        Self {
            voter: Config::of(layout, own),
            voters: coordination::voters(layout),
            topics: layout.topics().clone(),
            own: own.to_owned(),
            directory: directory.to_owned(),
        }
    }
}

/// What somebody asks of the coordinator.
pub(crate) enum Order {
    /// What there is to show.
    Show(oneshot::Sender<Shown>),
    /// It is to go on alone, as most of the others are lost; `lost` names one that is.
    Recover {
        lost: String,
        done: oneshot::Sender<Result<String, String>>,
    },
    /// What there is to show of stores.
    ShowStores(oneshot::Sender<ShownStores>),
    /// A store's primary is to move, or to begin with what a node has.
    Store(StoreOrder, oneshot::Sender<Result<(), Refusal>>),
}

/// What an agent knows of the coordinators.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    /// `None` on a box that has no vote, or whose file cannot be used.
    pub(crate) status: Option<Status>,
    /// The epoch of the view that the agent goes by.
    pub(crate) epoch: u64,
    /// Why it does not take part.
    pub(crate) problem: Option<String>,
    /// The coordinators that this one does not hear, with the time since when.
    pub(crate) away: BTreeMap<String, u64>,
    /// How many stores there are.
    pub(crate) stores: StoreCounts,
    /// The first of those that are not complete.
    pub(crate) lacks: Vec<LackStatus>,
}

/// What an agent knows of stores.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShownStores {
    pub(crate) leader: Option<String>,
    pub(crate) term: u64,
    pub(crate) generation: u64,
    /// The epoch of the view that the agent goes by.
    pub(crate) epoch: u64,
    pub(crate) stores: Vec<StoreGroupStatus>,
}

pub(crate) struct Work {
    config: CoordinationConfig,
    endpoint: Endpoint,
    publisher: Publisher,
    /// What this box's agent goes by.
    view: View,
    coordinator: Option<Coordinator>,
    writing: Option<Writing>,
    /// It is to go on alone when it has a new file.
    recovering: Option<oneshot::Sender<Result<String, String>>>,
    /// It gets a new file: what its coordinator wants done is of the past.
    is_renewing: bool,
    names: HashMap<EndpointId, String>,
    problem: Option<String>,
    groups: Groups,
    away: Away,
    journal: Arc<Journal>,
    ask_at: Mono,
    look_at: Mono,
    retry_at: Mono,
}

fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Work {
    pub(crate) fn new(
        config: CoordinationConfig,
        endpoint: Endpoint,
        journal: Arc<Journal>,
    ) -> Self {
        let now = now();
        Self {
            publisher: endpoint.publisher(),
            view: View::default(),
            coordinator: None,
            writing: None,
            recovering: None,
            is_renewing: false,
            names: HashMap::new(),
            problem: None,
            groups: Groups::default(),
            away: Away::default(),
            journal,
            look_at: now.after(LOOK_EVERY),
            // Whoever leads says by itself what it decides.
            ask_at: now.after(ASK_EVERY / 2),
            retry_at: now,
            endpoint,
            config,
        }
    }

    /// What the agent's endpoint has to hear for it.
    pub(crate) fn topics(&self) -> Vec<Vec<u8>> {
        let own = self.config.topics.agent(&agent_name(&self.config.own));
        let topics = [
            own,
            Some(self.config.topics.id(self.endpoint.id())),
            Some(self.config.topics.coordination()),
        ];
        let topics = topics.into_iter().flatten();
        topics.map(|topic| topic.as_bytes().to_vec()).collect()
    }

    /// Works until the endpoint has ended.
    pub(crate) async fn run(
        mut self,
        mut subscriber: Subscriber,
        mut orders: mpsc::Receiver<Order>,
    ) {
        self.begin().await;
        loop {
            let due = self.next_tick();
            let wait = due.since(now());
            tokio::select! {
                delivery = subscriber.receive() => match delivery {
                    Some(Delivery::Batch(batch)) => {
                        for message in batch.iter() {
                            self.message(message.from, message.payload).await;
                        }
                    }
                    Some(Delivery::Status(status)) => self.status(&status),
                    None => return,
                },
                Some(done) = next_done(&mut self.writing) => self.written(done),
                Some(order) = orders.recv() => self.order(order),
                () = tokio::time::sleep(wait) => self.tick().await,
            }
            self.carry_out().await;
        }
    }

    fn path(&self) -> PathBuf {
        self.config.directory.join(FILE)
    }

    /// Opens the voter's file, and takes part with what is in it.
    async fn begin(&mut self) {
        let Some(config) = self.config.voter.clone() else {
            return;
        };
        self.retry_at = now().after(RETRY);
        let path = self.path();
        let opened = Writing::open(path.clone()).await;
        let (writing, disk, kept) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.fails(error),
        };
        match Coordinator::new(config, disk, kept, now(), random()) {
            Ok(coordinator) => {
                self.coordinator = Some(coordinator);
                self.writing = Some(writing);
                self.problem = None;
                self.look_around();
            }
            Err(error) => self.fails(format!("{}: {error}. {MOVE_AWAY}", path.display())),
        }
    }

    fn fails(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            tracing::error!("coordination: this box has no vote: {problem}");
            self.problem = Some(problem);
        }
        self.coordinator = None;
        self.writing = None;
        // Nor is a new file on its way any more.
        self.is_renewing = false;
    }

    /// A coordinator hears whom the mesh reaches already.
    fn look_around(&mut self) {
        let now = now();
        if let Some(coordinator) = &mut self.coordinator {
            for record in self.endpoint.mesh_in_reach() {
                if record.id != self.endpoint.id() && !record.name.is_empty() {
                    coordinator.reaches(record.id, &record.name, true, now);
                }
            }
        }
    }

    fn next_tick(&self) -> Mono {
        match &self.coordinator {
            Some(coordinator) => coordinator.next_tick().min(self.ask_at).min(self.look_at),
            None if self.config.voter.is_some() => self.retry_at.min(self.ask_at),
            None => self.ask_at,
        }
    }

    async fn tick(&mut self) {
        let now = now();
        match &mut self.coordinator {
            Some(coordinator) => coordinator.tick(now, wall()),
            None if self.config.voter.is_some() && now >= self.retry_at => self.begin().await,
            None => {}
        }
        if now >= self.look_at {
            self.look_at = now.after(LOOK_EVERY);
            self.look_who_is_away();
        }
        if now >= self.ask_at {
            self.ask_at = now.after(ASK_EVERY);
            self.follow_own().await;
            if self.coordinator.is_none() {
                for voter in self.config.voters.clone() {
                    self.ask_for_view(&voter);
                }
            }
        }
    }

    fn look_who_is_away(&mut self) {
        let voters = self.coordinator.as_ref().map(Coordinator::voters);
        let away = voters.into_iter().flatten().filter(|it| !it.is_present);
        self.away.look(away.map(|it| it.box_name).collect(), wall());
    }

    fn ask_for_view(&mut self, voter: &str) {
        let wanted = ViewWanted {
            epoch: self.view.epoch(),
        };
        if let Some(topic) = self.config.topics.agent(&agent_name(voter)) {
            self.publish(&topic, coordination::event(&wanted));
        }
    }

    fn status(&mut self, status: &MeshStatus) {
        match status {
            MeshStatus::EndpointDiscovered(record) if !record.name.is_empty() => {
                self.names.insert(record.id, record.name.clone());
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.reaches(record.id, &record.name, true, now());
                }
            }
            MeshStatus::EndpointUnreachable(id) => {
                if let Some(name) = self.names.remove(id)
                    && let Some(coordinator) = &mut self.coordinator
                {
                    coordinator.reaches(*id, &name, false, now());
                }
            }
            _ => {}
        }
    }

    async fn message(&mut self, from: EndpointId, payload: &[u8]) {
        let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(payload)) else {
            return;
        };
        let Some(name) = self.names.get(&from).cloned() else {
            return;
        };
        if event.name() == ViewUpdate::NAME {
            return self.view_told(&name, &event).await;
        }
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.receive(from, &name, &event, now());
        }
    }

    async fn view_told(&mut self, name: &str, event: &EventRef<'_>) {
        let voter = name.strip_prefix(muster_cluster::AGENT_PREFIX);
        let Some(voter) = voter.filter(|it| self.config.voters.iter().any(|known| known == it))
        else {
            return;
        };
        let Ok(update) = event.arguments().to::<ViewUpdate>() else {
            return;
        };
        let voter = voter.to_owned();
        if self.follow(&update).await == Err(NotTaken::Gap) {
            self.ask_for_view(&voter);
        }
    }

    /// Who is out is led around, and who is in may relay.
    async fn follow(&mut self, update: &ViewUpdate) -> Result<(), NotTaken> {
        let is_first = self.view.epoch() == 0;
        let changes = self.view.update(update)?;
        self.groups.look(&self.view, wall(), is_first);
        for change in changes {
            match change {
                ViewChange::Out { node, life, reason } => {
                    if !is_first {
                        tracing::info!("node out: {node} {}", reason.text());
                    }
                    self.endpoint.fence(life).await;
                }
                ViewChange::In { life, .. } => self.endpoint.unfence(life).await,
                ViewChange::Store { .. } => {}
            }
        }
        Ok(())
    }

    fn written(&mut self, done: Done) {
        match done {
            Done::Begun => {
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.begun();
                }
                if let Some(told) = self.recovering.take() {
                    let text = "this box decides alone from now on; the others follow it";
                    let _ = told.send(Ok(text.to_owned()));
                }
            }
            Done::Written(number) => {
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.persisted(number);
                }
            }
            Done::Renewed(disk) => {
                self.is_renewing = false;
                let Some(config) = self.config.voter.clone() else {
                    return;
                };
                let kept = match (&self.recovering, &self.coordinator) {
                    (Some(_), Some(coordinator)) => coordinator.recovered(disk),
                    _ => None,
                };
                // With nothing in its file it neither votes nor founds before it is told to begin.
                let made = Coordinator::new(config, disk, None, now(), random());
                self.coordinator = made.ok();
                self.look_around();
                if let (Some(kept), Some(coordinator)) = (kept, &mut self.coordinator) {
                    coordinator.begin_with(kept);
                }
            }
            Done::Failed { problem, may_retry } => {
                self.fails(problem.clone());
                self.retry_at = if may_retry {
                    now().after(RETRY)
                } else {
                    Mono(u64::MAX)
                };
                if let Some(told) = self.recovering.take() {
                    let _ = told.send(Err(problem));
                }
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Show(answer) => {
                // Who is said to be away is so since some time.
                self.look_who_is_away();
                let shown = Shown {
                    status: self.coordinator.as_ref().map(Coordinator::status),
                    epoch: self.view.epoch(),
                    problem: self.problem.clone(),
                    away: self.away.since(),
                    stores: self.groups.counts(),
                    lacks: self.groups.lacks(&self.view),
                };
                let _ = answer.send(shown);
            }
            Order::ShowStores(answer) => {
                let _ = answer.send(self.shown_stores());
            }
            Order::Store(order, done) => {
                let _ = done.send(self.store(&order));
            }
            Order::Recover { lost, done } => match self.may_recover(&lost) {
                Ok(()) => {
                    self.recovering = Some(done);
                    self.renew();
                }
                Err(problem) => {
                    let _ = done.send(Err(problem));
                }
            },
        }
    }

    fn shown_stores(&self) -> ShownStores {
        let status = self.coordinator.as_ref().map(Coordinator::status);
        let (leader, term) = status.map_or((None, 0), |it| (it.leader, it.term));
        ShownStores {
            leader,
            term,
            generation: self.view.generation(),
            epoch: self.view.epoch(),
            stores: self.groups.status(&self.view),
        }
    }

    /// Has the coordinator of this box decide what an operator wants, if it leads. The view says when it is done.
    fn store(&mut self, order: &StoreOrder) -> Result<(), Refusal> {
        let StoreOrder {
            action,
            store,
            node,
        } = order;
        let ordered = match (&mut self.coordinator, action) {
            (None, _) => Err(StoreOrderError::NotLeading),
            (Some(coordinator), StoreAction::Move) => coordinator.move_store(store, node),
            (Some(coordinator), StoreAction::Adopt) => coordinator.adopt_store(store, node),
        };
        ordered.map_err(|error| {
            let view = self.coordinator.as_ref().and_then(Coordinator::view);
            groups::refusal(view, order, error)
        })
    }

    /// What an operator should know is in the log, and among the events of the box.
    fn report(&self, severity: Severity, text: &str) {
        match severity {
            Severity::Info => tracing::info!("{text}"),
            Severity::Warning => tracing::warn!("{text}"),
            Severity::Error => tracing::error!("{text}"),
        }
        let event = text.strip_prefix("coordination: ").unwrap_or(text);
        self.journal.note(EventKind::Coordination, None, event);
    }

    /// Why this box must not go on alone, if it must not.
    fn may_recover(&self, lost: &str) -> Result<(), String> {
        let Some(coordinator) = &self.coordinator else {
            let problem = self.problem.as_deref().unwrap_or("it is no coordinator");
            return Err(format!(
                "box {} cannot go on alone: {problem}",
                self.config.own
            ));
        };
        if !self.config.voters.iter().any(|it| it == lost) {
            return Err(format!(
                "box {lost} is no coordinator: {} are",
                self.config.voters.join(", ")
            ));
        }
        if lost == self.config.own {
            return Err(format!("box {lost} is this one"));
        }
        if self.recovering.is_some() {
            return Err("it is under way already".to_owned());
        }
        let status = coordinator.status();
        if let Some(leader) = status.leader.filter(|_| coordinator.hears_most()) {
            return Err(format!(
                "the coordinators decide, and box {leader} leads: there is nothing to recover"
            ));
        }
        let is_reached = self.names.values().any(|name| *name == agent_name(lost));
        if is_reached {
            return Err(format!(
                "box {lost} is not lost: its agent answers. Two groups of coordinators must never decide"
            ));
        }
        Ok(())
    }

    /// Does what the coordinator wants done.
    async fn carry_out(&mut self) {
        while let Some(output) = self.coordinator.as_mut().and_then(Coordinator::poll) {
            match output {
                Output::Report(severity, text) => self.report(severity, &text),
                Output::Retire => self.renew(),
                _ if self.is_renewing => {}
                Output::Begin(kept) => self.write(|writing| writing.begin(kept)),
                Output::Persist(number, batch) => {
                    self.write(|writing| writing.write(number, batch));
                }
                Output::Send(to, event) => self.send(&to, event),
            }
        }
        // What it publishes does not come back to it. Of what another one leads this box's own coordinator may be behind.
        if self.coordinator.as_ref().is_some_and(Coordinator::decides) {
            self.follow_own().await;
        }
    }

    async fn follow_own(&mut self) {
        let decided = self.coordinator.as_ref().and_then(Coordinator::view);
        if let Some(decided) = decided.filter(|it| it.epoch() > self.view.epoch()) {
            let update = ViewUpdate::whole(decided);
            // What this box's own coordinator says is never foreign for long.
            let _ = self.follow(&update).await;
        }
    }

    fn renew(&mut self) {
        self.is_renewing = true;
        self.write(Writing::renew);
    }

    fn write(&mut self, act: impl FnOnce(&Writing)) {
        if let Some(writing) = &self.writing {
            act(writing);
        }
    }

    fn send(&mut self, to: &To, event: Vec<u8>) {
        let topics = &self.config.topics;
        let topic = match to {
            To::Voter(of_box) => topics.agent(&agent_name(of_box)),
            To::Life(life) => Some(topics.id(*life)),
            To::All => Some(topics.coordination()),
        };
        if let Some(topic) = topic {
            self.publish(&topic, event);
        }
    }

    fn publish(&mut self, topic: &Topic, event: Vec<u8>) {
        let class = if event.len() <= URGENT {
            Class::Control
        } else {
            Class::Interactive
        };
        // What does not arrive is said again.
        let _ = self
            .publisher
            .publish_encoded(topic, Bytes::from(event), class);
    }
}

async fn next_done(writing: &mut Option<Writing>) -> Option<Done> {
    match writing {
        Some(writing) => Some(writing.next().await),
        None => std::future::pending().await,
    }
}

/// A number that no other coordinator has.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without it elections only take longer.
    let _ = openssl::rand::rand_bytes(&mut bytes);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests;
