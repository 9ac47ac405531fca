//! What a relay pays for a message when more and more endpoints publish, together always the same.
//!
//! `cargo run --release -p muster-bench --bin origins`. The publishers are in this process, each an endpoint with a
//! connection of its own; the relay and the subscriber behind it have processes of theirs.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use muster::wire::Topic;
use muster::{Endpoint, EndpointConfig, Forwarding, LocalTransport, Publisher};
use muster_measure::{Delivered, Flow, Job, Launcher, Payload, cpu_seconds_of};

/// What makes this program a process of the measurement.
const WORK: &str = "work";

/// Where the subscriber of a chain listens.
const TOPIC: &str = "/bench";

const ORIGINS: [usize; 4] = [1, 4, 16, 64];

/// The messages of all publishers in a second.
const RATE: u64 = 100_000;

/// How long they publish, and how often some of their messages go out.
const SECONDS: u64 = 4;
const TICK: Duration = Duration::from_millis(1);

const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => {}
        [what, job] if what == WORK => return muster_measure::work(job, &[]),
        _ => bail!("takes no arguments"),
    }
    let launcher = Launcher::new([WORK])?;
    let mut out = std::io::stdout();
    for local in [LocalTransport::Auto, LocalTransport::Off] {
        for origins in ORIGINS {
            let (relay, arrived) = measure(&launcher, origins, local)?;
            writeln!(
                out,
                "{origins} publishers, {local:?}: {relay:.2} us of the relay's CPU a message, {arrived} of {} arrived",
                RATE * SECONDS
            )?;
        }
    }
    Ok(())
}

/// The relay's CPU of a message, in microseconds, and how many messages arrived.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are far below 2^52"
)]
fn measure(launcher: &Launcher, origins: usize, local: LocalTransport) -> Result<(f64, u64)> {
    let payload = Payload::Record128;
    let mut last = launcher.start(&Job::Last { payload })?;
    let next = last.ready()?;
    let mut relay = launcher.start(&Job::Relay { next })?;
    let address = relay.ready()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let endpoints: Vec<Endpoint> = runtime.block_on(async {
        let mut endpoints = Vec::new();
        for _ in 0..origins {
            let endpoint = Endpoint::start(EndpointConfig {
                forwarding: Forwarding::Leaf,
                local,
                ..EndpointConfig::default()
            })?;
            endpoint.peer(&address, None).await?;
            endpoints.push(endpoint);
        }
        anyhow::Ok(endpoints)
    })?;
    let (topic, row) = (Topic::new(TOPIC)?, Flow::sample()?);
    let mut publishers: Vec<Publisher> = endpoints.iter().map(Endpoint::publisher).collect();
    let mut sent = 0;
    for publisher in &mut publishers {
        let start = Instant::now();
        while publisher.publish(&topic, &row).no_subscriber() {
            if start.elapsed() > PATIENCE {
                bail!("nobody subscribes");
            }
            std::thread::sleep(TICK);
        }
        sent += 1;
    }
    let before = cpu_seconds_of(relay.id())?;
    let start = Instant::now();
    let mut turn = 0;
    while sent < RATE * SECONDS {
        let due = (start.elapsed().as_secs_f64() * RATE as f64) as u64;
        while sent < due.min(RATE * SECONDS) {
            let _ = publishers[turn].publish(&topic, &row);
            turn = (turn + 1) % publishers.len();
            sent += 1;
        }
        std::thread::sleep(TICK);
    }
    last.finish(sent)?;
    let delivered: Delivered = last.report(PATIENCE)?;
    let used = cpu_seconds_of(relay.id())? - before;
    runtime.block_on(async {
        for endpoint in endpoints {
            endpoint.shut_down().await;
        }
    });
    Ok((used * 1e6 / sent as f64, delivered.messages))
}
