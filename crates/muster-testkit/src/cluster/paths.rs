//! What gets from one process to another: links that are dialled and given up, what is held where nothing gets through, and what waits
//! for a process that does not run.

use super::Cluster;
use crate::agenda::{Item, StoreItem};
use crate::nanos;

impl Cluster {
    /// Returns `true` if nothing gets from one process to another.
    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        let boxes = self.nodes[from].of_box.zip(self.nodes[to].of_box);
        boxes.is_some_and(|(from, to)| self.boxes.is_cut(from, to))
    }

    pub(super) fn is_process_frozen(&self, position: usize) -> bool {
        self.nodes[position].frozen_since.is_some()
    }

    /// Opens a link, or tries again later.
    pub(super) fn dial(&mut self, link: usize) {
        let (one, other) = self.links[link];
        let is_apart = self.is_cut(one, other) || self.is_cut(other, one);
        if is_apart || self.is_process_frozen(one) || self.is_process_frozen(other) {
            return self.dial_later(link);
        }
        self.connect(one, other);
    }

    /// A link is to be opened again.
    pub(super) fn dial_again(&mut self, link: usize) {
        let (one, other) = self.links[link];
        let (Some(from), Some(to)) = (&self.nodes[one].life, &self.nodes[other].life) else {
            return;
        };
        let known = from.connections.iter().map(|it| &self.connections[*it]);
        let ends = (from.id, to.id);
        let mut open = known.filter(|it| it.is_open && (it.ends[0].id, it.ends[1].id) == ends);
        if open.next().is_none() {
            self.dial(link);
        }
    }

    fn dial_later(&mut self, link: usize) {
        let retry = self.layout.settings().duration("peering.retry");
        let at = self.now + nanos(retry);
        self.agenda.add(at, Item::Dial { link });
    }

    /// One side ends a link: the other one hears of it, if anything gets there, and it is dialled again.
    pub(super) fn give_up(&mut self, connection: usize, side: usize) {
        let latency = self.random.nanos(&self.latency.clone());
        let known = &mut self.connections[connection];
        let was_open = std::mem::replace(&mut known.is_open, false);
        known.ends[side].cut = self.now;
        let far = &mut known.ends[1 - side];
        let at = far.last_arrival.max(self.now + latency);
        if was_open && far.knows {
            far.cut = at;
            let side = 1 - side;
            self.agenda.add(at, Item::PeerLost { connection, side });
        }
        let ends = (known.ends[0].node, known.ends[1].node);
        self.link_down(connection, side);
        if let Some(link) = self.links.iter().position(|link| *link == ends) {
            self.dial_later(link);
        }
    }

    /// Links over which nothing comes any more are looked at when they have been silent for so long as peers may be.
    pub(super) fn check_links_later(&mut self) {
        for connection in 0..self.connections.len() {
            for side in 0..2 {
                let end = &self.connections[connection].ends[side];
                if end.knows && self.silent_since(connection, side).is_some() {
                    self.check_link_later(connection, side);
                }
            }
        }
    }

    fn check_link_later(&mut self, connection: usize, side: usize) {
        let Some(since) = self.silent_since(connection, side) else {
            return;
        };
        let timeout = self.layout.settings().duration("peering.heartbeat_timeout");
        let at = (since + nanos(timeout)).max(self.now);
        let more = self.random.nanos(&self.latency.clone());
        let item = Item::LinkCheck { connection, side };
        self.agenda.add(at + more, item);
    }

    /// Since when nothing can have come to one side of a link.
    fn silent_since(&self, connection: usize, side: usize) -> Option<u64> {
        let ends = &self.connections[connection].ends;
        let (me, far) = (
            &self.nodes[ends[side].node],
            &self.nodes[ends[1 - side].node],
        );
        let boxes = far.of_box.zip(me.of_box);
        let cut = boxes.and_then(|boxes| self.boxes.cuts.get(&boxes).copied());
        let is_its_life = self.lives(ends[1 - side].node, ends[1 - side].life);
        let frozen = far.frozen_since.filter(|_| is_its_life);
        [cut, frozen].into_iter().flatten().min()
    }

    pub(super) fn check_link(&mut self, connection: usize, side: usize) {
        let end = &self.connections[connection].ends[side];
        if !end.knows || !self.lives(end.node, end.life) || self.is_process_frozen(end.node) {
            return;
        }
        let timeout = self.layout.settings().duration("peering.heartbeat_timeout");
        match self.silent_since(connection, side) {
            None => {}
            Some(since) if since + nanos(timeout) > self.now => {
                self.check_link_later(connection, side);
            }
            Some(_) => self.give_up(connection, side),
        }
    }

    /// The process that something happens to.
    pub(super) fn happens_to(&self, item: &Item) -> Option<usize> {
        match item {
            Item::PeerAdded { connection, side }
            | Item::PeerLost { connection, side }
            | Item::LinkCheck { connection, side }
            | Item::Arrival {
                connection, side, ..
            } => Some(self.connections.get(*connection)?.ends[*side].node),
            Item::Feed { node, .. }
            | Item::LogWork { node, .. }
            | Item::SpoolWork { node, .. }
            | Item::Pong { node, .. }
            | Item::Store { node, .. }
            | Item::Wants { node, .. }
            | Item::VoterWritten { node, .. }
            | Item::Wake { node, .. }
            | Item::EndpointWake { node, .. } => Some(*node),
            Item::Dial { .. } => None,
        }
    }

    /// Keeps what cannot happen yet: it is on its way where nothing gets through, its process does not run, or its disk hangs.
    pub(super) fn keep_back(&mut self, item: Item) -> Option<Item> {
        let from = match &item {
            Item::PeerAdded { connection, side }
            | Item::PeerLost { connection, side }
            | Item::Arrival {
                connection, side, ..
            } => {
                let known = self.connections.get(*connection);
                known.map(|known| known.ends[1 - *side].node)
            }
            // Only the clock says so.
            Item::LinkCheck { .. } => return Some(item),
            _ => None,
        };
        let Some(node) = self.happens_to(&item) else {
            return Some(item);
        };
        if from.is_some_and(|from| self.is_cut(from, node)) {
            self.boxes.held.push(item);
            return None;
        }
        if is_of_disk(&item) && self.does_disk_hang(node) {
            if let Some(of_box) = self.nodes[node].of_box {
                self.boxes.all[of_box].hanging.push(item);
            }
            return None;
        }
        if self.is_process_frozen(node) {
            self.nodes[node].backlog.push(item);
            return None;
        }
        Some(item)
    }

    /// What was kept back goes on, in the order in which it came.
    pub(super) fn go_on_with(&mut self, items: Vec<Item>) {
        for item in items {
            self.agenda.add(self.now, item);
        }
    }
}

fn is_of_disk(item: &Item) -> bool {
    match item {
        Item::VoterWritten { .. } | Item::LogWork { .. } | Item::SpoolWork { .. } => true,
        Item::Store { item, .. } => {
            matches!(item, StoreItem::Loaded { .. } | StoreItem::Committed { .. })
        }
        _ => false,
    }
}
