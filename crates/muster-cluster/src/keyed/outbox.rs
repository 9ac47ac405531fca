//! Log records that handlers of keyed events have given away, on their way to loggers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use super::entry::EventId;
use super::keeper::Departure;
use crate::delivery::{Batch, BatchRefusal, Candidate, Numbers};
use crate::layout::{NodeName, PoolName};

/// The records that one logger may have been given and not acknowledged.
const MOST_AT_ONE: usize = 1_024;

/// How soon a logger is asked again; then after twice the time, and so on.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const ASK_AGAIN_MOST: Duration = Duration::from_secs(5);

/// Whose output it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) pool: PoolName,
    pub(crate) digest: u32,
    pub(crate) id: EventId,
}

/// What becomes of records at a logger that has acknowledged them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OutboxVerdict {
    /// No other logger was ever given them.
    pub(crate) keep: Numbers,
    /// Another owner may have given them to another logger: loggers decide.
    pub(crate) settle: Numbers,
}

#[derive(Debug)]
enum Place {
    Waiting,
    At {
        logger: NodeName,
        asked: u32,
        due: Mono,
    },
    /// A logger has it, or it needs none any more.
    Arrived,
}

#[derive(Debug)]
struct Record {
    pool: PoolName,
    digest: u32,
    batch: Batch,
    place: Place,
    /// No other owner, and no other logger, has ever had it.
    is_alone: bool,
    /// Whom it was given to.
    given: Option<NodeName>,
}

/// Records on their way from the owners of keys to loggers, without I/O.
///
/// Each has the number that it was made with, whoever sends it. A logger takes a number once; of two loggers that have it one strikes
/// it before a file gets its final name. So it may be sent by several owners, one after the other, and is in the files once.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    records: BTreeMap<EventId, Record>,
    waiting: BTreeSet<EventId>,
    due: BTreeSet<(Mono, EventId)>,
    at: BTreeMap<NodeName, BTreeSet<EventId>>,
    bytes: usize,
    turn: usize,
    verdicts: BTreeMap<(NodeName, EndpointId), OutboxVerdict>,
}

impl Outbox {
    /// Returns how many records are on their way.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, id: EventId) -> Option<&Batch> {
        self.records.get(&id).map(|record| &record.batch)
    }

    /// Takes a record. One that is here is not taken again.
    pub(crate) fn add(&mut self, owed: Owed, batch: Batch, departure: Departure) {
        let Owed { pool, digest, id } = owed;
        if let Some(known) = self.records.get_mut(&id) {
            known.is_alone = false;
            return;
        }
        self.bytes += batch.bytes();
        let record = Record {
            pool,
            digest,
            batch,
            place: Place::Waiting,
            is_alone: departure == Departure::First,
            given: None,
        };
        self.records.insert(id, record);
        self.waiting.insert(id);
    }

    /// Gives what waits to loggers in turn. Returns what is to be sent, and to whom.
    pub(crate) fn dispatch(
        &mut self,
        candidates: &[Candidate],
        now: Mono,
    ) -> Vec<(NodeName, EventId)> {
        let mut sent = Vec::new();
        while let Some(id) = self.waiting.first().copied() {
            let count = candidates.len();
            let mut others = (0..count).map(|step| &candidates[(self.turn + step) % count]);
            let has_room = |name: &NodeName| {
                let at = self.at.get(name);
                at.is_none_or(|at| at.len() < MOST_AT_ONE)
            };
            let Some(logger) = others.find(|it| it.acknowledges && has_room(&it.name)) else {
                break;
            };
            let name = logger.name.clone();
            self.turn = (self.turn + 1) % count;
            self.waiting.remove(&id);
            self.give(id, name.clone(), 0, now);
            sent.push((name, id));
        }
        sent
    }

    fn give(&mut self, id: EventId, logger: NodeName, asked: u32, now: Mono) {
        let Some(record) = self.records.get_mut(&id) else {
            return;
        };
        if record.given.as_ref().is_some_and(|given| *given != logger) {
            record.is_alone = false;
        }
        record.given = Some(logger.clone());
        let wait = ASK_AGAIN * 2_u32.saturating_pow(asked.min(8));
        let due = now.after(wait.min(ASK_AGAIN_MOST));
        self.due.insert((due, id));
        self.at.entry(logger.clone()).or_default().insert(id);
        record.place = Place::At { logger, asked, due };
    }

    /// Takes a record from where it is.
    fn take_back(&mut self, id: EventId, place: Place) {
        let Some(record) = self.records.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut record.place, place) {
            Place::Waiting => {
                self.waiting.remove(&id);
            }
            Place::At { logger, due, .. } => {
                self.due.remove(&(due, id));
                if let Some(at) = self.at.get_mut(&logger) {
                    at.remove(&id);
                }
            }
            Place::Arrived => {}
        }
    }

    /// A logger is out, or cannot write: others are given what it has not acknowledged.
    pub(crate) fn is_out(&mut self, logger: &NodeName) {
        for id in self.at.remove(logger).unwrap_or_default() {
            self.take_back(id, Place::Waiting);
            self.waiting.insert(id);
        }
        self.verdicts.retain(|(to, _), _| to != logger);
    }

    /// A logger can be reached again: what it was given may not have arrived. Returns what is sent to it.
    pub(crate) fn is_back(&mut self, logger: &NodeName, now: Mono) -> Vec<EventId> {
        let ids = self.at.get(logger).cloned().unwrap_or_default();
        for id in &ids {
            self.take_back(*id, Place::Waiting);
            self.give(*id, logger.clone(), 0, now);
        }
        ids.into_iter().collect()
    }

    /// Returns what is sent again, and to whom.
    pub(crate) fn tick(&mut self, now: Mono) -> Vec<(NodeName, EventId)> {
        let mut again = Vec::new();
        while let Some((at, id)) = self.due.first().copied()
            && at <= now
        {
            self.due.remove(&(at, id));
            let record = self.records.get(&id);
            if let Some(Place::At { logger, asked, .. }) = record.map(|record| &record.place) {
                let (logger, asked) = (logger.clone(), asked + 1);
                again.push((logger.clone(), id));
                self.give(id, logger, asked, now);
            }
        }
        again
    }

    /// When [`tick`](Self::tick) is due.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A logger has records. Returns those of them that have arrived by that.
    pub(crate) fn acknowledged(
        &mut self,
        logger: &NodeName,
        maker: EndpointId,
        numbers: &Numbers,
    ) -> Vec<Owed> {
        let mut arrived = Vec::new();
        for (first, last) in numbers.ranges() {
            let id = |number| EventId {
                producer: maker,
                number,
            };
            let known = self.records.range(id(first)..=id(last));
            let known: Vec<EventId> = known.map(|(id, _)| *id).collect();
            // Of the rest nothing is known here any more.
            let mut rest = first;
            for id in known {
                self.unknown(logger, maker, rest, id.number);
                rest = id.number.saturating_add(1);
                arrived.extend(self.arrive(id, Some(logger)));
            }
            self.unknown(logger, maker, rest, last.saturating_add(1));
        }
        arrived
    }

    fn unknown(&mut self, logger: &NodeName, maker: EndpointId, first: u64, end: u64) {
        if first < end {
            let verdict = self.verdicts.entry((logger.clone(), maker)).or_default();
            verdict.settle.insert_range(first, end - 1);
        }
    }

    /// A record is where it belongs. Returns whose it is, if that was not known.
    fn arrive(&mut self, id: EventId, logger: Option<&NodeName>) -> Option<Owed> {
        let record = self.records.get_mut(&id)?;
        if let Place::Arrived = record.place {
            return None;
        }
        let is_given = |logger: &NodeName| record.given.as_ref() == Some(logger);
        // It may have come from a former owner.
        record.is_alone &= logger.is_none_or(is_given);
        let owed = Owed {
            pool: record.pool.clone(),
            digest: record.digest,
            id,
        };
        self.take_back(id, Place::Arrived);
        Some(owed)
    }

    /// A logger does not take records. Returns those that are where they belong by that, or that nobody takes.
    pub(crate) fn refused(
        &mut self,
        logger: &NodeName,
        maker: EndpointId,
        numbers: &Numbers,
        refusal: BatchRefusal,
    ) -> Vec<Owed> {
        let at = self.at.get(logger).into_iter().flatten();
        let ids = at.filter(|id| id.producer == maker && numbers.contains(id.number));
        let ids: Vec<EventId> = ids.copied().collect();
        let mut arrived = Vec::new();
        for id in ids {
            match refusal {
                BatchRefusal::CannotWrite => {
                    self.take_back(id, Place::Waiting);
                    self.waiting.insert(id);
                }
                // Another logger has it on its disk, and has asked whether this one does.
                BatchRefusal::GoBack | BatchRefusal::Decided | BatchRefusal::Invalid => {
                    arrived.extend(self.arrive(id, None));
                }
            }
        }
        arrived
    }

    /// Nobody sends a record any more.
    pub(crate) fn forgotten(&mut self, id: EventId) {
        self.end(id, true);
    }

    /// Another node owns the keys of a record by now.
    pub(crate) fn given_up(&mut self, id: EventId) {
        self.end(id, false);
    }

    /// Another owner has seen to it that these have arrived.
    pub(crate) fn are_over(&mut self, maker: EndpointId, numbers: &Numbers) {
        let ids = self.records.keys();
        let over = ids.filter(|id| id.producer == maker && numbers.contains(id.number));
        for id in over.copied().collect::<Vec<EventId>>() {
            self.given_up(id);
        }
    }

    /// The members of a pool are others now. What has arrived, and whose owner has not said yet that it is known, comes again if
    /// it has to.
    pub(crate) fn members_changed(&mut self, pool: &PoolName) {
        let records = self.records.iter();
        let arrived = records
            .filter(|(_, record)| record.pool == *pool && matches!(record.place, Place::Arrived));
        let arrived: Vec<EventId> = arrived.map(|(id, _)| *id).collect();
        for id in arrived {
            self.given_up(id);
        }
    }

    fn end(&mut self, id: EventId, is_forgotten: bool) {
        self.take_back(id, Place::Waiting);
        let Some(record) = self.records.remove(&id) else {
            return;
        };
        self.bytes -= record.batch.bytes();
        self.waiting.remove(&id);
        let Some(logger) = record.given else {
            return;
        };
        let verdict = self.verdicts.entry((logger, id.producer)).or_default();
        if is_forgotten && record.is_alone {
            verdict.keep.insert(id.number);
        } else {
            verdict.settle.insert(id.number);
        }
    }

    /// Takes the records that no logger was given, for loggers that do not say what they have.
    pub(crate) fn take_waiting(&mut self) -> Vec<(Owed, Batch)> {
        let mut taken = Vec::new();
        let is_new = |id: &EventId| {
            let record = self.records.get(id);
            record.is_some_and(|record| record.given.is_none())
        };
        let new: Vec<EventId> = self.waiting.iter().copied().filter(is_new).collect();
        for id in new {
            if let Some(owed) = self.arrive(id, None)
                && let Some(record) = self.records.get(&id)
            {
                taken.push((owed, record.batch.clone()));
            }
        }
        taken
    }

    /// Takes what loggers are to be told, each of one maker of outputs.
    pub(crate) fn take_verdicts(&mut self) -> BTreeMap<(NodeName, EndpointId), OutboxVerdict> {
        std::mem::take(&mut self.verdicts)
    }

    /// Returns `true` if loggers are to be told something, or given something that they are not.
    pub(crate) fn has_news(&self) -> bool {
        !self.verdicts.is_empty() || !self.waiting.is_empty()
    }
}
