//! The thread that writes a logger's files: a disk that hangs does not hang the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use muster_cluster::node::{BatchRefusal, LogBatch, LogDelivery, LogNotes, LogSink, Written};
use muster_data::Timestamp;

/// What waits to be written, in jobs and in bytes of records.
const JOBS: usize = 4096;
const MOST_BYTES: usize = 64 << 20;

/// What has become of jobs and is not heard yet.
const OUTCOMES: usize = 2 * JOBS;

/// What was written is synced together: when the first of it is so old, or when it is so much.
const SYNC_AFTER: Duration = Duration::from_millis(100);
const SYNC_BYTES: usize = 4 << 20;

/// Something to be done with the files.
#[derive(Debug)]
enum Job {
    Write {
        batch: LogBatch,
        delivery: Option<LogDelivery>,
        sequence: u64,
    },
    Note {
        notes: Option<LogNotes>,
        sequence: u64,
    },
    /// What is due by the wall clock.
    Tick,
    Close,
}

/// What has become of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Written {
        sequence: u64,
        stream: String,
        records: u64,
        failed: u64,
        gone: u64,
        refusal: Option<BatchRefusal>,
        problem: Option<String>,
    },
    Synced(u64),
    /// So many records count at another logger.
    Struck(u64),
    NotSynced(String),
    /// Something to be told.
    Problem(String),
    Closed,
}

/// A handle of the thread.
#[derive(Debug)]
pub(super) struct LogWriter {
    jobs: SyncSender<Job>,
    outcomes: Receiver<Outcome>,
    waiting: Arc<AtomicUsize>,
    /// It has not yet done the last [`Job::Tick`].
    is_ticking: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// The end of the thread.
struct Work {
    sink: Box<dyn LogSink>,
    jobs: Receiver<Job>,
    outcomes: SyncSender<Outcome>,
    waiting: Arc<AtomicUsize>,
    is_ticking: Arc<AtomicUsize>,
    node: Thread,
    /// Since when something is not synced, how much it is, and the number of the last.
    since: Option<Instant>,
    bytes: usize,
    last: u64,
}

fn wall() -> Timestamp {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_nanos(i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX))
}

impl LogWriter {
    /// Starts the thread of a node, which is woken when something has become of a job.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn start(name: &str, sink: Box<dyn LogSink>, node: Thread) -> std::io::Result<Self> {
        let (jobs, to_do) = sync_channel(JOBS);
        let (done, outcomes) = sync_channel(OUTCOMES);
        let (waiting, is_ticking) = (Arc::default(), Arc::default());
        let work = Work {
            sink,
            jobs: to_do,
            outcomes: done,
            waiting: Arc::clone(&waiting),
            is_ticking: Arc::clone(&is_ticking),
            node,
            since: None,
            bytes: 0,
            last: 0,
        };
        let thread = std::thread::Builder::new().name(format!("logs of {name}"));
        let thread = thread.spawn(move || work.run())?;
        Ok(Self {
            jobs,
            outcomes,
            waiting,
            is_ticking,
            thread: Some(thread),
        })
    }

    /// Hands over a batch. Returns `false` if there is no room for it.
    #[must_use]
    pub(super) fn write(
        &self,
        batch: LogBatch,
        delivery: Option<LogDelivery>,
        sequence: u64,
    ) -> bool {
        let bytes = batch.bytes();
        if self.waiting.load(Ordering::Relaxed).saturating_add(bytes) > MOST_BYTES {
            return false;
        }
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let job = Job::Write {
            batch,
            delivery,
            sequence,
        };
        let is_taken = self.jobs.try_send(job).is_ok();
        if !is_taken {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_taken
    }

    /// Hands over notes. Returns `false` if there is no room for them.
    #[must_use]
    pub(super) fn note(&self, notes: Option<LogNotes>, sequence: u64) -> bool {
        self.jobs.try_send(Job::Note { notes, sequence }).is_ok()
    }

    /// Has done what is due by the wall clock.
    pub(super) fn tick(&self) {
        if self.is_ticking.swap(1, Ordering::Relaxed) == 0 && self.jobs.try_send(Job::Tick).is_err()
        {
            self.is_ticking.store(0, Ordering::Relaxed);
        }
    }

    /// Returns `true` if so much waits to be written that whoever brings more should wait.
    pub(super) fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > MOST_BYTES / 2
    }

    /// Returns `true` if the thread runs. It ends by itself only if its sink panics.
    pub(super) fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Returns what has become of a job, if anything has that was not heard yet.
    pub(super) fn hear(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }

    /// Has the files closed, and waits for it until `limit`. Returns what is heard meanwhile.
    pub(super) fn close(mut self, limit: Duration, mut hear: impl FnMut(Outcome)) {
        let until = Instant::now() + limit;
        let mut job = Some(Job::Close);
        loop {
            if let Some(close) = job.take()
                && self.jobs.try_send(close).is_err()
            {
                job = Some(Job::Close);
            }
            match self.outcomes.recv_timeout(Duration::from_millis(20)) {
                Ok(Outcome::Closed) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(outcome) => hear(outcome),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => {
                    tracing::error!(
                        "the log files were not closed within {limit:?}: their disk hangs"
                    );
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Work {
    fn run(mut self) {
        loop {
            let job = match self.since {
                None => self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => self
                    .jobs
                    .recv_timeout(SYNC_AFTER.saturating_sub(since.elapsed())),
            };
            match job {
                Ok(Job::Close) => {
                    self.sync();
                    if let Err(problem) = self.sink.close(wall()) {
                        self.tell(Outcome::Problem(problem));
                    }
                    return self.tell(Outcome::Closed);
                }
                Ok(job) => self.work(job),
                Err(RecvTimeoutError::Timeout) => {}
                // The node is gone without a word.
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
            let is_due = self
                .since
                .is_some_and(|since| since.elapsed() >= SYNC_AFTER);
            if is_due || self.bytes >= SYNC_BYTES {
                self.sync();
            }
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Write {
                batch,
                delivery,
                sequence,
            } => {
                let bytes = batch.bytes();
                let Written {
                    records,
                    gone,
                    problem,
                    is_invalid,
                } = self.sink.write(&batch, delivery.as_ref(), wall());
                self.waiting.fetch_sub(bytes, Ordering::Relaxed);
                let failed = (batch.len() as u64).saturating_sub(records);
                let refusal = if is_invalid {
                    BatchRefusal::Invalid
                } else {
                    BatchRefusal::CannotWrite
                };
                // What nobody waits for is written back by the system.
                if delivery.is_some() {
                    self.unsynced(sequence, bytes);
                }
                self.tell(Outcome::Written {
                    sequence,
                    stream: batch.stream,
                    records,
                    failed,
                    gone,
                    refusal: (failed > 0).then_some(refusal),
                    problem,
                });
            }
            Job::Note { notes, sequence } => match self.sink.note(notes.as_ref(), wall()) {
                Ok(()) => {
                    self.unsynced(sequence, 0);
                    let struck = self.sink.take_struck();
                    if struck > 0 {
                        self.tell(Outcome::Struck(struck));
                    }
                }
                Err(problem) => self.tell(Outcome::NotSynced(problem)),
            },
            Job::Tick => {
                let ticked = self.sink.tick(wall());
                self.is_ticking.store(0, Ordering::Relaxed);
                if let Err(problem) = ticked {
                    self.tell(Outcome::Problem(problem));
                }
            }
            Job::Close => {}
        }
    }

    fn unsynced(&mut self, sequence: u64, bytes: usize) {
        self.since.get_or_insert_with(Instant::now);
        self.bytes += bytes;
        self.last = sequence;
    }

    fn sync(&mut self) {
        if self.since.take().is_none() {
            return;
        }
        self.bytes = 0;
        let outcome = match self.sink.sync(wall()) {
            Ok(()) => Outcome::Synced(self.last),
            Err(problem) => Outcome::NotSynced(problem),
        };
        self.tell(outcome);
    }

    /// Tells the node. One that does not listen is waited for: it reads as long as it lives.
    fn tell(&self, outcome: Outcome) {
        let _ = self.outcomes.send(outcome);
        self.node.unpark();
    }
}

/// Lets a sink do without a thread what is asked of it before the node runs.
pub(super) fn recover(
    sink: &mut dyn LogSink,
) -> Result<Vec<muster_cluster::node::ProducerRecord>, String> {
    sink.recover(wall())
}
