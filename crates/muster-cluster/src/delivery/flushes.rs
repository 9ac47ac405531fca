//! Who wants to hear when everything up to here is safe: the flushes of one life of a producer.
//!
//! A flush covers the batches below a number. It ends when each of them has a fate, and says what became of them. Records that were
//! lost before it was opened have no batch any more; they are told by the first flush of whoever has not heard of them.

use std::collections::{BTreeMap, VecDeque};

use muster_wire::Mono;

use super::Lost;

/// The flushes that can be open at a time.
const MOST_OPEN: usize = 256;

/// Log records that are lost, by cause: each of them is counted by its node as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostRecords {
    /// There was no room for them, or no logger took them before the node ended.
    pub no_logger: u64,
    /// No logger writes such a record.
    pub invalid: u64,
    /// They may be in the files of a logger that did not come back.
    pub unsettled: u64,
    /// The node's disk has lost them while they waited for a logger.
    pub spool: u64,
}

impl LostRecords {
    /// Returns the number of records that are lost, whatever the cause.
    pub fn total(&self) -> u64 {
        let Self {
            no_logger,
            invalid,
            unsettled,
            spool,
        } = self;
        no_logger + invalid + unsettled + spool
    }

    fn of(&mut self, lost: Lost) -> &mut u64 {
        match lost {
            Lost::NoLogger => &mut self.no_logger,
            Lost::Invalid => &mut self.invalid,
            Lost::Unsettled => &mut self.unsettled,
            Lost::Spool => &mut self.spool,
        }
    }
}

/// Why a flush has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushEnd {
    /// What became of each record is known.
    Settled,
    /// Its time was over.
    TimedOut,
    /// The node ends. What is open may be in its spool, and goes to a logger with its next life then.
    Stopping,
    /// 256 flushes of the node are open: this one was not made.
    TooMany,
}

/// What became of the log records of a node, up to a [`flush_logs`](crate::node::Context::flush_logs).
///
/// `acknowledged`, `spooled` and `open` count the records that no logger had acknowledged when it was asked. `unacknowledged` and
/// `lost` also count those before, of which no flush of this framework has told: none is passed over, and one may be told
/// twice by flushes that are open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flushed {
    /// Why the flush has ended.
    pub end: FlushEnd,
    /// A logger has acknowledged them: they are on its disk, or written, as its `logging.acknowledge` says.
    pub acknowledged: u64,
    /// They are on this node's disk, synced, until a logger acknowledges them.
    pub spooled: u64,
    /// They were given to loggers that acknowledge nothing: nobody knows what became of them.
    pub unacknowledged: u64,
    /// They are lost.
    pub lost: LostRecords,
    /// They are in the node's memory, or on their way.
    pub open: u64,
}

impl Flushed {
    /// Returns `true` if each record is on a disk: acknowledged by a logger, or in this node's spool. What an earlier flush of the
    /// framework has told of is not among them.
    pub fn is_safe(&self) -> bool {
        self.open == 0 && self.unacknowledged == 0 && self.lost.total() == 0
    }
}

/// Where a batch is before something becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Was {
    Open,
    /// It is safe in the spool.
    Spooled,
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Acknowledged,
    /// It was given to a logger that acknowledges nothing.
    Unacknowledged,
    Lost(Lost),
}

/// Records that are not safe, and will not be.
#[derive(Debug, Clone, Copy, Default)]
struct Unsafe {
    unacknowledged: u64,
    lost: LostRecords,
}

impl Unsafe {
    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            unacknowledged: with(self.unacknowledged, other.unacknowledged),
            lost: LostRecords {
                no_logger: with(self.lost.no_logger, other.lost.no_logger),
                invalid: with(self.lost.invalid, other.lost.invalid),
                unsettled: with(self.lost.unsettled, other.lost.unsettled),
                spool: with(self.lost.spool, other.lost.spool),
            },
        }
    }

    fn and(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    fn without(self, other: Self) -> Self {
        self.zip(other, u64::saturating_sub)
    }

    fn add(&mut self, fate: Fate, records: u64) {
        match fate {
            Fate::Acknowledged => {}
            Fate::Unacknowledged => self.unacknowledged += records,
            Fate::Lost(lost) => *self.lost.of(lost) += records,
        }
    }
}

/// A flush that is open.
#[derive(Debug)]
struct Flush {
    asker: usize,
    /// It covers the batches below this number.
    through: u64,
    deadline: Option<Mono>,
    open: u64,
    acknowledged: u64,
    spooled: u64,
    /// What its asker had not been told when it was opened.
    untold: Unsafe,
    /// What was not safe in all, when it was opened.
    at_first: Unsafe,
    /// What it covers and is not safe, since then.
    since: Unsafe,
    /// Records that were added to batches that it covers, and that it does not.
    later: BTreeMap<u64, u64>,
}

/// What a producer has when a flush is opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// The number of the next batch.
    pub(super) next: u64,
    /// The records of open batches.
    pub(super) records: u64,
    /// Those of them that are safe in the spool.
    pub(super) spooled: u64,
}

/// The flushes of a producer.
#[derive(Debug, Default)]
pub(crate) struct Flushes {
    next_token: u64,
    open: BTreeMap<u64, Flush>,
    /// What is not safe, since the beginning.
    total: Unsafe,
    /// What askers have been told of that.
    told: BTreeMap<usize, Unsafe>,
    ended: VecDeque<(u64, Flushed)>,
    stopped: bool,
}

impl Flushes {
    /// Opens a flush, and returns its token.
    pub(super) fn open(&mut self, asker: usize, standing: Standing, deadline: Option<Mono>) -> u64 {
        self.end_settled();
        let token = self.next_token;
        self.next_token += 1;
        let told = self.told.get(&asker).copied().unwrap_or_default();
        let flush = Flush {
            asker,
            through: standing.next,
            deadline,
            open: standing.records - standing.spooled,
            acknowledged: 0,
            spooled: standing.spooled,
            untold: self.total.without(told),
            at_first: self.total,
            since: Unsafe::default(),
            later: BTreeMap::new(),
        };
        if flush.open == 0 {
            self.ended(token, &flush, FlushEnd::Settled);
        } else if self.stopped {
            self.ended(token, &flush, FlushEnd::Stopping);
        } else if self.open.len() >= MOST_OPEN {
            self.ended(token, &flush, FlushEnd::TooMany);
        } else {
            self.open.insert(token, flush);
        }
        token
    }

    fn ended(&mut self, token: u64, flush: &Flush, end: FlushEnd) {
        let told = self.told.entry(flush.asker).or_default();
        *told = told.zip(flush.at_first.and(flush.since), u64::max);
        let Unsafe {
            unacknowledged,
            lost,
        } = flush.untold.and(flush.since);
        let flushed = Flushed {
            end,
            acknowledged: flush.acknowledged,
            spooled: flush.spooled,
            unacknowledged,
            lost,
            open: flush.open,
        };
        self.ended.push_back((token, flushed));
    }

    /// Ends the flushes of which something holds, with those that are settled before.
    fn end_if(&mut self, end: FlushEnd, is_over: impl Fn(&Flush) -> bool) {
        self.end_settled();
        self.end_all(end, is_over);
    }

    fn end_settled(&mut self) {
        self.end_all(FlushEnd::Settled, |flush| flush.open == 0);
    }

    fn end_all(&mut self, end: FlushEnd, is_over: impl Fn(&Flush) -> bool) {
        let over = self.open.iter().filter(|(_, flush)| is_over(flush));
        let over: Vec<u64> = over.map(|(token, _)| *token).collect();
        for token in over {
            if let Some(flush) = self.open.remove(&token) {
                self.ended(token, &flush, end);
            }
        }
    }

    /// The open flushes that cover a batch: those that were opened last.
    fn covering(&mut self, number: u64) -> impl Iterator<Item = &mut Flush> {
        let flushes = self.open.values_mut().rev();
        flushes.take_while(move |flush| number < flush.through)
    }

    /// Records were added to an open batch.
    pub(super) fn extended(&mut self, number: u64, records: usize) {
        for flush in self.covering(number) {
            *flush.later.entry(number).or_default() += records as u64;
        }
    }

    /// A batch is safe in the spool.
    pub(super) fn spooled(&mut self, number: u64, records: usize) {
        for flush in self.covering(number) {
            let later = flush.later.get(&number).copied().unwrap_or(0);
            let records = (records as u64).saturating_sub(later);
            flush.open = flush.open.saturating_sub(records);
            flush.spooled += records;
        }
    }

    /// A batch is not open any more.
    pub(super) fn closed(&mut self, number: u64, records: usize, was: Was, fate: Fate) {
        self.total.add(fate, records as u64);
        for flush in self.covering(number) {
            let later = flush.later.remove(&number).unwrap_or(0);
            let records = (records as u64).saturating_sub(later);
            let before = match was {
                Was::Open => &mut flush.open,
                Was::Spooled => &mut flush.spooled,
            };
            *before = before.saturating_sub(records);
            if fate == Fate::Acknowledged {
                flush.acknowledged += records;
            }
            flush.since.add(fate, records);
        }
    }

    /// Records are lost before they have a batch.
    pub(super) fn refused(&mut self, records: usize) {
        self.total.add(Fate::Lost(Lost::NoLogger), records as u64);
    }

    /// Ends the flushes whose time is over.
    pub(crate) fn tick(&mut self, now: Mono) {
        self.end_if(FlushEnd::TimedOut, |flush| {
            flush.deadline.is_some_and(|at| at <= now)
        });
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.open.values().filter_map(|flush| flush.deadline).min()
    }

    /// The node ends: ends all flushes, also those to come.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.end_if(FlushEnd::Stopping, |_| true);
    }

    /// Returns `true` if a flush has ended whose asker does not know it yet.
    pub(crate) fn has_ended(&self) -> bool {
        !self.ended.is_empty() || self.open.values().any(|flush| flush.open == 0)
    }

    /// Returns the next flush that has ended, with what is known by now.
    pub(crate) fn take_ended(&mut self) -> Option<(u64, Flushed)> {
        self.end_settled();
        self.ended.pop_front()
    }

    /// Breaks a rule, for the test of it: what was added to covered batches is as it was.
    #[cfg(test)]
    pub(super) fn break_later(&mut self) {
        for flush in self.open.values_mut() {
            flush.later.clear();
        }
    }

    /// Breaks a rule, for the test of it: what had no room is not remembered.
    #[cfg(test)]
    pub(super) fn break_refused(&mut self, records: usize) {
        self.total.lost.no_logger -= records as u64;
    }
}
