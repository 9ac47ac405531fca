//! A Muster master and clones that speak Broker's protocol, over a network that loses, repeats and delays, from
//! one seed.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use muster_data::{Data, Kind, Timestamp};
use muster_test_support::Random;
use muster_wire::{EndpointId, Mono};

use super::*;
use crate::op::{Answer, Op, OpKind};
use crate::{
    CloneConfig, Encoded, Entries, Level, Now, Output, Primary, PrimaryConfig, StoreName,
    WriteFailure,
};

#[derive(Debug)]
enum Message {
    ToMaster(Vec<u8>),
    ToClone(usize, Vec<u8>),
}

struct World {
    random: Random,
    /// Lost and doubled messages, in percent; the delay of all, in milliseconds.
    lost: u64,
    doubled: u64,
    delay: u64,
    now: Mono,
    messages: BTreeMap<(Mono, u64), Message>,
    serial: u64,
    lives: u64,
    master: Primary,
    serves: BrokerClones,
    clones: Vec<BrokerClone>,
    outcomes: HashMap<u64, Result<Answer, WriteFailure>>,
    watched: Vec<BTreeMap<Encoded, Encoded>>,
}

fn entity(number: u64) -> Entity {
    Entity {
        endpoint: EndpointId::from_random(u128::from(number).to_be_bytes()),
        instance: number,
    }
}

fn wall(now: Mono) -> Now {
    Now {
        mono: now,
        wall: Timestamp::from_nanos(i64::try_from(now.0).unwrap()),
    }
}

fn master(timeline: u64, now: Mono) -> (Primary, BrokerClones) {
    let name = StoreName::new("kv").unwrap();
    let me = entity(1000 + timeline);
    let config = PrimaryConfig::default();
    let master = Primary::in_memory(name, me.endpoint, timeline, config, wall(now));
    (master, BrokerClones::new(me, 1 << 20, now))
}

impl World {
    fn new(seed: u64, clones: u64) -> Self {
        let now = Mono(1);
        let (master, serves) = master(1, now);
        let new = |number| BrokerClone::new(entity(number + 1), CloneConfig::default(), now);
        Self {
            random: Random::new(seed),
            lost: 0,
            doubled: 0,
            delay: 5,
            now,
            messages: BTreeMap::new(),
            serial: 0,
            lives: 1,
            master,
            serves,
            clones: (0..clones).map(new).collect(),
            outcomes: HashMap::new(),
            watched: (0..clones).map(|_| BTreeMap::new()).collect(),
        }
    }

    fn restart_master(&mut self) {
        self.lives += 1;
        (self.master, self.serves) = master(self.lives, self.now);
    }

    fn write(&mut self, clone: usize, op: Op, token: u64) {
        self.clones[clone].write(op, Level::Applied, token, None, self.now);
    }

    fn send(&mut self, message: impl Fn() -> Message) {
        if self.random.chance(self.lost) {
            return;
        }
        for _ in 0..=u32::from(self.random.chance(self.doubled)) {
            let delay = Duration::from_micros(500 + self.random.number(self.delay * 1000));
            self.serial += 1;
            let at = (self.now.after(delay), self.serial);
            self.messages.insert(at, message());
        }
    }

    fn collect(&mut self) {
        let now = wall(self.now);
        while let Some(output) = self.master.poll() {
            if let Output::Changed(change) = output {
                self.serves.changed(&change, now);
            }
        }
        while let Some(output) = self.serves.poll() {
            let (to, bytes) = match output {
                Output::BrokerBroadcast(bytes) => (None, bytes),
                Output::BrokerToClone(to, bytes) => (Some(to), bytes),
                Output::BrokerSnapshot(snapshot) => {
                    let to = snapshot.command.receiver.endpoint;
                    (Some(to), snapshot.command.encode())
                }
                _ => continue,
            };
            for clone in 0..self.clones.len() {
                if to.is_none_or(|to| to == entity(clone as u64 + 1).endpoint) {
                    self.send(|| Message::ToClone(clone, bytes.clone()));
                }
            }
        }
        for clone in 0..self.clones.len() {
            while let Some(output) = self.clones[clone].poll() {
                match output {
                    Output::BrokerFind(bytes) => self.send(|| Message::ToMaster(bytes.clone())),
                    Output::BrokerToMaster(to, bytes)
                        if to == entity(1000 + self.lives).endpoint =>
                    {
                        self.send(|| Message::ToMaster(bytes.clone()));
                    }
                    Output::Changed(change) => {
                        assert!(crate::simulation::watch(
                            &mut self.watched[clone],
                            change.event
                        ));
                    }
                    Output::Settled(settled) => {
                        let before = self.outcomes.insert(settled.token, settled.outcome);
                        assert_eq!(before, None, "settled twice");
                    }
                    _ => {}
                }
            }
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        loop {
            self.collect();
            let message = self.messages.first_key_value().map(|((at, _), _)| *at);
            let ticks = self.clones.iter().map(BrokerClone::next_tick);
            let master = self.master.next_tick(wall(self.now));
            let next = ticks.chain(self.serves.next_tick()).chain(message);
            let next = next
                .chain([master])
                .min()
                .unwrap()
                .max(Mono(self.now.0 + 1));
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            let now = wall(next);
            while let Some(first) = self.messages.first_entry()
                && first.key().0 <= next
            {
                match first.remove() {
                    Message::ToMaster(bytes) => {
                        let command = BrokerCommand::decode(&bytes).unwrap();
                        self.serves.receive(command, &mut self.master, now);
                    }
                    Message::ToClone(clone, bytes) => {
                        let command = BrokerCommand::decode(&bytes).unwrap();
                        self.clones[clone].receive(command, now);
                    }
                }
                self.collect();
            }
            if self.master.next_tick(now) <= next {
                self.master.tick(now);
            }
            if self.serves.next_tick().is_some_and(|at| at <= next) {
                self.serves.tick(now);
            }
            for clone in &mut self.clones {
                if clone.next_tick() <= next {
                    clone.tick(now.mono);
                }
            }
        }
    }

    /// Every clone, and what its watchers were told, has the master's keys and values.
    fn check_equal(&self) {
        let values = |entries: &Entries| -> BTreeMap<Encoded, Encoded> {
            let entries = entries.iter();
            entries.map(|(k, e)| (k.clone(), e.value.clone())).collect()
        };
        let expected = values(self.master.state().entries());
        for (clone, watched) in self.clones.iter().zip(&self.watched) {
            assert_eq!(values(clone.entries()), expected);
            assert_eq!(*watched, expected);
            assert!(clone.is_settled());
        }
    }

    fn list(&self, key: &str) -> Vec<u64> {
        let entry = self.master.state().entries().get(&Encoded::key(key));
        let Some(Data::Vector(elements)) = entry.map(|entry| entry.value.to_data()) else {
            return Vec::new();
        };
        elements
            .iter()
            .map(|element| match element {
                Data::Count(number) => *number,
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

fn push(key: &str, value: u64) -> Op {
    Op::Add {
        key: Encoded::key(key),
        value: Encoded::of(&value),
        initial: Kind::Vector,
        ttl: None,
    }
}

/// Random writes, the first of each key's kind deciding what the others clash with.
fn random_op(random: &mut Random) -> Op {
    let key = Encoded::key(&random.number(8));
    let value = Encoded::of(&random.number(3));
    let text = Encoded::of("x");
    let kind = random.number(OpKind::ALL.len() as u64 + 2);
    let kind = OpKind::ALL.get(usize::try_from(kind).unwrap());
    match kind.copied() {
        None => Op::Put {
            key,
            value: text,
            ttl: Some(muster_data::Timespan::from_millis(300)),
        },
        Some(OpKind::Clear) if random.chance(90) => OpKind::Add.example(key, value, None),
        Some(kind) => kind.example(key, value, None),
    }
}

#[test]
fn clones_become_equal_and_every_write_is_applied_once_and_in_order() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        (world.lost, world.doubled, world.delay) = (15, 15, 50);
        for token in 0..300u64 {
            let clone = usize::try_from(world.random.number(3)).unwrap();
            world.write(clone, push(&format!("list {clone}"), token), 2 * token);
            let op = random_op(&mut world.random);
            world.write(clone, op, 2 * token + 1);
            let pause = world.random.number(30);
            world.run(Duration::from_millis(pause));
        }
        world.lost = 0;
        world.run(Duration::from_secs(5));
        world.check_equal();
        assert_eq!(world.outcomes.len(), 600, "seed {seed}");
        let unknown = world.outcomes.values().filter(|outcome| outcome.is_err());
        assert_eq!(unknown.count(), 0, "seed {seed}");
        // A clear may have taken the lists' beginnings.
        for clone in 0..3 {
            let list = world.list(&format!("list {clone}"));
            assert!(list.is_sorted_by(|a, b| a < b), "seed {seed}: {list:?}");
        }
    }
}

/// A clone of Broker keeps its old content for ever.
#[test]
fn a_master_that_restarts_is_followed_and_what_is_not_known_is_said() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        (world.lost, world.doubled) = (5, 5);
        let mut tokens = 0;
        for timeline in 0..3 {
            for _ in 0..100 {
                let clone = usize::try_from(world.random.number(2)).unwrap();
                let list = format!("list {clone}");
                world.write(clone, push(&list, tokens), tokens);
                tokens += 1;
                let pause = world.random.number(20);
                world.run(Duration::from_millis(pause));
            }
            if timeline < 2 {
                world.restart_master();
            }
        }
        (world.lost, world.doubled) = (0, 0);
        // The clones have given up the old master by now.
        world.run(Duration::from_secs(10));
        world.write(0, push("list 0", tokens), tokens);
        tokens += 1;
        world.run(Duration::from_secs(10));
        world.check_equal();
        assert_eq!(world.outcomes.len() as u64, tokens);
        let mut lists = [world.list("list 0"), world.list("list 1")].concat();
        lists.sort_unstable();
        let all = lists.len();
        lists.dedup();
        assert_eq!(lists.len(), all, "seed {seed}: applied twice");
        for token in &lists {
            let outcome = &world.outcomes[token];
            let is_done = matches!(
                outcome,
                Ok(Answer::Done { .. }) | Err(WriteFailure::Unknown)
            );
            assert!(is_done, "seed {seed}: {token} {outcome:?}");
        }
        let last_done = world.outcomes[&(tokens - 1)].clone();
        assert!(matches!(last_done, Ok(Answer::Done { .. })), "seed {seed}");
    }
}

/// Broker forgets a clone that it has not heard for 50 seconds, and goes on to broadcast.
#[test]
fn a_clone_that_was_forgotten_attaches_afresh() {
    for seed in 0..10 {
        let mut world = World::new(seed, 2);
        world.run(Duration::from_secs(1));
        world.write(0, push("list 0", 1), 1);
        world.run(Duration::from_secs(1));
        world.lost = 100;
        world.write(0, push("list 0", 2), 2);
        world.write(1, push("list 1", 3), 3);
        world.run(Duration::from_secs(70));
        world.lost = 0;
        world.write(0, push("list 0", 4), 4);
        world.run(Duration::from_secs(20));
        world.check_equal();
        assert!(matches!(world.outcomes[&1], Ok(Answer::Done { .. })));
        assert_eq!(world.outcomes[&2], Err(WriteFailure::Unknown));
        assert!(matches!(world.outcomes[&4], Ok(Answer::Done { .. })));
        assert_eq!(world.list("list 0"), [1, 4]);
    }
}

#[test]
fn what_becomes_of_writes_is_seen_by_their_echoes() {
    let mut world = World::new(1, 2);
    let put_unique = |value: u64| Op::PutUnique {
        key: Encoded::key("k"),
        value: Encoded::of(&value),
        ttl: None,
    };
    let k = Encoded::key("k");
    let count = |value: u64| Op::Add {
        key: k.clone(),
        value: Encoded::of(&value),
        initial: Kind::Count,
        ttl: None,
    };
    let ops = [
        put_unique(1),
        put_unique(2),
        count(2),
        Op::Add {
            key: k.clone(),
            value: Encoded::of("x"),
            initial: Kind::String,
            ttl: None,
        },
        Op::Erase { key: k.clone() },
        Op::Erase { key: k.clone() },
        push("l", 3),
        Op::Subtract {
            key: Encoded::key("l"),
            value: Encoded::key("l"),
            ttl: None,
        },
        Op::Swap {
            key: k.clone(),
            seen: crate::Revision::ABSENT,
            value: None,
            ttl: None,
        },
    ];
    for (op, token) in ops.into_iter().zip(0..) {
        world.write(0, op, token);
    }
    world.run(Duration::from_secs(3));
    let done = |change, value: Option<u64>| {
        let value = value.map(|value| Encoded::of(&value));
        Ok(Answer::Done { change, value })
    };
    let refused = |refusal| Ok(Answer::Refused(refusal));
    let expected = [
        done(1, None),
        Ok(Answer::Unchanged { change: 1 }),
        done(2, Some(3)),
        refused(crate::op::WriteRefusal::TypeClash),
        done(3, None),
        Ok(Answer::Unchanged { change: 0 }),
        done(4, None),
        done(5, Some(3)),
        refused(crate::op::WriteRefusal::Unsupported),
    ];
    for (expected, token) in expected.into_iter().zip(0..) {
        assert_eq!(world.outcomes[&token], expected, "{token}");
    }
}
