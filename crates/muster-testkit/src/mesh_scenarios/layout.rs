//! What changes of a large layout cost, with whole endpoints. Prints the figures of the specification's section 14.

use std::time::Instant;

use muster_test_support::Random;
use muster_wire::mesh::Sabotage;

use super::network::{Expect, MILLI, Network, Planned};
use super::scenario::quiesce;
use super::tests::setting;

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

/// What changes cost, with whole endpoints: 64 workers and 12 hubs, or `MESH_WORKERS` and `MESH_HUBS`;
/// `MESH_LINKING=three` or `all` for one of the linkings alone. `MESH_SLOWNESS` is how much longer than 1 to 11 ms links
/// take: machines that have too much to do answer as late. `MESH_SEED` is another seed.
#[test]
#[ignore = "prints the figures of the specification's section 14"]
fn control_traffic() {
    let number = |name, default| u32::try_from(setting(name, default)).unwrap();
    let hubs = number("MESH_HUBS", 12);
    let nodes = hubs + number("MESH_WORKERS", 64);
    let only = std::env::var("MESH_LINKING").unwrap_or_default();
    let slowness = u64::from(number("MESH_SLOWNESS", 1));
    for linking in [Linking::Three, Linking::All] {
        if !only.is_empty() && only != format!("{linking:?}").to_lowercase() {
            continue;
        }
        let seed = number("MESH_SEED", 7).into();
        let mut network = Network::new(seed, false, Sabotage::default());
        let plan = links(linking, hubs, nodes, &mut network.random);
        for node in 0..nodes {
            network.add_node(node < hubs);
        }
        let mut numbers = Vec::new();
        for (a, b) in plan {
            let link = network.add_link(a as usize, b as usize);
            network.links[link].delay *= slowness;
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
                    .map(|node| node.endpoint.mesh().counts().records_sent);
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
            for (kind, sent) in std::mem::take(&mut network.by_kind) {
                println!(
                    "    {kind}: {} frames, {} bytes, {} entries, {} of them records that were known",
                    sent.frames, sent.bytes, sent.entries, sent.known
                );
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
