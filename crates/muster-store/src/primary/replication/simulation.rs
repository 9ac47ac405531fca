//! Copies of a store, their coordinators and their writers, over a bad network, from one seed: processes die, stop and are cut off.

pub(crate) mod council;
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use muster_data::{Kind, Timestamp};
use muster_test_support::Random;
use muster_wire::{EndpointId, Mono};

use crate::op::{Answer, Op, StoreEvent};
use crate::protocol::{Query, Reply, StoreMessage};
use crate::{
    Assignment, Backend, CloneConfig, Commit, CopyMode, CopyRequest, Encoded, Entries, Level,
    MemoryBackend, Now, Output, Primary, PrimaryConfig, Restored, StoreClone, StoreName,
    WriteOutcome,
};
use council::Council;

pub(in crate::primary) use super::sabotage::Sabotage;

/// What is wrong.
type Wrong = String;

#[derive(Debug)]
pub(super) enum Event {
    Message { from: EndpointId, bytes: Vec<u8> },
    Assigned(Assignment),
    Committed(Commit),
}

/// A process that keeps a copy.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) copy: Primary,
    pub(super) id: EndpointId,
    pub(super) frozen_until: Mono,
    /// What it was sent meanwhile.
    waiting: Vec<Event>,
}

/// A node that may keep a copy.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) lives: u64,
    pub(super) process: Option<Process>,
    disk: MemoryBackend,
    pub(super) starts_at: Mono,
    /// Until when nobody hears it, and it hears nobody.
    cut_until: Mono,
}

#[derive(Debug)]
struct Writer {
    clone: StoreClone,
    id: EndpointId,
    watched: BTreeMap<Encoded, Encoded>,
}

struct Asked {
    writer: usize,
    outcome: Option<WriteOutcome>,
    /// The history in which it was asked for.
    began: u64,
}

struct Question {
    /// How many of its writer's elements were acknowledged when it was asked.
    acknowledged: Vec<u64>,
    key: Encoded,
    began: u64,
}

pub(super) struct World {
    pub(super) now: Mono,
    pub(super) random: Random,
    pub(super) nodes: Vec<Node>,
    writers: Vec<Writer>,
    agenda: BTreeMap<(Mono, u64), (EndpointId, Event)>,
    serial: u64,
    council: Council,
    name: StoreName,
    is_persistent: bool,
    is_bad: bool,
    loss: u64,
    sabotage: Sabotage,
    asked: Vec<Asked>,
    questions: Vec<Question>,
    /// What everybody who saw a change of a timeline saw.
    seen: BTreeMap<(u64, u64), StoreEvent>,
    /// The timelines of which some writes are lost by rights.
    restarts: u64,
    pub(super) failovers: u64,
    wrong: Option<Wrong>,
    /// When somebody writes or asks, or something goes wrong.
    does_at: Option<Mono>,
}

fn id(node: u64, life: u64) -> EndpointId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&node.to_be_bytes());
    id[8..].copy_from_slice(&life.to_be_bytes());
    EndpointId::from_random(id)
}

/// The key of the list that a writer appends a number to. A new one begins now and then, as long lists take long.
fn list_of(writer: usize, token: u64) -> Encoded {
    Encoded::key(&format!("of {writer} {}", token / 60))
}

fn tokens(list: &Encoded) -> Vec<u64> {
    list.view().to().unwrap_or_default()
}

impl World {
    pub(super) fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Random::new(seed);
        let count = 2 + random.below(3);
        let copies = if count > 2 && random.chance(30) { 3 } else { 2 };
        let is_persistent = random.chance(50);
        let loss = [0, 1, 10][random.below(3)];
        let node = || Node {
            lives: 0,
            process: None,
            disk: MemoryBackend::default(),
            starts_at: Mono(1),
            cut_until: Mono(0),
        };
        let mut world = Self {
            now: Mono(1),
            random,
            nodes: (0..count).map(|_| node()).collect(),
            writers: Vec::new(),
            agenda: BTreeMap::new(),
            serial: 0,
            council: Council::new(copies, is_persistent),
            name: StoreName::new("s").unwrap(),
            is_persistent,
            is_bad: true,
            loss,
            sabotage,
            asked: Vec::new(),
            questions: Vec::new(),
            seen: BTreeMap::new(),
            restarts: 0,
            failovers: 0,
            wrong: None,
            does_at: Some(Mono(1)),
        };
        for number in 0..3 {
            let config = CloneConfig {
                copy: if number == 2 {
                    CopyMode::None
                } else {
                    CopyMode::Full
                },
                ..CloneConfig::default()
            };
            world.writers.push(Writer {
                clone: StoreClone::new(world.name.clone(), 1, config, world.now),
                id: id(100 + number, 1),
                watched: BTreeMap::new(),
            });
        }
        world
    }

    fn clocks(&self) -> Now {
        Now {
            mono: self.now,
            wall: Timestamp::from_nanos(i64::try_from(self.now.0).unwrap()),
        }
    }

    fn fails(&mut self, wrong: Wrong) {
        self.wrong.get_or_insert(wrong);
    }

    fn start(&mut self, number: usize) {
        let now = self.clocks();
        let node = &mut self.nodes[number];
        node.lives += 1;
        let id = id(number as u64, node.lives);
        let config = PrimaryConfig::default();
        let restored = self
            .is_persistent
            .then(|| Restored::load(&mut node.disk, config.limit).unwrap());
        let mut copy = Primary::copy(self.name.clone(), id, config, restored, now);
        copy.break_rule(self.sabotage);
        node.process = Some(Process {
            copy,
            id,
            frozen_until: Mono(0),
            waiting: Vec::new(),
        });
        self.council.comes(number, id, self.now);
    }

    fn kill(&mut self, number: usize) {
        let Some(process) = self.nodes[number].process.take() else {
            return;
        };
        let under_way = self.agenda.extract_if(.., |_, (to, event)| {
            *to == process.id && matches!(event, Event::Committed(_))
        });
        let under_way: Vec<_> = under_way.map(|(_, (_, event))| event).collect();
        for event in under_way {
            if let Event::Committed(commit) = event
                && self.random.chance(50)
            {
                let _ = self.nodes[number].disk.commit(&commit);
            }
        }
        let wait = Duration::from_millis(self.random.number(8_000));
        self.nodes[number].starts_at = self.now.after(wait);
        self.council.goes(number, self.now);
        for writer in 0..self.writers.len() {
            let now = self.now;
            self.writers[writer].clone.lost(process.id, now);
            self.collect_writer(writer);
        }
    }

    fn later(&mut self, to: EndpointId, delay: Duration, event: Event) {
        self.serial += 1;
        self.agenda
            .insert((self.now.after(delay), self.serial), (to, event));
    }

    fn is_cut(&self, id: EndpointId) -> bool {
        let of = |node: &&Node| node.process.as_ref().is_some_and(|it| it.id == id);
        let node = self.nodes.iter().find(of);
        node.is_some_and(|node| node.cut_until > self.now)
    }

    fn send(&mut self, from: EndpointId, to: EndpointId, bytes: Vec<u8>) {
        if self.is_cut(from) || self.is_cut(to) {
            return;
        }
        if self.is_bad && self.random.chance(self.loss) {
            return;
        }
        let slow = self.is_bad && self.random.chance(5);
        let most = if slow { 60_000 } else { 800 };
        let delay = Duration::from_micros(200 + self.random.number(most));
        self.later(to, delay, Event::Message { from, bytes });
    }

    /// Does what a copy wants done.
    fn collect(&mut self, number: usize) {
        while let Some(process) = &mut self.nodes[number].process
            && let Some(output) = process.copy.poll()
        {
            let me = process.id;
            let timeline = process.copy.timeline();
            match output {
                Output::Send(to, bytes) => self.send(me, to, bytes),
                Output::Broadcast(bytes) => {
                    for writer in 0..self.writers.len() {
                        let to = self.writers[writer].id;
                        if writer != 2 {
                            self.send(me, to, bytes.clone());
                        }
                    }
                }
                Output::Commit(commit) => {
                    let delay = Duration::from_micros(500 + self.random.number(20_000));
                    self.later(me, delay, Event::Committed(commit));
                }
                Output::Request { epoch, request } if !self.is_cut(me) => {
                    let delay = Duration::from_millis(1 + self.random.number(20));
                    self.council
                        .asked(self.now.after(delay), me, epoch, request);
                }
                Output::Changed(change) => self.sees(timeline, change.number, change.event),
                _ => {}
            }
        }
    }

    /// Somebody was told of a change.
    fn sees(&mut self, timeline: u64, number: u64, mut event: StoreEvent) {
        match &mut event {
            StoreEvent::Put { old, amendment, .. } => (*old, *amendment) = (None, None),
            StoreEvent::Erase { old, .. } | StoreEvent::Expire { old, .. } => *old = None,
            StoreEvent::Clear { old } => old.clear(),
        }
        // A snapshot is told as changes of its last number: only what it shows of that one key is that change's.
        let known = self.seen.get(&(timeline, number));
        if known.is_some_and(|known| key_of(known) == key_of(&event) && *known != event) {
            let text = format!("S1, S4: change {number} was {known:?}, and is {event:?}");
            return self.fails(text);
        }
        self.seen.entry((timeline, number)).or_insert(event);
    }

    fn collect_writer(&mut self, number: usize) {
        while let Some(output) = self.writers[number].clone.poll() {
            let me = self.writers[number].id;
            match output {
                Output::Send(to, bytes) => self.send(me, to, bytes),
                Output::Find(bytes) => {
                    let serving = self.nodes.iter().filter_map(|node| node.process.as_ref());
                    let serving = serving.filter(|it| it.copy.serves()).map(|it| it.id);
                    for to in serving.collect::<Vec<_>>() {
                        self.send(me, to, bytes.clone());
                    }
                }
                Output::Settled(settled) => {
                    let asked = &mut self.asked[usize::try_from(settled.token).unwrap()];
                    if asked.outcome.replace(settled.outcome).is_some() {
                        self.fails("settled twice".to_owned());
                    }
                }
                Output::Changed(change) => {
                    let watched = &mut self.writers[number].watched;
                    match &change.event {
                        StoreEvent::Put { key, value, .. } => {
                            watched.insert(key.clone(), value.clone());
                        }
                        StoreEvent::Erase { key, .. } | StoreEvent::Expire { key, .. } => {
                            watched.remove(key);
                        }
                        StoreEvent::Clear { .. } => watched.clear(),
                    }
                    if change.writer.is_some()
                        && let Some(applied) = self.writers[number].clone.applied()
                    {
                        self.sees(applied.timeline, change.number, change.event);
                    }
                }
                Output::Replied { request, reply, .. } => self.replied(request, &reply),
                _ => {}
            }
        }
    }

    fn replied(&mut self, request: u64, reply: &Reply) {
        let question = &self.questions[usize::try_from(request).unwrap()];
        if question.began != self.council.began() {
            return;
        }
        let Reply::Entry(entry) = reply else { return };
        let there = entry.as_ref().map(|entry| tokens(&entry.value));
        let there = there.unwrap_or_default();
        let missing = question.acknowledged.iter().find(|it| !there.contains(it));
        if let Some(missing) = missing {
            let text = format!(
                "S6: {missing} was acknowledged before {} was asked for, and is not in it",
                question.key
            );
            self.fails(text);
        }
    }

    fn write(&mut self, number: usize) {
        let token = self.asked.len() as u64;
        self.asked.push(Asked {
            writer: number,
            outcome: None,
            began: self.council.began(),
        });
        let op = Op::Add {
            key: list_of(number, token),
            value: Encoded::of(&token),
            initial: Kind::Vector,
            ttl: None,
        };
        let is_durable = self.is_persistent && self.random.chance(30);
        let level = if is_durable {
            Level::Durable
        } else {
            Level::Applied
        };
        let deadline = self.now.after(Duration::from_secs(60));
        let now = self.now;
        let writer = &mut self.writers[number];
        writer.clone.write(op, level, token, Some(deadline), now);
        self.collect_writer(number);
    }

    fn ask(&mut self, number: usize) {
        let of = self.random.below(self.writers.len());
        let all = self.asked.len() as u64;
        let key = list_of(of, all.saturating_sub(self.random.number(120)));
        let done = self.asked.iter().zip(0_u64..).filter(|(asked, token)| {
            let outcome = asked.outcome.as_ref();
            let is_now = asked.writer == of && asked.began == self.council.began();
            let is_asked_for = is_now && list_of(of, *token) == key;
            is_asked_for && matches!(outcome, Some(Ok(Answer::Done { .. })))
        });
        let acknowledged = done.map(|(_, token)| token).collect();
        let request = self.questions.len() as u64;
        self.questions.push(Question {
            acknowledged,
            key: key.clone(),
            began: self.council.began(),
        });
        let now = self.now;
        let query = Query::Get(key);
        self.writers[number].clone.query(request, query, now);
        self.collect_writer(number);
    }

    /// Something goes wrong, of one node at a time.
    fn trouble(&mut self) {
        let number = self.random.below(self.nodes.len());
        match self.random.below(4) {
            0 | 1 => self.kill(number),
            2 => {
                let span = Duration::from_millis(50 + self.random.number(6_000));
                let until = self.now.after(span);
                if let Some(process) = &mut self.nodes[number].process {
                    process.frozen_until = until;
                    self.council.is_silent(number, self.now, until);
                }
            }
            _ => {
                let span = Duration::from_millis(50 + self.random.number(6_000));
                let until = self.now.after(span);
                self.nodes[number].cut_until = until;
                if self.nodes[number].process.is_some() {
                    self.council.is_silent(number, self.now, until);
                }
            }
        }
    }

    fn happen(&mut self, to: EndpointId, event: Event) {
        let now = self.clocks();
        if let Some(number) = self.writers.iter().position(|it| it.id == to) {
            if let Event::Message { from, bytes } = event {
                let message = StoreMessage::decode(&bytes).unwrap();
                self.writers[number].clone.receive(from, message, now.mono);
                self.collect_writer(number);
            }
            return;
        }
        let of = |node: &Node| node.process.as_ref().is_some_and(|it| it.id == to);
        let Some(number) = self.nodes.iter().position(of) else {
            return;
        };
        let node = &mut self.nodes[number];
        let Some(process) = &mut node.process else {
            return;
        };
        if process.frozen_until > now.mono {
            return process.waiting.push(event);
        }
        match event {
            Event::Message { from, bytes } => {
                let message = StoreMessage::decode(&bytes).unwrap();
                process.copy.receive(from, message, now);
            }
            Event::Assigned(assignment) => {
                let led = process.copy.serves();
                process.copy.assign(assignment, now);
                self.failovers += u64::from(!led && process.copy.serves());
            }
            Event::Committed(commit) => {
                let failed = node.disk.commit(&commit).is_err().then_some(commit);
                process.copy.committed(failed, now);
            }
        }
        self.collect(number);
    }

    /// When something happens next.
    fn next(&self) -> Mono {
        let now = self.clocks();
        let event = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let nodes = self.nodes.iter().map(|node| match &node.process {
            None => node.starts_at,
            Some(process) if process.frozen_until > self.now => process.frozen_until,
            Some(process) => process.copy.next_tick(now),
        });
        let writers = self.writers.iter().map(|it| it.clone.next_tick());
        let others = [event, Some(self.council.next(self.now)), self.does_at];
        let all = nodes.chain(writers).chain(others.into_iter().flatten());
        all.min().unwrap_or(self.now).max(Mono(self.now.0 + 1000))
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: Duration) -> Result<(), Wrong> {
        let end = self.now.after(span);
        while self.now < end {
            self.now = self.next().min(end);
            let now = self.clocks();
            while let Some(first) = self.agenda.first_entry()
                && first.key().0 <= self.now
            {
                let (to, event) = first.remove();
                self.happen(to, event);
            }
            for number in 0..self.nodes.len() {
                let node = &mut self.nodes[number];
                match &mut node.process {
                    None if node.starts_at <= self.now => self.start(number),
                    None => {}
                    Some(process) if process.frozen_until > self.now => {}
                    Some(process) => {
                        for event in std::mem::take(&mut process.waiting) {
                            let to = process.id;
                            self.serial += 1;
                            self.agenda.insert((self.now, self.serial), (to, event));
                        }
                        if process.copy.next_tick(now) <= self.now {
                            process.copy.tick(now);
                            self.collect(number);
                        }
                    }
                }
            }
            for number in 0..self.writers.len() {
                if self.writers[number].clone.next_tick() <= self.now {
                    self.writers[number].clone.tick(self.now);
                    self.collect_writer(number);
                }
            }
            if let Some(decided) = self.council.decide(self.now) {
                self.restarts += u64::from(decided.began == decided.epoch && decided.epoch > 1);
                for id in self.council.lives() {
                    let delay = Duration::from_millis(1 + self.random.number(30));
                    self.later(id, delay, Event::Assigned(decided.clone()));
                }
            }
            if self.is_bad && self.does_at.is_none_or(|at| at <= self.now) {
                let wait = Duration::from_micros(200 + self.random.number(30_000));
                self.does_at = Some(self.now.after(wait));
                let number = self.random.below(self.writers.len());
                match self.random.number(100) {
                    0..=75 => self.write(number),
                    76..=97 => self.ask(number),
                    _ if self.council.is_redundant() || self.random.chance(10) => self.trouble(),
                    _ => {}
                }
            } else if !self.is_bad {
                self.does_at = None;
            }
            if let Some(wrong) = self.wrong.take() {
                return Err(wrong);
            }
        }
        Ok(())
    }

    pub(super) fn heal(&mut self) {
        self.is_bad = false;
        let now = self.now;
        for node in &mut self.nodes {
            node.cut_until = now;
            node.starts_at = node.starts_at.min(now);
            if let Some(process) = &mut node.process {
                process.frozen_until = now;
            }
        }
        self.council.heals(now);
    }

    /// Everything is as it should be in the end.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let assignment = self.council.assignment();
        if assignment.in_sync.len() < self.council.copies().min(self.nodes.len()) {
            return Err(format!("L: not redundant: {assignment:?}"));
        }
        let process = |id: EndpointId| {
            let mut all = self.nodes.iter().filter_map(|node| node.process.as_ref());
            all.find(|it| it.id == id)
        };
        let primary = assignment.primary.and_then(process);
        let Some(primary) = primary else {
            return Err("L: no primary".to_owned());
        };
        let values = |entries: &Entries| -> BTreeMap<Encoded, Encoded> {
            let entries = entries.in_order();
            entries.map(|(k, e)| (k.clone(), e.value.clone())).collect()
        };
        let expected = values(primary.copy.state().entries());
        for id in &assignment.in_sync {
            let copy = process(*id).ok_or("L: a copy is gone")?;
            if values(copy.copy.state().entries()) != expected {
                return Err(format!("S1: {id} has something else than the primary"));
            }
        }
        for (number, writer) in self.writers.iter().enumerate().take(2) {
            if values(writer.clone.entries()) != expected || writer.watched != expected {
                return Err(format!("S1: clone {number} has something else"));
            }
        }
        for list in expected.values().map(tokens) {
            if !list.is_sorted_by(|one, other| one < other) {
                return Err(format!("S3: applied twice, or out of order: {list:?}"));
            }
        }
        for (asked, token) in self.asked.iter().zip(0_u64..) {
            let list = expected.get(&list_of(asked.writer, token)).map(tokens);
            let is_there = list.is_some_and(|list| list.contains(&token));
            match &asked.outcome {
                None => return Err(format!("L: {token} is not settled")),
                Some(Ok(Answer::Done { .. })) if self.restarts == 0 && !is_there => {
                    return Err(format!("S2: {token} was acknowledged, and is lost"));
                }
                Some(Ok(Answer::Repeated)) if self.restarts == 0 => {
                    return Err(format!("S3: the answer to {token} is not known any more"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn written(&self) -> usize {
        let done = |asked: &&Asked| matches!(asked.outcome, Some(Ok(Answer::Done { .. })));
        self.asked.iter().filter(done).count()
    }
}

fn key_of(event: &StoreEvent) -> Option<&Encoded> {
    match event {
        StoreEvent::Put { key, .. }
        | StoreEvent::Erase { key, .. }
        | StoreEvent::Expire { key, .. } => Some(key),
        StoreEvent::Clear { .. } => None,
    }
}
