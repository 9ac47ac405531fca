//! What a process uses.

use std::fs;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// Ticks of the processor's clock in a second, as Linux counts them for programs.
const TICKS: f64 = 100.0;

/// Returns the CPU time that this process has used so far, in seconds.
pub fn cpu_seconds() -> f64 {
    read(ClockId::ProcessCPUTime)
}

/// A clock that all processes of this machine share, in seconds.
pub(crate) fn clock_seconds() -> f64 {
    read(ClockId::Monotonic)
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn read(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Returns the memory of this process that is in RAM, in bytes, or `None` if the system does not
/// say.
pub fn memory_bytes() -> Option<u64> {
    memory("self", "VmRSS:")
}

/// Returns the most memory of this process that was in RAM at one time, in bytes, or `None` if the
/// system does not say.
pub fn peak_memory_bytes() -> Option<u64> {
    memory("self", "VmHWM:")
}

/// Returns the CPU time that another process has used so far, in seconds. It may not include the
/// last hundredth of a second of threads that have ended.
///
/// # Errors
///
/// Fails if the system does not say.
pub fn cpu_seconds_of(pid: u32) -> Result<f64> {
    Ok(threads_cpu(pid).max(ticks_cpu(pid)?))
}

/// Returns the memory of another process that is in RAM, in bytes, or `None` if the system does not
/// say.
pub fn memory_bytes_of(pid: u32) -> Option<u64> {
    memory(&pid.to_string(), "VmRSS:")
}

fn memory(process: &str, what: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(what))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes << 10)
}

/// What the living threads have used, to the nanosecond; 0 where the system does not say.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn threads_cpu(pid: u32) -> f64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0.0;
    };
    let nanoseconds = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<u64>() as f64 / 1e9
}

/// What the process has used, in hundredths of a second.
fn ticks_cpu(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("stat has a name")?;
    let ticks: Vec<u32> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(ticks.iter().map(|ticks| f64::from(*ticks)).sum::<f64>() / TICKS)
}
