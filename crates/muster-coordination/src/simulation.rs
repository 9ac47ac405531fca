//! Clusters with coordinators from one seed: boxes crash, stop, are cut off, lose their disks; processes hang, leave and come back; clocks
//! run at different rates.

mod actors;
mod checks;
mod histories;
mod network;
mod oracle;
mod recovery;
mod scripted;
mod stores;
mod trouble;
mod world;

use world::{Account, World};

use muster_test_support::{first_that_finds, seeds};

use crate::Sabotage;

/// Runs a cluster in trouble, heals it, and checks it.
fn run(seed: u64, sabotage: Sabotage) -> Result<Account, String> {
    let mut world = World::new(seed, sabotage);
    world.run(60_000)?;
    world.heal();
    world.run(3_000)?;
    world.check_led()?;
    let mut settled = world.check_settled();
    for round in 1..24 {
        if settled.is_ok() {
            break;
        }
        world.run(3_000)?;
        settled = world.check_settled();
        if round == 9 {
            // A node that came and went often waits up to a minute.
            world.check_in()?;
        }
    }
    settled.map(|()| world.account)
}

#[test]
fn nobody_is_given_up_early_and_all_see_the_same() {
    let mut all = Account::default();
    for seed in seeds(30) {
        let account =
            run(seed, Sabotage::Nothing).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        all.steps += account.steps;
        all.crashes += account.crashes;
        all.freezes += account.freezes;
        all.hangs += account.hangs;
        all.cuts += account.cuts;
        all.wiped += account.wiped;
        all.left += account.left;
        all.epochs += account.epochs;
        all.silent += account.silent;
        all.alone += account.alone;
        all.isolated += account.isolated;
        all.ambushes += account.ambushes;
        all.moves += account.moves;
        all.promotions += account.promotions;
        all.restarts += account.restarts;
        all.joins += account.joins;
        all.shrinks += account.shrinks;
    }
    println!("{all:?}");
    let rare = [
        all.crashes,
        all.freezes,
        all.hangs,
        all.cuts,
        all.wiped,
        all.left,
        all.silent,
        all.alone,
        all.isolated,
        all.ambushes,
        all.moves,
        all.promotions,
        all.restarts,
        all.joins,
        all.shrinks,
    ];
    assert!(
        all.epochs > 200 && rare.iter().all(|count| *count > 5),
        "{all:?}"
    );
}

#[test]
fn two_runs_from_one_seed_do_the_same() {
    for seed in 0..3 {
        assert_eq!(run(seed, Sabotage::Nothing), run(seed, Sabotage::Nothing));
    }
}

/// Returns the first seed that finds a broken rule, and what it finds.
fn found(sabotage: Sabotage, invariant: &str) -> (u64, String) {
    first_that_finds(invariant, |seed| run(seed, sabotage))
}

#[test]
fn a_new_leader_that_counts_old_silence_is_found() {
    println!("{:?}", found(Sabotage::CountsOldSilence, "I6"));
}

#[test]
fn an_impatient_leader_is_found() {
    println!("{:?}", found(Sabotage::IsImpatient, "I6"));
}

#[test]
fn a_view_that_is_told_before_it_is_agreed_on_is_found() {
    println!("{:?}", found(Sabotage::TellsProposals, "I5"));
}

#[test]
fn a_lease_granted_to_a_session_that_is_over_is_found() {
    println!("{:?}", found(Sabotage::GrantsOldSessions, "I6"));
}

#[test]
fn a_lease_that_a_leader_grants_alone_at_once_is_found() {
    println!("{:?}", found(Sabotage::GrantsWithoutRound, "I6"));
}

#[test]
fn a_last_copy_that_leaves_is_found() {
    println!("{:?}", found(Sabotage::LetsLastCopyLeave, "S7"));
}

#[test]
fn a_copy_that_is_in_sync_by_an_old_word_is_found() {
    let wrong = "S2: a copy is in sync by nobody's word";
    println!("{:?}", found(Sabotage::TakesStaleJoined, wrong));
}

#[test]
fn a_primary_that_was_not_in_sync_is_found() {
    let wrong = "S2: a copy is in sync by nobody's word";
    println!("{:?}", found(Sabotage::PromotesCandidates, wrong));
}

#[test]
fn a_copy_that_leaves_by_the_word_of_anybody_is_found() {
    let wrong = "S2: a copy is out of sync by nobody's word";
    println!("{:?}", found(Sabotage::LetsAnybodyShrink, wrong));
}
