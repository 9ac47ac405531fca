//! A node's records on their way to loggers: batches are given to those that take them, in turn by stream, and are kept
//! until they are acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use muster_data::{Encode, Record};
use muster_wire::zeek::{self, EventRef, Metadata};
use muster_wire::{Class, EndpointId, Mono};

use super::log_spool::Adopted;
use super::logs::{self, BATCH};
use super::node_core::NodeCore;
use super::{Effect, NodeLoop, Severity, zeek_logger};
use crate::delivery::messages::{
    BatchRefusal, DeliveryNote, LogAck, LogRefused, LogVerdict, LoggerState,
};
use crate::delivery::{
    Batch, Candidate, Dispatched, Dropped, Lost, MEMORY_BYTES, Numbers, Sending, Shipment, Shipper,
    Verdict,
};
use crate::layout::{Layout, MOST_NODES, Node, NodeName, PoolName, Role};
use crate::pools::{PoolView, Pools};
use crate::settings::AcknowledgeWhen;

/// Inputs wait while so many bytes of records wait for loggers.
const MANY_BYTES: usize = MEMORY_BYTES / 2;

/// The records of a node that have a batch.
#[derive(Debug)]
pub(crate) struct Shipping {
    pub(super) shipper: Shipper,
    /// The batches of a former life.
    pub(super) adopted: Option<Adopted>,
    /// All loggers of the layout, in the order of their pool.
    loggers: Vec<NodeName>,
    /// What their lives have said of themselves: what keeps them from writing, if anything does.
    said: BTreeMap<EndpointId, Option<String>>,
    /// The lives whose hello has said that they acknowledge.
    acknowledging: BTreeSet<EndpointId>,
    /// Whether this node takes records.
    pub(super) own: OwnLogger,
    /// Those that are given batches.
    usable: BTreeMap<NodeName, EndpointId>,
    /// Somebody has come or gone.
    pub(super) is_stale: bool,
    /// What the operator knows of logs at Zeek's loggers: logger and path.
    told_zeek_loggers: BTreeSet<(NodeName, String)>,
}

/// Whose batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Those of this life.
    Own,
    /// Those of the former life that is adopted.
    Adopted,
}

impl Whose {
    pub(super) const ALL: [Self; 2] = [Self::Adopted, Self::Own];
}

/// The beginning of what another node says.
fn clipped(text: &str) -> String {
    text.chars().take(300).collect()
}

/// Whether a node takes records itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnLogger {
    /// It is no logger.
    None,
    Takes,
    /// It takes records and acknowledges nothing.
    Silent,
    /// It cannot write.
    Fails(String),
}

impl OwnLogger {
    fn of(layout: &Layout, node: &Node) -> Self {
        if !layout.takes_logs(node) {
            return Self::None;
        }
        match node.settings.choice("logging.acknowledge") {
            AcknowledgeWhen::Synced | AcknowledgeWhen::Written => Self::Takes,
            AcknowledgeWhen::Never => Self::Silent,
        }
    }
}

/// What a logger is to a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is out, or does not take records: others are given what it has not acknowledged.
    Out,
    /// It is in, but out of reach for the moment.
    Away,
    Usable(EndpointId),
    /// It takes records and acknowledges nothing.
    Silent,
}

impl Shipping {
    pub(super) fn new(layout: &Layout, node: &Node) -> Self {
        let pools = Pools::new(layout, None);
        let loggers = if layout.manager_is_logger() {
            let managers = layout.with_role(Role::Manager);
            let mut names: Vec<NodeName> = managers.map(|it| it.name.clone()).collect();
            names.sort();
            names
        } else {
            let pool = pools.view(&PoolName::logger());
            let members = pool.into_iter().flat_map(PoolView::members);
            let writes = |name: &NodeName| {
                let logger = layout.find(name.as_str());
                logger.is_some_and(|logger| layout.takes_logs(logger))
            };
            let names = members.map(|member| member.name.clone());
            names.filter(writes).collect()
        };
        Self {
            shipper: Shipper::default(),
            adopted: None,
            loggers,
            said: BTreeMap::new(),
            acknowledging: BTreeSet::new(),
            own: OwnLogger::of(layout, node),
            usable: BTreeMap::new(),
            is_stale: true,
            told_zeek_loggers: BTreeSet::new(),
        }
    }

    /// The records that have a batch and are not acknowledged.
    pub(super) fn records(&self) -> usize {
        let shippers = Whose::ALL.into_iter().filter_map(|whose| self.of(whose));
        shippers.map(Shipper::records).sum()
    }

    pub(super) fn of(&self, whose: Whose) -> Option<&Shipper> {
        match whose {
            Whose::Own => Some(&self.shipper),
            Whose::Adopted => self.adopted.as_ref().map(|adopted| &adopted.shipper),
        }
    }

    pub(super) fn of_mut(&mut self, whose: Whose) -> Option<&mut Shipper> {
        match whose {
            Whose::Own => Some(&mut self.shipper),
            Whose::Adopted => self.adopted.as_mut().map(|adopted| &mut adopted.shipper),
        }
    }

    /// Returns `true` if so much waits for loggers that whoever makes more should wait, as they get on.
    pub(super) fn is_behind(&self) -> bool {
        self.shipper.memory() > MANY_BYTES && !self.usable.is_empty()
    }

    /// Returns `true` if nothing is open, or nobody is there to take it.
    pub(super) fn is_done(&self) -> bool {
        let says_all = !self.shipper.has_verdicts();
        let is_shipped = self.shipper.is_empty() && self.shipper.is_spool_done();
        (is_shipped && says_all) || self.usable.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let due = self.is_stale.then_some(Mono::default());
        let shippers = Whose::ALL.into_iter().filter_map(|whose| self.of(whose));
        let flushes = self.shipper.flushes.next_deadline();
        let deadlines = shippers.filter_map(Shipper::next_deadline);
        deadlines.chain(due).chain(flushes).min()
    }

    /// All loggers, in order.
    pub(super) fn loggers(&self) -> &[NodeName] {
        &self.loggers
    }
}

impl NodeCore {
    /// Makes what a stream has gathered a batch, and gives it to a logger if there is one.
    pub(crate) fn ship(&mut self, stream: &str) {
        if let Some(batch) = self.logging.logs.take(stream) {
            self.ship_batch(batch);
        }
    }

    /// Gives a batch to a logger, or keeps it until there is one.
    pub(super) fn ship_batch(&mut self, batch: Batch) {
        let (head, records) = (std::sync::Arc::clone(&batch.head), batch.records);
        let most = self.logging.logs.batch_size();
        if !self.logging.shipping.shipper.add(batch, most) {
            let name = head.name();
            self.counts.records_dropped.add_many(name, records as u64);
            let text =
                || format!("no room for records of log `{name}`: too many wait for the loggers");
            self.report(Severity::Warning, "spool", text);
        }
        self.dispatch_batches();
    }

    fn standing(&self, logger: &NodeName) -> Standing {
        let record = self.members.membership.get(logger);
        let life = record.and_then(|record| record.life.as_ref());
        let pool = if self.layout.manager_is_logger() {
            PoolName::manager()
        } else {
            PoolName::logger()
        };
        let pool = self.members.pools.view(&pool);
        let is_in = pool.is_some_and(|pool| pool.is_alive(logger));
        let Some(life) = life.filter(|_| is_in) else {
            return if is_in { Standing::Away } else { Standing::Out };
        };
        if life.id == self.id {
            return match self.logging.shipping.own {
                OwnLogger::Takes => Standing::Usable(life.id),
                OwnLogger::Silent => Standing::Silent,
                OwnLogger::None | OwnLogger::Fails(_) => Standing::Out,
            };
        }
        if life.incarnation.is_none() {
            return Standing::Silent; // Zeek's
        }
        let shipping = &self.logging.shipping;
        match shipping.said.get(&life.id) {
            Some(None) => Standing::Usable(life.id),
            Some(Some(_)) => Standing::Out,
            None if shipping.acknowledging.contains(&life.id) => Standing::Usable(life.id),
            None => Standing::Silent,
        }
    }

    /// The loggers that can be given batches.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let shipping = &self.logging.shipping;
        let candidates = shipping
            .loggers
            .iter()
            .enumerate()
            .filter_map(|(position, name)| {
                let acknowledges = match self.standing(name) {
                    // Whoever has come was not looked at yet: what it may have is sent first.
                    Standing::Usable(life) => {
                        (shipping.usable.get(name) == Some(&life)).then_some(true)?
                    }
                    Standing::Silent => false,
                    Standing::Out | Standing::Away => return None,
                };
                Some(Candidate {
                    position,
                    name: name.clone(),
                    acknowledges,
                })
            });
        candidates.collect()
    }

    /// Gives the batches that wait to loggers.
    pub(super) fn dispatch_batches(&mut self) {
        for whose in Whose::ALL {
            let shipper = self.logging.shipping.of(whose);
            if shipper.is_some_and(Shipper::has_waiting) {
                self.dispatch(whose);
            } else {
                self.order_spool(whose, false);
            }
        }
    }

    fn dispatch(&mut self, whose: Whose) {
        let mut candidates = self.candidates();
        if whose == Whose::Adopted {
            // A Zeek logger has to be told of types, which only declared streams have.
            candidates.retain(|candidate| candidate.acknowledges || !self.is_zeek(&candidate.name));
        }
        let loggers = self.logging.shipping.loggers.len();
        let now = self.clock.now.mono;
        while let Some(shipper) = self.logging.shipping.of_mut(whose) {
            match shipper.dispatch(&candidates, loggers, now) {
                None => break,
                Some(Dispatched::Given(sending)) => {
                    let records = shipper.get(sending.number).map_or(0, |it| it.records);
                    self.counts.records_sent += records as u64;
                    self.put_batch(whose, &sending);
                }
                Some(Dispatched::LetGo(logger, shipment)) => {
                    self.counts.records_sent += shipment.records as u64;
                    self.counts.records_unacknowledged += shipment.records as u64;
                    self.let_go(&logger, &shipment);
                }
            }
        }
        self.order_spool(whose, !candidates.is_empty());
    }

    /// Returns whose batches they are: the name of the node, and its life.
    pub(super) fn producer(&self, whose: Whose) -> (&str, EndpointId) {
        match (whose, &self.logging.shipping.adopted) {
            (Whose::Adopted, Some(adopted)) => (&adopted.node, adopted.life),
            _ => (self.node.name.as_str(), self.id),
        }
    }

    /// Returns which batches are those of a life, if this node has any of it.
    pub(super) fn whose(&self, life: EndpointId) -> Option<Whose> {
        let is_of = |whose: &Whose| {
            let shipper = self.logging.shipping.of(*whose);
            shipper.is_some() && self.producer(*whose).1 == life
        };
        Whose::ALL.into_iter().find(is_of)
    }

    /// Sends an open batch to a logger.
    fn put_batch(&mut self, whose: Whose, sending: &Sending) {
        let Some(topic) = self.topic_for_node(&sending.logger) else {
            return;
        };
        let shipping = &self.logging.shipping;
        let Some(shipper) = shipping.of(whose) else {
            return;
        };
        let batch = shipper
            .get(sending.number)
            .and_then(|shipment| shipment.batch());
        let Some(batch) = batch.cloned() else {
            return;
        };
        let (node, producer) = self.producer(whose);
        let note = DeliveryNote {
            node: node.to_owned(),
            producer: producer.to_string(),
            number: sending.number,
            floor: shipper.floor(),
        };
        let metadata = self.metadata();
        self.send(&topic, Class::Bulk, BATCH, metadata, |out| {
            logs::put_batch(out, &batch, Some(&note));
        });
    }

    /// Sends a batch to a logger that does not acknowledge.
    fn let_go(&mut self, logger: &NodeName, shipment: &Shipment) {
        let Some((topic, batch)) = self.topic_for_node(logger).zip(shipment.batch()) else {
            return;
        };
        if !self.is_zeek(logger) {
            let metadata = self.metadata();
            return self.send(&topic, Class::Bulk, BATCH, metadata, |out| {
                logs::put_batch(out, batch, None);
            });
        }
        let (mut rows, mut out) = (Vec::new(), Vec::new());
        batch.put_rows(&mut rows);
        let logs = &self.logging.logs;
        let Some(outgoing) = logs.outgoing(batch.head.name(), &rows, batch.records) else {
            // What is handed on has no type here, and Zeek needs one.
            let name = batch.head.name().to_owned();
            let records = batch.records as u64;
            self.counts.records_invalid.add_many(&name, records);
            return;
        };
        let target = zeek_logger::Target::of(&outgoing);
        target.put(&mut out, &outgoing, self.clock.now.wall);
        self.counts.events_out += 1;
        self.outbox.effects.push(Effect::Publish {
            topic,
            payload: Bytes::from(out),
            class: Class::Bulk,
        });
        self.tell_of_zeek_logger(logger, target);
    }

    /// Tells the operator once where a Zeek logger puts a log: it does not answer, and says only in its
    /// own reporter.log that it does not know a stream.
    fn tell_of_zeek_logger(&mut self, logger: &NodeName, target: zeek_logger::Target) {
        let told = &mut self.logging.shipping.told_zeek_loggers;
        if told.insert((logger.clone(), target.path())) {
            self.inform(target.describe(logger));
        }
    }

    fn put_batches(&mut self, whose: Whose, sendings: &[Sending]) {
        for sending in sendings {
            self.counts.batches_repeated += 1;
            self.put_batch(whose, sending);
        }
    }

    pub(super) fn dropped(&mut self, dropped: Vec<Dropped>) {
        for Dropped {
            head,
            records,
            lost,
        } in dropped
        {
            let counts = match lost {
                Lost::Invalid => &mut self.counts.records_invalid,
                Lost::Unsettled => &mut self.counts.records_unsettled,
                Lost::Spool => &mut self.counts.records_spoilt,
                Lost::NoLogger => &mut self.counts.records_dropped,
            };
            counts.add_many(head.name(), records as u64);
        }
    }

    /// Looks at who takes records, if that may have changed.
    fn look_at_loggers(&mut self) {
        self.logging.shipping.is_stale = false;
        let now = self.clock.now.mono;
        for logger in self.logging.shipping.loggers.clone() {
            let standing = self.standing(&logger);
            let shipping = &mut self.logging.shipping;
            match standing {
                Standing::Usable(life) => {
                    if shipping.usable.insert(logger.clone(), life) == Some(life) {
                        continue;
                    }
                    for whose in Whose::ALL {
                        let shipper = self.logging.shipping.of_mut(whose);
                        let again = shipper.map(|shipper| shipper.is_back(&logger, now));
                        self.put_batches(whose, &again.unwrap_or_default());
                    }
                    self.logger_is_back(&logger);
                }
                Standing::Away => {
                    shipping.usable.remove(&logger);
                }
                Standing::Out | Standing::Silent => {
                    shipping.usable.remove(&logger);
                    for whose in Whose::ALL {
                        if let Some(shipper) = shipping.of_mut(whose) {
                            shipper.is_out(&logger);
                        }
                    }
                    self.logger_is_out(&logger);
                }
            }
        }
        // Of lives that are gone nothing is remembered.
        let membership = &self.members.membership;
        let is_up = |id: &EndpointId| membership.name_of(*id).is_some();
        let shipping = &mut self.logging.shipping;
        shipping.said.retain(|id, _| is_up(id));
        // The hello may come before the peering.
        if shipping.acknowledging.len() > MOST_NODES {
            shipping.acknowledging.retain(is_up);
        }
    }

    /// Does what is due for records that are on their way.
    pub(super) fn ship_on(&mut self) {
        if self.logging.shipping.is_stale {
            self.look_at_loggers();
        }
        for whose in Whose::ALL {
            self.ship_on_of(whose);
        }
        let now = self.clock.now.mono;
        self.logging.shipping.shipper.flushes.tick(now);
        self.dispatch_batches();
        self.dispatch_records();
    }

    fn ship_on_of(&mut self, whose: Whose) {
        let now = self.clock.now.mono;
        let shipping = &mut self.logging.shipping;
        let usable = std::mem::take(&mut shipping.usable);
        let due = shipping.of_mut(whose).filter(|shipper| {
            let due = shipper.next_deadline();
            due.is_some_and(|at| at <= now)
        });
        let done = due.map(|shipper| {
            let (again, dropped) = shipper.tick(now, |name| usable.contains_key(name));
            (again, dropped, shipper.take_verdicts(now))
        });
        shipping.usable = usable;
        let Some((again, dropped, verdicts)) = done else {
            return;
        };
        self.put_batches(whose, &again);
        self.dropped(dropped);
        for (logger, verdict) in verdicts {
            self.say_verdict(whose, &logger, &verdict);
        }
    }

    fn say_verdict(&mut self, whose: Whose, logger: &NodeName, verdict: &Verdict) {
        let Some(topic) = self.topic_for_node(logger) else {
            return;
        };
        let (_, producer) = self.producer(whose);
        let verdict = LogVerdict {
            producer: producer.to_string(),
            floor: self.logging.shipping.of(whose).map_or(0, Shipper::floor),
            keep: verdict.keep.to_pairs(),
            keep_shared: verdict.keep_shared.to_pairs(),
            strike: verdict.strike.to_pairs(),
            settle: verdict.settle.to_pairs(),
        };
        self.tell(&topic, &verdict);
    }

    /// Says something of records to one node.
    pub(super) fn tell<E: Record + Encode>(&mut self, topic: &muster_wire::Topic, event: &E) {
        let metadata = Metadata::default();
        self.send(topic, Class::Interactive, E::NAME, metadata, |out| {
            event.encode(out);
        });
    }

    /// What is decided is said without waiting for more.
    pub(super) fn hurry_verdicts(&mut self) {
        let now = self.clock.now.mono;
        self.logging.shipping.shipper.hurry_verdicts(now);
    }
}

impl NodeLoop {
    /// What this node can do, as its hello says.
    pub(super) fn features(&self) -> u64 {
        let logs = match self.core.logging.shipping.own {
            OwnLogger::None | OwnLogger::Silent => 0,
            OwnLogger::Takes | OwnLogger::Fails(_) => zeek::ACKNOWLEDGES_LOGS,
        };
        let keys = if self.core.keyed.owns_keys() {
            zeek::OWNS_KEYS
        } else {
            0
        };
        logs | zeek::ANSWERS_REQUESTS | keys
    }

    /// A hello says what its node can do.
    pub(super) fn features_of(&mut self, from: EndpointId, hello: &EventRef<'_>) {
        let features = hello.metadata(zeek::FEATURES);
        let features = features.and_then(|value| value.as_count()).unwrap_or(0);
        self.core.answers_requests(from, features);
        self.core.owns_keys(from, features);
        let shipping = &mut self.core.logging.shipping;
        if features & zeek::ACKNOWLEDGES_LOGS != 0 && shipping.acknowledging.insert(from) {
            shipping.is_stale = true;
        }
    }

    /// The logger that an endpoint is.
    fn logger(&self, from: EndpointId) -> Option<NodeName> {
        let name = self.core.members.membership.name_of(from);
        let name = if from == self.core.id {
            Some(&self.core.node.name)
        } else {
            name
        };
        let loggers = self.core.logging.shipping.loggers();
        name.filter(|name| loggers.contains(name)).cloned()
    }

    /// Reads what a logger says of batches of this node.
    fn said_by_logger<E>(&mut self, from: EndpointId, event: &EventRef<'_>) -> Option<(NodeName, E)>
    where
        E: for<'a> muster_data::Decode<'a>,
    {
        let logger = self.logger(from);
        let said = event.arguments().to::<E>().ok();
        if logger.is_none() || said.is_none() {
            self.core.counts.control_events_refused += 1;
        }
        logger.zip(said)
    }

    /// Reads which batches a logger speaks of. Returns `None` if they are of a life of which this node has nothing.
    fn of_this_node(&mut self, producer: &str, ranges: &[u64]) -> Option<(Whose, Numbers)> {
        let life = producer.parse().ok();
        let whose = life.and_then(|life| self.core.whose(life));
        let numbers = Numbers::from_pairs(ranges);
        if numbers.is_none() {
            self.core.counts.control_events_refused += 1;
        }
        whose.zip(numbers)
    }

    /// A logger says whether it takes records.
    pub(super) fn logger_says(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let Some((logger, state)) = self.said_by_logger::<LoggerState>(from, event) else {
            return;
        };
        let problem = state.problem.map(|problem| clipped(&problem));
        if let Some(problem) = &problem {
            let text = || format!("{logger} takes no log records at present: {problem}");
            self.core
                .report(Severity::Warning, &format!("{logger} takes none"), text);
        }
        let shipping = &mut self.core.logging.shipping;
        shipping.said.insert(from, problem);
        shipping.is_stale = true;
        self.core.ship_on();
    }

    /// A logger has batches of this node.
    pub(super) fn log_acknowledged(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let Some((logger, ack)) = self.said_by_logger::<LogAck>(from, event) else {
            return;
        };
        let Some((whose, numbers)) = self.of_this_node(&ack.producer, &ack.batches) else {
            // Nothing is known of it here, unless handlers of keyed events have made it: loggers decide among themselves.
            let life = ack.producer.parse().ok();
            let life = life.filter(|life| *life != self.core.id);
            if let (Some(life), Some(numbers)) = (life, Numbers::from_pairs(&ack.batches)) {
                self.core.records_acknowledged(&logger, life, &numbers);
            }
            return;
        };
        let now = self.core.clock.now.mono;
        let Some(shipper) = self.core.logging.shipping.of_mut(whose) else {
            return;
        };
        let (records, again) = shipper.acknowledged(&logger, &numbers, now);
        self.core.counts.records_acknowledged += records;
        self.core.put_batches(whose, &again);
        if self.stopping {
            self.core.hurry_verdicts();
        }
        self.core.dispatch_batches();
    }

    /// A logger does not take batches of this node.
    pub(super) fn log_refused(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let Some((logger, refused)) = self.said_by_logger::<LogRefused>(from, event) else {
            return;
        };
        let refusal = BatchRefusal::of(refused.cause);
        let now = self.core.clock.now.mono;
        let mut dropped = Vec::new();
        if let Some((whose, numbers)) = self.of_this_node(&refused.producer, &refused.batches) {
            let shipper = self.core.logging.shipping.of_mut(whose);
            let found = shipper.map(|shipper| shipper.refused(&logger, &numbers, refusal, now));
            dropped.extend(found.unwrap_or_default());
        } else {
            let life = refused.producer.parse::<EndpointId>().ok();
            let numbers = Numbers::from_pairs(&refused.batches);
            let Some((life, numbers)) = life.zip(numbers) else {
                return;
            };
            self.core.records_refused(&logger, life, &numbers, refusal);
        }
        let shipping = &mut self.core.logging.shipping;
        if refusal == BatchRefusal::CannotWrite {
            // It says itself when it can again.
            shipping.said.insert(from, Some(clipped(&refused.text)));
            shipping.is_stale = true;
        }
        if refusal == BatchRefusal::Invalid {
            let text = || format!("{logger} refused log records: {}", clipped(&refused.text));
            self.core.report(Severity::Error, "invalid batch", text);
        }
        self.core.dropped(dropped);
        self.core.ship_on();
    }
}
