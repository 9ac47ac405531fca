//! Requests without nodes: both sides and the time by hand, and over a bad network.

mod bad_network;

use std::time::Duration;

use bytes::Bytes;
use muster_data::{DataRef, Timestamp, encode_to_vec};
use muster_wire::{EndpointId, Mono};

use super::messages::{Verdict, put_answer, put_question, read_answer, read_question};
use super::*;
use crate::hrw::Key;
use crate::layout::{NodeName, PoolName};

const QUESTION: &str = "Test::question";

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

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn name(number: usize) -> NodeName {
    NodeName::new(&format!("node-{number}")).unwrap()
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
