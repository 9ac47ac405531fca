//! `muster bench`: what Muster does on this machine.

mod node;
mod report;
pub(crate) mod worker;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use muster_measure::engine::{Muster, Tcp};
use muster_measure::{
    Chain, Engine, Idle, IdleReport, Latency, Launcher, Layout, Payload, Protection, Reading,
    StartReport, Throughput, Traffic, chain, idle, latency, start, throughput,
};
use serde::Serialize;

use crate::arguments::{Format, seconds};
use crate::cluster::certificates;
use crate::commands::Execute;
use crate::output::{Failure, print};

/// Measure Muster on this machine: messages per second, round trips, and the cost of idle endpoints
///
/// Messages travel between separate processes, over the Unix sockets by which peers of one machine meet and over TCP. The
/// same is measured with bare TCP sockets.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to measure [default: everything except `start`]
    #[arg(value_enum)]
    pub(crate) measurements: Vec<Measurement>,
    /// Duration of each measurement, in seconds
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        // Without a runtime: the processes have what they need.
        run(&self)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measurement {
    /// Messages of six sizes from one publisher to one and to four subscribers, over Unix sockets and over TCP
    Throughput,
    /// Messages of three sizes over anonymous TLS and over mutual TLS, both over TCP
    Tls,
    /// Messages of six sizes over the mesh's protocol and over Broker's
    Versions,
    /// Round trips at 10,000 messages per second, compared with a bare blocking echo over TCP
    Latency,
    /// Messages of 1 MiB, compared with a plain TCP stream
    Stream,
    /// Messages through one relay and through two, compared with a direct link
    Chain,
    /// Time until every endpoint of a new mesh knows all others: 64 over TCP, 160 and 608 in one process.
    /// It may take minutes, and only runs if named
    Start,
    /// An endpoint without peers, one with 100 peers that send heartbeats, and a node of a cluster
    Idle,
}

/// The subscribers of one publisher.
const LINKS: [u32; 2] = [1, 4];

/// What goes through a chain.
const CHAINED: [Payload; 2] = [Payload::Record128, Payload::Kib16];

/// The relays of a chain: a direct link has none.
const RELAYS: [u32; 3] = [0, 1, 2];

/// The meshes whose start is measured, up to a large cluster.
const LAYOUTS: [Layout; 5] = [
    START_64,
    Layout {
        protection: Protection::Mutual,
        ..START_64
    },
    START_160,
    Layout {
        protection: Protection::Mutual,
        ..START_160
    },
    Layout {
        leaves: 512,
        relays: 96,
        ..START_160
    },
];

const START_64: Layout = Layout {
    leaves: 48,
    relays: 16,
    links: 3,
    tcp: true,
    protection: Protection::Plain,
};

const START_160: Layout = Layout {
    leaves: 128,
    relays: 32,
    links: 3,
    tcp: false,
    protection: Protection::Plain,
};

/// The peers of the endpoint that has many.
const PEERS: u32 = 100;

/// Whoever is idle is looked at for so many times `--seconds`, as heartbeats come every two seconds.
const IDLE_TIMES: f64 = 2.0;

/// The version of the JSON.
const VERSION: u32 = 2;

/// Over what messages travel: what peers of one machine take, and what they take otherwise.
const EITHER: [Muster; 2] = [Muster::new(), Muster::new().over_tcp()];

/// Everything that was measured. What was not asked for is empty or absent.
#[derive(Debug, Serialize)]
struct Results {
    version: u32,
    processors: usize,
    seconds: f64,
    /// Pairs: over Unix sockets, and over TCP.
    throughput: Vec<Throughput>,
    tls: Vec<Throughput>,
    /// Pairs: the protocol of the mesh, and Broker's.
    versions: Vec<Throughput>,
    latency: Option<RoundTrips>,
    stream: Option<Stream>,
    chain: Vec<Chain>,
    start: Vec<StartReport>,
    idle: Vec<Idle>,
    idle_node: Option<IdleReport>,
}

/// Muster's round trips, at 10,000 a second, beside those of a bare echo.
#[derive(Debug, Serialize)]
struct RoundTrips {
    tcp: Latency,
    muster: Latency,
    muster_over_tcp: Latency,
    /// Muster with readers that keep a processor busy for a while before they wait.
    muster_busy_poll: Latency,
    muster_over_tcp_busy_poll: Latency,
    /// Muster where one thread does everything but publish.
    muster_on_one_thread: Latency,
    /// Muster outside a mesh, by Broker's protocol.
    muster_version_1: Latency,
}

/// Messages of 1 MiB beside a plain stream.
#[derive(Debug, Serialize)]
struct Stream {
    tcp: Throughput,
    muster: Throughput,
    muster_over_tcp: Throughput,
    /// Muster where the publisher, like the stream's writer, has the same bytes ready every time.
    muster_encoded_once: Throughput,
    muster_over_tcp_encoded_once: Throughput,
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let seconds = arguments.seconds.as_secs_f64();
    if !(0.01..=3600.0).contains(&seconds) {
        return Err(Failure::new("--seconds must be between 0.01 and 3600").into());
    }
    let certificates = tempfile::tempdir().context("cannot make a directory for certificates")?;
    let mut launcher = Launcher::new(["bench-worker"])?;
    if asked(arguments, Measurement::Tls) || asked(arguments, Measurement::Start) {
        certificates::make_one(certificates.path(), "bench")?;
        launcher = launcher.with_certificates(certificates.path().to_path_buf());
    }
    let bench = Running {
        launcher,
        seconds,
        progress: progress(arguments),
    };
    let results = bench.all(arguments)?;
    bench.progress.finish_and_clear();
    match arguments.format {
        Format::Text => print(&report::text(&results))?,
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&results)?))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn asked(arguments: &Arguments, measurement: Measurement) -> bool {
    // A large mesh takes minutes.
    let is_everything = arguments.measurements.is_empty() && measurement != Measurement::Start;
    is_everything || arguments.measurements.contains(&measurement)
}

/// What is sent without TLS, in the order of the table.
fn plain() -> Vec<Traffic> {
    let mut all = Vec::new();
    for payload in Payload::ALL {
        all.extend(LINKS.map(|links| Traffic::new(payload, links)));
        if payload == Payload::Conn {
            all.push(Traffic {
                reading: Reading::Struct,
                ..Traffic::new(payload, 1)
            });
        }
    }
    all
}

/// What is sent over TLS.
fn protected() -> Vec<Traffic> {
    let payloads = [Payload::Bytes16, Payload::Conn, Payload::Kib16];
    let kinds = [Protection::Anonymous, Protection::Mutual];
    let traffic = payloads.iter().flat_map(|payload| {
        kinds.map(|protection| Traffic {
            protection,
            ..Traffic::new(*payload, 1)
        })
    });
    traffic.collect()
}

/// On a terminal only.
fn progress(arguments: &Arguments) -> ProgressBar {
    let steps = [
        (Measurement::Throughput, EITHER.len() * plain().len()),
        (Measurement::Tls, protected().len()),
        (Measurement::Versions, 2 * Payload::ALL.len()),
        (Measurement::Latency, 7),
        (Measurement::Stream, 5),
        (Measurement::Chain, 2 * CHAINED.len() * RELAYS.len()),
        (Measurement::Start, LAYOUTS.len()),
        (Measurement::Idle, 3),
    ];
    let asked = steps.iter().filter(|(what, _)| asked(arguments, *what));
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}");
    ProgressBar::new(asked.map(|(_, steps)| *steps as u64).sum())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

struct Running {
    launcher: Launcher,
    seconds: f64,
    progress: ProgressBar,
}

impl Running {
    fn all(&self, arguments: &Arguments) -> Result<Results> {
        let asked = |measurement| asked(arguments, measurement);
        let traffic = |measurement, engines: &[Muster], all: Vec<Traffic>| {
            let mut measured = Vec::new();
            for traffic in all.into_iter().filter(|_| asked(measurement)) {
                for engine in engines {
                    measured.push(self.throughput(engine, traffic)?);
                }
            }
            anyhow::Ok(measured)
        };
        let throughput = traffic(Measurement::Throughput, &EITHER, plain())?;
        let tls = traffic(Measurement::Tls, &[Muster::new().over_tcp()], protected())?;
        let versions = asked(Measurement::Versions).then(|| self.versions());
        let latency = asked(Measurement::Latency).then(|| self.round_trips());
        let stream = asked(Measurement::Stream).then(|| self.stream());
        let chain = asked(Measurement::Chain).then(|| self.chains());
        let start = asked(Measurement::Start).then(|| self.starts());
        let (mut idle, mut idle_node) = (Vec::new(), None);
        if asked(Measurement::Idle) {
            for peers in [0, PEERS] {
                idle.push(self.idle(peers)?);
            }
            idle_node = Some(self.idle_node()?);
        }
        Ok(Results {
            version: VERSION,
            processors: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            seconds: self.seconds,
            throughput,
            tls,
            versions: versions.transpose()?.unwrap_or_default(),
            latency: latency.transpose()?,
            stream: stream.transpose()?,
            chain: chain.transpose()?.unwrap_or_default(),
            start: start.transpose()?.unwrap_or_default(),
            idle,
            idle_node,
        })
    }

    fn throughput(&self, engine: &dyn Engine, traffic: Traffic) -> Result<Throughput> {
        let name = engine.name();
        self.step(&format!(
            "{name}: {} to {}, {}",
            traffic.payload.name(),
            traffic.links,
            traffic.protection.name()
        ));
        throughput(&self.launcher, name, None, traffic, self.seconds)
    }

    fn versions(&self) -> Result<Vec<Throughput>> {
        let mut all = Vec::new();
        for payload in Payload::ALL {
            for engine in [Muster::new(), Muster::version_1()] {
                all.push(self.throughput(&engine, Traffic::new(payload, 1))?);
            }
        }
        Ok(all)
    }

    fn round_trips(&self) -> Result<RoundTrips> {
        let measure = |engine: &dyn Engine| {
            self.step(&format!("{}: round trips", engine.name()));
            latency(&self.launcher, engine.name(), None, self.seconds)
        };
        Ok(RoundTrips {
            tcp: measure(&Tcp)?,
            muster: measure(&Muster::new())?,
            muster_over_tcp: measure(&Muster::new().over_tcp())?,
            muster_busy_poll: measure(&Muster::new().with_busy_poll())?,
            muster_over_tcp_busy_poll: measure(&Muster::new().over_tcp().with_busy_poll())?,
            muster_on_one_thread: measure(&Muster::on_one_thread())?,
            muster_version_1: measure(&Muster::version_1())?,
        })
    }

    fn stream(&self) -> Result<Stream> {
        let traffic = Traffic::new(Payload::Mib1, 1);
        let encoded_once = Traffic {
            encoded_once: true,
            ..traffic
        };
        Ok(Stream {
            tcp: self.throughput(&Tcp, encoded_once)?,
            muster: self.throughput(&EITHER[0], traffic)?,
            muster_over_tcp: self.throughput(&EITHER[1], traffic)?,
            muster_encoded_once: self.throughput(&EITHER[0], encoded_once)?,
            muster_over_tcp_encoded_once: self.throughput(&EITHER[1], encoded_once)?,
        })
    }

    fn chains(&self) -> Result<Vec<Chain>> {
        let mut all = Vec::new();
        for payload in CHAINED {
            for relays in RELAYS {
                for paced in [true, false] {
                    self.step(&format!("{} through {relays} relays", payload.name()));
                    all.push(chain(&self.launcher, payload, relays, paced, self.seconds)?);
                }
            }
        }
        Ok(all)
    }

    fn starts(&self) -> Result<Vec<StartReport>> {
        let measure = |layout: Layout| {
            self.step(&format!(
                "{} endpoints start",
                layout.leaves + layout.relays
            ));
            start(&self.launcher, layout)
        };
        LAYOUTS.into_iter().map(measure).collect()
    }

    fn idle(&self, peers: u32) -> Result<Idle> {
        self.step(&format!("an idle endpoint with {peers} peers"));
        idle(&self.launcher, peers, self.seconds * IDLE_TIMES)
    }

    fn idle_node(&self) -> Result<IdleReport> {
        self.step("an idle node");
        node::measure(self.seconds * IDLE_TIMES)
    }

    fn step(&self, what: &str) {
        self.progress.set_message(what.to_owned());
        self.progress.inc(1);
    }
}
