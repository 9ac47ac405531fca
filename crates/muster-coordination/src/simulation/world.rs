//! Boxes with coordinators and nodes, a network between them, and what goes wrong, from one seed.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_cluster::coordination::{Lease, Renew, View, event};
use muster_test_support::Random;
use muster_wire::{EndpointId, Mono};

use super::actors::{Disk, Part, Process, Seen, Write};
use super::histories::Histories;
use super::oracle::Oracle;
use super::stores::Stores;
use crate::{Config, Coordinator, Output, Sabotage, Severity};

pub(super) enum Happening {
    Deliver {
        from: (usize, EndpointId),
        to: usize,
        life: EndpointId,
        bytes: Vec<u8>,
    },
    Written(usize, u64),
    Wake(usize),
    Start(usize),
    /// Whether the mesh of a coordinator reaches a life of a process.
    Reach {
        at: usize,
        of: usize,
        life: EndpointId,
        reached: bool,
    },
    /// A coordinator has a new file, and what it had is put aside.
    Renewed(usize, u64),
    Trouble,
}

/// What a run has done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) steps: u64,
    pub(super) crashes: u64,
    pub(super) freezes: u64,
    pub(super) hangs: u64,
    pub(super) cuts: u64,
    pub(super) wiped: u64,
    pub(super) left: u64,
    pub(super) epochs: u64,
    pub(super) silent: u64,
    pub(super) alone: u64,
    pub(super) isolated: u64,
    pub(super) ambushes: u64,
    pub(super) moves: u64,
    pub(super) promotions: u64,
    pub(super) restarts: u64,
    pub(super) joins: u64,
    pub(super) shrinks: u64,
}

pub(super) struct World {
    pub(super) now: Mono,
    pub(super) agenda: BTreeMap<(Mono, u64), Happening>,
    pub(super) sequence: u64,
    pub(super) random: Random,
    pub(super) boxes: Vec<String>,
    pub(super) voters: usize,
    pub(super) processes: Vec<Process>,
    /// Until when a box hears nothing, and is not heard.
    pub(super) deaf: Vec<Mono>,
    pub(super) dumb: Vec<Mono>,
    pub(super) loss: u64,
    pub(super) slowest: u64,
    pub(super) healed: bool,
    /// The box that is in trouble; another one follows when it is out of it.
    pub(super) troubled_until: Mono,
    /// Somebody goes on alone by an operator's word: others put aside what they have.
    pub(super) recovered: bool,
    /// For how long the next box is in trouble that proposes something, just then.
    pub(super) ambush: Option<u64>,
    pub(super) oracle: Oracle,
    pub(super) stores: Stores,
    pub(super) histories: Histories,
    pub(super) sabotage: Sabotage,
    pub(super) account: Account,
    pub(super) reports: Vec<String>,
}

pub(super) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn life(random: &mut Random) -> EndpointId {
    EndpointId::from_random(random.bytes())
}

impl World {
    pub(super) fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Random::new(seed);
        let voters = [3, 3, 1, 5][random.below(4)];
        let count = voters.max(2) + random.below(2);
        let mut world = Self::of(random, voters, count, sabotage);
        world.loss = [0, 2, 10][world.random.below(3)];
        world.slowest = [3, 30, 100][world.random.below(3)];
        if world.random.chance(80) {
            world.with_stores();
        }
        for at in 0..world.processes.len() {
            let late = if world.random.chance(20) { 4000 } else { 300 };
            let wait = world.random.below(late) as u64;
            world.processes[at].starts_at = world.now.after(ms(wait));
            world.after(wait, Happening::Start(at));
        }
        world.after(500, Happening::Trouble);
        world
    }

    /// Boxes of which none has started, and that nothing happens to by itself.
    pub(super) fn of(mut random: Random, voters: usize, count: usize, sabotage: Sabotage) -> Self {
        let boxes: Vec<String> = (0..count).map(|at| format!("box-{at}")).collect();
        let mut processes = Vec::new();
        let mut process = |name: String, box_at, part, random: &mut Random| {
            processes.push(Process {
                name,
                box_at,
                life: life(random),
                lives: 0,
                is_up: false,
                frozen_until: Mono(0),
                wake_at: Mono(u64::MAX),
                starts_at: Mono(0),
                rate: 950 + random.below(101) as u64,
                seen: Seen::default(),
                part,
            });
        };
        for (at, name) in boxes.iter().enumerate() {
            if at < voters {
                let disk = Disk::new(&mut random);
                let part = Part::Coordinator {
                    coordinator: None,
                    disk,
                };
                process(format!("agent.{name}"), at, part, &mut random);
            }
            // The third box is a witness.
            for number in 0..if at == 2 { 0 } else { 2 } {
                let part = Part::Node {
                    lease: Lease::new(Mono(0)),
                    view: View::default(),
                    hangs_until: Mono(0),
                };
                process(format!("node-{at}-{number}"), at, part, &mut random);
            }
        }
        Self {
            now: Mono(0),
            agenda: BTreeMap::new(),
            sequence: 0,
            deaf: vec![Mono(0); boxes.len()],
            dumb: vec![Mono(0); boxes.len()],
            boxes,
            voters,
            loss: 0,
            slowest: 3,
            recovered: false,
            healed: false,
            troubled_until: Mono(0),
            ambush: None,
            oracle: Oracle::default(),
            stores: Stores::default(),
            histories: Histories::default(),
            sabotage,
            account: Account::default(),
            reports: Vec::new(),
            processes,
            random,
        }
    }

    pub(super) fn at(&mut self, time: Mono, happening: Happening) {
        self.sequence += 1;
        self.agenda.insert((time, self.sequence), happening);
    }

    pub(super) fn after(&mut self, millis: u64, happening: Happening) {
        self.at(self.now.after(ms(millis)), happening);
    }

    /// Runs for some time, or until a rule is broken.
    pub(super) fn run(&mut self, millis: u64) -> Result<(), String> {
        let end = self.now.after(ms(millis));
        while let Some(next) = self.agenda.first_entry() {
            if next.key().0 > end {
                break;
            }
            self.now = next.key().0;
            let happening = next.remove();
            self.account.steps += 1;
            self.happen(happening)
                .map_err(|error| format!("at {} ms: {error}", self.now.0 / 1_000_000))?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Start(at) => self.start(at),
            Happening::Wake(at) => self.wake(at),
            Happening::Written(at, lives) => self.written(at, lives),
            Happening::Deliver {
                from,
                to,
                life,
                bytes,
            } => self.deliver(from, to, life, bytes),
            Happening::Reach {
                at,
                of,
                life,
                reached,
            } => self.reaches(at, of, life, reached),
            Happening::Renewed(at, lives) => self.renewed(at, lives),
            Happening::Trouble => {
                self.trouble();
                Ok(())
            }
        }
    }

    pub(super) fn start(&mut self, at: usize) -> Result<(), String> {
        let now = self.now;
        if self.processes[at].is_up || self.processes[at].starts_at > now {
            return Ok(());
        }
        let new = life(&mut self.random);
        let random = self.random.next();
        let config = self.config(self.processes[at].box_at);
        let process = &mut self.processes[at];
        let clock = process.clock(now);
        process.is_up = true;
        process.life = new;
        process.lives += 1;
        process.wake_at = Mono(u64::MAX);
        process.seen = Seen::default();
        match &mut process.part {
            Part::Coordinator { coordinator, disk } => {
                (disk.is_renewing, disk.recovers) = (false, false);
                disk.waiting.clear();
                let made = Coordinator::new(config, disk.id, disk.kept.clone(), clock, random);
                let mut made = made.map_err(|error| format!("a voter's own file: {error}"))?;
                made.sabotage(self.sabotage);
                *coordinator = Some(Box::new(made));
            }
            Part::Node { lease, view, .. } => {
                *lease = Lease::new(clock);
                *view = View::default();
            }
        }
        self.tell_reach(at, true, 5);
        self.reach_others(at);
        self.after(0, Happening::Wake(at));
        self.processes[at].wake_at = now;
        Ok(())
    }

    pub(super) fn config(&self, me: usize) -> Config {
        let nodes = self.processes.iter();
        let nodes = nodes.filter(|it| matches!(it.part, Part::Node { .. }));
        Config {
            me: self.boxes[me].clone(),
            voters: self.boxes[..self.voters].to_vec(),
            witnesses: self.boxes.get(2).cloned().into_iter().collect(),
            nodes: nodes
                .map(|it| (it.name.clone(), self.boxes[it.box_at].clone()))
                .collect(),
        }
    }

    /// Returns when a process that is stopped goes on.
    pub(super) fn stopped_until(&self, at: usize) -> Option<Mono> {
        let until = self.processes[at].frozen_until;
        (until > self.now).then_some(until)
    }

    fn wake(&mut self, at: usize) -> Result<(), String> {
        if !self.processes[at].is_up || self.processes[at].wake_at > self.now {
            return Ok(());
        }
        if let Some(until) = self.stopped_until(at) {
            self.processes[at].wake_at = until;
            self.at(until, Happening::Wake(at));
            return Ok(());
        }
        self.processes[at].wake_at = Mono(u64::MAX);
        let clock = self.processes[at].clock(self.now);
        if let Part::Coordinator {
            coordinator: Some(coordinator),
            ..
        } = &mut self.processes[at].part
        {
            coordinator.tick(clock, self.now.0 / 1_000_000_000);
        }
        match self.processes[at].part {
            Part::Node { .. } => self.turn(at),
            Part::Coordinator { .. } => self.order_at_times(at),
        }
        self.drain(at)
    }

    /// A node's loop turns.
    pub(super) fn turn(&mut self, at: usize) {
        let now = self.now;
        let process = &mut self.processes[at];
        let clock = process.clock(now);
        let (name, box_name) = (process.name.clone(), self.boxes[process.box_at].clone());
        let lives = process.lives;
        let Part::Node {
            lease, hangs_until, ..
        } = &mut process.part
        else {
            return;
        };
        if *hangs_until > now {
            return;
        }
        lease.turn(clock);
        if let Some(renewal) = lease.renew(clock) {
            let renew = Renew {
                node: name,
                box_name,
                incarnation: lives,
                session: lease.session(),
                number: renewal.number,
                alone: Some(renewal.to.is_some()),
            };
            self.renews(at, renewal.to.as_deref(), &event(&renew));
        }
        self.speak_of_stores(at);
    }

    fn written(&mut self, at: usize, lives: u64) -> Result<(), String> {
        if self.processes[at].lives != lives || !self.processes[at].is_up {
            return Ok(());
        }
        if let Some(until) = self.stopped_until(at) {
            self.at(until, Happening::Written(at, lives));
            return Ok(());
        }
        if let Part::Coordinator {
            coordinator: Some(coordinator),
            disk,
        } = &mut self.processes[at].part
        {
            match disk.write() {
                Some((_, true)) => coordinator.begun(),
                Some((number, false)) => coordinator.persisted(number),
                None => {}
            }
        }
        self.drain(at)
    }

    /// Does what a process wants done, and looks at what it shows.
    pub(super) fn drain(&mut self, at: usize) -> Result<(), String> {
        let lives = self.processes[at].lives;
        while let Part::Coordinator {
            coordinator: Some(coordinator),
            disk,
        } = &mut self.processes[at].part
        {
            let Some(output) = coordinator.poll() else {
                break;
            };
            match output {
                Output::Begin(_) | Output::Persist(..) | Output::Send(..) if disk.is_renewing => {}
                Output::Begin(kept) => {
                    disk.waiting.push_back((0, Write::Begin(kept)));
                    let wait = 1 + self.random.below(10) as u64;
                    self.after(wait, Happening::Written(at, lives));
                }
                Output::Persist(number, batch) => {
                    let is_proposal = coordinator.decides() && !batch.entries.is_empty();
                    disk.waiting.push_back((number, Write::Batch(batch)));
                    let wait = 1 + self.random.below(10) as u64;
                    self.after(wait, Happening::Written(at, lives));
                    if is_proposal {
                        self.spring(at);
                    }
                }
                Output::Retire if self.recovered => self.renew(at),
                Output::Retire => return Err("I3: a voter has to give up its group".to_owned()),
                Output::Report(severity, text) => {
                    if severity == Severity::Error {
                        return Err(text);
                    }
                    self.reports.push(text);
                }
                Output::Send(to, bytes) => self.route(at, &to, &bytes)?,
            }
        }
        self.schedule(at);
        self.check(at)
    }

    fn schedule(&mut self, at: usize) {
        let process = &self.processes[at];
        if !process.is_up {
            return;
        }
        let next = match &process.part {
            Part::Coordinator {
                coordinator: Some(coordinator),
                ..
            } => coordinator.next_tick(),
            Part::Coordinator { .. } => return,
            Part::Node {
                lease, hangs_until, ..
            } => {
                // Its loop rests for 100 ms at most.
                let rest = process.clock(self.now).after(ms(100));
                lease.next().min(rest).max(process.clock(*hangs_until))
            }
        };
        let next = process.true_time(next).max(self.now);
        if next < process.wake_at {
            self.processes[at].wake_at = next;
            self.at(next, Happening::Wake(at));
        }
    }
}
