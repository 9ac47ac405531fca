//! Questions to nodes, roles and owners of keys, and to all workers, while boxes are in trouble: those who ask as well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_cluster::coordination::Standing;
use muster_test_support::Random;
use muster_testkit::{Cluster, RequestSabotage};

use super::ledger::{self, Ask, Outcome};
use super::trouble::{Counts, Troubles, layout_of};

/// How long the trouble lasts.
const TROUBLE: Duration = Duration::from_secs(60);

/// By how much a node's loop may be late.
const LATENESS: Duration = Duration::from_millis(5);

const NODES: [(&str, &str, &str); 9] = [
    ("manager", "manager", "a"),
    ("data-1", "data", "a"),
    ("data-2", "data", "b"),
    ("data-3", "data", "c"),
    ("worker-1", "worker", "a"),
    ("worker-2", "worker", "a"),
    ("worker-3", "worker", "b"),
    ("worker-4", "worker", "b"),
    ("worker-5", "worker", "c"),
];

/// What the runs have brought.
#[derive(Debug, Default, Clone)]
pub(crate) struct Account {
    pub(crate) answered: usize,
    pub(crate) unanswered: usize,
    /// Requests whose asker has died.
    pub(crate) forgotten: usize,
    /// Questions to owners of keys that two nodes have handled.
    pub(crate) handled_twice: usize,
    pub(crate) troubles: Counts,
}

impl Account {
    pub(crate) fn add(&mut self, more: &Self) {
        self.answered += more.answered;
        self.unanswered += more.unanswered;
        self.forgotten += more.forgotten;
        self.handled_twice += more.handled_twice;
        self.troubles.add(&more.troubles);
    }
}

/// Who has asked.
struct Asker {
    node: String,
    life: u64,
    /// It stood still meanwhile, so time has passed without it.
    stood_still: bool,
}

struct World {
    cluster: Cluster,
    random: Random,
    nodes: Vec<String>,
    troubles: Troubles,
    askers: BTreeMap<u64, Asker>,
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) fn run(seed: u64, broken: RequestSabotage) -> Result<Account, String> {
    let mut random = Random::new(seed);
    let slowest = [3, 20, 60][random.below(3)];
    let layout = layout_of(&NODES, &["a", "b", "c"]);
    let cluster = Cluster::of(&layout, ledger::registry())
        .seed(seed)
        .sabotage_requests(broken)
        .latency(Duration::from_micros(200)..=ms(slowest));
    let nodes = NODES.iter().map(|(name, ..)| (*name).to_owned());
    let mut world = World {
        cluster,
        random,
        nodes: nodes.collect(),
        troubles: Troubles::default(),
        askers: BTreeMap::new(),
    };
    world.cluster.start();
    for _ in 0..60 {
        world.cluster.run_for(ms(500));
        if is_calm(&world.cluster, &world.nodes) {
            break;
        }
    }
    let end = world.cluster.now() + TROUBLE;
    while world.cluster.now() < end {
        world.act();
    }
    world.troubles.heal(&mut world.cluster, &world.nodes);
    world.cluster.run_for(Duration::from_secs(30));
    world.check()
}

impl World {
    fn act(&mut self) {
        let wait = Duration::from_micros(2_000 + self.random.number(60_000));
        self.cluster.run_for(wait);
        self.notice_standstill();
        let node = self.nodes[self.random.below(self.nodes.len())].clone();
        if self.cluster.is_alive(&node) && !self.cluster.is_frozen(&node) {
            self.ask(&node);
        }
        let nodes = &self.nodes;
        let calm =
            |cluster: &Cluster, random: &mut Random| random.chance(20) && is_calm(cluster, nodes);
        self.troubles
            .go_on(&mut self.cluster, &mut self.random, nodes, calm);
    }

    fn ask(&mut self, node: &str) {
        let request = self.askers.len() as u64;
        let (of, whom) = match self.random.below(8) {
            0 => ("all", String::new()),
            1 | 2 => {
                let whom = self.random.below(self.nodes.len());
                ("node", self.nodes[whom].clone())
            }
            3 => ("role", String::new()),
            _ => ("owner", format!("key-{}", self.random.number(50))),
        };
        let quorum = if self.random.chance(50) { 3 } else { 99 };
        let ask = Ask {
            request,
            of: of.to_owned(),
            whom,
            within: 20 + self.random.number(8_000),
            quorum,
        };
        let asker = Asker {
            node: node.to_owned(),
            life: self.cluster.life(node),
            stood_still: false,
        };
        self.askers.insert(request, asker);
        self.cluster.raise(node, &ask);
    }

    fn notice_standstill(&mut self) {
        for (request, asker) in &mut self.askers {
            let is_same =
                self.cluster.is_alive(&asker.node) && self.cluster.life(&asker.node) == asker.life;
            if !asker.stood_still && is_same && self.cluster.is_frozen(&asker.node) {
                asker.stood_still = !ledger::has_outcome(*request);
            }
        }
    }

    fn check(&self) -> Result<Account, String> {
        let ledger = ledger::take();
        let workers = self.nodes.iter().filter(|node| node.starts_with("worker"));
        let workers: BTreeSet<String> = workers.cloned().collect();
        ledger.check(&workers)?;
        let mut account = Account {
            troubles: self.troubles.counts.clone(),
            ..Account::default()
        };
        for (request, asked) in &ledger.asked {
            let asker = &self.askers[request];
            let lives =
                self.cluster.is_alive(&asker.node) && self.cluster.life(&asker.node) == asker.life;
            let Some((at, outcome)) = asked.outcomes.first() else {
                if lives {
                    let (node, ask) = (&asker.node, &asked.ask);
                    return Err(format!("OPEN: {ask:?} of {node} has no outcome"));
                }
                account.forgotten += 1;
                continue;
            };
            let took = at.since(asked.at);
            if took > ms(asked.ask.within) + LATENESS && !asker.stood_still {
                return Err(format!("LATE: {request} of {} took {took:?}", asker.node));
            }
            let is_answered = match outcome {
                Outcome::Single(outcome) => outcome.is_ok(),
                Outcome::Gathered(gathered) => !gathered.answers.is_empty(),
            };
            account.answered += usize::from(is_answered);
            account.unanswered += usize::from(!is_answered);
            let handled = ledger.handled.keys().filter(|(of, _)| of == request);
            let is_single = asked.ask.of != "all";
            let times = handled.count();
            if is_single && asked.ask.of != "owner" && times > 1 {
                return Err(format!("TWO: {request} of one node was handled by {times}"));
            }
            account.handled_twice += usize::from(is_single && times > 1);
        }
        for node in &self.nodes {
            let open = self.cluster.node(node).open_requests();
            if open > 0 {
                return Err(format!("OPEN: {open} requests of {node}"));
            }
        }
        Ok(account)
    }
}

/// Everybody lives and is in.
fn is_calm(cluster: &Cluster, nodes: &[String]) -> bool {
    nodes.iter().all(|node| {
        cluster.is_alive(node)
            && cluster
                .node(node)
                .coordination()
                .is_some_and(|known| known.standing == Standing::In)
    })
}
