use super::{Asked, Sabotage, Scenario, Violation, World};
use crate::op::{Answer, WriteRefusal};

/// The runs that must be as they should be, and those in which a broken rule must be noticed.
const RUNS: u64 = 200;

#[test]
fn stores_open_settle_and_agree_whatever_happens() {
    let mut writes = 0;
    for seed in 0..RUNS {
        match World::check(seed, Sabotage::None) {
            Ok(asked) => writes += asked,
            Err(violation) => panic!("seed {seed}: {violation:?}"),
        }
    }
    assert!(writes > 10_000, "only {writes} writes");
}

/// Nodes whose stores have little room together: writes are refused and copies given up, and none of them is wrong.
#[test]
fn a_full_budget_refuses_writes_and_never_makes_a_copy_wrong() {
    let (mut refused, mut given_up, mut fetched) = (0, 0, 0);
    for seed in 0..RUNS {
        let scenario = Scenario {
            budget: Some(400 + usize::try_from(seed % 40).unwrap() * 50),
            ..Scenario::of(seed)
        };
        let world = World::run_through(seed, scenario, Sabotage::None);
        if let Some(violation) = world.violation {
            panic!("seed {seed}: {violation:?}");
        }
        let is_refused = |asked: &&Asked| {
            matches!(
                asked.outcome,
                Some(Ok(Answer::Refused(WriteRefusal::OverBudget)))
            )
        };
        refused += world.asked.iter().filter(is_refused).count();
        given_up += world.given_up;
        fetched += world.fetched_again;
    }
    assert!(
        refused > 1000 && given_up > 50 && fetched > 20,
        "{refused} writes refused, {given_up} copies given up, {fetched} fetched again"
    );
}

#[test]
fn the_same_seed_brings_the_same_run() {
    let one = World::check(11, Sabotage::None);
    assert_eq!(World::check(11, Sabotage::None), one);
    assert!(one.is_ok_and(|writes| writes > 0));
}

/// What is noticed of a broken rule, in the first run in which anything is.
fn noticed(sabotage: Sabotage) -> Option<Violation> {
    (0..RUNS).find_map(|seed| World::check(seed, sabotage).err())
}

macro_rules! sabotages {
    ($($name:ident: $sabotage:ident => $($violation:ident)|+;)+) => {
        $(
            #[test]
            fn $name() {
                let noticed = noticed(Sabotage::$sabotage);
                let is_it = matches!(noticed, Some($(Violation::$violation)|+));
                assert!(is_it, "{noticed:?}");
            }
        )+
    };
}

sabotages! {
    a_lost_early_write_is_noticed: LosesEarly => NotSettled;
    early_writes_in_another_order_are_noticed: ReversesEarly => OutOfOrder;
    a_second_open_that_forgets_early_writes_is_noticed: SecondOpenForgets => NotSettled;
    a_failure_to_open_that_nobody_hears_of_is_noticed: SilentFailure => NotSettled;
    early_writes_without_a_deadline_are_noticed: EarlyForEver => NotSettled;
    an_unread_backend_that_counts_as_empty_is_noticed: UnreadIsEmpty => Lost | NotOnDisk | DiskNotEqual;
    a_store_that_asks_nobody_for_its_primary_is_noticed: AsksNobody => NotOpened;
    a_store_that_asks_once_for_its_primary_is_noticed: AsksOnce => NotOpened;
    a_durable_answer_before_the_disk_is_noticed: DurableAtOnce => NotOnDisk;
    a_durable_answer_to_another_node_before_the_disk_is_noticed: DurableAtOnceElsewhere => NotOnDisk;
    a_failed_commit_that_counts_as_done_is_noticed: FailureIsSuccess => NotOnDisk | DiskNotEqual;
    a_failed_commit_that_is_dropped_is_noticed: DropsFailedCommit => NotOnDisk | DiskNotEqual;
    a_write_that_waits_for_the_disk_without_end_is_noticed: OwnForEver => NotSettled;
    writers_that_are_forgotten_are_noticed: ForgetsWriters => AppliedTwice;
    a_question_that_is_asked_once_is_noticed: AsksQuestionOnce => NotAnswered;
    a_copy_that_leaves_out_what_has_no_room_is_noticed: LeavesOutWhatHasNoRoom => NotEqual;
    a_copy_that_does_not_come_back_is_noticed: NeverFetchesAgain => NotEqual;
    primaries_blind_to_one_another_are_noticed: BlindToRivals => RivalsUnnoticed;
}
