//! Questions between nodes, to be copied: workers know how often they have seen a client, the manager asks all of them at once and
//! adds up what they answer, and asks the data node that owns the client for its name.
//!
//! `cargo run --example ask_and_gather` shows it on a simulated cluster of thirty workers, one of which dies while it is asked.

#![allow(clippy::unused_self, reason = "not every handler needs the state")]

use std::collections::HashMap;
use std::time::Duration;

use muster_cluster::node::{
    Among, Context, Declarations, Framework, Question, Registry, Severity, Site, To,
};
use muster_cluster::{PoolName, Role};
use muster_data::{Address, Record};
use muster_testkit::Cluster;

/// A worker has seen a client.
#[derive(Clone, Copy, Record)]
#[record(name = "Example::connection")]
struct Connection {
    client: Address,
}

/// A client has a name.
#[derive(Record)]
#[record(name = "Example::named")]
struct Named {
    client: Address,
    name: String,
}

/// Somebody wants to know about a client.
#[derive(Clone, Copy, Record)]
#[record(name = "Example::wanted")]
struct Wanted {
    client: Address,
}

/// How many connections of this client have you seen?
#[derive(Clone, Copy, Record)]
#[record(name = "Example::seen")]
struct Seen {
    client: Address,
}

impl Question for Seen {
    type Answer = u64;
}

/// What is this client's name?
#[derive(Clone, Copy, Record)]
#[record(name = "Example::name_of")]
struct NameOf {
    client: Address,
}

impl Question for NameOf {
    type Answer = Option<String>;
}

/// What comes of it: a line of a log.
#[derive(Clone, Debug, PartialEq, Record)]
#[record(name = "Example::census")]
struct Census {
    client: Address,
    name: Option<String>,
    connections: u64,
    workers: u64,
    missing: Vec<String>,
}

/// State is bounded: clients beyond are not remembered.
const MAX_CLIENTS: usize = 100_000;

struct Counting {
    role: Role,
    seen: HashMap<Address, u64>,
    names: HashMap<Address, String>,
}

impl Framework for Counting {
    const NAME: &'static str = "counting";

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self {
            role: site.node.role,
            seen: HashMap::new(),
            names: HashMap::new(),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        match self.role {
            Role::Worker => {
                declarations.on(Self::connection);
                declarations.answers(Self::seen);
            }
            Role::Proxy => {
                declarations.on(Self::named);
                declarations.answers(Self::name_of);
            }
            Role::Manager => {
                declarations.on(Self::wanted);
                declarations.stream::<Census>("census");
            }
            Role::Logger => {}
        }
    }
}

impl Counting {
    /// On workers: a connection.
    fn connection(&mut self, event: Connection, _: &mut Context<'_>) {
        if self.seen.len() < MAX_CLIENTS || self.seen.contains_key(&event.client) {
            *self.seen.entry(event.client).or_default() += 1;
        }
    }

    /// On workers: the manager asks.
    fn seen(&mut self, question: Seen, _: &mut Context<'_>) -> u64 {
        self.seen.get(&question.client).copied().unwrap_or(0)
    }

    /// On the data node that owns the client: its name.
    fn named(&mut self, event: Named, _: &mut Context<'_>) {
        if self.names.len() < MAX_CLIENTS || self.names.contains_key(&event.client) {
            self.names.insert(event.client, event.name);
        }
    }

    /// On the data node that owns the client: the manager asks.
    fn name_of(&mut self, question: NameOf, _: &mut Context<'_>) -> Option<String> {
        self.names.get(&question.client).cloned()
    }

    /// On the manager: all workers are asked at once.
    fn wanted(&mut self, event: Wanted, cx: &mut Context<'_>) {
        let client = event.client;
        cx.scatter(Among::pool(&PoolName::worker()), &Seen { client })
            .within(Duration::from_secs(3))
            .gather(move |this: &mut Self, cx, gathered| {
                let missing = gathered.missing.iter();
                let census = Census {
                    client,
                    name: None,
                    connections: gathered.answers.iter().map(|(_, seen)| seen).sum(),
                    workers: gathered.answers.len() as u64,
                    missing: missing
                        .map(|(node, why)| format!("{node}: {why}"))
                        .collect(),
                };
                this.ask_for_its_name(census, cx);
            });
    }

    /// On the manager: what is gathered gets a name, and is written.
    fn ask_for_its_name(&mut self, census: Census, cx: &mut Context<'_>) {
        let client = census.client;
        let owner = To::owner(&PoolName::proxy(), client);
        cx.request(owner, &NameOf { client })
            .within(Duration::from_secs(1))
            .then(move |_: &mut Self, cx, answer| {
                let name = answer.unwrap_or_else(|error| {
                    cx.report(Severity::Warning, &error.to_string());
                    None
                });
                let census = Census { name, ..census };
                cx.log("census", &census).expect("declared");
            });
    }
}

const LAYOUT: &str = r#"
    node = [
        { name = "manager", role = "manager" },
        { name = "data", role = "data", count = 2 },
        { name = "worker", role = "worker", count = 30 },
    ]
"#;

/// Every worker has seen the client twice; one dies while it is asked.
fn simulate() -> Cluster {
    let client: Address = "192.0.2.1".parse().expect("an address");
    let mut cluster = Cluster::of(LAYOUT, Registry::new().with::<Counting>());
    cluster.start();
    cluster.run_for(Duration::from_secs(10));
    for number in 1..=30 {
        let worker = format!("worker-{number}");
        cluster.raise(&worker, &Connection { client });
        cluster.raise(&worker, &Connection { client });
    }
    let owner = cluster.owner(&PoolName::proxy(), client);
    let name = "client.example".to_owned();
    cluster.raise(&owner, &Named { client, name });
    cluster.raise("manager", &Wanted { client });
    cluster.run_for(Duration::from_micros(500));
    cluster.kill("worker-7");
    cluster.run_until_idle();
    cluster
}

#[test]
fn what_is_gathered_says_who_is_missing() {
    let census = simulate().log_of::<Census>("census");
    assert_eq!(census.len(), 1);
    assert_eq!((census[0].connections, census[0].workers), (58, 29));
    assert_eq!(census[0].missing, ["worker-7: the node is gone"]);
    assert_eq!(census[0].name.as_deref(), Some("client.example"));
}

#[allow(clippy::print_stdout, reason = "this is what the example is run for")]
fn main() {
    let cluster = simulate();
    for census in cluster.log_of::<Census>("census") {
        println!("{census:?}");
    }
}
