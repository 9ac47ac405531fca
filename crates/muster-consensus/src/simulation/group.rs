//! A group of voters, a network and disks, from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use muster_test_support::Random;
use muster_wire::Mono;

use super::node::{Disk, Node};
use super::oracle::{Oracle, State, digest};
use crate::{
    ClusterId, Config, Consensus, Content, DiskId, Kept, Members, Message, Output, Sabotage,
    VoterChange, VoterId,
};

/// What is due at some time.
enum Event {
    Deliver {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
    },
    Written {
        node: usize,
        life: u64,
        number: u64,
    },
    Wake(usize, u64),
    Start(usize),
    News {
        at: usize,
        of: VoterId,
        reachable: bool,
    },
    Load,
    Trouble,
    Operate,
}

/// What a run has done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) steps: u64,
    pub(super) crashes: u64,
    pub(super) wiped: u64,
    pub(super) changes: u64,
    pub(super) elections: u64,
    pub(super) installs: u64,
    pub(super) agreed: u64,
}

/// When, from whom, to whom, and what.
type Sent = (Mono, usize, usize, Vec<u8>);

pub(super) struct Group {
    pub(super) now: Mono,
    agenda: BTreeMap<(Mono, u64), Event>,
    sequence: u64,
    random: Random,
    nodes: Vec<Node>,
    oracle: Oracle,
    sabotage: Sabotage,
    /// Until when nothing passes from one to another.
    cuts: BTreeMap<(usize, usize), Mono>,
    loss: u64,
    slowest: u64,
    tiny: bool,
    healed: bool,
    /// Removals of voters that may still be agreed on.
    removals: BTreeSet<u64>,
    pub(super) account: Account,
    /// Every message, if it is wanted.
    pub(super) transcript: Option<Vec<Sent>>,
}

const CLUSTER: ClusterId = ClusterId([9; 16]);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl Group {
    pub(super) fn new(seed: u64, count: usize, sabotage: Sabotage) -> Self {
        let mut random = Random::new(seed);
        let ids: Vec<VoterId> = (0..count)
            .map(|at| VoterId {
                name: format!("box-{at}"),
                disk: DiskId(random.bytes()),
            })
            .collect();
        let members = Members::new(ids.clone(), Vec::new()).unwrap();
        let nodes = ids.into_iter().map(|id| {
            let state = State::FOUNDED.bytes().into();
            let kept = Kept::founding(CLUSTER, id.disk, members.clone(), state);
            Node {
                id,
                disk: Disk::new(kept),
                voter: None,
                life: 0,
                state: State::FOUNDED,
                said: 0,
                frozen_until: Mono(0),
                wake_at: Mono(u64::MAX),
                starts_at: Mono(0),
                wanted: true,
            }
        });
        let mut group = Self {
            now: Mono(0),
            agenda: BTreeMap::new(),
            sequence: 0,
            nodes: nodes.collect(),
            oracle: Oracle::default(),
            sabotage,
            cuts: BTreeMap::new(),
            loss: [0, 5, 20][random.below(3)],
            slowest: [3, 30, 120][random.below(3)],
            tiny: random.chance(50),
            healed: false,
            removals: BTreeSet::new(),
            account: Account::default(),
            transcript: None,
            random,
        };
        for node in 0..count {
            group.after(0, Event::Start(node));
        }
        group.after(100, Event::Load);
        group.after(700, Event::Trouble);
        group.after(500, Event::Operate);
        group
    }

    fn at(&mut self, time: Mono, event: Event) {
        self.sequence += 1;
        self.agenda.insert((time, self.sequence), event);
    }

    fn after(&mut self, millis: u64, event: Event) {
        self.at(self.now.after(ms(millis)), event);
    }

    /// Runs for some time, or until a rule is broken.
    pub(super) fn run(&mut self, millis: u64) -> Result<(), String> {
        let end = self.now.after(ms(millis));
        while let Some(next) = self.agenda.first_entry() {
            if next.key().0 > end {
                break;
            }
            self.now = next.key().0;
            let event = next.remove();
            self.account.steps += 1;
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        let now = self.now;
        match event {
            Event::Start(node) => {
                if self.nodes[node].voter.is_none() && self.nodes[node].starts_at <= now {
                    self.start(node)?;
                }
            }
            Event::Deliver { from, to, bytes } => {
                let frozen = self.nodes[to].frozen_until;
                if frozen > now {
                    self.at(frozen, Event::Deliver { from, to, bytes });
                    return Ok(());
                }
                let message = Message::decode(&bytes).map_err(|error| format!("codec: {error}"))?;
                let name = self.nodes[from].id.name.clone();
                if let Some(voter) = &mut self.nodes[to].voter {
                    // Lost is lost.
                    let _ = voter.receive(&name, message, now);
                }
                self.drain(to)?;
            }
            Event::Written { node, life, number } => {
                let it = &mut self.nodes[node];
                if it.life != life || it.voter.is_none() {
                    return Ok(());
                }
                it.disk.write(number);
                if it.frozen_until > now {
                    let frozen = it.frozen_until;
                    self.at(frozen, Event::Written { node, life, number });
                    return Ok(());
                }
                it.said = it.said.max(number);
                if let Some(voter) = &mut it.voter {
                    voter.persisted(number);
                }
                self.drain(node)?;
            }
            Event::Wake(node, life) => {
                let it = &mut self.nodes[node];
                if it.life != life || it.wake_at > now {
                    return Ok(());
                }
                it.wake_at = Mono(u64::MAX);
                if it.frozen_until > now {
                    let frozen = it.frozen_until;
                    it.wake_at = frozen;
                    self.at(frozen, Event::Wake(node, life));
                    return Ok(());
                }
                if let Some(voter) = &mut it.voter {
                    voter.tick(now);
                }
                self.drain(node)?;
            }
            Event::News { at, of, reachable } => {
                if let Some(voter) = &mut self.nodes[at].voter {
                    voter.reachable(&of, reachable, now);
                }
                self.drain(at)?;
            }
            Event::Load => self.load()?,
            Event::Trouble => self.trouble()?,
            Event::Operate => self.operate()?,
        }
        Ok(())
    }

    fn start(&mut self, node: usize) -> Result<(), String> {
        let random = self.random.next();
        let now = self.now;
        let it = &mut self.nodes[node];
        let config = Config {
            rank: u32::try_from(node).unwrap(),
            witnesses: BTreeSet::from(["box-2".to_owned()]),
            ..Config::default()
        };
        let kept = it.disk.kept.clone();
        let voter = Consensus::new(it.id.clone(), kept, config, now, random);
        let mut voter = voter.map_err(|error| format!("a voter's own file: {error}"))?;
        voter.sabotage(self.sabotage);
        it.life += 1;
        it.said = 0;
        it.wake_at = Mono(u64::MAX);
        it.frozen_until = Mono(0);
        it.state = State {
            index: 0,
            digest: 0,
        };
        it.voter = Some(voter);
        self.drain(node)
    }

    /// Does what a voter wants done.
    fn drain(&mut self, node: usize) -> Result<(), String> {
        loop {
            let Some(voter) = &mut self.nodes[node].voter else {
                return Ok(());
            };
            let Some(output) = voter.poll() else { break };
            self.obey(node, output)?;
        }
        self.compact(node)?;
        let it = &mut self.nodes[node];
        let Some(voter) = &it.voter else {
            return Ok(());
        };
        let (wake, life) = (voter.next_tick().max(self.now), it.life);
        if wake < it.wake_at {
            it.wake_at = wake;
            self.at(wake, Event::Wake(node, life));
        }
        Ok(())
    }

    fn obey(&mut self, node: usize, output: Output) -> Result<(), String> {
        match output {
            Output::Send(to, message) => self.send(node, &to, &message)?,
            Output::Persist(number, batch) => self.persist(node, number, batch),
            Output::Apply(entry) => {
                if let Content::Change(_) = entry.content {
                    self.account.changes += u64::from(!self.oracle.knows(entry.index));
                }
                self.oracle.apply(&mut self.nodes[node].state, &entry)?;
                self.removals.remove(&entry.index);
            }
            Output::Install { index, state } => {
                let state = State::read(&state);
                if state.index != index {
                    return Err(format!(
                        "I1: the state of {} as that of {index}",
                        state.index
                    ));
                }
                self.oracle.agree(state)?;
                self.nodes[node].state = state;
                self.account.installs += 1;
            }
            Output::Role { role, term } => {
                if role == crate::Role::Leader {
                    self.account.elections += 1;
                    let life = self.nodes[node].life;
                    self.oracle.leads(term, (node, life))?;
                }
            }
            Output::WrongDisk(_) => {}
            Output::Stopped(fault) => {
                return Err(format!("{} stopped: {fault}", self.nodes[node].id));
            }
        }
        Ok(())
    }

    fn send(&mut self, node: usize, to: &VoterId, message: &Message) -> Result<(), String> {
        let from = &self.nodes[node];
        let kept = from.disk.read(from.said);
        Oracle::sends(from.id.disk, &kept, to.disk, message)?;
        let bytes = message.encode();
        let Some(receiver) = self.nodes.iter().position(|it| it.id.name == to.name) else {
            return Ok(());
        };
        if let Some(transcript) = &mut self.transcript {
            transcript.push((self.now, node, receiver, bytes.clone()));
        }
        let cut = self.cuts.get(&(node, receiver));
        if cut.is_some_and(|until| *until > self.now) || self.random.chance(self.loss) {
            return Ok(());
        }
        let copies = if self.loss > 0 && self.random.chance(5) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let wait = 1 + self.random.number(self.slowest);
            let bytes = bytes.clone();
            self.after(
                wait,
                Event::Deliver {
                    from: node,
                    to: receiver,
                    bytes,
                },
            );
        }
        Ok(())
    }

    fn persist(&mut self, node: usize, number: u64, batch: crate::Batch) {
        let sync = batch.sync;
        let wait = Duration::from_micros(self.random.number(15_000));
        let it = &mut self.nodes[node];
        let written = it.disk.busy_until.max(self.now);
        it.disk.waiting.push_back((number, batch));
        // What needs no sync counts at once, and is written with the next.
        let at = if sync { written.after(wait) } else { written };
        it.disk.busy_until = at;
        let life = it.life;
        if sync || at > self.now {
            self.at(at, Event::Written { node, life, number });
        } else {
            it.said = it.said.max(number);
            if let Some(voter) = &mut it.voter {
                voter.persisted(number);
            }
        }
    }

    fn compact(&mut self, node: usize) -> Result<(), String> {
        let it = &mut self.nodes[node];
        let Some(voter) = &mut it.voter else {
            return Ok(());
        };
        let often = self.tiny && it.state.index.is_multiple_of(16);
        if (voter.wants_compaction() || often) && it.state.index == voter.applied() {
            // One that is done already is refused.
            let _ = voter.compact(it.state.index, it.state.bytes().into());
            while let Some(output) = self.nodes[node].voter.as_mut().and_then(Consensus::poll) {
                self.obey(node, output)?;
            }
        }
        Ok(())
    }

    fn leader(&self) -> Option<usize> {
        let leads = |node: &&Node| node.voter.as_ref().is_some_and(Consensus::leads);
        let leaders = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| leads(node));
        let term = |node: &Node| node.voter.as_ref().map(Consensus::term);
        leaders.max_by_key(|(_, node)| term(node)).map(|(at, _)| at)
    }

    fn load(&mut self) -> Result<(), String> {
        let pause = 10 + self.random.number(60);
        self.after(pause, Event::Load);
        for node in 0..self.nodes.len() {
            let frozen = self.nodes[node].frozen_until > self.now;
            let size = if self.random.chance(2) { 40_000 } else { 12 };
            let mut data = vec![0; size];
            data[..8].copy_from_slice(&self.random.next().to_be_bytes());
            if let Some(voter) = &mut self.nodes[node].voter
                && voter.leads()
                && !frozen
            {
                let _ = voter.propose(Bytes::from(data));
                self.drain(node)?;
            }
        }
        Ok(())
    }

    /// Who operates the group replaces emptied disks, and makes those voters that are wanted.
    fn operate(&mut self) -> Result<(), String> {
        self.after(150, Event::Operate);
        let Some(leader) = self.leader() else {
            return Ok(());
        };
        if self.nodes[leader].frozen_until > self.now {
            return Ok(());
        }
        let wanted: Vec<VoterId> = self
            .nodes
            .iter()
            .filter(|it| it.wanted)
            .map(|it| it.id.clone())
            .collect();
        let name = self.nodes[leader].id.name.clone();
        let Some(voter) = &mut self.nodes[leader].voter else {
            return Ok(());
        };
        let Some(members) = voter.members().cloned() else {
            return Ok(());
        };
        let gone = members.all().find(|it| !wanted.contains(it));
        let change = if let Some(gone) = gone {
            Some(VoterChange::Remove(gone.disk))
        } else if let Some(learner) = members.learners().first() {
            Some(VoterChange::Promote(learner.disk))
        } else {
            let new = wanted
                .into_iter()
                .find(|it| !members.all().any(|member| member == it));
            new.map(VoterChange::AddLearner)
        };
        let Some(change) = change else {
            return Ok(());
        };
        let proposed = voter.change(&change);
        if let (Ok(index), VoterChange::Remove(_)) = (proposed, &change) {
            self.removals.insert(index);
        }
        if proposed == Err(crate::Refused::Unfit)
            && let Some(other) = members.voters().iter().find(|it| it.name != name)
        {
            // It is to go, and leads.
            let _ = voter.transfer_to(other);
        }
        self.drain(leader)
    }

    fn crash(&mut self, node: usize, down: u64) {
        let keeps = self.random.below(self.nodes[node].disk.waiting.len() + 1);
        let it = &mut self.nodes[node];
        // Of what was not synced a beginning is on the disk.
        let number = it
            .disk
            .waiting
            .get(keeps.wrapping_sub(1))
            .map(|(number, _)| *number);
        it.disk.write(number.unwrap_or(0));
        it.disk.waiting.clear();
        it.disk.busy_until = self.now;
        it.voter = None;
        it.starts_at = self.now.after(ms(down));
        let (id, starts) = (it.id.clone(), it.starts_at);
        self.account.crashes += 1;
        self.at(starts, Event::Start(node));
        for at in 0..self.nodes.len() {
            if at != node && self.random.chance(80) {
                let wait = self.random.number(20);
                let of = id.clone();
                self.after(
                    wait,
                    Event::News {
                        at,
                        of,
                        reachable: false,
                    },
                );
                let of = id.clone();
                self.at(
                    starts,
                    Event::News {
                        at,
                        of,
                        reachable: true,
                    },
                );
            }
        }
    }

    /// Whether a disk can be emptied and the others go on.
    fn can_lose_a_disk(&self) -> bool {
        let all: Vec<VoterId> = self.nodes.iter().map(|it| it.id.clone()).collect();
        let same = |node: &Node| {
            let members = node.voter.as_ref().and_then(Consensus::members);
            node.wanted
                && members.is_some_and(|it| {
                    all.iter().all(|id| it.is_voter(id.disk)) && it.voters().len() == all.len()
                })
        };
        self.removals.is_empty() && self.nodes.iter().all(same)
    }

    fn trouble(&mut self) -> Result<(), String> {
        if self.healed {
            return Ok(());
        }
        let pause = 100 + self.random.number(700);
        self.after(pause, Event::Trouble);
        let count = self.nodes.len();
        let node = match self.leader() {
            Some(leader) if self.random.chance(40) => leader,
            _ => self.random.below(count),
        };
        let span = 50 + self.random.number(2_000);
        match self.random.below(9) {
            0 => self.crash(node, span),
            1 => {
                let until = self.now.after(ms(span));
                self.nodes[node].frozen_until = until;
            }
            2 => {
                // One way.
                let other = (node + 1 + self.random.below(count - 1)) % count;
                self.cuts.insert((node, other), self.now.after(ms(span)));
            }
            3 => {
                for other in 0..count {
                    let until = self.now.after(ms(span));
                    self.cuts.insert((node, other), until);
                    self.cuts.insert((other, node), until);
                }
            }
            4 if self.can_lose_a_disk() => self.wipe(node, span),
            5 if self.can_lose_a_disk() && self.nodes.iter().all(|it| it.wanted) => {
                self.nodes[node].wanted = false;
            }
            6 => self.nodes.iter_mut().for_each(|it| it.wanted = true),
            7 => {
                let of = self.nodes[node].id.clone();
                for at in 0..count {
                    // It may be wrong.
                    let of = of.clone();
                    self.after(
                        0,
                        Event::News {
                            at,
                            of,
                            reachable: false,
                        },
                    );
                }
            }
            _ => {
                let to = self.nodes[self.random.below(count)].id.clone();
                if let Some(leader) = self.leader()
                    && let Some(voter) = &mut self.nodes[leader].voter
                {
                    let _ = voter.transfer_to(&to);
                    self.drain(leader)?;
                }
            }
        }
        Ok(())
    }

    fn wipe(&mut self, node: usize, down: u64) {
        self.crash(node, down);
        self.account.wiped += 1;
        let disk = DiskId(self.random.bytes());
        let it = &mut self.nodes[node];
        if self.sabotage != Sabotage::KeepsWipedDisk {
            it.id.disk = disk;
        }
        it.disk = Disk::new(Kept::stranger(CLUSTER, it.id.disk));
    }

    /// Ends all trouble.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.cuts.clear();
        self.loss = 0;
        self.slowest = 5;
        let now = self.now;
        for node in 0..self.nodes.len() {
            self.nodes[node].wanted = true;
            self.nodes[node].frozen_until = now;
            let (life, wake) = (self.nodes[node].life, now);
            self.nodes[node].wake_at = wake;
            self.at(wake, Event::Wake(node, life));
            self.nodes[node].starts_at = self.nodes[node].starts_at.min(now);
            self.after(0, Event::Start(node));
        }
    }

    /// I4: somebody leads.
    pub(super) fn check_led(&self) -> Result<(), String> {
        self.leader()
            .map(|_| ())
            .ok_or_else(|| "I4: nobody leads 3 s after all is well".to_owned())
    }

    /// All have everything, and all that are wanted have a vote.
    pub(super) fn check_settled(&mut self) -> Result<(), String> {
        let all: Vec<VoterId> = self.nodes.iter().map(|it| it.id.clone()).collect();
        let most = self
            .nodes
            .iter()
            .map(|it| it.state.index)
            .max()
            .unwrap_or(0);
        for node in &self.nodes {
            let voter = node.voter.as_ref().ok_or("a voter is down")?;
            let members = voter.members().ok_or("a voter knows no group")?;
            if members.voters().len() != all.len()
                || !all.iter().all(|it| members.is_voter(it.disk))
            {
                return Err(format!("{} has another group: {members:?}", node.id));
            }
            // What is on its way.
            if node.state.index + 20 < most {
                return Err(format!("{} is at {} of {most}", node.id, node.state.index));
            }
        }
        self.account.agreed = self.oracle.data;
        Ok(())
    }

    /// A digest of what all voters are.
    pub(super) fn digest(&self) -> u64 {
        self.nodes
            .iter()
            .fold(1, |sum, it| digest(sum, &it.state.bytes()))
    }
}
