//! Nodes that reach one another through a relay: Muster's nodes form one mesh, whose hubs relay.

use std::sync::Arc;

use super::{Cluster, Connection, End};
use crate::agenda::Item;

/// A pair of nodes that have no link.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pair {
    /// What they exchange messages by, if there is a relay between them.
    connection: Option<usize>,
    /// When both know that there was none any more.
    gone_by: u64,
}

impl Cluster {
    /// A node has come or gone: finds relays for the pairs of nodes without a link that this matters to.
    ///
    /// Zeek's processes have their peers and nobody else, and relay nothing.
    pub(super) fn find_relays(&mut self, changed: usize) {
        let there: Vec<usize> = (0..self.nodes.len())
            .filter(|node| !self.nodes[*node].is_zeek && self.nodes[*node].life.is_some())
            .collect();
        let hubs: Vec<usize> = there
            .iter()
            .copied()
            .filter(|node| self.is_hub(*node))
            .collect();
        for (at, one) in there.iter().copied().enumerate() {
            for other in there[at + 1..].iter().copied() {
                let matters = self.is_hub(changed) || [one, other].contains(&changed);
                if matters && !self.is_linked(one, other) {
                    self.find_relay(one, other, &hubs);
                }
            }
        }
    }

    fn is_hub(&self, node: usize) -> bool {
        self.layout.nodes()[node].role.is_hub()
    }

    fn is_linked(&self, one: usize, other: usize) -> bool {
        self.linked.contains(&(one, other)) || self.linked.contains(&(other, one))
    }

    fn find_relay(&mut self, one: usize, other: usize, hubs: &[usize]) {
        let mut relays = hubs
            .iter()
            .copied()
            .filter(|relay| self.is_linked(one, *relay) && self.is_linked(*relay, other));
        let life = |node: usize| self.nodes[node].life.as_ref().map(|life| life.number);
        let relay = relays.next();
        let present = relay.and_then(|relay| Some((relay, life(relay)?)));
        let pair = self.pairs.entry((one, other)).or_default();
        let open = pair.connection.filter(|at| self.connections[*at].is_open);
        match (open, present) {
            (Some(at), Some(relay)) => {
                // One that still relays goes on.
                let known = self.connections[at].via;
                if !known.is_some_and(|(node, number)| self.lives(node, number)) {
                    self.connections[at].via = Some(relay);
                }
            }
            (Some(at), None) => self.part(one, other, at),
            (None, Some(relay)) => self.meet(one, other, relay),
            (None, None) => {}
        }
    }

    /// Two nodes can reach one another from now on, through a relay.
    fn meet(&mut self, one: usize, other: usize, relay: (usize, u64)) {
        let (Some(first), Some(second)) = (self.end_of(one), self.end_of(other)) else {
            return;
        };
        let connection = self.connections.len();
        let gone_by = self.pairs.get(&(one, other)).map_or(0, |pair| pair.gone_by);
        for (side, node) in [one, other].into_iter().enumerate() {
            // Two links have to stand.
            let way = 2 * (self.random.nanos(&self.latency) + self.random.nanos(&self.latency));
            let at = (self.now + way).max(gone_by + 1);
            self.agenda.add(at, Item::PeerAdded { connection, side });
            if let Some(life) = &mut self.nodes[node].life {
                life.connections.push(connection);
            }
        }
        self.connections.push(Connection {
            ends: [first, second],
            is_open: true,
            via: Some(relay),
        });
        let pair = self.pairs.entry((one, other)).or_default();
        pair.connection = Some(connection);
    }

    /// Nobody relays between two living nodes any more.
    fn part(&mut self, one: usize, other: usize, connection: usize) {
        self.connections[connection].is_open = false;
        let mut gone_by = self.now;
        for side in 0..2 {
            let at = self.now + self.random.nanos(&self.latency);
            gone_by = gone_by.max(at);
            let end = &mut self.connections[connection].ends[side];
            if end.knows {
                end.cut = at;
                self.agenda.add(at, Item::PeerLost { connection, side });
            } else {
                end.cut = 0;
            }
        }
        let pair = self.pairs.entry((one, other)).or_default();
        *pair = Pair {
            connection: None,
            gone_by,
        };
        for node in [one, other] {
            if let Some(life) = &mut self.nodes[node].life {
                life.connections.retain(|known| *known != connection);
            }
        }
    }

    /// A side of a connection, of the node's present life.
    pub(super) fn end_of(&self, node: usize) -> Option<End> {
        let life = self.nodes[node].life.as_ref()?;
        Some(End {
            node,
            life: life.number,
            id: life.id,
            filter: Arc::clone(&life.filter),
            knows: false,
            last_arrival: 0,
            cut: u64::MAX,
        })
    }

    /// Whether a life did not end in order: what was under way to it, or through it, is lost.
    pub(super) fn was_killed(&self, (node, life): (usize, u64)) -> bool {
        self.nodes[node].killed.contains(&life)
    }
}
