//! Cost of looking a topic up: nanoseconds with more and more subscriptions, of local subscribers and of
//! peers.
//!
//! `cargo run --release -p muster-bench --bin routes`
//!
//! The second table is of a cache with more and more topics, looked up in turn.
//!
//! "Anew" is a topic that no cache has seen since the table was made; "cached" is one that a publisher's or a
//! reader's cache holds, among as many others as there are subscriptions (1,024 at most).

use std::hint::black_box;
use std::sync::Arc;

use muster::wire::peering::Protocol;
use muster::wire::routing::{PeerEntry, RouteCache, Table};
use muster::wire::{EndpointId, Filter};
use muster_bench::{CountingAllocator, Measurement, measure};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Topics are looked up one after another, so that they do not stay in the processor's nearest cache.
const TOPICS: usize = 1024;

/// The subscriptions, of some depth, a tenth of them below others.
fn prefixes(count: usize) -> Vec<String> {
    let prefix = |number: usize| match number % 10 {
        9 => format!("zeek/site-{}/events/kind-{}/", number % 97, number - 1),
        _ => format!("zeek/site-{}/events/kind-{number}", number % 97),
    };
    (0..count).map(prefix).collect()
}

fn topics(count: usize) -> Vec<String> {
    let prefixes = prefixes(count);
    let spread = prefixes.iter().cycle().step_by(7).take(TOPICS);
    spread.map(|prefix| format!("{prefix}/detail")).collect()
}

/// A table whose `count` subscriptions are those of so many subscribers and peers.
fn table(count: usize, subscribers: usize, peers: usize) -> Table<(), ()> {
    let prefixes = prefixes(count);
    let shares = |holders: usize| {
        let size = count.div_ceil(holders.max(1)).max(1);
        let shares = prefixes.chunks(size).take(holders);
        shares.map(Filter::from_prefixes).collect::<Vec<_>>()
    };
    let peers = shares(peers).into_iter().zip(1u64..);
    let peers = peers.map(|(filter, number)| {
        let mut id = [7; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        PeerEntry {
            id: EndpointId::from_random(id),
            protocol: Protocol::V1,
            filter: Arc::new(filter),
            handle: (),
        }
    });
    let subscribers = shares(subscribers).into_iter().map(|filter| (filter, ()));
    Table::new(1, peers.collect(), subscribers.collect())
}

/// Nanoseconds for each look-up.
fn anew(table: &Table<(), ()>, topics: &[String]) -> Measurement {
    let mut at = 0;
    measure(|| {
        at = (at + 1) % topics.len();
        black_box(table.route(topics[at].as_bytes()));
    })
}

fn cached(table: &Table<(), ()>, topics: &[String]) -> Measurement {
    let mut cache = RouteCache::default();
    let mut at = 0;
    measure(|| {
        at = (at + 1) % topics.len();
        black_box(cache.lookup(table, topics[at].as_bytes()));
    })
}

fn main() {
    println!("| held by | subscriptions | anew, ns | cached, ns |");
    println!("| --- | --- | --- | --- |");
    for (name, subscribers, peers) in [
        ("1 subscriber", 1, 0),
        ("as many subscribers", usize::MAX, 0),
        ("1 peer", 0, 1),
        ("10 peers", 0, 10),
        ("100 peers", 0, 100),
    ] {
        for count in [10, 100, 1_000, 10_000] {
            if peers > count {
                continue;
            }
            let subscribers = subscribers.min(count);
            let topics = topics(count);
            let routes = table(count, subscribers, peers);
            let found = topics.iter().map(|topic| routes.route(topic.as_bytes()));
            let all = found.fold(0, |sum, route| {
                sum + route.subscribers.len() + route.peers.len()
            });
            assert!(all >= topics.len(), "every topic leads somewhere");
            println!(
                "| {name} | {count} | {:.0} | {:.0} |",
                anew(&routes, &topics).nanos,
                cached(&routes, &topics).nanos
            );
        }
    }
    println!("\n| topics of one cache | ns |\n| --- | --- |");
    let routes = table(1_000, 1, 0);
    for count in [1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536] {
        let topics: Vec<String> = (0..count)
            .map(|number| format!("zeek/site-{}/events/detail-{number}", number % 97))
            .collect();
        println!("| {count} | {:.0} |", cached(&routes, &topics).nanos);
    }
}
