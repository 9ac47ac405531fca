//! A large list that one node has and many follow, to be copied: the manager keeps indicators, workers look up what they see in a copy
//! of their own.
//!
//! `cargo run --example follow_indicators` shows it on a simulated cluster of thirty workers, whose manager begins anew.

#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "a handler is a method that takes its event by value"
)]

use std::collections::HashMap;
use std::time::Duration;

use muster_cluster::Role;
use muster_cluster::feed::{Feed, FeedEvent};
use muster_cluster::node::{Context, Declarations, Framework, Registry, Severity, Site};
use muster_data::{Address, Record};
use muster_testkit::Cluster;

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Record)]
#[record(name = "Example::details")]
struct Details {
    source: String,
    severity: u64,
}

/// Addresses that are known to be bad.
const INDICATORS: Feed<Address, Details> = Feed::new("example/indicators");

/// Somebody reports an address, or withdraws it.
#[derive(Clone, Record)]
#[record(name = "Example::reported")]
struct Reported {
    address: Address,
    details: Option<Details>,
}

/// A worker has seen a connection.
#[derive(Clone, Copy, Record)]
#[record(name = "Example::connection")]
struct Connection {
    server: Address,
}

/// What comes of it: a line of a log.
#[derive(Clone, Debug, PartialEq, Record)]
#[record(name = "Example::hit")]
struct Hit {
    server: Address,
    source: String,
    worker: String,
}

struct Intel {
    role: Role,
    /// On workers: what the manager has.
    known: HashMap<Address, Details>,
}

impl Framework for Intel {
    const NAME: &'static str = "intel_example";

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self {
            role: site.node.role,
            known: HashMap::new(),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.stream::<Hit>("hits");
        match self.role {
            Role::Manager => {
                declarations.feed_source(&INDICATORS);
                declarations.on(Self::reported);
            }
            Role::Worker => {
                declarations.feed(&INDICATORS, Self::indicators);
                declarations.on(Self::connection);
            }
            _ => {}
        }
    }

    /// On the manager: the list is loaded, and then opened. A file would be read here.
    fn init(&mut self, cx: &mut Context<'_>) {
        if self.role != Role::Manager {
            return;
        }
        for number in 0..5_000_u32 {
            let address = Address::from(std::net::Ipv4Addr::from(0xC612_0000 + number));
            let details = Details {
                source: "a list".to_owned(),
                severity: 3,
            };
            if let Err(error) = cx.feed(&INDICATORS).put(&address, &details) {
                return cx.report(Severity::Error, &error.to_string());
            }
        }
        cx.feed(&INDICATORS).open().expect("declared");
    }
}

impl Intel {
    /// On the manager: the list changes.
    fn reported(&mut self, event: Reported, cx: &mut Context<'_>) {
        let mut list = cx.feed(&INDICATORS);
        let changed = match &event.details {
            Some(details) => list.put(&event.address, details),
            None => list.remove(&event.address).map(drop),
        };
        if let Err(error) = changed {
            cx.report(Severity::Error, &error.to_string());
        }
    }

    /// On workers: what the list has, and how it changes.
    fn indicators(&mut self, event: FeedEvent<Address, Details>, cx: &mut Context<'_>) {
        match event {
            FeedEvent::Put { key, value } => _ = self.known.insert(key, value),
            FeedEvent::Removed { key } => _ = self.known.remove(&key),
            FeedEvent::Gone => cx.report(Severity::Warning, "indicators may be out of date"),
            // What is there is used while the list is taken anew.
            _ => {}
        }
    }

    /// On workers: a look-up costs nothing but the look-up.
    fn connection(&mut self, event: Connection, cx: &mut Context<'_>) {
        if let Some(details) = self.known.get(&event.server) {
            let hit = Hit {
                server: event.server,
                source: details.source.clone(),
                worker: cx.name().to_string(),
            };
            cx.log("hits", &hit).expect("declared");
        }
    }
}

const LAYOUT: &str = r#"
    node = [
        { name = "manager", role = "manager" },
        { name = "worker", role = "worker", count = 30 },
    ]
"#;

/// An address is reported, seen and withdrawn; then the manager begins anew, and nobody is without a list meanwhile.
fn simulate() -> Cluster {
    let server: Address = "192.0.2.1".parse().expect("an address");
    let listed: Address = "198.18.0.7".parse().expect("an address");
    let mut cluster = Cluster::of(LAYOUT, Registry::new().with::<Intel>());
    cluster.start();
    cluster.run_for(Duration::from_secs(10));
    let details = Details {
        source: "an analyst".to_owned(),
        severity: 9,
    };
    let address = server;
    let reported = Reported {
        address,
        details: Some(details),
    };
    cluster.raise("manager", &reported);
    cluster.run_for(Duration::from_secs(1));
    cluster.raise("worker-7", &Connection { server });
    let details = None;
    cluster.raise("manager", &Reported { address, details });
    cluster.run_for(Duration::from_secs(1));
    cluster.raise("worker-8", &Connection { server });
    cluster.kill("manager");
    cluster.run_for(Duration::from_millis(100));
    cluster.raise("worker-9", &Connection { server: listed });
    cluster.restart("manager");
    cluster.run_until_idle();
    cluster.raise("worker-30", &Connection { server: listed });
    cluster.stop_all();
    cluster
}

#[test]
fn workers_look_up_what_the_manager_has() {
    let cluster = simulate();
    let hits = cluster.log_of::<Hit>("hits");
    let mut hits: Vec<(&str, &str)> = hits
        .iter()
        .map(|hit| (&*hit.worker, &*hit.source))
        .collect();
    hits.sort_unstable();
    let expected = [
        ("worker-30", "a list"),
        ("worker-7", "an analyst"),
        ("worker-9", "a list"),
    ];
    assert_eq!(hits, expected);
    // All that began twice, as the manager did.
    assert_eq!(cluster.total(|counts| counts.feed_lists), 60);
}

#[allow(clippy::print_stdout, reason = "this is what the example is run for")]
fn main() {
    let cluster = simulate();
    for hit in cluster.log_of::<Hit>("hits") {
        println!("{hit:?}");
    }
    let told = cluster.total(|counts| counts.feed_changes);
    println!("{told} items told to 30 workers");
}
