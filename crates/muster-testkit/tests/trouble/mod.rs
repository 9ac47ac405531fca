//! What goes wrong, one box at a time, and how it ends.

use std::fmt::Write as _;
use std::time::Duration;

use muster_test_support::Random;
use muster_testkit::Cluster;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The layout of nodes, with their names, roles and boxes, and of these boxes and a witness.
pub(crate) fn layout_of(nodes: &[(&str, &str, &str)], boxes: &[&str]) -> String {
    let mut text = String::new();
    for (name, role, of_box) in nodes {
        let _ = writeln!(
            text,
            "[[node]]\nname = \"{name}\"\nrole = \"{role}\"\nbox = \"{of_box}\""
        );
    }
    for (at, of_box) in boxes.iter().chain(&["witness"]).enumerate() {
        let _ = writeln!(text, "[box.{of_box}]\naddress = \"10.0.0.{at}\"");
    }
    text
}

/// What has gone wrong so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) troubles: usize,
    pub(crate) kills: usize,
    pub(crate) freezes: usize,
    pub(crate) cuts: usize,
    pub(crate) disks: usize,
}

/// One trouble after another.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    present: Option<Trouble>,
    pub(crate) counts: Counts,
}

impl Counts {
    pub(crate) fn add(&mut self, more: &Self) {
        self.troubles += more.troubles;
        self.kills += more.kills;
        self.freezes += more.freezes;
        self.cuts += more.cuts;
        self.disks += more.disks;
    }
}

/// What is wrong at present, and until when.
#[derive(Debug)]
struct Trouble {
    what: What,
    until: Duration,
    besides: Option<Besides>,
}

/// Something else stands still meanwhile, which loses nothing.
#[derive(Debug)]
struct Besides {
    what: Still,
    from: Duration,
    until: Duration,
}

#[derive(Debug)]
enum Still {
    Box(String),
    Node(String),
}

#[derive(Debug)]
enum What {
    /// A box, or a node, is dead.
    Dead(String),
    NodeDead(String),
    AgentDead(String),
    /// A box, or a node, stands still.
    Frozen(String),
    NodeFrozen(String),
    /// Something gets nowhere.
    Cut,
    /// A disk does not do what it should.
    Disk(String),
    /// All is well again, and has to be in order before something else goes wrong.
    Over,
}

impl Troubles {
    /// Something goes wrong if `is_calm` allows for it, goes on, or ends. Returns the nodes that have begun anew.
    pub(crate) fn go_on(
        &mut self,
        cluster: &mut Cluster,
        random: &mut Random,
        nodes: &[String],
        is_calm: impl Fn(&Cluster, &mut Random) -> bool,
    ) -> Vec<String> {
        let now = cluster.now();
        let Some(trouble) = &mut self.present else {
            if is_calm(cluster, random) {
                self.begin(cluster, random, nodes);
            }
            return Vec::new();
        };
        if let Some(besides) = &trouble.besides
            && besides.from <= now
        {
            let is_over = besides.until <= now;
            match &besides.what {
                Still::Box(of_box) if is_over => cluster.thaw_box(of_box),
                Still::Box(of_box) => cluster.freeze_box(of_box),
                Still::Node(node) if is_over => cluster.thaw(node),
                Still::Node(node) => cluster.freeze(node),
            }
            if is_over {
                trouble.besides = None;
            }
        }
        if trouble.until <= now && trouble.besides.is_none() {
            return self.end(cluster, nodes);
        }
        Vec::new()
    }

    fn begin(&mut self, cluster: &mut Cluster, random: &mut Random, nodes: &[String]) {
        let lasts = ms(100 + random.number(8_000));
        let boxes = cluster.boxes();
        let of_box = boxes[random.below(boxes.len())].clone();
        let other = boxes.iter().filter(|it| **it != of_box);
        let other: Vec<String> = other.cloned().collect();
        let other = other[random.below(other.len())].clone();
        let node = nodes[random.below(nodes.len())].clone();
        let others: Vec<&String> = nodes.iter().filter(|it| **it != node).collect();
        let other_node = others.get(random.below(others.len()));
        let other_node = other_node.map(|it| (*it).clone());
        let mut besides = None;
        self.counts.troubles += 1;
        let what = match random.below(15) {
            0..=2 => {
                self.counts.kills += 1;
                cluster.kill_box(&of_box);
                besides = Some(Still::Box(other));
                What::Dead(of_box)
            }
            3 | 4 => {
                self.counts.kills += 1;
                cluster.kill(&node);
                besides = other_node.map(Still::Node);
                What::NodeDead(node)
            }
            5 => {
                cluster.kill_agent(&of_box);
                What::AgentDead(of_box)
            }
            6 | 7 => {
                self.counts.freezes += 1;
                cluster.freeze_box(&of_box);
                What::Frozen(of_box)
            }
            8 => {
                self.counts.freezes += 1;
                cluster.freeze(&node);
                What::NodeFrozen(node)
            }
            9 => {
                self.counts.cuts += 1;
                cluster.cut_off(&of_box);
                What::Cut
            }
            10 => {
                self.counts.cuts += 1;
                cluster.cut(&of_box, &other);
                if random.chance(50) {
                    cluster.cut(&other, &of_box);
                }
                What::Cut
            }
            11 => {
                // It is not heard, or does not hear.
                self.counts.cuts += 1;
                let is_dumb = random.chance(50);
                for other in boxes.iter().filter(|it| **it != of_box) {
                    if is_dumb {
                        cluster.cut(&of_box, other);
                    } else {
                        cluster.cut(other, &of_box);
                    }
                }
                What::Cut
            }
            12 => {
                self.counts.disks += 1;
                cluster.hang_disk(&of_box);
                What::Disk(of_box)
            }
            13 => {
                self.counts.disks += 1;
                if random.chance(50) {
                    cluster.fill_disk(&of_box);
                } else {
                    cluster.slow_disk(&of_box, 50);
                }
                What::Disk(of_box)
            }
            _ => {
                let hour = 3_600 * (1 + i64::from(random.chance(50)));
                let ahead = if random.chance(50) { hour } else { -hour };
                cluster.set_wall_clock(&of_box, ahead);
                What::Over
            }
        };
        let now = cluster.now();
        let until = now + lasts;
        let besides = besides.filter(|_| random.chance(40)).map(|what| {
            let from = now + ms(500 + random.number(3_000));
            let until = from + ms(1_000 + random.number(4_000));
            Besides { what, from, until }
        });
        self.present = Some(Trouble {
            what,
            until,
            besides,
        });
    }

    /// What is wrong ends.
    fn end(&mut self, cluster: &mut Cluster, nodes: &[String]) -> Vec<String> {
        let mut anew = Vec::new();
        let Some(trouble) = self.present.take() else {
            return anew;
        };
        match trouble.what {
            What::Dead(of_box) => {
                cluster.start_box(&of_box);
                let on_it = nodes.iter();
                let on_it = on_it.filter(|node| cluster.box_of(node) == Some(of_box.as_str()));
                anew.extend(on_it.cloned());
            }
            What::NodeDead(node) => {
                cluster.restart(&node);
                anew.push(node);
            }
            What::AgentDead(of_box) => cluster.start_agent(&of_box),
            What::Frozen(of_box) => cluster.thaw_box(&of_box),
            What::NodeFrozen(node) => cluster.thaw(&node),
            What::Cut => cluster.mend_network(),
            What::Disk(of_box) => cluster.mend_disk(&of_box),
            What::Over => {}
        }
        anew
    }

    /// All that is wrong ends. Returns the nodes that have begun anew.
    pub(crate) fn heal(&mut self, cluster: &mut Cluster, nodes: &[String]) -> Vec<String> {
        let besides = self.present.as_mut().and_then(|it| it.besides.take());
        match besides.map(|besides| besides.what) {
            Some(Still::Box(of_box)) => cluster.thaw_box(&of_box),
            Some(Still::Node(node)) => cluster.thaw(&node),
            None => {}
        }
        self.end(cluster, nodes)
    }
}
