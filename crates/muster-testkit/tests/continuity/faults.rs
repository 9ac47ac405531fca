//! What goes wrong, one box at a time, and how it ends.

use std::time::Duration;

use super::world::{World, ms};

/// What is wrong at present, and until when.
#[derive(Debug)]
pub(crate) struct Trouble {
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

impl World {
    /// Something goes wrong, or ends.
    pub(crate) fn trouble_goes_on(&mut self) {
        let now = self.cluster.now();
        let Some(trouble) = &mut self.trouble else {
            if self.is_bad && self.random.chance(20) && self.check_redundant().is_ok() {
                self.trouble_begins();
            }
            return;
        };
        if let Some(besides) = &trouble.besides
            && besides.from <= now
        {
            let is_over = besides.until <= now;
            match &besides.what {
                Still::Box(of_box) if is_over => self.cluster.thaw_box(of_box),
                Still::Box(of_box) => self.cluster.freeze_box(of_box),
                Still::Node(node) if is_over => self.cluster.thaw(node),
                Still::Node(node) => self.cluster.freeze(node),
            }
            if is_over {
                trouble.besides = None;
            }
        }
        if trouble.until <= now && trouble.besides.is_none() {
            self.trouble_ends();
        }
    }

    fn trouble_begins(&mut self) {
        let lasts = ms(100 + self.random.number(8_000));
        let boxes = self.cluster.boxes();
        let of_box = boxes[self.random.below(boxes.len())].clone();
        let other = boxes.iter().filter(|it| **it != of_box);
        let other: Vec<String> = other.cloned().collect();
        let other = other[self.random.below(other.len())].clone();
        let node = self.nodes[self.random.below(self.nodes.len())].clone();
        let others: Vec<&String> = self.nodes.iter().filter(|it| **it != node).collect();
        let other_node = others.get(self.random.below(others.len()));
        let other_node = other_node.map(|it| (*it).clone());
        let cluster = &mut self.cluster;
        let mut besides = None;
        self.account.troubles += 1;
        let what = match self.random.below(15) {
            0..=2 => {
                self.account.kills += 1;
                cluster.kill_box(&of_box);
                besides = Some(Still::Box(other));
                What::Dead(of_box)
            }
            3 | 4 => {
                self.account.kills += 1;
                cluster.kill(&node);
                besides = other_node.map(Still::Node);
                What::NodeDead(node)
            }
            5 => {
                cluster.kill_agent(&of_box);
                What::AgentDead(of_box)
            }
            6 | 7 => {
                self.account.freezes += 1;
                cluster.freeze_box(&of_box);
                What::Frozen(of_box)
            }
            8 => {
                self.account.freezes += 1;
                cluster.freeze(&node);
                What::NodeFrozen(node)
            }
            9 => {
                self.account.cuts += 1;
                cluster.cut_off(&of_box);
                What::Cut
            }
            10 => {
                self.account.cuts += 1;
                cluster.cut(&of_box, &other);
                if self.random.chance(50) {
                    cluster.cut(&other, &of_box);
                }
                What::Cut
            }
            11 => {
                // It is not heard, or does not hear.
                self.account.cuts += 1;
                let is_dumb = self.random.chance(50);
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
                self.account.disks += 1;
                cluster.hang_disk(&of_box);
                What::Disk(of_box)
            }
            13 => {
                self.account.disks += 1;
                if self.random.chance(50) {
                    cluster.fill_disk(&of_box);
                } else {
                    cluster.slow_disk(&of_box, 50);
                }
                What::Disk(of_box)
            }
            _ => {
                let hour = 3_600 * (1 + i64::from(self.random.chance(50)));
                let ahead = if self.random.chance(50) { hour } else { -hour };
                cluster.set_wall_clock(&of_box, ahead);
                What::Over
            }
        };
        let now = self.cluster.now();
        let until = now + lasts;
        let besides = besides.filter(|_| self.random.chance(40)).map(|what| {
            let from = now + ms(500 + self.random.number(3_000));
            let until = from + ms(1_000 + self.random.number(4_000));
            Besides { what, from, until }
        });
        self.trouble = Some(Trouble {
            what,
            until,
            besides,
        });
    }

    /// What is wrong ends.
    fn trouble_ends(&mut self) {
        let Some(trouble) = self.trouble.take() else {
            return;
        };
        match trouble.what {
            What::Dead(of_box) => {
                self.cluster.start_box(&of_box);
                for node in self.nodes.clone() {
                    if self.cluster.box_of(&node) == Some(of_box.as_str()) {
                        self.opens(&node);
                    }
                }
            }
            What::NodeDead(node) => {
                self.cluster.restart(&node);
                self.opens(&node);
            }
            What::AgentDead(of_box) => self.cluster.start_agent(&of_box),
            What::Frozen(of_box) => self.cluster.thaw_box(&of_box),
            What::NodeFrozen(node) => self.cluster.thaw(&node),
            What::Cut => self.cluster.mend_network(),
            What::Disk(of_box) => self.cluster.mend_disk(&of_box),
            What::Over => {}
        }
    }

    /// All that is wrong ends.
    pub(crate) fn heal(&mut self) {
        self.is_bad = false;
        let besides = self.trouble.as_mut().and_then(|it| it.besides.take());
        match besides.map(|besides| besides.what) {
            Some(Still::Box(of_box)) => self.cluster.thaw_box(&of_box),
            Some(Still::Node(node)) => self.cluster.thaw(&node),
            None => {}
        }
        self.trouble_ends();
    }
}
