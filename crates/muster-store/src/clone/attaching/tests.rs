use muster_data::{Data, Kind, Timespan, Timestamp};
use muster_test_support::Random;
use muster_wire::EndpointId;

use super::*;
use crate::State;
use crate::op::{Op, StoreCommand, Writer};

/// An operation on one of a few keys; half of them hold collections.
fn some_op(random: &mut Random) -> Op {
    let number = random.number(8);
    let key = Encoded::key(&number);
    let element = Data::Count(random.number(40));
    let ttl = random.chance(20).then(|| Timespan::from_secs(100));
    let (initial, part) = match number % 4 {
        0 => (Kind::Set, element),
        1 => (Kind::Table, Data::Vector([element.clone(), element].into())),
        2 => (Kind::Vector, element),
        _ => (Kind::String, Data::string("x".repeat(9))),
    };
    let value = Encoded::of(&part);
    match random.number(100) {
        0 => Op::Clear,
        1..=6 => Op::Erase { key },
        7..=20 => Op::Subtract { key, value, ttl },
        21..=24 => Op::Put { key, value, ttl },
        _ => Op::Add {
            key,
            value,
            initial,
            ttl,
        },
    }
}

#[test]
fn parts_and_changes_make_what_the_primary_has_in_whatever_order_they_come() {
    let writer = Writer {
        endpoint: EndpointId::from_bytes([1; 16]),
        instance: 1,
    };
    let (mut amended, mut early) = (0, 0);
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let mut state = State::default();
        let mut changes: Vec<NumberedEdit> = Vec::new();
        let mut number = 0;
        let mut write = |state: &mut State, random: &mut Random, changes: &mut Vec<_>| {
            number += 1;
            let command = StoreCommand {
                at: Timestamp::from_secs(1),
                writer,
                number,
                op: some_op(random),
            };
            let (_, change) = state.apply(command);
            changes.extend(change.map(NumberedEdit::from));
        };
        for _ in 0..random.number(200) {
            write(&mut state, &mut random, &mut changes);
        }
        let mut attaching = Attaching::default();
        let mut part: Option<Chunk> = None;
        for turn in 0.. {
            if turn < 200 {
                write(&mut state, &mut random, &mut changes);
            }
            if random.chance(20) && !attaching.has_all_entries() {
                if let Some(part) = part.take() {
                    assert!(attaching.chunk(part));
                } else {
                    let after = attaching.last_key().cloned();
                    let made = state.part(after.as_ref(), 60);
                    part = Some(Chunk {
                        instance: 1,
                        timeline: 1,
                        epoch: 0,
                        as_of: state.changes(),
                        after,
                        entries: made.entries,
                        is_last: made.is_last,
                    });
                }
            }
            if attaching.has_begun() && random.chance(60) {
                let next = usize::try_from(attaching.next()).unwrap();
                if let Some(change) = changes.get(next - 1) {
                    amended += u64::from(matches!(change.edit, Edit::Amend { .. }));
                    attaching.change(change.clone());
                }
            }
            early += u64::from(!attaching.early.is_empty());
            assert!(!attaching.is_false(), "seed {seed}");
            if attaching.is_whole() && attaching.next() > state.changes() && turn >= 200 {
                break;
            }
        }
        assert_eq!(attaching.early_bytes.bytes(), 0, "seed {seed}");
        let (entries, last) = attaching.into_entries();
        assert_eq!(last, state.changes(), "seed {seed}");
        assert_eq!(&entries, state.entries(), "seed {seed}");
    }
    assert!(amended > 1000, "{amended} amendments");
    assert!(early > 100, "{early} turns with early ones");
}

#[test]
fn an_amendment_of_something_else_is_noticed() {
    let key = Encoded::key("a");
    let mut attaching = Attaching::default();
    let entry = Entry {
        value: Encoded::of(&true),
        expires: None,
        changed: 1,
    };
    assert!(attaching.chunk(Chunk {
        instance: 1,
        timeline: 1,
        epoch: 0,
        as_of: 1,
        after: None,
        entries: vec![(key.clone(), entry)],
        is_last: true,
    }));
    attaching.change(NumberedEdit {
        number: 2,
        writer: None,
        edit: Edit::Amend {
            key,
            amendment: Amendment::Add(Encoded::of(&1u64)),
            expires: None,
        },
    });
    assert!(attaching.is_false());
}
