//! Log records in clusters in trouble, from one seed: nodes of several boxes write records while boxes die, stand still, are cut off or have
//! disks that hang and are full. Then all trouble ends. An acknowledged record has to be in one file with a final name, and no record in
//! two; what is neither acknowledged nor open was dropped and counted.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod disk;
#[path = "../trouble/mod.rs"]
mod trouble;
mod world;

use muster_test_support::{first_that_finds, seeds};

use world::{Account, World};

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A logger says that it has what its disk may lose.
    SyncsNothing,
    /// A file gets its final name when it is closed, whatever is in it.
    FinalAtOnce,
}

#[test]
fn what_is_acknowledged_is_in_one_file() {
    let mut all = Account::default();
    for seed in seeds(6) {
        let account = World::run(seed, None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        println!("seed {seed}: {account:?}");
        all.add(&account);
    }
    println!("{all:?}");
    assert!(
        all.acknowledged > 3_000 && all.promised > 2_000 && all.troubles.troubles > 10,
        "{all:?}"
    );
}

#[test]
fn a_logger_that_syncs_nothing_is_found() {
    let found = first_that_finds("LOST", |seed| World::run(seed, Some(Broken::SyncsNothing)));
    println!("{found:?}");
}

#[test]
fn a_name_that_is_final_too_early_is_found() {
    let found = first_that_finds("TWICE", |seed| World::run(seed, Some(Broken::FinalAtOnce)));
    println!("{found:?}");
}
