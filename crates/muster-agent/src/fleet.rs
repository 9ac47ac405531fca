//! The processes of a box: starts or finds them, hears their reports, and carries out what the supervisor decides.

mod lives;
mod running;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_cluster::Role;
use muster_gateway::status::NodeStatus;
use muster_wire::Mono;
use tokio::sync::mpsc;

use crate::api::{Change, Command, Refusal, Request, Response};
use crate::boxes::Renewed;
use crate::journal::{EventKind, Journal, now};
use crate::launch::{Launch, Launcher, Lives};
use crate::life::{Happening, Life, LifeId};
use crate::node_socket::{Report, Word};
use crate::place::Places;
use crate::process;
use crate::record::{self, NodeRecord, Record};
use crate::supervisor::{Action, Supervisor, Unable};

pub use self::running::running_nodes;

/// Reports and ends that wait for the fleet.
const HAPPENINGS: usize = 1024;

/// How long the fleet waits at most for something to happen: whoever supervises it wants to see it turn.
const TICK: Duration = Duration::from_secs(1);

/// A node of the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedNode {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Whether it is on this machine.
    pub is_here: bool,
}

/// What a fleet has to run, and how.
#[derive(Debug)]
pub struct FleetConfig {
    /// The layout's file, as people call it.
    pub layout: String,
    /// The cluster's name, if it has one.
    pub cluster: Option<String>,
    /// The layout's nodes, those of other machines included.
    pub nodes: Vec<PlannedNode>,
    /// Where files are.
    pub places: Places,
    /// How nodes are started.
    pub launch: Launch,
    /// Whether the last report of each finished life is kept.
    pub keep_past_lives: bool,
}

/// A finished life, with its last report.
#[derive(Debug, Clone)]
pub struct PastLife {
    /// The node.
    pub node: String,
    /// What it reported last.
    pub report: NodeStatus,
}

/// Something that the caller may want to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A node's process was started.
    Started(String),
    /// A node's process was found running.
    Adopted(String),
    /// A process has ended, with the reason unless it was asked to.
    Ended(String, Option<String>),
    /// Something about all of them.
    Note(String),
}

/// All processes of a layout on this machine.
#[derive(Debug)]
pub struct Fleet {
    layout: String,
    cluster: Option<String>,
    nodes: Vec<PlannedNode>,
    places: Places,
    launcher: Launcher,
    supervisor: Supervisor,
    lives: HashMap<String, Life>,
    /// Why the last life of a node ended, unless it was asked to.
    reasons: HashMap<String, String>,
    past: Vec<PastLife>,
    keep_past: bool,
    happenings: mpsc::Receiver<(LifeId, Happening)>,
    sender: mpsc::Sender<(LifeId, Happening)>,
    commands: Option<mpsc::Receiver<Command>>,
    journal: Option<Arc<Journal>>,
    record: Record,
    news: Vec<News>,
    next_life: u64,
    start: Instant,
    started: f64,
    is_reloading: bool,
    certificates: Certificates,
}

/// Whether the nodes' certificates are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certificates {
    /// They are, or none are needed.
    There,
    /// They are waited for.
    Awaited,
    /// They are waited for, and so are the nodes.
    NodesWait,
}

impl Fleet {
    /// Returns a fleet of which nothing runs yet.
    pub fn new(config: FleetConfig) -> Self {
        let here = config.nodes.iter().filter(|node| node.is_here);
        let supervisor = Supervisor::new(here.map(|node| (node.name.clone(), node.role)));
        let (sender, happenings) = mpsc::channel(HAPPENINGS);
        Self {
            supervisor,
            launcher: Launcher::new(config.launch, config.places.clone()),
            layout: config.layout,
            cluster: config.cluster,
            nodes: config.nodes,
            places: config.places,
            lives: HashMap::new(),
            reasons: HashMap::new(),
            past: Vec::new(),
            keep_past: config.keep_past_lives,
            happenings,
            sender,
            commands: None,
            journal: None,
            record: Record::default(),
            news: Vec::new(),
            next_life: 0,
            start: Instant::now(),
            started: now(),
            is_reloading: false,
            certificates: Certificates::There,
        }
    }

    /// Has nodes wait until somebody says that their certificates are there.
    pub(crate) fn wait_for_certificates(&mut self) {
        self.certificates = Certificates::Awaited;
    }

    /// The certificates are there; nodes whose own are new are told.
    fn certified(&mut self, renewed: &[Renewed]) {
        let before = std::mem::replace(&mut self.certificates, Certificates::There);
        if before == Certificates::NodesWait {
            self.start_all();
        }
        for certificate in renewed {
            let (node, text) = match certificate {
                Renewed::Box => (None, "the box has a new certificate"),
                Renewed::Node(node) => (Some(node.as_str()), "has a new certificate"),
            };
            self.note(EventKind::Certificate, node, text);
            if let Some(life) = node.and_then(|node| self.lives.get(node)) {
                life.tell(Word::Certificates);
            }
        }
    }

    /// Returns whether no node of this machine can be configured.
    pub fn has_failed(&self) -> bool {
        self.supervisor.has_failed()
    }

    /// Has every node open its files anew.
    pub fn reopen(&mut self) {
        for life in self.lives.values_mut() {
            life.tell(Word::Reopen);
        }
    }

    /// Answers what is asked of an API.
    pub(crate) fn serve(&mut self, commands: mpsc::Receiver<Command>, journal: Arc<Journal>) {
        self.commands = Some(commands);
        journal.note(
            EventKind::AgentStarted,
            None,
            format!(
                "the agent runs as process {}, version {}",
                std::process::id(),
                env!("CARGO_PKG_VERSION")
            ),
        );
        self.journal = Some(journal);
    }

    fn now(&self) -> Mono {
        Mono::default().after(self.start.elapsed())
    }

    fn note(&self, kind: EventKind, node: Option<&str>, text: impl Into<String>) {
        if let Some(journal) = &self.journal {
            journal.note(kind, node, text);
        }
    }

    /// Starts every node, or finds its process: an agent before this one may have left it. What runs of nodes that are no
    /// longer in the layout is stopped.
    pub fn start_all(&mut self) {
        if self.certificates != Certificates::There {
            self.certificates = Certificates::NodesWait;
            return;
        }
        process::reap();
        self.record = Record::read(&record::path(&self.places));
        for (name, known) in &self.record.nodes {
            self.supervisor.recall(name, known.restarts, known.is_held);
            if let Some(reason) = &known.reason {
                self.reasons.insert(name.clone(), reason.clone());
            }
        }
        let mut actions = Vec::new();
        let held = self.record.nodes.iter().filter(|(_, known)| known.is_held);
        let held: Vec<String> = held.map(|(name, _)| name.clone()).collect();
        for name in held {
            if let Ok(true) = self.adopt(&name) {
                actions.extend(self.supervisor.found_held(&name, self.now()));
            }
        }
        self.stop_strangers();
        actions.extend(self.supervisor.start(self.now()));
        self.carry_out(actions);
    }

    /// Finds the processes of nodes that run, and starts none. Returns the nodes' names.
    pub fn adopt_running(&mut self) -> Vec<String> {
        let names = running_nodes(&self.places);
        let now = self.now();
        let found = names.into_iter().filter(|name| {
            let is_known = self.supervisor.get(name).is_some();
            let is_adopted = is_known && self.adopt(name).unwrap_or_default();
            if is_adopted {
                self.supervisor.found(name, now);
            }
            is_adopted
        });
        found.collect()
    }

    /// Returns whether another program is on disk by now than the one that this process runs.
    pub fn is_outdated(&self) -> bool {
        process::is_outdated(std::process::id(), self.launcher.own_program())
    }

    fn tell_note(&mut self, note: String) {
        self.note(EventKind::Note, None, note.clone());
        self.news.push(News::Note(note));
    }

    /// Begins to stop every node in order.
    pub fn stop(&mut self) {
        let actions = self.supervisor.stop(self.now());
        self.carry_out(actions);
    }

    /// Kills whatever is left, and returns what that was.
    pub fn kill_all(&mut self) -> Vec<String> {
        let actions = self.supervisor.kill_all();
        let names = actions.iter().filter_map(|action| match action {
            Action::Kill(name) => Some(name.clone()),
            _ => None,
        });
        let names = names.collect();
        self.carry_out(actions);
        names
    }

    /// Kills a node hard and keeps it down.
    pub fn hold(&mut self, name: &str) {
        let actions = self.supervisor.hold(name);
        self.carry_out(actions);
    }

    /// Starts a held node.
    pub fn release(&mut self, name: &str) {
        if let Ok(actions) = self.supervisor.start_one(name, self.now()) {
            self.carry_out(actions);
        }
    }

    /// Returns whether the nodes are being stopped, or have been.
    pub fn is_stopping(&self) -> bool {
        self.supervisor.is_stopping()
    }

    /// Returns whether all nodes were stopped and none is left.
    pub fn is_done(&self) -> bool {
        self.supervisor.is_done()
    }

    /// Returns whether somebody has asked this process to replace its program.
    pub fn is_reloading(&self) -> bool {
        self.is_reloading
    }

    /// Asks for that.
    ///
    /// # Errors
    ///
    /// Refuses if the nodes are tied to this process or are being stopped, and if the layout has errors.
    pub fn reload(&mut self) -> Result<(), Refusal> {
        if self.launcher.lives() == Lives::Tied {
            let text = "the nodes are tied to this process, and would end with its program";
            return Err(Refusal::conflict(text));
        }
        if self.is_stopping() {
            return Err(Refusal::conflict("the nodes are being stopped"));
        }
        // The next one would have to end, and nobody would look after the nodes.
        self.launcher.read_layout().map_err(|problem| {
            Refusal::conflict(format!(
                "the next agent could not use the layout: {problem}"
            ))
        })?;
        self.is_reloading = true;
        self.note(
            EventKind::AgentReloaded,
            None,
            "the agent replaces its program",
        );
        Ok(())
    }

    /// The lives that have ended.
    pub fn past_lives(&self) -> &[PastLife] {
        &self.past
    }

    /// What a node's present life reported last; nothing while it has no process.
    pub fn report(&self, name: &str) -> Option<NodeStatus> {
        let life = self.lives.get(name).filter(|life| life.pid.is_some())?;
        life.report.as_ref()?.read()
    }

    /// What has happened since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Waits for the next event, request or tick, and deals with it.
    pub async fn next(&mut self) {
        let due = self.supervisor.next_tick();
        let pause = due.map_or(TICK, |due| due.since(self.now()).min(TICK));
        tokio::select! {
            happening = self.happenings.recv() => match happening {
                Some((id, Happening::Report(report))) => self.reported(&id, report),
                Some((id, Happening::Ended(ended))) => self.exited(&id, ended),
                None => {}
            },
            command = receive(&mut self.commands) => {
                if let Some(command) = command {
                    let response = self.request(&command.request);
                    let _ = command.answer.send(response);
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
        let actions = self.supervisor.tick(self.now());
        self.carry_out(actions);
    }

    fn reported(&mut self, id: &LifeId, report: Report) {
        let now = self.now();
        let life = self.lives.get_mut(&id.node);
        let Some(life) = life.filter(|life| life.number == id.number) else {
            return;
        };
        let before = life.report.as_ref().map(|before| &before.state);
        let state = (before != Some(&report.state)).then(|| report.state.clone());
        life.report = Some(report);
        life.reported = Some(now);
        if let Some(state) = state {
            self.note(EventKind::NodeState, Some(&id.node), state);
        }
    }

    fn request(&mut self, request: &Request) -> Result<Response, Refusal> {
        match request {
            Request::Status => Ok(Response::Status(Box::new(self.status()))),
            Request::Certified(renewed) => {
                self.certified(renewed);
                Ok(Response::Done)
            }
            Request::Change(change) => self.change(change),
        }
    }

    fn change(&mut self, change: &Change) -> Result<Response, Refusal> {
        let now = self.now();
        let (node, actions) = match change {
            Change::StopAll => {
                self.stop();
                return Ok(Response::Done);
            }
            Change::Reopen => {
                self.reopen();
                return Ok(Response::Done);
            }
            Change::Reload => return self.reload().map(|()| Response::Done),
            Change::Restart(node) => (node, self.supervisor.restart(node, now)),
            Change::Stop(node) => (node, self.supervisor.stop_one(node, now)),
            Change::Start(node) => (node, self.supervisor.start_one(node, now)),
        };
        let actions = actions.map_err(|unable| match unable {
            Unable::Unknown => Refusal::unknown(format!("no node `{node}` on this machine")),
            Unable::Stopping => Refusal::conflict("the nodes are being stopped"),
        })?;
        self.carry_out(actions);
        self.keep_record();
        let note = match change {
            Change::Stop(_) => None,
            _ => self.launcher.note(),
        };
        Ok(note.map_or(Response::Done, Response::Noted))
    }

    /// Writes down what the next agent should know, if it has changed.
    fn keep_record(&mut self) {
        let here = self.nodes.iter().filter(|node| node.is_here);
        let nodes: BTreeMap<String, NodeRecord> = here
            .filter_map(|node| {
                let (state, restarts) = self.supervisor.get(&node.name)?;
                let is_held = state.is_held();
                let reason = self.reasons.get(&node.name).cloned();
                let known = NodeRecord {
                    restarts,
                    is_held,
                    reason,
                };
                (known != NodeRecord::default()).then(|| (node.name.clone(), known))
            })
            .collect();
        let record = Record { nodes };
        if record == self.record {
            return;
        }
        let path = record::path(&self.places);
        match record.write(&path) {
            Ok(()) => self.record = record,
            Err(error) => tracing::error!("cannot write {}: {error}", path.display()),
        }
    }

    /// Where a node's own words go.
    pub fn process_log(&self, name: &str) -> PathBuf {
        self.places.process_log(name)
    }

    /// Tells the journal that this agent ends.
    pub fn say_goodbye(&self) {
        self.note(EventKind::AgentStopped, None, "the agent ends");
    }

    /// The program that takes the place of this one on a [reload](Fleet::reload).
    pub fn program(&self) -> PathBuf {
        self.launcher.own_program().to_owned()
    }
}

async fn receive<T>(requests: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match requests {
        Some(requests) => requests.recv().await,
        None => std::future::pending().await,
    }
}
