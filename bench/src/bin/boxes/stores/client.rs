//! The process that writes to the stores and measures it. It is told what to do and answers, a JSON object on a line. It runs
//! in the network of a box that is none of the cluster's.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use muster::store::{
    CloneOptions, CopyMode, Read, Store, StoreError, StoreErrorKind, StoreName, WriteFailure,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::STORES;
use crate::client::{endpoint, now};

/// How long a write may take while a box is lost.
const LIMIT: Duration = Duration::from_millis(1500);

/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many writes are under way while a store is filled.
const FILLING: u64 = 1024;

/// What an entry holds: with its key it has about a hundred bytes.
const VALUE: &str =
    "OpenSSH 9.6p1 Debian-5, seen in conn.log, first at the sensor in the hall, then on b";

/// What the client is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// Write unique keys for some seconds.
    Write(Job),
    /// Put so many entries into a store.
    Fill { store: usize, entries: u64 },
    /// Remove all that is in a store.
    Clear { store: usize },
    /// Say how many entries a store has.
    Size { store: usize },
    /// Begin to write unique keys, so many writers one after the other each.
    Follow { store: usize, writers: u64 },
    /// End that.
    Stop,
}

/// Writes of unique keys.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) store: usize,
    /// How many are under way at once.
    pub(super) lanes: u64,
    pub(super) seconds: f64,
    /// Whether each waits for the disk.
    pub(super) is_durable: bool,
}

/// What the client answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// It is linked with the cluster, and every store has taken a write.
    Ready,
    Wrote(Written),
    Done,
    Size(u64),
    Followed(History),
    Failed(String),
}

/// What came of a job.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) acknowledged: u64,
    pub(super) seconds: f64,
    /// The median of their latencies, in microseconds, and the slowest of a hundred.
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) trouble: Trouble,
}

/// What writers were told that write one key after the other.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct History {
    /// When each write was acknowledged, in nanoseconds of the machine's monotonic clock.
    pub(super) acknowledged: Vec<u64>,
    pub(super) trouble: Trouble,
}

/// What should not be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Trouble {
    /// Unique writes of a new key of which it was said that the key was there.
    pub(super) wrong: u64,
    /// Writes of which it is not known whether they were applied.
    pub(super) unknown: u64,
    /// How many writes ended with which error.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Trouble {
    /// Takes in the outcome of a unique write.
    fn add(&mut self, outcome: &Result<bool, StoreError>) {
        match outcome {
            Ok(true) => {}
            Ok(false) => self.wrong += 1,
            Err(error) => {
                let is_unknown = matches!(
                    error.kind(),
                    StoreErrorKind::Failed(WriteFailure::Unknown | WriteFailure::NotDurable)
                        | StoreErrorKind::OutcomeUnknown
                );
                self.unknown += u64::from(is_unknown);
                *self.errors.entry(error.to_string()).or_default() += 1;
            }
        }
    }

    pub(super) fn take_in(&mut self, other: &Self) {
        self.wrong += other.wrong;
        self.unknown += other.unknown;
        for (error, count) in &other.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
    }
}

fn say(answer: &Answer) {
    if let Ok(line) = serde_json::to_string(answer) {
        // Whoever has started this is gone, perhaps: then stdin has ended as well.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

/// Runs until stdin ends.
pub(crate) fn run(identity: &Path, addresses: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(identity, addresses))
}

async fn serve(identity: &Path, addresses: &[String]) -> Result<()> {
    let endpoint = endpoint(identity, addresses)?;
    let mut stores = Vec::new();
    for kept in STORES {
        let mut options = CloneOptions::default();
        options.config.copy = CopyMode::None;
        let name = StoreName::new(kept.name).context("a name")?;
        let store = endpoint.open_clone(&name, options).await?;
        stores.push(store.within(PATIENCE).reading(Read::Primary));
    }
    for store in &stores {
        store.put("first", "write").await?;
        store.clear().await?;
    }
    say(&Answer::Ready);
    let mut client = Client {
        stores,
        runs: 0,
        followers: Vec::new(),
        stop: Arc::default(),
    };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = client.obey(serde_json::from_str(&line)?).await;
        say(&answer.unwrap_or_else(|error| Answer::Failed(format!("{error:#}"))));
    }
    Ok(())
}

struct Client {
    stores: Vec<Store>,
    /// Names the keys of a run, which are no other's.
    runs: u64,
    followers: Vec<JoinHandle<History>>,
    /// Ends them.
    stop: Arc<AtomicBool>,
}

impl Client {
    async fn obey(&mut self, ask: Ask) -> Result<Answer> {
        self.runs += 1;
        Ok(match ask {
            Ask::Write(job) => Answer::Wrote(self.write(job).await?),
            Ask::Fill { store, entries } => {
                self.fill(store, entries).await?;
                Answer::Done
            }
            Ask::Clear { store } => {
                self.stores[store].clear().await?;
                Answer::Done
            }
            Ask::Size { store } => Answer::Size(self.stores[store].size().await?),
            Ask::Follow { store, writers } => {
                let stop = Arc::new(AtomicBool::new(false));
                let followers = (0..writers).map(|writer| {
                    let store = self.stores[store].clone().within(LIMIT);
                    spawn_local(follow(store, (self.runs, writer), Arc::clone(&stop)))
                });
                self.followers = followers.collect();
                self.stop = stop;
                Answer::Done
            }
            Ask::Stop => {
                self.stop.store(true, Ordering::Relaxed);
                let mut all = History::default();
                for follower in std::mem::take(&mut self.followers) {
                    let history = follower.await?;
                    all.acknowledged.extend(history.acknowledged);
                    all.trouble.take_in(&history.trouble);
                }
                all.acknowledged.sort_unstable();
                Answer::Followed(all)
            }
        })
    }

    async fn write(&self, job: Job) -> Result<Written> {
        let store = self.stores[job.store].clone();
        let store = if job.is_durable {
            store.durable()
        } else {
            store
        };
        let run = self.runs;
        let began = Instant::now();
        let end = began + Duration::from_secs_f64(job.seconds);
        let lanes = (0..job.lanes).map(|lane| {
            let store = store.clone();
            spawn_local(async move {
                let (mut latencies, mut trouble) = (Vec::new(), Trouble::default());
                let mut number = 0_u64;
                let mut at = Instant::now();
                while at < end {
                    let outcome = store.put_unique(&(run, lane, number), &number).await;
                    let now = Instant::now();
                    if matches!(outcome, Ok(true)) {
                        latencies.push((now - at).as_secs_f32());
                    } else {
                        trouble.add(&outcome);
                    }
                    at = now;
                    number += 1;
                }
                (latencies, trouble)
            })
        });
        let lanes: Vec<_> = lanes.collect();
        let (mut latencies, mut trouble) = (Vec::new(), Trouble::default());
        for lane in lanes {
            let (of_lane, told) = lane.await?;
            latencies.extend(of_lane);
            trouble.take_in(&told);
        }
        let seconds = began.elapsed().as_secs_f64();
        latencies.sort_unstable_by(f32::total_cmp);
        let quantile = |hundredths: usize| {
            let at = latencies.len() * hundredths / 100;
            latencies.get(at).map_or(0.0, |it| f64::from(*it) * 1e6)
        };
        Ok(Written {
            acknowledged: latencies.len() as u64,
            seconds,
            p50_us: quantile(50),
            p99_us: quantile(99),
            trouble,
        })
    }

    async fn fill(&self, store: usize, entries: u64) -> Result<()> {
        let numbers = Rc::new(std::cell::Cell::new(0_u64));
        let lanes = (0..FILLING).map(|_| {
            let (store, numbers) = (self.stores[store].clone(), Rc::clone(&numbers));
            spawn_local(async move {
                loop {
                    let number = numbers.get();
                    if number >= entries {
                        return Ok::<(), StoreError>(());
                    }
                    numbers.set(number + 1);
                    store.put(&format!("entry/{number:08}"), VALUE).await?;
                }
            })
        });
        let lanes: Vec<_> = lanes.collect();
        for lane in lanes {
            lane.await??;
        }
        Ok(())
    }
}

/// Writes one unique key after the other.
async fn follow(store: Store, run: (u64, u64), stop: Arc<AtomicBool>) -> History {
    let mut history = History::default();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let outcome = store.put_unique(&("follow", run, number), &number).await;
        if matches!(outcome, Ok(true)) {
            history.acknowledged.push(now());
        } else {
            history.trouble.add(&outcome);
            // Whoever is refused at once asks again, but not all the time.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        number += 1;
    }
    history
}
