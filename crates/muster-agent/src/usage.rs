//! What a process uses, by `/proc` (`proc(5)`).

use std::fs;
use std::time::Duration;

/// What a process has used so far, and uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Time on processors, its own and the system's for it.
    pub(crate) cpu: Duration,
    /// Its memory that is in the machine's, in bytes.
    pub(crate) resident: u64,
    /// The files that it has open, if whoever asks may know.
    pub(crate) open_files: Option<u64>,
    /// When it started, since 1970. The same at every look.
    pub(crate) started: Duration,
}

/// What a process uses. `None` if it has ended.
pub(crate) fn of(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok();
    let mut usage = parse(
        &stat,
        booted(&system)?,
        rustix::param::clock_ticks_per_second(),
        rustix::param::page_size() as u64,
    )?;
    usage.open_files = open.map(|open| open.count() as u64);
    Some(usage)
}

/// When the machine started, since 1970.
fn booted(system: &str) -> Option<Duration> {
    let mut lines = system.lines();
    let seconds = lines.find_map(|line| line.strip_prefix("btime "))?;
    Some(Duration::from_secs(seconds.trim().parse().ok()?))
}

/// How long a process has run. `None` if it has ended.
pub(crate) fn age(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let started = Stat::parse(&text, rustix::param::clock_ticks_per_second())?.started;
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = Duration::new(now.tv_sec.try_into().ok()?, now.tv_nsec.try_into().ok()?);
    Some(now.saturating_sub(started))
}

fn parse(stat: &str, booted: Duration, ticks: u64, page: u64) -> Option<Usage> {
    let stat = Stat::parse(stat, ticks)?;
    Some(Usage {
        cpu: stat.cpu,
        resident: stat.resident_pages.saturating_mul(page),
        open_files: None,
        started: booted.checked_add(stat.started)?,
    })
}

/// What `/proc/PID/stat` says.
struct Stat {
    cpu: Duration,
    resident_pages: u64,
    /// Since the machine started.
    started: Duration,
}

impl Stat {
    fn parse(text: &str, ticks: u64) -> Option<Self> {
        // The name in parentheses may have spaces and parentheses; behind it is field 3.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let time = |number: u64| {
            let rest = u128::from(number % ticks) * 1_000_000_000 / u128::from(ticks);
            let rest = u32::try_from(rest).ok()?;
            Some(Duration::new(number / ticks, rest))
        };
        Some(Self {
            cpu: time(field(14)?.checked_add(field(15)?)?)?,
            resident_pages: field(24)?,
            started: time(field(22)?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const STAT: &str = "1234 (a ) b) S 1 1234 1234 0 -1 4194560 2000 0 0 0 150 75 0 0 20 0 4 0 \
        360025 1000000 2500 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0";

    #[test]
    fn fields_are_counted_from_behind_the_name() {
        let booted = booted("cpu 1 2 3\nbtime 1700000000\nprocesses 7\n").unwrap();
        let usage = parse(STAT, booted, 100, 4096).unwrap();
        let expected = Usage {
            cpu: Duration::from_millis(2250),
            resident: 2500 * 4096,
            open_files: None,
            started: Duration::from_millis(1_700_000_000_000 + 3_600_250),
        };
        assert_eq!(usage, expected);
        for cut in 0..STAT.rfind("2500").unwrap() {
            assert_eq!(parse(&STAT[..cut], booted, 100, 4096), None);
        }
    }

    #[test]
    fn this_process_uses_something_and_one_that_is_not_there_nothing() {
        let usage = of(std::process::id()).unwrap();
        assert!(
            usage.resident > 0 && usage.open_files > Some(0),
            "{usage:?}"
        );
        assert_eq!(of(std::process::id()).unwrap().started, usage.started);
        assert!(age(std::process::id()).unwrap() < Duration::from_secs(86_400));
        assert_eq!(age(u32::MAX), None);
        assert_eq!(of(u32::MAX), None);
    }
}
