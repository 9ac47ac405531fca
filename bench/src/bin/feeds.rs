//! What it takes to give a large list to many nodes: the manager has it, and workers follow it, each with a map of its own.
//!
//! `cargo run --release -p muster-bench --bin feeds -- [ITEMS] [WORKERS] [count]`. The manager is one process, all workers are another one.
//! `count` as a third argument has the workers count what they are told, and keep nothing. The clock starts when the list is open, all nodes being there, and stops when the last worker is told that it has everything.

#![allow(clippy::print_stdout, reason = "a program")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler is a method that takes its event by value"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use muster::cluster::feed::{Feed, FeedEvent};
use muster::cluster::node::{
    Context, Declarations, Framework, LogBatch, LogDelivery, LogSink, Registry, Site, Written,
};
use muster::cluster::{Layout, Quorum, ReadyError, Role};
use muster::data::{Record, Timestamp};
use muster::{Exposure, Node, NodeConfig, Tls};
use muster_measure::{cpu_seconds, cpu_seconds_of, free_ports, peak_memory_bytes};

const LIMIT: Duration = Duration::from_secs(300);

/// What is known of an indicator.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Bench::details")]
struct Details {
    source: String,
    severity: u64,
}

const INDICATORS: Feed<String, Details> = Feed::new("bench/indicators");

/// The items of the list, which the manager's framework loads.
static ITEMS: AtomicU64 = AtomicU64::new(0);

/// When the list was opened, and the CPU time until then.
static OPENED: OnceLock<(Instant, f64)> = OnceLock::new();

/// Whether workers keep what they are told.
static KEEPS: AtomicBool = AtomicBool::new(true);

/// The workers that have everything.
static COMPLETE: AtomicU64 = AtomicU64::new(0);

struct Intel {
    role: Role,
    known: HashMap<String, u64>,
}

impl Framework for Intel {
    const NAME: &'static str = "intel";

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self {
            role: site.node.role,
            known: HashMap::new(),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        if self.role == Role::Manager {
            declarations.feed_source(&INDICATORS);
        } else {
            declarations.feed(&INDICATORS, Self::told);
        }
    }

    fn init(&mut self, cx: &mut Context<'_>) {
        if self.role != Role::Manager {
            return;
        }
        for number in 0..ITEMS.load(Ordering::Relaxed) {
            let key = format!("host-{number}.example");
            let details = Details {
                source: "a list".to_owned(),
                severity: number % 10,
            };
            cx.feed(&INDICATORS)
                .put(&key, &details)
                .expect("the list is small enough");
        }
        cx.await_ready(&Quorum::All, LIMIT, 0)
            .expect("the layout has all");
    }

    fn ready(&mut self, _: u64, outcome: &Result<(), ReadyError>, cx: &mut Context<'_>) {
        if outcome.is_ok() {
            OPENED.get_or_init(|| (Instant::now(), cpu_seconds()));
            cx.feed(&INDICATORS).open().expect("it is here");
        }
    }
}

impl Intel {
    fn told(&mut self, event: FeedEvent<String, Details>, _: &mut Context<'_>) {
        match event {
            FeedEvent::Put { .. } if !KEEPS.load(Ordering::Relaxed) => {}
            FeedEvent::Put { key, value } => _ = self.known.insert(key, value.severity),
            FeedEvent::Removed { key } => _ = self.known.remove(&key),
            FeedEvent::Complete => _ = COMPLETE.fetch_add(1, Ordering::Relaxed),
            _ => {}
        }
    }
}

/// There are no logs.
struct Nowhere;

impl LogSink for Nowhere {
    fn write(&mut self, batch: &LogBatch, _: Option<&LogDelivery>, _: Timestamp) -> Written {
        Written {
            records: batch.len() as u64,
            ..Written::default()
        }
    }

    fn tick(&mut self, _: Timestamp) -> Result<(), String> {
        Ok(())
    }

    fn close(&mut self, _: Timestamp) -> Result<(), String> {
        Ok(())
    }
}

async fn start(layout: &Arc<Layout>, name: &str) -> Result<Node> {
    let config = NodeConfig {
        layout: Arc::clone(layout),
        name: name.to_owned(),
        registry: Registry::new().with::<Intel>(),
        log_sink: Box::new(Nowhere),
        input: None,
        tls: Tls::Off,
        exposure: Exposure::Guarded,
        spool: None,
        base: PathBuf::from("."),
    };
    Ok(Node::start(config).await?)
}

/// All workers of a layout, until the process is killed.
async fn follow(layout: &Path) -> Result<()> {
    let text = std::fs::read_to_string(layout)?;
    let layout = Arc::new(Layout::parse(&text, "feeds.rs", &[])?);
    let mut workers = Vec::new();
    for node in layout.with_role(Role::Worker) {
        workers.push(start(&layout, node.name.as_str()).await?);
    }
    while COMPLETE.load(Ordering::Relaxed) < workers.len() as u64 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("complete");
    std::future::pending().await
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn give(items: u64, workers: usize, keeps: bool) -> Result<()> {
    ITEMS.store(items, Ordering::Relaxed);
    let mut ports = free_ports(workers + 1)?.into_iter();
    let mut port = || ports.next().context("as many as were asked for");
    let mut text = format!(
        "[[node]]\nname = \"manager\"\nrole = \"manager\"\nport = {}\n",
        port()?
    );
    for number in 0..workers {
        let port = port()?;
        writeln!(
            text,
            "[[node]]\nname = \"worker-{number}\"\nrole = \"worker\"\nport = {port}"
        )?;
    }
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("muster.toml");
    std::fs::write(&path, &text)?;
    let layout = Arc::new(Layout::parse(&text, "feeds.rs", &[])?);
    let begun = Instant::now();
    let manager = start(&layout, "manager").await?;
    let loaded = begun.elapsed();
    let mut followers = Command::new(std::env::current_exe()?)
        .arg("follow")
        .arg(&path)
        .args((!keeps).then_some("count"))
        .stdout(Stdio::piped())
        .spawn()?;
    let output = followers.stdout.take().context("a pipe")?;
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .map(|_| (line, Instant::now()))
    });
    let line = tokio::time::timeout(LIMIT, line).await;
    let of_followers = cpu_seconds_of(followers.id());
    followers.kill()?;
    followers.wait()?;
    let (line, at) = line???;
    ensure!(line.trim() == "complete", "the workers have ended");
    let (opened, cpu) = *OPENED.get().context("it was opened")?;
    let took = at.duration_since(opened).as_secs_f64();
    let memory = peak_memory_bytes().context("the system says it")?;
    let sent = manager.report().counts.feed_parts_sent;
    println!("{items} items to {workers} workers, all on this machine\n");
    println!("| | |\n| --- | --- |");
    println!("| loading the list | {:.2} s |", loaded.as_secs_f64());
    println!("| until the last worker has it | {took:.2} s |");
    println!(
        "| items told to workers | {:.0}/s |",
        items as f64 * workers as f64 / took
    );
    println!("| CPU of the source | {:.2} s |", cpu_seconds() - cpu);
    println!("| CPU of the workers | {:.2} s |", of_followers?);
    println!(
        "| peak memory of the source | {:.0} MiB |",
        memory as f64 / 1_048_576.0
    );
    println!("| parts sent | {sent} |");
    manager.stop(Duration::from_secs(5)).await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keeps = arguments.last().is_none_or(|last| last != "count");
    KEEPS.store(keeps, Ordering::Relaxed);
    if let [word, layout, ..] = &arguments[..]
        && word == "follow"
    {
        return follow(Path::new(layout)).await;
    }
    let number = |at: usize, default: u64| -> Result<u64> {
        let text = arguments.get(at);
        text.map_or(Ok(default), |text| text.parse().context("a number"))
    };
    let workers = usize::try_from(number(1, 30)?)?;
    give(number(0, 1_000_000)?, workers, keeps).await
}
