use super::*;
use crate::op::OpKind;
use muster_data::{Data, Kind, Timespan};

const BAD: Weather = Weather {
    lost: 20,
    doubled: 20,
    late: 20,
};

fn value_of(world: &World, key: &str) -> Option<Data> {
    let entries = world.primary.as_ref().unwrap().state().entries();
    let entry = entries.get(&Encoded::key(key))?;
    Some(entry.value.to_data())
}

/// Every clone, and what its watchers were told, is the primary's state.
fn check_equal(world: &World) {
    let primary = world.primary.as_ref().unwrap();
    for (clone, watched) in world.clones.iter().zip(&world.watched) {
        assert_eq!(clone.entries(), primary.state().entries());
        assert_eq!(clone.applied(), Some(primary.revision()));
        let entries = clone.entries().iter();
        let values: BTreeMap<_, _> = entries.map(|(k, e)| (k.clone(), e.value.clone())).collect();
        assert_eq!(values, *watched);
        assert!(clone.is_settled());
    }
}

/// Adds to a collection, or takes from it.
fn random_amendment(world: &mut World) -> Op {
    let number = world.random.number(4);
    let key = Encoded::key(&(100 + number));
    let element = Data::Count(world.random.number(30));
    let (initial, part) = match number {
        0 => (Kind::Set, element),
        1 => (Kind::Table, Data::Vector([element.clone(), element].into())),
        2 => (Kind::Vector, element),
        _ => (Kind::String, Data::string("x")),
    };
    let value = Encoded::of(&part);
    if world.random.chance(30) {
        return Op::Subtract {
            key,
            value,
            ttl: None,
        };
    }
    Op::Add {
        key,
        value,
        initial,
        ttl: None,
    }
}

/// Random writes of every kind.
fn random_op(world: &mut World) -> Op {
    if world.random.chance(30) {
        return random_amendment(world);
    }
    let key = Encoded::key(&world.random.number(20));
    let value = Encoded::of(&world.random.number(5));
    let ttl = world
        .random
        .chance(20)
        .then(|| Timespan::from_millis(i64::try_from(world.random.number(3_000)).unwrap()));
    let kind = world.random.number(OpKind::ALL.len() as u64 + 3);
    let kind = OpKind::ALL.get(usize::try_from(kind).unwrap());
    match kind.copied().unwrap_or(OpKind::Put) {
        OpKind::Clear if world.random.chance(80) => OpKind::Put.example(key, value, ttl),
        OpKind::Swap => Op::Swap {
            seen: crate::Revision {
                timeline: 1,
                change: world.clones[0]
                    .entries()
                    .get(&key)
                    .map_or(0, |entry| entry.changed),
            },
            key,
            value: world.random.chance(80).then_some(value),
            ttl,
        },
        kind => kind.example(key, value, ttl),
    }
}

#[test]
fn clones_become_equal_whatever_the_network_does() {
    for seed in 0..60 {
        let mut world = World::new(seed, 3, false);
        world.weather = BAD;
        world.start_primary();
        for _ in 0..200 {
            let clone = usize::try_from(world.random.number(3)).unwrap();
            let op = random_op(&mut world);
            world.write(clone, op, Level::Applied);
            let pause = world.random.number(30);
            world.run(Duration::from_millis(pause));
        }
        world.run(Duration::from_secs(60));
        check_equal(&world);
        let open = world.asked.values().filter(|asked| asked.outcome.is_none());
        assert_eq!(open.count(), 0, "seed {seed}");
    }
}

#[test]
fn each_write_is_applied_once_and_in_order() {
    for seed in 0..60 {
        let mut world = World::new(seed, 3, false);
        world.weather = BAD;
        world.start_primary();
        for number in 0..300 {
            let clone = usize::try_from(world.random.number(3)).unwrap();
            world.write(clone, push(&format!("of {clone}"), number), Level::Applied);
            let pause = world.random.number(10);
            world.run(Duration::from_millis(pause));
        }
        world.run(Duration::from_secs(60));
        for clone in 0..3 {
            let mut expected: Vec<(u64, u64)> = Vec::new();
            for (token, asked) in &world.asked {
                if asked.clone == clone {
                    assert!(
                        matches!(asked.outcome, Some(Ok(Answer::Done { .. }))),
                        "{asked:?}"
                    );
                    expected.push((*token, *token));
                }
            }
            expected.sort_unstable();
            let expected: Vec<u64> = expected.into_iter().map(|(_, number)| number).collect();
            let found = value_of(&world, &format!("of {clone}"));
            assert_eq!(found, Some(Data::vector(expected)), "seed {seed}");
        }
    }
}

#[test]
fn a_durable_write_that_was_acknowledged_survives_any_crash_and_is_applied_once() {
    for seed in 0..60 {
        let mut world = World::new(seed, 3, true);
        world.weather = BAD;
        world.start_primary();
        let mut number = 0;
        for _ in 0..6 {
            for _ in 0..50 {
                let clone = usize::try_from(world.random.number(3)).unwrap();
                let level = if world.random.chance(70) {
                    Level::Durable
                } else {
                    Level::Applied
                };
                world.write(clone, push(&format!("of {clone}"), number), level);
                number += 1;
                let pause = world.random.number(10);
                world.run(Duration::from_millis(pause));
            }
            world.stop_primary();
            world.run(Duration::from_millis(500));
            world.start_primary();
        }
        world.run(Duration::from_secs(60));
        check_equal(&world);
        for clone in 0..3 {
            let found = value_of(&world, &format!("of {clone}")).unwrap();
            let found: Vec<u64> = found.to().unwrap();
            let mut sorted = found.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(found, sorted, "seed {seed}: twice, or out of order");
            for (token, asked) in &world.asked {
                if asked.clone == clone && asked.level == Level::Durable {
                    assert!(matches!(asked.outcome, Some(Ok(_))), "{asked:?}");
                    assert!(
                        found.contains(token),
                        "seed {seed}: lost {token}: {asked:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_new_life_of_a_store_in_memory_is_followed() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2, false);
        world.start_primary();
        world.write(0, put("old", 1), Level::Applied);
        world.run(Duration::from_secs(1));
        world.stop_primary();
        world.write(1, put("meanwhile", 2), Level::Applied);
        world.run(Duration::from_secs(10));
        assert_eq!(world.asked[&1].outcome, None);
        world.start_primary();
        world.run(Duration::from_secs(20));
        check_equal(&world);
        assert_eq!(value_of(&world, "old"), None);
        assert_eq!(value_of(&world, "meanwhile"), Some(Data::Count(2)));
    }
}

#[test]
fn writes_without_a_primary_are_reported() {
    let mut world = World::new(1, 1, false);
    world.write(0, put("a", 1), Level::Applied);
    world.run(Duration::from_secs(119));
    assert_eq!(world.asked[&0].outcome, None);
    world.run(Duration::from_secs(2));
    assert_eq!(world.asked[&0].outcome, Some(Err(WriteFailure::NoPrimary)));
    assert_eq!(
        world.clones[0].freshness(world.now().mono),
        crate::Freshness::Unattached
    );
}

#[test]
fn a_clone_without_its_primary_becomes_stale_and_catches_up() {
    let mut world = World::new(1, 1, true);
    world.start_primary();
    world.write(0, put("a", 1), Level::Durable);
    world.run(Duration::from_secs(10));
    assert_eq!(
        world.clones[0].freshness(world.now().mono),
        crate::Freshness::Fresh
    );
    world.stop_primary();
    world.run(Duration::from_secs(280));
    assert_eq!(
        world.clones[0].freshness(world.now().mono),
        crate::Freshness::Fresh
    );
    world.run(Duration::from_secs(30));
    assert_eq!(
        world.clones[0].freshness(world.now().mono),
        crate::Freshness::Stale
    );
    assert_eq!(world.clones[0].entries().len(), 1);
    world.start_primary();
    world.run(Duration::from_secs(12));
    assert_eq!(
        world.clones[0].freshness(world.now().mono),
        crate::Freshness::Fresh
    );
    check_equal(&world);
}

#[test]
fn a_broken_disk_is_told_and_mended() {
    let mut world = World::new(1, 1, true);
    world.start_primary();
    world.run(Duration::from_secs(1));
    world.disk.as_ref().unwrap().fail_after(0);
    world.write(0, put("a", 1), Level::Durable);
    world.run(Duration::from_millis(100));
    assert_eq!(world.asked[&0].outcome, Some(Err(WriteFailure::NotDurable)));
    world.write(0, put("b", 1), Level::Durable);
    world.run(Duration::from_millis(100));
    let refused = Ok(Answer::Refused(crate::op::WriteRefusal::Backend));
    assert_eq!(world.asked[&1].outcome, Some(refused));
    world.disk.as_ref().unwrap().mend();
    world.run(Duration::from_secs(2));
    world.write(0, put("c", 1), Level::Durable);
    world.run(Duration::from_secs(1));
    assert!(matches!(
        world.asked[&2].outcome,
        Some(Ok(Answer::Done { .. }))
    ));
    world.stop_primary();
    world.start_primary();
    world.run(Duration::from_secs(10));
    let kept: Vec<Data> = world.clones[0]
        .entries()
        .iter()
        .map(|(key, _)| key.to_data())
        .collect();
    assert_eq!(kept, [Data::string("a"), Data::string("c")]);
}

#[test]
fn lifetimes_end_at_the_primary_and_clones_hear_of_it() {
    let mut world = World::new(1, 1, true);
    world.start_primary();
    world.run(Duration::from_secs(1));
    let op = Op::Put {
        key: Encoded::key("a"),
        value: Encoded::of(&1u64),
        ttl: Some(Timespan::from_secs(2)),
    };
    world.write(0, op, Level::Durable);
    world.run(Duration::from_secs(1));
    assert_eq!(world.clones[0].entries().len(), 1);
    // A restart does not prolong it.
    world.stop_primary();
    world.start_primary();
    world.run(Duration::from_millis(1_100));
    assert_eq!(value_of(&world, "a"), None);
    world.run(Duration::from_secs(8));
    assert_eq!(world.clones[0].entries().len(), 0);
    check_equal(&world);
}

#[test]
fn a_large_snapshot_comes_in_parts_while_the_store_changes() {
    let mut world = World::new(1, 2, false);
    world.start_primary();
    world.run(Duration::from_secs(1));
    for number in 0..20_000u64 {
        let op = Op::Put {
            key: Encoded::key(&number),
            value: Encoded::of(&"x".repeat(100)),
            ttl: None,
        };
        world.primary.as_mut().unwrap().write(
            op,
            Level::Applied,
            0,
            None,
            Now {
                mono: Mono(2_000_000_000),
                wall: Timestamp::from_secs(2),
            },
        );
    }
    world.run(Duration::from_secs(5));
    check_equal(&world);
    // A third that comes later, while keys are set, removed and all are cleared.
    let name = world.name.clone();
    let late = StoreClone::new(name, 2, CloneConfig::default(), world.now);
    world.clones.push(late);
    world.watched.push(BTreeMap::new());
    for round in 0..40u64 {
        for key in 0..50 {
            let key = Encoded::key(&((round * 977 + key * 400) % 20_000));
            let op = if round % 2 == 0 {
                Op::Erase { key }
            } else {
                Op::Put {
                    key,
                    value: Encoded::of(&round),
                    ttl: None,
                }
            };
            world.write(0, op, Level::Applied);
        }
        if round == 20 {
            world.write(1, Op::Clear, Level::Applied);
        }
        world.run(Duration::from_millis(1));
    }
    world.run(Duration::from_secs(5));
    check_equal(&world);
}

#[test]
fn a_store_that_is_too_large_is_not_followed() {
    let mut world = World::new(1, 1, false);
    let config = CloneConfig {
        limit: 100_000,
        ..CloneConfig::default()
    };
    world.watched[0].clear();
    world.clones[0] = StoreClone::new(world.name.clone(), 0, config, world.now);
    world.start_primary();
    for number in 0..2_000u64 {
        world.write(0, put(&format!("{number}"), number), Level::Applied);
        world.run(Duration::from_millis(1));
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.clones[0].entries().len(), 0);
    let primary = world.primary.as_ref().unwrap();
    assert_eq!(
        primary.state().entries().len(),
        2_000,
        "it writes all the same"
    );
    let done = |asked: &Asked| matches!(asked.outcome, Some(Ok(Answer::Done { .. })));
    assert!(world.asked.values().all(done));
}

/// A part of a snapshot may arrive behind the news that one of its keys was removed.
#[test]
fn a_snapshot_that_is_overtaken_by_changes_brings_nothing_back() {
    for seed in 0..20 {
        let mut world = World::new(seed, 1, false);
        world.start_primary();
        world.run(Duration::from_secs(1));
        let primary = world.primary.as_mut().unwrap();
        let now = Now {
            mono: Mono(1_000_000_001),
            wall: Timestamp::from_secs(1),
        };
        for number in 0..4_000u64 {
            let op = Op::Put {
                key: Encoded::key(&number),
                value: Encoded::of(&"x".repeat(200)),
                ttl: None,
            };
            primary.write(op, Level::Applied, 0, None, now);
        }
        world.run(Duration::from_secs(1));
        let name = world.name.clone();
        world
            .clones
            .push(StoreClone::new(name, 1, CloneConfig::default(), world.now));
        world.watched.push(BTreeMap::new());
        world.weather.late = 50;
        for round in 0..100u64 {
            let key = Encoded::key(&(world.random.number(4_000)));
            let op = if round % 3 == 0 {
                Op::Put {
                    key,
                    value: Encoded::of(&round),
                    ttl: None,
                }
            } else {
                Op::Erase { key }
            };
            world.write(0, op, Level::Applied);
            world.run(Duration::from_millis(5));
        }
        world.run(Duration::from_secs(10));
        check_equal(&world);
    }
}

/// The story: a C++ clone does not notice that the last change was lost until there is another.
#[test]
fn the_loss_of_the_last_change_is_noticed_soon() {
    let mut world = World::new(1, 2, false);
    world.start_primary();
    world.run(Duration::from_secs(1));
    world.weather.lost = 100;
    let now = world.now();
    let primary = world.primary.as_mut().unwrap();
    primary.write(put("a", 1), Level::Applied, 0, None, now);
    world.run(Duration::from_millis(10));
    world.weather.lost = 0;
    world.run(Duration::from_millis(300));
    check_equal(&world);
}
