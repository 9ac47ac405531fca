//! The C++ Broker, by the programs that come with it: `broker-throughput` sends its own rows of conn.log
//! and counts them, looking at no field; `broker-node` echoes what an endpoint of Muster sends.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use muster::wire::Topic;
use muster::{Delivery, Endpoint, EndpointConfig};
use muster_data::{DataRef, Record};
use muster_measure::{
    Answers, Control, Engine, IdleReport, Job, Latency, LatencyReport, Launcher, PER_SECOND,
    Payload, Plan, Published, QUIET, Schedule, Tally, Throughput, Traffic, Worker, cpu_seconds_of,
    idle_process, pace, probe,
};
use tokio::runtime::Builder;

/// Where the echo listens and answers.
const TOPIC: &str = "/bench";

/// How long a program may say nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// Items that a peer's queue holds before Broker ends the peering.
const PEER_BUFFER: &str = "--peer-buffer-size=100000000";

/// The rows that are counted per line of `broker-throughput`.
const LINE: &str = "rate: ";

/// Where the programs of a build of Broker are.
pub(crate) struct Build(pub(crate) PathBuf);

impl Build {
    fn start(&self, launcher: &Launcher, program: &str, arguments: &[&str]) -> Result<Worker> {
        let arguments = ["--disable-ssl"].iter().chain(arguments);
        launcher.start(&Job::Guard {
            program: self.0.join(program).display().to_string(),
            arguments: arguments.map(|argument| (*argument).to_owned()).collect(),
        })
    }

    /// Rows of conn.log from one `broker-throughput` to another.
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn throughput(&self, launcher: &Launcher, seconds: f64) -> Result<Throughput> {
        let arguments = ["--server", "--verbose", "127.0.0.1:0"];
        let mut server = self.start(launcher, "broker-throughput", &arguments)?;
        let (mut pid, mut port) = (None, None);
        let (server_pid, port) = loop {
            let line = server.line(PATIENCE)?;
            if let Some(text) = line.strip_prefix("*** listening on ") {
                port = Some(text.to_owned());
            }
            pid = pid.or(line.parse::<u32>().ok());
            if let (Some(pid), Some(port)) = (pid, &port) {
                break (pid, port.clone());
            }
        };
        let address = format!("127.0.0.1:{port}");
        let arguments = ["--event-type=2", "--batch-rate=0", PEER_BUFFER, &address];
        let mut client = self.start(launcher, "broker-throughput", &arguments)?;
        let client_pid: u32 = client.line(PATIENCE)?.parse()?;
        // The first second with messages has not seen all of itself.
        while rate(&mut server)? == 0 {}
        let used = || anyhow::Ok((cpu_seconds_of(client_pid)?, cpu_seconds_of(server_pid)?));
        let before = used()?;
        let (mut messages, mut lines) = (0, 0);
        while f64::from(lines) < seconds {
            messages += rate(&mut server)?;
            lines += 1;
        }
        let after = used()?;
        let (sending, receiving) = (after.0 - before.0, after.1 - before.1);
        if messages == 0 {
            bail!("broker-throughput delivers nothing");
        }
        let traffic = Traffic::new(Payload::Conn, 1);
        let per_second = messages as f64 / f64::from(lines);
        Ok(Throughput {
            engine: "broker".to_owned(),
            traffic,
            per_second,
            megabytes: per_second * traffic.payload.opaque()?.len() as f64 / 1e6,
            cpu_us: (sending + receiving) * 1e6 / messages as f64,
            publisher_cpu_us: sending * 1e6 / messages as f64,
            lost: 0,
        })
    }

    /// Round trips from an endpoint of Muster to `broker-node`.
    pub(crate) fn latency(&self, launcher: &Launcher, seconds: f64) -> Result<Latency> {
        let (node, pid, address) = self.node(launcher, "pong")?;
        let plan = Plan::new(PER_SECOND, seconds);
        let measured = probe(launcher, Broker.name(), address, plan, [pid])?;
        drop(node);
        Ok(measured)
    }

    /// A `broker-node` alone, or with endpoints of Muster as its peers.
    pub(crate) fn idle(&self, launcher: &Launcher, peers: u32, seconds: f64) -> Result<IdleReport> {
        let (node, pid, address) = self.node(launcher, "relay")?;
        let mut crowd = launcher.start(&Job::Crowd {
            address,
            // One waits until the node is there.
            endpoints: peers.max(1),
        })?;
        crowd.ready()?;
        if peers == 0 {
            drop(crowd);
            let report = idle_process(pid, seconds);
            drop(node);
            return report;
        }
        idle_process(pid, seconds)
    }

    fn node(&self, launcher: &Launcher, mode: &str) -> Result<(Worker, u32, String)> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (mode, topics) = (format!("--mode={mode}"), format!("--topics=[\"{TOPIC}\"]"));
        let listen = format!("--port={port}/tcp");
        let mut node = self.start(launcher, "broker-node", &[&mode, &topics, &listen])?;
        let pid = node.line(PATIENCE)?.parse()?;
        Ok((node, pid, format!("127.0.0.1:{port}")))
    }
}

/// The events that the server counted in the last second.
fn rate(server: &mut Worker) -> Result<u64> {
    loop {
        if let Some(text) = server.line(PATIENCE)?.strip_prefix(LINE) {
            let number = text.split_whitespace().next().context("a number")?;
            return Ok(number.parse()?);
        }
    }
}

/// Sends to a `broker-node`. The other jobs are done by Broker's own programs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Broker;

#[derive(Record)]
#[record(name = "Bench::ping")]
struct Ping {
    word: String,
    number: u64,
    filler: String,
}

#[derive(Record)]
#[record(name = "Bench::pong")]
struct Pong {
    word: String,
    number: u64,
}

impl Engine for Broker {
    fn name(&self) -> &'static str {
        "broker"
    }

    fn subscribe(&self, _: Option<&str>, _: Traffic, _: &Control, _: &mut Tally) -> Result<()> {
        bail!("broker-throughput does this")
    }

    fn publish(&self, _: &[String], _: Traffic, _: f64) -> Result<Published> {
        bail!("broker-throughput does this")
    }

    fn echo(&self, _: Option<&str>, _: &Control) -> Result<()> {
        bail!("broker-node does this")
    }

    fn probe(&self, address: &str, plan: Plan) -> Result<LatencyReport> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let endpoint = Endpoint::start(EndpointConfig::default())?;
            let mut subscriber = endpoint.subscribe([TOPIC]).await;
            endpoint
                .peer(address, Some(Duration::from_millis(50)))
                .await?;
            let mut publisher = endpoint.publisher();
            let topic = Topic::new(TOPIC)?;
            let ping = |number| Ping {
                word: "ping".to_owned(),
                number,
                filler: String::new(),
            };
            // The peering is there before Broker has taken it into its routes.
            loop {
                let _ = publisher.publish(&topic, &ping(u64::MAX));
                let answer = subscriber.receive();
                if tokio::time::timeout(Duration::from_millis(100), answer)
                    .await
                    .is_ok()
                {
                    break;
                }
            }
            let schedule = Schedule::begin(plan);
            let mut answers = Answers::new(schedule);
            let sender = std::thread::spawn(move || {
                pace(schedule, |number| {
                    let _ = publisher.publish(&topic, &ping(number));
                })
            });
            while !answers.are_all() {
                let quiet = QUIET + Duration::from_secs(1);
                let next = tokio::time::timeout(quiet, subscriber.receive()).await;
                let Ok(Some(delivery)) = next else { break };
                if let Delivery::Batch(batch) = delivery {
                    for message in batch.iter() {
                        let pong: Pong = DataRef::from_validated(message.payload).to()?;
                        if pong.word == "pong" && pong.number < plan.messages {
                            answers.add(pong.number);
                        }
                    }
                }
            }
            let late = sender.join().ok().context("the sender panicked")?;
            Ok(answers.report(late))
        })
    }
}
