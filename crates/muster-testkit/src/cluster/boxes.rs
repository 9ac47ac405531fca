//! The boxes of a cluster: what the processes of one have in common, and the network between them.

use std::collections::BTreeMap;

use muster_cluster::Layout;
use muster_coordination::{Coordinator, Sabotage};
use muster_store::CopySabotage;

use super::Cluster;
use super::clocks::Clock;
use super::process::Process;
use super::stores::Neglect;
use super::voter_disk::VoterDisk;
use crate::agenda::Item;

/// All boxes that a layout names, in its order.
#[derive(Debug, Default)]
pub(super) struct Boxes {
    pub(super) all: Vec<SimulatedBox>,
    /// From which box nothing gets to which other one, and since when.
    pub(super) cuts: BTreeMap<(usize, usize), u64>,
    /// What is on its way where nothing gets through, in order.
    pub(super) held: Vec<Item>,
    /// The rule that all coordinators break.
    pub(super) sabotage: Sabotage,
    /// The rule that all copies of stores break.
    pub(super) of_copies: CopySabotage,
    /// What all nodes do not do that they should.
    pub(super) neglect: Neglect,
}

/// What the processes of one machine share.
#[derive(Debug)]
pub(super) struct SimulatedBox {
    pub(super) name: String,
    pub(super) clock: Clock,
    pub(super) disk: DiskState,
    /// What its agent keeps as a voter. It outlives agents.
    pub(super) voter: Option<VoterDisk>,
    /// What its disk has done, or would have, while it hangs.
    pub(super) hanging: Vec<Item>,
}

/// What is wrong with a box's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum DiskState {
    /// Nothing.
    #[default]
    Works,
    /// Everything takes so many times as long.
    Slow(u32),
    /// Nothing is ever done.
    Hangs,
    /// Nothing more can be written.
    Full,
}

impl Boxes {
    pub(super) fn of(layout: &Layout) -> Self {
        let all = layout.boxes().keys().map(|name| SimulatedBox {
            name: name.clone(),
            clock: Clock::default(),
            disk: DiskState::default(),
            voter: None,
            hanging: Vec::new(),
        });
        Self {
            all: all.collect(),
            ..Self::default()
        }
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|known| known.name == name)
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains_key(&(from, to))
    }
}

impl Cluster {
    /// Breaks a rule of the coordinators on purpose, on every box. A test that checks the rule must fail.
    #[must_use]
    pub fn sabotage_coordinators(mut self, sabotage: Sabotage) -> Self {
        self.boxes.sabotage = sabotage;
        self
    }

    /// Breaks a rule of the copies of stores on purpose, on every node. A test that checks the rule must fail.
    #[must_use]
    pub fn sabotage_copies(mut self, sabotage: CopySabotage) -> Self {
        self.boxes.of_copies = sabotage;
        self
    }

    /// Lets the nodes neglect something on purpose. A test that checks what follows from it must fail.
    #[must_use]
    pub fn neglect(mut self, neglect: Neglect) -> Self {
        self.boxes.neglect = neglect;
        self
    }

    /// Returns the names of the layout's boxes, in order.
    pub fn boxes(&self) -> Vec<String> {
        let all = self.boxes.all.iter();
        all.map(|known| known.name.clone()).collect()
    }

    /// Returns the coordinator of a box, if its agent runs and has a vote.
    pub fn coordinator(&self, of_box: &str) -> Option<&Coordinator> {
        let agent = self.agent_of(self.box_position(of_box));
        match &self.nodes[agent].life.as_ref()?.process {
            Process::Agent(agent) => agent.coordinator(),
            Process::Muster(_) | Process::Zeek(_) => None,
        }
    }

    /// Returns the box whose coordinator decides, if there is one. A process that stands still decides nothing.
    pub fn leader(&self) -> Option<String> {
        let mut all = self.boxes.all.iter().enumerate();
        let leads = |(of_box, known): &(usize, &SimulatedBox)| {
            let runs = !self.is_process_frozen(self.agent_of(*of_box));
            let coordinator = self.coordinator(&known.name).filter(|_| runs);
            coordinator.is_some_and(Coordinator::decides)
        };
        all.find(leads).map(|(_, known)| known.name.clone())
    }

    /// Returns `true` if a node lives and may act, by its own clock, on what coordinators have told it.
    pub fn has_lease(&self, node: &str) -> bool {
        let position = self.position(node);
        let now = self.clock(position).mono;
        let life = self.nodes[position].life.as_ref();
        life.is_some_and(|life| now < life.lease_end)
    }

    /// Returns the box that a node runs on, if the layout names it.
    pub fn box_of(&self, node: &str) -> Option<&str> {
        let of_box = self.nodes[self.position(node)].of_box;
        of_box.map(|of_box| self.boxes.all[of_box].name.as_str())
    }

    /// Returns `true` if a node's process stands still.
    pub fn is_frozen(&self, node: &str) -> bool {
        self.is_process_frozen(self.position(node))
    }

    /// Returns the number of a node's present life, or of its last one: the first is 1.
    pub fn life(&self, node: &str) -> u64 {
        self.nodes[self.position(node)].lives
    }

    pub(super) fn box_position(&self, name: &str) -> usize {
        let position = self.boxes.position(name);
        position.unwrap_or_else(|| panic!("the layout has no box `{name}`"))
    }

    /// The agent of a box: it stands behind the nodes of the layout.
    pub(super) fn agent_of(&self, of_box: usize) -> usize {
        self.layout.nodes().len() + of_box
    }

    /// All processes of a box, its agent last.
    pub(super) fn processes_of(&self, of_box: usize) -> Vec<usize> {
        let all = self.nodes.iter().enumerate();
        all.filter(|(_, node)| node.of_box == Some(of_box))
            .map(|(position, _)| position)
            .collect()
    }
}
