//! A node's writes on their way to the primary: each is applied once, in order, or reported.

use std::collections::VecDeque;
use std::time::Duration;

use muster_wire::Mono;

use crate::op::{Answer, Op};
use crate::protocol::{Results, WriteBatch};
use crate::{Encoded, Level, Revision};

/// The name that the shell gives to a write.
pub type Token = u64;

/// The writes that may wait at one time.
pub(crate) const WAITING: usize = 65_536;

/// The bytes of their keys and values.
pub(crate) const WAITING_BYTES: usize = 64 << 20;

/// The writes that the primary may be sent before it has answered.
const WINDOW: usize = 16_384;

/// The bytes that are sent together; with as many waiting nobody waits for the answers to those before.
const TOGETHER: usize = 32 << 10;

/// How long without an answer until writes are sent again; doubled until [`RETRY_MOST`].
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// What became of a write: the primary's answer, or why there is none.
pub type WriteOutcome = Result<Answer, WriteFailure>;

/// When nothing is due.
const NEVER: Mono = Mono(u64::MAX);

/// A write that is over, one way or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledWrite {
    /// The write.
    pub token: Token,
    /// Its outcome.
    pub outcome: WriteOutcome,
}

/// Why a write has no [`Answer`] of the primary as its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteFailure {
    /// There was no primary within its deadline. It was not sent, not applied, and never will be.
    #[error("no primary within the deadline; the write was not applied")]
    NoPrimary,
    /// It was sent, and no answer came within its deadline. It may have been applied or not.
    #[error("no answer within the deadline; the write may have been applied")]
    Unknown,
    /// The primary has applied it, but could not put it on disk within its deadline.
    #[error("applied, but not on disk: the primary's backend has failed")]
    NotDurable,
    /// Too many writes wait for the primary. It was not applied.
    #[error("too many writes wait for the primary")]
    TooMany,
    /// The store was closed. The write was not applied.
    #[error("the store was closed")]
    Closed,
}

/// A write that no primary was sent.
#[derive(Debug)]
pub(crate) struct Unsent {
    pub(crate) op: Op,
    pub(crate) token: Token,
    pub(crate) deadline: Mono,
}

#[derive(Debug)]
struct QueuedWrite {
    op: Op,
    level: Level,
    token: Token,
    deadline: Mono,
    /// What the primary said, while the disk is waited for.
    answer: Option<Answer>,
    /// Its author has heard; it waits for those before it only.
    is_settled: bool,
    /// Its author has heard that it was refused.
    was_refused: bool,
}

/// The writes of one instance of a store.
#[derive(Debug)]
pub(crate) struct Writes {
    instance: u64,
    /// Sent, with consecutive numbers from `first_open`.
    sent: VecDeque<QueuedWrite>,
    first_open: u64,
    /// How many of `sent` have an answer: the first ones.
    answered: usize,
    unsent: VecDeque<QueuedWrite>,
    bytes: usize,
    unsent_bytes: usize,
    /// When writes are sent again, if nothing comes.
    retry_at: Mono,
    retry: Duration,
    /// No deadline of a write that waits is before this.
    first_deadline: Mono,
    settled: Vec<SettledWrite>,
}

impl Writes {
    pub(crate) fn new(instance: u64) -> Self {
        Self {
            instance,
            sent: VecDeque::new(),
            first_open: 1,
            answered: 0,
            unsent: VecDeque::new(),
            bytes: 0,
            unsent_bytes: 0,
            retry_at: Mono::default(),
            retry: RETRY,
            first_deadline: NEVER,
            settled: Vec::new(),
        }
    }

    /// Takes a write, which is settled until `deadline`.
    pub(crate) fn submit(&mut self, op: Op, level: Level, token: Token, deadline: Mono) {
        let bytes = op.size();
        let waiting = self.sent.len() + self.unsent.len();
        if waiting >= WAITING || self.bytes + bytes > WAITING_BYTES {
            self.settle(token, Err(WriteFailure::TooMany));
            return;
        }
        self.bytes += bytes;
        self.unsent_bytes += bytes;
        self.first_deadline = self.first_deadline.min(deadline);
        self.unsent.push_back(QueuedWrite {
            op,
            level,
            token,
            deadline,
            answer: None,
            is_settled: false,
            was_refused: false,
        });
    }

    /// What the primary is to be sent now. While it owes answers, small writes wait for them and go together:
    /// the faster it answers, the sooner they go.
    pub(crate) fn send(&mut self, now: Mono) -> Option<WriteBatch> {
        let owed = self.sent.len() - self.answered;
        if self.unsent.is_empty() || (owed > 0 && self.unsent_bytes < TOGETHER) {
            return None;
        }
        let place = self.sent.len();
        let mut bytes = 0;
        while bytes < TOGETHER
            && self.sent.len() - self.answered < WINDOW
            && let Some(next) = self.unsent.pop_front()
        {
            bytes += next.op.size();
            self.sent.push_back(next);
        }
        self.unsent_bytes -= bytes;
        if owed == 0 {
            self.retry = RETRY;
            self.retry_at = now.after(self.retry);
        }
        self.message(place, usize::MAX)
    }

    /// A message of the sent writes from a place on, of some bytes at most.
    fn message(&self, place: usize, most: usize) -> Option<WriteBatch> {
        let mut bytes = 0;
        let ops = self.sent.iter().skip(place).take_while(|waiting| {
            let fits = bytes < most;
            bytes += waiting.op.size();
            fits
        });
        let ops: Vec<(Op, Level)> = ops
            .map(|waiting| (waiting.op.clone(), waiting.level))
            .collect();
        (!ops.is_empty()).then(|| self.write(place, ops))
    }

    fn write(&self, place: usize, ops: Vec<(Op, Level)>) -> WriteBatch {
        WriteBatch {
            instance: self.instance,
            first_open: self.first_open,
            number: self.first_open + place as u64,
            ops,
        }
    }

    /// The primary has answered; whether it misses writes, which are sent again by [`Writes::again`].
    pub(crate) fn receive(&mut self, results: &Results, now: Mono) {
        let mut has_progress = false;
        for (place, answer) in results.answers.iter().enumerate() {
            let number = results.number.saturating_add(place as u64);
            let expected = self.first_open + self.answered as u64;
            if number != expected || self.answered >= self.sent.len() {
                continue;
            }
            has_progress = true;
            let waiting = &mut self.sent[self.answered];
            self.answered += 1;
            let is_done = matches!(answer, Answer::Done { .. } | Answer::Repeated);
            if waiting.is_settled {
                continue; // its time was over before the answer came
            }
            if waiting.level == Level::Durable && is_done {
                waiting.answer = Some(answer.clone());
            } else {
                waiting.is_settled = true;
                waiting.was_refused = matches!(answer, Answer::Refused(_));
                let token = waiting.token;
                self.settle(token, Ok(answer.clone()));
            }
        }
        has_progress |= self.kept(results);
        while self.answered > 0 && self.sent.front().is_some_and(|first| first.is_settled) {
            if let Some(first) = self.sent.pop_front() {
                self.bytes -= first.op.size();
            }
            self.first_open += 1;
            self.answered -= 1;
        }
        if has_progress {
            self.retry = RETRY;
            self.retry_at = now.after(self.retry);
        } else if results.next < self.first_open + self.answered as u64 || self.owes(results.next) {
            // It misses something, or we its answers.
            self.retry_at = self.retry_at.min(now.after(RETRY / 10));
        }
    }

    /// Returns `true` if the primary says that it has all that was sent, and its answers are
    /// missing.
    fn owes(&self, next: u64) -> bool {
        let open = self.first_open + self.sent.len() as u64;
        self.answered < self.sent.len() && next <= open
    }

    /// Settles what is on disk, or could not be put there.
    fn kept(&mut self, results: &Results) -> bool {
        let reached = results.durable.max(results.failed);
        let mut has_progress = false;
        let below = usize::try_from((reached + 1).saturating_sub(self.first_open));
        let below = below.unwrap_or(usize::MAX).min(self.answered);
        for place in 0..below {
            let number = self.first_open + place as u64;
            let waiting = &mut self.sent[place];
            let Some(answer) = waiting.answer.take() else {
                continue;
            };
            waiting.is_settled = true;
            has_progress = true;
            let token = waiting.token;
            let outcome = if number <= results.durable {
                Ok(answer)
            } else {
                Err(WriteFailure::NotDurable)
            };
            self.settle(token, outcome);
        }
        has_progress
    }

    /// What is sent again because its answer does not come.
    pub(crate) fn again(&mut self, now: Mono) -> Option<WriteBatch> {
        if self.sent.is_empty() || now < self.retry_at {
            return None;
        }
        self.retry = (self.retry * 2).min(RETRY_MOST);
        self.retry_at = now.after(self.retry);
        if self.answered < self.sent.len() {
            return self.message(self.answered, TOGETHER);
        }
        // Only the disk is waited for: an empty write asks how far it is.
        Some(self.write(self.answered, Vec::new()))
    }

    /// There is another primary: what was not answered, or is not on disk, is sent to it from the first.
    pub(crate) fn restart(&mut self, now: Mono) {
        for answered in self.sent.iter_mut().take(self.answered) {
            if answered.was_refused {
                // Whatever the next one has room for: this one's author was told that it is not done.
                self.bytes -= answered.op.size();
                answered.op = nothing();
                self.bytes += answered.op.size();
            }
        }
        self.answered = 0;
        for waiting in &mut self.sent {
            waiting.answer = None;
        }
        self.retry = RETRY;
        self.retry_at = now;
    }

    /// Ends the time of writes whose deadline has come.
    pub(crate) fn expire(&mut self, now: Mono) {
        if now < self.first_deadline {
            return;
        }
        self.first_deadline = NEVER;
        let mut over = Vec::new();
        self.unsent.retain(|waiting| {
            let is_over = waiting.deadline <= now;
            if is_over {
                self.bytes -= waiting.op.size();
                self.unsent_bytes -= waiting.op.size();
                over.push((waiting.token, WriteFailure::NoPrimary));
            } else {
                self.first_deadline = self.first_deadline.min(waiting.deadline);
            }
            !is_over
        });
        for waiting in &mut self.sent {
            if waiting.is_settled {
                continue;
            }
            if waiting.deadline > now {
                self.first_deadline = self.first_deadline.min(waiting.deadline);
            } else {
                waiting.is_settled = true;
                let failure = match waiting.answer.take() {
                    None => WriteFailure::Unknown,
                    Some(_) => WriteFailure::NotDurable,
                };
                over.push((waiting.token, failure));
            }
        }
        while let Some(first) = self.sent.front()
            && first.is_settled
        {
            self.bytes -= first.op.size();
            self.sent.pop_front();
            self.first_open += 1;
            self.answered = self.answered.saturating_sub(1);
        }
        for (token, failure) in over {
            self.settle(token, Err(failure));
        }
    }

    /// The writes that were not sent: for another primary.
    pub(crate) fn take_unsent(&mut self) -> Vec<(Unsent, Level)> {
        self.bytes -= std::mem::take(&mut self.unsent_bytes);
        let unsent = std::mem::take(&mut self.unsent).into_iter();
        unsent
            .map(|waiting| {
                let write = Unsent {
                    op: waiting.op,
                    token: waiting.token,
                    deadline: waiting.deadline,
                };
                (write, waiting.level)
            })
            .collect()
    }

    /// Settles all that waits: the store is closed.
    pub(crate) fn close(&mut self) {
        for waiting in std::mem::take(&mut self.unsent) {
            self.settle(waiting.token, Err(WriteFailure::Closed));
        }
        for waiting in std::mem::take(&mut self.sent) {
            if !waiting.is_settled {
                self.settle(waiting.token, Err(WriteFailure::Unknown));
            }
        }
        *self = Self {
            settled: std::mem::take(&mut self.settled),
            ..Self::new(self.instance)
        };
    }

    /// When [`Writes::again`] or [`Writes::expire`] has something to do.
    pub(crate) fn next_tick(&self) -> Option<Mono> {
        let retry = (!self.sent.is_empty()).then_some(self.retry_at);
        let deadline = (!self.is_empty()).then_some(self.first_deadline);
        [retry, deadline].into_iter().flatten().min()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.unsent.is_empty()
    }

    /// The writes that wait for their end.
    pub(crate) fn len(&self) -> usize {
        self.sent.len() + self.unsent.len()
    }

    /// What was settled since.
    pub(crate) fn settled(&mut self) -> Vec<SettledWrite> {
        std::mem::take(&mut self.settled)
    }

    fn settle(&mut self, token: Token, outcome: Result<Answer, WriteFailure>) {
        self.settled.push(SettledWrite { token, outcome });
    }
}

/// A command that never does anything: no store has this revision.
fn nothing() -> Op {
    let seen = Revision {
        timeline: 0,
        change: 1,
    };
    Op::Swap {
        key: Encoded::key(""),
        seen,
        value: None,
        ttl: None,
    }
}
