//! A cluster whose manager has a list, and what goes wrong.

use std::fmt::Write as _;
use std::time::Duration;

use muster_cluster::feed::FeedLimits;
use muster_cluster::node::Registry;
use muster_test_support::Random;
use muster_testkit::{Cluster, FeedSabotage};

use super::lister::{Change, Lister, forget, remembered};

const WORKERS: usize = 30;

/// Bounds that are reached soon.
const TINY: FeedLimits = FeedLimits {
    items: 500,
    bytes: 50_000,
    removals: 8,
    part: 300,
    window: 900,
    window_of_all: 8_000,
    followers: 100,
};

/// What the runs have brought.
#[derive(Debug, Default, Clone)]
pub(crate) struct Account {
    pub(crate) completes: u64,
    pub(crate) changes: u64,
    pub(crate) lists: u64,
    pub(crate) dropped: u64,
    pub(crate) troubles: u64,
}

impl Account {
    pub(crate) fn add(&mut self, more: &Self) {
        self.completes += more.completes;
        self.changes += more.changes;
        self.lists += more.lists;
        self.dropped += more.dropped;
        self.troubles += more.troubles;
    }
}

/// What is wrong at present.
enum Trouble {
    Dead(String),
    Frozen(String),
    Cut,
}

struct World {
    cluster: Cluster,
    random: Random,
    /// Those that follow.
    nodes: Vec<String>,
    present: Vec<(Duration, Trouble)>,
    troubles: u64,
}

fn worker(number: usize) -> String {
    format!("worker-{number}")
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Workers on one machine or on three, the manager on the first.
fn layout(has_boxes: bool) -> (String, Vec<String>) {
    let mut text = String::new();
    let mut nodes = Vec::new();
    let mut node = |name: &str, role: &str, of_box: &str| {
        let _ = writeln!(text, "[[node]]\nname = \"{name}\"\nrole = \"{role}\"");
        if has_boxes {
            let _ = writeln!(text, "box = \"{of_box}\"");
        }
        nodes.push(name.to_owned());
    };
    node("manager", "manager", "a");
    node("data-1", "data", "a");
    node("data-2", "data", "b");
    for number in 1..=WORKERS {
        node(&worker(number), "worker", ["a", "b", "c"][number % 3]);
    }
    nodes.remove(0);
    if has_boxes {
        for (at, of_box) in ["a", "b", "c"].iter().enumerate() {
            let _ = writeln!(text, "[box.{of_box}]\naddress = \"10.0.0.{at}\"");
        }
    }
    (text, nodes)
}

pub(crate) fn run(seed: u64, broken: FeedSabotage) -> Result<Account, String> {
    forget();
    let mut random = Random::new(seed);
    let (text, nodes) = layout(seed % 2 == 1);
    let slowest = [3, 20, 80][random.below(3)];
    let late = worker(1 + random.below(WORKERS));
    let cluster = Cluster::of(&text, Registry::new().with::<Lister>())
        .seed(seed)
        .latency(Duration::from_micros(200)..=ms(slowest))
        .sabotage_feeds(broken, TINY)
        .late(&late);
    let mut world = World {
        cluster,
        random,
        nodes,
        present: vec![(ms(15_000), Trouble::Dead(late))],
        troubles: 0,
    };
    world.cluster.start();
    while world.cluster.now() < Duration::from_secs(40) {
        world.act()?;
    }
    world.end_troubles(Duration::MAX);
    world.agree()?;
    let cluster = &world.cluster;
    Ok(Account {
        completes: remembered(|memory| memory.completes),
        changes: cluster.total(|counts| counts.feed_changes),
        lists: cluster.total(|counts| counts.feed_lists),
        dropped: cluster.total(|counts| counts.feed_parts_dropped),
        troubles: world.troubles,
    })
}

impl World {
    fn act(&mut self) -> Result<(), String> {
        let wait = Duration::from_micros(1_000 + self.random.number(200_000));
        self.cluster.run_for(wait);
        look()?;
        self.end_troubles(self.cluster.now());
        if self.random.chance(60) && self.is_running("manager") {
            // Now and then more is removed than the source remembers.
            let (times, removals) = if self.random.chance(10) {
                (60, 70)
            } else {
                (self.random.number(6), 40)
            };
            let seed = self.random.next();
            let change = Change {
                seed,
                times,
                removals,
            };
            self.cluster.raise("manager", &change);
        }
        // While boxes are cut off, nothing else goes wrong.
        let is_cut = self
            .present
            .iter()
            .any(|(_, it)| matches!(it, Trouble::Cut));
        if !is_cut && self.present.len() < 3 && self.random.chance(4) {
            self.begin_trouble();
        }
        Ok(())
    }

    fn is_running(&self, node: &str) -> bool {
        self.cluster.is_alive(node) && !self.cluster.is_frozen(node)
    }

    fn begin_trouble(&mut self) {
        let node = if self.random.chance(30) {
            "manager".to_owned()
        } else {
            self.nodes[self.random.below(self.nodes.len())].clone()
        };
        if !self.is_running(&node) {
            return;
        }
        self.troubles += 1;
        let until = self.cluster.now() + ms(self.random.number(6_000));
        let trouble = match self.random.below(4) {
            0 => {
                self.cluster.kill(&node);
                Trouble::Dead(node)
            }
            1 => {
                self.cluster.stop(&node);
                Trouble::Dead(node)
            }
            2 => {
                self.cluster.freeze(&node);
                Trouble::Frozen(node)
            }
            _ if self.cluster.boxes().is_empty() || !self.present.is_empty() => {
                self.cluster.kill(&node);
                Trouble::Dead(node)
            }
            _ => {
                let boxes = ["a", "b", "c"];
                let one = self.random.below(3);
                if self.random.chance(50) {
                    self.cluster.cut_off(boxes[one]);
                } else {
                    self.cluster.cut(boxes[one], boxes[(one + 1) % 3]);
                }
                Trouble::Cut
            }
        };
        self.present.push((until, trouble));
    }

    fn end_troubles(&mut self, now: Duration) {
        let all = std::mem::take(&mut self.present);
        for (until, trouble) in all {
            if until > now {
                self.present.push((until, trouble));
                continue;
            }
            match trouble {
                Trouble::Dead(node) => self.cluster.restart(&node),
                Trouble::Frozen(node) => self.cluster.thaw(&node),
                Trouble::Cut => self.cluster.mend_network(),
            }
        }
    }

    /// Everybody comes to have the list.
    fn agree(&mut self) -> Result<(), String> {
        let mut differ = String::new();
        for _ in 0..60 {
            self.cluster.run_for(ms(500));
            look()?;
            match self.differs() {
                None => return Ok(()),
                Some(error) => differ = error,
            }
        }
        Err(differ)
    }

    fn differs(&self) -> Option<String> {
        let differs = |node: &&String| {
            let life = self.cluster.node(node).id();
            remembered(|memory| {
                let copy = memory.copies.get(&life);
                !copy.is_some_and(|copy| copy.is_complete && copy.items == memory.list)
            })
        };
        let node = self.nodes.iter().find(differs)?;
        let life = self.cluster.node(node).id();
        let text =
            remembered(|memory| format!("{:?}, {:?}", memory.list, memory.copies.get(&life)));
        Some(format!("END: {node} differs: {text}"))
    }
}

fn look() -> Result<(), String> {
    remembered(|memory| memory.wrong.take()).map_or(Ok(()), Err)
}
