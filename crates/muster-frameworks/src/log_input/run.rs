//! The input itself: files in, paced batches out.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_data::{Timespan, Timestamp};
use muster_wire::Mono;

use super::batch::InputBatch;
use super::clock::Clock;
use super::counters::InputCounted;
use super::error::InputError;
use super::follow::{Follower, ReadSoFar};
use super::judge::{FORWARD, is_before};
use super::merge::Merge;
use super::pattern::{all_files, find};
use super::share::Share;
use super::summary::InputSummary;

/// The most files of one input.
pub const MOST_FILES: usize = 100_000;

/// The longest time that a released event waits for its batch, and that the input sleeps without looking at its stop
/// flag.
pub const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// How often files are looked at that may have grown.
const GROWTH_POLL: Duration = Duration::from_millis(50);

/// Rows of other shares after which a batch is due although it may hold nothing but a watermark.
const MOST_ROWS: usize = 8192;

/// What an input reads, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct LogInputConfig {
    /// The logs, as [`find`] takes them: files, directories, and patterns with `*` and `?`.
    pub files: Vec<PathBuf>,
    /// The share of the connections that this input brings.
    pub share: Share,
    /// How many times faster than real time rows are released; 0 is as fast as possible. Logs that are followed are
    /// read as they grow, whatever this is.
    pub speed: f64,
    /// Where the input keeps how far it has come, if it is to follow its logs as they grow. Then it has no end.
    pub follow: Option<PathBuf>,
}

/// Many logs as one input.
#[derive(Debug)]
pub struct LogInput {
    config: LogInputConfig,
}

impl LogInput {
    /// Creates an input. Its files are looked for when it runs.
    ///
    /// # Errors
    /// [`InputError`] if the speed is negative or not a number.
    pub fn new(config: &LogInputConfig) -> Result<Self, InputError> {
        let speed = config.speed;
        if !speed.is_finite() || speed < 0.0 {
            return Err(InputError::Speed(speed));
        }
        Ok(Self {
            config: config.clone(),
        })
    }

    /// Hands all events over to `sink`, in batches, until the files have ended, `sink` breaks or `stop` is set. After
    /// a stop, what was released is still handed over. Returns what became of the rows. Blocks the thread.
    ///
    /// A file that cannot be opened or is no log, and a pattern that matches nothing, is told in the batches' notes and
    /// in the summary, and costs only itself. What comes through a pipe is handed over as it comes.
    ///
    /// If the input is paced, a row is released when the time since the start is the time between the first row of all
    /// files and the latest row so far, divided by the speed. Gaps of more than a day count for nothing, and rows whose
    /// time is out of line neither. Released rows wait for their batch for [`LONGEST_WAIT`] at most, and `stop` takes
    /// effect within the same time.
    ///
    /// If it follows its logs, it reads what is there and then what is appended, through rotation and truncation. How
    /// far it has come is written to its file once a second, behind what `sink` has taken: after a crash some rows may
    /// come again.
    pub fn run(
        self,
        clock: &impl Clock,
        stop: &AtomicBool,
        sink: impl FnMut(InputBatch) -> ControlFlow<()>,
    ) -> InputSummary {
        self.run_keeping(clock, stop, sink, ReadSoFar::write)
    }

    /// Like [`run`](Self::run), for a `sink` that does not do at once what comes of its batches: how far the input has come is given to
    /// `keep` behind the batches, to be written when that is done. What is not written, as a later one is, may be dropped.
    pub fn run_keeping(
        self,
        clock: &impl Clock,
        stop: &AtomicBool,
        sink: impl FnMut(InputBatch) -> ControlFlow<()>,
        keep: impl FnMut(ReadSoFar),
    ) -> InputSummary {
        let LogInputConfig {
            files,
            share,
            speed,
            follow,
        } = self.config;
        let mut merge = Merge::new(share, follow.is_some());
        let mut follower = None;
        let started = if let Some(positions) = follow {
            let mut new = Follower::new(files, positions, &mut merge.tally);
            new.scan(&mut merge, clock.now());
            follower = Some(new);
            merge.poll(stop)
        } else {
            let files = files_of(&files, &mut merge.tally);
            merge.start(files, stop)
        };
        let pace = (speed > 0.0 && follower.is_none()).then_some(speed);
        let mut run = Run {
            batch: InputBatch::new(merge.low()),
            merge,
            follower,
            clock,
            stop,
            sink,
            keep,
            rows: 0,
            since: Mono::default(),
            next_poll: Mono::default(),
            told: None,
            counted: InputCounted::default(),
        };
        // A break is no failure: whoever broke knows.
        let _ = started.is_continue() && run.all(pace).is_continue();
        run.merge.tally.summary()
    }
}

/// The files that patterns stand for; tells of those that stand for none.
fn files_of(patterns: &[PathBuf], tally: &mut super::summary::Tally) -> Vec<PathBuf> {
    let found = find(patterns);
    for matches in &found {
        for problem in &matches.problems {
            tally.problem(problem.clone());
        }
        if matches.files.is_empty() {
            let pattern = matches.pattern.display();
            tally.warning(format!(
                "no file matches `{pattern}`: nothing is read for it"
            ));
        }
    }
    let mut files = all_files(&found);
    if files.len() > MOST_FILES {
        let count = files.len();
        tally.problem(format!(
            "{count} log files: an input reads at most {MOST_FILES}, and the others are not read"
        ));
        files.truncate(MOST_FILES);
    }
    files
}

struct Run<'a, C, S, K> {
    merge: Merge,
    follower: Option<Follower>,
    clock: &'a C,
    stop: &'a AtomicBool,
    sink: S,
    keep: K,
    batch: InputBatch,
    /// Rows passed since the last batch.
    rows: usize,
    /// When the first of them was.
    since: Mono,
    /// When it is looked again whether there is more.
    next_poll: Mono,
    /// The watermark of the last batch.
    told: Option<Timestamp>,
    /// What was counted up to the last batch.
    counted: InputCounted,
}

impl<C, S, K> Run<'_, C, S, K>
where
    C: Clock,
    S: FnMut(InputBatch) -> ControlFlow<()>,
    K: FnMut(ReadSoFar),
{
    /// Hands over everything; a break of `sink` ends it.
    fn all(&mut self, speed: Option<f64>) -> ControlFlow<()> {
        let done = self.released(speed);
        if let Some(follower) = &mut self.follower {
            follower.save(&mut self.merge, self.clock.now(), &mut self.keep);
        }
        done
    }

    fn released(&mut self, speed: Option<f64>) -> ControlFlow<()> {
        let mut pace: Option<Pace> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(ts) = self.merge.next_time(self.stop)? else {
                if self.merge.has_ended() && self.follower.is_none() {
                    break;
                }
                // There is nothing at the moment.
                self.flush()?;
                self.clock.sleep(LONGEST_WAIT);
                self.tend()?;
                continue;
            };
            if let Some(speed) = speed {
                let pace = pace.get_or_insert_with(|| Pace::new(self.clock.now(), ts, speed));
                if self.waited(pace.due(ts))? {
                    continue;
                }
                pace.pass(ts);
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
                self.tend()?;
            }
        }
        self.flush()
    }

    /// Looks after files that may have more by now.
    fn tend(&mut self) -> ControlFlow<()> {
        let now = self.clock.now();
        let mut poll_every = LONGEST_WAIT;
        if let Some(follower) = &mut self.follower {
            follower.tend(&mut self.merge, now, &mut self.keep);
            poll_every = GROWTH_POLL;
        }
        if self.merge.has_idle() && now >= self.next_poll {
            self.next_poll = now.after(poll_every);
            self.merge.poll(self.stop)?;
        }
        ControlFlow::Continue(())
    }

    /// Waits a while for a row's time, and hands over what must not wait as long. `false` if the time has come.
    fn waited(&mut self, due: Mono) -> ControlFlow<(), bool> {
        let mut now = self.clock.now();
        let flush_at = self.since.after(LONGEST_WAIT);
        if self.rows > 0 && now >= flush_at {
            self.flush()?;
            now = self.clock.now();
        }
        if now >= due {
            return ControlFlow::Continue(false);
        }
        let until = if self.rows > 0 {
            due.min(flush_at)
        } else {
            due
        };
        self.clock.sleep(until.since(now).min(LONGEST_WAIT));
        self.tend()?;
        ControlFlow::Continue(true)
    }

    /// Hands over the batch, unless it says nothing new.
    fn flush(&mut self) -> ControlFlow<()> {
        self.rows = 0;
        let low = self
            .merge
            .low()
            .max(self.told.unwrap_or(Timestamp::from_nanos(i64::MIN)));
        let counted = InputCounted::of(&self.merge.tally.summary);
        let is_news = !self.batch.is_empty()
            || self.told.is_none_or(|told| told < low)
            || self.merge.tally.has_notes()
            || counted != self.counted;
        if !is_news {
            self.merge.commit();
            return ControlFlow::Continue(());
        }
        self.told = Some(low);
        let mut batch = std::mem::replace(&mut self.batch, InputBatch::new(low));
        batch.low = low;
        batch.notes = self.merge.tally.take_notes(self.clock.now());
        batch.count(counted.since(self.counted));
        self.counted = counted;
        (self.sink)(batch)?;
        self.merge.commit();
        ControlFlow::Continue(())
    }
}

/// When rows are released.
struct Pace {
    start: Mono,
    latest: Timestamp,
    /// The log's time that has passed since the first row.
    passed: Timespan,
    speed: f64,
}

impl Pace {
    fn new(start: Mono, first: Timestamp, speed: f64) -> Self {
        Self {
            start,
            latest: first,
            passed: Timespan::ZERO,
            speed,
        }
    }

    /// The log's time between the latest row and this one, as far as it counts.
    fn step(&self, ts: Timestamp) -> Timespan {
        if ts > self.latest && !is_before(self.latest, ts, FORWARD) {
            ts - self.latest
        } else {
            Timespan::ZERO
        }
    }

    fn due(&self, ts: Timestamp) -> Mono {
        let seconds = (self.passed + self.step(ts)).as_secs_f64() / self.speed;
        let span = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        self.start.after(span)
    }

    fn pass(&mut self, ts: Timestamp) {
        self.passed += self.step(ts);
        self.latest = self.latest.max(ts);
    }
}
