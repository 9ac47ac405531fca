//! `muster demo`: a whole cluster on this machine replays bundled logs of real traffic, loses two
//! nodes halfway, and accounts for everything.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use muster::Exposure;
use muster_agent::{Access, Api, Fleet, Lives, News};
use muster_frameworks::{log_files, sample};
use muster_gateway::status::{InputStatus, NodeStatus};
use muster_measure::free_ports;

use super::ledger::{Account, LifeReport};
use super::load;
use super::supervise::Job;
use crate::arguments::Format;
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, print, say};
use crate::signals::{Asked, Signals};

/// Run a cluster on bundled logs of real traffic, kill two nodes, and account for every message
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Directory for logs and other files, which is kept [default: a new temporary directory]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Replay this many times faster than real time; 0 replays as fast as possible
    #[arg(long, default_value_t = 60.0)]
    pub(crate) speed: f64,
    /// Output format of the summary
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Do not kill any nodes
    #[arg(long)]
    pub(crate) no_kill: bool,
    /// Override a setting of the layout, such as `scan.threshold=20`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

/// The cluster: name and role of each node.
const NODES: [(&str, &str); 8] = [
    ("manager", "manager"),
    ("logger-1", "logger"),
    ("logger-2", "logger"),
    ("data-1", "data"),
    ("data-2", "data"),
    ("worker-1", "worker"),
    ("worker-2", "worker"),
    ("worker-3", "worker"),
];

/// The nodes that are killed.
const KILLED: [&str; 2] = ["data-1", "logger-1"];

/// The event time that the sample spans, in seconds.
const SPAN_SECONDS: u32 = 1270;

/// The parts of the replay at which nodes are killed and come back.
const KILL_AT: f64 = 0.5;
const RETURN_AT: f64 = 0.7;

/// How long the nodes may go on working after the last input has ended.
const SETTLE: Duration = Duration::from_millis(1500);

/// How much longer than its pace the replay may take before it is stopped.
const PATIENCE: Duration = Duration::from_secs(30);

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !(arguments.speed.is_finite() && arguments.speed >= 0.0) {
        return Err(Failure::new(
            "--speed must be a multiple of real time, or 0 for as fast as possible",
        )
        .into());
    }
    let directory = directory(arguments)?;
    let layout_file = write_files(&directory, arguments.speed)?;
    let loaded = load(&layout_file, &arguments.settings)?;
    let job = Job {
        loaded: loaded.clone(),
        layout_file: layout_file.clone(),
        settings: arguments.settings.clone(),
        arguments: vec!["--report-often".to_owned()],
        root: None,
        // Nobody would look for the nodes of a demonstration.
        lives: Lives::Tied,
        own_box: None,
        exposure: Exposure::default(),
    };
    let mut config = job.fleet();
    config.keep_past_lives = true;
    let mut fleet = Fleet::new(config);
    let _api = Api::open(&loaded.places, Access::Owner, &mut fleet, None, None).await?;
    say(&format!(
        "8 nodes replay {} minutes of logs of real traffic{}; files are in {}",
        SPAN_SECONDS / 60,
        if arguments.speed > 0.0 {
            format!(" at {} times real time", arguments.speed)
        } else {
            String::new()
        },
        directory.display()
    ));
    let started = Instant::now();
    let screen = Screen::new();
    let whole = replay(&mut fleet, arguments, &screen).await?;
    screen.end();
    let account = settle(&fleet, &loaded.places.logs, &directory, started)?;
    match arguments.format {
        Format::Text => print(&summary(&account, &layout_file))?,
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&account)?))?,
    }
    if whole {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new("the replay did not finish").hint(format!(
        "see the nodes' own logs in {}",
        loaded.places.state.display()
    )))?
}

fn directory(arguments: &Arguments) -> Result<PathBuf> {
    let directory = if let Some(directory) = &arguments.dir {
        directory.clone()
    } else {
        let mut bytes = [0u8; 4];
        getrandom::fill(&mut bytes)
            .map_err(|error| anyhow::anyhow!("cannot get random numbers: {error}"))?;
        std::env::temp_dir().join(format!("muster-demo-{:08x}", u32::from_be_bytes(bytes)))
    };
    let directory = std::path::absolute(directory)?;
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    if std::fs::read_dir(&directory)?.next().is_some() {
        return Err(
            Failure::new(format!("{} is not empty", directory.display()))
                .hint("use --dir to name a new directory")
                .into(),
        );
    }
    Ok(directory)
}

/// Unpacks the sample and writes the layout.
fn write_files(directory: &Path, speed: f64) -> Result<PathBuf> {
    let copies = directory.join("sample");
    std::fs::create_dir_all(&copies)?;
    for (name, bytes) in sample::FILES {
        std::fs::write(copies.join(name), bytes).with_context(|| format!("cannot write {name}"))?;
    }
    std::fs::write(copies.join("README.md"), sample::README)?;
    let mut layout = format!(
        "# A cluster on one machine, as `muster demo` runs it.\nlayout = 1\ndirectory = \"logs\"\n\n[input]\nspeed = {speed:?}\n"
    );
    // Somebody else may take one before its node does: then the node says so and is started again.
    let ports = free_ports(NODES.len()).context("cannot find free ports")?;
    for ((name, role), port) in NODES.into_iter().zip(ports) {
        let _ = writeln!(
            layout,
            "\n[[node]]\nname = \"{name}\"\nrole = \"{role}\"\nport = {port}"
        );
        if role == "worker" {
            layout.push_str("input = [\"sample/*.gz\"]\n");
        }
    }
    let file = directory.join("muster.toml");
    std::fs::write(&file, layout).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// Runs the cluster to the end of its inputs and stops it; says whether it came to the end.
async fn replay(fleet: &mut Fleet, arguments: &Arguments, screen: &Screen) -> Result<bool> {
    let mut signals = Signals::new()?;
    let pace = if arguments.speed > 0.0 {
        f64::from(SPAN_SECONDS) / arguments.speed
    } else {
        10.0
    };
    let deadline = Instant::now() + Duration::try_from_secs_f64(pace)? + PATIENCE;
    fleet.start_all();
    let mut killed = arguments.no_kill;
    let mut returned = arguments.no_kill;
    let mut ended: Option<Instant> = None;
    let mut whole = true;
    let mut first_low = None;
    while !fleet.is_done() {
        tokio::select! {
            () = fleet.next() => {}
            signal = signals.next() => if signal == Asked::Reopen {
                fleet.reopen();
            } else {
                whole = false;
                if fleet.is_stopping() { fleet.kill_all(); } else { fleet.stop(); }
            }
        }
        for news in fleet.take_news() {
            if let News::Ended(name, Some(reason)) = news
                && !(killed && KILLED.contains(&name.as_str()))
            {
                screen.say(&format!("{name} ended: {reason}"));
            }
        }
        let progress = progress(fleet, &mut first_low);
        screen.show(fleet, progress.unwrap_or_default());
        if fleet.is_stopping() {
            continue;
        }
        // What a life never reported would be missing in the account.
        let have_reported = KILLED.iter().all(|name| fleet.report(name).is_some());
        if !killed && have_reported && progress.is_some_and(|progress| progress >= KILL_AT) {
            killed = true;
            for name in KILLED {
                fleet.hold(name);
            }
            screen.say(&format!("killed {} (SIGKILL)", KILLED.join(" and ")));
        }
        if killed && !returned && progress.is_some_and(|progress| progress >= RETURN_AT) {
            returned = true;
            for name in KILLED {
                fleet.release(name);
            }
            screen.say(&format!("restarted {}", KILLED.join(" and ")));
        }
        if progress == Some(1.0) {
            let since = *ended.get_or_insert_with(Instant::now);
            if since.elapsed() >= SETTLE {
                fleet.stop();
            }
        } else if Instant::now() >= deadline {
            whole = false;
            fleet.stop();
        }
    }
    Ok(whole)
}

/// How far the slowest worker has read, from 0 to 1; 1 only when all have ended.
fn progress(fleet: &Fleet, first_low: &mut Option<f64>) -> Option<f64> {
    let workers = NODES.iter().filter(|(_, role)| *role == "worker");
    let inputs: Vec<_> = workers
        .map(|(name, _)| fleet.report(name).and_then(|report| report.input))
        .collect();
    let has_ended = |input: &Option<InputStatus>| input.as_ref().is_some_and(|input| input.ended);
    if inputs.iter().all(has_ended) {
        return Some(1.0);
    }
    let lows: Vec<f64> = inputs.into_iter().filter_map(|input| input?.low).collect();
    let low = lows.into_iter().min_by(f64::total_cmp)?;
    let first = *first_low.get_or_insert(low);
    Some(((low - first) / f64::from(SPAN_SECONDS)).clamp(0.0, 0.99))
}

/// Collects the last reports of all lives and counts what is in the files.
fn settle(fleet: &Fleet, logs: &Path, directory: &Path, started: Instant) -> Result<Account> {
    let role = |name: &str| {
        NODES
            .iter()
            .find(|(node, _)| *node == name)
            .map_or("", |(_, role)| *role)
    };
    let lives: Vec<LifeReport> = fleet
        .past_lives()
        .iter()
        .map(|life| LifeReport {
            role: role(&life.node).to_owned(),
            node: life.node.clone(),
            report: life.report.clone(),
        })
        .collect();
    let mut lives = lives;
    lives.sort_by_key(|life| NODES.iter().position(|(name, _)| *name == life.node));
    let mut rows =
        log_files::count_rows(logs).context("cannot count the records in the log files")?;
    // What the agent says of itself is no log of the nodes.
    rows.remove("events");
    let mut account = Account::settle(&lives, rows);
    account.directory = directory.display().to_string();
    account.seconds = started.elapsed().as_secs_f64();
    account.notices = notices(logs)?;
    Ok(account)
}

fn notices(logs: &Path) -> Result<Vec<String>> {
    let rows = log_files::read_rows(logs, "notice").context("cannot read the notices")?;
    let mut notices: Vec<String> = rows
        .iter()
        .map(|row| {
            let field = |name: &str| row.get(name).map_or("-", String::as_str);
            format!("{}: {}", field("note"), field("msg"))
        })
        .collect();
    notices.sort();
    Ok(notices)
}

fn summary(account: &Account, layout_file: &Path) -> String {
    let mut text = account.text();
    text.push_str("\nnotices:\n");
    for notice in &account.notices {
        let _ = writeln!(text, "  {notice}");
    }
    let _ = writeln!(
        text,
        "\nlogs: {}/logs\nrun the same cluster again: muster run {}",
        account.directory,
        layout_file.display()
    );
    text
}

/// Live progress, on a terminal only.
struct Screen {
    bars: Option<(MultiProgress, Vec<ProgressBar>)>,
}

impl Screen {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bars: None };
        }
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix:<9} {bar:24} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bars = NODES.iter().map(|(name, _)| {
            let bar = multi.add(ProgressBar::new(100).with_style(style.clone()));
            bar.set_prefix(*name);
            bar
        });
        Self {
            bars: Some((multi.clone(), bars.collect())),
        }
    }

    fn show(&self, fleet: &Fleet, progress: f64) {
        let Some((_, bars)) = &self.bars else { return };
        for ((name, _), bar) in NODES.iter().zip(bars) {
            let report = fleet.report(name);
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to 100"
            )]
            bar.set_position((progress * 100.0).round() as u64);
            bar.set_message(report.as_ref().map_or_else(|| "down".to_owned(), line));
        }
    }

    fn say(&self, text: &str) {
        match &self.bars {
            Some((multi, _)) => {
                let _ = multi.println(text);
            }
            None => say(text),
        }
    }

    fn end(&self) {
        if let Some((multi, _)) = &self.bars {
            let _ = multi.clear();
        }
    }
}

fn line(report: &NodeStatus) -> String {
    let connected = report.peers.iter().filter(|peer| peer.connected).count();
    let received: u64 = report.peers.iter().map(|peer| peer.messages_in).sum();
    let sent: u64 = report.peers.iter().map(|peer| peer.messages_out).sum();
    let dropped: u64 = report.dropped().values().sum();
    let records = report.count("records_logged") + report.count("records_written");
    format!(
        "{:<9} {connected} peers  in {received:>6}  out {sent:>6}  records {records:>5}  dropped {dropped}",
        report.state
    )
}
