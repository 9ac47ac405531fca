//! The processes of a layout: starts them, hears their reports, and carries out what the supervisor
//! decides.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use muster::wire::Mono;
use muster_cluster::Layout;
use muster_gateway::status::{
    ClusterStatus, NodeStatus, ProcessStatus, SILENT, SILENT_AFTER, VERSION,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};

use super::control::{Request, Response};
use super::supervisor::{Action, ProcessState, Supervisor};

/// What a node is told to stop in order.
pub(crate) const STOP: &str = "stop";

/// Reports and exits that wait for the fleet.
const EVENTS: usize = 1024;

/// How often time-outs are looked at.
const TICK: Duration = Duration::from_millis(100);

/// The end of a process log that an exit is explained with, in bytes.
const LOG_TAIL: u64 = 4096;

/// The file of the running program on Linux, even when another one has taken its place.
const OWN_IMAGE: &str = "/proc/self/exe";

/// One life of a node's process.
#[derive(Debug)]
struct Life {
    number: u64,
    pid: Option<u32>,
    stdin: Option<ChildStdin>,
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
}

/// All processes of a layout on this machine.
#[derive(Debug)]
pub(crate) struct Fleet {
    layout: Arc<Layout>,
    layout_file: PathBuf,
    directory: PathBuf,
    program: PathBuf,
    extra: Vec<String>,
    supervisor: Supervisor,
    lives: HashMap<String, Life>,
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
    /// The nodes of a layout, none started. `extra` is added to every node's command line.
    pub(crate) fn new(
        layout: Arc<Layout>,
        layout_file: PathBuf,
        directory: PathBuf,
        extra: Vec<String>,
    ) -> Self {
        let nodes = layout
            .nodes()
            .iter()
            .map(|node| (node.name.to_string(), node.role));
        let (sender, events) = mpsc::channel(EVENTS);
        Self {
            supervisor: Supervisor::new(nodes),
            layout,
            layout_file,
            directory,
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from(OWN_IMAGE)),
            extra,
            lives: HashMap::new(),
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
                    Response::Done
                }
                None => Response::Refused(format!("no node `{node}`, or the cluster is stopping")),
            },
        }
    }

    /// The state of every node.
    pub(crate) fn status(&self) -> ClusterStatus {
        let now = self.now();
        let node = |node: &muster_cluster::Node| {
            let name = node.name.to_string();
            let (state, restarts) = self
                .supervisor
                .get(&name)
                .unwrap_or((ProcessState::Ended, 0));
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
                report,
                report_age_seconds: age.map(|age| age.as_secs_f64()),
                node: name,
            }
        };
        ClusterStatus {
            version: VERSION,
            layout: self.layout.file().to_owned(),
            nodes: self.layout.nodes().iter().map(node).collect(),
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Spawn(name) => {
                    // What keeps one node from starting may pass, and is no reason to end the others.
                    if let Err(error) = self.spawn(&name) {
                        self.news
                            .push(News::Ended(name.clone(), Some(format!("{error:#}"))));
                        actions.extend(self.supervisor.exited(&name, self.now()));
                    }
                }
                Action::Stop(name) => {
                    if let Some(mut stdin) =
                        self.lives.get_mut(&name).and_then(|life| life.stdin.take())
                    {
                        tokio::spawn(async move {
                            let _ = stdin.write_all(format!("{STOP}\n").as_bytes()).await;
                            // The pipe stays open until the node has ended: its end means more haste.
                            tokio::time::sleep(super::supervisor::STOP_LIMIT).await;
                        });
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
        let log = open_log(&self.log_file(name))?;
        let mut child = Command::new(self.program())
            .arg("node")
            .arg(name)
            .arg("--layout")
            .arg(&self.layout_file)
            .arg("--supervised")
            .args(&self.extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for the supervisor: it stops the nodes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start node {name}"))?;
        let (kill, mut killed) = oneshot::channel();
        let stdout = child.stdout.take();
        let life = Life {
            number,
            pid: child.id(),
            stdin: child.stdin.take(),
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

    /// This very program: by its path, which processes are then shown with, or by its image if the
    /// path leads elsewhere by now, as after an upgrade.
    fn program(&self) -> &Path {
        let file = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let image = Path::new(OWN_IMAGE);
        match file(image) {
            Some(own) if file(&self.program) != Some(own) => image,
            _ => &self.program,
        }
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
        ended.stdin = None;
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
                let last = last_line(&self.log_file(name)).unwrap_or_default();
                Some(format!("{status}: {last}"))
            }
            Some(status) => Some(status.to_string()),
            None => Some("unknown".to_owned()),
        };
        self.news.push(News::Ended(name.to_owned(), reason));
        let actions = self.supervisor.exited(name, self.now());
        self.carry_out(actions);
    }

    /// Where a node's own words go.
    pub(crate) fn log_file(&self, name: &str) -> PathBuf {
        self.directory.join("nodes").join(format!("{name}.log"))
    }
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

fn open_log(path: &Path) -> Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The last line of a process log, which tells why the process ended.
fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))
        .ok()?;
    let mut tail = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let line = tail
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty() && !line.starts_with("hint:"))?;
    Some(line.to_owned())
}
