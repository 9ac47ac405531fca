//! Trees against their definition, and children that are kept against those that are found anew.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::EndpointId;
use crate::mesh::score::{key, score};

const SLOTS: u32 = 9;

fn id(number: u8) -> EndpointId {
    EndpointId::from_random([number; 16])
}

#[derive(Debug, Clone)]
enum Step {
    Announce(u32, u32, bool),
    Link(u32, u32, bool),
    AnnounceAll(u32, Vec<u32>),
    Transit(u32, bool),
    CutOff(u32, bool),
    Replace(u32, u8, bool),
    /// What only some of the trees are asked for.
    Ask(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let pair = || (0..SLOTS, 0..SLOTS, any::<bool>()).prop_filter("two ends", |(a, b, _)| a != b);
    prop_oneof![
        4 => pair().prop_map(|(a, b, is_added)| Step::Announce(a, b, is_added)),
        10 => pair().prop_map(|(a, b, is_added)| Step::Link(a, b, is_added)),
        1 => (0..SLOTS, prop::collection::vec(0..SLOTS, 0..9))
            .prop_map(|(slot, all)| Step::AnnounceAll(slot, all)),
        1 => (0..SLOTS, any::<bool>()).prop_map(|(slot, transit)| Step::Transit(slot, transit)),
        1 => (0..SLOTS, any::<bool>()).prop_map(|(slot, gone)| Step::CutOff(slot, gone)),
        1 => (0..SLOTS, 20..200u8, any::<bool>())
            .prop_map(|(slot, number, transit)| Step::Replace(slot, number, transit)),
        10 => (0..SLOTS).prop_map(Step::Ask),
    ]
}

/// Distances and parents straight from section 7.1.
fn plain(graph: &Graph, origin: u32) -> BTreeMap<u32, (u32, Option<u32>)> {
    let mut reached = BTreeMap::new();
    if graph.id(origin).is_some() {
        reached.insert(origin, (0, None));
    }
    for depth in 1..=SLOTS {
        let is_parent = |slot: u32| slot == origin || graph.is_transit(slot);
        let all = reached.clone();
        let above: Vec<u32> = all.keys().copied().collect();
        let above = above
            .into_iter()
            .filter(|slot| all[slot].0 + 1 == depth && is_parent(*slot));
        let above: Vec<u32> = above.collect();
        for child in (0..SLOTS).filter(|slot| !all.contains_key(slot)) {
            let id = |slot: u32| graph.id(slot).unwrap();
            let candidates = above.iter().filter(|slot| graph.linked(**slot, child));
            let parent = candidates.max_by_key(|parent| {
                let score = score(key(id(origin)), key(id(child)), key(id(**parent)));
                (score, id(**parent))
            });
            if let Some(parent) = parent {
                reached.insert(child, (depth, Some(*parent)));
            }
        }
    }
    reached
}

/// The rule of section 5.
fn counts(graph: &Graph, me: u32, a: u32, b: u32) -> bool {
    let announced = |from, to| graph.announces(from, to);
    match (graph.is_transit(a), graph.is_transit(b)) {
        (true, true) => announced(a, b) && announced(b, a),
        (true, false) => announced(a, b) && leaf_stands(graph, me, a, b),
        (false, true) => announced(b, a) && leaf_stands(graph, me, b, a),
        (false, false) => false,
    }
}

fn leaf_stands(graph: &Graph, me: u32, transit: u32, leaf: u32) -> bool {
    if leaf == me {
        graph.announces(leaf, transit)
    } else {
        !graph.is_cut_off(transit)
    }
}

fn assert_right(graph: &Graph, trees: &mut Trees, me: u32, origin: u32) {
    let tree = Tree::new(graph, origin);
    let fresh = tree.branches(graph, me);
    let mut children = trees.children(graph, origin, me).to_vec();
    let mut expected: Vec<u32> = fresh.children.iter().map(|(child, _)| *child).collect();
    children.sort_unstable();
    expected.sort_unstable();
    assert_eq!(children, expected);
    let plain = plain(graph, origin);
    for slot in 0..SLOTS {
        let expected = plain.get(&slot);
        assert_eq!(tree.depth_of(slot), expected.map(|(depth, _)| *depth));
        assert_eq!(
            tree.parent(graph, slot),
            expected.and_then(|(_, parent)| *parent)
        );
    }
    // Who is below a child is who has it among its parents' parents.
    for (child, below) in &fresh.children {
        for slot in 0..SLOTS {
            let ancestor = std::iter::successors(Some(slot), |slot| tree.parent(graph, *slot));
            assert_eq!(
                below.contains(slot),
                ancestor.into_iter().any(|it| it == *child)
            );
        }
    }
}

proptest! {
    #[test]
    fn trees_follow_the_graph(
        transit in prop::collection::vec(prop::bool::weighted(0.6), SLOTS as usize),
        dense in any::<bool>(),
        steps in prop::collection::vec(step(), 0..80)
    ) {
        let mut graph = Graph::default();
        let me = 0;
        for (slot, transit) in (0..SLOTS).zip(&transit) {
            graph.place(slot, id(u8::try_from(slot).unwrap()), *transit);
            graph.set_cut_off(slot, false);
        }
        graph.set_me(me);
        if dense {
            for slot in 0..SLOTS {
                graph.set_announced(slot, (0..SLOTS).filter(|other| *other != slot).collect());
            }
        }
        let mut trees = Trees::default();
        let announce = |graph: &mut Graph, from: u32, to: u32, is_added: bool| {
            // The database names known endpoints only.
            if graph.id(from).is_none() || graph.id(to).is_none() {
                return;
            }
            if is_added {
                graph.add_announced(from, to);
            } else {
                graph.remove_announced(from, to);
            }
        };
        for step in steps {
            match step {
                Step::Announce(a, b, is_added) => announce(&mut graph, a, b, is_added),
                Step::Link(a, b, is_added) => {
                    announce(&mut graph, a, b, is_added);
                    announce(&mut graph, b, a, is_added);
                }
                Step::AnnounceAll(slot, others) => {
                    let is_known = |other: &u32| *other != slot && graph.id(*other).is_some();
                    let others = others.into_iter().filter(is_known).collect();
                    if graph.id(slot).is_some() {
                        graph.set_announced(slot, others);
                    }
                }
                Step::CutOff(slot, is_cut_off) => graph.set_cut_off(slot, is_cut_off),
                Step::Transit(slot, transit) => {
                    if graph.id(slot).is_some() {
                        graph.set_transit(slot, transit);
                    }
                }
                Step::Replace(slot, number, transit) if slot != me => {
                    graph.remove(slot);
                    assert_right(&graph, &mut trees, me, slot);
                    if number % 2 == 0 {
                        graph.place(slot, id(number), transit);
                        graph.set_cut_off(slot, false);
                    }
                }
                Step::Replace(..) => {}
                Step::Ask(origin) => assert_right(&graph, &mut trees, me, origin),
            }
            for a in 0..SLOTS {
                let linked = (0..SLOTS).filter(|b| counts(&graph, me, a, *b));
                prop_assert!(linked.clone().all(|b| graph.linked(a, b) && graph.linked(b, a)));
                prop_assert!(linked.eq(graph.neighbours(a).iter().copied()));
            }
        }
        for origin in 0..SLOTS {
            assert_right(&graph, &mut trees, me, origin);
        }
    }
}
