//! Sources and followers over a network that loses, doubles and reorders what is said, from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use muster_test_support::{Random, first_that_finds, seeds};

use super::*;

const FOLLOWERS: usize = 4;

/// Keys below this are in every list, with the same value.
const STEADY: u64 = 5;

/// Other keys are below this.
const KEYS: u64 = 60;

type Items = BTreeMap<u64, u64>;

/// A life of a source, and all that was done to its list: `None` for a removal.
struct Life {
    id: EndpointId,
    name: NodeName,
    source: Source,
    done: Vec<(u64, Option<u64>)>,
    items: Items,
}

/// A follower, and what its framework has.
struct Node {
    id: EndpointId,
    follower: Follower,
    has: Items,
    /// The value that each key had last, of the list that it takes.
    seen: Items,
    /// It was complete once.
    was_complete: bool,
    /// What was done in a life up to a number comes to this.
    replayed: (Option<EndpointId>, usize, Items),
    /// The lives that are out of its sight.
    unseen: Vec<EndpointId>,
    wrong: Option<String>,
}

enum What {
    Announcement(u64),
    Part(Bytes),
    Want(Want),
    Lost,
    Found,
}

struct World {
    random: Random,
    now: Mono,
    lives: Vec<Life>,
    nodes: Vec<Node>,
    /// By arrival: from whom and to whom.
    network: BTreeMap<(Mono, u64), (EndpointId, EndpointId, What)>,
    messages: u64,
    born: u8,
    value: u64,
    broken: Sabotage,
    is_calm: bool,
    completes: u64,
}

impl Node {
    fn act(&mut self, act: impl FnOnce(&mut Follower, &mut FollowerHook<'_>)) {
        let (has, seen, wrong) = (&mut self.has, &mut self.seen, &mut self.wrong);
        let was_complete = self.was_complete;
        let count = |value: DataRef<'_>| value.as_count().unwrap();
        act(&mut self.follower, &mut |told| {
            match told {
                Told::Begun(_) => seen.clear(),
                Told::Put(key, value) => {
                    let (key, value) = (count(key), count(value));
                    has.insert(key, value);
                    if seen.insert(key, value) > Some(value) {
                        *wrong = Some(format!("ORDER: {key} goes back to {value}"));
                    }
                }
                Told::Removed(key) => {
                    if has.remove(&count(key)).is_none() {
                        *wrong = Some(format!("REMOVED: {key:?} was not there"));
                    }
                }
                Told::Complete | Told::Gone => {}
            }
            if was_complete && (0..STEADY).any(|key| !has.contains_key(&key)) {
                *wrong = Some("STEADY: an item that both lists have is away".to_owned());
            }
            true
        });
    }
}

impl World {
    fn new(seed: u64, broken: Sabotage) -> Self {
        let nodes = (0..FOLLOWERS).map(|number| {
            let mut follower = Follower::new(TINY);
            follower.sabotage(broken, TINY);
            Node {
                id: life(200 + u8::try_from(number).unwrap()),
                follower,
                has: Items::new(),
                seen: Items::new(),
                was_complete: false,
                replayed: (None, 0, Items::new()),
                unseen: Vec::new(),
                wrong: None,
            }
        });
        Self {
            random: Random::new(seed),
            now: Mono(1),
            lives: Vec::new(),
            nodes: nodes.collect(),
            network: BTreeMap::new(),
            messages: 0,
            born: 0,
            value: 1_000,
            broken,
            is_calm: false,
            completes: 0,
        }
    }

    fn run(seed: u64, broken: Sabotage) -> Result<Self, String> {
        let mut world = Self::new(seed, broken);
        world.begin("b");
        for _ in 0..300 {
            match world.random.below(40) {
                0 => world.kill(),
                1 => world.begin("b"),
                2 if world.random.chance(20) => world.begin("a"),
                3 | 4 => world.lose_sight(),
                // More removals than are remembered.
                5 | 6 => world.change(60, 70),
                7..=24 => world.change(8, 40),
                _ => {}
            }
            let span = Duration::from_micros(world.random.number(150_000));
            world.pass(span)?;
        }
        world.is_calm = true;
        world.begin("b");
        world.pass(Duration::from_secs(20))?;
        world.check_end()?;
        Ok(world)
    }

    /// A source begins with a list of its own, unless there is one of this name.
    fn begin(&mut self, of: &str) {
        if self.lives.iter().any(|life| life.name.as_str() == of) {
            return;
        }
        self.born += 1;
        let mut source = Source::new(FEED, TINY);
        source.sabotage(self.broken, TINY);
        self.lives.push(Life {
            id: life(self.born),
            name: name(of),
            source,
            done: Vec::new(),
            items: Items::new(),
        });
        let last = self.lives.len() - 1;
        for key in 0..STEADY {
            self.put(last, key, key);
        }
        self.change_of(last, 100, 10);
        self.lives[last].source.open(self.now);
    }

    fn kill(&mut self) {
        if self.lives.is_empty() {
            return;
        }
        let killed = self.random.below(self.lives.len());
        let life = self.lives.remove(killed);
        for node in 0..FOLLOWERS {
            let to = self.nodes[node].id;
            self.send(life.id, to, &What::Lost);
        }
    }

    /// A follower and a source do not see one another for a while.
    fn lose_sight(&mut self) {
        if self.lives.is_empty() {
            return;
        }
        let chosen = self.random.below(self.lives.len());
        let life = &mut self.lives[chosen];
        let node = self.nodes[self.random.below(FOLLOWERS)].id;
        life.source.gone(node);
        let id = life.id;
        self.deliver(id, node, &What::Lost);
        let back = self
            .now
            .after(Duration::from_micros(self.random.number(1_500_000)));
        self.messages += 1;
        self.network
            .insert((back, self.messages), (id, node, What::Found));
    }

    fn change(&mut self, most: usize, removals: u32) {
        for life in 0..self.lives.len() {
            let times = self.random.below(most);
            self.change_of(life, times, removals);
        }
    }

    fn change_of(&mut self, life: usize, times: usize, removals: u32) {
        for _ in 0..times {
            let key = STEADY + self.random.number(KEYS - STEADY);
            if self.random.chance(removals.into()) {
                let encoded = encode_to_vec(&key);
                let life = &mut self.lives[life];
                if life.source.remove(&encoded, self.now) {
                    life.items.remove(&key);
                    life.done.push((key, None));
                }
            } else {
                self.value += 1;
                let value = self.value;
                self.put(life, key, value);
            }
        }
    }

    fn put(&mut self, life: usize, key: u64, value: u64) {
        let life = &mut self.lives[life];
        let put = life
            .source
            .put(&encode_to_vec(&key), &encode_to_vec(&value), self.now);
        put.unwrap();
        life.items.insert(key, value);
        life.done.push((key, Some(value)));
        assert_eq!(life.source.head(), life.done.len() as u64);
        assert_eq!(life.source.len(), life.items.len());
    }

    fn send(&mut self, from: EndpointId, to: EndpointId, what: &What) {
        let is_sure = self.is_calm || matches!(what, What::Lost);
        if !is_sure && self.random.chance(10) {
            return;
        }
        let times = if !is_sure && self.random.chance(10) {
            2
        } else {
            1
        };
        for _ in 0..times {
            let slowest = if self.random.chance(10) { 600 } else { 30 };
            let delay = Duration::from_micros(100 + self.random.number(slowest * 1_000));
            self.messages += 1;
            let at = (self.now.after(delay), self.messages);
            let what = match what {
                What::Announcement(head) => What::Announcement(*head),
                What::Part(payload) => What::Part(payload.clone()),
                What::Want(want) => What::Want(*want),
                What::Lost => What::Lost,
                What::Found => What::Found,
            };
            self.network.insert(at, (from, to, what));
        }
    }

    /// Lets time pass, and everything happen that is due.
    fn pass(&mut self, span: Duration) -> Result<(), String> {
        let end = self.now.after(span);
        loop {
            self.act()?;
            let lives = self.lives.iter();
            let lives = lives.filter_map(|life| life.source.next_deadline(self.now));
            let nodes = self.nodes.iter();
            let nodes = nodes.filter_map(|node| node.follower.next_deadline(self.now));
            let first = self.network.keys().next().map(|(at, _)| *at);
            let next = lives.chain(nodes).chain(first).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return Ok(());
            };
            self.now = self.now.max(next);
            while let Some(entry) = self.network.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let (from, to, what) = entry.remove();
                self.deliver(from, to, &what);
            }
        }
    }

    fn deliver(&mut self, from: EndpointId, to: EndpointId, what: &What) {
        let now = self.now;
        if let What::Want(want) = what {
            let life = self.lives.iter_mut().find(|life| life.id == to);
            if let Some(life) = life {
                life.source.wanted(from, want, now);
            }
            return;
        }
        let name = self.lives.iter().find(|life| life.id == from);
        let name = name.map(|life| life.name.clone());
        let node = self.nodes.iter_mut().find(|node| node.id == to).unwrap();
        match what {
            What::Lost => {
                node.unseen.push(from);
                node.act(|follower, tell| follower.gone(from, now, tell));
            }
            What::Found => node.unseen.retain(|life| *life != from),
            _ if node.unseen.contains(&from) => {}
            What::Announcement(head) => {
                if let Some(name) = name {
                    node.act(|follower, tell| follower.announced(&name, from, *head, now, tell));
                }
            }
            What::Part(payload) => {
                node.act(|follower, tell| _ = hand(follower, from, payload, now, tell));
            }
            What::Want(_) => {}
        }
    }

    /// Sources and followers do what is due; then everything is looked at.
    fn act(&mut self) -> Result<(), String> {
        let now = self.now;
        let mut sending = Vec::new();
        for life in &mut self.lives {
            let parts = life.source.take_parts(now).into_iter();
            sending.extend(parts.map(|(to, part)| (life.id, to, What::Part(part))));
            if let Some(head) = life.source.announcement(now) {
                let to = self.nodes.iter().map(|node| node.id);
                sending.extend(to.map(|to| (life.id, to, What::Announcement(head))));
            }
            let most = life.source.most_under_way();
            if most > TINY.window + TINY.part + 100 {
                return Err(format!("BOUND: {most} bytes are under way"));
            }
        }
        for node in &mut self.nodes {
            node.act(|follower, tell| _ = follower.tick(now, tell));
            let wants = node.follower.take_wants().into_iter();
            sending.extend(wants.map(|(to, want)| (node.id, to, What::Want(want))));
        }
        for (from, to, what) in sending {
            self.send(from, to, &what);
        }
        self.look()
    }

    fn look(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            if let Some(wrong) = node.wrong.take() {
                return Err(wrong);
            }
            let Some((id, position)) = node.follower.complete() else {
                continue;
            };
            node.was_complete = true;
            let Some(life) = self.lives.iter().find(|life| life.id == id) else {
                continue;
            };
            let (of, done, items) = &mut node.replayed;
            let position = usize::try_from(position).unwrap();
            if *of != Some(id) || *done > position {
                (*of, *done, *items) = (Some(id), 0, Items::new());
            }
            if *done == position {
                continue;
            }
            self.completes += 1;
            for (key, value) in &life.done[*done..position] {
                match value {
                    Some(value) => _ = items.insert(*key, *value),
                    None => _ = items.remove(key),
                }
            }
            *done = position;
            // Between parts of a stretch that later changes have thinned out, keys may be missing that come with a later part.
            let is_at_end = position == life.done.len();
            if is_at_end && *items != node.has {
                return Err(format!("EQUAL: {items:?} at {position}, {:?}", node.has));
            }
        }
        Ok(())
    }

    fn check_end(&self) -> Result<(), String> {
        let first = self.lives.iter().min_by_key(|life| life.name.clone());
        let first = first.unwrap();
        for node in &self.nodes {
            let complete = node.follower.complete();
            if complete != Some((first.id, first.done.len() as u64)) {
                return Err(format!("END: {complete:?} of {}", first.done.len()));
            }
            if node.has != first.items {
                return Err(format!("EQUAL: {:?}, {:?}", first.items, node.has));
            }
        }
        Ok(())
    }
}

#[test]
fn followers_come_to_have_what_the_source_has() {
    let (mut completes, mut rounds) = (0, 0);
    for seed in seeds(60) {
        let world = World::run(seed, Sabotage::None);
        let world = world.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        completes += world.completes;
        let of_all = world.nodes.iter().map(|node| node.follower.rounds());
        rounds += of_all.sum::<u32>();
    }
    println!("{completes} positions, {rounds} lists from the beginning");
    assert!(completes > 1_000 && rounds > 500, "{completes}, {rounds}");
}

#[test]
fn a_gap_that_is_taken_is_found() {
    first_that_finds("EQUAL", |seed| World::run(seed, Sabotage::TakesGaps));
}

#[test]
fn a_list_that_is_not_swept_is_found() {
    first_that_finds("EQUAL", |seed| World::run(seed, Sabotage::SweepsNothing));
}

#[test]
fn a_list_that_is_emptied_first_is_found() {
    first_that_finds("STEADY", |seed| World::run(seed, Sabotage::EmptiesFirst));
}

#[test]
fn a_new_life_that_is_taken_for_the_old_one_is_found() {
    first_that_finds("EQUAL", |seed| World::run(seed, Sabotage::MixesLives));
}

#[test]
fn a_removal_that_was_missed_is_found() {
    first_that_finds("EQUAL", |seed| World::run(seed, Sabotage::ForgetsRemovals));
}

#[test]
fn a_source_that_waits_for_nobody_is_found() {
    first_that_finds("BOUND", |seed| World::run(seed, Sabotage::SendsWithoutEnd));
}
