//! Random layouts of two or three boxes with nodes, and a witness.

use std::fmt::Write as _;

use muster_test_support::Random;

use super::trouble::layout_of;

/// What a run uses.
pub(crate) struct Plan {
    pub(crate) text: String,
    /// The nodes that write and read.
    pub(crate) nodes: Vec<String>,
    /// The stores of [`STORES`] that are kept on disk.
    pub(crate) persistent: Vec<bool>,
}

/// Lists that writers append to, counters that all count with, and keys that one wins.
pub(crate) const STORES: [&str; 3] = ["lists", "counts", "firsts"];

pub(crate) fn draw(random: &mut Random) -> Plan {
    let boxes: &[&str] = if random.chance(50) {
        &["a", "b"]
    } else {
        &["a", "b", "c"]
    };
    let mut nodes = vec![("manager", "manager", "a"), ("data-2", "data", "b")];
    if random.chance(50) {
        nodes.push(("data-1", "data", "a"));
    }
    if random.chance(30) {
        nodes.push(("logger", "logger", "b"));
    }
    if boxes.len() == 3 {
        nodes.push(("data-3", "data", "c"));
    }
    if random.chance(60) {
        nodes.push(("worker", "worker", boxes[random.below(boxes.len())]));
    }
    let mut text = layout_of(&nodes, boxes);
    if boxes.len() == 3 && random.chance(40) {
        let store = STORES[random.below(STORES.len())];
        let min_copies = 1 + random.below(2);
        let _ = writeln!(
            text,
            "[store.\"{store}\"]\ncopies = 3\nmin_copies = {min_copies}"
        );
    }
    if random.chance(50) {
        let _ = writeln!(text, "[peering]\nheartbeat_timeout = \"5s\"");
    }
    let persistent = (0..STORES.len()).map(|_| random.chance(50)).collect();
    Plan {
        text,
        nodes: nodes.iter().map(|(name, ..)| (*name).to_owned()).collect(),
        persistent,
    }
}
