//! Keyed work in whole clusters, from one seed: workers publish events for the owners of keys, data nodes write them into rows, and one
//! box at a time is in trouble. What was acknowledged is in the rows, once and in order.
//!
//! `MUSTER_SEEDS=1000 cargo test --release -p muster-testkit --test keyed` runs as many seeds.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod duties;
mod handlers;
mod ledger;
#[path = "../trouble/mod.rs"]
mod trouble;
mod world;

use muster_test_support::{first_that_finds, seeds};
use muster_testkit::KeyedSabotage;

use world::{Account, run, run_alone};

#[test]
fn acknowledged_events_are_in_the_rows_once_whatever_happens_to_a_box() {
    let mut all = Account::default();
    for seed in seeds(4) {
        let account = run(seed, KeyedSabotage::None);
        all.add(&account.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
    }
    println!("{all:?}");
    assert!(
        all.acknowledged > 2_000 && all.troubles.troubles > 10,
        "{all:?}"
    );
    assert!(all.taken_over > 50 && all.again > 0, "{all:?}");
}

#[test]
fn acknowledged_events_are_in_the_rows_once_where_nobody_coordinates() {
    let mut all = Account::default();
    for seed in seeds(4) {
        let account = run_alone(seed);
        all.add(&account.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
    }
    println!("{all:?}");
    assert!(all.acknowledged > 3_000 && all.taken_over > 50, "{all:?}");
}

/// Returns the first seed that finds a broken rule, and what it finds.
fn found(rule: KeyedSabotage, what: &str) -> (u64, String) {
    first_that_finds(what, |seed| run(seed, rule))
}

#[test]
fn an_owner_that_acknowledges_alone_is_found() {
    println!("{:?}", found(KeyedSabotage::AcknowledgesAlone, "MISSING"));
}

#[test]
fn an_owner_that_does_not_wait_for_what_others_know_is_found() {
    println!("{:?}", found(KeyedSabotage::ServesAtOnce, "MISSING"));
}

#[test]
fn an_event_that_is_handled_again_is_found() {
    println!("{:?}", found(KeyedSabotage::HandlesAgain, "TWICE"));
}

#[test]
fn rows_without_the_events_that_are_in_them_are_found() {
    println!("{:?}", found(KeyedSabotage::HandsOverRowsAlone, "TWICE"));
}

#[test]
fn a_former_owner_that_offers_nothing_is_found() {
    println!("{:?}", found(KeyedSabotage::KeepsForItself, "MISSING"));
}

#[test]
fn a_standby_that_offers_nothing_is_found() {
    println!(
        "{:?}",
        found(KeyedSabotage::StandbyKeepsForItself, "MISSING")
    );
}
