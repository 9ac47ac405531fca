//! Whole clusters of boxes in trouble, from one seed: one box at a time dies, stands still, is cut off, or has a disk that hangs, is slow or
//! full, while several nodes write to several stores. Then all trouble ends, and everything has to be in order again.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod layout;
mod oracle;
#[path = "../trouble/mod.rs"]
mod trouble;
mod world;
mod writes;

use std::time::Duration;

use muster_test_support::{first_that_finds, seeds};
use muster_testkit::{CoordinatorSabotage, CopySabotage, Neglect};

use world::{Account, World};

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, Default)]
struct Sabotage {
    coordinators: CoordinatorSabotage,
    copies: CopySabotage,
    neglect: Neglect,
    /// Nobody reads meanwhile: what is wrong is found in the end, if at all.
    nobody_reads: bool,
}

/// Runs a cluster in trouble, heals it, and checks it.
fn run(seed: u64, sabotage: Sabotage) -> Result<World, String> {
    let mut world = World::new(seed, sabotage);
    world.begins()?;
    world.run(Duration::from_secs(60))?;
    world.heal();
    let mut settled = Ok(());
    for _ in 0..30 {
        world.run(Duration::from_secs(1))?;
        settled = world.check_settled();
        if settled.is_ok() {
            break;
        }
    }
    settled?;
    world.check()?;
    Ok(world)
}

#[test]
fn whatever_happens_to_one_box_nothing_that_was_acknowledged_is_lost() {
    let mut all = Account::default();
    for seed in seeds(4) {
        let world = run(seed, Sabotage::default());
        let world = world.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        println!("seed {seed}: {:?}", world.account);
        all.add(&world.account);
    }
    println!("{all:?}");
    assert!(all.done > 1000 && all.troubles.troubles > 10, "{all:?}");
}

/// The same, and then nothing happens for so long that everything of former times is forgotten.
fn run_and_rest(seed: u64, sabotage: Sabotage) -> Result<(), String> {
    let mut world = run(seed, sabotage)?;
    world.run(Duration::from_secs(65))?;
    world.check_bounds()
}

#[test]
fn what_is_remembered_of_those_who_came_and_went_is_bounded() {
    for seed in seeds(1) {
        run_and_rest(seed, Sabotage::default())
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn a_coordinator_that_forgets_nobody_is_found() {
    let sabotage = of_coordinators(CoordinatorSabotage::ForgetsNobody);
    println!(
        "{:?}",
        first_that_finds("B1", |seed| run_and_rest(seed, sabotage))
    );
}

/// Returns the first seed that finds a broken rule, and what it finds.
fn found(sabotage: Sabotage, invariant: &str) -> (u64, String) {
    first_that_finds(invariant, |seed| run(seed, sabotage))
}

fn of_coordinators(coordinators: CoordinatorSabotage) -> Sabotage {
    Sabotage {
        coordinators,
        ..Sabotage::default()
    }
}

fn of_copies(copies: CopySabotage) -> Sabotage {
    Sabotage {
        copies,
        ..Sabotage::default()
    }
}

#[test]
fn an_impatient_leader_is_found() {
    let sabotage = of_coordinators(CoordinatorSabotage::IsImpatient);
    println!("{:?}", found(sabotage, "I6"));
}

#[test]
fn a_view_that_is_told_before_it_is_agreed_on_is_found() {
    let sabotage = of_coordinators(CoordinatorSabotage::TellsProposals);
    println!("{:?}", found(sabotage, "I5"));
}

#[test]
fn a_lease_granted_to_a_session_that_is_over_is_found() {
    let sabotage = of_coordinators(CoordinatorSabotage::GrantsOldSessions);
    println!("{:?}", found(sabotage, "I6"));
}

#[test]
fn a_primary_that_was_not_in_sync_is_found() {
    let sabotage = of_coordinators(CoordinatorSabotage::PromotesCandidates);
    println!("{:?}", found(sabotage, "READ"));
}

#[test]
fn a_last_copy_that_leaves_is_found() {
    let sabotage = of_coordinators(CoordinatorSabotage::LetsLastCopyLeave);
    println!("{:?}", found(sabotage, "READ"));
}

fn of_nodes(neglect: Neglect) -> Sabotage {
    Sabotage {
        neglect,
        ..Sabotage::default()
    }
}

#[test]
fn a_node_that_does_not_suspend_itself_is_found() {
    let sabotage = of_nodes(Neglect::Suspension);
    println!("{:?}", found(sabotage, "B2"));
}

#[test]
fn a_store_that_never_gets_its_copies_is_found() {
    let sabotage = of_nodes(Neglect::Requests);
    println!("{:?}", found(sabotage, "L: "));
}

#[test]
fn a_primary_that_commits_alone_is_found() {
    let sabotage = of_copies(CopySabotage::CommitsAlone);
    println!("{:?}", found(sabotage, "READ"));
}

#[test]
fn a_copy_that_forgets_what_is_not_committed_is_found() {
    let sabotage = of_copies(CopySabotage::DropsOpen);
    println!("{:?}", found(sabotage, "READ"));
}

#[test]
fn a_loss_that_nobody_has_read_of_is_found() {
    let sabotage = Sabotage {
        nobody_reads: true,
        ..of_copies(CopySabotage::CommitsAlone)
    };
    // Those before it find nothing, or something else, and take their time.
    let found = first_that_finds("LOST", |seed| run(16 + seed, sabotage));
    println!("{found:?}");
}

#[test]
fn two_equal_answers_are_found() {
    let sabotage = Sabotage {
        nobody_reads: true,
        ..of_copies(CopySabotage::DropsOpen)
    };
    let found = first_that_finds("TWICE", |seed| run(5 + seed, sabotage));
    println!("{found:?}");
}
