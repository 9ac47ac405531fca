//! Records in any order, and what is kept in step with them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::Filter;
use crate::mesh::codec::MAX_NEIGHBOURS;
use crate::mesh::record::{LinkChanges, Record};
use crate::mesh::tree::Tree;

fn id(number: u8) -> EndpointId {
    EndpointId::from_random([number; 16])
}

fn node(number: u8, name: &str, incarnation: u64, version: u64) -> NodeRecord {
    NodeRecord {
        id: id(number),
        incarnation: Incarnation(incarnation),
        version,
        transit: true,
        ready: true,
        name: name.to_owned(),
        role: String::new(),
        machine: String::new(),
        filter: Filter::from_prefixes(["/a"]),
        homes: true,
        guests: Vec::new(),
    }
}

fn offer(database: &mut Database, node: NodeRecord) -> Applied {
    database.apply(&Record::Node(Arc::new(node), None))
}

fn links(number: u8, version: u64, neighbours: &[u8]) -> Record {
    Record::Links(
        LinkRecord {
            id: id(number),
            incarnation: Incarnation(1),
            version,
            neighbours: neighbours.iter().map(|n| id(*n)).collect(),
        },
        None,
    )
}

#[test]
fn a_link_counts_when_both_announce_it() {
    let mut database = Database::new(node(1, "", 1, 1), Limits::default());
    assert_eq!(database.apply(&links(2, 1, &[3])), Applied::Gap);
    offer(&mut database, node(2, "", 1, 1));
    assert_eq!(database.apply(&links(2, 1, &[3])), Applied::News);
    offer(&mut database, node(3, "", 1, 1));
    let (two, three) = (database.slot(id(2)).unwrap(), database.slot(id(3)).unwrap());
    assert!(!database.graph().linked(two, three));
    database.apply(&links(3, 1, &[2]));
    assert!(database.graph().linked(two, three) && database.graph().linked(three, two));
    // The record survives that its neighbour is given up and comes back in another slot.
    database.remove(id(3));
    assert_eq!(database.links(two).unwrap().neighbours, [id(3)]);
    offer(&mut database, node(3, "", 1, 1));
    let three = database.slot(id(3)).unwrap();
    assert!(database.graph().announces(two, three));
}

#[test]
fn changes_apply_to_their_version_only() {
    let mut database = Database::new(node(1, "", 1, 1), Limits::default());
    offer(&mut database, node(2, "", 1, 1));
    database.apply(&links(2, 3, &[1, 5]));
    let change = |before: u64, after: u64| {
        Record::Changes(
            LinkChanges {
                id: id(2),
                incarnation: Incarnation(1),
                before,
                after,
                added: vec![id(4)],
                removed: vec![id(1), id(5)],
            },
            None,
        )
    };
    assert_eq!(database.apply(&change(2, 3)), Applied::Known);
    assert_eq!(database.apply(&change(4, 5)), Applied::Gap);
    assert_eq!(database.apply(&change(3, 4)), Applied::News);
    let slot = database.slot(id(2)).unwrap();
    assert_eq!(database.links(slot).unwrap().neighbours, [id(4)]);
    assert_eq!(database.versions(slot).unwrap().links, 4);
}

#[test]
fn a_database_is_bounded() {
    let mut database = Database::new(node(1, "", 1, 1), Limits { nodes: 3 });
    offer(&mut database, node(2, "two", 1, 1));
    offer(&mut database, node(3, "", 1, 1));
    assert_eq!(
        offer(&mut database, node(4, "", 1, 1)),
        Applied::Refused(Refusal::Full)
    );
    // Two lives of a name are two endpoints.
    database.remove(id(3));
    assert_eq!(offer(&mut database, node(5, "two", 2, 1)), Applied::News);
    assert_eq!(database.len(), 3);
}

/// What names nobody we know is remembered as well, and a whole record over the limit ends peerings.
#[test]
fn changes_leave_no_more_neighbours_than_a_record_may_hold() {
    let mut database = Database::new(node(1, "", 1, 1), Limits::default());
    offer(&mut database, node(2, "", 1, 1));
    database.apply(&links(2, 1, &[]));
    let some = |round: u8| -> Vec<EndpointId> {
        let ids = 0..u16::try_from(MAX_NEIGHBOURS).unwrap();
        let ids = ids.map(|number| {
            let [high, low] = number.to_be_bytes();
            let mut bytes = [round; 16];
            (bytes[0], bytes[1]) = (high, low);
            EndpointId::from_random(bytes)
        });
        ids.collect()
    };
    let mut change = |before: u64, added, removed| {
        database.apply(&Record::Changes(
            LinkChanges {
                id: id(2),
                incarnation: Incarnation(1),
                before,
                after: before + 1,
                added,
                removed,
            },
            None,
        ))
    };
    let refused = Applied::Refused(Refusal::Neighbours);
    assert_eq!(change(1, some(11), vec![]), Applied::News);
    assert_eq!(change(2, some(12), vec![]), refused);
    assert_eq!(change(2, some(12), some(13)), refused);
    assert_eq!(change(2, some(12), some(11)), Applied::News);
    let slot = database.slot(id(2)).unwrap();
    assert_eq!(
        database.links(slot).unwrap().neighbours.len(),
        MAX_NEIGHBOURS
    );
}

/// A record of one of a few endpoints, which share names, with links among them.
fn record() -> impl Strategy<Value = Record> {
    let parts = (2..9u8, 0..4u64, 0..6u64, any::<[bool; 3]>());
    let nodes = parts.prop_map(|(number, incarnation, version, [transit, ready, named])| {
        let name = if named { "name" } else { "" };
        Record::Node(
            Arc::new(NodeRecord {
                transit,
                ready,
                ..node(number, name, incarnation, version)
            }),
            None,
        )
    });
    let neighbours = || prop::collection::btree_set(1..9u8, 0..5);
    let links = (2..9u8, 0..4u64, 0..9u64, neighbours());
    let links = links.prop_map(|(number, incarnation, version, neighbours)| {
        Record::Links(
            LinkRecord {
                id: id(number),
                incarnation: Incarnation(incarnation),
                version,
                neighbours: neighbours.into_iter().map(id).collect(),
            },
            None,
        )
    });
    let changes = (2..9u8, 0..4u64, 0..9u64, neighbours(), neighbours());
    let changes = changes.prop_map(|(number, incarnation, before, added, removed)| {
        Record::Changes(
            LinkChanges {
                id: id(number),
                incarnation: Incarnation(incarnation),
                before,
                after: before + 1,
                added: added.into_iter().map(id).collect(),
                removed: removed.into_iter().map(id).collect(),
            },
            None,
        )
    });
    prop_oneof![links, nodes, changes]
}

#[derive(Debug, Clone)]
enum Step {
    Record(Record),
    Link(u8, bool),
    Remove(u8),
    Recycle,
    Refresh,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => record().prop_map(Step::Record),
        4 => (2..9u8, any::<bool>()).prop_map(|(number, is_up)| Step::Link(number, is_up)),
        1 => (2..9u8).prop_map(Step::Remove),
        1 => Just(Step::Recycle),
        4 => Just(Step::Refresh),
    ]
}

/// Everything that is kept in step is what it would be if it were computed now.
fn assert_in_step(database: &Database) {
    let graph = database.graph();
    let slots = 0..u32::try_from(graph.slots()).unwrap();
    let tree = Tree::new(graph, database.me());
    let reach: Vec<u32> = slots.clone().filter(|slot| tree.reaches(*slot)).collect();
    assert!(database.reach().iter().eq(reach.iter().copied()));
    let versions = reach.iter().map(|slot| database.versions(*slot).unwrap());
    let hash = versions.fold(0, |sum: u64, it| sum.wrapping_add(digest::share(it)));
    assert_eq!(database.hash(), hash);
    for slot in slots {
        let node = database.node(slot);
        assert_eq!(database.is_ready(slot), node.is_some_and(|node| node.ready));
        if let Some(node) = node {
            let held = database.versions(slot).unwrap();
            let age = (held.id, held.incarnation, held.node);
            assert_eq!(age, (node.id, node.incarnation, node.version));
        }
    }
}

proptest! {
    #[test]
    fn reach_and_hash_follow_the_records(
        transit in any::<bool>(), steps in prop::collection::vec(step(), 0..120)
    ) {
        let me = NodeRecord { transit, ..node(1, "", 1, 1) };
        let mut database = Database::new(me, Limits { nodes: 7 });
        let mut before = BTreeSet::new();
        for step in steps {
            match step {
                Step::Record(record) if record.id() != id(1) => {
                    database.apply(&record);
                }
                Step::Record(_) => {}
                Step::Link(number, true) => database.link_up(id(number)),
                Step::Link(number, false) => database.link_down(id(number)),
                Step::Remove(number) => database.remove(id(number)),
                Step::Recycle => {
                    database.recycle(database.resting());
                }
                Step::Refresh => {
                    database.refresh();
                    assert_in_step(&database);
                    // Nobody changes sides unseen.
                    let reach = database.reach().iter();
                    let now: BTreeSet<_> = reach
                        .map(|slot| (database.graph().id(slot).unwrap(), database.is_ready(slot)))
                        .collect();
                    if let Some(changed) = database.take_changed() {
                        let mut moved = now.symmetric_difference(&before).map(|(id, _)| id);
                        prop_assert!(moved.all(|id| changed.contains(id)));
                    }
                    before = now;
                }
            }
        }
        database.refresh();
        assert_in_step(&database);
    }
}
