//! Duties of managers, and the manager's topic, in whole clusters, from one seed: workers publish for whoever has a duty and for the
//! manager, and one manager, or one box of any kind, at a time is in trouble.
//!
//! What was acknowledged is in the rows of the duty, once. A manager does not act for a duty, nor takes itself for the one that has it, when
//! another one has acted since, unless it has the duty anew. Where only managers are in trouble, what workers publish for the manager is handled.
//!
//! `MUSTER_SEEDS=1000 cargo test --release -p muster-testkit --test duties` runs as many seeds.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod ledger;
#[path = "../trouble/mod.rs"]
mod trouble;
mod world;

use muster_test_support::{first_that_finds, seeds};
use muster_testkit::KeyedSabotage;

use world::{Account, Concerns, run};

fn all(concerns: Concerns, runs: u64) -> Account {
    let mut all = Account::default();
    for seed in seeds(runs) {
        let account = run(seed, concerns, KeyedSabotage::None);
        all.add(&account.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
    }
    all
}

#[test]
fn what_workers_publish_for_the_manager_is_handled_whatever_happens_to_one() {
    let all = all(Concerns::Managers, 6);
    println!("{all:?}");
    assert!(all.words > 3_000 && all.of_managers > 20, "{all:?}");
    assert!(all.acknowledged > 2_000 && all.takings > 12, "{all:?}");
}

#[test]
fn acknowledged_events_for_a_duty_are_in_its_rows_once_whatever_happens_to_a_box() {
    let all = all(Concerns::Everything, 8);
    println!("{all:?}");
    assert!(all.acknowledged > 500 && all.takings > 4, "{all:?}");
    assert!(all.troubles.troubles > 10, "{all:?}");
}

/// Returns the first seed that finds a broken rule, and what it finds.
fn found(concerns: Concerns, rule: KeyedSabotage, what: &str) -> (u64, String) {
    first_that_finds(what, |seed| run(seed, concerns, rule))
}

#[test]
fn a_manager_that_acknowledges_alone_is_found() {
    let rule = KeyedSabotage::AcknowledgesAlone;
    println!("{:?}", found(Concerns::Managers, rule, "MISSING"));
}

#[test]
fn a_manager_that_takes_over_without_what_the_other_knows_is_found() {
    let rule = KeyedSabotage::ServesAtOnce;
    println!("{:?}", found(Concerns::Managers, rule, "MISSING"));
}

#[test]
fn a_manager_that_goes_on_without_a_lease_is_found() {
    let rule = KeyedSabotage::GoesOnWithoutLease;
    println!("{:?}", found(Concerns::Managers, rule, "OVERLAP"));
}

#[test]
fn a_manager_that_handles_what_it_has_taken_without_the_duty_is_found() {
    let rule = KeyedSabotage::HandlesWhatItHasTaken;
    println!("{:?}", found(Concerns::Everything, rule, "IDLE"));
}
