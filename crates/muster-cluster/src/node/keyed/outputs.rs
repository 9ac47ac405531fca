//! What handlers of keyed events give away: it leaves the node when their standby knows of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::mem;
use std::time::Duration;

use muster_data::{DataRef, Record};
use muster_wire::zeek::{self, EventRef, Message};
use muster_wire::{Class, EndpointId, Mono, Topic};

use super::{NodeLoop, Waiting};
use crate::delivery::messages::{BatchRefusal, DeliveryNote, LogVerdict};
use crate::delivery::{Batch, MOST_NUMBERS, Numbers};
use crate::keyed::{EventId, Leaving, Made, Outbox, Output, OutputChange, Owed, maker_of_outputs};
use crate::layout::{NodeName, PoolName};
use crate::node::Severity;
use crate::node::logs::{self, BATCH};
use crate::node::node_core::NodeCore;

/// The outputs of one call of a handler that are kept with the rows of its key.
const MOST_AT_ONCE: usize = 4_096;

/// While so many records wait for loggers, no more events are handled.
const MANY: usize = 16_384;
const MANY_BYTES: usize = 32 << 20;

/// How often those who have made outputs hear that they are not forgotten.
const TELL_MAKERS: Duration = Duration::from_secs(60);

/// Says to a node which outputs that it has made another one still has.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::keyed_outputs")]
pub(in crate::node) struct OutputsHeld {
    /// Ranges of numbers that it has.
    outputs: Vec<u64>,
    /// Ranges of numbers that nobody has any more.
    over: Vec<u64>,
}

/// What a node has of outputs.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    /// What the handler that runs has given away, if it is one of keyed events.
    drafts: Option<Vec<OutputChange>>,
    made: Made,
    outbox: Outbox,
    /// The outputs that were published for the owners of other keys, by their pools and numbers there.
    published: BTreeMap<(PoolName, u64), Owed>,
    on_the_way: BTreeSet<EventId>,
    /// Those that wait until fewer are open there, by where that is.
    waiting: BTreeMap<PoolName, VecDeque<Owed>>,
    /// Who wants to hear of the end of an output.
    pub(super) asked: HashMap<u64, Waiting>,
    /// When those who have made outputs are told of them.
    tell_at: Option<Mono>,
}

impl Outputs {
    /// Returns how many are on their way.
    pub(super) fn len(&self) -> usize {
        self.outbox.len() + self.on_the_way.len()
    }

    /// Returns how many records are on their way.
    pub(super) fn records(&self) -> usize {
        self.outbox.len()
    }

    /// Only what loggers are to take: events for owners of keys may be for this node itself, which has to go on handling them.
    pub(super) fn are_many(&self) -> bool {
        self.outbox.len() > MANY || self.outbox.bytes() > MANY_BYTES
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let deadlines = [self.outbox.next_deadline(), self.tell_at];
        deadlines.into_iter().flatten().min()
    }

    /// Returns `true` if what a handler gives away now is kept with the rows of its key.
    fn are_drafted(&self) -> bool {
        let drafts = self.drafts.as_ref();
        drafts.is_some_and(|drafts| drafts.len() < MOST_AT_ONCE && self.made.has_room())
    }

    /// The members of a pool are others now.
    pub(super) fn members_changed(&mut self, pool: &PoolName) {
        self.outbox.members_changed(pool);
    }
}

/// The drafts of a handler that another one runs within.
pub(in crate::node) struct Outer(Option<Vec<OutputChange>>);

impl NodeCore {
    /// What is given away from now on belongs to a handler of keyed events.
    pub(super) fn begin_drafts(&mut self) -> Outer {
        Outer(self.keyed.outputs.drafts.replace(Vec::new()))
    }

    /// Takes what the handler has given away.
    pub(super) fn end_drafts(&mut self, outer: Outer) -> Vec<OutputChange> {
        let drafts = mem::replace(&mut self.keyed.outputs.drafts, outer.0);
        drafts.unwrap_or_default()
    }

    /// The handler has not come to its end: what it has given away is not.
    pub(super) fn discard_drafts(&mut self, outer: Outer) {
        for draft in self.end_drafts(outer) {
            self.keyed.outputs.made.over(draft.id.number);
            self.keyed.outputs.asked.remove(&draft.id.number);
        }
    }

    /// Returns `true` while a handler of a keyed event runs.
    pub(in crate::node) fn is_in_keyed_handler(&self) -> bool {
        self.keyed.outputs.drafts.is_some()
    }

    /// Returns `true` if what is given away now is kept with the rows of a key. What goes beyond the bounds of that leaves at once.
    pub(in crate::node) fn drafts_outputs(&mut self) -> bool {
        let outputs = &self.keyed.outputs;
        let are_drafted = outputs.are_drafted();
        if outputs.drafts.is_some() && !are_drafted {
            self.counts.keyed_unguarded += 1;
        }
        are_drafted
    }

    /// Keeps an output with the rows of the key whose handler runs. Returns its number.
    pub(super) fn draft(&mut self, output: &Output) -> u64 {
        let outputs = &mut self.keyed.outputs;
        let number = outputs.made.make(self.clock.now.mono);
        let id = EventId {
            producer: maker_of_outputs(self.id),
            number,
        };
        let output = Some(output.encoded());
        let drafts = outputs.drafts.get_or_insert_default();
        drafts.push(OutputChange { id, output });
        number
    }

    /// Keeps a log record with the rows of the key whose handler runs.
    pub(in crate::node) fn draft_record(&mut self, batch: Batch) {
        self.draft(&Output::Log(batch));
    }

    /// Publishes an event of a framework, or keeps it with the rows of the key whose handler runs.
    pub(in crate::node) fn publish_event(
        &mut self,
        topic: &Topic,
        class: Class,
        name: &str,
        arguments: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.is_for_active_manager(topic) {
            let mut encoded = Vec::new();
            arguments(&mut encoded);
            return self.publish_to_manager(name, &encoded);
        }
        let metadata = self.metadata();
        if !self.drafts_outputs() {
            return self.send(topic, class, name, metadata, arguments);
        }
        let mut payload = Vec::new();
        zeek::put_event(&mut payload, name, metadata, arguments);
        let (topic, payload) = (topic.clone(), payload.into());
        self.draft(&Output::Event {
            topic,
            class,
            payload,
        });
    }

    /// Lets go what the standbys know of.
    pub(super) fn let_outputs_go(&mut self) {
        let now = self.clock.now.mono;
        let mut leaving = Vec::new();
        for (name, keeper) in self.keyed.keepers() {
            while let Some(found) = keeper.take_output() {
                leaving.push((name.clone(), found));
            }
        }
        for (pool, leaving) in leaving {
            self.let_output_go(pool, leaving);
        }
        self.publish_waiting_outputs();
        let keepers = self.keyed.keepers();
        let forgotten = keepers.flat_map(|(_, keeper)| keeper.take_forgotten());
        let mut over: BTreeMap<EndpointId, Numbers> = BTreeMap::new();
        for id in forgotten.collect::<Vec<EventId>>() {
            self.keyed.outputs.outbox.forgotten(id);
            let life = maker_of_outputs(id.producer);
            if life == self.id {
                self.keyed.outputs.made.over(id.number);
            } else {
                over.entry(life).or_default().insert(id.number);
            }
        }
        for (life, numbers) in over {
            self.tell_maker(life, &Numbers::default(), &numbers);
        }
        let floor = self.keyed.outputs.made.floor();
        for pool in self.keyed.pools.values_mut() {
            pool.publishing.raise_outputs_floor(floor);
        }
        let again = self.keyed.outputs.outbox.tick(now);
        self.counts.batches_repeated += again.len() as u64;
        self.put_records(again);
        self.dispatch_records();
        self.tell_makers();
    }

    fn let_output_go(&mut self, pool: PoolName, leaving: Leaving) {
        let Leaving {
            digest,
            id,
            departure,
            output,
        } = leaving;
        let owed = Owed { pool, digest, id };
        match Output::read(&output) {
            Some(Output::Log(batch)) => {
                let outbox = &mut self.keyed.outputs.outbox;
                outbox.add(owed, batch, departure);
            }
            Some(Output::Keyed { pool, .. }) => {
                let outputs = &mut self.keyed.outputs;
                if outputs.on_the_way.insert(id) {
                    outputs.waiting.entry(pool).or_default().push_back(owed);
                }
            }
            Some(Output::Event {
                topic,
                class,
                payload,
            }) => {
                let message = Message::read(DataRef::from_validated(&payload));
                if self.post(&topic, class, payload.clone())
                    && let Ok(Message::Event(event)) = message
                {
                    self.notice_lost_on_zeek(&topic, event.name());
                }
                self.output_arrived(&owed);
            }
            None => {
                self.counts.events_refused += 1;
                let text = || "an output of a handler of keyed events cannot be read".to_owned();
                self.report(Severity::Error, "output", text);
                self.output_arrived(&owed);
            }
        }
    }

    /// An output is where it belongs.
    fn output_arrived(&mut self, owed: &Owed) {
        let outputs = &mut self.keyed.outputs;
        outputs.on_the_way.remove(&owed.id);
        let pool = self.keyed.pools.get_mut(&owed.pool);
        let keeper = pool.and_then(|pool| pool.keeper.as_mut());
        let is_here = keeper.is_some_and(|keeper| keeper.output_arrived(owed.digest, owed.id));
        if !is_here {
            outputs.outbox.given_up(owed.id);
        }
        self.keyed.is_due = true;
    }

    /// Publishes outputs for the owners of other keys, as far as there is room.
    fn publish_waiting_outputs(&mut self) {
        for (pool, mut waiting) in mem::take(&mut self.keyed.outputs.waiting) {
            self.publish_outputs_for(&mut waiting);
            if !waiting.is_empty() {
                self.keyed.outputs.waiting.insert(pool, waiting);
            }
        }
    }

    fn publish_outputs_for(&mut self, waiting: &mut VecDeque<Owed>) {
        while let Some(owed) = waiting.pop_front() {
            let keeper = self.keyed.keeper(&owed.pool);
            let output = keeper.and_then(|keeper| keeper.output(owed.digest, owed.id));
            let output = output.and_then(|output| Output::read(output));
            let Some(Output::Keyed {
                pool,
                digest,
                payload,
            }) = output
            else {
                // Its keys have another owner by now.
                self.keyed.outputs.on_the_way.remove(&owed.id);
                continue;
            };
            // The layout has no such pool, or those who are there handle no such events.
            if self.members.pools.view(&pool).is_none() || self.keyed.pool(&pool).is_ownerless {
                self.counts.keyed_unowned += 1;
                self.output_arrived(&owed);
                continue;
            }
            let work = self.keyed.pool(&pool);
            let Ok(number) = work.publishing.publish_as(digest, payload, Some(owed.id)) else {
                return waiting.push_front(owed);
            };
            self.counts.keyed_published += 1;
            if owed.id.producer == maker_of_outputs(self.id)
                && let Some(asked) = self.keyed.outputs.asked.remove(&owed.id.number)
            {
                let work = self.keyed.pool(&pool);
                work.waiting.insert(number, asked);
            }
            self.keyed.outputs.published.insert((pool, number), owed);
        }
    }

    /// An event of this node is done. It may have been an output.
    pub(super) fn published_is_done(&mut self, pool: &PoolName, number: u64) {
        let published = &mut self.keyed.outputs.published;
        if !published.is_empty()
            && let Some(owed) = published.remove(&(pool.clone(), number))
        {
            self.output_arrived(&owed);
        }
        if pool.is_manager() {
            let now = self.clock.now.mono;
            self.manager_topic.is_done(number, now);
        }
    }

    // --- records -----------------------------------------------------------------------------

    /// Gives records that wait to loggers, and tells these what counts.
    pub(in crate::node) fn dispatch_records(&mut self) {
        if !self.keyed.outputs.outbox.has_news() {
            return;
        }
        let now = self.clock.now.mono;
        let candidates = self.candidates();
        let is_any = candidates.iter().any(|candidate| candidate.acknowledges);
        if !is_any && !candidates.is_empty() {
            self.let_records_go();
        }
        let given = self.keyed.outputs.outbox.dispatch(&candidates, now);
        self.counts.records_sent += given.len() as u64;
        self.put_records(given);
        for ((logger, maker), verdict) in self.keyed.outputs.outbox.take_verdicts() {
            let verdict = LogVerdict {
                producer: maker.to_string(),
                floor: self.floor_of(maker, 0),
                keep: verdict.keep.to_pairs(),
                keep_shared: Vec::new(),
                strike: Vec::new(),
                settle: verdict.settle.to_pairs(),
            };
            if let Some(topic) = self.topic_for_node(&logger) {
                self.tell(&topic, &verdict);
            }
        }
    }

    /// No logger says what it has: records go the way of all others.
    fn let_records_go(&mut self) {
        for (owed, batch) in self.keyed.outputs.outbox.take_waiting() {
            self.counts.records_logged += batch.records as u64;
            self.ship_batch(batch);
            self.output_arrived(&owed);
        }
    }

    /// Returns a number below which none of somebody's outputs is open.
    fn floor_of(&self, maker: EndpointId, number: u64) -> u64 {
        if maker == maker_of_outputs(self.id) {
            self.keyed.outputs.made.floor()
        } else {
            // Whoever has made it had no more open than that.
            number.saturating_sub(MOST_NUMBERS - 1)
        }
    }

    fn put_records(&mut self, given: Vec<(NodeName, EventId)>) {
        for (logger, id) in given {
            let batch = self.keyed.outputs.outbox.get(id).cloned();
            let Some((topic, batch)) = self.topic_for_node(&logger).zip(batch) else {
                continue;
            };
            let note = DeliveryNote {
                node: self.node.name.to_string(),
                producer: id.producer.to_string(),
                number: id.number,
                // Another owner may have said that it has arrived: then the logger says so, too.
                floor: self.floor_of(id.producer, id.number).min(id.number),
            };
            let metadata = self.metadata();
            self.send(&topic, Class::Bulk, BATCH, metadata, |out| {
                logs::put_batch(out, &batch, Some(&note));
            });
        }
    }

    /// A logger has records of a maker of outputs, or of somebody of whom nothing is known here: then loggers decide.
    pub(in crate::node) fn records_acknowledged(
        &mut self,
        logger: &NodeName,
        maker: EndpointId,
        numbers: &Numbers,
    ) {
        let outbox = &mut self.keyed.outputs.outbox;
        for owed in outbox.acknowledged(logger, maker, numbers) {
            let outbox = &self.keyed.outputs.outbox;
            let records = outbox.get(owed.id).map_or(0, |batch| batch.records as u64);
            self.counts.records_logged += records;
            self.counts.records_acknowledged += records;
            self.output_arrived(&owed);
        }
        self.dispatch_records();
    }

    /// A logger does not take records of a maker of outputs.
    pub(in crate::node) fn records_refused(
        &mut self,
        logger: &NodeName,
        maker: EndpointId,
        numbers: &Numbers,
        refusal: BatchRefusal,
    ) {
        let outbox = &mut self.keyed.outputs.outbox;
        for owed in outbox.refused(logger, maker, numbers, refusal) {
            if let Some(batch) = self.keyed.outputs.outbox.get(owed.id) {
                let (name, records) = (batch.head.name().to_owned(), batch.records as u64);
                self.counts.records_logged += records;
                if refusal == BatchRefusal::Invalid {
                    self.counts.records_invalid.add_many(&name, records);
                } else {
                    self.counts.records_acknowledged += records;
                }
            }
            self.output_arrived(&owed);
        }
        self.dispatch_records();
    }

    /// A logger is out, or cannot write.
    pub(in crate::node) fn logger_is_out(&mut self, logger: &NodeName) {
        self.keyed.outputs.outbox.is_out(logger);
    }

    /// A logger can be reached again.
    pub(in crate::node) fn logger_is_back(&mut self, logger: &NodeName) {
        let now = self.clock.now.mono;
        let again = self.keyed.outputs.outbox.is_back(logger, now);
        let again = again.into_iter().map(|id| (logger.clone(), id));
        self.put_records(again.collect());
    }

    // --- those who have made outputs ---------------------------------------------------------

    /// Tells other nodes which of their outputs are here: their numbers are not free yet.
    fn tell_makers(&mut self) {
        let now = self.clock.now.mono;
        let has_any = self.keyed.outputs.made.has_open()
            || self.keyed.keepers().any(|(_, it)| it.may_have_outputs());
        let Some(at) = self.keyed.outputs.tell_at else {
            self.keyed.outputs.tell_at = has_any.then(|| now.after(TELL_MAKERS));
            return;
        };
        if at > now {
            return;
        }
        self.keyed.outputs.tell_at = has_any.then(|| now.after(TELL_MAKERS));
        let mut held: BTreeMap<EndpointId, Numbers> = BTreeMap::new();
        let outputs = self
            .keyed
            .keepers()
            .flat_map(|(_, keeper)| keeper.outputs());
        for id in outputs {
            let maker = maker_of_outputs(id.producer);
            held.entry(maker).or_default().insert(id.number);
        }
        for (life, numbers) in held {
            if life == self.id {
                self.keyed.outputs.made.seen(&numbers, now);
            } else {
                self.tell_maker(life, &numbers, &Numbers::default());
            }
        }
        self.keyed.outputs.made.expire(now);
        let floor = self.keyed.outputs.made.floor();
        self.keyed
            .outputs
            .asked
            .retain(|number, _| *number >= floor);
    }
}

impl NodeCore {
    /// Tells another node of outputs that it has made, if it is there.
    fn tell_maker(&mut self, life: EndpointId, held: &Numbers, over: &Numbers) {
        if self.members.membership.name_of(life).is_some() {
            let topic = self.layout.topics().id(life);
            let (outputs, over) = (held.to_pairs(), over.to_pairs());
            self.tell(&topic, &OutputsHeld { outputs, over });
        }
    }
}

impl NodeLoop {
    /// Another node has outputs that this one has made.
    pub(in crate::node) fn outputs_held(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, OutputsHeld::NAME) {
            return;
        }
        let held = event.arguments().to::<OutputsHeld>().ok();
        let numbers = held.and_then(|OutputsHeld { outputs, over }| {
            Numbers::from_pairs(&outputs).zip(Numbers::from_pairs(&over))
        });
        let Some((held, over)) = numbers else {
            self.core.counts.control_events_refused += 1;
            return;
        };
        let now = self.core.clock.now.mono;
        let outputs = &mut self.core.keyed.outputs;
        outputs.made.seen(&held, now);
        outputs.made.are_over(&over);
        outputs
            .outbox
            .are_over(maker_of_outputs(self.core.id), &over);
        self.core.dispatch_records();
    }
}
