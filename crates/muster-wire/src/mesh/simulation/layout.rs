//! The large layout: 512 workers that do not relay, 96 managers, loggers and proxies that do. Prints
//! the figures of the specification's section 14.

use std::sync::Arc;
use std::time::Instant;

use super::Sabotage;
use super::network::{Expect, MILLI, Network, Planned};
use super::random::Random;
use super::scenario::quiesce;
use super::tests::setting;
use crate::mesh::codec::{Encoder, Frame};
use crate::mesh::graph::Graph;
use crate::mesh::record::{LinkChanges, NodeRecord, Record};
use crate::mesh::tree::Tree;
use crate::{Filter, Incarnation};

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
        graph.place(node, random.id(), node < HUBS);
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
        Record::Changes(LinkChanges {
            id: graph.id(0).unwrap(),
            incarnation: Incarnation(1),
            before: 100,
            after: 101,
            added: ids(added),
            removed: ids(removed),
        })
    };
    let node = Record::Node(Arc::new(NodeRecord {
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
    }));
    let bytes = |frame: &Frame| {
        let mut bytes = Vec::new();
        Encoder::default().write(frame, &mut bytes);
        u32::try_from(bytes.len()).unwrap()
    };
    let records = |flood: Option<u64>, records: Vec<Record>| {
        bytes(&Frame::Records {
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
    let acknowledged = bytes(&Frame::JoinAcknowledged {
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
        bytes(&Frame::Heartbeat {
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

/// What changes cost, with whole endpoints: 64 workers and 12 hubs, or `MESH_WORKERS` and `MESH_HUBS`;
/// `MESH_LINKING=three` or `all` for one of the linkings alone.
#[test]
#[ignore = "prints the figures of the specification's section 14"]
#[expect(clippy::disallowed_methods, reason = "a figure, nothing depends on it")]
fn control_traffic() {
    let number = |name, default| u32::try_from(setting(name, default)).unwrap();
    let hubs = number("MESH_HUBS", 12);
    let nodes = hubs + number("MESH_WORKERS", 64);
    let only = std::env::var("MESH_LINKING").unwrap_or_default();
    for linking in [Linking::Three, Linking::All] {
        if !only.is_empty() && only != format!("{linking:?}").to_lowercase() {
            continue;
        }
        let mut network = Network::new(7, Sabotage::default());
        let plan = links(linking, hubs, nodes, &mut network.random);
        for node in 0..nodes {
            network.add_node(node < hubs);
        }
        let mut numbers = Vec::new();
        for (a, b) in plan {
            let link = network.add_link(a as usize, b as usize);
            let at = network.random.next() % (1000 * MILLI);
            network.plan(at, Planned::Heal(link));
            numbers.push(link);
        }
        let measure = |what: &str, network: &mut Network, planned: Option<Planned>| {
            let before = network.control;
            let records = |network: &Network| -> u64 {
                let counts = network
                    .nodes
                    .iter()
                    .map(|node| node.mesh.counts().records_sent);
                counts.sum()
            };
            let records_before = records(network);
            let (begun, clock) = (network.now, Instant::now());
            if let Some(planned) = planned {
                network.plan(MILLI, planned);
            }
            network.run(2000 * MILLI);
            quiesce(network).unwrap();
            println!(
                "{linking:?}, {what}: {} frames, {} records, {} bytes, all up after {} ms, agreed after {} ms, \
                 {} us of computing per endpoint",
                network.control.0 - before.0,
                records(network).saturating_sub(records_before),
                network.control.1 - before.1,
                network.last_up.saturating_sub(begun) / MILLI,
                (network.now - begun) / MILLI,
                clock.elapsed().as_micros() / u128::from(nodes)
            );
            for (kind, (frames, bytes)) in std::mem::take(&mut network.by_kind) {
                println!("    {kind}: {frames} frames, {bytes} bytes");
            }
        };
        measure("cold start", &mut network, None);
        measure("nothing", &mut network, None);
        let last = *numbers.last().unwrap();
        measure(
            "a worker's link lost",
            &mut network,
            Some(Planned::Fail(last)),
        );
        measure(
            "a worker's link back",
            &mut network,
            Some(Planned::Heal(last)),
        );
        let worker = (nodes - 2) as usize;
        measure(
            "a subscription added",
            &mut network,
            Some(Planned::Subscribe(worker)),
        );
        measure(
            "a worker restarted",
            &mut network,
            Some(Planned::Restart(worker)),
        );
        let hub = (hubs - 1) as usize;
        measure("a hub restarted", &mut network, Some(Planned::Restart(hub)));
        network.begin(Expect::Exact);
        for _ in 0..50 {
            let node = network.random.below(network.nodes.len());
            network.plan(0, Planned::Publish(node));
        }
        network.run(MILLI);
        network.drain();
        network.begin(Expect::AtMostOnce);
        assert!(
            network.ledger.violations.is_empty(),
            "{:?}",
            network.ledger.violations
        );
    }
}
