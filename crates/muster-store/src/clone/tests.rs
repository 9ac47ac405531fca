//! Tests of one clone: what it is told by hand, what it says looked at.

use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use super::*;
use crate::Encoded;
use crate::protocol::Query;

fn after(ms: u64) -> Mono {
    Mono(60_000_000_000).after(Duration::from_millis(ms))
}

fn endpoint(number: u8) -> EndpointId {
    EndpointId::from_bytes([number; 16])
}

fn alive(epoch: u64) -> StoreMessage {
    StoreMessage::Alive {
        timeline: 7,
        last: 0,
        epoch,
    }
}

/// A clone without a copy that follows endpoint 1.
fn following() -> StoreClone {
    let config = CloneConfig {
        copy: CopyMode::None,
        ..CloneConfig::default()
    };
    let name = StoreName::new("test").unwrap();
    let mut clone = StoreClone::new(name, 1, config, after(0));
    clone.receive(endpoint(1), alive(3), after(0));
    said(&mut clone);
    clone
}

/// To whom it has said something: 0 to whoever is the primary.
fn said(clone: &mut StoreClone) -> Vec<u8> {
    let outputs = std::iter::from_fn(|| clone.poll());
    outputs
        .filter_map(|output| match output {
            Output::Send(to, _) => Some(to.as_bytes()[0]),
            Output::Find(_) => Some(0),
            _ => None,
        })
        .collect()
}

fn write(clone: &mut StoreClone, now: Mono) {
    let (key, value) = (Encoded::key(&1_u64), Encoded::of(&2_u64));
    let op = Op::Put {
        key,
        value,
        ttl: None,
    };
    clone.write(op, Level::Applied, 1, None, now);
}

#[test]
fn who_hears_nothing_of_its_primary_looks_for_another_one() {
    let mut clone = following();
    write(&mut clone, after(1_500));
    assert_eq!(said(&mut clone), [1]);
    let mut found = Vec::new();
    for ms in 1_500..4_100 {
        if clone.next_tick() <= after(ms) {
            clone.tick(after(ms));
            found.extend(said(&mut clone).into_iter().map(|to| (ms, to)));
        }
    }
    // The write is sent again as before, and the other one is looked for.
    let searches = found.iter().filter(|(_, to)| *to == 0).map(|(ms, _)| *ms);
    assert!(searches.eq([2_500, 3_000, 3_500, 4_000]), "{found:?}");
    // The next primary has the same history, and is sent what waits.
    clone.receive(endpoint(2), alive(4), after(4_100));
    assert_eq!(clone.primary(), Some(endpoint(2)));
    assert_eq!(said(&mut clone), [2]);
    clone.receive(endpoint(2), alive(4), after(4_200));
    clone.tick(after(4_599));
    assert!(said(&mut clone).is_empty());
}

#[test]
fn who_hears_its_primary_or_waits_for_nothing_does_not() {
    let mut clone = following();
    write(&mut clone, after(0));
    for ms in (0..4_000).step_by(100) {
        clone.receive(endpoint(1), alive(3), after(ms));
        clone.tick(after(ms));
        assert!(said(&mut clone).into_iter().all(|to| to == 1), "{ms}");
    }
    let mut clone = following();
    for ms in (0..4_900).step_by(100) {
        clone.tick(after(ms));
    }
    assert!(said(&mut clone).is_empty());
}

#[test]
fn a_question_without_an_answer_has_it_look_for_another_one() {
    let mut clone = following();
    clone.query(1, Query::Size, after(100));
    assert_eq!(said(&mut clone), [1]);
    assert_eq!(clone.next_tick(), after(1_100));
    clone.tick(after(1_100));
    assert_eq!(said(&mut clone), [0]);
    // It is asked again by whoever waits for it, and otherwise nobody looks.
    clone.tick(after(2_500));
    assert!(said(&mut clone).is_empty());
}
