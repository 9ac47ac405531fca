//! The input itself: files in, paced batches out.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_data::Timestamp;
use muster_wire::Mono;

use super::batch::InputBatch;
use super::clock::Clock;
use super::error::InputError;
use super::merge::Merge;
use super::pattern::expand;
use super::share::Share;
use crate::zeek_log::ConnectionReader;

/// The most files of one input; each is open and has buffers of about 200 KiB.
pub const MOST_FILES: usize = 1024;

/// The most problems that a summary lists.
pub const MOST_PROBLEMS: usize = 20;

/// The longest time that a released event waits for its batch, and that the input sleeps without looking at its stop
/// flag.
pub const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// Rows of other shares after which a batch is due although it may hold nothing but a watermark.
const MOST_ROWS: usize = 8192;

/// What an input reads, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct LogInputConfig {
    /// The logs. `*` and `?` in the last part of a path are wildcards.
    pub files: Vec<PathBuf>,
    /// The share of the connections that this input brings.
    pub share: Share,
    /// How many times faster than real time rows are released; 0 is as fast as possible.
    pub speed: f64,
}

/// What became of the rows of an input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct InputSummary {
    /// All rows that were read: the sum of the four below.
    pub rows: u64,
    /// Rows that were handed over as events.
    pub events: u64,
    /// Rows that describe no connection.
    pub skipped: u64,
    /// Rows of connections that belong to other shares.
    pub other_share: u64,
    /// Rows that could not be read.
    pub bad_rows: u64,
    /// Files that are damaged or are not logs; what came before the damage was handed over.
    pub failed_files: u64,
    /// The first problems, at most 20, each with file and line.
    pub problems: Vec<String>,
}

/// Many logs as one input.
#[derive(Debug)]
pub struct LogInput {
    readers: Vec<ConnectionReader>,
    share: Share,
    speed: f64,
}

impl LogInput {
    /// Finds and opens all files.
    ///
    /// # Errors
    /// [`InputError`] if a pattern matches nothing, a directory cannot be searched, a file cannot be opened, there are
    /// more than [`MOST_FILES`], or the speed is negative or not a number.
    pub fn new(config: &LogInputConfig) -> Result<Self, InputError> {
        let LogInputConfig {
            files,
            share,
            speed,
        } = config;
        if !speed.is_finite() || *speed < 0.0 {
            return Err(InputError::Speed(*speed));
        }
        let files = expand(files)?;
        if files.len() > MOST_FILES {
            return Err(InputError::TooManyFiles {
                found: files.len(),
                most: MOST_FILES,
            });
        }
        let readers = files.iter().map(|file| ConnectionReader::open(file));
        Ok(Self {
            readers: readers
                .collect::<Result<_, _>>()
                .map_err(InputError::File)?,
            share: *share,
            speed: *speed,
        })
    }

    /// Hands all events over to `sink`, in batches, until the files have ended, `sink` breaks or `stop` is set. After
    /// a stop, what was released is still handed over. Returns what became of the rows. Blocks the thread.
    ///
    /// If the input is paced, a row is released when the time since the start is the time between the first row of all
    /// files and the latest row so far, divided by the speed. Released rows wait for their batch for [`LONGEST_WAIT`]
    /// at most, and `stop` takes effect within the same time.
    pub fn run(
        self,
        clock: &impl Clock,
        stop: &AtomicBool,
        sink: impl FnMut(InputBatch) -> ControlFlow<()>,
    ) -> InputSummary {
        let (merge, started) = Merge::start(self.readers, self.share, stop);
        let mut run = Run {
            batch: InputBatch::new(merge.low()),
            merge,
            clock,
            stop,
            sink,
            rows: 0,
            since: Mono::default(),
            told: None,
        };
        // A break is no failure: whoever broke knows.
        let _ = started.is_continue() && run.all(self.speed).is_continue();
        let mut summary = run.merge.summary;
        summary.rows = summary.events + summary.skipped + summary.other_share + summary.bad_rows;
        summary
    }
}

struct Run<'a, C, S> {
    merge: Merge,
    clock: &'a C,
    stop: &'a AtomicBool,
    sink: S,
    batch: InputBatch,
    /// Rows passed since the last batch.
    rows: usize,
    /// When the first of them was.
    since: Mono,
    /// The watermark of the last batch.
    told: Option<Timestamp>,
}

impl<C: Clock, S: FnMut(InputBatch) -> ControlFlow<()>> Run<'_, C, S> {
    fn all(&mut self, speed: f64) -> ControlFlow<()> {
        let mut pace = (speed > 0.0)
            .then(|| self.merge.next_time())
            .flatten()
            .map(|first| Pace {
                start: self.clock.now(),
                first,
                latest: first,
                speed,
            });
        while let Some(ts) = self.merge.next_time() {
            let goes_on = match &mut pace {
                Some(pace) => {
                    let due = pace.due(ts);
                    self.wait(due)?
                }
                None => !self.stop.load(Ordering::Relaxed),
            };
            if !goes_on {
                break;
            }
            if self.rows == 0 {
                self.since = self.clock.now();
            }
            self.rows += 1;
            let stopped = self.merge.pass(self.stop, |event| self.batch.push(event));
            if stopped.is_break() {
                break;
            }
            if self.batch.is_full() || self.rows >= MOST_ROWS {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Waits for a row's time, and hands over what must not wait as long. `false` if the input is to
    /// stop.
    fn wait(&mut self, due: Mono) -> ControlFlow<(), bool> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return ControlFlow::Continue(false);
            }
            let mut now = self.clock.now();
            let flush_at = self.since.after(LONGEST_WAIT);
            if self.rows > 0 && now >= flush_at {
                self.flush()?;
                now = self.clock.now();
            }
            if now >= due {
                return ControlFlow::Continue(true);
            }
            let until = if self.rows > 0 {
                due.min(flush_at)
            } else {
                due
            };
            self.clock.sleep(until.since(now).min(LONGEST_WAIT));
        }
    }

    /// Hands over the batch, unless it says nothing new.
    fn flush(&mut self) -> ControlFlow<()> {
        self.rows = 0;
        let low = self.merge.low();
        if self.batch.is_empty() && self.told.is_some_and(|told| told >= low) {
            return ControlFlow::Continue(());
        }
        self.told = Some(low);
        let mut batch = std::mem::replace(&mut self.batch, InputBatch::new(low));
        batch.low = low;
        (self.sink)(batch)
    }
}

/// When rows are released.
struct Pace {
    start: Mono,
    first: Timestamp,
    latest: Timestamp,
    speed: f64,
}

impl Pace {
    fn due(&mut self, ts: Timestamp) -> Mono {
        self.latest = self.latest.max(ts);
        let seconds = (self.latest - self.first).as_secs_f64() / self.speed;
        let span = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        self.start.after(span)
    }
}
