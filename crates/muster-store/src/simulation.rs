//! Primaries, clones and writers over a network that loses, repeats and reorders, from one seed.

mod tests;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use muster_data::{Kind, Timestamp};
use muster_test_support::Random;
use muster_wire::{EndpointId, Mono};

use crate::op::{Answer, Op};
use crate::protocol::StoreMessage;
use crate::{
    Backend, CloneConfig, Commit, Encoded, Level, MemoryBackend, Now, Output, Primary,
    PrimaryConfig, Restored, StoreClone, StoreName, WriteFailure,
};

/// How bad the network is, in percent of messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// Delayed by up to 100 ms instead of 1 to 2.
    pub(super) late: u64,
}

#[derive(Debug)]
enum Event {
    ToPrimary(EndpointId, Vec<u8>),
    ToClone(usize, EndpointId, Vec<u8>),
    /// The disk has done its work for this process of the primary.
    Committed(u64, Commit),
}

/// What was asked for, and what came of it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) clone: usize,
    pub(super) level: Level,
    pub(super) outcome: Option<Result<Answer, WriteFailure>>,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) weather: Weather,
    now: Mono,
    events: BTreeMap<(Mono, u64), Event>,
    serial: u64,
    name: StoreName,
    lives: u64,
    pub(super) primary: Option<Primary>,
    pub(super) disk: Option<MemoryBackend>,
    pub(super) clones: Vec<StoreClone>,
    pub(super) asked: HashMap<u64, Asked>,
    /// What each clone's watchers were told of, applied to an empty table.
    pub(super) watched: Vec<BTreeMap<Encoded, Encoded>>,
}

fn endpoint(number: u64) -> EndpointId {
    EndpointId::from_random(u128::from(number).to_be_bytes())
}

impl World {
    pub(super) fn new(seed: u64, clones: usize, persistent: bool) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            weather: Weather::default(),
            now: Mono(1),
            events: BTreeMap::new(),
            serial: 0,
            name: StoreName::new("s").unwrap(),
            lives: 0,
            primary: None,
            disk: persistent.then(MemoryBackend::default),
            clones: Vec::new(),
            asked: HashMap::new(),
            watched: vec![BTreeMap::new(); clones],
        };
        for number in 0..clones {
            let clone = StoreClone::new(
                world.name.clone(),
                number as u64,
                CloneConfig::default(),
                world.now,
            );
            world.clones.push(clone);
        }
        world
    }

    pub(super) fn now(&self) -> Now {
        Now {
            mono: self.now,
            wall: Timestamp::from_nanos(i64::try_from(self.now.0).unwrap()),
        }
    }

    /// A process of the primary begins; the one before, if it still runs, crashes.
    pub(super) fn start_primary(&mut self) {
        self.lives += 1;
        let me = endpoint(1000 + self.lives);
        let config = PrimaryConfig::default();
        let now = self.now();
        let name = self.name.clone();
        self.primary = Some(match &mut self.disk {
            None => Primary::in_memory(name, me, self.lives, config, now),
            Some(disk) => {
                let kept = Restored::load(disk, config.limit).unwrap();
                Primary::persistent(name, me, self.lives, config, kept, now)
            }
        });
    }

    pub(super) fn stop_primary(&mut self) {
        self.primary = None;
    }

    pub(super) fn write(&mut self, clone: usize, op: Op, level: Level) -> u64 {
        let token = self.asked.len() as u64;
        self.clones[clone].write(op, level, token, None, self.now);
        let asked = Asked {
            clone,
            level,
            outcome: None,
        };
        self.asked.insert(token, asked);
        token
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        loop {
            self.collect();
            let next_event = self.events.first_key_value().map(|((at, _), _)| *at);
            let ticks = self.clones.iter().map(StoreClone::next_tick);
            let primary = self.primary.as_ref();
            let primary = primary.map(|primary| primary.next_tick(self.now()));
            let next = ticks.chain(primary).chain(next_event).min();
            let next = next.unwrap_or(end).max(Mono(self.now.0 + 1));
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            while let Some(entry) = self.events.first_entry()
                && entry.key().0 <= self.now
            {
                let event = entry.remove();
                self.happen(event);
                self.collect();
            }
            let now = self.now();
            if let Some(primary) = &mut self.primary
                && primary.next_tick(now) <= now.mono
            {
                primary.tick(now);
            }
            for clone in &mut self.clones {
                if clone.next_tick() <= now.mono {
                    clone.tick(now.mono);
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::ToPrimary(from, bytes) => {
                if let Some(primary) = &mut self.primary {
                    let message = StoreMessage::decode(&bytes).unwrap();
                    assert!(message.is_for_primary());
                    assert_eq!(StoreMessage::addressee(&bytes), Some(("s", true)));
                    primary.receive(from, message, now);
                }
            }
            Event::ToClone(clone, from, bytes) => {
                let message = StoreMessage::decode(&bytes).unwrap();
                assert!(!message.is_for_primary());
                self.clones[clone].receive(from, message, now.mono);
            }
            Event::Committed(timeline, commit) => {
                let same_life = self
                    .primary
                    .as_mut()
                    .filter(|primary| primary.timeline() == timeline);
                if let (Some(primary), Some(disk)) = (same_life, &mut self.disk) {
                    let failed = disk.commit(&commit).is_err().then_some(commit);
                    primary.committed(failed, now);
                }
            }
        }
    }

    fn schedule(&mut self, delay: Duration, event: Event) {
        self.serial += 1;
        let at = self.now.after(delay);
        self.events.insert((at, self.serial), event);
    }

    /// A message's way: once, twice or not at all.
    fn send(&mut self, event: impl Fn() -> Event) {
        if self.random.chance(self.weather.lost) {
            return;
        }
        let times = 1 + u32::from(self.random.chance(self.weather.doubled));
        for _ in 0..times {
            let most = if self.random.chance(self.weather.late) {
                100_000
            } else {
                1_000
            };
            let delay = Duration::from_micros(1_000 + self.random.number(most));
            self.schedule(delay, event());
        }
    }

    /// Does what primaries and clones want done.
    fn collect(&mut self) {
        if let Some(mut primary) = self.primary.take() {
            let timeline = primary.timeline();
            let me = endpoint(1000 + self.lives);
            while let Some(output) = primary.poll() {
                match output {
                    Output::Broadcast(bytes) => {
                        for clone in 0..self.clones.len() {
                            self.send(|| Event::ToClone(clone, me, bytes.clone()));
                        }
                    }
                    Output::Send(to, bytes) => {
                        let clone = (0..self.clones.len())
                            .find(|clone| endpoint(*clone as u64) == to)
                            .unwrap();
                        self.send(|| Event::ToClone(clone, me, bytes.clone()));
                    }
                    Output::Commit(commit) => {
                        let delay = Duration::from_micros(200 + self.random.number(20_000));
                        self.schedule(delay, Event::Committed(timeline, commit));
                    }
                    _ => {}
                }
            }
            self.primary = Some(primary);
        }
        for clone in 0..self.clones.len() {
            while let Some(output) = self.clones[clone].poll() {
                match output {
                    Output::Find(bytes) => {
                        self.send(|| Event::ToPrimary(endpoint(clone as u64), bytes.clone()));
                    }
                    Output::Send(to, bytes) if to == endpoint(1000 + self.lives) => {
                        self.send(|| Event::ToPrimary(endpoint(clone as u64), bytes.clone()));
                    }
                    Output::Changed(change) => {
                        assert!(watch(&mut self.watched[clone], change.event));
                    }
                    Output::Settled(settled) => {
                        let asked = self.asked.get_mut(&settled.token).unwrap();
                        assert_eq!(asked.outcome, None, "settled twice: {asked:?}");
                        asked.outcome = Some(settled.outcome);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Applies what a watcher hears. Returns `true` if it fits to what it heard before.
#[must_use]
pub(crate) fn watch(table: &mut BTreeMap<Encoded, Encoded>, event: crate::op::StoreEvent) -> bool {
    use crate::op::StoreEvent;
    match event {
        StoreEvent::Put {
            key, value, old, ..
        } => table.insert(key, value) == old,
        StoreEvent::Erase { key, old } | StoreEvent::Expire { key, old } => {
            table.remove(&key) == old
        }
        StoreEvent::Clear { old } => {
            let before = std::mem::take(table);
            old.into_iter().collect::<BTreeMap<_, _>>() == before
        }
    }
}

/// Adds one element to the vector under a key.
pub(super) fn push(key: &str, value: u64) -> Op {
    Op::Add {
        key: Encoded::key(key),
        value: Encoded::of(&value),
        initial: Kind::Vector,
        ttl: None,
    }
}

/// Sets a key.
pub(super) fn put(key: &str, value: u64) -> Op {
    Op::Put {
        key: Encoded::key(key),
        value: Encoded::of(&value),
        ttl: None,
    }
}
