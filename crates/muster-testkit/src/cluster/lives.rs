//! Nodes that come and go, and the connections between them.

use std::sync::Arc;

use muster_cluster::node::NodeLoop;
use muster_wire::{EndpointId, Filter, Incarnation, Topic};

use super::process::{Process, ZeekProcess};
use super::stores::NodeStores;
use super::{Cluster, Connection, Life};
use crate::agenda::Item;

impl Cluster {
    pub(super) fn begin(&mut self, position: usize) {
        let now = self.present();
        let id = EndpointId::from_random(self.random.bytes());
        let node = &mut self.nodes[position];
        node.lives += 1;
        let incarnation = Incarnation(now.wall.as_nanos().unsigned_abs() + node.lives);
        let stores = NodeStores::default();
        let process = if node.is_zeek {
            let known = self.layout.find(&node.name).expect("a node of the layout");
            Process::Zeek(ZeekProcess::new(&self.layout, known, id))
        } else {
            let mut node_loop = NodeLoop::new(
                &self.layout,
                &node.name,
                &self.registry,
                id,
                incarnation,
                now,
            )
            .unwrap_or_else(|error| panic!("{error}"));
            node_loop.set_stores(Box::new(stores.clone()));
            Process::Muster(Box::new(node_loop))
        };
        let topics = process.subscriptions();
        node.life = Some(Life {
            number: node.lives,
            filter: Arc::new(Filter::from_prefixes(topics.iter().map(Topic::as_bytes))),
            process,
            id,
            connections: Vec::new(),
            wake: None,
            fed: 0,
            low: None,
            stores,
        });
        let what = if node.lives > 1 {
            "restarted"
        } else {
            "started"
        };
        self.note(position, what);
        for (one, other) in self.links.clone() {
            if one == position || other == position {
                self.connect(one, other);
            }
        }
        self.find_relays(position);
        self.carry_out(position);
    }

    fn connect(&mut self, one: usize, other: usize) {
        let (Some(one), Some(other)) = (self.end_of(one), self.end_of(other)) else {
            return;
        };
        let connection = self.connections.len();
        for (side, end) in [&one, &other].into_iter().enumerate() {
            let at = self.now + 2 * self.random.nanos(&self.latency.clone());
            self.agenda.add(at, Item::PeerAdded { connection, side });
            if let Some(life) = &mut self.nodes[end.node].life {
                life.connections.push(connection);
            }
        }
        self.connections.push(Connection {
            ends: [one, other],
            is_open: true,
            via: None,
        });
    }

    /// Ends a life; `close` says when the other side of a connection learns of it.
    pub(super) fn end(
        &mut self,
        node: &str,
        how: &str,
        close: impl Fn(&mut Self, usize, usize) -> u64,
    ) {
        let position = self.position(node);
        let Some(life) = self.nodes[position].life.take() else {
            panic!("node `{node}` is dead already");
        };
        self.note(position, how);
        if let Some(muster) = life.process.muster() {
            self.nodes[position].former.push(muster.counts().clone());
        }
        for connection in life.connections {
            let known = &mut self.connections[connection];
            if !known.is_open {
                continue;
            }
            known.is_open = false;
            let side = usize::from(known.ends[0].node == position);
            if known.ends[side].knows {
                let at = close(self, connection, side);
                self.agenda.add(at, Item::PeerLost { connection, side });
            } else {
                known.ends[side].cut = 0;
            }
        }
        self.find_relays(position);
    }
}
