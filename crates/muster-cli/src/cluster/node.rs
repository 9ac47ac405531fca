//! `muster node`: one node of a layout.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use muster::{
    Certificates, Exposure, Input, InputBatch, InputSender, Node, NodeConfig, NodeState, Tls,
};
use muster_agent::{CertificateFiles, IdentityFiles, NodeSocket, Word, open_log};
use muster_cluster::{Origin, Settings, TlsMode};
use muster_frameworks::log_files::Reopener;
use muster_frameworks::log_input::{InputNote, MonotonicClock, ReadSoFar};
use muster_frameworks::{FileSink, LogFilesConfig, LogInput, LogInputConfig, Share};
use tokio::sync::oneshot;

use super::node_services::NodeServices;
use super::{Home, LoadedLayout, load_text, make_directories, read_layout, registry};
use crate::commands::{Execute, on_runtime};
use crate::log::{self, Speaker};
use crate::output::{Failure, MISCONFIGURED};
use crate::signals::{Asked, Signals};

/// Run one node of a layout
#[allow(clippy::struct_excessive_bools, reason = "they are flags")]
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The node's name in the layout
    pub(crate) name: String,
    /// Layout file
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
    /// Override a setting of the layout, such as `scan.threshold=20`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Allow listening without encryption on addresses other than loopback
    #[arg(long)]
    pub(crate) plaintext_anywhere: bool,
    /// Allow listening with anonymous TLS on addresses other than loopback
    #[arg(long)]
    pub(crate) anonymous_anywhere: bool,
    /// Report to an agent on this socket, and be told there to stop
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) socket: Option<PathBuf>,
    /// End when stdin does: with whoever started the node
    #[arg(long, hide = true)]
    pub(crate) tied: bool,
    /// Use the machine's standard directories, below this one
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Use the certificates of this box, unless the layout says which
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) identity: Option<PathBuf>,
    /// Report as often as the state is looked at: whoever kills the node wants to know what it had done
    #[arg(long, hide = true)]
    pub(crate) report_often: bool,
    /// Take the text of the layout from here, as the agent read it
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) layout_text: Option<PathBuf>,
    /// Where stderr goes: opened anew on request
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) process_log: Option<PathBuf>,
}

impl Execute for Arguments {
    const LOG_LEVEL: &'static str = "info";

    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

/// The directory of the spools of all nodes.
pub(super) const SPOOL: &str = "spool";

/// How often a node looks whether its state has changed: that is reported at once.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often a node reports to its agent in any case.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// How long an orderly stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How long the stop may take when whoever the node is tied to is gone.
const HASTY_LIMIT: Duration = Duration::from_secs(2);

/// Why a node stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    InOrder,
    /// Whoever the node is tied to is gone.
    TieGone,
    /// The node's loop has ended by itself, as after a failure of its own.
    LoopEnded,
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let loaded = loaded(arguments).map_err(misconfigured)?;
    let layout = &loaded.layout;
    let Some(node) = layout.find(&arguments.name).cloned() else {
        let names: Vec<&str> = layout
            .nodes()
            .iter()
            .map(|node| node.name.as_str())
            .collect();
        return Err(Failure::new(format!(
            "{} has no node `{}`",
            layout.file(),
            arguments.name
        ))
        .hint(format!("its nodes are {}", names.join(", ")))
        .code(MISCONFIGURED)
        .into());
    };
    let speaker = Speaker {
        node: Some(node.name.to_string()),
        // A node without a box is on one that is called by its address.
        box_name: Some(node.box_name.clone()).filter(|name| layout.boxes().contains_key(name)),
    };
    log::speak_as(speaker, node.settings.choice("log.format"));
    make_directories(&loaded.places)?;
    // Before anything is opened: one process has the node.
    let socket = arguments.socket.as_deref().map(NodeSocket::listen);
    let mut socket = socket
        .transpose()
        .map_err(|error| Failure::new(format!("node {}: {error}", arguments.name)))?;
    let sink = log_sink(&loaded, &node)?;
    let files = Files {
        logs: sink.reopener(),
        process_log: arguments.process_log.clone(),
    };
    let config = NodeConfig {
        layout: layout.clone(),
        name: arguments.name.clone(),
        registry: registry(),
        log_sink: Box::new(sink),
        input: input(&loaded, &node)?,
        tls: tls_of(&loaded, &node, arguments.identity.as_deref()),
        exposure: exposure(arguments.plaintext_anywhere, arguments.anonymous_anywhere),
        spool: Some(loaded.places.state.join(SPOOL).join(&arguments.name)),
        base: loaded.base.clone(),
    };
    let address = node.socket_address();
    let running = Node::start(config).await.map_err(|error| {
        let hint = match &error {
            muster::NodeStartError::Listen(muster::ListenError::Exposed { .. }) => {
                "use tls.mode = \"mutual\", or allow it with --anonymous-anywhere or --plaintext-anywhere"
            }
            muster::NodeStartError::Listen(_) => {
                "another process may be using the port; change `port` in the layout"
            }
            muster::NodeStartError::Store(_) => {
                "`[stores]` and `[store.\"NAME\"]` say where the store is; `failure_mode = \"DELETE\"` there replaces a damaged file"
            }
            _ => "`muster check` shows what the layout resolves to",
        };
        let code = match &error {
            muster::NodeStartError::Node(_)
            | muster::NodeStartError::Endpoint(_)
            | muster::NodeStartError::Listen(muster::ListenError::Exposed { .. }) => MISCONFIGURED,
            _ => 1,
        };
        Failure::new(format!(
            "node {} cannot start: {:#}",
            arguments.name,
            anyhow::Error::from(error)
        ))
        .hint(hint)
        .code(code)
    })?;
    tracing::info!("node {} ({}) listens on {address}", node.name, node.role);
    let services = NodeServices::open(&loaded, &node, &running).await?;
    if let Some(socket) = &socket {
        socket.tell_metrics_of(services.monitored(&node, &running));
    }
    let tie = arguments.tied.then(tie).transpose()?;
    let stop = until_stopped(
        &running,
        &services,
        &files,
        &mut socket,
        tie,
        arguments.report_often,
    )
    .await?;
    tracing::info!("stopping: {stop:?}");
    let limit = if stop == Stop::InOrder {
        STOP_LIMIT
    } else {
        HASTY_LIMIT
    };
    let totals = services.close(limit / 4).await;
    let report = running.stop(limit).await;
    if let Some(socket) = socket {
        socket.close(&totals.of(&report)).await;
    }
    if stop == Stop::LoopEnded {
        let message = format!("node {}: its loop has ended by itself", node.name);
        return Err(Failure::new(message)
            .hint("see the lines above for the reason")
            .into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a node may listen without authentication, by its options.
pub(super) fn exposure(plaintext_anywhere: bool, anonymous_anywhere: bool) -> Exposure {
    if plaintext_anywhere {
        Exposure::PlaintextAnywhere
    } else if anonymous_anywhere {
        Exposure::AnonymousAnywhere
    } else {
        Exposure::Guarded
    }
}

/// The node's TLS: what the layout says, or else the certificates that its box has for it.
fn tls_of(loaded: &LoadedLayout, node: &muster_cluster::Node, identity: Option<&Path>) -> Tls {
    let is_set = node.settings.origin("tls.mode") != Origin::Default;
    let Some(directory) = identity.filter(|_| !is_set) else {
        return tls(loaded, node);
    };
    let files = IdentityFiles::at(directory);
    let own = files.of_node(node.name.as_str());
    tls_of_box(&files, own)
}

/// The TLS of whoever has one of a box's certificates.
pub(super) fn tls_of_box(files: &IdentityFiles, own: CertificateFiles) -> Tls {
    Tls::Mutual(Certificates {
        cafile: Some(files.authorities()),
        capath: None,
        certificate: own.certificate,
        keyfile: own.key,
        passphrase: None,
    })
}

/// The node's TLS as the layout says.
pub(crate) fn tls(loaded: &LoadedLayout, node: &muster_cluster::Node) -> Tls {
    tls_by_settings(&node.settings, &loaded.base, node.name.as_str())
}

/// The TLS that settings say: paths are relative to `base`, `{node}` in them is `name`.
pub(super) fn tls_by_settings(settings: &Settings, base: &Path, name: &str) -> Tls {
    let text = |key: &str| settings.text(key);
    let path = |key: &str| base.join(text(key).replace("{node}", name));
    let optional = |key: &str| (!text(key).is_empty()).then(|| path(key));
    match settings.choice("tls.mode") {
        TlsMode::Off => Tls::Off,
        TlsMode::Anonymous => Tls::Anonymous,
        TlsMode::Mutual => Tls::Mutual(Certificates {
            cafile: optional("tls.ssl_cafile"),
            capath: optional("tls.ssl_capath"),
            certificate: path("tls.ssl_certificate"),
            keyfile: path("tls.ssl_keyfile"),
            passphrase: Some(text("tls.ssl_passphrase").to_owned()).filter(|text| !text.is_empty()),
        }),
    }
}

/// The files that a node has open and that others may move away.
struct Files {
    logs: Reopener,
    process_log: Option<PathBuf>,
}

impl Files {
    fn reopen(&self) {
        self.logs.reopen();
        let opened = self
            .process_log
            .as_deref()
            .map(|path| open_log(path).and_then(|file| Ok(rustix::stdio::dup2_stderr(&file)?)));
        if let Some(Err(error)) = opened {
            tracing::error!("cannot open the log file anew: {error:#}");
        } else {
            tracing::info!("opened the log files anew");
        }
    }
}

async fn until_stopped(
    node: &Node,
    services: &NodeServices,
    files: &Files,
    socket: &mut Option<NodeSocket>,
    tie: Option<oneshot::Receiver<()>>,
    often: bool,
) -> Result<Stop> {
    let mut signals = Signals::new()?;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut reporting = Reporting {
        often,
        ..Reporting::default()
    };
    let cut = async {
        match tie {
            Some(tie) => drop(tie.await),
            None => std::future::pending().await,
        }
    };
    tokio::pin!(cut);
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => return Ok(Stop::InOrder),
                Asked::Reopen => reopen(node, services, files),
            },
            word = word(socket) => match word {
                Word::Reopen => reopen(node, services, files),
                Word::Stop => return Ok(Stop::InOrder),
                Word::Certificates => reload_certificates(node, services),
            },
            () = &mut cut => return Ok(Stop::TieGone),
            _ = tick.tick() => {
                if !node.is_running() {
                    return Ok(Stop::LoopEnded);
                }
                if let Some(socket) = socket
                    && reporting.is_due(node.state(), socket.listeners())
                {
                    socket.report(|| services.status().of(&node.report()));
                }
            }
        }
    }
}

/// When the next report is due. A report is long, and most are of no use to anybody.
#[derive(Debug, Default)]
struct Reporting {
    often: bool,
    state: Option<NodeState>,
    listeners: usize,
    looks: u32,
}

impl Reporting {
    fn is_due(&mut self, state: NodeState, listeners: usize) -> bool {
        self.looks += 1;
        let is_time = self.often || LOOK_EVERY * self.looks >= REPORT_EVERY;
        let is_new = self.state != Some(state) || self.listeners < listeners;
        self.state = Some(state);
        self.listeners = listeners;
        if is_time || is_new {
            self.looks = 0;
        }
        is_time || is_new
    }
}

/// Uses the certificates that are in the node's files by now.
fn reload_certificates(node: &Node, services: &NodeServices) {
    services.reload_tls();
    match node.endpoint().reload_tls() {
        Ok(()) if !matches!(node.endpoint().config().tls, Tls::Mutual(_)) => {}
        Ok(()) => tracing::info!("uses its new certificate"),
        Err(error) => tracing::error!("goes on with its old certificate: {error:#}"),
    }
}

/// Opens anew what others may have put in the place of what is open.
fn reopen(node: &Node, services: &NodeServices, files: &Files) {
    files.reopen();
    reload_certificates(node, services);
}

/// Waits for the next word of an agent.
async fn word(socket: &mut Option<NodeSocket>) -> Word {
    match socket {
        Some(socket) => socket.word().await,
        None => std::future::pending().await,
    }
}

/// Tells when stdin has ended. A stop that has begun by then is to be a hasty one.
fn tie() -> Result<oneshot::Receiver<()>> {
    let (gone, tie) = oneshot::channel();
    std::thread::Builder::new()
        .name("tie".to_owned())
        .spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            if gone.send(()).is_err() {
                std::thread::sleep(HASTY_LIMIT);
                std::process::exit(1);
            }
        })?;
    Ok(tie)
}

/// The layout as the file has it, or as the agent read it.
fn loaded(arguments: &Arguments) -> Result<LoadedLayout> {
    let file = &arguments.layout;
    let text = read_layout(arguments.layout_text.as_ref().unwrap_or(file))?;
    let home = arguments.root.as_deref();
    let home = home.map_or(Home::Layout, Home::Standard);
    load_text(file, &text, &arguments.settings, home)
}

/// The failure of a node that would fail again.
fn misconfigured(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Failure>() {
        Ok(failure) => failure.code(MISCONFIGURED).into(),
        Err(error) => error,
    }
}

/// The log files of a logger.
fn log_sink(loaded: &LoadedLayout, node: &muster_cluster::Node) -> Result<FileSink> {
    let directory = loaded.places.logs.clone();
    let config = LogFilesConfig::from_settings(&loaded.layout, node, directory);
    Ok(FileSink::new(config).map_err(|error| Failure::new(error.to_string()))?)
}

/// The input of a worker: its log files, shared with the workers that are given the same ones.
fn input(loaded: &LoadedLayout, node: &muster_cluster::Node) -> Result<Option<Input>> {
    if node.input.is_empty() {
        return Ok(None);
    }
    let nodes = loaded.layout.nodes().iter();
    let sharers: Vec<_> = nodes.filter(|other| other.input == node.input).collect();
    let index = sharers
        .iter()
        .position(|other| other.name == node.name)
        .unwrap_or_default();
    let share = Share::new(u32::try_from(index)?, u32::try_from(sharers.len())?)?;
    let config = LogInputConfig {
        files: node
            .input
            .iter()
            .map(|pattern| loaded.base.join(pattern))
            .collect(),
        share,
        speed: node.settings.real("input.speed"),
        follow: node.settings.boolean("input.follow").then(|| {
            let name = format!("{}.positions.json", node.name);
            loaded.places.state.join(name)
        }),
    };
    if config.follow.is_some() && config.speed > 0.0 {
        tracing::warn!("input.speed is of no use to logs that are followed as they grow");
    }
    let input = LogInput::new(&config).map_err(|error| {
        Failure::new(format!("node {}: {error}", node.name))
            .hint("change input.speed in the layout")
            .code(MISCONFIGURED)
    })?;
    Ok(Some(Box::new(move |sender| read(input, sender))))
}

/// Reads to the end on the input's own thread.
fn read(input: LogInput, sender: InputSender) {
    let stop = sender.stop_flag();
    let hand_over = |batch: muster_frameworks::InputBatch| {
        let mut copy = InputBatch {
            low: Some(batch.low),
            ..InputBatch::default()
        };
        for note in &batch.notes {
            match note {
                InputNote::Problem(text) => tracing::error!("{text}"),
                InputNote::Warning(text) => tracing::warn!("{text}"),
            }
        }
        for event in batch.events().chain(batch.counted()) {
            let start = copy.buffer.len();
            copy.buffer.extend_from_slice(event);
            copy.events.push(start..copy.buffer.len());
        }
        match sender.send(copy) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    // A crash must not cost what was read and has not arrived: rows come again rather than be lost.
    let keep = |read: ReadSoFar| sender.note(Box::new(|| read.write()));
    let summary = input.run_keeping(&MonotonicClock::new(), &stop, hand_over, keep);
    sender.finish(format!(
        "{} rows: {} events, {} of other workers, {} without a connection, {} unreadable; {} with a time out of line; {} files failed",
        summary.rows,
        summary.events,
        summary.other_share,
        summary.skipped,
        summary.bad_rows,
        summary.out_of_line,
        summary.failed_files
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_due_every_second_and_when_there_is_news() {
        let mut reporting = Reporting::default();
        let mut due = |state, listeners| reporting.is_due(state, listeners);
        assert!(due(NodeState::Starting, 1));
        let quiet: Vec<bool> = (0..8).map(|_| due(NodeState::Starting, 1)).collect();
        assert_eq!(
            quiet,
            [false, false, false, true, false, false, false, true]
        );
        assert!(due(NodeState::Ready, 1));
        assert!(due(NodeState::Ready, 2), "for somebody new");
        assert!(!due(NodeState::Ready, 1), "somebody went");
        let mut often = Reporting {
            often: true,
            ..Reporting::default()
        };
        assert!((0..4).all(|_| often.is_due(NodeState::Ready, 1)));
    }
}
