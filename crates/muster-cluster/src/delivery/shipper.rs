//! A producer's batches, from their number to the logger's word that it has them.

#[cfg(test)]
mod flush_tests;
mod outbound;
mod shipment;
mod spooling;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_wire::Mono;

pub(crate) use self::outbound::Verdict;
use self::outbound::{ASK_AGAIN, ASK_AGAIN_AT_MOST, Outbound};
pub(crate) use self::shipment::{Dropped, Lost, Shipment};
use self::shipment::{Place, Spooled};
pub(crate) use self::spooling::SpoolHealth;
use self::spooling::Spooling;
use super::flushes::{Fate, Flushes, Standing, Was};
use super::messages::BatchRefusal;
use super::{Batch, MOST_NUMBERS, Numbers};
use crate::layout::NodeName;

/// The bytes of all batches that are in memory. What is produced beyond is dropped, and counted.
pub(crate) const MEMORY_BYTES: usize = 64 << 20;

/// A batch of this many bytes is full, whatever its number of records.
pub(crate) const LARGE_BATCH: usize = 1 << 20;

/// The decided batches that more than one logger may have, and of which is remembered who has them.
const MOST_SHARED: usize = 65_536;

/// The streams whose turn, and whose last batch, is remembered.
const MOST_STREAMS: usize = 4096;

/// How long a batch waits for the one logger that may have it, when another has promised not to take it: one that is in memory,
/// and one that is on disk. Loggers wait ten minutes for one another.
const GO_BACK_FOR: Duration = Duration::from_secs(60);
const SPOOLED_GO_BACK_FOR: Duration = Duration::from_secs(3600);

/// A logger that may be given batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its position among all loggers.
    pub(crate) position: usize,
    pub(crate) name: NodeName,
    /// Whether it says what it has.
    pub(crate) acknowledges: bool,
}

/// A batch to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sending {
    pub(crate) logger: NodeName,
    pub(crate) number: u64,
}

/// What becomes of a batch that is due.
#[derive(Debug)]
pub(crate) enum Dispatched {
    /// It is sent, and stays open until it is acknowledged.
    Given(Sending),
    /// It is sent to a logger that does not acknowledge, and is not open any more.
    LetGo(NodeName, Shipment),
}

/// The batches of one life of a producer that are open: they have a number, and no logger has acknowledged them.
///
/// It is the producer that decides which logger's copy of a batch counts: that of the first one that acknowledges it. A
/// batch is given to another logger only when the one that has it is out, cannot write or hangs; so most batches are
/// at one logger alone, and the producer remembers the others.
#[derive(Debug, Default)]
pub(crate) struct Shipper {
    next: u64,
    open: BTreeMap<u64, Shipment>,
    waiting: BTreeSet<u64>,
    /// Those that wait for one logger.
    parked: BTreeSet<u64>,
    loggers: BTreeMap<NodeName, Outbound>,
    /// Whose turn it is, by stream.
    turns: BTreeMap<String, usize>,
    /// The last batch of each stream.
    last: BTreeMap<String, u64>,
    /// The bytes of batches that are in memory.
    memory: usize,
    records: usize,
    /// Those of them that are safe in the spool.
    spooled: usize,
    spooling: Spooling,
    /// Who wants to hear when all of it is safe.
    pub(crate) flushes: Flushes,
    /// The decided batches that more than one logger may have, with the one that counts.
    shared: BTreeMap<u64, NodeName>,
    /// Of decided batches below this number it is not remembered who else may have them.
    forgotten: u64,
    /// When it was looked at last.
    now: Mono,
}

impl Shipper {
    /// Returns `true` if no batch is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns `true` if a batch waits for a logger.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns `true` if something is decided that was not said yet.
    pub(crate) fn has_verdicts(&self) -> bool {
        let mut loggers = self.loggers.values();
        loggers.any(|outbound| outbound.verdict_at.is_some())
    }

    /// The records of open batches.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// The bytes of open batches that are in memory.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// The first number that is open.
    pub(crate) fn floor(&self) -> u64 {
        let first = self.open.first_key_value();
        first.map_or(self.next, |(number, _)| *number)
    }

    /// The number of the next batch.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// Returns `true` if every batch below a number is acknowledged, safe in the spool, or lost and counted.
    pub(crate) fn has_settled(&self, through: u64) -> bool {
        let mut below = self.open.range(..through);
        below.all(|(_, shipment)| matches!(shipment.spooled, Spooled::At(_)))
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Shipment> {
        self.open.get(&number)
    }

    /// Takes a batch of records. Returns `false` if there is no room for it. While batches wait for a logger, small ones of a
    /// stream are put together, with `most` records at most.
    #[must_use]
    pub(crate) fn add(&mut self, batch: Batch, most: usize) -> bool {
        let bytes = batch.bytes();
        let is_full = self.memory.saturating_add(bytes) > MEMORY_BYTES;
        if is_full && !self.open.is_empty() {
            self.flushes.refused(batch.records);
            return false;
        }
        if self.extend(&batch, most) {
            return true;
        }
        let number = self.next;
        if number - self.floor() >= MOST_NUMBERS {
            self.flushes.refused(batch.records);
            return false;
        }
        self.memory += bytes;
        self.records += batch.records;
        if self.last.len() >= MOST_STREAMS {
            self.last.clear();
        }
        self.last.insert(batch.head.name().to_owned(), number);
        let shipment = Shipment {
            head: Arc::clone(&batch.head),
            records: batch.records,
            bytes,
            batch: Some(batch),
            spooled: Spooled::No,
            given: Vec::new(),
            denied: Vec::new(),
            until: None,
            at: Place::Waiting,
        };
        self.open.insert(number, shipment);
        self.waiting.insert(number);
        self.next += 1;
        self.spool_if_due(number);
        true
    }

    /// Adds records to the last batch of their stream, if nobody has seen it yet. Returns `false` if it cannot take them.
    fn extend(&mut self, batch: &Batch, most: usize) -> bool {
        let Some(number) = self.last.get(batch.head.name()) else {
            return false;
        };
        let Some(shipment) = self.open.get_mut(number) else {
            return false;
        };
        // A next life might send what the spool has, which must be what a logger was given.
        let is_unseen = shipment.given.is_empty() && shipment.spooled == Spooled::No;
        let fits = shipment.records + batch.records <= most
            && shipment.bytes + batch.bytes() <= LARGE_BATCH;
        let Some(known) = shipment.batch.as_mut().filter(|_| is_unseen && fits) else {
            return false;
        };
        if known.head != batch.head {
            return false;
        }
        known.extend(batch);
        shipment.records += batch.records;
        shipment.bytes += batch.bytes();
        self.memory += batch.bytes();
        self.records += batch.records;
        self.flushes.extended(*number, batch.records);
        true
    }

    /// Has it told when all batches of now are safe, or lost. Returns the token of what [`Flushes::take_ended`] says then.
    pub(crate) fn flush(&mut self, asker: usize, deadline: Option<Mono>) -> u64 {
        let standing = Standing {
            next: self.next,
            records: self.records as u64,
            spooled: self.spooled as u64,
        };
        self.flushes.open(asker, standing, deadline)
    }

    /// Gives the oldest batch that waits to the logger whose turn it is. Returns `None` if there is none, or no logger has
    /// room. `loggers` says how many positions there are.
    pub(crate) fn dispatch(
        &mut self,
        candidates: &[Candidate],
        loggers: usize,
        now: Mono,
    ) -> Option<Dispatched> {
        let number = *self.waiting.first()?;
        let shipment = self.open.get(&number)?;
        // It is being read.
        shipment.batch.as_ref()?;
        let stream = shipment.head.name();
        let turn = self.turns.get(stream).copied().unwrap_or(0);
        let bytes = shipment.bytes;
        let with_room = candidates.iter().filter(|candidate| {
            let outbound = self.loggers.get(&candidate.name);
            !candidate.acknowledges || outbound.is_none_or(|outbound| outbound.has_room(bytes))
        });
        let distance = |candidate: &&Candidate| {
            (candidate.position + loggers - turn % loggers.max(1)) % loggers.max(1)
        };
        let chosen = with_room.min_by_key(distance)?;
        if self.turns.len() >= MOST_STREAMS {
            self.turns.clear();
        }
        self.turns.insert(stream.to_owned(), chosen.position + 1);
        if !chosen.acknowledges {
            let shipment = self.close(number, Fate::Unacknowledged)?;
            return Some(Dispatched::LetGo(chosen.name.clone(), shipment));
        }
        let name = chosen.name.clone();
        self.give(number, &name, now).map(Dispatched::Given)
    }

    /// Gives a batch to a logger, for the first time or again.
    fn give(&mut self, number: u64, logger: &NodeName, now: Mono) -> Option<Sending> {
        let shipment = self.open.get_mut(&number)?;
        let outbound = self.loggers.entry(logger.clone()).or_default();
        if let Place::InFlight(at, turn) = &shipment.at
            && at == logger
        {
            outbound.in_flight.remove(turn);
        } else {
            if outbound.in_flight.is_empty() {
                outbound.heard(now);
            }
            outbound.bytes += shipment.bytes;
            self.parked.remove(&number);
            self.waiting.remove(&number);
        }
        let turn = outbound.next_turn;
        outbound.next_turn += 1;
        outbound.in_flight.insert(turn, number);
        shipment.at = Place::InFlight(logger.clone(), turn);
        if !shipment.given.contains(logger) {
            shipment.given.push(logger.clone());
        }
        Some(Sending {
            logger: logger.clone(),
            number,
        })
    }

    /// Takes a batch away from where it is.
    fn take_back(&mut self, number: u64) {
        let Some(shipment) = self.open.get_mut(&number) else {
            return;
        };
        match std::mem::replace(&mut shipment.at, Place::Waiting) {
            Place::InFlight(logger, turn) => {
                if let Some(outbound) = self.loggers.get_mut(&logger) {
                    outbound.in_flight.remove(&turn);
                    outbound.bytes -= shipment.bytes;
                }
            }
            Place::Waiting => {
                self.waiting.remove(&number);
            }
            Place::Parked(..) => {
                self.parked.remove(&number);
            }
        }
    }

    fn parked(&self) -> impl Iterator<Item = (u64, &NodeName, Mono)> {
        self.parked
            .iter()
            .filter_map(|number| match &self.open.get(number)?.at {
                Place::Parked(logger, ask_at) => Some((*number, logger, *ask_at)),
                _ => None,
            })
    }

    /// A batch is not open any more.
    fn close(&mut self, number: u64, fate: Fate) -> Option<Shipment> {
        self.take_back(number);
        let shipment = self.open.remove(&number)?;
        if shipment.batch.is_some() {
            self.memory -= shipment.bytes;
        }
        self.records -= shipment.records;
        let was = if let Spooled::At(_) = shipment.spooled {
            self.spooled -= shipment.records;
            Was::Spooled
        } else {
            Was::Open
        };
        self.flushes.closed(number, shipment.records, was, fate);
        self.spooling.closed(number, &shipment);
        Some(shipment)
    }

    /// A batch is dropped, if it is open.
    fn lose(&mut self, number: u64, lost: Lost) -> Option<Dropped> {
        let Shipment { head, records, .. } = self.close(number, Fate::Lost(lost))?;
        Some(Dropped {
            head,
            records,
            lost,
        })
    }

    /// A logger is out, or cannot write: what it was given and has not acknowledged goes to others.
    pub(crate) fn is_out(&mut self, logger: &NodeName) {
        let Some(outbound) = self.loggers.get_mut(logger) else {
            return;
        };
        let numbers: Vec<u64> = outbound.in_flight.values().copied().collect();
        // It hears what is decided when it asks.
        outbound.verdict = Verdict::default();
        outbound.verdict_at = None;
        for number in numbers {
            self.take_back(number);
            self.waiting.insert(number);
        }
        self.unload();
    }

    /// A logger can be reached again, perhaps in another life: what it was given may not have arrived. Returns what is sent
    /// to it.
    pub(crate) fn is_back(&mut self, logger: &NodeName, now: Mono) -> Vec<Sending> {
        let outbound = self.loggers.get(logger);
        let in_flight = outbound
            .into_iter()
            .flat_map(|outbound| outbound.in_flight.values());
        let parked = self.parked().filter(|(_, at, _)| *at == logger);
        let parked = parked.map(|(number, ..)| number);
        let numbers: BTreeSet<u64> = in_flight.copied().chain(parked).collect();
        let sent = numbers
            .into_iter()
            .filter_map(|number| self.give(number, logger, now));
        sent.collect()
    }

    /// A logger has batches. Returns the number of records that nobody had acknowledged before, and what is sent again
    /// because it has not arrived.
    pub(crate) fn acknowledged(
        &mut self,
        logger: &NodeName,
        numbers: &Numbers,
        now: Mono,
    ) -> (u64, Vec<Sending>) {
        let mut records = 0;
        let mut last_turn = None;
        // What was never produced cannot be there: a range that says so is not walked through.
        let mut known = Numbers::default();
        for (first, last) in numbers.ranges().filter(|(first, _)| *first < self.next) {
            known.insert_range(first, last.min(self.next - 1));
        }
        // No more can have a meaning at once.
        let most = usize::try_from(MOST_NUMBERS).unwrap_or(usize::MAX);
        for number in known.iter().take(most) {
            // What is decided is said when the spool has it.
            if self.spooling.is_deciding(number) {
                continue;
            }
            let Some(shipment) = self.open.get(&number) else {
                let counts_here = self
                    .shared
                    .get(&number)
                    .is_none_or(|holder| holder == logger);
                let is_shared = self.shared.contains_key(&number);
                let is_forgotten = !is_shared && number < self.forgotten;
                let verdict = self.loggers.entry(logger.clone()).or_default().say(now);
                match (counts_here, is_shared) {
                    _ if is_forgotten => verdict.settle.insert(number),
                    (false, _) => verdict.strike.insert(number),
                    (true, true) => verdict.keep_shared.insert(number),
                    (true, false) => verdict.keep.insert(number),
                }
                continue;
            };
            if let Place::InFlight(at, turn) = &shipment.at
                && at == logger
            {
                last_turn = last_turn.max(Some(*turn));
            }
            records += shipment.records as u64;
            if let Some(shipment) = self.close(number, Fate::Acknowledged) {
                if shipment.spooled == Spooled::No {
                    self.decide(number, logger, &shipment.given, now);
                } else if let Some(lost) = self.spooling.decided(number, logger, shipment.given) {
                    self.forgotten = self.forgotten.max(lost + 1);
                }
            }
        }
        let Some(outbound) = self.loggers.get_mut(logger) else {
            return (records, Vec::new());
        };
        outbound.heard(now);
        // Batches arrive in the order in which they were sent: what was sent before is lost.
        let lost = outbound.in_flight.iter();
        let lost: Vec<u64> = lost
            .take_while(|(turn, _)| Some(**turn) < last_turn)
            .map(|(_, number)| *number)
            .collect();
        let again = lost
            .into_iter()
            .filter_map(|number| self.give(number, logger, now));
        (records, again.collect())
    }

    /// The copy of a logger is the one that counts.
    fn decide(&mut self, number: u64, holder: &NodeName, given: &[NodeName], now: Mono) {
        let others: Vec<&NodeName> = given.iter().filter(|other| *other != holder).collect();
        let verdict = self.loggers.entry(holder.clone()).or_default().say(now);
        if others.is_empty() {
            verdict.keep.insert(number);
            return;
        }
        verdict.keep_shared.insert(number);
        for other in others {
            self.loggers
                .entry(other.clone())
                .or_default()
                .say(now)
                .strike
                .insert(number);
        }
        self.shared.insert(number, holder.clone());
        while self.shared.len() > MOST_SHARED
            && let Some((number, _)) = self.shared.pop_first()
        {
            self.forgotten = self.forgotten.max(number + 1);
        }
    }

    /// A logger does not take batches. Returns those that are dropped: stream, records and why.
    pub(crate) fn refused(
        &mut self,
        logger: &NodeName,
        numbers: &Numbers,
        refusal: BatchRefusal,
        now: Mono,
    ) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        let in_flight: Vec<u64> = self
            .loggers
            .get(logger)
            .into_iter()
            .flat_map(|outbound| outbound.in_flight.values().copied())
            .filter(|number| numbers.contains(*number))
            .collect();
        if let Some(outbound) = self.loggers.get_mut(logger) {
            outbound.heard(now);
        }
        for number in in_flight {
            match refusal {
                BatchRefusal::CannotWrite => {
                    self.take_back(number);
                    self.waiting.insert(number);
                }
                BatchRefusal::Invalid => {
                    dropped.extend(self.lose(number, Lost::Invalid));
                }
                BatchRefusal::GoBack => self.go_back(number, logger, now),
                // A former life has accounted for it. Of this life nobody can say so: nothing is promised of it.
                BatchRefusal::Decided => {
                    self.close(number, Fate::Unacknowledged);
                }
            }
        }
        dropped
    }

    /// A logger does not have a batch, and has promised another one not to take it: that one has it, or knows who has.
    fn go_back(&mut self, number: u64, logger: &NodeName, now: Mono) {
        self.take_back(number);
        let Some(shipment) = self.open.get_mut(&number) else {
            return;
        };
        shipment.denied.push(logger.clone());
        let mut others = shipment.given.iter().rev();
        let other = others
            .find(|other| !shipment.denied.contains(other))
            .cloned();
        let (next, ask_at) = if let Some(other) = other {
            (other, now)
        } else {
            // All whom it was given to have said so. Perhaps one of them has learnt of it since.
            shipment.denied.clear();
            let mut others = shipment.given.iter();
            let other = others.find(|other| *other != logger).unwrap_or(logger);
            (other.clone(), now.after(ASK_AGAIN))
        };
        let patience = match shipment.spooled {
            Spooled::At(_) => SPOOLED_GO_BACK_FOR,
            Spooled::No | Spooled::Asked | Spooled::Perhaps => GO_BACK_FOR,
        };
        shipment.until.get_or_insert(now.after(patience));
        shipment.at = Place::Parked(next, ask_at);
        self.parked.insert(number);
    }

    /// Sends again what is due. `is_up` says which loggers can be given batches. Returns what is sent, and what is dropped
    /// because its logger has not come back.
    pub(crate) fn tick(
        &mut self,
        now: Mono,
        is_up: impl Fn(&NodeName) -> bool,
    ) -> (Vec<Sending>, Vec<Dropped>) {
        self.now = now;
        let mut due = Vec::new();
        for (name, outbound) in &mut self.loggers {
            if outbound.ask_at <= now
                && let Some(oldest) = outbound.in_flight.values().next()
            {
                due.push((*oldest, name.clone()));
                outbound.wait = (outbound.wait * 2).clamp(ASK_AGAIN, ASK_AGAIN_AT_MOST);
                outbound.ask_at = now.after(outbound.wait);
            }
        }
        let mut late = Vec::new();
        for (number, logger, ask_at) in self.parked() {
            let until = self.open.get(&number).and_then(|shipment| shipment.until);
            if until.is_some_and(|until| until <= now) {
                late.push(number);
            } else if ask_at <= now && is_up(logger) {
                due.push((number, logger.clone()));
            }
        }
        let dropped = late.into_iter();
        let dropped = dropped.filter_map(|number| self.lose(number, Lost::Unsettled));
        let dropped = dropped.collect();
        let sent = due
            .into_iter()
            .filter_map(|(number, logger)| self.give(number, &logger, now));
        (sent.collect(), dropped)
    }

    /// Returns what is to be said to loggers at present.
    pub(crate) fn take_verdicts(&mut self, now: Mono) -> Vec<(NodeName, Verdict)> {
        let due = self.loggers.iter_mut().filter_map(|(name, outbound)| {
            outbound.verdict_at.filter(|at| *at <= now)?;
            outbound.verdict_at = None;
            let verdict = std::mem::take(&mut outbound.verdict);
            (!verdict.is_empty()).then(|| (name.clone(), verdict))
        });
        due.collect()
    }

    /// Says at the end what is decided, without waiting for more.
    pub(crate) fn hurry_verdicts(&mut self, now: Mono) {
        for outbound in self.loggers.values_mut() {
            outbound.verdict_at = outbound.verdict_at.map(|_| now);
        }
    }

    /// When [`tick`](Self::tick) or [`take_verdicts`](Self::take_verdicts) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        let of_loggers = self.loggers.values().flat_map(|outbound| {
            let ask = (!outbound.in_flight.is_empty()).then_some(outbound.ask_at);
            [ask, outbound.verdict_at]
        });
        let parked = self.parked().map(|(number, _, ask_at)| {
            let until = self.open.get(&number)?.until?;
            // A logger that comes back is given it at once.
            Some(if ask_at <= self.now { until } else { ask_at })
        });
        let of_spool = std::iter::once(self.spool_deadline());
        of_loggers.chain(parked).chain(of_spool).flatten().min()
    }

    /// Nobody takes what is open: the node ends. What is in the spool, or was handed to it, stays there. Returns the rest.
    pub(crate) fn give_up(&mut self) -> Vec<Dropped> {
        let lost = |(_, shipment): &(&u64, &Shipment)| {
            matches!(shipment.spooled, Spooled::No | Spooled::Perhaps)
        };
        let lost = self.open.iter().filter(lost).map(|(number, _)| *number);
        let numbers: Vec<u64> = lost.collect();
        let given_up = numbers.into_iter();
        let given_up = given_up.filter_map(|number| self.lose(number, Lost::NoLogger));
        given_up.collect()
    }

    /// Breaks a rule, for the test of it.
    #[cfg(test)]
    pub(super) fn forget_shared(&mut self) {
        self.shared.clear();
    }

    /// Breaks a rule, for the test of it.
    #[cfg(test)]
    pub(super) fn remember_nothing(&mut self) {
        self.forgotten = 0;
    }

    /// Breaks a rule, for the test of it.
    #[cfg(test)]
    pub(super) fn decide_early(&mut self, now: Mono) {
        for (number, (holder, given)) in self.spooling.take_deciding() {
            self.decide(number, &holder, &given, now);
        }
    }
}
