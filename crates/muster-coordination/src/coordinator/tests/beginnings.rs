//! How a group begins, who goes on alone, and two of one name.

use muster_cluster::coordination::event;
use muster_data::DataRef;
use muster_wire::zeek::Message;

use super::super::*;
use super::{config, present};
use crate::messages::Founder;

fn ms(count: u64) -> Mono {
    Mono(count * 1_000_000)
}

fn disk(number: u8) -> DiskId {
    DiskId([number; 16])
}

fn empty(me: &str, number: u8) -> Coordinator {
    Coordinator::new(config(me), disk(number), None, ms(0), 7).unwrap()
}

fn hears<R: Record + muster_data::Encode>(
    coordinator: &mut Coordinator,
    name: &str,
    record: &R,
    at: Mono,
) {
    let bytes = event(record);
    let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(&bytes)) else {
        panic!("no event")
    };
    let from = EndpointId::from_random([9; 16]);
    coordinator.receive(from, name, &event, at);
}

fn outputs(coordinator: &mut Coordinator) -> Vec<Output> {
    std::iter::from_fn(|| coordinator.poll()).collect()
}

fn reports(outputs: &[Output]) -> Vec<&str> {
    let reports = outputs.iter().filter_map(|output| match output {
        Output::Report(_, text) => Some(text.as_str()),
        _ => None,
    });
    reports.collect()
}

fn begun(outputs: &[Output]) -> Option<&Kept> {
    outputs.iter().find_map(|output| match output {
        Output::Begin(kept) => Some(kept),
        _ => None,
    })
}

/// A coordinator of box a in a group of its own cluster 1.
fn founded(generation: u64) -> Coordinator {
    let state = match generation {
        0 => State::founded([1; 16], 0),
        _ => State::founded([1; 16], 0).refounded([1; 16]),
    };
    let founders = [("a", 1), ("b", 2), ("c", 3)];
    let founders = founders.map(|(name, of)| (name.to_owned(), disk(of)));
    let kept = founding::content(ClusterId([1; 16]), disk(1), founders.to_vec(), &state);
    Coordinator::new(config("a"), disk(1), kept, ms(0), 7).unwrap()
}

#[test]
fn a_group_is_founded_when_the_last_voter_is_there_and_by_the_first() {
    let mut first = empty("a", 1);
    hears(&mut first, "agent.b", &present(2, &[], 0), ms(10));
    first.tick(ms(20), 0);
    assert!(begun(&outputs(&mut first)).is_none());
    hears(&mut first, "agent.c", &present(3, &[], 0), ms(30));
    let outputs = outputs(&mut first);
    let kept = begun(&outputs).unwrap();
    let members = &kept.snapshot.as_ref().unwrap().members;
    assert_eq!(members.voters().len(), 3);
    // Others wait for its word.
    let mut second = empty("b", 2);
    hears(&mut second, "agent.a", &present(1, &[], 0), ms(10));
    hears(&mut second, "agent.c", &present(3, &[], 0), ms(10));
    assert!(begun(&self::outputs(&mut second)).is_none());
}

#[test]
fn a_voter_that_was_heard_long_ago_is_not_there() {
    let mut first = empty("a", 1);
    hears(&mut first, "agent.b", &present(2, &[], 0), ms(10));
    first.tick(ms(6_000), 0);
    hears(&mut first, "agent.c", &present(3, &[], 0), ms(6_000));
    assert!(begun(&outputs(&mut first)).is_none());
}

#[test]
fn nothing_is_founded_beside_a_group_that_is_there() {
    let mut first = empty("a", 1);
    hears(&mut first, "agent.b", &present(2, &[5; 16], 0), ms(10));
    hears(&mut first, "agent.c", &present(3, &[], 0), ms(10));
    assert!(begun(&outputs(&mut first)).is_none());
    // It is told to begin as a stranger.
    let begin = Begin {
        cluster: vec![5; 16],
        generation: 0,
        disk: vec![1; 16],
        founders: Vec::new(),
    };
    hears(&mut first, "agent.b", &begin, ms(20));
    let outputs = outputs(&mut first);
    let kept = begun(&outputs).unwrap();
    assert_eq!(
        (kept.cluster, kept.snapshot.is_none()),
        (ClusterId([5; 16]), true)
    );
}

#[test]
fn what_is_meant_for_another_disk_begins_nothing() {
    let mut first = empty("a", 1);
    let founder = |name: &str, of| Founder {
        name: name.to_owned(),
        disk: vec![of; 16],
    };
    let begin = Begin {
        cluster: vec![5; 16],
        generation: 0,
        disk: vec![8; 16],
        founders: vec![founder("a", 8), founder("b", 2)],
    };
    hears(&mut first, "agent.b", &begin, ms(20));
    assert!(begun(&outputs(&mut first)).is_none());
}

#[test]
fn layouts_with_other_voters_are_told_apart_by_name() {
    let mut first = empty("a", 1);
    let mut other = present(2, &[], 0);
    other.voters = vec!["a".to_owned(), "b".to_owned(), "d".to_owned()];
    hears(&mut first, "agent.b", &other, ms(10));
    let outputs = outputs(&mut first);
    let expected = "coordination: the layout of box b has other voters than this box's: a, b, d there, a, b, c here";
    assert_eq!(reports(&outputs), [expected]);
    assert!(first.others.present("b", ms(10)).is_none());
}

#[test]
fn of_two_groups_the_one_that_was_recovered_last_goes_on() {
    let mut old = founded(0);
    outputs(&mut old);
    hears(&mut old, "agent.b", &present(2, &[6; 16], 0), ms(10));
    assert!(reports(&outputs(&mut old))[0].contains("other coordinators"));
    hears(&mut old, "agent.b", &present(2, &[6; 16], 1), ms(20));
    assert!(outputs(&mut old).contains(&Output::Retire));
    assert!(old.view().is_none());
    let mut new = founded(1);
    outputs(&mut new);
    hears(&mut new, "agent.b", &present(2, &[6; 16], 0), ms(10));
    let outputs = outputs(&mut new);
    let is_told = |output: &Output| matches!(output, Output::Send(To::Voter(of), _) if of == "b");
    assert!(outputs.iter().any(is_told));
    assert!(!outputs.contains(&Output::Retire));
}

#[test]
fn two_of_one_name_take_no_part() {
    let mut first = founded(0);
    outputs(&mut first);
    hears(&mut first, "agent.a", &present(1, &[1; 16], 0), ms(10));
    assert!(reports(&outputs(&mut first))[0].contains("box a, too"));
    assert!(first.status().problem.unwrap().contains("box a, too"));
    // It would campaign by now.
    first.tick(ms(3_000), 0);
    assert_eq!(first.status().part, Part::Follower);
    assert!(first.next_tick() > ms(3_000));
    // The other one is gone.
    for time in 0..40 {
        first.tick(ms(6_000 + time * 50), 0);
    }
    assert_eq!(first.status().part, Part::Candidate);
    assert_eq!(first.status().problem, None);
}

#[test]
fn one_goes_on_alone_with_all_that_it_knew() {
    let old = founded(0);
    let kept = old.recovered(disk(9)).unwrap();
    let new = Coordinator::new(config("a"), disk(9), Some(kept), ms(0), 7).unwrap();
    assert_eq!(new.view().unwrap().generation(), 1);
    assert_eq!(new.status().voters.iter().filter(|it| it.votes).count(), 1);
}
