//! When time may go on: the minimum over the living inputs.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use muster_cluster::{NodeName, Watermarks};
use muster_data::Timestamp;
use muster_wire::Incarnation;
use proptest::prelude::*;

const LIFE: Incarnation = Incarnation(1);
const NEXT_LIFE: Incarnation = Incarnation(2);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

fn node(n: u8) -> NodeName {
    NodeName::new(&format!("worker-{n}")).unwrap()
}

#[test]
fn the_slowest_input_counts() {
    let mut watermarks = Watermarks::new();
    assert_eq!(watermarks.low(), None);
    watermarks.announce(&node(1), LIFE, "conn", at(10));
    watermarks.announce(&node(1), LIFE, "dns", at(5));
    watermarks.announce(&node(2), LIFE, "conn", at(7));
    assert_eq!(watermarks.low(), Some(at(5)));
    watermarks.announce(&node(1), LIFE, "dns", at(20));
    assert_eq!(watermarks.low(), Some(at(7)));
    watermarks.announce(&node(2), LIFE, "conn", at(6));
    assert_eq!(watermarks.low(), Some(at(7)), "an input never goes back");
}

/// The clock may go back between two lives of a node; membership says which one is alive.
#[test]
fn a_life_with_an_earlier_clock_counts_once_it_is_up() {
    let mut watermarks = Watermarks::new();
    watermarks.announce(&node(1), NEXT_LIFE, "conn", at(10));
    watermarks.node_down(&node(1));
    watermarks.node_up(&node(1), Some(LIFE));
    watermarks.announce(&node(1), LIFE, "conn", at(20));
    assert_eq!(watermarks.low(), Some(at(20)));
    watermarks.announce(&node(1), NEXT_LIFE, "conn", at(5));
    assert_eq!(watermarks.low(), Some(at(20)), "never back");
}

#[test]
fn a_silent_input_of_the_layout_holds_time_back() {
    let mut watermarks = Watermarks::new();
    watermarks.expect(&node(1));
    watermarks.expect(&node(2));
    watermarks.announce(&node(1), LIFE, "conn", at(10));
    assert_eq!(watermarks.low(), None);
    assert_eq!(watermarks.awaited().collect::<Vec<_>>(), [&node(2)]);
    watermarks.release(&node(2));
    assert_eq!(watermarks.low(), Some(at(10)));
    watermarks.announce(&node(2), LIFE, "conn", at(3));
    assert_eq!(watermarks.low(), Some(at(10)), "who comes late is late");
    assert_eq!(watermarks.late_inputs(), 1);
}

#[test]
fn a_dead_node_holds_nothing_back() {
    let mut watermarks = Watermarks::new();
    watermarks.announce(&node(1), LIFE, "conn", at(10));
    watermarks.announce(&node(2), LIFE, "conn", at(3));
    watermarks.node_down(&node(2));
    assert_eq!(watermarks.low(), Some(at(10)));
    watermarks.announce(&node(2), LIFE, "conn", at(4));
    assert_eq!(watermarks.ignored_announcements(), 1);
    watermarks.announce(&node(2), NEXT_LIFE, "conn", at(12));
    watermarks.announce(&node(1), LIFE, "conn", at(20));
    assert_eq!(watermarks.low(), Some(at(12)));
    watermarks.announce(&node(2), LIFE, "conn", at(30));
    assert_eq!(
        watermarks.low(),
        Some(at(12)),
        "the old life says nothing any more"
    );
}

#[test]
fn a_restart_that_is_awaited_holds_time_back() {
    let mut watermarks = Watermarks::new();
    watermarks.announce(&node(1), LIFE, "conn", at(10));
    watermarks.announce(&node(2), LIFE, "conn", at(3));
    assert_eq!(watermarks.low(), Some(at(3)));
    watermarks.node_down(&node(2));
    watermarks.expect(&node(2));
    assert_eq!(watermarks.low(), Some(at(3)));
    watermarks.announce(&node(2), NEXT_LIFE, "conn", at(5));
    assert_eq!(watermarks.low(), Some(at(5)));
}

#[test]
fn the_end_is_when_all_inputs_have_ended() {
    let mut watermarks = Watermarks::new();
    watermarks.announce(&node(1), LIFE, "conn", at(10));
    watermarks.announce(&node(2), LIFE, "conn", at(3));
    watermarks.finished(&node(2), LIFE, "conn");
    assert_eq!(watermarks.low(), Some(at(10)));
    watermarks.finished(&node(1), LIFE, "conn");
    assert_eq!(watermarks.low(), Some(Watermarks::END));
}

#[test]
fn the_inputs_of_a_node_are_bounded() {
    let mut watermarks = Watermarks::new();
    for input in 0..2000 {
        watermarks.announce(&node(1), LIFE, &format!("input {input}"), at(10));
    }
    assert_eq!(watermarks.ignored_announcements(), 2000 - 1024);
    assert_eq!(watermarks.low(), Some(at(10)));
}

proptest! {
    #[test]
    fn time_never_goes_back(steps in prop::collection::vec((0..5_u8, 1..4_u8, 0..3_u64, 0..100_i64), 0..80)) {
        let mut watermarks = Watermarks::new();
        let mut last = None;
        for (kind, n, life, seconds) in steps {
            let node = node(n);
            match kind {
                0 => watermarks.expect(&node),
                1 => watermarks.release(&node),
                2 => watermarks.node_down(&node),
                _ => watermarks.announce(&node, Incarnation(life), "conn", at(seconds)),
            }
            let low = watermarks.low();
            prop_assert!(low >= last);
            last = low;
        }
    }
}
