//! Runs, and rules that are broken to see that a run notices.

use std::time::Duration;

use muster_test_support::{first_that_finds, seeds};

use super::{Sabotage, World};

/// Runs a store in trouble, heals it, and checks it. Returns how many writes were done, and how often the primary went elsewhere.
fn run(seed: u64, sabotage: Sabotage) -> Result<(usize, u64), String> {
    let mut world = World::new(seed, sabotage);
    world.run(Duration::from_secs(20))?;
    world.heal();
    for _ in 0..30 {
        world.run(Duration::from_secs(1))?;
        if world.check().is_ok() {
            break;
        }
    }
    world.check()?;
    Ok((world.written(), world.promotions))
}

#[test]
fn nodes_agree_and_nothing_that_was_acknowledged_is_lost_whoever_is_a_copy() {
    let (mut written, mut promotions) = (0, 0);
    for seed in seeds(30) {
        match run(seed, Sabotage::None) {
            Ok((more, moved)) => {
                written += more;
                promotions += moved;
            }
            Err(wrong) => panic!("seed {seed}: {wrong}"),
        }
    }
    assert!(
        written > 1000 && promotions > 30,
        "{written} writes, {promotions} promotions"
    );
}

macro_rules! sabotages {
    ($($name:ident: $sabotage:ident => $rule:literal;)+) => {
        $(
            #[test]
            fn $name() {
                let (seed, wrong) = first_that_finds($rule, |seed| run(seed, Sabotage::$sabotage));
                println!("seed {seed}: {wrong}");
            }
        )+
    };
}

sabotages! {
    a_new_copy_that_forgets_its_nodes_writes_is_noticed: CopyForgetsWrites => "";
    a_former_copy_that_forgets_what_it_holds_is_noticed: CloneForgetsHeld => "ONCE";
    a_copy_whose_node_hears_of_its_writes_too_early_is_noticed: SettlesBeforeRead => "OWN";
    a_copy_that_is_read_too_early_is_noticed: ReadsCopyAtOnce => "READ";
    a_copy_whose_watchers_are_not_told_is_noticed: TellsNoDifferences => "WATCH";
    a_backend_that_is_not_read_again_is_noticed: ReadsBackendOnce => "END";
    a_file_that_is_taken_for_what_it_is_not_is_noticed: KeepsTimeline => "";
}
