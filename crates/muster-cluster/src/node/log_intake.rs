//! Batches at a logger: they are written, acknowledged when they are safe, and kept or struck by their producers' word.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_data::{Encode, Record};
use muster_wire::zeek::EventRef;
use muster_wire::{EndpointId, Mono};

use super::log_shipping::OwnLogger;
use super::logs::{BATCH, LogBatch};
use super::{Effect, NodeLoop, Severity, TroubleCause};
use crate::delivery::messages::{
    BatchRefusal, DeliveryNote, LogAck, LogRefused, LogSettle, LogSettled, LogVerdict, LoggerState,
};
use crate::delivery::{Arrival, Intake, LogNotes, Numbers, ProducerRecord, Surroundings};
use crate::layout::NodeName;

/// How long a logger that cannot write waits before it tries again; twice as long each time.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const TRY_AGAIN_AT_MOST: Duration = Duration::from_secs(30);

/// How long a logger has to write without fail before it is quick again to try.
const WELL_FOR: Duration = Duration::from_secs(60);

/// More nodes that speak for producers are not remembered than there are producers.
const MOST_SPEAKERS: usize = 4096;

/// How long a producer is out of sight, where nobody decides who is in, until it is gone.
const GONE_AFTER: Duration = Duration::from_secs(60);

/// What a logger has of the records of others.
#[derive(Debug, Default)]
pub(super) struct LogIntake {
    intake: Intake,
    /// The nodes that speak for producers that are gone: they have what these have left.
    speakers: BTreeMap<EndpointId, EndpointId>,
    /// Since when producers are out of sight whose batches are here.
    away: BTreeMap<EndpointId, Mono>,
    /// When a logger that cannot write tries again, and how long it waits.
    try_at: Option<Mono>,
    wait: Duration,
    failed: Option<Mono>,
}

impl LogIntake {
    /// Returns `true` if a producer waits for what has this number.
    pub(super) fn is_waited_for(&self, sequence: u64) -> bool {
        self.intake.is_batch(sequence)
    }

    fn next_deadline(&self, own: &OwnLogger) -> Option<Mono> {
        let hangs_at = self.intake.hangs_at().filter(|_| *own == OwnLogger::Takes);
        [self.intake.look_at(), hangs_at, self.try_at]
            .into_iter()
            .flatten()
            .min()
    }
}

impl NodeLoop {
    /// Takes up what the diary of this logger's files has. It is called before the first step.
    pub fn recover_logs(&mut self, records: Vec<ProducerRecord>) {
        let now = self.core.clock.now.mono;
        self.log_intake.intake.recover(records, now);
    }

    /// Returns the number of batches in this logger's files of which it is not decided yet whether they count here.
    pub fn undecided_batches(&self) -> usize {
        self.log_intake.intake.undecided()
    }

    pub(super) fn next_look_at_batches(&self) -> Option<Mono> {
        self.log_intake
            .next_deadline(&self.core.logging.shipping.own)
    }

    fn is_logger(&self) -> bool {
        self.core.logging.shipping.own != OwnLogger::None
    }

    /// Tells a node that came up what keeps this one from taking records, if anything does: that it takes them its hello says.
    pub(super) fn announce_problem_to(&mut self, id: EndpointId) {
        if matches!(self.core.logging.shipping.own, OwnLogger::Fails(_)) {
            self.announce_logger_to(id);
        }
    }

    /// Tells a node whether this one takes records.
    fn announce_logger_to(&mut self, id: EndpointId) {
        let problem = match &self.core.logging.shipping.own {
            OwnLogger::None | OwnLogger::Silent => return,
            OwnLogger::Takes => None,
            OwnLogger::Fails(problem) => Some(problem.clone()),
        };
        let topic = self.core.layout.topics().id(id);
        self.core.tell(&topic, &LoggerState { problem });
    }

    fn tell_producer<E: Record + Encode>(&mut self, producer: EndpointId, event: &E) {
        let speaker = self.log_intake.speakers.get(&producer);
        let listener = speaker.copied().unwrap_or(producer);
        let topic = self.core.layout.topics().id(listener);
        self.core.tell(&topic, event);
    }

    fn acknowledge(&mut self, batches: BTreeMap<EndpointId, Numbers>) {
        for (producer, numbers) in batches {
            let ack = LogAck {
                producer: producer.to_string(),
                batches: numbers.to_pairs(),
            };
            self.tell_producer(producer, &ack);
        }
    }

    fn refuse(
        &mut self,
        producer: EndpointId,
        numbers: &Numbers,
        cause: BatchRefusal,
        text: String,
    ) {
        let refused = LogRefused {
            producer: producer.to_string(),
            batches: numbers.to_pairs(),
            cause: cause.number(),
            text,
        };
        self.tell_producer(producer, &refused);
    }

    /// A batch has arrived.
    pub(super) fn log_batch(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let (batch, note) = match LogBatch::read(event.arguments()) {
            Ok(read) if self.is_logger() => read,
            other => {
                self.core.counts.events_refused += 1;
                let problem = other.err();
                let text = || {
                    let problem = problem.unwrap_or_else(|| "this node is not a logger".to_owned());
                    format!("refused a batch of log records of {from}: {problem}")
                };
                self.core.report(Severity::Warning, "log batch", text);
                return;
            }
        };
        if let Some(note) = note {
            self.delivered(from, batch, &note);
        } else {
            self.core.counts.records_received += batch.len() as u64;
            self.write_batch(batch);
        }
    }

    /// Writes a batch that nobody waits for.
    pub(super) fn write_batch(&mut self, batch: LogBatch) {
        let now = self.core.clock.now.mono;
        let sequence = self.log_intake.intake.writing(None, now);
        self.core.outbox.effects.push(Effect::WriteLog {
            batch,
            delivery: None,
            sequence,
        });
    }

    fn delivered(&mut self, from: EndpointId, batch: LogBatch, note: &DeliveryNote) {
        // Others than nodes can have records written, and are told nothing. One whose hello is on its way sends it again.
        if !self.is_from_node(from, BATCH) {
            return;
        }
        let now = self.core.clock.now.mono;
        let arrived = if self.may_speak_for(from, &note.producer) {
            self.log_intake.intake.arrive(note, now)
        } else {
            Err(Arrival::Malformed)
        };
        let (arrival, delivery) = match arrived {
            Ok(arrived) => arrived,
            Err(Arrival::Full) => return, // it is sent again
            Err(_) => {
                self.core.counts.events_refused += 1;
                let text = || format!("refused a batch of log records of {from}: {note:?}");
                return self.core.report(Severity::Warning, "log batch", text);
            }
        };
        let id = delivery.id;
        if id.producer != from {
            let LogIntake {
                speakers, intake, ..
            } = &mut self.log_intake;
            speakers.insert(id.producer, from);
            if speakers.len() > MOST_SPEAKERS {
                speakers.retain(|producer, _| intake.knows(*producer));
            }
        }
        let numbers: Numbers = [id.number].into_iter().collect();
        if arrival != Arrival::New {
            self.core.counts.batches_again += 1;
        }
        match arrival {
            Arrival::New => {
                if let OwnLogger::Fails(problem) = &self.core.logging.shipping.own {
                    let problem = problem.clone();
                    self.log_intake.intake.forget(id);
                    let cause = BatchRefusal::CannotWrite;
                    return self.refuse(id.producer, &numbers, cause, problem);
                }
                self.core.counts.records_received += batch.len() as u64;
                let sequence = self.log_intake.intake.writing(Some(id), now);
                self.core.outbox.effects.push(Effect::WriteLog {
                    batch,
                    delivery: Some(delivery),
                    sequence,
                });
            }
            Arrival::Known => self.acknowledge([(id.producer, numbers)].into()),
            Arrival::GoBack => {
                let text = "another logger has it".to_owned();
                self.refuse(id.producer, &numbers, BatchRefusal::GoBack, text);
            }
            // The producer itself has said so. Who speaks for a former life may not know.
            Arrival::Decided if id.producer == from => {}
            Arrival::Decided => {
                let text = "its producer has said that it is open no more".to_owned();
                self.refuse(id.producer, &numbers, BatchRefusal::Decided, text);
            }
            Arrival::Nothing | Arrival::Full | Arrival::Malformed => {}
        }
    }

    /// Returns `true` if a node may speak for a producer: it is the producer, or that is gone and has left its batches to it.
    fn may_speak_for(&self, from: EndpointId, producer: &str) -> bool {
        if producer == from.to_string() {
            return true;
        }
        let producer = producer.parse::<EndpointId>().ok();
        producer.is_some_and(|producer| {
            producer != self.core.id && self.core.members.membership.name_of(producer).is_none()
        })
    }

    fn note(&mut self, notes: LogNotes) {
        let now = self.core.clock.now.mono;
        let notes = Some(notes);
        let sequence = self.log_intake.intake.noting(notes.clone(), now);
        let effect = Effect::NoteLogs { notes, sequence };
        self.core.outbox.effects.push(effect);
    }

    fn note_again(&mut self) {
        for notes in self.log_intake.intake.take_again() {
            self.note(notes);
        }
    }

    /// The files have taken a batch, or not.
    pub(super) fn batch_written(
        &mut self,
        sequence: u64,
        refusal: Option<BatchRefusal>,
        problem: Option<&str>,
    ) {
        let now = self.core.clock.now.mono;
        let Some(refusal) = refusal else {
            if let Some(notes) = self.log_intake.intake.written(sequence) {
                self.note(notes);
            }
            if !self.waits_for_sync {
                self.logs_synced(sequence);
            }
            return;
        };
        let problem = problem.unwrap_or("its files cannot be written").to_owned();
        let id = self.log_intake.intake.not_written(sequence, now);
        if let Some(id) = id {
            let numbers: Numbers = [id.number].into_iter().collect();
            self.refuse(id.producer, &numbers, refusal, problem.clone());
        }
        if refusal == BatchRefusal::CannotWrite {
            self.fails_to_log(problem, now);
        }
    }

    /// The files have no room for a batch or a note. Whoever has sent it asks again.
    pub(super) fn batch_not_taken(&mut self, sequence: u64) {
        let now = self.core.clock.now.mono;
        self.log_intake.intake.not_written(sequence, now);
        self.core.counts.batches_delayed += 1;
    }

    /// All that the files were handed up to a number is safe.
    pub(super) fn logs_synced(&mut self, through: u64) {
        let now = self.core.clock.now.mono;
        let safe = self.log_intake.intake.synced(through, now);
        self.acknowledge(safe.batches);
        for (to, answer) in safe.answers {
            let topic = NodeName::new(&to)
                .ok()
                .and_then(|name| self.core.topic_for_node(&name));
            if let Some(topic) = topic {
                self.core.tell(&topic, &answer);
            }
        }
        // What was tried again works.
        if self.log_intake.try_at.is_none() && !self.log_intake.intake.hangs(now) {
            self.logs_again();
        }
    }

    /// What the files were handed is not safe, and will not be.
    pub(super) fn logs_not_synced(&mut self, problem: &str) {
        let now = self.core.clock.now.mono;
        let lost = self.log_intake.intake.not_synced();
        for (producer, numbers) in lost {
            let cause = BatchRefusal::CannotWrite;
            self.refuse(producer, &numbers, cause, problem.to_owned());
        }
        self.fails_to_log(problem.to_owned(), now);
    }

    /// This logger cannot write: others take its share until it can.
    fn fails_to_log(&mut self, problem: String, now: Mono) {
        let is_known = matches!(self.core.logging.shipping.own, OwnLogger::Fails(_));
        let intake = &mut self.log_intake;
        if is_known && intake.try_at.is_some() {
            // What was handed over before fails as well: that is no other attempt.
            return;
        }
        let is_quick = intake.failed.is_none_or(|at| now.since(at) >= WELL_FOR);
        intake.wait = if is_quick {
            TRY_AGAIN
        } else {
            (intake.wait * 2).min(TRY_AGAIN_AT_MOST)
        };
        intake.try_at = Some(now.after(intake.wait));
        intake.failed = Some(now);
        self.core.fails(TroubleCause::LogFiles, 1, problem.clone());
        let own = &mut self.core.logging.shipping.own;
        // Who acknowledges nothing goes on trying.
        if *own == OwnLogger::Silent {
            return;
        }
        if std::mem::replace(own, OwnLogger::Fails(problem)) == OwnLogger::Takes {
            self.tell_all_of_logger();
        }
    }

    /// This logger can write again.
    fn logs_again(&mut self) {
        if self.core.logging.shipping.own == OwnLogger::Silent {
            self.core.mends(&TroubleCause::LogFiles);
        }
        if matches!(self.core.logging.shipping.own, OwnLogger::Fails(_)) {
            self.core.logging.shipping.own = OwnLogger::Takes;
            self.core.mends(&TroubleCause::LogFiles);
            self.tell_all_of_logger();
            self.note_again();
        }
    }

    fn tell_all_of_logger(&mut self) {
        self.core.logging.shipping.is_stale = true;
        let alive = self.core.members.membership.alive();
        let lives = alive.filter_map(|record| record.life.as_ref());
        let lives = lives.filter(|life| life.incarnation.is_some() && life.id != self.core.id);
        let lives: Vec<EndpointId> = lives.map(|life| life.id).collect();
        for life in lives {
            self.announce_logger_to(life);
        }
    }

    /// A producer says what counts here.
    pub(super) fn log_verdict(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let Ok(verdict) = event.arguments().to::<LogVerdict>() else {
            self.core.counts.control_events_refused += 1;
            return;
        };
        // It is the producer alone that can say it, or who has what it has left.
        let speakers = &self.log_intake.speakers;
        let spoken_for = verdict.producer.parse::<EndpointId>().ok();
        let speaker = spoken_for.and_then(|producer| speakers.get(&producer));
        if verdict.producer != from.to_string() && speaker != Some(&from) {
            self.core.counts.control_events_refused += 1;
            return;
        }
        let now = self.core.clock.now.mono;
        if let Some(notes) = self.log_intake.intake.verdict(&verdict, now) {
            self.note(notes);
        }
    }

    /// The logger of another node that says something of batches, if this one is a logger.
    fn other_logger(&mut self, from: EndpointId) -> Option<NodeName> {
        let name = self.core.members.membership.name_of(from).cloned();
        let loggers = self.core.logging.shipping.loggers();
        let name = name.filter(|name| loggers.contains(name));
        if name.is_none() || !self.is_logger() {
            self.core.counts.control_events_refused += 1;
            return None;
        }
        name
    }

    /// Another logger asks for batches of a producer that is gone.
    pub(super) fn log_settle(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let now = self.core.clock.now.mono;
        let Some(logger) = self.other_logger(from) else {
            return;
        };
        // Who cannot write cannot promise either. It is asked again.
        if matches!(self.core.logging.shipping.own, OwnLogger::Fails(_)) {
            return;
        }
        let asked = event.arguments().to::<LogSettle>().ok();
        let asked =
            asked.and_then(|asked| self.log_intake.intake.asked(logger.as_str(), &asked, now));
        if let Some((sequence, notes)) = asked {
            let notes = Some(notes);
            let effect = Effect::NoteLogs { notes, sequence };
            self.core.outbox.effects.push(effect);
        }
    }

    /// Another logger has answered.
    pub(super) fn log_settled(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let Some(logger) = self.other_logger(from) else {
            return;
        };
        if let Ok(answer) = event.arguments().to::<LogSettled>() {
            let me = self.core.node.name.as_str();
            self.log_intake
                .intake
                .answered(me, logger.as_str(), &answer);
        }
    }

    /// Does what is due for batches that are not decided.
    pub(super) fn look_at_batches(&mut self) {
        let now = self.core.clock.now.mono;
        if self.next_look_at_batches().is_none_or(|at| at > now) {
            return;
        }
        if self.log_intake.intake.hangs(now) && self.core.logging.shipping.own == OwnLogger::Takes {
            let problem = "the disk of its files has not answered for 5 s".to_owned();
            self.core.fails(TroubleCause::LogFiles, 1, problem.clone());
            self.core.logging.shipping.own = OwnLogger::Fails(problem);
            self.tell_all_of_logger();
        }
        if self.log_intake.try_at.is_some_and(|at| at <= now) {
            self.log_intake.try_at = None;
            let sequence = self.log_intake.intake.noting(None, now);
            let notes = None;
            let effect = Effect::NoteLogs { notes, sequence };
            self.core.outbox.effects.push(effect);
        }
        if self.core.logging.shipping.own == OwnLogger::Takes {
            self.note_again();
        }
        self.settle(now);
    }

    fn settle(&mut self, now: Mono) {
        let loggers = self.core.logging.shipping.loggers().iter();
        let loggers: Vec<(String, bool)> = loggers
            .map(|name| (name.to_string(), self.core.is_alive(name)))
            .collect();
        let mut intake = std::mem::take(&mut self.log_intake.intake);
        let mut away = std::mem::take(&mut self.log_intake.away);
        let mut speakers = std::mem::take(&mut self.log_intake.speakers);
        let seen = |id: EndpointId| {
            self.core.members.membership.name_of(id).is_some() || id == self.core.id
        };
        speakers.retain(|producer, speaker| intake.knows(*producer) && seen(*speaker));
        away.retain(|id, _| !seen(*id));
        let away = std::cell::RefCell::new(away);
        let is_gone = |id: EndpointId, node: &str| {
            if speakers.contains_key(&id) {
                return false;
            }
            let member = self.view().and_then(|view| view.get(node));
            if let Some(member) = member.filter(|member| member.life == id) {
                return member.out.is_some();
            }
            if seen(id) {
                return false;
            }
            // Another life of it is there.
            let is_superseded = member.is_some_and(|member| member.out.is_none())
                || self.core.members.membership.id_of_name(node).is_some();
            let mut away = away.borrow_mut();
            let since = *away.entry(id).or_insert(now);
            is_superseded || now.since(since) >= GONE_AFTER
        };
        let may_settle = self.coordination.is_none() || self.lease_until().is_some();
        let around = Surroundings {
            me: self.core.node.name.as_str(),
            loggers: &loggers,
            is_gone: &is_gone,
            may_settle,
        };
        let found = intake.look(&around, now);
        self.log_intake.intake = intake;
        self.log_intake.away = away.into_inner();
        self.log_intake.speakers = speakers;
        let intake = &self.log_intake.intake;
        self.log_intake.away.retain(|id, _| intake.knows(*id));
        self.acknowledge(found.batches);
        for (logger, question) in found.questions {
            let name = NodeName::new(&logger).ok();
            if let Some(topic) = name.and_then(|name| self.core.topic_for_node(&name)) {
                self.core.tell(&topic, &question);
            }
        }
        for notes in found.notes {
            self.note(notes);
        }
    }
}
