//! A pool of members, producers, and what decides who is in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use muster_data::{DataRef, encode};
use muster_test_support::Random;
use muster_wire::{EndpointId, Mono};

use crate::Key;
use crate::delivery::{Batch, Candidate, Numbers, StreamHead};
use crate::hrw::site_id;
use crate::keyed::messages::{
    put_events_ack, put_keyed_events, put_lane, put_lane_ack, read_events_ack, read_keyed_events,
    read_lane, read_lane_ack,
};
use crate::keyed::sabotage::Sabotage;
use crate::keyed::{
    Changes, EventId, Holder, Keeper, KeeperLimits, KeeperStep, Leaving, Made, Outbox, Output,
    OutputChange, Owed, Publishing, Roster, RosterMember, RowChange, maker_of_outputs,
};
use crate::layout::{NodeName, PoolName};

const MEMBERS: usize = 5;
const PLACES: [&str; MEMBERS] = ["a", "a", "b", "c", "d"];
const PRODUCERS: usize = 3;
/// Keys below this have one producer, whose events may clear them; the others have all producers.
const OWN_KEYS: u64 = 9;
const KEYS: u64 = 14;
/// What handlers publish is for the owners of so many keys behind these.
const OUTPUT_KEYS: u64 = 5;
const LOGGERS: [&str; 2] = ["logger-1", "logger-2"];
const ROUNDS: usize = 8;

/// What has happened.
#[derive(Debug, Default)]
pub(super) struct Fate {
    pub(super) crashes: u64,
    pub(super) expulsions: u64,
    pub(super) joins: u64,
    pub(super) outages: u64,
    pub(super) events: u64,
    pub(super) again: u64,
    pub(super) handed_over: u64,
}

impl Fate {
    pub(super) fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.expulsions += other.expulsions;
        self.joins += other.joins;
        self.outages += other.outages;
        self.events += other.events;
        self.again += other.again;
        self.handed_over += other.handed_over;
    }
}

#[derive(Debug)]
pub(super) struct Found {
    pub(super) problem: Option<String>,
    pub(super) fate: Fate,
}

struct Process {
    life: EndpointId,
    keeper: Keeper,
    /// What its handlers have given away.
    made: Made,
    publishing: Publishing,
    outbox: Outbox,
    /// The outputs that it has published, by the numbers of that, and whose they are.
    published: BTreeMap<u64, (u32, EventId)>,
    broken: Sabotage,
    is_frozen: bool,
    /// The rosters that it will hear of.
    news: Vec<(u64, u64)>,
}

struct Producer {
    life: EndpointId,
    publishing: Publishing,
    news: Vec<(u64, u64)>,
    /// By key: what it has published, in order.
    published: BTreeMap<u64, Vec<Op>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Add(u64),
    Clear,
}

enum Words {
    Events(Vec<u8>),
    EventsAck(Vec<u8>),
    Lane(Vec<u8>),
    LaneAck(Vec<u8>),
    /// A record, for a logger.
    Record(usize, EventId, String),
    RecordAck(usize, EventId),
}

struct World {
    random: Random,
    now: u64,
    sequence: u64,
    lives: u64,
    mail: BTreeMap<(u64, u64), (EndpointId, EndpointId, Words)>,
    members: Vec<Option<Process>>,
    producers: Vec<Producer>,
    /// What was decided, by epoch: the sessions of the members that are in.
    decided: BTreeMap<u64, Roster>,
    epoch: u64,
    sessions: BTreeMap<usize, (u64, EndpointId)>,
    is_bad: bool,
    broken: Sabotage,
    problem: Option<String>,
    fate: Fate,
    repeated: usize,
    /// What each logger has.
    records: [BTreeMap<EventId, String>; 2],
    /// No other member hears this one.
    muted: Option<EndpointId>,
    /// Messages arrive in the order in which they were sent.
    is_in_order: bool,
}

pub(super) fn run(seed: u64, broken: Sabotage) -> Found {
    let mut world = World::new(seed, broken);
    world.play();
    let World {
        problem,
        mut fate,
        members,
        ..
    } = world;
    for process in members.into_iter().flatten() {
        let counts = process.keeper.counts();
        fate.again += counts.again;
        fate.handed_over += counts.handed_over;
    }
    Found { problem, fate }
}

/// Publishes many events at once over a network that loses nothing. Returns how many were sent again, and how long it took.
pub(super) fn burst(events: u64) -> (usize, u64) {
    let mut world = World::new(1, Sabotage::None);
    world.is_in_order = true;
    for member in [0, 2] {
        world.start(member);
        world.admit(member);
    }
    world.settle(20_000);
    let begun = world.now;
    let mut left = events;
    while left > 0 || world.producers[0].publishing.len() > 0 {
        while left > 0 && !world.producers[0].publishing.is_half_full() {
            let digest = Key::from(left % 1_000).digest();
            let mut payload = Vec::new();
            encode::string(
                &mut payload,
                format!("x 0 {}", events - left + 1).as_bytes(),
            );
            let taken = world.producers[0]
                .publishing
                .publish(digest, payload.into());
            assert!(taken.is_ok());
            left -= 1;
        }
        world.step(1);
        assert!(world.now < begun + 60_000, "not done");
    }
    (world.repeated, world.now - begun)
}

fn digest_of(key: u64) -> u32 {
    Key::from(format!("key-{key}").as_str()).digest()
}

impl World {
    fn new(seed: u64, broken: Sabotage) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            now: 1_000,
            sequence: 0,
            lives: 0,
            mail: BTreeMap::new(),
            members: (0..MEMBERS).map(|_| None).collect(),
            producers: Vec::new(),
            decided: BTreeMap::new(),
            epoch: 0,
            sessions: BTreeMap::new(),
            is_bad: false,
            broken,
            problem: None,
            fate: Fate::default(),
            repeated: 0,
            records: Default::default(),
            muted: None,
            is_in_order: false,
        };
        for _ in 0..PRODUCERS {
            let life = world.new_life();
            world.producers.push(Producer {
                life,
                publishing: Publishing::new(),
                news: Vec::new(),
                published: BTreeMap::new(),
            });
        }
        world
    }

    fn mono(&self) -> Mono {
        Mono::default().after(Duration::from_millis(self.now))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.below(usize::try_from(limit).unwrap()) as u64
    }

    fn new_life(&mut self) -> EndpointId {
        self.lives += 1;
        let mut bytes = [7; 16];
        bytes[..8].copy_from_slice(&self.lives.to_be_bytes());
        EndpointId::from_bytes(bytes)
    }

    fn play(&mut self) {
        let count = 2 + usize::try_from(self.below(3)).unwrap();
        for member in 0..count {
            self.start(member);
            self.admit(member);
        }
        self.settle(20_000);
        for _ in 0..ROUNDS {
            if self.problem.is_some() {
                return;
            }
            self.is_bad = self.below(2) == 0;
            self.happen();
            let lasts = 200 + self.below(3_000);
            self.work(lasts);
            self.is_bad = false;
            self.settle(60_000);
        }
        // Everything comes to its end.
        self.settle(60_000);
        for _ in 0..600 {
            let members = self.sessions.keys();
            let members = members.filter_map(|member| self.members[*member].as_ref());
            let is_done = self.producers.iter().all(|it| it.publishing.len() == 0)
                && members.clone().all(Process::is_done);
            if is_done {
                break;
            }
            self.step(100);
        }
        for _ in 0..100 {
            self.step(50);
        }
        // Those who are out do not come back.
        for _ in 0..130 {
            self.step(5_000);
        }
        self.settle(20_000);
        self.judge();
    }

    /// Something happens to a member, and ends again.
    fn happen(&mut self) {
        let running: Vec<usize> = self.sessions.keys().copied().collect();
        let missing: Vec<usize> = (0..MEMBERS)
            .filter(|member| !self.sessions.contains_key(member))
            .collect();
        let any = usize::try_from(self.below(100)).unwrap();
        let kind = self.below(6);
        if kind == 5 && running.len() > 2 {
            return self.mute(running[any % running.len()]);
        }
        if kind == 4 {
            // Nobody can be reached for a while, and all come back, one after the other.
            self.fate.outages += 1;
            self.sessions.clear();
            self.decide();
            for member in running {
                let after = self.below(800);
                self.work(after);
                self.admit(member);
            }
            return;
        }
        if running.len() > 2 && kind == 0 {
            // It dies, and is out some time later.
            let member = running[any % running.len()];
            self.fate.crashes += 1;
            self.count_of(member);
            self.members[member] = None;
            let after = 50 + self.below(1_500);
            self.work(after);
            self.expel(member);
        } else if running.len() > 2 && kind == 1 {
            // It is out, and does not know it for a while; it may hang, too.
            let member = running[any % running.len()];
            self.fate.expulsions += 1;
            let hangs = self.below(2) == 0;
            if let Some(process) = &mut self.members[member] {
                process.is_frozen = hangs;
            }
            let after = self.below(1_000);
            self.work(after);
            self.expel(member);
            let after = self.below(2_000);
            self.work(after);
            if let Some(process) = &mut self.members[member] {
                process.is_frozen = false;
            }
            let after = self.below(1_000);
            self.work(after);
            self.admit(member);
        } else if kind == 2 && running.len() > 2 {
            // It comes back at once as another life.
            let member = running[any % running.len()];
            self.fate.crashes += 1;
            self.count_of(member);
            self.start(member);
            let after = self.below(300);
            self.work(after);
            self.sessions.remove(&member);
            self.admit(member);
        } else if !missing.is_empty() {
            self.fate.joins += 1;
            let member = missing[any % missing.len()];
            self.start(member);
            self.admit(member);
            if self.below(2) == 0 {
                // Somebody dies before everything is where it belongs.
                let after = self.below(400);
                self.work(after);
                let running: Vec<usize> = self.sessions.keys().copied().collect();
                let dies = running[any % running.len()];
                self.fate.crashes += 1;
                self.count_of(dies);
                self.members[dies] = None;
                let after = self.below(500);
                self.work(after);
                self.expel(dies);
                return;
            }
            let others: Vec<usize> = missing.into_iter().filter(|it| *it != member).collect();
            if !others.is_empty() && self.below(2) == 0 {
                let after = self.below(200);
                self.work(after);
                let member = others[any % others.len()];
                self.start(member);
                self.admit(member);
            }
        }
    }

    /// A member gets keys, but no other one hears of what it does with them; then it is out, and in again.
    fn mute(&mut self, member: usize) {
        self.fate.expulsions += 2;
        self.expel(member);
        let after = self.below(600);
        self.work(after);
        self.admit(member);
        let after = 20 + self.below(400);
        self.work(after);
        self.muted = self.members[member].as_ref().map(|it| it.life);
        let after = 100 + self.below(800);
        self.work(after);
        self.expel(member);
        let after = 100 + self.below(1_500);
        self.work(after);
        self.muted = None;
        self.admit(member);
    }

    fn count_of(&mut self, member: usize) {
        if let Some(process) = &self.members[member] {
            let counts = process.keeper.counts();
            self.fate.again += counts.again;
            self.fate.handed_over += counts.handed_over;
        }
    }

    fn start(&mut self, member: usize) {
        let life = self.new_life();
        let mut keeper = Keeper::new(life, KeeperLimits::default());
        keeper.sabotage(self.broken);
        self.members[member] = Some(Process {
            life,
            keeper,
            made: Made::default(),
            publishing: Publishing::new(),
            outbox: Outbox::default(),
            published: BTreeMap::new(),
            broken: self.broken,
            is_frozen: false,
            news: Vec::new(),
        });
    }

    fn admit(&mut self, member: usize) {
        let Some(process) = &self.members[member] else {
            return;
        };
        let session = self.epoch + 1;
        self.sessions.insert(member, (session, process.life));
        self.decide();
    }

    fn expel(&mut self, member: usize) {
        self.sessions.remove(&member);
        self.decide();
    }

    /// A new epoch, of which everybody hears at a time of its own.
    fn decide(&mut self) {
        self.epoch += 1;
        let members = self.sessions.iter().map(|(member, (session, life))| {
            let holder = Holder {
                life: *life,
                session: *session,
            };
            RosterMember {
                holder,
                site: site_id(&format!("data-{member}"), 0),
                place: PLACES[*member].to_owned(),
            }
        });
        let roster = Roster::new(self.epoch, members.collect());
        self.decided.insert(self.epoch, roster);
        let epoch = self.epoch;
        for member in 0..MEMBERS {
            let is_in = self.sessions.contains_key(&member);
            let lag = if is_in { self.lag() } else { self.below(2_500) };
            let at = self.now + lag;
            if let Some(process) = &mut self.members[member] {
                process.news.push((at, epoch));
            }
        }
        for producer in 0..PRODUCERS {
            let at = self.now + self.lag();
            self.producers[producer].news.push((at, epoch));
        }
    }

    fn lag(&mut self) -> u64 {
        if self.below(3) == 0 {
            self.below(400)
        } else {
            self.below(10)
        }
    }

    /// Time passes, and producers publish.
    fn work(&mut self, lasts: u64) {
        let until = self.now + lasts;
        while self.now < until && self.problem.is_none() {
            if self.below(4) == 0 {
                let producer = usize::try_from(self.below(PRODUCERS as u64)).unwrap();
                self.publish(producer);
            }
            let passes = 1 + self.below(10);
            self.step(passes);
        }
    }

    fn publish(&mut self, producer: usize) {
        let mut key = self.below(KEYS);
        if key < OWN_KEYS {
            // One of its own.
            key = key / PRODUCERS as u64 * PRODUCERS as u64 + producer as u64;
        }
        let clears = key < OWN_KEYS && self.below(8) == 0;
        let it = &mut self.producers[producer];
        let published = it.published.entry(key).or_default();
        let op = if clears {
            Op::Clear
        } else {
            Op::Add(published.len() as u64 + 1)
        };
        let text = match op {
            Op::Add(number) => format!("{key} {producer} {number}"),
            Op::Clear => format!("{key} {producer} clear"),
        };
        if it
            .publishing
            .publish(digest_of(key), {
                let mut payload = Vec::new();
                encode::string(&mut payload, text.as_bytes());
                Bytes::from(payload)
            })
            .is_ok()
        {
            published.push(op);
            self.fate.events += 1;
        }
    }

    /// Waits until all members have copies of everything, and have heard of all.
    fn settle(&mut self, limit: u64) {
        let until = self.now + limit;
        while self.problem.is_none() {
            let processes = self.members.iter().flatten();
            let mut lags = processes.map(|it| !it.news.is_empty());
            let has_news = lags.any(|it| it) || self.producers.iter().any(|it| !it.news.is_empty());
            let mut members = self.sessions.keys();
            let is_settled = members.all(|member| {
                let process = self.members[*member].as_ref();
                process.is_some_and(|it| it.keeper.is_settled())
            });
            if is_settled && !has_news {
                return;
            }
            if self.now > until {
                self.problem = Some("not settled".to_owned());
                return;
            }
            self.step(20);
        }
    }

    /// Time passes, and everything that is due happens.
    fn step(&mut self, passes: u64) {
        let until = self.now + passes;
        while self.now < until {
            let mail = self.mail.first_key_value().map(|(due, _)| due.0);
            self.now = mail.map_or(until, |due| due.clamp(self.now + 1, until));
            self.hear_news();
            while let Some(entry) = self.mail.first_entry()
                && entry.key().0 <= self.now
            {
                let (from, to, words) = entry.remove();
                self.deliver(from, to, &words);
            }
            self.tick();
        }
    }

    fn hear_news(&mut self) {
        let (now, mono) = (self.now, self.mono());
        let take = |news: &mut Vec<(u64, u64)>| {
            let due = news.iter().filter(|(at, _)| *at <= now);
            let newest = due.map(|(_, epoch)| *epoch).max();
            let newest = newest?;
            // What is older is passed over.
            news.retain(|(_, epoch)| *epoch > newest);
            Some(newest)
        };
        for process in self.members.iter_mut().flatten() {
            if process.is_frozen {
                continue;
            }
            if let Some(epoch) = take(&mut process.news) {
                process.keeper.enter(self.decided[&epoch].clone(), mono);
                process.publishing.enter(self.decided[&epoch].clone());
                process.outbox.members_changed(&PoolName::proxy());
            }
        }
        for producer in &mut self.producers {
            if let Some(epoch) = take(&mut producer.news) {
                producer.publishing.enter(self.decided[&epoch].clone());
            }
        }
    }

    fn deliver(&mut self, from: EndpointId, to: EndpointId, words: &Words) {
        let now = self.mono();
        if let Words::EventsAck(bytes) = words {
            let (_, ack) = read_events_ack(DataRef::from_validated(bytes)).unwrap();
            if let Some(producer) = self.producers.iter_mut().find(|it| it.life == to) {
                producer.publishing.acknowledged(from, &ack, now);
                return;
            }
        }
        if let Words::Record(logger, id, text) = words {
            self.records[*logger].insert(*id, text.clone());
            return self.send(to, from, Words::RecordAck(*logger, *id));
        }
        let mut processes = self.members.iter_mut().flatten();
        let Some(process) = processes.find(|it| it.life == to) else {
            return;
        };
        if process.is_frozen {
            // It hears it when it goes on.
            let later = (self.now + 50, self.sequence);
            self.sequence += 1;
            let words = match words {
                Words::Events(bytes) => Words::Events(bytes.clone()),
                Words::EventsAck(bytes) => Words::EventsAck(bytes.clone()),
                Words::Lane(bytes) => Words::Lane(bytes.clone()),
                Words::LaneAck(bytes) => Words::LaneAck(bytes.clone()),
                Words::Record(logger, id, text) => Words::Record(*logger, *id, text.clone()),
                Words::RecordAck(logger, id) => Words::RecordAck(*logger, *id),
            };
            self.mail.insert(later, (from, to, words));
            return;
        }
        match words {
            Words::Events(bytes) => {
                let (_, events) = read_keyed_events(DataRef::from_validated(bytes)).unwrap();
                process.keeper.arrived(from, events);
            }
            Words::Lane(bytes) => {
                let (_, message) = read_lane(DataRef::from_validated(bytes)).unwrap();
                process.keeper.heard(from, &message);
            }
            Words::LaneAck(bytes) => {
                let (_, ack) = read_lane_ack(DataRef::from_validated(bytes)).unwrap();
                process.keeper.lane_confirmed(from, &ack, now);
            }
            Words::EventsAck(bytes) => {
                let (_, ack) = read_events_ack(DataRef::from_validated(bytes)).unwrap();
                process.publishing.acknowledged(from, &ack, now);
            }
            Words::RecordAck(logger, id) => {
                let name = NodeName::new(LOGGERS[*logger]).unwrap();
                let numbers: Numbers = [id.number].into_iter().collect();
                for owed in process.outbox.acknowledged(&name, id.producer, &numbers) {
                    if !process.keeper.output_arrived(owed.digest, owed.id) {
                        process.outbox.given_up(owed.id);
                    }
                }
            }
            Words::Record(..) => {}
        }
        let problem = process.handle_all(now);
        self.problem = self.problem.take().or(problem);
    }

    fn tick(&mut self) {
        let now = self.mono();
        self.see_outputs();
        let is_lost = self.is_bad && self.below(50) == 0;
        let mut sent = Vec::new();
        for process in self.members.iter_mut().flatten() {
            if process.is_frozen {
                continue;
            }
            let problem = process.handle_all(now);
            self.problem = self.problem.take().or(problem);
            if is_lost {
                process.outbox.is_out(&NodeName::new(LOGGERS[0]).unwrap());
            }
            for (logger, id, text) in process.let_go(now) {
                sent.push((process.life, process.life, Words::Record(logger, id, text)));
            }
            process.keeper.tick(now);
            process.publishing.tick(now);
            for sending in process.publishing.take_steps(now) {
                let mut out = Vec::new();
                put_keyed_events(&mut out, "pool", &sending.events);
                sent.push((process.life, sending.to, Words::Events(out)));
            }
            for step in process.keeper.take_steps(now) {
                let mut out = Vec::new();
                let (to, words) = match step {
                    KeeperStep::Acknowledge(to, ack) => {
                        put_events_ack(&mut out, "pool", &ack);
                        (to, Words::EventsAck(out))
                    }
                    KeeperStep::Say(to, message) => {
                        put_lane(&mut out, "pool", &message);
                        (to, Words::Lane(out))
                    }
                    KeeperStep::Confirm(to, ack) => {
                        put_lane_ack(&mut out, "pool", &ack);
                        (to, Words::LaneAck(out))
                    }
                };
                sent.push((process.life, to, words));
            }
        }
        for producer in &mut self.producers {
            producer.publishing.tick(now);
            for sending in producer.publishing.take_steps(now) {
                let mut out = Vec::new();
                self.repeated += sending.repeated;
                put_keyed_events(&mut out, "pool", &sending.events);
                sent.push((producer.life, sending.to, Words::Events(out)));
            }
        }
        for (from, to, words) in sent {
            self.send(from, to, words);
        }
    }

    fn send(&mut self, from: EndpointId, to: EndpointId, words: Words) {
        if self.is_bad && self.below(12) == 0 {
            return;
        }
        if self.muted == Some(from) && matches!(words, Words::Lane(_) | Words::LaneAck(_)) {
            return;
        }
        let slow = if self.is_bad && self.below(5) == 0 {
            150
        } else {
            4
        };
        let delay = if self.is_in_order {
            2
        } else {
            1 + self.below(slow)
        };
        let at = self.now + delay;
        self.sequence += 1;
        self.mail.insert((at, self.sequence), (from, to, words));
    }

    /// Owners say which outputs they have to those who have made them.
    fn see_outputs(&mut self) {
        if !self.now.is_multiple_of(64) {
            return;
        }
        let now = self.mono();
        let processes = self.members.iter_mut().flatten();
        let seen = processes.flat_map(|process| process.keeper.outputs());
        let seen: BTreeSet<EventId> = seen.collect();
        for process in self.members.iter_mut().flatten() {
            let maker = maker_of_outputs(process.life);
            let own = seen.iter().filter(|id| id.producer == maker);
            let own: Numbers = own.map(|id| id.number).collect();
            process.made.seen(&own, now);
            process.made.expire(now);
        }
    }

    /// Looks at what handlers have given away when all is quiet.
    fn judge_outputs(&mut self) -> Option<String> {
        let mut members = self.sessions.keys();
        let open = members.find_map(|member| {
            let process = self.members[*member].as_mut()?;
            (!process.keeper.outputs().is_empty() || !process.is_done()).then_some(member)
        });
        if let Some(member) = open {
            return Some(format!("member {member} has outputs that are not done"));
        }
        let mut made = BTreeSet::new();
        for (producer, it) in self.producers.iter().enumerate() {
            for (key, ops) in &it.published {
                let numbers = ops.iter().filter_map(|op| match op {
                    Op::Add(number) => Some(number),
                    Op::Clear => None,
                });
                made.extend(numbers.map(|number| format!("{key} {producer} {number}")));
            }
        }
        let mut logged = BTreeMap::new();
        for (id, text) in self.records.iter().flatten() {
            if logged.insert(text, id).is_some_and(|other| other != id) {
                return Some(format!("record {text} is logged twice"));
            }
        }
        if let Some(text) = made.iter().find(|text| !logged.contains_key(text)) {
            return Some(format!("record {text} is not logged"));
        }
        let mut heard = BTreeSet::new();
        for key in KEYS..KEYS + OUTPUT_KEYS {
            let digest = digest_of(key);
            let prefix = format!("{key} d ");
            let mut owners = self.members.iter().flatten();
            let owner = owners.find(|it| it.keeper.serves(digest))?;
            let rows = owner.keeper.rows_from(digest, prefix.as_bytes());
            let rows = rows.map(|(row, _)| String::from_utf8(row.to_vec()).unwrap());
            let rows = rows.take_while(|row| row.starts_with(&prefix));
            heard.extend(rows.map(|row| row[prefix.len()..].to_owned()));
        }
        let missing: Vec<&String> = made.difference(&heard).take(3).collect();
        (!missing.is_empty()).then(|| format!("outputs {missing:?} were never handled"))
    }

    /// Looks at the rows when all is quiet.
    fn judge(&mut self) {
        if self.problem.is_some() {
            return;
        }
        let open: usize = self.producers.iter().map(|it| it.publishing.len()).sum();
        if open > 0 {
            self.problem = Some(format!("{open} events are not done"));
            return;
        }
        for key in 0..KEYS {
            let mut expected = BTreeSet::new();
            for (producer, it) in self.producers.iter().enumerate() {
                for op in it.published.get(&key).into_iter().flatten() {
                    match op {
                        Op::Add(number) => {
                            expected.insert(format!("{key} n {producer} {number}"));
                        }
                        Op::Clear => expected.clear(),
                    }
                }
            }
            let digest = digest_of(key);
            let owners = self.members.iter().flatten();
            let owners: Vec<&Process> = owners.filter(|it| it.keeper.serves(digest)).collect();
            let [owner] = owners.as_slice() else {
                self.problem = Some(format!("key {key} has {} owners", owners.len()));
                return;
            };
            let prefix = format!("{key} n ");
            let rows = owner.keeper.rows_from(digest, prefix.as_bytes());
            let found: BTreeSet<String> = rows
                .map(|(row, _)| String::from_utf8(row.to_vec()).unwrap())
                .take_while(|row| row.starts_with(&prefix))
                .collect();
            if found != expected {
                let missing: Vec<_> = expected.difference(&found).take(3).collect();
                let strange: Vec<_> = found.difference(&expected).take(3).collect();
                self.problem = Some(format!(
                    "key {key}: missing {missing:?}, too many {strange:?}"
                ));
                return;
            }
        }
        self.problem = self.judge_outputs();
        if self.problem.is_some() {
            return;
        }
        // What is empty is forgotten, by everybody.
        let filled: BTreeSet<u32> = (0..KEYS + OUTPUT_KEYS)
            .map(digest_of)
            .filter(|digest| {
                let mut members = self.members.iter().flatten();
                members
                    .any(|it| it.keeper.serves(*digest) && it.keeper.owned().any(|d| d == *digest))
            })
            .collect();
        let held: usize = self
            .sessions
            .keys()
            .map(|member| {
                let process = self.members[*member].as_ref();
                process.map_or(0, |it| {
                    let (owned, copies) = it.keeper.digests();
                    owned + copies
                })
            })
            .sum();
        if held > 2 * filled.len() {
            self.problem = Some(format!(
                "{held} digests are held, {} have rows",
                filled.len()
            ));
        }
    }
}

impl Process {
    fn is_done(&self) -> bool {
        self.publishing.len() == 0 && self.outbox.len() == 0
    }

    /// Handles what is ready. Returns what is wrong with it.
    fn handle_all(&mut self, now: Mono) -> Option<String> {
        let mut problem = None;
        while let Some((receipt, event)) = self.keeper.take_event() {
            let text = DataRef::from_validated(&event.payload).as_str().unwrap();
            let parts: Vec<&str> = text.split(' ').collect();
            let changes = match parts.as_slice() {
                ["d", key, of @ ..] => {
                    let row = format!("{key} d {}", of.join(" "));
                    if self.keeper.row(event.digest, row.as_bytes()).is_some() {
                        problem = Some(format!("{row} is handled twice"));
                    }
                    vec![set(row, b"1")].into()
                }
                [key, _, "clear"] => {
                    let prefix = format!("{key} ");
                    let rows = self.keeper.rows_from(event.digest, prefix.as_bytes());
                    let rows = rows.take_while(|(row, _)| row.starts_with(prefix.as_bytes()));
                    let rows = rows.map(|(row, _)| RowChange {
                        row: row.clone(),
                        value: None,
                    });
                    rows.collect::<Vec<_>>().into()
                }
                [key, producer, number] => {
                    let rows = self.add(event.digest, key, producer, number, &mut problem);
                    let outputs = self.give_away(text, now);
                    Changes { rows, outputs }
                }
                _ => unreachable!(),
            };
            self.keeper.changed(event.digest, Some(receipt), changes);
        }
        problem
    }

    fn add(
        &self,
        digest: u32,
        key: &str,
        producer: &str,
        what: &str,
        problem: &mut Option<String>,
    ) -> Vec<RowChange> {
        let row = format!("{key} n {producer} {what}");
        if self.keeper.row(digest, row.as_bytes()).is_some() {
            *problem = Some(format!("{row} is handled twice"));
        }
        let last = format!("{key} last {producer}");
        let before = self.keeper.row(digest, last.as_bytes());
        let number: u64 = what.parse().unwrap();
        let before = before.map_or(0, |value| {
            let mut value = DataRef::from_validated(value).as_vector().unwrap().iter();
            value.next().unwrap().as_count().unwrap()
        });
        if problem.is_none() && before >= number {
            *problem = Some(format!("{row} comes after {before}"));
        }
        let mut value = Vec::new();
        encode::vector_header(&mut value, 1);
        encode::count(&mut value, number);
        vec![set(row, b"1"), set(last, &value)]
    }

    /// An event for the owner of another key, and a log record.
    fn give_away(&mut self, text: &str, now: Mono) -> Vec<OutputChange> {
        let key = KEYS + text.len() as u64 * 7 % OUTPUT_KEYS;
        let mut payload = Vec::new();
        encode::string(&mut payload, format!("d {key} {text}").as_bytes());
        let event = Output::Keyed {
            pool: PoolName::proxy(),
            digest: digest_of(key),
            payload: payload.into(),
        };
        let mut rows = Vec::new();
        encode::vector_header(&mut rows, 1);
        encode::string(&mut rows, text.as_bytes());
        let head = StreamHead::new("log", &[("text".to_owned(), "string".to_owned())][..]);
        let record = Output::Log(Batch::new(head.into(), rows, 1));
        let outputs = [event, record].into_iter().map(|output| OutputChange {
            id: EventId {
                producer: maker_of_outputs(self.life),
                number: self.made.make(now),
            },
            output: Some(output.encoded()),
        });
        outputs.collect()
    }

    /// Lets go what may leave. Returns the records that are sent to loggers.
    fn let_go(&mut self, now: Mono) -> Vec<(usize, EventId, String)> {
        while let Some(leaving) = self.keeper.take_output() {
            let Leaving {
                digest,
                id,
                departure,
                output,
            } = leaving;
            match Output::read(&output).unwrap() {
                Output::Log(batch) => {
                    let pool = PoolName::proxy();
                    self.outbox.add(Owed { pool, digest, id }, batch, departure);
                }
                Output::Keyed {
                    digest: to,
                    payload,
                    ..
                } => {
                    let is_anew = self.broken == Sabotage::NumbersOutputsAnew;
                    let made_as = (!is_anew).then_some(id);
                    let number = self.publishing.publish_as(to, payload, made_as).unwrap();
                    self.published.insert(number, (digest, id));
                }
                Output::Event { .. } => unreachable!(),
            }
        }
        for number in self.publishing.take_done() {
            if let Some((digest, id)) = self.published.remove(&number) {
                self.keeper.output_arrived(digest, id);
            }
        }
        for id in self.keeper.take_forgotten() {
            self.outbox.forgotten(id);
            if id.producer == maker_of_outputs(self.life) {
                self.made.over(id.number);
            }
        }
        self.publishing.raise_outputs_floor(self.made.floor());
        let candidates = (0..).zip(LOGGERS).map(|(position, name)| Candidate {
            position,
            name: NodeName::new(name).unwrap(),
            acknowledges: true,
        });
        let candidates: Vec<Candidate> = candidates.collect();
        let mut sent = self.outbox.tick(now);
        sent.extend(self.outbox.dispatch(&candidates, now));
        let sent = sent.into_iter().map(|(logger, id)| {
            let logger = LOGGERS.iter().position(|name| *name == logger.as_str());
            let mut rows = Vec::new();
            self.outbox.get(id).unwrap().put_rows(&mut rows);
            let rows = DataRef::from_validated(&rows).as_vector().unwrap();
            let row = rows.iter().next().unwrap().as_vector().unwrap();
            let text = row.iter().next().unwrap().as_str().unwrap().to_owned();
            (logger.unwrap(), id, text)
        });
        sent.collect()
    }
}

fn set(row: String, value: &[u8]) -> RowChange {
    RowChange {
        row: Bytes::from(row),
        value: Some(Bytes::copy_from_slice(value)),
    }
}
