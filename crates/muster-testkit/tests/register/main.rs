//! The configuration register in clusters in trouble, from one seed: nodes of several boxes set and swap values, and an operator changes a
//! live setting, while boxes die, stand still, are cut off or have disks that hang and are full. Then all trouble ends, and at last
//! everything is killed and starts again.
//!
//! - `ONE`: of those who swap the same value, one wins.
//! - `LOST`: what was acknowledged is there, or what was set later.
//! - `ORDER`: all nodes see values in one order, each from one to the next, as far as they see them.
//! - `END`: in the end all nodes have heard of the same value, have it, and find it again after everything has started anew.
//! - `FIT`: nobody ever goes by a value that does not fit.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod follower;
mod oracle;
#[path = "../trouble/mod.rs"]
mod trouble;
mod world;

use muster_test_support::{first_that_finds, seeds};
use muster_testkit::{CopySabotage, Neglect};

use world::{Account, World};

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Broken {
    /// Whoever swaps compares with what the own node has, and then sets.
    swaps_by_setting: bool,
    /// What nodes do not do.
    neglect: Neglect,
    /// What those who keep the store do wrong.
    copies: CopySabotage,
}

#[test]
fn every_node_goes_by_what_was_set_last() {
    let mut all = Account::default();
    for seed in seeds(6) {
        let account = World::run(seed, Broken::default());
        let account = account.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        println!("seed {seed}: {account:?}");
        all.add(&account);
    }
    println!("{all:?}");
    assert!(all.set > 300 && all.won > 100 && all.beaten > 50, "{all:?}");
    assert!(all.heard > 3_000 && all.refused > 10, "{all:?}");
    assert!(all.troubles.troubles > 10, "{all:?}");
}

#[test]
fn a_swap_that_compares_on_its_own_node_is_found() {
    let broken = Broken {
        swaps_by_setting: true,
        ..Broken::default()
    };
    println!(
        "{:?}",
        first_that_finds("ONE", |seed| World::run(seed, broken))
    );
}

#[test]
fn a_node_that_is_not_told_of_changes_is_found() {
    let broken = Broken {
        neglect: Neglect::Changes,
        ..Broken::default()
    };
    println!(
        "{:?}",
        first_that_finds("END", |seed| World::run(seed, broken))
    );
}

#[test]
fn a_primary_that_commits_alone_is_found() {
    let broken = Broken {
        copies: CopySabotage::CommitsAlone,
        ..Broken::default()
    };
    // Those before it find nothing, and take their time.
    let found = first_that_finds("LOST", |seed| World::run(88 + seed, broken));
    println!("{found:?}");
}
