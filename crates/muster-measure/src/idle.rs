//! What an endpoint costs when it has nothing to do.

use std::time::Duration;

use anyhow::{Context, Result};
use muster::wire::QueueLimits;
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Status};
use serde::{Deserialize, Serialize};

use crate::{Control, Job, Launcher, cpu_seconds, cpu_seconds_of, memory_bytes, memory_bytes_of};

/// How much longer than it is told an idle endpoint may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How soon a peer that is not there is dialled again.
const RETRY: Duration = Duration::from_millis(50);

/// What an idle process costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IdleReport {
    /// The share of one processor that it uses, in percent.
    pub cpu_percent: f64,
    /// Its memory, in bytes; `None` if the system does not say.
    pub memory: Option<u64>,
}

/// What an idle Muster endpoint costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Idle {
    /// The number of its peers, which send heartbeats.
    pub peers: u32,
    /// What it costs.
    #[serde(flatten)]
    pub report: IdleReport,
}

/// Measures an idle endpoint with `peers` peers, which are all in one other process.
///
/// # Errors
///
/// Fails if a process does not start, does not do its job, or does not report in time.
pub fn idle(launcher: &Launcher, peers: u32, seconds: f64) -> Result<Idle> {
    let mut endpoint = launcher.start(&Job::Idle { peers, seconds })?;
    let address = endpoint.ready()?;
    let crowd = (peers > 0).then(|| {
        launcher.start(&Job::Crowd {
            address,
            endpoints: peers,
        })
    });
    let crowd = crowd.transpose()?;
    let report = endpoint.report(Duration::from_secs_f64(seconds) + PATIENCE)?;
    drop(crowd);
    Ok(Idle { peers, report })
}

/// Measures a process that is already idle, for `seconds` seconds.
///
/// # Errors
///
/// Fails if the system does not say what the process uses.
pub fn idle_process(pid: u32, seconds: f64) -> Result<IdleReport> {
    let before = cpu_seconds_of(pid)?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok(IdleReport {
        cpu_percent: (cpu_seconds_of(pid)? - before) / seconds * 100.0,
        memory: memory_bytes_of(pid),
    })
}

/// An endpoint that looks at itself once it has its peers.
pub(crate) fn endpoint(peers: u32, seconds: f64, control: &Control) -> Result<IdleReport> {
    crate::engine::runtime()?.block_on(async {
        let endpoint = Endpoint::start(EndpointConfig::default())?;
        let limits = QueueLimits {
            messages: 1024,
            bytes: 1 << 20,
        };
        let mut statuses = endpoint.subscribe_with_statuses(["/idle"], limits).await;
        let address = endpoint.listen(([127, 0, 0, 1], 0).into(), Exposure::Guarded);
        control.ready(&address.await?.to_string())?;
        let mut there = 0;
        while there < peers {
            let next = statuses.receive().await.context("the endpoint has ended")?;
            there += u32::from(matches!(next, Delivery::Status(Status::PeerAdded(_))));
        }
        let before = cpu_seconds();
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok(IdleReport {
            cpu_percent: (cpu_seconds() - before) / seconds * 100.0,
            memory: memory_bytes(),
        })
    })
}

/// Many endpoints that are peers of one.
pub(crate) fn crowd(address: &str, endpoints: u32, control: &Control) -> Result<()> {
    let runtime = crate::engine::runtime()?;
    let _all = runtime.block_on(async {
        let mut all = Vec::new();
        for _ in 0..endpoints {
            let endpoint = Endpoint::start(EndpointConfig::default())?;
            // All at once: joining a mesh takes longer one after the other than together.
            endpoint.dial(address, Some(RETRY));
            all.push(endpoint);
        }
        for endpoint in &all {
            endpoint.peer(address, Some(RETRY)).await?;
        }
        anyhow::Ok(all)
    })?;
    control.ready("")?;
    control.wait();
    Ok(())
}
