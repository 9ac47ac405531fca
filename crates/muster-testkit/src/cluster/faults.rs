//! What goes wrong with boxes.

use std::time::Duration;

use super::Cluster;
use super::boxes::DiskState;
use crate::agenda::{Item, StoreItem};

/// How far apart the timers of processes that run again go off.
const AWAKE: Duration = Duration::from_millis(3);

impl Cluster {
    /// Kills all processes of a box at once, its agent too, as [`kill`](Self::kill) does a node. What its agent had not synced, as a
    /// voter, is lost or not, and so is what stores had given to the disk and the disk had not confirmed. Processes that are dead
    /// already stay so.
    pub fn kill_box(&mut self, of_box: &str) {
        let of_box = self.box_position(of_box);
        for position in self.processes_of(of_box) {
            if self.nodes[position].life.is_some() {
                let name = self.nodes[position].name.clone();
                self.kill(&name);
            }
        }
    }

    /// Starts all processes of a box that are dead, its agent first.
    pub fn start_box(&mut self, of_box: &str) {
        let of_box = self.box_position(of_box);
        for position in self.processes_of(of_box).into_iter().rev() {
            if self.nodes[position].life.is_none() {
                self.begin(position);
            }
        }
    }

    /// Stops the agent of a box at once, and nothing else.
    pub fn kill_agent(&mut self, of_box: &str) {
        let agent = self.agent_of(self.box_position(of_box));
        let name = self.nodes[agent].name.clone();
        self.kill(&name);
    }

    /// Starts the agent of a box, which must be dead.
    pub fn start_agent(&mut self, of_box: &str) {
        let agent = self.agent_of(self.box_position(of_box));
        let name = self.nodes[agent].name.clone();
        self.restart(&name);
    }

    /// Lets no process of a box run any more, as on a machine that stands still. Its links stand until their other ends give them up.
    pub fn freeze_box(&mut self, of_box: &str) {
        for position in self.processes_of(self.box_position(of_box)) {
            self.freeze_process(position);
        }
        self.check_links_later();
    }

    /// Lets the processes of a box run again. The first thing that they see is what came meanwhile.
    pub fn thaw_box(&mut self, of_box: &str) {
        for position in self.processes_of(self.box_position(of_box)) {
            self.thaw_process(position);
        }
    }

    /// Lets a node's process run no more. Its links stand until their other ends give them up.
    pub fn freeze(&mut self, node: &str) {
        self.freeze_process(self.position(node));
        self.check_links_later();
    }

    /// Lets a node's process run again. The first thing that it sees is what came meanwhile.
    pub fn thaw(&mut self, node: &str) {
        self.thaw_process(self.position(node));
    }

    fn freeze_process(&mut self, position: usize) {
        let now = self.now;
        let node = &mut self.nodes[position];
        if node.life.is_some() && node.frozen_since.is_none() {
            node.frozen_since = Some(now);
            self.note(position, "stands still");
        }
    }

    fn thaw_process(&mut self, position: usize) {
        if self.nodes[position].frozen_since.take().is_none() {
            return;
        }
        self.note(position, "runs again");
        let mut backlog = std::mem::take(&mut self.nodes[position].backlog);
        // Its timers are due, some a little earlier than others.
        backlog.retain(|item| !is_timer(item));
        self.go_on_with(backlog);
        let (node, now) = (position, self.now);
        let latest = Duration::ZERO..=AWAKE;
        let mut soon = || now + self.random.nanos(&latest);
        let Some(life) = &mut self.nodes[position].life else {
            return;
        };
        let number = life.number;
        let (loop_at, endpoint_at) = (soon(), soon());
        life.wake = Some(loop_at);
        let life = number;
        self.agenda.add(loop_at, Item::Wake { node, life });
        if let Some(present) = &mut self.nodes[position].life
            && present.endpoint.is_some()
        {
            present.endpoint_wake = Some(endpoint_at);
            self.agenda
                .add(endpoint_at, Item::EndpointWake { node, life });
        }
        for store in self.stores_of(position) {
            let at = now + self.random.nanos(&latest);
            self.wake_store_at(position, &store, at);
        }
    }

    /// A process ends: what came while it did not run is nobody's, but what its disk had to do may be done.
    pub(super) fn forget_frozen(&mut self, position: usize) {
        self.nodes[position].frozen_since = None;
        for item in std::mem::take(&mut self.nodes[position].backlog) {
            if let Item::Store { node, item, .. } = item {
                self.disk_ends_alone(node, item);
            }
        }
    }

    /// Lets nothing get from one box to another any more. What is sent waits, and arrives when the way is free again, unless its link is
    /// given up before. The other way is not touched.
    pub fn cut(&mut self, from: &str, to: &str) {
        let cut = (self.box_position(from), self.box_position(to));
        self.boxes.cuts.entry(cut).or_insert(self.now);
        self.check_links_later();
    }

    /// Cuts a box off from all others, both ways.
    pub fn cut_off(&mut self, of_box: &str) {
        for other in self.boxes() {
            if other != of_box {
                self.cut(of_box, &other);
                self.cut(&other, of_box);
            }
        }
    }

    /// Frees all ways between boxes.
    pub fn mend_network(&mut self) {
        self.boxes.cuts.clear();
        let held = std::mem::take(&mut self.boxes.held);
        self.go_on_with(held);
    }

    /// Lets a box's disk take `times` as long for everything from now on.
    pub fn slow_disk(&mut self, of_box: &str, times: u32) {
        self.set_disk(of_box, DiskState::Slow(times));
    }

    /// Lets a box's disk finish nothing any more.
    pub fn hang_disk(&mut self, of_box: &str) {
        self.set_disk(of_box, DiskState::Hangs);
    }

    /// Lets nothing more be written to a box's disk. What is on it can be read.
    pub fn fill_disk(&mut self, of_box: &str) {
        self.set_disk(of_box, DiskState::Full);
    }

    /// Lets a box's disk work again.
    pub fn mend_disk(&mut self, of_box: &str) {
        self.set_disk(of_box, DiskState::Works);
    }

    fn set_disk(&mut self, of_box: &str, state: DiskState) {
        let position = self.box_position(of_box);
        let known = &mut self.boxes.all[position];
        known.disk = state;
        if state != DiskState::Hangs {
            let hanging = std::mem::take(&mut known.hanging);
            self.go_on_with(hanging);
        }
    }

    fn disk_state(&self, position: usize) -> DiskState {
        let of_box = self.nodes[position].of_box;
        of_box.map_or(DiskState::Works, |of_box| self.boxes.all[of_box].disk)
    }

    pub(super) fn does_disk_hang(&self, position: usize) -> bool {
        self.disk_state(position) == DiskState::Hangs
    }

    pub(super) fn is_disk_full(&self, position: usize) -> bool {
        self.disk_state(position) == DiskState::Full
    }

    /// How long a process's disk takes for something.
    pub(super) fn disk_takes(&mut self, position: usize) -> u64 {
        let takes = self.random.nanos(&self.disk_latency.clone());
        match self.disk_state(position) {
            DiskState::Slow(times) => takes.saturating_mul(u64::from(times)),
            DiskState::Works | DiskState::Hangs | DiskState::Full => takes,
        }
    }
}

fn is_timer(item: &Item) -> bool {
    match item {
        Item::Wake { .. } | Item::EndpointWake { .. } => true,
        Item::Store { item, .. } => matches!(item, StoreItem::Wake { .. }),
        _ => false,
    }
}
