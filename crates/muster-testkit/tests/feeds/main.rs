//! A feed in a whole cluster, from one seed. The manager has a list that changes all the time, and thirty workers and two data nodes
//! follow it, while the manager dies and begins anew, workers die, stand still or join, and boxes are cut off.
//!
//! - `EQUAL`: whoever is told that everything is there has what the source had at some time.
//! - `STEADY`: whoever was told so once always has the items that are in all lists.
//! - `ORDER`: of one key nobody sees an older value behind a newer one of the same list.
//! - `REMOVED`: only what is there is removed.
//! - `END`: when all trouble is over, everybody has the source's list.
//!
//! `MUSTER_SEEDS=1000 cargo test --release -p muster-testkit --test feeds` runs as many seeds.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod lister;
mod world;

use muster_test_support::{first_that_finds, seeds};
use muster_testkit::FeedSabotage;

#[test]
fn thirty_workers_have_the_list_whatever_happens() {
    let mut all = world::Account::default();
    for seed in seeds(4) {
        let account = world::run(seed, FeedSabotage::None);
        let account = account.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        println!("seed {seed}: {account:?}");
        all.add(&account);
    }
    println!("{all:?}");
    assert!(all.completes > 200 && all.changes > 10_000, "{all:?}");
    assert!(all.troubles > 10 && all.lists > 150, "{all:?}");
}

#[test]
fn a_list_that_is_not_swept_is_found() {
    let rule = FeedSabotage::SweepsNothing;
    let (_, error) = first_that_finds("EQUAL", |seed| world::run(seed, rule));
    println!("{error}");
}

#[test]
fn a_list_that_is_emptied_first_is_found() {
    let rule = FeedSabotage::EmptiesFirst;
    let (_, error) = first_that_finds("STEADY", |seed| world::run(seed, rule));
    println!("{error}");
}

#[test]
fn a_new_life_of_the_source_that_is_taken_for_the_old_one_is_found() {
    let rule = FeedSabotage::MixesLives;
    let (_, error) = first_that_finds("END", |seed| world::run(seed, rule));
    println!("{error}");
}

#[test]
fn a_removal_that_was_missed_is_found() {
    let rule = FeedSabotage::ForgetsRemovals;
    let (_, error) = first_that_finds("EQUAL", |seed| world::run(seed, rule));
    println!("{error}");
}
