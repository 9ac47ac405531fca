//! The time of a round trip, at a pace that does not depend on the answers.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{Job, Launcher, Plan, cpu_seconds_of};

/// Messages per second.
pub const PER_SECOND: u32 = 10_000;

/// How much longer than its plan a probe may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a probe has measured. Times are in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LatencyReport {
    /// The time that 50 % of the round trips did not exceed.
    pub p50: f64,
    /// The time that 99 % of the round trips did not exceed.
    pub p99: f64,
    /// The time that 99.9 % of the round trips did not exceed.
    pub p999: f64,
    /// The longest time.
    pub max: f64,
    /// How late messages were sent: the time that 99 % did not exceed. It is part of the times
    /// above.
    pub late_p99: f64,
    /// Messages without an answer.
    pub unanswered: u64,
    /// CPU time of the probe, in seconds.
    pub cpu: f64,
}

impl LatencyReport {
    pub(crate) fn new(mut times: Vec<u64>, mut late: Vec<u64>, unanswered: u64, cpu: f64) -> Self {
        times.sort_unstable();
        late.sort_unstable();
        Self {
            p50: percentile(&times, 500),
            p99: percentile(&times, 990),
            p999: percentile(&times, 999),
            max: percentile(&times, 1000),
            late_p99: percentile(&late, 990),
            unanswered,
            cpu,
        }
    }
}

/// The time that so many of a thousand do not exceed, in microseconds.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn percentile(sorted: &[u64], of_1000: usize) -> f64 {
    let rank = (sorted.len() * of_1000).div_ceil(1000).max(1);
    sorted.get(rank - 1).map_or(0.0, |time| *time as f64 / 1e3)
}

/// Round trips of one engine.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// The engine.
    pub engine: String,
    /// What the probe has measured.
    #[serde(flatten)]
    pub report: LatencyReport,
    /// CPU time of one round trip, over the probe, the echo and the server, in microseconds. It
    /// includes what the probe spends on keeping its pace.
    pub cpu_us: f64,
}

/// Measures the round trips of an engine. `hub` is the address of its server and the id of the
/// server's process.
///
/// # Errors
///
/// Fails if a process does not start, does not do its job, or does not report in time.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn latency(
    launcher: &Launcher,
    engine: &str,
    hub: Option<(&str, u32)>,
    seconds: f64,
) -> Result<Latency> {
    let plan = Plan::new(PER_SECOND, seconds);
    let mut echo = launcher.start(&Job::Echo {
        engine: engine.to_owned(),
        hub: hub.map(|(address, _)| address.to_owned()),
    })?;
    let address = echo.ready()?;
    let processes = [Some(echo.id()), hub.map(|(_, pid)| pid)];
    probe(
        launcher,
        engine,
        address,
        plan,
        processes.into_iter().flatten(),
    )
}

/// Measures the round trips to an echo that is already running. The CPU time of `processes` is
/// counted too.
///
/// # Errors
///
/// Fails if the probe does not start, does not do its job, or does not report in time.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn probe(
    launcher: &Launcher,
    engine: &str,
    address: String,
    plan: Plan,
    processes: impl IntoIterator<Item = u32>,
) -> Result<Latency> {
    let processes: Vec<u32> = processes.into_iter().collect();
    let used = || -> Result<f64> { processes.iter().map(|pid| cpu_seconds_of(*pid)).sum() };
    let before = used()?;
    let mut probe = launcher.start(&Job::Probe {
        engine: engine.to_owned(),
        address,
        plan,
    })?;
    let span = Duration::from_secs_f64(plan.messages as f64 / f64::from(plan.per_second));
    let report: LatencyReport = probe.report(span + PATIENCE)?;
    let cpu = used()? - before + report.cpu;
    Ok(Latency {
        engine: engine.to_owned(),
        report,
        cpu_us: cpu * 1e6 / plan.messages as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_seen() {
        let times: Vec<u64> = (1..=1000).map(|time| time * 1000).collect();
        let of = |times: &[u64], of_1000| format!("{}", percentile(times, of_1000));
        assert_eq!(of(&times, 500), "500");
        assert_eq!(of(&times, 999), "999");
        assert_eq!(of(&times, 1000), "1000");
        assert_eq!(of(&times[..3], 999), "3");
        assert_eq!(of(&[], 999), "0");
    }
}
