//! The coordinator of a box at work: what arrives goes in, what it wants done is done.

mod orders;
mod views;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use muster::{Delivery, Endpoint, Publisher, Status as MeshStatus, Subscriber, since_boot as now};
use muster_cluster::coordination::{View, ViewUpdate};
use muster_cluster::{Layout, Topics, coordination};
use muster_coordination::{Config, Coordinator, Output, Severity, Status, To};
use muster_data::{DataRef, Record};
use muster_gateway::status::{LackStatus, StoreCounts, StoreGroupStatus};
use muster_wire::zeek::Message;
use muster_wire::{Class, EndpointId, Mono, QueueLimits, Topic};
use tokio::sync::{mpsc, oneshot};

use super::fences::Fences;
use super::groups::{Away, Groups, StoreOrder};
use super::reach::Reach;
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
    reach: Reach,
    fences: Fences,
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
            reach: Reach::default(),
            fences: Fences::default(),
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
        while self.step(&mut subscriber, &mut orders).await {}
    }

    /// Takes what comes next. Returns `false` if the endpoint has ended.
    async fn step(
        &mut self,
        subscriber: &mut Subscriber,
        orders: &mut mpsc::Receiver<Order>,
    ) -> bool {
        let wait = self.next_tick().since(now());
        tokio::select! {
            delivery = subscriber.receive() => match delivery {
                Some(Delivery::Batch(batch)) => {
                    for message in batch.iter() {
                        self.message(message.from, message.payload).await;
                    }
                }
                Some(Delivery::Status(status)) => self.status(&status),
                None => return false,
            },
            Some(done) = next_done(&mut self.writing) => self.written(done),
            Some(order) = orders.recv() => self.order(order),
            () = tokio::time::sleep(wait) => self.tick().await,
        }
        self.carry_out().await;
        true
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
            for (id, name) in self.reach.all() {
                coordinator.reaches(id, name, true, now);
            }
        }
    }

    fn next_tick(&self) -> Mono {
        let own = match &self.coordinator {
            Some(coordinator) => coordinator.next_tick(),
            None if self.config.voter.is_some() => self.retry_at,
            None => Mono(u64::MAX),
        };
        own.min(self.ask_at).min(self.look_at)
    }

    async fn tick(&mut self) {
        self.look_for_missing();
        let now = now();
        match &mut self.coordinator {
            Some(coordinator) => coordinator.tick(now, wall()),
            None if self.config.voter.is_some() && now >= self.retry_at => self.begin().await,
            None => {}
        }
        if now >= self.look_at {
            self.look_at = now.after(LOOK_EVERY);
            self.look_who_is_away();
            self.look_at_fences(now).await;
        }
        if now >= self.ask_at {
            self.ask_at = now.after(ASK_EVERY);
            self.follow_own().await;
            if self.coordinator.is_none() {
                self.ask_all_for_view();
            }
        }
    }

    fn look_who_is_away(&mut self) {
        let voters = self.coordinator.as_ref().map(Coordinator::voters);
        let away = voters.into_iter().flatten().filter(|it| !it.is_present);
        self.away.look(away.map(|it| it.box_name).collect(), wall());
    }

    fn status(&mut self, status: &MeshStatus) {
        match status {
            MeshStatus::EndpointDiscovered(record) if !record.name.is_empty() => {
                self.reach.found(record.id, &record.name);
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.reaches(record.id, &record.name, true, now());
                }
            }
            MeshStatus::EndpointUnreachable(id) => {
                let now = now();
                if let Some(name) = self.reach.lost(*id, now)
                    && let Some(coordinator) = &mut self.coordinator
                {
                    coordinator.reaches(*id, name, false, now);
                }
            }
            _ => {}
        }
    }

    /// Who is in reach again, before anything else is concluded from it that somebody was not.
    fn look_for_missing(&mut self) {
        let now = now();
        let endpoint = &self.endpoint;
        for news in self.reach.look(|id| endpoint.mesh_reaches(id), now) {
            if let Some(coordinator) = &mut self.coordinator {
                coordinator.reaches(news.id, &news.name, news.is_reached, now);
            }
        }
    }

    async fn message(&mut self, from: EndpointId, payload: &[u8]) {
        self.look_for_missing();
        let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(payload)) else {
            return;
        };
        let Some(name) = self.reach.name(from).map(str::to_owned) else {
            return;
        };
        if event.name() == ViewUpdate::NAME {
            return self.view_told(&name, &event).await;
        }
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.receive(from, &name, &event, now());
        }
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
