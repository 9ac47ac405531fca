//! Instances on several nodes over a bad network, with disks that are slow or fail and processes that die, from one
//! seed; and what an observer of all of them checks.
//!
//! A node opens its store when it first uses it, and once more at any time. The node that should have the primary
//! opens it when another node asks it to, or when it writes itself.

mod check;
mod outputs;
mod sabotage;
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use muster_data::{Kind, Timestamp};
use muster_test_support::Random;
use muster_wire::{EndpointId, Mono};

use super::{Instance, InstanceConfig, Placement};
use crate::op::{Answer, Op};
use crate::protocol::{Query, StoreMessage};
use crate::{
    Backend, CloneConfig, Commit, Encoded, Level, MemoryBackend, Now, PrimaryConfig, Restored,
    State, StoreBudget, StoreName, Token, WriteOutcome,
};

pub(super) use check::Violation;
pub(crate) use sabotage::Sabotage;

/// What a run is like.
#[derive(Debug, Clone, Copy)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "what may be the case in any combination"
)]
pub(super) struct Scenario {
    pub(super) nodes: usize,
    pub(super) is_persistent: bool,
    /// Whether the primary's node writes itself; otherwise it opens the store when it is asked.
    pub(super) primary_writes: bool,
    /// Whether processes die and disks fail.
    pub(super) has_faults: bool,
    /// Whether a second node believes that it has the primary, towards the end.
    pub(super) has_rival: bool,
    /// What the stores of each process may take together, in bytes.
    pub(super) budget: Option<usize>,
    /// Whether other stores leave room in the end.
    pub(super) has_room_in_the_end: bool,
}

impl Scenario {
    pub(super) fn of(seed: u64) -> Self {
        Self {
            nodes: 2 + usize::try_from(seed % 3).unwrap(),
            is_persistent: !seed.is_multiple_of(4),
            primary_writes: seed % 2 == 1,
            has_faults: !seed.is_multiple_of(5),
            has_rival: seed % 7 == 3,
            budget: (seed % 6 == 5).then_some(1000),
            has_room_in_the_end: seed % 4 < 2,
        }
    }
}

/// One process of a node.
#[derive(Debug)]
struct Process {
    instance: Instance,
    endpoint: EndpointId,
    /// What its watchers were told of, applied to an empty table.
    watched: BTreeMap<Encoded, Encoded>,
    rival: Option<EndpointId>,
    budget: StoreBudget,
    /// It has the same budget.
    other_store: State,
}

#[derive(Debug)]
struct Node {
    /// How many processes it has had.
    lives: u64,
    is_up: bool,
    process: Option<Process>,
    disk: MemoryBackend,
    /// What it is told that it is.
    is_primary: bool,
}

#[derive(Debug)]
enum Event {
    Message {
        from: EndpointId,
        bytes: Vec<u8>,
    },
    AskedToOpen,
    Listening,
    /// Another process is in reach, or is not any more.
    Discovered,
    Lost(EndpointId),
    Loaded {
        limit: usize,
    },
    Committed(Commit),
}

/// What was written, and what became of it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) token: Token,
    /// The node and its process.
    pub(super) writer: (usize, u64),
    pub(super) level: Level,
    pub(super) deadline: Mono,
    pub(super) outcome: Option<WriteOutcome>,
    /// The process is gone: nobody waits.
    pub(super) is_orphan: bool,
}

/// What was asked of the primary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) node: usize,
    /// Whether it was answered, and not given up.
    pub(super) end: Option<bool>,
}

pub(super) struct World {
    pub(super) scenario: Scenario,
    sabotage: Sabotage,
    random: Random,
    is_bad: bool,
    pub(super) now: Mono,
    events: BTreeMap<(Mono, u64), (usize, u64, Event)>,
    serial: u64,
    name: StoreName,
    nodes: Vec<Node>,
    pub(super) asked: Vec<Asked>,
    pub(super) questions: Vec<Question>,
    /// The primary's process died, with what was not on disk.
    pub(super) has_lost: bool,
    /// The copies that were given up because there was no room, and those of them that came back.
    pub(super) given_up: usize,
    pub(super) fetched_again: usize,
    pub(super) violation: Option<Violation>,
}

impl World {
    pub(super) fn new(seed: u64, scenario: Scenario, sabotage: Sabotage) -> Self {
        let node = |number| Node {
            lives: 0,
            is_up: true,
            process: None,
            disk: MemoryBackend::default(),
            is_primary: number == 0,
        };
        Self {
            scenario,
            sabotage,
            random: Random::new(seed),
            is_bad: true,
            now: Mono(1),
            events: BTreeMap::new(),
            serial: 0,
            name: StoreName::new("s").unwrap(),
            nodes: (0..scenario.nodes).map(node).collect(),
            asked: Vec::new(),
            questions: Vec::new(),
            has_lost: false,
            given_up: 0,
            fetched_again: 0,
            violation: None,
        }
    }

    fn clocks(&self) -> Now {
        Now {
            mono: self.now,
            wall: Timestamp::from_nanos(i64::try_from(self.now.0).unwrap()),
        }
    }

    fn fails(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    fn number_of(&self, endpoint: EndpointId) -> Option<usize> {
        self.nodes.iter().position(|node| {
            let process = node.process.as_ref();
            process.is_some_and(|process| process.endpoint == endpoint)
        })
    }

    /// A node uses its store, or is asked for it.
    fn open(&mut self, number: usize) {
        let now = self.clocks();
        let process = self.nodes[number].process.as_ref();
        let budget = match (process, self.scenario.budget) {
            (Some(process), _) => process.budget.clone(),
            (None, Some(limit)) => StoreBudget::new(limit),
            (None, None) => StoreBudget::default(),
        };
        let placement = self.placement(number, budget.clone());
        let is_new = self.nodes[number].process.is_none();
        let node = &mut self.nodes[number];
        let process = node.process.get_or_insert_with(|| {
            node.lives += 1;
            let mut id = [0; 16];
            id[0] = u8::try_from(number).unwrap();
            id[8..].copy_from_slice(&node.lives.to_be_bytes());
            let endpoint = EndpointId::from_random(id);
            let config = InstanceConfig {
                endpoint,
                number: 1,
                frame_limit: 1 << 20,
                rival_patience: Duration::from_secs(6),
            };
            let mut instance = Instance::new(self.name.clone(), config, now);
            instance.sabotage = self.sabotage;
            instance.set_watched(true);
            Process {
                instance,
                endpoint,
                watched: BTreeMap::new(),
                rival: None,
                other_store: {
                    let mut other = State::default();
                    other.join(&budget);
                    other
                },
                budget,
            }
        });
        process.instance.open(placement, now);
        self.collect(number);
        if is_new {
            self.tell_others(number, || Event::Discovered);
        }
    }

    /// The mesh tells of processes that come and go.
    fn tell_others(&mut self, number: usize, event: impl Fn() -> Event) {
        for other in (0..self.nodes.len()).filter(|other| *other != number) {
            let delay = Duration::from_millis(1 + self.random.number(100));
            self.schedule(other, delay, event());
        }
    }

    fn placement(&self, number: usize, budget: StoreBudget) -> Placement {
        if self.nodes[number].is_primary {
            return Placement::Primary {
                config: PrimaryConfig {
                    budget,
                    ..PrimaryConfig::default()
                },
                backend: self.scenario.is_persistent.then_some("memory for tests"),
            };
        }
        Placement::Clone(CloneConfig {
            ask_to_open: true,
            budget,
            ..CloneConfig::default()
        })
    }

    /// A process dies. What its disk is doing is done, or not.
    fn kill(&mut self, number: usize) {
        let life = self.nodes[number].lives;
        self.nodes[number].is_up = false;
        let process = self.nodes[number].process.take();
        let under_way = self.events.extract_if(.., |_, (node, of, event)| {
            (*node, *of) == (number, life) && matches!(event, Event::Committed(_))
        });
        let under_way: Vec<_> = under_way.map(|(_, (_, _, event))| event).collect();
        for event in under_way {
            if let Event::Committed(commit) = event
                && self.random.chance(50)
            {
                let _ = self.nodes[number].disk.commit(&commit);
            }
        }
        if let Some(process) = process {
            self.tell_others(number, || Event::Lost(process.endpoint));
        }
        self.has_lost |= number == 0;
        for asked in &mut self.asked {
            asked.is_orphan |= asked.writer == (number, life);
        }
        for question in &mut self.questions {
            if question.node == number {
                question.end.get_or_insert(true);
            }
        }
    }

    /// A node pushes a number of its own to its own list, perhaps before its store is open.
    fn write(&mut self, number: usize, level: Level, within: Duration) {
        if self.nodes[number].process.is_none() {
            self.open(number);
        }
        let now = self.clocks();
        let token = self.asked.len() as Token;
        let life = self.nodes[number].lives;
        let deadline = now.mono.after(within);
        self.asked.push(Asked {
            token,
            writer: (number, life),
            level,
            deadline,
            outcome: None,
            is_orphan: false,
        });
        let op = Op::Add {
            key: list_of(number, life),
            value: Encoded::of(&token),
            initial: Kind::Vector,
            ttl: None,
        };
        let Some(process) = &mut self.nodes[number].process else {
            return;
        };
        let outcome = process
            .instance
            .write(op, level, token, Some(deadline), now);
        if let Some(outcome) = outcome {
            self.settled(token, outcome);
        }
        self.collect(number);
    }

    fn ask(&mut self, number: usize) {
        let now = self.clocks();
        let deadline = now.mono.after(Duration::from_secs(20));
        let request = self.questions.len() as u64;
        if let Some(process) = &mut self.nodes[number].process {
            let query = Query::Size;
            process.instance.query(request, query, deadline, now);
            self.questions.push(Question {
                node: number,
                end: None,
            });
        }
        self.collect(number);
    }

    fn settled(&mut self, token: Token, outcome: WriteOutcome) {
        let asked = &mut self.asked[usize::try_from(token).unwrap()];
        if asked.outcome.is_some() {
            return self.fails(Violation::SettledTwice);
        }
        let is_done = matches!(outcome, Ok(Answer::Done { .. }));
        asked.outcome = Some(outcome);
        let (level, key) = (asked.level, list_of(asked.writer.0, asked.writer.1));
        if level == Level::Durable && is_done && !self.is_on_disk(&key, token) {
            self.fails(Violation::NotOnDisk);
        }
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        loop {
            let now = self.clocks();
            let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
            let ticks = processes.map(|process| process.instance.next_tick(now));
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let next = ticks.chain(event).min().unwrap_or(end);
            let next = next.max(Mono(self.now.0 + 1));
            if next > end {
                self.now = end;
                return self.check_deadlines();
            }
            self.now = next;
            while let Some(first) = self.events.first_entry()
                && first.key().0 <= self.now
            {
                let (number, life, event) = first.remove();
                self.happen(number, life, event);
            }
            let now = self.clocks();
            for number in 0..self.nodes.len() {
                if let Some(process) = &mut self.nodes[number].process
                    && process.instance.next_tick(now) <= now.mono
                {
                    process.instance.tick(now);
                    self.collect(number);
                }
            }
        }
    }

    fn happen(&mut self, number: usize, life: u64, event: Event) {
        let now = self.clocks();
        if let Event::AskedToOpen = event {
            // The event is for whatever process the node has.
            if self.nodes[number].is_up {
                self.open(number);
            }
            return;
        }
        let node = &mut self.nodes[number];
        let Some(process) = node.process.as_mut().filter(|_| node.lives == life) else {
            return;
        };
        match event {
            Event::Message { from, bytes } => {
                let message = StoreMessage::decode(&bytes).unwrap();
                process.instance.receive(from, message, now);
            }
            Event::Listening => process.instance.listening(now),
            Event::Discovered => process.instance.discovered(now),
            Event::Lost(endpoint) => process.instance.lost(endpoint, now),
            Event::Loaded { limit } => {
                let restored = Restored::load(&mut node.disk, limit).ok();
                process.instance.loaded(restored, now);
            }
            Event::Committed(commit) => {
                let failed = node.disk.commit(&commit).is_err().then_some(commit);
                process.instance.committed(failed, now);
            }
            Event::AskedToOpen => {}
        }
        self.collect(number);
    }

    fn schedule(&mut self, number: usize, delay: Duration, event: Event) {
        self.serial += 1;
        let at = self.now.after(delay);
        let life = self.nodes[number].lives;
        self.events.insert((at, self.serial), (number, life, event));
    }
}

/// The key of the list that a node's process appends to.
fn list_of(number: usize, life: u64) -> Encoded {
    Encoded::key(&format!("of {number} {life}"))
}
