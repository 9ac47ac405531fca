//! Watermarks: up to which event time everything has been seen.

use std::collections::{BTreeMap, BTreeSet};

use muster_data::Timestamp;
use muster_wire::Incarnation;

use crate::layout::NodeName;

/// Inputs of one life of a node at most: their names come from the network.
const MOST_INPUTS: usize = 1024;

/// The low watermarks of all inputs of a cluster, and their minimum.
///
/// Each input announces the event time below which it will bring nothing more. A window may be
/// closed when the minimum over the living inputs has passed it (plus an allowance).
#[derive(Debug, Clone, Default)]
pub struct Watermarks {
    expected: BTreeSet<NodeName>,
    nodes: BTreeMap<NodeName, NodeInputs>,
    reached: Option<Timestamp>,
    late_inputs: u64,
    ignored_announcements: u64,
}

/// The inputs of one life of a node.
#[derive(Debug, Clone)]
struct NodeInputs {
    incarnation: Incarnation,
    is_alive: bool,
    inputs: BTreeMap<String, Timestamp>,
}

impl Watermarks {
    /// The watermark when all inputs have ended: later than every time.
    pub const END: Timestamp = Timestamp::from_nanos(i64::MAX);

    /// Creates watermarks without inputs.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node has an input by the layout and has not announced it yet. It holds the minimum back until it does, or
    /// until [`release`](Self::release).
    pub fn expect(&mut self, node: &NodeName) {
        self.expected.insert(node.clone());
    }

    /// The grace period of a node is over. It does not hold the minimum back any more until it announces.
    pub fn release(&mut self, node: &NodeName) {
        self.expected.remove(node);
    }

    /// An input of a node will bring nothing before `low`.
    ///
    /// Within one life an input's watermark never goes back, whatever is announced. A newer
    /// incarnation replaces the inputs of the older; an announcement of an older one, or of one that
    /// is down, is ignored and counted, and so is a node's 1025th input.
    pub fn announce(
        &mut self,
        node: &NodeName,
        incarnation: Incarnation,
        input: &str,
        low: Timestamp,
    ) {
        let life = NodeInputs {
            incarnation,
            is_alive: true,
            inputs: BTreeMap::new(),
        };
        let known = self
            .nodes
            .entry(node.clone())
            .or_insert_with(|| life.clone());
        if known.incarnation < incarnation {
            *known = life;
        }
        if known.incarnation > incarnation || !known.is_alive {
            self.ignored_announcements += 1;
            return;
        }
        self.expected.remove(node);
        if let Some(at) = known.inputs.get_mut(input) {
            *at = low.max(*at);
            return;
        }
        if known.inputs.len() >= MOST_INPUTS {
            self.ignored_announcements += 1;
            return;
        }
        known.inputs.insert(input.to_owned(), low);
        if self.reached.is_some_and(|reached| low < reached) {
            self.late_inputs += 1;
        }
    }

    /// An input of a node has ended. It does not hold the minimum back any more.
    pub fn finished(&mut self, node: &NodeName, incarnation: Incarnation, input: &str) {
        self.announce(node, incarnation, input, Self::END);
    }

    /// A node is down. Its inputs do not hold the minimum back any more.
    ///
    /// Where a restart is likely, call [`expect`](Self::expect) as well before the next
    /// [`low`](Self::low), and [`release`](Self::release) after a grace period.
    pub fn node_down(&mut self, node: &NodeName) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.is_alive = false;
            known.inputs.clear();
        }
    }

    /// A node is up: what this life announces counts from now on. The life may have been out of reach before, or its
    /// clock may be behind that of the life before it.
    pub fn node_up(&mut self, node: &NodeName, incarnation: Option<Incarnation>) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.is_alive = true;
            if let Some(incarnation) = incarnation.filter(|new| *new != known.incarnation) {
                known.incarnation = incarnation;
                known.inputs.clear();
            }
        }
    }

    /// Returns `true` if a living node has had inputs and all of them have ended.
    pub fn has_finished(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(|known| {
            !known.inputs.is_empty() && known.inputs.values().all(|low| *low >= Self::END)
        })
    }

    /// Returns `true` if a living node has an input that has not ended.
    pub fn are_open(&self) -> bool {
        let mut lows = self.nodes.values().flat_map(|node| node.inputs.values());
        lows.any(|low| *low < Self::END)
    }

    /// Returns the minimum over the living inputs: everything before it has been seen. `None` while an expected node
    /// is silent, or if there never was an input; [`END`](Self::END) when all inputs have ended.
    ///
    /// Never goes back: a slower input that joins late is counted instead, and what it brings
    /// before the minimum is late.
    pub fn low(&mut self) -> Option<Timestamp> {
        if self.expected.is_empty() {
            let living = self
                .nodes
                .values()
                .flat_map(|node| node.inputs.values())
                .min();
            self.reached = self.reached.max(living.copied());
        }
        self.reached
    }

    /// Returns how many inputs joined behind the minimum.
    pub fn late_inputs(&self) -> u64 {
        self.late_inputs
    }

    /// Returns how many announcements were ignored: those of lives that were over, and of more inputs than a node may
    /// have.
    pub fn ignored_announcements(&self) -> u64 {
        self.ignored_announcements
    }

    /// The nodes that hold the minimum back by their silence, in the order of their names.
    pub fn awaited(&self) -> impl Iterator<Item = &NodeName> {
        self.expected.iter()
    }
}
