//! What acknowledgements of log records cost: a worker writes records of eight small fields as fast as it can, and a logger writes
//! them to files, as a process does, in one program.
//!
//! `cargo run --release -p muster-bench --bin logs -- [RECORDS] [ROUNDS]`. Each round does it without acknowledgements, with
//! those of records that are written, with those of records that are synced, and with these and a spool that keeps every record on
//! the worker's disk as well, one behind the other; medians are shown.
//! The clock stops when the last record is in the files, and acknowledged where that is asked for. Without acknowledgements
//! what a full queue drops is lost: that is counted.

#![allow(clippy::print_stdout, reason = "a program")]
#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "a handler is a method that takes its event by value"
)]

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use muster::cluster::node::{Context, Declarations, Framework, LogSink, Registry, Site};
use muster::cluster::{Layout, Role};
use muster::data::{Address, Encode, Port, Protocol, Record, Timestamp};
use muster::wire::zeek::{Metadata, put_event};
use muster::{Exposure, Input, InputBatch, Node, NodeConfig, Quorum, Tls};
use muster_frameworks::log_files::{FileSink, LogFilesConfig, SETTINGS};
use muster_measure::cpu_seconds;

const LIMIT: Duration = Duration::from_secs(120);

/// Nothing is under way any more if nothing has been written for so long.
const QUIET: Duration = Duration::from_secs(1);

/// The ways to acknowledge and to keep records, as a layout has them, with what they are called.
const WAYS: [(&str, &str, &str); 4] = [
    ("never", "never", "never"),
    ("written", "written", "never"),
    ("synced", "synced", "never"),
    ("synced, and kept by the worker", "synced", "always"),
];

/// The records of one turn.
const AT_ONCE: u64 = 2_000;

/// So many records are to be written.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Bench::write")]
struct Write {
    first: u64,
    count: u64,
}

/// A record of eight small fields.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Bench::row")]
struct Row {
    ts: Timestamp,
    number: u64,
    orig_h: Address,
    orig_p: Port,
    resp_h: Address,
    resp_p: Port,
    bytes: u64,
    local: bool,
}

struct Writer;

impl Framework for Writer {
    const NAME: &'static str = "writer";

    fn create(site: &Site<'_>) -> Option<Self> {
        (site.node.role == Role::Worker).then_some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::write);
        declarations.stream::<Row>("rows");
    }
}

impl Writer {
    fn write(&mut self, write: Write, cx: &mut Context<'_>) {
        let ts = Timestamp::from_secs(1_700_000_000);
        let (orig_h, resp_h) = (
            Address::from(Ipv4Addr::new(10, 0, 0, 1)),
            Address::from(Ipv4Addr::new(192, 0, 2, 7)),
        );
        for number in write.first..write.first + write.count {
            let port = u16::try_from(number % 60_000).unwrap_or(0);
            let row = Row {
                ts,
                number,
                orig_h,
                orig_p: Port::new(port, Protocol::Tcp),
                resp_h,
                resp_p: Port::new(443, Protocol::Tcp),
                bytes: 1500,
                local: true,
            };
            cx.log("rows", &row).expect("the stream is declared");
        }
    }
}

/// What the worker reads: so many records, in turns.
fn input(records: u64) -> Input {
    Box::new(move |sender| {
        for first in (0..records).step_by(usize::try_from(AT_ONCE).unwrap_or(1)) {
            let mut batch = InputBatch::default();
            put_event(&mut batch.buffer, Write::NAME, Metadata::default(), |out| {
                let count = AT_ONCE.min(records - first);
                Write { first, count }.encode(out);
            });
            batch.events.push(0..batch.buffer.len());
            if sender.send(batch).is_err() {
                return;
            }
        }
        sender.finish("all sent".to_owned());
    })
}

async fn start(
    layout: &Arc<Layout>,
    name: &str,
    directory: &Path,
    input: Option<Input>,
) -> Result<Node> {
    let node = layout.find(name).context("the layout has it")?;
    let sink = LogFilesConfig::from_settings(layout, node, directory.to_owned());
    let log_sink: Box<dyn LogSink> = Box::new(FileSink::new(sink)?);
    let config = NodeConfig {
        layout: Arc::clone(layout),
        name: name.to_owned(),
        registry: Registry::new().with::<Writer>(),
        log_sink,
        input,
        tls: Tls::Off,
        exposure: Exposure::Guarded,
        spool: Some(directory.join("spool").join(name)),
        base: PathBuf::from("."),
    };
    Ok(Node::start(config).await?)
}

/// Records a second, and CPU time of a record in nanoseconds, of both nodes together.
struct Run {
    rate: f64,
    cpu: f64,
    /// Records that are in no file.
    lost: u64,
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn run(acknowledge: &str, spool: &str, records: u64) -> Result<Run> {
    let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0"));
    let [manager, worker] = free.map(|listener| listener?.local_addr());
    let text = format!(
        r#"
        [logging]
        acknowledge = "{acknowledge}"
        spool = "{spool}"
        [[node]]
        name = "manager"
        role = "manager"
        port = {}
        [[node]]
        name = "worker"
        role = "worker"
        port = {}
        input = ["a thread of this program"]
        "#,
        manager?.port(),
        worker?.port(),
    );
    let layout = Arc::new(Layout::parse(&text, "logs.rs", SETTINGS)?);
    let directory = tempfile::tempdir()?;
    let logger = start(&layout, "manager", directory.path(), None).await?;
    let begun = (Instant::now(), cpu_seconds());
    let worker = start(&layout, "worker", directory.path(), Some(input(records))).await?;
    logger.ready(Quorum::All, LIMIT).await?;
    let mut last = (0, Instant::now());
    loop {
        let (logger, worker) = (logger.report(), worker.report());
        let written = logger.counts.records_written;
        if written != last.0 {
            last = (written, Instant::now());
        }
        // Without acknowledgements, what a full queue drops is lost.
        let is_lost = worker.input_ended == Some(true) && last.1.elapsed() >= QUIET;
        if worker.waiting_records == 0 && (written == records || is_lost) {
            break;
        }
        ensure!(begun.0.elapsed() < LIMIT, "not done in {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (written, took) = (last.0 as f64, last.1 - begun.0);
    let run = Run {
        rate: written / took.as_secs_f64(),
        cpu: (cpu_seconds() - begun.1) / written * 1e9,
        lost: records - last.0,
    };
    worker.stop(LIMIT).await;
    logger.stop(LIMIT).await;
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
    let (records, rounds) = (number(2_000_000)?, number(5)?);
    let mut runs: [Vec<Run>; WAYS.len()] = Default::default();
    for _ in 0..rounds {
        for ((way, acknowledge, spool), runs) in WAYS.iter().zip(&mut runs) {
            let result = run(acknowledge, spool, records).await;
            runs.push(result.with_context(|| format!("acknowledged {way}"))?);
        }
    }
    println!(
        "{records} records of 8 fields from a worker to a logger's files, medians of {rounds} rounds\n"
    );
    println!("| acknowledged | records/s | of never | CPU per record, both nodes | lost |");
    println!("| --- | --- | --- | --- | --- |");
    let never = median(runs[0].iter().map(|run| run.rate).collect());
    for ((way, ..), runs) in WAYS.iter().zip(&runs) {
        let rate = median(runs.iter().map(|run| run.rate).collect());
        let cpu = median(runs.iter().map(|run| run.cpu).collect());
        let lost: u64 = runs.iter().map(|run| run.lost).sum();
        let low = runs.iter().map(|run| run.rate).fold(f64::MAX, f64::min);
        let high = runs.iter().map(|run| run.rate).fold(0.0, f64::max);
        println!(
            "| {way} | {rate:.0} ({low:.0} to {high:.0}) | {:.0} % | {cpu:.0} ns | {lost} |",
            100.0 * rate / never
        );
    }
    Ok(())
}
