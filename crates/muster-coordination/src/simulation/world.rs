//! Boxes with coordinators and nodes, a network between them, and what goes wrong, from one seed.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_cluster::coordination::{Lease, NotTaken};
use muster_cluster::coordination::{
    LeaseAnswer, Leaving, Renew, Standing, View, ViewUpdate, ViewWanted, event,
};
use muster_consensus::DiskId;
use muster_data::{DataRef, Record};
use muster_test_support::Random;
use muster_wire::zeek::Message;
use muster_wire::{EndpointId, Mono};

use super::actors::{Disk, DiskId0, Part, Process, Write};
use super::oracle::Oracle;
use crate::{Config, Coordinator, Output, Sabotage, Severity, To};

enum Happening {
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
}

pub(super) struct World {
    pub(super) now: Mono,
    agenda: BTreeMap<(Mono, u64), Happening>,
    sequence: u64,
    random: Random,
    boxes: Vec<String>,
    voters: usize,
    processes: Vec<Process>,
    /// Until when a box hears nothing, and is not heard.
    deaf: Vec<Mono>,
    dumb: Vec<Mono>,
    loss: u64,
    slowest: u64,
    healed: bool,
    /// The box that is in trouble; another one follows when it is out of it.
    troubled_until: Mono,
    oracle: Oracle,
    sabotage: Sabotage,
    pub(super) account: Account,
    pub(super) reports: Vec<String>,
}

fn ms(count: u64) -> Duration {
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
                part,
            });
        };
        for (at, name) in boxes.iter().enumerate() {
            if at < voters {
                let disk = Disk {
                    id: DiskId0(DiskId(random.bytes())),
                    ..Disk::default()
                };
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
        let mut world = Self {
            now: Mono(0),
            agenda: BTreeMap::new(),
            sequence: 0,
            deaf: vec![Mono(0); boxes.len()],
            dumb: vec![Mono(0); boxes.len()],
            boxes,
            voters,
            loss: [0, 2, 10][random.below(3)],
            slowest: [3, 30, 100][random.below(3)],
            healed: false,
            troubled_until: Mono(0),
            oracle: Oracle::default(),
            sabotage,
            account: Account::default(),
            reports: Vec::new(),
            processes,
            random,
        };
        for at in 0..world.processes.len() {
            let late = if world.random.chance(20) { 4000 } else { 300 };
            let wait = world.random.below(late) as u64;
            world.processes[at].starts_at = world.now.after(ms(wait));
            world.after(wait, Happening::Start(at));
        }
        world.after(500, Happening::Trouble);
        world
    }

    fn at(&mut self, time: Mono, happening: Happening) {
        self.sequence += 1;
        self.agenda.insert((time, self.sequence), happening);
    }

    fn after(&mut self, millis: u64, happening: Happening) {
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
            Happening::Trouble => self.trouble(),
        }
    }

    fn start(&mut self, at: usize) -> Result<(), String> {
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
        match &mut process.part {
            Part::Coordinator { coordinator, disk } => {
                disk.waiting.clear();
                let made = Coordinator::new(config, disk.id.0, disk.kept.clone(), clock, random);
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

    fn config(&self, me: usize) -> Config {
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

    /// The meshes of all coordinators hear that a life of a process is in reach, or is not.
    fn tell_reach(&mut self, of: usize, reached: bool, within: u64) {
        let life = self.processes[of].life;
        for at in 0..self.processes.len() {
            if at != of && matches!(self.processes[at].part, Part::Coordinator { .. }) {
                let wait = 1 + self.random.below(within as usize) as u64;
                let news = Happening::Reach {
                    at,
                    of,
                    life,
                    reached,
                };
                self.after(wait, news);
            }
        }
    }

    /// A coordinator that starts hears who is in reach.
    fn reach_others(&mut self, at: usize) {
        if !matches!(self.processes[at].part, Part::Coordinator { .. }) {
            return;
        }
        for of in 0..self.processes.len() {
            if of != at && self.processes[of].is_up {
                let life = self.processes[of].life;
                let wait = 1 + self.random.below(20) as u64;
                let news = Happening::Reach {
                    at,
                    of,
                    life,
                    reached: true,
                };
                self.after(wait, news);
            }
        }
    }

    /// Returns when a process that is stopped goes on.
    fn stopped_until(&self, at: usize) -> Option<Mono> {
        let until = self.processes[at].frozen_until;
        (until > self.now).then_some(until)
    }

    fn reaches(
        &mut self,
        at: usize,
        of: usize,
        life: EndpointId,
        reached: bool,
    ) -> Result<(), String> {
        if let Some(until) = self.stopped_until(at) {
            let news = Happening::Reach {
                at,
                of,
                life,
                reached,
            };
            self.at(until, news);
            return Ok(());
        }
        let name = self.processes[of].name.clone();
        let clock = self.processes[at].clock(self.now);
        if let Part::Coordinator {
            coordinator: Some(coordinator),
            ..
        } = &mut self.processes[at].part
        {
            coordinator.reaches(life, &name, reached, clock);
        }
        self.drain(at)
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
        if matches!(self.processes[at].part, Part::Node { .. }) {
            self.turn(at);
        }
        self.drain(at)
    }

    /// A node's loop turns.
    fn turn(&mut self, at: usize) {
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
        if let Some(number) = lease.renew(clock) {
            let renew = Renew {
                node: name,
                box_name,
                incarnation: lives,
                session: lease.session(),
                number,
            };
            self.to_voters(at, &event(&renew));
        }
    }

    fn to_voters(&mut self, from: usize, bytes: &[u8]) {
        for to in 0..self.processes.len() {
            if matches!(self.processes[to].part, Part::Coordinator { .. }) {
                self.send(from, to, bytes.to_vec());
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        let (source, target) = (&self.processes[from], &self.processes[to]);
        let crosses = source.box_at != target.box_at;
        let is_cut = self.dumb[source.box_at] > self.now || self.deaf[target.box_at] > self.now;
        let (life, sender) = (target.life, (from, source.life));
        if crosses && (is_cut || self.random.below(100) < self.loss as usize) {
            return;
        }
        let wait = 1 + self.random.below(self.slowest as usize) as u64;
        let deliver = Happening::Deliver {
            from: sender,
            to,
            life,
            bytes,
        };
        self.after(wait, deliver);
    }

    fn deliver(
        &mut self,
        from: (usize, EndpointId),
        to: usize,
        life: EndpointId,
        bytes: Vec<u8>,
    ) -> Result<(), String> {
        if !self.processes[to].is_up || self.processes[to].life != life {
            return Ok(());
        }
        if let Some(until) = self.stopped_until(to) {
            let later = Happening::Deliver {
                from,
                to,
                life,
                bytes,
            };
            self.at(until, later);
            return Ok(());
        }
        let name = self.processes[from.0].name.clone();
        let clock = self.processes[to].clock(self.now);
        let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(&bytes)) else {
            return Err("an event that cannot be read".to_owned());
        };
        let own_name = self.processes[to].name.clone();
        match &mut self.processes[to].part {
            Part::Coordinator { coordinator, .. } => {
                if let Some(coordinator) = coordinator {
                    coordinator.receive(from.1, &name, &event, clock);
                }
            }
            Part::Node {
                lease,
                view,
                hangs_until,
            } => {
                if *hangs_until > self.now {
                    let later = Happening::Deliver {
                        from,
                        to,
                        life,
                        bytes,
                    };
                    let until = *hangs_until;
                    self.at(until, later);
                    return Ok(());
                }
                lease.turn(clock);
                let mut wants = None;
                if let Ok(answer) = event.arguments().to::<LeaseAnswer>() {
                    lease.answered(&name, &answer, clock);
                    wants = (answer.epoch > view.epoch()).then(|| view.epoch());
                } else if let Ok(update) = event.arguments().to::<ViewUpdate>() {
                    match view.update(&update) {
                        Ok(_) => {
                            lease.sees(view, &own_name, clock);
                        }
                        Err(NotTaken::Gap) => wants = Some(view.epoch()),
                        Err(error) => return Err(format!("I5: {error}")),
                    }
                }
                if let Some(epoch) = wants {
                    self.send(to, from.0, muster_event(epoch));
                }
                self.turn(to);
            }
        }
        self.drain(to)
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
    fn drain(&mut self, at: usize) -> Result<(), String> {
        let lives = self.processes[at].lives;
        loop {
            let Part::Coordinator {
                coordinator: Some(coordinator),
                disk,
            } = &mut self.processes[at].part
            else {
                break;
            };
            let Some(output) = coordinator.poll() else {
                break;
            };
            match output {
                Output::Begin(kept) => {
                    disk.waiting.push_back((0, Write::Begin(kept)));
                    let wait = 1 + self.random.below(10) as u64;
                    self.after(wait, Happening::Written(at, lives));
                }
                Output::Persist(number, batch) => {
                    disk.waiting.push_back((number, Write::Batch(batch)));
                    let wait = 1 + self.random.below(10) as u64;
                    self.after(wait, Happening::Written(at, lives));
                }
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

    fn route(&mut self, from: usize, to: &To, bytes: &[u8]) -> Result<(), String> {
        let receivers = |world: &Self| -> Vec<usize> {
            let all = world.processes.iter().enumerate();
            all.filter(|(at, it)| match to {
                To::Voter(of_box) => it.name == format!("agent.{of_box}"),
                To::Life(life) => it.life == *life,
                To::All => *at != from && matches!(it.part, Part::Node { .. }),
            })
            .map(|(at, _)| at)
            .collect()
        };
        if let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(bytes))
            && let Ok(update) = event.arguments().to::<ViewUpdate>()
        {
            // What is told is looked at here, too: it need not arrive.
            let mut view = View::default();
            if update.since == 0 && view.update(&update).is_ok() {
                self.sees(from, &view)?;
            }
        }
        for receiver in receivers(self) {
            self.send(from, receiver, bytes.to_vec());
        }
        Ok(())
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

    fn sees(&mut self, at: usize, view: &View) -> Result<(), String> {
        let name = self.processes[at].name.clone();
        for (node, session) in self.oracle.sees(&name, view)? {
            let process = self.processes.iter().find(|it| it.name == node);
            let Some(process) = process.filter(|it| it.is_up) else {
                continue;
            };
            if let Part::Node { lease, .. } = &process.part
                && lease.session() == session
                && lease.runs(process.clock(self.now))
            {
                return Err(format!(
                    "I6: {node} is given up by {name} while its lease runs"
                ));
            }
        }
        Ok(())
    }

    fn check(&mut self, at: usize) -> Result<(), String> {
        let view = match &self.processes[at].part {
            Part::Coordinator {
                coordinator: Some(coordinator),
                ..
            } => coordinator.view().cloned(),
            Part::Coordinator { .. } => None,
            Part::Node { view, .. } => Some(view.clone()),
        };
        if let Some(view) = view {
            self.sees(at, &view)?;
            self.check_lease(at, &view)?;
        }
        self.account.epochs = self.oracle.epochs() as u64;
        self.account.silent = self.oracle.silent() as u64;
        Ok(())
    }

    /// Nobody whose lease runs was given up for silence.
    fn check_lease(&self, at: usize, view: &View) -> Result<(), String> {
        let process = &self.processes[at];
        let Part::Node { lease, .. } = &process.part else {
            return Ok(());
        };
        let own = view.get(&process.name);
        let is_over = own.is_some_and(|it| {
            it.session > lease.session() || (it.session == lease.session() && it.out.is_some())
        });
        if is_over && lease.session() != 0 && lease.runs(process.clock(self.now)) {
            return Err(format!(
                "I6: {} knows that it is out, and acts",
                process.name
            ));
        }
        Ok(())
    }

    /// One box at a time gets into trouble, and out of it.
    fn trouble(&mut self) -> Result<(), String> {
        if self.healed {
            return Ok(());
        }
        let wait = 300 + self.random.below(2500) as u64;
        self.after(wait, Happening::Trouble);
        if self.troubled_until > self.now {
            return Ok(());
        }
        let lasts = 100 + self.random.below(8_000) as u64;
        self.troubled_until = self.now.after(ms(lasts + 500));
        let box_at = self.random.below(self.boxes.len());
        let all: Vec<usize> = (0..self.processes.len())
            .filter(|at| self.processes[*at].box_at == box_at)
            .collect();
        if all.is_empty() {
            return Ok(());
        }
        let one = all[self.random.below(all.len())];
        match self.random.below(9) {
            0 => all.into_iter().for_each(|at| self.crash(at, lasts)),
            1 => self.crash(one, lasts),
            2 => {
                self.account.freezes += 1;
                for at in all {
                    self.processes[at].frozen_until = self.now.after(ms(lasts));
                }
            }
            3 => {
                self.account.freezes += 1;
                self.processes[one].frozen_until = self.now.after(ms(lasts));
            }
            4 => self.hang(one, lasts),
            5 => self.leave(one, lasts),
            6 => self.wipe(box_at, lasts),
            how => {
                self.account.cuts += 1;
                let until = self.now.after(ms(lasts));
                if how == 7 || self.random.chance(50) {
                    self.deaf[box_at] = until;
                }
                if how == 8 || self.random.chance(50) {
                    self.dumb[box_at] = until;
                }
                // Heartbeats are missed.
                if lasts > 3_000 {
                    for at in all {
                        self.is_cut_off(at, lasts);
                    }
                }
            }
        }
        Ok(())
    }

    /// The mesh finds out, and finds it again.
    fn is_cut_off(&mut self, of: usize, lasts: u64) {
        let life = self.processes[of].life;
        for at in 0..self.processes.len() {
            let same_box = self.processes[at].box_at == self.processes[of].box_at;
            if same_box || !self.processes[of].is_up {
                continue;
            }
            let pairs = [(at, of, life), (of, at, self.processes[at].life)];
            for (at, of, life) in pairs {
                if matches!(self.processes[at].part, Part::Coordinator { .. }) {
                    for (wait, reached) in [(2_500, false), (lasts + 10, true)] {
                        let news = Happening::Reach {
                            at,
                            of,
                            life,
                            reached,
                        };
                        self.after(wait, news);
                    }
                }
            }
        }
    }

    fn crash(&mut self, at: usize, lasts: u64) {
        let process = &mut self.processes[at];
        if !process.is_up {
            return;
        }
        self.account.crashes += 1;
        process.is_up = false;
        process.frozen_until = Mono(0);
        process.starts_at = self.now.after(ms(lasts));
        match &mut process.part {
            Part::Coordinator { coordinator, disk } => {
                *coordinator = None;
                disk.waiting.clear();
            }
            Part::Node {
                lease, hangs_until, ..
            } => {
                *hangs_until = Mono(0);
                *lease = Lease::new(Mono(0));
            }
        }
        self.tell_reach(at, false, 10);
        self.after(lasts, Happening::Start(at));
    }

    fn hang(&mut self, at: usize, lasts: u64) {
        let until = self.now.after(ms(lasts));
        if let Part::Node { hangs_until, .. } = &mut self.processes[at].part {
            self.account.hangs += 1;
            *hangs_until = until;
        }
    }

    fn leave(&mut self, at: usize, lasts: u64) {
        let process = &self.processes[at];
        let Part::Node { lease, .. } = &process.part else {
            return;
        };
        if !process.is_up || lease.session() == 0 {
            return;
        }
        self.account.left += 1;
        let leaving = Leaving {
            node: process.name.clone(),
            session: lease.session(),
        };
        self.to_voters(at, &event(&leaving));
        self.crash(at, lasts);
    }

    /// A box loses its disk with everything on it.
    fn wipe(&mut self, box_at: usize, lasts: u64) {
        // With one voter there is nobody left who knows, and a second wipe would be a second failure.
        let is_founded = self.processes.iter().all(|it| match &it.part {
            Part::Coordinator { disk, .. } => disk.kept.is_some() && it.is_up,
            Part::Node { .. } => true,
        });
        let settled = is_founded || self.sabotage == Sabotage::FoundsWithMost;
        if self.voters == 1 || !settled || self.account.wiped > 0 {
            return;
        }
        for at in 0..self.processes.len() {
            if self.processes[at].box_at != box_at {
                continue;
            }
            self.crash(at, lasts);
            let id = DiskId0(DiskId(self.random.bytes()));
            if let Part::Coordinator { disk, .. } = &mut self.processes[at].part {
                self.account.wiped += 1;
                *disk = Disk {
                    id,
                    ..Disk::default()
                };
            }
        }
    }

    /// All trouble ends.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.loss = 0;
        for at in 0..self.boxes.len() {
            self.deaf[at] = Mono(0);
            self.dumb[at] = Mono(0);
        }
        for at in 0..self.processes.len() {
            self.processes[at].frozen_until = Mono(0);
            if let Part::Node { hangs_until, .. } = &mut self.processes[at].part {
                *hangs_until = Mono(0);
            }
            if !self.processes[at].is_up {
                self.processes[at].starts_at = self.now;
                self.after(0, Happening::Start(at));
            }
        }
        for at in 0..self.processes.len() {
            if self.processes[at].is_up {
                self.tell_reach(at, true, 5);
                self.after(0, Happening::Wake(at));
                self.processes[at].wake_at = self.now;
            }
        }
    }

    /// Everybody is in, and all have the same view.
    pub(super) fn check_settled(&self) -> Result<(), String> {
        let mut epochs = BTreeMap::new();
        for process in &self.processes {
            let clock = process.clock(self.now);
            match &process.part {
                Part::Coordinator { coordinator, .. } => {
                    let view = coordinator.as_ref().and_then(|it| it.view());
                    let epoch = view.map_or(0, View::epoch);
                    epochs.insert(process.name.clone(), epoch);
                }
                Part::Node { lease, view, .. } => {
                    epochs.insert(process.name.clone(), view.epoch());
                    let standing = lease.standing(clock);
                    if standing != Standing::In {
                        return Err(format!("L: {} is {standing:?}", process.name));
                    }
                }
            }
        }
        let first = epochs.values().next().copied();
        if epochs.values().any(|it| Some(*it) != first || *it == 0) {
            return Err(format!("L: views differ: {epochs:?}"));
        }
        Ok(())
    }
}

fn muster_event(epoch: u64) -> Vec<u8> {
    let wanted = ViewWanted { epoch };
    debug_assert_eq!(ViewWanted::NAME, "Muster::view_wanted");
    event(&wanted)
}
