//! Producers and loggers without a network: messages are lost, doubled and overtaken, processes die, hang and are out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_test_support::{Random, seeds};
use muster_wire::{EndpointId, Mono};

use super::intake::{Intake, ProducerRecord, Surroundings};
use super::messages::{BatchRefusal, DeliveryNote, LogSettle, LogSettled, LogVerdict};
use super::shipper::{Candidate, Dispatched, Sending, Shipper, Verdict};
use super::{Arrival, BatchId, LogNotes, Numbers};
use crate::layout::NodeName;

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// A logger acknowledges what is not synced.
    AcknowledgesEarly,
    /// A producer does not remember who has a batch that two loggers may have.
    ForgetsShared,
    /// A logger that is asked promises nothing.
    PromisesNothing,
    /// Loggers keep what they hold of a producer that is gone, without asking.
    DoesNotAsk,
    /// A file gets its final name before its producer has said what counts.
    FinalAtOnce,
    /// A logger that has promised something takes the producer's word all the same.
    HeedsTheGone,
    /// A logger forgets, when it begins anew, what it has kept.
    ForgetsKept,
}

const ALL: [Broken; 7] = [
    Broken::AcknowledgesEarly,
    Broken::ForgetsShared,
    Broken::PromisesNothing,
    Broken::DoesNotAsk,
    Broken::FinalAtOnce,
    Broken::HeedsTheGone,
    Broken::ForgetsKept,
];

#[derive(Debug, Clone)]
enum Message {
    Batch(DeliveryNote),
    Ack(Numbers),
    Refused(Numbers, BatchRefusal),
    Verdict(EndpointId, u64, Verdict),
    Settle(LogSettle),
    Settled(LogSettled),
}

struct Producer {
    name: String,
    life: EndpointId,
    shipper: Shipper,
    /// Whom it takes to be out.
    out: BTreeSet<usize>,
    is_frozen: bool,
}

/// What a logger has on its disk.
#[derive(Debug, Default, Clone)]
struct Disk {
    entries: BTreeSet<BatchId>,
    records: BTreeMap<EndpointId, ProducerRecord>,
}

struct Logger {
    intake: Intake,
    /// What is synced, and what is written.
    disk: Disk,
    memory: Disk,
    /// What counts, and is synced.
    last: BTreeMap<BatchId, u32>,
    written: u64,
    is_up: bool,
    is_frozen: bool,
}

struct World {
    random: Random,
    broken: Option<Broken>,
    now: Mono,
    producers: Vec<Producer>,
    loggers: Vec<Logger>,
    /// When, from whom, to whom.
    wire: Vec<(Mono, String, String, Message)>,
    lives: u8,
    /// The batches that were acknowledged to their producer.
    acknowledged: BTreeSet<BatchId>,
    loss: u64,
    /// One turn in so many has a fault.
    peace: u64,
}

fn logger_name(logger: usize) -> NodeName {
    NodeName::new(&format!("logger-{logger}")).unwrap()
}

fn note(disk: &mut Disk, notes: &LogNotes) {
    let record = disk
        .records
        .entry(notes.producer)
        .or_insert_with(|| ProducerRecord {
            producer: notes.producer,
            node: notes.node.clone(),
            floor: 0,
            held: Numbers::default(),
            kept: Numbers::default(),
            struck: Numbers::default(),
            promised: Numbers::default(),
        });
    record.floor = record.floor.max(notes.floor);
    for numbers in [&notes.keep, &notes.keep_shared, &notes.strike] {
        for number in numbers.iter() {
            record.held.remove(number);
        }
    }
    record.kept.extend(&notes.keep_shared);
    record.struck.extend(&notes.strike);
    record.promised.extend(&notes.promise);
    for number in notes.strike.iter() {
        let producer = notes.producer;
        disk.entries.remove(&BatchId { producer, number });
    }
}

impl World {
    fn new(seed: u64, broken: Option<Broken>) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            broken,
            now: Mono(1_000_000_000),
            producers: Vec::new(),
            loggers: Vec::new(),
            wire: Vec::new(),
            lives: 0,
            acknowledged: BTreeSet::new(),
            loss: seed % 12,
            peace: [8, 15, 40][usize::try_from(seed % 3).unwrap()],
        };
        for number in 0..2 {
            let life = world.life();
            world.producers.push(Producer {
                name: format!("worker-{number}"),
                life,
                shipper: Shipper::default(),
                out: BTreeSet::new(),
                is_frozen: false,
            });
        }
        for _ in 0..2 + seed % 2 {
            world.loggers.push(Logger {
                intake: Intake::default(),
                disk: Disk::default(),
                memory: Disk::default(),
                last: BTreeMap::new(),
                written: 0,
                is_up: true,
                is_frozen: false,
            });
        }
        world
    }

    fn life(&mut self) -> EndpointId {
        self.lives += 1;
        EndpointId::from_random([self.lives; 16])
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.number(bound)
    }

    #[allow(clippy::needless_pass_by_value, reason = "it is on its way")]
    fn send(&mut self, from: &str, to: &str, message: Message) {
        let times = match self.below(100) {
            chance if chance < self.loss => 0,
            99 => 2,
            _ => 1,
        };
        for _ in 0..times {
            let longest = if self.below(20) == 0 { 4_000 } else { 20 };
            let delay = 1 + self.below(longest);
            let at = self.now.after(Duration::from_millis(delay));
            self.wire
                .push((at, from.to_owned(), to.to_owned(), message.clone()));
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let due: Vec<_> = self.wire.extract_if(.., |(at, ..)| *at <= now).collect();
        for (at, from, to, message) in due {
            if let Some(logger) = (0..self.loggers.len()).find(|it| logger_name(*it).as_str() == to)
            {
                if self.loggers[logger].is_frozen {
                    self.wire.push((at, from, to, message));
                } else if self.loggers[logger].is_up {
                    self.logger_hears(logger, &from, message);
                }
            } else if let Some(position) = self
                .producers
                .iter()
                .position(|it| it.life.to_string() == to)
            {
                if self.producers[position].is_frozen {
                    self.wire.push((at, from, to, message));
                } else {
                    self.producer_hears(position, &from, message);
                }
            }
        }
    }

    fn put(&mut self, producer: usize, sendings: Vec<Sending>) {
        let Producer { name, life, .. } = &self.producers[producer];
        let (name, life) = (name.clone(), *life);
        for Sending { logger, number } in sendings {
            let floor = self.producers[producer].shipper.floor();
            let note = DeliveryNote {
                node: name.clone(),
                producer: life.to_string(),
                number,
                floor,
            };
            self.send(&life.to_string(), logger.as_str(), Message::Batch(note));
        }
    }

    fn producer_hears(&mut self, position: usize, from: &str, message: Message) {
        let now = self.now;
        let logger = NodeName::new(from).unwrap();
        let broken = self.broken;
        let producer = &mut self.producers[position];
        match message {
            Message::Ack(numbers) => {
                let open: Vec<u64> = numbers
                    .iter()
                    .filter(|n| producer.shipper.get(*n).is_some())
                    .collect();
                let (_, again) = producer.shipper.acknowledged(&logger, &numbers, now);
                if broken == Some(Broken::ForgetsShared) {
                    producer.shipper.forget_shared();
                }
                let producer = producer.life;
                self.acknowledged
                    .extend(open.into_iter().map(|number| BatchId { producer, number }));
                self.put(position, again);
            }
            Message::Refused(numbers, refusal) => {
                producer.shipper.refused(&logger, &numbers, refusal, now);
            }
            _ => {}
        }
    }

    fn notes(&mut self, logger: usize, notes: &LogNotes) {
        let now = self.now;
        let logger = &mut self.loggers[logger];
        logger.written = logger.intake.noting(Some(notes.clone()), now);
        note(&mut logger.memory, notes);
    }

    fn logger_hears(&mut self, position: usize, from: &str, message: Message) {
        let (now, broken) = (self.now, self.broken);
        let me = logger_name(position).to_string();
        match message {
            Message::Batch(delivery) => {
                let logger = &mut self.loggers[position];
                let arrived = logger.intake.arrive(&delivery, now);
                let Ok((arrival, delivery)) = arrived else {
                    return;
                };
                let BatchId { producer, number } = delivery.id;
                let numbers: Numbers = [number].into_iter().collect();
                match arrival {
                    Arrival::New => {
                        logger.written = logger.intake.writing(Some(delivery.id), now);
                        logger.memory.entries.insert(delivery.id);
                        let record = logger.memory.records.entry(producer);
                        let record = record.or_insert_with(|| ProducerRecord {
                            producer,
                            node: delivery.node.clone(),
                            floor: 0,
                            held: Numbers::default(),
                            kept: Numbers::default(),
                            struck: Numbers::default(),
                            promised: Numbers::default(),
                        });
                        record.floor = record.floor.max(delivery.floor);
                        record.held.insert(number);
                        let late = logger.intake.written(logger.written);
                        if let Some(notes) = late {
                            self.notes(position, &notes);
                        }
                        if broken == Some(Broken::AcknowledgesEarly) {
                            self.send(&me, &producer.to_string(), Message::Ack(numbers));
                        }
                    }
                    Arrival::Known => self.send(&me, &producer.to_string(), Message::Ack(numbers)),
                    Arrival::GoBack => {
                        let refused = Message::Refused(numbers, BatchRefusal::GoBack);
                        self.send(&me, &producer.to_string(), refused);
                    }
                    _ => {}
                }
            }
            Message::Verdict(producer, floor, verdict) => {
                let verdict = LogVerdict {
                    producer: producer.to_string(),
                    floor,
                    keep: verdict.keep.to_pairs(),
                    keep_shared: verdict.keep_shared.to_pairs(),
                    strike: verdict.strike.to_pairs(),
                    settle: verdict.settle.to_pairs(),
                };
                if broken == Some(Broken::HeedsTheGone) {
                    self.loggers[position].intake.forget_promises(producer);
                }
                let notes = self.loggers[position].intake.verdict(&verdict, now);
                if let Some(notes) = notes {
                    self.notes(position, &notes);
                }
            }
            Message::Settle(question) => {
                let logger = &mut self.loggers[position];
                if let Some((sequence, notes)) = logger.intake.asked(from, &question, now) {
                    logger.written = sequence;
                    if broken == Some(Broken::PromisesNothing) {
                        logger.intake.forget_promises(notes.producer);
                    } else {
                        note(&mut logger.memory, &notes);
                    }
                }
            }
            Message::Settled(answer) => {
                self.loggers[position].intake.answered(&me, from, &answer);
            }
            _ => {}
        }
    }

    fn sync(&mut self, position: usize) {
        let now = self.now;
        let me = logger_name(position).to_string();
        let logger = &mut self.loggers[position];
        logger.disk = logger.memory.clone();
        for id in &logger.disk.entries {
            let record = &logger.disk.records[&id.producer];
            // What is in a file with a final name stays there.
            if !record.held.contains(id.number) || self.broken == Some(Broken::FinalAtOnce) {
                logger.last.entry(*id).or_insert(1);
            }
        }
        let safe = logger.intake.synced(logger.written, now);
        for (producer, numbers) in safe.batches {
            self.send(&me, &producer.to_string(), Message::Ack(numbers));
        }
        for (to, answer) in safe.answers {
            self.send(&me, &to, Message::Settled(answer));
        }
    }

    fn look(&mut self, position: usize) {
        let now = self.now;
        let me = logger_name(position).to_string();
        let loggers: Vec<(String, bool)> = (0..self.loggers.len())
            .map(|it| (logger_name(it).to_string(), self.loggers[it].is_up))
            .collect();
        let producers: BTreeSet<EndpointId> = self.producers.iter().map(|it| it.life).collect();
        // A frozen producer may be taken for gone.
        let frozen: BTreeSet<EndpointId> = self
            .producers
            .iter()
            .filter(|it| it.is_frozen)
            .map(|it| it.life)
            .collect();
        let is_gone = |id: EndpointId, _: &str| !producers.contains(&id) || frozen.contains(&id);
        let alone = [];
        let around = Surroundings {
            me: &me,
            loggers: if self.broken == Some(Broken::DoesNotAsk) {
                &alone
            } else {
                &loggers
            },
            is_gone: &is_gone,
            may_settle: true,
        };
        let found = self.loggers[position].intake.look(&around, now);
        for (producer, numbers) in found.batches {
            self.send(&me, &producer.to_string(), Message::Ack(numbers));
        }
        for (to, question) in found.questions {
            self.send(&me, &to, Message::Settle(question));
        }
        for notes in found.notes {
            self.notes(position, &notes);
        }
    }

    /// A logger dies: some of what is not synced is lost. It begins anew.
    fn crash_logger(&mut self, position: usize) {
        let power_fails = self.below(2) == 0;
        let now = self.now;
        let logger = &mut self.loggers[position];
        if power_fails {
            logger.memory = logger.disk.clone();
        } else {
            logger.disk = logger.memory.clone();
        }
        let mut records: Vec<ProducerRecord> = logger.disk.records.values().cloned().collect();
        if self.broken == Some(Broken::ForgetsKept) {
            for record in &mut records {
                record.kept = Numbers::default();
            }
        }
        logger.intake = Intake::default();
        logger.intake.recover(records, now);
        logger.written = 0;
        logger.is_frozen = false;
    }

    fn dispatch(&mut self, position: usize) {
        let now = self.now;
        let out = self.producers[position].out.clone();
        let candidates: Vec<Candidate> = (0..self.loggers.len())
            .filter(|logger| !out.contains(logger))
            .map(|logger| Candidate {
                position: logger,
                name: logger_name(logger),
                acknowledges: true,
            })
            .collect();
        let loggers = self.loggers.len();
        let shipper = &mut self.producers[position].shipper;
        let mut sendings = Vec::new();
        while let Some(Dispatched::Given(sending)) = shipper.dispatch(&candidates, loggers, now) {
            sendings.push(sending);
        }
        let is_up = |name: &NodeName| candidates.iter().any(|candidate| candidate.name == *name);
        let (again, _) = shipper.tick(now, is_up);
        sendings.extend(again);
        let floor = shipper.floor();
        let verdicts = shipper.take_verdicts(now);
        let life = self.producers[position].life;
        self.put(position, sendings);
        for (logger, verdict) in verdicts {
            let message = Message::Verdict(life, floor, verdict);
            self.send(&life.to_string(), logger.as_str(), message);
        }
    }

    /// A producer notices who is out, and who is back.
    fn see(&mut self, position: usize) {
        let now = self.now;
        for logger in 0..self.loggers.len() {
            let name = logger_name(logger);
            let is_in = self.loggers[logger].is_up && !self.loggers[logger].is_frozen;
            let producer = &mut self.producers[position];
            if is_in && producer.out.remove(&logger) {
                let again = producer.shipper.is_back(&name, now);
                self.put(position, again);
            } else if !is_in && producer.out.insert(logger) {
                producer.shipper.is_out(&name);
            }
        }
    }

    fn fault(&mut self) {
        let logger = usize::try_from(self.below(self.loggers.len() as u64)).unwrap();
        let producer = usize::try_from(self.below(self.producers.len() as u64)).unwrap();
        match self.below(9) {
            0 | 1 => self.crash_logger(logger),
            2 => self.loggers[logger].is_up = false,
            3 => {
                let back = !self.loggers[logger].is_up;
                self.loggers[logger].is_up = true;
                if back {
                    self.crash_logger(logger);
                }
            }
            4 => self.loggers[logger].is_frozen ^= true,
            5 => self.producers[producer].is_frozen ^= true,
            6 => {
                // It dies with what is open.
                let life = self.life();
                let dead = &mut self.producers[producer];
                (dead.life, dead.shipper) = (life, Shipper::default());
                dead.out.clear();
                dead.is_frozen = false;
            }
            // Out of sight, for one of them.
            _ => {
                let producer = &mut self.producers[producer];
                if !producer.out.remove(&logger) {
                    producer.out.insert(logger);
                    producer.shipper.is_out(&logger_name(logger));
                }
            }
        }
    }

    fn turn(&mut self, is_troubled: bool) {
        self.now = self.now.after(Duration::from_millis(20));
        if is_troubled && self.below(self.peace) == 0 {
            self.fault();
        }
        for position in 0..self.producers.len() {
            if self.producers[position].is_frozen {
                continue;
            }
            if is_troubled && self.below(3) == 0 {
                let took = self.producers[position]
                    .shipper
                    .add("stream", vec![0; 10], 1);
                assert!(took);
            }
            if self.below(20) == 0 {
                self.see(position);
            }
            self.dispatch(position);
        }
        for position in 0..self.loggers.len() {
            let logger = &self.loggers[position];
            if !logger.is_up || logger.is_frozen {
                continue;
            }
            if self.below(5) == 0 {
                self.sync(position);
            }
            self.look(position);
        }
        self.deliver();
    }

    fn heal(&mut self) {
        for producer in &mut self.producers {
            producer.is_frozen = false;
        }
        for logger in 0..self.loggers.len() {
            self.loggers[logger].is_frozen = false;
            if !self.loggers[logger].is_up {
                self.loggers[logger].is_up = true;
                self.crash_logger(logger);
            }
        }
        self.loss = 0;
    }

    fn is_settled(&self) -> bool {
        let mut producers = self.producers.iter();
        let mut loggers = self.loggers.iter();
        self.wire.is_empty()
            && producers.all(|producer| producer.shipper.is_empty())
            && loggers.all(|logger| logger.intake.undecided() == 0)
    }

    fn run(seed: u64, broken: Option<Broken>) -> Result<(usize, usize), String> {
        let mut world = Self::new(seed, broken);
        for _ in 0..1_000 {
            world.turn(true);
        }
        world.heal();
        for _ in 0..6_000 {
            world.turn(false);
            if world.is_settled() {
                break;
            }
        }
        for logger in 0..world.loggers.len() {
            world.sync(logger);
        }
        let mut copies: BTreeMap<BatchId, usize> = BTreeMap::new();
        for logger in &world.loggers {
            for id in logger.last.keys() {
                *copies.entry(*id).or_default() += 1;
            }
        }
        for producer in &world.producers {
            if !producer.shipper.is_empty() {
                return Err(format!("open at the end: {:?}", producer.shipper));
            }
        }
        for (position, logger) in world.loggers.iter().enumerate() {
            if logger.intake.undecided() > 0 {
                return Err(format!("logger-{position} has undecided batches"));
            }
        }
        if let Some((id, count)) = copies.iter().find(|(_, count)| **count > 1) {
            return Err(format!("{id:?} is in {count} final files"));
        }
        if let Some(id) = world
            .acknowledged
            .iter()
            .find(|id| !copies.contains_key(*id))
        {
            return Err(format!("{id:?} was acknowledged, and is in no final file"));
        }
        Ok((world.acknowledged.len(), copies.len()))
    }
}

#[test]
fn what_is_acknowledged_is_final_once_and_everything_else_at_most_once() {
    let (mut acknowledged, mut last) = (0, 0);
    for seed in seeds(100) {
        let (more, copies) =
            World::run(seed, None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(more > 20, "seed {seed}: {more} batches were acknowledged");
        acknowledged += more;
        last += copies;
    }
    assert!(last >= acknowledged);
}

#[test]
fn every_broken_rule_is_noticed() {
    for broken in ALL {
        let found = (0..200).find_map(|seed| Some((seed, World::run(seed, Some(broken)).err()?)));
        let (seed, error) = found.unwrap_or_else(|| panic!("nobody notices {broken:?}"));
        println!("{broken:?}: seed {seed}: {error}");
    }
}
