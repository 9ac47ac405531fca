//! Groups of voters from one seed: messages are lost, doubled, late and out of order; voters crash, stop and lose their disks.

mod group;
mod node;
mod oracle;

use group::{Account, Group};

use muster_test_support::{first_that_finds, seeds};

use crate::Sabotage;

/// Runs a group in trouble, heals it, and checks it.
fn run(seed: u64, sabotage: Sabotage) -> Result<(Account, u64), String> {
    let voters = if seed.is_multiple_of(3) { 5 } else { 3 };
    let mut group = Group::new(seed, voters, sabotage);
    finish(&mut group)
}

fn finish(group: &mut Group) -> Result<(Account, u64), String> {
    group.run(15_000)?;
    group.heal();
    group.run(3_000)?;
    group.check_led()?;
    group.run(8_000)?;
    group.check_settled()?;
    Ok((group.account.clone(), group.digest()))
}

#[test]
fn what_is_agreed_on_stays_and_a_healed_group_goes_on() {
    let mut all = Account::default();
    for seed in seeds(30) {
        let (account, _) =
            run(seed, Sabotage::Nothing).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        all.steps += account.steps;
        all.crashes += account.crashes;
        all.wiped += account.wiped;
        all.changes += account.changes;
        all.elections += account.elections;
        all.installs += account.installs;
        all.agreed += account.agreed;
    }
    println!("{all:?}");
    assert!(all.steps > 200_000 && all.agreed > 1_000, "{all:?}");
    let rare = [
        all.crashes,
        all.wiped,
        all.changes,
        all.elections,
        all.installs,
    ];
    assert!(rare.iter().all(|count| *count > 10), "{all:?}");
}

#[test]
fn two_runs_from_one_seed_send_the_same_messages() {
    for seed in [3, 4] {
        let transcript = |seed| {
            let mut group = Group::new(seed, 3, Sabotage::Nothing);
            group.transcript = Some(Vec::new());
            finish(&mut group).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            (
                group.transcript.take().unwrap(),
                group.digest(),
                group.account,
            )
        };
        let (once, again) = (transcript(seed), transcript(seed));
        assert!(once.0.len() > 1_000);
        for (one, other) in once.0.iter().zip(&again.0) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert_eq!(once, again, "seed {seed}");
    }
}

/// Returns the first seed that finds a broken rule, and what it finds.
fn found(sabotage: Sabotage, invariant: &str) -> (u64, String) {
    first_that_finds(invariant, |seed| run(seed, sabotage))
}

#[test]
fn a_second_vote_is_found() {
    println!("{:?}", found(Sabotage::VotesTwice, "I1"));
}

#[test]
fn voters_counted_without_their_answer_are_found() {
    println!("{:?}", found(Sabotage::CountsUnanswered, "I1"));
}

#[test]
fn what_leaves_before_it_is_on_disk_is_found() {
    println!("{:?}", found(Sabotage::ReleasesAtOnce, "I2"));
}

#[test]
fn the_vote_of_an_emptied_disk_is_found() {
    println!("{:?}", found(Sabotage::KeepsWipedDisk, "I3"));
}

#[test]
fn a_candidate_that_keeps_its_leader_is_found() {
    println!("{:?}", found(Sabotage::KeepsLeader, "I4"));
}
