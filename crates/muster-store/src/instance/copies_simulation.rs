//! Instances on three nodes, of which coordinators make copies and clones as they like, over a bad network and with bad disks, from one
//! seed. Each has writers, watchers and readers of its own, and processes die, stop and are cut off.

mod check;
mod outputs;
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_data::{Kind, Timestamp};
use muster_test_support::Random;
use muster_wire::{EndpointId, Mono};

use super::{Instance, InstanceConfig, Placement, Sabotage};
use crate::op::Op;
use crate::primary::Council;
use crate::protocol::{Query, StoreMessage};
use crate::{
    Assignment, Backend, CloneConfig, Commit, Encoded, Level, MemoryBackend, Now, PrimaryConfig,
    Restored, StoreName, WriteOutcome,
};

const NODES: usize = 3;

/// What is wrong. It begins with a word that says which rule is broken.
type Wrong = String;

/// What is read of a store: of each key a list of numbers.
type Lists = BTreeMap<Encoded, Encoded>;

#[derive(Debug)]
enum Event {
    Message { from: EndpointId, bytes: Vec<u8> },
    Assigned(Assignment),
    Loaded { limit: usize },
    Committed(Commit),
    Listening,
    Lost(EndpointId),
    Discovered,
}

#[derive(Debug)]
struct Process {
    instance: Instance,
    id: EndpointId,
    /// What its watchers were told of, applied to an empty table.
    watched: Lists,
    frozen_until: Mono,
    /// What happened meanwhile.
    waiting: Vec<Event>,
    /// When it hears of the coordinators.
    hears_from: Mono,
    /// When its disk has done all that it was asked to.
    disk_until: Mono,
    /// It was opened as the primary of its own accord, and no coordinator was heard: what it began with.
    alone: Option<BTreeSet<u64>>,
    /// How often it has written.
    written: u64,
    /// What was read of it last, and of which timeline that was.
    read: (u64, Lists),
}

#[derive(Debug)]
struct Node {
    lives: u64,
    process: Option<Process>,
    disk: MemoryBackend,
    starts_at: Mono,
    cut_until: Mono,
}

#[derive(Debug)]
struct Asked {
    node: usize,
    life: u64,
    key: Encoded,
    level: Level,
    at: Mono,
    deadline: Mono,
    outcome: Option<WriteOutcome>,
    /// The losses before it was asked for.
    losses: u64,
    /// Its process is gone.
    is_orphan: bool,
}

#[derive(Debug)]
struct Question {
    node: usize,
    key: Encoded,
    deadline: Mono,
    /// What must be in the answer.
    expected: BTreeSet<u64>,
    losses: u64,
    is_over: bool,
}

struct World {
    now: Mono,
    random: Random,
    sabotage: Sabotage,
    nodes: Vec<Node>,
    agenda: BTreeMap<(Mono, u64), (EndpointId, Event)>,
    serial: u64,
    council: Council,
    name: StoreName,
    is_persistent: bool,
    is_bad: bool,
    loss: u64,
    asked: Vec<Asked>,
    questions: Vec<Question>,
    /// What answers have shown so far.
    shown: BTreeMap<Encoded, BTreeSet<u64>>,
    /// How often something was lost by rights: copies began anew, or what one had written alone was given up.
    losses: u64,
    /// What was lost because its node wrote alone.
    excused: BTreeSet<u64>,
    promotions: u64,
    does_at: Option<Mono>,
    wrong: Option<Wrong>,
}

fn id(node: usize, life: u64) -> EndpointId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(node as u64).to_be_bytes());
    id[8..].copy_from_slice(&life.to_be_bytes());
    EndpointId::from_random(id)
}

/// So many numbers are in one list.
const LENGTH: u64 = 20;

/// The key of the list that a node's process appends to when it has written so often.
fn list_of(node: usize, life: u64, written: u64) -> Encoded {
    Encoded::key(&format!("of {node} {life} {}", written / LENGTH))
}

fn tokens(list: &Encoded) -> Vec<u64> {
    list.view().to().unwrap_or_default()
}

/// All numbers in all lists.
fn all_tokens(lists: &Lists) -> BTreeSet<u64> {
    lists.values().flat_map(tokens).collect()
}

fn lists(entries: &crate::Entries) -> Lists {
    let entries = entries.iter();
    entries.map(|(k, e)| (k.clone(), e.value.clone())).collect()
}

impl World {
    fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Random::new(seed);
        let copies = if random.chance(30) { 3 } else { 2 };
        let is_persistent = random.chance(60);
        let loss = [0, 1, 10][random.below(3)];
        let starts = (0..NODES).map(|_| Mono(1 + random.number(1_500_000_000)));
        let node = |starts_at| Node {
            lives: 0,
            process: None,
            disk: MemoryBackend::default(),
            starts_at,
            cut_until: Mono(0),
        };
        Self {
            now: Mono(1),
            nodes: starts.map(node).collect(),
            random,
            sabotage,
            agenda: BTreeMap::new(),
            serial: 0,
            council: Council::new(copies, is_persistent),
            name: StoreName::new("s").unwrap(),
            is_persistent,
            is_bad: true,
            loss,
            asked: Vec::new(),
            questions: Vec::new(),
            shown: BTreeMap::new(),
            losses: 0,
            excused: BTreeSet::new(),
            promotions: 0,
            does_at: Some(Mono(1)),
            wrong: None,
        }
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

    fn later(&mut self, to: EndpointId, delay: Duration, event: Event) {
        self.serial += 1;
        let at = self.now.after(delay);
        self.agenda.insert((at, self.serial), (to, event));
    }

    fn number_of(&self, id: EndpointId) -> Option<usize> {
        let has = |node: &Node| node.process.as_ref().is_some_and(|it| it.id == id);
        self.nodes.iter().position(has)
    }

    fn backend(&self) -> Option<&'static str> {
        self.is_persistent.then_some("memory for tests")
    }

    /// A process starts and uses its store.
    fn start(&mut self, number: usize) {
        let now = self.clocks();
        let node = &mut self.nodes[number];
        node.lives += 1;
        let id = id(number, node.lives);
        let config = InstanceConfig {
            endpoint: id,
            number: 1,
            frame_limit: 1 << 20,
            rival_patience: Duration::from_secs(6),
        };
        let mut instance = Instance::new(self.name.clone(), config, now);
        instance.sabotage = self.sabotage;
        instance.set_watched(true);
        // The layout puts the primary on the first node, and whoever hears no coordinator goes by that.
        let is_alone = number == 0 && self.is_bad && self.random.chance(40);
        let wait = if is_alone { 3_000_000_000 } else { 50_000_000 };
        let hears_from = self
            .now
            .after(Duration::from_nanos(self.random.number(wait)));
        let kept = || {
            let entries = self.nodes[number].disk.persisted().entries;
            let kept = entries.into_iter().map(|(k, e)| (k, e.value)).collect();
            all_tokens(&kept)
        };
        let alone = is_alone.then(kept);
        self.nodes[number].process = Some(Process {
            instance,
            id,
            watched: Lists::new(),
            frozen_until: Mono(0),
            waiting: Vec::new(),
            hears_from,
            disk_until: self.now,
            alone,
            written: 0,
            read: (0, Lists::new()),
        });
        let placement = if is_alone {
            Placement::Primary {
                config: PrimaryConfig::default(),
                backend: self.backend(),
            }
        } else {
            Placement::Clone(CloneConfig::default())
        };
        let opens_late = self.random.chance(20);
        if opens_late && self.council.assignment().epoch > 0 {
            self.assign(number, self.council.assignment().clone());
        }
        if let Some(process) = &mut self.nodes[number].process {
            process.instance.open(placement, now);
        }
        self.council.comes(number, id, self.now);
        let known = self.council.assignment().clone();
        if known.epoch > 0 {
            self.tell_of(id, known);
        }
        for other in self.others(number) {
            let delay = Duration::from_millis(1 + self.random.number(100));
            self.later(other, delay, Event::Discovered);
        }
        self.collect(number);
    }

    /// What was not on disk is lost by rights.
    fn loses(&mut self) {
        self.losses += 1;
        self.shown.clear();
    }

    /// Somebody is a primary of his own accord, and answers as such.
    fn is_somebody_alone(&self) -> bool {
        let mut processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        processes.any(|process| process.alone.is_some())
    }

    /// The processes of other nodes.
    fn others(&self, number: usize) -> Vec<EndpointId> {
        let nodes = self.nodes.iter().enumerate();
        let others = nodes.filter(|(other, _)| *other != number);
        let processes = others.filter_map(|(_, node)| node.process.as_ref());
        processes.map(|process| process.id).collect()
    }

    /// Somebody hears of a decision, when he hears of anything.
    fn tell_of(&mut self, id: EndpointId, assignment: Assignment) {
        let Some(number) = self.number_of(id) else {
            return;
        };
        let node = &self.nodes[number];
        let hears_from = node.process.as_ref().map_or(self.now, |it| it.hears_from);
        let from = hears_from.max(node.cut_until).max(self.now);
        let wait = from.since(self.now) + Duration::from_millis(1 + self.random.number(30));
        self.later(id, wait, Event::Assigned(assignment));
    }

    fn assign(&mut self, number: usize, assignment: Assignment) {
        let (now, backend) = (self.clocks(), self.backend());
        if let Some(process) = &mut self.nodes[number].process {
            let led = process.instance.is_primary();
            let config = PrimaryConfig::default();
            process.instance.assign(assignment, &config, backend, now);
            self.promotions += u64::from(!led && process.instance.is_primary());
        }
        self.collect(number);
        if let Some(process) = &mut self.nodes[number].process {
            process.alone = None;
        }
    }

    fn kill(&mut self, number: usize) {
        let Some(process) = self.nodes[number].process.take() else {
            return;
        };
        if let (Some(before), Some(entries)) = (&process.alone, process.instance.entries()) {
            // Nobody else has what it wrote.
            let written = all_tokens(&lists(entries));
            self.excused.extend(written.difference(before));
            self.loses();
        }
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
        for other in self.others(number) {
            let delay = Duration::from_millis(1 + self.random.number(300));
            self.later(other, delay, Event::Lost(process.id));
        }
        let life = self.nodes[number].lives;
        for asked in &mut self.asked {
            asked.is_orphan |= (asked.node, asked.life) == (number, life);
        }
        for question in &mut self.questions {
            question.is_over |= question.node == number;
        }
    }

    fn write(&mut self, number: usize) {
        let now = self.clocks();
        let token = self.asked.len() as u64;
        let life = self.nodes[number].lives;
        let process = self.nodes[number].process.as_mut();
        let Some(process) = process.filter(|it| it.frozen_until <= now.mono) else {
            return;
        };
        let key = list_of(number, life, process.written);
        process.written += 1;
        let is_durable = self.is_persistent && self.random.chance(40);
        let level = if is_durable {
            Level::Durable
        } else {
            Level::Applied
        };
        let within = Duration::from_millis(300 + self.random.number(30_000));
        let deadline = self.now.after(within);
        self.asked.push(Asked {
            node: number,
            life,
            key: key.clone(),
            level,
            at: self.now,
            deadline,
            outcome: None,
            losses: self.losses,
            is_orphan: false,
        });
        let op = Op::Add {
            key,
            value: Encoded::of(&token),
            initial: Kind::Vector,
            ttl: None,
        };
        if let Some(process) = &mut self.nodes[number].process {
            let outcome = process
                .instance
                .write(op, level, token, Some(deadline), now);
            if let Some(outcome) = outcome {
                self.settled(token, outcome);
            }
        }
        self.collect(number);
    }

    fn ask(&mut self, number: usize) {
        let now = self.clocks();
        let of = self.random.below(NODES);
        let process = self.nodes[of].process.as_ref();
        let written = process.map_or(0, |process| process.written);
        let written = written.saturating_sub(self.random.number(2 * LENGTH));
        let key = list_of(of, self.nodes[of].lives, written);
        let is_frozen = |process: &Process| process.frozen_until > now.mono;
        if self.nodes[number].process.as_ref().is_none_or(is_frozen) {
            return;
        }
        let acknowledged = self.asked.iter().zip(0_u64..).filter(|(asked, _)| {
            let is_done = matches!(asked.outcome, Some(Ok(crate::op::Answer::Done { .. })));
            asked.key == key && is_done && asked.losses == self.losses
        });
        let acknowledged = acknowledged.map(|(_, token)| token);
        let shown = self.shown.get(&key).into_iter().flatten().copied();
        let mut expected = acknowledged.chain(shown).collect();
        if self.is_somebody_alone() {
            expected = BTreeSet::new();
        }
        let request = self.questions.len() as u64;
        let deadline = self.now.after(Duration::from_secs(20));
        self.questions.push(Question {
            node: number,
            key: key.clone(),
            deadline,
            expected,
            losses: self.losses,
            is_over: false,
        });
        if let Some(process) = &mut self.nodes[number].process {
            let query = Query::Get(key);
            process.instance.query(request, query, deadline, now);
        }
        self.collect(number);
    }

    /// Something goes wrong, of one node at a time; or somebody wants the copies otherwise.
    fn trouble(&mut self) {
        let number = self.random.below(NODES);
        let span = Duration::from_millis(50 + self.random.number(6_000));
        let until = self.now.after(span);
        match self.random.below(9) {
            0 | 1 => self.kill(number),
            2 => {
                if let Some(process) = &mut self.nodes[number].process {
                    process.frozen_until = until;
                    self.council.is_silent(number, self.now, until);
                }
            }
            3 => {
                self.nodes[number].cut_until = until;
                if self.nodes[number].process.is_some() {
                    self.council.is_silent(number, self.now, until);
                }
            }
            4 => {
                let operations = self.random.number(4);
                self.nodes[number].disk.fail_after(operations);
            }
            5 | 6 => self.nodes.iter().for_each(|node| node.disk.mend()),
            7 => self.council.moves(self.now),
            _ => self
                .council
                .drops(self.now, self.random.number(NODES as u64)),
        }
    }

    fn happen(&mut self, to: EndpointId, event: Event) {
        let now = self.clocks();
        let Some(number) = self.number_of(to) else {
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
                let hears = process.instance.hears();
                let (_, for_primary) = StoreMessage::addressee(&bytes).unwrap();
                let is_heard = if for_primary {
                    hears.for_primary
                } else {
                    hears.for_clones
                };
                if is_heard {
                    let message = StoreMessage::decode(&bytes).unwrap();
                    process.instance.receive(from, message, now);
                }
            }
            Event::Assigned(assignment) => return self.assign(number, assignment),
            Event::Loaded { limit } => {
                let restored = Restored::load(&mut node.disk, limit).ok();
                process.instance.loaded(restored, now);
            }
            Event::Committed(commit) => {
                let failed = node.disk.commit(&commit).is_err().then_some(commit);
                process.instance.committed(failed, now);
            }
            Event::Listening => process.instance.listening(now),
            Event::Lost(id) => process.instance.lost(id, now),
            Event::Discovered => process.instance.discovered(now),
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
            Some(process) => process.instance.next_tick(now),
        });
        let others = [event, Some(self.council.next(self.now)), self.does_at];
        let all = nodes.chain(others.into_iter().flatten());
        all.min().unwrap_or(self.now).max(Mono(self.now.0 + 1000))
    }

    /// Lets time pass.
    fn run(&mut self, span: Duration) -> Result<(), Wrong> {
        let end = self.now.after(span);
        while self.now < end {
            self.now = self.next().min(end);
            while let Some(first) = self.agenda.first_entry()
                && first.key().0 <= self.now
            {
                let (to, event) = first.remove();
                self.happen(to, event);
            }
            for number in 0..NODES {
                self.look_at(number);
            }
            if let Some(decided) = self.council.decide(self.now) {
                if decided.began == decided.epoch && decided.epoch > 1 {
                    self.loses();
                }
                for id in self.council.lives() {
                    self.tell_of(id, decided.clone());
                }
            }
            if self.is_bad {
                self.act();
            } else {
                self.does_at = None;
            }
            if let Some(wrong) = self.wrong.take() {
                return Err(wrong);
            }
        }
        self.check_time()
    }

    /// What is due at a node.
    fn look_at(&mut self, number: usize) {
        let now = self.clocks();
        let node = &mut self.nodes[number];
        let Some(process) = &mut node.process else {
            if node.starts_at <= self.now {
                self.start(number);
            }
            return;
        };
        if process.frozen_until > self.now {
            return;
        }
        let id = process.id;
        for event in std::mem::take(&mut process.waiting) {
            self.happen(id, event);
        }
        if let Some(process) = &mut self.nodes[number].process
            && process.instance.next_tick(now) <= now.mono
        {
            process.instance.tick(now);
            self.collect(number);
            self.check_rest(number);
        }
    }

    /// Somebody does something, or something goes wrong.
    fn act(&mut self) {
        if self.does_at.is_some_and(|at| at > self.now) {
            return;
        }
        let wait = Duration::from_micros(200 + self.random.number(60_000));
        self.does_at = Some(self.now.after(wait));
        let number = self.random.below(NODES);
        match self.random.number(100) {
            0..=69 => self.write(number),
            70..=94 => self.ask(number),
            _ if self.council.is_redundant() || self.random.chance(10) => self.trouble(),
            _ => {}
        }
    }

    /// All that is wrong ends.
    fn heal(&mut self) {
        self.is_bad = false;
        let now = self.now;
        for node in &mut self.nodes {
            node.cut_until = now;
            node.starts_at = node.starts_at.min(now);
            node.disk.mend();
            if let Some(process) = &mut node.process {
                process.frozen_until = now;
                process.hears_from = now;
            }
        }
        self.council.heals(now);
        // Whoever was cut off hears of the last decision.
        for id in self.council.lives() {
            let known = self.council.assignment().clone();
            if known.epoch > 0 {
                self.tell_of(id, known);
            }
        }
    }
}
