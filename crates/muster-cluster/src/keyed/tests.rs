//! Whole pools, simulated: producers, members that die, hang and come back, and a bad network between them.

mod world;

use self::world::{Fate, burst, run};
use super::sabotage::Sabotage;

/// Seeds from `MUSTER_FIRST_SEED` on, as many as `MUSTER_SEEDS` says.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("MUSTER_FIRST_SEED").unwrap_or(0);
    first..first + number("MUSTER_SEEDS").unwrap_or(usual)
}

#[test]
fn every_acknowledged_event_is_in_the_rows_once_and_in_order() {
    let mut fate = Fate::default();
    for seed in seeds(60) {
        let found = run(seed, Sabotage::None);
        assert!(found.problem.is_none(), "seed {seed}: {found:?}");
        fate.add(&found.fate);
    }
    // Otherwise nothing was tried.
    assert!(
        fate.crashes > 0 && fate.expulsions > 0 && fate.joins > 0,
        "{fate:?}"
    );
    assert!(fate.again > 0 && fate.handed_over > 0, "{fate:?}");
    println!("{fate:?}");
}

#[test]
fn many_events_at_once_are_done_without_being_sent_again() {
    let (repeated, took) = burst(50_000);
    assert_eq!(repeated, 0);
    // A window of events goes there and back in some milliseconds of simulated time.
    assert!(took < 1_000, "{took} ms");
}

#[test]
fn every_rule_that_is_broken_is_noticed() {
    for broken in [
        Sabotage::AcknowledgesAlone,
        Sabotage::ServesAtOnce,
        Sabotage::HandlesAgain,
        Sabotage::HandsOverRowsAlone,
        Sabotage::KeepsForItself,
        Sabotage::StandbyKeepsForItself,
        Sabotage::KeepsStaleCopies,
        Sabotage::TakesWithGaps,
        Sabotage::TakesFromFormer,
        Sabotage::ForgetsTooEarly,
        Sabotage::DoesNotWait,
        Sabotage::TakesChangesAnyhow,
        Sabotage::CountsTermsAlone,
        Sabotage::TakesOldest,
    ] {
        let noticed = seeds(200).find(|seed| run(*seed, broken).problem.is_some());
        println!("{broken:?}: {noticed:?}");
        assert!(noticed.is_some(), "{broken:?} was not noticed");
    }
}
