//! Muster beside NATS, ZeroMQ, zenoh and the C++ Broker: the measurements of `muster bench`, in turns within
//! one run.
//!
//! `cargo run --release -- [--seconds N] [--rounds N] [throughput] [latency] [chain] [idle] [acknowledged]`. NATS takes part if
//! `nats-server` is on the path or named by `NATS_SERVER`, the C++ Broker if `BROKER_BUILD` names the
//! directory of a build's programs. ZeroMQ is the system's libzmq, zenoh its crate. Who does not take part is named.

mod broker;
mod jetstream;
mod nats;
mod report;
mod server;
mod zenoh;
mod zeromq;

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result, bail};
use muster_measure::engine::{Muster, Tcp};
use muster_measure::{
    Engine, Launcher, Payload, Traffic, chain, idle, idle_process, latency, throughput,
};

use broker::{Broker, Build};
use nats::Nats;
use report::{Acknowledged, Chains, Idles, Latencies, Rates};
use server::NatsServer;
use zenoh::Zenoh;
use zeromq::ZeroMq;

/// What makes this program a process of a measurement.
const WORK: &str = "work";

/// The number of a probe's message.
fn number(message: &[u8]) -> u64 {
    let mut number = [0; 8];
    if let Some(bytes) = message.get(..8) {
        number.copy_from_slice(bytes);
    }
    u64::from_le_bytes(number)
}

struct Arguments {
    seconds: f64,
    rounds: u32,
    measurements: Vec<String>,
}

impl Arguments {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut parsed = Self {
            seconds: 3.0,
            rounds: 3,
            measurements: Vec::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().context("a value");
            match argument.as_str() {
                "--seconds" => parsed.seconds = value()?.parse()?,
                "--rounds" => parsed.rounds = value()?.parse()?,
                "throughput" | "latency" | "chain" | "idle" | "acknowledged" => {
                    parsed.measurements.push(argument.clone());
                }
                other => bail!("there is no `{other}`"),
            }
        }
        Ok(parsed)
    }

    fn asked(&self, measurement: &str) -> bool {
        self.measurements.is_empty() || self.measurements.iter().any(|asked| asked == measurement)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [what, job] = &arguments[..]
        && what == WORK
    {
        let engines: [&dyn Engine; 9] = [
            &Muster::new(),
            &Muster::new().over_tcp(),
            &Muster::on_one_thread(),
            &Tcp,
            &Nats,
            &ZeroMq,
            &Zenoh::TCP,
            &Zenoh::UNIX,
            &Broker,
        ];
        return muster_measure::work(job, &engines);
    }
    let arguments = Arguments::parse(&arguments)?;
    let bench = Bench {
        launcher: Launcher::new([WORK])?,
        nats: server::find(),
        broker: std::env::var_os("BROKER_BUILD").map(|folder| Build(folder.into())),
        seconds: arguments.seconds,
    };
    let mut out = std::io::stdout();
    if bench.nats.is_none() {
        writeln!(
            out,
            "NATS is skipped: no nats-server on the path, and no NATS_SERVER"
        )?;
    }
    if bench.broker.is_none() {
        writeln!(out, "The C++ Broker is skipped: no BROKER_BUILD")?;
    }
    writeln!(
        out,
        "{} rounds of {} s; CPU is that of all processes, servers included",
        arguments.rounds, arguments.seconds
    )?;
    let (mut rates, mut latencies, mut idles) =
        (Rates::default(), Latencies::default(), Idles::default());
    let (mut chains, mut acknowledged) = (Chains::default(), Acknowledged::default());
    for round in 1..=arguments.rounds {
        say(&format!("round {round}"));
        if arguments.asked("throughput") {
            bench.throughput(&mut rates)?;
        }
        if arguments.asked("latency") {
            bench.latency(&mut latencies)?;
        }
        if arguments.asked("chain") {
            bench.chain(&mut chains)?;
        }
        if arguments.asked("idle") {
            bench.idle(&mut idles)?;
        }
        if arguments.asked("acknowledged") {
            bench.acknowledged(&mut acknowledged)?;
        }
    }
    let texts = [
        rates.text(),
        latencies.text(),
        chains.text(),
        idles.text(),
        acknowledged.text(),
    ];
    for text in texts {
        write!(out, "{text}")?;
    }
    Ok(())
}

/// Progress, on a terminal only.
fn say(text: &str) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        let _ = writeln!(err, "{text}");
    }
}

struct Bench {
    launcher: Launcher,
    nats: Option<std::path::PathBuf>,
    broker: Option<Build>,
    seconds: f64,
}

impl Bench {
    /// A server of its own for each measurement: what one left behind is no part of the next.
    fn nats_server(&self) -> Result<Option<NatsServer>> {
        self.nats_server_with(false)
    }

    fn nats_server_with(&self, has_streams: bool) -> Result<Option<NatsServer>> {
        let server = self.nats.as_deref();
        let server = server.map(|program| NatsServer::start(&self.launcher, program, has_streams));
        server.transpose()
    }

    fn throughput(&self, rates: &mut Rates) -> Result<()> {
        for payload in Payload::ALL {
            for links in [1, 4] {
                let traffic = Traffic::new(payload, links);
                say(&format!("{} to {links}", payload.name()));
                let measure = |engine: &dyn Engine, hub: Option<(&str, u32)>| {
                    throughput(&self.launcher, engine.name(), hub, traffic, self.seconds)
                };
                rates.add(measure(&Muster::new(), None)?);
                rates.add(measure(&Muster::new().over_tcp(), None)?);
                rates.add(measure(&ZeroMq, None)?);
                rates.add(measure(&Zenoh::TCP, None)?);
                rates.add(measure(&Zenoh::UNIX, None)?);
                if let Some(server) = self.nats_server()? {
                    rates.add(measure(&Nats, Some((&server.address, server.pid)))?);
                }
                if let (Payload::Conn, 1, Some(build)) = (payload, links, &self.broker) {
                    rates.add(build.throughput(&self.launcher, self.seconds)?);
                }
                if payload == Payload::Mib1 && links == 1 {
                    let traffic = Traffic {
                        encoded_once: true,
                        ..traffic
                    };
                    let over_tcp = Muster::new().over_tcp();
                    for engine in [&Muster::new() as &dyn Engine, &over_tcp, &Tcp] {
                        let name = engine.name();
                        let launcher = &self.launcher;
                        rates.add(throughput(launcher, name, None, traffic, self.seconds)?);
                    }
                }
            }
        }
        Ok(())
    }

    fn latency(&self, latencies: &mut Latencies) -> Result<()> {
        say("round trips");
        let measure = |engine: &dyn Engine, hub: Option<(&str, u32)>| {
            latency(&self.launcher, engine.name(), hub, self.seconds)
        };
        latencies.add(measure(&Tcp, None)?);
        latencies.add(measure(&Muster::on_one_thread(), None)?);
        latencies.add(measure(&Muster::new(), None)?);
        latencies.add(measure(&Muster::new().over_tcp(), None)?);
        latencies.add(measure(&ZeroMq, None)?);
        latencies.add(measure(&Zenoh::TCP, None)?);
        latencies.add(measure(&Zenoh::UNIX, None)?);
        if let Some(server) = self.nats_server()? {
            latencies.add(measure(&Nats, Some((&server.address, server.pid)))?);
        }
        if let Some(build) = &self.broker {
            latencies.add(build.latency(&self.launcher, self.seconds)?);
        }
        Ok(())
    }

    /// What is delivered through one process between publisher and subscriber, a relay or a server.
    fn chain(&self, chains: &mut Chains) -> Result<()> {
        for payload in [Payload::Record128, Payload::Kib16] {
            say(&format!("{} through one hop", payload.name()));
            for paced in [true, false] {
                chains.add_ours(chain(&self.launcher, payload, 1, paced, self.seconds)?);
            }
            if let Some(server) = self.nats_server()? {
                let (hub, traffic) = ((&*server.address, server.pid), Traffic::new(payload, 1));
                let row = throughput(
                    &self.launcher,
                    Nats.name(),
                    Some(hub),
                    traffic,
                    self.seconds,
                );
                chains.add_theirs(row?);
            }
        }
        Ok(())
    }

    /// What a server has in a file before it says so. Muster's own are measured by `keyed` and `logs` of `muster-bench`.
    fn acknowledged(&self, rows: &mut Acknowledged) -> Result<()> {
        say("acknowledged");
        if let Some(server) = self.nats_server_with(true)? {
            rows.add(jetstream::acknowledged(&server, self.seconds)?);
        }
        Ok(())
    }

    fn idle(&self, idles: &mut Idles) -> Result<()> {
        say("idle");
        let launcher = &self.launcher;
        for peers in [0, 100] {
            idles.add("muster", peers, idle(launcher, peers, self.seconds)?.report);
            if let Some(build) = &self.broker {
                idles.add("broker", peers, build.idle(launcher, peers, self.seconds)?);
            }
        }
        if let Some(server) = self.nats_server()? {
            idles.add("nats-server", 0, idle_process(server.pid, self.seconds)?);
        }
        Ok(())
    }
}
