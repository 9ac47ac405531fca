//! What keyed work costs: a worker publishes events for the owners of their keys as fast as it can, and two data nodes count them.
//!
//! `cargo run --release -p muster-bench --bin keyed -- [EVENTS] [ROUNDS]`. Each round does it with events that are published to the
//! topic of the owner and counted in plain fields, and with keyed events that are acknowledged when both data nodes have the row, one
//! behind the other; medians are shown. Then one event follows the other, and the times to the end of each are shown.

#![allow(clippy::print_stdout, reason = "a program")]
#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "a handler is a method that takes its event by value"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use muster::cluster::node::{
    Context, Declarations, Framework, KeyedContext, KeyedTable, LogBatch, LogDelivery, LogSink,
    Registry, Site, Written,
};
use muster::cluster::{Layout, PoolName, Role};
use muster::data::{Encode, Record, Timestamp};
use muster::wire::zeek::{Metadata, put_event};
use muster::{Exposure, Input, InputBatch, Node, NodeConfig, Quorum, Tls};
use muster_measure::cpu_seconds;

const LIMIT: Duration = Duration::from_secs(120);

/// The events of one turn of the worker.
const AT_ONCE: u64 = 500;

const KEYS: u64 = 10_000;

/// Events that follow one another.
const ONE_BY_ONE: u64 = 5_000;

static HANDLED: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
/// When the first events were published.
static BEGUN: Mutex<Option<(Instant, f64)>> = Mutex::new(None);
static TIMES: Mutex<Vec<Duration>> = Mutex::new(Vec::new());

/// So many events are to be published.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Bench::go")]
struct Go {
    way: String,
    first: u64,
    count: u64,
}

/// Something for the owner of a key.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Bench::hit")]
struct Hit {
    key: u64,
    number: u64,
}

/// The same, published to a topic.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Bench::plain_hit")]
struct PlainHit {
    key: u64,
    number: u64,
}

const COUNTS: KeyedTable<u64, u64, u64> = KeyedTable::new("bench/counts");

struct Counting {
    role: Role,
    plain: HashMap<u64, u64>,
}

impl Framework for Counting {
    const NAME: &'static str = "counting";

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self {
            role: site.node.role,
            plain: HashMap::new(),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        match self.role {
            Role::Worker => declarations.on(Self::go),
            Role::Proxy => {
                declarations.keyed(PoolName::proxy(), |hit: &Hit| hit.key, Self::hit);
                declarations.on(Self::plain_hit);
            }
            _ => {}
        }
    }
}

impl Counting {
    fn go(&mut self, go: Go, cx: &mut Context<'_>) {
        let pool = PoolName::proxy();
        if let Ok(mut begun) = BEGUN.lock() {
            begun.get_or_insert_with(|| (Instant::now(), cpu_seconds()));
        }
        if go.way == "one by one" {
            return follow(0, cx);
        }
        for number in go.first..go.first + go.count {
            let key = number % KEYS;
            if go.way == "plain" {
                let owner = cx.topic_for_key(&pool, key).expect("a data node is up");
                cx.publish(&owner, &PlainHit { key, number })
                    .expect("declared once");
                continue;
            }
            let published = cx.publish_keyed(&pool, key, &Hit { key, number });
            published.expect("there is room").then(|_: &mut Self, _| {
                DONE.fetch_add(1, Ordering::Relaxed);
            });
        }
    }

    fn hit(&mut self, hit: Hit, cx: &mut KeyedContext<'_, '_, u64>) {
        let count = cx.row(&COUNTS, &0).unwrap_or(0) + 1;
        cx.set(&COUNTS, &0, &count);
        HANDLED.fetch_add(u64::from(hit.number < u64::MAX), Ordering::Relaxed);
    }

    fn plain_hit(&mut self, hit: PlainHit, _: &mut Context<'_>) {
        *self.plain.entry(hit.key).or_default() += 1;
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Publishes one event, and the next one at its end.
fn follow(number: u64, cx: &mut Context<'_>) {
    if number == ONE_BY_ONE {
        return;
    }
    let begun = Instant::now();
    let key = number % KEYS;
    let published = cx.publish_keyed(&PoolName::proxy(), key, &Hit { key, number });
    published
        .expect("there is room")
        .then(move |_: &mut Counting, cx| {
            if let Ok(mut times) = TIMES.lock() {
                times.push(begun.elapsed());
            }
            DONE.fetch_add(1, Ordering::Relaxed);
            follow(number + 1, cx);
        });
}

/// Nothing is logged.
struct NoLog;

impl LogSink for NoLog {
    fn write(&mut self, batch: &LogBatch, _: Option<&LogDelivery>, _: Timestamp) -> Written {
        Written {
            records: batch.len() as u64,
            gone: 0,
            problem: None,
            is_invalid: false,
        }
    }

    fn tick(&mut self, _: Timestamp) -> Result<(), String> {
        Ok(())
    }

    fn close(&mut self, _: Timestamp) -> Result<(), String> {
        Ok(())
    }
}

/// What the worker reads: so many events, in turns.
fn input(way: &'static str, events: u64) -> Input {
    Box::new(move |sender| {
        for first in (0..events).step_by(usize::try_from(AT_ONCE).unwrap_or(1)) {
            let mut batch = InputBatch::default();
            put_event(&mut batch.buffer, Go::NAME, Metadata::default(), |out| {
                let count = AT_ONCE.min(events - first);
                let way = way.to_owned();
                Go { way, first, count }.encode(out);
            });
            batch.events.push(0..batch.buffer.len());
            if sender.send(batch).is_err() {
                return;
            }
        }
        sender.finish("all sent".to_owned());
    })
}

async fn start(layout: &Arc<Layout>, name: &str, input: Option<Input>) -> Result<Node> {
    let config = NodeConfig {
        layout: Arc::clone(layout),
        name: name.to_owned(),
        registry: Registry::new().with::<Counting>(),
        log_sink: Box::new(NoLog),
        input,
        tls: Tls::Off,
        exposure: Exposure::Guarded,
        spool: None,
        base: PathBuf::from("."),
    };
    Ok(Node::start(config).await?)
}

/// Events a second, and CPU time of an event in nanoseconds, of all nodes together.
struct Run {
    rate: f64,
    cpu: f64,
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn run(way: &'static str, events: u64) -> Result<Run> {
    let names = ["manager", "data-1", "data-2", "worker"];
    let mut text = String::new();
    for (name, role) in names.iter().zip(["manager", "data", "data", "worker"]) {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        writeln!(
            text,
            "[[node]]\nname = \"{name}\"\nrole = \"{role}\"\nport = {port}"
        )?;
    }
    text += "input = [\"a thread of this program\"]\n";
    let layout = Arc::new(Layout::parse(&text, "keyed.rs", &[])?);
    HANDLED.store(0, Ordering::Relaxed);
    DONE.store(0, Ordering::Relaxed);
    let mut nodes = Vec::new();
    for name in &names[..3] {
        nodes.push(start(&layout, name, None).await?);
    }
    let turns = if way == "one by one" { 1 } else { events };
    nodes.push(start(&layout, "worker", Some(input(way, turns))).await?);
    for node in &nodes {
        node.ready(Quorum::All, LIMIT).await?;
    }
    let started = Instant::now();
    loop {
        let handled = HANDLED.load(Ordering::Relaxed);
        let done = DONE.load(Ordering::Relaxed);
        if handled >= events && (way == "plain" || done >= events) {
            break;
        }
        ensure!(
            started.elapsed() < LIMIT,
            "{handled} handled, {done} done in {LIMIT:?}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let begun = BEGUN.lock().ok().and_then(|mut begun| begun.take());
    let begun = begun.context("nothing was published")?;
    let took = begun.0.elapsed();
    let run = Run {
        rate: events as f64 / took.as_secs_f64(),
        cpu: (cpu_seconds() - begun.1) / events as f64 * 1e9,
    };
    for node in nodes.into_iter().rev() {
        node.stop(LIMIT).await;
    }
    Ok(run)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| -> Result<u64> {
        arguments
            .next()
            .map_or(Ok(default), |text| text.parse().context("a number"))
    };
    let (events, rounds) = (number(500_000)?, number(5)?);
    let ways = ["plain", "keyed"];
    let mut runs: [Vec<Run>; 2] = Default::default();
    for _ in 0..rounds {
        for (way, runs) in ways.into_iter().zip(&mut runs) {
            runs.push(run(way, events).await.context(way)?);
        }
    }
    println!("{events} events for {KEYS} keys of two data nodes, medians of {rounds} rounds\n");
    println!("| events | events/s | of plain | CPU per event, all nodes |");
    println!("| --- | --- | --- | --- |");
    let plain = median(runs[0].iter().map(|run| run.rate).collect());
    for (way, runs) in ways.iter().zip(&runs) {
        let rate = median(runs.iter().map(|run| run.rate).collect());
        let cpu = median(runs.iter().map(|run| run.cpu).collect());
        let low = runs.iter().map(|run| run.rate).fold(f64::MAX, f64::min);
        let high = runs.iter().map(|run| run.rate).fold(0.0, f64::max);
        println!(
            "| {way} | {rate:.0} ({low:.0} to {high:.0}) | {:.0} % | {cpu:.0} ns |",
            100.0 * rate / plain
        );
    }
    run("one by one", ONE_BY_ONE).await?;
    let mut times = TIMES.lock().map(|times| times.clone()).unwrap_or_default();
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied();
    println!(
        "\none by one, from publishing to the end: p50 {:?}, p99 {:?}",
        at(50).unwrap_or_default(),
        at(99).unwrap_or_default()
    );
    Ok(())
}
