//! What one of several managers does, and the next one when that is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_cluster::Role;
use muster_cluster::node::{
    Context, Declarations, Framework, KeyedContext, KeyedTable, Registry, Site,
};
use muster_data::{Record, encode_to_vec};
use muster_test_support::{Random, seeds};
use muster_testkit::Cluster;
use muster_wire::zeek::{Metadata, put_event};

const LAYOUT: &str = r#"
    node = [
        { name = "manager-1", role = "manager" },
        { name = "manager-2", role = "manager" },
        { name = "manager-3", role = "manager" },
        { name = "logger", role = "logger" },
        { name = "data", role = "data" },
        { name = "worker", role = "worker", count = 2 },
    ]
"#;

const DUTY: &str = "test/tickets";

/// A worker is to publish something.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::publish")]
struct Publish {
    number: u64,
}

/// For the manager's topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Record)]
#[record(name = "Test::word")]
struct Word {
    number: u64,
}

/// For whoever has the duty.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::order")]
struct Order {
    number: u64,
}

/// What whoever has it makes of it: all have numbers without a gap.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::ticket")]
struct Ticket {
    ticket: u64,
    number: u64,
}

const LAST: KeyedTable<String, bool, u64> = KeyedTable::new("test/last");

struct Tickets {
    role: Role,
}

impl Framework for Tickets {
    const NAME: &'static str = "test";

    fn create(site: &Site<'_>) -> Option<Self> {
        let role = site.node.role;
        Some(Self { role })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.stream::<Ticket>("tickets");
        declarations.stream::<Word>("words");
        match self.role {
            Role::Worker => declarations.on(Self::publish),
            Role::Manager => {
                declarations.on(Self::word);
                declarations.duty(DUTY, Self::order);
            }
            _ => {}
        }
    }
}

#[allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "handlers are methods that take their event by value"
)]
impl Tickets {
    fn publish(&mut self, Publish { number }: Publish, cx: &mut Context<'_>) {
        let manager = cx.topic_for_manager();
        cx.publish(&manager, &Word { number }).unwrap();
        cx.publish_to_duty(DUTY, &Order { number }).unwrap();
    }

    fn word(&mut self, word: Word, cx: &mut Context<'_>) {
        cx.log("words", &word).unwrap();
    }

    fn order(&mut self, Order { number }: Order, cx: &mut KeyedContext<'_, '_, String>) {
        assert!(cx.has_duty(DUTY));
        let ticket = cx.row(&LAST, &true).unwrap_or(0) + 1;
        assert!(cx.set(&LAST, &true, &ticket));
        cx.log("tickets", &Ticket { ticket, number }).unwrap();
    }
}

fn managers(cluster: &Cluster) -> Vec<String> {
    let managers = (1..=3).map(|number| format!("manager-{number}"));
    managers.filter(|name| cluster.is_alive(name)).collect()
}

/// The manager that hears the manager's topic.
fn active(cluster: &Cluster) -> Option<String> {
    let managers = managers(cluster).into_iter();
    let mut active = managers.filter(|name| cluster.node(name).is_active_manager());
    let found = active.next();
    assert_eq!(active.next(), None, "two managers act");
    found
}

fn started(seed: u64) -> Cluster {
    let mut cluster = Cluster::of(LAYOUT, Registry::new().with::<Tickets>()).seed(seed);
    cluster.start();
    cluster.run_for(Duration::from_secs(5));
    cluster
}

#[test]
fn what_is_for_the_manager_is_handled_once_whichever_manager_dies() {
    for seed in seeds(10) {
        let mut cluster = started(seed);
        let mut random = Random::new(seed);
        let mut number = 0;
        for _ in 0..6 {
            let any = managers(&cluster)[random.below(3)].clone();
            let dies = active(&cluster)
                .filter(|_| random.chance(70))
                .unwrap_or(any);
            for step in 0..60 {
                number += 1;
                let worker = format!("worker-{}", 1 + random.below(2));
                cluster.raise(&worker, &Publish { number });
                cluster.run_for(Duration::from_millis(random.number(30)));
                if step == 20 {
                    cluster.kill(&dies);
                }
            }
            cluster.run_for(Duration::from_secs(2));
            assert_ne!(active(&cluster), Some(dies.clone()), "seed {seed}");
            cluster.restart(&dies);
            cluster.run_for(Duration::from_secs(5));
        }
        let all: Vec<u64> = (1..=number).collect();
        let mut tickets = cluster.log_of::<Ticket>("tickets");
        tickets.sort_by_key(|ticket| ticket.ticket);
        let numbers: Vec<u64> = tickets.iter().map(|ticket| ticket.ticket).collect();
        assert_eq!(numbers, all, "seed {seed}: the duty's rows survive");
        let orders: BTreeSet<u64> = tickets.iter().map(|ticket| ticket.number).collect();
        assert_eq!(orders.len(), tickets.len(), "seed {seed}: handled once");
        let words = cluster.log_of::<Word>("words");
        let mut words: Vec<u64> = words.into_iter().map(|word| word.number).collect();
        words.sort_unstable();
        assert_eq!(words, all, "seed {seed}");
    }
}

#[test]
fn what_a_zeek_process_says_to_the_manager_is_not_lost_with_it() {
    for seed in seeds(5) {
        let cluster = Cluster::of(LAYOUT, Registry::new().with::<Tickets>()).seed(seed);
        let mut cluster = cluster.zeek("worker-1");
        cluster.start();
        cluster.run_for(Duration::from_secs(12));
        let first = active(&cluster).unwrap();
        for number in 0..200 {
            let mut payload = Vec::new();
            put_event(&mut payload, Word::NAME, Metadata::default(), |out| {
                out.extend_from_slice(&encode_to_vec(&Word { number }));
            });
            cluster.zeek_publishes("worker-1", "zeek/cluster/manager", &payload);
            cluster.run_for(Duration::from_millis(20));
            if number == 100 {
                cluster.kill(&first);
            }
        }
        cluster.run_for(Duration::from_secs(5));
        assert!(active(&cluster).is_some_and(|next| next != first));
        let words = cluster.log_of::<Word>("words");
        let different: BTreeSet<u64> = words.iter().map(|word| word.number).collect();
        assert_eq!(different.len(), 200, "seed {seed}");
        // What the first one has not said to have handled in its last moments is handled again.
        let again = cluster.total(|counts| counts.for_manager_again);
        assert!(words.len() <= 200 + usize::try_from(again).unwrap());
        assert_eq!(cluster.total(|counts| counts.for_manager_dropped), 0);
    }
}
