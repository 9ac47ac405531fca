//! The large layout: 512 workers that do not relay, 96 managers, loggers and proxies that do. Prints
//! the figures of the specification's section 14.

use std::sync::Arc;

use muster_test_support::Random;

use super::Tree;
use crate::mesh::codec::MeshFrame;
use crate::mesh::graph::Graph;
use crate::mesh::record::{LinkChanges, NodeRecord, Record};
use crate::{EndpointId, Filter, Incarnation};

const HUBS: u32 = 96;
const WORKERS: u32 = 512;
const NODES: u32 = HUBS + WORKERS;
/// Every so many endpoints are looked at as origins; the last hub is not one of them.
const EVERY: usize = 4;
const ORIGINS: u32 = NODES / 4;

/// How the layout is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Linking {
    /// Every worker with every hub, and every hub with the first.
    All,
    /// Every worker with three hubs, and every hub with every other.
    Three,
}

/// The links, the hubs first in the numbering.
fn links(linking: Linking, hubs: u32, nodes: u32, random: &mut Random) -> Vec<(u32, u32)> {
    let mut links = Vec::new();
    for hub in 1..hubs {
        let most = if linking == Linking::All { 1 } else { hub };
        links.extend((0..most).map(|other| (other, hub)));
    }
    for worker in hubs..nodes {
        let mut chosen: Vec<u32> = (0..hubs).collect();
        if linking == Linking::Three {
            for at in 0..3 {
                let other = at + random.below(chosen.len() - at);
                chosen.swap(at, other);
            }
            chosen.truncate(3);
        }
        links.extend(chosen.into_iter().map(|hub| (hub, worker)));
    }
    links
}

fn graph(links: &[(u32, u32)], random: &mut Random) -> Graph {
    let mut graph = Graph::default();
    for node in 0..NODES {
        graph.place(node, EndpointId::from_random(random.bytes()), node < HUBS);
        graph.set_cut_off(node, false);
    }
    for (a, b) in links {
        for (from, to) in [(*a, *b), (*b, *a)] {
            if from < HUBS {
                graph.add_announced(from, to);
            }
        }
    }
    graph
}

struct Figures {
    transmissions: usize,
    depth: u32,
    most_children: usize,
    parents: Vec<Vec<Option<u32>>>,
}

fn figures(graph: &Graph) -> Figures {
    let mut figures = Figures {
        transmissions: 0,
        depth: 0,
        most_children: 0,
        parents: Vec::new(),
    };
    for origin in (0..NODES)
        .step_by(EVERY)
        .filter(|node| graph.id(*node).is_some())
    {
        let tree = Tree::new(graph, origin);
        figures.depth = figures.depth.max(tree.depth());
        let mut children = vec![0; NODES as usize];
        let parents: Vec<Option<u32>> = (0..NODES).map(|node| tree.parent(graph, node)).collect();
        for parent in parents.iter().flatten() {
            children[*parent as usize] += 1;
            figures.transmissions += 1;
        }
        let hubs = (0..HUBS).filter(|hub| *hub != origin);
        let most = hubs.map(|hub| children[hub as usize]).max();
        figures.most_children = figures.most_children.max(most.unwrap_or_default());
        figures.parents.push(parents);
    }
    figures
}

/// A broadcast costs one transmission per receiver, no hub has much to do, and the death of one moves
/// its own children only.
#[test]
fn one_transmission_per_receiver() {
    for linking in [Linking::All, Linking::Three] {
        let mut random = Random::new(7);
        let links = links(linking, HUBS, NODES, &mut random);
        let before = graph(&links, &mut random);
        let old = figures(&before);
        let mut after = before.clone();
        let dead = HUBS - 1;
        after.remove(dead);
        let new = figures(&after);
        let survivors = (0..NODES).filter(|node| *node != dead);
        let mut moved = 0;
        for (old, new) in old.parents.iter().zip(&new.parents) {
            let is_moved = |node: &u32| old[*node as usize] != new[*node as usize];
            moved += survivors.clone().filter(is_moved).count();
        }
        let all = ORIGINS as usize * (NODES as usize - 2);
        println!(
            "{linking:?}: {} links, depth {}, {:.1} transmissions per broadcast, most children of a \
             hub {}, {:.2} % of the parents moved by the death of a hub",
            links.len(),
            old.depth,
            f64::from(u32::try_from(old.transmissions).unwrap()) / f64::from(ORIGINS),
            old.most_children,
            f64::from(u32::try_from(moved * 100).unwrap()) / f64::from(u32::try_from(all).unwrap()),
        );
        print_changes(linking, &before);
        assert_eq!(old.transmissions, (ORIGINS * (NODES - 1)) as usize);
        assert_eq!(
            new.transmissions, all,
            "nobody is cut off by one hub's death"
        );
        assert!(old.most_children < 100 && moved * 50 < all);
    }
}

/// The frames and bytes in the whole layout that changes cost: each announcement travels down one tree.
fn print_changes(linking: Linking, graph: &Graph) {
    let ids = |slots: &[u32]| slots.iter().map(|slot| graph.id(*slot).unwrap()).collect();
    let change = |added: &[u32], removed: &[u32]| {
        Record::Changes(
            LinkChanges {
                id: graph.id(0).unwrap(),
                incarnation: Incarnation(1),
                before: 100,
                after: 101,
                added: ids(added),
                removed: ids(removed),
            },
            None,
        )
    };
    let node = Record::Node(
        Arc::new(NodeRecord {
            id: graph.id(1).unwrap(),
            incarnation: Incarnation(1),
            version: 2,
            transit: false,
            ready: false,
            name: "worker-512".to_owned(),
            role: "worker".to_owned(),
            machine: "machine-12".to_owned(),
            filter: Filter::from_prefixes((0..10).map(|n| format!("zeek/cluster/topic-{n}/"))),
            homes: false,
            guests: Vec::new(),
        }),
        None,
    );
    let bytes = |frame: &MeshFrame| {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        u32::try_from(bytes.len()).unwrap()
    };
    let records = |flood: Option<u64>, records: Vec<Record>| {
        bytes(&MeshFrame::Records {
            root: graph.id(0).unwrap(),
            more: false,
            flood,
            records,
        })
    };
    let hubs_of = |slot: u32| {
        let hubs = (0..HUBS).filter(|hub| graph.announces(*hub, slot)).count();
        u32::try_from(hubs).unwrap()
    };
    let others = NODES - 1;
    let (lost, gained) = (
        records(None, vec![change(&[], &[5])]),
        records(None, vec![change(&[5], &[])]),
    );
    let known = records(Some(1), vec![change(&[5], &[]), node.clone()]);
    let acknowledged = bytes(&MeshFrame::JoinAcknowledged {
        root: graph.id(0).unwrap(),
        flood: 1,
    });
    let ready = records(None, vec![node]);
    let print = |what: &str, frames: u32, bytes: u32| {
        println!(
            "{linking:?}, {what}: {frames} frames, {bytes} bytes, {} per endpoint",
            bytes / NODES
        );
    };
    print("a worker's link goes", others, others * lost);
    print("a worker's link comes", others, others * gained);
    print("a worker subscribes", others, others * ready);
    let links = hubs_of(NODES - 1);
    print("a worker dies", links * others, links * others * lost);
    let join = others * (known + acknowledged + ready);
    print(
        "a worker joins",
        others * (links + 2),
        join + (links - 1) * others * gained,
    );
    let links = hubs_of(HUBS - 1);
    print("a hub dies", links * others, links * others * lost);
    let (smallest, whole) = (
        bytes(&MeshFrame::Heartbeat {
            time: 1,
            echo: 1,
            hash: 1,
        }),
        16 + 8 + 2,
    );
    println!(
        "a heartbeat: {smallest} bytes; a version list: {} bytes",
        NODES * whole
    );
}
