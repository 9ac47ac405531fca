//! Writes to stores with one copy and with two, in turns.

use anyhow::{Context, Result};
use muster_measure::cpu_seconds_of;

use super::client::{Ask, Job};
use super::report::{Compared, Cpu, Run};
use super::{Client, DATA, Plan};
use crate::founding::Cluster;

/// How many writes are under way at once where they do not wait for one another.
pub(super) const PIPELINED: u64 = 512;

/// For how much of a run's time the store is written to before it, so that all runs begin alike.
const WARMING: f64 = 0.1;

/// What `/proc/stat` counts in: hundredths of a second.
const TICKS: f64 = 100.0;

/// What writes.
pub(super) struct Writing<'a> {
    client: &'a mut Client,
    plan: &'a Plan,
    /// The nodes with data, and the client.
    processes: [u32; 3],
}

impl<'a> Writing<'a> {
    pub(super) fn new(
        cluster: &Cluster<'_>,
        client: &'a mut Client,
        plan: &'a Plan,
    ) -> Result<Self> {
        let [a, b] = DATA;
        let processes = [cluster.pid(a)?, cluster.pid(b)?, client.pid()];
        Ok(Self {
            client,
            plan,
            processes,
        })
    }

    /// Writes to the one and to the other store in turns.
    pub(super) fn compare(
        &mut self,
        stores: [usize; 2],
        lanes: u64,
        is_durable: bool,
    ) -> Result<Compared> {
        let mut compared = Compared::default();
        for _ in 0..self.plan.repeat {
            for (store, runs) in stores
                .into_iter()
                .zip([&mut compared.one_copy, &mut compared.two_copies])
            {
                let job = Job {
                    store,
                    lanes,
                    seconds: self.plan.seconds,
                    is_durable,
                };
                runs.push(self.run(job)?);
            }
        }
        compared.settle();
        Ok(compared)
    }

    fn run(&mut self, job: Job) -> Result<Run> {
        self.client.write(Job {
            seconds: job.seconds * WARMING,
            ..job
        })?;
        let before = self.cpu()?;
        let written = self.client.write(job)?;
        let after = self.cpu()?;
        self.client.order(&Ask::Clear { store: job.store })?;
        let used: [f64; 4] = std::array::from_fn(|at| after[at] - before[at]);
        Ok(Run::of(&written, &Cpu::of(used)))
    }

    /// The CPU seconds of these, and of all other processes together.
    fn cpu(&self) -> Result<[f64; 4]> {
        let [a, b, client] = self.processes;
        let [a, b, client] = [
            cpu_seconds_of(a)?,
            cpu_seconds_of(b)?,
            cpu_seconds_of(client)?,
        ];
        Ok([a, b, client, machine_seconds()? - a - b - client])
    }
}

/// The CPU seconds that the machine's processors were busy so far.
fn machine_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("it has lines")?;
    let ticks = line.split_whitespace().skip(1).map(str::parse);
    let ticks = ticks.collect::<Result<Vec<f64>, _>>()?;
    // The fourth and the fifth are idle, those from the eighth on other machines' or in the first two.
    let busy = ticks
        .iter()
        .enumerate()
        .filter(|(at, _)| !matches!(at, 3 | 4 | 7..));
    Ok(busy.map(|(_, ticks)| ticks / TICKS).sum())
}
