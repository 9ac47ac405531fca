//! The runs.

use super::graphs::Shape;
use super::scenario::{Report, Run};
use muster_wire::mesh::Sabotage;

pub(super) fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn run(seed: u64, shape: Shape, nodes: usize) -> Run {
    Run {
        seed,
        shape,
        nodes,
        rounds: 2,
        messages: 40,
        is_sealed: false,
        sabotage: Sabotage::default(),
    }
}

fn check_all(runs: impl IntoIterator<Item = Run>) -> Report {
    let mut total = Report::default();
    let mut count = 0;
    let mut failed = Vec::new();
    for run in runs {
        match run.check() {
            Ok(report) => {
                count += 1;
                total.published += report.published;
                total.delivered += report.delivered;
                total.transmissions += report.transmissions;
                total.visits += report.visits;
                total.probes += report.probes;
                total.steps += report.steps;
                total.forged += report.forged;
            }
            Err(violation) => failed.push(violation),
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} runs:\n{}",
        failed.len(),
        count + failed.len(),
        failed.join("\n")
    );
    println!("{count} runs: {total:?}");
    total
}

/// A run by its line.
#[test]
fn one_run() {
    let Ok(line) = std::env::var("MESH_RUN") else {
        return;
    };
    let parts: Vec<&str> = line.split(':').collect();
    let number = |at: usize| parts[at].parse().expect("a number");
    let shape = Shape::ALL
        .into_iter()
        .find(|shape| shape.name() == parts[1]);
    let run = Run {
        seed: parts[0].parse().expect("a seed"),
        shape: shape.expect("a shape"),
        nodes: number(2),
        rounds: number(3),
        messages: number(4),
        is_sealed: parts.get(5) == Some(&"sealed"),
        sabotage: Sabotage::default(),
    };
    check_all([run]);
}

fn small_runs() -> impl Iterator<Item = Run> {
    let seeds = setting("MESH_SEEDS", 8);
    (0..seeds).flat_map(|seed| {
        Shape::ALL.map(|shape| {
            let seed = u64::try_from(seed).unwrap();
            let nodes = 3 + usize::try_from(seed).unwrap() * 5 % 14;
            run(seed, shape, nodes.min(shape.most()))
        })
    })
}

#[test]
fn small_graphs() {
    check_all(small_runs());
}

/// Where endpoints have certificates nobody speaks for another one: not a message is lost while some try, and nobody has
/// to answer.
#[test]
fn small_graphs_with_seals() {
    let report = check_all(small_runs().map(|run| Run {
        is_sealed: true,
        ..run
    }));
    assert!(report.forged > 0);
}

/// A large graph, of a size that a debug build bears.
#[test]
fn large_graphs() {
    check_large(setting("MESH_SIZE", 100));
}

/// As large as a cluster may be.
#[test]
#[ignore = "takes minutes in a release build"]
fn a_thousand_endpoints() {
    check_large(1000);
}

fn check_large(nodes: usize) {
    let seeds = u64::try_from(setting("MESH_LARGE_SEEDS", 1)).unwrap();
    check_all((1000..1000 + seeds).map(|seed| Run {
        rounds: 1,
        messages: 100,
        ..run(seed, Shape::Sparse, nodes)
    }));
}

/// The violations that the simulator sees in some runs with a rule broken on purpose.
fn violations(sabotage: Sabotage) -> Vec<String> {
    let is_sealed = sabotage == Sabotage::BelievedSeals;
    let seeds = 0..4u64;
    let runs = seeds.flat_map(|seed| Shape::ALL.map(|shape| run(seed, shape, 9)));
    let broken = runs.map(|run| Run {
        is_sealed,
        sabotage,
        ..run
    });
    broken.filter_map(|run| run.check().err()).collect()
}

fn assert_seen(sabotage: Sabotage, words: &str) {
    let violations = violations(sabotage);
    let is_seen = violations.iter().any(|violation| violation.contains(words));
    assert!(
        is_seen,
        "no {words:?} with {sabotage:?} among {violations:#?}"
    );
}

#[test]
fn without_window_and_tree_messages_come_twice() {
    assert_seen(Sabotage::Storm, "twice");
}

#[test]
fn without_trees_links_carry_what_nobody_needs() {
    assert_seen(Sabotage::Flooding, "transmissions, not");
}

#[test]
fn without_the_two_way_check_the_dead_are_in_reach_for_ever() {
    assert_seen(Sabotage::NoTwoWayCheck, "no agreement");
}

#[test]
fn without_the_tree_before_a_change_new_links_lose_messages() {
    assert_seen(Sabotage::OneTree, "missed");
}

#[test]
fn without_the_barrier_node_up_comes_too_early() {
    assert_seen(Sabotage::NoBarrier, "on node up");
}

#[test]
fn with_many_homes_messages_of_version_1_come_twice() {
    assert_seen(Sabotage::ManyHomes, "of version 1 on");
    assert_seen(Sabotage::ManyHomes, ", of version 1, got");
}

#[test]
fn without_a_look_at_who_peers_with_whom_version_1_hears_twice() {
    assert_seen(Sabotage::NoPeers, "of version 1 on");
    assert_seen(Sabotage::NoPeers, ", of version 1, got");
}

#[test]
fn without_questions_what_version_1_forwards_comes_twice() {
    assert_seen(Sabotage::NoQuestions, "forwards");
}

#[test]
fn without_repair_databases_stay_different() {
    assert_seen(Sabotage::NoRepair, "no agreement");
}

#[test]
fn with_everything_offered_the_rules_hold() {
    assert_eq!(violations(Sabotage::OffersAll), [""; 0]);
}

#[test]
fn offers_that_are_believed_leave_databases_different() {
    assert_seen(Sabotage::BelievedOffers, "no agreement");
}

#[test]
fn an_origin_that_does_not_answer_lies_is_silenced() {
    assert_seen(Sabotage::MeekOrigins, "no agreement");
}

#[test]
fn numbers_that_nobody_can_have_reached_are_not_to_be_believed() {
    assert_seen(Sabotage::BelievedNumbers, "no agreement");
}

#[test]
fn seals_that_are_believed_silence_others() {
    assert_seen(Sabotage::BelievedSeals, "missed");
}

#[test]
fn a_fenced_relay_that_is_still_used_is_seen() {
    assert_seen(Sabotage::FencedRelays, "leads through a fenced");
}

#[test]
fn agreement_that_is_not_waited_for_is_not_what_all_have() {
    assert_seen(Sabotage::HastyAgreement, "all agree, and");
}
