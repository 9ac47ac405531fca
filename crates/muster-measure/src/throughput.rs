//! How much passes from one publisher to its subscribers.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::ledger::rate;
use crate::{Delivered, Job, Launcher, Traffic, cpu_seconds_of};

/// How much longer than it is told a publisher may take, and a subscriber behind it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a publisher has sent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Published {
    /// The number of messages.
    pub messages: u64,
    /// Messages that were lost within the publisher's process, as far as it knows.
    pub dropped: u64,
    /// CPU time, in seconds.
    pub cpu: f64,
}

/// How much passed from one publisher to its subscribers.
#[derive(Debug, Clone, Serialize)]
pub struct Throughput {
    /// The engine.
    pub engine: String,
    /// What was sent.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Deliveries per second, over all subscribers.
    pub per_second: f64,
    /// Megabytes of payload per second, over all subscribers.
    pub megabytes: f64,
    /// CPU time of one delivery over all processes, in microseconds.
    pub cpu_us: f64,
    /// The publisher's share of it.
    pub publisher_cpu_us: f64,
    /// Messages that were not delivered.
    pub lost: u64,
}

/// Measures an engine. `hub` is the address of its server and the id of the server's process.
///
/// # Errors
///
/// Fails if a process does not start, does not do its job, or does not report in time.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn throughput(
    launcher: &Launcher,
    engine: &str,
    hub: Option<(&str, u32)>,
    traffic: Traffic,
    seconds: f64,
) -> Result<Throughput> {
    let mut subscribers = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..traffic.links {
        let mut subscriber = launcher.start(&Job::Subscribe {
            engine: engine.to_owned(),
            hub: hub.map(|(address, _)| address.to_owned()),
            traffic,
        })?;
        addresses.push(subscriber.ready()?);
        subscribers.push(subscriber);
    }
    let hub_cpu = || hub.map_or(Ok(0.0), |(_, pid)| cpu_seconds_of(pid));
    let before = hub_cpu()?;
    let mut publisher = launcher.start(&Job::Publish {
        engine: engine.to_owned(),
        addresses,
        traffic,
        seconds,
    })?;
    let published: Published = publisher.report(Duration::from_secs_f64(seconds) + PATIENCE)?;
    for subscriber in &mut subscribers {
        subscriber.finish(published.messages)?;
    }
    let all: Vec<Delivered> = subscribers
        .iter_mut()
        .map(|subscriber| subscriber.report(PATIENCE))
        .collect::<Result<_>>()?;
    let received: f64 = all.iter().map(|one| one.cpu).sum();
    let cpu = received + published.cpu + hub_cpu()? - before;
    let messages: u64 = all.iter().map(|one| one.messages).sum();
    let (per_second, deliveries) = (rate(&all), messages.max(1) as f64);
    let bytes = traffic.payload.opaque()?.len() as f64;
    Ok(Throughput {
        engine: engine.to_owned(),
        traffic,
        per_second,
        megabytes: per_second * bytes / 1e6,
        cpu_us: cpu * 1e6 / deliveries,
        publisher_cpu_us: published.cpu * 1e6 / deliveries,
        lost: (published.messages * u64::from(traffic.links)).saturating_sub(messages),
    })
}
