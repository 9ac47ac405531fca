//! An asker and the nodes that it asks, over a network that loses, doubles and reorders what is said, from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use muster_data::{DataRef, Timestamp, encode_to_vec};
use muster_test_support::{Random, first_that_finds, seeds};
use muster_wire::{EndpointId, Mono};

use super::messages::{Verdict, put_answer, put_question, read_answer, read_question};
use super::sabotage::Sabotage;
use super::*;
use crate::hrw::Key;
use crate::layout::{NodeName, PoolName};

const NODES: usize = 6;

const QUESTION: &str = "Test::question";

/// The asker answers, too: it is the first node.
const ME: usize = 0;

/// A node as the asker sees it.
struct Node {
    name: NodeName,
    life: EndpointId,
    is_up: bool,
    is_seen: bool,
    is_able: bool,
    /// Of the present life.
    answering: Answering,
}

/// Who is asked what, until when.
struct Expected {
    nodes: BTreeSet<NodeName>,
    has_key: bool,
    quorum: usize,
    deadline: Mono,
    outcome: Option<Outcome>,
}

enum Way {
    Question { to: EndpointId },
    Answer { from: EndpointId },
}

struct World {
    random: Random,
    now: Mono,
    asking: Asking,
    nodes: Vec<Node>,
    /// By arrival.
    network: BTreeMap<(Mono, u64), (Way, Vec<u8>)>,
    messages: u64,
    asked: BTreeMap<u64, Expected>,
    /// By token and life, how often it was handled, and by which node.
    handled: BTreeMap<(u64, EndpointId), (usize, usize)>,
    broken: Sabotage,
    answers: usize,
    missing: usize,
    /// Questions to the owners of keys that were asked of a second node.
    moved: usize,
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn name(number: usize) -> NodeName {
    NodeName::new(&format!("node-{number}")).unwrap()
}

fn pool() -> PoolName {
    PoolName::new("pool").unwrap()
}

/// What a node answers to the request of a token.
fn answer_to(token: u64, node: usize) -> Vec<u8> {
    encode_to_vec(&(token * 100 + node as u64))
}

/// What the asker sees.
struct View<'a>(&'a [Node]);

impl Whereabouts for View<'_> {
    fn standing(&self, node: &NodeName) -> Standing {
        let node = self.0.iter().find(|it| it.name == *node);
        match node {
            Some(node) if !node.is_up => Standing::Out,
            Some(node) if !node.is_seen => Standing::Away,
            Some(node) if !node.is_able => Standing::Unable,
            Some(node) => Standing::There(node.life),
            None => Standing::Out,
        }
    }

    fn owner(&self, _: &PoolName, key: Key) -> Option<NodeName> {
        let up: Vec<&Node> = self.0.iter().filter(|node| node.is_up).collect();
        let owner = up.get(key.digest() as usize % up.len().max(1))?;
        Some(owner.name.clone())
    }
}

impl World {
    fn new(seed: u64, broken: Sabotage) -> Self {
        let mut random = Random::new(seed);
        let mut asking = Asking::default();
        asking.sabotage(broken);
        let nodes = (0..NODES).map(|number| Node {
            name: name(number),
            life: EndpointId::from_random(random.bytes()),
            is_up: true,
            is_seen: true,
            is_able: true,
            answering: answering(broken),
        });
        Self {
            nodes: nodes.collect(),
            random,
            now: Mono(1),
            asking,
            network: BTreeMap::new(),
            messages: 0,
            asked: BTreeMap::new(),
            handled: BTreeMap::new(),
            broken,
            answers: 0,
            missing: 0,
            moved: 0,
        }
    }

    fn run(seed: u64, broken: Sabotage) -> Result<Self, String> {
        let mut world = Self::new(seed, broken);
        for _ in 0..400 {
            match world.random.below(20) {
                0..=6 => world.ask(),
                7 | 8 => world.change_a_node(),
                _ => {}
            }
            let span = ms(world.random.number(200));
            world.pass(span)?;
        }
        for node in &mut world.nodes {
            (node.is_up, node.is_seen, node.is_able) = (true, true, true);
        }
        world.look_around()?;
        world.pass(Duration::from_secs(20))?;
        world.check_end()?;
        Ok(world)
    }

    fn ask(&mut self) {
        let has_key = self.random.chance(30);
        let within = ms(self.random.number(6_000));
        let quorum = if self.random.chance(30) {
            1 + self.random.below(NODES)
        } else {
            usize::MAX
        };
        let target = if has_key {
            Target::Owner(pool(), Key::from(self.random.next()))
        } else {
            let mut nodes: Vec<NodeName> = Vec::new();
            for number in 0..=NODES {
                if self.random.chance(50) {
                    nodes.push(name(number));
                }
            }
            // One that is named twice is asked once.
            nodes.extend(nodes.first().cloned());
            Target::Nodes(nodes)
        };
        let token = self.asked.len() as u64 + 1;
        let nodes = match &target {
            Target::Nodes(nodes) => nodes.iter().cloned().collect(),
            Target::Owner(..) => BTreeSet::new(),
        };
        let question = EncodedQuestion {
            name: QUESTION,
            arguments: Bytes::from(encode_to_vec(&token)),
            at: Timestamp::from_secs(1),
        };
        let ask = Ask {
            target,
            question,
            within,
            quorum,
        };
        let expected = Expected {
            nodes,
            has_key,
            quorum,
            deadline: self.now.after(within),
            outcome: None,
        };
        let opened = self.asking.open(ask, &View(&self.nodes), self.now);
        assert_eq!(opened, Ok(token));
        self.asked.insert(token, expected);
    }

    /// A node goes, comes, or is out of sight.
    fn change_a_node(&mut self) {
        let number = 1 + self.random.below(NODES - 1);
        let is_new = self.random.chance(50);
        let life = EndpointId::from_random(self.random.bytes());
        let broken = self.broken;
        let node = &mut self.nodes[number];
        match self.random.below(6) {
            0 | 1 => node.is_up = false,
            2 => node.is_seen = false,
            3 => node.is_able = !node.is_able && node.is_up,
            _ => {
                if !node.is_up && is_new {
                    // It died, and begins anew.
                    (node.life, node.answering) = (life, answering(broken));
                }
                (node.is_up, node.is_seen, node.is_able) = (true, true, true);
            }
        }
    }

    fn look_around(&mut self) -> Result<(), String> {
        self.asking.look_around(&View(&self.nodes), self.now);
        self.take_steps()
    }

    /// Lets time pass, message by message.
    fn pass(&mut self, span: Duration) -> Result<(), String> {
        let end = self.now.after(span);
        self.look_around()?;
        loop {
            let arrival = self.network.keys().next().map(|(at, _)| *at);
            let due = self.asking.next_deadline();
            let next = arrival.into_iter().chain(due).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if arrival == Some(next)
                && let Some((_, (way, payload))) = self.network.pop_first()
            {
                match way {
                    Way::Question { to } => self.question(to, &payload),
                    Way::Answer { from } => self.answer(from, &payload),
                }
            }
            self.asking.tick(self.now);
            self.take_steps()?;
            self.check_open()?;
        }
        self.now = end;
        Ok(())
    }

    fn send(&mut self, way: impl Fn() -> Way, payload: &[u8]) {
        let copies = match self.random.below(10) {
            0 | 1 => 0,
            2 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let slow = self.random.chance(10);
            let most = if slow { 3_000 } else { 40 };
            let delay = ms(self.random.number(most));
            self.messages += 1;
            let key = (self.now.after(delay), self.messages);
            self.network.insert(key, (way(), payload.to_vec()));
        }
    }

    /// A question arrives at a node, which lives even if the asker does not see it.
    fn question(&mut self, to: EndpointId, payload: &[u8]) {
        let now = self.now;
        let question = read_question(DataRef::from_validated(payload)).unwrap();
        let number = self.nodes.iter().position(|node| node.life == to);
        let Some(number) = number else {
            return;
        };
        let me = self.nodes[ME].life;
        let token: u64 = question.arguments.to().unwrap();
        let node = &mut self.nodes[number];
        let arrival = node
            .answering
            .arrived(me, question.number, question.floor, now);
        let (verdict, answer) = match arrival {
            Arrival::Ignore => return,
            Arrival::Again(verdict, answer) => (verdict, answer),
            Arrival::Handle => {
                let answer = Bytes::from(answer_to(token, number));
                let verdict = Verdict::Answered;
                let within = question.within;
                node.answering.answered(
                    me,
                    question.number,
                    verdict.clone(),
                    answer.clone(),
                    within,
                    now,
                );
                let handled = self.handled.entry((token, to)).or_insert((0, number));
                handled.0 += 1;
                (verdict, answer)
            }
        };
        let mut payload = Vec::new();
        put_answer(&mut payload, question.number, &verdict, &answer);
        self.send(|| Way::Answer { from: to }, &payload);
    }

    fn answer(&mut self, from: EndpointId, payload: &[u8]) {
        let answer = read_answer(DataRef::from_validated(payload)).unwrap();
        let value = answer.answer;
        self.asking.answered(
            from,
            answer.number,
            &answer.verdict,
            value.bytes(),
            |_| value.to::<u64>().map(drop),
            self.now,
        );
    }

    fn take_steps(&mut self) -> Result<(), String> {
        for step in self.asking.take_steps() {
            match step {
                Step::Send(sending) => {
                    let mut payload = Vec::new();
                    put_question(&mut payload, &sending);
                    self.send(|| Way::Question { to: sending.to }, &payload);
                }
                Step::Ended(token, outcome) => {
                    let expected = self.asked.get_mut(&token).ok_or("UNKNOWN")?;
                    if expected.outcome.is_some() {
                        return Err(format!("TWICE: {token} has two outcomes"));
                    }
                    if self.now > expected.deadline {
                        return Err(format!("LATE: {token}"));
                    }
                    expected.outcome = Some(outcome);
                    self.check_outcome(token)?;
                }
            }
        }
        Ok(())
    }

    fn check_outcome(&mut self, token: u64) -> Result<(), String> {
        let expected = &self.asked[&token];
        let outcome = expected.outcome.as_ref().unwrap();
        let answered = outcome.answers.iter().map(|(node, _)| node);
        let missing = outcome.missing.iter().map(|(node, _)| node);
        let mut named: Vec<&NodeName> = answered.chain(missing).collect();
        named.sort();
        if expected.has_key {
            let outcomes = named.len() + usize::from(outcome.unasked.is_some());
            if outcomes != 1 {
                return Err(format!("NAMES: {outcomes} outcomes of {token}"));
            }
        } else if !named.iter().copied().eq(&expected.nodes) {
            return Err(format!("NAMES: {token}: {named:?}"));
        }
        for (node, answer) in &outcome.answers {
            let node = self.nodes.iter().position(|it| it.name == *node).unwrap();
            if **answer != *answer_to(token, node) {
                return Err(format!("WRONG: answer to {token} of node {node}"));
            }
        }
        self.answers += outcome.answers.len();
        self.missing += outcome.missing.len();
        Ok(())
    }

    /// What is open has somebody to wait for.
    fn check_open(&self) -> Result<(), String> {
        let view = View(&self.nodes);
        let open = self.asked.iter().filter(|(_, it)| it.outcome.is_none());
        for (token, expected) in open {
            if expected.deadline <= self.now {
                return Err(format!("LATE: {token} is open behind its deadline"));
            }
            let nodes = expected.nodes.iter();
            let mut there = nodes.filter(|node| view.standing(node) != Standing::Out);
            if !expected.has_key && there.next().is_none() {
                return Err(format!("WAITS: nobody of {token} is there"));
            }
        }
        Ok(())
    }

    fn check_end(&mut self) -> Result<(), String> {
        for ((token, life), (times, _)) in &self.handled {
            if *times > 1 {
                return Err(format!("AGAIN: {life} has handled {token} {times} times"));
            }
        }
        for (token, expected) in &self.asked {
            let outcome = expected
                .outcome
                .as_ref()
                .ok_or(format!("OPEN: {token} has no outcome"))?;
            let by: Vec<usize> = self
                .handled
                .iter()
                .filter(|((handled, _), _)| handled == token)
                .map(|(_, (_, node))| *node)
                .collect();
            self.moved += usize::from(expected.has_key && by.len() > 1);
            let ours = |node: &NodeName| by.iter().any(|number| name(*number) == *node);
            for (node, kind) in &outcome.missing {
                let was_handled = if expected.has_key {
                    !by.is_empty()
                } else {
                    ours(node)
                };
                if was_handled && !kind.may_have_been_handled() {
                    return Err(format!("LIE: {node} has handled {token}: {kind:?}"));
                }
                if *kind == RequestErrorKind::NotAwaited && outcome.answers.len() < expected.quorum
                {
                    return Err(format!("QUORUM: {token}"));
                }
            }
            if let Some(kind) = &outcome.unasked
                && !by.is_empty()
                && !kind.may_have_been_handled()
            {
                return Err(format!("LIE: {token} was handled: {kind:?}"));
            }
        }
        let open = self.asking.len();
        if open > 0 || self.asking.next_deadline().is_some() {
            return Err(format!("OPEN: {open}, {:?}", self.asking));
        }
        Ok(())
    }
}

fn answering(broken: Sabotage) -> Answering {
    let mut answering = Answering::default();
    answering.sabotage(broken);
    answering
}

#[test]
fn every_request_has_one_outcome_that_is_true() {
    let (mut answers, mut missing, mut moved) = (0, 0, 0);
    for seed in seeds(150) {
        let world = World::run(seed, Sabotage::None);
        let world = world.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        answers += world.answers;
        missing += world.missing;
        moved += world.moved;
    }
    println!("{answers} answers, {missing} missing, {moved} keys handled twice");
    assert!(answers > 10 * 150 && missing > 10 * 150);
    assert!(moved > 0, "the next owner is asked");
}

#[test]
fn broken_rules_are_found() {
    for (rule, word) in [
        (Sabotage::HandlesAgain, "AGAIN"),
        (Sabotage::NumbersAnew, "AGAIN"),
        (Sabotage::ForgetsMissing, "NAMES"),
        (Sabotage::WaitsForGone, "WAITS"),
        (Sabotage::TakesAnyAnswer, "WRONG"),
    ] {
        let (seed, error) = first_that_finds(word, |seed| World::run(seed, rule));
        println!("{rule:?}: seed {seed}: {error}");
        assert!(error.starts_with(word));
    }
}

/// Nodes that are all there, in lives of their numbers.
fn nodes(count: usize) -> Vec<Node> {
    let node = |number| Node {
        name: name(number),
        life: life(number),
        is_up: true,
        is_seen: true,
        is_able: true,
        answering: Answering::default(),
    };
    (0..count).map(node).collect()
}

fn life(number: usize) -> EndpointId {
    EndpointId::from_random([u8::try_from(number).unwrap() + 1; 16])
}

fn question(bytes: usize) -> EncodedQuestion {
    EncodedQuestion {
        name: QUESTION,
        arguments: Bytes::from(vec![0; bytes]),
        at: Timestamp::from_secs(1),
    }
}

fn ask_all(count: usize, bytes: usize, within: Duration) -> Ask {
    Ask {
        target: Target::Nodes((0..count).map(name).collect()),
        question: question(bytes),
        within,
        quorum: usize::MAX,
    }
}

/// The numbers of the questions that are to be sent.
fn sent(asking: &mut Asking) -> Vec<(EndpointId, u64, u64)> {
    let steps = asking.take_steps().into_iter();
    let sent = steps.filter_map(|step| match step {
        Step::Send(sending) => Some((sending.to, sending.number, sending.floor)),
        Step::Ended(..) => None,
    });
    sent.collect()
}

#[test]
fn open_requests_and_their_bytes_are_bounded() {
    let nodes = nodes(1);
    let view = View(&nodes);
    let mut asking = Asking::default();
    let open = |asking: &mut Asking, bytes| {
        asking
            .open(ask_all(1, bytes, ms(100)), &view, Mono(0))
            .is_ok()
    };
    let opened = (0..2_000).filter(|_| open(&mut asking, 10)).count();
    assert_eq!(opened, 1_024);
    asking.tick(Mono(0).after(ms(100)));
    assert_eq!(asking.len(), 0);
    // Seven of 9 MiB fit into 64 MiB, and an answer that does not fit is dropped and said so.
    let opened = (0..20).filter(|_| open(&mut asking, 9 << 20)).count();
    assert_eq!(opened, 7);
    let steps = sent(&mut asking);
    let (to, number, _) = *steps.last().unwrap();
    let answer = vec![0; 2 << 20];
    let heard = asking.answered(to, number, &Verdict::Answered, &answer, |_| Ok(()), Mono(0));
    assert_eq!(heard, Heard::InTime);
    let Some(Step::Ended(_, outcome)) = asking.take_steps().pop() else {
        panic!("an end");
    };
    let kind = outcome.single().unwrap_err().kind().clone();
    assert_eq!(kind, RequestErrorKind::AnswerTooLarge);
    asking.stop();
    assert!(open(&mut asking, 60 << 20), "what has ended takes nothing");
}

#[test]
fn questions_are_sent_again_after_ever_longer_times() {
    let nodes = nodes(1);
    let mut asking = Asking::default();
    let view = View(&nodes);
    asking
        .open(ask_all(1, 1, ms(20_000)), &view, Mono(0))
        .unwrap();
    let mut times = Vec::new();
    while let Some(at) = asking.next_deadline() {
        asking.tick(at);
        times.push(at.0 / 1_000_000);
    }
    assert_eq!(
        times,
        [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 20_000]
    );
}

#[test]
fn numbers_go_on_behind_a_life_that_was_out_of_sight() {
    let mut nodes = nodes(1);
    let mut asking = Asking::default();
    for _ in 0..3 {
        asking
            .open(ask_all(1, 1, ms(100)), &View(&nodes), Mono(0))
            .unwrap();
    }
    let numbers: Vec<u64> = sent(&mut asking)
        .iter()
        .map(|(_, number, _)| *number)
        .collect();
    assert_eq!(numbers, [0, 1, 2]);
    nodes[0].is_up = false;
    asking.look_around(&View(&nodes), Mono(1));
    nodes[0].is_up = true;
    asking.look_around(&View(&nodes), Mono(2));
    asking
        .open(ask_all(1, 1, ms(100)), &View(&nodes), Mono(3))
        .unwrap();
    assert_eq!(sent(&mut asking), [(life(0), 3, 3)]);
}

#[test]
fn what_is_kept_of_askers_is_bounded() {
    let mut answering = Answering::default();
    let now = Mono(0);
    let answer = Bytes::from(vec![0; 1 << 20]);
    let asker = |number: u32| {
        let mut bytes = [7; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        EndpointId::from_random(bytes)
    };
    for number in 0..10_000 {
        let from = asker(number);
        assert_eq!(answering.arrived(from, 5, 0, now), Arrival::Handle);
        let kept = answer.slice(..if number % 100 == 0 { 1 << 20 } else { 10 });
        answering.answered(from, 5, Verdict::Answered, kept, ms(1_000), now);
        assert!(answering.bytes() <= 16 << 20);
    }
    // The newest answers are there, of older ones it is known that they were given.
    let newest = answering.arrived(asker(9_999), 5, 0, now);
    assert!(matches!(newest, Arrival::Again(Verdict::Answered, _)));
    let older = answering.arrived(asker(5_000), 5, 0, now);
    assert_eq!(older, Arrival::Again(Verdict::Forgotten, Bytes::new()));
    // Nobody waits any more.
    let later = now.after(ms(1_001));
    let newest = answering.arrived(asker(9_999), 5, 0, later);
    assert_eq!(newest, Arrival::Again(Verdict::Forgotten, Bytes::new()));
    assert_eq!(answering.bytes(), 0);
}

#[test]
fn an_asker_with_numbers_full_of_gaps_is_not_answered_twice() {
    let mut answering = Answering::default();
    for number in 0..5_000 {
        let arrival = answering.arrived(life(1), 2 * number, 0, Mono(0));
        assert_eq!(arrival, Arrival::Handle);
    }
    for number in 0..10_000 {
        let arrival = answering.arrived(life(1), number, 0, Mono(0));
        let was_there = number % 2 == 0;
        // Of early ones it is no longer known which were there: none is handled.
        assert!(
            arrival != Arrival::Handle || (!was_there && number > 5_000),
            "{number}"
        );
    }
    let below = answering.arrived(life(1), 3, 20_000, Mono(0));
    assert_eq!(below, Arrival::Ignore);
}

#[test]
fn what_is_said_may_be_anything() {
    let sending = {
        let nodes = nodes(1);
        let mut asking = Asking::default();
        let question = EncodedQuestion {
            name: QUESTION,
            arguments: Bytes::from(encode_to_vec(&7_u64)),
            at: Timestamp::from_secs(1),
        };
        let ask = Ask {
            question,
            ..ask_all(1, 0, ms(1_500))
        };
        asking.open(ask, &View(&nodes), Mono(0)).unwrap();
        match asking.take_steps().pop() {
            Some(Step::Send(sending)) => sending,
            other => panic!("{other:?}"),
        }
    };
    let mut payload = Vec::new();
    put_question(&mut payload, &sending);
    let read = read_question(DataRef::from_validated(&payload)).unwrap();
    assert_eq!((read.number, read.floor, read.name), (0, 0, QUESTION));
    assert_eq!((read.within, read.arguments.to()), (ms(1_500), Ok(7_u64)));
    for value in [
        "[]",
        "1",
        "[1, 2]",
        "[1, 2, 3, \"x\", 4]",
        "[1, 2, 1s, \"x\"]",
        "[-1]",
    ] {
        let bytes = encode_to_vec(&value.parse::<muster_data::Data>().unwrap());
        assert!(
            read_question(DataRef::from_validated(&bytes)).is_none(),
            "{value}"
        );
        let is_answer = value == "[1, 2, 3, \"x\", 4]" || value == "[1, 2, 1s, \"x\"]";
        let answer = read_answer(DataRef::from_validated(&bytes));
        assert_eq!(answer.is_some(), is_answer, "{value}");
    }
    // What later releases say is an answer that says little.
    let mut payload = Vec::new();
    put_answer(&mut payload, 9, &Verdict::Answered, &encode_to_vec(&1_u64));
    let answer = read_answer(DataRef::from_validated(&payload)).unwrap();
    assert_eq!((answer.number, answer.verdict), (9, Verdict::Answered));
    for verdict in [
        Verdict::Answered,
        Verdict::NoHandler,
        Verdict::WrongQuestion,
        Verdict::Panicked,
        Verdict::Forgotten,
        Verdict::TooLarge,
    ] {
        let mut payload = Vec::new();
        put_answer(&mut payload, 1, &verdict, &[]);
        let answer = read_answer(DataRef::from_validated(&payload)).unwrap();
        assert_eq!(answer.verdict, verdict);
    }
}
