//! The processes of a layout: starts them, hears their reports, and carries out what the supervisor
//! decides.

mod launch;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use muster::wire::Mono;
use muster_gateway::status::{
    ClusterStatus, ELSEWHERE, NodeStatus, ProcessStatus, SILENT, SILENT_AFTER, VERSION,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStdin;
use tokio::sync::{mpsc, oneshot};

use self::launch::Launcher;
pub(super) use self::launch::open_log;
use super::LoadedLayout;
use super::control::{Request, Response};
use super::supervisor::{Action, End, ProcessState, Supervisor};
use crate::output::MISCONFIGURED;

/// What a node is told to stop in order.
pub(crate) const STOP: &str = "stop";

/// Reports and exits that wait for the fleet.
const EVENTS: usize = 1024;

/// Words that wait for a node.
const WORDS: usize = 16;

/// How often time-outs are looked at.
const TICK: Duration = Duration::from_millis(100);

/// What a node is told to open its files anew.
pub(crate) const REOPEN: &str = "reopen";

/// One life of a node's process.
#[derive(Debug)]
struct Life {
    number: u64,
    pid: Option<u32>,
    /// What the node is told. Its end is the end of the node.
    words: Option<mpsc::Sender<&'static str>>,
    kill: Option<oneshot::Sender<()>>,
    report: Option<NodeStatus>,
    /// When that came.
    reported: Option<Mono>,
}

/// A finished life, with its last report.
#[derive(Debug, Clone)]
pub(crate) struct PastLife {
    pub(crate) node: String,
    pub(crate) report: NodeStatus,
}

/// What happened to a process.
#[derive(Debug)]
enum Event {
    Report(String, u64, Box<NodeStatus>),
    Exited(String, u64, Option<ExitStatus>),
}

/// Something that the caller may want to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    Started(String),
    /// With the reason, unless it was asked to.
    Ended(String, Option<String>),
    /// Something about all of them.
    Note(String),
}

/// All processes of a layout on this machine.
#[derive(Debug)]
pub(crate) struct Fleet {
    layout: LoadedLayout,
    launcher: Launcher,
    supervisor: Supervisor,
    lives: HashMap<String, Life>,
    /// Why the last life of a node ended, unless it was asked to.
    reasons: HashMap<String, String>,
    past: Vec<PastLife>,
    keep_past: bool,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    requests: Option<mpsc::Receiver<(Request, oneshot::Sender<Response>)>>,
    news: Vec<News>,
    next_life: u64,
    start: Instant,
}

impl Fleet {
    /// The nodes of a layout that are on this machine, none started. `settings` are added to every node's command line, as
    /// is `extra`.
    pub(crate) fn new(
        layout: LoadedLayout,
        layout_file: PathBuf,
        settings: &[String],
        extra: Vec<String>,
    ) -> Self {
        let nodes = layout.layout.nodes().iter();
        let here = nodes.filter(|node| is_of_this_machine(node.address));
        let supervisor = Supervisor::new(here.map(|node| (node.name.to_string(), node.role)));
        let (sender, events) = mpsc::channel(EVENTS);
        Self {
            supervisor,
            launcher: Launcher::new(layout_file, layout.directory.clone(), settings, extra),
            layout,
            lives: HashMap::new(),
            reasons: HashMap::new(),
            past: Vec::new(),
            keep_past: false,
            events,
            sender,
            requests: None,
            news: Vec::new(),
            next_life: 0,
            start: Instant::now(),
        }
    }

    /// The nodes that are left to other machines, with their addresses.
    pub(crate) fn elsewhere(&self) -> Vec<String> {
        let nodes = self.layout.layout.nodes().iter();
        let others = nodes.filter(|node| self.supervisor.get(node.name.as_str()).is_none());
        let others = others.map(|node| format!("{} ({})", node.name, node.address));
        others.collect()
    }

    /// Whether no node of this machine can be configured.
    pub(crate) fn has_failed(&self) -> bool {
        self.supervisor.has_failed()
    }

    /// Has every node open its files anew.
    pub(crate) fn reopen(&mut self) {
        for life in self.lives.values_mut() {
            life.tell(REOPEN);
        }
    }

    /// Keeps the last report of every finished life.
    pub(crate) fn keep_past_lives(mut self) -> Self {
        self.keep_past = true;
        self
    }

    /// Answers requests from the cluster's control socket.
    pub(crate) fn serve(&mut self, requests: mpsc::Receiver<(Request, oneshot::Sender<Response>)>) {
        self.requests = Some(requests);
    }

    fn now(&self) -> Mono {
        Mono::default().after(self.start.elapsed())
    }

    /// Starts every node.
    pub(crate) fn start_all(&mut self) {
        let actions = self.supervisor.start(self.now());
        self.carry_out(actions);
    }

    /// Begins to stop every node in order.
    pub(crate) fn stop(&mut self) {
        let actions = self.supervisor.stop(self.now());
        self.carry_out(actions);
    }

    /// Kills whatever is left, and says what that was.
    pub(crate) fn kill_all(&mut self) -> Vec<String> {
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
    pub(crate) fn hold(&mut self, name: &str) {
        let actions = self.supervisor.hold(name);
        self.carry_out(actions);
    }

    /// Starts a held node.
    pub(crate) fn release(&mut self, name: &str) {
        let actions = self.supervisor.release(name, self.now());
        self.carry_out(actions);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.supervisor.is_stopping()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.supervisor.is_done()
    }

    /// The lives that have ended.
    pub(crate) fn past_lives(&self) -> &[PastLife] {
        &self.past
    }

    /// What a node's present life reported last; nothing while it has no process.
    pub(crate) fn report(&self, name: &str) -> Option<&NodeStatus> {
        self.lives
            .get(name)
            .filter(|life| life.pid.is_some())?
            .report
            .as_ref()
    }

    /// What has happened since the last call.
    pub(crate) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Waits for the next event, request or tick, and deals with it.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            event = self.events.recv() => match event {
                Some(Event::Report(name, life, report)) => {
                    let now = self.now();
                    if let Some(known) = self.lives.get_mut(&name).filter(|known| known.number == life) {
                        known.report = Some(*report);
                        known.reported = Some(now);
                    }
                }
                Some(Event::Exited(name, life, status)) => self.exited(&name, life, status),
                None => {}
            },
            request = receive(&mut self.requests) => {
                if let Some((request, answer)) = request {
                    let response = self.request(&request);
                    let _ = answer.send(response);
                }
            }
            () = tokio::time::sleep(TICK) => {}
        }
        let actions = self.supervisor.tick(self.now());
        self.carry_out(actions);
    }

    fn request(&mut self, request: &Request) -> Response {
        match request {
            Request::Status => Response::Status(self.status()),
            Request::Stop => {
                self.stop();
                Response::Done
            }
            Request::Restart { node } => match self.supervisor.restart(node, self.now()) {
                Some(actions) => {
                    self.carry_out(actions);
                    match self.launcher.note() {
                        Some(note) => Response::Noted(note),
                        None => Response::Done,
                    }
                }
                None => Response::Refused(format!(
                    "no node `{node}` on this machine, or the cluster is stopping"
                )),
            },
        }
    }

    /// The state of every node.
    pub(crate) fn status(&self) -> ClusterStatus {
        let now = self.now();
        let node = |node: &muster_cluster::Node| {
            let name = node.name.to_string();
            let Some((state, restarts)) = self.supervisor.get(&name) else {
                return ProcessStatus {
                    node: name,
                    role: node.role.to_string(),
                    process: ELSEWHERE.to_owned(),
                    ..ProcessStatus::default()
                };
            };
            let life = self.lives.get(&name);
            let running = matches!(state, ProcessState::Running { .. });
            let mut report = life.and_then(|life| life.report.clone());
            let came = life.filter(|_| running).and_then(|life| life.reported);
            let age = report
                .as_ref()
                .zip(came)
                .map(|(report, came)| report.age_after(now.since(came)));
            if let Some(report) = report.as_mut().filter(|_| age > Some(SILENT_AFTER)) {
                SILENT.clone_into(&mut report.state);
            }
            ProcessStatus {
                role: node.role.to_string(),
                process: state.name().to_owned(),
                pid: life.and_then(|life| life.pid),
                uptime_seconds: match state {
                    ProcessState::Running { since } => Some(now.since(since).as_secs_f64()),
                    _ => None,
                },
                restarts,
                reason: self.reasons.get(&name).cloned(),
                report,
                report_age_seconds: age.map(|age| age.as_secs_f64()),
                node: name,
            }
        };
        ClusterStatus {
            version: VERSION,
            layout: self.layout.layout.file().to_owned(),
            nodes: self.layout.layout.nodes().iter().map(node).collect(),
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Spawn(name) => {
                    // What keeps one node from starting may pass, and is no reason to end the others.
                    if let Err(error) = self.spawn(&name) {
                        self.ended(&name, Some(format!("{error:#}")));
                        let now = self.now();
                        actions.extend(self.supervisor.exited(&name, End::MayPass, now));
                    }
                }
                Action::Stop(name) => {
                    if let Some(life) = self.lives.get_mut(&name) {
                        // The pipe stays open until the node has ended: its end means more haste.
                        life.tell(STOP);
                    }
                }
                Action::Kill(name) => {
                    if let Some(kill) = self.lives.get_mut(&name).and_then(|life| life.kill.take())
                    {
                        let _ = kill.send(());
                    }
                }
            }
        }
    }

    fn spawn(&mut self, name: &str) -> Result<()> {
        self.next_life += 1;
        let number = self.next_life;
        let launch = self.launcher.command(name);
        self.news.extend(self.launcher.take_news());
        let mut child = launch?
            .spawn()
            .with_context(|| format!("cannot start node {name}"))?;
        let (kill, mut killed) = oneshot::channel();
        let stdout = child.stdout.take();
        let life = Life {
            number,
            pid: child.id(),
            words: child.stdin.take().map(speak),
            kill: Some(kill),
            report: None,
            reported: None,
        };
        self.lives.insert(name.to_owned(), life);
        self.news.push(News::Started(name.to_owned()));
        let (events, node) = (self.sender.clone(), name.to_owned());
        tokio::spawn(async move {
            let reports = read_reports(stdout, &node, number, &events);
            let status = tokio::select! {
                status = async { reports.await; child.wait().await } => status,
                _ = &mut killed => {
                    let _ = child.start_kill();
                    child.wait().await
                }
            };
            let _ = events.send(Event::Exited(node, number, status.ok())).await;
        });
        Ok(())
    }

    fn exited(&mut self, name: &str, life: u64, status: Option<ExitStatus>) {
        let Some(ended) = self
            .lives
            .get_mut(name)
            .filter(|known| known.number == life)
        else {
            return;
        };
        ended.pid = None;
        ended.words = None;
        let in_order = status.is_some_and(|status| status.success());
        if let (true, Some(report)) = (self.keep_past, ended.report.clone()) {
            self.past.push(PastLife {
                node: name.to_owned(),
                report,
            });
        }
        let reason = match status {
            _ if in_order => None,
            // A process that ended by itself has said why; one that was killed had no time to.
            Some(status) if status.code().is_some() => {
                let last = self.launcher.last_line(name).unwrap_or_default();
                Some(format!("{status}: {last}"))
            }
            Some(status) => Some(status.to_string()),
            None => Some("unknown".to_owned()),
        };
        self.ended(name, reason);
        let code = status.and_then(|status| status.code());
        let end = match code {
            Some(code) if code == i32::from(MISCONFIGURED) => End::Misconfigured,
            _ => End::MayPass,
        };
        let actions = self.supervisor.exited(name, end, self.now());
        self.carry_out(actions);
    }

    fn ended(&mut self, name: &str, reason: Option<String>) {
        match &reason {
            Some(reason) => self.reasons.insert(name.to_owned(), reason.clone()),
            None => self.reasons.remove(name),
        };
        self.news.push(News::Ended(name.to_owned(), reason));
    }

    /// Where a node's own words go.
    pub(crate) fn log_file(&self, name: &str) -> PathBuf {
        self.launcher.log_file(name)
    }
}

impl Life {
    /// Tells the node a word.
    fn tell(&mut self, word: &'static str) {
        if let Some(words) = &self.words {
            // A node that takes nothing has heard enough.
            let _ = words.try_send(word);
        }
    }
}

/// Writes words to a node, a line each, until there are no more.
fn speak(mut stdin: ChildStdin) -> mpsc::Sender<&'static str> {
    let (sender, mut words) = mpsc::channel::<&'static str>(WORDS);
    tokio::spawn(async move {
        while let Some(word) = words.recv().await {
            let _ = stdin.write_all(format!("{word}\n").as_bytes()).await;
        }
    });
    sender
}

/// Whether an address is this machine's: one that it can be reached at, or the unspecified one.
pub(super) fn is_of_this_machine(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

async fn receive<T>(requests: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match requests {
        Some(requests) => requests.recv().await,
        None => std::future::pending().await,
    }
}

async fn read_reports(
    stdout: Option<tokio::process::ChildStdout>,
    node: &str,
    life: u64,
    events: &mpsc::Sender<Event>,
) {
    let Some(stdout) = stdout else { return };
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(report) = serde_json::from_str(&line) {
            let _ = events
                .send(Event::Report(node.to_owned(), life, Box::new(report)))
                .await;
        }
    }
}
