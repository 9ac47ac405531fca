//! Runs, and rules that are broken to see that a run notices.

use std::time::Duration;

use muster_test_support::{first_that_finds, seeds};

use super::{Sabotage, World};

/// Runs a store in trouble, heals it, and checks it. Returns what happened.
fn run(seed: u64, sabotage: Sabotage) -> Result<(usize, u64), String> {
    let mut world = World::new(seed, sabotage);
    world.run(Duration::from_secs(25))?;
    world.heal();
    for _ in 0..30 {
        world.run(Duration::from_secs(1))?;
        if world.check().is_ok() {
            break;
        }
    }
    world.check()?;
    Ok((world.written(), world.failovers))
}

#[test]
fn nothing_that_was_acknowledged_is_lost_and_nothing_that_was_seen_is_taken_back() {
    let (mut written, mut failovers) = (0, 0);
    for seed in seeds(30) {
        match run(seed, Sabotage::None) {
            Ok((more, moved)) => {
                written += more;
                failovers += moved;
            }
            Err(wrong) => panic!("seed {seed}: {wrong}"),
        }
    }
    assert!(written > 1000 && failovers > 30, "{written} {failovers}");
}

#[test]
fn every_broken_rule_is_noticed() {
    let rules = [
        Sabotage::CommitsAlone,
        Sabotage::AcknowledgesFormer,
        Sabotage::CountsNewcomersLate,
        Sabotage::ForgetsWriters,
        Sabotage::AnswersAtOnce,
        Sabotage::MakesAtOnce,
        Sabotage::DropsOpen,
    ];
    for rule in rules {
        let (seed, wrong) = first_that_finds("S", |seed| run(seed, rule));
        println!("{rule:?}: seed {seed}: {wrong}");
    }
}
