//! Requests in whole clusters, from one seed. One question goes to thirty workers while one of them dies, stands still, is stopped or
//! cut off; and questions go to nodes, roles and owners of keys while boxes are in trouble. Every request has one outcome in its time,
//! everybody who was asked is in one list, and no life of a node handles a question twice.
//!
//! `MUSTER_SEEDS=1000 cargo test --release -p muster-testkit --test requests` runs as many seeds.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod gathering;
mod ledger;
mod questions;
#[path = "../trouble/mod.rs"]
mod trouble;

use muster_test_support::{first_that_finds, seeds};
use muster_testkit::RequestSabotage;

#[test]
fn thirty_workers_are_asked_and_the_missing_one_is_named() {
    let mut all = gathering::Account::default();
    for seed in seeds(6) {
        let account = gathering::run(seed, RequestSabotage::None);
        all.add(&account.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
    }
    println!("{all:?}");
    assert!(all.answers > 6 * 29 && all.missing > 0 && all.complete > 0);
}

#[test]
fn questions_have_one_outcome_whatever_happens_to_boxes() {
    let mut all = questions::Account::default();
    for seed in seeds(4) {
        let account = questions::run(seed, RequestSabotage::None);
        all.add(&account.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
    }
    println!("{all:?}");
    assert!(all.answered > 1_000 && all.unanswered > 10 && all.troubles.troubles > 5);
}

#[test]
fn a_missing_worker_that_is_not_named_is_found() {
    let rule = RequestSabotage::ForgetsMissing;
    let (_, error) = first_that_finds("NAMES", |seed| gathering::run(seed, rule));
    println!("{error}");
}

#[test]
fn a_dead_worker_that_is_waited_for_is_found() {
    let rule = RequestSabotage::WaitsForGone;
    let (_, error) = first_that_finds("LATE", |seed| gathering::run(seed, rule));
    println!("{error}");
}

#[test]
fn a_question_that_is_handled_again_is_found() {
    let rule = RequestSabotage::HandlesAgain;
    let (_, error) = first_that_finds("AGAIN", |seed| gathering::run(seed, rule));
    println!("{error}");
}

#[test]
fn a_new_number_for_the_same_question_is_found() {
    let rule = RequestSabotage::NumbersAnew;
    let (_, error) = first_that_finds("AGAIN", |seed| gathering::run(seed, rule));
    println!("{error}");
}

#[test]
fn an_answer_to_another_question_is_found() {
    let rule = RequestSabotage::TakesAnyAnswer;
    let (_, error) = first_that_finds("WRONG", |seed| questions::run(seed, rule));
    println!("{error}");
}
