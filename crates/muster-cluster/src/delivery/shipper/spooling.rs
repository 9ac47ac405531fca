//! What a producer keeps in its spool: which batches, which of them are in memory as well, and what is decided when it is
//! safe there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_wire::Mono;

use super::{Dropped, Lost, Place, Shipment, Shipper, Spooled};
use crate::delivery::spool::{Leftover, SpoolOrder, SpoolOutcome};
use crate::delivery::{Numbers, StreamHead};
use crate::layout::NodeName;
use crate::settings::SpoolWhen;

/// With more in memory, batches go to the spool as well; what is safe there and waits need not be in memory with more than
/// [`KEEP_IN_MEMORY`].
const SPILL_FROM: usize = 48 << 20;
const KEEP_IN_MEMORY: usize = 32 << 20;

/// What the spool is handed at once: bytes and batches.
const MOST_BYTES_HANDED: usize = 16 << 20;
const MOST_HANDED: usize = 256;

/// What is read from the spool before it can be sent: bytes and batches.
const READ_AHEAD: usize = 8 << 20;
const MOST_READS: usize = 64;

/// The batches of which it is decided whose copy counts, and that the spool has not yet forgotten.
const MOST_DECIDING: usize = 65_536;

/// How often a batch that cannot be read is tried: for a minute.
const MOST_TRIES: u32 = 12;

/// How long a spool that has failed is left alone.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// What goes to the spool, and what comes from it.
#[derive(Debug)]
pub(super) struct Spooling {
    when: SpoolWhen,
    /// The node ends: what is not kept now never is.
    is_ending: bool,
    /// The batches that go there when it has room.
    due: BTreeSet<u64>,
    /// Those that were handed over, and their bytes.
    handed: BTreeMap<u64, usize>,
    bytes_handed: usize,
    /// Those that are being read.
    reading: BTreeSet<u64>,
    /// How often those could not be read that were tried in vain.
    tries: BTreeMap<u64, u32>,
    /// The number of those that are in the spool and not in memory.
    elsewhere: usize,
    /// The spool is to forget them.
    forget: Numbers,
    is_forgetting: bool,
    /// What is decided about a batch when the spool has forgotten it: whose copy counts, and who has one.
    deciding: BTreeMap<u64, (NodeName, Vec<NodeName>)>,
    /// Since when it fails.
    failed: Option<Mono>,
    orders: Vec<SpoolOrder>,
}

/// What follows from what the spool has said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) dropped: Vec<Dropped>,
    /// The records that are safe now.
    pub(crate) kept: usize,
    /// How the spool is, if that has changed.
    pub(crate) health: Option<SpoolHealth>,
}

/// Whether a spool works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SpoolHealth {
    Works,
    /// For this reason.
    Fails(String),
}

impl Default for Spooling {
    /// Nothing is kept.
    fn default() -> Self {
        Self {
            when: SpoolWhen::Never,
            is_ending: false,
            due: BTreeSet::new(),
            handed: BTreeMap::new(),
            bytes_handed: 0,
            reading: BTreeSet::new(),
            tries: BTreeMap::new(),
            elsewhere: 0,
            forget: Numbers::default(),
            is_forgetting: false,
            deciding: BTreeMap::new(),
            failed: None,
            orders: Vec::new(),
        }
    }
}

impl Spooling {
    /// A batch is open no more.
    pub(super) fn closed(&mut self, number: u64, shipment: &Shipment) {
        self.due.remove(&number);
        self.reading.remove(&number);
        self.tries.remove(&number);
        if shipment.spooled != Spooled::No {
            self.forget.insert(number);
            self.elsewhere -= usize::from(shipment.batch.is_none());
        }
    }

    /// It is decided whose copy of a batch counts. Returns the number of another one of which that is not remembered any more, as
    /// the spool has forgotten nothing for long.
    pub(super) fn decided(
        &mut self,
        number: u64,
        holder: &NodeName,
        given: Vec<NodeName>,
    ) -> Option<u64> {
        self.deciding.insert(number, (holder.clone(), given));
        if self.deciding.len() <= MOST_DECIDING {
            return None;
        }
        self.deciding.pop_first().map(|(number, _)| number)
    }

    /// Returns `true` if it is decided whose copy counts, and nobody has been told.
    pub(super) fn is_deciding(&self, number: u64) -> bool {
        self.deciding.contains_key(&number)
    }

    /// Breaks a rule, for the test of it.
    #[cfg(test)]
    pub(super) fn take_deciding(&mut self) -> BTreeMap<u64, (NodeName, Vec<NodeName>)> {
        std::mem::take(&mut self.deciding)
    }

    fn is_resting(&self, now: Mono) -> bool {
        self.failed.is_some_and(|at| now.since(at) < TRY_AGAIN)
    }
}

impl Shipper {
    /// Says which batches are kept from now on.
    pub(crate) fn spool_when(&mut self, when: SpoolWhen) {
        self.spooling.when = when;
    }

    /// Creates the batches that a former life of a node has left in its spool. Each of `loggers` may have any of them.
    pub(crate) fn adopted(left: &Leftover, loggers: &[NodeName]) -> Self {
        let mut shipper = Self {
            next: left.next,
            // Whose copy of a decided batch counts only loggers know.
            forgotten: left.next,
            ..Self::default()
        };
        let mut heads: BTreeMap<&str, Arc<StreamHead>> = BTreeMap::new();
        for (number, batch) in &left.batches {
            let head = heads.entry(&batch.stream);
            let head = head.or_insert_with(|| Arc::new(StreamHead::unread(&batch.stream)));
            let shipment = Shipment {
                head: Arc::clone(head),
                records: batch.records,
                bytes: batch.bytes,
                batch: None,
                spooled: Spooled::At(batch.place),
                given: loggers.to_vec(),
                denied: Vec::new(),
                until: None,
                at: Place::Waiting,
            };
            shipper.records += batch.records;
            shipper.spooled += batch.records;
            shipper.spooling.elsewhere += 1;
            shipper.waiting.insert(*number);
            shipper.open.insert(*number, shipment);
        }
        shipper
    }

    /// Returns `true` if the node ends.
    pub(crate) fn is_ending(&self) -> bool {
        self.spooling.is_ending
    }

    /// Returns `true` if the spool has nothing to be told and nothing to tell.
    pub(crate) fn is_spool_done(&self) -> bool {
        let spooling = &self.spooling;
        spooling.forget.is_empty() && !spooling.is_forgetting && spooling.handed.is_empty()
    }

    /// Has a new batch kept, if it is one to be kept.
    pub(super) fn spool_if_due(&mut self, number: u64) {
        let is_due = match self.spooling.when {
            SpoolWhen::Never => false,
            SpoolWhen::Always => true,
            SpoolWhen::Overflow => self.memory > SPILL_FROM,
        };
        if is_due {
            self.spooling.due.insert(number);
        }
    }

    /// Has all that is open kept: the node ends.
    pub(crate) fn spool_all(&mut self) {
        self.spooling.is_ending = true;
        if self.spooling.when == SpoolWhen::Never {
            return;
        }
        let numbers = self.open.iter();
        let unkept = numbers.filter(|(_, it)| matches!(it.spooled, Spooled::No | Spooled::Perhaps));
        let unkept: Vec<u64> = unkept.map(|(number, _)| *number).collect();
        for number in unkept {
            self.hand_over(number);
        }
    }

    fn hand_over(&mut self, number: u64) {
        self.spooling.due.remove(&number);
        let Some(shipment) = self.open.get_mut(&number) else {
            return;
        };
        let Some(batch) = shipment.batch.clone() else {
            return;
        };
        shipment.spooled = Spooled::Asked;
        self.spooling.bytes_handed += batch.bytes();
        self.spooling.handed.insert(number, batch.bytes());
        let order = SpoolOrder::Keep { number, batch };
        self.spooling.orders.push(order);
    }

    /// Returns what the spool is to do. With `can_send`, what is next is read.
    pub(crate) fn take_orders(&mut self, can_send: bool, now: Mono) -> Vec<SpoolOrder> {
        if !self.spooling.is_resting(now) {
            for number in self.due_now() {
                if self.spooling.bytes_handed >= MOST_BYTES_HANDED {
                    break;
                }
                self.hand_over(number);
            }
            if can_send {
                self.read_ahead();
            }
        }
        let spooling = &mut self.spooling;
        if !spooling.is_forgetting && !spooling.forget.is_empty() {
            spooling.is_forgetting = true;
            let forget = std::mem::take(&mut spooling.forget);
            spooling.orders.push(SpoolOrder::Forget(forget));
        }
        std::mem::take(&mut spooling.orders)
    }

    /// The batches that are to be handed over. Of a stream whose last one takes more records, that one stays, unless all are kept.
    fn due_now(&self) -> Vec<u64> {
        let is_last = |number: &u64| {
            let shipment = self.open.get(number);
            let stream = shipment.map(|shipment| shipment.head.name());
            stream.is_some_and(|stream| self.last.get(stream) == Some(number))
        };
        let due = self.spooling.due.iter().copied();
        let due = due.filter(|number| self.spooling.when == SpoolWhen::Always || !is_last(number));
        due.take(MOST_HANDED).collect()
    }

    fn read_ahead(&mut self) {
        if self.spooling.elsewhere == 0 {
            return;
        }
        let mut bytes = 0;
        for number in self.waiting.iter().take(MOST_READS) {
            let Some(shipment) = self.open.get(number) else {
                continue;
            };
            if bytes >= READ_AHEAD {
                break;
            }
            bytes += shipment.bytes;
            if let Spooled::At(place) = shipment.spooled
                && shipment.batch.is_none()
                && self.spooling.reading.insert(*number)
            {
                let number = *number;
                let order = SpoolOrder::Read { number, place };
                self.spooling.orders.push(order);
            }
        }
    }

    /// The spool has done something.
    pub(crate) fn spool_says(&mut self, outcome: &SpoolOutcome, now: Mono) -> Heard {
        let mut heard = Heard::default();
        match outcome {
            SpoolOutcome::Synced { kept, forgotten } => {
                for (number, place) in kept {
                    heard.kept += self.kept(*number, Spooled::At(*place));
                }
                if !forgotten.is_empty() {
                    self.spooling.is_forgetting = false;
                }
                for number in forgotten.iter() {
                    if let Some((holder, given)) = self.spooling.deciding.remove(&number) {
                        self.decide(number, &holder, &given, now);
                    }
                }
                if self.spooling.failed.take().is_some() {
                    heard.health = Some(SpoolHealth::Works);
                }
            }
            SpoolOutcome::NotKept {
                number,
                may_be_there,
                problem,
            } => {
                let is_there = if *may_be_there {
                    Spooled::Perhaps
                } else {
                    Spooled::No
                };
                let _ = self.kept(*number, is_there);
                if self.spooling.is_ending {
                    heard.dropped.extend(self.lose(*number, Lost::NoLogger));
                } else if self.open.contains_key(number) {
                    self.spooling.due.insert(*number);
                }
                self.spooling.failed = Some(now);
                heard.health = Some(SpoolHealth::Fails(problem.clone()));
            }
            SpoolOutcome::NotForgotten { problem } => {
                self.spooling.failed = Some(now);
                heard.health = Some(SpoolHealth::Fails(problem.clone()));
            }
            SpoolOutcome::Read { number, batch } => {
                self.spooling.reading.remove(number);
                let Some(shipment) = self.open.get_mut(number) else {
                    return heard;
                };
                if shipment.batch.is_none() {
                    shipment.head = Arc::clone(&batch.head);
                    shipment.batch = Some(batch.clone());
                    self.memory += shipment.bytes;
                    self.spooling.elsewhere -= 1;
                }
            }
            SpoolOutcome::Damaged { number } => {
                heard.dropped.extend(self.lose(*number, Lost::Spool));
            }
            SpoolOutcome::NotRead { number, problem } => {
                self.spooling.reading.remove(number);
                self.spooling.failed = Some(now);
                heard.health = Some(SpoolHealth::Fails(problem.clone()));
                let tries = self.spooling.tries.entry(*number).or_default();
                *tries += 1;
                // What comes behind it must not wait for ever.
                if *tries >= MOST_TRIES {
                    heard.dropped.extend(self.lose(*number, Lost::Spool));
                }
            }
        }
        heard
    }

    /// The spool has a batch, or could not keep it. Returns the number of its records, if it is still open.
    fn kept(&mut self, number: u64, spooled: Spooled) -> usize {
        let bytes = self.spooling.handed.remove(&number).unwrap_or(0);
        self.spooling.bytes_handed -= bytes;
        let Some(shipment) = self.open.get_mut(&number) else {
            return 0;
        };
        let was_safe = matches!(shipment.spooled, Spooled::At(_));
        let is_safe = matches!(spooled, Spooled::At(_));
        if was_safe && !is_safe {
            return shipment.records;
        }
        shipment.spooled = spooled;
        if is_safe && !was_safe {
            self.spooled += shipment.records;
            self.flushes.spooled(number, shipment.records);
        }
        let is_needed = shipment.at != Place::Waiting || self.memory <= KEEP_IN_MEMORY;
        if is_safe && !is_needed && shipment.batch.take().is_some() {
            self.memory -= shipment.bytes;
            self.spooling.elsewhere += 1;
        }
        shipment.records
    }

    /// What is safe in the spool and waits need not be in memory, the last of it first.
    pub(super) fn unload(&mut self) {
        if self.memory <= KEEP_IN_MEMORY {
            return;
        }
        for number in self.waiting.iter().rev() {
            let Some(shipment) = self.open.get_mut(number) else {
                continue;
            };
            if matches!(shipment.spooled, Spooled::At(_)) && shipment.batch.take().is_some() {
                self.memory -= shipment.bytes;
                self.spooling.elsewhere += 1;
            }
            if self.memory <= KEEP_IN_MEMORY {
                return;
            }
        }
    }

    /// When [`take_orders`](Self::take_orders) has something to do that has waited for a spool that failed.
    pub(super) fn spool_deadline(&self) -> Option<Mono> {
        let is_waiting = !self.spooling.due.is_empty() || self.spooling.elsewhere > 0;
        let failed = self.spooling.failed.filter(|_| is_waiting)?;
        Some(failed.after(TRY_AGAIN)).filter(|at| *at > self.now)
    }
}
