//! Producers and loggers without a network: messages are lost, doubled and overtaken, processes die, hang and are out, and
//! so do disks.

mod flushing;
mod spooling;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_test_support::{Random, seeds};
use muster_wire::{EndpointId, Mono};

use super::batch::tests::batch;
use super::intake::{Intake, ProducerRecord, Surroundings};
use super::messages::{BatchRefusal, DeliveryNote, LogSettle, LogSettled, LogVerdict};
use super::shipper::{Candidate, Dispatched, Sending, Shipper, Verdict};
use super::spool::{ModelHome, Spool, SpoolOrder, SpoolOutcome};
use super::{Arrival, BatchId, LogNotes, Numbers};
use crate::layout::NodeName;
use crate::settings::SpoolWhen;

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
    /// A producer says what counts before its spool has forgotten the batch.
    DecidesEarly,
    /// The next life takes what its spool does not have for decided by nobody else.
    DecidesAgain,
    /// The spool does not note what is acknowledged.
    ForgetsNothing,
    /// A batch counts as kept before the spool is synced.
    KeepsEarly,
    /// What could not be kept is taken for something that no next life finds.
    TrustsFailures,
    /// A flush says that all is safe as soon as it is asked.
    FlushesEarly,
}

const ALL: [Broken; 13] = [
    Broken::AcknowledgesEarly,
    Broken::ForgetsShared,
    Broken::PromisesNothing,
    Broken::DoesNotAsk,
    Broken::FinalAtOnce,
    Broken::HeedsTheGone,
    Broken::ForgetsKept,
    Broken::DecidesEarly,
    Broken::DecidesAgain,
    Broken::ForgetsNothing,
    Broken::KeepsEarly,
    Broken::TrustsFailures,
    Broken::FlushesEarly,
];

#[derive(Debug, Clone)]
enum Message {
    Batch(DeliveryNote),
    Ack(EndpointId, Numbers),
    Refused(EndpointId, Numbers, BatchRefusal),
    Verdict(EndpointId, u64, Verdict),
    Settle(LogSettle),
    Settled(LogSettled),
}

struct Producer {
    name: String,
    life: EndpointId,
    shipper: Shipper,
    when: SpoolWhen,
    home: ModelHome,
    spool: Spool<ModelHome>,
    /// What a former life has left.
    adopted: Option<(EndpointId, Shipper)>,
    /// Whom it takes to be out.
    out: BTreeSet<usize>,
    is_frozen: bool,
    /// The batches that it has made.
    batches: u64,
    /// Its open flushes, and how many batches there were.
    flushes: BTreeMap<u64, u64>,
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
    /// Those that are safe in a spool.
    kept: BTreeSet<BatchId>,
    /// Those that are safe by the word of a flush.
    promised: BTreeSet<BatchId>,
    /// The flushes that have said so.
    flushed: u64,
    loss: u64,
    /// One turn in so many has a fault.
    peace: u64,
}

impl Producer {
    fn new(name: String, life: EndpointId, when: SpoolWhen, home: ModelHome) -> Self {
        let mut shipper = Shipper::default();
        shipper.spool_when(when);
        Self {
            shipper,
            when,
            spool: Spool::new(home.clone(), &name, life, 1 << 20),
            home,
            adopted: None,
            out: BTreeSet::new(),
            is_frozen: false,
            batches: 0,
            flushes: BTreeMap::new(),
            name,
            life,
        }
    }

    /// The batches of its life, or of the former one that it has adopted.
    fn shipper(&mut self, life: EndpointId) -> Option<&mut Shipper> {
        if life == self.life {
            return Some(&mut self.shipper);
        }
        let adopted = self.adopted.as_mut().filter(|(known, _)| *known == life);
        adopted.map(|(_, shipper)| shipper)
    }

    fn lives(&self) -> Vec<EndpointId> {
        let adopted = self.adopted.iter().map(|(life, _)| *life);
        adopted.chain([self.life]).collect()
    }

    fn is_done(&self) -> bool {
        let is_done = |shipper: &Shipper| shipper.is_empty() && shipper.is_spool_done();
        self.adopted.is_none() && is_done(&self.shipper)
    }
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
            kept: BTreeSet::new(),
            promised: BTreeSet::new(),
            flushed: 0,
            loss: seed % 12,
            peace: [8, 15, 40][usize::try_from(seed % 3).unwrap()],
        };
        for number in 0..2 {
            let life = world.life();
            let when = [SpoolWhen::Always, SpoolWhen::Always, SpoolWhen::Overflow];
            let when = when[usize::try_from((seed / 2 + number) % 3).unwrap()];
            let name = format!("worker-{number}");
            let producer = Producer::new(name, life, when, ModelHome::default());
            world.producers.push(producer);
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
                .position(|it| it.lives().iter().any(|life| life.to_string() == to))
            {
                if self.producers[position].is_frozen {
                    self.wire.push((at, from, to, message));
                } else {
                    self.producer_hears(position, &from, message);
                }
            }
        }
    }

    fn put(&mut self, producer: usize, life: EndpointId, sendings: Vec<Sending>) {
        let name = self.producers[producer].name.clone();
        for Sending { logger, number } in sendings {
            let floor = self.producers[producer].shipper(life).unwrap().floor();
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
        let (Message::Ack(life, _) | Message::Refused(life, ..)) = &message else {
            return;
        };
        let life = *life;
        let Some(shipper) = self.producers[position].shipper(life) else {
            return;
        };
        match message {
            Message::Ack(_, numbers) => {
                let open: Vec<u64> = numbers
                    .iter()
                    .filter(|n| shipper.get(*n).is_some())
                    .collect();
                let (_, again) = shipper.acknowledged(&logger, &numbers, now);
                match broken {
                    Some(Broken::ForgetsShared) => shipper.forget_shared(),
                    Some(Broken::DecidesEarly) => shipper.decide_early(now),
                    _ => {}
                }
                let ids = open.into_iter().map(|number| BatchId {
                    producer: life,
                    number,
                });
                self.acknowledged.extend(ids);
                self.put(position, life, again);
            }
            Message::Refused(_, numbers, refusal) => {
                let dropped = shipper.refused(&logger, &numbers, refusal, now);
                assert!(dropped.is_empty());
            }
            _ => {}
        }
    }

    /// A producer's spool does what it was asked for.
    fn spool(&mut self, position: usize, can_send: bool) {
        let (now, broken) = (self.now, self.broken);
        let may_sync = self.below(4) == 0;
        let producer = &mut self.producers[position];
        let mut outcomes = Vec::new();
        for life in producer.lives() {
            let Some(shipper) = producer.shipper(life) else {
                continue;
            };
            for order in shipper.take_orders(can_send, now) {
                let order = match order {
                    SpoolOrder::Forget(forgotten) if broken == Some(Broken::ForgetsNothing) => {
                        let kept = Vec::new();
                        outcomes.push((life, SpoolOutcome::Synced { kept, forgotten }));
                        continue;
                    }
                    order => order,
                };
                if let (SpoolOrder::Keep { number, .. }, Some(Broken::KeepsEarly)) =
                    (&order, broken)
                {
                    self.kept.insert(BatchId {
                        producer: life,
                        number: *number,
                    });
                }
                let outcome = producer.spool.carry_out(life, order);
                outcomes.extend(outcome.map(|outcome| (life, outcome)));
            }
        }
        if may_sync {
            outcomes.extend(producer.spool.sync());
        }
        for (life, mut outcome) in outcomes {
            if let SpoolOutcome::NotKept { may_be_there, .. } = &mut outcome {
                *may_be_there &= broken != Some(Broken::TrustsFailures);
            }
            if let SpoolOutcome::Synced { kept, .. } = &outcome {
                let kept = kept.iter().map(|(number, _)| BatchId {
                    producer: life,
                    number: *number,
                });
                self.kept.extend(kept);
            }
            if let Some(shipper) = producer.shipper(life) {
                let heard = shipper.spool_says(&outcome, now);
                assert!(heard.dropped.is_empty(), "{heard:?}");
            }
        }
        let is_over = |(_, shipper): &(EndpointId, Shipper)| {
            shipper.is_empty() && shipper.is_spool_done() && !shipper.has_verdicts()
        };
        if let Some((life, _)) = producer.adopted.take_if(|adopted| is_over(adopted)) {
            producer.spool.carry_out(life, SpoolOrder::End);
        }
        self.adopt(position);
    }

    /// A producer looks for what a former life has left.
    fn adopt(&mut self, position: usize) {
        let loggers: Vec<NodeName> = (0..self.loggers.len()).map(logger_name).collect();
        let broken = self.broken;
        let producer = &mut self.producers[position];
        let (left, problems) = producer.spool.adopt();
        // What was not synced when the power failed may be damaged.
        let is_damage = |problem: &String| problem.ends_with("cannot be read");
        assert!(problems.iter().all(is_damage), "{problems:?}");
        if let Some(left) = left {
            let mut shipper = Shipper::adopted(&left, &loggers);
            if broken == Some(Broken::DecidesAgain) {
                shipper.remember_nothing();
            }
            producer.adopted = Some((left.life, shipper));
        }
    }

    /// A producer's process ends, and perhaps its machine. Another one begins.
    fn crash_producer(&mut self, position: usize) {
        let life = self.life();
        let power_fails = self.below(2) == 0;
        let producer = &self.producers[position];
        let (name, when) = (producer.name.clone(), producer.when);
        let home = if power_fails {
            let random = &mut self.random;
            producer.home.crash(&mut |bound| random.number(bound))
        } else {
            producer.home.restart()
        };
        self.producers[position] = Producer::new(name, life, when, home);
        self.adopt(position);
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
                            let ack = Message::Ack(producer, numbers);
                            self.send(&me, &producer.to_string(), ack);
                        }
                    }
                    Arrival::Known => {
                        let ack = Message::Ack(producer, numbers);
                        self.send(&me, &producer.to_string(), ack);
                    }
                    Arrival::Decided => {
                        let refused = Message::Refused(producer, numbers, BatchRefusal::Decided);
                        self.send(&me, &producer.to_string(), refused);
                    }
                    Arrival::GoBack => {
                        let refused = Message::Refused(producer, numbers, BatchRefusal::GoBack);
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
            let ack = Message::Ack(producer, numbers);
            self.send(&me, &producer.to_string(), ack);
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
        let producers: BTreeSet<EndpointId> =
            self.producers.iter().flat_map(Producer::lives).collect();
        // A frozen producer may be taken for gone.
        let frozen: BTreeSet<EndpointId> = self
            .producers
            .iter()
            .filter(|it| it.is_frozen)
            .flat_map(Producer::lives)
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
            let ack = Message::Ack(producer, numbers);
            self.send(&me, &producer.to_string(), ack);
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
        let is_up = |name: &NodeName| candidates.iter().any(|candidate| candidate.name == *name);
        for life in self.producers[position].lives() {
            let Some(shipper) = self.producers[position].shipper(life) else {
                continue;
            };
            let mut sendings = Vec::new();
            while let Some(Dispatched::Given(sending)) = shipper.dispatch(&candidates, loggers, now)
            {
                sendings.push(sending);
            }
            let (again, _) = shipper.tick(now, is_up);
            sendings.extend(again);
            let floor = shipper.floor();
            let verdicts = shipper.take_verdicts(now);
            self.put(position, life, sendings);
            for (logger, verdict) in verdicts {
                let message = Message::Verdict(life, floor, verdict);
                self.send(&life.to_string(), logger.as_str(), message);
            }
        }
        self.spool(position, !candidates.is_empty());
    }

    /// A producer notices who is out, and who is back.
    fn see(&mut self, position: usize) {
        let now = self.now;
        for logger in 0..self.loggers.len() {
            let name = logger_name(logger);
            let is_in = self.loggers[logger].is_up && !self.loggers[logger].is_frozen;
            let producer = &mut self.producers[position];
            if is_in && producer.out.remove(&logger) {
                for life in producer.lives() {
                    let shipper = self.producers[position].shipper(life).unwrap();
                    let again = shipper.is_back(&name, now);
                    self.put(position, life, again);
                }
            } else if !is_in {
                self.take_for_out(position, logger);
            }
        }
    }

    /// A producer takes a logger to be out.
    fn take_for_out(&mut self, position: usize, logger: usize) {
        let producer = &mut self.producers[position];
        if producer.out.insert(logger) {
            for life in producer.lives() {
                let shipper = producer.shipper(life).unwrap();
                shipper.is_out(&logger_name(logger));
            }
        }
    }

    fn fault(&mut self) {
        let logger = usize::try_from(self.below(self.loggers.len() as u64)).unwrap();
        let producer = usize::try_from(self.below(self.producers.len() as u64)).unwrap();
        match self.below(11) {
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
            6 => self.crash_producer(producer),
            7 | 8 => self.fail_disk(producer),
            // Out of sight, for one of them.
            _ => {
                if !self.producers[producer].out.remove(&logger) {
                    self.take_for_out(producer, logger);
                }
            }
        }
    }

    /// The disk of a producer's present life fails for a while.
    fn fail_disk(&mut self, position: usize) {
        let (after, times) = (self.below(6), 1 + self.below(12));
        let producer = &self.producers[position];
        if let Some(files) = producer.home.files(producer.life) {
            files.fail(after, times);
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
                let producer = &mut self.producers[position];
                assert!(producer.shipper.add(batch("stream", 1), 1));
                producer.batches += 1;
            }
            if self.below(20) == 0 {
                self.see(position);
            }
            self.dispatch(position);
            self.flush(position);
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
            if let Some(files) = producer.home.files(producer.life) {
                files.mend();
            }
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
            && producers.all(Producer::is_done)
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
            if !producer.is_done() {
                let (own, adopted) = (&producer.shipper, &producer.adopted);
                return Err(format!("open at the end: {own:?}, {adopted:?}"));
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
        if let Some(id) = world.kept.iter().find(|id| !copies.contains_key(*id)) {
            return Err(format!("{id:?} was in a spool, and is in no final file"));
        }
        if let Some(id) = world.promised.iter().find(|id| !copies.contains_key(*id)) {
            return Err(format!(
                "{id:?} was safe by a flush, and is in no final file"
            ));
        }
        if world.flushed == 0 && broken.is_none() {
            return Err("no flush was safe".to_owned());
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
