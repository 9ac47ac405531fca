//! Nodes that come and go, and the connections between them.

use std::sync::Arc;
use std::time::Duration;

use muster_cluster::node::NodeLoop;
use muster_wire::mesh::{Config, Identity};
use muster_wire::{EndpointId, Filter, Incarnation, Topic};

use super::process::{Process, ZeekProcess};
use super::stores::NodeStores;
use super::{Cluster, Life};
use crate::agenda::Item;
use crate::endpoint::Endpoint;

/// The mesh as an endpoint of a process sets it: peers that hang are found by the pings of their connections.
fn mesh_config() -> Config {
    Config {
        heartbeat: Duration::from_secs(2),
        time_out: Duration::from_secs(365 * 24 * 3600),
        ..Config::default()
    }
}

impl Cluster {
    pub(super) fn begin(&mut self, position: usize) {
        let now = self.present();
        let id = EndpointId::from_random(self.random.bytes());
        let node = &mut self.nodes[position];
        node.lives += 1;
        let incarnation = Incarnation(now.wall.as_nanos().unsigned_abs() + node.lives);
        let known = self.layout.find(&node.name).expect("a node of the layout");
        let stores = NodeStores::new(known.settings.size("stores.node_memory_limit"));
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
        let filter = Filter::from_prefixes(topics.iter().map(Topic::as_bytes));
        let endpoint = (!node.is_zeek).then(|| {
            let known = self.layout.find(&node.name).expect("a node of the layout");
            let transit = known.role.is_hub();
            let identity = Identity {
                id,
                incarnation,
                name: node.name.clone(),
                role: known.role.to_string(),
                machine: String::new(),
                transit,
                homes: transit,
            };
            let mut endpoint = Endpoint::new(identity, mesh_config(), self.sabotage);
            endpoint.subscribe(filter.clone(), now.mono);
            endpoint
        });
        node.life = Some(Life {
            number: node.lives,
            filter: Arc::new(filter),
            process,
            endpoint,
            is_draining: false,
            endpoint_wake: None,
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
        self.carry_out(position);
        self.endpoint_did(position);
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
            panic!("node `{node}` is already dead");
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
    }
}
