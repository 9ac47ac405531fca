//! Ranges over the rounds, and ratios.

use std::time::Duration;

use muster_measure::Engine as _;
use muster_measure::engine::Muster;
use muster_measure::{Chain, IdleReport, Latency, Payload, Table, Throughput, Traffic};

/// Measured values of one kind, one for each round.
struct Range(Vec<f64>);

impl Range {
    fn of<'a, T: 'a>(rows: impl IntoIterator<Item = &'a T>, value: impl Fn(&T) -> f64) -> Self {
        let mut values: Vec<f64> = rows.into_iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(0.0)
    }

    /// The lowest and the highest, with so many digits behind the point.
    fn text(&self, digits: usize) -> String {
        let (Some(low), Some(high)) = (self.0.first(), self.0.last()) else {
            return String::new();
        };
        format!("{low:.digits$} to {high:.digits$}")
    }
}

/// Rows by what they are of, in the order in which they first came.
struct Groups<K, R>(Vec<(K, Vec<R>)>);

impl<K, R> Default for Groups<K, R> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: PartialEq, R> Groups<K, R> {
    fn add(&mut self, key: K, row: R) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, rows)) => rows.push(row),
            None => self.0.push((key, vec![row])),
        }
    }

    fn find(&self, key: &K) -> Option<&Vec<R>> {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.map(|(_, rows)| rows)
    }
}

/// Messages a second.
#[derive(Default)]
pub(crate) struct Rates(Groups<(Traffic, String), Throughput>);

impl Rates {
    pub(crate) fn add(&mut self, row: Throughput) {
        self.0.add((row.traffic, row.engine.clone()), row);
    }

    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(
            3,
            [
                "payload",
                "links",
                "engine",
                "1,000 deliveries/s",
                "MB/s",
                "CPU us each",
                "lost",
                "muster's rate over TCP is",
                "its CPU is",
            ],
        );
        for ((traffic, engine), rows) in &self.0.0 {
            let (rate, cpu) = (rates(rows), cpus(rows));
            let once = if traffic.encoded_once {
                ", encoded once"
            } else {
                ""
            };
            let mut cells = vec![
                format!("{}{once}", traffic.payload.name()),
                format!("1:{}", traffic.links),
                engine.clone(),
                Range::of(rows, |row| row.per_second / 1e3).text(1),
                Range::of(rows, |row| row.megabytes).text(0),
                cpu.text(2),
                rows.iter().map(|row| row.lost).sum::<u64>().to_string(),
            ];
            // As the others: Unix sockets are a row of their own.
            let tcp = Muster::new().over_tcp().name();
            let ours = self.0.find(&(*traffic, tcp.to_owned()));
            if let Some(ours) = ours.filter(|_| engine != tcp) {
                cells.push(format!("{:.2} times", rates(ours).median() / rate.median()));
                cells.push(format!("{:.2} times", cpus(ours).median() / cpu.median()));
            }
            table.row(cells);
        }
        if self.0.0.is_empty() {
            return String::new();
        }
        format!("\n{}", table.text())
    }
}

fn rates(rows: &[Throughput]) -> Range {
    Range::of(rows, |row| row.per_second)
}

fn cpus(rows: &[Throughput]) -> Range {
    Range::of(rows, |row| row.cpu_us)
}

/// Round trips.
#[derive(Default)]
pub(crate) struct Latencies(Groups<String, Latency>);

impl Latencies {
    pub(crate) fn add(&mut self, row: Latency) {
        self.0.add(row.engine.clone(), row);
    }

    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(
            1,
            [
                "round trip, us",
                "p50",
                "p99",
                "p99.9",
                "CPU us each",
                "sent late, p99",
                "unanswered",
                "p50 is, of the bare echo's",
            ],
        );
        let half = |rows: &[Latency]| Range::of(rows, |row| row.report.p50);
        let bare = self
            .0
            .find(&"tcp".to_owned())
            .map(|rows| half(rows).median());
        for (engine, rows) in &self.0.0 {
            let part = bare.map(|bare| format!("{:.2} times", half(rows).median() / bare));
            table.row([
                engine.clone(),
                half(rows).text(1),
                Range::of(rows, |row| row.report.p99).text(0),
                Range::of(rows, |row| row.report.p999).text(0),
                Range::of(rows, |row| row.cpu_us).text(1),
                Range::of(rows, |row| row.report.late_p99).text(0),
                rows.iter()
                    .map(|row| row.report.unanswered)
                    .sum::<u64>()
                    .to_string(),
                part.unwrap_or_default(),
            ]);
        }
        if self.0.0.is_empty() {
            return String::new();
        }
        format!("\n10,000 messages a second\n{}", table.text())
    }
}

/// Messages a second through one hop.
#[derive(Default)]
pub(crate) struct Chains(Groups<(Payload, &'static str), Hop>);

/// What went through a hop.
struct Hop {
    per_second: f64,
    cpu_us: f64,
    lost: u64,
}

/// NATS, through its server.
const SERVER: &str = "nats";

impl Chains {
    pub(crate) fn add_ours(&mut self, row: Chain) {
        let name = if row.paced {
            "muster, one relay, paced"
        } else {
            "muster, one relay, unpaced"
        };
        let hop = Hop {
            per_second: row.per_second,
            cpu_us: row.cpu_us,
            lost: row.lost,
        };
        self.0.add((row.payload, name), hop);
    }

    pub(crate) fn add_theirs(&mut self, row: Throughput) {
        let hop = Hop {
            per_second: row.per_second,
            cpu_us: row.cpu_us,
            lost: row.lost,
        };
        self.0.add((row.traffic.payload, SERVER), hop);
    }

    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(
            2,
            [
                "payload",
                "through one hop",
                "1,000 deliveries/s",
                "CPU us each",
                "lost",
                "its rate is, of NATS's",
            ],
        );
        for ((payload, name), rows) in &self.0.0 {
            let rates = |rows: &[Hop]| Range::of(rows, |row| row.per_second / 1e3);
            let theirs = self.0.find(&(*payload, SERVER));
            let part = theirs.filter(|_| *name != SERVER).map(|theirs| {
                let part = rates(rows).median() / rates(theirs).median();
                format!("{part:.2} times")
            });
            table.row([
                payload.name().to_owned(),
                (*name).to_owned(),
                rates(rows).text(1),
                Range::of(rows, |row| row.cpu_us).text(2),
                rows.iter().map(|row| row.lost).sum::<u64>().to_string(),
                part.unwrap_or_default(),
            ]);
        }
        if self.0.0.is_empty() {
            return String::new();
        }
        format!("\n{}", table.text())
    }
}

/// Idle processes.
#[derive(Default)]
pub(crate) struct Idles(Groups<(String, u32), IdleReport>);

impl Idles {
    pub(crate) fn add(&mut self, engine: &str, peers: u32, row: IdleReport) {
        self.0.add((engine.to_owned(), peers), row);
    }

    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(1, ["idle", "peers", "CPU %", "memory, MiB"]);
        for ((engine, peers), rows) in &self.0.0 {
            let memory = |row: &IdleReport| row.memory.unwrap_or(0) as f64 / f64::from(1 << 20);
            table.row([
                engine.clone(),
                peers.to_string(),
                Range::of(rows, |row| row.cpu_percent).text(3),
                Range::of(rows, memory).text(1),
            ]);
        }
        if self.0.0.is_empty() {
            return String::new();
        }
        format!("\n{}", table.text())
    }
}

/// Messages that are acknowledged.
pub(crate) struct AcknowledgedRow {
    /// How many a second.
    pub(crate) rate: f64,
    /// Seconds of CPU for each, of client and server.
    pub(crate) cpu: f64,
    /// From publishing one to its acknowledgement, if they follow one another.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// What is acknowledged.
#[derive(Default)]
pub(crate) struct Acknowledged(Vec<AcknowledgedRow>);

impl Acknowledged {
    pub(crate) fn add(&mut self, row: AcknowledgedRow) {
        self.0.push(row);
    }

    pub(crate) fn text(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut table = Table::new(
            1,
            [
                "acknowledged",
                "messages/s",
                "CPU us each",
                "one by one, p50 us",
                "p99 us",
            ],
        );
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        table.row([
            "JetStream, file, 1 replica".to_owned(),
            Range::of(&self.0, |row| row.rate).text(0),
            Range::of(&self.0, |row| row.cpu * 1e6).text(1),
            Range::of(&self.0, |row| micros(row.p50)).text(0),
            Range::of(&self.0, |row| micros(row.p99)).text(0),
        ]);
        format!("\n{}", table.text())
    }
}
