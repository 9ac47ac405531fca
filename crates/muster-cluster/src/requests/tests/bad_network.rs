//! An asker and the nodes that it asks, over a network that loses, doubles and reorders what is said, from a seed.

use std::collections::{BTreeMap, BTreeSet};

use muster_test_support::{Random, first_that_finds, seeds};

use super::*;
use crate::layout::PoolName;
use crate::requests::messages::put_answer;
use crate::requests::sabotage::Sabotage;

const NODES: usize = 6;

/// The asker answers, too: it is the first node.
const ME: usize = 0;

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

fn pool() -> PoolName {
    PoolName::new("pool").unwrap()
}

/// What a node answers to the request of a token.
fn answer_to(token: u64, node: usize) -> Vec<u8> {
    encode_to_vec(&(token * 100 + node as u64))
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
